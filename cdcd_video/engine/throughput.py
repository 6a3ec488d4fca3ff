"""Throughput of a run: steps per second, the share of time spent waiting for data, memory."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch

_GIB = 2.0**30


class Clock:
    """Splits the time between two readings into steps, waiting for batches, and other work."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        """Starts the first interval.

        Args:
          now: seconds, never falling.
        """
        self.now = now
        self.start()

    def start(self) -> None:
        """Begins an interval."""
        self.began, self.waited_s, self.aside_s, self.num_steps = self.now(), 0.0, 0.0, 0

    def step(self) -> None:
        """One more step has been taken."""
        self.num_steps += 1

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside the `with` a step waits for its batch."""
        began = self.now()
        try:
            yield
        finally:
            self.waited_s += self.now() - began

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Inside the `with` no step is taken: evaluation, pictures, checkpoints."""
        began = self.now()
        try:
            yield
        finally:
            self.aside_s += self.now() - began

    def take(self) -> dict[str, float]:
        """`steps_per_s` and `idle_share` (waiting for batches, of the time of the steps); starts the next interval."""
        stepping_s = max(self.now() - self.began - self.aside_s, 1e-9)
        values = {"steps_per_s": self.num_steps / stepping_s, "idle_share": min(1.0, self.waited_s / stepping_s)}
        self.start()
        return values


class TimedTask:
    """A task that measures how long its batches take; everything else is the task's own."""

    def __init__(self, task: Any, clock: Clock):
        """Wraps a task; the clock gets the time that each batch takes."""
        self._task, self._clock, self.is_reading = task, clock, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def batch(self, step: int) -> Any:
        """The task's batch; `is_reading` stays True if reading it failed, before any weight changed."""
        self.is_reading = True
        with self._clock.waiting():
            batch = self._task.batch(step)
        self.is_reading = False
        return batch


def memory(device: torch.device) -> dict[str, float]:
    """GiB in use by this process, and the peak of the GPU if there is one."""
    used = {"memory_gib": round(psutil.Process().memory_info().rss / _GIB, 3)}
    if device.type == "cuda":
        used["device_memory_gib"] = round(torch.cuda.max_memory_allocated(device) / _GIB, 3)
    return used
