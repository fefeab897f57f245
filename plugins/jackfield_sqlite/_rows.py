"""The rows of workspaces and of tables' revisions: read once in a transaction, changed in memory, written back at its
end."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Log", "Rows"]

_LOADED = "w, name, epoch, top, newest, newest_id, floor, floor_id, events, bytes, ages, passes"
_SAVED = _LOADED.removeprefix("w, name, ")
_MARKS = ", ".join("?" * len(_SAVED.split(", ")))


@attrs.define
class Log:
    """A workspace. `ages` and `passes`: when to look for what has become too old; None: never."""

    w: int
    name: str
    epoch: str
    top: int = 0
    newest: int = 0
    newest_id: str = ""
    floor: int = 0
    floor_id: str = ""
    events: int = 0
    bytes: int = 0
    ages: float | None = None
    passes: float | None = None


class Rows:
    """Of one transaction, or of one look between two. Revisions count the writes of all workspaces, so that each is
    used once, also where a workspace is forgotten and begins anew."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._ask = connection.execute
        self._logs: dict[str, Log] = {}
        self._stored: dict[str, tuple[Any, ...]] = {}
        self._revisions: dict[tuple[int, str], int] = {}
        (self._writes,) = self._ask("SELECT writes FROM engine").fetchone()

    def forget(self) -> None:
        """What is known of the file is asked anew."""
        self._logs.clear()
        self._stored.clear()
        self._revisions.clear()

    def logs(self) -> list[Log]:
        """Those that have been asked for."""
        return list(self._logs.values())

    def load(self, name: str) -> Log | None:
        """A workspace, where there is one."""
        log = self._logs.get(name)
        if log is None:
            row = self._ask(f"SELECT {_LOADED} FROM log WHERE name = ?", (name,)).fetchone()
            if row is not None:
                log = self._logs[name] = Log(*row)
                self._stored[name] = row
        return log

    def add(self, name: str, passes: float) -> Log:
        """A new one."""
        epoch = secrets.token_hex(8)
        added = self._ask("INSERT INTO log VALUES (NULL, ?, ?, 0, 0, '', 0, '', 0, 0, NULL, ?)", (name, epoch, passes))
        assert added.lastrowid is not None
        log = self._logs[name] = Log(added.lastrowid, name, epoch, passes=passes)
        self._stored[name] = attrs.astuple(log)
        return log

    def delete(self, log: Log) -> None:
        """It holds nothing."""
        self._ask("DELETE FROM log WHERE w = ?", (log.w,))
        del self._logs[log.name]

    def touch(self, log: Log, table: str) -> None:
        """A cell of the table has been written, or deleted."""
        self._writes += 1
        self._revisions[log.w, table] = self._writes

    def revision(self, log: Log, table: str) -> int | None:
        """None for a table without a cell: one is as good as another."""
        if (log.w, table) in self._revisions:
            return self._revisions[log.w, table] if self._has_cells(log.w, table) else None
        row = self._ask("SELECT number FROM revision WHERE w = ? AND tbl = ?", (log.w, table)).fetchone()
        return None if row is None else row[0]

    def save(self) -> None:
        """Write back what has changed."""
        for (w, table), number in self._revisions.items():
            if self._has_cells(w, table):
                self._ask("INSERT OR REPLACE INTO revision VALUES (?, ?, ?)", (w, table, number))
            else:
                self._ask("DELETE FROM revision WHERE w = ? AND tbl = ?", (w, table))
        for log in self._logs.values():
            row = attrs.astuple(log)
            if row != self._stored[log.name]:
                self._ask(f"UPDATE log SET ({_SAVED}) = ({_MARKS}) WHERE w = ?", (*row[2:], log.w))
        if self._revisions:
            self._ask("UPDATE engine SET writes = ?", (self._writes,))

    def _has_cells(self, w: int, table: str) -> bool:
        return self._ask("SELECT 1 FROM cell WHERE w = ? AND tbl = ? LIMIT 1", (w, table)).fetchone() is not None
