"""Colours, transparency and orientation of videos, against closed forms and pictures of four colours."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from video_files import QUARTERS, encode, quarters, quarters_of, set_display_matrix, write_clip

from cdcd_video.data.clips import ClipRejected, read_clip
from cdcd_video.data.display import Refused, to_srgb

# Kr and Kb of the matrices of H.273.
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
BT2020 = (0.2627, 0.0593)
BT2020_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""As ITU-R BT.2087 prints it."""
SAMPLES = (*QUARTERS, (255, 255, 255), (0, 0, 0))
UNKNOWN = 2


def coded(
    colour: tuple[int, int, int], pix_fmt: str, weights: tuple[float, float], *, full: bool = False, size: int = 16
):
    """A frame of one colour in YCbCr, without a word on its matrix."""
    bits = int(pix_fmt.partition("p")[2].removesuffix("le") or 8)
    red, green, blue = (value / 255 for value in colour)
    luma = weights[0] * red + (1 - sum(weights)) * green + weights[1] * blue
    chroma = np.array([(blue - luma) / (1 - weights[1]), (red - luma) / (1 - weights[0])]) / 2
    top = (1 << bits) - 1
    if full:
        values = [top * luma, *(top * chroma + (1 << (bits - 1)))]
    else:
        values = [step * 2 ** (bits - 8) for step in (16 + 219 * luma, *(128 + 224 * chroma))]
    frame = av.VideoFrame(16, size, pix_fmt)
    dtype = np.dtype(np.uint8 if bits == 8 else np.uint16)
    for plane, value in zip(frame.planes, [*values, top], strict=False):
        plane.update(np.full(plane.buffer_size // dtype.itemsize, min(top, round(value)), dtype).tobytes())
    frame.color_range = 2 if full else 1
    return frame


def shown(frame: av.VideoFrame, **tags: int) -> np.ndarray:
    for name, number in tags.items():
        setattr(frame, name, number)
    return to_srgb(frame)[8, 8].astype(int)


# ------------------------------------------------------------------------------------------------------------ matrices


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "yuva420p", "yuv420p10le", "yuv422p12le"])
def test_a_matrix_that_is_named_is_used(matrix, full, pix_fmt):
    for colour in SAMPLES:
        frame = coded(colour, pix_fmt, WEIGHTS[matrix], full=full)
        assert np.abs(shown(frame, colorspace=matrix) - colour).max() <= 1, colour


@pytest.mark.parametrize(
    ("lines", "weights"), [(16, WEIGHTS[6]), (718, WEIGHTS[6]), (720, WEIGHTS[1]), (722, WEIGHTS[1])]
)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv420p10le"])
@pytest.mark.parametrize("told", [0, UNKNOWN])
def test_without_a_matrix_the_number_of_lines_decides(lines, weights, pix_fmt, told):
    full = pix_fmt == "yuvj420p"
    for colour in QUARTERS:
        plain = coded(colour, "yuv420p" if full else pix_fmt, weights, full=full, size=lines)
        frame = plain.reformat(format=pix_fmt) if full else plain
        assert np.abs(shown(frame, colorspace=told) - colour).max() <= 1, colour


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mkv", "libx264rgb", "bgr24"),
        ("b.mkv", "libvpx-vp9", "gbrp"),
        ("c.mkv", "ffv1", "bgr0"),
        ("d.mov", "png", "rgb48be"),
        ("e.avi", "rawvideo", "bgr24"),
    ],
)
def test_rgb_has_no_matrix(tmp_path, name, codec, pix_fmt):
    frames = [av.VideoFrame.from_ndarray(quarters(), format="rgb24").reformat(format=pix_fmt) for _ in range(2)]
    options = {"crf": "0", "deadline": "realtime", "cpu-used": "8"} if codec == "libvpx-vp9" else {}
    path = encode(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt, options=options)
    assert np.abs(quarters_of(read_clip(path, size_px=64).frames[1]) - QUARTERS).max() <= 1


@pytest.mark.parametrize("number", [8, 10, 14, 15])
def test_a_matrix_that_is_not_read_is_named(number):
    with pytest.raises(Refused, match=f"number {number} of H.273"):
        shown(coded((200, 40, 40), "yuv444p", BT2020), colorspace=number)


def test_vp8_has_one_matrix_at_every_size():
    frame = coded((200, 40, 40), "yuv420p", WEIGHTS[6], size=720)
    frame.colorspace = UNKNOWN
    assert np.abs(to_srgb(frame, default_matrix=6)[8, 8] - np.array((200, 40, 40))).max() <= 1


# ----------------------------------------------------------------------------------------------------------------- HDR


def encoded_srgb(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def from_srgb(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def pq(code: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, cd/m2."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = code ** (1 / m2)
    return 10_000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def hlg(code: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 on a screen of 1,000 cd/m2."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return 1000 * scene * (scene @ (0.2627, 0.6780, 0.0593)) ** 0.2


@pytest.mark.parametrize(("transfer", "nits"), [(16, pq), (18, hlg)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv420p", "yuv444p12le", "yuva444p10le"])
@pytest.mark.parametrize("tags", [{"color_primaries": 9, "colorspace": 9}, {"color_primaries": 2, "colorspace": 2}])
def test_hdr_becomes_sdr(transfer, nits, pix_fmt, tags):
    """203 cd/m2 are white (BT.2408), whether the file names matrix and primaries or only the transfer."""
    for colour in (*SAMPLES, (90, 110, 100), (30, 25, 20)):
        wanted = encoded_srgb(BT2020_TO_BT709 @ nits(np.array(colour) / 255) / 203)
        frame = coded(colour, pix_fmt, BT2020)
        found = shown(frame, color_trc=transfer, **tags)
        slack = 2 if "1" in pix_fmt else 9  # one step of 8-bit PQ is that much
        assert np.abs(found - wanted).max() <= slack, (colour, found, wanted)


def test_known_hdr_levels():
    """HLG's three quarters are BT.2408's reference white, and so is PQ's 58 %."""
    for transfer, percent in ((18, 75), (16, 58.1)):
        level = round(64 + 876 * percent / 100)
        frame = av.VideoFrame(16, 16, "yuv420p10le")
        for plane, value in zip(frame.planes, (level, 512, 512), strict=True):
            plane.update(np.full(plane.buffer_size // 2, value, np.uint16).tobytes())
        assert shown(frame, colorspace=9, color_primaries=9, color_trc=transfer).min() >= 254
        frame.planes[0].update(np.full(frame.planes[0].buffer_size // 2, level - 40, np.uint16).tobytes())
        assert shown(frame).max() < 240


@pytest.mark.parametrize("transfer", [1, 6, 14, 15, 2])
def test_wide_colours_of_sdr_become_those_of_srgb(transfer):
    for colour in SAMPLES:
        wanted = encoded_srgb(BT2020_TO_BT709 @ from_srgb(np.array(colour) / 255))
        for primaries in (9, 2):  # the matrix alone tells it too
            frame = coded(colour, "yuv420p10le", BT2020)
            found = shown(frame, color_trc=transfer, color_primaries=primaries, colorspace=9)
            assert np.abs(found - wanted).max() <= 1.5, (colour, found, wanted)


@pytest.mark.parametrize("primaries", [11, 12])
def test_p3_becomes_srgb(primaries):
    """Against the numbers of a colour-managed viewer: P3's red (200, 40, 40) is (220, 0, 18) to littlecms."""
    found = [
        shown(coded(c, "yuv444p", WEIGHTS[1]), colorspace=1, color_primaries=primaries, color_trc=1) for c in QUARTERS
    ]
    wanted = [(219, 0, 23), (0, 204, 0), (40, 40, 208), (128, 128, 128)]
    assert np.abs(np.array(found) - wanted).max() <= 5
    assert found[3].tolist() == [128, 128, 128]


def test_ten_bits_alone_are_no_hdr():
    for colour in SAMPLES:
        frame = coded(colour, "yuv420p10le", WEIGHTS[1])
        assert np.abs(shown(frame, colorspace=1, color_primaries=1, color_trc=1) - colour).max() <= 1


def test_light_itself_is_coded_for_the_screen():
    frame = coded((128, 128, 128), "yuv444p10le", WEIGHTS[1])
    assert np.abs(shown(frame, colorspace=1, color_primaries=1, color_trc=8) - 188).max() <= 1


def test_a_brightness_that_is_not_read_is_named():
    with pytest.raises(Refused, match="logarithmic"):
        shown(coded((128, 128, 128), "yuv444p10le", WEIGHTS[1]), colorspace=1, color_trc=9)


@pytest.mark.parametrize(
    ("codec", "name", "pix_fmt"),
    [
        ("libx265", "a.mkv", "yuv420p10le"),
        ("libvpx-vp9", "a.webm", "yuv420p"),
        ("libvpx-vp9", "b.webm", "yuva420p"),
        ("libsvtav1", "b.mkv", "yuv420p10le"),
    ],
)
def test_the_tags_of_a_file_reach_the_colours(tmp_path, codec, name, pix_fmt):
    """PQ grey of half the code range is 94 cd/m2 and so 46 % of white."""
    tags = {"colorspace": 9, "color_primaries": 9, "color_trc": 16, "color_range": 1}
    frames = [coded((128, 128, 128), pix_fmt, BT2020, size=64).reformat(width=64) for _ in range(2)]
    for frame in frames:
        for tag, number in tags.items():
            setattr(frame, tag, number)
    options = {"x265-params": "log-level=none", "preset": "ultrafast" if codec == "libx265" else "13"}
    options = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0"} if "vp9" in codec else options
    metadata = {"alpha_mode": "1"} if "a" in pix_fmt else {}
    path = encode(tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt, tags=tags, options=options, metadata=metadata)
    wanted = encoded_srgb(pq(np.array(128 / 255)) / 203)
    assert np.abs(read_clip(path, size_px=64).frames[1, 32, 32] - wanted).max() <= 4


# -------------------------------------------------------------------------------------------------------- transparency


def with_a_hole() -> np.ndarray:
    """A red square, and around it another colour of which nothing is to be seen."""
    picture = np.empty((64, 64, 4), np.uint8)
    picture[:] = (30, 60, 90, 0)
    picture[16:48, 16:48] = (200, 40, 40, 255)
    return picture


TRANSPARENT = {
    "qtrle.mov": ("qtrle", "argb"),
    "png.mov": ("png", "rgba"),
    "png grey.mov": ("png", "ya8"),
    "prores.mov": ("prores_ks", "yuva444p10le"),
    "raw.mov": ("rawvideo", "argb"),
    "tiff.mov": ("tiff", "rgba"),  # its side data is of a kind that PyAV 18 does not know
    "ffv1.mkv": ("ffv1", "yuva420p"),
    "ffv1 rgb.mkv": ("ffv1", "bgra"),
    "ffv1 ten bits.mkv": ("ffv1", "gbrap10le"),
    "huffyuv.avi": ("ffvhuff", "rgb32"),
    "a.apng": ("apng", "rgba"),
    "vp9.webm": ("libvpx-vp9", "yuva420p"),
    "vp9.mkv": ("libvpx-vp9", "yuva420p"),
    "vp8.webm": ("libvpx", "yuva420p"),
    "vp8.mkv": ("libvpx", "yuva420p"),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_laid_over_white(tmp_path, name):
    codec, pix_fmt = TRANSPARENT[name]
    picture = with_a_hole()
    frames = [av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format=pix_fmt) for _ in range(24)]
    options = {"deadline": "realtime", "cpu-used": "8", "b": "2M", "auto-alt-ref": "0"} if "vp" in codec else {}
    kind = "apng" if codec == "apng" else None
    metadata = {"alpha_mode": "1"} if "vp" in codec else {}
    path = encode(
        tmp_path / name, frames, codec=codec, pix_fmt=pix_fmt, container_format=kind, options=options, metadata=metadata
    )
    for part in ({}, {"start_s": 2.25}):  # the second leads into the middle, by a seek where there is an index
        clip = read_clip(path, size_px=64, **part)
        assert len(clip.frames) == (6 if part else 24)
        frame = clip.frames[-1].astype(int)
        assert np.abs(frame[[2, 2, 61, 61], [2, 61, 2, 61]] - 255).max() <= 1
        assert np.abs(frame[32, 32] - ((88, 88, 88) if pix_fmt == "ya8" else (200, 40, 40))).max() <= 12


def test_a_palette_with_a_transparent_colour(tmp_path):
    frames = []
    for left in (16, 20, 24):
        numbers = np.zeros((64, 64), np.uint8)
        numbers[16:48, left:48] = 1
        picture = Image.fromarray(numbers).convert("P")
        picture.putpalette([0, 0, 0, 200, 40, 40])
        frames.append(picture)
    for name in ("a.gif", "a.apng"):
        kind = "PNG" if name.endswith("apng") else "GIF"
        frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:], transparency=0, duration=100)
        clip = read_clip(tmp_path / name, size_px=64)
        assert clip.frames[2, 2, 2].tolist() == [255, 255, 255] and clip.frames[2, 32, 32].tolist() == [200, 40, 40]


# --------------------------------------------------------------------------------------------------------- orientation


def turned(picture: np.ndarray, a: int, b: int, c: int, d: int) -> np.ndarray:
    """Each pixel (x, y) at (a x + c y, b x + d y), moved so that the picture begins at 0."""
    height, width = picture.shape[:2]
    down, right = np.mgrid[:height, :width]
    new_x, new_y = a * right + c * down, b * right + d * down
    new = np.empty((int(np.ptp(new_y)) + 1, int(np.ptp(new_x)) + 1, 3), picture.dtype)
    new[new_y - new_y.min(), new_x - new_x.min()] = picture
    return new


EIGHT = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", EIGHT)
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_every_orientation_of_a_display_matrix_is_applied(tmp_path, matrix, suffix):
    picture = quarters(48, 64)
    path = write_clip(tmp_path / f"a.{suffix}", np.stack([picture] * 2))
    set_display_matrix(path, *matrix)
    clip = read_clip(path, size_px=64, mode="letterbox")
    wanted = turned(picture, *matrix)
    assert (clip.source_height, clip.source_width) == wanted.shape[:2]
    content = clip.frames[1, 8:56] if matrix[0] else clip.frames[1, :, 8:56]
    assert np.abs(quarters_of(content) - quarters_of(wanted)).max() <= 4


@pytest.mark.parametrize("matrix", EIGHT)
def test_pixels_that_are_not_square_turn_with_the_picture(tmp_path, matrix):
    path = write_clip(tmp_path / "a.mp4", np.stack([quarters(64, 32)] * 2), sample_aspect=2)
    set_display_matrix(path, *matrix)
    clip = read_clip(path, size_px=64, mode="letterbox")
    assert (clip.source_height, clip.source_width) == (64, 64)
    assert np.abs(quarters_of(clip.frames[1]) - quarters_of(turned(quarters(), *matrix))).max() <= 4


def test_a_still_picture_is_no_video(tmp_path):
    for kind in ("png", "webp", "jpeg"):
        path = Path(tmp_path, f"a.{kind}")
        Image.fromarray(quarters()).save(path)
        with pytest.raises(ClipRejected, match="its container is not supported|a single image, not a video"):
            read_clip(path, size_px=64)
