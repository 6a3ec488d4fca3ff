"""Which folders a prepared folder may replace, and the replacing itself."""

import os
import re
import shutil
import uuid
from collections.abc import Collection, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from cdcd_video.data.store_files import CLIPS, MANIFEST, REJECTED, SHEET
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import holds_nothing, is_lock
from cdcd_video.storage.whole_file import refused_by_disk

RECIPE = "recipe.json"
"""In an unfinished folder: what it is going to be."""


def check_replaceable(folder: Path) -> None:
    """Refuses a place that holds anything but a prepared folder.

    Raises:
      UserError: it does.
    """
    if not folder.exists() or (folder.is_dir() and holds_nothing(folder)):
        return
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        raise UserError(f"{folder} exists and is not a prepared folder; choose another")
    # The recipe is there if a process was killed between the renaming and the clearing up.
    refuse_more(folder, "a prepared folder", (MANIFEST, CLIPS, REJECTED, SHEET, RECIPE))


def refuse_more(folder: Path, kind: str, files: Collection[str]) -> None:
    """Refuses a folder with other files, because the folder is replaced as a whole.

    Args:
      folder: which one.
      kind: what it should be, for the message.
      files: what it may hold beside arrays of frames.

    Raises:
      UserError: it has others, or is a link.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise UserError(f"{folder} is in the way; choose another folder, or move it away")
    for name in sorted(os.listdir(folder)):
        is_own = name in files or re.fullmatch(r"frames-[0-9]+\.npy", name)
        if not (is_own or is_lock(name) or name == ".DS_Store" or name.startswith("._")):
            raise UserError(f"{folder} contains more than {kind} ({name}); choose another, or move that file away")


def put_in_place(made: Sequence[tuple[Path, Path]]) -> None:
    """Renames whole folders to their places, over what is there: all of them or, where one renaming fails, none.

    Args:
      made: where each folder is, and where it shall be.

    Raises:
      UserError: the disk refuses; everything is as it was before.
    """
    old = []
    with ExitStack() as undo:
        for part, folder in made:
            with refused_by_disk(folder):
                if folder.exists():  # a folder cannot be renamed onto one that holds files
                    aside = folder.with_name(f".{folder.name}.old-{uuid.uuid4().hex}")
                    os.replace(folder, aside)
                    undo.callback(os.replace, aside, folder)
                    old.append(aside)
                os.replace(part, folder)
                undo.callback(os.replace, folder, part)
        undo.pop_all()
    for _, folder in made:
        with suppress(OSError):  # it is of no harm there
            (folder / RECIPE).unlink()
    for aside in old:
        shutil.rmtree(aside, ignore_errors=True)
