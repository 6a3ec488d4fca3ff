"""WebDataset tars: files of one name, apart from what follows its first dot, are one clip with its sentences."""

import contextlib
import dataclasses
import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO

from cdcd_video.data.clips import ClipRejected
from cdcd_video.errors import UserError
from data_prep.items import Slice
from data_prep.videos import VIDEO_SUFFIXES

_MOST_TEXT_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass
class TarClip:
    """One clip of a tar.

    Attributes:
      name: its name within the tar, with the suffix of the video.
      inside: where the video is; None if it is refused.
      captions: the lines of its .txt, or `caption` (a text) or `captions` (a list) of its .json.
      refusal: why it cannot be used.
    """

    name: str
    inside: Slice | None = None
    captions: list[str] = dataclasses.field(default_factory=list)
    refusal: str | None = None


def clips_in(tar: Path) -> Iterator[TarClip]:
    """The clips of a tar, in the order in which their first files come; nothing is unpacked.

    A tar that is damaged somewhere gives the clips before that place, and a last one, named `*`, that says so.
    """
    samples: dict[str, dict[str, tarfile.TarInfo]] = {}
    damage = None
    try:
        with tarfile.open(tar, "r:") as archive, open(tar, "rb") as file:
            try:
                for member in archive:
                    place = PurePath(member.name)
                    if member.isdir() or place.name.startswith("."):
                        continue
                    stem, _, ending = place.name.partition(".")
                    samples.setdefault(str(place.with_name(stem)), {}).setdefault(ending.lower(), member)
            except tarfile.TarError as error:
                damage = str(error)
            for key, members in samples.items():
                yield from _clips_of(key, members, file)
    except (tarfile.TarError, OSError, EOFError) as error:
        damage = str(getattr(error, "strerror", None) or error)
    if damage is not None:
        yield TarClip("*", refusal=f"the tar is damaged ({damage}); clips after the damage are lost")


def _clips_of(key: str, members: dict[str, tarfile.TarInfo], file: BinaryIO) -> Iterator[TarClip]:
    videos = [ending for ending in members if f".{ending}" in VIDEO_SUFFIXES]
    for ending in videos:
        member = members[ending]
        clip = TarClip(f"{key}.{ending}")
        place = PurePath(key)
        if place.is_absolute() or ".." in place.parts:
            clip.refusal = "its path leaves the tar"
        elif not member.isreg() or member.sparse is not None:
            clip.refusal = "it is not a plain file in the tar"
        else:
            clip.inside = Slice(member.offset_data, member.size, f".{ending}")
            try:
                clip.captions = _captions(members, file)
            except ValueError as error:
                clip.refusal = str(error)
        yield clip


def _captions(members: dict[str, tarfile.TarInfo], file: BinaryIO) -> list[str]:
    """Raises ValueError with a reason."""
    for ending, read in (("txt", str.splitlines), ("json", _captions_of_json)):
        member = members.get(ending)
        if member is None:
            continue
        if not member.isreg() or member.size > _MOST_TEXT_BYTES:
            raise ValueError(f"its .{ending} is no plain file of at most {_MOST_TEXT_BYTES:,} bytes")
        file.seek(member.offset_data)
        try:
            return read(file.read(member.size).decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise ValueError(f"its .{ending} is not UTF-8") from None
    return []


def _captions_of_json(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its .json is damaged") from None
    if isinstance(value, dict):
        captions = value["captions"] if "captions" in value else [value.get("caption")]
        if isinstance(captions, list) and all(isinstance(caption, str) for caption in captions):
            return captions
    raise ValueError("its .json has no caption") from None


@contextlib.contextmanager
def taken_out(archive: Path, part: Slice) -> Iterator[Path]:
    """The video as a file of its own, for as long as it is wanted.

    Raises:
      ClipRejected: if the archive ends before the video does.
      UserError: if there is no room for it.
    """
    with tempfile.TemporaryDirectory(prefix="clip-") as folder:
        path = Path(folder, f"clip{part.suffix}")
        with open(path, "wb", buffering=0) as target:
            for block in _blocks(archive, part):
                try:
                    target.write(block)
                except OSError as error:
                    raise UserError(
                        f"a clip cannot be taken out of {archive}: {error.strerror}; set TMPDIR to a place with room"
                    ) from error
        yield path


def _blocks(archive: Path, part: Slice) -> Iterator[bytes]:
    left = part.num_bytes
    try:
        with open(archive, "rb", buffering=0) as source:
            source.seek(part.offset)
            while left:
                block = source.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise ClipRejected(archive, "the tar ends before it does")
                left -= len(block)
                yield block
    except OSError as error:
        raise ClipRejected(archive, f"the tar cannot be read ({error.strerror})") from error
