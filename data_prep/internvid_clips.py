"""Which clips of InternVid are wanted, and which file on this disk holds each: a stream of items."""

import collections
import dataclasses
import re
from collections.abc import Iterator
from pathlib import PurePath

from data_prep.internvid_rows import Metadata, Row
from data_prep.items import Item, split_of
from data_prep.videos import Videos, within

SEPARATORS = (":", "_", "-", ".", "\uff1a")
"""What stands between hours, minutes and seconds in names of ready-made clips: file systems that refuse the colon of the
metadata get another character for it."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Filters of rows; None takes all. A row without a score that is filtered is not taken."""

    min_aesthetic: float | None = None
    min_umt: float | None = None
    min_duration: float | None = None
    max_duration: float | None = None
    one_per_video: bool = False

    def fault(self, row: Row) -> str | None:
        """The filter that rejects a row, or None."""
        duration = round(row.end_s - row.start_s, 6)
        if self.min_aesthetic is not None and not (row.aesthetic is not None and row.aesthetic >= self.min_aesthetic):
            return "aesthetic score"
        if self.min_umt is not None and not (row.umt is not None and row.umt >= self.min_umt):
            return "UMT score"
        if self.min_duration is not None and duration < self.min_duration:
            return "too short"
        if self.max_duration is not None and duration > self.max_duration:
            return "too long"
        return None


class Clips:
    """Items for `prepare`: lines that cannot be used, and every wanted clip that is on this disk.

    Memory grows with what is on the disk, not with the metadata.

    Attributes:
      tally: what became of the lines, counted in the last pass.
      missing: with `note_missing`, videos that a wanted clip lacks, in the order of the metadata.
    """

    def __init__(
        self,
        metadata: Metadata,
        wanted: Wanted,
        videos: Videos,
        *,
        by_line: bool,
        val_share: float | int,
        note_missing: bool = False,
    ):
        """Reads nothing yet.

        Args:
          metadata: the rows.
          wanted: which of them.
          videos: files on this disk: ready-made clips or whole videos.
          by_line: ready-made clips are named by the number of their line.
          val_share: share of the split "val"; all clips of a video go to one split.
          note_missing: keep `missing`, 100 bytes per video.
        """
        self._metadata, self._wanted, self._videos = metadata, wanted, videos
        self._by_line, self._val_share, self._note_missing = by_line, val_share, note_missing
        bracketed = ((re.search(r"\[([A-Za-z0-9_-]{11})\]$", stem), path) for stem, path in videos.paths.items())
        self._bracketed = {found[1]: path for found, path in bracketed if found}
        self.tally: collections.Counter[str] = collections.Counter()
        self.missing: dict[str, None] = {}

    def __iter__(self) -> Iterator[Item]:
        self.tally, self.missing = collections.Counter(), {}
        names: set[str] = set()
        taken: set[str] = set()
        for row in self._metadata:
            self.tally["lines"] += 1
            if isinstance(row, Item):
                self.tally["unusable"] += 1
                yield row
                continue
            file, is_whole = self._file_of(row)
            fate = self._fate(row, file, names, taken)
            self.tally[fate or ("in whole videos" if is_whole else "ready-made")] += 1
            if fate == "missing" and self._note_missing:
                self.missing[row.video] = None
            if fate is None:
                names.add(row.name)
                taken.add(row.video)
                if self._wanted.one_per_video:
                    self.missing.pop(row.video, None)
                yield self._item(row, file, is_whole)

    @property
    def num_here(self) -> int:
        """Clips of the last pass that are on this disk."""
        return self.tally["in whole videos"] + self.tally["ready-made"]

    def _fate(self, row: Row, file: str | None, names: set[str], taken: set[str]) -> str | None:
        """Why a row leads to no clip; None if it does."""
        fault = self._wanted.fault(row)
        if fault is not None:
            return fault
        if row.name in names:
            return "repeated"
        if self._wanted.one_per_video and row.video in taken:
            return "further clip"
        return "missing" if file is None else None

    def _file_of(self, row: Row) -> tuple[str | None, bool]:
        """The file that holds a clip, relative to the folder of videos, and whether it is the whole video."""
        paths = self._videos.paths
        if self._by_line:
            return paths.get(str(row.line)), False
        for separator in SEPARATORS:
            times = f"{row.start}_{row.end}".replace(":", separator)
            if f"{row.video}_{times}" in paths:
                return paths[f"{row.video}_{times}"], False
        return paths.get(row.video) or self._bracketed.get(row.video), True

    def _item(self, row: Row, file: str, is_whole: bool) -> Item:
        source, refusal = within(self._videos.root, file)
        about = {"youtube_id": row.video, "start_s": row.start_s, "end_s": row.end_s}
        scores = {"aesthetic_score": row.aesthetic, "umt_score": row.umt}
        return Item(
            row.name,
            self._videos.root / PurePath(source),
            source,
            (row.caption,),
            split_of(row.video, self._val_share),
            start_s=row.start_s if is_whole else 0.0,
            end_s=row.end_s if is_whole else None,
            refusal=refusal,
            about={**about, **{name: score for name, score in scores.items() if score is not None}},
        )
