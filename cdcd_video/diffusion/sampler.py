"""Walks from the source law back to data: ancestral with exact jumps, or in order of confidence.

Every video owns a `torch.Generator`, and all its randomness comes from there in an order that does not depend on the
other videos; so the batch a video is drawn in does not change it. (Its denoiser must keep the same promise.)
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cdcd_video.diffusion.categorical import draw, guided, truncate_logits
from cdcd_video.diffusion.process import Process

__all__ = ["Denoise", "confidence_walk", "even_times", "guided", "truncate_logits", "walk"]

Denoise = Callable[[Int64[Tensor, "B N"], Float[Tensor, "B"]], Float[Tensor, "B N K"]]
"""(x_t, t in float32) -> logits of x_0."""


def even_times(num_steps: int) -> Float64[Tensor, "S1"]:
    """The times 1, (S-1)/S, ..., 1/S, 0 of a walk of S steps."""
    return torch.arange(num_steps, -1, -1, dtype=torch.float64) / num_steps


def walk(
    denoise: Denoise,
    process: Process,
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
      process: the forward process.
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
    times = _checked(even_times(num_steps) if times is None else times, source, generators)
    start = torch.ones(len(source), dtype=torch.float64, device=source.device)
    with torch.no_grad():
        x_t = process.corrupt(source, start, source, _uniforms(2, source, generators))
        for time, earlier in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            t, s = torch.full_like(start, time), torch.full_like(start, earlier)
            log_p0 = truncate_logits(denoise(x_t, t.float()), temperature, top_p, top_k)
            x_t = process.reverse(x_t, s, t, source).sample(log_p0, _uniforms(3, source, generators))
    return x_t


def confidence_walk(
    denoise: Denoise,
    process: Process,
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

    At each step as many codes are settled as alpha(s) asks for, those that the model is surest of; a settled code
    stays.

    Args and returns: as for `walk`, for the process `mask` only.

    Raises:
      ValueError: as for `walk`, and for another process than `mask`.
    """
    if process.mask != 1.0:
        raise ValueError(
            "the confidence order is for the process kind `mask`, where codes are settled once and for all"
        )
    times = _checked(even_times(num_steps) if times is None else times, source, generators)
    num_tokens = source.shape[1]
    x_t = torch.full_like(source, process.mask_id)
    with torch.no_grad():
        for time, earlier in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            t = torch.full((len(source),), time, device=source.device)
            log_p0 = truncate_logits(denoise(x_t, t), temperature, top_p, top_k)
            is_open = x_t == process.mask_id
            x0 = torch.where(is_open, draw(log_p0.softmax(-1), _uniforms(1, source, generators)[0]), x_t)
            sureness = log_p0.gather(-1, x0.unsqueeze(-1)).squeeze(-1).masked_fill(~is_open, torch.inf)
            num_settled = round(num_tokens * float(process.alpha(torch.tensor(earlier))))
            # At least one more than before, so that no pass of the model is spent on nothing.
            rank = torch.argsort(sureness, dim=-1, descending=True, stable=True).argsort(-1)
            already = (~is_open).sum(-1, keepdim=True)
            x_t = torch.where(rank < torch.clamp(already + 1, min=num_settled), x0, process.mask_id)
    return x_t


def _checked(
    times: Float64[Tensor, "S1"], source: Int64[Tensor, "B N"], generators: Sequence[torch.Generator]
) -> Float64[Tensor, "S1"]:
    if len(generators) != len(source):
        raise ValueError(f"need one generator per video: {len(source)} videos, {len(generators)} generators")
    if len(times) < 2 or times[0] != 1.0 or times[-1] != 0.0 or bool((times[1:] >= times[:-1]).any()):
        raise ValueError("the times of a walk must fall from 1 to 0, in one step at least")
    return times


def _uniforms(
    count: int, like: Int64[Tensor, "B N"], generators: Sequence[torch.Generator]
) -> Float[Tensor, "count B N"]:
    """Numbers in [0, 1), each row of the batch from its own generator."""
    rows = [torch.rand(count, like.shape[1], generator=generator, device=like.device) for generator in generators]
    return torch.stack(rows, dim=1)
