"""Checkpoints, safe against crashes: written to a temporary folder, flushed, renamed; read only if every hash agrees.

`OUT/checkpoints/TASK/step-00001234/` holds `model.safetensors`, `ema.safetensors`, `optimizer.safetensors` and
`state.json`.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor

from cdcd_video.engine.runtime import writing_to
from cdcd_video.errors import UserError, say
from cdcd_video.storage.durable import flush_folder
from cdcd_video.storage.small_file import MIB, Unreadable, open_plain, read_small_json
from cdcd_video.storage.tensor_file import read_tensors

FORMAT = 1
"""Increased when older code could not read newer checkpoints."""
_MOST_BYTES = 16 * MIB
"""Of `state.json`."""
_PARTS = ("model", "ema", "optimizer")
_NAME = re.compile(r"step-(\d{8,})")
_WRITING = ".writing-"


class DamagedError(Exception):
    """A checkpoint that is damaged; the message says how."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose hashes have been checked."""

    folder: Path
    step: int
    """Steps taken so far."""
    identity: dict[str, str]
    """Hashes that must be equal in a run that resumes from it."""
    facts: dict[str, Any]
    """What else is needed to resume, such as the seconds spent."""

    def tensors(self, part: Literal["model", "ema", "optimizer"]) -> dict[str, Tensor]:
        """One of the three files, on the CPU.

        Raises:
          UserError: it has no tensors, or values that are not finite, although its hash is right.
        """
        way_out = f"delete {self.folder} to use the one before it, or copy it again"
        return read_tensors(self.folder / f"{part}.safetensors", "checkpoint", way_out)


def home(out: Path, task: str) -> Path:
    """The folder of a task's checkpoints in a run's folder."""
    return out / "checkpoints" / task


def name_of(step: int) -> str:
    """The name of the checkpoint of a step."""
    return f"step-{step:08d}"


def save(
    out: Path,
    task: str,
    step: int,
    parts: Mapping[str, Mapping[str, Tensor]],
    *,
    identity: Mapping[str, str],
    facts: Mapping[str, Any],
    keep: int = 2,
    spare: int | None = None,
) -> Path:
    """Writes a checkpoint and then deletes all but the newest `keep`, and that of the step `spare`.

    Args:
      out: the run's folder; made when missing.
      task: whose checkpoint it is; several tasks may share a run's folder.
      step: steps taken so far.
      parts: the tensors of `model`, `ema` and `optimizer`, by name.
      identity: what must be equal when the run is resumed (hashes of config and codec, seed).
      keep: how many checkpoints stay, at least 1.
      spare: the step of one more that stays, if it is there.

    Returns:
      The checkpoint's folder.

    Raises:
      UserError: the folder cannot be written to, or the disk is full; earlier checkpoints are untouched.
    """
    folder = home(out, task) / name_of(step)
    aside = folder.with_name(f"{_WRITING}{folder.name}")
    earlier = _folders(folder.parent)
    kept = f"The checkpoint {earlier[0]} is safe." if earlier else ""
    with writing_to(folder.parent, kept):
        try:
            shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed here
            aside.mkdir(parents=True)
            hashes = {name: _write(aside / f"{name}.safetensors", _packed(parts[name])) for name in _PARTS}
            state = {"format": FORMAT, "step": step, "identity": dict(identity), "facts": dict(facts)}
            state |= {"sha256": hashes, "torch": torch.__version__}
            state["state_sha256"] = _digest(state)
            _write(aside / "state.json", (json.dumps(state, indent=2) + "\n").encode())
            flush_folder(aside)
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
            flush_folder(folder.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    for old in _folders(folder.parent)[max(1, keep) :]:
        if _step_of(old) != spare:
            shutil.rmtree(old, ignore_errors=True)
    return folder


def newest(out: Path, task: str, *, set_aside: bool = False) -> Checkpoint | None:
    """The newest checkpoint whose hashes agree; warns about newer ones that are damaged.

    Args:
      set_aside: rename damaged ones to `NAME.damaged`, so that they are not counted among those kept.

    Returns:
      The checkpoint; None if the folder has none.

    Raises:
      UserError: there are checkpoints, but all are damaged, or the newest is of another format.
    """
    damaged: dict[Path, DamagedError] = {}
    for folder in _folders(home(out, task)):
        try:
            found = verify(folder)
        except DamagedError as damage:
            damaged[folder] = damage
            continue
        for bad, reason in damaged.items():
            say("warning", f"checkpoint {bad} is damaged ({reason}); using the one before it.")
            if set_aside:
                _set_aside(bad)
        return found
    if damaged:
        raise UserError(
            f"every checkpoint in {home(out, task)} is damaged ({next(iter(damaged.values()))}); delete that folder to"
            " train anew, or copy a good one back."
        )
    return None


def sweep(out: Path, task: str) -> None:
    """Removes unfinished checkpoints of a process that was killed."""
    for half in home(out, task).glob(f"{_WRITING}*"):
        shutil.rmtree(half, ignore_errors=True)


def latest(out: Path, task: str) -> Checkpoint:
    """The newest valid checkpoint of a task.

    Raises:
      UserError: there is none.
    """
    checkpoint = newest(out, task)
    if checkpoint is None:
        raise UserError(f"{out} holds no checkpoint of {task}; train it first, or name the folder of another run.")
    return checkpoint


def verify(folder: Path) -> Checkpoint:
    """Reads `state.json` and compares every hash.

    Raises:
      DamagedError: something is missing, cut short or altered.
      UserError: the checkpoint is of another format.
    """
    state = _state(folder)
    for name in _PARTS:
        _check(folder / f"{name}.safetensors", state["sha256"][name])
    return Checkpoint(folder, state["step"], state["identity"], state["facts"])


def load_weights(out: Path, task: str, which: Literal["ema", "model"] = "ema") -> dict[str, Tensor]:
    """The weights of a task's newest valid checkpoint, for `model.load_state_dict`.

    Args:
      which: "ema", the averaged weights, or "model", the last ones.

    Returns:
      Tensors by name, on the CPU.

    Raises:
      UserError: there is none, all are damaged, or the newest is of another format.
    """
    return latest(out, task).tensors(which)


def best(out: Path, task: str) -> Checkpoint:
    """The checkpoint that the newest one names as the best so far (`TrainSettings.keep_best`); the newest, if it names none.

    Raises:
      UserError: there is none, or the best is damaged or missing.
    """
    found = latest(out, task)
    step = found.facts.get("best", {}).get("step", found.step)
    if step == found.step:
        return found
    folder = home(out, task) / name_of(step)
    try:
        return verify(folder)
    except DamagedError as damage:
        raise UserError(
            f"the best checkpoint {folder} is damaged ({damage}); copy it again, or delete {folder.parent} to train"
            f" {task} anew"
        ) from None


def check_identity(
    checkpoint: Checkpoint, identity: Mapping[str, str], formerly: Mapping[str, Collection[str]]
) -> None:
    """Refuses to resume from a checkpoint of another run.

    Args:
      formerly: by key of `identity`, values that older checkpoints of the same run may have.

    Raises:
      UserError: with every value that differs.
    """
    keys = [*checkpoint.identity, *(key for key in identity if key not in checkpoint.identity)]
    differences = [
        f"{key} was {checkpoint.identity.get(key, 'not given')} and is now {identity.get(key, 'not given')}"
        for key in keys
        if checkpoint.identity.get(key) not in (identity.get(key), *formerly.get(key, ()))
    ]
    if differences:
        raise UserError(
            f"{checkpoint.folder} belongs to another run ({'; '.join(differences)}); choose a new --out, or delete"
            f" {checkpoint.folder.parent} to start again."
        )


def _folders(parent: Path) -> list[Path]:
    """Checkpoint folders, newest first; unfinished and damaged ones have other names."""
    found = [path for path in parent.iterdir() if _NAME.fullmatch(path.name)] if parent.is_dir() else []
    return sorted(found, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    found = _NAME.fullmatch(folder.name)
    assert found is not None, f"{folder} is not the folder of a checkpoint"
    return int(found[1])


def _state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = read_small_json(folder / "state.json", limit=_MOST_BYTES)
    except Unreadable:
        raise DamagedError("state.json is missing or unreadable") from None
    version = state.get("format")
    if version != FORMAT:
        raise UserError(
            f"{folder} has checkpoint format {version}, this version of the code reads format {FORMAT}; use the version"
            f" that wrote it, choose a new --out, or delete {folder.parent}."
        )
    if state.pop("state_sha256", None) != _digest(state) or not _is_whole(state):
        raise DamagedError("state.json has been altered")
    if _step_of(folder) != state["step"]:
        raise DamagedError(f"state.json says step {state['step']}")
    return state


def _is_whole(state: Mapping[str, Any]) -> bool:
    """Whether every value that is read exists and has the right type."""
    hashes, identity, facts = (state.get(name) for name in ("sha256", "identity", "facts"))
    return (
        type(state.get("step")) is int
        and isinstance(hashes, dict)
        and all(isinstance(hashes.get(name), str) for name in _PARTS)
        and isinstance(identity, dict)
        and isinstance(facts, dict)
        and isinstance(facts.get("evaluation"), dict)
        and type(facts.get("seconds")) in (int, float)
    )


def _check(path: Path, expected: str) -> None:
    digest = hashlib.sha256()
    try:
        with open_plain(path) as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except (OSError, Unreadable):
        raise DamagedError(f"{path.name} is missing or unreadable") from None
    if digest.hexdigest() != expected:
        raise DamagedError(f"{path.name} does not have the hash it was saved with")


def _digest(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def _packed(tensors: Mapping[str, Tensor]) -> bytes:
    # Every tensor is copied: safetensors refuses tied weights.
    own = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    return safetensors.torch.save(own)


def _write(path: Path, content: bytes) -> str:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _set_aside(folder: Path) -> None:
    target = folder.with_name(f"{folder.name}.damaged")
    with writing_to(folder.parent):
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
