"""AdamW with weight decay on matrices only, the learning rate of each step, and the optimiser's state as plain tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cdcd_video.engine import parallel
from cdcd_video.engine.muon import Muon
from cdcd_video.errors import UserError


@dataclass(frozen=True)
class TrainSettings:
    """Hyperparameters of the training loop, independent of what is trained."""

    num_steps: int
    accumulate: int = 1
    """Batches per step; their gradients are averaged."""
    learning_rate: float = 1e-3
    warmup_steps: int = 0
    """Steps of the linear warm-up."""
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    decay_share: float = 0.25
    """Of `wsd`: the share of the steps, at the end, in which the rate falls."""
    final_lr_ratio: float = 0.0
    """The last rate, as a share of `learning_rate`."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    muon_ratio: float = 1.0
    """Learning rate of Muon's matrices, as a multiple of `learning_rate`."""
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
    keep_best: str | None = None
    """A score of the evaluation, such as `val_bound`: the checkpoint with its lowest value is kept as well."""
    num_threads: int | None = None
    max_minutes: float | None = None
    """Stop and save after this much wall-clock time in one start."""


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Learning rate of a step: linear warm-up, then constant, or a half cosine (Loshchilov & Hutter 2017, eq. 5), or constant
    and then a straight line down (warmup-stable-decay, Hu et al. 2024, sec. 4.2).

    Args:
      step: index of the step about to be taken, from 0.

    Returns:
      The rate; the first step never has rate 0.
    """
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.learning_rate
    if settings.schedule == "wsd":
        decay_steps = settings.decay_share * settings.num_steps
        fall = max(0.0, min(1.0, (settings.num_steps - step) / decay_steps))
    else:
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


def set_learning_rate(optimizer: "Optimizers", rate: float) -> None:
    """Gives every parameter group this rate, those of Muon a multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("ratio", 1.0)


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; a tied parameter appears once, under its first name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Optimizers:
    """Several optimisers, each with parameters of its own, as one."""

    def __init__(self, *parts: torch.optim.Optimizer):
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all parts."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        """Moves every parameter that has a gradient."""
        for part in self.parts:
            part.step()


def make_optimizer(model: nn.Module, settings: TrainSettings) -> Optimizers:
    """AdamW (Loshchilov & Hutter 2019), fused where the device can; with `muon`, Muon for the matrices inside blocks.

    Raises:
      UserError: Muon is asked for where processes hold shares of matrices.
    """
    groups: dict[str, list[nn.Parameter]] = {"matrices": [], "pairs": [], "decayed": [], "plain": []}
    for name, parameter in trained_parameters(model).items():
        kind = "decayed" if _is_decayed(model, name, parameter) else "plain"
        if settings.optimizer == "muon" and _is_hidden_matrix(model, name, parameter):
            kind = "pairs" if name.endswith("key_value.weight") else "matrices"
        groups[kind].append(parameter)
    if any(map(parallel.is_share, [*groups["matrices"], *groups["pairs"]])):
        raise UserError(
            "the optimizer muon needs whole matrices, and --shard fsdp deals out shares of them; use --shard ddp"
        )
    parts: list[torch.optim.Optimizer] = (
        [_adamw(groups["decayed"], groups["plain"], settings)] if groups["decayed"] or groups["plain"] else []
    )
    of_parts = [("matrices", 1), ("pairs", 2)]  # keys and values share a weight
    given = [dict(params=groups[name], parts=num) for name, num in of_parts if groups[name]]
    if given:
        muon = Muon(given, lr=settings.learning_rate * settings.muon_ratio, weight_decay=settings.weight_decay)
        for group in muon.param_groups:
            group["ratio"] = settings.muon_ratio
        parts.append(muon)
    return Optimizers(*parts)


def _adamw(decayed: list[nn.Parameter], plain: list[nn.Parameter], settings: TrainSettings) -> torch.optim.AdamW:
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


def optimizer_tensors(model: nn.Module, optimizer: Optimizers) -> dict[str, Tensor]:
    """The optimisers' memory, of every parameter that has moved: `exp_avg/NAME`, `exp_avg_sq/NAME` and `step/NAME` of AdamW,
    `momentum_buffer/NAME` of Muon."""
    return {
        f"{key}/{name}": value
        for name, parameter in trained_parameters(model).items()
        for part in optimizer.parts
        for key, value in part.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: Optimizers, tensors: dict[str, Tensor]) -> None:
    """Gives the optimisers the memory that `optimizer_tensors` took."""
    names = {id(parameter): name for name, parameter in trained_parameters(model).items()}
    for part in optimizer.parts:
        state = part.state_dict()
        for group, numbered in zip(part.param_groups, state["param_groups"], strict=True):
            for parameter, number in zip(group["params"], numbered["params"], strict=True):
                name = names[id(parameter)]
                memory = {
                    key.split("/", 1)[0]: parallel.shared_like(value, parameter) if value.ndim else value
                    for key, value in tensors.items()
                    if key.split("/", 1)[1] == name
                }
                if memory:
                    state["state"][number] = memory
        part.load_state_dict(state)


def _is_hidden_matrix(model: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Whether it is the weight of a linear map from hidden states to hidden states, in one of a stack of blocks."""
    owner = model.get_submodule(name.rpartition(".")[0])
    in_stack = any(part.isdigit() for part in name.split("."))
    return in_stack and isinstance(owner, nn.Linear) and parameter.ndim == 2


def _is_decayed(model: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    """Only matrices and kernels decay; a bare parameter counts as an embedding when its own name says so."""
    owner, _, own_name = name.rpartition(".")
    module = model.get_submodule(owner)
    is_embedding = isinstance(module, nn.Embedding) or any(word in own_name for word in ("embed", "position"))
    is_norm = "norm" in type(module).__name__.lower()
    return parameter.ndim > 1 and not is_embedding and not is_norm and not own_name.endswith("bias")
