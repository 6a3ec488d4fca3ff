"""`evaluate.py --videos`: files stand where a model stands, give the very scores it would, and a still video loses."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_external_videos import flat, save, table

import data_prep.__main__
import evaluate
from cdcd_video import video
from cdcd_video.config import Config, config_file
from cdcd_video.errors import exit_code
from cdcd_video.evaluation import real_videos
from cdcd_video.evaluation.evaluator import video_seeds
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.metrics.statistics.comparison import compare
from cdcd_video.pipeline import ImageToVideo

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--protocol", Path(__file__).parent.parent / "configs/eval/small.yaml")
FILES = ["cost.json", "per_video.jsonl", "previews.json", "protocol.yaml", "report.html", "report.md", "scores.jsonl"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Calls evaluate.py in this process, in an empty folder. Charts, which are looked at elsewhere, stay empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        code = exit_code(evaluate.main)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


def lines_of(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "scores.jsonl").read_text().splitlines()]


def values(folder: str) -> dict[tuple, float | None]:
    names = ("metric", "row", "group", "frame")
    return {(*(line[name] for name in names), str(line["window"])): line["value"] for line in lines_of(folder)}


def put_scenes(
    folder: Path, protocol: Protocol, checkpoint: Path, drawn: Callable[[np.ndarray, str, int], np.ndarray], kind: str
) -> None:
    """Files called as the protocol's scenes are, and their table."""
    dataset, protocol = real_videos.scenes(config_file.load(checkpoint / "config.yaml", Config), protocol)
    rows = []
    for place, (eval_video, seed) in enumerate(
        zip(dataset.eval_videos, video_seeds(protocol, protocol.num_videos), strict=True)
    ):
        told = dataset.captions["model"][place]
        file = video.save(
            drawn(dataset.real_video(place, protocol.size_px), told, seed),
            folder / f"{eval_video.name}{kind}",
            protocol.rate,
        )
        rows.append({"file": file.name, "prompt": told})
    table(folder, rows, "prompts.tsv")


def test_files_give_the_very_scores_of_the_model_that_drew_them(run: Run, tiny_model: Path):
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    protocol, sampled_videos = Protocol(num_videos=2, num_frames=16, fps=8, size_px=32), {}

    def drawn(frames: np.ndarray, told: str, seed: int) -> np.ndarray:
        if seed not in sampled_videos:
            sampled_videos[seed] = pipe(frames[0], told, seed=seed, num_frames=16, fps=8).frames
        return sampled_videos[seed]

    for folder, kind in (("theirs", ".mp4"), ("pictures", "")):
        put_scenes(Path(folder), protocol, tiny_model, drawn, kind)
    how = (*SMALL, "--num-videos", 2, "--storage", "mp4", "--checkpoint", tiny_model, "--no-latents")
    metrics = ("--metrics", "sprites", "psnr", "flow", "fid", "fvd", "discontinuity", "clip_first")
    code, _, err = run(*how, *metrics, "--out", "a")
    assert code == 0, err
    code, out, err = run(*how, *metrics, "--videos", "theirs", "--out", "b")
    assert code == 0, err
    assert sorted(path.name for path in Path("b").iterdir()) == FILES and "counterfactual" not in out
    ours, theirs = values("a"), values("b")
    assert {row for _, row, *_ in theirs} == {"model", "sentence-ignored", "copy-first", "truth"}
    assert len(theirs) > 200 and {key: ours[key] for key in theirs} == theirs
    code, _, err = run(*how, "--metrics", "sprites", "psnr", "flow", "--videos", "pictures", "--out", "p")
    assert code == 0, err
    theirs = values("p")
    assert len(theirs) > 100 and {key: ours[key] for key in theirs} == theirs
    assert lines_of("a")[0]["protocol"] == lines_of("b")[0]["protocol"]
    system = lines_of("b")[0]
    assert (system["checkpoint"], system["drawing"]["videos"]) == ("theirs", "theirs") and len(
        system["model_sha256"]
    ) == 64
    code, out, err = run("--compare", "a", "b")
    assert code == 0 and "PSNR: a - b = 0.00 dB [0.00 to 0.00]; paired, same videos, n = 2" in out, err


def test_still_videos_lose_to_true_ones(run: Run, tiny_model: Path):
    protocol = Protocol(num_videos=10, num_frames=16, fps=8, size_px=32)
    put_scenes(Path("true"), protocol, tiny_model, lambda frames, told, seed: frames, ".mp4")
    put_scenes(Path("still"), protocol, tiny_model, lambda frames, told, seed: frames[:1].repeat(16, axis=0), ".mp4")
    how = (*SMALL, "--num-videos", 10, "--storage", "mp4", "--checkpoint", tiny_model)
    how += ("--metrics", "psnr", "motion", "fvd", "video_is", "--no-latents")
    for name in ("true", "still"):
        code, _, err = run(*how, "--videos", name, "--out", f"e/{name}")
        assert code == 0, err
    still = values("e/still")
    for (metric, row, *where), value in still.items():
        if row == "model":
            assert value == still[(metric, "copy-first", *where)], "they earn what freezing earns"
    lines = {line.metric: line for line in compare(["e/true", "e/still"]).lines}
    assert lines["psnr"].best == "true" and lines["psnr"].tests[0].how == "paired"
    assert lines["motion_ratio"].cells["still"].value < 0.05 < 0.5 < lines["motion_ratio"].cells["true"].value
    for metric, sign in (("fvd", 1), ("video_is", -1)):
        assert sign * (lines[metric].cells["still"].value - lines[metric].cells["true"].value) > 0


def put(folder: str, num: int = 3, **columns) -> None:
    rows = []
    for number in range(num):
        save(Path(folder, f"{number}.mp4"), np.roll(flat(16, 64, 64), number, axis=0))
        save(Path(folder, f"true-{number}.webp"), flat(16, 64, 64))
        told = {name: value.format(number) for name, value in columns.items()}
        rows.append({"file": f"{number}.mp4", "prompt": f"video {number}"} | told)
    table(Path(folder), rows, "prompts.csv")


def test_the_tables_own_truths(run: Run):
    put("theirs", 4, truth="true-{}.webp")
    code, _, err = run(*SMALL, "--videos", "theirs", "--metrics", "psnr", "motion", "fid", "--out", "a")
    assert code == 0, err
    assert (
        "the table has 4 videos, fewer than the 8 of the protocol" in err
        and "sets compare 2 sampled videos with 2 real" in err
    )
    assert "were trained on the built-in world" in err
    found = values("a")
    assert found["psnr", "truth", "all", None, "None"] == 60 and found["psnr", "model", "all", None, "None"] < 40
    assert {line["data"] for line in lines_of("a")} == {"theirs/prompts.csv"}
    assert "data: table" in Path("a/protocol.yaml").read_text()
    again = ("--protocol", "a/protocol.yaml", "--videos", "theirs", "--metrics", "psnr", "--out", "b")
    assert run(*again)[0] == 0 and lines_of("a")[0]["protocol"] == lines_of("b")[0]["protocol"]


def test_no_truth_at_all(run: Run):
    put("theirs", 3)
    two = (*SMALL, "--num-videos", 2)
    code, _, err = run(*two, "--videos", "theirs", "--out", "a")
    assert code == 0, err
    assert "of 3 videos, the first 2 are measured" in err and "the table has no true videos" in err
    found = {(line["row"], line["metric"]) for line in lines_of("a") if line["group"] == "all"}
    assert {row for row, _ in found} == {"model", "copy-first"} and ("model", "flow") in found
    assert not {metric for _, metric in found} & {"psnr", "fid", "does_right_thing", "discontinuity"}
    assert "only metrics that need none are measured" in Path("a/report.md").read_text()
    code, _, err = run(*two, "--videos", "theirs", "--metrics", "clip_first", "is", "video_is", "--out", "b")
    assert code == 0 and {"clip_first", "is"} <= {line["metric"] for line in lines_of("b")}, err
    code, _, err = run(*two, "--videos", "theirs", "--metrics", "clip_text")
    assert code == 2 and "clip_text uses the CLIP of sprites, which cannot encode 'video 0'; name another" in err
    put("others", 2, prompt="the red circle explodes {}")
    code, _, err = run(*two, "--videos", "others", "--metrics", "clip_text", "--out", "c")
    assert code == 0 and "note: the CLIP of sprites does not know all words of 2 of 2 captions" in err, err


def test_real_clips_of_a_folder(run: Run, capsys: pytest.CaptureFixture[str]):
    made = ["sprites", "--out", "clips", "--num-clips", "4", "--split", "val", "--num-frames", "16", "--size-px", "64"]
    data_prep.__main__.main(made)
    capsys.readouterr()
    rows = [json.loads(line) for line in Path("clips/clips.jsonl").read_text().splitlines()]
    put("others")
    code, _, err = run(*SMALL, "--videos", "others", "--data", "clips", "--metrics", "fid", "flow", "--out", "a")
    assert code == 0 and "none has the name of one in clips" in err, err
    assert {line["n"] for line in lines_of("a") if line["metric"] == "fid"} == {3}
    told = [{"file": f"{row['id']}.webp", "prompt": row["captions"][0]} for row in rows]
    for row in told:
        save(Path("named", row["file"]), flat(16, 64, 64))
    table(Path("named"), told)
    code, _, err = run(*SMALL, "--videos", "named", "--data", "clips", "--metrics", "psnr", "--out", "b")
    assert code == 0 and values("b")["psnr", "truth", "all", None, "None"] == 60, err
    table(Path("named"), [row | {"prompt": "something else"} for row in told])
    code, _, err = run(*SMALL, "--videos", "named", "--data", "clips", "--metrics", "psnr")
    assert code == 2 and "was sampled from 'something else'" in err and "frame/s" not in err


def test_clips_are_judged_at_their_own_size_and_rate(run: Run, capsys: pytest.CaptureFixture[str]):
    made = ["sprites", "--out", "clips", "--num-clips", "2", "--split", "val", "--num-frames", "6", "--size-px", "48"]
    data_prep.__main__.main([*made, "--fps", "4"])
    capsys.readouterr()
    rows = [json.loads(line) for line in Path("clips/clips.jsonl").read_text().splitlines()]
    told = [{"file": f"{row['id']}.webp", "prompt": row["captions"][0]} for row in rows]
    for row in told:
        save(Path("named", row["file"]), flat(12, 48, 48))  # at 8 per second
    table(Path("named"), told)
    asked = (
        "--num-videos",
        2,
        "--num-frames",
        6,
        "--videos",
        "named",
        "--data",
        "clips",
        "--metrics",
        "psnr",
        "--out",
        "a",
    )
    code, _, err = run(*asked)
    assert code == 0, err
    protocol = config_file.load(Path("a/protocol.yaml"), Protocol)
    assert (protocol.size_px, protocol.fps) == (48, 4)
    code, _, err = run(*asked, "--size-px", 64)
    assert code == 2 and "the clips of clips are 48 px, but the protocol says 64 px" in err


def spoil(folder: str, numbers: tuple[int, ...] = (1, 2)) -> None:
    """The first of the videos is damaged from then on, the second one gone."""
    first, second = numbers
    Path(folder, f"{first}.mp4").write_bytes(b"no video")
    Path(folder, f"{second}.mp4").unlink()


@pytest.mark.parametrize("columns", [{}, {"truth": "true-{}.webp"}], ids=["no truth", "own truths"])
def test_bad_videos_are_named_and_the_others_measured(run: Run, columns: dict):
    put("theirs", 4, **columns)
    metric = "psnr" if columns else "flow"
    how = (*SMALL, "--videos", "theirs", "--metrics", metric, "--num-real", 0)
    assert run(*how, "--num-videos", 4, "--out", "all")[0] == 0
    spoil("theirs")
    code, out, err = run(*how, "--num-videos", 4, "--out", "a")
    assert code == 1, err
    told = "2 of the videos cannot be used and are not measured: 1 (", "2 ("
    assert all(word in err and word in Path("a/report.md").read_text() for word in told) and "a/report.html" in out
    videos = {json.loads(line)["video"] for line in Path("a/per_video.jsonl").read_text().splitlines()}
    assert videos == {"0", "3"}
    both = [
        {(line["row"], line["video"], line["frame"]): line["total"] for line in map(json.loads, text.splitlines())}
        for text in (Path(folder, "per_video.jsonl").read_text() for folder in ("all", "a"))
    ]
    assert both[1] == {key: value for key, value in both[0].items() if key[1] in videos}
    spoil("theirs", (0, 3))
    code, _, err = run(*how, "--num-videos", 4, "--out", "b")
    assert code == 2 and "none of 4 videos can be used; the first one:" in err and not list(Path("b").iterdir())


def test_a_bad_truth_or_picture_leaves_its_video_out(run: Run):
    put("theirs", 3, truth="true-{}.webp", frame="true-{}.webp")
    Path("theirs/true-1.webp").write_bytes(b"")
    how = (*SMALL, "--videos", "theirs", "--metrics", "psnr", "--num-real", 0, "--num-videos", 3)
    code, _, err = run(*how, "--out", "a")
    assert code == 1 and "1 of the videos cannot be used and are not measured: 1 (" in err, err


def test_bad_videos_of_scenes_are_named_and_the_others_measured(run: Run, tiny_model: Path):
    protocol = Protocol(num_videos=3, num_frames=4, fps=8, size_px=32)
    put_scenes(Path("theirs"), protocol, tiny_model, lambda frames, told, seed: frames, ".webp")
    Path("theirs/sprites-0-val-000001.webp").write_bytes(b"RIFF")
    how = (*SMALL, "--num-frames", 4, "--checkpoint", tiny_model, "--videos", "theirs", "--metrics", "psnr", "sprites")
    code, _, err = run(*how, "--num-videos", 3, "--out", "a")
    assert code == 1 and "sprites-0-val-000001 (" in err, err
    assert values("a")["psnr", "model", "all", None, "None"] == 60
    videos = {
        json.loads(line)["video"].rpartition("/")[0] or json.loads(line)["video"]
        for line in Path("a/per_video.jsonl").read_text().splitlines()
    }
    assert {"sprites-0-val-000000", "sprites-0-val-000002"} <= {name[:20] for name in videos}
    assert "sprites-0-val-000001" not in {name[:20] for name in videos}


def test_a_bad_evaluation_is_named_and_the_others_compared(run: Run):
    put("theirs")
    assert run(*SMALL, "--videos", "theirs", "--metrics", "flow", "--out", "a")[0] == 0
    shutil.copytree("a", "b")
    Path("c").mkdir()
    code, out, err = run("--compare", "a", "c", "b", "--out", "d")
    assert code == 1 and "c is not compared: " in out, err
    assert all("c is not compared: " in Path("d", name).read_text() for name in ("compare.md", "compare.html"))
    code, _, err = run("--compare", "a", "c")
    assert code == 2 and "c/" in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--metrics", "pnsr"), "there is no metric 'pnsr'"),
        (("--metrics", "psnr"), "psnr needs the true video of each; add the column truth"),
        (("--metrics", "fid"), "fid compares with real videos, and there are none; name by --data a folder"),
        (("--metrics", "sprites"), "sprites needs the true video of each"),
        (("--metrics", "clip_first", "--clip", "own"), "video files have no CLIP; name one by --clip"),
        (("--prompts", "nowhere.tsv"), "nowhere.tsv does not exist"),
        (("--videos", "nowhere"), "there is no folder nowhere"),
        (("--videos", "bare"), "bare has none of prompts.tsv, prompts.csv, prompts.jsonl; name the table"),
        (("--data", "nowhere"), "nowhere does not exist"),
        (
            ("--num-frames", 17, "--metrics", "flow"),
            "0.mp4 is too short: 16 frames at 8 per second, but the protocol needs 17; --num-frames 16",
        ),
        (("--fps", 5, "--metrics", "flow"), "0.mp4 has 8 frames per second, not a multiple of the protocol's 5"),
        (("--checkpoint", "nowhere"), "there is no model 'nowhere'"),
        (("--batch", 0), "--batch must be at least 1"),
    ],
)
def test_mistakes_are_one_sentence(run: Run, flags: tuple, words: str):
    put("theirs")
    Path("bare").mkdir()
    code, out, err = run(*SMALL, "--videos", "theirs", *flags)
    assert code == 2 and not out and words in err, err
    assert err.splitlines()[-1].startswith("error: ")


def test_names_that_are_scenes_must_be_those_of_the_protocol(run: Run, tiny_model: Path):
    protocol = Protocol(num_videos=3, num_frames=4, fps=8, size_px=32)
    put_scenes(Path("theirs"), protocol, tiny_model, lambda frames, told, seed: frames, ".webp")
    how = (*SMALL, "--num-frames", 4, "--checkpoint", tiny_model, "--videos", "theirs", "--metrics", "psnr")
    code, _, err = run(*how)
    assert code == 2 and "5 of 8 videos are missing, the first is sprites-0-val-000003" in err
    assert run(*how, "--num-videos", 2)[0] == 0
    code, _, err = run(*how, "--num-videos", 2, "--seed", 5)
    assert code == 2 and "the first is sprites-5-val-000000; every clip needs a video of its" in err
    assert run("--prompts", "x.tsv")[2] == "error: --prompts needs --videos\n"
    assert "name their folder by --videos" in run(*SMALL, "--data", "table", "--metrics", "psnr")[2]
