"""A node's feed: what it wants, up to where it has been given, and what has been heard since.

What is heard is given as it is where it follows on what was given; wherever it does not, what is missing is read inside
of the feed's own iteration, so that wanting never waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import anyio

from jackfield.engine import Arrived, EngineError, Lost, Record
from jackfield_redis._answers import CaughtUp, News, WentBack
from jackfield_redis._bus import Bus

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from jackfield_redis._address import Address
    from jackfield_redis._names import Names

__all__ = ["RedisFeed", "Want"]

logger = logging.getLogger("jackfield")

AGAIN_AFTER = 0.5
"""Seconds until Redis is asked again, where it did not answer."""
LOOK_EVERY = 20.0
"""Seconds; a message that was lost on a link that holds is found by then. It keeps logs from being given back, too."""
AT_ONCE = 500
READERS = 16
"""Workspaces that are read at the same time."""

Head = tuple[str, int, tuple[int, str]]
"""Epoch, top, newest lasting record."""


class Want:
    """A workspace that is wanted: up to where it has been given, and by what one can tell whether that is still so."""

    __slots__ = ("again", "epoch", "given", "reading", "seen", "workspace")

    def __init__(self, workspace: str, given: int, epoch: str) -> None:
        self.workspace = workspace
        self.given = given
        self.epoch = epoch
        self.seen: tuple[int, str] = (0, "")
        self.reading = False
        self.again = False


class RedisFeed:
    """`catch_up(want)` reads what stands behind it; `heads(workspaces)` where logs stand; `open_news` a message,
    None where it says nothing."""

    def __init__(
        self,
        address: Address,
        names: Names,
        catch_up: Callable[[Want], Awaitable[CaughtUp | WentBack]],
        heads: Callable[[Sequence[str]], Awaitable[Mapping[str, Head | None]]],
        open_news: Callable[[bytes, str], News | None],
    ) -> None:
        self.wanted: dict[str, Want] = {}
        self._catch_up = catch_up
        self._heads = heads
        self._open_news = open_news
        self._bus = Bus(address, names, self)
        # Without news: read what there is.
        self._queue: deque[tuple[Want, News | CaughtUp | WentBack]] = deque()
        self._wake = anyio.Event()
        self._behind: deque[Want] = deque()
        self._fell_behind = anyio.Event()
        self._unseen: dict[str, None] = {}
        self._look = anyio.Event()

    # --- the node's side

    def want(self, workspace: str, after: int, epoch: str = "") -> None:
        self.wanted[workspace] = Want(workspace, after, epoch)
        self._bus.want(workspace)

    def release(self, workspace: str) -> None:
        self.wanted.pop(workspace, None)
        self._bus.release(workspace)

    async def __aiter__(self) -> AsyncGenerator[Arrived | Lost, None]:
        while True:
            while self._queue:
                want, news = self._queue.popleft()
                if self.wanted.get(want.workspace) is not want:
                    continue
                given = self._follow(want, news) if isinstance(news, News) else self._catch_on(want, news)
                if given is not None:
                    yield given
            self._wake = anyio.Event()
            await self._wake.wait()

    # --- what is heard

    def heard(self, workspace: str, message: bytes) -> None:
        want = self.wanted.get(workspace)
        if want is None:
            return
        if (news := self._open_news(message, workspace)) is None:
            self._read_soon(want)
        else:
            self._put(want, news)

    def joined(self, workspaces: Sequence[str]) -> None:
        self._unseen.update(dict.fromkeys(workspaces))
        self._look.set()

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Hear, and look at what may have been missed, until it is stopped."""
        task_status.started()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._look_on)
            tasks.start_soon(self._look_at_all)
            for _ in range(READERS):
                tasks.start_soon(self._read_on)
            await self._bus.run()
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        self._bus.stop()

    async def _look_on(self) -> None:
        while True:
            while self._unseen:
                workspaces = list(islice(self._unseen, AT_ONCE))
                for workspace in workspaces:
                    del self._unseen[workspace]
                await self._compare(workspaces)
            self._look = anyio.Event()
            await self._look.wait()

    async def _look_at_all(self) -> None:
        while True:
            await anyio.sleep(LOOK_EVERY)
            self.joined(tuple(self.wanted))

    async def _compare(self, workspaces: Sequence[str]) -> None:
        """Read those whose log does not stand where this feed does."""
        wants = [want for workspace in workspaces if (want := self.wanted.get(workspace)) is not None]
        try:
            heads = await self._heads([want.workspace for want in wants])
        except EngineError as error:
            logger.info("where logs stand was not heard: %s", error)
            self.joined(workspaces)
            await anyio.sleep(AGAIN_AFTER)
            return
        for want in wants:
            head = heads[want.workspace]
            if self.wanted.get(want.workspace) is not want:
                continue
            if (
                head is None
                or head[:2] != (want.epoch or head[0], want.given)
                or (want.seen[0] and head[2] != want.seen)  # it went back, and has been written up to here since
            ):
                self._read_soon(want)
            else:
                want.epoch, _, want.seen = head

    # --- what is given

    def _put(self, want: Want, news: News | CaughtUp | WentBack) -> None:
        self._queue.append((want, news))
        self._wake.set()

    def _read_soon(self, want: Want) -> None:
        if want.reading:
            want.again = True  # what is being read may be of before that
        else:
            want.reading = True
            self._behind.append(want)
            self._fell_behind.set()

    def _follow(self, want: Want, news: News) -> Arrived | None:
        if news.epoch == want.epoch and news.last <= want.given:
            return None
        follows = news.epoch == want.epoch and news.first == want.given + 1 and news.behind == want.seen
        if not follows or len(news.records) != news.last - news.first + 1:
            self._read_soon(want)
            return None
        return self._give(want, news.records, news.last)

    async def _read_on(self) -> None:
        """Several at once: one that is slow holds up no other."""
        while True:
            while self._behind:
                want = self._behind.popleft()
                if self.wanted.get(want.workspace) is not want:
                    continue
                try:
                    found = await self._catch_up(want)
                except EngineError as error:
                    logger.warning("what has happened in %s could not be read: %s", want.workspace, error)
                    await anyio.sleep(AGAIN_AFTER)
                    self._behind.append(want)
                    continue
                self._put(want, found)
            if self._fell_behind.is_set():
                self._fell_behind = anyio.Event()
            await self._fell_behind.wait()

    def _catch_on(self, want: Want, found: CaughtUp | WentBack) -> Arrived | Lost | None:
        """What was read of it; read again where there is more."""
        again, want.reading, want.again = want.again, False, False
        want.epoch = found.epoch
        if isinstance(found, WentBack):
            want.given, want.seen = found.top, (0, "")
            if again:
                self._read_soon(want)
            return Lost(want.workspace, found.epoch, found.top)
        given = None
        if found.upto > want.given:  # else what was heard meanwhile has come further
            given = self._give(want, [one for one in found.records if one.position > want.given], found.upto)
        if want.seen[0] < found.newest[0] <= want.given:
            want.seen = found.newest
        if again or want.given < found.top:
            self._read_soon(want)
        return given

    @staticmethod
    def _give(want: Want, records: Sequence[Record], upto: int) -> Arrived:
        whole = len(records) == upto - want.given
        want.given = upto
        for record in reversed(records):
            if record.lasting:
                want.seen = (record.position, record.id)
                break
        return Arrived(want.workspace, records, upto, whole)
