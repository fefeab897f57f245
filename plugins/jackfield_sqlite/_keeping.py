"""What is let go: more than the history keeps, what is too old, and workspaces that nobody needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jackfield.engine import History

if TYPE_CHECKING:
    import sqlite3

    from jackfield_sqlite._rows import Log, Rows

__all__ = ["PASSING", "Keeping"]

PASSING = 60.0
"""Seconds that a passing record is kept, for connections that are behind."""
LAZY = 5.0
"""Seconds more until they are deleted, many at once. Nobody is given them meanwhile."""
AT_ONCE = 100
"""Workspaces that are looked through at a time."""


class Keeping:
    """`is_wanted` says which workspaces a feed wants."""

    def __init__(self, connection: sqlite3.Connection, rows: Rows, is_wanted: Callable[[str], bool]) -> None:
        self.history = History()
        self._ask = connection.execute
        self._ask_many = connection.executemany
        self._rows = rows
        self._is_wanted = is_wanted
        self._used: dict[str, float] = {}

    # --- of one workspace

    def used(self, name: str, now: float) -> None:
        """Somebody has asked for it."""
        self._used.pop(name, None)  # the order is that of use
        self._used[name] = now

    def look_later(self, log: Log, now: float) -> None:
        """See to it that it is looked through in a while: it may hold nothing by then."""
        if log.ages is None and log.passes is None:
            log.passes = now + PASSING

    def appended(self, log: Log, now: float, *, passing: bool, aging: bool) -> None:
        """Something was, that passes, or that ages."""
        if passing and log.passes is None:
            log.passes = now + PASSING + LAZY
        if aging and log.ages is None:
            log.ages = now + self.history.age
        self.look_later(log, now)

    def trim(self, log: Log) -> None:
        """Let go of what is more than the history keeps."""
        history = self.history
        if log.events > history.events or log.bytes > history.bytes:
            self._drop(log, lambda at: log.events > history.events or log.bytes > history.bytes)
            self._forget(log, None)

    def age(self, log: Log, now: float) -> bool:
        """Let go of what is too old; whether it was time for it."""
        old = False
        if log.passes is not None and log.passes < now:
            old = True
            self._ask("DELETE FROM passing WHERE w = ? AND at + ? < ?", (log.w, PASSING, now))
            oldest = self._oldest("passing", "position", log)
            log.passes = None if oldest is None else oldest + PASSING + LAZY
        if log.ages is not None and log.ages < now:
            old = True
            since = now - self.history.age
            self._drop(log, lambda at: at < since)
            self._forget(log, since)
            first = (
                self._oldest("lasting", "position", log),
                self._oldest("silent", "place, at", log),
                self._oldest("cell", "fades, at", log, "AND fades IS NOT NULL"),
            )
            log.ages = min((at + self.history.age for at in first if at is not None), default=None)
        return old

    def _oldest(self, table: str, order: str, log: Log, only: str = "") -> float | None:
        asked = self._ask(f"SELECT at FROM {table} WHERE w = ? {only} ORDER BY {order} LIMIT 1", (log.w,))
        row = asked.fetchone()
        return None if row is None else row[0]

    def _drop(self, log: Log, is_over: Callable[[float], bool]) -> None:
        """Lasting records from the oldest on, as long as they are over."""
        rows = self._ask("SELECT position, id, size, at FROM lasting WHERE w = ? ORDER BY position", (log.w,))
        before = log.floor
        for position, id, size, at in rows:
            if not is_over(at):
                break
            log.events -= 1
            log.bytes -= size
            log.floor, log.floor_id = position, id
        rows.close()
        if log.floor > before:
            self._ask("DELETE FROM lasting WHERE w = ? AND position <= ?", (log.w, log.floor))

    def _forget(self, log: Log, since: float | None) -> None:
        """Ids and fading cells that the history has passed: by place, or by time."""

        def passed(rows: sqlite3.Cursor) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = []
            for place, at, *key in rows:
                if place > log.floor and (since is None or at >= since):
                    break
                found.append((log.w, *key))
            rows.close()
            return found

        ids = passed(self._ask("SELECT place, at, id FROM silent WHERE w = ? ORDER BY place, at", (log.w,)))
        if ids:
            self._ask_many("DELETE FROM silent WHERE w = ? AND id = ?", ids)
        fading = "SELECT fades, at, tbl, field FROM cell WHERE w = ? AND fades IS NOT NULL ORDER BY fades, at"
        faded = passed(self._ask(fading, (log.w,)))
        if faded:
            self._ask_many("DELETE FROM cell WHERE w = ? AND tbl = ? AND field = ?", faded)
            for _, table, _ in faded:
                self._rows.touch(log, table)

    # --- of all

    def is_anything_old(self, now: float) -> bool:
        """Whether there is something for `look`."""
        asked = self._ask(
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM log WHERE ages < ?) OR EXISTS (SELECT 1 FROM log WHERE passes < ?)",
            (now, now),
        )
        return asked.fetchone() is not None

    def look(self, released: Mapping[str, float], now: float) -> None:
        """Look through the workspaces whose time has come, and forget those that nobody needs: as many as have
        something to let go, not all. `released` are those that a feed wants no more, and since when."""
        while self._used and self._used[name := next(iter(self._used))] + PASSING < now:
            del self._used[name]
        for log in self._old(released, now):
            self.age(log, now)
            if log.ages is not None or log.passes is not None or not self._is_empty(log) or self._is_wanted(log.name):
                continue
            if log.name in self._used:  # who has read where it stands may be about to want it
                log.passes = self._used[log.name] + PASSING
            else:
                self._rows.delete(log)

    def look_through_all(self, now: float) -> None:
        """After a start: nobody wants anything yet."""
        self._ask("UPDATE log SET passes = ? WHERE ages IS NULL AND passes IS NULL", (now + PASSING,))

    def _old(self, released: Mapping[str, float], now: float) -> Iterable[Log]:
        names: dict[str, None] = {}
        for name, since in released.items():
            if (log := self._rows.load(name)) is not None:
                self.look_later(log, since)
                names[name] = None
        for column in ("ages", "passes"):
            old = self._ask(f"SELECT name FROM log WHERE {column} < ? ORDER BY {column} LIMIT ?", (now, AT_ONCE))
            names.update(dict.fromkeys(name for (name,) in old.fetchall()))
        logs = (self._rows.load(name) for name in names)
        return [log for log in logs if log is not None]

    def _is_empty(self, log: Log) -> bool:
        tables = ("cell", "lasting", "passing", "silent")
        return not any(self._ask(f"SELECT 1 FROM {table} WHERE w = ? LIMIT 1", (log.w,)).fetchone() for table in tables)
