"""How commands end that are told to: one sentence, the code that a shell expects, and what was begun put away."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cdcd_video.errors import Ended, UserError, exit_code, note

ROOT = Path(__file__).resolve().parent.parent


def send(number: int) -> None:
    """Sends this process a signal, and lets Python see it."""
    signal.raise_signal(number)


@pytest.fixture
def heeded():
    """A shell lets what it runs in the background ignore Ctrl-C, and nohup what hangs up; this may run there."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL, signal.SIGTERM: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_terminated_command_removes_what_it_began(number: int, code: int, capsys, heeded):
    put_away = []

    def main() -> None:
        try:
            send(number)
        finally:
            put_away.append(True)

    assert exit_code(main) == code
    assert put_away and capsys.readouterr().err.startswith("stopped")


def test_nobody_listens_afterwards_or_where_somebody_else_does():
    assert exit_code(lambda: 0) == 0 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as under nohup
    try:
        assert exit_code(lambda: send(signal.SIGTERM)) == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_second_signal_ends_it_at_once():
    seen = []

    def main() -> None:
        try:
            send(signal.SIGTERM)
        except Ended:
            seen.append(signal.getsignal(signal.SIGTERM))

    assert exit_code(main) == 0 and seen == [signal.SIG_DFL]


def test_an_entrance_that_another_thread_calls_is_left_alone():
    found = []
    thread = threading.Thread(target=lambda: found.append(exit_code(lambda: 5)))
    thread.start()
    thread.join()
    assert found == [5]


def test_a_forked_worker_ends_without_a_word(capfd):
    def main() -> int:
        child = os.fork()
        if child == 0:
            try:
                send(signal.SIGTERM)
            finally:
                os._exit(99)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert exit_code(main) == -signal.SIGTERM
    assert capfd.readouterr().err == ""


def test_control_characters_of_an_untrusted_file_are_escaped_in_a_note(capsys):
    note("drawn with torch \x1b[2J\x07 \u202e, caf\u00e9")
    assert capsys.readouterr().err == "note: drawn with torch \\x1b[2J\\x07 \\u202e, caf\u00e9\n"


def test_a_missing_current_folder_is_reported_before_a_library_fails(tmp_path: Path, monkeypatch, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert exit_code(lambda: pytest.fail("it was begun")) == 2
    assert "error: the current folder no longer exists; change to one that does" in capsys.readouterr().err


def test_python_without_docstrings_is_refused():
    for options, code in (["-O"], 0), (["-OO"], 2):
        words = [sys.executable, *options, "inference.py", "--help" if code == 0 else "--text=a"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert code == 0 or done.stderr.startswith("error: Python was started with -OO"), done.stderr


def test_a_library_that_finds_no_room_is_lack_of_memory(capsys):
    def load():
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")

    assert exit_code(load) == 2 and "error: out of memory" in capsys.readouterr().err
    with pytest.raises(ImportError, match="no such thing"):
        exit_code(lambda: (_ for _ in ()).throw(ImportError("no such thing")))


CLOSED = """
import os, sys
from cdcd_video.errors import UserError, exit_code

def main():
    with open(sys.argv[1], "wb") as file:
        os.write(1, b"a library's words"), os.write(2, b"others")
        sys.stdout.write("ours"), file.write(b"kept")
    raise UserError("told to nobody")

sys.exit(exit_code(main))
"""


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_where_streams_are_closed_no_output_goes_into_a_file(closed: str, tmp_path: Path):
    words = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", CLOSED, tmp_path / "file"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and (tmp_path / "file").read_bytes() == b"kept"
    assert ("told to nobody" in done.stderr) == ("2" not in closed), done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_an_output_that_is_full_is_reported():
    words = [sys.executable, "-c", "from cdcd_video.errors import exit_code; exit(exit_code(lambda: print('a')))"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: writing failed: No space left on device; free some space and run it again\n"


def test_a_full_disk_is_reported_and_an_unreadable_one_is_not_called_full(capsys):
    def main(number: int):
        raise OSError(number, os.strerror(number), "x.mp4")

    assert exit_code(lambda: main(errno.ENOSPC)) == 2
    assert "error: writing x.mp4 failed: No space left on device" in capsys.readouterr().err
    with pytest.raises(OSError, match=r"x.mp4"):
        exit_code(lambda: main(errno.EIO))


def test_a_mistake_is_still_a_mistake(capsys):
    def main() -> None:
        raise UserError("no")

    assert exit_code(main) == 2 and capsys.readouterr().err == "error: no\n"


def test_a_real_command_that_is_terminated(tmp_path: Path):
    """Outside of any training loop, and with a folder held."""
    command = [sys.executable, "-m", "data_prep", "sprites", "--num-clips", "100000", "--out", str(tmp_path / "clips")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (tmp_path / "clips.part" / "clips.jsonl").is_file():
        time.sleep(0.02)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143 and said.endswith("stopped by SIGTERM.\n")
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["clips.part"], "its lock went with it"
