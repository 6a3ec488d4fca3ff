"""The sign-flip test of paired differences, and how often it finds an effect.

Under the null hypothesis each difference is as likely to have the other sign, so that every pattern of signs is equally likely
(Pitman 1937). No distribution is assumed beyond this symmetry.
"""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Float

from cdcd_video.metrics.statistics.paired import EXCHANGES

EXACT_UP_TO = 20
"""Up to this number of differences, all patterns of signs are counted."""
SIMULATED_UP_TO = 10
"""Up to this number of differences, the power is simulated: so few give only a few p-values, which the t-test does not know."""
SAMPLES = 4000
"""Simulated experiments; the standard error of a power of 80 % is 0.6 points."""
_GRID = 1000
"""Points of the sum over the scatter of a deviation."""
_EQUAL = 1 - 1e-9
"""Sums that differ by less than this factor are equal but for rounding."""


def sign_flip_p(differences: Float[np.ndarray, " n"], seed: int = 0) -> float:
    """Two-sided p-value of the hypothesis that the differences are symmetric around 0.

    It is the share of the patterns of signs under which the sum of the differences is at least as far from 0 as the observed
    one. Beyond `EXACT_UP_TO` differences, random patterns and the observed one are counted (Phipson & Smyth 2010), so that p
    is never 0.

    Args:
      differences: one per pair, finite.
      seed: of the random patterns.
    """
    assert len(differences) and np.isfinite(differences).all()
    observed = abs(float(differences.sum())) * _EQUAL
    if len(differences) <= EXACT_UP_TO:
        sums = differences[:1]  # a pattern and its opposite are equally far from 0, so the first sign is kept
        for difference in differences[1:]:
            sums = np.concatenate([sums + difference, sums - difference])
        return float((np.abs(sums) >= observed).mean())
    rng = np.random.Generator(np.random.Philox(key=seed))
    signs = 2.0 * rng.integers(2, size=(EXCHANGES, len(differences))) - 1.0
    return (int((np.abs(signs @ differences) >= observed).sum()) + 1) / (EXCHANGES + 1)


def smallest_p(num: int) -> float:
    """The smallest p-value that the test of `num` differences can give."""
    return 2.0 ** (1 - num) if num <= EXACT_UP_TO else 1 / (EXCHANGES + 1)


def attained_level(num: int, level: float) -> float:
    """The greatest possible p-value that is not above a level: how often a true null hypothesis is rejected. 0 if none is."""
    least = smallest_p(num)
    return float(np.floor(level / least + 1e-9)) * least


def power_of(shift: float, num: int, level: float) -> float:
    """How often the test rejects where `num` differences are normal with mean `shift` and deviation 1.

    Up to `SIMULATED_UP_TO` differences it is simulated, always with the same numbers. Beyond, it is the power of the paired
    t-test at the attained level, see `_t_test_power`.

    Args:
      shift: mean over deviation.
      num: of differences, at least 1.
      level: p-values up to it reject.
    """
    attained = attained_level(num, level)
    if attained == 0.0:
        return 0.0
    if num <= SIMULATED_UP_TO:
        sums, totals, observed = _simulated(num)
        further = np.abs(sums + shift * totals[:, None]) >= np.abs(observed + shift * num) * _EQUAL
        return float((further.mean(axis=0) <= attained * (1 + 1e-9)).mean())
    return _t_test_power(shift, num, _critical_t(num, attained))


def crossing(falling: Callable[[float], float], high: float, steps: int = 40) -> float:
    """Where a falling function of 0..high turns negative, by bisection."""
    low = 0.0
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


@cache
def _critical_t(num: int, level: float) -> float:
    """|t| that is exceeded with probability `level` where nothing differs."""
    return crossing(lambda critical: _t_test_power(0.0, num, critical) - level, 100.0)


def _t_test_power(shift: float, num: int, critical: float) -> float:
    """P(|t| > critical) of `num` normal differences with mean `shift` and deviation 1: the noncentral t distribution.

    t = (z + sqrt(num) shift) / w with z standard normal and (num - 1) w^2 chi-squared with num - 1 degrees of freedom; the
    probability given w is normal, and its mean over w is a sum over the midpoints of a fine grid.
    """
    scales, shares = _scales(num - 1)
    away = math.sqrt(num) * shift
    return float(shares @ (_normal_tail(critical * scales - away) + _normal_tail(critical * scales + away)))


@cache
def _scales(freedom: int) -> tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"]]:
    """Values of w, and the probability of each; density proportional to w^(freedom - 1) exp(-freedom w^2 / 2)."""
    widest = 1 + 12 / math.sqrt(freedom)
    scales = (np.arange(_GRID) + 0.5) * (widest / _GRID)
    density = np.exp((freedom - 1) * np.log(scales) - freedom * (scales**2 - 1) / 2)
    return scales, density / density.sum()


def _normal_tail(values: Float[np.ndarray, " g"]) -> Float[np.ndarray, " g"]:
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in values.tolist()])


@cache
def _simulated(num: int) -> tuple[Float[np.ndarray, "P R"], Float[np.ndarray, " P"], Float[np.ndarray, " R"]]:
    """Sums of R standard normal samples under each of P patterns of signs; the sums of the patterns; the observed sums."""
    samples = np.random.Generator(np.random.Philox(key=num)).normal(size=(num, SAMPLES))
    patterns = 1.0 - 2.0 * ((np.arange(2 ** (num - 1))[:, None] >> np.arange(num)) & 1)
    return patterns @ samples, patterns.sum(axis=1), samples.sum(axis=0)
