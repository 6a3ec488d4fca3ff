"""Files that appear complete or not at all, and refusals of the file system as sentences."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from cdcd_video.errors import UserError


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target` and renames it at the end, so that the file is complete or absent.

    Args:
      target: where the file shall be; missing folders are made.

    Yields:
      The path to write to. It is deleted if the block fails.

    Raises:
      UserError: when the place cannot be written or the disk is full.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with refused_by_disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield part
            os.replace(part, target)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):  # a null character is a ValueError
            part.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def refused_by_disk(target: Path) -> Iterator[None]:
    """Turns what the file system refuses (no permission, full disk, name too long) into a `UserError` on `target`."""
    if "\0" in str(target):
        raise UserError(f"cannot write {target}: no path has a null character; choose another name")
    try:
        yield
    except OSError as error:  # PyAV's errors from the file system are OSErrors too, with the same numbers
        if error.errno == errno.ENOSPC:
            raise UserError(f"cannot write {target}: the disk is full; make room or write elsewhere") from error
        raise UserError(f"cannot write {target}: {error.strerror or error}; write elsewhere") from error
