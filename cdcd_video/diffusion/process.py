"""The forward process, one family for every kind, and its exact reversal.

Codes are 0..K-1 and [MASK] is K. Between times s < t a code is kept with probability kappa, or replaced by a sample of a fixed
noise distribution pi, which may contain the code at the same place in the earlier frame (the source):

    q(x_t | x_s) = kappa [x_s] + (1 - kappa) pi,    kappa = alpha(t) / alpha(s),
    pi = uniform / K over the codes + mask [MASK] + source [source code]

Since pi does not change over time, steps compose: q(x_t | x_0) = alpha(t) [x_0] + (1 - alpha(t)) pi. The posterior of a jump
over many steps is therefore as exact as that of one step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from cdcd_video.diffusion.posterior import Posterior, add_at, redraw
from cdcd_video.diffusion.schedule import Schedule, linear
from cdcd_video.diffusion.shapes import Codes, Dense, Time


class DiscreteProcess(ABC):
    """A forward process over codes: how it corrupts them, and its posteriors. The loss and the samplers use only this.

    `InterpolatingProcess` is the family that this project trains, `vq_diffusion.MaskAndReplace` the chain that CDCD ships.
    """

    num_codes: int
    num_steps: int | None = None
    """Steps of a chain that exists at the times i / S only; None where any time will do."""
    prior_nats: float = 0.0
    """KL(q(x_1 | x_0) || p(x_1)) per token, the prior term of the bound: 0 where x_1 does not depend on x_0."""

    @property
    def mask_id(self) -> int:
        """The index of [MASK], which is K."""
        return self.num_codes

    @abstractmethod
    def corrupt(self, x0: Codes, t: Time, source: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        """Samples x_t from q(x_t | x_0, source), by two uniform numbers per token."""

    @abstractmethod
    def start(self, source: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        """Samples x_1 from p(x_1), where the reverse process starts."""

    @abstractmethod
    def log_marginal(self, x0: Codes, t: Time, source: Codes) -> Dense:
        """log q(x_t | x_0, source) over 0..K."""

    @abstractmethod
    def posterior(self, x_t: Codes, s: Time, t: Time, source: Codes) -> Posterior:
        """q(x_s | x_t, x_0) for every x_0 at once, for any times s < t.

        Raises:
          ValueError: if some s >= t. Checked on the CPU only: elsewhere it would cost a synchronisation.
        """

    def sample(self, x0: Codes, t: Time, source: Codes, generator: torch.Generator) -> Codes:
        """`corrupt` with numbers of a generator."""
        uniforms = torch.rand(2, *x0.shape, generator=generator, device=x0.device)
        return self.corrupt(x0, t, source, uniforms)


def check_order(s: Time, t: Time) -> None:
    """Raises ValueError if some s >= t; see `DiscreteProcess.posterior`."""
    if t.device.type == "cpu" and bool((s >= t).any()):
        raise ValueError("a reverse step goes back in time: s must be below t")


@dataclass(frozen=True)
class InterpolatingProcess(DiscreteProcess):
    """The process above; built by `mask`, `replace`, `bridge` or `hybrid`.

    Attributes:
      num_codes: K.
      uniform, mask, source: shares of the noise distribution pi: a code at random, [MASK], the source's code. They sum to 1.
      schedule: alpha(t).
    """

    num_codes: int
    uniform: float
    mask: float
    source: float
    schedule: Schedule = linear

    def __post_init__(self) -> None:
        shares = (self.uniform, self.mask, self.source)
        if self.num_codes < 1 or min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-9:
            raise ValueError(f"need at least one code, and shares that sum to 1, not {self.num_codes} and {shares}")

    def alpha(self, t: Float[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Probability that a code has been kept until time t. In float64: 1 - alpha is tiny near the data."""
        return self.schedule(t.double())

    def noise_distribution(self, code: Codes, source: Codes) -> Float64[Tensor, "B N"]:
        """pi(code), code in 0..K."""
        is_mask, is_source = (code == self.num_codes).double(), (code == source).double()
        return (1.0 - is_mask) * (self.uniform / self.num_codes) + is_mask * self.mask + is_source * self.source

    def corrupt(self, x0: Codes, t: Time, source: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        lost = 1.0 - self.alpha(t)[:, None]
        return redraw(x0, uniforms, (lost * self.uniform, lost * self.mask, lost * self.source), source, self.num_codes)

    def start(self, source: Codes, uniforms: Float[Tensor, "2 B N"]) -> Codes:
        """Samples pi, since alpha(1) = 0."""
        return self.corrupt(source, torch.ones(len(source), device=source.device), source, uniforms)

    def log_marginal(self, x0: Codes, t: Time, source: Codes) -> Dense:
        alpha = self.alpha(t)[:, None]
        p = torch.empty(*x0.shape, self.num_codes + 1, dtype=torch.float64, device=x0.device)
        p[..., :-1] = (1.0 - alpha[..., None]) * (self.uniform / self.num_codes)
        p[..., -1] = (1.0 - alpha) * self.mask
        add_at(p, source, ((1.0 - alpha) * self.source).expand_as(source))
        add_at(p, x0, alpha.expand_as(x0))
        return p.log()

    def posterior(self, x_t: Codes, s: Time, t: Time, source: Codes) -> Posterior:
        """Bayes on q(x_t | x_s) q(x_s | x_0) [D3PM eq. 3]; docs/diffusion.md, section 3.

        An x_t that the process cannot produce (a [MASK] in a bridge, say) counts as the limit of a vanishing share: it says
        nothing about x_0. Sampling that is started from such codes goes on, and loses them.
        """
        check_order(s, t)
        alpha_s, alpha_t = self.alpha(s)[:, None], self.alpha(t)[:, None]
        kappa, lost = alpha_t / alpha_s, 1.0 - alpha_t
        again = (1.0 - kappa) * (1.0 - alpha_s) / lost
        by_redraw = lost * self.noise_distribution(x_t, source)
        by_survival = alpha_t * (x_t < self.num_codes)
        total = by_redraw + by_survival
        p_untouched = torch.where(total > 0.0, by_survival / total, 0.0)
        return Posterior(
            num_codes=self.num_codes,
            x_t=x_t,
            source=source,
            p_keep_xt=kappa * (1.0 - alpha_s) / lost,
            p_x0=(alpha_s - alpha_t) / lost,
            p_uniform=again * self.uniform,
            p_mask=again * self.mask,
            p_source=again * self.source,
            p_untouched=p_untouched,
            p_redrawn=torch.where(total > 0.0, by_redraw / total, 1.0),
            is_redraw=by_redraw > 0.0,
            has_uniform=self.uniform > 0.0,
        )


def mask(num_codes: int, schedule: Schedule = linear) -> InterpolatingProcess:
    """pi is [MASK]: [D3PM sec. 3.1, absorbing]."""
    return InterpolatingProcess(num_codes, uniform=0.0, mask=1.0, source=0.0, schedule=schedule)


def replace(num_codes: int, uniform: float, schedule: Schedule = linear) -> InterpolatingProcess:
    """pi is a code at random with probability `uniform`, else [MASK]; close to [VQD sec. 4.1].

    VQ-Diffusion's [MASK] is permanent, ours is replaced like any other code; at uniform = 0 the two are the same.
    """
    return InterpolatingProcess(num_codes, uniform=uniform, mask=1.0 - uniform, source=0.0, schedule=schedule)


def bridge(num_codes: int, uniform: float = 0.0, schedule: Schedule = linear) -> InterpolatingProcess:
    """pi is the earlier frame's code, or with probability `uniform` a code at random [ours].

    At uniform = 0, x_1 is the earlier frame itself: the diffusion starts from the latent of the earlier frame.
    """
    return InterpolatingProcess(num_codes, uniform=uniform, mask=0.0, source=1.0 - uniform, schedule=schedule)


def hybrid(num_codes: int, mask: float, uniform: float, schedule: Schedule = linear) -> InterpolatingProcess:
    """pi is [MASK], a code at random, or else the earlier frame's code [ours]."""
    # Rounded, since 1 - 0.9 - 0.1 is below 0 in floating point.
    source = round(1.0 - uniform - mask, 12)
    return InterpolatingProcess(num_codes, uniform=uniform, mask=mask, source=source, schedule=schedule)
