"""Reads a video that is a folder of images: finds and orders its frames, and refuses gaps and duplicates."""

import itertools
import re
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.data.images import read_image
from cdcd_video.errors import UserError

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def pictures_in(folder: Path) -> list[Path]:
    """The frames of a folder by the number in their names, so that 10 comes after 9.

    Names that begin with a dot are left out (macOS puts such beside every file on some disks), and so is what is no
    picture by its suffix. All names must be equal but for one number, which grows evenly.

    Raises:
      UserError: there is no picture, a number is there twice or missing, or names differ in more than one number.
    """
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _PICTURES and not path.name.startswith(".") and not path.is_dir()
    )
    if not found:
        raise UserError(f"{folder} contains no images; it needs files ending in {', '.join(_PICTURES)}")
    # Splitting at digits gives words and numbers in turn.
    split = {path: re.split(r"([0-9]+)", path.stem) for path in found}
    kinds: dict[tuple[str, ...], list[Path]] = {}
    for path, parts in split.items():
        kinds.setdefault(tuple(parts[::2]), []).append(path)
    if len(kinds) > 1:
        usual, *_, odd = sorted(kinds.values(), key=len, reverse=True)
        names = f"{usual[0].name} and {odd[0].name}"
        raise UserError(f"{folder} contains several kinds of images, such as {names}; keep only the frames in it")
    numbers = list(zip(*([int(number) for number in parts[1::2]] for parts in split.values()), strict=True))
    changing = [places for places in numbers if len(set(places)) > 1]
    if len(changing) > 1:
        raise UserError(
            f"{folder}: more than one number varies in the names of its images; number the frames with only one"
        )
    places = changing[0] if changing else (0,) * len(found) if not numbers else numbers[-1]
    frames = sorted(zip(places, found, strict=True))
    _check_even(folder, frames)
    return [path for _, path in frames]


def _check_even(folder: Path, frames: list[tuple[int, Path]]) -> None:
    least = min((after - before for (before, _), (after, _) in itertools.pairwise(frames)), default=1)
    for (number, path), (after, other) in itertools.pairwise(frames):
        if after == number:
            raise UserError(f"{folder}: frame {number} exists twice, as {path.name} and {other.name}; keep one")
        if after - number > least > 0:
            gap = f"{path.name} is followed by {other.name}"
            raise UserError(f"{folder}: frame {number + least} is missing, {gap}; restore it or renumber the frames")


def read_pictures(folder: Path, pictures: list[Path]) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Pixels of some frames of a folder.

    Raises:
      UserError: one cannot be read, leads out of the folder, or is not as large as the first.
    """
    frames = [read_image(picture, within=folder) for picture in pictures]
    for picture, frame in zip(pictures, frames, strict=True):
        if frame.shape != frames[0].shape:
            sizes = [f"{width} x {height}" for height, width, _ in (frame.shape, frames[0].shape)]
            raise UserError(
                f"{folder}: {picture.name} is {sizes[0]} and {pictures[0].name} is {sizes[1]}; all frames need the same size"
            )
    return frames
