"""The files of a prepared folder besides the arrays: names, content and checks."""

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from cdcd_video.config import FitMode
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import MIB, Missing, open_plain, read_small

FORMAT, VERSION = "cdcd_video clips", 1

MANIFEST, CLIPS, REJECTED = "manifest.json", "clips.jsonl", "rejected.jsonl"
"""Files of a prepared folder, beside the arrays."""
SHEET = "sheet.png"
"""A picture of some of the clips, for people; nothing reads it."""
MOST_MANIFEST_BYTES = 64 * MIB


@dataclasses.dataclass(frozen=True)
class ClipRow:
    """One line of `clips.jsonl`.

    Attributes:
      id: unique name.
      captions: one or more sentences.
      split: "train", "val", ...
      source: the video file, relative to the folder it was found in; empty for rendered clips.
      file: the array that holds the frames.
      offset: row of the first frame in that array.
      num_frames: frames stored.
      fps: frames per second as stored.
      seconds: `num_frames / fps`.
      source_width: width of the source as shown, pixels.
      source_height: height of the source as shown, pixels.
      source_fps: mean frames per second of the source.
      about: what else the data set says of the clip, such as its category; plain JSON values.
      cuts: first frames of its shots after the first one, see `Clips.cuts`; empty, too, if cuts were not detected.
    """

    id: str
    captions: tuple[str, ...]
    split: str
    source: str
    file: str
    offset: int
    num_frames: int
    fps: float
    seconds: float
    source_width: int
    source_height: int
    source_fps: float
    about: Mapping[str, object] = dataclasses.field(default_factory=dict)
    cuts: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ClipRow":
        """The row that a line holds.

        Raises:
          TypeError, KeyError: it holds none.
        """
        if not isinstance(values["captions"], list) or not isinstance(values.get("cuts", []), list):
            raise TypeError("captions and cuts must be lists")
        return cls(**{**values, "captions": tuple(values["captions"]), "cuts": tuple(values.get("cuts", ()))})


def read_manifest(folder: Path) -> dict:
    """Reads the manifest of a prepared folder, and checks that its files exist with their sizes.

    Raises:
      UserError: the folder holds no clips, those of another version, or a damaged manifest; or a file is missing or cut.
    """
    if not folder.is_dir():
        what = "is a file, and a prepared folder is wanted" if folder.exists() else "does not exist"
        raise UserError(f"the prepared folder {folder} {what}; make it with `python -m data_prep`")
    try:
        manifest = json.loads(read_small(folder / MANIFEST, limit=MOST_MANIFEST_BYTES))
        is_ours = manifest["format"] == FORMAT
    except Missing:
        if sizes := sizes_in(folder):
            raise UserError(
                f"{folder} holds a prepared folder for each size of frames ({', '.join(sizes)}); train on all by data.sizes, or"
                f" name one, such as {folder / sizes[0]}"
            ) from None
        raise UserError(f"{folder} has no {MANIFEST}; it was not made by `python -m data_prep`") from None
    except (UserError, ValueError, TypeError, KeyError, RecursionError):
        is_ours = False
    if not is_ours:
        raise UserError(f"{folder / MANIFEST} is damaged; prepare the folder again")
    if manifest.get("version") != VERSION:
        raise UserError(
            f"{folder} has format version {manifest.get('version')}, but this version reads {VERSION}; prepare it again"
        )
    if not _is_whole(manifest):
        raise UserError(f"{folder / MANIFEST} is damaged; prepare the folder again")
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; prepare the folder again")
        if path.stat().st_size != entry["bytes"]:
            raise UserError(f"{path} has {path.stat().st_size} bytes instead of {entry['bytes']}; prepare it again")
    return manifest


def sizes_in(folder: Path) -> list[str]:
    """The sizes of frames, height x width, for which a folder holds a prepared folder each: the folders' names."""
    found = (path.name for path in sorted(folder.iterdir()) if (path / MANIFEST).is_file())
    return [name for name in found if re.fullmatch(r"[0-9]+x[0-9]+", name)]


def read_rows(folder: Path, manifest: dict) -> list[ClipRow]:
    """Reads `clips.jsonl`, after checking its hash and its rows.

    Raises:
      UserError: they are not.
    """
    path = folder / CLIPS
    with open_plain(path) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != manifest["files"][CLIPS]["sha256"]:
        raise UserError(f"{path} was changed after it was made; prepare the folder again")
    try:
        values = [json.loads(line) for line in content.splitlines()]  # of bytes: text would also break at U+2028
        rows = [ClipRow.of(row) for row in values]
        bad = next((number for number, row in enumerate(rows, 1) if not _is_sound(row, manifest["files"])), None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); prepare the folder again") from None
    if bad is not None:
        raise UserError(f"{path} is damaged (line {bad} does not describe a clip); prepare the folder again")
    return rows


def _is_whole(manifest: dict) -> bool:
    """Whether the entries of a manifest that are used exist and have their type; file names have no folder."""
    known: list[Any] = [manifest.get(name) for name in ("files", "size_px", "fps")]
    files, size_px, fps = known
    return (
        type(size_px) is int
        and size_px > 0
        and type(fps) in (int, float)
        and 0 < fps < math.inf
        and _is_size(manifest.get("size"))
        and manifest.get("mode") in get_args(FitMode)
        and isinstance(files, dict)
        and CLIPS in files
        and all(
            Path(name).name == name
            and "\0" not in name
            and isinstance(entry, dict)
            and type(entry.get("bytes")) is int
            and isinstance(entry.get("sha256"), str)
            for name, entry in files.items()
        )
    )


def _is_size(value: Any) -> bool:
    """Whether it is no size at all, or a height and a width."""
    return value is None or (
        isinstance(value, list) and [type(side) for side in value] == [int, int] and min(value) > 0
    )


def _is_sound(row: ClipRow, files: Mapping[str, object]) -> bool:
    """Whether a row describes frames that exist, and has captions."""
    numbers = (row.offset, row.num_frames, *row.cuts)
    return (
        all(isinstance(text, str) for text in (row.id, row.split, row.source, row.file, *row.captions))
        and len(row.captions) > 0
        and row.file in files
        and all(type(number) is int and 0 <= number < 2**62 for number in numbers)
        and row.num_frames > 0
        and list(row.cuts) == sorted({cut for cut in row.cuts if 0 < cut < row.num_frames})
    )
