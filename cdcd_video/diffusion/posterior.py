"""The way back, exactly: every posterior q(x_s | x_t, x_0) as one small record, with x_0 still open."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from cdcd_video.diffusion.categorical import LOG_ZERO, safe_log, sample_categorical


@dataclass(frozen=True)
class Posterior:
    """q(x_s | x_t, x_0) of every token as a mixture, with x_0 still open [ours; Bayes on D3PM eq. 3].

    If x_0 is not x_t, the earlier code x_s is x_t with probability `stay` (the redraw that made x_t came before s), x_0
    with `take` (nothing was redrawn before s), and else a fresh draw from the law (redrawn before s and after it). None
    of the three depends on x_0. If x_0 is x_t, there is one more explanation: with probability `survive` nothing ever
    happened.

    All that works on posteriors (the bound, the reverse step, the dense forms) reads only this record. Another Markov
    chain over codes needs another `Posterior`, not another bound. Weights are float64 and broadcast to (B, N).

    Attributes:
      num_codes: K.
      x_t: corrupted codes in 0..K.
      source: the earlier frame's codes in 0..K.
      stay: weight of x_s = x_t.
      take: weight of x_s = x_0.
      uniform: weight of a fresh draw from the K codes.
      mask: weight of a fresh [MASK].
      origin: weight of the source's code drawn afresh. The five weights sum to 1.
      survive: probability that x_t was never redrawn, if x_0 = x_t; 0 for [MASK].
      redrawn: 1 - survive, without the rounding.
      is_redraw: whether a redraw can give x_t at all.
      has_uniform: whether `uniform` can be above 0 at all; where not, K-wide work is skipped.
    """

    num_codes: int
    x_t: Int64[Tensor, "B N"]
    source: Int64[Tensor, "B N"]
    stay: Float64[Tensor, "B #N"]
    take: Float64[Tensor, "B #N"]
    uniform: Float64[Tensor, "B #N"]
    mask: Float64[Tensor, "B #N"]
    origin: Float64[Tensor, "B #N"]
    survive: Float64[Tensor, "B N"]
    redrawn: Float64[Tensor, "B N"]
    is_redraw: Bool[Tensor, "B N"]
    has_uniform: bool

    @property
    def is_carried(self) -> Bool[Tensor, "B N"]:
        """Where x_t is a code that no redraw can give, so that x_0 and x_s are x_t whatever a model says."""
        return ~self.is_redraw & (self.survive > 0.0)

    def is_impossible(self, x0: Int64[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Where x_t cannot come from x0."""
        return ~self.is_redraw & ((x0 != self.x_t) | (self.survive == 0.0))

    def fresh(self, code: Int64[Tensor, "B N"]) -> Float64[Tensor, "B N"]:
        """Weight of drawing `code` (0..K) afresh."""
        is_mask = code == self.num_codes
        base = torch.where(is_mask, self.mask, self.uniform / self.num_codes)
        return base + self.origin * (code == self.source)

    def at_x_t(self) -> tuple[Float64[Tensor, "B N"], Float64[Tensor, "B N"]]:
        """(c, d) such that p(x_s = x_t | x_t) = c + d p(x_0 = x_t | x_t), both not negative."""
        constant = self.stay + self.fresh(self.x_t)
        return constant, self.survive * (1.0 - constant) + self.redrawn * self.take

    def log_posterior(self, x0: Int64[Tensor, "B N"]) -> Float64[Tensor, "B N K1"]:
        """log q(x_s | x_t, x_0) over 0..K."""
        is_kept = x0 == self.x_t
        changed = torch.where(is_kept, self.redrawn, 1.0)
        p = self._fresh_everywhere() * changed.unsqueeze(-1)
        add_at(p, self.x_t, torch.where(is_kept, self.survive, 0.0) + changed * self.stay)
        add_at(p, x0, changed * self.take)
        return p.log()

    def log_reverse(self, log_p0: Float[Tensor, "B N K"]) -> Float[Tensor, "B N K+1"]:
        """log p(x_s | x_t) over 0..K, where x_0 follows `log_p0`; differentiable in it.

        It is sum_j q(x_s | x_t, x_0 = j) p(x_0 = j | x_t), as a K-wide elementwise sum of two terms.
        """
        dtype = log_p0.dtype
        log_p0 = torch.cat((log_p0, log_p0.new_full((*log_p0.shape[:-1], 1), LOG_ZERO)), -1).clamp(min=LOG_ZERO)
        log_p_t = log_p0.gather(-1, self.x_t.unsqueeze(-1))
        lost = self.not_survived(log_p_t.squeeze(-1)).unsqueeze(-1)
        taken = log_p0 + safe_log(self.take).to(dtype).unsqueeze(-1)
        log_p = torch.logaddexp(safe_log(self._fresh_everywhere()).to(dtype) + lost.log(), taken)
        constant, slope = (safe_log(weight).to(dtype).unsqueeze(-1) for weight in self.at_x_t())
        log_p = log_p.scatter(-1, self.x_t.unsqueeze(-1), torch.logaddexp(constant, slope + log_p_t))
        log_p = log_p.masked_fill(log_p < 0.5 * LOG_ZERO, -torch.inf)
        carried = torch.full_like(log_p, -torch.inf).scatter(-1, self.x_t.unsqueeze(-1), 0.0)
        return torch.where(self.is_carried.unsqueeze(-1), carried, log_p)

    def code_distribution(self, p0: Float[Tensor, "B N K"]) -> Float[Tensor, "B N K"]:
        """p(x_s | x_t, x_s is not [MASK]) over the codes, where x_0 follows `p0`; differentiable in it.

        It is what `log_reverse` says of the codes, normalised among them, without logarithms. In mask diffusion a visible
        token is itself, and a hidden one follows `p0`.
        """
        dtype, is_code, is_carried = p0.dtype, self.x_t < self.num_codes, self.is_carried
        here = self.x_t.clamp(max=self.num_codes - 1).unsqueeze(-1)
        p_t = p0.gather(-1, here).squeeze(-1) * is_code
        not_survived = (1.0 - p_t) + self.redrawn.to(dtype) * p_t
        take, lost = (torch.where(is_carried, 0.0, weight) for weight in (self.take.to(dtype), not_survived))
        p_s = take.unsqueeze(-1) * p0
        if self.has_uniform:
            p_s = p_s + (lost * (self.uniform / self.num_codes).to(dtype)).unsqueeze(-1)
        from_source = lost * (self.origin * (self.source < self.num_codes)).to(dtype)
        p_s = p_s.scatter_add(-1, self.source.clamp(max=self.num_codes - 1).unsqueeze(-1), from_source.unsqueeze(-1))
        constant, slope = (weight.to(dtype) for weight in self.at_x_t())
        at_t = torch.where(is_carried, 1.0, constant + slope * p_t).unsqueeze(-1)
        p_s = p_s.scatter(-1, here, torch.where(is_code.unsqueeze(-1), at_t, p_s.gather(-1, here)))
        return p_s / p_s.sum(-1, keepdim=True)

    def head(self, rows: int) -> "Posterior":
        """The posteriors of the first `rows` samples of the batch."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        heads: dict[str, Any] = {name: value[:rows] for name, value in tensors.items() if isinstance(value, Tensor)}
        return replace(self, **heads)

    def sample(self, log_p0: Float[Tensor, "B N K"], uniforms: Float[Tensor, "3 B N"]) -> Int64[Tensor, "B N"]:
        """Draws x_s: x_0 from `log_p0`, then x_s from the posterior given it. O(K) per token, for the one draw of x_0.

        Args:
          log_p0: log p(x_0 | x_t); -inf allowed.
          uniforms: numbers in [0, 1) for the draw of x_0, the choice of the component, the fresh code.
        """
        x0 = torch.where(self.is_carried, self.x_t, sample_categorical(log_p0.softmax(-1), uniforms[0]))
        return self.sample_given(x0, uniforms[1:])

    def sample_given(self, x0: Int64[Tensor, "B N"], uniforms: Float[Tensor, "2 B N"]) -> Int64[Tensor, "B N"]:
        """Draws x_s from q(x_s | x_t, x_0), O(1) per token. Arguments as for `sample`."""
        changed = torch.where(x0 == self.x_t, self.redrawn, 1.0)
        # If x_0 is x_t, it does not matter which of the two stands; only whether something fresh takes its place.
        x_s = torch.where(uniforms[0] < self.stay, self.x_t, x0)
        shares = (changed * self.uniform, changed * self.mask, changed * self.origin)
        return redraw(x_s, uniforms, shares, self.source, self.num_codes)

    def not_survived(self, log_p_t: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
        """1 - survive p(x_0 = x_t | x_t), given log p(x_0 = x_t | x_t); positive, and 1 where `is_carried`."""
        redrawn = self.redrawn.to(log_p_t.dtype) * log_p_t.exp() - torch.expm1(log_p_t)
        return torch.where(self.is_carried, 1.0, redrawn)

    def _fresh_everywhere(self) -> Float64[Tensor, "B N K1"]:
        """Weights of all fresh draws, over 0..K."""
        p = torch.empty(*self.x_t.shape, self.num_codes + 1, dtype=torch.float64, device=self.x_t.device)
        p[..., :-1] = (self.uniform / self.num_codes).unsqueeze(-1)
        p[..., -1] = self.mask
        add_at(p, self.source, self.origin.expand_as(self.source))
        return p


def redraw(
    code: Int64[Tensor, "B N"],
    uniforms: Float[Tensor, "2 B N"],
    shares: tuple[Float64[Tensor, "B #N"], Float64[Tensor, "B #N"], Float64[Tensor, "B #N"]],
    source: Int64[Tensor, "B N"],
    num_codes: int,
) -> Int64[Tensor, "B N"]:
    """`code`, or with the probabilities in `shares` a random code, [MASK], the source's code.

    The shares are laid at the upper end of the unit interval, so that a share of exactly 0 is never chosen.
    """
    uniform, mask, origin = shares
    choice = uniforms[0]
    code = torch.where(choice >= 1.0 - (uniform + mask + origin), source, code)
    code = torch.where(choice >= 1.0 - (uniform + mask), num_codes, code)
    anything = (uniforms[1] * num_codes).long().clamp(max=num_codes - 1)
    return torch.where(choice >= 1.0 - uniform, anything, code)


def add_at(p: Float64[Tensor, "B N K1"], code: Int64[Tensor, "B N"], weight: Float64[Tensor, "B N"]) -> None:
    """Adds `weight` to each token's mass on `code`, in place."""
    p.scatter_add_(-1, code.unsqueeze(-1), weight.unsqueeze(-1))
