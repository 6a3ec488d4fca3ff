"""The straight path from data to noise, x_t = (1 - t) x_0 + t eps: noise, times of training, solvers.

It serves every baseline on continuous values. Time runs from 0 (data) to 1 (noise). The velocity of the path is eps - x_0, and
its expectation given x_t is v(x_t, t) = (x_t - E[x_0 | x_t]) / t (Lipman et al. 2023). Whatever predicts E[x_0 | x_t] can
therefore be integrated here.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cdcd_video.config import FlowSection
from cdcd_video.diffusion.schedule import sample_times
from cdcd_video.records import RowGenerator

NUM_TIMES = 1000
"""t is one of a thousand times in training: 1/1000, ..., 1, or as many quantiles of another distribution."""

Expected = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> E[x_0 | x_t]."""
Step = Callable[[Expected, Tensor, float, float], Tensor]
"""(network, x_t, t, s) -> x_s, for s < t."""


def noised(x_0: Float[Tensor, "B P V"], noise: Float[Tensor, "B P V"], t: Float[Tensor, "B"]) -> Float[Tensor, "B P V"]:
    """The straight path from data to noise: (1 - t) x_0 + t eps (Lipman et al. 2023, optimal transport, sigma_min = 0)."""
    return torch.lerp(x_0, noise, t[:, None, None])


def training_times(num_rows: int, full_share: float, settings: FlowSection, rows: RowGenerator) -> Float[Tensor, "B"]:
    """A time in (0, 1] for each example of this process; stratified over the batch as those of the discrete diffusion are.

    Args:
      num_rows: B.
      full_share: share of the examples at t = 1.
      settings: the distribution of the others.
    """
    index = sample_times(rows.reduce.num_all(num_rows), NUM_TIMES, rows.generator, full_share).index
    if settings.times == "uniform":
        return rows.reduce.own(index) / NUM_TIMES
    quantiles = logit_normal_quantiles(settings.times_mean, settings.times_deviation).float().to(index.device)
    return rows.reduce.own(quantiles[index - 1])


def logit_normal_quantiles(mean: float, deviation: float) -> Float64[Tensor, "T"]:
    """A thousand times of the logit-normal distribution, logit(t) of N(mean, deviation^2) (Esser et al. 2024, sec. 3.1).

    They are the quantiles of (i - 1/2) / 1000, apart from the last, which is 1: pure noise, where sampling begins.
    """
    levels = (torch.arange(1, NUM_TIMES + 1, dtype=torch.float64) - 0.5) / NUM_TIMES
    times = torch.sigmoid(mean + deviation * torch.special.ndtri(levels))
    times[-1] = 1.0
    return times


def euler_step(expected: Expected, x_t: Tensor, t: float, s: float) -> Tensor:
    """x_s = x_t + (s - t) v, which is x_0_hat + (s / t) (x_t - x_0_hat): no division by a small t; at s = 0 it is x_0_hat."""
    return torch.lerp(_at(expected, x_t, t), x_t, s / t)


def heun_step(expected: Expected, x_t: Tensor, t: float, s: float) -> Tensor:
    """Euler's step, then once more with the mean of the velocities at both ends: second order, two passes of the network.

    The step to s = 0 is Euler's, because the velocity there is 0 / 0 (Karras et al. 2022, algorithm 1).
    """
    x_0 = _at(expected, x_t, t)
    x_s = torch.lerp(x_0, x_t, s / t)
    if s == 0:
        return x_s
    velocity = ((x_t - x_0) / t + (x_s - _at(expected, x_s, s)) / s) / 2
    return x_t + (s - t) * velocity


STEPS: dict[str, Step] = {"euler": euler_step, "heun": heun_step}
"""By `SamplingParams.solver`."""


@torch.no_grad()
def integrate(
    expected: Expected, x_t: Float[Tensor, "B P V"], times: Float64[Tensor, "S1"], solver: str
) -> Float[Tensor, "B P V"]:
    """Solves dx/dt = v(x, t) along falling times.

    Args:
      expected: (x_t, t) -> E[x_0 | x_t].
      x_t: at the first of the times.
      times: falling, such as `even_times`; with a single one nothing happens.
      solver: a name in `STEPS`.
    """
    step, instants = STEPS[solver], times.tolist()
    for t, s in zip(instants[:-1], instants[1:], strict=True):
        x_t = step(expected, x_t, t, s)
    return x_t


def _at(expected: Expected, x_t: Tensor, t: float) -> Tensor:
    return expected(x_t, torch.full((len(x_t),), t, device=x_t.device))
