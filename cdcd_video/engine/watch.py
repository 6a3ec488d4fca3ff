"""Experiment loggers besides `log.jsonl`: TensorBoard, Weights & Biases, trackio. All get the lines of `log.jsonl`.

Training does not need them: a logger is imported when it is chosen, and one that fails is reported once and disabled.
"""

import importlib
import importlib.util
import json
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from cdcd_video.engine.runtime import replace_file, writing_to
from cdcd_video.errors import UserError, say
from cdcd_video.storage.small_file import read_small_json

PROJECT = "cdcd-video"
"""The project of W&B and trackio, unless WANDB_PROJECT or TRACKIO_PROJECT is set."""
_NOT_CHARTED = ("task", "step")


@runtime_checkable
class Watcher(Protocol):
    """A logger of one task of one run."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Logs the numbers of one line of `log.jsonl`, by names such as `terms/bound`."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """Logs a contact sheet."""
        ...

    def close(self) -> None:
        """Flushes."""
        ...


def chosen(names: Sequence[str] | None) -> tuple[str, ...]:
    """The loggers that the user chose.

    Args:
      names: of `WATCHERS`, or only "none"; None means TensorBoard if it is installed.

    Returns:
      Names of `WATCHERS`, each once.

    Raises:
      UserError: a name that is not known.
    """
    if names is None:
        return ("tensorboard",) if importlib.util.find_spec("tensorboard") else ()
    if list(names) == ["none"]:
        return ()
    unknown = [name for name in names if name not in WATCHERS]
    if unknown:
        raise UserError(f"logger {unknown[0]!r} is unknown; use some of {', '.join(WATCHERS)}, or only `none`.")
    return tuple(dict.fromkeys(names))


def scalars(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of `log.jsonl` by flat names, without strings and nulls.

    Args:
      line: mappings and lists may be nested.

    Returns:
      `{"terms": {"bound": 1.5}, "lr": 0.1}` becomes `{"terms/bound": 1.5, "lr": 0.1}`; entries of lists are numbered.
    """
    return dict(_leaves({name: value for name, value in line.items() if name not in _NOT_CHARTED}))


class Watchers:
    """All loggers of a task; none of them can stop it."""

    def __init__(self, names: Sequence[str], out: Path, task: str, step: int, facts: Mapping[str, Any]):
        """Opens the loggers.

        Args:
          names: of `WATCHERS`.
          step: steps taken so far, where charts continue.
          facts: what to show beside the charts, such as settings.

        Raises:
          UserError: a logger that is not installed or cannot be started.
        """
        self.open: dict[str, Watcher] = {}
        for name in names:
            try:
                self.open[name] = WATCHERS[name](out, task, step, facts)
            except ImportError as error:
                raise UserError(
                    f"logger {name} cannot be loaded ({error}); run pip install {name}, or leave it out of --watch."
                ) from None
            except UserError:
                raise
            except Exception as error:  # any error of another library, such as a missing login
                raise UserError(
                    f"logger {name} cannot be started ({_line(error)}); fix that, or leave it out of --watch."
                ) from error

    def record(self, line: Mapping[str, Any]) -> None:
        """Logs one line of `log.jsonl`."""
        values = scalars(line) if self.open else {}
        self._each(lambda watcher: watcher.record(line["step"], values))

    def picture(self, step: int, path: Path) -> None:
        """Logs a contact sheet."""
        self._each(lambda watcher: watcher.picture(step, path))

    def close(self) -> None:
        """Flushes and closes all loggers."""
        self._each(lambda watcher: watcher.close())
        self.open = {}

    def _each(self, action: Callable[[Watcher], None]) -> None:
        for name, watcher in list(self.open.items()):
            try:
                action(watcher)
            except Exception as error:  # see above: reported, and disabled
                del self.open[name]
                say(
                    "warning",
                    f"{name} failed ({_line(error)}) and is disabled; training continues, and log.jsonl is complete.",
                )


class _TensorBoard:
    """`OUT/tensorboard/TASK`; events of a killed process after its last checkpoint are purged."""

    def __init__(self, out: Path, task: str, step: int, facts: Mapping[str, Any]):
        importlib.import_module("tensorboard")  # for a clearer error than that of the line below
        library = importlib.import_module("torch.utils.tensorboard")
        with writing_to(out):
            folder = out / "tensorboard" / task
            folder.mkdir(parents=True, exist_ok=True)
            self.writer = library.SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        if step == 0:
            self.writer.add_text("facts", "\n".join(f"- {name}: {value}" for name, value in facts.items()), 0)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def picture(self, step: int, path: Path) -> None:
        with Image.open(path) as picture:
            self.writer.add_image("samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _Online(ABC):
    """Common to W&B and trackio."""

    package: str

    def __init__(self, out: Path, task: str, step: int, facts: Mapping[str, Any]):
        self.module = importlib.import_module(self.package)
        self.run = self.module.init(resume="allow", config=dict(facts), **self._named(out, task))

    @abstractmethod
    def _named(self, out: Path, task: str) -> dict[str, Any]:
        """Name and project, as arguments of the package's `init`."""

    def record(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        self.run.log({"samples": self.module.Image(str(path))}, step=step)

    def close(self) -> None:
        self.run.finish()


class _Wandb(_Online):
    """Weights & Biases: a run for each task, in one group; online or offline as WANDB_MODE says."""

    package = "wandb"

    def _named(self, out: Path, task: str) -> dict[str, Any]:
        group = f"{out.resolve().name}-{_token(out)}"
        name, run_id = f"{out.resolve().name}/{task}", f"{group}-{task}"
        return dict(project=_project("WANDB_PROJECT"), group=group, name=name, id=run_id, dir=str(out))


class _Trackio(_Online):
    """trackio: a run for each task, kept on this machine unless trackio is configured otherwise."""

    package = "trackio"

    def _named(self, out: Path, task: str) -> dict[str, Any]:
        name = f"{out.resolve().name}-{_token(out)}-{task}"
        return dict(project=_project("TRACKIO_PROJECT"), name=name, embed=False)


WATCHERS: dict[str, Callable[[Path, str, int, Mapping[str, Any]], Watcher]] = {
    "tensorboard": _TensorBoard,
    "wandb": _Wandb,
    "trackio": _Trackio,
}
"""Name -> how it is opened: the run's folder, the task, steps taken so far, facts."""


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield name, float(value)
        return
    for key, item in items:
        yield from _leaves(item, f"{name}/{key}" if name else str(key))


def _token(out: Path) -> str:
    """Tells this run from others of its name, over all its starts."""
    path = out / "watch.json"
    known = read_small_json(path).get("token") if os.path.lexists(path) else None
    if isinstance(known, str):
        return known
    token = secrets.token_hex(4)
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps({"token": token}) + "\n")
    return token


def _project(variable: str) -> str:
    return os.environ.get(variable, PROJECT)


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
