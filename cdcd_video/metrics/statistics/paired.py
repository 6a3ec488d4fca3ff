"""Differences of two systems with intervals and p-values, over the same videos or over different ones.

A score is a ratio of sums over videos, as in `intervals.bootstrap`: each system is given by its totals and weights, one
video per row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.statistics.intervals import RESAMPLES, TAIL

Sums = Float[np.ndarray, "V 2"]
"""Per video, total and weight."""

Values = TypeVar("Values", np.ndarray, np.float64)

EXACT_UP_TO = 15
"""Up to this number of videos that differ, the permutation test is exact."""
EXCHANGES = 9999
"""Random permutations where there are more."""


@dataclass(frozen=True)
class Difference:
    """First minus second."""

    value: float | None
    """Of the scores; where one value is right, of their distances to it. None where a score is not defined."""
    low: float | None
    high: float | None
    p: float | None
    """Two-sided p-value; None for unpaired systems."""
    n: int
    """Videos of the smaller side."""


def paired(first: Sums, second: Sums, right: float | None = None, seed: int = 0) -> Difference:
    """The difference over the same videos, row by row.

    The interval is a percentile bootstrap over videos, each with the results of both systems (Efron & Tibshirani 1993, ch. 13),
    so that the difficulty of a video cancels. The p-value is a permutation test that exchanges the results of the systems within
    videos (Pitman 1937); with equal weights this is the sign-flip test. It is exact where at most `EXACT_UP_TO` videos differ.
    Otherwise it uses random permutations and the observed one (Phipson & Smyth 2010), so that p is never 0.

    Args:
      first, second: totals and weights, row i of both from the same video.
      right: the right value, for scores where neither higher nor lower is better.
      seed: of the bootstrap and the permutations.

    Returns:
      The difference with interval and p.
    """
    assert first.shape == second.shape
    counts = _resamples(len(first), _generator(seed, 0))
    value, low, high = _interval(first, second, counts, counts, right)
    p = None if value is None else _exchange_test(first, second, right, _generator(seed, 1))
    return Difference(value, low, high, p, len(first))


def least_p(n: int) -> float:
    """The smallest p that `paired` can give over n videos: as many differ as are enumerated, and all in one direction."""
    return min(2.0 / 2 ** min(n, EXACT_UP_TO), 1.0)


def unpaired(first: Sums, second: Sums, right: float | None = None, seed: int = 0) -> Difference:
    """The difference of two systems over different videos: each is resampled on its own, without a p-value."""
    counts = [_resamples(len(side), _generator(seed, place)) for place, side in enumerate((first, second))]
    value, low, high = _interval(first, second, counts[0], counts[1], right)
    return Difference(value, low, high, None, min(len(first), len(second)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for multiple tests (Holm 1979), which controls the family-wise error rate."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[place] = least
    return adjusted


def cost(values: Values, right: float | None) -> Values:
    """The values, or their distances to the right value where there is one."""
    return values if right is None else np.abs(values - right)


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def _resamples(num: int, rng: np.random.Generator) -> Float[np.ndarray, "R V"]:
    """How often each video counts in each bootstrap resample."""
    return rng.multinomial(num, np.full(num, 1 / num), size=RESAMPLES).astype(np.float64)


def _apart(first: np.ndarray, second: np.ndarray, right: float | None) -> np.ndarray:
    """Sums (..., 2) of both -> difference; NaN where nothing was summed."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = [cost(sums[..., 0] / sums[..., 1], right) for sums in (first, second)]
        return np.where(np.isfinite(ratios[0]) & np.isfinite(ratios[1]), ratios[0] - ratios[1], np.nan)


def _interval(
    first: Sums, second: Sums, first_counts: np.ndarray, second_counts: np.ndarray, right: float | None
) -> tuple[float | None, float | None, float | None]:
    value = float(_apart(first.sum(axis=0), second.sum(axis=0), right))
    if np.isnan(value):
        return None, None, None
    resampled = _apart(first_counts @ first, second_counts @ second, right)
    if min(len(first), len(second)) < 2:
        return value, None, None
    low, high = np.nanquantile(resampled, (TAIL, 1 - TAIL))
    return value, float(low), float(high)


def _exchange_test(first: Sums, second: Sums, right: float | None, rng: np.random.Generator) -> float:
    gap = (second - first)[(first != second).any(axis=1)]
    num = len(gap)
    if num == 0:
        return 1.0
    is_exact = num <= EXACT_UP_TO
    # A permutation and its complement give the same difference up to sign, so half of them suffice.
    every = (np.arange(2 ** (min(num, EXACT_UP_TO) - 1))[:, None] >> np.arange(num)) & 1
    ways = every if is_exact else rng.integers(2, size=(EXCHANGES, num))
    moved = ways @ gap
    # A permutation that leaves a system without a measurement counts as extreme.
    found = np.abs(_apart(first.sum(axis=0) + moved, second.sum(axis=0) - moved, right))
    observed = np.abs(_apart(first.sum(axis=0), second.sum(axis=0), right))
    extreme = int((~(found < observed * (1 - 1e-9))).sum())
    return extreme / len(ways) if is_exact else (extreme + 1) / (EXCHANGES + 1)
