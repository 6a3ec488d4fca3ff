"""Every kind of picture that a user may hand over, and every way in which a file may be wrong."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pngs import chunk, png

from cdcd_video.data import images
from cdcd_video.data.images import as_array, fit, read_image
from cdcd_video.errors import UserError


def picture(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=seed))
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------------- good pictures


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "ppm"])
def test_lossless_files_come_back_exactly(tmp_path, suffix):
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), picture())


def test_the_content_decides_not_the_name(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png", format="WEBP", lossless=True)
    assert np.array_equal(read_image(tmp_path / "a.png"), picture())


# What each number of EXIF asks for, so that the picture stands upright.
ORIENTATIONS = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, -1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_orientation_of_the_camera_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture()).save(tmp_path / f"a.{suffix}", exif=exif, lossless=True)
    wanted = ORIENTATIONS[orientation](picture())
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), wanted)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert np.array_equal(as_array(image), wanted)


def test_an_orientation_is_kept_through_depth_and_transparency(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = picture()[..., 0].astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "a.png", exif=exif, transparency=int(deep[0, 0]))
    read = read_image(tmp_path / "a.png")
    wanted = np.where(deep == deep[0, 0], 255, deep // 257)
    assert np.array_equal(read[..., 0], np.rot90(wanted, -1))


def test_broken_exif_is_no_reason_to_refuse_pixels(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(read_image(tmp_path / "a.png"), picture())


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.dstack([picture(), np.full((40, 56), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    rgba[10:20] = (0, 0, 0, 51)  # black at 1/5
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (read[:10] == 255).all()
    assert (read[10:20] == 204).all()
    assert np.array_equal(read[20:], picture()[20:])


def test_a_palette_with_a_transparent_colour_is_laid_over_white(tmp_path):
    image = Image.fromarray(np.repeat([[0, 1]], 4, axis=0).astype(np.uint8), mode="P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=1)
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]] * 4


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_every_depth_is_laid_over_white(tmp_path, bits):
    most = 2**bits - 1
    levels = [most // 3, 0] * 4 if bits > 1 else [1, 0] * 4
    row = int("".join(format(level, f"0{bits}b") for level in levels), 2).to_bytes(bits, "big")
    for transparent in levels[:2]:
        (tmp_path / "a.png").write_bytes(png(bits, 0, [row], 8, (b"tRNS", struct.pack(">H", transparent))))
        wanted = [255 if level == transparent else round(255 * level / most) for level in levels]
        assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == wanted
        assert as_array(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == wanted


def test_the_transparent_colour_of_both_depths_is_laid_over_white(tmp_path):
    row = bytes([10, 20, 30, 10, 20, 31])
    (tmp_path / "a.png").write_bytes(png(8, 2, [row], 2, (b"tRNS", struct.pack(">HHH", 10, 20, 30))))
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [10, 20, 31]]]
    colours = (0x1234, 0x2234, 0x3333), (0x1234, 0x2234, 0x3334)  # a difference that 8 bits do not show
    row = struct.pack(">6H", *colours[0], *colours[1])
    (tmp_path / "a.png").write_bytes(png(16, 2, [row], 2, (b"tRNS", struct.pack(">HHH", *colours[0]))))
    assert read_image(tmp_path / "a.png").tolist() == [[[255, 255, 255], [0x12, 0x22, 0x33]]]
    with Image.open(tmp_path / "a.png") as image:
        assert as_array(image).tolist() == [[[255, 255, 255], [0x12, 0x22, 0x33]]]
        image.load()  # which forgets the lower half
        assert (as_array(image) == 255).all()


def test_alpha_of_16_bits_is_laid_over_white(tmp_path):
    (tmp_path / "a.png").write_bytes(png(16, 4, [struct.pack(">4H", 0x8000, 0xFFFF, 0x8000, 0)], 2))
    assert read_image(tmp_path / "a.png").tolist() == [[[128] * 3, [255] * 3]]
    (tmp_path / "a.png").write_bytes(png(16, 6, [struct.pack(">8H", *[0x1000] * 3, 0xFFFF, *[0x1000] * 3, 0)], 2))
    assert read_image(tmp_path / "a.png").tolist() == [[[16] * 3, [255] * 3]]


def bmp(head_bytes: int, compression: int, alpha: int) -> bytes:
    """A red pixel of 32 bits: blue, green, red, alpha."""
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", head_bytes, 1, 1, 1, 32, compression, 4, 0, 0, 0, 0)
    head = (head + masks).ljust(head_bytes, b"\0") if head_bytes > 40 else head + masks[:12] * (compression == 3)
    return b"BM" + struct.pack("<IHHI", 18 + len(head), 0, 0, 14 + len(head)) + head + bytes([40, 40, 200, alpha])


@pytest.mark.parametrize(("head_bytes", "compression"), [(40, 0), (40, 3), (56, 3), (108, 3), (124, 0), (124, 3)])
def test_alpha_of_a_bmp_that_is_0_everywhere_is_none(tmp_path, head_bytes, compression):
    (tmp_path / "a.bmp").write_bytes(bmp(head_bytes, compression, 0))
    assert read_image(tmp_path / "a.bmp").tolist() == [[[200, 40, 40]]]
    with Image.open(tmp_path / "a.bmp") as image:
        assert as_array(image).tolist() == [[[200, 40, 40]]]


def test_alpha_of_a_bmp_counts_where_there_is_some(tmp_path):
    (tmp_path / "a.bmp").write_bytes(bmp(124, 3, 51))
    assert read_image(tmp_path / "a.bmp").tolist() == [[[244, 212, 212]]]


def test_grey_becomes_three_equal_channels(tmp_path):
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tiff", "ppm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a.{suffix}")
    assert read_image(tmp_path / f"a.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


def tiff(order: str, bits: int, photometric: int, data: bytes, width: int) -> bytes:
    """One row of grey."""
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 122), (277, 1), (278, 1)]
    tags.append((279, len(data)))
    packed = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags)) + packed + bytes(4) + data


@pytest.mark.parametrize("is_turned", [False, True], ids=["black is zero", "white is zero"])
@pytest.mark.parametrize(
    ("order", "bits"), [("<", 1), ("<", 4), ("<", 8), ("<", 12), ("<", 16), (">", 1), (">", 8), (">", 16)]
)
def test_grey_tiffs_of_every_depth(tmp_path, order, bits, is_turned):
    levels = [0, 1, 1, 0, 1, 0, 0, 1] if bits == 1 else [0, (2**bits - 1) // 3, 2**bits - 1, 0]
    if bits < 16:
        data = int("".join(format(level, f"0{bits}b") for level in levels), 2).to_bytes(len(levels) * bits // 8, "big")
    else:
        data = struct.pack(f"{order}{len(levels)}H", *levels)
    (tmp_path / "a.tiff").write_bytes(tiff(order, bits, 0 if is_turned else 1, data, len(levels)))
    grey = [round(255 * level / (2**bits - 1)) for level in levels]
    wanted = [255 - level for level in grey] if is_turned else grey
    try:
        assert read_image(tmp_path / "a.tiff")[0, :, 0].tolist() == wanted
    except UserError as error:  # some that Pillow does not know are refused by name, never shown wrong
        assert (bits, is_turned) in ((12, True), (16, True)) and "not an image in a supported format" in str(error)


def test_cmyk_is_converted(tmp_path):
    Image.fromarray(np.full((8, 8, 3), (200, 30, 30), np.uint8)).convert("CMYK").save(tmp_path / "a.jpg")
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == (8, 8, 3)
    assert np.abs(read[4, 4].astype(int) - (200, 30, 30)).max() < 6


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, suffix):
    red, blue = (Image.new("RGB", (16, 16), colour) for colour in ("red", "blue"))
    red.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[blue], lossless=True)
    assert np.abs(read_image(tmp_path / f"a.{suffix}").astype(int) - (255, 0, 0)).max() <= 1


def test_arrays_and_pillow_images_are_taken_too():
    rgb = picture()
    assert as_array(rgb) is rgb
    assert np.array_equal(as_array(Image.fromarray(rgb)), rgb)
    assert as_array(rgb[..., 0]).shape == rgb.shape
    assert as_array(rgb[..., :1]).shape == rgb.shape
    assert (as_array(np.dstack([rgb, np.zeros((40, 56), np.uint8)])) == 255).all()


# -------------------------------------------------------------------------------------------------- bad pictures


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def cut_short(tmp_path, suffix: str, **options):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture(200, 200)).save(path, **options)
    return written(path, path.read_bytes()[:-2000])


def saved(path, alpha: int = 255):
    Image.fromarray(np.dstack([picture(), np.full((40, 56), alpha, np.uint8)])).save(path)
    return path


REMARK = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + b"\x7f\0\0\0tEXt"


def sparse(path, head: bytes):
    """Ten gigabytes that are on no disk."""
    path.write_bytes(head)
    os.truncate(path, 10**10)
    return path


BAD_FILES = {
    "missing": (lambda folder: folder / "nothing.png", "does not exist"),
    "folder": (lambda folder: folder, "not a file"),
    "empty": (lambda folder: written(folder / "a.png", b""), "empty"),
    "text": (lambda folder: written(folder / "a.png", b"hello, I am a text\n" * 20), "not an image"),
    "cut png": (lambda folder: cut_short(folder, "png"), "truncated"),
    "cut jpeg": (lambda folder: cut_short(folder, "jpg"), "truncated"),
    "cut webp": (lambda folder: cut_short(folder, "webp"), "truncated|not an image"),
    "cut gif": (lambda folder: cut_short(folder, "gif"), "truncated"),
    "only a header": (lambda folder: written(folder / "a.png", png_header_only(100, 100)), "truncated"),
    "signature alone": (lambda folder: written(folder / "a.png", b"\x89PNG\r\n\x1a\n"), "not an image|truncated"),
    "bomb": (lambda folder: written(folder / "a.png", png_header_only(60000, 60000)), "100,000,000 pixels"),
    "a little too large": (lambda folder: written(folder / "a.png", png_header_only(10001, 10000)), "100,000,000"),
    "long name": (lambda folder: folder / ("x" * 400 + ".png"), "cannot be read"),
    "targa": (lambda folder: saved(folder / "a.tga"), "use PNG, JPEG"),
    "icon": (lambda folder: saved(folder / "a.ico"), "use PNG, JPEG"),
    "nothing is visible": (
        lambda folder: saved(folder / "a.png", alpha=0),
        "a.png is transparent, so nothing is visible",
    ),
    "pipe": (lambda folder: os.mkfifo(folder / "a.png") or folder / "a.png", "is a named pipe, not a file"),
    "zeros": (lambda folder: sparse(folder / "a.gif", b"GIF89a\1\0\1\0\0\0\0"), "too much data besides its image"),
    "endless remark": (lambda folder: sparse(folder / "a.png", REMARK), "too much data besides its image"),
    "postscript": (
        lambda folder: written(folder / "a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_bad_file_gets_one_clear_sentence(tmp_path, kind):
    make, sentence = BAD_FILES[kind]
    with pytest.raises(UserError, match=sentence) as raised:
        read_image(make(tmp_path))
    assert "\n" not in str(raised.value)


def test_the_size_is_checked_before_anything_is_decoded(tmp_path, monkeypatch):
    path = written(tmp_path / "a.png", png_header_only(20000, 20000))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(UserError, match="100,000,000"):
        read_image(path)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((8, 8, 3), np.float32), "float32"),
        (np.zeros((8, 8, 2), np.uint8), "shape"),
        (np.zeros((2, 8, 8, 3), np.uint8), "shape"),
        (np.zeros((0, 8, 3), np.uint8), "no pixels"),
    ],
)
def test_a_wrong_array_is_named(array, sentence):
    with pytest.raises(UserError, match=sentence):
        as_array(array)


def test_floating_point_pixels_are_refused(tmp_path):
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match="floating-point"):
        read_image(tmp_path / "a.tiff")


# ----------------------------------------------------------------------------------------------------------- fit


@pytest.mark.parametrize("mode", ["crop", "letterbox"])
def test_an_image_of_the_right_size_is_unchanged(mode):
    image = picture(64, 64)
    assert np.array_equal(fit(image, 64, mode), image)


def test_crop_takes_the_centre_without_blur_where_only_edges_are_lost():
    image = picture(64, 97)
    assert np.array_equal(fit(image, 64), image[:, 16:80])
    assert np.array_equal(fit(image.transpose(1, 0, 2).copy(), 64), image[:, 16:80].transpose(1, 0, 2))


def test_letterbox_shows_everything_on_black():
    shown = fit(np.full((50, 100, 3), 200, np.uint8), 64, "letterbox")
    assert (shown[16:48] == 200).all()
    assert (shown[:16] == 0).all()
    assert (shown[48:] == 0).all()


def test_shrinking_is_antialiased():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the small picture can show: without antialiasing black or white would remain
    assert np.abs(fit(stripes, 64)[8:-8, 8:-8].astype(int) - 127).max() <= 2


@pytest.mark.parametrize("mode", ["crop", "letterbox"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (700, 2), (3, 5)])
def test_odd_shapes_fit(shape, mode):
    assert fit(picture(*shape), 64, mode).shape == (64, 64, 3)


def test_wide_pixels_are_decoded_wide():
    image = np.zeros((60, 60, 3), np.uint8)
    image[:, :30] = 255
    squeezed = fit(image, 60, "letterbox", pixel_aspect=2.0)  # twice as wide as high: bars above and below
    assert (squeezed[:14] == 0).all()
    assert (squeezed[20:40, :28] == 255).all()
    assert fit(image, 60, "crop", pixel_aspect=2.0)[:, 45:].max() == 0


@pytest.mark.shared
def test_real_pictures_are_read(shared_dir):
    folder = shared_dir / "data" / "i2v_prompts"
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"})
    assert len(paths) > 10
    for path in paths[::4]:
        assert images.fit(read_image(path), 64).std() > 5
