"""Times and weighs one side of a benchmark, in a process of its own.

A benchmark is a module with a `main` that reads a request (one JSON object on the command line), does the work with
`measure`, and prints one line of JSON; `in_child` starts it. A fresh process makes the peak of memory mean something,
and only at its start can the allocator be chosen.

Memory in fresh pages is dear: Linux clears each page when it is first touched, and glibc hands large blocks back at
once, so code with large temporaries pays for the same pages again and again. `keep_pages` tells glibc to keep them;
time is reported both ways, because the first is what users see and the second is what the arithmetic costs.
"""

import contextlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from cdcd_video.errors import UserError
from cdcd_video.kernels.products import times_transposed
from cdcd_video.tools.upstream.functions import COMMIT, DIFFUSION, Upstream

KEEP_PAGES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}
"""Environment under which glibc keeps what it once got from the system."""
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def can_keep_pages() -> bool:
    """Whether this process uses glibc, the only allocator that `KEEP_PAGES` speaks to."""
    return platform.libc_ver()[0] == "glibc"


def in_child(module: str, request: dict[str, Any], keep_pages: bool = False) -> dict[str, Any]:
    """Runs one side in a fresh process.

    Args:
      module: what to run, as `python -m` takes it.
      request: handed over as JSON; its `threads`, or one, is the number of threads.
      keep_pages: sets `KEEP_PAGES`.

    Returns:
      What it printed.

    Raises:
      UserError: it failed; its own sentence or traceback is on stderr.
    """
    threads = str(request.get("threads", 1))
    environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    environment |= KEEP_PAGES if keep_pages else {}
    command = [sys.executable, "-m", module, json.dumps(request)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    # A process that the system ends for want of memory dies of SIGKILL.
    why = "ran out of memory" if done.returncode == -9 else f"ended with exit code {done.returncode}"
    raise UserError(f"the measurement of {request['side']} {why}; see above, or choose a smaller --shape.")


def first_to_go() -> None:
    """Where memory runs out, the system ends this process before any other: a measurement is the least of a machine's work."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def checkout(folder: Path | None, say: Callable[[str], None]) -> str | None:
    """Looks at the checkout that the user named, before anything is measured.

    Args:
      folder: the user's, or None.
      say: takes a sentence where there is something to say.

    Returns:
      The checkout's commit, as far as it can be known; None where there is no checkout, and the plain reference serves.
    """
    if folder is None:
        say("no --upstream DIR: comparing with this project's plain reference.")
        return None
    try:
        upstream = Upstream(folder)
        warning = upstream.warning(DIFFUSION)
    except UserError as error:
        say(f"{error} Comparing with this project's plain reference instead.")
        return None
    if warning:
        say(f"warning: {warning}")
    return upstream.commit() or ("unknown" if warning else f"{COMMIT}, by its text")


def clock_of(device: torch.device) -> str:
    """Which time of `measure` counts: the processor's own seconds, on a GPU those of the clock on the wall."""
    return "wall_s" if device.type == "cuda" else "cpu_s"


def measure(
    calls: Sequence[Callable[[], None]], warm_up: int, repeats: int, device: torch.device
) -> list[dict[str, float]]:
    """Median times of some pieces of work, taken in turns so that a busy machine is equally unkind to all of them.

    Args:
      calls: the pieces of work.
      warm_up: rounds that are not counted.
      repeats: rounds that are.
      device: on a GPU the clock is stopped when the work is done, not when it is handed over.

    Returns:
      For each piece `cpu_s` (seconds of this process, kernel included), `wall_s`, `system_s` (of `cpu_s`, in the
      kernel), `page_faults` (pages that had to be fetched or cleared), all medians, and their number `n`.
    """
    rounds = [[_once(call, device) for call in calls] for _ in range(warm_up + repeats)][warm_up:]
    return [
        {name: statistics.median(one[name] for one in taken) for name in taken[0]} | {"n": repeats}
        for taken in zip(*rounds, strict=True)
    ]


def peak_over_base(call: Callable[[], None], device: torch.device) -> int:
    """Bytes that a piece of work needs at its height beyond what the process holds before it; see `base_and_peak`."""
    base, peak = base_and_peak(call, device)
    return peak - base


def base_and_peak(call: Callable[[], None], device: torch.device) -> tuple[int, int]:
    """Bytes that the process holds before a piece of work, and at its height.

    On a CPU these are pages in memory (resident set): Linux keeps a high-water mark, which is first put back to the
    present level. Where that cannot be done the mark is read before and after: then an earlier, higher mark hides part
    of the work, so nothing large should have been freed before. On a GPU they are what torch has handed out.
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
    """FLOP/s of the product of two square matrices, the best of a few: what the machine can do.

    Returns:
      `mm` of `torch.mm`, `best` of the fastest way known here; each `cpu`, by seconds of this process, all threads
      together, and `wall`.
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
    """Where the time of a call goes by torch's operators, the dearest first: each one's own CPU seconds and calls."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        call()
    rows = sorted(seen.key_averages(), key=lambda row: -row.self_cpu_time_total)
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
    usage, cpu, wall = resource.getrusage(resource.RUSAGE_SELF), time.process_time(), time.perf_counter()
    call()
    _synchronise(device)
    wall, cpu, after = time.perf_counter() - wall, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF)
    faults = after.ru_minflt - usage.ru_minflt
    return {"cpu_s": cpu, "wall_s": wall, "system_s": after.ru_stime - usage.ru_stime, "page_faults": faults}


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _maximum_resident() -> int:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status_bytes(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024
