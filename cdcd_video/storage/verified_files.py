"""Verifies files against recorded hashes. Each process reads a file only once, in blocks."""

import hashlib
import os
from pathlib import Path

from cdcd_video.errors import UserError

_BLOCK = 1 << 20
_known: set[tuple[int, int, int, int, str]] = set()
"""Files that were verified: device, inode, size and time of the file, and the hash."""


def is_known(path: Path, sha256: str) -> bool:
    """Whether this process knows the file to have this hash, and it has not been written since."""
    return _key(path, sha256) in _known


def is_as_written(path: Path, sha256: str) -> bool:
    """Whether a file has a hash (hex), by reading it, unless that is known.

    Raises:
      OSError: it cannot be read.
    """
    if is_known(path, sha256):
        return True
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != sha256:
        return False
    _known.add(_key(path, sha256))
    return True


def require(path: Path, sha256: str, way_out: str) -> None:
    """Refuses a file that does not have its hash.

    Args:
      path, sha256: as for `is_as_written`.
      way_out: what the user can do besides copying it again, the end of the sentence.

    Raises:
      UserError: it has not, or cannot be read.
    """
    try:
        is_right = is_as_written(path, sha256)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {way_out}") from error
    if not is_right:
        raise UserError(
            f"{path} does not match its recorded hash, so it is damaged or was changed; copy it again, or {way_out}"
        )


def _key(path: Path, sha256: str) -> tuple[int, int, int, int, str]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, sha256
