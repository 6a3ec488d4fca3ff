"""Values and differences of arms, with intervals over videos and training seeds.

All cells have the same videos, so videos and seeds are crossed. A bootstrap resample takes videos with replacement, the same
for every seed and arm, and seeds with replacement, the same for both arms of a difference (the pigeonhole bootstrap of Owen
2007, which is conservative). Resampling S seeds underestimates their variance by S / (S - 1) (Davison & Hinkley 1997, sec.
3.8), which is corrected. Three seeds still say little about a fourth, so a difference is significant only if at least three
seeds agree in sign as well.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from cdcd_video.ablate.gather import Sums
from cdcd_video.metrics import curve_summary
from cdcd_video.metrics.statistics.intervals import RESAMPLES, TAIL

LEAST_SEEDS = 3


@dataclass(frozen=True)
class Value:
    """Mean over seeds, with its interval and the value of each seed."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    num_videos: int


@dataclass(frozen=True)
class Difference:
    """An arm minus its reference, of distances to the right value where there is one."""

    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    better: int
    """Which sign is better: 1 or -1."""

    @property
    def is_significant(self) -> bool:
        """The interval excludes 0, and all of at least `LEAST_SEEDS` seeds agree in sign."""
        signs = {np.sign(value) for value in self.by_seed}
        return len(self.by_seed) >= LEAST_SEEDS and len(signs) == 1 and (self.low > 0 or self.high < 0)

    @property
    def is_better(self) -> bool:
        """Whether the value favours the arm."""
        return self.value * self.better > 0


def value_of(sums: Sums, figure: str = "whole", seed: int = 0, *, is_share: bool = False) -> Value:
    """A score of an arm.

    Args:
      sums: of a metric.
      figure: `whole` video, its `slope` per frame, its `end`: the last quarter of the frames, or its `last` frame.
      seed: of the bootstrap.
      is_share: whether it is a fraction. Where all videos of all seeds have 0 or all have 1, the exact bound for as many
        trials as videos (Clopper & Pearson 1934) replaces the bootstrap interval.
    """
    own, resampled = _resampled(sums, figure, seed)
    num_videos = int((sums.whole[1] > 0).any(axis=0).sum())
    value, low, high = _interval(own, resampled, seed)
    if is_share:
        far_end = TAIL ** (1 / max(num_videos, 1))
        low = far_end if value == 1.0 else max(0.0, low)
        high = 1 - far_end if value == 0.0 else min(1.0, high)
    return Value(value, low, high, tuple(own.tolist()), num_videos)


def difference_of(
    arm: Sums, reference: Sums, better: str, figure: str = "whole", right: float | None = None, seed: int = 0
) -> Difference | None:
    """An arm minus its reference, over the seeds that both have; None where they share none.

    Args:
      arm, reference: the same metric of both, over the same videos.
      better: `higher`, `lower`, or `one` or `real` for scores with a right value.
      figure: as for `value_of`.
      right: the right value, for `one` and `real`; None where it is not known.
      seed: of the bootstrap.
    """
    seeds = [seed for seed in arm.seeds if seed in reference.seeds]
    if not seeds or arm.videos != reference.videos or (better in ("one", "real") and right is None):
        return None
    (own, resampled), (own_other, resampled_other) = (
        _resampled(side.of(seeds), figure, seed) for side in (arm, reference)
    )
    if better in ("one", "real"):
        own, resampled, own_other, resampled_other = (
            abs(side - right) for side in (own, resampled, own_other, resampled_other)
        )
    apart = own - own_other
    ends = _interval(apart, resampled - resampled_other, seed)
    return Difference(*ends, tuple(apart.tolist()), 1 if better == "higher" else -1)


def curve_of(sums: Sums) -> Float[np.ndarray, "S F"]:
    """A metric per frame, of every seed."""
    totals, weights = sums.by_frame.sum(axis=2)
    return _ratio(totals, weights)


def _resampled(sums: Sums, figure: str, seed: int) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, "R S"]]:
    """A figure of every seed: over all videos, and over every bootstrap resample."""
    counts = _counts(len(sums.videos), seed)
    plain = np.ones((1, len(sums.videos)))
    if figure == "whole":
        own, resampled = (_ratio(*(counted @ side.T for side in sums.whole)) for counted in (plain, counts))
        return own[0], resampled
    curves = []
    for counted in (plain, counts):
        sides = [np.einsum("rv,svf->rsf", counted, side, optimize=True) for side in sums.by_frame]
        curves.append(_ratio(*sides))
    if figure in ("end", "last"):
        part = max(1, len(sums.frames) // curve_summary.QUARTER) if figure == "end" else 1
        own, resampled = (np.nanmean(curve[..., -part:], axis=-1) for curve in curves)
    else:
        frames = np.asarray(sums.frames, np.float64)
        own, resampled = (
            curve_summary.slope(curve.reshape(-1, len(frames)), frames).reshape(curve.shape[:2]) for curve in curves
        )
    return own[0], resampled


def _interval(
    own: Float[np.ndarray, " S"], resampled: Float[np.ndarray, "R S"], seed: int
) -> tuple[float, float, float]:
    """Mean over seeds, and the ends of its interval over resamples of videos and of seeds."""
    num = len(own)
    mean = resampled.mean(axis=1)
    if num > 1:
        rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
        picked = rng.integers(num, size=(len(resampled), num))
        of_seeds = np.take_along_axis(resampled, picked, axis=1).mean(axis=1)
        mean = mean + np.sqrt(num / (num - 1)) * (of_seeds - mean)
    known = mean[np.isfinite(mean)]
    low, high = np.quantile(known, (TAIL, 1 - TAIL)) if len(known) else (np.nan, np.nan)
    return float(own.mean()), float(low), float(high)


@cache
def _counts(num_videos: int, seed: int) -> Float[np.ndarray, "R V"]:
    """How often each resample has each video: the same for every arm."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 0]))
    picked: Int[np.ndarray, "R V"] = rng.integers(num_videos, size=(RESAMPLES, num_videos))
    return np.stack([np.bincount(row, minlength=num_videos) for row in picked]).astype(np.float64)


def _ratio(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.where(weights > 0, totals / np.where(weights > 0, weights, 1.0), np.nan)
