"""Raters and their answers in an SQLite file; an acknowledged answer is on the disk."""

import json
import secrets
import sqlite3
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from cdcd_video.errors import UserError
from cdcd_video.rate.assign import Check, Task, tasks_for
from cdcd_video.rate.database import Database
from cdcd_video.rate.study import NOISE, Item, Study

MAX_NAME = 60
MAX_SECONDS = 24 * 3600.0


class Refused(Exception):
    """An answer that is rejected; the message is for the rater."""


@dataclass(frozen=True)
class Page:
    """A task of a rater."""

    trial: str
    """An opaque id of this task of this rater."""
    attempt: int
    """How often the rater has undone its answer."""
    task: Task


@dataclass(frozen=True)
class Progress:
    """The progress of a rater."""

    rater: str
    done: int
    total: int
    page: Page | None
    """The current page; None when all are done."""
    upcoming: Page | None
    """The page after it."""
    last: str | None
    """The last answered trial, which can be undone."""


@dataclass(frozen=True)
class Vote:
    """One answered page."""

    rater: str
    item: str
    systems: tuple[str, ...]
    check: Check
    answers: Mapping[str, int]
    seconds: float
    """From display to saving."""


def checked_name(name: str) -> str:
    """A normalised name: NFKC, single spaces.

    Raises:
      Refused: it is empty, too long, or has unprintable characters.
    """
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    if not name:
        raise Refused("Please enter a name.")
    if len(name) > MAX_NAME:
        raise Refused(f"Please enter a name of at most {MAX_NAME} characters.")
    if not name.isprintable():
        raise Refused("The name has unprintable characters; please remove them.")
    return name


class Store:
    """The answers of one study; safe for several threads and processes.

    Every method raises `database.Unavailable` if the file cannot be written or read; nothing is acknowledged then.
    """

    def __init__(self, path: Path, study: Study):
        """Opens the file, or creates it.

        Args:
          path: an .sqlite file on a local disk.
          study: what is rated.

        Raises:
          UserError: the file cannot be opened, or is not the database of this study.
        """
        self._study, self._path, self._base = study, path, Database(path, study.id)
        try:
            self._check_tasks()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file."""
        self._base.close()

    def token(self, *, renew: bool = False) -> str:
        """The secret that raters on other machines need; it persists across restarts.

        Args:
          renew: makes a new one, so that old links stop working.
        """
        if not renew:
            with self._base.read() as base:
                row = base.execute("SELECT value FROM meta WHERE name = 'token'").fetchone()
            if row is not None:
                return row[0]
        with self._base.write() as base:
            if renew:
                base.execute("DELETE FROM meta WHERE name = 'token'")
            base.execute("INSERT OR IGNORE INTO meta VALUES ('token', ?)", (secrets.token_urlsafe(24),))
            return base.execute("SELECT value FROM meta WHERE name = 'token'").fetchone()[0]

    def enter(self, name: str) -> str:
        """Registers a rater, or finds a known one.

        Args:
          name: as typed; case does not matter.

        Returns:
          The secret key of the rater, the same at every visit.

        Raises:
          Refused: the name cannot be used.
        """
        name = checked_name(name)
        folded = name.casefold()
        with self._base.write() as base:
            known = base.execute("SELECT key FROM raters WHERE folded = ?", (folded,)).fetchone()
            if known:
                return known[0]
            key = secrets.token_urlsafe(16)
            row = "INSERT INTO raters (folded, name, key, entered) VALUES (?, ?, ?, ?)"
            rater = base.execute(row, (folded, name, key, time.time())).lastrowid
            base.executemany(
                "INSERT INTO tasks (trial, rater, position, item, shown, kind) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (secrets.token_urlsafe(9), rater, position, task.item, json.dumps(task.systems), task.check)
                    for position, task in enumerate(tasks_for(self._study, folded))
                ],
            )
            return key

    def progress(self, key: str) -> Progress | None:
        """The progress of the rater with this key; None if there is none."""
        with self._base.read() as base:
            return _progress(base, key)

    def answer(self, key: str, trial: str, attempt: int, answers: Mapping[str, int], seconds: float) -> Progress:
        """Stores the answers to the current page; they are on the disk when this returns.

        An answer that is sent twice, by a double click or after a lost reply, is stored once.

        Args:
          key: of the rater.
          trial: of the page.
          attempt: of the page.
          answers: a value for every question of the study.
          seconds: from display to saving.

        Returns:
          The new progress.

        Raises:
          Refused: the rater is unknown, the page is not the current one, or a question has no answer.
        """
        if set(answers) != set(self._study.questions):
            raise Refused("Please answer every question.")
        if not all(value in self._study.choices for value in answers.values()):
            raise Refused("An answer is not one of the choices.")
        with self._base.write() as base:
            before = _known(base, key)
            page = before.page
            if page is None or trial != page.trial:
                _refuse_unless_answered(base, key, trial)
                return before
            if attempt != page.attempt:
                return before
            rows = [(trial, attempt, question, value) for question, value in answers.items()]
            base.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", rows)
            facts = time.time(), min(max(seconds, 0.0), MAX_SECONDS), trial
            base.execute("UPDATE tasks SET answered = ?, seconds = ? WHERE trial = ?", facts)
            return _known(base, key)

    def undo(self, key: str, trial: str) -> Progress:
        """Opens the last answered page again. Its old answers stay in the file and are not counted.

        Args:
          key: of the rater.
          trial: of the page; any but the last one changes nothing.

        Raises:
          Refused: the rater is unknown.
        """
        with self._base.write() as base:
            if _known(base, key).last == trial:
                row = "UPDATE tasks SET answered = NULL, seconds = NULL, attempt = attempt + 1 WHERE trial = ?"
                base.execute(row, (trial,))
            return _known(base, key)

    def votes(self) -> list[Vote]:
        """All answers that were not undone, by rater, in the order of the pages."""
        query = """
            SELECT tasks.trial, raters.name, item, shown, kind, seconds, question, value FROM tasks
            JOIN raters ON raters.id = tasks.rater
            JOIN answers ON answers.trial = tasks.trial AND answers.attempt = tasks.attempt
            WHERE answered IS NOT NULL ORDER BY raters.id, position
        """
        with self._base.read() as base:
            rows = base.execute(query).fetchall()
        found: dict[str, tuple] = {}
        for trial, rater, item, systems, kind, seconds, question, value in rows:
            found.setdefault(trial, (rater, item, _systems(systems), kind, {}, seconds))[4][question] = value
        votes = [Vote(*vote) for vote in found.values()]
        self._check(votes)
        return votes

    def totals(self) -> dict[str, int]:
        """Number of pages of each rater."""
        query = "SELECT name, COUNT(*) FROM raters JOIN tasks ON tasks.rater = raters.id GROUP BY raters.id"
        with self._base.read() as base:
            return dict(base.execute(query).fetchall())

    def _check_tasks(self) -> None:
        """Refuses a study that was changed after raters got their pages."""
        with self._base.read() as base:
            rows = base.execute("SELECT DISTINCT item, shown, kind FROM tasks").fetchall()
        items = {item.name: item for item in self._study.items}
        for name, systems, kind in rows:
            if not self._fits(items.get(name), _systems(systems)) or kind not in get_args(Check):
                raise UserError(
                    f"study.json was changed after raters had started (a page of {name} no longer fits); restore it, or move"
                    f" {self._path} away to start again"
                )

    def _fits(self, item: Item | None, systems: Sequence[str]) -> bool:
        """Whether the study has the item and systems of a page."""
        known = {*self._study.systems, *([NOISE] if item and item.noise else [])}
        return item is not None and len(systems) == (2 if self._study.kind == "pair" else 1) and set(systems) <= known

    def _check(self, votes: Sequence[Vote]) -> None:
        """Refuses a file whose answers do not fit the study."""
        items = {item.name: item for item in self._study.items}
        for vote in votes:
            fits = self._fits(items.get(vote.item), vote.systems)
            fits &= vote.check in get_args(Check) and isinstance(vote.seconds, float)
            fits &= set(vote.answers) == set(self._study.questions)
            if not fits or not set(vote.answers.values()) <= set(self._study.choices):
                raise UserError(
                    f"{self._path} has answers to {vote.item} that do not fit study.json; restore the study.json of these answers"
                )


def _systems(text: str) -> tuple[str, ...]:
    try:
        systems = json.loads(text)
    except ValueError:
        systems = None
    return tuple(map(str, systems)) if isinstance(systems, list) else ()


def _known(base: sqlite3.Connection, key: str) -> Progress:
    progress = _progress(base, key)
    if progress is None:
        raise Refused("Please enter your name first.")
    return progress


def _progress(base: sqlite3.Connection, key: str) -> Progress | None:
    rater = base.execute("SELECT id, name FROM raters WHERE key = ?", (key,)).fetchone()
    if rater is None:
        return None
    count = "SELECT COUNT(*), COUNT(answered) FROM tasks WHERE rater = ?"
    total, done = base.execute(count, rater[:1]).fetchone()
    open_ = "SELECT trial, attempt, item, shown, kind FROM tasks WHERE rater = ? AND answered IS NULL"
    rows = base.execute(f"{open_} ORDER BY position LIMIT 2", rater[:1]).fetchall()
    pages = [Page(row[0], row[1], Task(row[2], _systems(row[3]), row[4])) for row in rows]
    latest = "SELECT trial FROM tasks WHERE rater = ? AND answered IS NOT NULL ORDER BY position DESC LIMIT 1"
    last = base.execute(latest, rater[:1]).fetchone()
    page, upcoming = (*pages, None, None)[:2]
    return Progress(rater[1], done, total, page, upcoming, last[0] if last else None)


def _refuse_unless_answered(base: sqlite3.Connection, key: str, trial: str) -> None:
    query = "SELECT 1 FROM tasks JOIN raters ON raters.id = rater WHERE key = ? AND trial = ? AND answered NOT NULL"
    if base.execute(query, (key, trial)).fetchone() is None:
        raise Refused("This is not the current page; please reload the page.")
