"""The path of a video's `.json`: one record per video, never replaced by that of another.

Beside `clip.mp4` lies `clip.json`. Where that is the record of another video, such as `clip.gif`, it is `clip.mp4.json`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cdcd_video.errors import UserError
from cdcd_video.storage.free_name import free_name
from cdcd_video.storage.small_file import MIB, Unreadable, read_small

MOST_BYTES = 96 * MIB
"""Limit of a record's size; a frame of the largest side takes 64 MiB."""


@contextmanager
def held_record(video: Path) -> Iterator[Path]:
    """Holds the place for the record of a video that is about to be written.

    Args:
      video: the file; an earlier record of a video of its name is replaced.

    Raises:
      UserError: both places have something else.
    """
    try:
        with free_name(_places(video), lambda place: place.exists() and _video_in(place) != video.name) as place:
            yield place
    except FileExistsError:
        plain, full = (place.name for place in _places(video))
        raise UserError(
            f"cannot write the .json beside {video}: {plain} and {full} belong to something else; choose another --out"
        ) from None


def record_of(video: Path) -> Path | None:
    """The record of a video that is there; None where there is none.

    One that names another video is taken too, if that one does not lie beside it: a pair that was renamed, or converted.
    """
    there = [(place, _video_in(place)) for place in _places(video) if place.is_file()]
    own = [place for place, named in there if named == video.name]
    others = [place for place, named in there if named is None or not video.with_name(named).exists()]
    return next(iter([*own, *others]), None)


def _places(video: Path) -> tuple[Path, Path]:
    return video.with_suffix(".json"), video.with_name(f"{video.name}.json")


def _video_in(record: Path) -> str | None:
    """The file's name that a record names; None where it is no record."""
    try:
        named = json.loads(read_small(record, limit=MOST_BYTES))["video"]
    except (Unreadable, ValueError, KeyError, TypeError, RecursionError):
        return None
    return named if isinstance(named, str) and named not in ("", ".", "..") and not set(named) & set("/\\\0") else None
