"""One lock for every command that writes a folder: a run, a prepared folder, a cache, an evaluation, a study.

The lock is the kernel's (flock), so it goes with the process that held it, however that ended. It lies beside the folder,
as `.NAME.lock`, since some folders are replaced as a whole when they are complete; where the place beside may not be
written (a volume mounted at the root), it lies inside. It says who holds it, for the sentence that the second one reads.
"""

import errno
import json
import os
import shlex
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cdcd_video.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

_MOST_BYTES = 4096
_MOST_COMMAND_LETTERS = 300
_ASK_AGAIN_S = 0.1
_SHARERS_WAIT_S = 2.0
"""A lock that is shared may for a moment be held by one alone, who leaves and looks whether to clear up."""
_held: dict[tuple[Path, int], int] = {}
"""Handles of what this process holds, by folder and thread."""


class FolderInUse(UserError):
    """Another process writes the folder.

    Attributes:
      holder: which one, in words.
      is_shared: whether it shares the folder with others of its job.
    """

    def __init__(self, folder: Path, holder: str, is_shared: bool = False):
        super().__init__(
            f"{folder} is being written by {holder}; wait for it to finish, stop it, or choose another folder"
        )
        self.holder, self.is_shared = holder, is_shared


@contextmanager
def folder_lock(
    folder: str | os.PathLike[str], *, shared: bool = False, wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Locks a folder, so that no other process of this project writes it meanwhile.

    A thread that holds it may ask again: what it calls is part of the same work. Processes forked meanwhile do not hold it.

    Args:
      folder: need not exist yet; the one that is to hold it must, or be one that can be made. The name of a file does too:
        then it is the file that is held.
      shared: for the processes of one job that write the folder together; only one that asks for it alone is kept out, and
        keeps them out.
      wait: None refuses a locked folder. Otherwise it is called once with a message about the holder, before waiting.

    Raises:
      FolderInUse: another process (or another thread of this one) holds it; the sentence names it.
      UserError: the lock cannot be written.
    """
    target = Path(os.path.realpath(folder))
    key = (target, threading.get_ident())
    if key in _held:
        yield
        return
    handle, place = _awaited(Path(folder), target, shared, wait)
    _held[key] = handle
    try:
        yield
    finally:
        # Removed while still locked: a process that waits at the old file sees that it is gone and takes a new one.
        if _held.pop(key, None) is not None:
            if place is not None and (not shared or _is_alone(handle)):
                place.unlink(missing_ok=True)
            os.close(handle)


def is_lock(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a lock, by its name: no part of what a folder holds, and of no harm where one was left behind."""
    name = os.path.basename(path)
    return name.startswith(".") and name.endswith(".lock")


def remove_left_locks(folder: Path) -> None:
    """Removes the locks of a folder's files that a killed process left behind; those that are held, or cannot be opened, stay."""
    for place in folder.rglob(".*.lock"):
        with suppress(UserError), folder_lock(place.with_name(place.name[1 : -len(".lock")])):
            pass


def holds_nothing(folder: Path) -> bool:
    """Whether a folder has no entries, locks aside."""
    return all(is_lock(name) for name in os.listdir(folder))


def _awaited(folder: Path, target: Path, shared: bool, wait: Callable[[str], None] | None) -> tuple[int, Path | None]:
    """`_acquired`, as soon as the lock is free."""
    patience = time.monotonic() + _SHARERS_WAIT_S
    while True:
        try:
            return _acquired(folder, target, shared)
        except FolderInUse as refusal:
            if wait is None and not (shared and refusal.is_shared and time.monotonic() < patience):
                raise
            if wait is not None:
                wait(f"{folder} is being written by {refusal.holder}; waiting for it to finish")
                wait = _silent
            time.sleep(_ASK_AGAIN_S)


def _silent(_: str) -> None:
    """Stands for `wait` once it has been called."""


def _acquired(folder: Path, target: Path, shared: bool) -> tuple[int, Path | None]:
    """An open handle that holds the lock, and the file to remove at the end, None where nothing is locked."""
    while True:
        handle, place = _opened(folder, target)
        try:
            if fcntl is None:
                raise OSError(errno.ENOTSUP, "no flock on this system")
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            refusal = FolderInUse(folder, *_holder(handle))
            os.close(handle)
            raise refusal from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(
                f"{folder} cannot be locked ({error.strerror}); make sure that no other process writes to it",
                RuntimeWarning,
                stacklevel=5,
            )
            place.unlink(missing_ok=True)
            return handle, None
        if _is_same_file(handle, place):
            with suppress(OSError):  # on a full disk the holder stays unnamed, and the lock works all the same
                os.ftruncate(handle, 0)
                os.pwrite(handle, json.dumps(_about_me() | {"shared": shared}).encode(), 0)
            return handle, place
        os.close(handle)  # its holder has just removed it


def _is_alone(handle: int) -> bool:
    """Whether nobody shares the lock any more; then this process holds it alone."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _opened(folder: Path, target: Path) -> tuple[int, Path]:
    beside, inside = target.with_name(f".{target.name}.lock"), target / ".lock"
    flags = os.O_CREAT | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        for place in (beside, inside):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                return os.open(place, flags, 0o644), place
            except OSError as error:
                if place == inside or error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {folder}: {reason}; choose another folder") from error
    raise AssertionError("one of the two places was tried last")


def _is_same_file(handle: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(place, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _about_me() -> dict[str, object]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": typed_command()[:_MOST_COMMAND_LETTERS],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def typed_command() -> str:
    """What was typed, without the folder of the program; of `python -m cdcd_video.ablate`, `sys.argv` would say `__main__.py`."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    start = [os.path.basename(sys.argv[0] or "python")]
    if spec is not None:
        start = ["python", "-m", spec.name.removesuffix(".__main__")]
    return shlex.join([*start, *sys.argv[1:]])


def _holder(handle: int) -> tuple[str, bool]:
    """Who holds it, as it says (it may be about to say so), and whether it shares it. Of several who share it, the last
    that came speaks; it may have left before the others."""
    try:
        about = json.loads(os.pread(handle, _MOST_BYTES, 0))
        where = "" if about["host"] == socket.gethostname() else f" on {about['host']}"
        holder = f"process {about['process']}{where} (`{about['command']}`, since {about['since']})"
        return holder, about.get("shared") is True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "another process", False


def _let_go_in_child() -> None:
    """Releases the parent's lock in a child, so that a worker that outlives its parent does not hold the folder."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
