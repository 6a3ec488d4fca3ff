"""AdamW with weight decay on matrices only, the learning rate of each step, and the optimiser's state as plain tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cdcd_video.engine import parallel


@dataclass(frozen=True)
class TrainSettings:
    """Hyperparameters of the training loop, independent of what is trained."""

    num_steps: int
    accumulate: int = 1
    """Batches per step; their gradients are averaged."""
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    """Steps of the linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    final_lr_ratio: float = 0.0
    """The last rate, as a share of `learning_rate`."""
    weight_decay: float = 0.0
    """Per unit of learning rate; never on biases, norms, embeddings and other one-dimensional parameters."""
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float | None = 1.0
    """Largest Euclidean norm of the whole gradient; None does not clip."""
    ema_decay: float = 0.999
    precision: Literal["bf16", "fp32"] = "fp32"
    log_every: int = 50
    eval_every: int | None = None
    """None evaluates once, after the last step."""
    checkpoint_every: int | None = None
    checkpoint_every_s: float | None = 300.0
    """Whichever of steps and seconds comes first; a checkpoint is always saved when training stops."""
    keep_checkpoints: int = 2
    num_threads: int | None = None
    max_minutes: float | None = None
    """Stop and save after this much wall-clock time in one start."""


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step: linear warm-up, then constant or a half cosine (Loshchilov & Hutter 2017, eq. 5).

    Args:
      step: index of the step about to be taken, from 0.

    Returns:
      The rate; the first step never has rate 0.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (step - settings.warmup_steps) / max(1, settings.num_steps - settings.warmup_steps)
    fall = 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))
    return settings.learning_rate * (settings.final_lr_ratio + (1.0 - settings.final_lr_ratio) * fall)


NORMS = ("grad_norm", "param_norm", "update_norm")
"""Euclidean norms over all trained parameters: of the gradient before clipping, of the weights, of a step."""


@torch.no_grad()
def norms(parameters: Sequence[Tensor], before: Sequence[Tensor]) -> dict[str, Tensor]:
    """Norms of the weights and of a step.

    Args:
      parameters: after the step.
      before: copies of this process's part of each, from before the step.

    Returns:
      `param_norm` and `update_norm`, scalars on the device.
    """
    held = [parallel.share(parameter.detach()) for parameter in parameters]
    moved = torch._foreach_sub(held, list(before))
    sizes = parallel.total_norm(held, parameters)
    return {"param_norm": sizes, "update_norm": parallel.total_norm(moved, parameters)}


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every parameter group the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; a tied parameter appears once, under its first name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizer(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019), fused where the device can."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in trained_parameters(model).items():
        (decayed if _is_decayed(model, name, parameter) else plain).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    # A fused kernel takes either shards or whole parameters.
    groups = [
        {**group, "params": [one for one in group["params"] if parallel.is_share(one) is is_share]}
        for group in groups
        for is_share in (False, True)
    ]
    groups = [group for group in groups if group["params"]]
    try:
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
    except RuntimeError:  # no fused kernel for this device
        return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas)


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state: `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME` of every parameter that was updated."""
    return {
        f"{key}/{name}": value
        for name, parameter in trained_parameters(model).items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores the state that `optimizer_tensors` returned."""
    names = {id(parameter): name for name, parameter in trained_parameters(model).items()}
    state = optimizer.state_dict()
    for group, numbered in zip(optimizer.param_groups, state["param_groups"], strict=True):
        for parameter, number in zip(group["params"], numbered["params"], strict=True):
            name = names[id(parameter)]
            memory = {
                key.split("/", 1)[0]: parallel.shared_like(value, parameter) if value.ndim else value
                for key, value in tensors.items()
                if key.split("/", 1)[1] == name
            }
            if memory:
                state["state"][number] = memory
    optimizer.load_state_dict(state)


def _is_decayed(model: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Only matrices and kernels decay; a bare parameter counts as an embedding when its own name says so."""
    owner, _, own_name = name.rpartition(".")
    module = model.get_submodule(owner)
    is_embedding = isinstance(module, nn.Embedding) or any(word in own_name for word in ("embed", "position"))
    is_norm = "norm" in type(module).__name__.lower()
    return parameter.ndim > 1 and not is_embedding and not is_norm and not own_name.endswith("bias")
