"""The posterior q(x_s | x_t, x_0) of the forward process, for every x_0 at once, and the reverse step that follows from it."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from cdcd_video.diffusion.categorical import LOG_ZERO, safe_log, sample_categorical, wide
from cdcd_video.diffusion.shapes import Codes, Dense, Logits


@dataclass(frozen=True)
class Posterior:
    """q(x_s | x_t, x_0) of every token, with x_0 still open [Bayes on D3PM eq. 3; docs/diffusion.md, section 3].

        q(x_s | x_t, x_0) = p_keep_xt [x_t] + p_x0 [x_0] + b                                        if x_0 != x_t
                          = p_untouched [x_t] + p_redrawn ((p_keep_xt + p_x0) [x_t] + b)            if x_0 = x_t
        b = p_uniform / K over the codes + p_mask [MASK] + p_source [source]

    The weights do not depend on x_0: x_t was sampled before s and kept (`p_keep_xt`), or x_0 was kept until s (`p_x0`), or x_s
    was sampled from the noise distribution (b). If x_0 = x_t, it may also be that nothing ever happened (`p_untouched`).

    The loss and the samplers read only this record: another Markov chain over codes needs another `Posterior`, not another
    loss. Weights are float64 and broadcast to (B, N).

    Attributes:
      num_codes: K.
      x_t: corrupted codes in 0..K.
      source: the earlier frame's codes in 0..K.
      p_keep_xt, p_x0, p_uniform, p_mask, p_source: the weights above; they sum to 1.
      p_untouched: probability that x_t was never redrawn, if x_0 = x_t; 0 for [MASK].
      p_redrawn: 1 - p_untouched, without the rounding.
      is_redraw: whether the noise distribution can give x_t at all.
      has_uniform: whether `p_uniform` can be above 0; if not, K-wide work is skipped.
    """

    num_codes: int
    x_t: Codes
    source: Codes
    p_keep_xt: Float64[Tensor, "B #N"]
    p_x0: Float64[Tensor, "B #N"]
    p_uniform: Float64[Tensor, "B #N"]
    p_mask: Float64[Tensor, "B #N"]
    p_source: Float64[Tensor, "B #N"]
    p_untouched: Float64[Tensor, "B N"]
    p_redrawn: Float64[Tensor, "B N"]
    is_redraw: Bool[Tensor, "B N"]
    has_uniform: bool

    @property
    def is_carried(self) -> Bool[Tensor, "B N"]:
        """Where the noise distribution cannot give x_t, so that x_0 = x_s = x_t, whatever a model predicts."""
        return ~self.is_redraw & (self.p_untouched > 0.0)

    def is_impossible(self, x0: Codes) -> Bool[Tensor, "B N"]:
        """Where x_t cannot come from x0."""
        return ~self.is_redraw & ((x0 != self.x_t) | (self.p_untouched == 0.0))

    def b(self, code: Codes) -> Float64[Tensor, "B N"]:
        """b(code), code in 0..K."""
        is_mask = code == self.num_codes
        base = torch.where(is_mask, self.p_mask, self.p_uniform / self.num_codes)
        return base + self.p_source * (code == self.source)

    def at_x_t(self) -> tuple[Float64[Tensor, "B N"], Float64[Tensor, "B N"]]:
        """(beta, sigma) such that p(x_s = x_t | x_t) = beta + sigma p(x_0 = x_t | x_t), both not negative."""
        beta = self.p_keep_xt + self.b(self.x_t)
        return beta, self.p_untouched * (1.0 - beta) + self.p_redrawn * self.p_x0

    def log_posterior(self, x0: Codes) -> Dense:
        """log q(x_s | x_t, x_0) over 0..K."""
        is_kept = x0 == self.x_t
        changed = torch.where(is_kept, self.p_redrawn, 1.0)
        p = self._dense_b() * changed.unsqueeze(-1)
        add_at(p, self.x_t, torch.where(is_kept, self.p_untouched, 0.0) + changed * self.p_keep_xt)
        add_at(p, x0, changed * self.p_x0)
        return p.log()

    def log_reverse(self, log_p0: Logits) -> Float[Tensor, "B N K+1"]:
        """The reverse step: log p(x_s | x_t) over 0..K for the model's log p(x_0 | x_t) [VQD eq. 11]; differentiable.

        p(x_s | x_t) = sum_j q(x_s | x_t, x_0 = j) p(x_0 = j | x_t), as a K-wide elementwise sum of two terms. In float32 where
        `log_p0` has 16 bits.
        """
        log_p0 = wide(log_p0)
        dtype = log_p0.dtype
        log_p0 = torch.cat((log_p0, log_p0.new_full((*log_p0.shape[:-1], 1), LOG_ZERO)), -1).clamp(min=LOG_ZERO)
        log_p_t = log_p0.gather(-1, self.x_t.unsqueeze(-1))
        ell = self.ell(log_p_t.squeeze(-1)).unsqueeze(-1)
        taken = log_p0 + safe_log(self.p_x0).to(dtype).unsqueeze(-1)
        log_p = torch.logaddexp(safe_log(self._dense_b()).to(dtype) + ell.log(), taken)
        beta, sigma = (safe_log(weight).to(dtype).unsqueeze(-1) for weight in self.at_x_t())
        log_p = log_p.scatter(-1, self.x_t.unsqueeze(-1), torch.logaddexp(beta, sigma + log_p_t))
        log_p = log_p.masked_fill(log_p < 0.5 * LOG_ZERO, -torch.inf)
        carried = torch.full_like(log_p, -torch.inf).scatter(-1, self.x_t.unsqueeze(-1), 0.0)
        return torch.where(self.is_carried.unsqueeze(-1), carried, log_p)

    def code_distribution(self, p0: Float[Tensor, "B N K"]) -> Float[Tensor, "B N K"]:
        """p(x_s | x_t, x_s is not [MASK]) over the codes, for the model's p(x_0 | x_t); differentiable.

        `log_reverse` over the codes alone, normalised, without logarithms. In mask diffusion a visible token keeps its code,
        and a masked one follows `p0`.
        """
        dtype, is_code, is_carried = p0.dtype, self.x_t < self.num_codes, self.is_carried
        here = self.x_t.clamp(max=self.num_codes - 1).unsqueeze(-1)
        p_t = p0.gather(-1, here).squeeze(-1) * is_code
        ell = (1.0 - p_t) + self.p_redrawn.to(dtype) * p_t
        p_x0, ell = (torch.where(is_carried, 0.0, weight) for weight in (self.p_x0.to(dtype), ell))
        p_s = p_x0.unsqueeze(-1) * p0
        if self.has_uniform:
            p_s = p_s + (ell * (self.p_uniform / self.num_codes).to(dtype)).unsqueeze(-1)
        from_source = ell * (self.p_source * (self.source < self.num_codes)).to(dtype)
        p_s = p_s.scatter_add(-1, self.source.clamp(max=self.num_codes - 1).unsqueeze(-1), from_source.unsqueeze(-1))
        beta, sigma = (weight.to(dtype) for weight in self.at_x_t())
        at_t = torch.where(is_carried, 1.0, beta + sigma * p_t).unsqueeze(-1)
        p_s = p_s.scatter(-1, here, torch.where(is_code.unsqueeze(-1), at_t, p_s.gather(-1, here)))
        return p_s / p_s.sum(-1, keepdim=True)

    def head(self, rows: int) -> "Posterior":
        """The posteriors of the first `rows` samples of the batch."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        heads: dict[str, Any] = {name: value[:rows] for name, value in tensors.items() if isinstance(value, Tensor)}
        return replace(self, **heads)

    def sample(self, log_p0: Logits, uniforms: Float[Tensor, "3 B N"]) -> Codes:
        """Samples x_s from p(x_s | x_t): x_0 from `log_p0`, then x_s from the posterior given it. O(K) per token.

        Args:
          log_p0: log p(x_0 | x_t); -inf allowed.
          uniforms: numbers in [0, 1) for x_0, for the component of the mixture, and for a code at random.
        """
        x0 = torch.where(self.is_carried, self.x_t, sample_categorical(log_p0.softmax(-1), uniforms[0]))
        return self.sample_given(x0, uniforms[1:])

    def sample_given(self, x0: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        """Samples x_s from q(x_s | x_t, x_0), O(1) per token. Arguments as for `sample`."""
        changed = torch.where(x0 == self.x_t, self.p_redrawn, 1.0)
        # If x_0 is x_t, it does not matter which of the two is kept, only whether noise replaces it.
        x_s = torch.where(uniforms[0] < self.p_keep_xt, self.x_t, x0)
        shares = (changed * self.p_uniform, changed * self.p_mask, changed * self.p_source)
        return redraw(x_s, uniforms, shares, self.source, self.num_codes)

    def ell(self, log_p_t: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """l = 1 - p_untouched p(x_0 = x_t | x_t), given log p(x_0 = x_t | x_t); positive, and 1 where `is_carried`."""
        ell = self.p_redrawn.to(log_p_t.dtype) * log_p_t.exp() - torch.expm1(log_p_t)
        return torch.where(self.is_carried, 1.0, ell)

    def _dense_b(self) -> Dense:
        """b over 0..K."""
        p = torch.empty(*self.x_t.shape, self.num_codes + 1, dtype=torch.float64, device=self.x_t.device)
        p[..., :-1] = (self.p_uniform / self.num_codes).unsqueeze(-1)
        p[..., -1] = self.p_mask
        add_at(p, self.source, self.p_source.expand_as(self.source))
        return p


def redraw(
    code: Codes,
    uniforms: Float[Tensor, "2 B N"],
    shares: tuple[Float64[Tensor, "B #N"], Float64[Tensor, "B #N"], Float64[Tensor, "B #N"]],
    source: Codes,
    num_codes: int,
) -> Codes:
    """`code`, or with the probabilities in `shares` a random code, [MASK], the source's code.

    The shares lie at the upper end of the unit interval, so that a share of exactly 0 is never chosen.
    """
    uniform, mask, from_source = shares
    choice = uniforms[0]
    code = torch.where(choice >= 1.0 - (uniform + mask + from_source), source, code)
    code = torch.where(choice >= 1.0 - (uniform + mask), num_codes, code)
    anything = (uniforms[1] * num_codes).long().clamp(max=num_codes - 1)
    return torch.where(choice >= 1.0 - uniform, anything, code)


def add_at(p: Dense, code: Codes, weight: Float64[Tensor, "B N"]) -> None:
    """Adds `weight` to each token's mass on `code`, in place."""
    p.scatter_add_(-1, code.unsqueeze(-1), weight.unsqueeze(-1))
