"""Compares two runs: their logs, value by value, and the weights at their ends."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cdcd_video.engine import checkpoint
from cdcd_video.errors import UserError
from cdcd_video.storage.small_file import Unreadable, open_plain

_OF_THE_MACHINE = ("time_s", "samples_per_s", "idle_share", "memory_gib", "device_memory_gib")
"""Values of a line that depend on the machine."""


@dataclass(frozen=True)
class Difference:
    """The first step of a task at which two runs differ."""

    task: str
    step: int
    values: dict[str, tuple[Any, Any]]
    """Name -> its value in both runs."""


@dataclass(frozen=True)
class Comparison:
    """Two logs side by side."""

    num_steps: dict[str, int]
    """Lines of each task that both have."""
    differences: list[Difference]
    """The first of each task that has any."""
    only: tuple[list[str], list[str]]
    """Lines, and values of lines, that only one of the two has."""

    @property
    def is_same(self) -> bool:
        """Whether all common values are equal, and both have the same steps."""
        return not self.differences and not any(name.startswith("step ") for names in self.only for name in names)


def compare_logs(one: Path, other: Path) -> Comparison:
    """Compares the logs of two run folders; numbers must be equal to the last bit.

    Raises:
      UserError: a folder has no log, or one that cannot be read.
    """
    left, right = read_log(one), read_log(other)
    only: tuple[list[str], list[str]] = ([], [])
    for here, there, names in ((left, right, only[0]), (right, left, only[1])):
        lacking = [key for key in here if key not in there]
        names.extend(f"step {step} of {task}{' (scores)' if scores else ''}" for task, step, scores in lacking)
    num_steps: dict[str, int] = {}
    first: dict[str, Difference] = {}
    for key in (key for key in left if key in right):
        task, step, _ = key
        num_steps[task] = num_steps.get(task, 0) + 1
        a, b = left[key], right[key]
        for mine, theirs, names in ((a, b, only[0]), (b, a, only[1])):
            names.extend(name for name in mine if name not in theirs and name not in names)
        unequal = {name: (a[name], b[name]) for name in a if name in b and a[name] != b[name]}
        if unequal and (task not in first or step < first[task].step):
            first[task] = Difference(task, step, unequal)
    return Comparison(num_steps, list(first.values()), only)


def read_log(run: Path) -> dict[tuple[str, int, bool], dict[str, Any]]:
    """The lines of a run's `log.jsonl`, by task, step, and whether they are scores; values by flat names.

    Raises:
      UserError: it is missing or not a log.
    """
    path = run / "log.jsonl"
    try:
        with open_plain(path, "the run's log") as file:
            entries = [json.loads(line) for line in file]
        keys = [(entry["task"], entry["step"], "evaluation" in entry) for entry in entries]
        if not all(isinstance(task, str) and type(step) is int for task, step, _ in keys):
            raise TypeError("a line is of no task or step")
        return {key: dict(_flat(entry)) for key, entry in zip(keys, entries, strict=True)}
    except Unreadable as error:
        raise UserError(f"{path} cannot be read (it {error.reason}); give the folder of a run.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(
            f"{path} is not the log of a run; give the folder of a run that no process is writing."
        ) from None


def weights(run: Path) -> dict[str, str]:
    """Hashes of all weights of a run: of each task's newest checkpoint, part by part, and of its model's files.

    Raises:
      UserError: a checkpoint is damaged.
    """
    found: dict[str, str] = {}
    home = run / "checkpoints"
    for task in sorted(path.name for path in home.iterdir() if path.is_dir()) if home.is_dir() else []:
        newest = checkpoint.newest(run, task)
        if newest is None:  # stopped before its first checkpoint
            continue
        state = json.loads((newest.folder / "state.json").read_text())
        found |= {f"{task}, step {newest.step}: {part}": sha256 for part, sha256 in state["sha256"].items()}
    for path in sorted((run / "model").rglob("*.safetensors")):
        found[path.relative_to(run).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def unequal_weights(one: Path, other: Path) -> list[str]:
    """Names of weights that differ between two runs, or that only one of them has."""
    left, right = weights(one), weights(other)
    return [name for name in sorted(left.keys() | right.keys()) if left.get(name) != right.get(name)]


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, item in value.items():
        if name or key not in (*_OF_THE_MACHINE, "task", "step"):
            yield from _flat(item, f"{name}/{key}" if name else key)
