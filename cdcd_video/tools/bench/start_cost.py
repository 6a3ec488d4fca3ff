"""`bench start`: processor time of one cold `inference.py` beside that of `import torch`, in fresh processes."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cdcd_video.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
MOST = 1.9
"""Largest acceptable ratio of processor times: a video over the import."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="processes of each (default: 5)")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures both in turns, after one uncounted process of each.

    Returns:
      Processor seconds of every process, and `ratio`: of their medians.

    Raises:
      UserError: `repeats` is below 1, there is no checkout, a process failed, or the system does not count its time.
    """
    script = ROOT / "inference.py"
    if args.repeats < 1:
        raise UserError("--repeats must be at least 1")
    if not script.is_file():
        raise UserError("bench start needs a checkout: inference.py is missing beside the package")
    with tempfile.TemporaryDirectory() as folder:
        frame = ["--frame", str(ROOT / "examples" / "red-circle.png"), "--text", "the red circle moves right"]
        commands = {
            "import torch": [sys.executable, "-c", "import torch"],
            "inference.py": [sys.executable, str(script), *frame, "--out", str(Path(folder, "video.webp"))],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(args.repeats + 1):
            say(f"starting both, {turn} of {args.repeats} ...")
            for name, command in commands.items():
                spent = _cpu_s(command)
                if turn:
                    seconds[name].append(spent)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    ratio = medians["inference.py"] / medians["import torch"]
    return {"repeats": args.repeats, "cpu_s": seconds, "median_cpu_s": medians, "ratio": ratio, "target": MOST}


def table(result: Mapping[str, Any]) -> list[str]:
    """The results as lines to print."""
    lines = [f"CPU time of one cold process, {result['repeats']} of each in turns", ""]
    lines.append(f"{'':<14}{'median':>10}{'minimum':>10}{'maximum':>10}")
    for name, found in result["cpu_s"].items():
        cells = (result["median_cpu_s"][name], min(found), max(found))
        lines.append(f"{name:<14}" + "".join(f"{f'{cell:.2f} s':>10}" for cell in cells))
    verdict = "" if result["ratio"] <= result["target"] else "; above the target"
    return [*lines, "", f"ratio: {result['ratio']:.2f} (target: at most {result['target']}){verdict}"]


def _cpu_s(command: list[str]) -> float:
    """Processor seconds, user and system, of a process and its own children."""
    before = os.times()
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command[:3])} ended with exit code {done.returncode}: {done.stderr[-300:]}")
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    if not spent:
        raise UserError(
            "this system does not tell the processor time of ended processes; use Linux or macOS for bench start"
        )
    return spent
