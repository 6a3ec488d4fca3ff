"""The two real configs: they say what they cost, and run from annotation file to scores when shrunk by --set alone."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fixtures_model import ROOT
from PIL import Image

import evaluate
import inference
import train
from cdcd_video.config import Config, config_file
from cdcd_video.data.shots import LongestShots
from cdcd_video.data.sprites import VOCABULARY
from cdcd_video.data.store import StoredClips
from cdcd_video.networks.clip import published
from cdcd_video.tools import stand_in_clip
from cdcd_video.tools.dev import codec_reconstruction
from data_prep.__main__ import main as data_prep

MSRVTT, INTERNVID = (ROOT / "configs" / f"i2v_{name}.yaml" for name in ("msrvtt", "internvid"))
CLIPS = {  # short ones of different codecs, sizes and rates, under ids of the three splits
    "video0": "mmaction2/part_0.mp4",
    "video1": "MotionDirector/car-turn-24.mp4",
    "video2": "co-tracker/paragliding.mp4",
    "video6513": "co-tracker/paragliding-launch.mp4",
    "video6514": "co-tracker/bear.mp4",
    "video7010": "CogVideo/horse.mp4",
    "video7011": "co-tracker/backpack.mp4",
}
FEW = ("num_steps=4", "batch_size=4", "evaluate_every=4", "log_every=2", "warmup_steps=1", "checkpoint_every=4")
SHRUNK = (
    *("codec.layers=[0, 1, 2]", "codec.projection_width=32", "codec.quantizer.levels=[4, 4]", "data.size_px=64"),
    *(
        "codec.decoder_width=32",
        "codec.decoder_layers=1",
        "codec.pixel_width=8",
        "codec.embed_width=32",
        "num_threads=1",
    ),
    *("denoiser.width=32", "denoiser.num_layers=1", "denoiser.num_heads=2", "sample.num_steps=2", "device=cpu"),
    *(f"train.{stage}.{dial}" for stage in ("codec", "decoder", "diffusion", "refine") for dial in FEW),
)


def run(entrance, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [getattr(entrance, "__name__", "x"), *words])
        assert not entrance.main()


@pytest.fixture(scope="module")
def line(shared_dir, tmp_path_factory) -> Path:
    """MSR-VTT as somebody has it on disk (a few videos of it), prepared, trained on, encoded, trained on again."""
    home = tmp_path_factory.mktemp("i2v")
    for name in ("mini_train_val_videodatainfo.json", "mini_test_videodatainfo.json"):
        (home / "annotations").mkdir(exist_ok=True)
        shutil.copy(shared_dir / "data" / "msrvtt" / name, home / "annotations" / name.removeprefix("mini_"))
    (home / "videos").mkdir()
    for name, clip in CLIPS.items():
        shutil.copy(shared_dir / "data" / "clips" / clip, home / "videos" / f"{name}.mp4")
    stand_in_clip.write(stand_in_clip.TINY, home / "clip", 0, None, list(VOCABULARY))
    where = ["--annotations", str(home / "annotations"), "--videos", str(home / "videos")]
    sizes = ["--size-px", "64", "--fps", "4", "--min-frames", "4", "--workers", "1"]
    data_prep(["msrvtt", *where, *sizes, "--out", str(home / "data")])
    dials = [f"clip={home / 'clip'}", f"data.path={home / 'data'}", *SHRUNK]
    run(train, "--config", str(MSRVTT), "--out", str(home / "run"), *(f"--set={dial}" for dial in dials))
    return home


def draws(line: Path, name: str, video: str) -> None:
    """Three frames of a run, from a clip that no run has seen."""
    frame = line / "frame.png"
    Image.fromarray(StoredClips(line / "data", "test").frames(0, [0])[0]).save(frame)
    words = ["--checkpoint", str(line / name), "--num-frames", "3", "--out", str(line / video), "--device", "cpu"]
    run(inference, "--frame", str(frame), "--text", "a horse runs", *words)


def is_measured(line: Path, name: str) -> None:
    """Scores of a run on the test clips, at their own rate and the model's size."""
    words = ["--data", str(line / "data"), "--split", "test", "--num-videos", "2", "--num-frames", "4", "--window", "4"]
    run(evaluate, "--checkpoint", str(line / name), "--metrics", "psnr", "ssim", *words, "--hop", "4", "--no-latents")


@pytest.mark.shared
def test_from_annotations_to_a_trained_model(line):
    manifest = json.loads((line / "data" / "manifest.json").read_text())
    ids = {split: set(part["ids"]) for split, part in manifest["subset"].items()}
    assert ids == {
        "train": {"video0", "video1", "video2"},
        "val": {"video6513", "video6514"},
        "test": {"video7010", "video7011"},
    }
    clips = [json.loads(row) for row in (line / "data" / "clips.jsonl").read_text().splitlines()]
    assert all(len(clip["captions"]) == 20 for clip in clips if clip["split"] == "train"), "the true rows"
    log = [json.loads(row) for row in (line / "run" / "log.jsonl").read_text().splitlines()]
    assert {row["task"] for row in log} == {"codec", "decoder", "diffusion", "refine"}


@pytest.mark.shared
def test_everything_made_with_a_stand_in_is_marked(line, capsys):
    told = "STAND-IN CLIP"
    for file in ("run.json", "card.md", "model/model.json"):
        assert told in (line / "run" / file).read_text(), file
    draws(line, "run", "drawn.mp4")
    assert told in capsys.readouterr().err and told in (line / "drawn.json").read_text()
    run(inference, "--from-json", str(line / "drawn.json"), "--out", str(line / "again.mp4"))
    assert (line / "again.mp4").read_bytes() == (line / "drawn.mp4").read_bytes()
    is_measured(line, "run")
    for file in ("scores.jsonl", "report.md", "report.html"):
        assert told in (line / "run" / file).read_text(), file
    assert f"note: {told}" in capsys.readouterr().err


@pytest.mark.shared
def test_internvid_goes_on_from_there_on_latents(line):
    data_prep(["encode", "--model", str(line / "run"), "--out", str(line / "latents"), "--data", str(line / "data")])
    dials = [f"clip={line / 'clip'}", f"reuse={line / 'run'}", f"data.path={line / 'latents'}", *SHRUNK]
    out = line / "internvid"
    run(train, "--config", str(INTERNVID), "--out", str(out), *(f"--set={dial}" for dial in dials))
    assert (out / "model" / "denoiser.safetensors").is_file()
    draws(line, "internvid", "internvid.mp4")
    is_measured(line, "internvid")
    for file in ("run.json", "card.md", "model/model.json", "scores.jsonl", "report.html", "../internvid.json"):
        assert "STAND-IN CLIP" in (out / file).read_text(), file


@pytest.mark.shared
def test_codecs_are_compared_on_held_out_clips(line, capsys):
    out, clips = line / "reconstruct", StoredClips(line / "data", "val")
    run(codec_reconstruction, str(line / "run"), "--data", str(line / "data"), "--out", str(out), "--device", "cpu")
    told = capsys.readouterr().out
    still, ours = (json.loads(row) for row in (out / "reconstruct.jsonl").read_text().splitlines())
    assert (ours["N"], ours["K"], ours["bits"], ours["layers"]) == (16, 16, 64, [0, 1, 2]) and ours["sees_start"]
    assert "STAND-IN CLIP" in told and "STAND-IN CLIP" in ours["clip_stand_in"] and still["clips"] == 2
    values = []
    for clip in map(LongestShots(clips).frames, range(2), ([0, *places(LongestShots(clips), n)] for n in range(2))):
        errors = ((clip[1:].astype(float) - clip[:1]) ** 2).mean((1, 2, 3)) / 255**2
        values += list(-10 * np.log10(errors))
    assert still["psnr_db"][0] == pytest.approx(np.mean(values), abs=1e-3)
    assert still["psnr_db"][1] <= still["psnr_db"][0] <= still["psnr_db"][2] and 0 < ours["ssim"][0] < 1
    with Image.open(out / "reconstruct.png") as picture:
        assert picture.width > 6 * 64 and picture.height > 3 * 64, "a row each for truth, first frame and run"


def test_codecs_are_compared_clip_by_clip():
    draws = np.random.Generator(np.random.Philox(key=3))
    truth = [draws.integers(256, size=(frames, 24, 24, 3), dtype=np.uint8) for frames in (3, 2, 3, 3)]

    def noisy(size: int) -> list[np.ndarray]:
        return [np.clip(clip + draws.normal(0, size, clip.shape), 0, 255).astype(np.uint8) for clip in truth]

    good, bad = noisy(10), noisy(30)
    better, worse = codec_reconstruction.scored(good, truth), codec_reconstruction.scored(bad, truth, good)
    for name in codec_reconstruction.METRICS:
        value, low, high = worse[f"{name}_more"]
        assert value == pytest.approx(worse[name][0] - better[name][0], abs=2e-4) and low <= value <= high < 0
        assert high - low < worse[name][2] - worse[name][0] + 0.05, "what clips have in common cancels"
    same = codec_reconstruction.scored(good, truth, good)
    assert same["psnr_db_more"] == same["ssim_more"] == [0, 0, 0] and not any("more" in name for name in better)
    rows = [{"run": "runs/a", **better}, {"run": "runs/b", **worse}]
    first, second = codec_reconstruction.table(rows).splitlines()[2:]
    assert first.count("[") == 2 and second.count("[") == 4 and f" {worse['psnr_db_more'][0]:+.2f} [-" in second


def places(clips: LongestShots, number: int) -> list[int]:
    """A quarter and nine sixteenths of the way, and the end."""
    length = clips.num_frames(number)
    return [length // 4, length * 9 // 16, length - 1]


@pytest.mark.parametrize("file", [MSRVTT, INTERNVID], ids=lambda path: path.stem)
def test_the_configs_mean_the_published_clip_and_196_codes(file):
    config = config_file.load(file, Config)
    assert config.clip.folder in published.KNOWN and config.data.size_px == 224
    vision = published.KNOWN[config.clip.folder].shape["vision_config"]
    patches = (vision["image_size"] // vision["patch_size"]) ** 2
    assert patches * config.codec.groups == 196 and max(config.codec.layers) == vision["num_hidden_layers"]
