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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdcd_video.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None

_MOST_BYTES = 4096
_MOST_COMMAND_LETTERS = 300
_held: dict[tuple[Path, int], int] = {}
"""Handles of what this process holds, by folder and thread."""


class FolderInUse(UserError):
    """Another process writes the folder."""

    def __init__(self, folder: Path, holder: str):
        super().__init__(
            f"{folder} is being written by {holder}; wait until that has ended or stop it, or choose another folder"
        )


@contextmanager
def folder_lock(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a folder, so that no other process that asks writes it meanwhile.

    A thread that holds it may ask again: what it calls is part of the same work. Processes forked meanwhile do not hold it.

    Args:
      folder: need not exist yet; the one that is to hold it must, or be one that can be made.

    Raises:
      FolderInUse: another process (or another thread of this one) holds it; the sentence names it.
      UserError: the lock cannot be written.
    """
    target = Path(os.path.realpath(folder))
    key = (target, threading.get_ident())
    if key in _held:
        yield
        return
    handle, place = _acquired(Path(folder), target)
    _held[key] = handle
    try:
        yield
    finally:
        # Removed while still held, so that whoever waits at the old file sees that it is gone and takes a new one.
        if _held.pop(key, None) is not None:
            if place is not None:
                place.unlink(missing_ok=True)
            os.close(handle)


def _acquired(folder: Path, target: Path) -> tuple[int, Path | None]:
    """An open handle that holds the lock, and the file to remove at the end, None where nothing is locked."""
    while True:
        handle, place = _opened(folder, target)
        try:
            if fcntl is None:
                raise OSError(errno.ENOTSUP, "no flock on this system")
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise FolderInUse(folder, holder) from None
        except OSError as error:  # some network file systems have no locks
            warnings.warn(
                f"{folder} cannot be locked ({error.strerror}); see to it that no second process writes it meanwhile",
                RuntimeWarning,
                stacklevel=4,
            )
            place.unlink(missing_ok=True)
            return handle, None
        if _is_same_file(handle, place):
            os.ftruncate(handle, 0)
            os.pwrite(handle, json.dumps(_about_me()).encode(), 0)
            return handle, place
        os.close(handle)  # its holder has just removed it


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
        raise UserError(f"cannot write {folder}: {reason}; write to another place") from error
    raise AssertionError("one of the two places was tried last")


def _is_same_file(handle: int, place: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(place, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _about_me() -> dict[str, object]:
    command = shlex.join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:]])
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "command": command[:_MOST_COMMAND_LETTERS],
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _holder(handle: int) -> str:
    """Who holds it, as it says; it may be about to say so."""
    try:
        about = json.loads(os.pread(handle, _MOST_BYTES, 0))
        where = "" if about["host"] == socket.gethostname() else f" on {about['host']}"
        return f"process {about['process']}{where} (`{about['command']}`, since {about['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _let_go_in_child() -> None:
    """The parent's lock is not the child's: a worker that outlives its parent must not hold the folder."""
    for handle in _held.values():
        os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
