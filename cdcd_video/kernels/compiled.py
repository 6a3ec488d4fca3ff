"""`attention.cpp` as a library: built once for this processor by the machine's own C++ compiler, and kept."""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("attention.cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fno-exceptions", "-fno-rtti")
COMPILERS = ("g++", "clang++", "c++")
FOLDER_VARIABLE = "CDCD_VIDEO_KERNELS"
"""Environment variable: where the library is kept; `off` does without it."""
WIDEST = 64
"""Channels of a head that it knows."""


class Strides(ctypes.Structure):
    """How far apart samples, heads and rows of a (B, h, N, d) tensor lie, in numbers."""

    _fields_ = [(name, ctypes.c_int64) for name in ("batch", "head", "row")]


class Attention(ctypes.Structure):
    """`Attention` of attention.cpp, field by field."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "is_key", "out", "top", "total")),
        *((name, ctypes.c_void_p) for name in ("grad", "grad_q", "grad_k", "grad_v")),
        *((f"of_{name}", Strides) for name in ("q", "k", "v", "out", "grad", "grad_q", "grad_k", "grad_v")),
        *((name, ctypes.c_int64) for name in ("num_heads", "num_queries", "num_keys", "width", "first", "last")),
    ]


def run(name: str, q: Tensor, num_keys: int, is_key: Tensor | None, **others: Tensor) -> None:
    """Calls `attention_forward` or `attention_backward`, heads shared out among torch's threads.

    Args:
      name: which.
      q: (B, h, Nq, d) the queries; like all (B, h, N, d) tensors with channels one after another.
      num_keys: Nk.
      is_key: (B, Nk) or None.
      others: the other fields, by name; what the function fills in among them.
    """
    batch, num_heads, num_queries, width = q.shape
    total = batch * num_heads
    tensors = others | {"q": q} | ({} if is_key is None else {"is_key": is_key})
    fields = {key: value.data_ptr() for key, value in tensors.items()}
    fields |= {f"of_{key}": Strides(*value.stride()[:3]) for key, value in tensors.items() if value.ndim == 4}
    fields |= {"num_heads": num_heads, "num_queries": num_queries, "num_keys": num_keys, "width": width}
    call, is_half = getattr(library(), name), q.dtype == torch.bfloat16
    parts = min(torch.get_num_threads(), total)
    bounds = [total * part // parts for part in range(parts + 1)]

    def work(part: int) -> None:
        call(ctypes.byref(Attention(**fields, first=bounds[part], last=bounds[part + 1])), is_half)

    if parts == 1:
        work(0)
    else:
        list(_threads(parts).map(work, range(parts)))


def knows(kind: torch.dtype) -> bool:
    """Whether the library can be had here, and works on numbers of this type."""
    return kind in (torch.float32, torch.bfloat16) and library() is not None and (kind != torch.bfloat16 or _has_half())


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library, built if need be; None where the processor has no AVX-512, or, with a warning, where it can't be built."""
    if os.environ.get(FOLDER_VARIABLE) == "off" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    try:
        return ctypes.CDLL(str(_built()))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        warnings.warn(
            f"attention.cpp could not be built ({said.strip().splitlines()[0]}), so large attention takes twice as long. "
            f"A C++ compiler ({', '.join(COMPILERS)}) would help; {FOLDER_VARIABLE}=off does without and says nothing.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _has_half() -> bool:
    return bool(library().knows_half())


def _built() -> Path:
    """The library's file, made when it is not there yet. Its name tells apart sources, compilers and processors."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, COMPILERS), COMPILERS[0])
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    marks = (SOURCE.read_text(encoding="utf-8"), *FLAGS, compiler, version, _processor())
    name = f"attention-{hashlib.sha256(chr(0).join(marks).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get(FOLDER_VARIABLE) or Path.home() / ".cache" / "cdcd_video" / "kernels").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / name).exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / name
            command = [compiler, *FLAGS, str(SOURCE), "-o", str(made)]
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
