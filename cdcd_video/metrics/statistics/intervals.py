"""How far to trust what was measured on a handful of videos."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2000
CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
LEAST_FOR_HALVES = 8
"""Fewer videos than this have no halves worth comparing."""


def bootstrap(
    totals: Float[np.ndarray, "V T"], weights: Float[np.ndarray, "V T"], seed: int = 0, *, is_share: bool = False
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Ratios of sums over videos, with percentile intervals (Efron & Tibshirani 1993, ch. 13).

    Whole videos are redrawn, not objects or frames: what happens within one video is not independent. The same seed
    redraws the same videos, so rows over the same scenes are compared on the same draws.

    Where all videos agree on a share of 0 or 1, redraws agree too and would claim certainty; the exact bound for as many
    trials as videos (Clopper & Pearson 1934) stands in.

    Args:
      totals: per video, the sum of what is averaged; T quantities at once.
      weights: per video, how much was summed (a count, or the truth's sum for a ratio to the truth).
      seed: of the redraws.
      is_share: whether the ratios are shares, from 0 to 1.

    Returns:
      Value, low and high, each (T,); NaN where the weights sum to 0, and for the ends where there is only one video.
    """
    value, redrawn = redrawn_ratios(totals, weights, seed)
    known = ~np.isnan(redrawn).all(axis=0) & np.isfinite(value)
    ends = np.full((2, totals.shape[1]), np.nan)
    if known.any() and len(totals) > 1:
        ends[:, known] = np.nanquantile(redrawn[:, known], (TAIL, 1 - TAIL), axis=0)
    if is_share:
        counted = (weights > 0).sum(axis=0)
        for agreed, far_end in ((0.0, 1), (1.0, 0)):
            alike = known & (value == agreed)
            bound = TAIL ** (1 / np.maximum(counted[alike], 1))
            ends[1 - far_end, alike], ends[far_end, alike] = agreed, abs(1 - agreed - bound)
    return np.where(known, value, np.nan), ends[0], ends[1]


def redrawn_ratios(
    totals: Float[np.ndarray, "V T"], weights: Float[np.ndarray, "V T"], seed: int = 0
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, "R T"]]:
    """The ratios of sums over all videos, and over each of `RESAMPLES` redraws of them; NaN where weights sum to 0."""
    num_videos = len(totals)
    rng = np.random.Generator(np.random.Philox(key=seed))
    picked = rng.integers(num_videos, size=(RESAMPLES, num_videos)) + num_videos * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(picked.ravel(), minlength=picked.size).reshape(picked.shape).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = totals.sum(axis=0) / weights.sum(axis=0)
        redrawn = (drawn @ totals) / (drawn @ weights)
    redrawn[~np.isfinite(redrawn)] = np.nan
    return value, redrawn


def over_halves(
    statistic: Callable[..., Float[np.ndarray, " T"]], sizes: tuple[int, ...], seed: int, num_halves: int
) -> Float[np.ndarray, "R T"]:
    """Statistics of whole sets of videos, over random halves of each set, drawn without replacement.

    For what is nearly linear in the samples, halves scatter around their mean as whole sets do around theirs (Politis et
    al. 1999, ch. 2; Shao & Tu 1995, sec. 2.3), so `around` lays their deviations around the value of the whole sets. An
    ordinary bootstrap would count the same sample twice, which a distance of sets takes for two samples that agree. The
    interval is one for the expectation at this number of samples: the bias that comes with it stays in.

    Args:
      statistic: takes the videos kept of each set (sorted numbers), gives T values.
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
    value: Float[np.ndarray, " T"], halves: Float[np.ndarray, "R T"]
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """The ends of intervals around values of whole sets: as far from them as halves scatter around their own mean."""
    if not len(halves):
        return np.full_like(value, np.nan), np.full_like(value, np.nan)
    low, high = value + np.quantile(halves - halves.mean(axis=0), (TAIL, 1 - TAIL), axis=0)
    return low, high


def _half(size: int, rng: np.random.Generator) -> Int[np.ndarray, " n"]:
    return np.sort(rng.permutation(size)[: size // 2])
