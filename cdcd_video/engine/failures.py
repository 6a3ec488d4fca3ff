"""Errors that end a training run, each as one message: what happened, what is saved, how to resume."""

import contextlib
from collections.abc import Callable, Iterator

from cdcd_video.engine import distributed
from cdcd_video.engine.log import NotFiniteError
from cdcd_video.errors import UserError
from cdcd_video.storage.memory import is_out_of_memory


@contextlib.contextmanager
def as_user_error(task: str, step: Callable[[], int], saved: Callable[[], str]) -> Iterator[None]:
    """Turns an error inside the `with` into a `UserError`; a bug stays a traceback.

    Args:
      step: the number of the step that failed.
      saved: a clause on the last good checkpoint.

    Raises:
      UserError: a value that is not finite, no memory, data that cannot be read, or whatever was a `UserError` already.
    """
    try:
        yield
    except NotFiniteError as error:
        raise UserError(
            f"training {task} stopped: {error}; that step was not saved; {saved()}. Lower the learning rate or clip_norm,"
            " or use precision fp32, and train into a new --out."
        ) from None
    except UserError as error:
        raise UserError(_went_wrong(task, step(), str(error), saved())) from error
    except (MemoryError, OSError, RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise UserError(
                f"training {task} ran out of memory at step {step()}; {saved()}. Free some memory and run the same command"
                " again to resume, or use a smaller batch_size with a new --out."
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
        f"training {task} stopped at step {step}: {reason.rstrip('.')}; {saved}. Fix the cause, then run the same command"
        " again to resume."
    )
