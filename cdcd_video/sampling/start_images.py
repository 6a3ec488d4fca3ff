"""Given frames in the forms that people have them in: paths, bytes, Pillow, NumPy, torch; one, or several. And as squares."""

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from jaxtyping import UInt8
from torch import Tensor

from cdcd_video.config.shipped_files import named_file
from cdcd_video.config.value_types import Fit
from cdcd_video.data.images import as_array, content_box, fit, read_image, read_image_bytes
from cdcd_video.errors import UserError, is_out_of_memory
from cdcd_video.sampled_video import Video
from cdcd_video.storage.numerals import significant

Image = str | Path | bytes | PIL.Image.Image | np.ndarray | Tensor
"""A path, or the name of an example, such as "red-circle"; the bytes of a file; a Pillow image; an array (H, W, 3) or a tensor
(3, H, W), in uint8 or as floats from 0 to 1."""
Images = Image | Sequence[Image]
"""One, or several: a list, an array (B, H, W, 3) or a tensor (B, 3, H, W)."""


def listed(image: Any) -> tuple[list[Any], bool]:
    """Several images as a list, and whether they were several."""
    if isinstance(image, np.ndarray | Tensor) and image.ndim == 4:
        return list(image), True
    return (list(image), True) if isinstance(image, list | tuple) else ([image], False)


def pixels(image: Any) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of one image of any of the forms; see `data.images.as_array` for transparency, profiles and grey.

    Raises:
      UserError: it is none of the forms, an address of the web, or cannot be read.
    """
    if image is None:
        raise UserError("no image is given; give the first frame of the video: image=...")
    if isinstance(image, io.IOBase):
        image = image.read()
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image_bytes(bytes(image))
    if isinstance(image, Tensor):
        image = _channels_last(image)
    if isinstance(image, np.ndarray):
        return as_array(_as_uint8(image) if np.issubdtype(image.dtype, np.floating) else image)
    if isinstance(image, str | os.PathLike):
        return read_image(named_file("examples")(os.path.expanduser(image)))
    if isinstance(image, PIL.Image.Image):
        return as_array(image)
    if isinstance(image, Video):
        raise UserError("the image is a whole video; give one of its frames, such as video[-1]")
    raise UserError(
        f"the image is of the type {type(image).__name__}; give a path, bytes, a Pillow image, an array (H, W, 3) or a"
        " tensor (3, H, W)"
    )


def fitted(
    image: UInt8[np.ndarray, "H W 3"], size_px: int, how: Fit, what: str = "image"
) -> tuple[UInt8[np.ndarray, "S S 3"], list[str]]:
    """An image at the model's size, and a sentence on what became of its sides; none where it is a square.

    Args:
      image: RGB pixels.
      size_px: side of the model's frames.
      how: see `Fit`.
      what: it is, for the sentence.

    Raises:
      UserError: it must be a square, and is none.
    """
    height, width = image.shape[:2]
    if height == width:
        return fit(image, size_px, "crop" if how == "exact" else how), []
    about = f"the {what} has {width} x {height} px, and the model's frames are square"
    if how == "exact":
        raise UserError(f"{about}; set fit to crop or letterbox, or give a square image")
    if how == "crop":
        lost = 1 - min(height, width) / max(height, width)
        note = f"{about}: {significant(100 * lost, 2)} % of it is cut off; set fit to letterbox to keep all of it"
    else:
        left, top, right, bottom = content_box(width, height, size_px, how)
        bars = 1 - (right - left) * (bottom - top) / size_px**2
        note = (
            f"{about}: black bars fill {significant(100 * bars, 2)} % of them; set fit to crop to show its centre alone"
        )
    return fit(image, size_px, how), [note]


def _channels_last(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise UserError(
            f"the image tensor has shape {tuple(image.shape)}; it must be (3, H, W), or (B, 3, H, W) for several"
        )
    try:
        image = (image if image.layout == torch.strided else image.to_dense()).detach().permute(1, 2, 0).cpu()
        return (image.float() if image.dtype in (torch.bfloat16, torch.float16) else image).numpy()
    except (RuntimeError, TypeError) as error:  # on the meta device, quantized, of a dtype that NumPy does not have
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"the image tensor ({image.dtype} on {image.device}) has no pixels that can be read; give floats from 0 to 1, or"
            " uint8 from 0 to 255"
        ) from None


def _as_uint8(image: np.ndarray) -> np.ndarray:
    """From floats in [0, 1]; a pixel that was a byte over 255 becomes that byte again."""
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # also where a value is NaN
        raise UserError(
            f"the image has floats from {low:g} to {high:g}; give floats from 0 to 1, or uint8 from 0 to 255"
        )
    return np.rint(image.astype(np.float64) * 255).astype(np.uint8)
