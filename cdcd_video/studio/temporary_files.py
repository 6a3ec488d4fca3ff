"""The folder of what visitors open and of what is written for them: private, emptied by age, gone at the end."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cdcd_video.errors import UserError

_EVERY_S = 20.0


@contextlib.contextmanager
def temporary_files(keep_s: float) -> Iterator[Path]:
    """A new folder for Gradio's files, which finds it by the environment; to be entered before Gradio is imported.

    Args:
      keep_s: a file is deleted once it is this old, in seconds.

    Yields:
      The folder. It is removed at the end of the block.
    """
    # No word to anybody: neither that the page runs, nor what is sampled in it; and no history in the visitor's browser.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryDirectory(prefix="studio-", ignore_cleanup_errors=True) as name:
        folder, is_over = Path(name), threading.Event()
        before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = name
        sweeper = threading.Thread(target=_sweep, args=(folder, keep_s, is_over), daemon=True)
        sweeper.start()
        try:
            yield folder
        finally:
            is_over.set()
            sweeper.join()
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before


def uploaded(path: str) -> str:
    """The path of a file that a visitor has sent; Gradio's interface for programs takes others, too.

    Raises:
      UserError: it lies elsewhere on this machine.
    """
    folder = os.environ.get("GRADIO_TEMP_DIR")
    if not path or folder is None or not Path(path).resolve().is_relative_to(Path(folder).resolve()):
        raise UserError("this is no file that was sent to the studio; open one")
    return path


@contextlib.contextmanager
def by_its_name(path: str) -> Iterator[None]:
    """Lets messages name a file that a visitor has sent as the visitor does, and not by its place on this machine."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(path, Path(path).name)) from None


def delete_older(folder: Path, age_s: float) -> None:
    """Deletes files below a folder that are older than `age_s` seconds, and folders that are empty then."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder comes before it
        with contextlib.suppress(OSError):  # somebody else deleted it, or a folder is not empty
            found = path.stat()
            if time.time() - max(found.st_mtime, found.st_ctime) > age_s:
                path.rmdir() if path.is_dir() else path.unlink()


def _sweep(folder: Path, keep_s: float, is_over: threading.Event) -> None:
    while not is_over.wait(min(_EVERY_S, keep_s)):
        delete_older(folder, keep_s)
