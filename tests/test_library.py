"""The compiled kernels' library as a file: built once, whole or made again, and only ever one's own."""

import ctypes
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from cdcd_video.kernels import compiled
from cdcd_video.storage.ownership import NotOwn, check_own

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs owners of files")
needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
STRANGER = 12_345
"""A user that is neither the one who runs the tests nor root."""

Load = Callable[[], ctypes.CDLL | None]


@pytest.fixture(scope="module")
def small_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a compiler makes of a function that is all that is asked of a library here."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "small.cpp").write_text('extern "C" int knows_half() { return 1; }\n')
    made = folder / "small.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-nostdlib", folder / "small.cpp", "-o", made], check=True)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libraries are kept, on what passes for a processor with AVX-512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def compiler(place: Path, does: str) -> str:
    """A compiler that does something of its own with its last argument, the file to write; counts how often."""
    script = place / "compiler"
    script.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo 1; exit; fi\n'
        f'echo once >> {place}/builds\nfor last in "$@"; do :; done\n{does}\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.fixture
def load(folder: Path, small_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Asks for the library as a fresh process would; it is made by a compiler that copies the small one."""
    monkeypatch.setenv("CXX", compiler(tmp_path, f'cp {small_library} "$last"'))
    return compiled.kernels.__wrapped__


def num_builds(place: Path) -> int:
    return len((place / "builds").read_text().splitlines())


def refused(load: Load, why: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"the kernels could not be built .*{why}.*so training on a CPU is slower"):
        assert load() is None


@needs_compiler
def test_what_was_left_in_part_is_made_again_once(load: Load, folder: Path, tmp_path: Path):
    assert load().knows_half() == 1
    (library,) = folder.iterdir()
    good = library.read_bytes()
    for damaged in (
        b"",
        good[:100],
        good[: len(good) // 2],
        good[:-1],
        b"\x7fELF" + bytes(5000),
        good[:-40] + bytes(40),
    ):
        library.unlink()  # this process has the old one mapped: it must not be cut under it
        library.write_bytes(damaged)
        before = num_builds(tmp_path)
        assert load().knows_half() == 1
        assert num_builds(tmp_path) == before + 1 and library.read_bytes() == good
        assert load() is not None and num_builds(tmp_path) == before + 1
    assert hashlib.sha256(good[:-32]).digest() == good[-32:] and [path.name for path in folder.iterdir()] == [
        library.name
    ]


@needs_compiler
def test_a_folder_or_pipe_in_its_place_is_a_sentence_and_not_waited_for(load: Load, folder: Path):
    load()
    (library,) = folder.iterdir()
    library.unlink()
    os.mkfifo(library, 0o600)
    assert load().knows_half() == 1 and stat.S_ISREG(library.stat().st_mode)
    library.unlink()
    library.mkdir()
    refused(load, "Is a directory")


@needs_compiler
@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("echo 'small.cpp:1: error: no such thing' >&2; exit 1", "error: no such thing"),
        ("exit 3", "exit status 3"),
        ("true", "No such file"),
        (': > "$last"', "cannot be loaded: .*file too short"),
        ('head -c 3000 /dev/zero > "$last"', "cannot be loaded: .*invalid ELF header"),
        ("kill -9 $$", "died with"),
    ],
)
def test_a_compiler_that_fails_or_makes_no_library_is_reported(
    does: str, why: str, load: Load, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CXX", compiler(tmp_path, does))
    refused(load, why)
    assert list(folder.iterdir()) == []


def test_a_compiler_that_hangs_is_ended_with_its_children(
    load: Load, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiled, "_BUILD_S", 0.2)
    monkeypatch.setenv("CXX", compiler(tmp_path, f"sh -c 'echo $$ > {tmp_path}/child; sleep 1000'"))
    refused(load, "timed out after 0.2 seconds")
    if (tmp_path / "child").is_file():  # on a very busy machine it was not even begun
        child, deadline = int((tmp_path / "child").read_text()), time.monotonic() + 60
        with pytest.raises(ProcessLookupError):
            while (
                time.monotonic() < deadline
            ):  # it has ended; the system's first process takes note of it when it comes to it
                os.kill(child, 0)
                time.sleep(0.02)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("given", "why"), [("g++ 'x", "CXX is .*no closing quotation"), ("'", "no closing quotation")])
def test_an_open_quote_in_cxx_is_a_sentence(given: str, why: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", given)
    refused(compiled.kernels.__wrapped__, why)
    assert not folder.exists()


@needs_compiler
def test_options_in_cxx_and_two_processes_at_once(load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", f"'{os.environ['CXX']}' -DX='a b'")
    with ThreadPoolExecutor(2) as pool:  # what they share is the folder, as processes do
        assert [library.knows_half() for library in pool.map(lambda _: load(), range(2))] == [1, 1]
    assert len(list(folder.iterdir())) == 1


def test_nobody_has_a_home_or_a_place_to_write(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", compiler(tmp_path, "true"))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / "file" / "kernels"))
    refused(compiled.kernels.__wrapped__, "Not a directory")
    monkeypatch.delenv(compiled.FOLDER_VARIABLE)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    refused(compiled.kernels.__wrapped__, "home directory")


@needs_compiler
def test_the_usual_folder_is_the_users_alone(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(compiled.FOLDER_VARIABLE)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    usual = tmp_path / ".cache" / "cdcd_video" / "kernels"
    usual.mkdir(parents=True)
    usual.chmod(0o777)  # from before it was made so
    assert load() is not None and stat.S_IMODE(usual.stat().st_mode) == 0o700


# ------------------------------------------------------------------------------------------------------ whose it is


def as_stranger(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """These paths belong to somebody else."""
    true = os.lstat
    theirs = {str(path) for path in paths}

    def lstat(path, **how):
        status = true(path, **how)
        fields = list(status)
        fields[stat.ST_UID] = STRANGER
        return os.stat_result(fields) if str(path) in theirs else status

    monkeypatch.setattr(os, "lstat", lstat)


@needs_compiler
@pytest.mark.parametrize("which", ["library", "folder", "above"])
def test_what_belongs_to_another_is_never_loaded(which: str, load: Load, folder: Path, monkeypatch: pytest.MonkeyPatch):
    assert load() is not None
    (library,) = folder.iterdir()
    theirs = {"library": library, "folder": folder, "above": folder.parent}[which]
    as_stranger(monkeypatch, theirs)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("it was loaded"))
    refused(load, f"belongs to user {STRANGER}.*choose a folder of your own")


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_a_folder_that_others_may_write_is_refused(mode: int, load: Load, folder: Path):
    folder.mkdir()
    folder.chmod(mode)
    refused(load, "is not used: it is writable by everybody")
    assert list(folder.iterdir()) == []


@needs_compiler
def test_so_is_a_library_that_others_may_write(load: Load, folder: Path):
    load()
    (library,) = folder.iterdir()
    library.chmod(0o666)
    refused(load, "is writable by everybody")


def test_every_step_of_the_way_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    check_own(inner)
    monkeypatch.chdir(tmp_path)
    check_own("a/../a/./b")
    (tmp_path / "a").chmod(0o777)
    with pytest.raises(NotOwn, match=f"{tmp_path}/a is writable by everybody"):
        check_own(inner)
    (tmp_path / "a").chmod(0o1777)  # as /tmp: only owners may rename what lies in it
    check_own(inner)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "link").symlink_to("../a/b")
    (tmp_path / "link").symlink_to("open/link")
    with pytest.raises(NotOwn, match=f"{tmp_path}/open is writable by everybody"):  # on the way, not at its end
        check_own(tmp_path / "link")
    (tmp_path / "open").chmod(0o755)
    check_own(tmp_path / "link")
    with monkeypatch.context() as with_stranger:
        as_stranger(with_stranger, tmp_path / "open" / "link")
        with pytest.raises(NotOwn, match=f"open/link belongs to user {STRANGER}"):
            check_own(tmp_path / "link")
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="symbolic links"):
        check_own(tmp_path / "round")
    with pytest.raises(FileNotFoundError):
        check_own(tmp_path / "none")


def test_a_group_of_the_users_own_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import grp
    import pwd

    me = pwd.getpwuid(os.getuid())
    tmp_path.chmod(0o775)
    for name, members, is_own in ((me.pw_name, [], True), (me.pw_name, ["other"], False), ("staff", [], False)):
        known = grp.struct_group((name, "x", me.pw_gid, members))
        monkeypatch.setattr(grp, "getgrgid", lambda number, known=known: known)
        if is_own:
            check_own(tmp_path)
        else:
            with pytest.raises(NotOwn, match="is writable by a group"):
                check_own(tmp_path)


@needs_compiler
def test_a_read_only_folder_with_a_library_serves(load: Load, folder: Path):
    load()
    folder.chmod(0o555)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load() is not None
    finally:
        folder.chmod(0o755)


@needs_compiler
def test_the_trial_of_a_library_cannot_end_this_process(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A library whose beginning ends the process that loads it."""
    (tmp_path / "bad.cpp").write_text("#include <cstdlib>\nstruct Bad { Bad() { std::abort(); } } bad;\n")
    subprocess.run(["g++", "-shared", "-fPIC", tmp_path / "bad.cpp", "-o", tmp_path / "bad.so"], check=True)
    monkeypatch.setenv("CXX", compiler(tmp_path, f'cp {tmp_path}/bad.so "$last"'))
    refused(compiled.kernels.__wrapped__, "cannot be loaded: .*SIGABRT")
    assert list(folder.iterdir()) == [] and sys.executable
