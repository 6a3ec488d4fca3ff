"""The variational bound and the auxiliary term, per token, in nats, in index space.

The posterior q(x_s | x_t, x_0) is the same for all codes but four: x_t, x_0, [MASK] and the source's code. The divergence is
therefore four gathered terms and, only where noise can be any code, one K-wide sum that does not depend on x_0. No K-wide
tensor is built beside `log_p0`.
"""

import math

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.diffusion.categorical import LOG_ZERO, safe_log, wide
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.diffusion.process import DiscreteProcess
from cdcd_video.diffusion.shapes import Codes, Denoise, Logits, Time

_LOG2_E = math.log2(math.e)  # exp2 costs a third of exp on a CPU


def variational_bound(
    process: DiscreteProcess, log_p0: Logits, x0: Codes, x_t: Codes, s: Time, t: Time, source: Codes
) -> Float[Tensor, "B N"]:
    """One step's term of the bound, KL(q(x_s | x_t, x_0) || p(x_s | x_t)); -log p(x_0 | x_t) at s = 0 [D3PM eq. 1].

    The remaining term of the bound, KL(q(x_1 | x_0) || p(x_1)), is the process's `prior_nats`: 0 for every
    `InterpolatingProcess`, since alpha(1) = 0, but not for CDCD's chain.

    Args:
      log_p0: the model's log p(x_0 | x_t), normalised.
      s, t: 0 <= s < t <= 1; t is the time of x_t.

    Returns:
      Nats per token, differentiable in `log_p0`; inf where x_t cannot come from x0.
    """
    return divergence(process.posterior(x_t, s, t, source), log_p0, x0)


def auxiliary(log_p0: Logits, x0: Codes) -> Float[Tensor, "B N"]:
    """-log p(x_0 | x_t), whatever the time: VQ-Diffusion's auxiliary term [VQD eq. 12; D3PM eq. 5]."""
    return -log_p0.gather(-1, x0.unsqueeze(-1)).squeeze(-1)


def divergence(posterior: Posterior, log_p0: Logits, x0: Codes) -> Float[Tensor, "B N"]:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)), nats per token."""
    log_p0 = wide(log_p0)
    num_codes, x_t, source = posterior.num_codes, posterior.x_t, posterior.source
    is_kept = x0 == x_t
    changed = torch.where(is_kept, posterior.p_redrawn, 1.0)

    # The codes at which q differs from the rest, each counted once: one that equals an earlier one of this list gets q = 0.
    places = torch.stack((x_t, x0, source, torch.full_like(x_t, num_codes)), -1)
    is_mask = places[..., :3] == num_codes
    is_new = torch.stack(
        (
            torch.ones_like(is_kept),
            ~is_kept,
            (source != x_t) & (source != x0),
            (x_t != num_codes) & (source != num_codes),
        ),
        -1,
    )
    b = torch.stack([posterior.b(place) for place in places.unbind(-1)], -1)
    q = changed.unsqueeze(-1) * b
    q[..., 0] += (
        torch.where(is_kept, posterior.p_untouched + changed * posterior.p_x0, 0.0) + changed * posterior.p_keep_xt
    )
    q[..., 1] += changed * posterior.p_x0
    q = q * is_new

    # log P at the same codes, in log space: p(x_0) may underflow.
    log_p_place = log_p0.gather(-1, places[..., :3].clamp(max=num_codes - 1)).masked_fill(is_mask, LOG_ZERO)
    log_p_place = log_p_place.clamp(min=LOG_ZERO)
    ell = posterior.ell(log_p_place[..., 0])
    beta, sigma = posterior.at_x_t()
    log_beta, log_sigma = _log_as(log_p0, beta), _log_as(log_p0, sigma)
    at_x_t = torch.logaddexp(log_beta, log_sigma + log_p_place[..., 0])
    log_ell_b = _log_as(log_p0, b[..., 1:]) + ell.log().unsqueeze(-1)
    log_p_x0 = _log_as(log_p0, posterior.p_x0).unsqueeze(-1)
    elsewhere = torch.logaddexp(log_ell_b[..., :2], log_p_x0 + log_p_place[..., 1:])
    log_p = torch.cat((at_x_t.unsqueeze(-1), elsewhere, log_ell_b[..., 2:]), -1)
    q = q.to(log_p0.dtype)
    kl = (torch.xlogy(q, q) - q * log_p).sum(-1)

    if posterior.has_uniform:
        # Everywhere else q is u and P is (l / changed) u (1 + exp(log p(x_0 = j) + shift)).
        u = changed * posterior.p_uniform / num_codes
        # At s = 0 u is 0, and its logarithm must not enter the gradient.
        shift = torch.where(u > 0, safe_log(posterior.p_x0 * num_codes) - safe_log(posterior.p_uniform), 0.0)
        shift = shift.to(log_p0.dtype) - ell.log()
        is_code = is_new[..., :3] & ~is_mask
        beside = torch.logaddexp(log_p_place + shift.unsqueeze(-1), torch.zeros_like(log_p_place)) * is_code
        rest = num_codes - is_code.sum(-1)
        below = rest * (_log_as(log_p0, changed) - ell.log()) - (_SumSoftplus.apply(log_p0, shift) - beside.sum(-1))
        kl = kl + u.to(log_p0.dtype) * below

    kl = torch.where(posterior.is_carried, 0.0, kl)
    return kl.masked_fill(posterior.is_impossible(x0), torch.inf)


def reference_terms(
    posterior: Posterior,
    logits: Logits,
    candidates: Int64[Tensor, "B N C"],
    kl_weight: Float[Tensor, "B #N C"],
    ce_weight: Float[Tensor, "B #N C"],
) -> tuple[Float[Tensor, ""], Float64[Tensor, "B N C"], Float64[Tensor, "B N C"], Float64[Tensor, "B N"]]:
    """What `loss.weighted_terms` is given -> total, KL, cross-entropy and each token's weighted sum, by autograd in float64."""
    log_p0 = logits.double().log_softmax(-1)
    codes = candidates.unbind(-1)
    # Where x_t determines x_0, another candidate is impossible; the loss counts it as 0.
    kl = torch.stack(
        [torch.where(posterior.is_carried, 0.0, divergence(posterior, log_p0, code)) for code in codes], -1
    )
    cross_entropy = torch.stack([auxiliary(log_p0, code) for code in codes], -1)
    per_token = (torch.where(kl_weight == 0.0, 0.0, kl_weight * kl) + ce_weight * cross_entropy).sum(-1)
    total = per_token.sum().to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
    return total, kl.detach(), cross_entropy.detach(), per_token.detach()


def chain_bound(
    process: DiscreteProcess,
    denoise: Denoise,
    x0: Codes,
    source: Codes,
    num_steps: int,
    generator: torch.Generator,
    most_steps: int | None = None,
) -> Float64[Tensor, "B N"]:
    """The whole bound on -log p(x_0 | source): every term of the chain, each with one sample of x_t [D3PM eq. 1].

    For evaluation (bits per token); call it under `torch.no_grad`. A chain longer than `most_steps` is cut into that many
    equal parts. Each example then uses one step of each part, sampled uniformly and weighted by its length [VDM app. I.1].

    Args:
      generator: of the steps and of x_t.
      most_steps: how often the model runs at most; None means S times, once for every step.

    Returns:
      Nats per token; an unbiased estimate, whose sum over the tokens is in expectation at least -log p(x_0 | source).
    """
    parts = min(num_steps, most_steps or num_steps)
    total = torch.full(x0.shape, process.prior_nats, dtype=torch.float64, device=x0.device)
    for part in range(parts):
        within = torch.full((len(x0),), 0.5, dtype=torch.float64, device=x0.device)
        if parts < num_steps:
            within = torch.rand(len(x0), generator=generator, dtype=torch.float64, device=x0.device)
        index = ((part + within) * num_steps / parts).long().clamp_(max=num_steps - 1) + 1
        s, t = (index - 1).double() / num_steps, index.double() / num_steps
        x_t = process.sample(x0, t, source, generator)
        log_p0 = torch.log_softmax(wide(denoise(x_t, t.float())), -1)
        total += variational_bound(process, log_p0, x0, x_t, s, t, source) * (num_steps / parts)
    return total


class _SumSoftplus(torch.autograd.Function):
    """sum_j log(1 + exp(log_p0_j + shift)): the one K-wide pass, with one K-wide tensor kept for its gradient.

    The logarithm is the expensive part, so it is taken of products of two. These stay below (K S / uniform share)^3 for a
    chain of S steps, because only x_t's own code can exceed u by more than K / uniform; float32 holds 3e38.
    """

    @staticmethod
    def forward(ctx, log_p0, shift):
        shift = shift.unsqueeze(-1) * _LOG2_E
        mixed = torch.add(shift, log_p0, alpha=_LOG2_E).exp2_().add_(1.0)
        ctx.save_for_backward(mixed)
        half = log_p0.shape[-1] // 2
        total = (mixed[..., :half] * mixed[..., half : 2 * half]).log_().sum(-1)
        return total + mixed[..., 2 * half :].log().sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (mixed,) = ctx.saved_tensors
        inverse = mixed.reciprocal()
        grad_shift = grad * (mixed.shape[-1] - inverse.sum(-1))
        grad = grad.unsqueeze(-1)
        return inverse.mul_(-grad).add_(grad), grad_shift


def _log_as(like: Tensor, weight: Tensor) -> Tensor:
    """log of a float64 constant in the dtype of `like`."""
    return safe_log(weight).to(like.dtype)
