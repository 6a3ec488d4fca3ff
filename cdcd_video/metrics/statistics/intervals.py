"""Confidence intervals of scores over few videos."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
LEAST_FOR_HALVES = 8
"""Fewest videos for intervals by random halves."""


def bootstrap(
    totals: Float[np.ndarray, "V T"], weights: Float[np.ndarray, "V T"], seed: int = 0, *, is_share: bool = False
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Ratios of sums over videos, with percentile intervals (Efron & Tibshirani 1993, ch. 13).

    Whole videos are resampled, because objects and frames of one video are not independent. The same seed gives the same
    resamples, so systems over the same scenes are compared on the same ones.

    Where all videos have a fraction of 0 or all of 1, the bootstrap interval has no width. The exact bound for as many trials
    as videos (Clopper & Pearson 1934) takes its place.

    Args:
      totals: per video, the sum of what is averaged; T quantities at once.
      weights: per video, how much was summed (a count, or the truth's sum for a ratio to the truth).
      seed: of the bootstrap.
      is_share: whether the ratios are fractions from 0 to 1.

    Returns:
      Value, low and high, each (T,); NaN where the weights sum to 0. With a single video the ends are NaN, but for a share of 0
      or 1, of which the exact bound is known.
    """
    value, resampled = resampled_ratios(totals, weights, seed)
    known = ~np.isnan(resampled).all(axis=0) & np.isfinite(value)
    ends = np.full((2, totals.shape[1]), np.nan)
    if known.any() and len(totals) > 1:
        ends[:, known] = np.nanquantile(resampled[:, known], (TAIL, 1 - TAIL), axis=0)
    if is_share:
        counted = (weights > 0).sum(axis=0)
        for agreed, far_end in ((0.0, 1), (1.0, 0)):
            alike = known & (value == agreed)
            bound = TAIL ** (1 / np.maximum(counted[alike], 1))
            ends[1 - far_end, alike], ends[far_end, alike] = agreed, abs(1 - agreed - bound)
    return np.where(known, value, np.nan), ends[0], ends[1]


def resampled_ratios(
    totals: Float[np.ndarray, "V T"], weights: Float[np.ndarray, "V T"], seed: int = 0
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "R T"]]:
    """The ratios of sums over all videos, and over each of `RESAMPLES` bootstrap resamples; NaN where weights sum to 0."""
    num_videos = len(totals)
    rng = np.random.Generator(np.random.Philox(key=seed))
    picked = rng.integers(num_videos, size=(RESAMPLES, num_videos)) + num_videos * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(picked.ravel(), minlength=picked.size).reshape(picked.shape).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = totals.sum(axis=0) / weights.sum(axis=0)
        resampled = (counts @ totals) / (counts @ weights)
    resampled[~np.isfinite(resampled)] = np.nan
    return value, resampled


def over_halves(
    statistic: Callable[..., Float[np.ndarray, " T"]], sizes: tuple[int, ...], seed: int, num_halves: int
) -> Float[np.ndarray, "R _"]:
    """Statistics of sets of videos over random halves of each set, sampled without replacement.

    For a statistic that is nearly linear in the samples, halves vary around their mean as whole sets do around theirs (Politis
    et al. 1999, ch. 2; Shao & Tu 1995, sec. 2.3); `around` therefore puts their deviations around the value of the whole sets.
    A bootstrap would repeat samples, which biases a distance of sets. The interval is for the expectation at this number of
    samples, bias included.

    Args:
      statistic: from the sorted numbers of the videos of each half to T values.
      sizes: of the sets.
      seed: of the halves; the same seed and sizes keep the same videos.
      num_halves: how many.

    Returns:
      A row per half; none where a set is smaller than `LEAST_FOR_HALVES`.
    """
    if min(sizes) < LEAST_FOR_HALVES:
        return np.empty((0, 1))
    rng = np.random.Generator(np.random.Philox(key=seed))
    return np.stack([statistic(*(_half(size, rng) for size in sizes)) for _ in range(num_halves)])


def around(
    value: Float[np.ndarray, " T"], halves: Float[np.ndarray, "R _"]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """The ends of intervals around values of whole sets, from the deviations of halves from their mean."""
    if not len(halves):
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    low, high = value + np.quantile(halves - halves.mean(axis=0), (TAIL, 1 - TAIL), axis=0)
    return low, high


def _half(size: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    return np.sort(rng.permutation(size)[: size // 2])
