"""Errors for users: one sentence and exit code 2 instead of a traceback."""

import contextlib
import errno
import importlib.util
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import Any

_MOST_LETTERS = 3000
"""Limit of a message's length: the content of a broken file is not repeated as a whole."""

_NO_MEMORY = (
    *("can't allocate memory", "not enough memory", "cannot allocate memory", "out of memory", "bad_alloc"),
    *("unable to allocate", "failed to allocate"),
    "failed to map segment from shared object",  # a library that finds no room, as under `ulimit -v`
)
"""Messages of allocators that raise a plain RuntimeError, in lower case."""
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
"""Errors that only writing can cause."""
_TOO_LARGE = ("storage size calculation overflowed", "numel: integer multiplication overflow", "invalid buffer size")
"""Messages of torch when the number of bytes overflows."""
EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("torchmetrics", "torch_fidelity", "matplotlib"), ("eval",)),
        "cv2": ("eval", "data"),
        "scenedetect": ("data",),
        "jinja2": ("eval", "rate"),
        **dict.fromkeys(("fastapi", "uvicorn"), ("rate", "studio")),
        "gradio": ("studio",),
        "vector_quantize_pytorch": ("vq",),
        **dict.fromkeys(("tensorboard", "wandb", "trackio"), ("watch",)),
        "umap": ("umap",),
        "datatrove": ("cluster",),
    }
)
"""Modules that sampling and training do not need, and the extras of pyproject.toml that install them."""


def say(who: str, sentence: str) -> None:
    """One sentence on stderr, above any progress bar; `who` is a task's name or "warning"."""
    from tqdm import tqdm

    tqdm.write(f"{who}: {sentence}", file=sys.stderr)


class UserError(Exception):
    """An error that the user can correct. The message is one sentence: what is wrong, and what to do."""

    def __init__(self, message: str):
        """Takes the sentence.

        Args:
          message: what is quoted in it may come from a broken file; signs that would steer a terminal or cannot be written
            out are spelled, and what is very long is cut in its middle.
        """
        if len(message) > _MOST_LETTERS:
            message = f"{message[: _MOST_LETTERS // 2]} ... {message[-_MOST_LETTERS // 2 :]}"
        super().__init__(_spelled_out(message))


class Ended(KeyboardInterrupt):
    """SIGTERM or SIGHUP was received; like Ctrl-C, with another exit code.

    Attributes:
      signal: which one.
    """

    def __init__(self, number: signal.Signals):
        super().__init__()
        self.signal = number


class SamplingWarning(UserWarning):
    """A warning about a video that is sampled nevertheless: one sentence, the same in Python and on stderr."""


@contextlib.contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Inside, every `SamplingWarning` is a line `note: ...` on stderr; for commands."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SamplingWarning)
        show_others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, SamplingWarning):
                note(str(message))
            else:
                show_others(message, category, *where)

        warnings.showwarning = show
        yield


def note(*sentences: str) -> None:
    """Writes lines `note: ...` to stderr. Control characters from untrusted files are escaped."""
    sys.stderr.writelines(f"note: {_spelled_out(sentence)}\n" for sentence in sentences)


def _spelled_out(text: str) -> str:
    return "".join(letter if _is_plain(letter) else ascii(letter)[1:-1] for letter in text)


def _is_plain(letter: str) -> bool:
    return letter.isprintable() or letter in "\n\t"


def is_text(value: str) -> bool:
    """Whether a string can be encoded: names that are not UTF-8 and broken JSON contain lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def spelled(value: str) -> str:
    """A string that can be encoded: lone surrogates are escaped, as in `caf\\udce9.mp4`."""
    return value.encode("utf-8", "backslashreplace").decode()


def refuse_bytes(arguments: Sequence[str]) -> None:
    """Refuses a command line that is not UTF-8, because its names go into files and pages that are.

    Raises:
      UserError: an argument holds other bytes.
    """
    for argument in arguments:
        if not is_text(argument):
            raise UserError(
                f"the argument '{spelled(argument)}' is not UTF-8; write it in UTF-8, or rename the file or folder that it names"
            )


def refuse_surroundings() -> None:
    """Refuses surroundings in which the libraries would fail with a traceback.

    Raises:
      UserError: the folder that this was started in is gone; or Python keeps no docstrings.
    """
    try:
        os.getcwd()
    except OSError:
        raise UserError("the current folder no longer exists; change to one that does") from None
    if sys.flags.optimize > 1:
        raise UserError(
            "Python was started with -OO (or PYTHONOPTIMIZE=2), which removes docstrings that transformers works with;"
            " start it without"
        )


@contextlib.contextmanager
def extras_named(extra: str = "") -> Iterator[None]:
    """Inside, a module of an extra that is not installed is a `UserError` that says which extra to install.

    Args:
      extra: the one to name, where several bring the module.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise UserError(_not_installed(module, extra)) from error


def require(*modules: str, extra: str = "") -> None:
    """Checks before any work that modules of `EXTRAS` can be imported; imports none.

    Args:
      modules: names of modules.
      extra: see `extras_named`.

    Raises:
      UserError: one is not installed.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise UserError(_not_installed(module, extra))


def _not_installed(module: str, extra: str) -> str:
    named = extra if extra in EXTRAS[module] else EXTRAS[module][0]
    return (
        f'this needs the library {module}, which is not installed; run python -m pip install ".[{named}]" in the folder'
        " of the project"
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out: from Python, NumPy, the CPU allocator, a GPU or the system."""
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said, kinds = str(error).lower(), (RuntimeError, ValueError, ImportError)
    return isinstance(error, kinds) and any(words in said for words in (*_NO_MEMORY, *_TOO_LARGE))


def exit_code(main: Callable[[], int | None]) -> int:
    """Runs a command; turns a `UserError` or lack of memory into a sentence on stderr and exit code 2.

    Args:
      main: the entrance; returns an exit code, or None for success.

    Returns:
      0 or what `main` returned; 2 for a user's mistake; 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP. A second signal
      ends it at once.
    """
    _open_streams()
    try:
        with _ended_by_signals(), extras_named():
            if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal cannot show is spelled
                sys.stdout.reconfigure(errors="backslashreplace")
            refuse_surroundings()
            refuse_bytes(sys.argv[1:])
            code = main() or 0
            sys.stdout.flush()
            return code
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (MemoryError, RuntimeError, ValueError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError):  # `... | head` closed our output; nothing is wrong
            _discard_output()
            return 0
        if isinstance(error, OSError) and error.errno in _FULL:
            _discard_output()
            what = f" {error.filename}" if error.filename else ""
            sys.stderr.write(f"error: writing{what} failed: {error.strerror}; free some space and run it again\n")
            return 2
        if not is_out_of_memory(error):
            raise
        sys.stderr.write(
            "error: out of memory; free some, or use less at once: fewer or smaller frames, a smaller"
            " batch, a smaller model\n"
        )
        return 2
    except Ended as end:
        with contextlib.suppress(OSError):  # with the terminal that hung up, stderr is gone, too
            sys.stderr.write(f"stopped by {end.signal.name}.\n")
        return 128 + end.signal
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        return 130


def _open_streams() -> None:
    """Opens closed standard streams on the null device; some services start a process that way.

    Else the next file that is opened would take their place, and whatever a library says would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))


def _discard_output() -> None:
    """Redirects stdout to the null device, so that Python does not try to write the rest at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM, and SIGHUP of a terminal that is closed, are exceptions, so that what was begun is put away; unless
    somebody else listens, or ignores it, as `nohup` does."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own:  # a forked worker ends silently
            os.kill(os.getpid(), number)
        raise Ended(signal.Signals(number))

    own, is_main = os.getpid(), threading.current_thread() is threading.main_thread()
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Python lets no other thread listen.
    heard = [number for number in known if is_main and signal.getsignal(number) == signal.SIG_DFL]
    for number in heard:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)
