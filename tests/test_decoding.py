"""Which frames of a file are read, and when: clocks of every kind, parts of files, fields, streams and containers."""

import json
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image, features
from video_files import encode, grey_steps, moving_bar, quarters, steps_shown, write_clip

from cdcd_video import video
from cdcd_video.data import decoding
from cdcd_video.data.clips import ClipRejected, read_clip
from cdcd_video.data.cut_detection import CutFinder
from cdcd_video.data.deinterlace import deinterlaced
from cdcd_video.data.external_video import read_video
from cdcd_video.data.timestamps import Course
from cdcd_video.errors import exit_code
from data_prep.__main__ import main

FAST = {"deadline": "realtime", "cpu-used": "8"}
QUIET = {"x265-params": "log-level=none:keyint=12:open-gop=1", "preset": "ultrafast"}
OPEN = {"x264-params": "keyint=12:bframes=3:open-gop=1"}


# ------------------------------------------------------------------------------------------- parts of every container


def in_yuv(picture: np.ndarray) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")


def numbered(num_frames: int) -> list[av.VideoFrame]:
    """Frames that say their numbers in eight squares, black or white, with some noise over them."""
    frames = []
    rng = np.random.Generator(np.random.Philox(key=7))
    for number in range(num_frames):
        bits = np.array([number >> bit & 1 for bit in range(8)], np.uint8).reshape(2, 4)
        picture = (30 + 190 * bits).repeat(16, axis=0).repeat(16, axis=1)
        noisy = np.stack([picture] * 3, axis=-1) + rng.integers(0, 30, (*picture.shape, 3), dtype=np.uint8)
        frames.append(av.VideoFrame.from_ndarray(noisy, format="rgb24"))
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """Of frames that were read at 64 px, letterboxed."""
    squares = frames[:, 24:48:16, 8:64:16].mean(axis=-1) > 125
    return (squares.reshape(-1, 8) << np.arange(8)).sum(axis=1).tolist()


CONTAINERS = {
    "a.mp4": ("libx264", {}),
    "open groups.mp4": ("libx264", {"options": OPEN}),
    "late.mp4": ("libx264", {"first": 80}),
    "a.mov": ("mpeg4", {}),
    "a.3gp": ("mpeg4", {}),
    "a.mkv": ("libx264", {}),
    "late.mkv": ("libx264", {"first": 80}),
    "open groups.mkv": ("libx265", {"options": QUIET}),
    "av1.mkv": ("libsvtav1", {"options": {"preset": "13"}}),
    "a.webm": ("libvpx-vp9", {"options": FAST}),
    "late.webm": ("libvpx", {"options": FAST, "first": 80}),
    "a.ts": ("libx264", {}),
    "late.ts": ("libx264", {"first": 80}),
    "mpeg2.ts": ("mpeg2video", {"options": {"bf": "2"}}),
    "a.mpg": ("mpeg2video", {"options": {"bf": "2"}}),
    "late.mpg": ("mpeg1video", {"first": 80}),
    "a.vob": ("mpeg2video", {"container_format": "vob"}),
    "a.m2v": ("mpeg2video", {"container_format": "mpeg2video"}),
    "a.avi": ("libx264", {}),
    "mpeg4.avi": ("mpeg4", {"options": {"bf": "2"}}),
    "a.flv": ("libx264", {}),
    "old.flv": ("flv", {}),
    "a.wmv": ("wmv2", {}),
    "a.ogv": ("libvpx", {"options": FAST}),
    "a.ivf": ("libvpx-vp9", {"options": FAST}),
    "a.apng": ("apng", {"pix_fmt": "rgb24", "container_format": "apng"}),
    "a.y4m": ("wrapped_avframe", {"container_format": "yuv4mpegpipe"}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_part_of_any_container_is_that_part_of_the_whole(tmp_path, name):
    codec, facts = CONTAINERS[name]
    facts = {"pix_fmt": "yuv420p", **facts}
    facts["options"] = {"g": "12", "threads": "1", **facts.get("options", {})}
    frames = [frame.reformat(format=facts["pix_fmt"]) for frame in numbered(90)]
    path = encode(tmp_path / name, frames, codec=codec, fps=25, **facts)
    whole = read_clip(path, size_px=64, mode="letterbox")
    assert numbers(whole.frames) == list(range(90))
    assert whole.times_s == pytest.approx(np.arange(90) / 25, abs=2e-3)
    assert whole.source_fps == pytest.approx(25, rel=1e-3)
    for start_s, first, last in ((1.99, 50, 60), (2.39, 60, 70), (2.99, 75, 90)):
        part = read_clip(path, size_px=64, mode="letterbox", start_s=start_s, end_s=start_s + (last - first) / 25)
        np.testing.assert_array_equal(part.frames, whole.frames[first:last])
        np.testing.assert_allclose(part.times_s, whole.times_s[first:last])
    grid = read_clip(path, size_px=64, mode="letterbox", fps=5, start_s=2.21, end_s=3.2)
    assert numbers(grid.frames) == [55, 60, 65, 70, 75]


def test_a_part_is_found_without_decoding_all_before_it(tmp_path, monkeypatch):
    """Where there is an index: it would be as right from the beginning, only slower."""
    path = encode(tmp_path / "a.mp4", numbered(200), codec="libx264", pix_fmt="yuv420p", fps=25, options={"g": "12"})
    seen = []
    monkeypatch.setattr(decoding.Source, "_note", lambda self, frame, time, length: seen.append(time))
    with pytest.raises(ClipRejected):  # without notes, there is no end
        read_clip(path, size_px=16, start_s=6, end_s=6.01)
    assert min(seen) > 4 and len(seen) < 60


# -------------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    ("name", "codec"), [("a.ts", "libx264"), ("a.ts", "mpeg2video"), ("a.mpg", "mpeg2video"), ("a.flv", "flv")]
)
@pytest.mark.parametrize("second", [0, 3, 50_000], ids=["the same clock", "a little later", "far ahead"])
def test_recordings_joined_byte_by_byte_give_all_their_frames(tmp_path, name, codec, second):
    """The second begins its clock anew, ahead or behind; FLV counts in milliseconds and gets no far clock."""
    if name == "a.flv" and second == 50_000:
        pytest.skip("a long still picture, which FLV may hold")
    parts = []
    for first, steps in ((0, range(10)), (second, range(10, 20))):
        frames = [
            av.VideoFrame.from_ndarray(grey_steps(20)[step], format="rgb24").reformat(format="yuv420p")
            for step in steps
        ]
        parts.append(
            encode(
                tmp_path / f"part-{name}",
                frames,
                codec=codec,
                pix_fmt="yuv420p",
                fps=10,
                first=first,
                options={"g": "5"},
            )
        )
        parts[-1] = parts[-1].read_bytes()
    path = tmp_path / name
    path.write_bytes(b"".join(parts) if name != "a.flv" else parts[0] + parts[1][13:])
    clip = read_clip(path, size_px=32)
    assert steps_shown(clip.frames) == list(range(20))
    assert np.diff(clip.times_s) == pytest.approx(np.full(19, 0.1), abs=0.011)
    assert steps_shown(read_clip(path, size_px=32, start_s=1.195, end_s=1.7).frames) == [12, 13, 14, 15, 16]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mov", "mpeg4", {}),
        ("fragments.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.wmv", "wmv2", {}),
        ("a.flv", "libx264", {}),
        ("old.flv", "flv", {}),
    ],
)
def test_files_that_cannot_be_joined_byte_by_byte_are_refused(tmp_path, name, codec, options):
    """FFmpeg stops at the end of the first, or says that all is damaged."""
    with av.open(str(tmp_path / name), "w", container_options=options) as container:
        stream = container.add_stream(codec, rate=10, options={"threads": "1"})
        stream.width = stream.height = 32
        for frame in grey_steps(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert len(read_clip(tmp_path / name, size_px=32).frames) == 10
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content + content)
    with pytest.raises(ClipRejected, match="several files joined end to end.*ffmpeg -f concat"):
        read_clip(tmp_path / name, size_px=32)


def test_a_header_that_was_left_behind_does_not_make_two_files(tmp_path):
    """Programs that move `moov` to the front leave the old one where it was."""
    path = write_clip(tmp_path / "a.mp4", grey_steps(10))
    content = path.read_bytes()
    place = content.index(b"moov") - 4
    path.write_bytes(content + content[place : place + int.from_bytes(content[place : place + 4], "big")])
    assert steps_shown(read_clip(path, size_px=32).frames) == list(range(10))


def test_a_frame_astray_is_left_out_and_shifts_nothing():
    def follow(*stamps):
        course = Course(lambda frame, step: Fraction(1), may_leap=True)
        frames = [(Mock(av.VideoFrame, number=number), Fraction(stamp)) for number, stamp in enumerate(stamps)]
        return [(frame.number, float(time)) for frame, time in course.follow(frames)], course.is_broken

    assert follow(0, 1, 2, 3) == ([(0, 0), (1, 1), (2, 2), (3, 3)], False)
    assert follow(0, 1, 2, 0, 3, 4) == ([(0, 0), (1, 1), (2, 2), (4, 3), (5, 4)], False)
    assert follow(0, 1, 1, 2) == ([(0, 0), (1, 1), (2, 1.5), (3, 2)], False)
    assert follow(5, 6, 7, 2, 3, 4, 9) == ([(0, 5), (1, 6), (2, 7), (3, 8), (4, 9), (5, 10), (6, 15)], True)
    assert follow(5, 6, 2) == ([(0, 5), (1, 6), (2, 7)], True)
    assert follow(0, 1, 100, 101) == ([(0, 0), (1, 1), (2, 2), (3, 3)], True)
    assert follow(0, 1, 2, 0, 1, 0, 1) == ([(n, n) for n in range(7)], True)


@pytest.mark.parametrize("name", ["a.ts", "a.mpg", "a.mkv"])
def test_a_recording_that_begins_between_key_frames_begins_with_its_first_picture(tmp_path, name):
    """Packets of the first group of pictures but for its key frame come first, and nothing can be made of them."""
    source = encode(
        tmp_path / "source.ts",
        [frame.reformat(format="yuv420p") for frame in numbered(48)],
        codec="mpeg2video" if name == "a.mpg" else "libx264",
        pix_fmt="yuv420p",
        fps=8,
        options={"g": "16", "bf": "0", "sc_threshold": "0", "forced-idr": "1"},
    )
    with av.open(str(source)) as old:
        keys = [number for number, packet in enumerate(old.demux(video=0)) if packet.is_keyframe]
    begin = next(number for number in keys if number > 6)
    path = tmp_path / name
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.dts is not None and number >= 6:
                packet.stream = stream
                new.mux(packet)
    clip = read_clip(path, size_px=64, mode="letterbox", fps=8)
    assert numbers(clip.frames) == list(range(begin, 48))
    part = read_clip(path, size_px=64, mode="letterbox", start_s=2.49, end_s=3)
    assert numbers(part.frames) == list(range(begin + 20, begin + 24))


def test_a_late_matroska_lasts_as_long_as_its_frames(tmp_path):
    """The header tells when the last frame ends, not how long all of them last."""
    frames = [frame.reformat(format="yuv420p") for frame in numbered(24)]
    path = encode(tmp_path / "a.mkv", frames, codec="libx264", pix_fmt="yuv420p", fps=8, first=40)
    with av.open(str(path)) as container:
        assert container.start_time == 5_000_000 and container.duration == 8_000_000
    assert numbers(read_clip(path, size_px=64, mode="letterbox", fps=8).frames) == list(range(24))
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    with pytest.raises(ClipRejected, match=r"truncated: only 1\.\d s of 3\.0 s"):
        read_clip(path, size_px=64)


def test_an_edit_list_hides_what_is_before_it(tmp_path):
    """As in an mp4 that was cut without encoding anew: decoding begins with a key frame before the first picture."""
    frames = [frame.reformat(format="yuv420p") for frame in numbered(120)]
    source = encode(tmp_path / "source.mp4", frames, codec="libx264", pix_fmt="yuv420p", fps=25, options={"g": "25"})
    path = tmp_path / "a.mp4"
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                early = round(13 / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, stream
                new.mux(packet)
    assert numbers(read_clip(path, size_px=64, mode="letterbox", fps=25).frames) == list(range(13, 120))
    part = read_clip(path, size_px=64, mode="letterbox", start_s=2.79, end_s=2.99)
    assert numbers(part.frames) == list(range(83, 88))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi"])
def test_indexed_files_joined_byte_by_byte_give_all_their_frames(tmp_path, name):
    codec, _ = CONTAINERS[name]
    parts = []
    for frames in (numbered(160)[:80], numbered(160)[80:]):
        frames = [frame.reformat(format="yuv420p") for frame in frames]
        options = {"g": "12", **(FAST if "vp" in codec else {})}
        part = encode(tmp_path / f"part-{name}", frames, codec=codec, pix_fmt="yuv420p", fps=25, options=options)
        parts.append(part.read_bytes())
    path = tmp_path / name
    path.write_bytes(b"".join(parts))
    assert numbers(read_clip(path, size_px=64, mode="letterbox").frames) == list(range(160))
    for first in (65, 100):
        part = read_clip(path, size_px=64, mode="letterbox", start_s=first / 25 - 0.01, end_s=first / 25 + 0.19)
        assert numbers(part.frames) == list(range(first, first + 5))


def test_sound_that_begins_earlier_shifts_nothing(tmp_path):
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = write_clip(tmp_path / name, grey_steps(16), [2 + i / 8 for i in range(16)], with_sound=True)
        clip = read_clip(path, size_px=32, fps=8)
        assert steps_shown(clip.frames) == list(range(16)) and clip.times_s[0] == 0


def test_an_avi_with_b_frames_begins_with_its_first_frame_once(tmp_path):
    frames = [frame.reformat(format="yuv420p") for frame in numbered(48)]
    path = encode(tmp_path / "a.avi", frames, codec="libx264", pix_fmt="yuv420p", fps=24, options={"bf": "3"})
    assert numbers(read_clip(path, size_px=64, mode="letterbox", fps=24).frames) == list(range(48))
    assert numbers(read_video(path, 8, 8, "letterbox")) == list(range(0, 24, 3))


# ------------------------------------------------------------------------------------------------------------- streams


def two_streams(path: Path, sizes, frames, default: int | None) -> Path:
    with av.open(str(path), "w") as container:
        streams = []
        for place, size in enumerate(sizes):
            stream = container.add_stream("libx264", rate=8, options={"g": "4"})
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.disposition = av.stream.Disposition(int(place == default))
            streams.append(stream)
        for index in range(max(frames)):
            for stream, count in zip(streams, frames, strict=True):
                if index < count:
                    picture = np.full((stream.height, stream.width, 3), 20 + 10 * index, np.uint8)
                    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                    frame.pts, frame.time_base = index, Fraction(1, 8)
                    container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("default", [0, 1])
def test_the_stream_that_is_marked_is_read(tmp_path, default):
    path = two_streams(tmp_path / "a.mkv", (32, 48), (16, 16), default)
    assert read_clip(path, size_px=32).source_width == (32, 48)[default]


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("png")
        cover.width, cover.height, cover.pix_fmt = 128, 128, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for picture in grey_steps(1, 128):
            container.mux(cover.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for index, picture in enumerate(grey_steps(8)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 8)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert {stream.width for stream in container.streams.video} == {32, 128}
    clip = read_clip(path, size_px=32)
    assert (clip.source_width, len(clip.frames)) == (32, 8)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_is_cropped_away_on_the_left_is_not_decoded(tmp_path, codec):
    """By the bitstream itself, and by a number of columns that suits no processor's alignment."""
    frames = []
    for _ in range(3):
        picture = quarters(64, 128)
        picture[:, :10] = 255
        frames.append(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p"))
    whole = encode(
        tmp_path / "whole.ts", frames, codec=codec, pix_fmt="yuv420p", options={"x265-params": "log-level=none"}
    )
    path = tmp_path / "a.ts"
    kind = "h264_metadata" if codec == "libx264" else "hevc_metadata"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        crop = av.BitStreamFilterContext(f"{kind}=crop_left=10", old.streams.video[0], stream)
        for packet in old.demux(video=0):
            for cropped in crop.filter(packet if packet.dts is not None else None):
                cropped.stream = stream
                new.mux(cropped)
    clip = read_clip(path, size_px=118, mode="letterbox")
    assert clip.source_width == 118
    assert np.abs(clip.frames[1, 40, 0].astype(int) - (200, 40, 40)).max() <= 12


# -------------------------------------------------------------------------------------------------------------- fields


def interlaced(field: str, num_frames: int) -> list[av.VideoFrame]:
    """A bar that moves 4 px a field, every other line of a frame from the later one."""
    moments = moving_bar(2 * num_frames, 64, 64)
    graph = av.filter.Graph()
    source = graph.add_buffer(width=64, height=64, format="yuv420p", time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", field), graph.add("buffersink")).configure()
    frames = []
    for index in range(num_frames):
        picture = moments[2 * index].copy()
        later = slice(1, None, 2) if field == "tff" else slice(0, None, 2)
        picture[later] = moments[2 * index + 1][later]
        frame = (
            av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv422p").reformat(format="yuv420p")
        )
        frame.pts, frame.time_base = index, Fraction(1, 25)
        graph.push(frame)
        frames.append(graph.pull())
    return frames


INTERLACED = {
    "a.mpg": "mpeg2video",
    "mpeg2.ts": "mpeg2video",
    "a.ts": "libx264",
    "a.mkv": "ffv1",
    "a.mov": "mpeg4",
    "a.mp4": "libx264",
}


@pytest.mark.parametrize("field", ["tff", "bff"])
@pytest.mark.parametrize("name", INTERLACED)
def test_fields_become_whole_pictures(tmp_path, name, field):
    codec = INTERLACED[name]
    options = {"flags": "+ilme+ildct", "qscale": "2", "crf": "8", "g": "12"}
    options = {} if codec == "ffv1" else options
    path = encode(tmp_path / name, interlaced(field, 80), codec=codec, pix_fmt="yuv420p", fps=25, options=options)
    clip = read_clip(path, size_px=64)
    assert len(clip.frames) == 80
    lines = clip.frames[4:76].astype(int).mean(axis=-1)
    assert np.abs(lines[:, 1:-2] - lines[:, 2:-1]).mean() < 2.5, "lines of two moments beside each other"
    moments = moving_bar(160, 64, 64).astype(int).mean(axis=-1)
    earlier, later = (np.abs(lines - moments[8 + field : 152 : 2]).mean() for field in (0, 1))
    assert earlier < 0.5 * later, "the moment is that of the field that comes first"
    part = read_clip(path, size_px=64, start_s=2.59, end_s=2.99)
    chosen = (clip.times_s > 2.59) & (clip.times_s < 2.99)
    np.testing.assert_array_equal(part.frames, clip.frames[chosen])
    finder = CutFinder()
    grid = read_clip(path, size_px=64, fps=8, watcher=finder)
    assert len(grid.frames) == 26 and grid.source_fps == pytest.approx(25, rel=1e-3)
    assert finder.finish() == []


def test_only_frames_of_fields_go_through_the_filter(tmp_path):
    """Progressive frames among them, and a file of nothing else, keep every bit."""
    woven = interlaced("tff", 6)
    plain = [in_yuv(picture) for picture in moving_bar(6, 64, 64)]
    exact = [frame.to_ndarray(format="rgb24") for frame in plain]
    mixed = [*plain[:2], *woven, *plain[2:]]
    for frame in mixed:
        frame.time_base = Fraction(1, 25)
    given = list(deinterlaced((frame, Fraction(place)) for place, frame in enumerate(mixed)))
    assert [int(time) for _, time in given] == list(range(12))
    for place, picture in zip((0, 1, 8, 9, 10, 11), exact, strict=True):
        np.testing.assert_array_equal(given[place][0].to_ndarray(format="rgb24"), picture)


def test_damage_is_reported_after_the_frames_before_it():
    def frames():
        for place, frame in enumerate(interlaced("bff", 4)):
            yield frame, Fraction(place)
        raise ValueError("damage")

    given = []
    with pytest.raises(ValueError, match="damage"):
        for pair in deinterlaced(frames()):
            given.append(pair)
    assert [int(time) for _, time in given] == [0, 1, 2, 3]


# ---------------------------------------------------------------------------------------------------- animated pictures


def animation(path: Path, num_frames: int = 12, **options) -> Path:
    pictures = []
    for step in range(num_frames):
        picture = np.zeros((32, 32, 4), np.uint8)
        picture[:16] = (20 + 10 * step, 20 + 10 * step, 20 + 10 * step, 255)
        pictures.append(Image.fromarray(picture))
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **{"duration": 125, **options})
    return path


KINDS = [("webp", {"lossless": True, "exact": True}), ("apng", {"format": "PNG"})]
KINDS += [("avif", {"quality": 100, "subsampling": "4:4:4"})] if features.check("avif") else []


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_animated_pictures_are_clips(tmp_path, kind, options):
    path = animation(tmp_path / f"a.{kind}", **options)
    clip = read_clip(path, size_px=32)
    assert clip.times_s == pytest.approx(np.arange(12) / 8) and clip.source_fps == 8
    assert np.abs(clip.frames[:, 8, 8].astype(int) - (20 + 10 * np.arange(12))[:, None]).max() <= 3
    assert clip.frames[:, 24, 8].min() >= 253, "over white"
    part = read_clip(path, size_px=32, start_s=0.5, end_s=1)
    np.testing.assert_array_equal(part.frames, clip.frames[4:8])
    np.testing.assert_array_equal(read_video(path, 6, 4), clip.frames[::2])


def test_what_the_product_writes_it_reads_bit_for_bit(tmp_path):
    frames = moving_bar(12, 32, 32)
    path = video.save(frames, tmp_path / "a.webp", 8)
    np.testing.assert_array_equal(read_clip(path, size_px=32, fps=8).frames, frames)


def test_hurried_frames_last_as_long_as_in_browsers(tmp_path):
    path = animation(tmp_path / "a.webp", 4, duration=[10, 11, 0, 125])
    assert read_clip(path, size_px=32).times_s == pytest.approx([0, 0.1, 0.111, 0.211])


@pytest.mark.parametrize("suffix", [kind for kind, _ in KINDS])
def test_damaged_animations_are_refused(tmp_path, suffix):
    whole = animation(tmp_path / f"a.{suffix}", **dict(KINDS)[suffix]).read_bytes()
    for share in (0.05, 0.5, 0.9):
        path = tmp_path / f"{share}.{suffix}"
        path.write_bytes(whole[: int(share * len(whole))])
        try:
            assert len(read_clip(path, size_px=32).frames) < 12
        except ClipRejected as refused:
            assert refused.reason


# ---------------------------------------------------------------------------------------------------- other containers


OTHERS = {"a.nut": "mpeg4", "a.mxf": "mpeg2video", "a.mjpeg": "mjpeg", "a.swf": "flv"}


@pytest.mark.parametrize("name", OTHERS)
def test_an_unsupported_container_is_reported(tmp_path, name):
    pix_fmt = "yuvj420p" if OTHERS[name] == "mjpeg" else "yuv420p"
    frames = [frame.reformat(format=pix_fmt) for frame in numbered(16)]
    path = encode(tmp_path / name, frames, codec=OTHERS[name], pix_fmt=pix_fmt, fps=25)
    with pytest.raises(ClipRejected, match=r"its container is not supported \(mp4, .*convert it"):
        read_clip(path, size_px=32)


def test_data_prep_gives_the_reason_for_every_refused_file(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    video.save(moving_bar(16, 32, 32), folder / "a.webp", 8)
    Image.fromarray(quarters()).save(folder / "still.webp")
    write_clip(folder / "b.mp4", moving_bar(16, 32, 32))
    frames = [frame.reformat(format="yuv420p") for frame in numbered(16)]
    encode(folder / "c.mxf", frames, codec="mpeg2video", pix_fmt="yuv420p", fps=25)
    (folder / "notes.md").write_text("no video")
    for name in ("a", "b", "c", "still"):
        (folder / f"{name}.txt").write_text("a bar moves right\n")
    assert exit_code(lambda: main(["folder", str(folder), "--out", str(tmp_path / "out"), "--size-px", "32"])) == 0
    told = {
        row["id"]: row["reason"] for row in map(json.loads, (tmp_path / "out/rejected.jsonl").read_text().splitlines())
    }
    assert set(told) == {"c.mxf", "still.webp"}
    assert "container" in told["c.mxf"] and "single image" in told["still.webp"]
    taken = [json.loads(line)["id"] for line in (tmp_path / "out/clips.jsonl").read_text().splitlines()]
    assert sorted(taken) == ["a.webp", "b.mp4"]


def test_a_file_with_a_hole_of_gigabytes_is_given_up(tmp_path: Path):
    """FFmpeg looks through all of it for the next picture, some minutes long."""
    path = tmp_path / "holes.gif"
    pictures = [Image.new("L", (16, 16), 20 * step) for step in range(5)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    assert len(read_clip(path, size_px=16, patience_s=20).frames) == 5
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 1)
        file.seek(8 * 2**30)
        file.write(b";")
    with pytest.raises(ClipRejected, match="no further frame could be read for 0.1 s"):
        read_clip(path, size_px=16, patience_s=0.1)
