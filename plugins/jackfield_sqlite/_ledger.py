"""Workspaces in the tables of the file: what holds, and what is written. The same rules as in every engine.

Everything here runs inside one transaction, or reads between two.
"""

from __future__ import annotations

import heapq
import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from jackfield.engine import Cell, Commit, Committed, Conflict, Due, Key, Record, Rewound, Snapshot, Trimmed
from jackfield_sqlite._keeping import PASSING, Keeping
from jackfield_sqlite._rows import Log, Rows

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Ledger", "NeedsWriting"]

_COLUMNS = "position, id, head, body, at"

_KNOWN = """
SELECT id, position FROM lasting WHERE w = :w AND id IN (SELECT value FROM json_each(:ids))
UNION ALL SELECT id, position FROM passing
    WHERE w = :w AND id IN (SELECT value FROM json_each(:ids)) AND at + :kept >= :now
UNION ALL SELECT id, NULL FROM silent WHERE w = :w AND id IN (SELECT value FROM json_each(:ids))
"""


class NeedsWriting(Exception):
    """It cannot be answered by reading alone."""


class Ledger:
    """`is_wanted` says which workspaces a feed wants."""

    def __init__(self, connection: sqlite3.Connection, is_wanted: Callable[[str], bool]) -> None:
        self._ask = connection.execute
        self._ask_many = connection.executemany
        self._rows = Rows(connection)
        self.keeping = Keeping(connection, self._rows, is_wanted)

    def begin(self) -> None:
        """A transaction, or a look between two."""
        self._rows.forget()

    def finish(self) -> None:
        """Trim what was written to, and write back what is known."""
        for log in self._rows.logs():
            self.keeping.trim(log)
        self._rows.save()

    # --- a workspace

    def find(self, name: str, now: float, *, as_it_is: bool) -> Log:
        """For reading. Raises NeedsWriting where there is none, and, but for `as_it_is`, where something is too
        old."""
        log = self._rows.load(name)
        if log is None or (not as_it_is and log.ages is not None and log.ages < now):
            raise NeedsWriting
        self.keeping.used(name, now)
        return log

    def log(self, name: str, now: float) -> Log:
        """As it stands now: begun where there is none, and without what is too old."""
        log = self._rows.load(name)
        if log is None:
            log = self._rows.add(name, now + PASSING)
        elif self.keeping.age(log, now):
            self.keeping.look_later(log, now)
        self.keeping.used(name, now)
        return log

    # --- what holds

    def value(self, log: Log, key: Key) -> bytes | None:
        """What a cell holds; of the field "", the table's revision."""
        if not key.field:
            revision = self._rows.revision(log, key.table)
            return None if revision is None else b"%d" % revision
        row = self._ask("SELECT value FROM cell WHERE w = ? AND tbl = ? AND field = ?", (log.w, *key)).fetchone()
        return None if row is None else row[0]

    def snapshot(self, log: Log, keys: Collection[Key], tables: Collection[str], now: float) -> Snapshot:
        """Cells and tables, and where it stands."""
        cells = {key: self.value(log, key) for key in keys}
        rows = "SELECT field, value FROM cell WHERE w = ? AND tbl = ?"
        found: dict[str, Mapping[str, bytes]] = {table: dict(self._ask(rows, (log.w, table))) for table in tables}
        return Snapshot(log.epoch, log.top, log.newest, log.newest_id, log.floor, log.floor_id, now, cells, found)

    def records(self, log: Log, after: int, upto: int, limit: int, now: float) -> list[Record]:
        """What is kept of (after, upto], in order. Raises Trimmed."""
        if after < log.floor:
            raise Trimmed(log.name)
        where = "WHERE w = ? AND position > ? AND position <= ?"
        end = "ORDER BY position LIMIT ?"
        lasting = self._ask(f"SELECT {_COLUMNS} FROM lasting {where} {end}", (log.w, after, upto, limit))
        passing = self._ask(
            f"SELECT {_COLUMNS} FROM passing {where} AND at + ? >= ? {end}", (log.w, after, upto, PASSING, now, limit)
        )
        both = heapq.merge(
            (Record(position, id, head, body, True, at) for position, id, head, body, at in lasting.fetchall()),
            (Record(position, id, head, body, False, at) for position, id, head, body, at in passing.fetchall()),
            key=itemgetter(0),
        )
        return list(islice(both, limit))

    def due(self, limit: int, now: float) -> tuple[list[Due], float | None]:
        """At most `limit` cells whose time has come, and when the next one's will."""
        rows = self._ask(
            "SELECT name, tbl, field, due FROM cell JOIN log USING (w) WHERE due IS NOT NULL ORDER BY due LIMIT ?",
            (limit + 1,),
        ).fetchall()
        found = [Due(name, Key(table, field), due) for name, table, field, due in rows[:limit] if due <= now]
        return found, rows[len(found)][3] if len(rows) > len(found) else None

    def _known(self, log: Log, ids: Sequence[str], now: float) -> dict[str, int | None]:
        asked = {"w": log.w, "ids": json.dumps(ids), "now": now, "kept": PASSING}
        return dict(self._ask(_KNOWN, asked)) if ids else {}

    def _holds(self, log: Log, position: int, id: str) -> bool:
        """Whether a lasting record of that id stands there, or has been let go since."""
        if position < log.floor or (position, id) in ((log.newest, log.newest_id), (log.floor, log.floor_id)):
            return True
        asked = self._ask("SELECT 1 FROM lasting WHERE w = ? AND position = ? AND id = ?", (log.w, position, id))
        return asked.fetchone() is not None

    # --- what is written

    def commit(self, log: Log, commit: Commit, now: float) -> tuple[Committed | Conflict, list[Record]]:
        """Compare, then write: a conflict has written nothing. Raises Rewound, with a new epoch begun."""
        if commit.epoch and commit.epoch != log.epoch:
            raise Rewound(log.name)
        if commit.seen and not self._holds(log, commit.seen, commit.seen_id):
            log.epoch = secrets.token_hex(8)
            raise Rewound(log.name)
        differing = {key: held for key, was in commit.expected.items() if (held := self.value(log, key)) != was}
        known = self._known(log, [*(draft.id for draft in commit.drafts), *commit.ids], now)
        if differing or known:
            return Conflict(differing, known, now), []
        first = log.top + 1
        records = [
            Record(position, draft.id, draft.head, draft.body, draft.lasting, now)
            for position, draft in enumerate(commit.drafts, first)
        ]
        log.top += len(records)
        # Without a record of its own it stands in front of the next, and is kept as long as that one is.
        place = max(first, log.top)
        fades = self._write_cells(log, commit.cells, place, now)
        passing, lasting = self._append(log, records)
        if commit.ids:
            rows = [(log.w, id, place, now) for id in commit.ids]
            self._ask_many("INSERT OR REPLACE INTO silent VALUES (?, ?, ?, ?)", rows)
        self.keeping.appended(log, now, passing=passing, aging=lasting or fades or bool(commit.ids))
        return Committed(first, log.top, now), records

    def _write_cells(self, log: Log, cells: Sequence[Cell], place: int, now: float) -> bool:
        """Whether one of them fades."""
        written: list[tuple[Any, ...]] = []
        deleted: list[tuple[Any, ...]] = []
        fades = False
        for key, cell in {cell.key: cell for cell in cells}.items():
            self._rows.touch(log, key.table)
            if cell.value is None:
                deleted.append((log.w, *key))
            elif cell.fading:
                written.append((log.w, *key, cell.value, cell.due, place, now))
                fades = True
            else:
                written.append((log.w, *key, cell.value, cell.due, None, None))
        if deleted:
            self._ask_many("DELETE FROM cell WHERE w = ? AND tbl = ? AND field = ?", deleted)
        if written:
            self._ask_many("INSERT OR REPLACE INTO cell VALUES (?, ?, ?, ?, ?, ?, ?)", written)
        return fades

    def _append(self, log: Log, records: Sequence[Record]) -> tuple[bool, bool]:
        """Whether one of them passes, and whether one lasts."""
        lasting: list[tuple[Any, ...]] = []
        passing: list[tuple[Any, ...]] = []
        for record in records:
            size = len(record.head) + len(record.body) + len(record.id)
            row = (log.w, record.position, record.id, record.at, size, record.head, record.body)
            if record.lasting:
                lasting.append(row)
                log.newest, log.newest_id = record.position, record.id
                log.events += 1
                log.bytes += size
            else:
                passing.append(row)
        if lasting:
            self._ask_many("INSERT INTO lasting VALUES (?, ?, ?, ?, ?, ?, ?)", lasting)
        if passing:
            self._ask_many("INSERT INTO passing VALUES (?, ?, ?, ?, ?, ?, ?)", passing)
        return bool(passing), bool(lasting)
