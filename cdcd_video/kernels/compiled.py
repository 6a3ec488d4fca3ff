"""The C++ sources of this folder as a library: compiled once for this processor, and kept."""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from cdcd_video.errors import UserError
from cdcd_video.storage.durable import flush_folder
from cdcd_video.storage.ownership import check_own
from cdcd_video.storage.small_file import MIB, Unreadable, read_small

SOURCES = tuple(Path(__file__).with_name(name) for name in ("attention.cpp", "modulated.cpp"))
HEADER = Path(__file__).with_name("lanes.h")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fno-exceptions", "-fno-rtti")
COMPILERS = ("g++", "clang++", "c++")
FOLDER_VARIABLE = "CDCD_VIDEO_KERNELS"
"""Environment variable: the folder of the library; `off` disables it."""
_VERSION_S, _BUILD_S = 60.0, 600.0
"""Time limits for printing a compiler's version, and for compiling."""
_TRIAL = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).knows_half"
_DIGEST = hashlib.sha256().digest_size
_MOST_BYTES = 64 * MIB


def call(name: str, fields: ctypes.Structure, kind: torch.dtype, num_parts: int) -> None:
    """Calls a function of the library, with its work split among torch's threads.

    Args:
      fields: its arguments; `begin` and `end` are set here, for each thread's part.
      kind: of the numbers, float32 or bfloat16.
      num_parts: number of independent parts.

    Raises:
      ValueError: there is no library, or it does not support the type.
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
    """Whether there is a library that supports numbers of this type."""
    return kind in (torch.float32, torch.bfloat16) and kernels() is not None and (kind != torch.bfloat16 or _has_half())


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The library, compiled if necessary; None without AVX-512, or, with a warning, if it cannot be compiled."""
    if os.environ.get(FOLDER_VARIABLE) == "off" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return None
    try:
        return ctypes.CDLL(str(_built()))
    # RuntimeError: there is no home folder; ValueError: CXX has an open quote, or a path an invalid character.
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError, UserError) as error:
        lines = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or [type(error).__name__]
        why = next((line for line in lines if "error" in line), lines[0])
        helps = "Set " if isinstance(error, UserError) else f"Install a C++ compiler ({', '.join(COMPILERS)}), or set "
        warnings.warn(
            f"the kernels could not be built ({why}), so training on a CPU is slower. "
            f"{helps}{FOLDER_VARIABLE}=off to train without them and without this warning.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def _has_half() -> bool:
    return bool(kernels().knows_half())


def _built() -> Path:
    """The library's file, compiled if it is missing or damaged. Its name depends on sources, compiler and processor.

    It is executed, so it and its folder must belong to the user, and must not be writable for others.
    """
    compiler = _compiler()
    version = _run([*compiler, "--version"], _VERSION_S)
    texts = (path.read_text(encoding="utf-8") for path in (*SOURCES, HEADER))
    marks = (*texts, *FLAGS, *compiler, version, _processor())
    folder = _folder()
    check_own(folder)
    library = folder / f"kernels-{hashlib.sha256(chr(0).join(marks).encode()).hexdigest()[:16]}.so"
    if not _is_whole(library):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(scratch) / library.name
            _run([*compiler, *FLAGS, *map(str, SOURCES), "-o", str(made)], _BUILD_S)
            _seal(made)
            made.replace(library)  # atomically: another process may be compiling it too
            flush_folder(folder)
    check_own(library)
    return library


def _compiler() -> list[str]:
    """`CXX`, which may include options, or the first compiler that is installed."""
    try:
        given = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise UserError(f"CXX is {os.environ['CXX']!r}: {str(error).lower()}; write it as on a command line") from None
    return given or [next(filter(shutil.which, COMPILERS), COMPILERS[0])]


def _folder() -> Path:
    """The folder of the library; made with access for the user only."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named or Path.home() / ".cache" / "cdcd_video" / "kernels").expanduser()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not named and hasattr(os, "getuid") and folder.stat().st_uid == os.getuid():
        folder.chmod(0o700)  # made by an earlier version
    return folder


def _run(command: list[str], seconds: float) -> str:
    """The output of a command; a compiler that hangs is killed with its children.

    Raises:
      subprocess.SubprocessError: it failed, or took too long.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:  # Windows, where children are no group
                process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return out


def _seal(made: Path) -> None:
    """Checks that a library can be loaded, appends its hash, and flushes it to the disk.

    It is loaded in another process, because a damaged file may crash the process that loads it.

    Raises:
      OSError, RuntimeError: it is missing, or cannot be loaded.
    """
    content = made.read_bytes()
    try:
        _run([sys.executable, "-I", "-S", "-c", _TRIAL, str(made)], _BUILD_S)
    except subprocess.CalledProcessError as error:
        why = (error.stderr or str(error)).strip().splitlines()[-1]
        raise RuntimeError(f"what the compiler made cannot be loaded: {why}") from None
    with made.open("wb") as file:
        file.write(content + hashlib.sha256(content).digest())
        file.flush()
        os.fsync(file.fileno())


def _is_whole(library: Path) -> bool:
    """Whether a library exists and has its hash: a loader may crash on an incomplete one.

    Raises:
      NotOwn: another user may have made it.
    """
    try:
        check_own(library)
        content = read_small(library, "library", limit=_MOST_BYTES)
    except (FileNotFoundError, Unreadable):
        return False
    return content[_DIGEST:] != b"" and content[-_DIGEST:] == hashlib.sha256(content[:-_DIGEST]).digest()


def _processor() -> str:
    """What `-march=native` depends on: different machines may share the folder."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith("flags")), platform.processor())


@functools.cache
def _threads(num: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num)
