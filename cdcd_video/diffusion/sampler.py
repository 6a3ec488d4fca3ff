"""Walks from the source law back to data: ancestral with exact jumps, or by settling masks in an order.

Every video owns a `torch.Generator`, and all its randomness comes from there in an order that does not depend on the
other videos; so the batch a video is drawn in does not change it. (Its denoiser must keep the same promise.)
"""

from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from cdcd_video.diffusion.categorical import guided, sample_categorical, truncate_logits
from cdcd_video.diffusion.process import DiscreteProcess, InterpolatingProcess

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

Denoise = Callable[[Int64[Tensor, "B N"], Float[Tensor, "B"]], Float[Tensor, "B N K"]]
"""(x_t, t in float32) -> logits of x_0."""

Propose = Callable[
    [Float[Tensor, "B N K"], Bool[Tensor, "B N"], Float[Tensor, "2 B N"]], tuple[Int64[Tensor, "B N"], Tensor]
]
"""(logits of x_0, where a [MASK] stands, uniform numbers) -> (a code for every place, who goes first: the largest)."""


def even_times(num_steps: int) -> Float64[Tensor, "S1"]:
    """The times 1, (S-1)/S, ..., 1/S, 0 of a walk of S steps."""
    return torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps


def sample_ancestral(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Int64[Tensor, "B N"],
    num_steps: int,
    generators: Sequence[torch.Generator],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    times: Float64[Tensor, "S1"] | None = None,
) -> Int64[Tensor, "B N"]:
    """Ancestral drawing: x_1 from the source law, then x_s from p(x_s | x_t) down to x_0 [VQD eq. 11].

    Every step uses the exact posterior of its own jump, so `times` may be any subset of the times a model was trained
    on.

    Args:
      denoise: the model; under `torch.no_grad` here.
      process: the forward process; for `vq_diffusion` the times must be among its own.
      source: the earlier frame's codes, in 0..K ([MASK] is allowed).
      num_steps: number of evenly spaced steps S; not looked at where `times` is given.
      generators: one for each row of the batch, on the device of `source`.
      temperature: for x_0 at every step; 0 takes the likeliest code. (Which places move at which step stays random.)
      top_p: keeps the likeliest codes up to this mass, at every step.
      top_k: keeps this many likeliest codes, at every step; 0 keeps all.
      times: falling from 1 to 0.

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
            log_p0 = truncate_logits(denoise(x_t, t.float()), temperature, top_p, top_k)
            x_t = process.posterior(x_t, s, t, source).sample(log_p0, _uniforms(3, source, generators))
    return x_t


def sample_by_confidence(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Int64[Tensor, "B N"],
    num_steps: int,
    generators: Sequence[torch.Generator],
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    times: Float64[Tensor, "S1"] | None = None,
) -> Int64[Tensor, "B N"]:
    """Mask diffusion with the surest codes first [MaskGIT sec. 3.2]: a seeker of modes, not a sampler of p(x_0).

    Each step draws a code for every [MASK] and settles those to which the model gave most probability (before
    `temperature` and truncation, which would level it), as many as alpha(s) asks for; a settled code stays. A step that
    would settle none is passed over.

    Args and returns: as for `walk`, for the process `mask` only.

    Raises:
      ValueError: as for `walk`, and for another process than `mask`.
    """

    def propose(logits, is_open, uniforms):
        x0 = sample_categorical(truncate_logits(logits, temperature, top_p, top_k).softmax(-1), uniforms[0])
        return x0, torch.log_softmax(logits, -1).gather(-1, x0.unsqueeze(-1)).squeeze(-1)

    return _settle(denoise, process, source, num_steps, generators, times, propose)


def sample_by_purity(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Int64[Tensor, "B N"],
    num_steps: int,
    generators: Sequence[torch.Generator],
    *,
    sharpness: float = 1.0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int = 0,
    times: Float64[Tensor, "S1"] | None = None,
) -> Int64[Tensor, "B N"]:
    """Mask diffusion where the places of high purity are likelier to be settled first [IVQD sec. 3.2].

    The purity of a place is the probability of its likeliest code, max_k p(x_0 = k | x_t). Each step draws as many
    places as alpha(s) asks for, without replacement and in proportion to purity, and settles them with codes drawn from
    p(x_0 | x_t) ** (1 + sharpness * purity / the largest purity) [IVQD eq. 11, in the form of its authors' code].
    Which places are drawn does not depend on the codes drawn there: so at sharpness 0, one place per step, this is an
    exact sampler of p(x_0), which the order of confidence is not. A step that would settle none is passed over.

    Args and returns: as for `walk`, for the process `mask` only, and
      sharpness: r of the paper; 0 leaves the probabilities as they are.

    Raises:
      ValueError: as for `walk`, for another process than `mask`, and for a negative sharpness.
    """
    if sharpness < 0.0:
        raise ValueError(f"sharpness must be at least 0, not {sharpness}")

    def propose(logits, is_open, uniforms):
        purity = torch.softmax(logits, -1).amax(-1)
        largest = purity.masked_fill(~is_open, 0.0).amax(-1, keepdim=True)
        log_p0 = truncate_logits(logits, temperature, top_p, top_k)
        x0 = sample_categorical((log_p0 * (1.0 + sharpness * purity / largest).unsqueeze(-1)).softmax(-1), uniforms[0])
        # Alarm clocks that ring at a rate of `purity`: the order in which they ring is that of draws without
        # replacement. In float64, where the rounding of a logarithm decides no order.
        return x0, uniforms[1].double().log() / purity

    return _settle(denoise, process, source, num_steps, generators, times, propose)


def has_order(process: DiscreteProcess) -> TypeGuard[InterpolatingProcess]:
    """Whether the codes settle once and for all, so that their order can be chosen: in the process `mask` only."""
    return isinstance(process, InterpolatingProcess) and process.mask == 1.0


SAMPLERS: dict[str, Callable[..., Int64[Tensor, "B N"]]] = {
    "ancestral": sample_ancestral,
    "confidence": sample_by_confidence,
    "purity": sample_by_purity,
}
"""The walks by the name of their order."""


def _settle(
    denoise: Denoise,
    process: DiscreteProcess,
    source: Int64[Tensor, "B N"],
    num_steps: int,
    generators: Sequence[torch.Generator],
    times: Float64[Tensor, "S1"] | None,
    propose: Propose,
) -> Int64[Tensor, "B N"]:
    """All [MASK] at first; then as many codes stand after each step as alpha asks for, in the order of `propose`."""
    if not has_order(process):
        raise ValueError("this order needs the process kind `mask`, where a code does not change once it is set")
    times = _checked(num_steps, times, source, generators)
    x_t, standing = torch.full_like(source, process.mask_id), 0
    with torch.no_grad():
        for time, alpha in zip(times[:-1].tolist(), process.alpha(times[1:]).tolist(), strict=True):
            before, standing = standing, round(source.shape[1] * alpha)
            if standing == before:
                continue
            is_open = x_t == process.mask_id
            logits = denoise(x_t, torch.full((len(source),), time, device=source.device))
            x0, first = propose(logits, is_open, _uniforms(2, source, generators))
            rank = first.masked_fill(~is_open, torch.inf).argsort(dim=-1, descending=True, stable=True).argsort(-1)
            x_t = torch.where(is_open & (rank < standing), x0, x_t)
    return x_t


def _checked(
    num_steps: int,
    times: Float64[Tensor, "S1"] | None,
    source: Int64[Tensor, "B N"],
    generators: Sequence[torch.Generator],
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


def _uniforms(
    count: int, like: Int64[Tensor, "B N"], generators: Sequence[torch.Generator]
) -> Float[Tensor, "count B N"]:
    """Numbers in [0, 1), each row of the batch from its own generator."""
    rows = [torch.rand(count, like.shape[1], generator=generator, device=like.device) for generator in generators]
    return torch.stack(rows, dim=1)
