"""The C++ sources of this folder as a library: built once for this processor by the machine's own compiler, and kept."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

SOURCES = tuple(Path(__file__).with_name(name) for name in ("attention.cpp", "modulated.cpp"))
HEADER = Path(__file__).with_name("lanes.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fno-exceptions", "-fno-rtti")
COMPILERS = ("g++", "clang++", "c++")
FOLDER_VARIABLE = "CDCD_VIDEO_KERNELS"
"""Environment variable: where the library is kept; `off` does without it."""


def call(name: str, fields: ctypes.Structure, kind: torch.dtype, num_parts: int) -> None:
    """Calls a function of the library, its work shared out among torch's threads.

    Args:
      name: the function.
      fields: what it takes; its `begin` and `end`, set here, say from where to where it works.
      kind: of the numbers, float32 or bfloat16.
      num_parts: what can be worked on apart.

    Raises:
      ValueError: the library cannot be had here, or does not know the numbers.
    """
    if not knows(kind):
        raise ValueError(f"no compiled kernels for {kind} here")
    function, is_half = getattr(kernels(), name), kind == torch.bfloat16
    threads = max(1, min(torch.get_num_threads(), num_parts))
    bounds = [num_parts * thread // threads for thread in range(threads + 1)]

    def work(thread: int) -> None:
        mine = type(fields).from_buffer_copy(fields)
        mine.begin, mine.end = bounds[thread], bounds[thread + 1]
        function(ctypes.byref(mine), is_half)

    if threads == 1:
        work(0)
    else:
        list(_threads(threads).map(work, range(threads)))


def knows(kind: torch.dtype) -> bool:
    """Whether the library can be had here, and works on numbers of this type."""
    return kind in (torch.float32, torch.bfloat16) and kernels() is not None and (kind != torch.bfloat16 or _has_half())


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The library, built if need be; None where the processor has no AVX-512, or, with a warning, where it can't be built."""
    if os.environ.get(FOLDER_VARIABLE) == "off" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:  # RuntimeError: nobody has a home
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        why = next((line for line in said if "error" in line), said[0])
        warnings.warn(
            f"the kernels could not be built ({why}), so training on a CPU is slower. "
            f"A C++ compiler ({', '.join(COMPILERS)}) would help; {FOLDER_VARIABLE}=off does without and says nothing.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _has_half() -> bool:
    return bool(kernels().knows_half())


def _built() -> Path:
    """The library's file, made when it is not there yet. Its name tells apart sources, compilers and processors."""
    compiler = shlex.split(os.environ.get("CXX", "")) or [next(filter(shutil.which, COMPILERS), COMPILERS[0])]
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True).stdout
    texts = (path.read_text(encoding="utf-8") for path in (*SOURCES, HEADER))
    marks = (*texts, *FLAGS, *compiler, version, _processor())
    name = f"kernels-{hashlib.sha256(chr(0).join(marks).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "cdcd_video" / "kernels").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / name).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / name
            command = [*compiler, *FLAGS, *map(str, SOURCES), "-o", str(made)]
            subprocess.run(command, capture_output=True, text=True, check=True)
            made.replace(folder / name)  # at once, should others be building it too
    return folder / name


def _processor() -> str:
    """What `-march=native` depends on: a folder may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


@functools.cache
def _threads(num: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num)
