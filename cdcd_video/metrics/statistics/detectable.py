"""The minimum detectable effect: the smallest true difference that a design finds with a given probability.

It is a multiple of the deviation s of the paired differences (Bloom 1995). For the t-test over n pairs the multiple is about
(t_{1 - level/2} + t_{power}) / sqrt(n); here it is solved from the power of the sign-flip test, which is what is used.
"""

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import numpy as np

from cdcd_video.metrics.statistics.sign_flip import attained_level, crossing, power_of

POWER = 0.8
MOST_PAIRS = 500
"""Designs with more pairs are not considered."""
_WIDEST = 64.0
"""In deviations: an effect that any test finds which can reject at all."""


def minimum_detectable_effect(deviation: float, num: int, level: float, power: float = POWER) -> float:
    """The true difference at which the sign-flip test over `num` pairs rejects with probability `power`.

    Args:
      deviation: standard deviation of the paired differences, in any unit.
      num: of pairs.
      level: p-values up to it reject; with Holm's procedure over m tests, that of its first step, 0.05 / m.
      power: probability of rejecting.

    Returns:
      In the unit of `deviation`; infinite where so few pairs have no p-value as small as the level.
    """
    return deviation * multiple(num, level, power) if attained_level(num, level) else float("inf")


@cache
def multiple(num: int, level: float, power: float = POWER) -> float:
    """The minimum detectable effect in deviations of the paired differences; the test must be able to reject."""
    return crossing(lambda shift: power - power_of(shift, num, level), _WIDEST, steps=20)


def pairs_needed(deviation: float, effect: float, level: float, power: float = POWER) -> int | None:
    """The least number of pairs with which an effect is found; None if it is more than `MOST_PAIRS`.

    Args:
      deviation: standard deviation of the paired differences.
      effect: true difference in the same unit, above 0.
      level, power: as for `minimum_detectable_effect`.
    """
    # The test with a known deviation needs the fewest.
    known = (NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(power)) * deviation / effect
    candidates = range(max(2, int(np.ceil(known**2))), MOST_PAIRS + 1)
    fitting = (num for num in candidates if minimum_detectable_effect(deviation, num, level, power) <= effect)
    return next(fitting, None)


def pooled_deviation(groups: Sequence[np.ndarray]) -> tuple[float, int] | None:
    """Standard deviation around the mean of each group (n,), pooled over the groups, and its degrees of freedom.

    None where no group has two values.
    """
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in groups if len(group))
    freedom = sum(len(group) - 1 for group in groups if len(group))
    return (float(np.sqrt(squares / freedom)), freedom) if freedom else None
