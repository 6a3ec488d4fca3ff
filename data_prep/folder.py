"""Your own videos: a folder with a table of captions, text files beside the videos, or WebDataset tars.

Captions come from --captions FILE, with one row per caption:
  .tsv, .csv   a header with the columns `path` and `caption`; other columns are ignored
  .jsonl       objects with `path`, and `caption` or `captions` (a list)
Paths are relative to DIR; one path may have several rows. Without --captions, every video in DIR is used. Its captions
are the lines of the text file of the same name (clip.mp4, clip.txt), or `caption` or `captions` in a .json of that name;
endings in capitals (CLIP.MP4, CLIP.TXT) are the same.
Every video in a .tar in DIR (WebDataset) is used in the same way.
"""

import argparse
import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath

from cdcd_video.data.tables import Row, Table, read_table
from cdcd_video.errors import UserError, say
from cdcd_video.storage.small_file import Unreadable, read_small
from data_prep.items import Item, one_line, refused, split_named, split_of
from data_prep.prepare import Plan, Settings
from data_prep.recipes import RECIPES, Recipe
from data_prep.sidecars import ENDINGS, MOST_BYTES, Unusable, captions_beside
from data_prep.tars import clips_in
from data_prep.videos import DOUBTFUL_SUFFIXES, VIDEO_SUFFIXES, names_in, within

SPLIT = "split"
"""The default column of a clip's split."""
MOST_FOR_VAL = 0.4
"""Up to this share of the clips goes to "val" where a smaller one is none of them."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this recipe."""
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder of videos")
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="FILE",
        help="table of captions: .tsv, .csv or .jsonl (default: text files beside the videos)",
    )
    parser.add_argument(
        "--split-column",
        metavar="NAME",
        help=f"column of --captions with each clip's split: train, val or test (default: {SPLIT}, if it is there; '' for none)",
    )
    Settings.add_options(parser)
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.1,
        help="share of the split val, where no column gives the split (%(default)s)",
    )
    parser.add_argument(
        "--val-from-train",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="where a column gives the splits: share of train that becomes val, for a set without val (%(default)s)",
    )
    parser.add_argument(
        "--group-column",
        metavar="NAME",
        help="column of --captions with what clips have in common, such as a person; a group is never divided into train and val",
    )
    parser.add_argument(
        "--about-columns",
        nargs="+",
        default=[],
        metavar="NAME",
        help="columns of --captions that are kept with each clip, as `about` in clips.jsonl",
    )


def run(options: argparse.Namespace) -> Plan:
    """Finds the clips of the folder."""
    settings = Settings.of(options)
    if not options.dir.is_dir():
        what = "is a file" if options.dir.exists() else "is not a folder"
        raise UserError(f"{options.dir} {what}; name the folder that holds the clips")
    if not 0 <= options.val_share < 1:
        raise UserError(f"--val-share must be at least 0 and below 1, not {options.val_share}")
    if not 0 <= options.val_from_train < 1:
        raise UserError(f"--val-from-train must be at least 0 and below 1, not {options.val_from_train}")
    columns = Columns(options.split_column, options.group_column, tuple(dict.fromkeys(options.about_columns)))
    named = next(filter(None, (columns.split, columns.group, *columns.about)), None)
    if named and options.captions is None:
        raise UserError(f"the column {named} needs a table; give it with --captions")
    items, column = read_items(options.dir, options.captions, options.val_share, columns, options.val_from_train)
    if options.val_from_train and not column:
        raise UserError("--val-from-train needs a column that gives the splits; use --val-share without one")
    further = {
        "split_column": column,
        "val_from_train": options.val_from_train,
        "group_column": columns.group,
        "about_columns": list(columns.about),
    }
    recipe = {"recipe": "folder", "val_share": options.val_share}
    return Plan(items, settings, recipe | {name: value for name, value in further.items() if value})


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table that are used beside `path` and `caption`.

    Attributes:
      split: of each clip's split; None for `SPLIT` if the table has it, "" for none.
      group: of what clips have in common, such as a person; a group is in train or in val as a whole. None: each clip is a group.
      about: of what is kept as `Item.about`.
    """

    split: str | None = None
    group: str | None = None
    about: tuple[str, ...] = ()

    @property
    def further(self) -> tuple[str, ...]:
        """Columns of which a clip has one value."""
        return tuple(dict.fromkeys((*([self.group] if self.group else []), *self.about)))


def read_items(
    folder: Path,
    captions: Path | None,
    val_share: float | int,
    columns: Columns = Columns(),
    val_from_train: float | int = 0.0,
) -> tuple[list[Item], str | None]:
    """The clips of a table, or of the text files and tars in the folder, in their order.

    Args:
      folder: the folder of videos.
      captions: the table; None for text files beside the videos, and tars.
      val_share: share of the split "val", where no column gives the splits.
      columns: of the table.
      val_from_train: share of the clips, or groups, of the table's split "train" that go to "val".

    Returns:
      The clips, and the column of their splits, if there is one.

    Raises:
      UserError: if the table is missing or not what it should be, or describes no clips.
    """
    root = folder.resolve()
    if captions is None:
        items, column = [*_from_sidecars(root, val_share), *_from_tars(root, val_share)], None
    else:
        items, column = _from_table(root, captions, val_share, columns, val_from_train)
    if not items:
        raise UserError(f"{captions or folder} describes no clips")
    splits, share = {item.split for item in items}, val_from_train if column else val_share
    if (
        0 < share < MOST_FOR_VAL and "train" in splits and "val" not in splits
    ):  # of a few clips a small share may be none
        larger = min(2 * share, MOST_FOR_VAL)
        say("note", f"of {len(items)} clips a share of {share:g} is none for val; {larger:g} is taken instead.")
        shares = (val_share, larger) if column else (larger, val_from_train)
        return read_items(folder, captions, shares[0], columns, shares[1])
    return items, column


@dataclasses.dataclass
class _ClipRows:
    """The rows of a table about one clip: captions, splits and further cells in their order, without duplicates."""

    refusal: str | None
    captions: dict[str, None] = dataclasses.field(default_factory=dict)
    splits: dict[str, None] = dataclasses.field(default_factory=dict)
    cells: dict[str, list[object]] = dataclasses.field(default_factory=dict)

    def add(self, cells: Mapping[str, object], names: Iterable[str]) -> None:
        """Takes the cells of some columns; empty ones are none."""
        for name in names:
            value = one_line(cells[name]) if isinstance(cells.get(name), str) else cells.get(name)
            known = self.cells.setdefault(name, [])
            if value not in (None, "", *known):
                known.append(value)

    def item(
        self, root: Path, name: str, columns: Columns, val_share: float | int, val_from_train: float | int
    ) -> Item:
        refusal = self.refusal
        if len(self.splits) > 1:
            refusal = refusal or f"its rows name several splits: {', '.join(self.splits)}"
        for column, values in self.cells.items():
            if len(values) > 1:
                refusal = refusal or f"its rows have several values of {column}"
            if not values and column == columns.group:
                refusal = refusal or f"its row has no {column}"
        group = str(self.cells[columns.group][0]) if columns.group and self.cells.get(columns.group) else name
        split = next(iter(self.splits), split_of(group, val_share))
        if self.splits and split == "train":
            split = split_of(group, val_from_train)
        about = {column: self.cells[column][0] for column in columns.about if self.cells.get(column)}
        return Item(name, root / name, name, tuple(self.captions), split, refusal=refusal, about=about)


def _from_table(
    root: Path, path: Path, val_share: float | int, columns: Columns, val_from_train: float | int
) -> tuple[list[Item], str | None]:
    table, split_column = _opened(path, columns), columns.split
    column = SPLIT if split_column is None else split_column
    if split_column is None and not (column in table.columns or any(column in row.cells for row in table.rows)):
        alike = next((name for name in table.columns if name.strip().lower() == SPLIT), None)
        if alike is not None:
            raise UserError(
                f"captions {path} has a column {alike}, which is not used unless it is called {SPLIT}; rename it, or give"
                f" --split-column {alike}"
            )
        column = ""
    clips: dict[str, _ClipRows] = {}
    names: dict[str, tuple[str, str | None]] = {}  # a path may come in a hundred thousand rows
    bad = []
    for row in table.rows:
        where = f"line {row.line} of {path.name}"
        file, captions = _texts(row, path)
        split = split_named(row.cells.get(column)) if column else None
        reason = row.fault or (None if file.strip() else "its row has no path")
        if reason is None and column and split is None:
            reason = _fault_of_split(row.cells.get(column), column)
        if reason is not None:
            bad.append(refused(where, reason))
            continue
        if file not in names:
            names[file] = within(root, file)
        name, refusal = names[file]
        clip = clips.setdefault(name, _ClipRows(refusal))
        clip.captions.update(dict.fromkeys(filter(None, map(one_line, captions))))
        clip.splits.update({split: None} if split else {})
        clip.add(row.cells, columns.further)
    items = [clip.item(root, name, columns, val_share, val_from_train) for name, clip in clips.items()]
    return [*items, *bad], column or None


def _opened(path: Path, columns: Columns) -> Table:
    optional = (columns.split or SPLIT,)
    if path.suffix.lower() == ".jsonl":
        return read_table(path, "captions", ("path",), optional)
    named = dict.fromkeys(filter(None, (columns.split, *columns.further)))
    return read_table(path, "captions", ("path", "caption", *named), optional, sentence="caption")


def _texts(row: Row, path: Path) -> tuple[str, list[str]]:
    """The path and the sentences of a row; of .jsonl they may be a list, and anything else is refused."""
    file, captions = row.cells.get("path"), row.cells.get("captions", [row.cells.get("caption")])
    if path.suffix.lower() != ".jsonl":
        return file or "", [row.cells.get("caption") or ""]
    if not (isinstance(file, str) and isinstance(captions, list) and all(isinstance(text, str) for text in captions)):
        raise UserError(f"captions {path}, line {row.line}: expected a JSON object with path and caption")
    return file, captions


def _fault_of_split(value: object, column: str) -> str:
    if value is None or not str(value).strip():
        return f"its row has no {column}; give one, or ignore the column with --split-column ''"
    return f"its {column} is {str(value)[:80]!r}, but a split is train, val or test"


def _from_sidecars(root: Path, val_share: float | int) -> Iterator[Item]:
    listed: tuple[Path, dict[str, Path]] | None = None  # a folder's videos come one after another: it is listed once
    for name in names_in(root, VIDEO_SUFFIXES | DOUBTFUL_SUFFIXES):
        place = (root / name).parent
        if listed is None or listed[0] != place:
            listed = place, _sidecars_in(place)
        captions: tuple[str, ...] = ()
        _, refusal = within(root, name)
        try:
            captions = captions_beside(functools.partial(_beside, root, Path(name), listed[1]))
        except Unusable as error:
            refusal = refusal or str(error)
        yield Item(name, root / name, name, captions, split_of(name, val_share), refusal=refusal)


def _sidecars_in(folder: Path) -> dict[str, Path]:
    """Files that may hold captions, by their names with the ending in small letters.

    Cameras write `E.MP4` and its neighbour `E.TXT`, and on other disks a file is asked for by its exact name. Of `E.txt` and
    `E.TXT` that with the ending in small letters counts, else the first by name.
    """
    found: dict[str, Path] = {}
    for name in sorted(
        os.listdir(folder), key=lambda name: (PurePath(name).suffix.lower() != PurePath(name).suffix, name)
    ):
        stem, ending = PurePath(name).stem, PurePath(name).suffix[1:].lower()
        if ending in ENDINGS:
            found.setdefault(f"{stem}.{ending}", folder / name)
    return found


def _beside(root: Path, video: Path, sidecars: Mapping[str, Path], ending: str) -> bytes | None:
    path = sidecars.get(f"{video.stem}.{ending}")
    if path is None:
        return None
    try:
        return read_small(path, within=root, limit=MOST_BYTES)
    except Unreadable as error:
        leads_out = within(root, os.path.relpath(path, root))[1] is not None
        raise Unusable(f"its .{ending} {'points outside the folder' if leads_out else error.reason}") from None


def _from_tars(root: Path, val_share: float | int) -> Iterator[Item]:
    for tar in names_in(root, (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")):
        _, refusal = within(root, tar)
        if not tar.lower().endswith(".tar"):
            if not re.search(r"\.(tgz|tar\.[a-z0-9]+)$", tar.lower()):
                continue
            refusal = refusal or "compressed tars are not supported; decompress it to a .tar"
        if refusal:
            yield Item(tar, root / tar, tar, (), "train", refusal=refusal)
            continue
        for clip in clips_in(root / tar):
            name = f"{tar}/{clip.name}"
            split = split_of(name, val_share)
            yield Item(name, root / tar, name, clip.captions, split, refusal=clip.refusal, inside=clip.inside)


RECIPES.register("folder")(Recipe(__doc__, add_options, run))
