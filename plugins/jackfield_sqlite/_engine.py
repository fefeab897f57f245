"""The engine: what is asked of it becomes a job for the thread that has the file."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import anyio

from jackfield.engine import (
    Arrived,
    Commit,
    Committed,
    Conflict,
    Due,
    EngineUnavailable,
    Feed,
    History,
    Key,
    Lost,
    Record,
    Snapshot,
)
from jackfield_sqlite._feed import CaughtUp, SQLiteFeed
from jackfield_sqlite._file import InUse
from jackfield_sqlite._jobs import BoundJob, CatchUpJob, CommitJob, DueJob, ReadJob, RecordsJob
from jackfield_sqlite._thread import FileThread, Job

if TYPE_CHECKING:
    from jackfield import Clock

__all__ = ["SQLiteEngine"]

ASK_AGAIN = 0.1
"""Seconds until a file that another process has is asked for again."""
CLOSED_WITHIN = 10.0
"""Seconds; a disk that hangs must not hold up the end."""


class SQLiteEngine:
    """Everything in the file `path`, which is made where there is none; its directory has to be there.

    One process has the file at a time. Where another has it, opening waits `wait` seconds for it to end, and then
    raises EngineUnavailable; a file that cannot be used raises ConfigurationError. While it is open, a disk that is
    full or a file that cannot be written raises EngineRefused: nothing happened, and it goes on when that is mended.
    """

    def __init__(self, path: str | os.PathLike[str], *, wait: float = 5.0) -> None:
        self._path = Path(path)
        self._wait = wait
        self._clock: Clock
        self._be_closed()

    @classmethod
    def from_url(cls, url: str) -> SQLiteEngine:
        """`sqlite:///relative.db`, `sqlite:////absolute.db`, with `?wait=` in seconds behind it.

        Raises ValueError for any other.
        """
        parts = urlsplit(url)
        path = unquote(parts.path.removeprefix("/"))
        if parts.netloc:
            raise ValueError("sqlite:// takes three slashes and a path, or four and an absolute one")
        if not path or path == ":memory:":
            raise ValueError("sqlite:/// must name a file; what is not to be kept is memory://")
        settings = parse_qs(parts.query, keep_blank_values=True)
        (wait,) = settings.pop("wait", ["5"])[-1:]
        if settings:
            raise ValueError(f'sqlite:/// has no setting "{next(iter(settings))}"; there is wait, in seconds')
        try:
            seconds = float(wait)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise ValueError(f'sqlite:///: wait="{wait}" is not a number of seconds')
        return cls(path, wait=seconds)

    def _be_closed(self) -> None:
        """As nobody of this process has it open."""
        self._process = os.getpid()
        self._feeds: tuple[SQLiteFeed, ...] = ()
        self._released: dict[str, float] = {}
        self._thread: FileThread | None = None
        self._nodes = 0
        self._turning: anyio.Event | None = None

    # --- from the first node that opens it to the last that leaves

    @asynccontextmanager
    async def open(self, history: History, clock: Clock) -> AsyncGenerator[None, None]:
        if self._process != os.getpid():  # open where this process was forked; the thread that has the file is there
            self._be_closed()
        while self._turning is not None:
            await self._turning.wait()
        self._clock = clock
        if self._nodes == 0:
            self._turning = anyio.Event()
            try:
                self._thread = await self._begin()
            finally:
                self._turning.set()
                self._turning = None
        self._nodes += 1
        try:
            await self._ask(BoundJob(history))
            yield
        finally:
            self._nodes -= 1
            if self._nodes == 0:
                await self._end()

    async def _begin(self) -> FileThread:
        until = self._clock.monotonic() + self._wait
        while True:
            thread = FileThread(self._path.absolute(), self._is_wanted, lambda: self._clock.time())
            try:
                await thread.open()
            except InUse as error:
                if self._clock.monotonic() >= until:
                    raise EngineUnavailable(f"{error}; stop the other one, or name another file.") from None
                await self._clock.sleep(ASK_AGAIN)
            else:
                return thread

    async def _end(self) -> None:
        thread, self._thread = self._thread, None
        assert thread is not None
        self._turning = anyio.Event()
        try:
            with anyio.move_on_after(CLOSED_WITHIN, shield=True):
                await thread.close()
        finally:
            self._turning.set()
            self._turning = None

    # --- what is asked

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        snapshot: Snapshot = await self._ask(ReadJob(workspace, tuple(keys), tuple(tables)))
        return snapshot

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        outcome: Committed | Conflict = await self._ask(CommitJob(workspace, commit, self._offer))
        return outcome

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        records: Sequence[Record] = await self._ask(RecordsJob(workspace, after, upto, limit))
        return records

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        released = dict(self._released)
        found: tuple[Sequence[Due], float | None] = await self._ask(DueJob(limit, released))
        for workspace, since in released.items():
            if self._released.get(workspace) == since:
                del self._released[workspace]
        return found

    @asynccontextmanager
    async def feed(self) -> AsyncGenerator[Feed, None]:
        feed = SQLiteFeed(self._catch_up, self._released_by, lambda seconds: self._clock.sleep(seconds))
        self._feeds = (*self._feeds, feed)
        try:
            yield feed
        finally:
            self._feeds = tuple(other for other in self._feeds if other is not feed)
            for workspace in feed.wanted:
                self._released_by(workspace)

    async def _ask(self, job: Job) -> Any:
        if self._thread is None:
            raise EngineUnavailable(f"{self._path} is not open")
        return await self._thread.ask(job)

    async def _catch_up(self, workspace: str, after: int, epoch: str) -> CaughtUp | Lost:
        found: CaughtUp | Lost = await self._ask(CatchUpJob(workspace, after, epoch))
        return found

    def _offer(self, news: Arrived | Lost) -> None:
        for feed in self._feeds:
            feed.offer(news)

    def _released_by(self, workspace: str) -> None:
        self._released[workspace] = self._clock.time()

    def _is_wanted(self, workspace: str) -> bool:
        """Asked by the thread, which may: the feeds are a tuple, and looking into a dict is one step."""
        return any(workspace in feed.wanted for feed in self._feeds)
