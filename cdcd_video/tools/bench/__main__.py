"""Benchmarks this project against upstream CDCD on this machine.

Each side runs in processes of its own. With `--upstream DIR` the other side is CDCD itself, from your own checkout;
without, it is the plain reference implementation of this project.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cdcd_video.config.option_parser import OptionParser
from cdcd_video.config.setting_words import with_flags
from cdcd_video.errors import UserError, exit_code
from cdcd_video.tools.bench import (
    attention_cost,
    busy,
    config_cost,
    data_cost,
    loss_cost,
    recipe_cost,
    sampling_cost,
    start_cost,
    train_cost,
)

WORKS = {
    "loss": loss_cost,
    "train": train_cost,
    "draw": sampling_cost,
    "data": data_cost,
    "config": config_cost,
    "attention": attention_cost,
    "busy": busy,
    "start": start_cost,
    "recipe": recipe_cost,
}
"""A work has `add_arguments(parser)`, `compare(args, say) -> dict` and `table(dict) -> lines`."""


def main(arguments: Sequence[str] | None = None, prog: str = "python -m cdcd_video.tools.bench") -> int:
    """The command.

    Args:
      arguments: the words of the command line; None: those of this process.
      prog: how the command is called.
    """
    parser = OptionParser(prog=prog, description=__doc__)
    chosen = parser.add_subparsers(dest="work", metavar="WORK", required=True)
    for name, work in WORKS.items():
        options = chosen.add_parser(name, help=work.__doc__, description=work.__doc__)
        options.add_argument("--upstream", type=Path, metavar="DIR", help="a checkout of L-YeZhu/CDCD to compare with")
        options.add_argument("--json", type=Path, metavar="FILE", help="write all results to this file")
        work.add_arguments(options)
    args = parser.parse_args(with_flags(arguments))
    if args.json and not args.json.parent.is_dir():
        raise UserError(
            f"--json is {args.json}, but there is no folder {args.json.parent}; create it or choose another"
        )

    result = conditions() | WORKS[args.work].compare(args, _say)
    result["machine"]["threads"] = result.get("threads", getattr(args, "threads", 1))
    print("\n".join(WORKS[args.work].table(result)))
    if args.json:
        from cdcd_video.engine.runtime import replace_file, writing_to

        with writing_to(args.json.parent):
            replace_file(args.json, json.dumps(result, indent=2) + "\n")
    return 0


def conditions() -> dict[str, Any]:
    """Machine, load, versions and commit of a measurement."""
    import numpy
    import psutil

    import cdcd_video
    from cdcd_video.engine.runtime import git_state, machine

    facts = machine() | {"threads": 1, "load_average": psutil.getloadavg()}
    versions = {"cdcd_video": cdcd_video.__version__, "numpy": numpy.__version__}
    versions |= {name: facts.pop(name) for name in ("python", "torch")}
    return {"machine": facts, "versions": versions, **git_state(), "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z")}


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
