"""Where prepared clips of one size, or of several, are written to."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.data.store_files import MANIFEST
from cdcd_video.errors import UserError


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the clips of one size are written to.

    Attributes:
      folder: a prepared folder, or a cache.
      size: height and width of the frames, px, as the manifest names them; None for those of a folder of squares.
    """

    folder: Path
    size: tuple[int, int] | None


def is_of_one_size(folder: Path) -> bool:
    """Whether a folder is a prepared folder, or a cache, itself and does not hold one for each size."""
    return (folder / MANIFEST).is_file()


def places_of(
    out: Path, sizes: Sequence[tuple[int, int]], square_px: int, *, is_one: bool
) -> dict[tuple[int, int], Place]:
    """A place for each size: `out` itself where there is one size alone, else a folder in it that is called like the size.

    Args:
      out: as asked for.
      sizes: height and width of the frames, px.
      square_px: `size_px` of the clips.
      is_one: whether what is read is of one size, too.

    Raises:
      UserError: there is a folder of one size where one for each is wanted.
    """
    if is_one and len(sizes) == 1:
        return {sizes[0]: Place(out, None if sizes[0] == (square_px, square_px) else sizes[0])}
    if is_of_one_size(out):
        raise UserError(f"{out} holds clips of one size; choose another --out for several")
    return {(height, width): Place(out / f"{height}x{width}", (height, width)) for height, width in sizes}
