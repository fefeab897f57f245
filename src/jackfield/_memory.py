"""The embedded engine: everything in this process, every step one synchronous function.

Nodes that open the same object share it; that is how a test has three nodes without a server.
"""

from __future__ import annotations

import heapq
import math
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import count

import anyio
from anyio.lowlevel import current_token

from jackfield._clock import Clock, SystemClock
from jackfield._ledger import PASSING, Ledger
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


class MemoryEngine:
    """Everything in this process, and gone with it. The default."""

    def __init__(self) -> None:
        self._logs: dict[str, Ledger] = {}
        self._writes = count(1)
        self._feeds: list[_Feed] = []
        self._due: dict[tuple[str, Key], float] = {}
        self._heap: list[tuple[float, str, Key]] = []
        # When to look which workspace through for what is too old; each stands in it at most twice.
        self._looks: list[tuple[float, str]] = []
        self._history = History()
        self._clock: Clock = SystemClock()
        self._loops: list[object] = []
        """One for each node that has it open."""

    @classmethod
    def from_url(cls, url: str) -> MemoryEngine:
        """The engine of `memory://`."""
        return cls()

    @asynccontextmanager
    async def open(self, history: History, clock: Clock) -> AsyncGenerator[None, None]:
        self._history = history
        self._clock = clock
        here = current_token()
        self._loops.append(here)
        try:
            yield
        finally:
            self._loops.remove(here)

    @property
    def is_open(self) -> bool:
        """Whether anybody has it open in this event loop, and so hears of what is committed here."""
        return current_token() in self._loops

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        now = self._clock.time()
        log = self._log(workspace, now)
        return Snapshot(
            log.epoch,
            log.position,
            *log.newest,
            *log.floor,
            now,
            {key: log.value(key) for key in keys},
            {table: log.table(table) for table in tables},
        )

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        now = self._clock.time()
        log = self._log(workspace, now)
        current = commit.epoch in ("", log.epoch)
        if current and commit.seen and not log.holds(commit.seen, commit.seen_id):
            log.epoch = secrets.token_hex(8)
            current = False
        if not current:
            for feed in self._feeds:
                feed.lose(workspace, log)
            raise Rewound(workspace)
        differing = {key: held for key, was in commit.expected.items() if (held := log.value(key)) != was}
        ids = [draft.id for draft in commit.drafts]
        known = {id: log.known[id] for id in (*ids, *commit.ids) if id in log.known}
        if differing or known:
            return Conflict(differing, known, now)
        first = log.position + 1
        records = log.append(commit.drafts, now)
        log.write(commit, records, now)
        for cell in commit.cells:
            self._schedule(workspace, cell.key, cell.due if cell.value is not None else None)
        self._unschedule(workspace, log.trim(self._history))
        if log.passes == math.inf or log.ages == math.inf:
            self._look_later(workspace, log, now)
        if records:
            for feed in self._feeds:
                feed.offer(workspace, records, log.position)
        return Committed(first, log.position, now)

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        log = self._log(workspace, self._clock.time())
        if after < log.floor[0]:
            raise Trimmed(workspace)
        return log.between(after, upto, limit)

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        now = self._clock.time()
        self._look(now)
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
            for workspace in feed.wanted:
                self._unwanted(workspace)

    def _log(self, workspace: str, now: float) -> Ledger:
        """As it stands now: begun where there is none, and without what is too old."""
        log = self._logs.get(workspace)
        if log is None:
            log = self._logs[workspace] = Ledger(self._writes)
            self._look_later(workspace, log, now)
        elif log.passes < now or log.ages < now:
            self._age(workspace, log, now)
            self._look_later(workspace, log, now)
        log.used = now
        return log

    # --- cells that fall due

    def _schedule(self, workspace: str, key: Key, due: float | None) -> None:
        if due is None:
            self._due.pop((workspace, key), None)
        else:
            self._due[workspace, key] = due
            heapq.heappush(self._heap, (due, workspace, key))

    def _unschedule(self, workspace: str, keys: Iterable[Key]) -> None:
        for key in keys:
            self._due.pop((workspace, key), None)

    # --- what nobody needs any more

    def _look_later(self, workspace: str, log: Ledger, now: float) -> None:
        """See to it that it is looked through when something of it is too old, or in a while where nothing ages: it
        may hold nothing by then."""
        if log.ages == math.inf and (ages := log.next_ages(self._history)) < math.inf:
            log.ages = ages
            heapq.heappush(self._looks, (ages, workspace))
        if log.passes == math.inf and (log.passing or log.ages == math.inf):
            log.passes = now + PASSING
            heapq.heappush(self._looks, (log.passes, workspace))

    def _look(self, now: float) -> None:
        """Look through the workspaces whose time has come: as many as have something to let go, not all."""
        looks: dict[str, None] = {}
        while self._looks and self._looks[0][0] < now:
            when, workspace = heapq.heappop(self._looks)
            log = self._logs.get(workspace)
            if log is not None and when in (log.passes, log.ages):  # else somebody was here before us
                looks[workspace] = None
        for workspace in looks:
            log = self._logs[workspace]
            self._age(workspace, log, now)
            if not log.is_empty() or self._is_wanted(workspace):
                continue
            if log.used + PASSING < now:
                del self._logs[workspace]
            elif log.passes == math.inf:  # who has read where it stands may be about to want it
                log.passes = log.used + PASSING
                heapq.heappush(self._looks, (log.passes, workspace))

    def _age(self, workspace: str, log: Ledger, now: float) -> None:
        self._unschedule(workspace, log.age(self._history, now))
        if log.passes < now:
            log.passes = log.next_passes()
            if log.passes < math.inf:
                heapq.heappush(self._looks, (log.passes, workspace))
        if log.ages < now:
            log.ages = log.next_ages(self._history)
            if log.ages < math.inf:
                heapq.heappush(self._looks, (log.ages, workspace))

    def _is_wanted(self, workspace: str) -> bool:
        return any(workspace in feed.wanted for feed in self._feeds)

    def _unwanted(self, workspace: str) -> None:
        if (log := self._logs.get(workspace)) is not None:
            self._look_later(workspace, log, self._clock.time())


class _Feed:
    """A node's: what it wants, and what has happened there since."""

    def __init__(self, engine: MemoryEngine) -> None:
        self.wanted: dict[str, str] = {}
        """Workspace → the epoch in which it is."""
        self._engine = engine
        self._queue: deque[Arrived | Lost] = deque()
        self._wake = anyio.Event()

    def want(self, workspace: str, after: int, epoch: str = "") -> None:
        log = self._engine._log(workspace, self._engine._clock.time())
        self.wanted[workspace] = (epoch or log.epoch) if log.floor[0] <= after <= log.position else ""
        if self.wanted[workspace] != log.epoch:
            self.lose(workspace, log)
        elif after < log.position:
            records = log.between(after, log.position, log.position - after)
            self._put(Arrived(workspace, records, log.position, len(records) == log.position - after))

    def release(self, workspace: str) -> None:
        if workspace in self.wanted:
            del self.wanted[workspace]
            self._queue = deque(news for news in self._queue if news.workspace != workspace)
            self._engine._unwanted(workspace)

    def offer(self, workspace: str, records: Sequence[Record], upto: int) -> None:
        if workspace in self.wanted:
            self._put(Arrived(workspace, records, upto))

    def lose(self, workspace: str, log: Ledger) -> None:
        """Unless it knows."""
        if self.wanted.get(workspace, log.epoch) != log.epoch:
            self.wanted[workspace] = log.epoch
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
