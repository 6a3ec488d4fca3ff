"""Writing videos that play, and reading videos of any origin without being fooled."""

import os
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence
from video_files import grey_steps, moving_bar, steps_shown, write_clip, write_sound

from cdcd_video import video
from cdcd_video.data import clips, decoding, timestamps
from cdcd_video.data.clips import ClipRejected, read_clip
from cdcd_video.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def decoded(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def decibels(ours: np.ndarray, truth: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, ((ours.astype(float) - truth) ** 2).mean())))


# ------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (1, 1)])
def test_mp4_holds_the_frames(tmp_path, height, width):
    frames = moving_bar(9, 48, 64)[:, :height, :width]
    path = video.save(frames, tmp_path / "a.mp4", 8)
    read = decoded(path)
    assert read.shape == (9, height + height % 2, width + width % 2, 3)
    assert decibels(read[:, :height, :width], frames) > 28
    if width % 2:  # the added column repeats the last one
        assert decibels(read[:, :height, -1], frames[:, :, -1]) > 28


def test_mp4_plays_in_browsers(tmp_path):
    path = video.save(moving_bar(8), tmp_path / "a.mp4", 12.5)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(25, 2)
        assert stream.frames == 8
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # playing begins before all is loaded


def test_mp4_keeps_colours(tmp_path):
    for colour in ((220, 30, 40), (30, 200, 60), (40, 60, 230), (255, 255, 255), (0, 0, 0), (128, 128, 128)):
        frames = np.full((3, 32, 32, 3), colour, np.uint8)
        read = read_clip(video.save(frames, tmp_path / "a.mp4", 8), size_px=32).frames
        assert np.abs(read.astype(int) - frames).max() <= 3, colour


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_the_same_frames_give_the_same_bytes(tmp_path, suffix):
    first = video.save(moving_bar(6), tmp_path / f"a.{suffix}", 8).read_bytes()
    assert video.save(moving_bar(6), tmp_path / f"b.{suffix}", 8).read_bytes() == first


SAVES_SCENES = """
import hashlib, sys
import numpy as np
from cdcd_video import video
from cdcd_video.data import sprites, sprites_render
whole = hashlib.sha256()
for index in (0, 3, 5, 7):
    frames = sprites_render.render(sprites.sample_scene(0, index, "val"), np.arange(16) / 8, 64)
    whole.update(video.save(frames, sys.argv[1], 8).read_bytes())
print(whole.hexdigest())
"""


def test_an_mp4_does_not_depend_on_what_lay_in_memory(tmp_path):
    """glibc fills the memory it gives out with what MALLOC_PERTURB_ says; elsewhere the four runs are alike anyway."""
    found = set()
    for filling in ("0", "1", "85", "170"):
        command = [sys.executable, "-c", SAVES_SCENES, str(tmp_path / "a.mp4")]
        environment = {**os.environ, "MALLOC_PERTURB_": filling, "PYTHONPATH": str(ROOT)}
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1


@pytest.mark.parametrize("suffix", ["gif", "webp"])
@pytest.mark.parametrize("fps", [8, 24, 29.97])
def test_animations_have_every_frame_and_the_right_length(tmp_path, suffix, fps):
    frames = moving_bar(12)
    with Image.open(video.save(frames, tmp_path / f"a.{suffix}", fps)) as image:
        shown = [(np.array(frame.convert("RGB")), frame.info["duration"]) for frame in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    assert len(shown) == 12
    assert abs(sum(duration for _, duration in shown) - 12_000 / fps) <= 5
    read = np.stack([pixels for pixels, _ in shown])
    assert np.array_equal(read, frames) if suffix == "webp" else decibels(read, frames) > 30


@pytest.mark.parametrize(("suffix", "least"), [("gif", 20), ("webp", 11)])
@pytest.mark.parametrize("fps", [30, 50, 59.94, 60, 90, 100, 120, 1000])
def test_no_frame_is_so_short_that_browsers_stretch_it(tmp_path, suffix, least, fps):
    frames = moving_bar(61, 16, 64)
    with Image.open(video.save(frames, tmp_path / f"a.{suffix}", fps)) as image:
        shown = [frame.copy().info["duration"] for frame in ImageSequence.Iterator(image)]
    assert min(shown) >= least
    assert abs(sum(shown) - 61_000 / fps) <= (5 if min(1000 / fps, 61_000 / fps) >= least else least)
    assert len(shown) == 61 or 1000 / fps < least
    assert len(shown) >= int(61 * min(1, 1000 / fps / least)) // 2


def test_a_gif_of_equal_frames_lasts_as_long(tmp_path):
    with Image.open(video.save(np.repeat(moving_bar(1), 8, axis=0), tmp_path / "a.gif", 8)) as image:
        assert image.info["duration"] == 1000


@pytest.mark.parametrize("name", ["frames", "frames/", "run.v2/"])
def test_a_folder_holds_exact_pictures(tmp_path, name):
    target = f"{tmp_path}/{name}"
    video.save(moving_bar(11), target, 8)
    path = video.save(moving_bar(3), target, 8)  # fewer frames: nothing of the first video may remain
    assert sorted(file.name for file in path.iterdir()) == [f"frame-{index:05d}.png" for index in range(3)]
    assert np.array_equal(np.array(Image.open(path / "frame-00002.png")), moving_bar(3)[2])


def test_scale_makes_squares_of_pixels(tmp_path):
    path = video.save(moving_bar(2), tmp_path / "a.webp", 8, scale=3)
    first = np.array(Image.open(path).convert("RGB"))
    assert first.shape == (144, 192, 3)
    assert np.array_equal(first[::3, ::3], moving_bar(1)[0])


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("a.avi", r"\.mp4, \.gif, \.webp, or a folder"),
        ("file.txt/a.mp4", "cannot write"),
        ("file.txt/", "is a file"),
        ("full/", "files other than frames"),
        ("x" * 300 + ".gif", "cannot write"),
        ("full/../..", "choose a new name"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, name, sentence):
    (tmp_path / "file.txt").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=sentence):
        video.save(moving_bar(2), f"{tmp_path}/{name}", 8)
    assert (tmp_path / "full" / "notes.txt").read_text() == (tmp_path / "file.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.webp", "folder"])
def test_a_disk_that_refuses_leaves_the_earlier_file_and_no_rest(tmp_path, name):
    video.save(moving_bar(2), tmp_path / name, 8)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    noise = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # the system itself now refuses longer files
    try:
        with pytest.raises(UserError, match="cannot write"):
            video.save(noise, tmp_path / name, 8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()} == before


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_an_impossible_rate_is_refused(tmp_path, fps):
    with pytest.raises(UserError, match="fps is .*; it must be above 0"):
        video.save(moving_bar(2), tmp_path / "a.mp4", fps)


def test_the_contact_sheet_shows_each_nth_frame_of_each_video(tmp_path):
    wide, small = moving_bar(5, 40, 60), grey_steps(3, 20)
    path = video.contact_sheet([wide, small], tmp_path / "a.png", every=2)
    sheet = np.array(Image.open(path))
    assert sheet.shape == (2 + 40 + 2 + 20 + 2, 2 + 3 * 62, 3)
    assert np.array_equal(sheet[2:42, 2 + 62 : 2 + 62 + 60], wide[2])
    assert np.array_equal(sheet[44:64, 2 + 22 : 2 + 42], small[2])
    assert (sheet[44:64, 2 + 44 :] == 255).all()


@pytest.mark.parametrize("suffix", [".psd", ".mpg", ".xbm", ".grib", ".mp4", ""])
def test_a_contact_sheet_is_no_file_that_pillow_cannot_write(tmp_path, suffix):
    """It only reads .psd, writes no colours into .xbm, and has no way to write .grib."""
    with pytest.raises(UserError, match="cannot write a picture as .*use .png"):
        video.contact_sheet([moving_bar(2)], tmp_path / f"a{suffix}")
    assert not list(tmp_path.iterdir())


def test_labels_never_widen_the_contact_sheet(tmp_path):
    plain = Image.open(video.contact_sheet([moving_bar(3)], tmp_path / "a.png"))
    told = Image.open(video.contact_sheet([moving_bar(3)], tmp_path / "b.png", ["a long sentence " * 30]))
    assert told.width == plain.width
    assert told.height > plain.height
    assert np.array_equal(np.array(told)[-50:], np.array(plain)[-50:])


# ------------------------------------------------------------------------------------------------------- reading


def test_every_frame_comes_with_its_time(tmp_path):
    clip = read_clip(video.save(moving_bar(10, 64, 64), tmp_path / "a.mp4", 12.5), size_px=64)
    assert clip.times_s == pytest.approx(np.arange(10) / 12.5)
    assert (clip.fps, clip.source_fps) == (12.5, 12.5)
    assert decibels(clip.frames, moving_bar(10, 64, 64)) > 27


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (8, [0, 1, 2, 3, 4, 5, 6, 7]),
        (4, [0, 2, 4, 6]),
        (3, [0, 2, 5]),
        (16, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]),
    ],
)
def test_resampling_shows_the_last_frame_not_after(tmp_path, fps, expected):
    path = write_clip(tmp_path / "a.mp4", grey_steps(8), fps=8)
    clip = read_clip(path, fps=fps, size_px=32)
    assert steps_shown(clip.frames) == expected
    assert clip.times_s == pytest.approx(np.arange(len(expected)) / fps)
    assert (clip.fps, clip.source_fps) == (fps, pytest.approx(8))


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_uneven_times_are_honoured(tmp_path, suffix):
    times = [0, 0.1, 0.2, 0.9, 1.0, 1.45]
    path = write_clip(tmp_path / f"a.{suffix}", grey_steps(6), times, fps=10)
    clip = read_clip(path, fps=4, size_px=32)  # at 0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5 s
    assert steps_shown(clip.frames)[:6] == [0, 2, 2, 2, 4, 4]
    assert read_clip(path, size_px=32).times_s == pytest.approx(times, abs=1e-3)


STAMPS = {
    # pts and dts of frames in the order in which they are shown, as two kinds of AVI have them
    "every third frame early": [(1, 1), (2, 2), (4, 3), (3, 4), (5, 5), (7, 6), (6, 7), (8, None)],
    "in the order of decoding": [(1, 2), (2, 3), (4, 4), (3, 5), (6, 6), (5, 7), (8, None), (7, None)],
}


@pytest.mark.parametrize("kind", STAMPS)
def test_stamps_in_the_order_of_decoding_lose_no_frame(kind):
    frames = [Mock(av.VideoFrame, pts=pts, dts=dts, duration=1) for pts, dts in STAMPS[kind]]
    clock = timestamps.Clock(frames[:4])
    ticks = [clock.read(frame) for frame in frames]
    assert np.array_equal(np.diff(ticks), np.ones(len(frames) - 1))


def test_an_avi_with_b_frames_has_every_frame_at_its_time(tmp_path):
    noise = np.random.Generator(np.random.Philox(key=4)).integers(0, 60, (1, 48, 64, 3), dtype=np.uint8)
    path = write_clip(tmp_path / "a.avi", moving_bar(30) // 2 + noise, fps=25)
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    assert stamps != sorted(set(stamps)), "this file should be one of those"
    read = read_clip(path, size_px=64)
    assert len(read.frames) == 30
    assert np.diff(read.times_s) == pytest.approx(np.full(29, 1 / 25), abs=1e-3)


def test_a_rate_that_matroska_rounds_loses_and_doubles_nothing(tmp_path):
    path = write_clip(tmp_path / "a.mkv", grey_steps(20), fps=30)
    assert steps_shown(read_clip(path, fps=30, size_px=32).frames) == list(range(20))


def test_a_part_is_the_same_as_that_part_of_the_whole(tmp_path):
    path = write_clip(tmp_path / "a.mp4", moving_bar(80, 32, 32), fps=10)
    whole = read_clip(path, fps=5, size_px=32)
    part = read_clip(path, fps=5, size_px=32, start_s=3, end_s=5)
    assert np.array_equal(part.frames, whole.frames[15:25])
    assert part.times_s == pytest.approx(whole.times_s[15:25])
    assert np.array_equal(read_clip(path, fps=5, size_px=32, start_s=3, max_frames=4).frames, whole.frames[15:19])
    every = read_clip(path, size_px=32)
    assert np.array_equal(read_clip(path, size_px=32, start_s=3, end_s=5).frames, every.frames[30:50])
    assert len(read_clip(path, size_px=32, max_frames=1).frames) == 1


def test_a_gif_is_a_clip(tmp_path):
    clip = read_clip(video.save(moving_bar(6, 32, 32), tmp_path / "a.gif", 10), fps=10, size_px=32)
    assert decibels(clip.frames, moving_bar(6, 32, 32)) > 30


@pytest.mark.parametrize(("rotation", "quarters"), [(0, 0), (90, 1), (180, 2), (-90, 3)])
def test_a_turned_phone_is_turned_back(tmp_path, rotation, quarters):
    frames = moving_bar(3, 48, 64)
    clip = read_clip(write_clip(tmp_path / "a.mp4", frames, rotation=rotation), size_px=64, mode="letterbox")
    shown = np.rot90(frames, quarters, axes=(1, 2))
    assert (clip.source_height, clip.source_width) == shown.shape[1:3]
    content = clip.frames[:, 8:56] if quarters % 2 == 0 else clip.frames[:, :, 8:56]
    assert decibels(content, shown) > 24


def test_pixels_that_are_not_square_are_honoured(tmp_path):
    path = write_clip(tmp_path / "a.mp4", grey_steps(3, 32), sample_aspect=Fraction(2))
    clip = read_clip(path, size_px=32, mode="letterbox")
    assert (clip.source_width, clip.source_height) == (64, 32)
    assert (clip.frames[:, :8] == 0).all()
    assert (clip.frames[:, 8:24] > 0).all()


def test_sound_is_ignored(tmp_path):
    clip = read_clip(write_clip(tmp_path / "a.mp4", grey_steps(4), with_sound=True), size_px=32)
    assert steps_shown(clip.frames) == [0, 1, 2, 3]


def test_the_colours_of_a_clip_have_no_bias(tmp_path):
    path = write_clip(tmp_path / "a.mp4", np.full((3, 64, 64, 3), (60, 110, 170), np.uint8))
    error = read_clip(path, size_px=64).frames.astype(float) - (60, 110, 170)
    assert np.abs(error.mean(axis=(0, 1, 2))).max() < 1.1  # one level is what 8-bit YUV may cost


# ------------------------------------------------------------------------------------------------- bad video files


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def good(folder, suffix: str, num_frames: int = 40) -> bytes:
    noise = np.random.Generator(np.random.Philox(key=2)).integers(0, 256, (num_frames, 64, 64, 3), dtype=np.uint8)
    if suffix == "gif":
        return video.save(noise, folder / "good.gif", 8).read_bytes()
    codec = {"avi": "mpeg4", "mpg": "mpeg1video"}.get(suffix, "libx264")
    return write_clip(folder / f"good.{suffix}", noise, codec=codec, fps=25).read_bytes()


def holed(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 3000 + content[middle + 3000 :]


BAD_CLIPS = {
    "missing": (lambda folder: folder / "nothing.mp4", "does not exist"),
    "folder": (lambda folder: folder, "not a file"),
    "empty": (lambda folder: written(folder / "a.mp4", b""), "empty"),
    "text": (lambda folder: written(folder / "a.mp4", b"I am not a video.\n" * 50), "corrupt or not a video"),
    "zeros": (lambda folder: written(folder / "a.mp4", bytes(5000)), "corrupt or not a video"),
    "sound alone": (lambda folder: write_sound(folder / "a.mkv"), "no video stream"),
    "one frame": (lambda folder: write_clip(folder / "a.mp4", grey_steps(1)), "one frame"),
    "a still": (lambda folder: video.save(moving_bar(1), folder / "a.gif", 8), "one frame"),
    "cut mp4": (lambda folder: written(folder / "a.mp4", good(folder, "mp4")[:20000]), "corrupt or not a video"),
    "cut avi": (lambda folder: written(folder / "a.avi", good(folder, "avi")[:20000]), "damaged|truncated"),
    "cut mkv": (lambda folder: written(folder / "a.mkv", good(folder, "mkv")[:60000]), "damaged|truncated"),
    "cut gif": (lambda folder: written(folder / "a.gif", good(folder, "gif")[:60000]), "truncated"),
    "holed mp4": (lambda folder: written(folder / "a.mp4", holed(good(folder, "mp4"))), "damaged|corrupt"),
    "holed avi": (lambda folder: written(folder / "a.avi", holed(good(folder, "avi"))), "damaged|corrupt"),
    "long name": (lambda folder: folder / ("x" * 400 + ".mp4"), "path cannot be used"),
}


@pytest.mark.sweep
@pytest.mark.parametrize("kind", BAD_CLIPS)
@pytest.mark.parametrize("fps", [None, 8])
def test_a_bad_clip_is_refused_with_a_reason(tmp_path, kind, fps):
    make, reason = BAD_CLIPS[kind]
    with pytest.raises(ClipRejected, match=reason) as raised:
        read_clip(make(tmp_path), fps=fps, size_px=32)
    assert str(tmp_path) in str(raised.value)
    assert str(tmp_path) not in raised.value.reason


@pytest.mark.sweep
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "gif"])
def test_random_damage_never_crashes(tmp_path, suffix, seed):
    content = bytearray(good(tmp_path, suffix, 6))
    rng = np.random.Generator(np.random.Philox(key=seed))
    for place in rng.integers(0, min(len(content), 4000 if seed % 2 else len(content)), 1 + seed):
        content[place] = rng.integers(256)
    try:
        clip = read_clip(written(tmp_path / f"a.{suffix}", bytes(content)), fps=8, size_px=32)
    except ClipRejected as refused:
        assert refused.reason
    else:
        assert clip.frames.shape == (len(clip.times_s), 32, 32, 3)


@pytest.mark.parametrize(
    "playlist", ["ffconcat version 1.0\nfile '{}'\n", "#EXTM3U\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"]
)
def test_a_playlist_in_disguise_opens_no_other_file(tmp_path, playlist):
    secret = write_clip(tmp_path / "secret.mp4", grey_steps(4))
    path = tmp_path / "a.mp4"
    path.write_text(playlist.format(secret))
    with pytest.raises(ClipRejected):
        read_clip(path, size_px=32)


def test_absurd_dimensions_are_refused(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.mp4", grey_steps(4, 64))
    monkeypatch.setattr(decoding, "MAX_PIXELS", 64 * 64 - 1)
    with pytest.raises(ClipRejected, match="64 x 64"):
        read_clip(path, size_px=32)


def test_a_jump_in_time_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "MAX_BYTES", 50 * 32 * 32 * 3)
    path = write_clip(tmp_path / "a.mkv", grey_steps(3), [0, 0.1, 1e6])
    with pytest.raises(ClipRejected, match="more than 50 frames"):
        read_clip(path, fps=8, size_px=32)
    assert len(read_clip(path, fps=8, size_px=32, max_frames=20).frames) == 20


def test_a_part_beyond_the_end_is_refused(tmp_path):
    path = write_clip(tmp_path / "a.mp4", grey_steps(8))
    with pytest.raises(ClipRejected, match=r"no frame from 5 s"):
        read_clip(path, fps=8, size_px=32, start_s=5)


@pytest.mark.parametrize("wrong", [{"start_s": -1}, {"start_s": 2, "end_s": 1}, {"fps": 0}, {"max_frames": 0}])
def test_impossible_wishes_are_refused(tmp_path, wrong):
    with pytest.raises(UserError):
        read_clip(tmp_path / "a.mp4", size_px=32, **wrong)


@pytest.mark.shared
def test_real_clips_give_the_frames_they_are_known_to_have(shared_dir):
    folder = shared_dir / "data" / "clips"
    lines = (folder / "captions.tsv").read_text().splitlines()
    columns = lines[0].split("\t")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines[1:]]
    small = [row for row in rows if int(row["frames"]) * int(row["width"]) * int(row["height"]) < 4e6]
    assert len(small) >= 5
    for row in small:
        clip = read_clip(folder / row["path"], size_px=64)
        assert len(clip.frames) == int(row["frames"]), row["path"]
        assert clip.fps == pytest.approx(float(row["fps"]), rel=0.05), row["path"]
