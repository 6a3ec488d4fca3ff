"""Finds files by name, plain, as .gz or in a .zip, and reads them without extracting anything to disk."""

import dataclasses
import gzip
import hashlib
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import open_plain

MOST_BYTES = 256 * 2**20
"""A larger file is refused after decompression; the largest published annotation file has 16 MB."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclasses.dataclass(frozen=True)
class Packed:
    """A file, or a member of a zip archive.

    Attributes:
      path: the file on disk.
      member: its name within, if the file is a zip archive.
    """

    path: Path
    member: str | None = None

    @property
    def name(self) -> str:
        """Its own name, whatever it is packed in."""
        return re.sub(r"\.gz$", "", PurePosixPath(self.member or self.path.name).name, flags=re.IGNORECASE)

    def __str__(self) -> str:
        return str(self.path) if self.member is None else f"{self.member} in {self.path}"

    def read(self) -> bytes:
        """The unpacked content.

        Raises:
          UserError: if it is missing, damaged, encrypted, or unpacks to more than `MOST_BYTES`.
        """
        try:
            with open_plain(self.path) as plain:
                if self.member is not None:
                    content = self._from_zip(plain, self.member)
                elif self.path.suffix.lower() == ".gz":
                    content = gzip.GzipFile(fileobj=plain).read(MOST_BYTES + 1)
                else:
                    content = plain.read(MOST_BYTES + 1)
        except OSError as error:  # gzip's own complaints are among them
            raise UserError(f"{self} cannot be read ({error.strerror or error}); get another copy") from None
        except _DAMAGE as error:
            raise UserError(f"{self} is damaged ({error}); get another copy") from None
        if len(content) > MOST_BYTES:
            raise self._too_large()
        return content

    def sha256(self) -> str:
        """Of the unpacked content."""
        return hashlib.sha256(self.read()).hexdigest()

    def _from_zip(self, file: BinaryIO, member: str) -> bytes:
        with zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(member)
            if entry.file_size > MOST_BYTES:
                raise self._too_large()
            if entry.flag_bits & 1:
                raise UserError(f"{self} is encrypted; extract it and give the folder")
            with archive.open(entry) as content:
                return content.read(MOST_BYTES + 1)  # the size in the header may be a lie

    def _too_large(self) -> UserError:
        return UserError(
            f"{self} decompresses to more than {MOST_BYTES:,} bytes, far more than the published file; get another copy"
        )


def find(places: Sequence[Path], names: Collection[str]) -> dict[str, Packed]:
    """Files of known names in folders and below them, or in zip archives; those in the folders are looked into.

    Args:
      places: folders and .zip files.
      names: what to look for; upper and lower case are the same, and so is a further .gz.

    Returns:
      What was found, by the names asked for. A plain file goes before a packed one of the same content.

    Raises:
      UserError: if two files of one name differ, an archive is damaged, or has members that point outside.
    """
    wanted = {name.lower(): name for name in names}
    found: dict[str, list[Packed]] = {}
    for path in [path for place in places for path in _files(place)]:
        candidates = _members(path, wanted) if path.suffix.lower() == ".zip" else [Packed(path)]
        for candidate in candidates:
            if candidate.name.lower() in wanted:
                found.setdefault(wanted[candidate.name.lower()], []).append(candidate)
    return {name: _one_of(name, sorted(copies, key=_how_packed)) for name, copies in found.items()}


def _files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(Path(folder, name) for folder, _, names in os.walk(place) for name in names)


def _members(path: Path, wanted: Collection[str]) -> list[Packed]:
    try:
        with open_plain(path) as file, zipfile.ZipFile(file) as archive:
            members = archive.namelist()
    except (OSError, *_DAMAGE) as error:
        raise UserError(
            f"{path} is not a zip archive, or is damaged ({error}); get another copy or remove it"
        ) from None
    packed = [Packed(path, member) for member in members]
    if any(one.name.lower() in wanted for one in packed):
        for member in members:
            parts = re.split(r"[/\\]", member)
            if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", member):
                raise UserError(f"{path} contains {member!r}, which points outside the archive; get another copy")
    return packed


def _how_packed(one: Packed) -> tuple[bool, bool, str]:
    return one.member is not None, one.path.suffix.lower() == ".gz", str(one)


def _one_of(name: str, copies: list[Packed]) -> Packed:
    first, *others = copies
    for other in others:
        if other.read() != first.read():
            raise UserError(f"there are two different files {name}: {first} and {other}; give only one of them")
    return first
