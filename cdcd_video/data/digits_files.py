"""The digits of MNIST (LeCun et al. 1998) from their four files, and digits that are drawn here where there is no file."""

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from cdcd_video.errors import UserError

SIDE = 28
"""Pixels of a digit's side."""


@dataclass(frozen=True)
class IdxFile:
    """One of the four files, plain or as `.gz`."""

    name: str
    count: int
    md5: str
    """Of the plain file, as published; a `.gz` differs with the program that packed it."""

    @property
    def is_images(self) -> bool:
        """Whether it holds images, or labels."""
        return "images" in self.name

    @property
    def num_bytes(self) -> int:
        """Of the plain file."""
        return 16 + self.count * SIDE**2 if self.is_images else 8 + self.count


FILES = (
    IdxFile("train-images-idx3-ubyte", 60_000, "6bbc9ace898e44ae57da46a324031adb"),
    IdxFile("train-labels-idx1-ubyte", 60_000, "a25bea736e30d166cdddb491f175f624"),
    IdxFile("t10k-images-idx3-ubyte", 10_000, "2646ac647ad5339dbf082846283269ea"),
    IdxFile("t10k-labels-idx1-ubyte", 10_000, "27ae3e4e09519cfbb04c329615203637"),
)
NUM_TRAINING = 60_000
"""The first of all digits; the others are MNIST's test half."""


@dataclass(frozen=True)
class Digits:
    """Pictures of digits and what they show."""

    images: UInt8[np.ndarray, "M 28 28"]
    """White on black."""
    labels: UInt8[np.ndarray, " M"]

    def __post_init__(self) -> None:
        order = np.argsort(self.labels, kind="stable")
        starts = np.searchsorted(self.labels[order], np.arange(11))
        of_class = tuple(order[starts[digit] : starts[digit + 1]] for digit in range(10))
        object.__setattr__(self, "of_class", of_class)

    of_class: tuple[np.ndarray, ...] = ()
    """Numbers of the pictures of each digit, rising."""


def read_mnist(folder: Path) -> Digits:
    """All 70,000 digits of MNIST, its training half first.

    Args:
      folder: where the four files lie, plain or as `.gz`.

    Raises:
      UserError: a file is missing or is not the published one.
    """
    contents = {file.name: _read(folder, file) for file in FILES}
    images = [contents[file.name][16:].reshape(-1, SIDE, SIDE) for file in FILES if file.is_images]
    labels = [contents[file.name][8:] for file in FILES if not file.is_images]
    return Digits(np.concatenate(images), np.concatenate(labels))


def _read(folder: Path, file: IdxFile) -> UInt8[np.ndarray, " B"]:
    facts = f"{file.num_bytes:,} bytes when unpacked, md5 {file.md5}"
    plain, packed = folder / file.name, folder / f"{file.name}.gz"
    found = next((path for path in (plain, packed) if path.is_file()), None)
    if found is None:
        raise UserError(f"{folder} has no {file.name} and no {packed.name} ({facts}); put MNIST's four files there")
    try:
        with gzip.open(found) if found is packed else found.open("rb") as stream:
            content = stream.read(file.num_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{found} cannot be read ({error}); copy it again ({facts})") from error
    if len(content) != file.num_bytes or hashlib.md5(content, usedforsecurity=False).hexdigest() != file.md5:
        raise UserError(f"{found} is not the published file ({facts}); copy it again")
    return np.frombuffer(content, np.uint8)


# ------------------------------------------------------------------------------------------------- digits of our own

_ARC = tuple(math.radians(10 * step) for step in range(37))


def _arc(
    x: float, y: float, width: float, height: float, begin: float = 0.0, end: float = 1.0
) -> list[tuple[float, float]]:
    """Points of an ellipse, clockwise from its top; from and to a share of the whole."""
    first, last = round(36 * begin), round(36 * end)
    return [(x + width * math.sin(angle), y - height * math.cos(angle)) for angle in _ARC[first : last + 1]]


STROKES: tuple[tuple[list[tuple[float, float]], ...], ...] = (
    (_arc(0.5, 0.5, 0.22, 0.36),),
    ([(0.38, 0.26), (0.52, 0.14), (0.52, 0.86)],),
    ([*_arc(0.5, 0.32, 0.2, 0.18, 0.75, 1.0), *_arc(0.5, 0.32, 0.2, 0.18, 0.0, 0.38), (0.3, 0.84), (0.72, 0.84)],),
    (
        [*_arc(0.48, 0.32, 0.2, 0.18, 0.8, 1.0), *_arc(0.48, 0.32, 0.2, 0.18, 0.0, 0.5)],
        [*_arc(0.48, 0.68, 0.22, 0.18, 0.0, 0.72)],
    ),
    ([(0.58, 0.86), (0.58, 0.14), (0.28, 0.62), (0.74, 0.62)],),
    ([(0.7, 0.15), (0.36, 0.15), (0.34, 0.46), *_arc(0.48, 0.64, 0.22, 0.2, 0.0, 0.75)],),
    (
        [
            (0.62, 0.14),
            (0.38, 0.44),
            (0.3, 0.66),
            *_arc(0.5, 0.66, 0.2, 0.19, 0.75, 1.0),
            *_arc(0.5, 0.66, 0.2, 0.19, 0.0, 0.75),
        ],
    ),
    ([(0.28, 0.16), (0.72, 0.16), (0.44, 0.86)],),
    (_arc(0.5, 0.32, 0.17, 0.17), _arc(0.5, 0.68, 0.21, 0.18)),
    ([*_arc(0.5, 0.34, 0.19, 0.19, 0.25, 1.0), *_arc(0.5, 0.34, 0.19, 0.19, 0.0, 0.25), (0.66, 0.5), (0.54, 0.86)],),
)
"""Lines of each digit in a square of side 1, y downwards."""


def stroke_digits(num_per_class: int, seed: int = 0) -> Digits:
    """Digits drawn from strokes, for tests and trials without any file: not MNIST, and no figures may be reported of them.

    Args:
      num_per_class: pictures of each digit, no two alike.
      seed: of their slant, size, thickness and place.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    images = [_picture(STROKES[digit], rng) for digit in range(10) for _ in range(num_per_class)]
    return Digits(np.stack(images), np.repeat(np.arange(10, dtype=np.uint8), num_per_class))


def _picture(strokes: tuple[list[tuple[float, float]], ...], rng: np.random.Generator) -> UInt8[np.ndarray, "28 28"]:
    slant, turn, thickness = rng.uniform(-0.25, 0.25), rng.uniform(-0.15, 0.15), rng.uniform(1.0, 1.7)
    scale, shift = rng.uniform(0.85, 1.05, 2), rng.uniform(-0.04, 0.04, 2)
    axis = np.arange(SIDE) + 0.5
    pixels = np.stack(np.meshgrid(axis, axis), -1)  # (y, x, [x, y])
    nearest = np.full((SIDE, SIDE), np.inf)
    for stroke in strokes:
        points = (np.array(stroke) - 0.5) * scale
        points = points @ np.array([[1.0, turn], [-slant, 1.0]])
        points = (points + 0.5 + shift) * SIDE
        for begin, end in zip(points[:-1], points[1:], strict=True):
            way = end - begin
            along = np.clip(((pixels - begin) @ way) / max(float(way @ way), 1e-9), 0.0, 1.0)
            nearest = np.minimum(nearest, np.linalg.norm(pixels - begin - along[..., None] * way, axis=-1))
    return (255 * np.clip(thickness + 0.5 - nearest, 0.0, 1.0)).round().astype(np.uint8)
