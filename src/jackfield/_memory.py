"""The embedded engine: everything in this process, every step one synchronous function.

Nodes that open the same object share it; that is how a test has three nodes without a server.
"""

from __future__ import annotations

import heapq
import secrets
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice

import anyio

from jackfield._clock import Clock, SystemClock
from jackfield.engine import (
    Arrived,
    Commit,
    Committed,
    Conflict,
    Due,
    Feed,
    History,
    Key,
    Lost,
    Record,
    Rewound,
    Snapshot,
    Trimmed,
)

__all__ = ["MemoryEngine"]

PASSING = 60.0
"""Seconds that a passing record is kept, for connections that are behind."""

_EMPTY: Mapping[str, bytes] = {}


class _Log:
    """One workspace: its cells and its records."""

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.position = 0
        self.tables: dict[str, dict[str, bytes]] = {}
        self.revisions: dict[str, int] = {}
        self.writes = 0
        self.lasting: deque[Record] = deque()
        self.passing: deque[Record] = deque()
        self.size = 0
        self.newest: tuple[int, str] = (0, "")
        self.floor: tuple[int, str] = (0, "")
        self.known: dict[str, int | None] = {}
        self.remembered: deque[tuple[int, str]] = deque()
        self.fading: dict[Key, int] = {}
        self.fades: deque[tuple[int, Key]] = deque()

    def value(self, key: Key) -> bytes | None:
        if key.field:
            return self.tables.get(key.table, _EMPTY).get(key.field)
        revision = self.revisions.get(key.table)
        return None if revision is None else b"%d" % revision

    def put(self, key: Key, value: bytes | None) -> None:
        table = self.tables.setdefault(key.table, {})
        if value is None:
            table.pop(key.field, None)
        else:
            table[key.field] = value
        self.writes += 1
        if table:
            self.revisions[key.table] = self.writes
        else:  # one empty table is as good as another; a later one's revision is new all the same
            del self.tables[key.table]
            self.revisions.pop(key.table, None)

    def between(self, after: int, upto: int, limit: int) -> list[Record]:
        merged = heapq.merge(_range(self.lasting, after, upto, limit), _range(self.passing, after, upto, limit))
        return list(islice(merged, limit))

    def holds(self, position: int, id: str) -> bool:
        """Whether a lasting record of that id stands there, or has been let go since."""
        if (position, id) == self.newest or position < self.floor[0] or (position, id) == self.floor:
            return True
        index = bisect_right(self.lasting, position, key=_position) - 1
        return index >= 0 and self.lasting[index].position == position and self.lasting[index].id == id

    def trim(self, history: History, now: float) -> list[Key]:
        """Let go what is no longer kept; returns the cells that have faded with it."""
        while self.passing and self.passing[0].at < now - PASSING:
            self.known.pop(self.passing.popleft().id, None)
        kept = self.lasting
        while kept and (len(kept) > history.events or self.size > history.bytes or kept[0].at < now - history.age):
            record = kept.popleft()
            self.size -= _size(record)
            self.floor = (record.position, record.id)
        floor = self.floor[0]
        while self.remembered and self.remembered[0][0] <= floor:
            self.known.pop(self.remembered.popleft()[1], None)
        faded: list[Key] = []
        while self.fades and self.fades[0][0] <= floor:
            position, key = self.fades.popleft()
            if self.fading.get(key) == position:
                del self.fading[key]
                self.put(key, None)
                faded.append(key)
        return faded


class MemoryEngine:
    """Everything in this process, and gone with it. The default."""

    def __init__(self) -> None:
        self._logs: dict[str, _Log] = {}
        self._feeds: list[_Feed] = []
        self._due: dict[tuple[str, Key], float] = {}
        self._heap: list[tuple[float, str, Key]] = []
        self._history = History()
        self._clock: Clock = SystemClock()

    @classmethod
    def from_url(cls, url: str) -> MemoryEngine:
        """The engine of `memory://`."""
        return cls()

    @asynccontextmanager
    async def open(self, history: History, clock: Clock) -> AsyncGenerator[None, None]:
        self._history = history
        self._clock = clock
        yield

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        log = self._log(workspace)
        return Snapshot(
            log.epoch,
            log.position,
            *log.newest,
            *log.floor,
            self._clock.time(),
            {key: log.value(key) for key in keys},
            {table: dict(log.tables.get(table, _EMPTY)) for table in tables},
        )

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        log = self._log(workspace)
        now = self._clock.time()
        if commit.seen and not log.holds(commit.seen, commit.seen_id):
            self._rewind(workspace, log)
            raise Rewound(workspace)
        differing = {key: held for key, was in commit.expected.items() if (held := log.value(key)) != was}
        ids = [draft.id for draft in commit.drafts]
        known = {id: log.known[id] for id in (*ids, *commit.ids) if id in log.known}
        if differing or known:
            return Conflict(differing, known, now)
        first = log.position + 1
        records = [
            Record(position, draft.id, draft.head, draft.body, draft.lasting, now)
            for position, draft in enumerate(commit.drafts, first)
        ]
        log.position = last = first + len(records) - 1
        # Without a record of its own it stands in front of the next, and is kept as long as that one is.
        place = max(first, last)
        for cell in commit.cells:
            log.put(cell.key, cell.value)
            self._schedule(workspace, cell.key, cell.due if cell.value is not None else None)
            if cell.fading:
                log.fading[cell.key] = place
                log.fades.append((place, cell.key))
            else:
                log.fading.pop(cell.key, None)
        for record in records:
            log.known[record.id] = record.position
            if record.lasting:
                log.remembered.append((place, record.id))
                log.lasting.append(record)
                log.size += _size(record)
                log.newest = (record.position, record.id)
            else:
                log.passing.append(record)
        log.known.update(dict.fromkeys(commit.ids))
        log.remembered.extend((place, id) for id in commit.ids)
        for key in log.trim(self._history, now):
            self._schedule(workspace, key, None)
        if records:
            for feed in self._feeds:
                feed.offer(workspace, records, last)
        return Committed(first, last, now)

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        log = self._log(workspace)
        if after < log.floor[0]:
            raise Trimmed(workspace)
        return log.between(after, upto, limit)

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        now = self._clock.time()
        found: list[Due] = []
        heap = self._heap
        while heap:
            when, workspace, key = heap[0]
            if self._due.get((workspace, key)) != when or (found and found[-1] == (workspace, key, when)):
                heapq.heappop(heap)  # rewritten since
            elif when <= now and len(found) < limit:
                heapq.heappop(heap)
                found.append(Due(workspace, key, when))
            else:
                break
        later = heap[0][0] if heap else None
        for due in found:
            heapq.heappush(heap, (due.due, due.workspace, due.key))
        return found, later

    @asynccontextmanager
    async def feed(self) -> AsyncGenerator[Feed, None]:
        feed = _Feed(self)
        self._feeds.append(feed)
        try:
            yield feed
        finally:
            self._feeds.remove(feed)

    def _log(self, workspace: str) -> _Log:
        log = self._logs.get(workspace)
        if log is None:
            log = self._logs[workspace] = _Log()
        return log

    def _schedule(self, workspace: str, key: Key, due: float | None) -> None:
        if due is None:
            self._due.pop((workspace, key), None)
        else:
            self._due[workspace, key] = due
            heapq.heappush(self._heap, (due, workspace, key))

    def _rewind(self, workspace: str, log: _Log) -> None:
        log.epoch = secrets.token_hex(8)
        for feed in self._feeds:
            feed.lose(workspace, log)


class _Feed:
    """A node's: what it wants, and what has happened there since."""

    def __init__(self, engine: MemoryEngine) -> None:
        self._engine = engine
        self._wanted: set[str] = set()
        self._queue: deque[Arrived | Lost] = deque()
        self._wake = anyio.Event()

    def want(self, workspace: str, after: int) -> None:
        self._wanted.add(workspace)
        log = self._engine._log(workspace)
        if after < log.floor[0]:
            self.lose(workspace, log)
        elif after < log.position:
            records = log.between(after, log.position, log.position - after)
            self._put(Arrived(workspace, records, log.position, len(records) == log.position - after))

    def release(self, workspace: str) -> None:
        self._wanted.discard(workspace)
        self._queue = deque(news for news in self._queue if news.workspace != workspace)

    def offer(self, workspace: str, records: Sequence[Record], upto: int) -> None:
        if workspace in self._wanted:
            self._put(Arrived(workspace, records, upto))

    def lose(self, workspace: str, log: _Log) -> None:
        if workspace in self._wanted:
            self._put(Lost(workspace, log.epoch, log.position))

    def _put(self, news: Arrived | Lost) -> None:
        self._queue.append(news)
        self._wake.set()

    async def __aiter__(self) -> AsyncGenerator[Arrived | Lost, None]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            self._wake = anyio.Event()
            await self._wake.wait()


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
