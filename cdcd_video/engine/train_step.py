"""What can be trained, and one optimiser step: batch, loss, gradient, clipping, update, moving average."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cdcd_video.engine import distributed, optim, parallel, runtime
from cdcd_video.engine.ema import Ema
from cdcd_video.engine.optim import TrainSettings
from cdcd_video.records import LossTerms


@runtime_checkable
class Task(Protocol):
    """What can be trained. Everything that training changes is in `model`: parameters and buffers."""

    name: str
    """Short and stable: it names the folder of checkpoints, is in every log line and seeds the random streams."""
    model: nn.Module
    """Parameters with `requires_grad` are trained; all on one device. If the task has an attribute
    `batch_size`, the log has samples per second."""

    def batch(self, step: int) -> Any:
        """The examples of step number `step` (from 0), a function of `step` alone: resuming needs no other state."""
        ...

    def objective(self, batch: Any, generator: torch.Generator) -> LossTerms:
        """The loss of a batch; every random number comes from `generator`, which is new for each step."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Scores of the model, which has the averaged weights during this call; may be empty.

        Optional methods of a task: `alarms(evaluation, progress)` returns sentences on what is going wrong according to the
        scores, with `progress` the share of steps taken; they are printed and logged, and training continues. `trends(before,
        now)` returns further scores from two evaluations, the first of which is empty at the beginning. `pictures()` returns
        rows of frames and a label for each, for a contact sheet in `samples/` at the first logged step and at each evaluation.
        `keep(tensors, step)` is given the averaged weights after each checkpoint but the last.
        """
        ...


def train_step(
    task: Task,
    optimizer: optim.Optimizers,
    ema: Ema,
    settings: TrainSettings,
    *,
    step: int,
    seed: int,
    is_logged: bool = False,
) -> dict[str, Tensor]:
    """One optimiser step: batch, loss, gradient, clipping, update, moving average.

    With `settings.accumulate` n, the gradient is the mean over batches n step to n step + n - 1, each with its own random
    streams.

    Args:
      step: index of this step, from 0.
      is_logged: whether to compute the terms' shares of the gradient, if the objective offers them.

    Returns:
      The values of this step, on the device: `loss`, every term, and `grad_norm` before clipping; if the step is logged also
      `param_norm` after it and `update_norm`; last the sums and counts by group, (2, G).
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device = parameters[0].device
    optim.set_learning_rate(optimizer, optim.learning_rate(step, settings))
    optimizer.zero_grad(set_to_none=True)
    results = [
        _backward(task, settings, number, seed, device, is_logged)
        for number in range(step * settings.accumulate, (step + 1) * settings.accumulate)
    ]
    values, groups = results[0] if len(results) == 1 else _together(results)
    values["grad_norm"] = parallel.clip_grad_norm(parameters, settings.clip_norm or float("inf"))
    before = [parallel.share(parameter.detach()).clone() for parameter in parameters] if is_logged else None
    optimizer.step()
    if before is not None:
        values |= optim.norms(parameters, before)
    ema.update(step)
    return distributed.means({**values, **groups})


def _backward(
    task: Task, settings: TrainSettings, number: int, seed: int, device: torch.device, is_logged: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Adds the gradient of batch `number`; returns its values, and its sums and counts by group."""
    rng = runtime.generator(seed, task.name, number, device=device)
    others = [distributed.world().rank] if not distributed.is_main() else []
    runtime.seed_layers(runtime.seed_for(seed, task.name, number, "layers", *others), device)
    batch = task.batch(number)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
        losses = task.objective(batch, rng)
    values, groups = {**losses.parts, "loss": losses.total}, losses.groups
    if is_logged and losses.shares is not None:
        values |= losses.shares()
    del losses  # the graph of the shares need not be kept during the backward pass
    total = values["loss"] if settings.accumulate == 1 else values["loss"] / settings.accumulate
    total.backward()
    return {name: value.detach() for name, value in values.items()}, groups


def _together(
    results: Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Means of the values of several batches, and sums of their sums and counts."""
    values, groups = ([part[i] for part in results] for i in range(2))
    means = {name: torch.stack([part[name].float() for part in values]).mean(0) for name in values[0]}
    return means, {name: torch.stack([part[name] for part in groups]).sum(0) for name in groups[0]}
