"""A node's link to a shared engine, which a test can cut, and hold between any two calls."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from jackfield.engine import (
    Arrived,
    Commit,
    Committed,
    Conflict,
    Due,
    Engine,
    EngineUnavailable,
    Feed,
    History,
    Key,
    Lost,
    Record,
    Snapshot,
)

if TYPE_CHECKING:
    from jackfield import Clock

__all__ = ["Link"]


class Link:
    """An engine that passes everything on to another, unless it is cut."""

    def __init__(self, engine: Engine) -> None:
        self.dead = False
        self.calls: list[str] = []
        """What has been called, by name."""
        self._engine = engine
        self._whole = anyio.Event()
        self._whole.set()
        self.gate: Gate | None = None

    def cut(self) -> None:
        self._whole = anyio.Event()

    def mend(self) -> None:
        self._whole.set()

    async def _pass(self, call: str) -> None:
        self.calls.append(call)
        if self.gate is not None:
            await self.gate.pass_through()
        if self.dead or not self._whole.is_set():
            raise EngineUnavailable("the link is cut")

    def open(self, history: History, clock: Clock) -> AbstractAsyncContextManager[None]:
        return self._engine.open(history, clock)

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        await self._pass("read")
        return await self._engine.read(workspace, keys, tables)

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        await self._pass("commit")
        return await self._engine.commit(workspace, commit)

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        await self._pass("records")
        return await self._engine.records(workspace, after, upto, limit)

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        if self.dead or not self._whole.is_set():
            raise EngineUnavailable("the link is cut")
        return await self._engine.due(limit)

    @asynccontextmanager
    async def feed(self) -> AsyncGenerator[Feed, None]:
        async with self._engine.feed() as feed:
            yield _LinkFeed(self, feed)


class _LinkFeed:
    def __init__(self, link: Link, feed: Feed) -> None:
        self._link = link
        self._feed = feed

    def want(self, workspace: str, after: int) -> None:
        self._feed.want(workspace, after)

    def release(self, workspace: str) -> None:
        self._feed.release(workspace)

    async def __aiter__(self) -> AsyncIterator[Arrived | Lost]:
        async for news in self._feed:
            await self._link._whole.wait()
            yield news


class Gate:
    """Holds every call of a link until it is let through, one at a time."""

    def __init__(self) -> None:
        self._waiting: list[anyio.Event] = []
        self._open = False

    @property
    def waiting(self) -> int:
        """How many calls stand before it."""
        return len(self._waiting)

    async def pass_through(self) -> None:
        if self._open:
            return
        event = anyio.Event()
        self._waiting.append(event)
        await event.wait()

    def step(self) -> bool:
        """Let the oldest call through. False: there is none."""
        if not self._waiting:
            return False
        self._waiting.pop(0).set()
        return True

    def open(self) -> None:
        """Let everything through from here on."""
        self._open = True
        while self.step():
            pass
