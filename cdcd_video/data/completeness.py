"""Detects truncated and joined files, of which FFmpeg would silently read only a part.

Each file has one header; a second one where an element of the container should begin tells of a second file, joined to the
first. Transport and program streams, AVI and WebM are made for that, or read on all the same, and are not looked at here.
"""

import io
import itertools
import os
import struct
from collections.abc import Iterator

_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # GUIDs as stored
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_GIF_TAIL = 64
_MOST_OF_IT = 0.9
_MOST = 1_000_000
"""Limit of the elements that are examined: hours of video, within a second."""


def is_joined(path: str | os.PathLike[str], container: str) -> bool:
    """Whether a file consists of several joined files, of which only the first would be read.

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


def is_cut_short(path: str | os.PathLike[str], container: str) -> bool:
    """Whether the end of a gif or an ASF (wmv) file is missing. Other formats give their duration.

    Args:
      path: the file.
      container: FFmpeg's name for what it is.
    """
    with open(path, "rb") as file:
        if container == "gif":
            return not _gif_ends(file)
        head = file.read(1 << 16) if container == "asf" else b""
    place = head.find(_ASF_FILE_PROPERTIES)
    if not 0 <= place <= len(head) - 104:
        return False
    (size,), (flags,) = struct.unpack_from("<Q", head, place + 40), struct.unpack_from("<I", head, place + 88)
    is_live = flags & 1  # a stream that was recorded does not know its length
    return not is_live and os.path.getsize(path) < _MOST_OF_IT * size


def _gif_ends(file: io.BufferedReader) -> bool:
    """Whether the blocks of a gif (89a, appendix B) lead to its end mark; data after it are ignored."""
    head = file.read(13)
    if len(head) == 13 and head[10] & 0x80:
        file.seek(3 * 2 ** ((head[10] & 7) + 1), os.SEEK_CUR)
    for _ in range(_MOST):
        kind = file.read(1)
        if kind == b";":
            return True
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        elif kind == b",":
            place = file.read(9)
            if len(place) < 9:
                return False
            file.seek((3 * 2 ** ((place[8] & 7) + 1) if place[8] & 0x80 else 0) + 1, os.SEEK_CUR)
        else:  # the end of the file, or what FFmpeg passes over to find the next picture
            file.seek(-min(_GIF_TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
            return file.read().rstrip(b"\0\r\n ").endswith(b";")
        while (length := file.read(1)) not in (b"", b"\0"):
            file.seek(length[0], os.SEEK_CUR)
    return True


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
