"""The time of each part of an evaluation."""

import contextlib
import time
from collections.abc import Iterator


class WorkClock:
    """Adds up the time of each part of the work.

    Attributes:
      seconds: of each part that was begun.
    """

    def __init__(self):
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Adds the time of a block to a part."""
        begin = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - begin
