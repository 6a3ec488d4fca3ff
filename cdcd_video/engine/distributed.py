"""Several processes that do one piece of work together, as `torchrun` starts them. Alone, everything here is a no-op.

Of every batch, process r of W has the rows r, r + W, r + 2 W, ... ("its own rows"). Who adds up over rows asks here for
the sum over all of them, so that a loss averaged over the processes is the loss of the whole batch; who compares rows
asks for all of them, with their gradients. Random numbers are drawn for the whole batch by every process, from the same
generator, and each keeps its own rows: with any number of processes an example meets the same noise.
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
"""How long a process waits for one that is alive and says nothing. One that dies is noticed at once."""
_LOST = ("gloo", "nccl", "connection closed by peer", "connection reset by peer", "broken pipe", "processgroup")
"""How torch words it, in small letters, that another process is gone."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class World:
    """Who works together: this process is number `rank` of `size`."""

    rank: int = 0
    size: int = 1


_ALONE = World()
_world = _ALONE


def world() -> World:
    """The processes that share a batch here and now."""
    return _world


def is_main() -> bool:
    """Whether this process is the one that writes and speaks."""
    return _world.rank == 0


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """Inside the `with` the processes that `torchrun` started are one world; without `torchrun`, nothing happens.

    Args:
      device: the config's word; "auto" and "cuda" give each process of a machine a GPU of its own.

    Yields:
      The world.

    Raises:
      UserError: more processes than GPUs, the others cannot be reached, or whatever went wrong inside, with the process
        that says it.
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
        except SystemExit:  # all have been told to stop, and leave alike
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()
    except UserError as error:
        raise UserError(f"process {own.rank} of {own.size}: {error}") from error
    finally:
        _world = _ALONE


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside the `with` this process has its batches to itself, whoever else there is: for what all do alike."""
    global _world
    before, _world = _world, _ALONE
    try:
        yield
    finally:
        _world = before


# ------------------------------------------------------------------------------------------------------- rows of a batch


def own(rows: Rows, dim: int = 0) -> Rows:
    """The rows of this process, out of those of the whole batch; of a list, which has one dimension, its entries."""
    which = slice(_world.rank, None, _world.size)
    place: Any = (slice(None),) * dim + (which,) if dim else which
    return rows if _world.size == 1 else rows[place]


def num_own(num_rows: int) -> int:
    """How many of the first `num_rows` rows of the whole batch are this process's."""
    return len(range(_world.rank, num_rows, _world.size))


def num_all(num_rows: int) -> int:
    """Rows of the whole batch, of which every process has `num_rows`."""
    return num_rows * _world.size


def all_gather(rows: Tensor, num_rows: int | None = None) -> Tensor:
    """Rows of the whole batch in its order, out of each process's own; gradients flow back to where a row came from.

    Args:
      rows: this process's.
      num_rows: how many there are in all; None where every process has as many.
    """
    if _world.size == 1:
        return rows
    return _Gather.apply(rows, num_all(len(rows)) if num_rows is None else num_rows, _world)


class _Gather(torch.autograd.Function):
    """All rows; the gradient of a row is the sum of what all processes owe it."""

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


class _Together(Collectives):
    """Those of the processes that `joined` found."""

    def __init__(self, world: World):
        self.size = world.size

    own, num_own, gather = staticmethod(own), staticmethod(num_own), staticmethod(all_gather)

    def total(self, value: Tensor) -> Tensor:
        return total(value)

    def mean(self, value: Tensor) -> Tensor:
        return mean(value)

    def counted(self, num_own: Tensor) -> Tensor:
        return counted(num_own)


def collectives() -> Collectives:
    """What an objective may ask of the processes that share a batch here and now."""
    return ALONE if _world.size == 1 else _Together(_world)


# ------------------------------------------------------------------------------------------------------------ agreements


@torch.no_grad()
def total(value: Tensor) -> Tensor:
    """Sum over the processes; no gradient passes."""
    if _world.size == 1:
        return value
    value = value.detach().clone()
    with _answered():
        dist.all_reduce(value)
    return value


@torch.no_grad()
def mean(value: Tensor) -> Tensor:
    """Mean over the processes; no gradient passes."""
    return value if _world.size == 1 else total(value) / _world.size


def counted(num_own: Tensor) -> Tensor:
    """What a sum over this process's rows is divided by for a mean over `num_own` of them, at least 1 in the whole batch."""
    return num_own.clamp_min(1) if _world.size == 1 else total(num_own).clamp_min(1) / _world.size


def means(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Mean of each value over the processes, in one exchange; the same names in the same order everywhere."""
    if _world.size == 1:
        return values
    flat = mean(torch.cat([value.detach().double().reshape(-1) for value in values.values()]))
    parts = flat.split([value.numel() for value in values.values()])
    return {
        name: part.view(value.shape).to(value.dtype) for part, (name, value) in zip(parts, values.items(), strict=True)
    }


def most(*values: float) -> tuple[float, ...]:
    """The largest that any process has of each value: what one process must do, all do."""
    if _world.size == 1:
        return values
    found = torch.tensor(values, dtype=torch.float64)
    with _answered():
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return tuple(found.tolist())


def barrier() -> None:
    """Waits until all processes are here."""
    most(0)


def check_alike(what: str, number: int) -> None:
    """Makes sure that all processes see the same.

    Raises:
      UserError: they do not.
    """
    largest, smallest = most(number, -number)
    if largest != -smallest:
        raise UserError(
            f"{what} is {number} here and different in another process; put the run's folder on a disk that all machines share"
        )


class NullLogger:
    """Stands where the main process has somebody who writes or speaks."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def by_main(work: Callable[[], Made]) -> Made | None:
    """Does something in the main process, by itself, while the others wait.

    Returns:
      What the work returned; None in the others.

    Raises:
      UserError: in the others, when it failed there; the main process raises what it was.
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
        if most(failed)[0] and not failed:
            raise UserError("process 0 failed; see its own message")


@contextlib.contextmanager
def for_all(enter: Callable[[], contextlib.AbstractContextManager[Made]]) -> Iterator[Made | None]:
    """Inside the `with` the main process holds for all of them what only one can hold: the folder that they write.

    Args:
      enter: makes what is held, such as `storage.folder_lock`.

    Yields:
      What that gives in the main process; None in the others.

    Raises:
      UserError: in the others, when it failed there; the main process raises what it was.
    """
    with contextlib.ExitStack() as held:
        yield by_main(lambda: held.enter_context(enter()))


def to_main(content: bytes) -> None:
    """Sends bytes to the main process, which awaits them by `from_others`."""
    with _answered():
        dist.send(torch.tensor([len(content)]), 0)
        dist.send(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0)


def from_others() -> Iterator[bytes]:
    """What each of the other processes sends, in their order; bytes, so that nobody need trust what they are made of."""
    for rank in range(1, _world.size):
        with _answered():
            length = torch.zeros(1, dtype=torch.int64)
            dist.recv(length, rank)
            content = torch.empty(int(length), dtype=torch.uint8)
            dist.recv(content, rank)
        yield content.numpy().tobytes()


def is_lost(error: BaseException) -> bool:
    """Whether an exception says that another process is gone."""
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
