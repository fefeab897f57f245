"""One workspace of the embedded engine: its cells, its records, and when it lets go of what. No clock and no I/O."""

from __future__ import annotations

import heapq
import math
import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from jackfield.engine import Cell, Commit, Draft, History, Key, Record

__all__ = ["PASSING", "Ledger"]

PASSING = 60.0
"""Seconds that a passing record is kept, for connections that are behind."""

_EMPTY: Mapping[str, bytes] = {}


class Ledger:
    """Cells and records. `writes` numbers the writes of all workspaces of an engine, so that a revision is used once,
    also where a workspace is forgotten and begins anew.

    `passes` and `ages` are when to look for what has become too old: passing records, and everything else. Until then
    nothing has.
    """

    def __init__(self, writes: Iterator[int]) -> None:
        self.epoch = secrets.token_hex(8)
        self.position = 0
        self.tables: dict[str, dict[str, bytes]] = {}
        self.lasting: deque[Record] = deque()
        self.passing: deque[Record] = deque()
        self.newest: tuple[int, str] = (0, "")
        self.floor: tuple[int, str] = (0, "")
        self.known: dict[str, int | None] = {}
        self.used = 0.0
        self.passes = math.inf
        self.ages = math.inf
        self._writes = writes
        self._revisions: dict[str, int] = {}
        self._size = 0
        # Place and time of what is forgotten once the history has passed it: ids, and cells that fade.
        self._remembered: deque[tuple[int, float, str]] = deque()
        self._fading: dict[Key, tuple[int, float, Key]] = {}
        self._fades: deque[tuple[int, float, Key]] = deque()

    def is_empty(self) -> bool:
        """Whether nothing would be missed but its epoch and its position."""
        return not (self.tables or self.lasting or self.passing or self.known)

    # --- cells

    def value(self, key: Key) -> bytes | None:
        """What a cell holds; of the field "", the table's revision."""
        if key.field:
            return self.tables.get(key.table, _EMPTY).get(key.field)
        revision = self._revisions.get(key.table)
        return None if revision is None else b"%d" % revision

    def table(self, name: str) -> dict[str, bytes]:
        """A copy of a whole table."""
        return dict(self.tables.get(name, _EMPTY))

    def _put(self, key: Key, value: bytes | None) -> None:
        table = self.tables.setdefault(key.table, {})
        if value is None:
            table.pop(key.field, None)
        else:
            table[key.field] = value
        if table:
            self._revisions[key.table] = next(self._writes)
        else:  # one empty table is as good as another; a later one's revision is new all the same
            del self.tables[key.table]
            self._revisions.pop(key.table, None)

    # --- records

    def between(self, after: int, upto: int, limit: int) -> list[Record]:
        """What is kept of (after, upto], in order, at most `limit`."""
        merged = heapq.merge(_range(self.lasting, after, upto, limit), _range(self.passing, after, upto, limit))
        return list(islice(merged, limit))

    def holds(self, position: int, id: str) -> bool:
        """Whether a lasting record of that id stands there, or has been let go since."""
        if (position, id) == self.newest or position < self.floor[0] or (position, id) == self.floor:
            return True
        index = bisect_right(self.lasting, position, key=_position) - 1
        return index >= 0 and self.lasting[index].position == position and self.lasting[index].id == id

    def append(self, drafts: Sequence[Draft], now: float) -> list[Record]:
        """Give them the next positions."""
        first = self.position + 1
        records = [
            Record(position, draft.id, draft.head, draft.body, draft.lasting, now)
            for position, draft in enumerate(drafts, first)
        ]
        self.position += len(records)
        return records

    def write(self, commit: Commit, records: Iterable[Record], now: float) -> None:
        """Cells, records that were appended, and ids."""
        # Without a record of its own it stands in front of the next, and is kept as long as that one is.
        place = self.position if commit.drafts else self.position + 1
        for cell in commit.cells:
            self._put(cell.key, cell.value)
            self._fade(cell, place, now)
        for record in records:
            self.known[record.id] = record.position
            if record.lasting:
                self._remembered.append((place, now, record.id))
                self.lasting.append(record)
                self._size += _size(record)
                self.newest = (record.position, record.id)
            else:
                self.passing.append(record)
        for id in commit.ids:
            self.known[id] = None
            self._remembered.append((place, now, id))

    def _fade(self, cell: Cell, place: int, now: float) -> None:
        if cell.fading and cell.value is not None:
            self._fading[cell.key] = fade = (place, now, cell.key)
            self._fades.append(fade)
        else:
            self._fading.pop(cell.key, None)

    # --- letting go

    def trim(self, history: History) -> Iterable[Key]:
        """Let go of what is more than the history keeps; returns the cells that have faded with it."""
        kept = self.lasting
        if len(kept) <= history.events and self._size <= history.bytes:
            return ()
        while kept and (len(kept) > history.events or self._size > history.bytes):
            self._drop()
        return self._forget(-math.inf)

    def age(self, history: History, now: float) -> Iterable[Key]:
        """Let go of what has become too old; returns the cells that have faded with it."""
        if self.passes < now:
            while self.passing and self.passing[0].at + PASSING < now:
                self.known.pop(self.passing.popleft().id, None)
        if self.ages >= now:
            return ()
        since = now - history.age
        while self.lasting and self.lasting[0].at < since:
            self._drop()
        return self._forget(since)

    def next_passes(self) -> float:
        """When the oldest passing record is too old."""
        return self.passing[0].at + PASSING if self.passing else math.inf

    def next_ages(self, history: History) -> float:
        """When the oldest of everything else is."""
        oldest = math.inf
        if self.lasting:
            oldest = self.lasting[0].at
        for waiting in self._remembered, self._fades:
            if waiting:
                oldest = min(oldest, waiting[0][1])
        return oldest + history.age

    def _drop(self) -> None:
        record = self.lasting.popleft()
        self._size -= _size(record)
        self.floor = (record.position, record.id)

    def _forget(self, since: float) -> list[Key]:
        """Ids and fading cells that the history has passed."""
        floor = self.floor[0]
        while self._remembered and (self._remembered[0][0] <= floor or self._remembered[0][1] < since):
            self.known.pop(self._remembered.popleft()[2], None)
        faded: list[Key] = []
        while self._fades and (self._fades[0][0] <= floor or self._fades[0][1] < since):
            fade = self._fades.popleft()
            key = fade[2]
            if self._fading.get(key) is fade:  # else it has been written anew
                del self._fading[key]
                self._put(key, None)
                faded.append(key)
        return faded


def _position(record: Record) -> int:
    return record.position


def _size(record: Record) -> int:
    return len(record.head) + len(record.body) + len(record.id)


def _range(records: deque[Record], after: int, upto: int, limit: int) -> Iterable[Record]:
    if not records or records[-1].position <= after:
        return ()
    start = bisect_right(records, after, key=_position)
    stop = bisect_right(records, upto, key=_position)
    return islice(records, start, min(stop, start + limit))
