"""Reads the table that maps captions to the video files of another model.

Its columns:

| column | |
|---|---|
| `file` | a video, an animated gif or webp, or a folder of pictures, relative to the folder of videos |
| `prompt` | the caption it was sampled from |
| `frame` | optional: the image it was sampled from, or the name of an example; else the video's own first frame counts |
| `last_frame` | optional: the image in which it ends, or the name of an example |
| `truth` | optional: how the clip really goes on, a file of the same kinds |
| `fps` | optional: frames per second the model drew at, where the file says another rate or none |
| `seed` | optional: of the video, where it is sampled again |

`frame`, `last_frame` and `truth` are relative to the table. No path may lead out of the folder it is relative to. How fields
are written says `data.tables`; what goes beyond the last column belongs to the prompt, if that is the last.
"""

import dataclasses
import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from cdcd_video.config.shipped_files import shipped_file
from cdcd_video.data.tables import Row, read_rows
from cdcd_video.errors import UserError

NEEDED, OPTIONAL = ("file", "prompt"), ("frame", "last_frame", "truth", "fps", "seed")
_PICTURES = ("frame", "last_frame", "truth")


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the table, its paths checked."""

    name: str
    """The file's name without its suffix, by which it is matched with clips and with other systems' videos."""
    file: Path
    prompt: str
    frame: Path | None = None
    truth: Path | None = None
    fps: float | None = None
    last_frame: Path | None = None
    seed: Any = None
    """As it stands there; None where it does not."""
    line: int = 0
    """Of the table, from 1; 0 where there is none."""


def read_entries(folder: Path, prompts: Path) -> list[Entry]:
    """The videos that a table lists, in its order.

    Args:
      folder: of the videos.
      prompts: the table, .tsv, .csv or .jsonl.

    Raises:
      UserError: the table is not what it should be, or a path leads out of its folder. Whether the files are there is told
        when they are read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give the folder of the videos")
    entries: dict[str, Entry] = {}
    for row in read_rows(prompts, NEEDED, "prompts", OPTIONAL, sentence="prompt"):
        where = f"prompts {prompts}, line {row.line}"
        texts = texts_of(row, (*NEEDED, *_PICTURES), where)
        file = confined(folder, texts["file"], where, is_needed=False)
        beside = {
            name: picture_of(prompts.parent, texts[name], where, is_needed=False)
            for name in ("frame", "last_frame")
            if texts.get(name)
        }
        if texts.get("truth"):
            beside["truth"] = confined(prompts.parent, texts["truth"], where, is_needed=False)
        name = file.name if file.is_dir() else file.stem
        if name in entries:
            raise UserError(f"{where}: another video is also called {name}; rename one of them")
        entries[name] = Entry(
            name,
            file,
            texts["prompt"],
            **beside,
            fps=_rate_of(row.cells, where),
            seed=row.cells.get("seed"),
            line=row.line,
        )
    if not entries:
        raise UserError(f"prompts {prompts} lists no videos")
    return list(entries.values())


def texts_of(row: Row, names: Collection[str], where: str) -> dict[str, str]:
    """Cells that must be text, or a whole number that names something: .jsonl may hold anything.

    Raises:
      UserError: one is something else.
    """
    given = {name: row.cells[name] for name in names if row.cells.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str) and type(value) is not int:
            raise UserError(f"{where}: {name} is {json.dumps(value)[:80]}; it must be text")
    return {name: str(value) for name, value in given.items()}


def confined(folder: Path, name: str, where: str, *, is_needed: bool = True) -> Path:
    """Resolves a path in a table, which must not lead out of a folder.

    Raises:
      UserError: it leads out; or nothing is there, and it is needed.
    """
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        is_there = path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a name too long, links in a circle
        raise UserError(f"{where}: the path {name!r} cannot be used ({error})") from None
    if path == root or not path.is_relative_to(root):  # "..", an absolute path, or a link that leads out
        raise UserError(f"{where}: the path {name!r} leaves {folder}; keep the files inside")
    if is_needed and not is_there:
        raise UserError(f"{where}: there is no {name} in {folder}")
    return path


def picture_of(folder: Path, name: str, where: str, *, is_needed: bool = True) -> Path:
    """A first or last frame of a table: a file wins over the name of an example, as on the command line.

    Every reader of such a column calls this, so that one table serves them all.

    Raises:
      UserError: its path leads out of the folder; or it is neither a path nor the name of an example; or nothing is there,
        and it is needed.
    """
    path = confined(folder, name, where, is_needed=False)
    if path.is_file():
        return path
    try:
        example = shipped_file("examples", name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return example or confined(folder, name, where, is_needed=is_needed)


def _rate_of(row: dict[str, Any], where: str) -> float | None:
    given = row.get("fps")
    if given in (None, ""):
        return None
    try:
        rate = float(given)
    except (TypeError, ValueError):
        rate = math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise UserError(f"{where}: fps is {given!r}; it must be a number above 0, or be left out")
    return rate
