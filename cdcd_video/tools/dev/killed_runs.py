"""Kills a training run repeatedly with SIGKILL, and checks that it ends with the weights of an uninterrupted run.

    python -m cdcd_video.tools.kill_resume --config configs/tiny.yaml --kills 20

The first run is uninterrupted. The second is killed at seeded moments spread over the whole run; every third kill happens while a
checkpoint is written. After the last kill it finishes. All weights, optimiser states, logged losses and pictures of the two must
then be equal bit for bit.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import add_setting_flag, with_flags
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock

ROOT = Path(__file__).resolve().parents[3]
WRITING = ".writing-"
"""Checkpoints that are being written begin so, see `engine.checkpoint`."""
_PATIENCE_S = 3600.0


@runtime_checkable
class Running(Protocol):
    """A training process, such as a `subprocess.Popen`."""

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def kill(self) -> None:
        """Sends SIGKILL."""
        ...

    def wait(self) -> int:
        """Waits for its end; the exit code."""
        ...


@dataclass(frozen=True)
class Kill:
    """Where a training is struck."""

    after_lines: int
    """Not before `log.jsonl` has so many lines."""
    delay_s: float
    """So long after that, or after a checkpoint has begun to be written."""
    is_in_checkpoint: bool
    """Whether to wait for a checkpoint that is being written."""


@dataclass(frozen=True)
class Struck:
    """What a kill met."""

    kill: Kill
    lines: int
    """Lines of the log by then."""
    half_written: int
    """Checkpoints that were being written: their folders are still there."""


def planned(num_kills: int, num_lines: int, seconds: float, seed: int) -> list[Kill]:
    """Kills spread over a run.

    Args:
      num_kills: how many.
      num_lines: lines that the log of an uninterrupted run has.
      seconds: that such a run takes, from its first to its last line.
      seed: of the moments.

    Returns:
      The kills, in order; a delay is anywhere within the time of two lines, or of a few milliseconds in a checkpoint.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    at = np.sort(rng.integers(0, num_lines, size=num_kills))
    gap_s = 2 * seconds / max(1, num_lines)
    kinds = [number % 3 == 2 for number in range(num_kills)]
    delays = [rng.random() * (0.004 if in_checkpoint else gap_s) for in_checkpoint in kinds]
    return [Kill(int(line), float(delay), kind) for line, delay, kind in zip(at, delays, kinds, strict=True)]


def torment(start: Callable[[], Running], out: Path, kills: Sequence[Kill]) -> Iterator[Struck]:
    """Starts a training, kills it, starts it again, and at last lets it finish.

    Args:
      start: starts, or takes up, the training of `out`.
      out: its run folder.
      kills: where.

    Yields:
      What each kill met; one that came too late, because the training had ended, is left out.

    Raises:
      UserError: the training ended by itself, with an exit code that is not 0.
    """
    for kill in kills:
        left = _writing(out)  # by the kill before; the training sweeps them out when it takes up
        process = start()
        if _waits_for(process, lambda kill=kill: num_lines(out) >= kill.after_lines) and (
            not kill.is_in_checkpoint or _waits_for(process, lambda left=left: bool(_writing(out) - left))
        ):
            time.sleep(kill.delay_s)
        is_running = process.poll() is None
        process.kill()
        code = process.wait()
        if is_running:
            yield Struck(kill, num_lines(out), len(_writing(out) - left))
        elif code != 0:
            raise UserError(f"the training in {out} ended with exit code {code}; see its messages above")
    code = start().wait()
    if code != 0:
        raise UserError(f"the training in {out} could not be resumed (exit code {code}); see its messages above")


def differences(whole: Path, killed: Path) -> list[str]:
    """All in which two runs differ, by name: losses, weights, pictures."""
    from cdcd_video.engine.compare_runs import compare_logs, unequal_weights

    found = compare_logs(whole, killed)
    named = [f"{parting.task} at step {parting.step}: {', '.join(parting.values)}" for parting in found.differences]
    named += [
        f"only in {run}: {name}" for run, names in zip((whole, killed), found.only, strict=True) for name in names
    ]
    named += unequal_weights(whole, killed)
    pictures = [{path.name: path.read_bytes() for path in (run / "samples").glob("*.png")} for run in (whole, killed)]
    names = sorted(pictures[0].keys() | pictures[1].keys())
    return named + [f"samples/{name}" for name in names if pictures[0].get(name) != pictures[1].get(name)]


def num_lines(out: Path) -> int:
    """Whole lines of a run's log."""
    try:
        return (out / "log.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _writing(out: Path) -> set[tuple[str, int]]:
    """Checkpoints that are being written, or were left so; the time tells one from a later one of the same name."""
    found = set()
    for path in (out / "checkpoints").glob(f"*/{WRITING}*"):
        with contextlib.suppress(FileNotFoundError):  # whole by now
            found.add((str(path), path.stat().st_mtime_ns))
    return found


def _waits_for(process: Running, has_come: Callable[[], bool]) -> bool:
    """False where the process ended first."""
    patience = time.monotonic() + _PATIENCE_S
    while process.poll() is None:
        if has_come():
            return True
        if time.monotonic() > patience:
            process.kill()
            raise UserError(f"the run made no progress for {_PATIENCE_S:.0f} seconds; use a smaller config")
        time.sleep(0.0005)
    return False


def main() -> int:
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config", type=Path, default=ROOT / "configs" / "tiny.yaml", help="the config (default: configs/tiny.yaml)"
    )
    add_setting_flag(parser, "override a config value of both runs")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--out", type=Path, help="folder of both runs (default: a temporary one)")
    args = parser.parse_args(with_flags(None))
    if args.kills < 1 or args.seed < 0:
        raise UserError("--kills must be at least 1, and --seed at least 0")
    with tempfile.TemporaryDirectory(prefix="kill-resume-") as scratch, folder_lock(args.out or scratch):
        return _show(args, args.out or Path(scratch))


def _show(args: argparse.Namespace, folder: Path) -> int:
    whole, killed = folder / "whole", folder / "killed"
    if whole.exists() or killed.exists():
        raise UserError(f"{folder} has earlier runs; name another --out")
    folder.mkdir(parents=True, exist_ok=True)
    dials = [word for dial in args.set for word in ("--set", dial)]

    def start(out: Path) -> subprocess.Popen:
        command = [sys.executable, "train.py", "--config", str(args.config.resolve()), "--out", str(out.resolve())]
        with (folder / "said.txt").open("ab") as said:
            return subprocess.Popen([*command, *dials], cwd=ROOT, stdout=said, stderr=said)

    process, began = start(whole), None
    while process.poll() is None:
        began = began or (time.monotonic() if num_lines(whole) else None)
        time.sleep(0.01)
    if process.returncode != 0:
        raise UserError(f"the first training failed: {(folder / 'said.txt').read_text().strip().splitlines()[-1]}")
    seconds = time.monotonic() - (began or time.monotonic())
    total = num_lines(whole)
    sys.stdout.write(f"uninterrupted: {total} lines of log, {seconds:.1f} s from the first line to the end\n")

    struck = []
    for found in torment(lambda: start(killed), killed, planned(args.kills, total, seconds, args.seed)):
        struck.append(found)
        aim = "while a checkpoint was written" if found.kill.is_in_checkpoint else "at a random moment"
        torn = f", {found.half_written} checkpoint incomplete" if found.half_written else ""
        sys.stdout.write(f"kill {len(struck)}: {aim}, after line {found.lines} of {total}{torn}\n")
        sys.stdout.flush()
    unequal = differences(whole, killed)
    sys.stdout.write("".join(f"not equal: {name}\n" for name in unequal))
    halves = sum(bool(found.half_written) for found in struck)
    verdict = (
        "NOT the same" if unequal else "same: every weight, optimiser state, logged loss and picture, to the last bit"
    )
    sys.stdout.write(f"{len(struck)} kills, {halves} of them left a checkpoint incomplete; {verdict}\n")
    return 1 if unequal else 0
