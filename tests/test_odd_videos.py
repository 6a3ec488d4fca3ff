"""Videos that are valid and yet unlike others: what they show is read as players show it, or refused with the reason."""

import io
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock, PropertyMock

import av
import numpy as np
import pytest
from PIL import Image
from video_files import encode, grey_steps, moving_bar, steps_shown

from cdcd_video.data import animations
from cdcd_video.data.clips import ClipRejected, read_clip
from cdcd_video.data.colour import matrix_profile
from cdcd_video.data.decoding import Source, open_video
from cdcd_video.data.display import placing_of
from cdcd_video.data.images import MOST_WHOLE_BYTES, read_image

P3 = matrix_profile((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06), 2.2)


def coded(pictures: Sequence[np.ndarray], pix_fmt: str = "yuv420p") -> list[av.VideoFrame]:
    return [av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt) for picture in pictures]


def remuxed(source: Path, target: Path, keep: Callable[[int], bool]) -> Path:
    """A copy, in another container, of the packets whose numbers are kept."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(given.demux(video=0)):
            if packet.size and keep(number):
                packet.stream = stream
                made.mux(packet)
    return target


def with_subtitles(source: Path, target: Path, seconds: int) -> Path:
    """A copy in another container with words that are shown up to a time."""
    words = target.with_suffix(".srt")
    words.write_text(f"1\n00:00:00,000 --> 00:00:{seconds:02},000\nit moves\n")
    with av.open(str(source)) as video, av.open(str(words)) as text, av.open(str(target), "w") as made:
        for given in (text, video):
            made.add_stream_from_template(given.streams[0])
        for given, stream in zip((text, video), made.streams, strict=True):
            for packet in given.demux():
                if packet.size:
                    packet.stream = stream
                    made.mux(packet)
    return target


def with_profile(path: Path, profile: bytes, **options) -> Path:
    pictures = [Image.fromarray(np.full((16, 16, 3), (200, 40, 40 + step), np.uint8)) for step in range(5)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, icc_profile=profile, **options)
    return path


@pytest.mark.parametrize("codec", ["png", "apng"])
def test_frames_of_png_are_not_asked_for_side_data(codec: str):
    frame = Mock(av.VideoFrame, rotation=90)
    type(frame).side_data = PropertyMock(side_effect=AssertionError("it was asked"))
    assert placing_of(frame, codec) == (0, -1, 1, 0)
    with pytest.raises(AssertionError, match="it was asked"):
        placing_of(frame, "h264")


def test_the_profile_of_a_moving_png_is_heeded(tmp_path: Path):
    """The profile is read as that of a picture, and given to the reader of the frames."""
    picture = Image.fromarray(np.full((16, 16, 3), (200, 40, 40), np.uint8))
    picture.save(tmp_path / "still.png", icc_profile=P3)
    assert animations._profile_of_png(tmp_path / "still.png") == P3
    path = encode(
        tmp_path / "a.png",
        coded(5 * [np.asarray(picture)], "rgb24"),
        codec="apng",
        pix_fmt="rgb24",
        container_format="apng",
    )
    assert animations._profile_of_png(path) is None
    with open_video(path) as container:
        source = Source(container, Fraction(0), P3)
        shown = [source.pixels(frame, 16, "crop") for frame, _ in source]
    assert len(shown) == 5 and np.abs(shown[0].astype(int) - read_image(tmp_path / "still.png")).max() <= 1


def test_a_moving_png_that_a_camera_turned_is_turned_to_its_end(tmp_path: Path):
    """FFmpeg tells of the orientation with the first frame alone."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = [Image.fromarray(np.full((16, 32, 3), 40 * step, np.uint8)) for step in range(4)]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=100, exif=exif)
    with open_video(tmp_path / "a.png") as container:
        source = Source(container, Fraction(0))
        placings = {source.placing(frame) for frame, _ in source}
        assert (source.display_width, source.display_height) == (16, 32) and len(placings) == 1


@pytest.mark.parametrize(("name", "options"), [("a.webp", {"lossless": True}), ("a.avif", {"quality": 100})])
def test_the_profile_of_an_animation_is_heeded_as_that_of_a_picture(tmp_path: Path, name: str, options: dict):
    path = with_profile(tmp_path / name, P3, **options)
    picture = read_image(path)
    assert picture[8, 8, 0] > 210 and picture[8, 8, 1] < 20
    clip = read_clip(path, size_px=16)
    assert len(clip.frames) == 5 and np.abs(clip.frames[0].astype(int) - picture).max() <= 2


def test_an_animated_avif_in_hdr_is_refused_as_a_picture_is(tmp_path: Path):
    path = with_profile(tmp_path / "a.avif", b"", quality=100)
    content = path.read_bytes()
    place = content.index(b"colrnclx") + 8
    path.write_bytes(content[:place] + struct.pack(">HH", 9, 16) + content[place + 4 :])
    with pytest.raises(ClipRejected, match=r"it is HDR \(PQ\)"):
        read_clip(path, size_px=16)


@pytest.mark.parametrize("name", ["a.webp", "a.avif"])
def test_an_animation_that_would_be_read_at_once_has_a_limit(tmp_path: Path, name: str):
    path = with_profile(tmp_path / name, b"")
    with open(path, "r+b") as file:
        file.truncate(MOST_WHOLE_BYTES + 1)
    with pytest.raises(ClipRejected, match="it has more than 512 MiB"):
        read_clip(path, size_px=16)


def test_the_last_frames_of_avi_have_the_times_of_their_packets(tmp_path: Path):
    """Copied from mp4: its clock ticks 600 times a second, and a frame is said to last one tick."""
    options = {"bf": "3", "g": "20", "threads": "1"}
    source = encode(
        tmp_path / "a.ts", coded(grey_steps(20)), codec="libx264", pix_fmt="yuv420p", fps=10, options=options
    )
    with av.open(str(source)) as given, av.open(str(tmp_path / "a.avi"), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        stream.time_base = Fraction(1, 600)
        for number, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            packet.stream, packet.time_base = stream, Fraction(1, 600)
            packet.pts = packet.dts = 60 * number
            packet.duration = 1
            made.mux(packet)
    clip = read_clip(tmp_path / "a.avi", size_px=32)
    assert steps_shown(clip.frames) == list(range(20))
    assert clip.times_s == pytest.approx(np.arange(20) / 10, abs=0.002) and clip.source_fps == pytest.approx(
        10, rel=0.01
    )
    assert len(read_clip(tmp_path / "a.avi", size_px=32, fps=10).frames) == 20


def test_a_picture_that_stays_is_no_damage(tmp_path: Path):
    """Screen recorders write an empty packet for it."""
    path = encode(tmp_path / "a.mkv", coded(grey_steps(6)), codec="libvpx", pix_fmt="yuv420p", fps=10)
    with av.open(str(path)) as given, av.open(str(tmp_path / "b.mkv"), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in [packet for packet in given.demux(video=0) if packet.size]:
            kept = packet
            if packet.pts == 300:
                kept = av.Packet(b"")
                kept.pts, kept.dts, kept.time_base, kept.duration = (
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                    packet.duration,
                )
            kept.stream = stream
            made.mux(kept)
    clip = read_clip(tmp_path / "b.mkv", size_px=32, fps=10)
    assert len(clip.frames) == 6 and np.array_equal(clip.frames[3], clip.frames[2])


def test_what_else_is_in_a_file_does_not_make_its_video_too_short(tmp_path: Path):
    path = encode(tmp_path / "a.mp4", coded(grey_steps(10)), codec="libx264", pix_fmt="yuv420p", fps=10)
    longer = with_subtitles(path, tmp_path / "a.mkv", 9)
    with av.open(str(longer)) as container:
        assert container.duration > 8e6 and len(container.streams) == 2
    assert len(read_clip(longer, size_px=32).frames) == 10


def test_a_wmv_that_begins_late_is_whole_and_one_that_was_cut_is_not(tmp_path: Path):
    path = encode(tmp_path / "a.wmv", coded(moving_bar(20)), codec="wmv2", pix_fmt="yuv420p", fps=10, first=24)
    assert len(read_clip(path, size_px=32).frames) == 20
    content = path.read_bytes()
    path.write_bytes(content[: int(0.6 * len(content))])
    with pytest.raises(ClipRejected, match="it is truncated"):
        read_clip(path, size_px=32)


def test_hevc_with_transparency_is_refused(tmp_path: Path):
    """PyAV's x265 writes none; the message that tells of it (H.265, F.14.2.8) is put into a file."""
    options = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
    path = encode(tmp_path / "a.ts", coded(moving_bar(4, 64, 64)), codec="libx265", pix_fmt="yuv420p", options=options)
    assert len(read_clip(path, size_px=32).frames) == 4
    with av.open(str(path)) as given, av.open(str(tmp_path / "b.ts"), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for packet in [packet for packet in given.demux(video=0) if packet.size]:
            other = av.Packet(bytes.fromhex("000000014e01a50400007f9080") + bytes(packet))
            other.pts, other.dts, other.time_base, other.stream = packet.pts, packet.dts, packet.time_base, stream
            other.is_keyframe = packet.is_keyframe
            made.mux(other)
    with pytest.raises(ClipRejected, match="transparent HEVC, which is not supported; convert it to VP9"):
        read_clip(tmp_path / "b.ts", size_px=32)


def test_the_first_frame_keeps_its_lines_where_all_is_marked_as_interlaced(tmp_path: Path):
    still = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    frames = coded([still] * 4, "yuv444p")
    graph = av.filter.Graph()
    source = graph.add_buffer(width=64, height=64, format=frames[0].format, time_base=Fraction(1, 8))
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv444p"
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, Fraction(1, 8)
            graph.push(frame)
            container.mux(stream.encode(graph.pull()))
        container.mux(stream.encode(None))
    shown = read_clip(path, size_px=64).frames.astype(int)
    assert np.abs(shown - shown[2]).mean(axis=(1, 2, 3)).max() < 1
    assert np.abs(shown - still).mean() < 8


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.avif"])
@pytest.mark.parametrize(("told_ms", "shown_s"), [(0, 0.1), (10, 0.1), (20, 0.02)])
def test_delays_that_browsers_do_not_heed_are_not_heeded(tmp_path: Path, name: str, told_ms: int, shown_s: float):
    pictures = [Image.fromarray(np.full((16, 16, 3), 40 * step, np.uint8)) for step in range(5)]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=told_ms)
    clip = read_clip(tmp_path / name, size_px=16)
    assert clip.times_s == pytest.approx(shown_s * np.arange(5), abs=1e-3)


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("mpeg4", "a.mkv"),
        ("mpeg4", "a.avi"),
        ("msmpeg4", "a.avi"),
        ("wmv2", "a.wmv"),
        ("libx264", "a.mkv"),
        ("mpeg2video", "a.ts"),
    ],
)
def test_a_recording_that_begins_between_whole_pictures_begins_with_one(tmp_path: Path, codec: str, name: str):
    options = {"g": "10", "threads": "1", "sc_threshold": "1000000000"} | (
        {"x264-params": "scenecut=0"} if "264" in codec else {}
    )
    whole = encode(tmp_path / f"whole-{name}", coded(grey_steps(20)), codec=codec, pix_fmt="yuv420p", options=options)
    cut = remuxed(whole, tmp_path / name, lambda number: number >= 5)
    assert steps_shown(read_clip(cut, size_px=32).frames)[0] == 10


def test_a_tiff_of_32_bits_is_refused_however_small_its_numbers(tmp_path: Path):
    from cdcd_video.errors import UserError

    Image.fromarray(np.full((8, 8), 200, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(UserError, match="holds 32-bit pixels"):
        read_image(tmp_path / "a.tif")


def gif() -> bytes:
    file = io.BytesIO()
    pictures = [
        Image.fromarray(np.random.default_rng(step).integers(0, 256, (24, 24, 3), dtype=np.uint8)) for step in range(6)
    ]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=100)
    return file.getvalue()


@pytest.mark.parametrize(
    "behind", [b"<!-- made by a program -->", b"\0" * 200, gif()], ids=["words", "zeros", "another"]
)
def test_what_stands_behind_the_end_of_a_gif_is_nobodys_business(tmp_path: Path, behind: bytes):
    (tmp_path / "a.gif").write_bytes(gif() + behind)
    assert len(read_clip(tmp_path / "a.gif", size_px=16).frames) >= 6


@pytest.mark.parametrize("end", [b"", b";"], ids=["cut", "cut, and ended"])
def test_a_gif_that_was_cut_is_refused(tmp_path: Path, end: bytes):
    content = gif()
    (tmp_path / "a.gif").write_bytes(content[: int(0.7 * len(content))] + end)
    with pytest.raises(ClipRejected, match="it is truncated|it is corrupt"):
        read_clip(tmp_path / "a.gif", size_px=16)
