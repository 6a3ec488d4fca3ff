"""Finds the digits of a clip in a video: the places at which their pictures together explain each frame best.

The pictures of the digits are known; how they move is not used, and nothing is learned. All digits of a frame are placed
together, because they overlap often: a picture alone is matched nearly as well by two others that lie across each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from cdcd_video.data.digits_files import SIDE
from cdcd_video.data.digits_world import FREE_PX, VIEW_PX
from cdcd_video.errors import UserError

LEAST_INK = 0.4
"""Share of a digit's ink that must be in the frame at its place; below it the digit is lost."""
_REACH_PX = 2
"""How far the places of the coarse search may be off."""
_SWEEPS = 2

Frames = Float32[np.ndarray, "F H W"]
Corners = Int64[np.ndarray, "D F 2"]


@dataclass(frozen=True)
class DigitsTrack:
    """Where D digits are in F frames.

    Attributes:
      corners: upper left corners as (y, x) in px.
      ink: share of each digit's ink that is in the frame there, 0 to 1.
      present: whether `ink` is at least `LEAST_INK`.
      other_ink: ink of the other digits within the digit's square, over the digit's own.
      squares: the frame within each digit's square, grey levels in 0 to 255.
    """

    corners: Corners
    ink: Float64[np.ndarray, "D F"]
    present: Bool[np.ndarray, "D F"]
    other_ink: Float64[np.ndarray, "D F"]
    squares: Float32[np.ndarray, "D F 28 28"]


def find_digits(frames: UInt8[np.ndarray, "F 64 64 3"], pictures: UInt8[np.ndarray, "D 28 28"]) -> DigitsTrack:
    """Places the digits in every frame, each frame with its neighbours' places as further starts of the search.

    Args:
      frames: the video.
      pictures: one for each digit, white on black.

    Raises:
      UserError: the frames have another shape or type.
    """
    if frames.shape[1:] != (VIEW_PX, VIEW_PX, 3) or frames.dtype != np.uint8 or not len(frames):
        raise UserError(f"digits: frames must be uint8 (F, {VIEW_PX}, {VIEW_PX}, 3), got {frames.dtype} {frames.shape}")
    grey, glyphs = frames.mean(axis=-1, dtype=np.float32), pictures.astype(np.float32)
    search = _Search(grey, glyphs)
    order = list(range(len(glyphs)))
    best = search.refined(search.improved(search.from_nothing(order), order))
    costs = search.costs(best)
    for start in (search.from_nothing(order[::-1]), *(np.roll(best, shift, axis=1) for shift in (1, -1))):
        found = search.refined(search.improved(start, order))
        other = search.costs(found)
        is_better = other < costs
        best[:, is_better], costs = found[:, is_better], np.minimum(costs, other)
    return _described(grey, glyphs, best)


class _Search:
    """The squared error of frames, of which digits explain a part, at half the resolution and then at the whole."""

    def __init__(self, grey: Frames, glyphs: Float32[np.ndarray, "D 28 28"]):
        self.grey, self.glyphs = grey, glyphs
        self._half_grey, self._half_glyphs = _halved(grey), _halved(glyphs)

    def from_nothing(self, order: list[int]) -> Corners:
        """Digits placed one after the other, each beside those before it."""
        corners = np.zeros((len(self.glyphs), len(self.grey), 2), dtype=np.int64)
        for place, digit in enumerate(order):
            corners[digit] = self._coarse(digit, corners, order[:place])
        return corners

    def improved(self, corners: Corners, order: list[int]) -> Corners:
        """Each digit placed again beside all others."""
        corners = corners.copy()
        for digit in order * _SWEEPS:
            corners[digit] = self._coarse(digit, corners, [other for other in order if other != digit])
        return corners

    def refined(self, corners: Corners) -> Corners:
        """The best places near the coarse ones."""
        corners, order = corners.copy(), list(range(len(corners)))
        for digit in order * _SWEEPS:
            corners[digit] = self._fine(digit, corners, [other for other in order if other != digit])
        return corners

    def costs(self, corners: Corners) -> Float64[np.ndarray, " F"]:
        """Sum of the squared errors of each frame."""
        missing = rendered(self.glyphs, corners) - self.grey
        return np.einsum("fhw,fhw->f", missing, missing, dtype=np.float64)

    def _coarse(self, digit: int, corners: Corners, others: list[int]) -> Int64[np.ndarray, "F 2"]:
        around = _halved(rendered(self.glyphs[others], corners[others], len(self.grey)))
        glyph, free = self._half_glyphs[digit], FREE_PX // 2 + 1
        # Pixels without ink change nothing. One of the glyph at a time, for all places: twice as fast as window by window.
        gain = np.zeros((len(self.grey), free, free), dtype=np.float32)
        for y, x in zip(*np.nonzero(glyph), strict=True):
            part = (slice(None), slice(y, y + free), slice(x, x + free))
            gain += _gain(glyph[y, x], around[part], self._half_grey[part])
        return 2 * np.stack(np.unravel_index(gain.reshape(len(gain), -1).argmax(axis=1), (free, free)), axis=-1)

    def _fine(self, digit: int, corners: Corners, others: list[int]) -> Int64[np.ndarray, "F 2"]:
        reach = np.arange(-_REACH_PX, _REACH_PX + 1)
        offsets = np.stack(np.meshgrid(reach, reach, indexing="ij"), axis=-1).reshape(-1, 2)
        tried = np.clip(corners[digit][:, None] + offsets, 0, FREE_PX)  # (F, 25, 2)
        around = rendered(self.glyphs[others], corners[others], len(self.grey))
        inked = np.nonzero(self.glyphs[digit])
        where = (np.arange(len(tried))[:, None, None], *(tried[..., axis, None] + inked[axis] for axis in (0, 1)))
        gain = _gain(self.glyphs[digit][inked], around[where], self.grey[where]).sum(axis=-1)
        return tried[np.arange(len(tried)), gain.argmax(axis=1)]


def _gain(ink: Any, around: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """By how much a digit's ink reduces the squared error of pixels around which other digits lie."""
    before, after = around - pixels, np.maximum(around, ink)
    after -= pixels
    before *= before
    after *= after
    before -= after
    return before


def rendered(glyphs: np.ndarray, corners: np.ndarray, num_frames: int | None = None) -> Frames:
    """Frames with digits (D, 28, 28) at their corners (D, F, 2); the brightest is seen."""
    canvas = np.zeros((corners.shape[1] if num_frames is None else num_frames, VIEW_PX, VIEW_PX), dtype=np.float32)
    frames, inside = np.arange(len(canvas))[:, None, None], np.arange(SIDE)
    for glyph, places in zip(glyphs, corners, strict=True):
        where = (frames, places[:, 0, None, None] + inside[:, None], places[:, 1, None, None] + inside)
        canvas[where] = np.maximum(canvas[where], glyph)
    return canvas


def _halved(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), pictures.shape[1] // 2, 2, -1, 2).mean(axis=(2, 4))


def _windows(frames: np.ndarray, side: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(frames, (side, side), axis=(1, 2))


def _cut(frames: Frames, corners: np.ndarray) -> np.ndarray:
    """Squares of frames (F, H, W) at corners (F, n, 2)."""
    return _windows(frames, SIDE)[np.arange(len(frames))[:, None], corners[..., 0], corners[..., 1]]


def _described(grey: Frames, glyphs: np.ndarray, corners: Corners) -> DigitsTrack:
    squares = np.stack([_cut(grey, places[:, None])[:, 0] for places in corners])
    total = glyphs.sum(axis=(1, 2), dtype=np.float64)[:, None]
    missing = np.maximum(glyphs[:, None] - squares, 0).sum(axis=(2, 3), dtype=np.float64)
    ink = 1 - missing / total
    overlapping = np.empty_like(ink)
    for digit, places in enumerate(corners):
        others = [other for other in range(len(glyphs)) if other != digit]
        around = _cut(rendered(glyphs[others], corners[others], len(grey)), places[:, None])[:, 0]
        overlapping[digit] = around.sum(axis=(1, 2), dtype=np.float64) / total[digit]
    return DigitsTrack(corners, ink, ink >= LEAST_INK, overlapping, squares)
