"""Compares the losses of two checkouts, commits or runs bit for bit, to show that a change of code changed no number.

    python -m cdcd_video.tools.compare_loss HEAD~1 . --config configs/tiny.yaml --steps 20
    python -m cdcd_video.tools.compare_loss runs/one runs/other

A checkout (a folder with train.py) or a commit is trained for some steps of each stage, with every step logged; a run folder is
compared as it is. The output names the first step that differs, with its values.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import add_setting_flag, with_flags
from cdcd_video.errors import UserError

if TYPE_CHECKING:
    from cdcd_video.engine.compare_runs import Comparison

ROOT = Path(__file__).resolve().parents[3]
_MOST_VALUES = 6


def main() -> int:
    parser = OptionParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("one", help="a checkout, a commit of this repository, or a run folder")
    parser.add_argument("other", help="likewise")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "configs" / "tiny.yaml", help="the config (default: configs/tiny.yaml)"
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of each stage (default: 20)")
    parser.add_argument("--stages", nargs="+", default=["clip", "codec", "decoder", "diffusion", "refine"])
    add_setting_flag(parser, "override a config value of both")
    args = parser.parse_args(with_flags(None))

    from cdcd_video.engine.compare_runs import compare_logs, unequal_weights

    with tempfile.TemporaryDirectory(prefix="compare-loss-") as scratch:
        runs = []
        for number, name in enumerate((args.one, args.other)):
            here = Path(scratch) / str(number)
            here.mkdir()
            runs.append(
                _run_of(name, here, args.config.resolve(), _overrides(args.steps, args.stages, args.set), args.stages)
            )
        found = compare_logs(*runs)
        unequal = unequal_weights(*runs)
    sys.stdout.write(_report(found, unequal, (args.one, args.other)))
    return 0 if found.is_same and not unequal else 1


def _overrides(steps: int, stages: Sequence[str], more: Sequence[str]) -> list[str]:
    wanted = {"num_steps": steps, "log_every": 1, "evaluate_every": steps, "checkpoint_every": steps}
    overrides = [f"train.{stage}.{name}={value}" for stage in stages for name, value in wanted.items()]
    return [word for override in (*overrides, *more) for word in ("--set", override)]


def _run_of(name: str, scratch: Path, config: Path, overrides: Sequence[str], stages: Sequence[str]) -> Path:
    """The run folder itself, or that of a training in the checkout or commit that is named."""
    given = Path(name)
    if (given / "log.jsonl").is_file():
        return given
    checkout = given.resolve() if (given / "train.py").is_file() else _unpacked(name, scratch / "checkout")
    out = scratch / "run"
    command = [sys.executable, "train.py", "--config", str(config), "--out", str(out), "--stages", *stages, *overrides]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"training in {name} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return out


def _unpacked(commit: str, folder: Path) -> Path:
    """The files of a commit of this repository, by an index of its own: nothing of the repository changes."""
    environment = {**os.environ, "GIT_INDEX_FILE": str(folder.with_name("index"))}
    for words in (["read-tree", f"{commit}^{{tree}}"], ["checkout-index", "--all", f"--prefix={folder}/"]):
        command = ["git", "-C", str(ROOT), *words]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if commit.startswith("-") or done.returncode != 0:
            raise UserError(
                f"{commit} is not a checkout (a folder with train.py), not a run folder, and not a commit of {ROOT}"
            )
    return folder


def _report(found: "Comparison", unequal: Sequence[str], names: tuple[str, str]) -> str:
    lines = [f"{task}: {number} lines compared" for task, number in found.num_steps.items()]
    for difference in found.differences:
        lines.append(f"{difference.task}: step {difference.step} is the first that differs:")
        pairs = list(difference.values.items())
        lines += [f"  {name}: {here} and {there}" for name, (here, there) in pairs[:_MOST_VALUES]]
        lines += [f"  and {len(pairs) - _MOST_VALUES} more values"] if len(pairs) > _MOST_VALUES else []
    for name, only in zip(names, found.only, strict=True):
        lines += [f"only in {name}: {', '.join(only)}"] if only else []
    lines += [f"not equal: {name}" for name in unequal]
    same = found.is_same and not unequal
    lines.append("same: every loss and every weight, to the last bit" if same else "NOT the same")
    return "\n".join(lines) + "\n"
