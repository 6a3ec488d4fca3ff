"""Ctrl-C and SIGTERM while a run goes on: noted, so that it can finish its step and save."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any


@dataclass
class Stop:
    """Whether a signal asked us to stop, and which."""

    received: int | None = None


@contextmanager
def listening() -> Iterator[Stop]:
    """Remembers the first SIGINT or SIGTERM inside the `with`; a second one acts as if nobody listened."""
    stop = Stop()
    before: dict[int, Any] = {}

    def forget() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hear(number: int, frame: FrameType | None) -> None:
        stop.received = number
        forget()

    if threading.current_thread() is threading.main_thread():  # Python lets no other thread listen
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, hear)
    try:
        yield stop
    finally:
        forget()
