"""Commands in processes of their own, without the seconds in which a fresh interpreter loads PyTorch.

One process loads all that is loaded often, computes nothing, and forks a child for every command. That it computes nothing
matters: the threads of a pool do not survive a fork, so a process whose pools have worked may hang in its children. What a
child does, is told and leaves behind is what `python train.py` would: its own process id, signals, exit code and output.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOADED = (
    *(
        "train",
        "evaluate",
        "cdcd_video.training.training_run",
        "cdcd_video.evaluation",
        "cdcd_video.ablate.cell",
        "cdcd_video.ablate.page",
    ),
    *("cdcd_video.training.latent_encoder", "data_prep.__main__", "data_prep.encoding", "together", "test_engine"),
    *("torch._dynamo", "transformers.models.clip.modeling_clip"),  # what the first optimiser and the first CLIP load
)
"""Modules that are there already when a child begins; others it loads itself."""
LONGEST_S = 900
"""For which anything here is waited for: much, for the machine may be busy."""


def fork() -> int:
    """`os.fork` of a process that has computed: the child does without the threads of pools, which it did not get."""
    pid = os.fork()
    if pid == 0:
        gc.freeze()  # what the parent left to be collected may wait for those threads
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)
    return pid


class Child:
    """A command that runs, or has run."""

    def __init__(self, pid: int, out: Path, err: Path):
        self.pid, self.returncode, self._out, self._err = pid, None, out, err

    @property
    def stdout(self) -> str:
        """What it has said up to now."""
        return self._out.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """Likewise."""
        return self._err.read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """Its exit code (minus the number of a signal that ended it), or None as long as it runs."""
        _server.listen(0.0)
        return self.returncode

    def wait(self) -> int:
        """Its exit code, once it has one."""
        while self.returncode is None:
            assert _server.listen(LONGEST_S), f"process {self.pid} does not end: {self.stderr[-2000:]}"
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As `kill` does; a process that has ended hears nothing."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def start(entrance: str, *words: object, cwd: Path = ROOT, **environment: str) -> Child:
    """Begins a command.

    Args:
      entrance: what is called, as `module:function`; its name is the first word of `sys.argv`.
      words: the others.
      cwd: where it runs.
      environment: variables that it has beside those of this process.
    """
    return _server.start(entrance, list(map(str, words)), cwd, {**os.environ, **environment})


def run(entrance: str, *words: object, **how: Any) -> Child:
    """The same, to its end."""
    child = start(entrance, *words, **how)
    child.wait()
    return child


class _Server:
    """The other end of `_serve`; it is started by the first command, and ended with this process."""

    def __init__(self):
        self.process, self.folder, self.running, self.rest = None, None, {}, b""

    def start(self, entrance: str, words: list[str], cwd: Path, environment: dict[str, str]) -> Child:
        if self.process is None:
            self.folder = tempfile.TemporaryDirectory(prefix="children-")
            command = [sys.executable, "-c", "import children; children._serve()"]
            path = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            atexit.register(self.end)
        out, err = (Path(tempfile.mkstemp(dir=self.folder.name)[1]) for _ in range(2))
        told = {"entrance": entrance, "words": words, "cwd": str(cwd), "environment": environment}
        self.process.stdin.write(json.dumps(told | {"out": str(out), "err": str(err)}).encode() + b"\n")
        self.process.stdin.flush()
        number = len(self.running)
        while len(self.running) == number:
            assert self.listen(LONGEST_S), "no process can be started"
        child = next(reversed(self.running.values()))
        child._out, child._err = out, err
        return child

    def listen(self, seconds: float) -> bool:
        """Takes in what the server has to say, and says whether it was anything."""
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return False
        self.rest += os.read(self.process.stdout.fileno(), 1 << 16)
        assert self.rest, "the process that starts others has ended"
        *lines, self.rest = self.rest.split(b"\n")
        for pid, code in map(json.loads, lines):
            if code is None:
                self.running[len(self.running), pid] = Child(pid, Path(), Path())
            else:
                next(child for (_, other), child in reversed(self.running.items()) if other == pid).returncode = code
        return True

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.folder.cleanup()


_server = _Server()


def _serve() -> None:
    """Forks a child for every line of stdin; says `[pid, null]` when it begins and `[pid, exit code]` when it has ended."""
    for name in LOADED:
        importlib.import_module(name)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    handlers = {number: signal.signal(number, _hear) for number in (signal.SIGCHLD, signal.SIGINT)}
    asked = b""
    while True:
        ready = select.select([0, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 1 << 10)
            for pid, code in _ended():
                _say(pid, code)
        if 0 in ready:
            more = os.read(0, 1 << 16)
            if not more:
                return
            *lines, asked = (asked + more).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    for number, handler in handlers.items():
                        signal.signal(number, handler)
                    _become(**json.loads(line))
                _say(pid, None)


def _hear(*_: object) -> None:
    """The descriptor that wakes the server is all."""


def _say(pid: int, code: int | None) -> None:
    os.write(1, json.dumps([pid, code]).encode() + b"\n")


def _ended() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            yield found[0], os.waitstatus_to_exitcode(found[1])


def _become(entrance: str, words: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    """Turns a fork into the command, and never comes back."""
    code = 1
    try:
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            opened = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_APPEND)
            os.dup2(opened, number)
            os.close(opened)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        if environment.get("OMP_NUM_THREADS"):
            import torch

            torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
        from cdcd_video.errors import exit_code

        module, _, name = entrance.partition(":")
        sys.argv = [entrance, *words]
        code = exit_code(getattr(importlib.import_module(module), name))
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended_process() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid
