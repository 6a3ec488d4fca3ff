"""Is one system better than another, or is it chance? Differences of two systems over the same videos, or over others.

A score is a ratio of sums over videos, as in `intervals.bootstrap`: each system is given as a pair of columns, what was
summed and how much was summed, one video a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.statistics.intervals import CONFIDENCE, RESAMPLES

Sums = Float[np.ndarray, "V 2"]
"""Per video, total and weight."""

Values = TypeVar("Values", np.ndarray, np.float64)

EXACT_UP_TO = 15
"""Videos that differ, up to which every way of exchanging them is looked at."""
EXCHANGES = 9999
"""Ways drawn where there are more."""


@dataclass(frozen=True)
class Difference:
    """First minus second."""

    value: float | None
    """Of the scores; where one value is right, of their distances to it. None where a score is not defined."""
    low: float | None
    high: float | None
    p: float | None
    """Chance of a difference as large in either direction if the systems were alike; None where they are not paired."""
    n: int
    """Videos of the smaller side."""


def paired(first: Sums, second: Sums, right: float | None = None, seed: int = 0) -> Difference:
    """The difference over the same videos, row by row.

    The interval redraws videos, each with both systems' results (percentiles; Efron & Tibshirani 1993, ch. 13), so what
    makes a video hard for both cancels. The p-value exchanges the two systems' results within videos, which changes
    nothing but by chance if the systems are alike (Pitman 1937); where all weights are equal that is the test by
    flipping the signs of the differences. All ways are counted where at most `EXACT_UP_TO` videos differ; else drawn
    ones, with the observed way among them (Phipson & Smyth 2010), so p is never 0.

    Args:
      first, second: totals and weights, row i of both from the same video.
      right: what the score should be, where neither more nor less is better.
      seed: of the redraws.

    Returns:
      The difference with interval and p.
    """
    assert first.shape == second.shape
    counts = _redraws(len(first), _generator(seed, 0))
    value, low, high = _interval(first, second, counts, counts, right)
    p = None if value is None else _exchange_test(first, second, right, _generator(seed, 1))
    return Difference(value, low, high, p, len(first))


def unpaired(first: Sums, second: Sums, right: float | None = None, seed: int = 0) -> Difference:
    """The difference between two systems that did not draw the same videos: each side is redrawn by itself, no p."""
    counts = [_redraws(len(side), _generator(seed, place)) for place, side in enumerate((first, second))]
    value, low, high = _interval(first, second, counts[0], counts[1], right)
    return Difference(value, low, high, None, min(len(first), len(second)))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values for the worst case over all of them (Holm 1979): below a, at most a chance of a of any false alarm."""
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[place] = least
    return adjusted


def cost(values: Values, right: float | None) -> Values:
    """Values so that their differences mean something: distances to what is right, where that is known."""
    return values if right is None else np.abs(values - right)


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, stream]))


def _redraws(num: int, rng: np.random.Generator) -> Float[np.ndarray, "R V"]:
    """How often each video counts in each redraw."""
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
    redrawn = _apart(first_counts @ first, second_counts @ second, right)
    if min(len(first), len(second)) < 2:
        return value, None, None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(redrawn, (tail, 1 - tail))
    return value, float(low), float(high)


def _exchange_test(first: Sums, second: Sums, right: float | None, rng: np.random.Generator) -> float:
    gap = (second - first)[(first != second).any(axis=1)]
    num = len(gap)
    if num == 0:
        return 1.0
    is_exact = num <= EXACT_UP_TO
    # Exchanging all but some is exchanging those the other way round: half of the ways say all.
    every = (np.arange(2 ** (min(num, EXACT_UP_TO) - 1))[:, None] >> np.arange(num)) & 1
    ways = every if is_exact else rng.integers(2, size=(EXCHANGES, num))
    moved = ways @ gap
    # A way that leaves a system without anything measured says nothing against chance: it counts as extreme.
    found = np.abs(_apart(first.sum(axis=0) + moved, second.sum(axis=0) - moved, right))
    seen = np.abs(_apart(first.sum(axis=0), second.sum(axis=0), right))
    extreme = int((~(found < seen * (1 - 1e-9))).sum())
    return extreme / len(ways) if is_exact else (extreme + 1) / (EXCHANGES + 1)
