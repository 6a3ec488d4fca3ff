"""The reader of small untrusted files: captions, tables, settings, records."""

import errno
import io
import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError
from cdcd_video.storage.numerals import significant

MIB = 1 << 20
DEFAULT_LIMIT = MIB
"""Default limit of a small file's size, in bytes."""


class Unreadable(UserError):
    """A small file that cannot be read.

    Attributes:
      reason: what is wrong with it, without its path: "is a named pipe, not a file".
    """

    def __init__(self, what: str, path: Path, reason: str):
        super().__init__(f"{what} {path} {reason}")
        self.reason = reason


class Missing(Unreadable):
    """The file does not exist."""


def read_small(
    path: str | os.PathLike[str],
    what: str = "file",
    *,
    within: str | os.PathLike[str] | None = None,
    limit: int = DEFAULT_LIMIT,
) -> bytes:
    """The bytes of a regular file. Pipes and devices, paths out of the folder and endless files are refused.

    Args:
      path: of the file. A link is followed.
      what: what the file is, for the message.
      within: the folder that the file must lie in when all links are resolved; None where the user named the file himself.
      limit: how many bytes it may have.

    Raises:
      Unreadable: it is missing, no plain file (a folder, a named pipe, a device), outside the folder, or too large.
    """
    # The reported size may be 0 (files of /proc) or change, so the read itself is bounded.
    with open_plain(path, what, within=within) as file:
        try:
            content = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
        except OSError as error:
            raise Unreadable(what, Path(path), f"cannot be read ({error.strerror}); give another file") from None
    if content is None or len(content) > limit:
        raise Unreadable(what, Path(path), f"is larger than the limit of {_size(limit)}; give a smaller file")
    return content


def open_plain(
    path: str | os.PathLike[str], what: str = "file", *, within: str | os.PathLike[str] | None = None
) -> io.BufferedReader:
    """A plain file of any size, open for reading: for what is read as a stream, whose end the reader has to bound.

    Raises:
      Unreadable: as for `read_small`, apart from the size.
    """
    return os.fdopen(_handle(path, what, within, os.O_RDONLY, "read"), "rb")


def append_plain(path: str | os.PathLike[str], what: str = "file") -> io.BufferedWriter:
    """A plain file, open for writing behind what is in it; made where there is none.

    Raises:
      Unreadable: it is no plain file, or may not be written.
      OSError: whatever else the system says, such as that the disk is full.
    """
    return os.fdopen(_handle(path, what, None, os.O_WRONLY | os.O_APPEND | os.O_CREAT, "written"), "ab")


def _handle(
    path: str | os.PathLike[str], what: str, within: str | os.PathLike[str] | None, flags: int, done: str
) -> int:
    path = Path(path)
    try:
        if within is not None and not path.resolve().is_relative_to(Path(within).resolve()):
            raise Unreadable(what, path, f"points outside the folder {within}; copy it into the folder")
        # Opening a pipe would wait for its other end; O_NONBLOCK is without effect on a plain file.
        handle = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), 0o644)
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            os.close(handle)
            raise Unreadable(what, path, f"is {_kind(mode)}, not a file; give a regular file")
        return handle
    except FileNotFoundError:
        raise Missing(what, path, "does not exist; check the path") from None
    except IsADirectoryError:
        raise Unreadable(what, path, "is a folder, not a file; give a regular file") from None
    except PermissionError:
        raise Unreadable(
            what, path, f"cannot be {done}: permission denied; its owner can allow it with chmod +{done[0]}"
        ) from None
    except (OSError, ValueError, RuntimeError) as error:  # a name too long, a null character, links in a circle
        reason = getattr(error, "strerror", None) or error
        if getattr(error, "errno", None) == errno.ENXIO:  # a named pipe that nobody reads, or a socket
            with suppress(OSError):
                kind = _kind(os.stat(path).st_mode)
                raise Unreadable(what, path, f"is {kind}, not a file; give a regular file") from None
        elif done == "written" and isinstance(error, OSError):
            raise
        raise Unreadable(what, path, f"cannot be {done} ({reason}); give another file") from None


def read_small_text(
    path: str | os.PathLike[str],
    what: str = "file",
    *,
    within: str | os.PathLike[str] | None = None,
    limit: int = DEFAULT_LIMIT,
) -> str:
    """`read_small`, as UTF-8 text without its byte-order mark; line ends are as they are in the file.

    Raises:
      Unreadable: as for `read_small`, or it is not UTF-8.
    """
    content = read_small(path, what, within=within, limit=limit)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(what, Path(path), f"is not UTF-8 ({error.reason}); save it as UTF-8") from None


def read_small_json(
    path: str | os.PathLike[str],
    what: str = "file",
    *,
    kind: type[Any] = dict,
    within: str | os.PathLike[str] | None = None,
    limit: int = DEFAULT_LIMIT,
) -> Any:
    """`read_small`, as JSON (UTF-8, with or without a byte-order mark).

    Args:
      path, what, within, limit: as for `read_small`.
      kind: what the file must hold at its top: a dict, a list.

    Raises:
      Unreadable: as for `read_small`, or it is no JSON, is nested without an end, or holds another kind of thing.
    """
    content = read_small(path, what, within=within, limit=limit)
    try:
        held = json.loads(content.decode("utf-8-sig"))
    except RecursionError:
        raise Unreadable(what, Path(path), "is damaged (it is nested too deeply); copy it again") from None
    except ValueError as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise Unreadable(what, Path(path), f"is damaged ({error}); copy it again") from None
    if not isinstance(held, kind):
        raise Unreadable(what, Path(path), f"is damaged (it is not a {kind.__name__}); copy it again")
    return held


def _kind(mode: int) -> str:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for test, name in kinds if test(mode)), "something else")


def _size(count: int) -> str:
    return f"{count // MIB} MiB" if count >= MIB else f"{significant(count / 1024, 3)} KiB"
