"""One side of `bench loss` in its own process: CDCD's loss by us, by upstream, or by the plain reference.

All compute the same value: variational bound, x_0 term and step-wise contrast with permuted chunks of the sample, weighted
as in CDCD's code. Sampling the step, x_t and the negatives is included.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cdcd_video.contrast.cdcd import CdcdWeights, Negatives, cdcd_loss
from cdcd_video.contrast.negatives import chunk_orders, reordered
from cdcd_video.diffusion.upstream_quirks import UPSTREAM
from cdcd_video.diffusion.vq_diffusion import cdcd_chain
from cdcd_video.engine.runtime import generator
from cdcd_video.errors import exit_code
from cdcd_video.tools.bench.side_process import measure, peak_over_base, run_side
from cdcd_video.tools.bench.upstream_shapes import SHAPES, Shape
from cdcd_video.tools.upstream.functions import Upstream
from cdcd_video.tools.upstream.plain_loss import PlainContrast, plain_chain, plain_loss
from cdcd_video.tools.upstream.upstream_loss import UpstreamLoss

AUXILIARY_WEIGHT = 5e-4
CONTRAST_WEIGHT = 5e-5
"""Those of upstream's configs."""
NUM_CHUNKS = 8
"""Chunks of a sample that are permuted for negatives; as upstream."""
Work = Callable[[int], torch.Tensor]
"""A number of negatives -> the loss of a batch, a scalar that can be differentiated."""


def main() -> int:
    return run_side(measured)


def measured(request: dict[str, Any]) -> dict[str, Any]:
    """Measures one side.

    Args:
      request: `side`, a key of `SIDES`; `shape`, one of `SHAPES`; `upstream`, a folder or None; `device`; `negatives`, the
        numbers of them; `warm_up` and `repeats`.

    Returns:
      `peak_bytes` of a call with the first number of negatives, and `times` for each number.
    """
    device = torch.device(request["device"])

    def calls(shape: Shape) -> list[Callable[[], None]]:
        logits = torch.randn(shape.batch, shape.num_tokens, shape.num_codes, generator=generator("logits", 0))
        logits = logits.to(device).requires_grad_()
        work = SIDES[request["side"]](shape, logits, request["upstream"])

        def call(num_negatives: int) -> None:
            logits.grad = None
            work(num_negatives).backward()

        return [partial(call, count) for count in request["negatives"]]

    for call in calls(SHAPES["tiny"]):  # so that loading of code does not count as memory of the loss
        call()
    pieces = calls(SHAPES[request["shape"]])
    peak = peak_over_base(pieces[0], device)
    return {"peak_bytes": peak, "times": measure(pieces, request["warm_up"], request["repeats"], device)}


def _ours(shape: Shape, logits: torch.Tensor, _: str | None) -> Work:
    chain, weights = cdcd_chain(shape.num_codes, shape.num_steps), CdcdWeights(auxiliary=AUXILIARY_WEIGHT)
    draws = generator("bench", 0, device=logits.device)
    x0 = _codes(shape, draws)

    def work(num_negatives: int) -> torch.Tensor:
        index = _steps(shape, draws)
        s, t = (index - 1).double() / shape.num_steps, index.double() / shape.num_steps
        x_t = chain.sample(x0, t, x0, draws)
        orders = chunk_orders(shape.batch, num_negatives, NUM_CHUNKS, draws, UPSTREAM)
        negatives = (Negatives(reordered(x0, orders, UPSTREAM), CONTRAST_WEIGHT, "step"),)
        share = torch.full_like(t, 1.0 / shape.num_steps)
        return cdcd_loss(chain.posterior(x_t, s, t, x0), logits, x0, s, share, weights, negatives, UPSTREAM).total

    return work


def _plain(shape: Shape, logits: torch.Tensor, _: str | None) -> Work:
    chain = plain_chain(shape.num_codes, shape.num_steps, torch.float32, logits.device)
    draws = generator("bench", 0, device=logits.device)
    x0 = _codes(shape, draws)

    def work(num_negatives: int) -> torch.Tensor:
        index = _steps(shape, draws)
        x_t = chain.sample(x0, index, draws)
        orders = torch.rand(num_negatives, NUM_CHUNKS, generator=draws, device=draws.device).argsort(-1)
        chunks = x0.unflatten(1, (NUM_CHUNKS, -1))
        negatives = torch.stack([chunks[:, order].flatten(1) for order in orders], 1)
        share = torch.full_like(index, 1.0 / shape.num_steps, dtype=torch.float32)
        contrast = PlainContrast(negatives, CONTRAST_WEIGHT)
        return plain_loss(chain, logits, x0, x_t, index, share, [contrast], AUXILIARY_WEIGHT).sum() / x0.numel()

    return work


def _upstream(shape: Shape, logits: torch.Tensor, folder: str) -> Work:
    x0 = _codes(shape, generator("bench", 0, device=logits.device))
    loss = UpstreamLoss(
        Upstream(Path(folder)),
        num_codes=shape.num_codes,
        num_steps=shape.num_steps,
        num_tokens=shape.num_tokens,
        auxiliary_weight=AUXILIARY_WEIGHT,
        intra_weight=CONTRAST_WEIGHT,
        device=logits.device,
    )

    def work(num_negatives: int) -> torch.Tensor:
        loss.model.intra_neg_sample = num_negatives
        return loss.train_loss(logits, x0).sum() / x0.numel()

    return work


SIDES = {"ours": _ours, "plain": _plain, "upstream": _upstream}


def _codes(shape: Shape, draws: torch.Generator) -> torch.Tensor:
    size = (shape.batch, shape.num_tokens)
    return torch.randint(shape.num_codes, size, generator=draws, device=draws.device)


def _steps(shape: Shape, draws: torch.Generator) -> torch.Tensor:
    return torch.randint(1, shape.num_steps + 1, (shape.batch,), generator=draws, device=draws.device)


if __name__ == "__main__":
    sys.exit(exit_code(main))
