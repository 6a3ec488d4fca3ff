"""your own videos: a folder of them and a table of captions, or text files beside them, or WebDataset tars.

Captions come from --captions FILE, with one row per caption:
  .tsv, .csv   a header with the columns `path` and `caption`; other columns are ignored
  .jsonl       objects with `path`, and `caption` or `captions` (a list)
Paths are relative to DIR; a path may come more than once. Without --captions every video in DIR is taken, with the
lines of the text file of the same name (clip.mp4, clip.txt) as its captions, and every video in a .tar in DIR
(WebDataset), with the lines of the .txt or the `caption` of the .json of the same name in the tar.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from cdcd_video.errors import UserError
from data_prep.items import Item, one_line, split_of
from data_prep.prepare import Plan, Settings
from data_prep.tars import clips_in
from data_prep.videos import VIDEO_SUFFIXES, names_in, within


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder of videos")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="tsv, csv or jsonl; default: text files beside")
    Settings.add_options(parser)
    parser.add_argument("--val-share", type=float, default=0.1, help="share of the split val (%(default)s)")


def run(options: argparse.Namespace) -> Plan:
    """Finds the clips of the folder."""
    settings = Settings.of(options)
    if not options.dir.is_dir():
        raise UserError(f"{options.dir} is not a folder")
    if not 0 <= options.val_share < 1:
        raise UserError(f"--val-share must be 0 or more and under 1, not {options.val_share}")
    items = read_items(options.dir, options.captions, options.val_share)
    return Plan(items, settings, {"recipe": "folder", "val_share": options.val_share})


def read_items(folder: Path, captions: Path | None, val_share: float | int) -> list[Item]:
    """The clips that a table, or the text files and tars in the folder, speak of, in their order.

    Args:
      folder: the folder of videos.
      captions: the table; None for text files beside the videos, and tars.
      val_share: share of the split "val".

    Raises:
      UserError: if the table is missing or not what it should be, or speaks of no clip.
    """
    root = folder.resolve()
    named = _from_table(captions) if captions else _from_sidecars(root)
    texts: dict[str, list[str]] = {}
    refusals: dict[str, str | None] = {}
    for number, (path, caption) in enumerate(named, 1):
        name, refusal = within(root, path) if path.strip() else (f"row {number}", "its row has no path")
        refusals[name] = refusal
        kept = texts.setdefault(name, [])
        caption = one_line(caption)
        if caption and caption not in kept:
            kept.append(caption)
    items = [
        Item(name, root / name, name, tuple(kept), split_of(name, val_share), refusal=refusals[name])
        for name, kept in texts.items()
    ]
    if captions is None:
        items += _from_tars(root, val_share)
    if not items:
        raise UserError(f"{captions or folder} speaks of no clip")
    return items


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


def _from_sidecars(root: Path) -> Iterator[tuple[str, str]]:
    for name in names_in(root, VIDEO_SUFFIXES):
        try:
            lines = (root / name).with_suffix(".txt").read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError):
            lines = []
        for line in lines or [""]:
            yield name, line


def _from_tars(root: Path, val_share: float | int) -> Iterator[Item]:
    for tar in names_in(root, (".tar",)):
        _, refusal = within(root, tar)
        if refusal:
            yield Item(tar, root / tar, tar, (), "train", refusal=refusal)
            continue
        for clip in clips_in(root / tar):
            name = f"{tar}/{clip.name}"
            captions = tuple(dict.fromkeys(filter(None, map(one_line, clip.captions))))
            split = split_of(name, val_share)
            yield Item(name, root / tar, name, captions, split, refusal=clip.refusal, inside=clip.inside)
