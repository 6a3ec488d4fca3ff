"""Windows has no owners, no groups and no accounting of resources as POSIX has; the package runs without them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

AS_ON_WINDOWS = """
import builtins, os, signal, sys

POSIX = {"fcntl", "grp", "pwd", "resource", "termios", "tty"}
FUNCTIONS = "chown fchmod fchown fork getegid geteuid getgid getuid killpg sched_getaffinity setsid statvfs sysconf uname"
own = lambda module: (module or "").split(".")[0] in ("cdcd_video", "data_prep", "__main__")

def imported(name, globals=None, *others, plain=builtins.__import__, **named):
    if name in POSIX and own((globals or {}).get("__name__")):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return plain(name, globals, *others, **named)

class Os(type(os)):  # what the package sees; libraries believe that they are where they are
    def __getattr__(self, name):
        if name in FUNCTIONS.split():
            raise AttributeError(f"module 'os' has no attribute {name!r}")
        return getattr(os, name)

seen = Os("os")
builtins.__import__ = imported
"""

EVERY_MODULE = """
import importlib, pkgutil
import cdcd_video, data_prep

names = [one.name for home in (cdcd_video, data_prep) for one in pkgutil.walk_packages(home.__path__, home.__name__ + ".")]
for name in names:
    if name.endswith("__main__") or name.startswith("cdcd_video.tools.dev"):
        continue
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as lack:
        if lack.name in POSIX or own(lack.name):
            raise
        continue  # of an extra that is not installed here
    if getattr(module, "os", None) is os:
        module.os = seen
"""

WORK = """
import numpy as np, torch
from pathlib import Path
from cdcd_video import ImageToVideo
from cdcd_video.engine.throughput import memory
from cdcd_video.kernels import compiled
from cdcd_video.rate import database
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.tools.bench.__main__ import conditions
from cdcd_video.tools.bench.side_process import measure

here = Path(sys.argv[1])
assert memory(torch.device("cpu"))["memory_gib"] > 0
assert conditions()["machine"]["load_average"]
assert measure([lambda: None], 0, 1, torch.device("cpu"))[0]["cpu_s"] >= 0
assert compiled._run([sys.executable, "-c", "print(7)"], 60).strip() == "7"
try:
    compiled._run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5)
except compiled.subprocess.TimeoutExpired:
    pass
else:
    raise AssertionError("a compiler that hangs goes on")
database._made_private(here / "answers.sqlite")
with folder_lock(here / "folder"):
    pass
video = ImageToVideo.from_pretrained("sprites")("red-circle", "the red circle moves right", num_frames=2)
video.save(here / "video.mp4")
"""


def as_on_windows(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", AS_ON_WINDOWS + program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)


def test_every_module_is_imported_and_the_work_is_done_without_what_posix_alone_has(tmp_path: Path):
    (tmp_path / "answers.sqlite").touch(mode=0o644)
    done = as_on_windows(EVERY_MODULE + WORK, str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "video.mp4").stat().st_size > 0


@pytest.mark.parametrize("program", ["import resource", "seen.getuid()"])
def test_the_stand_in_for_windows_lacks_what_windows_lacks(program: str):
    """Else the test above could not fail."""
    assert "No module named 'resource'" in (error := as_on_windows(program).stderr) or "no attribute 'getuid'" in error
