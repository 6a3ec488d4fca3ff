"""Measures time and memory of one side of a benchmark, in its own process.

A benchmark is a module with a `main` that reads a request (one JSON object on the command line), does the work with
`measure`, and prints one line of JSON; `in_child` starts it. A fresh process is needed for the peak of memory,
and to choose the allocator.

Fresh pages are expensive: Linux clears each page at its first use, and glibc returns large blocks at once, so code with large
temporaries clears the same pages again and again. `keep_pages` makes glibc keep them. Time is reported both ways: the first is
what users see, the second is the cost of the arithmetic.
"""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from cdcd_video.errors import UserError
from cdcd_video.kernels.products import times_transposed
from cdcd_video.tools.upstream.functions import COMMIT, DIFFUSION, Upstream

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

KEEP_PAGES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Environment variables by which glibc keeps memory that it got from the system."""
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def can_keep_pages() -> bool:
    """Whether this process uses glibc, the only allocator that `KEEP_PAGES` applies to."""
    return platform.libc_ver()[0] == "glibc"


def in_child(module: str, request: dict[str, Any], keep_pages: bool = False) -> dict[str, Any]:
    """Runs one side in a fresh process.

    Args:
      module: what to run, as `python -m` takes it.
      request: handed over as JSON; its `threads`, or one, is the number of threads.
      keep_pages: sets `KEEP_PAGES`.

    Returns:
      The JSON that it printed.

    Raises:
      UserError: it failed; its message or traceback is on stderr.
    """
    threads = str(request.get("threads", 1))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    environment |= KEEP_PAGES if keep_pages else {}
    command = [sys.executable, "-m", module, json.dumps(request)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    # The out-of-memory killer sends SIGKILL.
    why = "ran out of memory" if done.returncode == -9 else f"ended with exit code {done.returncode}"
    raise UserError(f"the measurement of {request['side']} {why}; see its message above, or choose a smaller --shape")


def kill_first() -> None:
    """Makes this process the first that the out-of-memory killer ends."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def checkout(folder: Path | None, say: Callable[[str], None]) -> str | None:
    """Checks the checkout of upstream before anything is measured.

    Args:
      folder: named by the user, or None.
      say: receives messages.

    Returns:
      Its commit, as far as it is known; None without a checkout, and then the plain reference is the other side.
    """
    if folder is None:
        say("no --upstream DIR: comparing with the plain reference of this project")
        return None
    try:
        upstream = Upstream(folder)
        warning = upstream.warning(DIFFUSION)
    except UserError as error:
        say(f"{error}; comparing with the plain reference of this project instead")
        return None
    if warning:
        say(f"warning: {warning}")
    return upstream.commit() or ("unknown" if warning else f"{COMMIT}, by its text")


def run_side(measured: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """The `main` of a side: reads the request of `in_child`, sets the number of threads, and prints the result as JSON."""
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request.get("threads", 1))
    kill_first()
    sys.stdout.write(json.dumps(measured(request)) + "\n")
    return 0


def clock_of(device: torch.device) -> str:
    """The time of `measure` that counts: CPU time, on a GPU wall-clock time."""
    return "wall_s" if device.type == "cuda" else "cpu_s"


def measure(
    calls: Sequence[Callable[[], None]], warm_up: int, repeats: int, device: torch.device
) -> list[dict[str, float]]:
    """Median times of several calls, in turns, so that other load on the machine affects all equally.

    Args:
      calls: to be timed.
      warm_up: rounds that are not counted.
      repeats: rounds that are counted.
      device: a GPU is synchronised before the clock stops.

    Returns:
      For each call `cpu_s` (seconds of this process, kernel included), `wall_s`, `system_s` (of `cpu_s`, in the
      kernel), all medians, and their number `n`.
    """
    rounds = [[_once(call, device) for call in calls] for _ in range(warm_up + repeats)][warm_up:]
    return [
        {name: statistics.median(one[name] for one in taken) for name in taken[0]} | {"n": repeats}
        for taken in zip(*rounds, strict=True)
    ]


def peak_over_base(call: Callable[[], None], device: torch.device) -> int:
    """Peak memory of a call above that of the process before it, in bytes; see `base_and_peak`."""
    base, peak = base_and_peak(call, device)
    return peak - base


def base_and_peak(call: Callable[[], None], device: torch.device) -> tuple[int, int]:
    """Memory of the process before a call, and its peak, in bytes.

    On a CPU this is the resident set: Linux keeps a high-water mark, which is reset to the present level first. Where that is
    impossible the mark is read before and after; an earlier, higher mark then hides part of the call, so nothing large should
    have been freed before. On a GPU it is the memory that torch has allocated.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        base = torch.cuda.memory_allocated(device)
        call()
        return base, torch.cuda.max_memory_allocated(device)
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        base = _maximum_resident()
        call()
        return base, _maximum_resident()
    base = _status_bytes("VmRSS")
    call()
    return base, _status_bytes("VmHWM")


def product_rate(dtype: torch.dtype, device: torch.device, side: int = 2048, repeats: int = 5) -> dict[str, Any]:
    """FLOP/s of the product of two square matrices, the best of several repeats: the peak rate of the machine.

    Returns:
      `mm` of `torch.mm`, `best` of the fastest implementation here; each by `cpu` time, over all threads, and by `wall` time.
    """
    first, second = torch.randn(2, side, side, device=device).to(dtype).unbind()
    out = torch.empty_like(first)
    ways = {"mm": lambda: torch.mm(first, second, out=out), "other": lambda: times_transposed(first, second)}
    rates = {}
    for way, call in ways.items():
        times = [_once(call, device) for _ in range(repeats)]
        rates[way] = {name: 2 * side**3 / min(one[f"{name}_s"] for one in times) for name in ("cpu", "wall")}
    best = {name: max(rate[name] for rate in rates.values()) for name in ("cpu", "wall")}
    return {"mm": rates["mm"], "best": best}


def profile(call: Callable[[], None], most: int = 12) -> list[dict[str, Any]]:
    """Profiles a call by operators of torch, the slowest first: self CPU time and number of calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        call()
    rows = sorted(profiler.key_averages(), key=lambda row: -row.self_cpu_time_total)
    total = sum(row.self_cpu_time_total for row in rows)
    return [
        {
            "name": row.key,
            "share": row.self_cpu_time_total / total,
            "calls": row.count,
            "s": row.self_cpu_time_total / 1e6,
        }
        for row in rows[:most]
    ]


def _once(call: Callable[[], None], device: torch.device) -> dict[str, float]:
    _synchronise(device)
    system, cpu, wall = _system_s(), time.process_time(), time.perf_counter()
    call()
    _synchronise(device)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"cpu_s": cpu, "wall_s": wall, "system_s": _system_s() - system}


def _system_s() -> float:
    """Seconds of this process in the kernel; `os.times` counts them too, but in hundredths."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_stime if resource else os.times().system


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _maximum_resident() -> int:
    if resource is None:
        return psutil.Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
