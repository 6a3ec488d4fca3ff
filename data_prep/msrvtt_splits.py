"""MSR-VTT's files by their known names, and the three ways in which papers split its videos.

`official`: train, validate and test as annotated. `9k` (also called 1k-A): tested on the 1,000 pairs of JSFUSION's list,
trained on all other videos, 1,990 official test videos among them. `7k`: tested on the same pairs, trained on the
official train and validate.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cdcd_video.data.tables import Table, parse
from cdcd_video.errors import UserError
from data_prep.items import Item, one_line, refusal_of_id, refused
from data_prep.msrvtt_annotations import PUBLISHED_TRAIN, Annotations
from data_prep.packed import Packed, find

SPLITS = ("official", "9k", "7k")

PUBLISHED = {
    "official": {"train": PUBLISHED_TRAIN, "val": 497, "test": 2990},
    "9k": {"train": 9000, "test": 1000},
    "7k": {"train": 7010, "test": 1000},
}
"""Videos of each split as the data set was published."""

PIECES = ("train_val_videodatainfo.json", "test_videodatainfo.json")
WHOLE = ("videodatainfo_2017.json", "MSRVTT_data.json")
TEST_LIST = "MSRVTT_JSFUSION_test.csv"
TRAIN_LISTS = {"9k": "MSRVTT_train.9k.csv", "7k": "MSRVTT_train.7k.csv"}

Split = dict[str, tuple[str, ...]]
"""Captions by the id of the video."""


@dataclasses.dataclass
class Files:
    """What was found.

    Attributes:
      annotations: the files that hold videos and sentences.
      test_list: the list of test pairs.
      train_lists: lists of training videos, by "9k" and "7k"; by "" one of another name, which serves either.
    """

    annotations: list[Packed] = dataclasses.field(default_factory=list)
    test_list: Packed | None = None
    train_lists: dict[str, Packed] = dataclasses.field(default_factory=dict)

    def train_list(self, split: str) -> Packed | None:
        """The list of a split's training videos."""
        return self.train_lists.get(split) or self.train_lists.get("")

    def used(self, split: str) -> list[Packed]:
        """Every file that decides what a split holds."""
        lists = [] if split == "official" else [self.test_list, self.train_list(split)]
        return [*self.annotations, *filter(None, lists)]


def find_files(places: Sequence[Path]) -> Files:
    """Annotation files and lists of MSR-VTT.

    Args:
      places: folders and .zip files, where known names are looked for; .json, .json.gz and .csv files of any name.

    Raises:
      UserError: if something does not exist, is damaged or comes twice, or there is no annotation file.
    """
    for place in places:
        if not place.exists():
            raise UserError(f"{place} does not exist; give the folder that holds the annotation files")
    searched = [place for place in places if place.is_dir() or place.suffix.lower() == ".zip"]
    found = find(searched, [*PIECES, *WHOLE, TEST_LIST, *TRAIN_LISTS.values()])
    files = Files(_annotations_among(found), found.get(TEST_LIST))
    files.train_lists = {split: found[name] for split, name in TRAIN_LISTS.items() if name in found}
    for place in places:
        if place not in searched and place.suffix.lower() == ".csv":
            _add_list(Packed(place), files)
        elif place not in searched:
            files.annotations.append(Packed(place))
    if not files.annotations:
        raise UserError(
            f"no annotation file of MSR-VTT in {', '.join(map(str, places))}: it needs {' and '.join(PIECES)}, "
            f"or one of {', '.join(WHOLE)}, plain, .gz or in a .zip; docs/data.md says where to get them"
        )
    return files


def assign(split: str, annotations: Annotations, files: Files) -> tuple[dict[str, Split], list[Item]]:
    """Which video belongs to which part, with which captions.

    Args:
      split: one of `SPLITS`.
      annotations: what the annotation files say.
      files: where the lists are.

    Returns:
      Captions of every listed video, by part ("train", "val", "test") and id, possibly none; and refused rows.

    Raises:
      UserError: if a list is needed and missing, is no such list, or trains on what it tests.
    """
    if split == "official":
        return _official(annotations)
    if files.test_list is None:
        raise UserError(
            f"--split {split} needs {TEST_LIST} (columns key, vid_key, video_id, sentence; 1,000 rows) beside the "
            f"annotation files or as a further --annotations FILE; docs/data.md says where to get it"
        )
    pairs, bad = _read_list(files.test_list, with_sentences=True)
    test = {name: tuple(sentences) for name, sentences in pairs.items()}
    train_list = files.train_list(split)
    if train_list is not None:
        chosen, more = _read_list(train_list, with_sentences=False)
        bad += more
    else:
        official = ("train", "val") if split == "7k" else ("train", "val", "test", None)
        chosen = [name for name, video in annotations.videos.items() if video.split in official and name not in test]
    both = [name for name in chosen if name in test]
    if both:
        raise UserError(
            f"{both[0]} and {len(both) - 1} more are both in {train_list} and in {files.test_list}; get other copies"
        )
    known = annotations.videos
    return {"train": {name: tuple(known[name].captions) if name in known else () for name in chosen}, "test": test}, bad


def _official(annotations: Annotations) -> tuple[dict[str, Split], list[Item]]:
    parts: dict[str, Split] = {"train": {}, "val": {}, "test": {}}
    bad = []
    for name, video in annotations.videos.items():
        if video.split is None:
            bad.append(refused(name, "its split is not train, validate, val or test"))
        else:
            parts[video.split][name] = tuple(video.captions)
    return parts, bad


def _annotations_among(found: dict[str, Packed]) -> list[Packed]:
    """The two files of 2016 if both are there, else a file with everything, else the one of 2016 that is there."""
    pieces = [found[name] for name in PIECES if name in found]
    whole = [found[name] for name in WHOLE if name in found]
    return pieces if len(pieces) == len(PIECES) or not whole else whole[:1]


def _add_list(file: Packed, files: Files) -> None:
    known = {name.lower(): split for split, name in TRAIN_LISTS.items()}
    if "sentence" in _table_of(file).columns:
        files.test_list = file
    else:
        files.train_lists[known.get(file.name.lower(), "")] = file


def _read_list(file: Packed, *, with_sentences: bool) -> tuple[dict[str, list[str]], list[Item]]:
    listed: dict[str, list[str]] = {}
    bad = []
    for row in _table_of(file, "sentence" if with_sentences else None).rows:
        name = (row.cells.get("video_id") or "").strip()
        sentence = one_line(row.cells.get("sentence") or "")
        reason = row.fault or refusal_of_id(name)
        if reason is None and with_sentences and not sentence:
            reason = "its row has no caption"
        if reason is not None:
            bad.append(refused(f"line {row.line} of {file.name}: {name[:200]}", reason))
        else:
            listed.setdefault(name, []).extend([sentence] if with_sentences else [])
    return listed, bad


def _table_of(file: Packed, *needed: str | None) -> Table:
    """Of any line ends, with commas or semicolons."""
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a table ({error}); get another copy") from None
    columns = ("video_id", *filter(None, needed))
    return parse(text, ".csv", str(file), columns, ("sentence",), sentence="sentence")
