"""Default names for the output of a command, chosen so that nothing is replaced.

A name is free when nothing is there and no other process has taken it; it is held until the work is done, so that two
processes never take the same one.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import FolderInUse, folder_lock, holds_nothing


def is_there(path: Path) -> bool:
    """Whether something exists at a path; an empty folder does not count."""
    return os.path.lexists(path) and not (path.is_dir() and holds_nothing(path))


def numbered(wanted: Path) -> Iterator[Path]:
    """Yields `clip.mp4`, `clip-2.mp4`, `clip-3.mp4` and so on."""
    yield wanted
    yield from (wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}") for number in itertools.count(2))


@contextmanager
def free_name(names: Iterable[Path], is_taken: Callable[[Path], bool] = is_there) -> Iterator[Path]:
    """Holds the first of some names that is free.

    Args:
      names: of files or folders, such as those of `numbered`.
      is_taken: asked of a name that no other process holds.

    Yields:
      The name; write there inside the `with`.

    Raises:
      FileExistsError: none of the names is free.
      UserError: the place cannot be written.
    """
    for name in names:
        with ExitStack() as held:
            try:
                held.enter_context(folder_lock(name))
            except FolderInUse:
                continue
            if not is_taken(name):
                yield name
                return
    raise FileExistsError("none of the names is free")


@contextmanager
def chosen_folder(given: Path | None, otherwise: Path) -> Iterator[Path]:
    """Locks the output folder of a command: the given one, or else a free name.

    Args:
      given: what the user named; what is in it may be replaced.
      otherwise: the name where he named none.

    Raises:
      FolderInUse: another process writes the folder that was asked for.
      UserError: the place cannot be written, or is a file; now, and not when what took hours is to be written there.
    """
    if given is None:
        with free_name(numbered(otherwise)) as folder:
            yield folder
        return
    if os.path.lexists(given) and not given.is_dir():
        raise UserError(f"{given} is not a folder; name another one for the results, or leave --out out")
    if given.is_dir() and not os.access(given, os.W_OK | os.X_OK):
        raise UserError(f"{given} cannot be written: permission denied; name another folder, or leave --out out")
    with folder_lock(given):
        yield given
