"""`evaluate.py` and `python -m cdcd_video.tools.gate`: what they write, where to, and what they say to mistakes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_model import tiny_model  # noqa: F401 (a fixture)

import data_prep.__main__
import evaluate
from cdcd_video.errors import exit_code
from cdcd_video.model import folder_digest
from cdcd_video.tools import gate

Run = Callable[..., tuple[int, str, str]]
SHORT = ("--num-videos", 4, "--num-frames", 4)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls an entrance in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, entrance: Callable = evaluate.main) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        try:
            code = exit_code(entrance)
        except SystemExit as stop:  # argparse
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_measures_a_model_and_leaves_it_as_it_was(run: Run, tiny_model: Path):  # noqa: F811
    digest = folder_digest(tiny_model)
    code, out, _ = run("--checkpoint", tiny_model, *SHORT, "--steps", 2, "--batch", 3)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["n", "model"] and "codec-ceiling" in out
    assert out.splitlines()[-2:] == ["out/eval/scores.jsonl", "out/eval/report.html"]
    lines = lines_of(Path("out/eval/scores.jsonl"))
    assert {line["row"] for line in lines} == {
        *("model", "counterfactual", "sentence-ignored", "copy-first", "codec-ceiling", "truth")
    }
    for line in lines:
        assert (line["split"], line["seed"], line["checkpoint"], line["model_sha256"]) == ("val", 0, "tiny", digest)
        assert line["drawing"]["num_steps"] == 2 and line["drawing"]["num_frames"] == 4
        assert set(line["versions"]) == {"cdcd_video", "torch", "python"}
    (psnr,) = [s for s in lines if (s["metric"], s["row"], s["group"], s["frame"]) == ("psnr", "model", "all", 0)]
    assert psnr["value"] == 60 and psnr["n"] == 4  # frame 0 is the given one
    assert folder_digest(tiny_model) == digest


def test_the_same_command_gives_the_same_bytes_whatever_the_batch(run: Run, tiny_model: Path):  # noqa: F811
    for out, batch in (("a", 4), ("b", 4), ("c", 3)):
        assert run("--checkpoint", tiny_model, *SHORT, "--metrics", "psnr", "--batch", batch, "--out", out)[0] == 0
    for name in ("scores.jsonl", "report.html"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    rows = [[(s["row"], s["frame"], s["value"]) for s in lines_of(Path(out, "scores.jsonl"))] for out in "ac"]
    assert rows[0] == rows[1]


def test_a_runs_scores_lie_in_the_runs_folder(run: Run, tiny_model: Path):  # noqa: F811
    shutil.copytree(tiny_model, "runs/mine/model")
    code, out, _ = run("--checkpoint", "runs/mine", *SHORT, "--metrics", "motion")
    assert code == 0 and out.splitlines()[-1] == "runs/mine/report.html"
    assert {line["metric"] for line in lines_of(Path("runs/mine/scores.jsonl"))} == {"motion_ratio"}


def test_prepared_clips_are_compared_with_how_they_go_on(run: Run, tiny_model: Path, capsys):  # noqa: F811
    made = ["sprites", "--out", "clips", "--num-clips", "3", "--split", "val", "--num-frames", "6", "--size-px", "32"]
    data_prep.__main__.main(made)
    code, _, err = run("--checkpoint", tiny_model, "--data", "clips", "--num-frames", 5)
    assert code == 0, err
    lines = lines_of(Path("out/eval/scores.jsonl"))
    assert {line["metric"] for line in lines} == {"psnr", "ssim", "motion_ratio"}
    assert {line["n"] for line in lines if line["metric"] == "psnr"} == {3}  # as many as there are
    assert all(line["data"] == "clips" for line in lines)
    for wrong, words in (
        (("--metrics", "sprites"), "needs the truth of sprites scenes"),
        (("--num-frames", 7), "the longest has 6"),
        (("--split", "heldout"), "no clips of the split 'heldout'"),
    ):
        code, _, err = run("--checkpoint", tiny_model, "--data", "clips", *wrong)
        assert code == 2 and words in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--metrics", "fvd"), "fvd arrives with the feature networks; the metrics that exist now are sprites, psnr"),
        (("--metrics", "psnr", "fid"), "fid arrives with the feature networks"),
        (("--metrics", "is"), "is arrives with the feature networks"),
        (("--metrics", "lpips"), "there is no metric 'lpips'"),
        (("--num-videos", 0), "--num-videos"),
        (("--num-frames", 1), "--num-frames"),
        (("--batch", 0), "--batch"),
        (("--seed", -1), "--seed"),
        (("--checkpoint", "nowhere"), "there is no model 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(run: Run, wrong: tuple, words: str, tmp_path: Path):
    code, out, err = run(*wrong)
    assert code == 2 and not out
    assert words in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_dial_or_place_is_told_before_anything_is_drawn(run: Run, tiny_model: Path):  # noqa: F811
    Path("file").write_text("")
    for wrong, words in (
        (("--steps", 0), "num_steps is 0"),
        (("--out", "file/x"), "cannot write"),
        (("--data", "nowhere"), "nowhere does not exist"),
    ):
        code, _, err = run("--checkpoint", tiny_model, *wrong)
        assert code == 2 and words in err and "frame/s" not in err, err


def test_the_gate_prints_one_line_of_json(run: Run, tiny_model: Path):  # noqa: F811
    code, out, _ = run("--checkpoint", tiny_model, "--num-scenes", 6, "--guidance", 1.0, entrance=gate.main)
    assert code == 0 and out.count("\n") == 1
    line = json.loads(out)
    assert line["scenes"] == 6 and line["guidance"] == 1.0 and line["model_sha256"] == folder_digest(tiny_model)
    assert line["gap4"]["copy-first"]["ratio"] == 0 and line["gap4"]["truth"]["ratio"] == pytest.approx(1, abs=0.1)
    assert run("--num-scenes", 0, entrance=gate.main)[0] == 2
