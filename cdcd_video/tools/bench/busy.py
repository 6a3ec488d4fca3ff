"""`bench busy`: sampling time under other load, with the default number of threads and with one, in fresh processes."""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cdcd_video.errors import UserError

SIDE = "cdcd_video.tools.bench.busy_side"
WAYS: dict[str, dict[str, str]] = {"as it is": {}, "one thread": {"OMP_NUM_THREADS": "1"}}
"""Environment variables of each way."""
MOST = 1.5
"""Largest acceptable ratio of wall-clock times: default over one thread."""
# Runs until it is killed or its parent has ended.
_BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100_000))"
_THREADS = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--checkpoint", default="sprites", metavar="NAME_OR_DIR", help="the model (default: sprites)")
    parser.add_argument("--videos", type=int, default=20, metavar="N", help="videos per process (default: 20)")
    parser.add_argument("--busy", type=int, default=4, metavar="N", help="number of busy processes (default: 4)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="processes per setting (default: 3)")


def compare(args: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Measures both settings in turns.

    Returns:
      For each of `WAYS` the seconds of its processes, and `ratio`: of the median wall-clock times of sampling.

    Raises:
      UserError: a number is below 1 (0 for `busy`), or a process failed; its message is on stderr.
    """
    if args.videos < 1 or args.repeats < 1 or args.busy < 0:
        raise UserError("--videos and --repeats must be at least 1, --busy at least 0")
    ways: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with busy(args.busy):
        for turn in range(args.repeats):
            for name in list(WAYS)[:: 1 if turn % 2 == 0 else -1]:
                say(f"sampling {args.videos} videos, {name}, {turn + 1} of {args.repeats} ...")
                ways[name].append(_side({"checkpoint": args.checkpoint, "videos": args.videos}, WAYS[name]))
    medians = {name: statistics.median(one["wall_s"] for one in found) for name, found in ways.items()}
    as_it_is, one_thread = medians.values()
    options = {"checkpoint": args.checkpoint, "videos": args.videos, "busy": args.busy, "repeats": args.repeats}
    return options | {"ways": ways, "median_wall_s": medians, "ratio": as_it_is / one_thread, "asked": MOST}


def table(result: Mapping[str, Any]) -> list[str]:
    """The results as lines to print."""
    beside = f"{result['videos']} videos of {result['checkpoint']} beside {result['busy']} busy processes"
    lines = [f"{beside}, {result['repeats']} fresh processes per setting, in turns", ""]
    lines.append(f"{'':<12}{'wall':>10}{'minimum':>10}{'maximum':>10}{'CPU':>10}{'threads':>10}")
    for name, found in result["ways"].items():
        clock = [one["wall_s"] for one in found]
        cells = [result["median_wall_s"][name], min(clock), max(clock), statistics.median(o["cpu_s"] for o in found)]
        lines.append(f"{name:<12}" + "".join(f"{f'{cell:.2f} s':>10}" for cell in cells) + f"{found[0]['threads']:>10}")
    verdict = "" if result["ratio"] <= result["asked"] else "; above the target"
    return [*lines, "", f"as it is / one thread: {result['ratio']:.2f} (target: at most {result['asked']}){verdict}"]


@contextlib.contextmanager
def busy(number: int) -> Iterator[None]:
    """Runs this number of busy processes inside the `with`."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(number)]
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def _side(request: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_THREADS)}
    command = [sys.executable, "-m", SIDE, json.dumps(request)]
    done = subprocess.run(command, env=environment | settings, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"sampling ended with exit code {done.returncode}; see its message above")
    return json.loads(done.stdout.splitlines()[-1])
