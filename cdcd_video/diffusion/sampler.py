"""Samplers: from the noise distribution back to codes, ancestrally with exact jumps, or by unmasking in an order.

Every video has its own `torch.Generator`, which is read in an order that does not depend on the other videos. A video is
therefore the same in any batch, as long as the denoiser keeps its examples apart too.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from cdcd_video.diffusion.categorical import guided, sample_categorical, truncate_logits, wide
from cdcd_video.diffusion.process import DiscreteProcess, InterpolatingProcess
from cdcd_video.diffusion.shapes import Codes, Denoise, Logits

__all__ = [
    "SAMPLERS",
    "Denoise",
    "even_times",
    "guided",
    "has_order",
    "sample_ancestral",
    "sample_by_confidence",
    "sample_by_purity",
    "truncate_logits",
]

Propose = Callable[[Logits, Bool[Tensor, "B N"], Float[Tensor, "2 B N"]], tuple[Codes, Float[Tensor, "B N"]]]
"""(logits of x_0, where [MASK] is, uniform numbers) -> (a code for every place, its priority: the largest is set first)."""


def even_times(num_steps: int) -> Float64[Tensor, "S1"]:
    """The times 1, (S-1)/S, ..., 1/S, 0 of S steps."""
    return torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps


def sample_ancestral(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Codes,
    num_steps: int,
    generators: Sequence[torch.Generator],
    *,
    times: Float64[Tensor, "S1"] | None = None,
    **truncation: Any,
) -> Codes:
    """Ancestral sampling: x_1 from p(x_1), then x_s from p(x_s | x_t) down to x_0 [VQD eq. 11].

    Every step uses the exact posterior of its own jump, so `times` may be any subset of the times of training.

    Args:
      denoise: the model; called under `torch.no_grad`.
      process: the forward process; for `vq_diffusion` the times must be among its own.
      source: the earlier frame's codes, in 0..K ([MASK] is allowed).
      num_steps: number of evenly spaced steps S; unused where `times` is given.
      generators: one per row of the batch, on the device of `source`.
      times: falling from 1 to 0.
      **truncation: `temperature`, `top_p` and `top_k` of `truncate_logits`, for p(x_0 | x_t) at every step.

    Returns:
      Codes in 0..K-1.

    Raises:
      ValueError: if the generators are not one per row, or the times do not fall from 1 to 0.
    """
    times = _checked(num_steps, times, source, generators)
    ones = torch.ones(len(source), dtype=torch.float64, device=source.device)
    with torch.no_grad():
        x_t = process.start(source, _uniforms(2, source, generators))
        for time, earlier in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            t, s = time * ones, earlier * ones
            log_p0 = truncate_logits(denoise(x_t, t.float()), **truncation)
            x_t = process.posterior(x_t, s, t, source).sample(log_p0, _uniforms(3, source, generators))
    return x_t


def sample_by_confidence(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Codes,
    num_steps: int,
    generators: Sequence[torch.Generator],
    *,
    times: Float64[Tensor, "S1"] | None = None,
    **truncation: Any,
) -> Codes:
    """Mask diffusion that sets the most confident codes first [MaskGIT sec. 3.2]; it seeks modes and does not sample p(x_0).

    Each step samples a code for every [MASK] and keeps those with the highest probability (before `temperature` and
    truncation), as many as alpha(s) requires. A code that is set does not change. Steps that would set none are skipped.

    Args, returns and errors: as for `sample_ancestral`, for the process `mask` only.
    """

    def propose(logits, is_open, uniforms):
        x0 = sample_categorical(truncate_logits(logits, **truncation).softmax(-1), uniforms[0])
        return x0, torch.log_softmax(logits, -1).gather(-1, x0.unsqueeze(-1)).squeeze(-1)

    return _settle(denoise, process, source, num_steps, generators, times, propose)


def sample_by_purity(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Codes,
    num_steps: int,
    generators: Sequence[torch.Generator],
    *,
    sharpness: float = 1.0,
    times: Float64[Tensor, "S1"] | None = None,
    **truncation: Any,
) -> Codes:
    """Mask diffusion in which places of high purity are likelier to be set first [IVQD sec. 3.2].

    The purity of a place is max_k p(x_0 = k | x_t). Each step samples as many places as alpha(s) requires, without replacement
    and in proportion to purity, and sets them to codes sampled from p(x_0 | x_t) ** (1 + sharpness * purity / the largest
    purity) [IVQD eq. 11, in the form of its authors' code]. The places do not depend on the codes sampled there. At sharpness
    0 and one place per step this is therefore an exact sampler of p(x_0), which the order of confidence is not.

    Args, returns and errors: as for `sample_ancestral`, for the process `mask` only, and
      sharpness: r of the paper, at least 0; 0 leaves the probabilities as they are.
    """
    if sharpness < 0.0:
        raise ValueError(f"sharpness must be at least 0, not {sharpness}")

    def propose(logits, is_open, uniforms):
        purity = torch.softmax(logits, -1).amax(-1)
        largest = purity.masked_fill(~is_open, 0.0).amax(-1, keepdim=True)
        log_p0 = truncate_logits(logits, **truncation)
        x0 = sample_categorical((log_p0 * (1.0 + sharpness * purity / largest).unsqueeze(-1)).softmax(-1), uniforms[0])
        # Minus exponential waiting times at rate `purity`: their order is that of sampling without replacement. In float64,
        # where the rounding of a logarithm decides no order.
        return x0, uniforms[1].double().log() / purity

    return _settle(denoise, process, source, num_steps, generators, times, propose)


def has_order(process: DiscreteProcess) -> TypeGuard[InterpolatingProcess]:
    """Whether a code never changes once it is set, so that an order can be chosen: in the process `mask` only."""
    return isinstance(process, InterpolatingProcess) and process.mask == 1.0


SAMPLERS: dict[str, Callable[..., Codes]] = {
    "ancestral": sample_ancestral,
    "confidence": sample_by_confidence,
    "purity": sample_by_purity,
}
"""By the name of their order."""


def _settle(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Codes,
    num_steps: int,
    generators: Sequence[torch.Generator],
    times: Float64[Tensor, "S1"] | None,
    propose: Propose,
) -> Codes:
    """From all [MASK]: after each step round(N alpha(s)) codes are set, in the order of `propose`."""
    if not has_order(process):
        raise ValueError("this order needs the process kind `mask`, where a code does not change once it is set")
    times = _checked(num_steps, times, source, generators)
    x_t, num_set = torch.full_like(source, process.mask_id), 0
    with torch.no_grad():
        for time, alpha in zip(times[:-1].tolist(), process.alpha(times[1:]).tolist(), strict=True):
            before, num_set = num_set, round(source.shape[1] * alpha)
            if num_set == before:
                continue
            is_open = x_t == process.mask_id
            logits = wide(denoise(x_t, torch.full((len(source),), time, device=source.device)))
            x0, priority = propose(logits, is_open, _uniforms(2, source, generators))
            rank = priority.masked_fill(~is_open, torch.inf).argsort(dim=-1, descending=True, stable=True).argsort(-1)
            x_t = torch.where(is_open & (rank < num_set), x0, x_t)
    return x_t


def _checked(
    num_steps: int, times: Float64[Tensor, "S1"] | None, source: Codes, generators: Sequence[torch.Generator]
) -> Float64[Tensor, "S1"]:
    if times is None:
        if num_steps < 1:
            raise ValueError(f"sampling needs at least one step, not {num_steps}")
        times = even_times(num_steps)
    if len(generators) != len(source):
        raise ValueError(f"need one generator per video: {len(source)} videos, {len(generators)} generators")
    if len(times) < 2 or times[0] != 1.0 or times[-1] != 0.0 or not bool((times[1:] < times[:-1]).all()):
        raise ValueError("sampling times must fall from 1 to 0, in at least one step")
    return times


def _uniforms(count: int, like: Codes, generators: Sequence[torch.Generator]) -> Float[Tensor, "count B N"]:
    """Numbers in [0, 1), each row of the batch from its own generator."""
    rows = [torch.rand(count, like.shape[1], generator=generator, device=like.device) for generator in generators]
    return torch.stack(rows, dim=1)
