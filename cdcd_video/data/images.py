"""Reads images of any format as RGB pixels, and resizes pixels to the model's size."""

import dataclasses
import io
import math
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, features

from cdcd_video.config import FitMode
from cdcd_video.data.colour import Unfit
from cdcd_video.data.pixels import over_white, pixels_of
from cdcd_video.errors import UserError
from cdcd_video.storage.memory import raise_if_out_of_memory
from cdcd_video.storage.small_file import open_plain

MAX_PIXELS = 100_000_000
"""Pictures and clips with more pixels than this are refused from their header, before anything is decoded."""

RESIZE = "bicubic, antialiased"
"""The resizing of `fit`, as named in manifests."""

# Decoders of still pictures only: Pillow also knows formats that start other programs (EPS runs Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM") + (("AVIF",) if features.check("avif") else ())

MOST_WHOLE_BYTES = 1 << 29
"""Limit of a file that its decoder reads in one piece."""


def read_image(
    path: str | os.PathLike[str], *, within: str | os.PathLike[str] | None = None
) -> UInt8[np.ndarray, "H W 3"]:
    """Reads a picture as a browser would show it; see `as_array` for how the kinds of pixels are turned into RGB.

    The format is detected from the content, not from the name. Of an animation the first frame is read. The orientation
    that a camera notes in EXIF is applied. The alpha of a BMP that is 0 everywhere is no alpha.

    Args:
      path: a PNG, JPEG, WEBP, GIF, BMP, TIFF, PPM or AVIF file of at most 100 megapixels.
      within: the folder that the file must lie in when all links are resolved; None where the user named the file himself.

    Returns:
      RGB pixels.

    Raises:
      UserError: if the file is missing, empty, a folder or another thing that is no file, not a picture, cut short, too
        large to be decoded safely, HDR, or transparent everywhere.
    """
    return _decode(lambda: open_plain(path, "image", within=within).detach(), str(Path(path)))


def read_image_bytes(content: bytes, name: str = "(bytes)") -> UInt8[np.ndarray, "H W 3"]:
    """`read_image` of the bytes of such a file.

    Args:
      content: of the file.
      name: what messages call it.

    Raises:
      UserError: as for `read_image`.
    """
    return _decode(lambda: io.BytesIO(content), name)


def as_array(image: str | os.PathLike[str] | Image.Image | np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of a path, a Pillow image or an array.

    Colours are converted to sRGB by the picture's own profile (`data.colour`). Transparent pixels are laid over white. Grey,
    palette, CMYK, Lab and the like are converted; 16-bit grey is scaled so that 65535 becomes 255.

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
        try:
            return _array_to_rgb(pixels_of(image))
        except Unfit as error:
            raise UserError(f"the image {error}") from None
    return read_image(image)


def fit(
    image: UInt8[np.ndarray, "H W 3"],
    size_px: int | tuple[int, int],
    mode: FitMode = "crop",
    pixel_aspect: float = 1.0,
) -> UInt8[np.ndarray, "h w 3"]:
    """Brings a picture to the size of the model's frames, with antialiasing (bicubic, over the area when shrinking).

    Args:
      image: RGB pixels.
      size_px: side of a square frame, or height and width of a frame; pixels.
      mode: `crop` takes the largest part in the middle of the frame's shape; `letterbox` shows everything, centred on black.
      pixel_aspect: width of one pixel over its height; other than 1 only in some videos.

    Returns:
      RGB pixels; an image already of that size comes back unchanged, bit for bit.
    """
    height, width = image.shape[:2]
    new_height, new_width = sides_of(size_px)
    if (height, width) == (new_height, new_width) and pixel_aspect == 1:
        return image
    if mode == "crop":
        shape = new_width / new_height
        high = min(width * pixel_aspect / shape, height)  # in units of one pixel's height
        # Whole pixels, so that a picture that only has to lose its edges is not blurred by half a pixel.
        box_width, box_height = max(1, round(high * shape / pixel_aspect)), max(1, round(high))
        left, top = (width - box_width) // 2, (height - box_height) // 2
        box = (left, top, left + box_width, top + box_height)
        return _resize(image, new_width, new_height, box)
    if mode == "letterbox":
        left, top, right, bottom = content_box(width * pixel_aspect, height, size_px, mode)
        canvas = np.zeros((new_height, new_width, 3), np.uint8)
        canvas[top:bottom, left:right] = _resize(image, right - left, bottom - top, (0, 0, width, height))
        return canvas
    raise ValueError(f"mode must be 'crop' or 'letterbox', not {mode!r}")


def content_box(
    width: float, height: float, size_px: int | tuple[int, int], mode: FitMode
) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in px, of what `fit` makes of a picture; outside are the black bars of `letterbox`.

    Args:
      width, height: of the picture as displayed.
      size_px: as for `fit`.
      mode: how the picture was brought to that size.
    """
    new_height, new_width = sides_of(size_px)
    if mode == "crop":
        return 0, 0, new_width, new_height
    scale = min(new_width / width, new_height / height)
    display_width = min(new_width, max(1, round(width * scale)))
    display_height = min(new_height, max(1, round(height * scale)))
    left, top = (new_width - display_width) // 2, (new_height - display_height) // 2
    return left, top, left + display_width, top + display_height


@dataclasses.dataclass(frozen=True)
class NearestShape:
    """Sizes of frames, of which a video or picture gets the one whose shape is nearest to its own.

    Attributes:
      sizes: height and width of each, px.
    """

    sizes: tuple[tuple[int, int], ...]

    def of(self, height: float, width: float) -> tuple[int, int]:
        """The size whose ratio of sides is nearest to that of a picture, the first of equals."""
        return min(self.sizes, key=lambda size: abs(math.log(size[0] / size[1]) - math.log(height / width)))


def sides_of(size_px: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width of a frame that is given by them, or by the side of a square."""
    return (size_px, size_px) if isinstance(size_px, int) else size_px


def _decode(opened: Callable[[], Any], name: str) -> UInt8[np.ndarray, "H W 3"]:
    what = f"image {name}"
    # Pillow's decoders meet broken files with whatever exception they stumble on, so every kind is caught here.
    try:
        with warnings.catch_warnings(), _Bounded(opened()) as file:
            warnings.simplefilter("ignore")  # a lower limit of Pillow's own, and remarks on odd metadata
            if not file.peek(1):
                raise UserError(f"{what} is empty (0 bytes)")
            with Image.open(file, formats=_FORMATS) as image:
                _check_size(image.width, image.height, what)
                file.num_bytes += 16 * image.width * image.height  # more than any kind of pixels takes
                file.num_pieces += image.width * image.height // 64
                pixels = pixels_of(image)
    except UserError:
        raise
    except Unfit as error:
        raise UserError(f"{what} {error}") from None
    except Image.UnidentifiedImageError:
        raise UserError(f"{name} is not an image in a supported format; use {', '.join(_FORMATS)}") from None
    except Image.DecompressionBombError:
        raise UserError(f"{what} is larger than {MAX_PIXELS:,} pixels; make it smaller first") from None
    except Exception as error:
        raise_if_out_of_memory(error)
        raise UserError(f"{what} is damaged or truncated ({error}); save it again") from error
    if pixels.shape[2] == 4 and not pixels[..., 3].any():
        raise UserError(f"every pixel of {what} is transparent, so nothing is visible; save it without transparency")
    return _array_to_rgb(pixels)


class _Bounded(io.BufferedReader):
    """A file that limits how much is read: decoders may search for a block byte by byte, or skip as much as a header
    claims."""

    num_pieces, num_bytes = 50_000, 1 << 26  # of what stands before the pixels: profiles, remarks

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            content = super().read(MOST_WHOLE_BYTES + 1)
            if len(content) > MOST_WHOLE_BYTES:
                raise OSError(f"it has more than {MOST_WHOLE_BYTES >> 20} MiB")
            return content
        self.num_pieces -= 1
        self.num_bytes -= size
        if min(self.num_pieces, self.num_bytes) < 0:
            raise OSError("it contains too much data besides its image")
        return super().read(size)


def _check_size(width: int, height: int, what: str) -> None:
    if width * height > MAX_PIXELS:
        raise UserError(f"{what} is {width} x {height}, more than {MAX_PIXELS:,} pixels; make it smaller first")
    if width * height == 0:
        raise UserError(f"{what} has no pixels ({width} x {height})")


def _array_to_rgb(array: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    if array.dtype != np.uint8:
        raise UserError(f"the image array is {array.dtype}; convert it to uint8, 0 to 255, first")
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
