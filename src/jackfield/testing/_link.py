"""A node's link to a shared engine, which a test can cut, slow down, and hold between any two calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from itertools import chain
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

__all__ = ["Gate", "Held", "Link"]

WITHIN = 0.000001
"""Seconds that a wall clock's number may be rounded by; what is that old but for them is old enough."""


class Link:
    """An engine that passes everything on to another, at once unless it lags, and not at all where it is cut."""

    def __init__(self, engine: Engine) -> None:
        self.calls: list[str] = []
        """What has been called, by name."""
        self.gate: Gate | None = None
        """Holds the calls, while there is one."""
        self._engine = engine
        self._clock: Clock
        self._dead = False
        self._whole = anyio.Event()
        self._whole.set()
        self._lag = 0.0
        self._ageing: anyio.CancelScope | None = None

    @property
    def dead(self) -> bool:
        """Whether its node has died. Then every call fails, those that stood at the gate too."""
        return self._dead

    @dead.setter
    def dead(self, dead: bool) -> None:
        self._dead = dead
        if self.gate is not None:
            self.gate.open()

    def cut(self) -> None:
        """Calls fail from here on, and nothing arrives."""
        if self._whole.is_set():  # who waits for an earlier cut to be mended waits on
            self._whole = anyio.Event()

    def mend(self) -> None:
        """It is whole again, and what it missed arrives."""
        self._whole.set()

    def lag(self, seconds: float) -> None:
        """What arrives does so when it is that old."""
        self._lag = seconds
        if self._ageing is not None:  # it may be old enough now
            self._ageing.cancel()

    async def _arrive(self, news: Arrived | Lost) -> None:
        """Wait until it may arrive, where the link lags or is cut."""
        now = self._clock.time()
        # What is read up after a cut is old already. And nobody says when a log was lost: a moment ago.
        at = news.records[-1].at if isinstance(news, Arrived) and news.records else now
        since = self._clock.monotonic() - max(0.0, now - at) - WITHIN
        await self._whole.wait()
        while (left := since + self._lag - self._clock.monotonic()) > 0:
            with anyio.CancelScope() as self._ageing:
                await self._clock.sleep(left)
            self._ageing = None
            await self._whole.wait()

    async def _pass(self, call: str, workspace: str, about: Iterable[object] = ()) -> None:
        self.calls.append(call)
        await self._stand(call, workspace, about)

    async def _stand(self, call: str, workspace: str, about: Iterable[object] = ()) -> None:
        if self.gate is not None:
            await self.gate.pass_through(call, workspace, about)
        if self._dead or not self._whole.is_set():
            raise EngineUnavailable("the link is cut")

    def open(self, history: History, clock: Clock) -> AbstractAsyncContextManager[None]:
        self._clock = clock
        return self._engine.open(history, clock)

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        await self._pass("read", workspace, (*keys, *tables))
        return await self._engine.read(workspace, keys, tables)

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        await self._pass("commit", workspace, chain.from_iterable(_touched(cell.key) for cell in commit.cells))
        outcome = await self._engine.commit(workspace, commit)
        await self._stand("answer", workspace)
        return outcome

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        await self._pass("records", workspace)
        return await self._engine.records(workspace, after, upto, limit)

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        await self._stand("due", "")
        return await self._engine.due(limit)

    @asynccontextmanager
    async def feed(self) -> AsyncGenerator[Feed, None]:
        async with self._engine.feed() as feed:
            yield _LinkFeed(self, feed)


def _touched(key: Key) -> Iterable[object]:
    """What a write of this cell can be noticed by."""
    return key, key.table, Key(key.table, "")


class _LinkFeed:
    def __init__(self, link: Link, feed: Feed) -> None:
        self._link = link
        self._feed = feed
        self._next: Arrived | Lost | None = None

    def want(self, workspace: str, after: int, epoch: str = "") -> None:
        self._feed.want(workspace, after, epoch)

    def release(self, workspace: str) -> None:
        self._feed.release(workspace)
        if self._next is not None and self._next.workspace == workspace:
            self._next = None

    async def __aiter__(self) -> AsyncGenerator[Arrived | Lost, None]:
        async with aclosing(aiter(self._feed)) as everything:
            async for news in everything:
                self._next = news
                await self._link._arrive(news)
                if self._link.gate is not None:
                    await self._link.gate.pass_through("feed", news.workspace)
                if self._next is news:  # nobody has let go of it meanwhile
                    yield news


CALLS = ("read", "commit", "records")


class Held:
    """A call that stands at a gate; `number` counts those of its kind and workspace."""

    def __init__(self, number: int, call: str, workspace: str, about: Iterable[object]) -> None:
        self.number = number
        self.call = call
        self.workspace = workspace
        self.about = frozenset(about)
        """The cells and tables that it asks for, or changes."""
        self.passes = anyio.Event()

    def __repr__(self) -> str:
        return f"{self.call} {self.workspace}".rstrip()


class Gate:
    """Holds the calls of a link until they are let through, one at a time.

    `kinds` are those that it holds: "read", "commit", "records" and "due", which are asked; "answer", what a commit
    comes back with, so that a node can die between the two; "feed", what arrives.
    """

    def __init__(self, kinds: Collection[str] = CALLS) -> None:
        self.held: list[Held] = []
        """Those that stand before it, the oldest first."""
        self._kinds = frozenset(kinds)
        self._seen: Counter[tuple[str, str]] = Counter()
        self._open = False

    @property
    def waiting(self) -> int:
        """How many calls stand before it."""
        return len(self.held)

    async def pass_through(self, call: str, workspace: str, about: Iterable[object] = ()) -> None:
        if self._open or call not in self._kinds:
            return
        self._seen[call, workspace] += 1
        held = Held(self._seen[call, workspace], call, workspace, about)
        self.held.append(held)
        try:
            await held.passes.wait()
        finally:
            if held in self.held:
                self.held.remove(held)

    def let(self, held: Held) -> None:
        """Let this one through."""
        self.held.remove(held)
        held.passes.set()

    def step(self) -> bool:
        """Let the oldest call through. False: there is none."""
        if not self.held:
            return False
        self.let(self.held[0])
        return True

    def open(self) -> None:
        """Let everything through from here on."""
        self._open = True
        while self.step():
            pass
