"""How frames are made square is said in one place of each page that rests on it, and pages that disagree are refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from video_files import moving_bar, write_clip

from cdcd_video.config import Config, DiffusionConfig, FolderData, config_file
from cdcd_video.data.images import fit
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import UserError, exit_code
from cdcd_video.evaluation import from_model, real_videos
from cdcd_video.metrics.protocol import Protocol, SettledProtocol
from cdcd_video.pipeline import ImageToVideo
from cdcd_video.training import training_data
from data_prep.__main__ import main

CONFIG = Path(__file__).parent.parent / "configs/clips_64.yaml"


@pytest.fixture(scope="module")
def letterboxed(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    (root / "in").mkdir()
    for name in "ab":
        write_clip(root / "in" / f"{name}.mp4", moving_bar(12))
        (root / "in" / f"{name}.txt").write_text(f"words {name}")
    options = ["--size-px", "32", "--mode", "letterbox", "--val-share", "0.5"]
    assert exit_code(lambda: main(["folder", str(root / "in"), "--out", str(root / "out"), *options])) == 0
    return root / "out"


def test_the_manifest_says_how_frames_became_square_and_of_their_size(letterboxed):
    manifest = json.loads((letterboxed / "manifest.json").read_text())
    assert (manifest["mode"], manifest["recipe"]["resize"]) == ("letterbox", "bicubic, antialiased")
    clips = StoredClips(letterboxed)
    assert clips.mode == "letterbox" and (clips.frames(0, [0])[0, :3] == 0).all()


def test_a_config_that_says_otherwise_is_refused(letterboxed):
    said = [f"data.path={letterboxed}", "data.size_px=32"]
    config = config_file.load(CONFIG, Config, said)
    assert config.data.mode == "crop"
    with pytest.raises(UserError, match="--mode letterbox and data.mode is crop; make them equal"):
        training_data.open_clips(config, "train")
    config = config_file.load(CONFIG, Config, [*said, "data.mode=letterbox"])
    clips = StoredClips(letterboxed)
    assert len(training_data.open_clips(config, clips.rows[0].split)) >= 1


def test_a_protocol_that_says_otherwise_is_refused_and_one_that_says_nothing_learns_it(letterboxed):
    split = StoredClips(letterboxed).rows[0].split
    protocol = Protocol(
        data=str(letterboxed), split=split, size_px=32, num_frames=4, num_videos=1, num_real=0, window=4
    )
    with pytest.raises(UserError, match="--mode letterbox, but the protocol says crop"):
        real_videos.stored(protocol.settled(mode="crop"))
    _, settled = real_videos.clips(real_videos.stored(protocol), protocol)
    assert settled.mode == "letterbox"
    assert "mode: letterbox" in SettledProtocol(settled, {}, "").as_yaml()


def test_crop_has_the_hash_of_a_protocol_that_chooses_nothing():
    """The value is that of the day when the definition of SSIM became part of it; older ones are not to be compared."""
    settled_protocols = [
        SettledProtocol(Protocol(mode=mode, num_real=3, fps=8.0, size_px=64), {}, "")
        for mode in (None, "crop", "letterbox")
    ]
    assert settled_protocols[0].hash == settled_protocols[1].hash != settled_protocols[2].hash
    assert settled_protocols[0].hash == "27c3bc8af239eb4736f5eb4485b1ec3976ca74bb994cb3dfc6af219e38cdd71c"


def test_a_starting_frame_becomes_square_as_the_models_frames_did(tiny_model):
    pipe = ImageToVideo.from_pretrained(tiny_model, "cpu")
    picture = moving_bar(1)[0]
    cropped = pipe(picture, "the red circle moves right", num_frames=2, num_steps=1)
    assert np.array_equal(cropped.frames[0], fit(picture, pipe.size_px, "crop"))
    data = FolderData(path="somewhere", size_px=pipe.size_px, mode="letterbox")
    pipe.model = dataclasses.replace(pipe.model, config=pipe.model.config.model_copy(update={"data": data}))
    boxed = pipe(picture, "the red circle moves right", num_frames=2, num_steps=1)
    assert np.array_equal(boxed.frames[0], fit(picture, pipe.size_px, "letterbox"))
    assert (boxed.frames[0, 0] == 0).all() and not np.array_equal(boxed.frames[0], cropped.frames[0])
    (told,) = from_model._other_mode(pipe, Protocol(mode="crop"))
    assert "square by letterbox, and these are made square by crop" in told
    assert from_model._other_mode(pipe, Protocol(mode="letterbox")) == from_model._other_mode(pipe, Protocol()) == []


# ----------------------------------------------------------------------------------------------------- gaps in seconds


@pytest.mark.parametrize(
    ("gap", "fps", "frames"), [(4, 8.0, 4), (4, 30.0, 4), ("0.5 s", 8.0, 4), ("0.5 s", 30.0, 15), ("0.1 s", 29.97, 2)]
)
def test_a_gap_is_so_many_frames_or_so_many_seconds(gap, fps, frames):
    assert DiffusionConfig(max_gap=gap).max_gap_frames(fps) == frames


def test_a_gap_shorter_than_a_frame_is_refused():
    with pytest.raises(
        UserError, match="max_gap is 0.1 s, shorter than the 0.125 s between two frames of the data; raise it"
    ):
        DiffusionConfig(max_gap="0.1 s").max_gap_frames(8.0)


@pytest.mark.parametrize("gap", ["0.5", "0.5s", "half a second", "0", "-1 s"])
def test_a_gap_that_is_neither_is_refused_with_an_example(gap):
    with pytest.raises(UserError, match="a whole number of at least 1 or text such as 0.5 s"):
        config_file.load(CONFIG, Config, [f"diffusion.max_gap={gap}"])
