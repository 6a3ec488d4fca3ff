"""One side of `bench train` in its own process: a whole training step by us, by upstream, or by the plain reference.

A step samples t, x_t and the negatives, runs the transformer, computes bound, x_0 term and contrast, differentiates, clips,
and updates the weights by AdamW and their average. Codes and word states are given on both sides: image codec and CLIP are
not part of the step.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cdcd_video.config import CdcdContrastConfig, DenoiserConfig, DiffusionConfig, LossConfig
from cdcd_video.diffusion.vq_diffusion import cdcd_chain
from cdcd_video.engine import optim
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.runtime import generator
from cdcd_video.engine.train_step import train_step
from cdcd_video.errors import exit_code
from cdcd_video.networks import transformer
from cdcd_video.networks.conditioning import Condition
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.objective import diffusion_objective
from cdcd_video.records import CodePair, LossTerms, TextStates
from cdcd_video.tools.bench.flops import step_flops
from cdcd_video.tools.bench.side_process import measure, peak_over_base, product_rate, profile, run_side
from cdcd_video.tools.bench.upstream_shapes import SHAPES, TRUNKS, Shape, Trunk
from cdcd_video.tools.upstream.functions import Upstream
from cdcd_video.tools.upstream.plain_loss import PlainContrast, plain_chain, plain_loss
from cdcd_video.tools.upstream.whole_model import UpstreamModel
from cdcd_video.training.step_draws import make_step_draws

AUXILIARY_WEIGHT = 5e-4
CONTRAST_WEIGHT = 5e-5
NUM_CHUNKS = 8
"""Those of upstream's configs."""
LEARNING_RATE, BETAS, WEIGHT_DECAY, CLIP_NORM = 4.5e-4, (0.9, 0.96), 4.5e-2, 0.5
EMA_DECAY, EMA_INTERVAL = 0.99, 25
"""Likewise, of its CUB config. Upstream moves its average at every 25th step only; ours at each."""
TABLE_WIDTH = 3
"""Width of a code vector on our side; upstream's transformer has none."""
Step = Callable[[], None]


def main() -> int:
    return run_side(measured)


def measured(request: dict[str, Any]) -> dict[str, Any]:
    """Measures one side.

    Args:
      request: `side`, a key of `SIDES`; `shape`, one of `SHAPES`; `heads`, or None for upstream's; `mlp`, hidden width of our
        MLP or None for ours; `negatives`, 0 for no contrast; `precision`; `upstream`, a folder or None; `device`;
        `threads`; `checkpoint_activations`; `warm_up` and `repeats`; `profile`, whether to profile a step.

    Returns:
      `peak_bytes` of the first step, `times`, `num_weights`, `flops` of one step by formula, and the
      `product_rate` of the machine in FLOP/s; and `profile`.
    """
    device = torch.device(request["device"])
    SIDES[request["side"]](SHAPES["tiny"], TRUNKS["tiny"], {**request, "mlp": None, "heads": None}).step()
    torch.manual_seed(0)
    shape, trunk = SHAPES[request["shape"]], TRUNKS[request["shape"]].with_heads(request["heads"])
    side = SIDES[request["side"]](shape, trunk, request)
    peak = peak_over_base(side.step, device)
    (times,) = measure([side.step], request["warm_up"], request["repeats"], device)
    dtype = torch.bfloat16 if request["precision"] == "bf16" else torch.float32
    found = {
        "peak_bytes": peak,
        "times": times,
        "num_weights": side.num_weights,
        "flops": side.flops,
        "product_rate": product_rate(dtype, device),
    }
    return found | ({"profile": profile(side.step)} if request["profile"] else {})


@dataclass(frozen=True)
class Side:
    """A repeatable training step, with its number of weights and FLOPs."""

    step: Step
    num_weights: int
    flops: int


class CubTask:
    """Our diffusion at upstream's shape, as the engine trains it: CDCD's chain, codes without digits, one per place.

    It does more than upstream's: it also has a source and a first frame as conditions, with biases towards their codes.
    """

    name = "bench"

    def __init__(self, shape: Shape, trunk: Trunk, request: dict[str, Any], mlp_width: int | None):
        device = torch.device(request["device"])
        layers = dict(num_layers=trunk.num_layers, num_heads=trunk.num_heads)
        sizes = DenoiserConfig(width=trunk.width, **layers, normalised_text=False)  # upstream's text is one layer's
        self.model = Denoiser(
            sizes,
            levels=(shape.num_codes,),
            table=torch.randn(shape.num_codes, TABLE_WIDTH, generator=generator("table", 0)),
            num_patches=shape.num_tokens,
            groups=1,
            text_width=trunk.text_width,
            mlp_width=mlp_width,
        ).to(device)
        self.model.keeps_activations = not request["checkpoint_activations"]
        self.chain = cdcd_chain(shape.num_codes, shape.num_steps)
        self.examples = examples(shape, trunk, device)
        self.diffusion = DiffusionConfig(
            num_steps=shape.num_steps, full_share=0.0, caption_dropout=0.0, source_jitter=0.0
        )
        negatives = request["negatives"]
        cdcd = CdcdContrastConfig(intra=CONTRAST_WEIGHT if negatives else 0.0, num_negatives=max(1, negatives))
        self.loss = LossConfig(bound=1.0, auxiliary=AUXILIARY_WEIGHT, changed=1.0, still_clip=1.0, cdcd=cdcd)

    def batch(self, step: int) -> CodePair:
        """The same examples at every step."""
        return self.examples

    def objective(self, batch: CodePair, generator: torch.Generator) -> LossTerms:
        """The objective of training, without contrast in CLIP's space and so without codec."""
        draws = make_step_draws(batch, self.diffusion, self.loss, generator)
        return diffusion_objective(self.model, self.chain, None, batch, draws, self.diffusion, self.loss)

    def evaluate(self) -> dict[str, float]:
        """No metrics."""
        return {}


def _ours(shape: Shape, trunk: Trunk, request: dict[str, Any]) -> Side:
    mlp_width = request["mlp"] or 4 * trunk.width
    task = CubTask(shape, trunk, request, mlp_width)
    settings = optim.TrainSettings(
        num_steps=1 << 30,
        learning_rate=LEARNING_RATE,
        schedule="constant",
        weight_decay=WEIGHT_DECAY,
        betas=BETAS,
        clip_norm=CLIP_NORM,
        ema_decay=EMA_DECAY,
        precision=request["precision"],
    )
    optimizer, average = optim.make_optimizer(task.model, settings), Ema(task.model, settings.ema_decay)
    count = iter(range(1 << 30))

    def step() -> None:
        train_step(task, optimizer, average, settings, step=next(count), seed=0)

    return Side(step, _num_weights(task.model), step_flops(shape, trunk, mlp_width))


def _plain(shape: Shape, trunk: Trunk, request: dict[str, Any]) -> Side:
    """Our transformer with attention written out, the dense loss, AdamW and the average weight by weight."""
    mlp_width = request["mlp"] or 4 * trunk.width
    task = CubTask(shape, trunk, request, mlp_width)
    model, batch, device = task.model, task.examples, torch.device(request["device"])
    chain = plain_chain(shape.num_codes, shape.num_steps, torch.float32, device)
    draws = generator("bench", 0, device=device)
    optimizer = torch.optim.AdamW(
        model.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY, foreach=False, fused=False
    )
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    condition = Condition(batch.source, batch.first, batch.has_first, batch.gap_s, batch.age_s, batch.text)

    def step() -> None:
        index = torch.randint(1, shape.num_steps + 1, (shape.batch,), generator=draws, device=device)
        x_t = chain.sample(batch.target, index, draws)
        with _written_out():
            logits = model(x_t, index / shape.num_steps, condition)
        chunks = batch.target.unflatten(1, (NUM_CHUNKS, -1))
        orders = torch.rand(request["negatives"], NUM_CHUNKS, generator=draws, device=device).argsort(-1)
        negatives = [chunks[:, order].flatten(1) for order in orders]
        contrasts = [PlainContrast(torch.stack(negatives, 1), CONTRAST_WEIGHT)] if negatives else []
        share = torch.full_like(index, 1.0 / shape.num_steps, dtype=torch.float32)
        loss = plain_loss(chain, logits.float(), batch.target, x_t, index, share, contrasts, AUXILIARY_WEIGHT)
        optimizer.zero_grad()
        (loss.sum() / batch.target.numel()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
        optimizer.step()
        with torch.no_grad():
            for name, value in model.named_parameters():
                average[name] = average[name] * EMA_DECAY + value * (1 - EMA_DECAY)

    return Side(step, _num_weights(model), step_flops(shape, trunk, mlp_width))


def _upstream(shape: Shape, trunk: Trunk, request: dict[str, Any]) -> Side:
    weight = CONTRAST_WEIGHT if request["negatives"] else 0.0
    whole = UpstreamModel(
        Upstream(Path(request["upstream"])),
        shape,
        trunk,
        auxiliary_weight=AUXILIARY_WEIGHT,
        intra_weight=weight,
        num_intra=request["negatives"],
        device=request["device"],
    )
    model, batch = whole.model, examples(shape, trunk, torch.device(request["device"]))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY)
    average, clip, count = whole.average(EMA_DECAY, EMA_INTERVAL), whole.clipping(CLIP_NORM), iter(range(1 << 30))

    def step() -> None:
        loss = whole.loss(batch.target, batch.text.tokens)
        optimizer.zero_grad()
        loss.backward()
        clip(model.parameters())
        optimizer.step()
        average.update(next(count))

    return Side(step, _num_weights(model), step_flops(shape, trunk, trunk.equal_mlp))


SIDES: dict[str, Callable[[Shape, Trunk, dict[str, Any]], Side]] = {
    "ours": _ours,
    "plain": _plain,
    "upstream": _upstream,
}


def examples(shape: Shape, trunk: Trunk, device: torch.device) -> CodePair:
    """A batch of random codes and word states."""
    draws = generator("bench", 1)
    size = (shape.batch, shape.num_tokens)
    source, target, first = (torch.randint(shape.num_codes, size, generator=draws).to(device) for _ in range(3))
    words = torch.randn(shape.batch, trunk.text_tokens, trunk.text_width, generator=draws).to(device)
    is_word = torch.ones(words.shape[:2], dtype=torch.bool, device=device)
    text = TextStates(words, is_word, torch.zeros(shape.batch, 1, device=device))
    seconds, number = torch.full((shape.batch,), 0.125, device=device), torch.arange(shape.batch, device=device)
    return CodePair(
        source=source,
        target=target,
        first=first,
        has_first=torch.ones(shape.batch, dtype=torch.bool, device=device),
        gap_s=seconds,
        age_s=seconds,
        text=text,
        clip=number,
        caption=number,
        far=first,
        before=first,
        before_gap_s=seconds,
    )


@contextmanager
def _written_out() -> Iterator[None]:
    """Uses plain attention for any number of keys."""
    before = transformer.PLAIN_UP_TO
    transformer.PLAIN_UP_TO = 1 << 62
    try:
        yield
    finally:
        transformer.PLAIN_UP_TO = before


def _num_weights(model: torch.nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


if __name__ == "__main__":
    sys.exit(exit_code(main))
