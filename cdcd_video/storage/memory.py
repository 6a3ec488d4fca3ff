"""Memory: how much there is, whether something fits, and the error when it runs out. Imports no torch."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cdcd_video.errors import UserError, is_out_of_memory
from cdcd_video.storage.numerals import significant

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def raise_if_out_of_memory(error: BaseException) -> None:
    """Raises `MemoryError` again in readers that treat every other exception as a damaged file."""
    if is_out_of_memory(error):
        raise error


@contextlib.contextmanager
def user_error_when_out(doing: str, way_out: str) -> Iterator[None]:
    """Turns lack of memory inside the `with` into a `UserError`.

    Args:
      doing: what is done, as a beginning of a sentence: "loading the model x".
      way_out: what needs less.

    Raises:
      UserError: memory has run out.
    """
    try:
        yield
    except (MemoryError, OSError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"{doing} ran out of memory; free some memory, or {way_out}") from error


def check_fits(needed: float, doing: str, way_out: str, has: int | None = None) -> None:
    """Refuses what cannot fit into memory, before minutes are spent.

    Args:
      needed: bytes, of what must be in memory at once; the rest of the need is not counted, so much that would fail passes.
      doing: what needs them, as a beginning of a sentence.
      way_out: what needs less.
      has: bytes that there are; None is this machine's memory.

    Raises:
      UserError: there is less.
    """
    has = total_bytes() if has is None else has
    if has is not None and needed > has:
        raise UserError(f"{doing} needs at least {size(needed)} of memory, but this machine has {size(has)}; {way_out}")


def total_bytes() -> int | None:
    """Memory of this machine, or of the container of this process, swap included; None if unknown."""
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(1024 * sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal")))
    except (OSError, ValueError, KeyError, IndexError):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for place in _CGROUPS:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
            found.append(int(Path(place).read_text()))
    return min(found, default=None)


def size(num_bytes: float) -> str:
    """Bytes for people: "1.5 GB"."""
    for unit in ("B", "KB", "MB", "GB", "TB", "PB"):
        if num_bytes < 1000 or unit == "PB":
            break
        num_bytes /= 1000
    return f"{significant(num_bytes, 3)} {unit}"
