"""Collective operations of the processes that `torchrun` starts. With one process, everything here is a no-op.

Of every batch, process r of W has the rows r, r + W, r + 2 W, ... ("its own rows"). Sums over rows are taken over all
processes, so that a loss averaged over the processes is the loss of the whole batch; comparisons gather the rows of all, with
gradients. Every process generates the random numbers of the whole batch and keeps those of its own rows: with any number of
processes an example gets the same noise.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from cdcd_video.engine.runtime import take_gpu
from cdcd_video.errors import UserError
from cdcd_video.records import ALONE, Collectives, Rows

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for one that is alive and does not respond. One that ends is noticed at once."""
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "processgroup")
"""Parts of torch's messages about a lost process, in small letters."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class World:
    """This process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1


_ALONE = World()
_world = _ALONE


def world() -> World:
    """The processes that share a batch at present."""
    return _world


def is_main() -> bool:
    """Whether this is process 0, the only one that writes files and prints."""
    return _world.rank == 0


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Inside the `with` the processes that `torchrun` started are one world; without `torchrun`, nothing happens.

    Args:
      device: of the config; "auto" and "cuda" give each process of a machine its own GPU.

    Yields:
      The world.

    Raises:
      UserError: more processes than GPUs, the others cannot be reached, or any error inside, with the number of
        the process.
    """
    global _world
    rank, size, place = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if rank is None or size is None or place is None or size == "1":
        yield _ALONE
        return
    own = World(int(rank), int(size))
    on_gpu = take_gpu(device)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"process {own.rank} of {own.size} cannot reach the others: {_first_line(error)}") from error
    _world = own
    try:
        try:
            yield own
        except SystemExit:  # all processes stop together
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    except UserError as error:
        raise UserError(f"process {own.rank} of {own.size}: {error}") from error
    finally:
        _world = _ALONE


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside the `with` this process counts as the only one: for work that all processes do alike."""
    global _world
    before, _world = _world, _ALONE
    try:
        yield
    finally:
        _world = before


# ------------------------------------------------------------------------------------------------------- rows of a batch


def own(rows: Rows, dim: int = 0) -> Rows:
    """See `Collectives.own`; of a list its entries."""
    which = slice(_world.rank, None, _world.size)
    place: Any = (slice(None),) * dim + (which,) if dim else which
    return rows if _world.size == 1 else rows[place]


def num_own(num_rows: int) -> int:
    """See `Collectives.num_own`."""
    return len(range(_world.rank, num_rows, _world.size))


def num_all(num_rows: int) -> int:
    """See `Collectives.num_all`."""
    return num_rows * _world.size


def all_gather(rows: Tensor, num_rows: int | None = None) -> Tensor:
    """See `Collectives.gather`."""
    if _world.size == 1:
        return rows
    return _Gather.apply(rows, num_all(len(rows)) if num_rows is None else num_rows, _world)


class _Gather(torch.autograd.Function):
    """All rows; the gradient of a row is the sum of its gradients in all processes."""

    @staticmethod
    def forward(ctx, rows, num_rows, world):
        ctx.world = world
        most = -(-num_rows // world.size)
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in range(world.size)]
        with _answered():
            dist.all_gather(found, padded)
        return torch.stack(found, 1).flatten(0, 1)[:num_rows].contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad = grad.contiguous()
        with _answered():
            dist.all_reduce(grad)
        return grad[ctx.world.rank :: ctx.world.size].contiguous(), None, None


# ------------------------------------------------------------------------------------------------------------ reductions


@torch.no_grad()
def total(value: Tensor) -> Tensor:
    """See `Collectives.total`."""
    if _world.size == 1:
        return value
    value = value.detach().clone()
    with _answered():
        dist.all_reduce(value)
    return value


@torch.no_grad()
def mean(value: Tensor) -> Tensor:
    """See `Collectives.mean`."""
    return value if _world.size == 1 else total(value) / _world.size


def counted(num_own: Tensor) -> Tensor:
    """See `Collectives.counted`."""
    return num_own.clamp_min(1) if _world.size == 1 else total(num_own).clamp_min(1) / _world.size


class _ProcessGroup(Collectives):
    """The functions of this module, for the processes that `joined` found."""

    def __init__(self, size: int):
        self.size = size

    own, num_own, gather = staticmethod(own), staticmethod(num_own), staticmethod(all_gather)
    total, mean, counted = staticmethod(total), staticmethod(mean), staticmethod(counted)


def collectives() -> Collectives:
    """The collective operations that an objective gets at present."""
    return ALONE if _world.size == 1 else _ProcessGroup(_world.size)


def means(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean of each value over the processes, in one exchange; the same names in the same order everywhere."""
    if _world.size == 1:
        return values
    flat = mean(torch.cat([value.detach().double().reshape(-1) for value in values.values()]))
    parts = flat.split([value.numel() for value in values.values()])
    return {
        name: part.view(value.shape).to(value.dtype) for part, (name, value) in zip(parts, values.items(), strict=True)
    }


def all_max(*values: float) -> tuple[float, ...]:
    """The largest value over the processes, of each value."""
    if _world.size == 1:
        return values
    found = torch.tensor(values, dtype=torch.float64)
    with _answered():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return tuple(found.tolist())


def barrier() -> None:
    """Waits for all processes."""
    all_max(0)


def check_alike(what: str, number: int) -> None:
    """Checks that a number is the same in all processes.

    Raises:
      UserError: it is not.
    """
    largest, smallest = all_max(number, -number)
    if largest != -smallest:
        raise UserError(
            f"{what} is {number} here and different in another process; put the run's folder on a disk that all machines share"
        )


class NullLogger:
    """A logger that writes nothing, for all processes but the main one."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def by_main(work: Callable[[], Made]) -> Made | None:
    """Calls a function in the main process alone, while the others wait.

    Returns:
      What the work returned; None in the others.

    Raises:
      UserError: in the others, if it failed; the main process raises the error itself.
    """
    failed = False
    try:
        if not is_main():
            return None
        with alone():
            return work()
    except BaseException:
        failed = True
        raise
    finally:
        if all_max(failed)[0] and not failed:
            raise UserError("process 0 failed; see its own message")


@contextlib.contextmanager
def for_all(enter: Callable[[], contextlib.AbstractContextManager[Made]]) -> Iterator[Made | None]:
    """Inside the `with` the main process holds something for all processes, such as the lock of a folder.

    Args:
      enter: makes the context manager, such as `storage.folder_lock`.

    Yields:
      Its value in the main process; None in the others.

    Raises:
      UserError: in the others, if it failed; the main process raises the error itself.
    """
    with contextlib.ExitStack() as held:
        yield by_main(lambda: held.enter_context(enter()))


def send_to_main(content: bytes) -> None:
    """Sends bytes to the main process, which receives them by `receive_from_others`."""
    with _answered():
        dist.send(torch.tensor([len(content)]), 0)
        dist.send(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0)


def receive_from_others() -> Iterator[bytes]:
    """What each of the other processes sends, in their order; bytes, so that nothing is unpickled."""
    for rank in range(1, _world.size):
        with _answered():
            length = torch.zeros(1, dtype=torch.int64)
            dist.recv(length, rank)
            content = torch.empty(int(length), dtype=torch.uint8)
            dist.recv(content, rank)
        yield content.numpy().tobytes()


def is_lost(error: BaseException) -> bool:
    """Whether an exception means that another process is lost."""
    return _world.size > 1 and isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _LOST)


LOST = "another process failed or does not respond; see its own message"


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise UserError(LOST) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
