"""Summarises a curve along the video by three numbers: its retention at the end, its slope, and how many frames it lasts.

Beginning and end are the first and the last quarter of the frames (or windows) that count, so that one noisy frame does
not decide. The same numbers of resampled videos give the intervals.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cdcd_video.metrics.scores import KEPT, RETENTION, SLOPE, Measure

QUARTER = 4


@dataclass(frozen=True)
class Figures:
    """The summaries of R curves; NaN where one is not defined."""

    retention: Float[np.ndarray, " R"]
    """Mean of the end over mean of the beginning."""
    slope: Float[np.ndarray, " R"]
    """Of the straight line through the curve, per frame."""
    frames_kept: Float[np.ndarray, " R"]
    """The first frame at which the curve is worse than its beginning by `Measure.loss`; the number of frames of the video if
    there is none."""
    is_at_least: Bool[np.ndarray, " R"]
    """Whether there is no such frame."""

    def by_name(self) -> dict[str, Float[np.ndarray, " R"]]:
        """The three summaries by the suffixes of their scores."""
        return {RETENTION: self.retention, SLOPE: self.slope, KEPT: self.frames_kept}


def figures(
    curves: Float[np.ndarray, "R T"], frames: Sequence[int] | np.ndarray, num_frames: int, measure: Measure
) -> Figures:
    """The summaries of curves over the same places.

    Args:
      curves: values; a place where one is NaN (nothing could be measured there) is left out.
      frames: where they are: frame indices, or the first frames of windows, rising.
      num_frames: frames of the video.
      measure: of the curves; gives the worse direction and the loss.

    Returns:
      The summaries; all NaN with fewer than two places.
    """
    assert measure.loss is not None and curves.shape[1] == len(frames)
    num, places = curves.shape
    if places < 2:
        nothing = np.full(num, np.nan)
        return Figures(nothing, nothing, nothing, np.zeros(num, dtype=bool))
    part = max(1, places // QUARTER)
    beginning, end = _mean(curves[:, :part]), _mean(curves[:, -part:])
    with np.errstate(divide="ignore", invalid="ignore"):
        retention = np.where(beginning > 0, end / beginning, np.nan)
    allowed = measure.loss * np.where(beginning > 0, beginning, np.nan) if measure.is_relative else measure.loss
    rise = curves - beginning[:, None]
    worse = {"higher": -rise, "lower": rise}.get(measure.better, np.abs(rise))
    with np.errstate(invalid="ignore"):
        is_lost = worse >= np.broadcast_to(allowed, num)[:, None]
    kept = np.where(is_lost.any(axis=1), np.asarray(frames, dtype=np.float64)[is_lost.argmax(axis=1)], num_frames)
    unknown = np.isnan(beginning) | np.isnan(np.broadcast_to(allowed, num))
    return Figures(retention, slope(curves, frames), np.where(unknown, np.nan, kept), ~is_lost.any(axis=1) & ~unknown)


def _mean(curves: np.ndarray) -> np.ndarray:
    known = ~np.isnan(curves)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, curves, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)


def slope(curves: Float[np.ndarray, "R T"], frames: Sequence[int] | np.ndarray) -> Float[np.ndarray, " R"]:
    """Slopes per frame by least squares, over the places that are not NaN."""
    known = ~np.isnan(curves)
    count = np.maximum(known.sum(axis=1), 1)
    times = np.where(known, np.asarray(frames, dtype=np.float64), 0.0)
    values = np.where(known, curves, 0.0)
    apart = np.where(known, times - (times.sum(axis=1) / count)[:, None], 0.0)
    spread = (apart**2).sum(axis=1)
    return np.where(spread > 0, (apart * values).sum(axis=1) / np.where(spread > 0, spread, 1.0), np.nan)
