"""Reads WebDataset tars: files with the same name up to the first dot form one sample; the rest says what each file
is."""

import contextlib
import dataclasses
import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO

from cdcd_video.data.clips import ClipRejected
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import Unreadable, open_plain
from data_prep.items import Slice
from data_prep.sidecars import MOST_BYTES, Unusable, captions_beside
from data_prep.videos import VIDEO_SUFFIXES

_MOST_HEADER_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 20


@dataclasses.dataclass
class TarClip:
    """One clip of a tar, or a sample without a usable clip.

    Attributes:
      name: its name within the tar, with all that follows the first dot; of a sample without a video what stands before it.
      inside: where the video is; None if it is refused.
      captions: see `sidecars`.
      refusal: why it cannot be used.
    """

    name: str
    inside: Slice | None = None
    captions: tuple[str, ...] = ()
    refusal: str | None = None


@dataclasses.dataclass
class _Sample:
    """Files of one name by what follows its first dot, and those that are there twice."""

    members: dict[str, tarfile.TarInfo] = dataclasses.field(default_factory=dict)
    twice: set[str] = dataclasses.field(default_factory=set)


def clips_in(tar: Path) -> Iterator[TarClip]:
    """The clips of a tar, in the order in which their first files come; nothing is unpacked.

    Every sample gives a clip: one without a video a refused one; of one with several videos (`003.left.mp4`,
    `003.right.mp4`) each
    is a clip, with the captions of its own name (`003.left.txt`) if there are any, else of the sample's (`003.txt`). Names
    that begin with a dot are left out. A tar that is damaged somewhere gives the clips before that place, and a last one,
    named `*`, that says so.
    """
    samples: dict[str, _Sample] = {}
    damage = None
    try:
        with _Tar(open_plain(tar, "tar").detach()) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            try:
                for member in archive:
                    place = PurePath(member.name)
                    if member.isdir() or place.name.startswith("."):
                        continue
                    stem, _, ending = place.name.partition(".")
                    sample = samples.setdefault(str(place.with_name(stem)), _Sample())
                    if sample.members.setdefault(ending.lower(), member) is not member:
                        sample.twice.add(ending.lower())
            except tarfile.TarError as error:
                damage = f"is damaged ({error})"
            for key, sample in samples.items():
                yield from _clips_of(key, sample, file)
    except Unreadable as error:
        damage = error.reason
    except (tarfile.TarError, OSError, EOFError) as error:
        damage = f"is damaged ({getattr(error, 'strerror', None) or error})"
    if damage is not None:
        yield TarClip("*", refusal=f"the tar {damage}; clips after the damage are lost")


class _Tar(io.BufferedReader):
    """A tar with limited header sizes, because names and attributes are read in one piece of the length that they
    claim."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= _MOST_HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return super().read(size)


def _clips_of(key: str, sample: _Sample, file: BinaryIO) -> Iterator[TarClip]:
    videos = [ending for ending in sample.members if _suffix(ending) in VIDEO_SUFFIXES]
    if not videos:
        held = ", ".join(f".{ending}" if ending else "no suffix" for ending in list(sample.members)[:4])
        yield TarClip(key, refusal=f"it has no video; its files are {held}")
    for ending in videos:
        member, place = sample.members[ending], PurePath(key)
        clip = TarClip(f"{key}.{ending}")
        if place.is_absolute() or ".." in place.parts:
            clip.refusal = "its path points outside the tar"
        elif ending in sample.twice:
            clip.refusal = "it is in the tar twice"
        elif not member.isreg() or member.sparse is not None:
            clip.refusal = "it is not a regular file"
        else:
            clip.inside = Slice(member.offset_data, member.size, _suffix(ending))
            try:
                clip.captions = _captions(sample, ending.rpartition(".")[0], file)
            except Unusable as error:
                clip.refusal = str(error)
        yield clip


def _suffix(ending: str) -> str:
    return f".{ending.rpartition('.')[2]}"


def _captions(sample: _Sample, own: str, file: BinaryIO) -> tuple[str, ...]:
    """Of the video's own name, else of the sample's."""

    def read(ending: str) -> bytes | None:
        member = sample.members.get(ending)
        if member is None:
            return None
        if ending in sample.twice:
            raise Unusable(f"its .{ending} is in the tar twice")
        if not member.isreg() or member.sparse is not None or member.size > MOST_BYTES:
            raise Unusable(f"its .{ending} is not a regular file of at most {MOST_BYTES:,} bytes")
        file.seek(member.offset_data)
        return file.read(member.size)

    captions = captions_beside(lambda ending: read(f"{own}.{ending}")) if own else ()
    return captions or captions_beside(read)


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
                        f"a clip cannot be extracted from {archive}: {error.strerror}; set TMPDIR to a folder with enough space"
                    ) from error
        yield path


def _blocks(archive: Path, part: Slice) -> Iterator[bytes]:
    left = part.num_bytes
    try:
        with open_plain(archive, "tar") as source:
            source.seek(part.offset)
            while left:
                block = source.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise ClipRejected(archive, "it is cut off by the end of the tar")
                left -= len(block)
                yield block
    except Unreadable as error:
        raise ClipRejected(archive, f"the tar {error.reason}") from error
    except OSError as error:
        raise ClipRejected(archive, f"the tar cannot be read ({error.strerror})") from error
