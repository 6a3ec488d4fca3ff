"""What a study shows: only what every browser plays is copied, and pictures stand as the videos do."""

import itertools
import json
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from rating import SYSTEMS, write_material
from video_files import moving_bar, scheduled_as_before, set_display_matrix, write_clip

from cdcd_video.data.clips import read_clip
from cdcd_video.errors import UserError
from cdcd_video.rate.prepare import make
from cdcd_video.rate.shelf import Shelf, first_frame
from cdcd_video.rate.study import Recipe

CORNERS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "grey": (220, 220, 220)}


def corners(height: int = 48, width: int = 64) -> np.ndarray:
    """A picture of four quarters, so that its orientation can be told: red, green / blue, grey."""
    picture = np.empty((height, width, 3), np.uint8)
    for (down, right), colour in zip(itertools.product((0, 1), (0, 1)), CORNERS.values(), strict=True):
        rows = slice(down * height // 2, (down + 1) * height // 2)
        picture[rows, right * width // 2 : (right + 1) * width // 2] = colour
    return picture


def told(picture: np.ndarray) -> list[str]:
    """The colours of the four quarters."""
    height, width = picture.shape[:2]
    found = [picture[height * i // 4, width * j // 4].astype(int) for i, j in itertools.product((1, 3), (1, 3))]
    return [min(CORNERS, key=lambda name: np.abs(np.array(CORNERS[name]) - one).sum()) for one in found]


@scheduled_as_before()
def write_coded(path: Path, codec: str, layout: str = "yuv420p", **options: str) -> Path:
    """A short video in the codec and layout of pixels asked for."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, layout
        for pixels in moving_bar(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=layout)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "layout", "options", "suffix"),
    [
        ("a.mp4", "libx264", "yuv420p", {}, ".mp4"),
        ("a.mp4", "libx264", "yuvj420p", {}, ".mp4"),
        ("a.mp4", "libx264", "yuv420p", {"profile": "baseline", "level": "62"}, ".mp4"),
        ("a.mp4", "libx264", "yuv420p", {"profile": "main", "x264-params": "interlaced=1"}, ".mp4"),
        ("a.mov", "libx264", "yuv420p", {}, ".mp4"),
        ("a.mkv", "libx264", "yuv420p", {"bf": "2"}, ".mp4"),
        ("a.webm", "libvpx", "yuv420p", {}, ".webm"),
        ("a.mkv", "libvpx", "yuv420p", {}, ".webm"),
        ("a.webm", "libvpx-vp9", "yuv420p", {"cpu-used": "8"}, ".webm"),
        ("a.mp4", "libvpx-vp9", "yuv420p", {"cpu-used": "8"}, ".mp4"),
        ("a.mp4", "libsvtav1", "yuv420p", {"preset": "12"}, ".mp4"),
        ("a.webm", "libsvtav1", "yuv420p", {"preset": "12"}, ".webm"),
        ("a.mp4", "libsvtav1", "yuv420p10le", {"preset": "12"}, ".mp4"),
    ],
)
def test_what_every_browser_plays_is_copied(
    tmp_path: Path, name: str, codec: str, layout: str, options: dict, suffix: str
):
    path = write_coded(tmp_path / name, codec, layout, **options)
    shelf = Shelf(tmp_path / "study")
    key, _ = shelf.add_video(path)
    copy = tmp_path / "study" / shelf.media[key].file
    before, after = read_clip(path, size_px=48), read_clip(copy, size_px=48)
    np.testing.assert_array_equal(before.frames, after.frames)
    assert copy.suffix == suffix and before.fps == after.fps and shelf.media[key].seconds == pytest.approx(3 / 8)


@pytest.mark.parametrize(
    ("name", "codec", "layout", "options", "kind"),
    [
        ("a.mp4", "libx264", "yuv444p", {}, "h264 (High 4:4:4 Predictive, yuv444p)"),
        ("a.mov", "libx264", "yuv422p", {}, "h264 (High 4:2:2, yuv422p)"),
        ("a.mp4", "libx264", "yuv420p10le", {}, "h264 (High 10, yuv420p10le)"),
        ("a.mp4", "libx264", "yuv420p", {"crf": "0"}, "h264 (High 4:4:4 Predictive, yuv420p)"),  # lossless
        ("a.mp4", "libx264rgb", "rgb24", {}, "h264 (High 4:4:4 Predictive, gbrp)"),
        ("a.mp4", "libx265", "yuv420p", {"x265-params": "log-level=none"}, "hevc"),
        ("a.webm", "libvpx-vp9", "yuv444p", {"cpu-used": "8"}, "vp9 (Profile 1, yuv444p)"),
        ("a.mp4", "mpeg4", "yuv420p", {}, "mpeg4"),
        ("a.mov", "mjpeg", "yuvj420p", {}, "mjpeg"),
        ("a.mov", "prores_ks", "yuv422p10le", {}, "prores"),
    ],
)
def test_what_some_browsers_do_not_play_is_refused_by_name(
    tmp_path: Path, name: str, codec: str, layout: str, options: dict, kind: str
):
    path = write_coded(tmp_path / name, codec, layout, **options)
    with pytest.raises(UserError, match="browsers do not play; convert it to 8-bit H.264") as caught:
        Shelf(tmp_path / "study").add_video(path)
    assert f"is coded as {kind}, which" in str(caught.value) and not list(tmp_path.glob("study/**/*.*"))


def test_transparent_video_is_refused(tmp_path: Path):
    path = write_coded(tmp_path / "a.webm", "libvpx-vp9", "yuva420p", **{"cpu-used": "8"})
    with pytest.raises(UserError, match="has transparent pixels"):
        Shelf(tmp_path / "study").add_video(path)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_refused(tmp_path: Path, transfer: int):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = transfer, 9, 9
        for pixels in moving_bar(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="is HDR, which browsers and screens show differently"):
        Shelf(tmp_path / "study").add_video(path)


def test_sound_and_further_streams_stay_behind(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", moving_bar(4), with_sound=True)
    shelf = Shelf(tmp_path / "study")
    key, _ = shelf.add_video(path)
    with av.open(str(tmp_path / "study" / shelf.media[key].file)) as copy:
        assert [stream.type for stream in copy.streams] == ["video"] and copy.duration == av.time_base // 2


MATRICES = {
    (1, 0, 0, 1): "red green blue grey",
    (0, -1, 1, 0): "green grey red blue",
    (-1, 0, 0, -1): "grey blue green red",
    (0, 1, -1, 0): "blue red grey green",
    (-1, 0, 0, 1): "green red grey blue",  # the same, mirrored
    (0, -1, -1, 0): "grey green blue red",
    (1, 0, 0, -1): "blue grey red green",
    (0, 1, 1, 0): "red blue green grey",
}
"""All orientations: the pixel (x, y) is shown at (a x + c y, b x + d y)."""


def write_turned(path: Path, matrix: tuple[int, ...], times_s: list[float] | None = None) -> Path:
    """Four quarters with a display matrix, in an mp4 or a WebM."""
    first = path.with_name("first.mp4")
    codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
    write_clip(first, np.stack([corners()] * 4), times_s, codec=codec)
    set_display_matrix(first, *matrix)
    if path.suffix == ".mp4":
        return first.rename(path)
    with av.open(str(first)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    first.unlink()
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_picture_and_video_stand_alike_in_every_browser(tmp_path: Path, matrix: tuple[int, ...], suffix: str):
    """What only some browsers turn (mirrors; in WebM all) is written anew as it is shown; no header turns it then."""
    shown, is_turned = MATRICES[matrix].split(), matrix[0] == 0
    shape = (64, 48, 3) if is_turned else (48, 64, 3)
    for system in SYSTEMS[:2]:
        (tmp_path / system).mkdir()
        write_turned(tmp_path / system / f"one{suffix}", matrix)
    recipe = Recipe(
        videos={one: one for one in SYSTEMS[:2]}, frames_from=SYSTEMS[1], questions=["first_frame"], checks=1
    )
    study = make(recipe, tmp_path, tmp_path / "study")
    (item,) = study.items
    files = [tmp_path / "study" / study.media[name].file for name in (item.frame, item.noise, *item.videos.values())]
    with Image.open(files[0]) as image:
        assert np.array(image).shape == shape and told(np.array(image)) == shown
    for file in files[1:]:
        clip = read_clip(file, size_px=64)
        assert (clip.source_height, clip.source_width) == shape[:2] and len(clip.frames) == 4
        assert file == files[1] or told(clip.frames[0]) == shown
    is_mirrored = matrix[0] * matrix[3] < matrix[1] * matrix[2]
    is_left_to_header = suffix == ".mp4" and not is_mirrored
    with av.open(str(files[2])) as container:
        frame = next(container.decode(video=0))
        assert (frame.width, frame.height) == (shape[1::-1] if not is_left_to_header else (64, 48))
        assert is_left_to_header or frame.rotation == 0


def test_uneven_times_cannot_be_written_anew(tmp_path: Path):
    path = write_turned(tmp_path / "a.webm", (0, -1, 1, 0), [0, 0.1, 0.5, 0.6])
    with pytest.raises(UserError, match="a copy of .* differs from the original; convert it"):
        Shelf(tmp_path / "study").add_video(path)


def test_the_starting_picture_has_square_pixels(tmp_path: Path):
    path = write_clip(tmp_path / "a.mp4", np.stack([corners()] * 2), sample_aspect=Fraction(2))
    assert first_frame(path).shape == (48, 128, 3) and told(first_frame(path)) == list(CORNERS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_pictures_of_the_table_stand_as_a_camera_notes(tmp_path: Path, orientation: int, suffix: str):
    upright = Image.fromarray(corners())
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what undoes the turn that a viewer makes (Pillow's numbers)
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(back[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    recipe = write_material(tmp_path, 1)
    stored.save(tmp_path / "pictures" / f"turned{suffix}", exif=exif, quality=95)
    (tmp_path / "prompts.tsv").write_text(f"file\tprompt\tframe\n<b>last\tit\tpictures/turned{suffix}\n")
    study = make(recipe.model_copy(update={"checks": 0}), tmp_path, tmp_path / "study")
    with Image.open(tmp_path / "study" / study.media[study.items[0].frame].file) as image:
        assert image.size == (64, 48) and told(np.array(image)) == list(CORNERS)


def test_a_record_beside_a_video_is_a_plain_file_of_its_folder(tmp_path: Path):
    recipe = write_material(tmp_path, 1)
    beside = tmp_path / SYSTEMS[0] / "<b>last.json"
    os.mkfifo(beside)  # is no record, and nobody waits for it
    make(recipe, tmp_path, tmp_path / "with a pipe")
    beside.unlink()
    (tmp_path / "elsewhere.json").write_text(json.dumps({"text": [[0, "secret"]]}))
    beside.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match="points outside the folder"):
        make(recipe, tmp_path, tmp_path / "study")


def test_files_that_a_file_manager_left_behind_are_no_videos(tmp_path: Path):
    recipe = write_material(tmp_path, 1)
    (tmp_path / SYSTEMS[0] / "._<b>last.mp4").write_bytes(b"\0\5\x16\7")
    study = make(recipe, tmp_path, tmp_path / "study")
    assert [item.name for item in study.items] == ["<b>last"]
