"""The forward process, one family for every kind, and its exact reversal.

Codes are 0..K-1 and [MASK] is K. Between any times s < t a code is kept, or redrawn from a fixed law that may hold the
code standing at the same place in the earlier frame (the source):

    q(x_t | x_s) = kappa [x_s] + (1 - kappa) pi,    kappa = alpha(t) / alpha(s),
    pi = uniform / K over the codes + mask [MASK] + source [source code]

Since every step redraws from the same law, steps compose: q(x_t | x_0) = alpha(t) [x_0] + (1 - alpha(t)) pi, for
whatever times were visited in between, and so the posterior of a jump over many steps is as exact as that of one step.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from cdcd_video.diffusion.posterior import Posterior, add_at, redraw
from cdcd_video.diffusion.schedule import Schedule, linear


class DiscreteProcess(ABC):
    """What any forward chain over codes offers, once it says how to corrupt and what its posteriors are.

    `InterpolatingProcess` is the family that this project trains, `vq_diffusion.MaskAndReplace` the chain that CDCD ships.
    The loss and the samplers use only what this class declares.
    """

    num_codes: int
    num_steps: int | None = None
    """Steps of a chain that exists at the times i / S only; None where any time will do."""
    prior_nats: float = 0.0
    """KL(q(x_1 | x_0) || p(x_1)) per token, the bound's term for the start: 0 where x_1 carries nothing of x_0."""

    @property
    def mask_id(self) -> int:
        """The index of [MASK], which is K."""
        return self.num_codes

    @abstractmethod
    def corrupt(
        self,
        x0: Int64[Tensor, "B N"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
        uniforms: Float[Tensor, "2 B N"],
    ) -> Int64[Tensor, "B N"]:
        """`sample` as a pure function of two uniform numbers per token."""

    @abstractmethod
    def start(self, source: Int64[Tensor, "B N"], uniforms: Float[Tensor, "2 B N"]) -> Int64[Tensor, "B N"]:
        """`prior` as a pure function of two uniform numbers per token."""

    @abstractmethod
    def log_marginal(
        self, x0: Int64[Tensor, "B N"], t: Float[Tensor, "B"], source: Int64[Tensor, "B N"]
    ) -> Float64[Tensor, "B N K1"]:
        """log q(x_t | x_0, source) over 0..K. Dense: for reading and testing."""

    @abstractmethod
    def posterior(
        self, x_t: Int64[Tensor, "B N"], s: Float[Tensor, "B"], t: Float[Tensor, "B"], source: Int64[Tensor, "B N"]
    ) -> Posterior:
        """The posteriors q(x_s | x_t, x_0) for every x_0 at once, for any times s < t.

        Raises:
          ValueError: if some s >= t. Looked at on the CPU only: elsewhere the answer would cost a synchronisation.
        """

    def sample(
        self,
        x0: Int64[Tensor, "B N"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
        generator: torch.Generator,
    ) -> Int64[Tensor, "B N"]:
        """Draws x_t from q(x_t | x_0, source): corrupts clean codes, in 0..K-1, up to time t. Returns codes in 0..K."""
        return self.corrupt(x0, t, source, _uniforms(2, x0, generator))

    def prior(self, source: Int64[Tensor, "B N"], generator: torch.Generator) -> Int64[Tensor, "B N"]:
        """Draws x_1, where the reverse walk starts."""
        return self.start(source, _uniforms(2, source, generator))

    def log_posterior(
        self,
        x0: Int64[Tensor, "B N"],
        x_t: Int64[Tensor, "B N"],
        s: Float[Tensor, "B"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
    ) -> Float64[Tensor, "B N K1"]:
        """log q(x_s | x_t, x_0) over 0..K for any s < t; all on x_0 at s = 0. Dense: for reading and testing."""
        return self.posterior(x_t, s, t, source).log_posterior(x0)

    def log_reverse(
        self,
        log_p0: Float[Tensor, "B N K"],
        x_t: Int64[Tensor, "B N"],
        s: Float[Tensor, "B"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
    ) -> Float[Tensor, "B N K+1"]:
        """log p(x_s | x_t) over 0..K, for a model that says `log_p0` of x_0 given x_t [VQD eq. 11].

        Where x_t can have come from one x_0 only, it is carried over, whatever the model says.
        """
        return self.posterior(x_t, s, t, source).log_reverse(log_p0)

    def sample_reverse(
        self,
        log_p0: Float[Tensor, "B N K"],
        x_t: Int64[Tensor, "B N"],
        s: Float[Tensor, "B"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
        generator: torch.Generator,
    ) -> Int64[Tensor, "B N"]:
        """Draws x_s from `log_reverse` without building it."""
        return self.posterior(x_t, s, t, source).sample(log_p0, _uniforms(3, x_t, generator))


def check_order(s: Float[Tensor, "B"], t: Float[Tensor, "B"]) -> None:
    """Raises ValueError if some s >= t. On the CPU only: elsewhere the answer would cost a synchronisation."""
    if t.device.type == "cpu" and bool((s >= t).any()):
        raise ValueError("a reverse step goes back in time: s must be below t")


@dataclass(frozen=True)
class InterpolatingProcess(DiscreteProcess):
    """The process above; built by `mask`, `replace`, `bridge` or `hybrid`.

    Attributes:
      num_codes: K.
      uniform: share of the redraw law that is uniform over the codes.
      mask: share that is [MASK].
      source: share that is the earlier frame's code. The three sum to 1.
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
        """Probability that a code has not been redrawn by time t. In float64: 1 - alpha is tiny near the data."""
        return self.schedule(t.double())

    def noise_distribution(self, code: Int64[Tensor, "B N"], source: Int64[Tensor, "B N"]) -> Float64[Tensor, "B N"]:
        """Probability pi(code) of the redraw law, code in 0..K."""
        is_mask, is_source = (code == self.num_codes).double(), (code == source).double()
        return (1.0 - is_mask) * (self.uniform / self.num_codes) + is_mask * self.mask + is_source * self.source

    def corrupt(
        self,
        x0: Int64[Tensor, "B N"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
        uniforms: Float[Tensor, "2 B N"],
    ) -> Int64[Tensor, "B N"]:
        """`sample` as a pure function of two uniform numbers per token."""
        lost = 1.0 - self.alpha(t)[:, None]
        return redraw(x0, uniforms, (lost * self.uniform, lost * self.mask, lost * self.source), source, self.num_codes)

    def start(self, source: Int64[Tensor, "B N"], uniforms: Float[Tensor, "2 B N"]) -> Int64[Tensor, "B N"]:
        """The redraw law itself, since alpha(1) = 0."""
        return self.corrupt(source, torch.ones(len(source), device=source.device), source, uniforms)

    def log_marginal(
        self, x0: Int64[Tensor, "B N"], t: Float[Tensor, "B"], source: Int64[Tensor, "B N"]
    ) -> Float64[Tensor, "B N K1"]:
        """log q(x_t | x_0, source) over 0..K. Dense: for reading and testing."""
        alpha = self.alpha(t)[:, None]
        p = torch.empty(*x0.shape, self.num_codes + 1, dtype=torch.float64, device=x0.device)
        p[..., :-1] = (1.0 - alpha[..., None]) * (self.uniform / self.num_codes)
        p[..., -1] = (1.0 - alpha) * self.mask
        add_at(p, source, ((1.0 - alpha) * self.source).expand_as(source))
        add_at(p, x0, alpha.expand_as(x0))
        return p.log()

    def posterior(
        self,
        x_t: Int64[Tensor, "B N"],
        s: Float[Tensor, "B"],
        t: Float[Tensor, "B"],
        source: Int64[Tensor, "B N"],
    ) -> Posterior:
        """The posteriors; see `DiscreteProcess.posterior`.

        An x_t that the process cannot give (a [MASK] in a bridge, say) is read as the limit of a vanishing share: it
        tells nothing about x_0. So a walk that was handed such codes goes on, and loses them.
        """
        check_order(s, t)
        alpha_s, alpha_t = self.alpha(s)[:, None], self.alpha(t)[:, None]
        kappa, lost = alpha_t / alpha_s, 1.0 - alpha_t
        again = (1.0 - kappa) * (1.0 - alpha_s) / lost
        by_redraw = lost * self.noise_distribution(x_t, source)
        by_survival = alpha_t * (x_t < self.num_codes)
        total = by_redraw + by_survival
        survive = torch.where(total > 0.0, by_survival / total, 0.0)
        return Posterior(
            num_codes=self.num_codes,
            x_t=x_t,
            source=source,
            stay=kappa * (1.0 - alpha_s) / lost,
            take=(alpha_s - alpha_t) / lost,
            uniform=again * self.uniform,
            mask=again * self.mask,
            origin=again * self.source,
            survive=survive,
            redrawn=torch.where(total > 0.0, by_redraw / total, 1.0),
            is_redraw=by_redraw > 0.0,
            has_uniform=self.uniform > 0.0,
        )


def mask(num_codes: int, schedule: Schedule = linear) -> InterpolatingProcess:
    """Every redraw is a [MASK] [D3PM sec. 3.1, absorbing]."""
    return InterpolatingProcess(num_codes, uniform=0.0, mask=1.0, source=0.0, schedule=schedule)


def replace(num_codes: int, uniform: float, schedule: Schedule = linear) -> InterpolatingProcess:
    """A redraw is a code at random with probability `uniform`, else a [MASK] [VQD sec. 4.1 in spirit, ours in law].

    VQ-Diffusion's [MASK] is for ever, ours is redrawn like any other code; at uniform = 0 the two are the same.
    """
    return InterpolatingProcess(num_codes, uniform=uniform, mask=1.0 - uniform, source=0.0, schedule=schedule)


def bridge(num_codes: int, uniform: float = 0.0, schedule: Schedule = linear) -> InterpolatingProcess:
    """A redraw is the earlier frame's code, or with probability `uniform` a code at random [ours].

    At time 1 the chain stands on the earlier frame: this is "diffusing from the latent of the earlier frame".
    """
    return InterpolatingProcess(num_codes, uniform=uniform, mask=0.0, source=1.0 - uniform, schedule=schedule)


def hybrid(num_codes: int, mask: float, uniform: float, schedule: Schedule = linear) -> InterpolatingProcess:
    """A redraw is a [MASK], a code at random, or else the earlier frame's code [ours]."""
    # Rounded, since 1 - 0.9 - 0.1 is below 0 in floating point.
    source = round(1.0 - uniform - mask, 12)
    return InterpolatingProcess(num_codes, uniform=uniform, mask=mask, source=source, schedule=schedule)


def _uniforms(count: int, like: Int64[Tensor, "B N"], generator: torch.Generator) -> Float[Tensor, "count B N"]:
    return torch.rand(count, *like.shape, generator=generator, device=like.device)
