"""Seeds, devices, threads, and the facts about a run in run.json."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import typed_command
from cdcd_video.storage.small_file import MIB, read_small_json

MOST_RUN_JSON_BYTES = 64 * MIB
"""Of `run.json`: some kilobytes for each start of a run."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def seed_for(*parts: str | float) -> int:
    """A stable 63-bit seed: the same parts give the same seed on every machine and in every Python.

    Args:
      parts: what distinguishes one random stream from another, such as a seed, a task's name, a step. `1` is not `"1"`.

    Returns:
      An integer in [0, 2**63), usable by numpy and torch alike.
    """
    digest = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*parts: str | float, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh `torch.Generator` on `device`, seeded by `seed_for(*parts)`."""
    return torch.Generator(device).manual_seed(seed_for(*parts))


def seed_layers(seed: int, device: torch.device) -> None:
    """Seeds the global generators of the CPU and of `device`, for layers that use no other (dropout, other libraries).

    `torch.manual_seed` would do the same, but walks the stack at each call while CUDA is not in use: 1 ms a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):  # it seeds the current one
            torch.cuda.manual_seed(seed)


def device_for(name: str | int | torch.device = "auto") -> torch.device:
    """The device of a name, if this machine has it.

    Args:
      name: "auto" (a GPU when there is one), "cpu", "cuda" or "cuda:1"; or the number of a GPU, as torch takes it.

    Returns:
      The device.

    Raises:
      UserError: it is not the name of a device, or this machine has no such device.
    """
    name = f"cuda:{name}" if isinstance(name, int) else str(name)
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r} is not a device; use auto, cpu, cuda or cuda:1.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device {name!r} is not on this machine ({torch.cuda.device_count()} CUDA devices); use cpu.")
    if device.type == "mps":
        raise UserError(
            f"device {name!r} is not supported: the diffusion needs 64-bit floating point, and Apple's GPUs have none; use cpu."
        )
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r} is not supported; use auto, cpu, cuda or cuda:1.")
    return device


def take_gpu(device: str) -> bool:
    """Gives each process that `torchrun` has started on a machine its own GPU, if the device's name means GPUs.

    Returns:
      Whether this process has a GPU.

    Raises:
      UserError: there are more processes than GPUs, or one GPU is named for all.
    """
    number, is_gpu = os.environ.get("LOCAL_RANK"), device.startswith("cuda")
    if number is None or not (is_gpu or (device == "auto" and torch.cuda.is_available())):
        return is_gpu
    if ":" in device and os.environ.get("WORLD_SIZE") != "1":
        raise UserError(f"device {device!r} names one GPU for all processes; use cuda or auto")
    if int(number) >= torch.cuda.device_count():
        raise UserError(
            f"there are more processes than GPUs on this machine ({torch.cuda.device_count()}); use --nproc-per-node"
            f" {torch.cuda.device_count()}, or device=cpu"
        )
    torch.cuda.set_device(device if ":" in device else int(number))
    return True


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors on a device, those in a record (a dataclass) too, without waiting for the device.

    A copy from ordinary memory to a GPU waits for all earlier work on it; from pinned memory it is queued.
    """
    if isinstance(value, torch.Tensor):
        return value.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: to_device(getattr(value, field.name), device) for field in fields(value)})
    return value


def set_threads(num_threads: int | None) -> None:
    """Sets how many threads one torch operation may use; None leaves the setting as it is."""
    if num_threads is not None:
        torch.set_num_threads(num_threads)


def machine() -> dict[str, Any]:
    """Platform, processor, cores, GPU and versions, for `run.json` and benchmarks."""
    return {
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def git_state() -> dict[str, Any]:
    """Commit of the source tree this package runs from and whether it was edited since; "unknown" outside one."""
    here = Path(__file__).resolve()
    # A package installed inside another repository must not report that repository's commit.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return {"commit": "unknown", "dirty": "unknown"}
    changes = _git(here.parent, "status", "--porcelain", "--untracked-files=no")
    return {
        "commit": _git(here.parent, "rev-parse", "HEAD") or "unknown",
        "dirty": "unknown" if changes is None else bool(changes),
    }


def provenance(**facts: Any) -> dict[str, Any]:
    """What a result came from: the command, commit and machine.

    Args:
      facts: further entries of the machine, such as threads and precision.
    """
    return {"command": typed_command(), **git_state(), "machine": machine() | facts}


def write_run_json(out: Path, command: Sequence[str], **facts: Any) -> Path:
    """Writes `out/run.json`: command, commit, machine and versions; earlier starts of the same run are kept under `earlier`.

    Args:
      out: the run's folder; made when missing.
      command: the command line, as in `sys.argv`.
      facts: further entries, such as the hashes of config, data and codec; must be JSON.

    Returns:
      The path written.

    Raises:
      UserError: the folder cannot be written to, the disk is full, or there is a run.json that cannot be read.
    """
    path = out / "run.json"
    run = {"command": list(command), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **git_state()}
    run |= {"machine": machine(), **facts}
    if os.path.lexists(path):
        before: dict[str, Any] = read_small_json(
            path, "the facts of the run's earlier starts", limit=MOST_RUN_JSON_BYTES
        )
        earlier = before.pop("earlier", [])
        run["earlier"] = [*(earlier if isinstance(earlier, list) else [earlier]), before]
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps(run, indent=2) + "\n")
    return path


def replace_file(path: Path, text: str) -> None:
    """Writes a text file atomically: a reader finds the old file or the new one, also after a crash."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def writing_to(folder: Path, kept: str = "") -> Iterator[None]:
    """Turns an `OSError` while writing into a `UserError`.

    Args:
      folder: for the message.
      kept: one more sentence, on what is still safe.

    Raises:
      UserError: the disk is full, or the folder cannot be written to.
    """
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        way_out = "free some space" if error.errno in _FULL else "choose another --out or change its permissions"
        raise UserError(f"cannot write to {folder}: {reason}; {way_out} and run again. {kept}".rstrip()) from error


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
