"""CDCD's training loss the long way round: dense log tensors (B, K + 1, N), one negative after another, autograd behind.

Nothing here is fast and nothing is clever. It is written from the chain's definition alone, so that it can be the judge
of the index-space loss (`contrast.cdcd`, `diffusion.loss`) and what `tools.bench` measures it against when no upstream
checkout is at hand. `diffusion` and `contrast` are not imported: a judge shares no code with the accused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

LOG_ZERO = math.log(1e-30)
"""Stands for log 0, so that no gradient meets an infinity."""


@dataclass(frozen=True)
class PlainChain:
    """Mask and replace [VQD eq. 7]: a code is kept, drawn anew among the K codes, or masked; a [MASK] stays one.

    Attributes:
      num_codes: K; codes are 0..K-1, [MASK] is K.
      log_step: (3, S + 1) log a_i, b_i, c_i of step i in 1..S: keep, each code of a redraw, mask. Entry 0 is unused.
      log_total: the same after steps 1..i together; entry 0 is (log 1, log 0, log 0).
    """

    num_codes: int
    log_step: Tensor
    log_total: Tensor

    def marginal(self, log_p: Tensor, index: Tensor) -> Tensor:
        """log q(x_i), (B, K + 1, N), when x_0 follows `log_p`, (B, K + 1, N); `index` (B,) holds i in 0..S."""
        keep, uniform, mask = self.log_total[:, index, None, None]
        log_any_code = log_p[:, :-1].logsumexp(1, keepdim=True)
        codes = torch.logaddexp(log_p[:, :-1] + keep, log_any_code + uniform)
        return torch.cat((codes, torch.logaddexp(log_p[:, -1:], log_any_code + mask)), 1)

    def posterior(self, log_p: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """log p(x_(i-1) | x_i) = log sum_j q(x_(i-1) | x_i, x_0 = j) p(x_0 = j), (B, K + 1, N) [VQD eq. 5 and 11].

        By Bayes q(x_(i-1) | x_i, x_0) = q(x_i | x_(i-1)) q(x_(i-1) | x_0) / q(x_i | x_0), so the sum over j is the
        marginal of the weights p(x_0 = j) / q(x_i | x_0 = j), which are brought to sum 1 on the way.
        """
        weights = log_p - self._likelihood(self.log_total, x_t, index)
        weights = torch.cat((weights[:, :-1], torch.full_like(weights[:, -1:], LOG_ZERO)), 1)  # x_0 is never a [MASK]
        total = weights.logsumexp(1, keepdim=True)
        earlier = self.marginal(weights - total, index - 1) + total
        return (earlier + self._likelihood(self.log_step, x_t, index)).clamp(min=LOG_ZERO)

    def sample(self, x0: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        """x_i ~ q(x_i | x_0), (B, N), by the Gumbel-max trick over all K + 1 states."""
        log_q = self.marginal(log_one_hot(x0, self.num_codes, self.log_total.dtype), index)
        noise = torch.empty_like(log_q).exponential_(generator=generator)
        return (log_q - noise.log()).argmax(1)

    def _likelihood(self, table: Tensor, x_t: Tensor, index: Tensor) -> Tensor:
        """log q(x_t | x = k) for every k, (B, K + 1, N), over one step or over all, by the `table`."""
        keep, uniform, mask = table[:, index, None, None]
        is_mask = (x_t == self.num_codes).unsqueeze(1)
        same = log_one_hot(x_t, self.num_codes, table.dtype)[:, :-1]
        from_code = torch.where(is_mask, mask, torch.logaddexp(same + keep, uniform.expand_as(same)))
        from_mask = torch.zeros_like(from_code[:, :1]).masked_fill(~is_mask, LOG_ZERO)
        return torch.cat((from_code, from_mask), 1)


def plain_chain(
    num_codes: int, num_steps: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> PlainChain:
    """The chain with CDCD's shipped constants: kept 0.99999 -> 9e-6, masked 9e-6 -> 0.99999, both linear in the step.

    Args:
      num_codes: K.
      num_steps: S, at least 2.
      dtype, device: of the tables, hence of all that is computed.
    """
    ramp = torch.arange(num_steps, dtype=torch.float64) / (num_steps - 1)
    first, last = torch.tensor([[[0.99999], [9e-6]], [[9e-6], [0.99999]]], dtype=torch.float64)
    start = torch.tensor([[1.0], [0.0]], dtype=torch.float64)
    kept, masked = torch.cat((start, first + ramp * (last - first)), 1)
    keep = kept[1:] / kept[:-1]
    mask = 1 - (1 - masked[1:]) / (1 - masked[:-1])
    step = torch.stack((keep, (1 - keep - mask) / num_codes, mask))
    step = torch.cat((torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)[:, None], step), 1)
    uniform = (1 - kept - masked) / num_codes
    total = torch.stack((kept, uniform, masked))
    return PlainChain(num_codes, step.log().to(device, dtype), total.log().to(device, dtype))


@dataclass(frozen=True)
class PlainContrast:
    """One contrastive term.

    Attributes:
      negatives: (B, M, N) codes that the model should not believe in.
      weight: of the term, in the loss.
      level: "step" compares laws of x_(i-1), "sample" compares x_0.
    """

    negatives: Tensor
    weight: float
    level: Literal["step", "sample"] = "step"


def plain_loss(
    chain: PlainChain,
    logits: Tensor,
    x0: Tensor,
    x_t: Tensor,
    index: Tensor,
    share: Tensor,
    contrasts: Sequence[PlainContrast] = (),
    auxiliary_weight: float = 5e-4,
    adaptive: bool = True,
    token_weight: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Bound + x_0 term - contrast of every sample, in nats over all its tokens, as CDCD's code weighs them [CDCD; VQD eq. 12].

    Args:
      chain: the forward process.
      logits: (B, N, K), of p(x_0 | x_t); differentiable.
      x0, x_t: (B, N) clean codes in 0..K-1 and corrupted ones in 0..K.
      index: (B,) the step i in 1..S of x_t.
      share: (B,) the probability with which i was drawn.
      contrasts: the contrastive terms.
      auxiliary_weight: of the x_0 term.
      adaptive: lets the weight of the x_0 term fall with i and that of the contrast grow.
      token_weight: of masked and of other tokens, at steps after the first.

    Returns:
      (B,); upstream's scalar is the sum over B N.
    """
    dtype = chain.log_total.dtype
    log_p0 = logits.to(dtype).transpose(1, 2).log_softmax(1)
    log_p0 = torch.cat((log_p0, torch.full_like(log_p0[:, :1], LOG_ZERO)), 1)
    log_p = chain.posterior(log_p0, x_t, index)
    weight = torch.where(x_t == chain.num_codes, *(torch.tensor(one, dtype=dtype) for one in token_weight))

    def nats(x: Tensor, level: str) -> Tensor:
        """What it costs the model that x is the truth, (B,); at the first step there is nothing to compare but x."""
        decoded = -log_p.gather(1, x.unsqueeze(1)).squeeze(1).sum(-1)
        if level == "step":
            log_q = chain.posterior(log_one_hot(x, chain.num_codes, dtype), x_t, index)
            per_token = (log_q.exp() * (log_q - log_p)).sum(1)
        else:
            per_token = -log_p0.gather(1, x.unsqueeze(1)).squeeze(1)
        return torch.where(index == 1, decoded, (weight * per_token).sum(-1))

    progress = (index - 1).to(dtype) / (chain.log_step.shape[1] - 1)
    falling, rising = (2 - progress, 1 + progress) if adaptive else (1.0, 1.0)
    loss = nats(x0, "step") + auxiliary_weight * falling * nats(x0, "sample")
    for contrast in contrasts:
        costs = [nats(negative, contrast.level) for negative in contrast.negatives.unbind(1)]
        loss = loss - contrast.weight * rising * sum(costs) / len(costs)
    return loss / share


def log_one_hot(x: Tensor, num_codes: int, dtype: torch.dtype) -> Tensor:
    """(B, N) codes in 0..K -> (B, K + 1, N): 0 at the code, `LOG_ZERO` elsewhere."""
    states = torch.full((x.shape[0], num_codes + 1, x.shape[1]), LOG_ZERO, dtype=dtype, device=x.device)
    return states.scatter_(1, x.unsqueeze(1), 0.0)
