"""Raters and their answers in one SQLite file; what was acknowledged is on the disk."""

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
    """An answer that cannot be taken; the message says why."""


@dataclass(frozen=True)
class Page:
    """A task as it is shown to a rater."""

    trial: str
    """An opaque name of this task of this rater."""
    attempt: int
    """How often the rater has taken an answer to it back."""
    task: Task


@dataclass(frozen=True)
class Progress:
    """Where a rater stands."""

    rater: str
    done: int
    total: int
    page: Page | None
    """What to rate now; None when all is done."""
    upcoming: Page | None
    """What comes after it."""
    last: str | None
    """The trial that was answered last, which can be taken back."""


@dataclass(frozen=True)
class Vote:
    """One answered page."""

    rater: str
    item: str
    shown: tuple[str, ...]
    check: Check
    answers: Mapping[str, int]
    seconds: float
    """From showing to saving."""


def checked_name(name: str) -> str:
    """A rater's name in one spelling: NFKC, single spaces.

    Raises:
      Refused: it is empty, too long, or holds characters that cannot be printed.
    """
    name = " ".join(unicodedata.normalize("NFKC", name).split())
    if not name:
        raise Refused("Please give a name.")
    if len(name) > MAX_NAME:
        raise Refused(f"Please give a name of at most {MAX_NAME} letters.")
    if not name.isprintable():
        raise Refused("The name holds characters that cannot be printed; please leave them out.")
    return name


class Store:
    """The answers of one study. Safe to use from several threads, and beside other processes.

    Every method raises `database.Unavailable` where the file cannot be written or read; nothing is acknowledged then.
    """

    def __init__(self, path: Path, study: Study):
        """Opens the file, and makes it when missing.

        Args:
          path: an .sqlite file on a local disk.
          study: what is rated.

        Raises:
          UserError: the file cannot be opened, or is no database of this study.
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
        """The secret that raters on other machines need, kept from start to start.

        Args:
          renew: makes a new one, so that old links end.
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
        """A rater comes in, for the first time or again.

        Args:
          name: as typed; letters' case does not matter.

        Returns:
          The rater's key: secret, the same at every visit.

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
                    (secrets.token_urlsafe(9), rater, position, task.item, json.dumps(task.shown), task.check)
                    for position, task in enumerate(tasks_for(self._study, folded))
                ],
            )
            return key

    def progress(self, key: str) -> Progress | None:
        """Where the rater with this key stands; None where there is no such rater."""
        with self._base.read() as base:
            return _progress(base, key)

    def answer(self, key: str, trial: str, attempt: int, answers: Mapping[str, int], seconds: float) -> Progress:
        """Keeps the answers to the rater's current page. When this returns, they are on the disk.

        The same answer sent again, by a double click or a lost reply, changes nothing; the first one counts.

        Args:
          key: the rater's.
          trial: which page.
          attempt: as shown with the page.
          answers: a value for every question of the study.
          seconds: from showing to saving.

        Returns:
          Where the rater stands now.

        Raises:
          Refused: no such rater, not the rater's current page, or not an answer to every question.
        """
        if set(answers) != set(self._study.questions):
            raise Refused("Please answer every question.")
        if not all(value in self._study.choices for value in answers.values()):
            raise Refused("An answer is none of the choices.")
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

    def take_back(self, key: str, trial: str) -> Progress:
        """Opens the page again that was answered last. What was answered stays in the file and no longer counts.

        Args:
          key: the rater's.
          trial: the page; another one than the last changes nothing.

        Raises:
          Refused: no such rater.
        """
        with self._base.write() as base:
            if _known(base, key).last == trial:
                row = "UPDATE tasks SET answered = NULL, seconds = NULL, attempt = attempt + 1 WHERE trial = ?"
                base.execute(row, (trial,))
            return _known(base, key)

    def votes(self) -> list[Vote]:
        """Everything that was answered and not taken back, rater after rater, in the order it was shown."""
        query = """
            SELECT tasks.trial, raters.name, item, shown, kind, seconds, question, value FROM tasks
            JOIN raters ON raters.id = tasks.rater
            JOIN answers ON answers.trial = tasks.trial AND answers.attempt = tasks.attempt
            WHERE answered IS NOT NULL ORDER BY raters.id, position
        """
        with self._base.read() as base:
            rows = base.execute(query).fetchall()
        found: dict[str, tuple] = {}
        for trial, rater, item, shown, kind, seconds, question, value in rows:
            found.setdefault(trial, (rater, item, _shown(shown), kind, {}, seconds))[4][question] = value
        votes = [Vote(*vote) for vote in found.values()]
        self._check(votes)
        return votes

    def totals(self) -> dict[str, int]:
        """How many pages each rater has."""
        query = "SELECT name, COUNT(*) FROM raters JOIN tasks ON tasks.rater = raters.id GROUP BY raters.id"
        with self._base.read() as base:
            return dict(base.execute(query).fetchall())

    def _check_tasks(self) -> None:
        """Refuses a study that was changed since raters got their pages: they could not be shown any more."""
        with self._base.read() as base:
            rows = base.execute("SELECT DISTINCT item, shown, kind FROM tasks").fetchall()
        items = {item.name: item for item in self._study.items}
        for name, shown, kind in rows:
            if not self._fits(items.get(name), _shown(shown)) or kind not in get_args(Check):
                raise UserError(
                    f"study.json was changed since raters entered ({name} is not in it as they were to see it); put it back, or"
                    f" move {self._path} away to begin anew"
                )

    def _fits(self, item: Item | None, shown: Sequence[str]) -> bool:
        """Whether the study has what a page shows."""
        systems = {*self._study.systems, *([NOISE] if item and item.noise else [])}
        return item is not None and len(shown) == (2 if self._study.kind == "pair" else 1) and set(shown) <= systems

    def _check(self, votes: Sequence[Vote]) -> None:
        """Refuses a file that does not belong to the study, whatever its id says."""
        items = {item.name: item for item in self._study.items}
        for vote in votes:
            fits = self._fits(items.get(vote.item), vote.shown)
            fits &= vote.check in get_args(Check) and isinstance(vote.seconds, float)
            fits &= set(vote.answers) == set(self._study.questions)
            if not fits or not set(vote.answers.values()) <= set(self._study.choices):
                raise UserError(f"{self._path} holds answers to {vote.item}, which study.json does not have like that")


def _shown(text: str) -> tuple[str, ...]:
    try:
        shown = json.loads(text)
    except ValueError:
        shown = None
    return tuple(map(str, shown)) if isinstance(shown, list) else ()


def _known(base: sqlite3.Connection, key: str) -> Progress:
    progress = _progress(base, key)
    if progress is None:
        raise Refused("Please say who you are first.")
    return progress


def _progress(base: sqlite3.Connection, key: str) -> Progress | None:
    rater = base.execute("SELECT id, name FROM raters WHERE key = ?", (key,)).fetchone()
    if rater is None:
        return None
    count = "SELECT COUNT(*), COUNT(answered) FROM tasks WHERE rater = ?"
    total, done = base.execute(count, rater[:1]).fetchone()
    open_ = "SELECT trial, attempt, item, shown, kind FROM tasks WHERE rater = ? AND answered IS NULL"
    rows = base.execute(f"{open_} ORDER BY position LIMIT 2", rater[:1]).fetchall()
    pages = [Page(row[0], row[1], Task(row[2], _shown(row[3]), row[4])) for row in rows]
    latest = "SELECT trial FROM tasks WHERE rater = ? AND answered IS NOT NULL ORDER BY position DESC LIMIT 1"
    last = base.execute(latest, rater[:1]).fetchone()
    page, upcoming = (*pages, None, None)[:2]
    return Progress(rater[1], done, total, page, upcoming, last[0] if last else None)


def _refuse_unless_answered(base: sqlite3.Connection, key: str, trial: str) -> None:
    query = "SELECT 1 FROM tasks JOIN raters ON raters.id = rater WHERE key = ? AND trial = ? AND answered NOT NULL"
    if base.execute(query, (key, trial)).fetchone() is None:
        raise Refused("This is not the page that is open now; please load the page again.")
