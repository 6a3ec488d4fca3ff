"""A context manager for the number of threads of a torch operation."""

import contextlib
import threading
from collections.abc import Iterator

import torch

from cdcd_video.config.ranges import check_settings

_CHANGING = threading.Lock()


@contextlib.contextmanager
def threads(num_threads: int | None) -> Iterator[None]:
    """Lets operations of the calling Python thread use `num_threads` threads inside the `with`, and puts back what was.

    Torch keeps the number for each Python thread, and beside it the number that was set last in any of them, from which
    threads that are started later take their own: both are as before afterwards, and the latter meanwhile, too.

    Args:
      num_threads: None leaves the setting as it is.

    Yields:
      Nothing.

    Raises:
      UserError: no processor has so many threads.
    """
    if num_threads is not None:
        check_settings({"threads": num_threads})
    with _CHANGING:  # a thread that was started a moment ago asks for its number only here
        before = torch.get_num_threads()
    if num_threads is None or num_threads == before:
        yield
        return
    try:
        _set_here(num_threads)
        yield
    finally:
        _set_here(before)


def _set_here(num_threads: int) -> None:
    """Sets the number of this Python thread, and none that others begin with."""
    known, changed = threading.Event(), threading.Event()
    first: list[int] = []

    def keep() -> None:
        first.append(torch.get_num_threads())
        known.set()
        changed.wait()
        torch.set_num_threads(first[0])

    with _CHANGING:
        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        known.wait()
        torch.set_num_threads(num_threads)
        changed.set()
        keeper.join()
