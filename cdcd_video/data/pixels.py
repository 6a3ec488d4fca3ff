"""Converts Pillow images to RGB pixels: depth, transparency, orientation and colour."""

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps

from cdcd_video.data.colour import Unfit, in_srgb, profile_of

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0


def over_white(rgba: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 3"]:
    """Lays a picture with transparency over white; opaque pixels are kept exactly."""
    alpha = rgba[..., 3:].astype(np.uint16)
    # One product is at most 255 * 255 and the two weights sum to 255, so 16 bits hold the sum.
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def pixels_of(image: Image.Image) -> UInt8[np.ndarray, "H W C"]:
    """Upright pixels in sRGB, with a fourth channel where the picture has transparency.

    Args:
      image: as `Image.open` gives it, or of any mode, with what Pillow keeps of its file in `info`. One that is not yet
        loaded gives more: which of two 16-bit colours is the transparent one is known only from the file.

    Raises:
      Unfit: it holds floating-point or 32-bit pixels, or is HDR.
    """
    profile, kind = profile_of(image), image.format
    image = _upright(_of_8_bits(image))
    if not image.has_transparency_data:
        return np.array(in_srgb(image, profile))
    if image.mode == "LA":
        opaque, alpha = image.getchannel("L"), np.asarray(image.getchannel("A"))
    else:
        image = image.convert("RGBA")
        opaque, alpha = image.convert("RGB"), np.asarray(image.getchannel("A"))
    if kind == "BMP" and not alpha.any():  # programs that know no alpha leave its byte at 0; viewers show the picture
        alpha = np.full_like(alpha, 255)
    return np.dstack([np.asarray(in_srgb(opaque, profile)), alpha])


def _upright(image: Image.Image) -> Image.Image:
    """Rotates the image as its EXIF says; unreadable EXIF is ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is a second, unchecked file format inside the first
        return image


def _of_8_bits(image: Image.Image) -> Image.Image:
    """The image with at most 8 bits a channel, its transparent colour given so that Pillow finds it."""
    if image.mode == "F":
        raise Unfit("holds floating-point pixels of unknown range; save it with 8 or 16 bits")
    raw, transparent = _raw_mode(image), image.info.get("transparency")
    if image.mode.startswith("I"):
        return _grey_of_8_bits(image, transparent)
    if image.mode == "L" and isinstance(transparent, int) and raw in ("L;2", "L;4"):  # given in the file's 2 or 4 bits
        image.load()
        image.info["transparency"] = transparent * (85 if raw == "L;2" else 17)
    elif image.mode == "RGB" and isinstance(transparent, tuple) and (raw == "RGB;16B" or max(transparent) > 255):
        wide, transparent_value = _colours_of_16_bits(image, raw), np.array(transparent, np.uint16)
        if raw != "RGB;16B":  # Pillow kept the upper half of the pixels alone
            transparent_value &= 0xFF00
        opaque = (wide != transparent_value).any(axis=-1)
        return _like(image, np.dstack([(wide >> 8).astype(np.uint8), opaque * np.uint8(255)]))
    return image


def _grey_of_8_bits(image: Image.Image, transparent: object) -> Image.Image:
    """Of I;16, I;16B and I, which are grey with more than 8 bits."""
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    most = 2**bits - 1 if bits < 16 else 65535  # Pillow keeps the numbers of 12-bit files as they are
    wide = np.asarray(image).astype(np.int64)
    if bits > 16 or wide.min() < 0 or wide.max() > 65535:
        raise Unfit("holds 32-bit pixels; save it with 8 or 16 bits")
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow turns them over at up to 8 bits only
        wide = most - wide
    grey = ((wide * 510 + most) // (2 * most)).astype(np.uint8)
    if isinstance(transparent, int):
        return _like(image, np.dstack([grey, (wide != transparent) * np.uint8(255)]))
    return _like(image, grey)


def _colours_of_16_bits(image: Image.Image, raw: str) -> UInt16[np.ndarray, "H W 3"]:
    """Both bytes of every channel. Pillow decodes one of the two at a time, the upper one by default."""
    lower = None
    if raw == "RGB;16B":
        file: Any = getattr(image, "fp", None)
        place = file.tell()
        file.seek(0)
        lower = Image.open(io.BytesIO(file.read()), formats=("PNG",))
        file.seek(place)
        lower.tile = [tile._replace(args="RGB;16L") for tile in lower.tile]
    wide = np.asarray(image).astype(np.uint16) << 8
    return wide if lower is None else wide | np.asarray(lower)


def _raw_mode(image: Image.Image) -> str:
    """How pixels lie in a file that is not loaded yet; empty for any other picture."""
    arguments = [tile.args for tile in getattr(image, "tile", [])][:1]
    return arguments[0] if arguments and isinstance(arguments[0], str) else ""


def _like(image: Image.Image, pixels: np.ndarray) -> Image.Image:
    """Other pixels with what is known of the picture, apart from its transparent colour."""
    made = Image.fromarray(pixels)
    made.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return made
