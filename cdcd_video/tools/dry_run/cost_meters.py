"""Records calls, FLOPs and live bytes while networks run."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_CPU_ATTENTION = "_scaled_dot_product_flash_attention_for_cpu"
"""The operator that serves `F.scaled_dot_product_attention` on a CPU; torch 2.14 has no formula for it."""


@dataclass(frozen=True)
class Call:
    """One call of a network."""

    given: tuple
    named: dict[str, Any]
    out: Any


@contextlib.contextmanager
def watching(modules: dict[str, nn.Module]) -> Iterator[dict[str, Call]]:
    """Keeps a call of each network that is called inside the `with`: the last of the denoiser, of others the first."""
    calls: dict[str, Call] = {}

    def keep(name: str, module: nn.Module, given: tuple, named: dict[str, Any], out: Any) -> None:
        if name == "denoiser" or name not in calls:  # a step of `refine` samples frames before it learns
            calls[name] = Call(given, named, out)

    handles = [module.register_forward_hook(partial(keep, name), with_kwargs=True) for name, module in modules.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def flop_counter() -> FlopCounterMode:
    """torch's counter, which on a CPU leaves out fused attention, together with that."""

    def attention(*shapes: Any, **_: Any) -> int:
        return sdpa_flop_count(*shapes[:3])

    def backward(*shapes: Any, **_: Any) -> int:
        return sdpa_backward_flop_count(*shapes[:4])

    formulas = {"": attention, "_backward": backward}
    mapping = {getattr(torch.ops.aten, _CPU_ATTENTION + ending): formula for ending, formula in formulas.items()}
    return FlopCounterMode(display=False, custom_mapping=mapping)


def count_flops(run: Callable[[], Any]) -> tuple[int, Any]:
    """FLOPs of a call, and what it returned."""
    with flop_counter() as counter:
        result = run()
    return counter.get_total_flops(), result


def make_fake(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replaces weights and buffers by fake tensors of a mode, with the same shapes and types."""

    def faked(value: Tensor) -> Tensor:
        if value.is_meta or isinstance(value, FakeTensor):  # it has no data, or belongs to another mode
            with mode:
                return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype)
        return mode.from_tensor(value.detach())

    for part in module.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(faked(value), requires_grad=value.requires_grad))
        for name, value in list(part.named_buffers(recurse=False)):
            setattr(part, name, faked(value))


def noise(like: Tensor) -> Tensor:
    """Standard normal numbers in the shape of a fake tensor; the same every time."""
    return torch.randn(tuple(like.shape), generator=torch.Generator().manual_seed(0), dtype=like.dtype)


@contextlib.contextmanager
def unreal(*modules: nn.Module) -> Iterator[None]:
    """Inside the `with`, calls of these modules run on fake tensors, where FLOPs are counted, and return noise."""

    def run(forward: Callable[..., Tensor], *given: Any) -> Tensor:
        with FakeTensorMode(allow_non_fake_inputs=True):
            out = forward(*given)
        return noise(out)

    for module in modules:
        module.forward = partial(run, module.forward)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


class MemoryMeter(TorchDispatchMode):
    """Sums the bytes of live tensors that were created under it; `peak` is the maximum.

    Views and in-place results have no memory of their own.

    Args:
      has_checks: whether tensor values are used only in validity checks such as `bool((s >= t).any())`. For a fake tensor the
        value is then 0, which is False.
    """

    def __init__(self, has_checks: bool = False):
        super().__init__()
        self.has_checks = has_checks
        self.alive = self.peak = 0
        self._counted_ids: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        is_question = func is torch.ops.aten._local_scalar_dense.default and isinstance(args[0], FakeTensor)
        if is_question and self.has_checks:
            return 0.0 if args[0].is_floating_point() else False
        out = func(*args, **(kwargs or {}))
        if not any(result.alias_info for result in func._schema.returns):
            for tensor in tree_leaves(out):
                if isinstance(tensor, Tensor):
                    self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._counted_ids:
            return
        self._counted_ids.add(id(storage))
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, id(storage), storage.nbytes())

    def _forget(self, number: int, num_bytes: int) -> None:
        self._counted_ids.discard(number)
        self.alive -= num_bytes
