"""A node's feed: what it wants, and what has happened there since.

What is committed is offered in its order. What lies before it is read from the file inside of the feed's own iteration,
as is whatever is missing, so that wanting never waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

import anyio

from jackfield.engine import Arrived, EngineError, Lost, Record

__all__ = ["CaughtUp", "SQLiteFeed"]

logger = logging.getLogger("jackfield")

AGAIN_AFTER = 1.0
"""Seconds until the file is asked again, where it could not be read."""


class CaughtUp(NamedTuple):
    """What lies behind a position: all of it up to `upto`, where the log stands at `top`."""

    records: Sequence[Record]
    upto: int
    top: int


class _Want:
    """A workspace that is wanted, and up to where it has been given."""

    __slots__ = ("epoch", "given", "workspace")

    def __init__(self, workspace: str, given: int, epoch: str) -> None:
        self.workspace = workspace
        self.given = given
        self.epoch = epoch


class SQLiteFeed:
    """`catch_up(workspace, after, epoch)` reads from the file; `released(workspace)` hears what is wanted no more."""

    def __init__(
        self,
        catch_up: Callable[[str, int, str], Awaitable[CaughtUp | Lost]],
        released: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.wanted: dict[str, _Want] = {}
        self._catch_up = catch_up
        self._released = released
        self._sleep = sleep
        # Without news: read what there is.
        self._queue: deque[tuple[_Want, Arrived | Lost | None]] = deque()
        self._wake = anyio.Event()

    def want(self, workspace: str, after: int, epoch: str = "") -> None:
        want = self.wanted[workspace] = _Want(workspace, after, epoch)
        self._put(want, None)

    def release(self, workspace: str) -> None:
        if self.wanted.pop(workspace, None) is not None:
            self._released(workspace)

    def offer(self, news: Arrived | Lost) -> None:
        """It has happened just now."""
        want = self.wanted.get(news.workspace)
        if want is not None:
            self._put(want, news)

    def _put(self, want: _Want, news: Arrived | Lost | None) -> None:
        self._queue.append((want, news))
        self._wake.set()

    def _is_wanted(self, want: _Want) -> bool:
        return self.wanted.get(want.workspace) is want

    async def __aiter__(self) -> AsyncGenerator[Arrived | Lost, None]:
        while True:
            while self._queue:
                want, news = self._queue.popleft()
                if not self._is_wanted(want):
                    continue
                if news is None:
                    found = await self._read(want)
                    if found is not None:
                        yield found
                elif isinstance(news, Lost):
                    if news.epoch == want.epoch:  # known already, by having read
                        continue
                    want.given, want.epoch = news.position, news.epoch
                    yield news
                elif news.upto - len(news.records) > want.given:  # something before it is missing
                    self._queue.appendleft((want, news))
                    self._queue.appendleft((want, None))
                elif news.upto > want.given:
                    records = news.records[want.given - news.upto :]
                    want.given = news.upto
                    yield Arrived(want.workspace, records, news.upto)
            self._wake = anyio.Event()
            await self._wake.wait()

    async def _read(self, want: _Want) -> Arrived | Lost | None:
        """What comes next of it from the file; asked again where there is more."""
        try:
            found = await self._catch_up(want.workspace, want.given, want.epoch)
        except EngineError as error:
            logger.warning("what has happened in %s could not be read: %s", want.workspace, error)
            await self._sleep(AGAIN_AFTER)
            self._queue.appendleft((want, None))
            return None
        if not self._is_wanted(want):
            return None
        if isinstance(found, Lost):
            want.given, want.epoch = found.position, found.epoch
            return found
        records, upto, top = found
        if upto < top:
            self._queue.appendleft((want, None))
        if upto == want.given:
            return None
        whole = len(records) == upto - want.given
        want.given = upto
        return Arrived(want.workspace, records, upto, whole)
