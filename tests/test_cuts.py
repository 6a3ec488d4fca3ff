"""Cuts: found at the video's own rate, kept with the prepared clip, and never between the frames of an example."""

import json
from pathlib import Path

import numpy as np
import pytest
from video_files import moving_bar, write_clip

from cdcd_video.data.clips import read_clip
from cdcd_video.data.cut_detection import CutFinder
from cdcd_video.data.pairs import sample_pairs
from cdcd_video.data.shots import Shots
from cdcd_video.data.store import StoredClips
from cdcd_video.errors import exit_code
from data_prep.__main__ import main


def other_place(num_frames: int) -> np.ndarray:
    """A dark disc that sinks before a light ground: nothing of `moving_bar`."""
    down, right = np.mgrid[0:48, 0:64]
    frames = np.empty((num_frames, 48, 64, 3), np.uint8)
    for index, frame in enumerate(frames):
        inside = (down - 8 - index) ** 2 + (right - 40) ** 2 < 90
        frame[:] = np.where(inside[..., None], (20, 30, 60), (235, 200, 210))
    return frames


def found(frames: np.ndarray, fps: float = 24) -> list[int]:
    finder = CutFinder()
    for index, frame in enumerate(frames):
        finder.add_pixels(np.ascontiguousarray(frame[..., ::-1]), index / fps)
    return finder.finish()


@pytest.mark.parametrize("at", [1, 2, 3, 20, 37, 38, 39])
def test_a_cut_is_found_wherever_it_is(at):
    """The library's detector judges no frame within two of the ends; ours must, for trimmed clips begin with a stray frame."""
    assert found(np.concatenate([moving_bar(at), other_place(40 - at)])) == [at]


def test_movement_and_a_turning_light_are_no_cuts():
    assert found(moving_bar(40)) == []
    brighter = np.clip(moving_bar(40).astype(int) + 2 * np.arange(40)[:, None, None, None], 0, 255).astype(np.uint8)
    assert found(brighter) == []


def panning(num_frames: int) -> np.ndarray:
    """Stripes that move by, so that every frame differs much from the one before."""
    right = np.arange(64)[None, :] + 5 * np.arange(num_frames)[:, None]
    stripes = (right // 16 % 2 * 160 + 40).astype(np.uint8)
    return np.broadcast_to(stripes[:, None, :, None], (num_frames, 48, 64, 3))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_frames_that_repeat_make_no_cuts_of_movement(times):
    """Animation on twos and threes: between repeated frames every movement would stand alone."""
    frames = np.repeat(panning(20), times, axis=0)
    assert found(frames) == []
    cut = np.concatenate([frames, np.repeat(other_place(20), times, axis=0)])
    assert found(cut) == [20 * times]


def test_each_picture_of_a_slide_show_is_a_shot():
    pictures = [np.roll(panning(1)[0], 8 * turn, axis=1) // (1 + turn % 2) for turn in range(4)]
    assert found(np.repeat(np.stack(pictures), 24, axis=0)) == [24, 48, 72]


def test_a_jump_cut_is_found_where_little_else_moves():
    """A third of the picture changes by 90 of 255, which is nothing much where the camera shakes."""
    talk = other_place(40)
    talk[:, :16] = np.where(np.arange(40) < 20, 220, 130)[:, None, None, None]
    assert found(talk) == [20]
    shaken = np.stack([np.roll(frame, 3 * (index % 2), axis=1) for index, frame in enumerate(talk)])
    assert found(shaken) == []


def test_what_appears_for_a_frame_or_begins_to_move_is_no_cut():
    still = np.repeat(moving_bar(1), 40, axis=0)
    flash = still.copy()
    flash[20, :12] //= 2
    assert found(flash) == []
    assert found(np.concatenate([still[:20], moving_bar(20)])) == []


def tinted(colours: np.ndarray) -> np.ndarray:
    """A frame of each colour, float (F, 3), with the same small texture on all of them."""
    texture = np.random.default_rng(0).integers(-40, 41, (48, 64, 1))
    return (colours[:, None, None] + texture).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("red", [200, 130])
def test_a_hue_that_passes_zero_is_no_cut(red: int):
    """Reds a little towards blue and a little towards yellow are neighbours, 178 of 180 apart as plain numbers; so are greys."""
    drift = np.repeat(np.arange(-20, 20, 2), 4)[:, None]  # at most two levels a frame
    assert found(tinted(np.array([red, 75, 75]) + drift * np.array([0, 1, -1]))) == []
    grey = np.where(np.arange(40)[:, None] < 20, (128, 128, 129), (129, 128, 128))
    assert found(tinted(grey)) == []


@pytest.mark.parametrize("other", [(75, 200, 75), (75, 75, 200), (75, 200, 200)])
def test_a_cut_to_a_picture_of_another_hue_alone_is_found(other: tuple[int, int, int]):
    colours = np.repeat([(200, 75, 75), other], 20, axis=0)
    assert found(tinted(colours)) == [20]


def test_the_score_is_that_of_the_library_where_hues_are_no_angle_and_colours_full():
    """Fails too when the library does not ask for our score any more."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    from cdcd_video.data.chroma_detector import HALF_TURN, ChromaDetector

    class Scored(ChromaDetector):
        def score(self, pixels: np.ndarray) -> float:
            self.process_frame(FrameTimecode(len(self._buffer), 25.0), pixels)
            return self._buffer[-1][1]

    class Plain(AdaptiveDetector):
        score = Scored.score

    yellow, green, red, pink = np.array(
        [[[[0, 255, 255]]], [[[0, 255, 0]]], [[[0, 0, 255]]], [[[128, 0, 255]]]], np.uint8
    )
    scores = {}
    for detector in (Scored(HALF_TURN), Plain()):
        shown = [detector.score(pixels) for pixels in (yellow, green, red, pink)]
        scores[type(detector)] = shown[1:]
    assert scores[Scored] == pytest.approx([30 / 3, 60 / 3, 15 / 3])
    assert scores[Plain] == pytest.approx([30 / 3, 60 / 3, 165 / 3])


def test_no_frames_have_no_cuts():
    assert CutFinder().finish() == []


# ------------------------------------------------------------------------------------------------- in prepared clips


@pytest.mark.parametrize(
    ("fps", "cuts"),
    [
        (None, (17, 31)),
        (24, (17, 31)),
        (8, (6, 11)),  # shown from 17/24 s: the frames at 6/8 s and after; and from 31/24 s
        (0.5, (1,)),  # nothing of the middle shot is shown: one cut between what is
        (48, (34, 62)),
    ],
)
def test_cuts_are_in_frames_of_the_prepared_clip(tmp_path, fps, cuts):
    frames = np.concatenate([moving_bar(17), other_place(14), moving_bar(33)[::-1]])
    path = write_clip(tmp_path / "a.mp4", frames, fps=24)
    clip = read_clip(path, fps=fps, size_px=32, watcher=CutFinder())
    assert clip.cuts == cuts
    assert read_clip(path, fps=fps, size_px=32).cuts == ()
    jumps = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert fps == 0.5 or set(np.flatnonzero(jumps > 40) + 1) == set(cuts), "the frame before a cut is of another shot"


def test_cuts_are_counted_from_where_the_part_begins(tmp_path):
    frames = np.concatenate([other_place(30), moving_bar(30), other_place(30)])
    path = write_clip(tmp_path / "a.mp4", frames, fps=24)
    part = read_clip(path, fps=8, size_px=32, start_s=1.5, end_s=3.5, watcher=CutFinder())
    assert (len(part.frames), part.cuts) == (16, (8,))
    before = read_clip(path, fps=8, size_px=32, start_s=1.25, end_s=2, watcher=CutFinder())
    assert before.cuts == (), "the cut at its first frame lies outside"


def prepare(folder: Path, out: Path, *options: str) -> list[dict]:
    arguments = ["folder", str(folder), "--out", str(out), "--size-px", "32", "--val-share", "0", "--workers", "1"]
    assert exit_code(lambda: main([*arguments, *options])) == 0
    return [json.loads(line) for line in (out / "clips.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_clip(folder / "a.mp4", np.concatenate([moving_bar(30), other_place(42)]), fps=24)
    write_clip(folder / "b.mp4", moving_bar(72), fps=24)
    for name in "ab":
        (folder / f"{name}.txt").write_text("words")
    return folder


def test_a_prepared_folder_records_its_cuts_and_the_detector(videos, tmp_path, capsys):
    rows = prepare(videos, tmp_path / "out")
    assert [row.get("cuts") for row in rows] == [[10], None]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["num_cuts"] == 1
    assert (
        manifest["recipe"]["cuts"]["detector"] == "adaptive"
        and manifest["recipe"]["cuts"]["rules"][0]["threshold"] == 2.5
    )
    assert "48 frames, 1 cuts, 32 px" in capsys.readouterr().out


def test_no_pair_of_a_prepared_clip_straddles_its_cut(videos, tmp_path):
    prepare(videos, tmp_path / "out")
    clips = StoredClips(tmp_path / "out")
    rng = np.random.Generator(np.random.Philox(key=0))
    pairs = sample_pairs(Shots.of_clips(clips), 500, rng, max_gap=None, start_share=0.2)
    is_light = np.array([[clips.frames(clip, [frame]).mean() > 150 for frame in range(24)] for clip in range(2)])
    assert is_light[0].tolist() == [False] * 10 + [True] * 14 and not is_light[1].any()
    sides = [is_light[pairs.clip, frames] for frames in (pairs.first, pairs.source, pairs.target, pairs.far)]
    assert (np.stack(sides) == sides[0]).all() and 0.2 < sides[0].mean() < 0.4


def test_looking_for_cuts_can_be_switched_off(videos, tmp_path):
    rows = prepare(videos, tmp_path / "out", "--cuts", "off")
    assert all("cuts" not in row for row in rows)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["recipe"]["cuts"], manifest["num_cuts"]) == ("off", 0)


def test_a_clip_of_nothing_but_cuts_is_refused(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    places = [moving_bar(1), other_place(1), 255 - moving_bar(1), other_place(1) // 3]
    write_clip(folder / "a.mp4", np.repeat(np.concatenate([places[turn % 4] for turn in range(8)]), 48, axis=0), fps=24)
    write_clip(folder / "b.mp4", moving_bar(72), fps=24)
    for name in "ab":
        (folder / f"{name}.txt").write_text("words")
    slow = ("--fps", "0.5", "--min-frames", "2")
    assert [row["id"] for row in prepare(folder, tmp_path / "out", *slow)] == ["b.mp4"]
    rejected = json.loads((tmp_path / "out" / "rejected.jsonl").read_text())
    assert rejected["id"] == "a.mp4" and "no shot has two frames" in rejected["reason"]
    assert len(prepare(folder, tmp_path / "off", *slow, "--cuts", "off")) == 2
