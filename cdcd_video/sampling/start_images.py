"""Starting frames in the forms that people have them in: paths, bytes, Pillow, NumPy, torch; one, or several."""

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

from cdcd_video.data.images import as_array, read_image_bytes
from cdcd_video.errors import UserError

Image = str | Path | bytes | PIL.Image.Image | np.ndarray | Tensor
"""A path; the bytes of a file; a Pillow image; an array (H, W, 3) or a tensor (3, H, W), in uint8 or as floats from 0 to 1."""
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
    if isinstance(image, str) and image.lower().startswith(("http://", "https://")):
        raise UserError(f"{image} is an address, and nothing is downloaded; save the image, and give its path or bytes")
    if isinstance(image, io.IOBase):
        image = image.read()
    if isinstance(image, bytes | bytearray | memoryview):
        return read_image_bytes(bytes(image))
    if isinstance(image, Tensor):
        image = _channels_last(image)
    if isinstance(image, np.ndarray):
        return as_array(_as_uint8(image) if np.issubdtype(image.dtype, np.floating) else image)
    if isinstance(image, str | os.PathLike | PIL.Image.Image):
        return as_array(image)
    raise UserError(
        f"the image is of the type {type(image).__name__}; give a path, bytes, a Pillow image, an array (H, W, 3) or a"
        " tensor (3, H, W)"
    )


def _channels_last(image: Tensor) -> np.ndarray:
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise UserError(
            f"the image tensor has shape {tuple(image.shape)}; it must be (3, H, W), or (B, 3, H, W) for several"
        )
    image = image.detach().permute(1, 2, 0).cpu()
    return (image.float() if image.dtype in (torch.bfloat16, torch.float16) else image).numpy()


def _as_uint8(image: np.ndarray) -> np.ndarray:
    """From floats in [0, 1]; a pixel that was a byte over 255 becomes that byte again."""
    low, high = (float(image.min()), float(image.max())) if image.size else (0.0, 0.0)
    if not (low >= 0 and high <= 1):  # also where a value is NaN
        raise UserError(
            f"the image has floats from {low:g} to {high:g}; give floats from 0 to 1, or uint8 from 0 to 255"
        )
    return np.rint(image.astype(np.float64) * 255).astype(np.uint8)
