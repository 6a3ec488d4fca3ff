"""What can end a training against everybody's will, each told in one sentence: what happened, what is saved, how to go on."""

import contextlib
import errno
from collections.abc import Callable, Iterator

import torch

from cdcd_video.engine import distributed
from cdcd_video.engine.log import NotFiniteError
from cdcd_video.errors import UserError

_NO_MEMORY = ("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory", "bad_alloc")
"""How allocators word it that raise a plain RuntimeError, in small letters."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory has run out: Python's, NumPy's, the CPU allocator's, a GPU's, the system's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


@contextlib.contextmanager
def told_in_a_sentence(task: str, step: Callable[[], int], saved: Callable[[], str]) -> Iterator[None]:
    """Turns what goes wrong inside the `with` into the user's sentence; a fault of the code stays a traceback.

    Args:
      task: what is trained.
      step: tells the number of the step that failed.
      saved: a clause on what can be gone back to.

    Yields:
      Nothing; train inside the `with`.

    Raises:
      UserError: a value that is not finite, no memory, data that cannot be read, or whatever was one already.
    """
    try:
        yield
    except NotFiniteError as error:
        raise UserError(
            f"training {task} stopped: {error}; nothing of it was saved, {saved()}. Lower the learning rate or clip_norm,"
            " or use precision fp32, and train into a new --out."
        ) from None
    except UserError as error:
        raise UserError(_went_wrong(task, step(), str(error), saved())) from error
    except (MemoryError, OSError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"training {task} ran out of memory at step {step()}; {saved()}. Free some memory and run the same command"
                " again to go on, or take a smaller batch_size and a new --out."
            ) from error
        if distributed.is_lost(error):
            raise UserError(_went_wrong(task, step(), distributed.LOST, saved())) from error
        if isinstance(error, OSError):
            where = f" {error.filename}" if error.filename else ""
            reason = f"cannot read or write{where} ({(error.strerror or str(error)).lower()})"
            raise UserError(_went_wrong(task, step(), reason, saved())) from error
        raise


def _went_wrong(task: str, step: int, reason: str, saved: str) -> str:
    return (
        f"training {task} stopped at step {step}: {reason.rstrip('.')}; {saved}. Put that right and run the same command"
        " again to go on."
    )
