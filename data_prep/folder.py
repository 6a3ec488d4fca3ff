"""your own videos: a folder of them and a table of captions.

Captions come from --captions FILE, with one row per caption:
  .tsv, .csv   a header with the columns `path` and `caption`; other columns are ignored
  .jsonl       objects with `path`, and `caption` or `captions` (a list)
Paths are relative to DIR; a path may come more than once. Without --captions every video in DIR is taken, with the
lines of the text file of the same name (clip.mp4, clip.txt) as its captions.
"""

import argparse
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import TextIO

from cdcd_video.errors import UserError
from data_prep.prepare import Item, Settings, prepare, split_of

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"]
)
"""Files that count as videos where no table names them."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder of videos")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="tsv, csv or jsonl; default: text files beside")
    Settings.add_options(parser)
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the split val (%(default)s)")


def run(options: argparse.Namespace) -> str:
    """Prepares the folder and says what came out."""
    settings = Settings.of(options)
    if not options.dir.is_dir():
        raise UserError(f"{options.dir} is not a folder")
    if not 0 <= options.val_share < 1:
        raise UserError(f"--val-share must be 0 or more and under 1, not {options.val_share}")
    items = read_items(options.dir, options.captions, options.val_share)
    return prepare(items, settings, {"recipe": "folder", "val_share": options.val_share})


def read_items(folder: Path, captions: Path | None, val_share: float | int) -> list[Item]:
    """The clips that a table or the text files in the folder speak of, in their order.

    Args:
      folder: the folder of videos.
      captions: the table; None for text files beside the videos.
      val_share: share of the split "val".

    Raises:
      UserError: if the table is missing or not what it should be, or speaks of no clip.
    """
    named = _from_table(captions) if captions else _from_sidecars(folder)
    root = folder.resolve()
    texts: dict[str, list[str]] = {}
    refusals: dict[str, str | None] = {}
    for number, (path, caption) in enumerate(named, 1):
        name, refusal = _name_within(root, path, number)
        refusals[name] = refusal
        kept = texts.setdefault(name, [])
        caption = " ".join(caption.encode("utf-8", "replace").decode().split())
        if caption and caption not in kept:
            kept.append(caption)
    if not texts:
        raise UserError(f"{captions or folder} speaks of no clip")
    return [
        Item(name, root / name, name, tuple(kept), split_of(name, val_share), refusal=refusals[name])
        for name, kept in texts.items()
    ]


def _name_within(root: Path, path: str, number: int) -> tuple[str, str | None]:
    """The path relative to the folder, and why it is refused, if it is."""
    if not path.strip():
        return f"row {number}", "its row has no path"
    try:
        resolved = (root / path).resolve()
        if not resolved.is_relative_to(root):  # "..", an absolute path, or a link that leads out
            return path, "its path leaves the folder"
        return Path(os.path.normpath(root / path)).relative_to(root).as_posix(), None
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a name too long, links in a circle
        return path, f"its path cannot be used ({getattr(error, 'strerror', None) or error})"


def _from_table(table: Path) -> Iterator[tuple[str, str]]:
    read = {".tsv": _rows_of_tsv, ".csv": _rows_of_csv, ".jsonl": _rows_of_jsonl}.get(table.suffix.lower())
    if read is None:
        raise UserError(f"captions {table} must be a .tsv, .csv or .jsonl file")
    if not table.is_file():
        raise UserError(f"captions {table} does not exist")
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            yield from read(table, file)
    except UnicodeDecodeError as error:
        raise UserError(
            f"captions {table} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise UserError(f"captions {table} is not a table ({error})") from None
    except OSError as error:
        raise UserError(f"captions {table} cannot be read ({error.strerror})") from None


def _rows_of_tsv(table: Path, file: TextIO) -> Iterator[tuple[str, str]]:
    return _columns(table, csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _rows_of_csv(table: Path, file: TextIO) -> Iterator[tuple[str, str]]:
    return _columns(table, csv.DictReader(file))


def _columns(table: Path, reader: csv.DictReader) -> Iterator[tuple[str, str]]:
    header = reader.fieldnames or []
    if not {"path", "caption"} <= set(header):
        raise UserError(
            f"captions {table} needs columns named path and caption; its first line has {', '.join(header)}"
        )
    for row in reader:
        yield row["path"] or "", row["caption"] or ""  # None where a row is too short


def _rows_of_jsonl(table: Path, file: TextIO) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            path, captions = row["path"], row["captions"] if "captions" in row else [row["caption"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            path, captions = None, None
        if not (isinstance(path, str) and isinstance(captions, list) and all(isinstance(c, str) for c in captions)):
            raise UserError(f"captions {table}, line {number}: expected an object with path and caption")
        for caption in captions or [""]:
            yield path, caption


def _from_sidecars(folder: Path) -> Iterator[tuple[str, str]]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            video = Path(place, file)
            if video.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            name = PurePath(os.path.relpath(video, folder)).as_posix()
            try:
                lines = video.with_suffix(".txt").read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError):
                lines = []
            for line in lines or [""]:
                yield name, line
