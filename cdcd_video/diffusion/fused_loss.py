"""The loss of `diffusion.loss` in one pass over the logits, with its gradient written by hand.

For each token and each candidate c (the true code, or a negative's code) the loss needs

    KL_c = KL(q(x_s | x_t, x_0 = c) || p(x_s | x_t))    and    CE_c = -log p(x_0 = c | x_t).

Write p(j) for p(x_0 = j | x_t), P(j) for p(x_s = j | x_t), and b, p_x0, ... for the weights of `Posterior`. Then

    P(j) = l b(j) + p_x0 p(j)  for j != x_t,    P(x_t) = beta + sigma p(x_t),    l = 1 - p_untouched p(x_t).

For c != x_t the posterior is b' with p_x0 added on c, where b' (b, and p_keep_xt on x_t) is the same for all c. So

    KL_c = G + (b(c) + p_x0) log(b(c) + p_x0) - b(c) log b(c) - p_x0 log P(c),    G = sum_j b'(j) log(b'(j) / P(j)):

one K-wide sum that all candidates share, and a few numbers for each. The gradient with respect to the logits is

    p(k) (V - sum_j p(j) h(j)) - W u (1 - 1 / (1 + z(k)))  + terms at a few codes,    z(k) = p_x0 p(k) / (l u)

with u = p_uniform / K, W and V the summed weights of KL and CE, and h = d/dp. It is written in the place of the
probabilities, chunk by chunk, so that nothing else as wide as K is kept. `loss_reference` is the plain form of the same loss,
by autograd; tests hold the two equal, forward and backward. The derivation is in docs/diffusion.md, section 7.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.diffusion.categorical import LOG_ZERO, safe_log
from cdcd_video.diffusion.posterior import Posterior
from cdcd_video.diffusion.shapes import Logits

CHUNK_ELEMENTS = 1 << 20
"""Logits worked on at a time: 4 MB in float32. Small enough for a cache, large enough that calls cost little beside work."""
GPU_CHUNK_ELEMENTS = 1 << 26
"""The same on a GPU, 256 MB: a chunk is over a hundred calls, and there a call takes longer than a small chunk's work."""


def fused_terms(
    posterior: Posterior,
    logits: Logits,
    candidates: Int64[Tensor, "B N C"],
    kl_weight: Float[Tensor, "B #N C"],
    ce_weight: Float[Tensor, "B #N C"],
) -> tuple[Float[Tensor, ""], Float64[Tensor, "B N C"], Float64[Tensor, "B N C"], Float64[Tensor, "B N"]]:
    """What `loss.weighted_terms` is given -> total, KL, cross-entropy and each token's weighted sum. Backward may run once."""
    shape = candidates.shape
    kl_weight, ce_weight = (weight.expand(shape).flatten(0, 1) for weight in (kl_weight, ce_weight))
    total, *rest = _Weighted.apply(logits, _flat(posterior), candidates.flatten(0, 1), kl_weight, ce_weight)
    kl, cross_entropy, per_token = (value.unflatten(0, shape[:2]) for value in rest)
    return total, kl, cross_entropy, per_token


class _Flat(NamedTuple):
    """A `Posterior` with one row per token: (R,) each, weights in float64."""

    x_t: Tensor
    source: Tensor
    p_keep_xt: Tensor
    p_x0: Tensor
    p_uniform: Tensor
    p_mask: Tensor
    p_source: Tensor
    p_untouched: Tensor
    p_redrawn: Tensor
    is_carried: Tensor
    is_redraw: Tensor
    num_codes: int
    has_uniform: bool

    def rows(self, chunk: slice) -> "_Flat":
        """Some of the tokens."""
        return _Flat._make(value[chunk] if isinstance(value, Tensor) else value for value in self)


def _flat(posterior: Posterior) -> _Flat:
    names = _Flat._fields[:-2]
    values = (getattr(posterior, name).expand_as(posterior.x_t).reshape(-1) for name in names)
    return _Flat._make([*values, posterior.num_codes, posterior.has_uniform])


class _Weighted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits, posterior, candidates, kl_weight, ce_weight):
        flat = logits.reshape(-1, logits.shape[-1])
        grad = torch.empty_like(flat) if ctx.needs_input_grad[0] else None
        kl = torch.empty(candidates.shape, dtype=torch.float64, device=logits.device)
        cross_entropy, per_token = torch.empty_like(kl), torch.empty_like(kl[:, 0])
        size = max(1, (GPU_CHUNK_ELEMENTS if logits.is_cuda else CHUNK_ELEMENTS) // flat.shape[-1])
        work = torch.float64 if logits.dtype == torch.float64 else torch.float32
        # New memory for every chunk would cost a page fault for each of its pages.
        scratch = torch.empty_like(flat[:size], dtype=work) if posterior.has_uniform else None
        for start in range(0, len(flat), size):
            here = slice(start, start + size)
            weights = kl_weight[here].double(), ce_weight[here].double()
            out = None if grad is None else grad[here]
            found = _evaluate(flat[here], posterior.rows(here), candidates[here], *weights, out, scratch)
            kl[here], cross_entropy[here], per_token[here] = found
        ctx.grad = None if grad is None else grad.view(logits.shape)
        ctx.mark_non_differentiable(kl, cross_entropy, per_token)
        total = per_token.sum().to(torch.float64 if logits.dtype == torch.float64 else torch.float32)
        return total, kl, cross_entropy, per_token

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream, *_):
        if ctx.grad is None:
            raise RuntimeError("weighted_terms can be differentiated once only")
        grad, ctx.grad = ctx.grad, None
        return grad.mul_(upstream), None, None, None, None


def _evaluate(
    logits: Float[Tensor, "R K"],
    r: _Flat,
    candidates: Int64[Tensor, "R C"],
    kl_weight: Float64[Tensor, "R C"],
    ce_weight: Float64[Tensor, "R C"],
    grad: Float[Tensor, "R K"] | None,
    scratch: Float[Tensor, "R2 K"] | None,
) -> tuple[Float64[Tensor, "R C"], Float64[Tensor, "R C"], Float64[Tensor, "R"]]:
    """KL and CE of every candidate, and their weighted sum, whose gradient goes to `grad`."""
    num_codes = r.num_codes
    wide = _Wide(logits, grad, scratch)
    is_code = r.x_t < num_codes
    # Whether the source's code has a weight in b and is not x_t.
    is_apart = (r.source < num_codes) & (r.source != r.x_t) & (r.p_source > 0.0)
    log_p = wide.log_p(candidates)
    log_p_t = torch.where(is_code, wide.log_p(r.x_t.unsqueeze(-1)).squeeze(-1), LOG_ZERO)
    log_p_source = torch.where(is_apart, wide.log_p(r.source.unsqueeze(-1)).squeeze(-1), LOG_ZERO)

    # P at x_t, at the source's code and at each candidate.
    ell = torch.where(r.is_carried, 1.0, r.p_redrawn * log_p_t.exp() - torch.expm1(log_p_t))
    log_ell, log_p_x0 = ell.log(), safe_log(r.p_x0)
    u = r.p_uniform / num_codes
    beta = r.p_keep_xt + torch.where(is_code, u, r.p_mask) + r.p_source * (r.source == r.x_t)
    sigma = r.p_untouched * (1.0 - beta) + r.p_redrawn * r.p_x0
    log_from_t = safe_log(sigma) + log_p_t
    at_t = torch.logaddexp(safe_log(beta), log_from_t)
    b_source = torch.where(is_apart, u + r.p_source, 0.0)
    log_ell_u, log_ell_source = safe_log(u) + log_ell, safe_log(b_source) + log_ell
    at_source = torch.logaddexp(log_ell_source, log_p_x0 + log_p_source)
    b_mask = torch.where(is_code, r.p_mask + r.p_source * (r.source == num_codes), 0.0)
    is_source = (candidates == r.source.unsqueeze(-1)) & is_apart.unsqueeze(-1)
    log_taken = log_p + log_p_x0.unsqueeze(-1)
    at = torch.logaddexp(torch.where(is_source, log_ell_source.unsqueeze(-1), log_ell_u.unsqueeze(-1)), log_taken)

    # Sums of the KL weights: of candidates that are x_t, of the others, W (of b'), and that of log P(x_t).
    is_same = candidates == r.x_t.unsqueeze(-1)
    alive = kl_weight * r.is_redraw.unsqueeze(-1)
    on_other = alive.masked_fill(is_same, 0.0)
    on_others = on_other.sum(-1)
    on_same = (alive * is_same).sum(-1)
    w_b = on_others + on_same * r.p_redrawn
    on_t = w_b * beta + on_same * (r.p_redrawn * r.p_x0 + r.p_untouched)

    # p(j) h(j) at these codes, beside -W u z / (1 + z) everywhere; what depends on the K-wide sum is kept apart.
    log_z_per_p = torch.where(u > 0.0, log_p_x0 - safe_log(u), LOG_ZERO) - log_ell
    z_t = torch.where(is_code, (log_z_per_p + log_p_t).exp(), 0.0)
    z_source = torch.where(is_apart, (log_z_per_p + log_p_source).exp(), 0.0)
    pulled = log_taken.sub_(at).exp_().mul_(on_other)  # the share of P(c) that p(c) makes up, weighted
    all_pulled = pulled.sum(-1)
    taken_source = (log_p_x0 + log_p_source - at_source).exp()
    w_u = w_b * u
    push_source = -w_b * b_source * taken_source + w_u * z_source / (1.0 + z_source)
    others = (
        w_b * (b_source * (1.0 - taken_source) + b_mask)
        - w_u * (is_code / (1.0 + z_t) + is_apart / (1.0 + z_source))
        + r.p_x0 * (on_others - all_pulled)
    )
    outward = torch.where(is_code, r.p_untouched * log_p_t.exp() / ell, 0.0)  # -d log l / d log p(x_t)
    floor_t = w_u * z_t / (1.0 + z_t)
    known_t = torch.where(is_code, outward * others - on_t * (log_from_t - at_t).exp(), 0.0)

    known = push_source - r.p_x0 * all_pulled + floor_t - w_u * num_codes  # of sum_j p(j) h(j), without x_t's own
    weight = ce_weight.sum(-1)
    scale = (log_z_per_p - wide.log_total).exp() if r.has_uniform else None
    softplus, inverse = wide.floor_pass(scale, w_u, weight - known - known_t, w_u * (1.0 + outward))
    if grad is not None:
        wide.push(candidates, pulled.mul_(-r.p_x0.unsqueeze(-1)).sub_(ce_weight))
        wide.push(r.source.unsqueeze(-1), push_source.unsqueeze(-1))
        # At x_t the numbers may be as large as 1 / lost and all but cancel: it is worked out by itself, in float64.
        push_t = (known_t + outward * w_u * inverse) * -torch.expm1(log_p_t)
        pull_t = log_p_t.exp() * (weight - known - w_u * inverse) - (ce_weight * is_same).sum(-1)
        wide.put(r.x_t.unsqueeze(-1), (push_t + pull_t).unsqueeze(-1), is_code.unsqueeze(-1))
        wide.finish()

    num_ordinary = num_codes - is_code.double() - is_apart.double()
    softplus = softplus - torch.log1p(z_t) - torch.log1p(z_source)
    shared = (
        (torch.xlogy(beta, beta) - beta * at_t)
        + (torch.xlogy(b_source, b_source) - b_source * at_source)
        - b_mask * log_ell
        - u * (num_ordinary * log_ell + softplus)
    )
    k = r.p_redrawn * (beta + r.p_x0) + r.p_untouched
    if_same = (
        r.p_redrawn * (shared - torch.xlogy(beta, beta) + beta * at_t)
        + (1.0 - beta - r.p_x0) * torch.xlogy(r.p_redrawn, r.p_redrawn)
        + (torch.xlogy(k, k) - k * at_t)
    )
    jump, jump_source = (torch.xlogy(b + r.p_x0, b + r.p_x0) - torch.xlogy(b, b) + shared for b in (u, b_source))
    kl = torch.where(is_source, jump_source.unsqueeze(-1), jump.unsqueeze(-1)) - at.mul_(r.p_x0.unsqueeze(-1))
    kl = torch.where(is_same, if_same.unsqueeze(-1), kl)
    kl, cross_entropy = kl.masked_fill(~r.is_redraw.unsqueeze(-1), 0.0), log_p.neg_()
    per_token = torch.addcmul(kl_weight * kl, ce_weight, cross_entropy).sum(-1)
    is_impossible = ~r.is_redraw & ~r.is_carried
    per_token = per_token.masked_fill(is_impossible & (kl_weight != 0.0).any(-1), torch.inf)
    return kl.masked_fill(is_impossible.unsqueeze(-1), torch.inf), cross_entropy, per_token


class _Wide:
    """Everything K-wide: a chunk's logits, and one buffer that holds exp(logit - top), then the gradient."""

    def __init__(
        self, logits: Float[Tensor, "R K"], grad: Float[Tensor, "R K"] | None, scratch: Float[Tensor, "R2 K"] | None
    ):
        self.grad, self.scratch, self.num_codes = grad, scratch, logits.shape[-1]
        self.logits = logits if logits.dtype == torch.float64 else logits.float()
        self.top = self.logits.amax(-1, keepdim=True)
        in_place = grad is not None and grad.dtype == self.logits.dtype
        self.buffer = torch.sub(self.logits, self.top, out=grad if in_place else None).exp_()
        # In float64: where the model is certain, the result depends on how little the other codes add to the largest one's 1.
        self.total = self.buffer.sum(-1, dtype=torch.float64)
        self.log_total = self.total.log()

    def log_p(self, code: Int64[Tensor, "R C"]) -> Float64[Tensor, "R C"]:
        """log p(x_0 = code | x_t) in float64; what it says of [MASK] must not be used."""
        picked = self.logits.gather(-1, code.clamp(max=self.num_codes - 1))
        return picked.double().sub_(self.top.double() + self.log_total.unsqueeze(-1))

    def floor_pass(
        self,
        scale: Float64[Tensor, "R"] | None,
        w_u: Float64[Tensor, "R"],
        on_p: Float64[Tensor, "R"],
        per_inverse: Float64[Tensor, "R"],
    ) -> tuple[Float64[Tensor, "R"], Float64[Tensor, "R"]]:
        """sum log(1 + z) and sum 1 / (1 + z) over all codes; leaves p (on_p - per_inverse sum) - W u (1 - 1 / (1 + z)).

        The logarithm is the expensive part, so it is taken of products of two. Only x_t's own code can exceed u by more than
        about a factor of K S / p_uniform, so the products stay far below float32's 3e38.
        """
        softplus, inverse = torch.zeros_like(on_p), torch.zeros_like(on_p)
        mixed, half = None, self.num_codes // 2
        if scale is not None:
            assert self.scratch is not None
            one = self.buffer.new_ones(())
            mixed = torch.addcmul(
                one, self.buffer, scale.to(self.buffer.dtype).unsqueeze(-1), out=self.scratch[: len(self.buffer)]
            )
            pairs = (mixed[:, :half] * mixed[:, half : 2 * half]).log_()
            softplus = (pairs.sum(-1) + mixed[:, 2 * half :].log().sum(-1)).double()
        if self.grad is None:
            return softplus, inverse
        if mixed is None or scale is None:
            self.buffer.mul_((on_p / self.total).to(self.buffer.dtype).unsqueeze(-1))
            return softplus, inverse
        inverse = mixed.reciprocal_().sum(-1).double()
        # Written as exp(logit - top) times a factor, z / (1 + z) loses nothing where z is small.
        factor, per_z = (on_p - per_inverse * inverse) / self.total, -w_u * scale
        factor, per_z = (value.to(self.buffer.dtype).unsqueeze(-1) for value in (factor, per_z))
        self.buffer.mul_(torch.addcmul(factor, mixed, per_z, out=mixed))
        return softplus, inverse

    def push(self, places: Int64[Tensor, "R E"], pushes: Float64[Tensor, "R E"]) -> None:
        """Adds to the gradient at a few places of each row; a push at [MASK] must be 0."""
        self.buffer.scatter_add_(-1, places.clamp(max=self.num_codes - 1), pushes.to(self.buffer.dtype))

    def put(self, places: Int64[Tensor, "R 1"], values: Float64[Tensor, "R 1"], is_known: Bool[Tensor, "R 1"]) -> None:
        """Writes the gradient at one place of each row, where it is known."""
        places = places.clamp(max=self.num_codes - 1)
        values = torch.where(is_known, values.to(self.buffer.dtype), self.buffer.gather(-1, places))
        self.buffer.scatter_(-1, places, values)

    def finish(self) -> None:
        """Rounds the gradient, where the logits came in half precision; else it is in its place already."""
        assert self.grad is not None
        if self.buffer.dtype != self.grad.dtype:
            self.grad.copy_(self.buffer)
