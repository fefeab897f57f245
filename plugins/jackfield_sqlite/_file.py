"""The file: opened by one process at a time, known for ours, and what can be wrong with it, in one line."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from jackfield.errors import ConfigurationError, EngineError, EngineRefused, EngineUnavailable

__all__ = ["File", "InUse"]

APPLICATION = 0x6A61_636B
"""Which program's file it is, as SQLite has a place for in its header."""
VERSION = 1
"""Of the tables below."""

SCHEMA = """
CREATE TABLE engine (writes INTEGER NOT NULL);
INSERT INTO engine VALUES (0);

CREATE TABLE log (
    w INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, top INTEGER NOT NULL,
    newest INTEGER NOT NULL, newest_id TEXT NOT NULL, floor INTEGER NOT NULL, floor_id TEXT NOT NULL,
    events INTEGER NOT NULL, bytes INTEGER NOT NULL, ages REAL, passes REAL
);
CREATE INDEX log_ages ON log (ages) WHERE ages IS NOT NULL;
CREATE INDEX log_passes ON log (passes) WHERE passes IS NOT NULL;

CREATE TABLE cell (
    w INTEGER NOT NULL, tbl TEXT NOT NULL, field TEXT NOT NULL, value BLOB NOT NULL, due REAL, fades INTEGER, at REAL,
    PRIMARY KEY (w, tbl, field)
) WITHOUT ROWID;
CREATE INDEX cell_due ON cell (due) WHERE due IS NOT NULL;
CREATE INDEX cell_fades ON cell (w, fades, at) WHERE fades IS NOT NULL;
CREATE TABLE revision (
    w INTEGER NOT NULL, tbl TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (w, tbl)
) WITHOUT ROWID;

CREATE TABLE lasting (
    w INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL,
    head BLOB NOT NULL, body BLOB NOT NULL
);
CREATE UNIQUE INDEX lasting_position ON lasting (w, position);
CREATE INDEX lasting_id ON lasting (w, id);
CREATE TABLE passing (
    w INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, size INTEGER NOT NULL,
    head BLOB NOT NULL, body BLOB NOT NULL
);
CREATE UNIQUE INDEX passing_position ON passing (w, position);
CREATE INDEX passing_id ON passing (w, id);
CREATE TABLE silent (
    w INTEGER NOT NULL, id TEXT NOT NULL, place INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (w, id)
) WITHOUT ROWID;
CREATE INDEX silent_place ON silent (w, place, at);
"""

# Of SQLite's codes the lower byte says what, the rest where.
_FULL = {sqlite3.SQLITE_FULL}
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_READONLY = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}


_RIGHTS = "the process must own the file, and may create others beside it."


class InUse(EngineUnavailable):
    """Another process has it."""


class File:
    """A connection to it, and the only one there is. Everything here blocks; one thread calls it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.connection = self._connect()
        self._inode = _inode(path)
        self._wal = Path(f"{path}-wal")
        self._wal_inode = _inode(self._wal)

    def close(self) -> None:
        """Let go of it, with everything in one file."""
        self.connection.close()

    def check(self) -> None:
        """Raises EngineRefused where it is no longer the file that others will find: what is written into a file that
        has been deleted is gone with the process."""
        if _inode(self.path) != self._inode or _inode(self._wal) != self._wal_inode:
            raise EngineRefused(
                f"{self.path}, or the {self._wal.name} beside it, has been deleted or replaced while it was in use; "
                "put it back, and restart"
            )

    def failure(self, error: Exception, *, committing: bool) -> EngineError:
        """What an error of SQLite's means to whoever asked, when the transaction has been rolled back.

        `committing`: it came from COMMIT. Then what was not written is not there, but of what could not be flushed
        nobody knows what a crash would leave.
        """
        if isinstance(error, EngineError):
            return error
        if not isinstance(error, sqlite3.Error):
            return EngineRefused(f"{self.path}: this cannot be kept ({error})")
        what = _code(error) & 0xFF
        if what in _FULL:
            return EngineRefused(f"{self.path}: the disk is full; make room, and it goes on")
        if what in _DAMAGED:
            return EngineRefused(f"{self.path} is damaged ({error}); stop, and put a backup in its place")
        if what in _READONLY:
            return EngineRefused(f"{self.path} can only be read ({error}); let it be written, and it goes on")
        if committing and _code(error) != sqlite3.SQLITE_IOERR_WRITE:
            return EngineUnavailable(f"{self.path}: nobody knows whether it was written ({error}); look after the disk")
        return EngineRefused(f"{self.path} cannot be written ({error}); look after the disk")

    # --- opening

    def _connect(self) -> sqlite3.Connection:
        if self.path.is_dir():
            raise ConfigurationError(f"{self.path} is a directory; name a file for the SQLite engine.")
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"{self.path}: there is no directory {self.path.parent}; create it first.")
        as_whom = os.access in os.supports_effective_ids
        if self.path.exists() and not os.access(self.path, os.W_OK, effective_ids=as_whom):
            raise ConfigurationError(f"{self.path} can only be read; {_RIGHTS}")
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
            self._prepare(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.Error):
                raise self._refusal(error) from None
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        # Held until it is closed, or the process is gone, however it went.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        # Whose it is comes first: nothing is changed in a file of others.
        is_new = self._is_new(connection)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ConfigurationError(f"{self.path} cannot have a write-ahead log here; put it on a local disk.")
        # A commit is answered when it is on the disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        connection.execute("PRAGMA cache_size = -16000")
        connection.execute("BEGIN EXCLUSIVE")
        if is_new:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        # Where nothing will be written, that shows now.
        connection.execute("UPDATE engine SET writes = writes + 1")
        connection.execute("COMMIT")

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not application and not version and not tables:
            return True
        if application != APPLICATION:
            raise ConfigurationError(f"{self.path} is the SQLite file of another program; name another file.")
        if version > VERSION:
            raise ConfigurationError(
                f"{self.path} was written by a newer jackfield (format {version}, this one knows {VERSION}); "
                "use that one, or name another file."
            )
        return False

    def _refusal(self, error: sqlite3.Error) -> Exception:
        what = _code(error) & 0xFF
        if what in _LOCKED:
            return InUse(f"{self.path} is in use by another process; one file serves one node at a time")
        if what in _FULL:
            return EngineUnavailable(f"{self.path} cannot be opened: the disk is full; make room")
        if what == sqlite3.SQLITE_NOTADB:
            return ConfigurationError(f"{self.path} is no SQLite file; name another, or put a backup in its place.")
        if what in _DAMAGED:
            return ConfigurationError(f"{self.path} is damaged ({error}); put a backup in its place.")
        if what in _READONLY or what == sqlite3.SQLITE_CANTOPEN:
            return ConfigurationError(f"{self.path} cannot be opened for writing ({error}); {_RIGHTS}")
        return EngineUnavailable(f"{self.path} cannot be opened ({error}); look after the disk")


def _code(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return code


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
