"""What a contact sheet shows: videos of any kind as pixels, its texts, and its size. Imports no torch."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cdcd_video.errors import UserError
from cdcd_video.storage.memory import check_fits
from cdcd_video.storage.picture_format import check_sides

GAP_PX, LINE_PX = 2, 15
"""Between frames, and the height of a text."""
_KINDS = "give each video as a Video, a list of Pillow images, uint8 pixels (F, H, W, 3), or what to_tensor gives"


def listed_videos(rows: Any) -> list[UInt8[np.ndarray, "F H W 3"]]:
    """The pixels of one or several videos; see `pixels_of`.

    Args:
      rows: an iterable of videos, such as a call of the pipeline returns with any `output_type` but "latent"; or one video.

    Raises:
      UserError: there is none, or one of another kind or without frames.
    """
    held = getattr(rows, "frames", rows)  # of a `Video`, and of a `VideoOutput`
    if getattr(held, "ndim", None) == 4:
        held = [held]
    if isinstance(held, str | bytes | os.PathLike) or not isinstance(held, Iterable):
        raise UserError(f"the rows of a contact sheet are of the type {type(rows).__name__}; {_KINDS}")
    videos = [pixels_of(row) for row in held]
    if not videos or any(video.size == 0 for video in videos):
        raise UserError("a contact sheet needs at least one video, and at least one frame of each")
    return videos


def pixels_of(row: Any) -> UInt8[np.ndarray, "F H W 3"]:
    """The pixels of one video: of a `Video`, a list of Pillow images, an array (F, H, W, 3) or a tensor (F, 3, H, W), in uint8
    or as floats from 0 to 1.

    Raises:
      UserError: it is none of these.
    """
    held, found = getattr(row, "frames", row), f"of the type {type(row).__name__}"
    if hasattr(held, "detach") and held.ndim == 4:  # a tensor, known without importing torch
        held = held.detach().cpu().permute(0, 2, 3, 1)
        held = (held.float() if held.is_floating_point() else held).numpy()
    elif isinstance(held, list | tuple) and held and all(hasattr(one, "convert") for one in held):
        if len({one.size for one in held}) > 1:
            raise UserError("the images of a video in a contact sheet have several sizes; resize them to one")
        held = np.stack([np.asarray(one.convert("RGB")) for one in held])
    if isinstance(held, np.ndarray):
        found = f"an array {held.shape} of {held.dtype}"
        is_video = held.ndim == 4 and held.shape[3] == 3
        if is_video and held.dtype == np.uint8:
            return held
        if is_video and np.issubdtype(held.dtype, np.floating):
            if held.size == 0 or (held.min() >= 0 and held.max() <= 1):
                return np.rint(held.astype(np.float64) * 255).astype(np.uint8)
            found += f" from {held.min():g} to {held.max():g}, and floats go from 0 to 1"
    raise UserError(f"a video in a contact sheet is {found}; {_KINDS}")


def texts_of(name: str, given: Iterable[Any] | str | None) -> list[str] | None:
    """Texts on one line each: numbers, such as seeds, are written out.

    Args:
      name: of the argument.
      given: texts, a single one, or None.

    Raises:
      UserError: it is something else.
    """
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise UserError(f"{name} is of the type {type(given).__name__}; give a list of texts")
    return [" ".join(str(one).split()) for one in ([given] if isinstance(given, str) else given)]


def sheet_size(shapes: Sequence[tuple[int, ...]], *, has_labels: bool, has_columns: bool) -> tuple[int, int]:
    """Width and height of a contact sheet, px.

    Args:
      shapes: of the videos, (F, H, W) or longer.
    """
    above = LINE_PX * has_labels
    width = GAP_PX + max(shape[0] * (shape[2] + GAP_PX) for shape in shapes)
    return width, GAP_PX + has_columns * LINE_PX + sum(above + shape[1] + GAP_PX for shape in shapes)


def check_sheet(kind: str, size: tuple[int, int], what: str, fewer: str) -> None:
    """Refuses a sheet that its format or the memory cannot hold, before it is drawn.

    Args:
      kind: Pillow's name of the format.
      size: width and height, px.
      what: it is, as the beginning of a sentence.
      fewer: of what there is too much.

    Raises:
      UserError: it is too large.
    """
    check_sides(kind, *size, what, f"use .png, or fewer {fewer}")
    check_fits(3 * size[0] * size[1], what, f"use fewer {fewer}")


def checked_path(path: Any, what: str) -> str:
    """A path with the user's folder in place of `~`.

    Raises:
      UserError: it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{what} is saved under a path, not in a {type(path).__name__}; give the name of a file")
    return os.path.expanduser(os.fspath(path))


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as much of its beginning as fits with "..." after it."""
    if fits(text):
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(text[:middle] + "...") else (low, middle - 1)
    return text[:low] + "..."
