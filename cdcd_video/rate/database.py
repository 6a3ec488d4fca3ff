"""The SQLite file of a study's answers: opening, transactions, backup, and errors as messages."""

import contextlib
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cdcd_video import video
from cdcd_video.errors import UserError
from cdcd_video.storage.folder_lock import folder_lock
from cdcd_video.storage.whole_file import remove_left_parts

VERSION = 1
"""Version of the tables, stored as `user_version`. Files of earlier versions have 0 and the same tables."""
WAIT_S = 5.0
"""How long a request waits for another one, or for another program that locks the file."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS raters (
      id INTEGER PRIMARY KEY, folded TEXT NOT NULL UNIQUE, name TEXT NOT NULL, key TEXT NOT NULL UNIQUE,
      entered REAL NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS tasks (
      trial TEXT PRIMARY KEY, rater INTEGER NOT NULL REFERENCES raters, position INTEGER NOT NULL, item TEXT NOT NULL,
      shown TEXT NOT NULL, kind TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, answered REAL, seconds REAL,
      UNIQUE (rater, position)
    )""",
    """CREATE TABLE IF NOT EXISTS answers (
      trial TEXT NOT NULL REFERENCES tasks, attempt INTEGER NOT NULL, question TEXT NOT NULL, value INTEGER NOT NULL,
      PRIMARY KEY (trial, attempt, question)
    )""",
)
_LATER = "Your earlier answers are saved. Please contact the person who sent you the link, and press Save again later."
_STOP = "Please stop, and contact the person who sent you the link."
_REASONS = (
    ("full", "the disk is full; free some space", f"the disk of the study is full. {_LATER}"),
    (
        "locked",
        "another program locks it; stop that program",
        f"another program is using the file of answers. {_LATER}",
    ),
    ("busy", "another program locks it; stop that program", f"another program is using the file of answers. {_LATER}"),
    ("readonly", "it is read-only; change its permissions", f"the file of answers is read-only. {_LATER}"),
    ("malformed", "it is damaged; stop the server and restore a backup", f"the file of answers is damaged. {_STOP}"),
    (
        "not a database",
        "it is damaged; stop the server and restore a backup",
        f"the file of answers is damaged. {_STOP}",
    ),
)
"""A word of SQLite's message, the message for the operator, and the one for the rater."""


class Unavailable(UserError):
    """The answers cannot be written or read now; acknowledged ones are not lost.

    Attributes:
      for_rater: the message for the rater.
    """

    def __init__(self, path: Path, reason: str, for_rater: str):
        super().__init__(f"cannot store answers in {path}: {reason}")
        self.for_rater = f"Not saved: {for_rater}"


class Database:
    """One file with a connection that writes and one that reads; safe for several threads and processes.

    Args:
      path: an .sqlite file on a local disk; created if missing, readable by its owner alone.
      study: the id of the study whose answers it holds.

    Raises:
      UserError: it cannot be opened, is not a database, or belongs to a newer version or to another study.
    """

    def __init__(self, path: Path, study: str):
        self._path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._inode = _made_private(path)
        self._rescued: tuple[str, str] | None = None
        self._open: list[sqlite3.Connection] = []
        try:
            self._writer, self._reader = (self._connect() for _ in range(2))
            with _sqlite_errors(path):
                # Readers go on while others write.
                self._writer.execute("PRAGMA journal_mode = WAL")
                # In WAL mode NORMAL may lose the last commits when the power fails; FULL waits for the disk at each.
                self._writer.execute("PRAGMA synchronous = FULL")
                # After every commit into the file itself, so that little is in the -wal beside it.
                self._writer.execute("PRAGMA wal_autocheckpoint = 1")
                self._writer.execute("PRAGMA foreign_keys = ON")
                self._reader.execute("PRAGMA query_only = ON")
            self._prepare(study)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file; all data are in it, and none in files beside it."""
        for base in reversed(self._open):
            with contextlib.suppress(sqlite3.Error):  # what was acknowledged is on the disk as it is
                base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            base.close()
        self._open.clear()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction; after the block its data are on the disk, in the file of this name.

        Raises:
          Unavailable: the transaction failed and was rolled back.
        """
        with self._held(self._writing), _sqlite_errors(self._path):
            self._check_place()
            if self._writer.in_transaction:  # the last rollback failed
                self._writer.execute("ROLLBACK")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                raise
            self._check_place()

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A consistent view of the file during concurrent writes.

        Raises:
          Unavailable: it could not be read.
        """
        with self._held(self._reading), _sqlite_errors(self._path):
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        self._open.append(_connected(self._path))
        return self._open[-1]

    def _prepare(self, study: str) -> None:
        """Creates the tables, or checks that they belong to this study."""
        with self.write() as base:
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and "meta" not in tables:
                raise UserError(f"{self._path} is a database of another program; move it away")
            for table in _TABLES:
                base.execute(table)
            base.execute(f"PRAGMA user_version = {VERSION}")
            base.execute("INSERT OR IGNORE INTO meta VALUES ('study', ?)", (study,))
            if base.execute("SELECT value FROM meta WHERE name = 'study'").fetchone()[0] != study:
                raise UserError(f"{self._path} has the answers of another study; move it away")

    @contextlib.contextmanager
    def _held(self, lock: threading.Lock) -> Iterator[None]:
        if not lock.acquire(timeout=WAIT_S):
            raise _unavailable(self._path, "locked")
        try:
            yield
        finally:
            lock.release()

    def _check_place(self) -> None:
        """Checks that the file was not deleted or replaced: answers written to it would be lost."""
        if _inode(self._path) == self._inode:
            return
        if self._rescued is None:
            self._rescued = _rescue(self._writer, self._path)
        saved, for_rater = self._rescued
        reason = f"it was deleted, moved or replaced while serving; {saved}; stop the server and start it again"
        raise Unavailable(self._path, reason, f"the file of answers is gone. {for_rater}")


def backup(path: Path, out: Path) -> None:
    """Copies the answers to a single file, also while the page is served.

    Args:
      path: the `answers.sqlite` of a study.
      out: the copy; it must not exist.

    Raises:
      UserError: there are no answers, they are damaged, or `out` exists or cannot be written.
    """
    if not path.is_file() or path.is_symlink():
        raise UserError(f"there are no answers in {path.parent}; serve the study first")
    with folder_lock(out), contextlib.closing(_connected(path)) as source:
        remove_left_parts(out.parent, out.name)
        _copy(source, path, out)


def _copy(source: sqlite3.Connection, path: Path, out: Path) -> None:
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with video.refused_by_disk(out):
            if os.path.lexists(out):
                raise UserError(f"{out} exists, and a backup does not overwrite files; name another file")
            out.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with _sqlite_errors(path), contextlib.closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
                found = copy.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise UserError(f"{path} is damaged ({found}); use an older backup")
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            _name_new(part, out)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _name_new(part: Path, out: Path) -> None:
    """Renames a file; what was created meanwhile is not overwritten, and no empty file is there for a moment.

    Raises:
      FileExistsError: there is something by this name.
    """
    try:
        os.link(part, out)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is reserved first
        os.close(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.replace(part, out)


def _rescue(base: sqlite3.Connection, path: Path) -> tuple[str, str]:
    """Copies the data of a deleted file while it is open; returns the messages for operator and rater."""
    out = path.with_name(f"answers-rescued-{time.strftime('%Y%m%d-%H%M%S')}.sqlite")
    try:
        _copy(base, path, out)
    except UserError as error:
        return f"its data could not be copied ({error})", _STOP
    return f"its data are in {out}", f"Your earlier answers are saved. {_STOP}"


def _connected(path: Path) -> sqlite3.Connection:
    with _sqlite_errors(path):
        base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        base.execute("PRAGMA trusted_schema = OFF")  # the file is not trusted
        (version,) = base.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        base.close()
        raise UserError(f"{path} was written by a newer version of this project; use that version")
    return base


def _made_private(path: Path) -> tuple[int, int]:
    """Creates the file if missing, readable by its owner alone; returns its device and inode."""
    for beside in ("-wal", "-shm", "-journal"):
        if os.path.islink(f"{path}{beside}"):
            raise UserError(f"{path}{beside} is a link; remove it")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags, 0o600)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path} is not a regular file; move it away")
            if stat.S_IMODE(status.st_mode) & 0o077 and hasattr(os, "fchmod"):  # Windows goes by the folder's rights
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError as error:  # O_NOFOLLOW raises this for a link too
        reason = "it is a link" if os.path.islink(path) else error.strerror
        raise UserError(f"cannot store answers in {path} ({reason}); use a folder on a local disk") from error
    return status.st_dev, status.st_ino


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    """Turns errors of SQLite into `Unavailable`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _unavailable(path, str(error)) from error


def _unavailable(path: Path, message: str) -> Unavailable:
    for word, reason, for_rater in _REASONS:
        if word in message:
            return Unavailable(path, reason, for_rater)
    return Unavailable(path, f"{message}; use a folder on a local disk", f"the disk reports an error. {_LATER}")
