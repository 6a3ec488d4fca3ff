"""Finds the video files of a folder, and checks that paths do not lead out of it."""

import dataclasses
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePath

from cdcd_video.errors import UserError

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv", ".3gp"]
    + [".3g2", ".apng", ".asf", ".f4v", ".ivf", ".m2ts", ".m2v", ".mts", ".vob", ".y4m"]
)
"""Files that count as videos where no table names them."""

DOUBTFUL_SUFFIXES = frozenset(
    [".avif", ".webp", ".264", ".265", ".av1", ".divx", ".dv", ".gxf", ".h264", ".h265", ".hevc", ".mjpeg", ".mjpg"]
    + [".mxf", ".nut", ".obu", ".ogm", ".rm", ".rmvb", ".swf", ".wtv"]
)
"""Files that may be still images, or videos in an unsupported format: used if possible, otherwise refused with a
reason."""


@dataclasses.dataclass(frozen=True)
class Videos:
    """Video files of a folder and its subfolders.

    Attributes:
      root: the folder, links resolved.
      paths: name without suffix -> path relative to the folder. Of files of one name the first that is found counts.
      num_repeated: files left out because of that.
    """

    root: Path
    paths: dict[str, str]
    num_repeated: int

    @classmethod
    def of(cls, folder: Path) -> "Videos":
        """Looks through a folder; links to other folders are not followed.

        Raises:
          UserError: if there is no such folder.
        """
        if not folder.is_dir():
            what = "is a file; name the folder that holds it" if folder.exists() else "does not exist; check the path"
            raise UserError(f"the folder of videos {folder} {what}")
        root = folder.resolve()
        paths: dict[str, str] = {}
        num_repeated = 0
        for name in names_in(root, VIDEO_SUFFIXES):
            known = paths.setdefault(PurePath(name).stem, name)
            num_repeated += known != name
        return cls(root, paths, num_repeated)


def names_in(root: Path, suffixes: Collection[str]) -> Iterator[str]:
    """Files with one of the suffixes, each folder's own first, sorted, as paths relative to the root.

    Names that begin with a dot are left out: macOS puts such beside every file on some disks.
    """
    for place, folders, files in os.walk(root):
        folders.sort()
        for file in sorted(files):
            if PurePath(file).suffix.lower() in suffixes and not file.startswith("."):
                yield PurePath(os.path.relpath(os.path.join(place, file), root)).as_posix()


def within(root: Path, path: str) -> tuple[str, str | None]:
    """The path relative to the folder, and why it is refused, if it is.

    Args:
      root: the folder, links resolved.
      path: from a table, or of a file that was found.
    """
    try:
        resolved = (root / path).resolve()
        if not resolved.is_relative_to(root):  # "..", an absolute path, or a link that leads out
            return path, "its path points outside the folder"
        return Path(os.path.normpath(root / path)).relative_to(root).as_posix(), None
    except (OSError, ValueError, RuntimeError) as error:  # a null character, a name too long, links in a circle
        return path, f"its path cannot be used ({getattr(error, 'strerror', None) or error})"
