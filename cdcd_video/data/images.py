"""Any picture a user may hand over, as plain RGB pixels; and pixels brought to the model's size."""

import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, features

from cdcd_video.config import FitMode
from cdcd_video.errors import UserError

MAX_PIXELS = 100_000_000
"""Pictures and clips with more pixels than this are refused from their header, before anything is decoded."""

RESIZE = "bicubic, antialiased"
"""How `fit` brings pixels to another size, as manifests call it."""

# Decoders of still pictures only: Pillow also knows formats that start other programs (EPS runs Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM") + (("AVIF",) if features.check("avif") else ())


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a picture as a viewer would show it; see `as_array` for how the kinds of pixels are turned into RGB.

    The format is told from the content, not from the name. Of an animation the first frame is read. The orientation
    that a camera notes in EXIF is applied.

    Args:
      path: a PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM or AVIF file of at most 100 megapixels.

    Returns:
      RGB pixels.

    Raises:
      UserError: if the file is missing, empty, a folder, not a picture, cut short, or too large to be decoded safely.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise UserError(f"image {path} does not exist")
        if not path.is_file():
            raise UserError(f"image {path} is not a file; give the path of one picture")
        if path.stat().st_size == 0:
            raise UserError(f"image {path} is empty (0 bytes)")
        return _decode(path)
    except OSError as error:  # no permission, a name too long
        raise UserError(f"image {path} cannot be read ({error.strerror})") from error


def as_array(image: str | os.PathLike[str] | Image.Image | np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of a path, a Pillow image or an array.

    Transparent pixels are laid over white. Grey, palette, CMYK and the like are converted; 16-bit grey is scaled so
    that 65535 becomes 255.

    Args:
      image: a path, a Pillow image, or a uint8 array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4: RGBA).

    Returns:
      RGB pixels; a uint8 (H, W, 3) array comes back as it is.

    Raises:
      UserError: if the path cannot be read as a picture, or the array has another type or shape.
    """
    if isinstance(image, np.ndarray):
        return _array_to_rgb(image)
    if isinstance(image, Image.Image):
        _check_size(image.width, image.height, "the image")
        return _pillow_to_rgb(ImageOps.exif_transpose(image))
    return read_image(image)


def fit(
    image: UInt8[np.ndarray, "H W 3"], size_px: int, mode: FitMode = "crop", pixel_aspect: float = 1.0
) -> UInt8[np.ndarray, "S S 3"]:
    """Brings a picture to a square of the model's size, with antialiasing (bicubic, over the area when shrinking).

    Args:
      image: RGB pixels.
      size_px: side of the square, pixels.
      mode: `crop` takes the centre square; `letterbox` shows everything, centred on black.
      pixel_aspect: width of one pixel over its height; other than 1 only in some videos.

    Returns:
      RGB pixels; an image already of that size comes back unchanged, bit for bit.
    """
    height, width = image.shape[:2]
    if height == width == size_px and pixel_aspect == 1:
        return image
    if mode == "crop":
        side = min(width * pixel_aspect, height)  # in units of one pixel's height
        # Whole pixels, so that a picture that only has to lose its edges is not blurred by half a pixel.
        box_width, box_height = max(1, round(side / pixel_aspect)), max(1, round(side))
        left, top = (width - box_width) // 2, (height - box_height) // 2
        box = (left, top, left + box_width, top + box_height)
        return _resize(image, size_px, size_px, box)
    if mode == "letterbox":
        scale = size_px / max(width * pixel_aspect, height)
        shown_width = min(size_px, max(1, round(width * pixel_aspect * scale)))
        shown_height = min(size_px, max(1, round(height * scale)))
        left, top = (size_px - shown_width) // 2, (size_px - shown_height) // 2
        canvas = np.zeros((size_px, size_px, 3), np.uint8)
        shown = _resize(image, shown_width, shown_height, (0, 0, width, height))
        canvas[top : top + shown_height, left : left + shown_width] = shown
        return canvas
    raise ValueError(f"mode must be 'crop' or 'letterbox', not {mode!r}")


def over_white(rgba: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 3"]:
    """Lays a picture with transparency over white; opaque pixels are kept exactly."""
    alpha = rgba[..., 3:].astype(np.uint16)
    # One product is at most 255 * 255 and the two weights sum to 255, so 16 bits hold the sum.
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _decode(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    # Pillow's decoders meet broken files with whatever exception they stumble on, so every kind is caught here.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a lower limit of Pillow's own, and remarks on odd metadata
            with Image.open(path, formats=_FORMATS) as image:
                _check_size(image.width, image.height, f"image {path}")
                image.load()
                return _pillow_to_rgb(_upright(image))
    except (UserError, PermissionError):
        raise
    except Image.UnidentifiedImageError:
        raise UserError(f"{path} is not a picture; use PNG, JPEG, WEBP, GIF, BMP, TIFF or PPM") from None
    except Image.DecompressionBombError:
        raise UserError(f"image {path} is larger than {MAX_PIXELS:,} pixels; make it smaller first") from None
    except Exception as error:
        raise UserError(f"image {path} is damaged or cut short ({error}); save it again") from error


def _upright(image: Image.Image) -> Image.Image:
    """Turns the picture as its EXIF says; unreadable EXIF is no reason to refuse readable pixels."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is a second, unchecked file format inside the first
        return image


def _check_size(width: int, height: int, what: str) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{what} is {width} x {height}, more than {MAX_PIXELS:,} pixels; make it smaller first")
    if width * height == 0:
        raise UserError(f"{what} has no pixels ({width} x {height})")


def _pillow_to_rgb(image: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if image.mode == "F":
        raise UserError("the image holds floating-point pixels of unknown range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):  # I;16, I;16B and I: grey with more than 8 bits
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise UserError("the image holds 32-bit pixels; save it with 8 or 16 bits")
        return _array_to_rgb(((wide + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.array(image.convert("RGB"))


def _array_to_rgb(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    if array.dtype != np.uint8:
        raise UserError(f"the image array is {array.dtype}; convert it to uint8 in 0..255 first")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise UserError(f"the image array has shape {array.shape}; it must be (H, W, 3), or (H, W) for grey")
    _check_size(array.shape[1], array.shape[0], "the image array")
    if array.shape[2] == 1:
        return np.repeat(array, 3, axis=2)
    return over_white(array) if array.shape[2] == 4 else array


def _resize(image: np.ndarray, width: int, height: int, box: tuple[int, int, int, int]) -> np.ndarray:
    if (box[2] - box[0], box[3] - box[1]) == (width, height):  # nothing to resample, only edges to lose
        return np.ascontiguousarray(image[box[1] : box[3], box[0] : box[2]])
    # Far larger pictures are first averaged over whole blocks; at a gap of 3 no difference can be seen.
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return np.array(resized)
