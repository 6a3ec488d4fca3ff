"""Converts pixels of any colour space to sRGB, by the profile in the image, as browsers do.

Read are ICC profiles (of PNG, JPEG, WebP, AVIF, TIFF, and of BMP with a V5 header), PNG's `cICP`, `gAMA` and `cHRM` in the order
of the PNG specification, and the code points of AVIF. A profile that is damaged, or of another kind of pixels than the
picture's, is passed over. EXIF's own mark of a colour space is not read, as browsers do not read it either.
"""

import contextlib
import functools
import io
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, ImageCms

Chromaticities = tuple[float, ...]
"""x and y of white, red, green and blue."""

_D65 = (0.3127, 0.329)
_SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
# By the numbers of ITU-T H.273; those that are missing are taken for sRGB's.
_PRIMARIES: dict[int, Chromaticities] = {
    4: (0.31, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    7: (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07),
    9: (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}
_UNKNOWN = 2
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_HDR = {16: "PQ", 18: "HLG"}

# parametricCurveType 3 of ICC.1:2022 with the constants of IEC 61966-2-1.
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# libpng's tolerance, too: 0.45455 is what those write who mean sRGB.
_GAMMA_SLACK = 0.05

# A profile that moves no colour by more is sRGB's own with other rounding: its pixels are kept, bit for bit.
_SAME = 2


class Unfit(Exception):
    """The reason why an image cannot be used, worded to follow its name; becomes a `UserError` where the name is
    known."""


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A picture of 8 bits a channel and without transparency in sRGB.

    Args:
      image: of any such mode.
      profile: an ICC profile, see `profile_of`.

    Returns:
      A picture of the mode RGB; one that is in sRGB already has the pixels of the plain conversion.
    """
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    if profile is not None and image.mode != "LAB":
        for candidate in [image] if image.mode != "L" else [image, image.convert("RGB")]:
            transform = _transform(profile, candidate.mode)
            if transform is not None:
                return _applied(candidate, transform)
    if image.mode == "LAB":  # Pillow itself does not convert it
        return _applied(image, _lab_transform())
    return image.convert("RGB")


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    made = ImageCms.applyTransform(image, transform)
    assert made is not None  # it is only where the picture itself is changed
    return made


def profile_of(image: Image.Image) -> bytes | None:
    """The ICC profile of an image, or one made from its other colour information.

    Args:
      image: as `Image.open` gives it. Of a loaded file, only what Pillow keeps is known.

    Returns:
      None where the picture says nothing, or says sRGB.

    Raises:
      Unfit: it is HDR.
    """
    codes = _code_points(image)
    if image.format == "PNG" and codes is not None:
        return _profile_of_codes(*codes)
    icc = image.info.get("icc_profile")
    if isinstance(icc, bytes) and icc:
        return icc
    if image.format == "BMP":
        return _profile_of_bmp(image)
    return _profile_of_codes(*codes) if codes is not None else _profile_of_gamma(image.info)


def matrix_profile(chromaticities: Chromaticities, curve: float | tuple[float, ...]) -> bytes:
    """An ICC profile of three primaries and one curve [ICC.1:2022, 8.3.3 and 10.18].

    Args:
      chromaticities: of white, red, green and blue.
      curve: an exponent, or the five parameters of a curve of type 3.

    Raises:
      ValueError: the primaries span no colours.
    """
    columns = [
        (x / y, 1.0, (1 - x - y) / y) if y else (0, 0, 0) for x, y in np.reshape(chromaticities, (4, 2)).tolist()
    ]
    white, primaries = np.array(columns[0]), np.array(columns[1:]).T
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    scales = np.linalg.solve(primaries, white)  # a LinAlgError is a ValueError
    adapt = np.linalg.solve(bradford, np.diag((bradford @ d50) / (bradford @ white)) @ bradford)
    colours = adapt @ primaries * scales
    if not np.abs(colours).max() < 100:
        raise ValueError("these primaries span no colour space")
    parameters = curve if isinstance(curve, tuple) else (curve,)
    kind = 3 if isinstance(curve, tuple) else 0
    shape = b"para" + struct.pack(f">IHH{len(parameters)}i", 0, kind, 0, *(round(65536 * p) for p in parameters))
    tags = [(b"wtpt", _xyz(d50)), *zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, colours.T), strict=True)]
    tags += [(name, shape) for name in (b"rTRC", b"gTRC", b"bTRC")]
    table, content, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", offset + len(content), len(data))
        content += data
    head = struct.pack(">I4sI4s4s4s12x4s", offset + len(content), b"", 0x04400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    return (head + bytes(28) + _xyz(d50)[8:]).ljust(128, b"\0") + table + content


def _xyz(colour: np.ndarray) -> bytes:
    return b"XYZ " + struct.pack(">I3i", 0, *(round(65536 * float(value)) for value in colour))


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None if the profile does not fit the pixels or changes none of them."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK"}[mode] != source.profile.xcolor_space.strip():
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        probe = _probe(mode)
        moved = np.asarray(ImageCms.applyTransform(probe, transform)).astype(int) - np.asarray(probe.convert("RGB"))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, MemoryError):
        return None
    return transform if np.abs(moved).max() > _SAME else None


def _probe(mode: str) -> Image.Image:
    """Colours all over the space."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 18 if mode == "RGB" else 5).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(*[steps] * len(mode), indexing="ij"), axis=-1)
    flat = np.ascontiguousarray(grid.reshape(1, -1, len(mode)))
    return Image.frombytes(mode, (flat.shape[1], 1), flat.tobytes())


@functools.cache
def _lab_transform() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")


def _profile_of_codes(primaries: int, transfer: int) -> bytes | None:
    if transfer in _HDR:
        raise Unfit(f"is HDR ({_HDR[transfer]}), which is not supported; convert it to SDR first")
    chromaticities, curve = _PRIMARIES.get(primaries, _SRGB), _GAMMAS.get(transfer, _SRGB_CURVE)
    return None if (chromaticities, curve) == (_SRGB, _SRGB_CURVE) else matrix_profile(chromaticities, curve)


def _profile_of_gamma(info: dict) -> bytes | None:
    """Of PNG's `gAMA` and `cHRM`, where no `sRGB` goes before them."""
    gamma: Any = info.get("gamma")
    chromaticities: Any = info.get("chromaticity")
    if "srgb" in info:
        return None
    with contextlib.suppress(ValueError, TypeError):  # numbers that make no sense
        has_own_primaries = chromaticities is not None and np.abs(np.subtract(chromaticities, _SRGB)).max() > 0.001
        has_own_curve = gamma is not None and abs(gamma / 0.45455 - 1) > _GAMMA_SLACK
        if has_own_primaries or (has_own_curve and 0.01 < gamma < 100):
            curve = 1 / gamma if gamma and 0.01 < gamma < 100 else _SRGB_CURVE
            return matrix_profile(tuple(chromaticities) if has_own_primaries else _SRGB, curve)
    return None


def _code_points(image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer curve as numbers of H.273, which Pillow does not provide: PNG's `cICP`, AVIF's `nclx`."""
    with _head(image) as file:
        if file is None:
            return None
        if image.format == "PNG":
            codes = next(
                ((data[0], data[1]) for kind, data in _chunks(file) if kind == b"cICP" and len(data) == 4), None
            )
        elif image.format == "AVIF":
            head = file.read(1 << 16)  # the boxes that describe the picture come before it
            place = head.find(b"colrnclx")
            codes = struct.unpack_from(">HH", head, place + 8) if 0 <= place < len(head) - 12 else None
        else:
            codes = None
    return None if codes is None or _UNKNOWN in codes else codes


def _chunks(file: io.BufferedIOBase) -> Iterator[tuple[bytes, bytes]]:
    """Small chunks of a PNG up to its pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IDAT":
            return
        yield kind, file.read(length) if length < 64 else b""
        file.seek(4 if length < 64 else length + 4, 1)


def _profile_of_bmp(image: Image.Image) -> bytes | None:
    """The profile within a BMP whose header (BITMAPV5HEADER) says that there is one."""
    with _head(image) as file:
        if file is None:
            return None
        head = file.read(138)
        if len(head) == 138 and head[14:18] == struct.pack("<I", 124) and head[70:74] == b"DEBM":
            offset, length = struct.unpack_from("<II", head, 126)
            file.seek(14 + offset)
            return file.read(length) if 0 < length < 1 << 24 else None
    return None


@contextlib.contextmanager
def _head(image: Image.Image) -> Iterator[io.BufferedIOBase | None]:
    """The file of a picture that is still open, from its beginning; its place is kept."""
    file: Any = getattr(image, "fp", None)
    try:
        place = None if file is None else file.tell()
        if place is not None:
            file.seek(0)
    except (OSError, ValueError, AttributeError):  # closed, or read as a stream
        place = None
    try:
        yield None if place is None else file
    finally:
        if place is not None:
            file.seek(place)
