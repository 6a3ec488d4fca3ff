"""A contact sheet of a batch: a row per prompt, a column per seed, a few frames of each video."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.clips import read_clip
from cdcd_video.storage.memory import check_fits
from cdcd_video.storage.picture_format import check_sides, picture_format
from cdcd_video.storage.sheet_rows import sheet_size
from cdcd_video.video import contact_sheet

NUM_FRAMES = 4
"""Frames of a video in its cell, evenly spaced from the first to the last."""
TILE_PX = 96
"""Largest side of a frame."""
_GAP_PX = 8


def check_grid(path: Path, num_rows: int, num_seeds: int, size_px: int) -> None:
    """Checks, before anything is sampled, that the grid can be written.

    Raises:
      UserError: the suffix is of no picture, or the picture would be too large for its format, or not fit into memory.
    """
    kind, side = picture_format(path), min(size_px, TILE_PX)
    what = f"a grid of {num_rows} x {num_seeds} videos"
    shape = (num_seeds, side, _strip_width(side))
    size = sheet_size([shape] * num_rows, has_labels=True, has_columns=True)
    check_sides(kind, *size, what, "use .png, or fewer prompts or seeds")
    check_fits(num_rows * num_seeds * NUM_FRAMES * side**2 * 3 * 2, what, "leave out --grid")


def write_grid(
    path: Path, videos: Sequence[Sequence[Path]], prompts: Sequence[str], columns: Sequence[str], size_px: int
) -> Path:
    """Reads the videos back and writes the sheet.

    Args:
      path: a picture file.
      videos: of each prompt, one per seed.
      prompts: the line above each row.
      columns: what stands above them; nothing where there are none.
      size_px: side of the model's frames.

    Returns:
      The path.

    Raises:
      UserError: a video cannot be read, or the place cannot be written.
    """
    side = min(size_px, TILE_PX)
    rows = [np.stack([_strip(file, side) for file in of_prompt]) for of_prompt in videos]
    return contact_sheet(rows, path, list(prompts), columns=columns)


def _strip(file: Path, side: int) -> UInt8[np.ndarray, "H W 3"]:
    """A few frames of a video side by side, on white; all strips have one width."""
    frames = read_clip(file, size_px=side, mode="letterbox").frames  # nothing of a wide video is cut off
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, NUM_FRAMES).round().astype(int))]
    strip = np.full((side, _strip_width(side), 3), 255, np.uint8)
    strip[:, : len(chosen) * side] = np.concatenate(list(chosen), axis=1)
    return strip


def _strip_width(side: int) -> int:
    return NUM_FRAMES * side + _GAP_PX
