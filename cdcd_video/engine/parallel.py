"""Data-parallel training: whole copies that average gradients (DDP), or shards of every weight (FSDP2).

The whole loss is the forward of one wrapped module, whatever networks it calls. With one process, and for tensors that are
not sharded, everything here returns its input.
"""

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeGuard, cast

import torch
from torch import Tensor, nn

from cdcd_video.engine import distributed
from cdcd_video.errors import UserError
from cdcd_video.records import LossTerms

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

SHARDS = ("ddp", "fsdp")


class Spread:
    """A task in one of several processes: its own rows of each batch, and gradients of the whole batch."""

    def __init__(self, task: Any, shard: str):
        """Wraps the task's model; parameters are replaced by shards if `shard` is "fsdp".

        Args:
          task: what is trained; `batch_size` is that of the whole batch.
          shard: one of `SHARDS`.

        Raises:
          UserError: the batch cannot be split evenly.
        """
        size = distributed.world().size
        if task.batch_size % size:
            raise UserError(
                f"batch_size {task.batch_size} of {task.name} cannot be split evenly among {size} processes; use a multiple"
                f" of {size}"
            )
        self._task, self.is_agreed = task, False
        self._whole: nn.Module | None = None
        self._wrapped: Any  # the module that one of the two wrappers returns
        module = _LossModule(task)
        if shard == "fsdp":
            self._whole = copy.deepcopy(task.model).cpu()
            self._wrapped = _sharded(module)
        else:
            # Buffers that change are synchronised by their owners (a codebook by its own exchange), the others never change.
            how: dict[str, Any] = {"broadcast_buffers": False, "static_graph": True, "gradient_as_bucket_view": True}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # its newer name is unknown to older torch
                self._wrapped = nn.parallel.DistributedDataParallel(module, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def batch(self, step: int) -> Any:
        """The task's batch. If one process cannot read its own, all stop here, before any weight changes (`is_agreed`).

        Raises:
          UserError: another process could not; or whatever reading it raises.
        """
        failure, self.is_agreed = None, False
        try:
            batch = self._task.batch(step)
        except (OSError, UserError) as error:
            failure = error
        is_failed = distributed.all_max(failure is not None)[0]
        self.is_agreed = True
        if failure is not None:
            raise failure
        if is_failed:
            raise UserError(distributed.LOST)
        return batch

    def objective(self, batch: Any, generator: torch.Generator) -> LossTerms:
        """The task's loss; differentiating it averages the gradients over the processes."""
        with warnings.catch_warnings():
            # FSDP2 warns of outputs that are views: nothing here changes one in place.
            warnings.filterwarnings("ignore", message=".*returned a view tensor", category=UserWarning)
            total, losses = self._wrapped(batch, generator)
        return replace(losses, total=total)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside the `with` the model can be called outside the objective; all processes must enter it."""
        if self._whole is not None:
            self._wrapped.unshard()
        with distributed.alone():
            yield
        if self._whole is not None:
            self._wrapped.reshard()

    def close(self) -> None:
        """Turns the task's model back into a plain one with the present weights."""
        if self._whole is None:
            return
        model = self._task.model
        device = next(model.parameters()).device
        weights = {name: whole(value) for name, value in model.state_dict().items()}
        self._whole.to(device).load_state_dict(weights)
        # The wrapper cannot be undone: each module becomes what it was, in place, since others refer to it.
        for module, plain in zip(list(model.modules()), list(self._whole.modules()), strict=True):
            mode = module.training
            module.__class__, module.__dict__ = plain.__class__, plain.__dict__
            module.training = mode
        self._whole = None


class _LossModule(nn.Module):
    """The objective as the forward of a module, which both wrappers need."""

    def __init__(self, task: Any):
        super().__init__()
        self.model = task.model
        self.objective = task.objective

    def forward(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, LossTerms]:
        losses = self.objective(batch, generator)
        return losses.total, losses


def _sharded(module: _LossModule) -> nn.Module:
    """FSDP2 (Zhao et al. 2023): the parts of repeated layers are gathered one at a time, everything else at once.

    Scalars cannot be sharded: every process keeps them whole, see `clip_grad_norm`. A part that is called by other methods
    than `forward` names them in `also_forward`.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    device = next(module.parameters()).device
    mesh = init_device_mesh(device.type, (distributed.world().size,))
    scalars = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    layers = (layer for stack in module.modules() if isinstance(stack, nn.ModuleList) for layer in stack)
    parts = [part for layer in layers for part in layer.children() if list(part.children())]
    for part in parts:
        if any(parameter.requires_grad for parameter in part.parameters()):
            fully_shard(part, mesh=mesh, ignored_params=scalars)
            for method in getattr(part, "also_forward", ()):
                register_fsdp_forward_method(part, method)
    return cast(nn.Module, fully_shard(module, mesh=mesh, ignored_params=scalars))


# ---------------------------------------------------------------------------------------------------------- shards of tensors


def is_share(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether this process holds only a shard of the tensor."""
    return hasattr(tensor, "to_local")


def share(tensor: Tensor) -> Tensor:
    """This process's shard, in the same memory; the tensor itself if it is not sharded."""
    return tensor.to_local() if is_share(tensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """The whole tensor, gathered; all processes must call this."""
    return cast("DTensor", tensor.detach()).full_tensor() if is_share(tensor) else tensor


def shared_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, sharded like another one; without communication."""
    if not is_share(model) or is_share(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, cuts = model.device_mesh, model.placements
    return distribute_tensor(tensor.to(model.device, model.dtype), mesh, cuts, src_data_rank=None)


def collected(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, for writing: in the main process, on the CPU if they were sharded; none in the others."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor)
        if distributed.is_main():
            found[name] = full.cpu() if is_share(tensor) else full
    return found


def load_whole(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """`module.load_state_dict` of whole tensors."""
    state = module.state_dict()
    known = {name: shared_like(value, state[name]) if name in state else value for name, value in tensors.items()}
    module.load_state_dict(known)


@torch.no_grad()
def clip_grad_norm(parameters: Sequence[Tensor], most: float) -> Tensor:
    """`nn.utils.clip_grad_norm_`, of gradients that may be sharded."""
    if not any(map(is_share, parameters)):
        return nn.utils.clip_grad_norm_(parameters, most)
    for parameter in parameters:
        if not is_share(parameter) and parameter.grad is not None:
            parameter.grad.copy_(distributed.mean(parameter.grad))
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    size = total_norm([share(grad) for grad in grads], grads)
    torch._foreach_mul_([share(grad) for grad in grads], (most / (size + 1e-6)).clamp(max=1.0))
    return size


@torch.no_grad()
def total_norm(parts: Sequence[Tensor], of: Sequence[Tensor]) -> Tensor:
    """Euclidean norm of many tensors as one.

    Args:
      parts: the local part of each.
      of: tensors that are sharded in the same way.
    """
    if not any(map(is_share, of)):
        return nn.utils.get_total_norm(parts)
    cut, uncut = (
        [part for part, like in zip(parts, of, strict=True) if is_share(like) is kind] for kind in (True, False)
    )
    square = distributed.total(nn.utils.get_total_norm(cut).square())
    return (square + nn.utils.get_total_norm(uncut).square()).sqrt() if uncut else square.sqrt()
