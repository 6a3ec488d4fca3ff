"""Logging of training: `log.jsonl`, and a progress bar or occasional lines on the console."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from tqdm import tqdm

from cdcd_video.engine.runtime import replace_file, writing_to
from cdcd_video.errors import say
from cdcd_video.storage.numerals import significant
from cdcd_video.storage.small_file import append_plain, open_plain

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

_QUIET_S = 10.0


class NotFiniteError(Exception):
    """A value that is not a finite number."""

    def __init__(self, step: int, name: str, value: float):
        """For a value of a step, by its name."""
        super().__init__(f"{name} is {value} at step {step}")


class Journal:
    """`log.jsonl` of a run: one JSON object per line, appended; several tasks may share it, one after another."""

    def __init__(self, path: Path, task: str):
        """The file is created by the first line."""
        self.path = path
        self.task = task

    def rewind(self, step: int) -> None:
        """Drops this task's lines beyond `step`, and any incomplete line of a killed process.

        Raises:
          UserError: the file is not a regular file, or cannot be read or written.
        """
        if not os.path.lexists(self.path):
            return
        with writing_to(self.path.parent), self._held():
            with open_plain(self.path, "the run's log") as file:
                lines = file.read().decode("utf-8", errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if self._is_kept(line, step)]
            if kept != lines:
                replace_file(self.path, "".join(kept))

    def write(self, step: int, seconds: float, **values: Any) -> dict[str, Any]:
        """Appends one line; numbers that are not finite become null, so that it is valid JSON.

        Returns:
          The line as it was written.
        """
        line = _plain({"task": self.task, "step": step, "time_s": round(seconds, 3), **values})
        with writing_to(self.path.parent), self._held() as file:
            file.write(json.dumps(line).encode() + b"\n")
        return line

    @contextmanager
    def _held(self) -> Iterator[BinaryIO]:
        """The log, open for appending, while no other process writes it: that of another stage may, or drop its own lines."""
        while True:
            with append_plain(self.path, "the run's log") as file:
                if fcntl is not None:
                    with suppress(OSError):  # a file system without locks
                        fcntl.flock(file, fcntl.LOCK_EX)
                    if not _is_at(self.path, file):  # replaced while this process waited
                        continue
                yield file
                return

    def _is_kept(self, line: str, step: int) -> bool:
        try:
            entry = json.loads(line)
            return line.endswith("\n") and (entry["task"] != self.task or entry["step"] <= step)
        except (ValueError, KeyError, TypeError, RecursionError):
            return False


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


class Console:
    """Progress on stderr: a bar on a terminal, otherwise a line every few seconds."""

    def __init__(self, task: str, num_steps: int, start: int):
        """Shows nothing before the first step."""
        self.task = task
        self.num_steps = num_steps
        self.is_live = sys.stderr.isatty()
        self.bar = tqdm(
            total=num_steps, initial=start, desc=task, unit="step", dynamic_ncols=True, disable=not self.is_live
        )
        self.spoke = time.monotonic()

    def advance(self) -> None:
        """One more step has been taken."""
        self.bar.update()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        """Shows the latest averages, beside the bar or as a line of their own."""
        text = "  ".join(f"{name} {significant(value, 4)}" for name, value in values.items())
        self.bar.set_postfix_str(text, refresh=False)
        if not self.is_live and (time.monotonic() - self.spoke > _QUIET_S or step == self.num_steps):
            self.say(f"step {step}/{self.num_steps}  {text}")
            self.spoke = time.monotonic()

    def say(self, sentence: str) -> None:
        """One sentence, above the bar."""
        say(self.task, sentence)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        self.bar.close()


class Averages:
    """Means of the values of the steps since the last reading; tensors stay on their device until then."""

    def __init__(self):
        """Empty."""
        self.waiting: list[tuple[int, str, Tensor]] = []
        self.sums: dict[str, list[float]] = {}
        self.counts: dict[str, list[float]] = {}

    def add(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Adds the values of one step, without waiting for the device.

        Args:
          step: for the message about a value that is not finite.
          values: scalars, or sums and counts by group, (2, G).
        """
        self.waiting.extend((step, name, value.detach()) for name, value in values.items())

    def settle(self) -> None:
        """Reads all values that were added, in one transfer.

        Raises:
          NotFiniteError: at the first value that is not finite.
        """
        if not self.waiting:
            return
        device = self.waiting[0][2].device
        numbers = iter(torch.cat([value.float().to(device).reshape(-1) for _, _, value in self.waiting]).tolist())
        for step, name, value in self.waiting:
            these = [next(numbers) for _ in range(value.numel())]
            for number in these:
                if not math.isfinite(number):
                    raise NotFiniteError(step, name, number)
            sums, counts = (these[: len(these) // 2], these[len(these) // 2 :]) if value.ndim else (these, [1.0])
            self.sums[name] = _added(self.sums.get(name), sums)
            self.counts[name] = _added(self.counts.get(name), counts)
        self.waiting.clear()

    def take(self) -> dict[str, float | list[float | None] | None]:
        """The means, for groups a list with None where a group is empty; starts the next interval."""
        self.settle()
        means: dict[str, float | list[float | None] | None] = {}
        for name, sums in self.sums.items():
            by_group = [total / count if count else None for total, count in zip(sums, self.counts[name], strict=True)]
            means[name] = by_group if len(by_group) > 1 else by_group[0]
        self.sums, self.counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """The sums so far, as JSON, so that a resumed run logs what an uninterrupted one would."""
        self.settle()
        return {"sums": self.sums, "counts": self.counts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


def _added(before: list[float] | None, now: list[float]) -> list[float]:
    return now if before is None else [one + other for one, other in zip(before, now, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
