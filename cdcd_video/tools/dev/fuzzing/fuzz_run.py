"""Runs one target over many inputs and distinguishes rejections from defects."""

import contextlib
import io
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cdcd_video.engine.runtime import seed_for
from cdcd_video.errors import UserError
from cdcd_video.tools.dev.fuzzing import annotation_targets, picture_targets, stored_targets, text_targets
from cdcd_video.tools.dev.fuzzing.target import Target

MOST_S = 10
"""Seconds of the processor: a reader that has not ended by then is stuck, however busy the machine is."""
MOST_LETTERS = 4000
"""A refusal that is longer is not a sentence."""


class Stuck(Exception):
    """A reader took too long over one input."""


@dataclass
class Defect:
    """One way in which a reader failed."""

    what: str
    """The exception, and where it was raised."""
    kept: Path
    """The first input that did it."""
    times: int = 1


@dataclass
class Tally:
    """What became of the inputs of one target."""

    target: str
    num_inputs: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    defects: dict[str, Defect] = field(default_factory=dict)
    """By place and kind, so that one fault counts once."""

    @property
    def line(self) -> str:
        """For people."""
        return (
            f"{self.target}: {self.num_inputs:,} inputs, {self.accepted:,} read, {self.refused:,} rejected with a message,"
            f" {len(self.defects)} defects; {self.seconds:.1f} s of CPU time, slowest {1000 * self.slowest_s:.0f} ms"
        )

    @property
    def facts(self) -> dict[str, Any]:
        """For machines."""
        numbers = {name: getattr(self, name) for name in ("num_inputs", "accepted", "refused", "seconds", "slowest_s")}
        return {"target": self.target, **numbers, "defects": [defect.what for defect in self.defects.values()]}


def all_targets(scratch: Path) -> list[Target]:
    """Every target.

    Args:
      scratch: an empty folder for valid examples.
    """
    places = {name: scratch / name for name in ("words", "pictures", "rows", "stored")}
    for place in places.values():
        place.mkdir()
    return [
        *text_targets.targets(places["words"]),
        *annotation_targets.targets(places["rows"]),
        *picture_targets.targets(places["pictures"]),
        *stored_targets.targets(places["stored"]),
    ]


def fuzz(target: Target, num_inputs: int, seed: int, scratch: Path, out: Path) -> Tally:
    """Feeds a target.

    Args:
      target: what is read.
      num_inputs: how often.
      seed: of the inputs.
      scratch: a folder for them.
      out: where those are kept that crashed the reader; made when one does.

    Returns:
      The counts.
    """
    tally, folder = Tally(target.name), scratch / "input"
    for number in range(num_inputs):
        if number % 1000 == 0:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        target.put(folder, np.random.Generator(np.random.Philox(key=seed_for(seed, target.name, number))))
        began = time.process_time()
        try:
            with _patience(), _silence():
                target.read(folder)
            tally.accepted += 1
        except UserError as error:
            tally.refused += 1
            fault = _fault_of_words(str(error))
            if fault:
                _note(tally, error, fault, folder, out)
        except Exception as error:  # every one is a defect
            _note(tally, error, "", folder, out)
        took_s = time.process_time() - began
        tally.num_inputs += 1
        tally.seconds += took_s
        tally.slowest_s = max(tally.slowest_s, took_s)
    return tally


def _fault_of_words(sentence: str) -> str:
    """Why a refusal is no clear sentence; empty if it is one."""
    if not sentence.strip():
        return "the message is empty"
    if len(sentence) > MOST_LETTERS:
        return "the message is too long"
    if any(ord(letter) < 32 and letter not in "\n\t" for letter in sentence):
        return "the message has control characters"
    try:
        sentence.encode()
    except UnicodeEncodeError:
        return "the message cannot be encoded"
    return ""


def _note(tally: Tally, error: Exception, fault: str, folder: Path, out: Path) -> None:
    steps = traceback.extract_tb(error.__traceback__)
    where = next((step for step in reversed(steps) if _is_ours(step.filename)), steps[-1])
    key = fault + f" {type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
    if key in tally.defects:
        tally.defects[key].times += 1
        return
    kept = out / "inputs" / f"{tally.target.replace(' ', '-')}-{len(tally.defects)}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(folder, kept)
    tally.defects[key] = Defect(f"{key.strip()}: {str(error)[:200]!r}", kept)


def _is_ours(file: str) -> bool:
    """Whether a file is of this project, and not of the fuzzer itself."""
    parts = Path(file).parts
    return ("cdcd_video" in parts or "data_prep" in parts) and "fuzzing" not in parts


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Stuck(f"not done after {MOST_S} s")

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, MOST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What readers warn of is for users, not for thousands of inputs."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
