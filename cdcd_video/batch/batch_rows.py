"""What a batch samples: the rows of a table of prompts, or one image and caption."""

import functools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from cdcd_video.config.ranges import check_sentences, check_settings
from cdcd_video.config.shipped_files import named_file
from cdcd_video.data.images import read_image
from cdcd_video.data.prompt_table import Entry, read_entries
from cdcd_video.errors import UserError
from cdcd_video.request import NO_CAPTION, NO_FRAME, SUFFIXES
from cdcd_video.sampling.captions import CaptionSchedule, parse_captions

read_picture = functools.lru_cache(maxsize=32)(read_image)
"""The pixels of a picture; many rows may begin with the same one."""
_OF_A_VIDEO = re.compile(r"\.[A-Za-z]\w{1,4}")
"""A suffix that a row's file may have: `.avi`, and not the `.2` of `version-1.2`."""


@dataclass(frozen=True)
class BatchRow:
    """An image and a caption, of which videos are sampled.

    Attributes:
      where: it stands, for messages.
      file: of the video, below the folder of the batch; the seed is added if there are several.
      captions: of the video.
      picture: file of the starting frame.
      truth: how the clip really goes on, a file or folder; None where the table does not say.
      fps: frames per second; None for those of the command line or the model.
      last: file of the frame in which the video ends; None for none.
      seed: of its only video; None for those of the command line.
    """

    where: str
    file: PurePath
    captions: CaptionSchedule
    picture: Path
    truth: Path | None = None
    fps: float | None = None
    last: Path | None = None
    seed: int | None = None

    @property
    def prompt(self) -> str:
        """The caption as one sentence."""
        return ", then ".join(sentence for _, sentence in self.captions.turns)

    def file_of(self, seed: int, num_seeds: int) -> PurePath:
        """The file of the video of one seed."""
        return self.file if num_seeds == 1 else self.file.with_name(f"{self.file.stem}-seed-{seed}{self.file.suffix}")


def read_batch(asked: Mapping[str, Any], folder: Path) -> list[BatchRow]:
    """The rows of a batch, each checked as far as that needs no model.

    Args:
      asked: the options of the command by name.
      folder: of the batch.

    Raises:
      UserError: the table or one of its rows cannot be used (the sentence names file and line), or a picture cannot be read.
    """
    rows = _rows_of_table(asked, folder) if asked["prompts"] else [_single(asked)]
    for row in rows:
        with naming(row):
            for picture in filter(None, (row.picture, row.last)):
                read_picture(picture)
            if row.truth is not None and not row.truth.exists():
                raise UserError(f"there is no {row.truth}; correct the column truth")
    return rows


@contextmanager
def naming(row: BatchRow) -> Iterator[None]:
    """Inside, a `UserError` begins with the place of a row."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{row.where}: {error}") from error


def _rows_of_table(asked: Mapping[str, Any], folder: Path) -> list[BatchRow]:
    table, picture, last = Path(asked["prompts"]), asked["frame"], _last_of(asked)
    rows, root = [], folder.resolve()
    for entry in read_entries(folder, table):
        where = f"prompts {table}, line {entry.line}"
        frame = entry.frame or (named_file("examples")(picture) if picture else None)
        if frame is None:
            raise UserError(f"{where}: no starting frame; add the column frame, or give --frame for all rows")
        captions = CaptionSchedule.of(entry.prompt)
        beside = (entry.truth, entry.fps, entry.last_frame or last, _seed_of(entry, asked, where))
        row = BatchRow(where, _video_file(entry.file.relative_to(root)), captions, frame, *beside)
        with naming(row):
            check_sentences(captions.turns)
            if not entry.prompt.strip():
                raise UserError("the prompt is empty; describe what should happen")
        rows.append(row)
    return rows


def _seed_of(entry: Entry, asked: Mapping[str, Any], where: str) -> int | None:
    """The column `seed`, as a batch writes it into its own table."""
    if entry.seed in (None, ""):
        return None
    for name in ("seed", "num_seeds"):
        if asked[name] is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{where}: the table gives a seed, and {flag} others; leave out {flag}, or the column seed")
    text = str(entry.seed)
    seed = int(text) if text.isascii() and text.isdigit() else entry.seed
    try:
        check_settings({"seed": seed})
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return seed


def _single(asked: Mapping[str, Any]) -> BatchRow:
    if not asked["frame"]:
        raise UserError(NO_FRAME)
    if not asked["text"]:
        raise UserError(NO_CAPTION)
    picture = named_file("examples")(asked["frame"])
    file, captions = PurePath(f"{picture.stem}.mp4"), parse_captions(asked["text"])
    return BatchRow(asked["frame"], file, captions, picture, last=_last_of(asked))


def _last_of(asked: Mapping[str, Any]) -> Path | None:
    return named_file("examples")(asked["last_frame"]) if asked["last_frame"] else None


def _video_file(file: Path) -> PurePath:
    """The file of a row with a suffix that can be written; its name without suffix, by which files are matched, stays."""
    if file.suffix.lower() in SUFFIXES:
        return PurePath(file)
    stem = file.stem if _OF_A_VIDEO.fullmatch(file.suffix) else file.name
    return PurePath(file.with_name(f"{stem}.mp4"))
