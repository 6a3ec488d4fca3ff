"""Files that appear complete or not at all, and refusals of the file system as sentences."""

import contextlib
import errno
import os
import re
import shutil
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
    """Turns what the file system refuses (no permission, full disk, name too long) into a `UserError`.

    Args:
      target: what is written. An error on a file that lies elsewhere, which is read for it, names that one.

    Yields:
      Nothing.

    Raises:
      UserError: the file system refused something.
    """
    if "\0" in str(target):
        raise UserError(f"cannot write {target}: no path has a null character; choose another name")
    try:
        yield
    except OSError as error:  # PyAV's errors from the file system are OSErrors too, with the same numbers
        if error.errno == errno.ENOSPC:
            raise UserError(f"cannot write {target}: the disk is full; make room or write elsewhere") from error
        if isinstance(error.filename, str) and not _belongs_to(target, error.filename):
            raise UserError(
                f"cannot read {error.filename}: {error.strerror or error}; {target} was not written"
            ) from error
        raise UserError(f"cannot write {target}: {error.strerror or error}; write elsewhere") from error


def _belongs_to(target: Path, name: str) -> bool:
    """Whether a file is the target, in it, a folder that it lies in, or its part under a name beside it."""
    wanted, path = (Path(os.path.realpath(one.parent), one.name) for one in (target, Path(name)))
    own = (wanted.name, f".{wanted.name}")
    is_there = any(one.parent == wanted.parent and one.name.startswith(own) for one in (path, *path.parents))
    return is_there or wanted.is_relative_to(path)


def remove_left_parts(folder: Path, name: str = "") -> None:
    """Deletes what killed processes left of the files of a folder that `whole_file` writes.

    Only for who holds the lock of what is written, see `folder_lock`: no process of another machine is writing it then.

    Args:
      folder: where the files are; folders in it are not searched.
      name: of the file; empty for all of them.
    """
    import psutil  # slow to import, and sampling does without

    left = re.compile(rf"\.{re.escape(name) if name else '.+'}\.(\d{{1,9}})\.part")
    with contextlib.suppress(OSError):  # there is no such folder, or it may not be read
        for path in folder.iterdir():
            made_by = left.fullmatch(path.name)
            if made_by and not psutil.pid_exists(int(made_by[1])):  # or another process has the number by now
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
