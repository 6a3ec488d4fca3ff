"""MSR-VTT: its published annotation files and any folder of videoN.mp4.

--annotations is the folder (or several folders and files) with train_val_videodatainfo.json and
test_videodatainfo.json, or videodatainfo_2017.json; plain, .gz or in a .zip. The splits 9k and 7k also need
MSRVTT_JSFUSION_test.csv. Missing videos are counted in a table and skipped; --check-only prints only the table.
Nothing is downloaded.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from cdcd_video.errors import UserError
from data_prep.items import Item
from data_prep.msrvtt_annotations import Annotations, read_annotations
from data_prep.msrvtt_splits import PIECES, PUBLISHED, SPLITS, Files, Split, assign, find_files
from data_prep.prepare import Plan, Settings
from data_prep.recipes import RECIPES, Recipe
from data_prep.tables import layout, ranges
from data_prep.videos import Videos, within


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument(
        "--annotations", required=True, type=Path, nargs="+", metavar="DIR", help="annotation files, or folders of them"
    )
    parser.add_argument("--videos", required=True, type=Path, metavar="DIR", help="the folder of the files videoN.mp4")
    parser.add_argument(
        "--split", choices=SPLITS, default="official", help="which split; 9k is also called 1k-A (%(default)s)"
    )
    parser.add_argument(
        "--check-only", action="store_true", help="report what is there and what is missing, and write nothing"
    )
    Settings.add_options(parser, needs_out=False)


def run(options: argparse.Namespace) -> Plan | str:
    """Finds the clips, or only reports what is there."""
    settings = None if options.check_only else Settings.of(options)
    files = find_files(options.annotations)
    annotations = read_annotations(files.annotations)
    parts, bad = assign(options.split, annotations, files)
    bad = annotations.refused + bad
    videos = Videos.of(options.videos)
    table = table_of(options.split, parts, annotations, bad, files, videos)
    if settings is None:
        return table
    sys.stderr.write(f"{table}\n")
    items = [*bad, *_items(parts, annotations, videos)]
    if all(item.refusal for item in items):
        raise UserError(f"no video of the split {options.split} in {options.videos} can be used; see the table above")
    hashes = {file.name: file.sha256() for file in files.used(options.split)}
    recipe = {"recipe": "msrvtt", "split": options.split, "files_sha256": hashes}
    return Plan(items, settings, recipe, subset="ids")


def _items(parts: Mapping[str, Split], annotations: Annotations, videos: Videos) -> list[Item]:
    """The clips that are on this disk, with captions."""
    items = []
    for part, split in parts.items():
        for name, captions in split.items():
            if captions and name in videos.paths:
                file, refusal = within(videos.root, videos.paths[name])
                about = annotations.videos[name].about if name in annotations.videos else {}
                items.append(Item(name, videos.root / file, file, captions, part, refusal=refusal, about=about))
    return items


def table_of(
    split: str, parts: Mapping[str, Split], annotations: Annotations, bad: list[Item], files: Files, videos: Videos
) -> str:
    """A table of what is there and what is missing."""
    rows: list[list[object]] = [["split", "published", "listed", "with captions", "captions", "video here", "missing"]]
    notes = []
    for part, published in PUBLISHED[split].items():
        row, more = _part_of_table(part, published, parts[part], videos)
        rows.append(row)
        notes += more
    if annotations.is_relabelled:
        notes.append(
            "the files mark more videos as train than the official split has; the splits are taken from the ids instead"
        )
    official_test = {name for name, video in annotations.videos.items() if video.split == "test"}
    both = official_test & parts["train"].keys()
    if both:
        notes.append(f"train: {len(both):,} of them are test videos of the official split")
    if parts["train"].keys() & videos.paths.keys() and not parts["test"].keys() & videos.paths.keys():
        notes.append("test: no videos, as in the copy on Kaggle; docs/data.md lists others")
    absent = set(PIECES) - {file.name for file in files.annotations}
    if len(absent) == 1:
        notes.append(f"not found: {absent.pop()}")
    others = set(videos.paths).difference(annotations.videos, *parts.values())
    if others:
        notes.append(f"videos that no annotation names: {ranges(others)}")
    if videos.num_repeated:
        notes.append(f"{videos.num_repeated:,} videos with the same name as one in an earlier folder are left out")
    if bad:
        notes.append(f"{len(bad):,} rows of the annotation files cannot be used; rejected.jsonl will list them")
    read = ", ".join(map(str, files.used(split)))
    return "\n".join([f"MSR-VTT, split {split}, from {read}", layout(rows), *notes])


def _part_of_table(part: str, published: int, listed: Split, videos: Videos) -> tuple[list[object], list[str]]:
    missing = [name for name in listed if name not in videos.paths]
    silent = [name for name, captions in listed.items() if not captions]
    num_captions = sum(map(len, listed.values()))
    here = len(listed) - len(missing)
    row: list[object] = [part, published, len(listed), len(listed) - len(silent), num_captions, here, len(missing)]
    notes = []
    if len(listed) < published:
        notes.append(f"{part}: {published - len(listed):,} of the published {published:,} are in none of these files")
    if silent:
        notes.append(f"{part}: no caption for {ranges(silent)}")
    if missing:
        notes.append(f"{part}: no file for {ranges(missing)}")
    return row, notes


RECIPES.register("msrvtt")(Recipe(__doc__, add_options, run))
