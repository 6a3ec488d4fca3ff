"""The SQLite file behind a study's answers: opened, written, read, copied, and honest about what goes wrong."""

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

VERSION = 1
"""Of the tables, kept as the file's `user_version`. 0 is what was written before it was kept; its tables are the same."""
WAIT_S = 5.0
"""How long a request waits for another one, or for another program that holds the file."""

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
_LATER = "What you saved before is kept. Please tell whoever sent you here, and press Save again later."
_STOP = "Please stop here, and tell whoever sent you here."
_REASONS = (
    ("full", "the disk is full; make room", f"the study's disk is full. {_LATER}"),
    ("locked", "another program holds it; end that", f"another program is using the file. {_LATER}"),
    ("busy", "another program holds it; end that", f"another program is using the file. {_LATER}"),
    ("readonly", "it may not be written; change its permissions", f"the file may not be written. {_LATER}"),
    ("malformed", "it is damaged; stop the server and put a backup in its place", f"the file is damaged. {_STOP}"),
    ("not a database", "it is damaged; stop the server and put a backup in its place", f"the file is damaged. {_STOP}"),
)
"""Words of SQLite's message, what the operator is told, and what a rater is."""


class Unavailable(UserError):
    """The answers cannot be written or read now. Nothing that was acknowledged is lost by it.

    Attributes:
      for_rater: the same, for the one who waits.
    """

    def __init__(self, path: Path, reason: str, for_rater: str):
        super().__init__(f"cannot keep answers in {path}: {reason}")
        self.for_rater = f"Not saved: {for_rater}"


class Database:
    """One file, a connection that writes and one that reads; safe to use from several threads, and beside other processes.

    Args:
      path: an .sqlite file on a local disk; made when missing, for its owner alone.
      study: the id of the study whose answers it holds.

    Raises:
      UserError: it cannot be opened, is no database, of a newer version, or of another study.
    """

    def __init__(self, path: Path, study: str):
        self._path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        self._inode = _made_private(path)
        self._rescued: tuple[str, str] | None = None
        self._open: list[sqlite3.Connection] = []
        try:
            self._writer, self._reader = (self._connect() for _ in range(2))
            with _told(path):
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
        """Closes the file, with everything in it and nothing beside it."""
        for base in reversed(self._open):
            with contextlib.suppress(sqlite3.Error):  # what was acknowledged is on the disk as it is
                base.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            base.close()
        self._open.clear()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction. When the block has ended, what it wrote is on the disk, in the file that has this name.

        Raises:
          Unavailable: it could not be written; nothing of it is kept.
        """
        with self._held(self._writing), _told(self._path):
            self._check_place()
            if self._writer.in_transaction:  # the disk refused even to take the last one back
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
        """One view of the file, whoever writes meanwhile.

        Raises:
          Unavailable: it could not be read.
        """
        with self._held(self._reading), _told(self._path):
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("ROLLBACK")

    def _connect(self) -> sqlite3.Connection:
        self._open.append(_connected(self._path))
        return self._open[-1]

    def _prepare(self, study: str) -> None:
        """Makes the tables, or sees to it that they are those of this study."""
        with self.write() as base:
            tables = {name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and "meta" not in tables:
                raise UserError(f"{self._path} is a database of another program; move it away")
            for table in _TABLES:
                base.execute(table)
            base.execute(f"PRAGMA user_version = {VERSION}")
            base.execute("INSERT OR IGNORE INTO meta VALUES ('study', ?)", (study,))
            if base.execute("SELECT value FROM meta WHERE name = 'study'").fetchone()[0] != study:
                raise UserError(f"{self._path} holds the answers of another study; move it away")

    @contextlib.contextmanager
    def _held(self, lock: threading.Lock) -> Iterator[None]:
        if not lock.acquire(timeout=WAIT_S):
            raise _unavailable(self._path, "locked")
        try:
            yield
        finally:
            lock.release()

    def _check_place(self) -> None:
        """A file that was deleted or replaced goes on taking answers that nobody will ever see."""
        if _inode(self._path) == self._inode:
            return
        if self._rescued is None:
            self._rescued = _rescue(self._writer, self._path)
        saved, for_rater = self._rescued
        reason = f"it was deleted, moved or replaced while serving; {saved}; stop the server and start it again"
        raise Unavailable(self._path, reason, f"the file is gone. {for_rater}")


def backup(path: Path, out: Path) -> None:
    """Copies the answers into one file, complete in itself, also while they are being served.

    Args:
      path: a study's `answers.sqlite`.
      out: where to; nothing may be there yet, whatever it is.

    Raises:
      UserError: there are no answers, they are damaged, something is at `out`, or the place cannot be written.
    """
    if not path.is_file() or path.is_symlink():
        raise UserError(f"there are no answers in {path.parent} yet; serve the study first")
    with contextlib.closing(_connected(path)) as source:
        _copy(source, path, out)


def _copy(source: sqlite3.Connection, path: Path, out: Path) -> None:
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with video.refused_by_disk(out):
            if os.path.lexists(out):
                raise UserError(f"{out} is there already, and a backup never overwrites; name another file")
            out.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            with _told(path), contextlib.closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, without -wal and -shm
                found = copy.execute("PRAGMA integrity_check").fetchone()[0]
            if found != "ok":
                raise UserError(f"{path} is damaged ({found}); an older backup may be whole")
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            # The name is taken first, so that what somebody put there meanwhile is not overwritten either.
            os.close(os.open(out, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            os.replace(part, out)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _rescue(base: sqlite3.Connection, path: Path) -> tuple[str, str]:
    """Saves what a file that has lost its name still holds, as long as it is open here; says so to operator and rater."""
    out = path.with_name(f"answers-rescued-{time.strftime('%Y%m%d-%H%M%S')}.sqlite")
    try:
        _copy(base, path, out)
    except UserError as error:
        return f"what it held could not be saved either ({error})", _STOP
    return f"what it held is in {out}", f"What you saved before is kept. {_STOP}"


def _connected(path: Path) -> sqlite3.Connection:
    with _told(path):
        base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
        base.execute("PRAGMA trusted_schema = OFF")  # the file may be a stranger's
        (version,) = base.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        base.close()
        raise UserError(f"{path} was written by a newer version of this project; use that one")
    return base


def _made_private(path: Path) -> tuple[int, int]:
    """Makes the file when missing; nobody else may read names and token. Returns which file it is."""
    for beside in ("-wal", "-shm", "-journal"):
        if os.path.islink(f"{path}{beside}"):
            raise UserError(f"{path}{beside} is a link; move it away")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags, 0o600)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path} is no plain file; move it away")
            if stat.S_IMODE(status.st_mode) & 0o077:
                os.fchmod(handle, 0o600)
        finally:
            os.close(handle)
    except OSError as error:  # a link is one, too, for O_NOFOLLOW
        reason = "it is a link" if os.path.islink(path) else error.strerror
        raise UserError(f"cannot keep answers in {path} ({reason}); use a folder on a local disk") from error
    return status.st_dev, status.st_ino


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except sqlite3.Error as error:
        raise _unavailable(path, str(error)) from error


def _unavailable(path: Path, message: str) -> Unavailable:
    for word, reason, for_rater in _REASONS:
        if word in message:
            return Unavailable(path, reason, for_rater)
    return Unavailable(path, f"{message}; use a folder on a local disk", f"the disk reports an error. {_LATER}")
