"""Runs and measures training steps of a stage."""

import contextlib
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)

from cdcd_video.engine import optim
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.train_step import train_step
from cdcd_video.networks.denoiser import Denoiser
from cdcd_video.tools.dry_run.assembly import Assembly, FixedBatch, assemble
from cdcd_video.tools.dry_run.cost_meters import MemoryMeter, flop_counter, make_fake, watching
from cdcd_video.tools.dry_run.trial_networks import Line
from cdcd_video.training.stage_settings import settings_for

REAL_BATCHES = (4, 8)
"""Batch sizes of two real steps where fake tensors fail; other batch sizes are extrapolated linearly."""
MOST_EXAMPLES = 2048
"""Largest batch that is loaded; larger ones are extrapolated, because loading would take minutes and much memory."""
CHEAP = 1e11
"""Weights times pixels of a batch up to which a real step is faster than one on fake tensors."""
TIMED_FLOPS = 1e11
"""FLOPs of a timed real step: about a second on a processor."""
MOST_TIMED_S, MOST_TIMED_BYTES = 10.0, 4e9


@dataclass(frozen=True)
class MeasuredStage:
    """The measurements of a stage, in bytes unless noted."""

    name: str
    how: Literal["fake", "real"]
    """Kind of tensors."""
    examples: tuple[int, ...]
    """Batch sizes of the measured steps: the whole batch, or two smaller ones that are extrapolated."""
    tensors: str
    flops: float
    """Of one step."""
    num_trained: int
    """Parameters."""
    trained: frozenset[str]
    """Their names, prefixed by the class of the network."""
    weights: int
    """Of all networks in memory, frozen ones included."""
    activations: float
    """Peak of a step without weights, gradients, moments and averages."""
    checkpoint: int
    step_s: float | None = None
    """Seconds of one step on this processor; None if it is not trained there."""
    timed_size: int = 0
    """Batch size of the timed step."""

    @property
    def memory(self) -> float:
        """Weights, gradients, two moments, the average, and activations."""
        return self.weights + 16 * self.num_trained + self.activations


def measure(line: Line, name: str) -> MeasuredStage:
    """Measures training steps of a stage at its batch size: real ones where they are cheap, else on fake tensors.

    Where fake tensors fail, it measures smaller real ones.
    """
    batch_size = getattr(line.config.train, name).batch_size
    sizes = (batch_size,) if batch_size <= MOST_EXAMPLES else (MOST_EXAMPLES // 2, MOST_EXAMPLES)
    try:
        is_cheap = _is_cheap(line, name, sizes[-1])
        modes = [None if is_cheap else FakeTensorMode(allow_non_fake_inputs=True) for _ in sizes]
        found = [_two_steps(line, name, size, mode) for size, mode in zip(sizes, modes, strict=True)]
    except (DataDependentOutputException, DynamicOutputShapeException):  # the control flow depends on the data
        found = [_two_steps(line, name, size, None) for size in REAL_BATCHES]
    return found[0] if len(found) == 1 else _extrapolated(*found, batch_size)


def _extrapolated(few: MeasuredStage, more: MeasuredStage, batch_size: int) -> MeasuredStage:
    """Extrapolates what grows with the batch size."""
    sizes = few.examples + more.examples
    ahead = (batch_size - sizes[1]) / (sizes[1] - sizes[0])
    return replace(
        more,
        examples=sizes,
        flops=more.flops + ahead * (more.flops - few.flops),
        activations=max(0, more.activations + ahead * (more.activations - few.activations)),
    )


def timed(line: Line, stage: MeasuredStage) -> MeasuredStage:
    """Adds the time of a real step on this processor, at the batch size of the stage or a smaller one.

    Networks for which a step might not fit into memory are not timed.
    """
    if stage.memory - stage.activations > MOST_TIMED_BYTES:
        return stage
    train = getattr(line.config.train, stage.name)
    cheap = TIMED_FLOPS / max(1.0, stage.flops / train.accumulate / train.batch_size)
    size = min(train.batch_size, max(REAL_BATCHES[0], int(cheap)))
    parts = assemble(line, stage.name, size)
    settings = settings_for(train.model_copy(update={"batch_size": size, "accumulate": 1}), 1)
    given = FixedBatch(stage.name, parts.task.model, parts.task.batch(0), parts.task.objective)
    optimizer, ema = optim.make_optimizer(given.model, settings), Ema(given.model, settings.ema_decay)
    seconds = []
    for step in range(3):  # the first is slower
        begin = time.perf_counter()
        train_step(given, optimizer, ema, settings, step=step, seed=line.config.seed)
        seconds.append(time.perf_counter() - begin)
        if sum(seconds) > MOST_TIMED_S:
            break
    return replace(stage, step_s=min(seconds) * train.batch_size / size * train.accumulate, timed_size=size)


def _is_cheap(line: Line, name: str, batch_size: int) -> bool:
    parts = assemble(line, name, 1)
    weights = [weight for network in _networks(parts) for weight in network.parameters()]
    if any(weight.is_meta or isinstance(weight, FakeTensor) for weight in weights):
        return False  # a CLIP without weights
    return sum(weight.numel() for weight in weights) * batch_size * line.config.data.size_px**2 <= CHEAP


def _networks(parts: Assembly) -> list[nn.Module]:
    return [parts.task.model, *parts.beside]


def _two_steps(line: Line, name: str, batch_size: int, mode: FakeTensorMode | None) -> MeasuredStage:
    """Runs two training steps: one to record the tensors (and initialise the optimiser), one to count."""
    train = getattr(line.config.train, name).model_copy(update={"batch_size": batch_size})
    parts = assemble(line, name, batch_size)
    model, settings, batch = parts.task.model, settings_for(train, 1), parts.task.batch(0)
    given = FixedBatch(name, model, batch, parts.task.objective)
    networks = _networks(parts)
    if mode is not None:
        for network in networks:
            if network is not line.clip:  # it is frozen: its operations turn its weights into fake ones
                make_fake(network, mode)
    with mode or contextlib.nullcontext():
        optimizer = optim.make_optimizer(model, settings)
        ema = Ema(model, settings.ema_decay)
        step = partial(train_step, given, optimizer, ema, settings, seed=line.config.seed)
        # `model` may hold learned temperatures beside the denoiser, or a critic beside the codec.
        network = getattr(parts.task, "denoiser", getattr(parts.task, "codec", model))
        has_checks = isinstance(network, Denoiser)  # the control flow of a quantiser may depend on its data
        with watching(parts.watched) as calls, MemoryMeter(has_checks):
            scalars = step(step=0)
        tensors = parts.table(line, name, batch_size, batch, calls, scalars)
        calls.clear()
        optimizer.zero_grad(set_to_none=True)
        with MemoryMeter(has_checks) as memory, flop_counter() as flops:
            step(step=1)
    trained = optim.trained_parameters(model)
    num_trained = sum(parameter.numel() for parameter in trained.values())
    return MeasuredStage(
        name=name,
        how="fake" if mode else "real",
        examples=(batch_size,),
        tensors=tensors,
        flops=flops.get_total_flops(),
        num_trained=num_trained,
        trained=frozenset(f"{type(network).__name__}.{key}" for key in optim.trained_parameters(network)),
        weights=sum(_weights_of(network) for network in networks),
        activations=max(0, memory.peak - 4 * num_trained),
        checkpoint=2 * sum(tensor.nbytes for tensor in model.state_dict().values()) + 8 * num_trained,
    )


def _weights_of(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))
