"""Worlds so small that everything about them can be written down: exact p(x_0), exact posteriors, exact bounds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cdcd_video.diffusion import process as processes
from cdcd_video.diffusion.bound import variational_bound
from cdcd_video.diffusion.process import Process
from cdcd_video.diffusion.schedule import Schedule, linear


def kinds(num_codes: int, schedule: Schedule = linear) -> dict[str, Process]:
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

    def log_posterior(self, process: Process, x_t: Tensor, t: Tensor) -> Tensor:
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

    def exact_bound(self, process: Process, num_steps: int) -> Tensor:
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


def transition(process: Process, s: float, t: float, source: Tensor) -> Tensor:
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


def _all_tuples(num_values: int, length: int) -> Tensor:
    return torch.cartesian_prod(*[torch.arange(num_values)] * length).view(-1, length)
