"""`evaluate.py` and `python -m cdcd_video.tools.gate`: what they write, where to, and what they say to mistakes."""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_networks import as_file, made_up_weights, pinned, random_inception, weights_folder  # noqa: F401 (fixtures)

import cdcd_video
import data_prep.__main__
import evaluate
from cdcd_video.config.model_digest import folder_digest
from cdcd_video.errors import exit_code
from cdcd_video.metrics.features import feature_weights, i3d
from cdcd_video.tools import gate

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--protocol", Path(__file__).parent.parent / "configs/eval/small.yaml", "--num-videos", 4, "--num-frames", 4)
SHORT = (*SMALL, "--no-latents")
QUICK = ("--metrics", "sprites", "psnr", "ssim", "motion")
FILES = ["scores.jsonl", "per_video.jsonl", "protocol.yaml", "previews.json", "cost.json", "report.md", "report.html"]


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


def test_measures_a_model_and_leaves_it_as_it_was(run: Run, tiny_model: Path):
    digest = folder_digest(tiny_model)
    code, out, _ = run("--checkpoint", tiny_model, *SHORT, *QUICK, "--steps", 2, "--batch", 3)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["n", "model"] and "codec-ceiling" in out
    assert out.splitlines()[-7:] == [f"out/eval/{name}" for name in FILES]
    assert sorted(path.name for path in Path("out/eval").iterdir()) == sorted(FILES)
    lines = lines_of(Path("out/eval/scores.jsonl"))
    assert {line["row"] for line in lines} == {
        *("model", "counterfactual", "sentence-ignored", "copy-first", "codec-ceiling", "truth")
    }
    for line in lines:
        assert (line["split"], line["seed"], line["checkpoint"], line["model_sha256"]) == ("val", 0, "tiny", digest)
        assert line["drawing"]["num_steps"] == 2 and line["drawing"]["num_frames"] == 4
        assert set(line["versions"]) == {"cdcd_video", "torch", "python"}
    cost = json.loads(Path("out/eval/cost.json").read_text())
    assert "--checkpoint" in cost["command"] and {"commit", "dirty", "seconds"} <= set(cost)
    assert (cost["machine"]["precision"], cost["machine"]["threads"]) == ("fp32", 1)
    (psnr,) = [s for s in lines if (s["metric"], s["row"], s["group"], s["frame"]) == ("psnr", "model", "all", 0)]
    assert psnr["value"] == 60 and psnr["n"] == 4  # frame 0 is the given one
    assert folder_digest(tiny_model) == digest


def test_the_same_command_gives_the_same_bytes_whatever_the_batch(run: Run, tiny_model: Path):
    for out, batch in (("a", 4), ("b", 4), ("c", 3)):
        assert run("--checkpoint", tiny_model, *SHORT, "--metrics", "psnr", "--batch", batch, "--out", out)[0] == 0
    for name in ("scores.jsonl", "per_video.jsonl", "protocol.yaml"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes() == Path("c", name).read_bytes()


def test_a_runs_scores_lie_in_the_runs_folder(run: Run, tiny_model: Path):
    shutil.copytree(tiny_model, "runs/mine/model")
    code, out, _ = run("--checkpoint", "runs/mine", *SHORT, "--metrics", "motion")
    assert code == 0 and out.splitlines()[-1] == "runs/mine/report.html"
    found = {line["metric"] for line in lines_of(Path("runs/mine/scores.jsonl"))}
    assert found == {"motion_ratio", "motion_ratio_retention", "motion_ratio_slope", "motion_ratio_frames_kept"}


def test_the_latent_space_is_looked_at_under_the_same_protocol(run: Run, tiny_model: Path):
    how = ("--num-videos", 3, "--metrics", "psnr", "--steps", 2)
    for out, batch in (("a", 32), ("b", 2)):
        code, _, err = run("--checkpoint", tiny_model, *SMALL, *how, "--batch", batch, "--out", out)
        assert code == 0, err
    assert Path("a/scores.jsonl").read_bytes() == Path("b/scores.jsonl").read_bytes()
    lines = lines_of(Path("a/scores.jsonl"))
    seen = [line for line in lines if line["group"].startswith(("space=", "fps="))]
    assert {line["metric"] for line in seen} >= {"purity", "silhouette", "curvature", "inbetween_psnr"}
    assert {line["protocol"] for line in lines} == {seen[0]["protocol"]} and seen[0]["drawing"]["num_steps"] == 2
    (network,) = {(line["features"], line["features_sha256"]) for line in seen}
    assert network[0] == f"codec-{network[1][:8]}" and len(network[1]) == 64
    page, table = Path("a/report.html").read_text(), Path("a/report.md").read_text()
    assert page.count('<svg class="plane"') >= 2 and "## Clusters by image in the code vectors" in table
    (purity,) = [
        s for s in seen if (s["metric"], s["row"], s["group"], s["frame"]) == ("purity", "model", "space=codes", None)
    ]
    assert f"| {100 * purity['value']:.0f}% [" in table
    run("--checkpoint", tiny_model, *SHORT, *how, "--out", "c")
    plain = [line for line in lines if line not in seen]
    assert plain == lines_of(Path("c/scores.jsonl")), "looking changes nothing else"


def test_where_the_latent_space_cannot_be_looked_at_a_note_says_why(run: Run, tiny_model: Path):
    code, _, err = run("--checkpoint", tiny_model, *SMALL, "--num-frames", 2, "--metrics", "psnr")
    assert code == 0 and "note: the latent space is not studied: paths need at least 3 frames" in err
    assert {line["group"].partition("=")[0] for line in lines_of(Path("out/eval/scores.jsonl"))} <= {
        "all",
        "objects",
        "motion",
    }
    assert "latent space is not studied" in Path("out/eval/report.md").read_text()


def test_prepared_clips_are_compared_with_how_they_go_on(run: Run, tiny_model: Path, capsys):
    made = ["sprites", "--out", "clips", "--num-clips", "3", "--split", "val", "--num-frames", "6", "--size-px", "32"]
    data_prep.__main__.main(made)
    code, _, err = run("--checkpoint", tiny_model, *SHORT, "--data", "clips", "--num-frames", 5)
    assert code == 0, err
    lines = lines_of(Path("out/eval/scores.jsonl"))
    assert {line["metric"] for line in lines} >= {"psnr", "ssim", "motion_ratio", "warp_error", "flow", "flicker"}
    assert (
        "note: clips has only 3 clips of this length, fewer than the 4 of the protocol; sets compare 2 sampled" in err
    )
    assert {line["n"] for line in lines if line["metric"] == "psnr"} == {3}  # as many as there are
    assert all(line["data"] == "clips" for line in lines)
    for wrong, words in (
        (("--metrics", "sprites"), "is defined for sprites scenes only"),
        (("--num-frames", 7), "the longest has 6"),
        (("--split", "heldout"), "no clips of the split 'heldout'"),
        (
            ("--size-px", 64),
            "the clips of clips are 32 px, but the protocol says 64 px; set --size-px 32, or prepare",
        ),
        (("--fps", 4), "have 8 frames per second, but the protocol says 4; prepare them with --fps 4"),
        (("--metrics", "fid", "--num-videos", 1), "raise --num-real and --num-videos, or add clips"),
    ):
        code, _, err = run("--checkpoint", tiny_model, *SHORT, "--data", "clips", *wrong)
        assert code == 2 and words in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--metrics", "pnsr"), "there is no metric 'pnsr'; choose from sprites, digits, psnr"),
        (("--metrics", "lpips"), "lpips-alex needs alexnet-owt-7be5be79.pth"),
        (("--metrics", "fid", "--frame-network", "inception"), "inception needs weights-inception"),
        (("--metrics", "fvd", "--num-frames", 8), "videos of 8 frames hold no window of 16; set --num-frames"),
        (("--metrics", "clip_text", "--clip", "nowhere"), "there is no model 'nowhere'"),
        (("--protocol", "nowhere.yaml"), "nowhere.yaml does not exist"),
        (("--split", "test"), "sprites have no split 'test'"),
        (("--num-videos", 0), "--num-videos"),
        (("--num-frames", 1), "--num-frames"),
        (("--batch", 0), "--batch"),
        (("--seed", -1), "--seed"),
        (("--storage", "mp4", "--size-px", 65), "H.264 wants even sizes"),
        (("--checkpoint", "nowhere"), "there is no model 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence_and_draw_nothing(
    run: Run,
    wrong: tuple,
    words: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("CDCD_VIDEO_WEIGHTS", str(tmp_path / "weights"))
    wrong = wrong if "--checkpoint" in wrong else ("--checkpoint", tiny_model, *wrong)
    code, out, err = run(*wrong)
    assert code == 2 and not out
    assert words in err and err.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_sets_are_measured_offline_by_what_is_shipped(run: Run, tiny_model: Path):
    code, out, err = run(
        "--checkpoint", tiny_model, *SHORT, "--num-frames", 17, "--hop", 1, "--metrics", "fvd", "fid", "is"
    )
    assert code == 0, err
    assert "features: fid sprites-frame, is sprites-frame, fvd sprites-video" in out
    lines = lines_of(Path("out/eval/scores.jsonl"))
    folder = Path(cdcd_video.__file__).parent / "models" / "features"
    for network, metrics in (("sprites-frame", ("fid", "is")), ("sprites-video", ("fvd",))):
        digest = hashlib.sha256((folder / f"{network}.safetensors").read_bytes()).hexdigest()
        own = [line for line in lines if line["metric"].startswith(metrics)]
        assert own and {(line["features"], line["features_sha256"]) for line in own} == {(network, digest)}
    assert {line["row"] for line in lines} == {"model", "copy-first", "codec-ceiling", "truth"}
    assert {tuple(line["window"]) for line in lines if line["window"]} == {(0, 15), (1, 16)}
    assert {line["n"] for line in lines} == {4}
    text = Path("out/eval/protocol.yaml").read_text()
    (digest,) = {line["protocol"] for line in lines}
    assert text.startswith(f"# Protocol: {digest}") and "frame_network: sprites-frame" in text
    assert Path("out/eval/per_video.jsonl").read_text() == ""


def some_pixels(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.flatten(1)[:, :: pictures[0].numel() // 400][:, :400]


@pytest.mark.slow
def test_true_weight_files_are_used_without_another_flag(
    run: Run,
    tiny_model: Path,
    random_inception,  # noqa: F811
    weights_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    """Files of the true architectures with made-up weights, declared to be the published ones. What the networks compute is
    the business of `test_networks`; here each takes some of the pixels.
    """
    monkeypatch.setattr(i3d.I3D, "forward", lambda self, video: some_pixels(video))
    monkeypatch.setattr(type(random_inception), "forward", lambda self, frames: [some_pixels(frames.float() / 255)] * 2)
    with torch.device("meta"):
        shapes = {name: values.shape for name, values in i3d.I3D().state_dict().items() if "num_batches" not in name}
    pinned(monkeypatch, "i3d", as_file(made_up_weights(shapes), weights_folder / feature_weights.WEIGHTS["i3d"].file))
    how = ("--checkpoint", tiny_model, *SHORT, "--num-videos", 2, "--num-frames", 16, "--metrics", "fvd", "fid", "is")
    code, out, err = run(*how)
    assert code == 0, err
    assert "features: fid inception, is inception, fvd i3d" in out
    assert "note: videos of 16 frames hold one window of 16, so there is no curve along the video for fvd;" in err
    lines = lines_of(Path("out/eval/scores.jsonl"))
    for network, metrics in (("inception", ("fid", "is")), ("i3d", ("fvd",))):
        own = {(s["features"], s["features_sha256"]) for s in lines if s["metric"].startswith(metrics)}
        assert own == {(network, feature_weights.WEIGHTS[network].sha256)}
    text = Path("out/eval/protocol.yaml").read_text()
    assert "frame_network: inception" in text and "video_network: i3d" in text
    assert feature_weights.WEIGHTS["i3d"].sha256 in Path("out/eval/report.html").read_text()
    (weights_folder / feature_weights.WEIGHTS["i3d"].file).write_bytes(b"something else")
    code, _, err = run(*how)
    assert code == 2 and "is not the i3d_pretrained_400.pt that i3d needs: its sha256 is" in err


def test_the_hash_is_of_the_ruler_and_not_of_the_system(run: Run, tiny_model: Path):
    def digest(*flags: object) -> str:
        few = ("--num-videos", 2, "--num-frames", 2)
        code, _, err = run("--checkpoint", tiny_model, *SHORT, *few, "--out", "x", *flags)
        assert code == 0, err
        (found,) = {line["protocol"] for line in lines_of(Path("x/scores.jsonl"))}
        return found

    plain = digest("--metrics", "psnr")
    assert digest("--metrics", "motion", "--steps", 2, "--temperature", 0.5, "--batch", 1) == plain
    shutil.copy("x/protocol.yaml", "again.yaml")
    assert digest("--metrics", "psnr", "--protocol", "again.yaml") == plain
    assert digest("--metrics", "psnr", "--storage", "mp4") != plain


def test_agreement_with_sentence_and_first_frame_rests_on_a_clip_that_is_named(run: Run, tiny_model: Path):
    for clip in ("own", tiny_model / "clip"):
        code, _, err = run("--checkpoint", tiny_model, *SHORT, "--metrics", "clip_text", "clip_first", "--clip", clip)
        assert code == 0, err
        lines = lines_of(Path("out/eval/scores.jsonl"))
        (features,) = {(line["features"], line["features_sha256"]) for line in lines}
        assert features[0] == f"clip-{features[1][:8]}"
        first = [
            line for line in lines if (line["metric"], line["row"], line["frame"]) == ("clip_first", "copy-first", None)
        ]
        assert first[0]["value"] == 1  # the first frame is the first frame
    assert features[1] == hashlib.sha256((tiny_model / "clip" / "model.safetensors").read_bytes()).hexdigest()


def test_a_wrong_dial_or_place_is_told_before_anything_is_drawn(run: Run, tiny_model: Path):
    Path("file").write_text("")
    for wrong, words in (
        (("--steps", 0), "num_steps is 0"),
        (("--out", "file/x"), "cannot write"),
        (("--data", "nowhere"), "nowhere does not exist"),
    ):
        code, _, err = run("--checkpoint", tiny_model, *wrong)
        assert code == 2 and words in err and "frame/s" not in err, err


def test_the_gate_prints_one_line_of_json(run: Run, tiny_model: Path):
    code, out, _ = run("--checkpoint", tiny_model, "--num-scenes", 6, "--guidance", 1.0, entrance=gate.main)
    assert code == 0 and out.count("\n") == 1
    line = json.loads(out)
    assert line["scenes"] == 6 and line["guidance"] == 1.0 and line["model_sha256"] == folder_digest(tiny_model)
    assert line["gap4"]["copy-first"]["ratio"] == 0 and line["gap4"]["truth"]["ratio"] == pytest.approx(1, abs=0.1)
    assert run("--num-scenes", 0, entrance=gate.main)[0] == 2
