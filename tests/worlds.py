"""Worlds so small that everything about them can be written down: exact p(x_0), exact posteriors, exact bounds."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cdcd_video.diffusion import process as processes
from cdcd_video.diffusion.loss_reference import variational_bound
from cdcd_video.diffusion.process import DiscreteProcess, InterpolatingProcess
from cdcd_video.diffusion.schedule import Schedule, linear


def log_posterior(process: DiscreteProcess, x0: Tensor, x_t: Tensor, s: Tensor, t: Tensor, source: Tensor) -> Tensor:
    """log q(x_s | x_t, x_0) over 0..K."""
    return process.posterior(x_t, s, t, source).log_posterior(x0)


def log_reverse(process: DiscreteProcess, log_p0: Tensor, x_t: Tensor, s: Tensor, t: Tensor, source: Tensor) -> Tensor:
    """log p(x_s | x_t) over 0..K."""
    return process.posterior(x_t, s, t, source).log_reverse(log_p0)


def sample_reverse(
    process: DiscreteProcess, log_p0: Tensor, x_t: Tensor, s: Tensor, t: Tensor, source: Tensor, generator
):
    """x_s from p(x_s | x_t)."""
    return process.posterior(x_t, s, t, source).sample(log_p0, torch.rand(3, *x_t.shape, generator=generator))


def prior(process: DiscreteProcess, source: Tensor, generator: torch.Generator) -> Tensor:
    """x_1 from p(x_1)."""
    return process.start(source, torch.rand(2, *source.shape, generator=generator))


def kinds(num_codes: int, schedule: Schedule = linear) -> dict[str, InterpolatingProcess]:
    """One process of every kind, with all the corner shares."""
    return {
        "mask": processes.mask(num_codes, schedule),
        "replace": processes.replace(num_codes, 0.3, schedule),
        "uniform": processes.replace(num_codes, 1.0, schedule),
        "bridge": processes.bridge(num_codes, 0.0, schedule),
        "leaky bridge": processes.bridge(num_codes, 0.1, schedule),
        "hybrid": processes.hybrid(num_codes, 0.3, 0.2, schedule),
    }


KINDS = tuple(kinds(2))


@dataclass(frozen=True)
class World:
    """A joint distribution of N codes of K, given one source frame.

    Attributes:
      num_codes: K.
      p: (K ** N,) probability of each of `states`, float64.
      source: (N,) the earlier frame's codes.
    """

    num_codes: int
    p: Tensor
    source: Tensor

    @property
    def states(self) -> Tensor:
        """(K ** N, N): every frame there is."""
        return _all_tuples(self.num_codes, len(self.source))

    def log_posterior(self, process: InterpolatingProcess, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x_0^n = k | x_t), (B, N, K), by Bayes: the perfect denoiser. Flat for x_t that cannot be."""
        source = self.source.expand_as(x_t)
        evidence = torch.stack(
            [
                process.log_marginal(torch.full_like(x_t, k), t, source).gather(-1, x_t.unsqueeze(-1)).squeeze(-1)
                for k in range(self.num_codes)
            ],
            -1,
        ).exp()
        places = torch.arange(x_t.shape[1])
        joint = self.p * evidence[:, places, self.states].prod(-1)
        is_code = torch.nn.functional.one_hot(self.states, self.num_codes).double()
        posterior = torch.einsum("bs,snk->bnk", joint, is_code)
        total = posterior.sum(-1, keepdim=True)
        return torch.where(total > 0, posterior / total, 1.0 / self.num_codes).log()

    def exact_bound(self, process: InterpolatingProcess, num_steps: int) -> Tensor:
        """(K ** N,) the bound on -log p of every state with the perfect denoiser: all steps, all x_t, no sampling."""
        num_states, num_tokens = self.states.shape
        seen = _all_tuples(self.num_codes + 1, num_tokens)
        x0 = self.states.repeat_interleave(len(seen), 0)
        x_t = seen.repeat(num_states, 1)
        source = self.source.expand_as(x_t)
        total = torch.zeros(num_states, dtype=torch.float64)
        for index in range(1, num_steps + 1):
            s = torch.full((len(x_t),), (index - 1) / num_steps, dtype=torch.float64)
            t = torch.full_like(s, index / num_steps)
            weight = process.log_marginal(x0, t, source).gather(-1, x_t.unsqueeze(-1)).sum((1, 2)).exp()
            log_p0 = self.log_posterior(process, x_t, t).clamp(min=-700.0)
            nats = variational_bound(process, log_p0, x0, x_t, s, t, source).sum(-1)
            total += torch.where(weight > 0, weight * nats, 0.0).view(num_states, -1).sum(-1)
        return total


def world(num_codes: int, num_tokens: int, seed: int = 0) -> World:
    """A random world, uneven and (for N > 1) with strongly dependent tokens."""
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(num_codes**num_tokens, generator=generator, dtype=torch.float64) ** 3 + 0.01
    source = torch.randint(num_codes, (num_tokens,), generator=generator)
    return World(num_codes, p / p.sum(), source)


def independent_world(num_codes: int, num_tokens: int, seed: int = 0) -> World:
    """A world whose tokens know nothing of each other; each has an uneven law of its own."""
    generator = torch.Generator().manual_seed(seed)
    laws = torch.rand(num_tokens, num_codes, generator=generator, dtype=torch.float64) ** 3 + 0.01
    p = (laws / laws.sum(-1, keepdim=True))[torch.arange(num_tokens), _all_tuples(num_codes, num_tokens)].prod(-1)
    return World(num_codes, p, torch.randint(num_codes, (num_tokens,), generator=generator))


class Jump(NamedTuple):
    """One reverse step: the model is asked at time `at`, and the posterior used is that of a jump from `t` to `s`."""

    at: float
    t: float
    s: float


def jumps(times: Iterable[float]) -> list[Jump]:
    """The steps of a walk through these times, each with its own posterior."""
    return [Jump(t, t, s) for t, s in itertools.pairwise(times)]


def oracle(tiny: World, process: InterpolatingProcess) -> Callable[[Tensor, Tensor], Tensor]:
    """The perfect denoiser, for rows that hold any number of copies of the world side by side."""
    num_tokens, base = len(tiny.source), tiny.num_codes + 1
    every = _all_tuples(base, num_tokens)
    digits = base ** torch.arange(num_tokens - 1, -1, -1)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        table = tiny.log_posterior(process, every, t[:1].double().expand(len(every)))
        which = (x_t.view(len(x_t), -1, num_tokens) * digits).sum(-1)
        return table[which].view(*x_t.shape, tiny.num_codes)

    return denoise


def drawn_states(
    tiny: World,
    process: InterpolatingProcess,
    sampler: Callable[..., Tensor],
    draws: int,
    seed: int = 0,
    rows: int = 1,
    **how,
) -> Tensor:
    """How often each state comes out of a sampler with the perfect denoiser.

    Args:
      sampler: as `cdcd_video.diffusion.sampler.sample_ancestral`.
      draws: copies of the world, dealt out to `rows` rows of the batch. One row is fastest, where tokens go their own
        ways; an order among tokens needs a row for every copy.
      how: further arguments of the sampler.
    """
    source = tiny.source.repeat(rows, draws // rows)
    generators = [torch.Generator().manual_seed(seed)] * rows
    x_0 = sampler(oracle(tiny, process), process, source, generators=generators, **how)
    num_tokens = len(tiny.source)
    digits = tiny.num_codes ** torch.arange(num_tokens - 1, -1, -1)
    return (x_0.view(-1, num_tokens) * digits).sum(-1).bincount(minlength=len(tiny.p))


def exact_law(tiny: World, process: InterpolatingProcess, steps: Iterable[Jump]) -> Tensor:
    """What a walk draws from, without any drawing: the reverse kernels over whole frames of N tokens multiplied out."""
    num_tokens = len(tiny.source)
    every = _all_tuples(tiny.num_codes + 1, num_tokens)
    source = tiny.source.expand_as(every)
    ones = torch.ones(len(every), dtype=torch.float64)

    def joint(log_p):  # (B, N, K+1) -> (B, (K+1) ** N)
        return log_p[:, torch.arange(num_tokens), every].sum(-1).exp()

    p = joint(process.log_marginal(torch.zeros_like(every[:1]), ones[:1], source[:1]))[0]
    for at, t, s in steps:
        log_p0 = tiny.log_posterior(process, every, at * ones)
        p = p @ joint(log_reverse(process, log_p0, every, s * ones, t * ones, source))
    is_clean = (every < tiny.num_codes).all(-1)
    assert p[~is_clean].sum() == 0
    return p[is_clean]


def transition(process: InterpolatingProcess, s: float, t: float, source: Tensor) -> Tensor:
    """(..., K+1, K+1) the matrix q(x_t | x_s), row x_s, for each code in `source`, written out from its definition."""
    law = torch.zeros(process.num_codes + 1, dtype=torch.float64)
    law[: process.num_codes] += process.uniform / process.num_codes
    law[process.num_codes] += process.mask
    eye = torch.eye(process.num_codes + 1, dtype=torch.float64)
    alpha_s, alpha_t = process.schedule(torch.tensor([s, t], dtype=torch.float64))
    kappa = alpha_t / alpha_s
    return kappa * eye + (1 - kappa) * (law + process.source * eye[source]).unsqueeze(-2)


def chi_square_p_value(counts: Tensor, p: Tensor) -> float:
    """How often true draws from `p` look at least as odd as `counts` (Pearson's test); 0 after an impossible draw."""
    if bool((counts[p == 0] > 0).any()):
        return 0.0
    counts, p = counts[p > 0].double(), p[p > 0]
    if len(p) == 1:
        return 1.0
    expected = p * counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(p) - 1) / 2, dtype=torch.float64), statistic / 2))


def chi_square_power(q: Tensor, p: Tensor, draws: int, level: float) -> float:
    """How often `chi_square_p_value` against `p` falls below `level` when the draws are really from `q`.

    Pearson's statistic is then about noncentral chi-square, of noncentrality draws * sum (q - p)^2 / p: a mixture of
    central ones with Poisson weights, summed here.
    """
    half, rate = (len(p) - 1) / 2, draws * float(((q - p) ** 2 / p).sum()) / 2
    low, high = 0.0, 1000.0
    for _ in range(60):  # bisection for half the critical value
        middle = (low + high) / 2
        is_common = torch.special.gammaincc(torch.tensor(half).double(), torch.tensor(middle).double()) > level
        low, high = (middle, high) if is_common else (low, middle)
    more = torch.arange(int(rate + 20 * math.sqrt(rate)) + 60, dtype=torch.float64)
    weights = torch.exp(more * math.log(rate) - rate - torch.lgamma(more + 1)) if rate > 0 else (more == 0).double()
    return float((weights * torch.special.gammaincc(half + more, torch.tensor(low).double())).sum())


def _all_tuples(num_values: int, length: int) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(num_values)] * length).view(-1, length)
