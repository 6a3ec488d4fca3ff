"""Files that were written one after the other into one: where FFmpeg reads the first and drops the rest without a word.

Each file has one header; a second one where an element of the container should begin tells of a second file. Transport and
program streams, AVI and WebM are made for that, or read on all the same, and are not looked at here.
"""

import io
import itertools
import os
import struct
from collections.abc import Iterator

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # its GUID as stored
_MOST = 1_000_000
"""Elements that are looked at: hours of video, and a second of our time."""


def is_joined(path: str | os.PathLike[str], container: str) -> bool:
    """Whether a file holds several, of which only the first would be read.

    Args:
      path: the file.
      container: FFmpeg's name for what it is.
    """
    with open(path, "rb") as file:
        if container.startswith("mov"):
            return _are_several(list(itertools.islice(_boxes(file), _MOST)))
        if container == "asf":
            return list(itertools.islice(_objects(file), _MOST)).count(_ASF_HEADER) > 1
        return container == "flv" and b"FLV" in itertools.islice(_tags(file), _MOST)


def _are_several(boxes: list[bytes]) -> bool:
    """Of one file there is one `ftyp`, before all else (ISO/IEC 14496-12, 4.3); QuickTime's oldest files have none. A second
    `moov` alone is left behind by programs that moved it to the front."""
    first = next((index for index, name in enumerate(boxes) if name in (b"moov", b"mdat")), len(boxes))
    return b"ftyp" in boxes[first:] or (b"ftyp" not in boxes and min(boxes.count(b"moov"), boxes.count(b"mdat")) > 1)


def _boxes(file: io.BufferedReader) -> Iterator[bytes]:
    """Names of the boxes of the outermost level."""
    end, place = os.fstat(file.fileno()).st_size, 0
    while place + 8 <= end:
        file.seek(place)
        head = file.read(16)
        (size,), name = struct.unpack(">I", head[:4]), head[4:8]
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        yield name
        if size < 8:  # to the end of the file, or no box at all
            return
        place += size


def _objects(file: io.BufferedReader) -> Iterator[bytes]:
    """GUIDs of the objects of the outermost level (Advanced Systems Format, 2.1)."""
    end, place = os.fstat(file.fileno()).st_size, 0
    while place + 24 <= end:
        file.seek(place)
        name, size = struct.unpack("<16sQ", file.read(24))
        yield name
        if size < 24:
            return
        place += size


def _tags(file: io.BufferedReader) -> Iterator[bytes]:
    """The first three bytes of what follows the header (Video File Format, annex E): tags."""
    end = os.fstat(file.fileno()).st_size
    head = file.read(9)
    place = struct.unpack(">I", head[5:9])[0] if len(head) == 9 else end
    while place + 15 <= end:
        file.seek(place + 4)  # behind the size of the tag before
        head = file.read(11)
        yield head[:3]
        place += 4 + 11 + int.from_bytes(head[1:4], "big")
