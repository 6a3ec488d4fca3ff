"""The protocol: what its hash rests on, how flags override it, and that H.264 is part of what is measured."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cdcd_video.config import config_file
from cdcd_video.data.sprites import sample_scene
from cdcd_video.data.sprites_render import render
from cdcd_video.errors import UserError
from cdcd_video.metrics import fidelity, protocol
from cdcd_video.metrics.protocol import Protocol, SettledProtocol
from cdcd_video.metrics.references import as_evaluated

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "configs" / "eval").glob("*.yaml"))
SETTLED = Protocol(num_real=4, fps=8.0, size_px=64, frame_network="inception", video_network="i3d")
NETWORKS = {"frame": "aa", "video": "bb"}
RULER = SettledProtocol(SETTLED, NETWORKS, "dd")

OTHER = {
    "data": "clips",
    "split": "heldout",
    "num_videos": 65,
    "scenes": "mirrored_pairs",
    "num_real": 5,
    "captions_per_video": 2,
    "num_frames": 17,
    "stride": 2,
    "fps": 7.0,
    "size_px": 32,
    "size": "64x96",
    "resize": "bicubic",
    "mode": "letterbox",
    "given_frame": "counts",
    "storage": "mp4",
    "frame_network": "sprites-frame",
    "video_network": "i3d:videogpt",
    "clip": "own",
    "window": 12,
    "hop": 4,
    "seed": 1,
}


@pytest.mark.parametrize("name", Protocol.model_fields)
def test_the_hash_changes_with_every_field(name: str):
    assert SettledProtocol(SETTLED.settled(**{name: OTHER[name]}), NETWORKS, "dd").hash != RULER.hash


def test_the_hash_changes_with_weights_and_with_the_real_videos_and_with_nothing_else():
    others = [SettledProtocol(SETTLED, NETWORKS | {name: "ee"}, "dd").hash for name in NETWORKS]
    others += [
        SettledProtocol(SETTLED, NETWORKS | {"video": None}, "dd").hash,
        SettledProtocol(SETTLED, NETWORKS, "ee").hash,
    ]
    assert len({RULER.hash, *others}) == 5
    assert SettledProtocol(Protocol(**SETTLED.model_dump()), dict(reversed(NETWORKS.items())), "dd").hash == RULER.hash
    assert len(RULER.hash) == 64 and int(RULER.hash, 16)
    assert not {"steps", "num_steps", "guidance", "temperature", "order"} & set(Protocol.model_fields)


def test_the_hash_changes_with_the_definition_of_a_metric(monkeypatch):
    assert "# Definition of ssim: windows within the frame" in RULER.as_yaml().splitlines()
    assert RULER.facts()["definition of ssim"] == "windows within the frame"
    now = RULER.hash
    monkeypatch.setattr(protocol, "DEFINITIONS", {})
    assert RULER.hash != now


def test_the_hash_does_not_depend_on_where_things_lie():
    for name, here, there in (
        ("data", "clips", "elsewhere/clips"),
        ("frame_network", "clip:a", "clip:b/c"),
        ("video_network", "videomae:a", "videomae:b/c"),
        ("video_network", "vjepa2:a", "vjepa2:b/c"),
        ("clip", "runs/a", "runs/b"),
    ):
        first, second = (
            SettledProtocol(SETTLED.settled(**{name: place}), NETWORKS, "dd").hash for place in (here, there)
        )
        assert first == second


def test_shorter_windows_are_only_for_videos_that_one_window_holds():
    protocol = Protocol(num_frames=16, window=16)
    assert protocol.short_windows(8) == [(0, 7), (2, 9), (4, 11), (6, 13), (8, 15)]
    assert Protocol(num_frames=17, given_frame="left_out").short_windows(8)[0] == (1, 8)
    assert protocol.short_windows(None) == protocol.short_windows(16) == Protocol(num_frames=32).short_windows(8) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_a_protocol_whose_videos_hold_a_window(path: Path):
    protocol = config_file.load(path, Protocol)
    if protocol.num_frames == 2:  # pairs of frames, not videos: a test of one step, without windows
        assert path.name == "powered_pairs.yaml"
        return
    assert protocol.windows()[0][1] - protocol.windows()[0][0] + 1 == protocol.window
    assert {"sprites.yaml", "msrvtt_16f_256.yaml", "small.yaml"} <= {one.name for one in FILES}


def test_what_is_written_beside_results_is_read_back_as_the_same_protocol(tmp_path: Path):
    path = tmp_path / "protocol.yaml"
    path.write_text(RULER.as_yaml())
    assert SettledProtocol(config_file.load(path, Protocol), NETWORKS, "dd").hash == RULER.hash
    assert RULER.as_yaml().splitlines()[0] == f"# Protocol: {RULER.hash}"


def test_the_real_clips_are_listed_below_and_no_name_of_theirs_changes_the_protocol(tmp_path: Path):
    clips = {"Sampled": ["a", "b\nseed: 9"], "Compared with": ["c d"]}
    listed = SettledProtocol(SETTLED, NETWORKS, "dd", clips)
    assert listed.hash == RULER.hash
    assert listed.as_yaml().splitlines()[-2:] == ["# Sampled: 'a' 'b\\nseed: 9'", "# Compared with: 'c d'"]
    path = tmp_path / "protocol.yaml"
    path.write_text(listed.as_yaml())
    assert config_file.load(path, Protocol) == SETTLED


DEFAULT = ROOT / "configs" / "eval" / "sprites.yaml"


def from_flags(*flags: object) -> Protocol:
    parser = argparse.ArgumentParser()
    protocol.add_flags(parser, DEFAULT)
    return protocol.from_flags(parser.parse_args(list(map(str, flags))), DEFAULT)


def test_flags_override_single_fields():
    plain = from_flags()
    assert plain == config_file.load(DEFAULT, Protocol)
    changed = from_flags("--num-videos", 3, "--data", "2024", "--fps", 4, "--given-frame", "counts")
    assert changed == plain.settled(num_videos=3, data="2024", fps=4.0, given_frame="counts", size_px=None)
    for flags, words in (
        (("--num-videos", 0), "--num-videos is 0: input should be greater than or equal to 1"),
        (("--num-frames", 1), "--num-frames is 1"),
        (("--storage", "mp4", "--size-px", 65), "H.264 wants even sizes"),
        (("--protocol", "nowhere.yaml"), "nowhere.yaml does not exist"),
    ):
        with pytest.raises(UserError, match=words):
            from_flags(*flags)


def test_size_and_rate_of_named_clips_are_their_own_unless_a_protocol_says_otherwise():
    plain = from_flags()
    assert (plain.size_px, plain.fps) == (64, 8) == (from_flags("--data", "sprites").size_px, plain.fps)
    assert from_flags("--data", "table") == plain.settled(data="table")
    clips = from_flags("--data", "clips")
    assert clips == plain.settled(data="clips", size_px=None, fps=None)
    assert from_flags("--data", "clips", "--size-px", 32).size_px == 32
    assert from_flags("--data", "clips", "--protocol", DEFAULT) == plain.settled(data="clips")


def test_windows_begin_with_the_given_frame_unless_it_is_left_out():
    protocol = SETTLED.settled(num_frames=33, hop=8)
    assert protocol.windows() == [(0, 15), (8, 23), (16, 31)]
    assert protocol.settled(given_frame="left_out").windows() == [(1, 16), (9, 24), (17, 32)]
    counted = ("counts", "in_windows", "left_out")
    assert [protocol.settled(given_frame=name).first_counted for name in counted] == [0, 1, 1]
    with pytest.raises(UserError, match="16 frames hold no window of 16; set --num-frames to at least 17"):
        SETTLED.settled(given_frame="left_out").windows()


def test_mp4_is_judged_after_h264_and_raw_is_not():
    frames = render(sample_scene(3, 0, "val"), np.arange(6) / 8)
    assert as_evaluated(frames, SETTLED) is frames
    stored = as_evaluated(frames, SETTLED.settled(storage="mp4"))
    assert stored.shape == frames.shape and (stored != frames).any()
    assert 30 < fidelity.psnr(stored, frames).min() < fidelity.BEST_PSNR_DB
    small = as_evaluated(frames, SETTLED.settled(storage="mp4", size_px=32))
    assert small.shape == (6, 32, 32, 3)
    np.testing.assert_array_equal(small, as_evaluated(frames, SETTLED.settled(storage="mp4", size_px=32)))


def test_reading_a_protocol_needs_no_torch():
    code = "import cdcd_video.metrics.protocol, cdcd_video.metrics.scores, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
