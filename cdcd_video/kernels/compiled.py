"""The C++ sources of this folder as a library: built once for this processor by the machine's own compiler, and kept."""

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
"""Environment variable: where the library is kept; `off` does without it."""
_VERSION_S, _BUILD_S = 60.0, 600.0
"""How long a compiler may take to say its version, and to build."""
_TRIAL = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).knows_half"
_DIGEST = hashlib.sha256().digest_size
_MOST_BYTES = 64 * MIB


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
    # RuntimeError: nobody has a home; ValueError: a quote of CXX is open, or a path holds what none may.
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError, UserError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines() or [type(error).__name__]
        why = next((line for line in said if "error" in line), said[0])
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
    """The library's file, made when it is not there yet or damaged. Its name tells apart sources, compilers and processors.

    What is in it is run, so it and its folder must be the user's own, and nobody else's to write.
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
            made.replace(library)  # at once, should others be building it too
            flush_folder(folder)
    check_own(library)
    return library


def _compiler() -> list[str]:
    """`CXX`, which may hold options, or the first compiler that is installed."""
    try:
        given = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise UserError(f"CXX is {os.environ['CXX']!r}: {str(error).lower()}; write it as on a command line") from None
    return given or [next(filter(shutil.which, COMPILERS), COMPILERS[0])]


def _folder() -> Path:
    """Where the library is kept; made for the user alone."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named or Path.home() / ".cache" / "cdcd_video" / "kernels").expanduser()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not named and hasattr(os, "getuid") and folder.stat().st_uid == os.getuid():
        folder.chmod(0o700)  # one from before it was made so
    return folder


def _run(command: list[str], seconds: float) -> str:
    """What a command says; a compiler that hangs is ended with all that it started.

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
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, out, err)
    return out


def _seal(made: Path) -> None:
    """Makes sure that a library can be loaded, writes its hash behind it, where no loader looks, and flushes it to the disk.

    It is tried in another process: what a compiler left half written may end the one that loads it.

    Raises:
      OSError, RuntimeError: it is not there, or cannot be loaded.
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
    """Whether a library is there as it was made: a loader may crash on one that a power cut or a full disk left in part.

    Raises:
      NotOwn: somebody else may have made it.
    """
    try:
        check_own(library)
        content = read_small(library, "library", limit=_MOST_BYTES)
    except (FileNotFoundError, Unreadable):
        return False
    return content[_DIGEST:] != b"" and content[-_DIGEST:] == hashlib.sha256(content[:-_DIGEST]).digest()


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
