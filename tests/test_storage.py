"""Small files of strangers are read within bounds; a folder has one writer."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from children import ended_process

from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import FolderInUse, folder_lock, remove_left_locks
from cdcd_video.storage.network_folder import CARD, write_network
from cdcd_video.storage.small_file import Unreadable, append_plain, read_small, read_small_json, read_small_text
from cdcd_video.storage.whole_file import refused_by_disk, remove_left_parts, whole_file

ROOT = Path(__file__).resolve().parent.parent
HOLD = """
import sys
from cdcd_video.storage.folder_lock import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


class Holder:
    """Another process that holds a folder until it is told to let go."""

    def __init__(self, folder: Path):
        command = [sys.executable, "-c", HOLD, str(folder), "--secret", "no"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "held\n"

    def __enter__(self) -> "Holder":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.communicate("\n")


# ----------------------------------------------------------------------------------------------------- small files


def test_a_plain_file_is_read_and_so_is_a_link_to_it(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
    (tmp_path / "b.txt").symlink_to(tmp_path / "a.txt")
    assert read_small(tmp_path / "b.txt", within=tmp_path) == b"\xef\xbb\xbfone\r\ntwo"
    assert read_small_text(tmp_path / "a.txt") == "one\r\ntwo"


def test_what_may_be_read_has_an_end(tmp_path: Path):
    file = tmp_path / "a.json"
    file.write_bytes(b"x" * 10)
    assert len(read_small(file, limit=10)) == 10
    with pytest.raises(Unreadable, match="larger than the limit of 0.00879 KiB"):
        read_small(file, limit=9)
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(Unreadable, match="larger than the limit of 1 MiB"):
        read_small(file)


def test_a_file_without_a_size_is_read_to_its_limit():
    with pytest.raises(Unreadable, match="larger than"):
        read_small("/proc/self/status", limit=16)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, reason in (
        ("pipe", "is a named pipe, not a file"),
        (".", "is a folder, not a file"),
        ("circle", "cannot be read"),
        ("nothing", "does not exist"),
        ("a\0b", "cannot be read"),
        ("n" * 300, "cannot be read"),
    ):
        with pytest.raises(Unreadable, match=reason) as refusal:
            read_small(tmp_path / name, "caption file")
        assert str(refusal.value).startswith("caption file ")
    with pytest.raises(Unreadable, match="is a device, not a file"):
        read_small("/dev/zero")


def test_nothing_is_read_from_outside_the_folder(tmp_path: Path):
    inside, outside = tmp_path / "in", tmp_path / "out.txt"
    inside.mkdir()
    outside.write_text("private")
    (inside / "link.txt").symlink_to(outside)
    for path in (inside / "link.txt", inside / ".." / "out.txt", outside):
        with pytest.raises(Unreadable, match="points outside the folder"):
            read_small(path, within=inside)


def test_text_that_is_not_utf8_is_reported(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(Unreadable, match="is not UTF-8") as refusal:
        read_small_text(tmp_path / "a.txt")
    assert refusal.value.reason.startswith("is not UTF-8")


# ----------------------------------------------------------------------------------------------------------- locks


def test_the_second_learns_the_holder_of_the_folder_and_gets_it_afterwards(tmp_path: Path):
    folder = tmp_path / "deep" / "run"
    with Holder(folder) as holder, pytest.raises(FolderInUse) as refusal, folder_lock(folder):
        pass
    assert f"process {holder.process.pid}" in str(refusal.value)
    assert "--secret no" in str(refusal.value)  # the command, so that one knows which window to look at
    with folder_lock(folder):
        pass
    assert list(folder.parent.iterdir()) == []  # nothing is left behind, and the folder itself is not made


def test_a_folder_has_one_lock_under_all_its_names(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with Holder(tmp_path / "real"):
        for name in ("link", "real/", "real/../real"):
            with pytest.raises(FolderInUse), folder_lock(f"{tmp_path}/{name}"):
                pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    with Holder(tmp_path / "run") as holder:
        holder.process.kill()
        holder.process.wait()
        with folder_lock(tmp_path / "run"):
            pass


def test_a_thread_may_ask_twice_and_another_thread_may_not(tmp_path: Path):
    found: list[str] = []

    def ask() -> None:
        try:
            with folder_lock(tmp_path / "run"):
                found.append("held")
        except FolderInUse:
            found.append("refused")

    with folder_lock(tmp_path / "run"):
        with folder_lock(tmp_path / "run"):
            pass
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    ask()
    assert found == ["refused", "held"]


def test_a_forked_worker_does_not_hold_the_folder(tmp_path: Path):
    with folder_lock(tmp_path / "run"):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with folder_lock(tmp_path / "run"):
            pass
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def test_a_place_that_cannot_be_locked_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/run"), folder_lock(tmp_path / "file" / "run"):
        pass


def test_many_processes_hold_it_one_at_a_time(tmp_path: Path):
    """Locks are removed when they are let go; who then holds a removed one must not count."""
    script = """
import sys, time
from pathlib import Path
from cdcd_video.storage.folder_lock import FolderInUse, folder_lock
mark, held = Path(sys.argv[1]) / "mark", 0
while held < 60:
    try:
        with folder_lock(Path(sys.argv[1]) / "run"):
            mark.touch(exist_ok=False)  # fails where two are inside
            mark.unlink()
            held += 1
    except FolderInUse:
        time.sleep(0.0005)
"""
    started = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]


def test_json_is_read_to_its_kind_and_never_nested_without_an_end(tmp_path: Path):
    file = tmp_path / "x.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": [1]}')
    assert read_small_json(file) == {"a": [1]}
    file.write_text("[1]")
    assert read_small_json(file, kind=list) == [1]
    for content, why in (
        (b"[1]", "is not a dict"),
        (b"{", "is damaged"),
        (b"\xff", "is damaged"),
        (b'{"a":' + b"[" * 200_000, "is damaged"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is damaged"),
    ):
        file.write_bytes(content)
        with pytest.raises(Unreadable, match=f"the facts .*x.json {why}|the facts .*x.json is damaged .*{why}"):
            read_small_json(file, "the facts")
    file.write_bytes(b"{}" + b" " * 100)
    with pytest.raises(Unreadable, match="is larger"):
        read_small_json(file, limit=50)


def test_what_is_written_behind_is_a_plain_file(tmp_path: Path):
    for line in (b"one\n", b"two\n"):
        with append_plain(tmp_path / "log") as file:
            file.write(line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)  # with a reader it could be opened at once
    try:
        with pytest.raises(Unreadable, match="is a named pipe, not a file"):
            append_plain(tmp_path / "pipe")
    finally:
        os.close(reader)
    for path, why in (("pipe", "is a named pipe, not a file"), (".", "is a folder"), ("none/log", "does not exist")):
        with pytest.raises(Unreadable, match=why):
            append_plain(tmp_path / path, "the log")
    with pytest.raises(Unreadable, match="is a device"):
        append_plain("/dev/null")


def test_locks_that_a_killed_process_left_go_and_held_ones_stay(tmp_path: Path):
    left, held = tmp_path / "deep" / ".a.json.lock", tmp_path / ".b.json.lock"
    left.parent.mkdir()
    left.write_text('{"process": 1}')
    with Holder(tmp_path / "b.json"):
        remove_left_locks(tmp_path)
        assert held.exists() and not left.exists()
    assert not held.exists()


# ----------------------------------------------------------------------------------------------- files that are whole


def test_what_killed_processes_left_of_a_file_goes(tmp_path: Path):
    dead = ended_process()
    names = [
        f".a[1].txt.{dead}.part",
        f".a[1].txt.{os.getpid()}.part",
        f".b.txt.{dead}.part",
        "a[1].txt",
        ".a[1].txt.x.part",
    ]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / f".frames.{dead}.part").mkdir()
    remove_left_parts(tmp_path, "a[1].txt")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*names[1:], f".frames.{dead}.part"}
    remove_left_parts(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names[1], names[3], names[4]}, "that of a process that runs stays, and so do other names"
    remove_left_parts(tmp_path / "no folder")


def test_what_cannot_be_read_is_not_called_unwritable(tmp_path: Path):
    target = tmp_path / "new" / "out.txt"
    said = r"^cannot read \S+source: Permission denied; \S+out\.txt was not written$"
    with pytest.raises(UserError, match=said), whole_file(target):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "source"))
    for name in (target, target.parent, tmp_path, target / "in", target.with_name(".out.txt.5.part")):
        said = r"^cannot write \S+out\.txt: Permission denied; write elsewhere$"
        with pytest.raises(UserError, match=said), refused_by_disk(target):
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
    with pytest.raises(UserError, match="disk is full"), refused_by_disk(target):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "elsewhere"))
    assert list(target.parent.iterdir()) == []


def test_a_network_and_its_card_are_of_one_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    path = write_network(first, {"number": 1}, tmp_path / "net" / "weights.safetensors")
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match="the disk is full"):
            write_network(second, {"number": 2}, path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    replace, replaced = os.replace, []

    def killed_before_the_card(part: Path, target: Path) -> None:
        if Path(target).name == CARD:
            raise KeyboardInterrupt
        replaced.append(replace(part, target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed_before_the_card)
        with pytest.raises(KeyboardInterrupt):
            write_network(second, {"number": 2}, path)
    assert replaced and not (path.parent / CARD).exists(), "no card is better than that of other weights"
    write_network(second, {"number": 2}, path)
    assert {file.name for file in path.parent.iterdir()} == set(before)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
