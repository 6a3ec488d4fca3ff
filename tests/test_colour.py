"""Pictures in other colour spaces than sRGB, by every way in which a file says so."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from pngs import png

from cdcd_video.data.colour import matrix_profile
from cdcd_video.data.images import as_array, read_image
from cdcd_video.errors import UserError

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
D65 = (0.3127, 0.329)
P3 = (*D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
SRGB = (*D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
DISPLAY_P3, ADOBE_RGB = matrix_profile(P3, SRGB_CURVE), matrix_profile(ADOBE, 2.19921875)

QUARTERS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128)], np.uint8)


def converted(matrix: list[list[float]], exponent: float | None) -> np.ndarray:
    """The quarters by the textbook: to light, by a matrix to sRGB's primaries, to sRGB's curve."""
    x = QUARTERS / 255
    light = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) if exponent is None else x**exponent
    y = np.clip(light @ np.array(matrix).T, 0, 1)
    return 255 * np.where(y <= 0.0031308, y * 12.92, 1.055 * y ** (1 / 2.4) - 0.055)


OF_P3 = converted([[1.2249, -0.2247, 0], [-0.042, 1.0419, 0], [-0.0197, -0.0786, 1.0979]], None)
OF_ADOBE = converted([[1.3984, -0.3984, 0], [0, 1, 0], [0, -0.0429, 1.0429]], 2.19921875)


def quarters(side: int = 32) -> np.ndarray:
    half = side // 2
    return QUARTERS.reshape(2, 2, 3).repeat(half, axis=0).repeat(half, axis=1)


def shown(pixels: np.ndarray) -> np.ndarray:
    """The colours of the four quarters."""
    height, width = pixels.shape[:2]
    places = [(height * i // 4, width * j // 4) for i, j in ((1, 1), (1, 3), (3, 1), (3, 3))]
    return np.array([pixels[place] for place in places]).astype(int)


def assert_near(found: np.ndarray, wanted: object, slack: int = 4) -> None:
    assert np.abs(found - np.array(wanted)).max() <= slack, found


def by_cms(icc: bytes, image: Image.Image) -> np.ndarray:
    """The reference: littlecms, perceptual."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return np.asarray(ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize(("icc", "wanted"), [(DISPLAY_P3, OF_P3), (ADOBE_RGB, OF_ADOBE)], ids=["p3", "adobe"])
def test_a_profile_is_converted_in_every_format(tmp_path, suffix, icc, wanted):
    options = {"quality": 100, "subsampling": "4:4:4"} if suffix in ("jpg", "avif") else {"lossless": True}
    Image.fromarray(quarters()).save(tmp_path / f"a.{suffix}", icc_profile=icc, **options)
    assert_near(shown(read_image(tmp_path / f"a.{suffix}")), wanted)


def test_the_profile_of_a_bmp_is_within_its_header(tmp_path):
    pixels = np.ascontiguousarray(quarters()[::-1, :, ::-1]).tobytes()
    head = struct.pack("<IiiHHIIiiII", 124, 32, 32, 1, 24, 0, len(pixels), 0, 0, 0, 0) + bytes(16) + b"DEBM" + bytes(52)
    head += struct.pack("<III", 124 + len(pixels), len(DISPLAY_P3), 0)
    whole = (
        b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels) + len(DISPLAY_P3), 0, 0, 138) + head + pixels + DISPLAY_P3
    )
    (tmp_path / "a.bmp").write_bytes(whole)
    assert_near(shown(read_image(tmp_path / "a.bmp")), OF_P3)


def test_pillow_images_and_palettes_and_alpha_are_converted_too(tmp_path):
    image = Image.fromarray(quarters())
    image.info["icc_profile"] = DISPLAY_P3
    assert_near(shown(as_array(image)), OF_P3)
    image.quantize(8).save(tmp_path / "p.png", icc_profile=DISPLAY_P3)
    assert_near(shown(as_array(Image.open(tmp_path / "p.png"))), OF_P3)
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[255], [0]]), 16, axis=0).repeat(32, axis=1)))
    image.save(tmp_path / "a.png", icc_profile=DISPLAY_P3)
    assert_near(shown(read_image(tmp_path / "a.png")), [*OF_P3[:2], *[(255, 255, 255)] * 2])


def test_what_is_srgb_already_stays_bit_for_bit(tmp_path):
    noise = np.random.Generator(np.random.Philox(key=1)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for name, icc in (
        ("little", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        ("own", matrix_profile(SRGB, SRGB_CURVE)),
    ):
        Image.fromarray(noise).save(tmp_path / f"{name}.png", icc_profile=icc)
        assert np.array_equal(read_image(tmp_path / f"{name}.png"), noise), name
    rows = [row.tobytes() for row in noise]
    corners = struct.pack(">8I", *(round(100000 * value) for value in SRGB))
    for name, chunks in {
        "sRGB": [(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))],
        "gAMA": [(b"gAMA", struct.pack(">I", 45455))],
        "gAMA and cHRM": [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", corners)],
        "cICP": [(b"cICP", bytes([1, 13, 0, 1]))],
        "unknown cICP": [(b"cICP", bytes([2, 2, 0, 1]))],
        "no gamma": [(b"gAMA", struct.pack(">I", 0))],
        "no primaries": [(b"cHRM", bytes(32))],
    }.items():
        (tmp_path / "a.png").write_bytes(png(8, 2, rows, 40, *chunks))
        assert np.array_equal(read_image(tmp_path / "a.png"), noise), name


def test_the_chunks_of_a_png_say_it_as_a_profile_does(tmp_path):
    rows = [row.tobytes() for row in quarters()]
    adobe = [(b"gAMA", struct.pack(">I", 45471)), (b"cHRM", struct.pack(">8I", *(round(100000 * v) for v in ADOBE)))]
    compressed = io.BytesIO()
    Image.new("RGB", (1, 1)).save(compressed, "PNG", icc_profile=ADOBE_RGB)
    start = compressed.getvalue().index(b"iCCP") - 4
    length = struct.unpack_from(">I", compressed.getvalue(), start)[0]
    iccp = (b"iCCP", compressed.getvalue()[start + 8 : start + 8 + length])
    for name, chunks, wanted in (
        ("cICP", [(b"cICP", bytes([12, 13, 0, 1]))], OF_P3),
        ("cICP goes before iCCP", [(b"cICP", bytes([12, 13, 0, 1])), iccp], OF_P3),
        ("iCCP goes before gAMA", [iccp, (b"gAMA", struct.pack(">I", 100000))], OF_ADOBE),
        ("gAMA and cHRM", adobe, OF_ADOBE),
        ("linear gAMA", [(b"gAMA", struct.pack(">I", 100000))], [(229, 110, 110), (110, 229, 110), (110, 110, 229)]),
    ):
        (tmp_path / "a.png").write_bytes(png(8, 2, rows, 32, *chunks))
        assert_near(shown(read_image(tmp_path / "a.png"))[: len(wanted)], wanted), name


def test_hdr_is_refused_by_its_name(tmp_path):
    rows = [row.tobytes() for row in quarters()]
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        (tmp_path / "a.png").write_bytes(png(8, 2, rows, 32, (b"cICP", bytes([9, transfer, 0, 1]))))
        with pytest.raises(UserError, match=rf"a\.png is HDR \({name}\)"):
            read_image(tmp_path / "a.png")


def test_the_code_points_of_an_avif_are_read(tmp_path):
    written = io.BytesIO()
    Image.fromarray(quarters()).save(written, "AVIF", quality=100, subsampling="4:4:4")
    content = written.getvalue()
    place = content.index(b"colrnclx") + 8
    for codes, refusal in ((struct.pack(">HH", 12, 13), None), (struct.pack(">HH", 9, 16), "HDR")):
        (tmp_path / "a.avif").write_bytes(content[:place] + codes + content[place + 4 :])
        if refusal is None:
            assert_near(shown(read_image(tmp_path / "a.avif")), OF_P3)
        else:
            with pytest.raises(UserError, match=refusal):
                read_image(tmp_path / "a.avif")


def grey_profile(exponent: float) -> bytes:
    """An ICC profile of one channel."""
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(256 * exponent)) + b"\0\0"
    white = b"XYZ " + struct.pack(">I3i", 0, 63190, 65536, 54061)
    table = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"kTRC", 156 + len(white), len(curve))
    head = struct.pack(
        ">I4sI4s4s4s12x4s", 156 + len(white) + len(curve), b"", 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp"
    )
    return (head + bytes(28) + white[8:]).ljust(128, b"\0") + table + white + curve


def test_grey_pictures_have_grey_profiles_or_those_of_colours(tmp_path):
    grey = np.uint8([[0, 128, 255]]).repeat(3, axis=0)
    for name, pixels, icc in (
        ("grey", grey, grey_profile(1.0)),
        ("colours", grey, matrix_profile(SRGB, 1.0)),
        ("deep", grey.astype(np.uint16) * 257, grey_profile(1.0)),
    ):
        Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=icc)
        assert_near(read_image(tmp_path / "a.png")[0].astype(int), [[0] * 3, [188] * 3, [255] * 3], 1), name
    Image.fromarray(np.dstack([grey, np.uint8([[255, 255, 0]]).repeat(3, axis=0)])).save(
        tmp_path / "a.png", icc_profile=grey_profile(1.0)
    )
    assert_near(read_image(tmp_path / "a.png")[0].astype(int), [[0] * 3, [188] * 3, [255] * 3], 1)


def cmyk_profile() -> bytes:
    """An ICC profile of four inks whose table has the two ends of each: K alone gives a middle grey."""
    table = bytearray(
        b"mft1" + struct.pack(">IBBBB", 0, 4, 3, 2, 0) + struct.pack(">9i", *(65536 * (k % 4 == 0) for k in range(9)))
    )
    table += bytes(range(256)) * 4
    for corner in range(16):
        table += bytes([0 if corner == 15 else 128 if corner & 1 else 255, 128, 128])
    table += bytes(range(256)) * 3
    white = b"XYZ " + struct.pack(">I3i", 0, 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, len(white), b"A2B0", 156 + len(white), len(table))
    head = struct.pack(
        ">I4sI4s4s4s12x4s", 156 + len(white) + len(table), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    return (head + bytes(28) + white[8:]).ljust(128, b"\0") + tags + white + bytes(table)


def test_cmyk_is_converted_by_its_own_profile(tmp_path):
    image = Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    for suffix in ("jpg", "tiff"):
        image.save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile())
        found = read_image(tmp_path / f"a.{suffix}")
        assert_near(found[8, 8].astype(int), by_cms(cmyk_profile(), image)[8, 8].astype(int), 2)
        assert 100 < found[8, 8].min() < 140, "Pillow alone gives black"
        Image.new("RGB", (16, 16), (200, 40, 40)).save(tmp_path / f"a.{suffix}", icc_profile=cmyk_profile())
        assert_near(read_image(tmp_path / f"a.{suffix}")[8, 8].astype(int), (200, 40, 40)), "a profile of other pixels"


def test_inks_of_photoshop_are_turned_over(tmp_path):
    """Of the two kinds of JPEG with four channels, both with the inks inverted, as Adobe writes them."""
    wanted = np.uint8([200, 40, 40])
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), int(value)) for value in (*(255 - wanted), 0)])
    written = io.BytesIO()
    inks.save(written, "JPEG", quality=100)
    (tmp_path / "cmyk.jpg").write_bytes(written.getvalue())
    luma = Image.new("RGB", (1, 1), tuple(int(255 - value) for value in wanted)).convert("YCbCr").getpixel((0, 0))
    stored = Image.merge("CMYK", [Image.new("L", (16, 16), 255 - value) for value in (*luma, 255)])
    written = io.BytesIO()
    stored.save(written, "JPEG", quality=100)
    marker = written.getvalue().index(b"Adobe")
    ycck = bytearray(written.getvalue())
    ycck[marker + 11] = 2  # the four channels are YCC and K
    (tmp_path / "ycck.jpg").write_bytes(ycck)
    for name in ("cmyk", "ycck"):
        assert_near(read_image(tmp_path / f"{name}.jpg")[8, 8].astype(int), wanted, 6)


def test_lab_is_converted(tmp_path):
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    ImageCms.applyTransform(Image.fromarray(quarters()), transform).save(tmp_path / "a.tiff")
    assert_near(shown(read_image(tmp_path / "a.tiff")), QUARTERS, 6)


@pytest.mark.parametrize("icc", [b"no profile", DISPLAY_P3[:200], DISPLAY_P3[:132] + bytes(400), b"\xff" * 4000])
def test_a_broken_profile_is_no_reason_to_refuse_pixels(tmp_path, icc):
    for suffix in ("png", "tiff"):
        Image.fromarray(quarters()).save(tmp_path / f"a.{suffix}", icc_profile=icc)
        assert np.array_equal(read_image(tmp_path / f"a.{suffix}"), quarters())
