"""InternVid's metadata, an object per line, read as a stream: the file may have hundreds of millions of lines."""

import dataclasses
import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from cdcd_video.data.tables import object_of
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import open_plain
from data_prep.items import Item, one_line, refusal_of_id, refused

COLUMNS = {
    "id": ("YoutubeID", "videoID", "video_id", "youtube_id"),
    "start": ("Start_timestamp", "start"),
    "end": ("End_timestamp", "end"),
    "caption": ("Caption",),
    "aesthetic": ("Aesthetic_Score",),
    "umt": ("UMT_Score",),
}
"""The fields of a row, and the names of their columns, the published name first; case is ignored."""

NEEDED = ("id", "start", "end", "caption")

_MOST_LINE_BYTES = 1 << 20
_MOST_IDLE_BYTES, _EMPTY_LINE = 1 << 25, 1 << 8  # an empty line takes as long as so many bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One clip as the metadata describe it.

    Attributes:
      line: number of its line, from 0.
      video: YouTube's id, 11 characters.
      start, end: as written, `00:07:33.689`.
      start_s, end_s: the same in seconds.
      caption: one sentence.
      aesthetic, umt: scores; None where there is none.
    """

    line: int
    video: str
    start: str
    end: str
    start_s: float
    end_s: float
    caption: str
    aesthetic: float | None
    umt: float | None

    @property
    def name(self) -> str:
        """The clip's id, as its file is named in the wild."""
        return f"{self.video}_{self.start}_{self.end}"


class Metadata:
    """Rows of a .jsonl or .jsonl.gz file; iterating reads it again.

    Attributes:
      columns: the file's column for each of `COLUMNS` that it has.
      sha256: of the content, known after a whole pass.
      is_packed: whether it is a .gz.
      on_bytes: called with the length of every piece that is read.
    """

    def __init__(self, path: Path, renamed: Mapping[str, str] | None = None):
        """Looks at the first line.

        Args:
          path: the file.
          renamed: columns by other names than the published ones, by the keys of `COLUMNS`.

        Raises:
          UserError: if the file is missing or its first line is no row.
        """
        self.path, self.sha256 = path, ""
        self.is_packed = path.suffix.lower() == ".gz"
        self.on_bytes: Callable[[int], object] | None = None
        with self._open() as file:
            first = next(_lines(file, len, path), None)
        row = object_of(first or b"")
        if row is None:
            raise UserError(f"the first line of {path} is not a JSON object; give the published .jsonl file")
        self.columns = _columns_of(row, renamed or {}, path)

    def __iter__(self) -> Iterator[Row | Item]:
        """Yields every row, or an item with a refusal for a line that is none."""
        sha256 = hashlib.sha256()

        def note(piece: bytes) -> None:
            sha256.update(piece)
            if self.on_bytes is not None:
                self.on_bytes(len(piece))

        with self._open() as file:
            for number, line in enumerate(_lines(file, note, self.path)):
                if line is None:
                    yield refused(f"line {number + 1}", f"it has more than {_MOST_LINE_BYTES:,} bytes")
                elif line.strip():
                    yield self._row(number, line)
        self.sha256 = sha256.hexdigest()

    def _open(self) -> BinaryIO:
        file = open_plain(self.path, "the metadata")
        return _Unpacked(fileobj=file) if self.is_packed else file

    def _row(self, number: int, line: bytes) -> Row | Item:
        where = f"line {number + 1}"
        values = object_of(line)
        if values is None:
            return refused(where, "it is not a JSON object, or has a key twice")
        cells = {key: values.get(column) for key, column in self.columns.items()}
        video, caption = cells["id"], cells["caption"]
        reason = refusal_of_id(video)
        if reason is None and not re.fullmatch(r"[A-Za-z0-9_-]{11}", video):
            reason = "its id is not a YouTube id"
        if reason is None and not (isinstance(caption, str) and one_line(caption)):
            reason = "it has no caption"
        start_s, end_s = seconds_of(cells["start"]), seconds_of(cells["end"])
        if reason is None and (start_s is None or end_s is None):
            reason = "its timestamps are invalid"
        elif reason is None and not start_s < end_s:
            reason = "it ends before it begins"
        if reason is not None:
            return refused(f"{where}: {video[:200]}" if isinstance(video, str) else where, reason)
        scores = (_score(cells.get("aesthetic")), _score(cells.get("umt")))
        return Row(number, video, str(cells["start"]), str(cells["end"]), start_s, end_s, one_line(caption), *scores)


def seconds_of(stamp: object) -> float | None:
    """Seconds of `00:07:33.689`, `7:33`, `"453.689"` or a number; None for everything else."""
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return float(stamp) if math.isfinite(stamp) and 0 <= stamp < 1e6 else None
    if not isinstance(stamp, str) or not re.fullmatch(r"(?:[0-9]{1,3}:){0,2}[0-9]{1,6}(?:\.[0-9]{1,9})?", stamp):
        return None
    total = 0.0
    for part in stamp.split(":"):
        total = 60 * total + float(part)
    return round(total, 6)


def _columns_of(row: dict[str, Any], renamed: Mapping[str, str], path: Path) -> dict[str, str]:
    by_lower = {name.lower(): name for name in row}
    columns = {}
    for key, names in COLUMNS.items():
        wanted = (renamed[key],) if key in renamed else names
        found = next((by_lower[name.lower()] for name in wanted if name.lower() in by_lower), None)
        if found is not None:
            columns[key] = found
        elif key in NEEDED or key in renamed:
            raise UserError(
                f"{path} has no column {wanted[0]}; its first line has {', '.join(map(str, row)) or 'none'}: "
                f"name it with --column {key}=NAME"
            )
    return columns


def _score(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


class _Unpacked(gzip.GzipFile):
    """A .gz that closes what it reads from."""

    def close(self) -> None:
        packed = self.fileobj
        super().close()
        if packed is not None:
            packed.close()


def _lines(file: BinaryIO, note: Callable[[bytes], object], path: Path) -> Iterator[bytes | None]:
    """Lines; None for one that is too long, which is never held as a whole.

    Raises:
      UserError: the file is damaged; or nothing that could be a row comes for long, as in what a bomb unpacks to.
    """
    num_idle = 0
    try:
        while line := file.readline(_MOST_LINE_BYTES):
            note(line)
            is_whole = True
            num_idle = num_idle + _EMPTY_LINE + len(line) if line.isspace() else 0
            while len(line) == _MOST_LINE_BYTES and not line.endswith(b"\n"):
                is_whole = False
                line = file.readline(_MOST_LINE_BYTES)
                note(line)
                num_idle += len(line)
                _check_idle(num_idle, path)
            _check_idle(num_idle, path)
            yield line if is_whole else None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"the metadata {path} cannot be read completely ({error}); get another copy") from None


def _check_idle(num_bytes: int, path: Path) -> None:
    if num_bytes > _MOST_IDLE_BYTES:
        raise UserError(f"the metadata {path} has {num_bytes:,} bytes without a row in them; get another copy")
