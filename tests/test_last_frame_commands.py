"""A last frame on the command line, in batches and in evaluations."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import shapes
from fixtures_model import ROOT, write_model
from PIL import Image
from test_inference import CAPTION, SIZE, Run, frame, pixels_of, run  # noqa: F401 - fixtures

import evaluate
from cdcd_video import ImageToVideo
from cdcd_video.config.video_record import read_record
from cdcd_video.data.sprites import World, sample_scene
from cdcd_video.errors import UserError, exit_code
from cdcd_video.metrics import between_ends
from cdcd_video.metrics.eval_dataset import SceneDataset
from cdcd_video.metrics.scores import checked_metrics


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a model that takes last frames, with random weights."""
    return write_model(tmp_path_factory.mktemp("ends"), "diffusion.last_share=0.3")


@pytest.fixture
def end(tmp_path: Path) -> Path:
    Image.new("RGB", (SIZE, SIZE), (9, 90, 200)).save(tmp_path / "end.png")
    return tmp_path / "end.png"


# Sampling ---------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::cdcd_video.SamplingWarning")
def test_the_video_carries_it_and_is_sampled_again(run: Run, frame: Path, end: Path, model: Path):  # noqa: F811
    pipe = ImageToVideo.from_pretrained(model)
    wide = np.array(Image.open(end).resize((2 * SIZE, SIZE)))
    made = pipe(frame, CAPTION, last_image=wide, fit="letterbox", num_frames=4, num_steps=2, seed=5)
    made.save("made.webp")
    again = pipe.sample_again("made.webp")
    assert (again.frames == made.frames).all() and (made.frames[-1] != made.frames[0]).any()
    code, _, err = run("--from", "made.webp", "--out", "again.webp", checkpoint=model)
    assert code == 0, err
    with Image.open("made.webp") as first, Image.open("again.webp") as second:
        first.seek(2), second.seek(2)
        assert (np.array(first.convert("RGB")) == np.array(second.convert("RGB"))).all()
    held = json.loads(Path("again.json").read_text())["last_frame"]
    assert held["file"] == "last_frame.png" and read_record("again.webp").last_frame.file == "last_frame.png"


def test_the_video_ends_in_it_and_the_json_repeats_it(run: Run, frame: Path, end: Path, model: Path):  # noqa: F811
    how = ("--text", CAPTION, "--num-frames", 4, "--steps", 2, "--temperature", 1)
    code, _, err = run("--frame", frame, "--last-frame", end, *how, "--out", "made", checkpoint=model)
    assert code == 0, err
    frames = sorted(Path("made/frames").iterdir())
    assert len(frames) == 4 and (pixels_of(frames[0]) == pixels_of(frame)).all()
    assert (pixels_of(frames[-1]) == pixels_of(end)).all()
    kept = json.loads(Path("made/video.json").read_text())
    assert kept["last_frame"]["file"] == "end.png" and kept["frame"]["file"] == "frame.png"
    frame.unlink(), end.unlink()  # the .json is enough
    assert run("--from-json", "made/video.json", "--out", "again")[0] == 0
    assert Path("made/video.mp4").read_bytes() == Path("again/video.mp4").read_bytes()
    assert kept == json.loads(Path("again/video.json").read_text())


def test_without_it_the_json_does_not_name_it(run: Run, frame: Path):  # noqa: F811
    assert run("--frame", frame, "--text", CAPTION, "--num-frames", 2, "--out", "a.webp")[0] == 0
    assert "last_frame" not in json.loads(Path("a.json").read_text())


def test_mistakes_end_in_one_sentence(run: Run, frame: Path, end: Path, model: Path):  # noqa: F811
    how = ("--frame", frame, "--text", CAPTION, "--out", "a.webp")
    code, _, err = run(*how, "--last-frame", end)
    assert code == 2 and "was not trained with last frames" in err
    code, _, err = run(*how, "--last-frame", "none.png", checkpoint=model)
    assert code == 2 and "none.png" in err
    code, _, err = run(*how, "--last-frame", end, "--num-frames", 1, checkpoint=model)
    assert code == 2 and "at least 2 frames" in err
    assert not Path("a.webp").exists()
    assert run(*how, "--last-frame", end, "--num-frames", 2, checkpoint=model)[0] == 0
    kept = json.loads(Path("a.json").read_text())
    kept["last_frame"]["png_base64"] = "AAAA"
    Path("a.json").write_text(json.dumps(kept))
    code, _, err = run("--from-json", "a.json", "--out", "b.webp")
    assert code == 2 and "the last frame in the .json is damaged" in err and "--last-frame x.png" in err


def test_a_batch_has_one_for_all_rows_or_its_own(run: Run, frame: Path, end: Path, model: Path):  # noqa: F811
    Image.new("RGB", (SIZE, SIZE), (200, 10, 10)).save("red.png")
    Path("p.tsv").write_text(
        f"file\tframe\tlast_frame\tprompt\none.webp\tframe.png\tred.png\t{CAPTION}\ntwo.webp\tframe.png\t\t{CAPTION}\n"
    )
    how = ("--prompts", "p.tsv", "--num-frames", 3, "--scale", 1, "--out", "made")
    code, _, err = run(*how, "--last-frame", end, checkpoint=model)
    assert code == 0, err

    def last_of(name: str) -> np.ndarray:
        with Image.open(Path("made", name)) as video:
            video.seek(2)
            return np.array(video.convert("RGB"))

    assert (last_of("one.webp") == (200, 10, 10)).all() and (last_of("two.webp") == (9, 90, 200)).all()
    code, _, err = run(*how, "--last-frame", end, checkpoint=model)
    assert code == 0 and "2 of 2 videos are there already" in err
    code, _, err = run(*how, checkpoint=model)
    assert code == 2 and "two.webp was sampled in another way (last picture" in err
    code, _, err = run(*how[:-1], "other", "--last-frame", end)
    assert code == 2 and "was not trained with last frames" in err


# Evaluation -------------------------------------------------------------------------------------------------------


def test_only_what_lies_between_is_measured():
    world = World(max_objects=1, backgrounds=("plain",))
    dataset = SceneDataset([sample_scene(0, 3, world=world)], num_frames=4, fps=8.0, world=world)
    true = dataset.real_video(0, 64)
    spoiled = true.copy()
    spoiled[[0, -1]] = 0
    found = {one.metric: one for one in between_ends.measure_between(dataset, 0, spoiled, true)}
    assert set(found) == {"between_psnr", "between_ssim", "between_identity_iou", "between_position_error"}
    for one in found.values():
        assert np.isnan(one.total[[0, -1]]).all() and np.isnan(one.weight[[0, -1]]).all()
    assert found["between_psnr"].total[1:-1].tolist() == [60, 60]
    assert found["between_position_error"].total[1:-1].max() < 1
    spoiled[1] = 0
    again = {one.metric: one for one in between_ends.measure_between(dataset, 0, spoiled, true)}
    assert again["between_psnr"].total[1] < 30 and again["between_psnr"].total[2] == 60


def evaluated(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("cdcd_video.evaluation.report.plots.chart", lambda *_: "data:,")
    small = ("--protocol", ROOT / "configs/eval/small.yaml", "--num-videos", 3, "--num-frames", 4, "--no-latents")
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, (*small, *arguments))])
    with shapes.unchecked():
        return exit_code(evaluate.main)


def lines_of(folder: str) -> list[dict]:
    return [json.loads(line) for line in Path(folder, "scores.jsonl").read_text().splitlines()]


def test_the_whole_line_compares_with_a_cross_fade(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    given: list[np.ndarray | None] = []
    sample = ImageToVideo.sample

    def watched(self, starts, captions, params, seeds, progress=None, **more):
        given.append(more.get("lasts"))
        return sample(self, starts, captions, params, seeds, progress, **more)

    monkeypatch.setattr(ImageToVideo, "sample", watched)
    code = evaluated(monkeypatch, "--checkpoint", model, "--metrics", "inbetween", "psnr", "--out", "a", "--batch", 2)
    assert code == 0 and "PSNR between both ends" in capsys.readouterr().out
    assert [one is None for one in given] == [True, False] * 2 and {one.shape[1:] for one in given[1::2]} == {
        (32, 32, 3)
    }
    lines = lines_of("a")
    between = [line for line in lines if line["metric"] == "between_psnr" and line["group"] == "all"]
    assert {line["row"] for line in between} == {"model", "copy-first", "codec-ceiling", "oracle-cross-fade"}
    assert {line["frame"] for line in between} == {None, 1, 2}
    assert "oracle-cross-fade" not in {line["row"] for line in lines if line["metric"] == "psnr"}
    whole = {line["row"]: line["value"] for line in between if line["frame"] is None}
    assert whole["oracle-cross-fade"] > whole["copy-first"]
    assert evaluated(monkeypatch, "--checkpoint", model, "--metrics", "inbetween", "psnr", "--out", "b") == 0
    assert Path("a/scores.jsonl").read_bytes() == Path("b/scores.jsonl").read_bytes(), "whatever the batch"


def test_a_model_without_last_frames_is_not_scored(
    tmp_path: Path, tiny_model: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert evaluated(monkeypatch, "--checkpoint", tiny_model, "--metrics", "inbetween", "--out", "a") == 2
    assert "inbetween is left out: the model was not trained with last frames" in capsys.readouterr().err
    assert evaluated(monkeypatch, "--checkpoint", tiny_model, "--metrics", "inbetween", "psnr", "--out", "a") == 0
    assert "inbetween is left out" in capsys.readouterr().err
    assert not any(line["metric"].startswith("between") for line in lines_of("a"))
    short = ("--num-frames", 2, "--out", "b")
    assert evaluated(monkeypatch, "--checkpoint", model, "--metrics", "inbetween", *short) == 2
    assert "none between the first and the last; raise --num-frames" in capsys.readouterr().err
    with pytest.raises(UserError, match="inbetween needs the model itself, which --videos does not have"):
        checked_metrics(["inbetween"], "sprites", has_model=False)
