"""Starting frames: files, examples, drawings, shapes of the built-in world, and frames of videos."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.config.ranges import MAX_SIZE_PX
from cdcd_video.config.shipped_files import named_file
from cdcd_video.data.images import as_array, fit, read_image_bytes
from cdcd_video.data.sprites import COLOURS, SHAPES, SIZES
from cdcd_video.data.sprites_render import VIEW_PX, render_object_mask
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import MIB, read_small

CANVAS_PX = 256
GROUND = "#202020"
"""Colour of an empty canvas."""
COLOUR_NAMES = {f"#{red:02x}{green:02x}{blue:02x}": name for name, (red, green, blue) in COLOURS.items()}
SIZE_NAMES = {name or "medium": radius for name, radius in SIZES.items()}
"""Size word to the radius of a shape, in pixels of the 64 x 64 view."""
Pixels = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True)
class StartFrame:
    """A starting frame, and what is noted of where it is from."""

    pixels: Pixels
    file: str = "frame.png"
    sha256: str = ""


def empty_canvas() -> Pixels:
    """A canvas of the ground's colour."""
    ground = tuple(bytes.fromhex(GROUND[1:]))
    return np.full((CANVAS_PX, CANVAS_PX, 3), ground, np.uint8)


def from_file(path: str | Path, max_megabytes: int) -> StartFrame:
    """A picture of any format that `data.images.read_image` reads.

    Raises:
      UserError: it is too large, or no picture.
    """
    content = read_small(path, "the picture", limit=max_megabytes * MIB)
    pixels = read_image_bytes(content, Path(path).name)
    pixels = shrunk(pixels, MAX_SIZE_PX)  # what is kept for the visitor is no larger than any model's frames
    return StartFrame(pixels, Path(path).name, hashlib.sha256(content).hexdigest())


def shrunk(pixels: Pixels, most_px: int) -> UInt8[np.ndarray, "h w 3"]:
    """A picture of the same shape whose longer side is at most `most_px` pixels."""
    height, width = pixels.shape[:2]
    share = min(1, most_px / max(height, width))
    return fit(pixels, (max(1, round(share * height)), max(1, round(share * width))))


def from_example(name: str) -> StartFrame:
    """An example image that comes with the project."""
    path = named_file("examples")(name)
    return from_file(path, 1)


def has_strokes(canvas: Any) -> bool:
    """Whether there is more on a canvas of Gradio's than its ground."""
    composite = canvas.get("composite") if isinstance(canvas, dict) else None
    return composite is not None and bool((as_array(composite) != empty_canvas()[0, 0]).any())


def from_canvas(canvas: Any) -> StartFrame:
    """What was drawn.

    Args:
      canvas: of Gradio's `ImageEditor`: `composite` is the picture, uint8 (H, W, 3).

    Raises:
      UserError: nothing was drawn.
    """
    composite = canvas.get("composite") if isinstance(canvas, dict) else None
    if composite is None:
        raise UserError("the canvas is empty; draw something, or add a shape")
    return StartFrame(as_array(composite), "drawing.png")


def with_shape(pixels: Pixels, shape: str, colour: str, size: str, x: float | None, y: float | None) -> Pixels:
    """A picture with a shape of the built-in world on it.

    Args:
      pixels: a square picture.
      shape, colour, size: words of that world.
      x, y: its centre, as shares of the picture from the left and from the top.

    Raises:
      UserError: one of the words is unknown, a share outside 0 to 1, or the picture no square.
    """
    for word, known in ((shape, SHAPES), (colour, COLOURS), (size, SIZE_NAMES)):
        if word not in known:
            raise UserError(f"there is no {word!r} among the shapes and colours; choose one of {', '.join(known)}")
    if x is None or y is None or not (0 <= x <= 1 and 0 <= y <= 1):
        raise UserError(f"the place is {x}, {y}; both go from 0 to 1")
    if pixels.shape[0] != pixels.shape[1]:
        raise UserError(
            f"the canvas has {pixels.shape[1]} x {pixels.shape[0]} px, and shapes are put on square ones; clear it first"
        )
    centre, radius = np.array([[x, y]]) * VIEW_PX, np.array([SIZE_NAMES[size]])
    mask = render_object_mask(shape, centre, radius, np.zeros(1), len(pixels))[0][..., None]
    mixed = pixels + mask * (np.array(COLOURS[colour], np.float32) - pixels)
    return mixed.round().astype(np.uint8)
