"""Prepared folders of several shapes of frames: each clip in the nearest, and training on all of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapes
from fixtures_model import ROOT, SHORT
from video_files import write_clip

from cdcd_video.config import Config, config_file
from cdcd_video.data.buckets import size_of
from cdcd_video.data.images import NearestShape
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation import real_videos
from cdcd_video.metrics.protocol import Protocol
from cdcd_video.training import training_data
from cdcd_video.training.training_run import TrainingRun
from data_prep.__main__ import main

SIZES = ["32x32", "32x48", "48x32"]


def clip(height: int, width: int) -> np.ndarray:
    """A grey video with a white column at its left edge and a black row at its bottom, so that a cut shows."""
    frames = np.full((12, height, width, 3), 128, np.uint8)
    frames[:, :, : width // 8] = 255
    frames[:, -height // 8 :] = 0
    return frames


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("shapes")
    (root / "in").mkdir()
    for number in range(4):
        for name, size in {"square": (64, 64), "wide": (64, 96), "high": (96, 64), "odd": (64, 90)}.items():
            write_clip(root / "in" / f"{name}{number}.mp4", clip(*size))
            (root / "in" / f"{name}{number}.txt").write_text(f"the {name} clip number {number}")
    options = ["--size-px", "32", "--sizes", *SIZES, "--val-share", "0.4"]
    assert exit_code(lambda: main(["folder", str(root / "in"), "--out", str(root / "out"), *options])) == 0
    return root / "out"


def config(folder: Path, *changes: str) -> Config:
    return config_file.load(
        ROOT / "configs/tiny.yaml",
        Config,
        ["data={kind: folder, path: " + str(folder) + ", size_px: 32, sizes: [32x32, 32x48, 48x32]}", *SHORT, *changes],
    )


def test_each_clip_lies_in_the_nearest_shape(prepared: Path):
    found = {name: StoredClips(prepared / name) for name in SIZES}
    assert {name: len(clips) for name, clips in found.items()} == {"32x32": 4, "32x48": 8, "48x32": 4}
    for name, clips in found.items():
        height, width = map(int, name.split("x"))
        manifest = json.loads((prepared / name / "manifest.json").read_text())
        assert clips.size == (height, width) == size_of(clips) == tuple(manifest["size"]) and manifest["size_px"] == 32
        frames = clips.frames(0, [0])
        assert frames.shape == (1, height, width, 3) and frames[0, height // 4, 0].min() > 200 > frames[0, -1, -1].max()
        assert (prepared / name / "sheet.png").is_file()
    assert NearestShape(((32, 32), (32, 48))).of(100, 125) == (32, 48) and NearestShape(((32, 32), (32, 48))).of(
        9, 8
    ) == (32, 32)


def test_a_run_is_trained_on_all_shapes(prepared: Path, tmp_path: Path):
    short = [f"train.{stage}.num_steps=2" for stage in ("clip", "codec", "decoder", "diffusion", "refine")]
    with shapes.unchecked():
        run = TrainingRun(config(prepared, *short, "num_threads=1"), tmp_path / "run", ["test"])
        assert [size_of(bucket) for bucket in run.clips.buckets] == [(32, 32), (32, 48), (48, 32)]
        run.train()
    assert (run.folder / "denoiser.safetensors").is_file()


def test_config_and_folder_must_agree(prepared: Path):
    with pytest.raises(
        UserError, match="has frames of 32x32, 32x48, 48x32, and data.sizes is 32x32, 32x48; make them equal"
    ):
        training_data.open_clips(config(prepared, "data.sizes=[32x32, 32x48]"), "train")
    with pytest.raises(
        UserError, match="holds a prepared folder for each size of frames .32x32, 32x48, 48x32.; train on all by"
    ):
        training_data.open_clips(config(prepared, "data.sizes=null"), "train")
    with pytest.raises(UserError, match="have 32x48 px, and a config without data.sizes takes squares of 32 px only"):
        training_data.open_clips(config(prepared / "32x48", "data.sizes=null"), "train")
    with pytest.raises(UserError, match="has frames of one size, and data.sizes is"):
        training_data.open_clips(config(prepared / "32x32"), "train")
    assert len(training_data.open_clips(config(prepared / "32x32", "data.sizes=null"), "train")) >= 1


def test_what_takes_squares_only_says_so(prepared: Path, tmp_path: Path, capsys):
    wide = str(prepared / "32x48")
    with pytest.raises(UserError, match="have 32x48 px, and an evaluation takes squares of 32 px only"):
        real_videos.stored(Protocol(data=wide, split="train", size_px=32))
    for command in (["augment", wide], ["join", wide]):
        assert exit_code(lambda command=command: main([*command, "--out", str(tmp_path / "out")])) == 2
        assert f"and {command[0]} takes squares of 32 px only" in capsys.readouterr().err


def test_sizes_that_cannot_be_are_refused(prepared: Path, tmp_path: Path, capsys):
    source = str(prepared.parent / "in")
    assert exit_code(lambda: main(["folder", source, "--out", str(tmp_path / "out"), "--sizes", "wide"])) == 2
    assert "--sizes wide: 'wide' is no size; give height x width in px, such as 64x96" in capsys.readouterr().err
    square = str(prepared / "32x32")
    assert exit_code(lambda: main(["folder", source, "--out", square, "--sizes", "32x32"])) == 2
    assert "holds a prepared folder of one size; choose another --out for --sizes" in capsys.readouterr().err


def test_the_same_again_is_the_same_bytes_and_letterbox_keeps_the_odd_ones_whole(
    prepared: Path, tmp_path: Path, capsys
):
    source, options = str(prepared.parent / "in"), ["--size-px", "32", "--sizes", *SIZES, "--val-share", "0.4"]
    assert exit_code(lambda: main(["folder", source, "--out", str(tmp_path / "again"), *options])) == 0
    said = capsys.readouterr().err
    assert "4 of 8 clips are not of the shape 32x48, and 6.2 % of each (the median) was cut off" in said
    for name in SIZES:
        for file in ("clips.jsonl", "frames-00000.npy", "manifest.json"):
            assert (tmp_path / "again" / name / file).read_bytes() == (prepared / name / file).read_bytes()
    boxed = ["--out", str(tmp_path / "boxed"), *options, "--mode", "letterbox"]
    assert exit_code(lambda: main(["folder", source, *boxed])) == 0
    clips = StoredClips(tmp_path / "boxed" / "32x48")
    odd = next(number for number, row in enumerate(clips.rows) if "odd" in row.id)
    assert (clips.frames(odd, [0])[0, :, 0] == 0).all() and clips.frames(odd, [0])[0, 4, 3].min() > 200
