"""One side of `bench draw` in its own process: sampling the codes of one frame (of one image, for upstream).

Ours encodes caption, source and first frame once, then samples; upstream's sampler is given the word states of the caption.
Weights are random: only the cost is of interest.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cdcd_video.diffusion.sampler import even_times, sample_ancestral
from cdcd_video.engine.runtime import generator
from cdcd_video.errors import exit_code
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.step_inputs import condition_before
from cdcd_video.tools.bench.flops import forward_flops
from cdcd_video.tools.bench.side_process import measure, peak_over_base, product_rate, run_side
from cdcd_video.tools.bench.train_side import CubTask, examples
from cdcd_video.tools.bench.upstream_shapes import SHAPES, TRUNKS, Shape, Trunk
from cdcd_video.tools.upstream.functions import Upstream
from cdcd_video.tools.upstream.plain_loss import plain_chain
from cdcd_video.tools.upstream.whole_model import UpstreamModel

TRUNCATION = 0.85
"""Truncation of upstream's inference scripts ("top0.85r")."""
Sample = Callable[[int, bool], torch.Tensor]
"""(steps, whether x_0 is truncated) -> codes (B, N)."""


def main() -> int:
    return run_side(measured)


def measured(request: dict[str, Any]) -> dict[str, Any]:
    """Measures one side.

    Args:
      request: `side`, a key of `SIDES`; `shape`, one of `SHAPES`; `batch`; `mlp`, hidden width of our MLP; `works`, a list of
        (steps, whether truncated); `precision`; `upstream`, a folder or None; `device`; `threads`; `warm_up` and `repeats`.

    Returns:
      `peak_bytes` of the first of them, `times` of each, `flops` of one evaluation of the network, and `product_rate`.
    """
    device, shape = torch.device(request["device"]), SHAPES[request["shape"]]
    shape = Shape(request["batch"], shape.num_tokens, shape.num_codes, shape.num_steps)
    trunk, tiny = TRUNKS[request["shape"]], SHAPES["tiny"]
    SIDES[request["side"]](tiny, TRUNKS["tiny"], {**request, "mlp": None, "works": [(2, True)]})(2, True)
    torch.manual_seed(0)
    sample = SIDES[request["side"]](shape, trunk, request)
    calls = [partial(sample, *work) for work in request["works"]]
    peak = peak_over_base(calls[0], device)
    times = measure(calls, request["warm_up"], request["repeats"], device)
    dtype = torch.bfloat16 if request["precision"] == "bf16" else torch.float32
    flops = forward_flops(shape, trunk, request["mlp"] or 4 * trunk.width)
    return {"peak_bytes": peak, "times": times, "flops": flops, "product_rate": product_rate(dtype, device)}


def _ours(shape: Shape, trunk: Trunk, request: dict[str, Any]) -> Sample:
    task = CubTask(shape, trunk, request | {"negatives": 0, "checkpoint_activations": False}, request["mlp"])
    batch, model, device = task.examples, task.model.eval(), request["device"]
    streams = [generator("bench", row, device=device) for row in range(shape.batch)]
    condition = condition_before(batch)

    @torch.no_grad()
    def sample(num_steps: int, is_truncated: bool) -> torch.Tensor:
        # The chain is defined at multiples of 1/80 only.
        times = (even_times(num_steps) * shape.num_steps).round() / shape.num_steps
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=request["precision"] == "bf16"):
            prepared = model.prepare(condition)
            return sample_ancestral(
                lambda x_t, t: model(x_t, t, prepared),
                task.chain,
                condition.source,
                num_steps,
                streams,
                top_p=TRUNCATION if is_truncated else 1.0,
                times=times,
            )

    return sample


def _plain(shape: Shape, trunk: Trunk, request: dict[str, Any]) -> Sample:
    """Our network, with the conditions encoded again at every step, and dense sampling from log tensors over all states."""
    task = CubTask(shape, trunk, request | {"negatives": 0, "checkpoint_activations": False}, request["mlp"])
    batch, model, draws = task.examples, task.model.eval(), generator("bench", 0, device=request["device"])
    condition = Condition(batch.source, batch.first, batch.has_first, batch.gap_s, batch.age_s, batch.text)

    @torch.no_grad()
    def sample(num_steps: int, is_truncated: bool) -> torch.Tensor:
        chain = plain_chain(shape.num_codes, max(2, num_steps), torch.float32, request["device"])
        x_t = torch.full_like(batch.target, shape.num_codes)
        for step in range(max(2, num_steps), 0, -1):
            index = torch.full((shape.batch,), step, device=x_t.device)
            log_p0 = model(x_t, index / max(2, num_steps), condition).float().log_softmax(-1)
            if is_truncated:
                ranked, order = log_p0.sort(-1, descending=True)
                is_cut = ranked.exp().cumsum(-1) - ranked.exp() >= TRUNCATION
                log_p0 = log_p0.masked_fill(is_cut.gather(-1, order.argsort(-1)), -70.0)
            states = torch.cat([log_p0.transpose(1, 2), log_p0.new_full((shape.batch, 1, shape.num_tokens), -70.0)], 1)
            log_p = chain.posterior(states, x_t, index)
            noise = torch.empty_like(log_p).exponential_(generator=draws)
            x_t = (log_p - noise.log()).argmax(1)
        return x_t

    return sample


def _upstream(shape: Shape, trunk: Trunk, request: dict[str, Any]) -> Sample:
    text = examples(shape, trunk, torch.device(request["device"])).text.tokens

    def built(num_steps: int, is_truncated: bool) -> UpstreamModel:
        """A model for this number of steps, which upstream's sampler takes from the model."""
        sizes = Shape(shape.batch, shape.num_tokens, shape.num_codes, num_steps)
        whole = UpstreamModel(Upstream(Path(request["upstream"])), sizes, trunk, device=request["device"])
        whole.model.eval()
        if is_truncated:
            whole.truncate(TRUNCATION)
        return whole

    models = {(steps, truncated): built(steps, truncated) for steps, truncated in request["works"]}
    return lambda num_steps, is_truncated: models[num_steps, is_truncated].sample(text)


SIDES: dict[str, Callable[[Shape, Trunk, dict[str, Any]], Sample]] = {
    "ours": _ours,
    "plain": _plain,
    "upstream": _upstream,
}


if __name__ == "__main__":
    sys.exit(exit_code(main))
