"""Answers and what may happen to their file: copied, full, locked, damaged, deleted, older, newer."""

import errno
import os
import shutil
import sqlite3
import stat
import sys
import threading
from pathlib import Path

import pytest
from children import ended_process
from rating import Visitor, served, write_study

from cdcd_video.errors import UserError, exit_code
from cdcd_video.rate import __main__ as entrance
from cdcd_video.rate import database, limits
from cdcd_video.rate.answers import Store
from cdcd_video.rate.database import backup
from cdcd_video.rate.limits import Operator
from cdcd_video.rate.study import Study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return write_study(tmp_path_factory.mktemp("keeping") / "study", num_items=3, checks=1, repeats=0)


@pytest.fixture
def folder(study: Study, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study once more, which nobody has rated."""
    made = next(path for path in tmp_path_factory.getbasetemp().glob("keeping*/study"))
    return Path(shutil.copytree(made, tmp_path / "study", ignore=shutil.ignore_patterns("answers*")))


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "answers.sqlite"


@pytest.fixture
def store(path: Path, study: Study):
    opened = Store(path, study)
    yield opened
    opened.close()


def rate(store: Store, name: str, pages: int = 1) -> str:
    """A rater answers some pages; returns the key."""
    key = store.enter(name)
    for _ in range(pages):
        page = store.progress(key).page
        store.answer(key, page.trial, page.attempt, dict.fromkeys(("coherence", "relevance", "first_frame"), 1), 1.0)
    return key


def pages_in(file: Path) -> int:
    """Answered pages in one file, without anything that lies beside it."""
    base = sqlite3.connect(f"file:{file}?immutable=1", uri=True)
    (count,) = base.execute("SELECT COUNT(*) FROM tasks WHERE answered IS NOT NULL").fetchone()
    base.close()
    return count


# ------------------------------------------------------------------------------------------------------------- copies


def test_the_file_alone_holds_every_answer_while_it_is_served(store: Store, path: Path, tmp_path: Path):
    rate(store, "anna", 3)
    shutil.copy(path, tmp_path / "alone.sqlite")
    assert pages_in(tmp_path / "alone.sqlite") == 3
    store.close()
    assert [one.name for one in path.parent.glob("answers*")] == ["answers.sqlite"] and pages_in(path) == 3


def test_a_backup_of_a_served_study_can_be_put_in_its_place(folder: Path, path: Path, study: Study, tmp_path: Path):
    out = tmp_path / "kept" / "backup.sqlite"
    with served(study, folder) as port:
        visitor = Visitor(port)
        state = visitor.answer(visitor.enter("Anna")).told
        backup(path, out)
        visitor.answer(state)  # after the backup
    assert stat.S_IMODE(out.stat().st_mode) == 0o600 and pages_in(out) == 1 and pages_in(path) == 2
    assert [one.name for one in out.parent.iterdir()] == ["backup.sqlite"]
    for old in folder.glob("answers.sqlite*"):  # as docs/rating.md says
        old.unlink()
    shutil.copy(out, path)
    with served(study, folder) as port:
        again = Visitor(port).enter("Anna")
        assert again["done"] == 1 and again["page"] == state["page"]


def test_a_backup_overwrites_nothing_and_needs_answers(store: Store, path: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("file", "pipe", "dangling", "study", "study/answers.sqlite"):
        with pytest.raises(UserError, match="exists, and a backup does not overwrite"):
            backup(path, tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "nowhere").exists()
    with pytest.raises(UserError, match="there are no answers in"):
        backup(tmp_path / "answers.sqlite", tmp_path / "out")
    with pytest.raises(UserError, match="cannot write"):
        backup(path, tmp_path / "file" / "out")
    assert not list(tmp_path.glob(".*.part")) and not (tmp_path / "out").exists()


def test_the_command_makes_a_backup(store: Store, folder: Path, tmp_path: Path, monkeypatch, capsys):
    rate(store, "anna", 2)
    out = str(tmp_path / "b.sqlite")
    left = tmp_path / f".b.sqlite.{ended_process()}.part"
    left.write_bytes(b"what a killed backup had written")
    monkeypatch.setattr(sys, "argv", ["rate", "backup", "--study", str(folder), "--out", out])
    assert [exit_code(entrance.main), exit_code(entrance.main)] == [0, 2]
    said = capsys.readouterr()
    assert said.out == f"{out}\n" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert pages_in(Path(out)) == 2 and not left.exists()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_backup_is_whole_or_not_there(has_links: bool, store: Store, path: Path, tmp_path: Path, monkeypatch):
    rate(store, "anna", 2)

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    backup(path, tmp_path / "out" / "b.sqlite")
    assert pages_in(tmp_path / "out" / "b.sqlite") == 2 and len(list((tmp_path / "out").iterdir())) == 1
    (tmp_path / "out" / "c.sqlite").write_text("mine")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)  # made by someone else a moment later
    with pytest.raises(UserError, match="cannot write .*File exists"):
        backup(path, tmp_path / "out" / "c.sqlite")
    assert (tmp_path / "out" / "c.sqlite").read_text() == "mine" and len(list((tmp_path / "out").iterdir())) == 2


# ----------------------------------------------------------------------------------------------------- what goes wrong


@pytest.fixture
def base(monkeypatch) -> list[database.Database]:
    """The files that are opened in the test, as they come."""
    opened = []

    class Watched(database.Database):
        def __init__(self, *given):
            super().__init__(*given)
            opened.append(self)

    monkeypatch.setattr("cdcd_video.rate.answers.Database", Watched)
    return opened


def first_refused(visitor: Visitor, state: dict) -> tuple[int, str]:
    """Answers, and lets others enter, until that is refused."""
    for number in range(40):
        for said in (visitor.answer(state), Visitor(visitor.port).post("/api/enter", {"name": f"R{number}"})):
            if said.status != 200:
                return said.status, said.told["error"]
    raise AssertionError("all was taken")


@pytest.mark.parametrize(
    ("spoil", "mend", "for_rater", "for_operator"),
    [
        (
            "max_page_count = 1",
            "max_page_count = 9999",
            "the disk of the study is full",
            "the disk is full; free some space",
        ),
        ("query_only = ON", "query_only = OFF", "the file of answers is read-only", "it is read-only; change its"),
    ],
)
def test_what_cannot_be_saved_is_said_to_rater_and_operator(
    folder: Path, study: Study, base: list, spoil: str, mend: str, for_rater: str, for_operator: str
):
    told = []
    with served(study, folder, told=told) as port:
        visitor = Visitor(port)
        state = visitor.answer(visitor.enter("Anna")).told
        base[0]._writer.execute(f"PRAGMA {spoil}")  # SQLite then reports what it does of a full disk
        for _ in range(3):
            status, error = first_refused(visitor, state)
            assert status == 503 and error.startswith(f"Not saved: {for_rater}") and "press Save again" in error
        assert len(told) == 1 and for_operator in told[0] and "\n" not in told[0]
        base[0]._writer.execute(f"PRAGMA {mend}")
        done = visitor.get("/api/state").told["done"]
        assert visitor.answer(visitor.get("/api/state").told).told["done"] == done + 1  # it was put off, and no more


def test_a_locked_file_holds_up_nobody_who_reads(folder: Path, path: Path, study: Study, base: list, monkeypatch):
    monkeypatch.setattr(database, "WAIT_S", 0.1)
    told = []
    with served(study, folder, told=told) as port:
        visitor = Visitor(port)
        state = visitor.enter("Anna")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        waiting = [threading.Thread(target=visitor.answer, args=(state,)) for _ in range(3)]
        for thread in waiting:
            thread.start()
        assert visitor.get("/api/state").told == state and visitor.get("/").status == 200
        for thread in waiting:
            thread.join()
        answer = visitor.answer(state)
        assert answer.status == 503 and "another program is using the file" in answer.told["error"]
        assert len(told) == 1 and "another program locks it" in told[0]
        other.execute("ROLLBACK")
        other.close()
        assert visitor.answer(state).told["done"] == 1


@pytest.mark.parametrize("how", ["deleted", "replaced", "moved with its folder"])
def test_a_file_that_lost_its_name_takes_no_more_answers(folder: Path, path: Path, study: Study, how: str):
    told = []
    with served(study, folder, told=told) as port:
        visitor = Visitor(port)
        state = visitor.answer(visitor.enter("Anna")).told
        if how == "deleted":
            for file in folder.glob("answers*"):
                file.unlink()
        elif how == "replaced":
            shutil.copy(path, folder / "other")
            os.replace(folder / "other", path)
        else:
            folder.rename(folder.with_name("moved"))
        for _ in range(2):
            answer = visitor.answer(state)
            assert (
                answer.status == 503
                and "the file of answers is gone. Your earlier answers are saved." in answer.told["error"]
            )
        assert len(told) == 1 and "was deleted, moved or replaced while serving" in told[0]
    (rescued,) = folder.glob("answers-rescued-*.sqlite")
    assert rescued.name in told[0] and pages_in(rescued) == 1  # what was acknowledged is not lost


def test_a_damaged_file_is_a_sentence(store: Store, path: Path, study: Study):
    rate(store, "anna", 2)
    store.close()
    content = bytearray(path.read_bytes())
    content[100:] = b"\xa5" * (len(content) - 100)
    path.write_bytes(content)
    with pytest.raises(
        UserError, match="cannot store answers in .*: it is damaged; stop the server and restore a backup"
    ):
        Store(path, study)
    with pytest.raises(UserError, match="damaged"):
        backup(path, path.with_name("out"))


# -------------------------------------------------------------------------------------------------- versions, the file


def test_a_file_without_a_version_goes_on_and_gets_one(store: Store, path: Path, study: Study):
    rate(store, "anna", 2)
    store._base._writer.execute("PRAGMA user_version = 0")  # as all files were before
    store.close()
    again = Store(path, study)
    assert again.progress(rate(again, "anna")).done == 3
    assert again._base._writer.execute("PRAGMA user_version").fetchone() == (database.VERSION,)
    again.close()


def test_a_file_of_a_newer_version_or_another_program_is_left_alone(path: Path, study: Study):
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE things (x)")
    base.commit()
    with pytest.raises(UserError, match="is a database of another program; move it away"):
        Store(path, study)
    assert base.execute("SELECT name FROM sqlite_master").fetchall() == [("things",)]
    base.execute(f"PRAGMA user_version = {database.VERSION + 1}")
    base.close()
    before = path.read_bytes()
    for opening in (lambda: Store(path, study), lambda: backup(path, path.with_name("out"))):
        with pytest.raises(UserError, match="was written by a newer version of this project"):
            opening()
    assert path.read_bytes() == before


def test_names_and_token_are_for_the_owner_alone(path: Path, study: Study):
    path.touch(0o644)
    before = os.umask(0)
    try:
        store = Store(path, study)
        store.token()
        kept = list(path.parent.glob("answers*"))
        assert len(kept) > 1 and {stat.S_IMODE(one.stat().st_mode) for one in kept} == {0o600}
        store.close()
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "link beside"])
def test_the_file_is_a_plain_one(path: Path, study: Study, tmp_path: Path, kind: str):
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.with_name("answers.sqlite-wal").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="answers.sqlite"):
        Store(path, study)
    assert not (tmp_path / "elsewhere").exists()


def test_the_operator_reads_of_one_trouble_once_in_a_while(monkeypatch):
    told, now = [], [0.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    operator = Operator(told.append)
    for _ in range(4):
        operator.report("the disk is full")
    operator.report("another")
    assert told == ["error: the disk is full", "error: another"]
    now[0] = limits.QUIET_S
    operator.report("the disk is full")
    assert told[2:] == ["error: the disk is full (3 more times since the last report)"]


@pytest.mark.parametrize("how", ["an item less", "a system renamed", "another kind"])
def test_a_study_that_was_changed_since_raters_entered_is_not_served(store: Store, path: Path, study: Study, how: str):
    rate(store, "anna", 0)
    store.close()
    changes = {
        "an item less": {"items": study.items[1:]},
        "a system renamed": {"systems": ["other", *study.systems[1:]]},
        "another kind": {"kind": "single" if study.kind == "pair" else "pair"},
    }
    with pytest.raises(
        UserError, match="study.json was changed after raters had started .*restore it, or move .* away"
    ):
        Store(path, study.model_copy(update=changes[how]))
    Store(path, study).close()


def test_answers_to_what_the_study_does_not_have_are_a_sentence(store: Store, path: Path, study: Study):
    rate(store, "anna", 2)
    store._base._writer.execute("UPDATE tasks SET item = 'of another'")
    with pytest.raises(UserError, match="answers.sqlite has answers to .*of another.* that do not fit study.json"):
        store.votes()
