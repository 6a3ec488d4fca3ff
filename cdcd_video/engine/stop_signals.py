"""Ctrl-C and SIGTERM during training: recorded, so that the step can be finished and saved."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Stop:
    """The signal that asks to stop, if any."""

    received: int | None = None


@contextmanager
def listening() -> Iterator[Stop]:
    """Records the first SIGINT or SIGTERM inside the `with`; a second one has its usual effect."""
    stop = Stop()
    before: dict[int, Any] = {}

    def forget() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        stop.received = number
        forget()

    if threading.current_thread() is threading.main_thread():  # only this thread may set handlers
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, hear)
    try:
        yield stop
    finally:
        forget()
