"""The chain that VQ-Diffusion describes and CDCD ships: keep, replace, or mask permanently.

Unlike in `process.replace`, a [MASK] is permanent, so keeping and masking have separate schedules:

    q(x_t = j | x_s) = kept [j = x_s] + uniform / K   for codes j,   masked for j = [MASK];   [MASK] stays [MASK]

Times are i / S for i in 0..S; upstream's step t is our i = t + 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cdcd_video.diffusion.posterior import Posterior, add_at, redraw
from cdcd_video.diffusion.process import DiscreteProcess, check_order
from cdcd_video.diffusion.shapes import Codes, Dense, Time
from cdcd_video.diffusion.upstream_quirks import RIGHT, Quirks

_ROUNDING = 1e-6
"""Of probabilities that were worked out in float32."""


@dataclass(frozen=True)
class MaskAndReplace(DiscreteProcess):
    """A chain given by its cumulative probabilities at the times 0, 1/S, ..., 1 [VQD eq. 7 and 8].

    Attributes:
      num_codes: K.
      kept: (S+1,) probability that a code was never changed; 1 at time 0.
      uniform: (S+1,) probability that it was replaced by a code at random, which may be itself; 0 at time 0. The rest
        is [MASK].

    Raises:
      ValueError: if these are not the probabilities of such a chain.
    """

    num_codes: int
    kept: Float64[Tensor, "S1"]
    uniform: Float64[Tensor, "S1"]

    def __post_init__(self) -> None:
        kept, uniform = self.kept, self.uniform
        begins_whole = kept[0] == 1.0 and uniform[0] == 0.0
        falls = len(kept) > 1 and bool((kept[:-1] > 0.0).all() and (kept[1:] < kept[:-1]).all())
        are_shares = bool((uniform >= 0.0).all() and (kept >= 0.0).all() and (kept + uniform <= 1.0 + 1e-9).all())
        if not (begins_whole and falls and are_shares):
            raise ValueError("kept must fall from 1, uniform must start at 0, and their sum must be at most 1")
        code = kept + uniform
        replaced = (
            uniform[1:] * kept[:-1] - kept[1:] * uniform[:-1]
        )  # from one step to the next, up to a positive factor
        if bool((code[1:] > code[:-1] + _ROUNDING).any() or (replaced < -_ROUNDING).any()):
            raise ValueError("kept + uniform must not rise, because a [MASK] is permanent, nor uniform / kept fall")

    @property
    def has_uniform(self) -> bool:
        """Whether a code can be replaced at all."""
        return bool((self.uniform > 0.0).any())

    @property
    def num_steps(self) -> int:  # type: ignore[override]  # read only, as in every frozen chain
        """S."""
        return len(self.kept) - 1

    @property
    def prior_nats(self) -> float:  # type: ignore[override]  # likewise
        """See `DiscreteProcess`; for the prior p(x_1) of VQ-Diffusion [VQD eq. 10].

        That prior is q(x_1 | x_0) without the kept mass, normalised. The sum over 0..K then has a closed form.
        Against `start`, which is all [MASK], the term would be infinite.
        """
        kept, replaced = float(self.kept[-1]), float(self.uniform[-1]) / self.num_codes
        if kept == 0.0:
            return 0.0
        if replaced == 0.0:
            return math.inf
        return (kept + replaced) * math.log1p(kept / replaced) + math.log1p(-kept)

    def alpha(self, t: Float[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Probability that a code was never changed until time t."""
        return self._at(t, self.kept)

    def corrupt(self, x0: Codes, t: Time, source: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        """Samples q(x_t | x_0); it does not depend on the source."""
        kept, uniform = (self._at(t, values)[:, None] for values in (self.kept, self.uniform))
        masked = (1.0 - kept - uniform).clamp(min=0.0)
        return redraw(x0, uniforms, (uniform, masked, torch.zeros_like(kept)), source, self.num_codes)

    def start(self, source: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        """All [MASK], as upstream samples.

        With upstream's constants one code in 100,000 is not masked at time 1, so the prior term of the bound is infinite: what
        is minimised does not quite bound what is sampled.
        """
        return torch.full_like(source, self.num_codes)

    def log_marginal(self, x0: Codes, t: Time, source: Codes) -> Dense:
        """log q(x_t | x_0) over 0..K; x0 may be [MASK]."""
        kept, uniform = (self._at(t, values)[:, None, None] for values in (self.kept, self.uniform))
        is_mask = (x0 == self.num_codes).unsqueeze(-1)
        p = (uniform / self.num_codes).expand(*x0.shape, self.num_codes + 1).clone()
        p[..., -1:] = (1.0 - kept - uniform).clamp(min=0.0)
        add_at(p, x0, kept.squeeze(-1).expand_as(x0))
        only_mask = torch.nn.functional.one_hot(x0, self.num_codes + 1).to(p.dtype)
        return torch.where(is_mask, only_mask, p).log()

    def posterior(self, x_t: Codes, s: Time, t: Time, source: Codes) -> Posterior:
        """The posteriors; see `DiscreteProcess.posterior` [VQD eq. 5, in closed form, and for any s < t].

        Differences of nearly equal numbers are avoided: with code = kept + uniform, code(t) / code(s) - kept(t) / kept(s) is
        (uniform(t) kept(s) - kept(t) uniform(s)) / (code(s) kept(s)).
        """
        check_order(s, t)
        kept_s, kept_t = (self._at(time, self.kept)[:, None] for time in (s, t))
        uniform_s, uniform_t = (self._at(time, self.uniform)[:, None] for time in (s, t))
        code_s, code_t = kept_s + uniform_s, kept_t + uniform_t
        # From s to t, for a code at s: it stays as it is, is replaced by any of the K codes, or is masked.
        jump_kept = kept_t / kept_s
        jump_uniform = (uniform_t * kept_s - kept_t * uniform_s) / (code_s * kept_s)
        jump_masked = (code_s - code_t) / code_s
        masked_s, masked_t = 1.0 - code_s, 1.0 - code_t

        is_mask = x_t == self.num_codes
        by_redraw = uniform_t / self.num_codes
        at_code = torch.where(by_redraw > 0.0, 1.0 / (by_redraw * self.num_codes), 0.0)
        # Without mass on codes, a visible x_t is impossible.
        by_any = kept_t + by_redraw
        p_untouched = torch.where(is_mask | (by_any == 0.0), 0.0, kept_t / by_any)
        zero = torch.zeros_like(kept_s)
        return Posterior(
            num_codes=self.num_codes,
            x_t=x_t,
            source=source,
            p_keep_xt=torch.where(is_mask, masked_s / masked_t, uniform_s * jump_kept * at_code),
            p_x0=torch.where(is_mask, kept_s * jump_masked / masked_t, kept_s * jump_uniform * at_code),
            p_uniform=torch.where(is_mask, uniform_s * jump_masked / masked_t, uniform_s * jump_uniform * at_code),
            p_mask=zero,
            p_source=zero,
            p_untouched=p_untouched,
            p_redrawn=torch.where(is_mask | (by_any == 0.0), 1.0, by_redraw / by_any),
            is_redraw=is_mask | (by_redraw > 0.0),
            has_uniform=self.has_uniform,
        )

    def _at(self, t: Float[Tensor, "..."], values: Float64[Tensor, "S1"]) -> Float64[Tensor, "..."]:
        return values.to(t.device)[(t.double() * self.num_steps).round().long()]


def cdcd_chain(num_codes: int, num_steps: int = 100) -> MaskAndReplace:
    """CDCD's shipped chain, with its constants; upstream runs 80 steps on images with text, 100 on the rest.

    The uniform mass is 1e-6 at every time after 0, so that this is almost mask diffusion.

    Args:
      num_codes: K.
      num_steps: S, at least 2.

    Raises:
      ValueError: if `num_steps` is below 2.
    """
    if num_steps < 2:
        raise ValueError(f"upstream's schedule needs two steps at least, not {num_steps}")
    kept = _line(num_steps, KEPT)
    uniform = torch.full_like(kept, UNIFORM)
    return MaskAndReplace(num_codes, torch.cat((kept.new_ones(1), kept)), torch.cat((kept.new_zeros(1), uniform)))


KEPT = (0.99999, 0.000009)
"""Probability that a code is kept up to the first step and up to the last."""
MASKED = (0.000009, 0.99999)
"""Probability that a code is masked up to the first step and up to the last."""
UNIFORM = 1e-6
"""Probability that a code was replaced up to any step: what the two leave."""


@dataclass(frozen=True)
class Constants:
    """A chain's probabilities, step by step (S,) and cumulative (S+1,): keep, replace by one given code, mask."""

    keep: Float64[Tensor, "S"]
    replace: Float64[Tensor, "S"]
    mask: Float64[Tensor, "S"]
    kept: Float64[Tensor, "S1"]
    replaced: Float64[Tensor, "S1"]
    masked: Float64[Tensor, "S1"]


def cdcd_constants(num_codes: int, num_steps: int, quirks: Quirks = RIGHT) -> Constants:
    """The numbers behind `cdcd_chain`, for comparison with upstream's.

    Args:
      num_codes: K.
      quirks: `uniform_over_mask` is used.
    """
    chain = cdcd_chain(num_codes, num_steps)
    over = num_codes + quirks.uniform_over_mask
    kept, uniform = chain.kept, chain.uniform
    code = kept + uniform
    keep = kept[1:] / kept[:-1]
    replace = (uniform[1:] * kept[:-1] - kept[1:] * uniform[:-1]) / (code[:-1] * kept[:-1])
    masked = torch.cat((kept.new_zeros(1), _line(num_steps, MASKED)))
    return Constants(keep, replace / over, 1.0 - code[1:] / code[:-1], kept, uniform / over, masked)


def _line(num_steps: int, ends: tuple[float, float]) -> Float64[Tensor, "S"]:
    return torch.arange(num_steps, dtype=torch.float64) / (num_steps - 1) * (ends[1] - ends[0]) + ends[0]
