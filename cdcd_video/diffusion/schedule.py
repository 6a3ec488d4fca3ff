"""Noise schedules, and the times of a training step.

Time runs from data (0) to source (1). `alpha(t)` is the probability that a code has been kept until time t; a schedule is any
function with alpha(0) = 1 and alpha(1) = 0 exactly. A chain of S steps has the times i / S.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

Schedule = Callable[[Tensor], Tensor]
"""Times in [0, 1], float64, any shape -> alpha of the same shape: strictly decreasing, 1 at 0 and 0 at 1."""


def linear(t: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """alpha(t) = 1 - t: the same share of the codes is lost at every time [D3PM sec. 3.2, absorbing case]."""
    return 1.0 - t


def cosine(t: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
    """alpha(t) = 1 - cos(pi (1 - t) / 2): sampling sets few codes early and many late [MaskGIT, cosine].

    Computed as 1 - sin(pi t / 2), which is exact at both ends in floating point.
    """
    return 1.0 - torch.sin(0.5 * math.pi * t)


SCHEDULES: dict[str, Schedule] = {"linear": linear, "cosine": cosine}


class Times(NamedTuple):
    """The step of each example.

    `index` is i in 1..S (the time of x_t is i / S, that of x_s is (i - 1) / S) and `weight` the importance weight, of
    mean 1: the mean of S * weight * (bound of step i) is the whole chain's bound, whatever the share of full
    corruption.
    """

    index: Int64[Tensor, "B"]  # type: ignore[assignment]  # hides `tuple.index`
    weight: Float[Tensor, "B"]

    def spans(self, num_steps: int) -> tuple[Float64[Tensor, "B"], Float64[Tensor, "B"]]:
        """The times (s, t) of the steps: x_t is sampled at t, and the bound is on x_s."""
        return (self.index - 1).double() / num_steps, self.index.double() / num_steps


def sample_times(batch: int, num_steps: int, generator: torch.Generator, full_share: float = 0.0) -> Times:
    """Samples one step of the chain for every example of a batch, evenly over the chain [VDM app. I.1].

    The batch is stratified: the unit interval is cut into B equal parts, which are assigned to the examples at random. Each
    example alone is still distributed as (1 - full_share) uniform over 1..S + full_share on S.

    Args:
      generator: source of randomness; the result lies on its device.
      full_share: in [0, 1), the additional share of examples at the fully corrupted end.

    Returns:
      Step indices in 1..S and their importance weights.

    Raises:
      ValueError: if `num_steps` is below 1 or `full_share` outside [0, 1).
    """
    if num_steps < 1:
        raise ValueError(f"a chain needs at least one step, not {num_steps}")
    if not 0.0 <= full_share < 1.0:
        raise ValueError(f"full_share must lie in [0, 1), not {full_share}")
    device = generator.device
    jitter = torch.rand(batch, generator=generator, device=device, dtype=torch.float64)
    place = (torch.randperm(batch, generator=generator, device=device) + jitter) / batch
    # The inverse of the distribution function: the last `full_share` of the unit interval belongs to step S.
    index = (place / (1.0 - full_share) * num_steps).long().clamp_(max=num_steps - 1) + 1
    at_end = (1.0 - full_share) + full_share * num_steps
    weight = torch.where(index == num_steps, 1.0 / at_end, 1.0 / (1.0 - full_share))
    return Times(index, weight.float())
