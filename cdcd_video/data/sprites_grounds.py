"""The grounds of sprites scenes in numpy: two colours and a pattern between them, soft coloured noise, or a photograph."""

import functools
import math
from pathlib import Path

import numpy as np

from cdcd_video.data.images import fit, read_image
from cdcd_video.data.sprites_scene import VIEW_PX, Background
from cdcd_video.errors import UserError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif")


@functools.lru_cache(maxsize=256)
def ground(background: Background, size_px: int) -> np.ndarray:
    """The background in 0..255, float32 (H, W, 3), read-only because it is shared.

    Args:
      background: what is seen; its view says how high and wide.
      size_px: side of a picture of the 64x64 view.

    Raises:
      UserError: a photograph that cannot be read.
    """
    picture = _PICTURES.get(background.kind, _pattern)(background, size_px)
    if background.is_mirrored:
        picture = np.ascontiguousarray(picture[:, ::-1])
    picture.flags.writeable = False
    return picture


def sides_px(view: tuple[float, float], size_px: int) -> tuple[int, int]:
    """Height and width of a view's picture, px, where the 64x64 view has `size_px`.

    Raises:
      UserError: a side would be no whole number.
    """
    width, height = (side * size_px / VIEW_PX for side in view)
    if not (width.is_integer() and height.is_integer()):
        raise UserError(
            f"sprites: at {size_px} px the view {view} would have {width:g} x {height:g} px; use whole numbers"
        )
    return int(height), int(width)


def pictures_in(folder: Path) -> tuple[str, ...]:
    """The pictures of a folder, in the order of their names; other files are passed over.

    Raises:
      UserError: there is no such folder, no picture in it, or one that cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"data.backgrounds: {folder} is no folder; name one of pictures")
    files = sorted(str(file) for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES)
    if not files:
        raise UserError(f"data.backgrounds: {folder} holds no picture ({', '.join(_SUFFIXES)}); put some there")
    for file in files:
        read_image(file)
    return tuple(files)


def _pattern(background: Background, size_px: int) -> np.ndarray:
    """Two colours and what is between them."""
    height, width = sides_px(background.view, size_px)
    x, y = (((np.arange(side) + 0.5) * (VIEW_PX / size_px)).astype(np.float32) for side in (width, height))
    mix = _PATTERNS[background.kind](background, x[None, :], y[:, None])
    mix = np.broadcast_to(mix, (height, width))[..., None].astype(np.float32)
    first, second = np.array([background.first, background.second], dtype=np.float32) * 255
    return first + mix * (second - first)


def _noise(background: Background, size_px: int) -> np.ndarray:
    """Soft coloured noise: independent normal values on a lattice for each channel, interpolated between its points."""
    rng = np.random.Generator(np.random.Philox(key=background.seed))
    across, down = (math.ceil(side / background.period_px) + 2 for side in background.view)
    lattice = rng.normal(size=(down, across, 3)).clip(-2, 2).astype(np.float32)
    (top, below), (left, right) = (_between(background, side, size_px) for side in sides_px(background.view, size_px))
    rows = lattice[top] + below[:, None, None] * (lattice[top + 1] - lattice[top])
    field = rows[:, left] + right[None, :, None] * (rows[:, left + 1] - rows[:, left])
    return _centred(background, field)


def _between(background: Background, side: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a side lie on the lattice: the point before each, and the smoothed share of the way to the next."""
    at = (np.arange(side) + 0.5) * (VIEW_PX / size_px) / background.period_px + background.phase
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32)
    return low, share * share * (3 - 2 * share)


def _photo(background: Background, size_px: int) -> np.ndarray:
    """A window of a photograph around the ground's own colour, softened by the ground's contrast."""
    picture = _photograph(background.path)
    height, width = picture.shape[:2]
    left, top, share = background.window
    largest = min(width / background.view[0], height / background.view[1])
    across, down = (max(1, round(share * largest * side)) for side in background.view)
    row, column = round(top * (height - down)), round(left * (width - across))
    window = picture[row : row + down, column : column + across]
    part = fit(window, sides_px(background.view, size_px), "crop").astype(np.float32) / 255
    return _centred(background, part - part.mean(axis=(0, 1)))


def _centred(background: Background, field: np.ndarray) -> np.ndarray:
    first = np.array(background.first, dtype=np.float32)
    return np.clip(first + np.float32(background.contrast) * field, 0.0, 1.0) * 255


@functools.lru_cache(maxsize=64)
def _photograph(path: str) -> np.ndarray:
    return read_image(path)


def _along(background: Background, x: np.ndarray, y: np.ndarray, turn: float = 0.0) -> np.ndarray:
    """Distance from the view's middle along the pattern's direction, in px."""
    angle, (width, height) = background.angle_rad + turn, background.view
    return (x - width / 2) * math.cos(angle) + (y - height / 2) * math.sin(angle)


def _soft_square_wave(way: np.ndarray, period: float, phase: float) -> np.ndarray:
    """-1 and 1 in turns, with edges about 1.5 px wide so that they do not shimmer."""
    ramp = np.abs((way / period + phase) % 1.0 - 0.5) - 0.25  # a triangle wave in -1/4..1/4, slope 1 / period
    return np.clip(ramp * period / 0.75, -1.0, 1.0)


def _plain(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.zeros((1, 1))


def _gradient(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.clip(_along(background, x, y) / (1.2 * max(background.view)) + 0.5, 0.0, 1.0)


def _stripes(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * _soft_square_wave(_along(background, x, y), background.period_px, background.phase)


def _checker(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    period = 1.5 * background.period_px
    one = _soft_square_wave(_along(background, x, y), period, background.phase)
    return 0.5 + 0.5 * one * _soft_square_wave(_along(background, x, y, math.pi / 2), period, background.phase)


def _blobs(background: Background, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=background.seed))
    total = np.zeros((1, 1))
    for angle, phase, wavelength in zip(
        rng.uniform(0, 2 * math.pi, 6), rng.uniform(0, 2 * math.pi, 6), rng.uniform(18, 48, 6), strict=True
    ):
        total = total + np.cos((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / wavelength) + phase)
    return 0.5 + 0.5 * np.tanh(total / 1.5)


_PATTERNS = {"plain": _plain, "gradient": _gradient, "stripes": _stripes, "checker": _checker, "blobs": _blobs}
_PICTURES = {"noise": _noise, "photo": _photo}
