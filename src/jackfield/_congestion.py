"""What the connections of a node share on their way out.

Tasks to write in, a bound for all that waits, and the watch over sends that get nowhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from jackfield._clock import Clock, Timer, Timers
    from jackfield._line import Line

__all__ = ["Congestion", "Lines"]

logger = logging.getLogger("jackfield")

ABANDONED_AFTER = 30.0
"""A server that frees a socket at all has done so by then."""


class Congestion(NamedTuple):
    """How far the clients of a node are behind with reading.

    `waiting` connections have events queued, `waiting_bytes` of them; `closed` of them were too slow and were closed
    4002 since the start; of those, the server has not let go of `abandoned` yet: a send that it does not end, on a
    socket that it does not close.
    """

    waiting: int
    waiting_bytes: int
    closed: int
    abandoned: int


class Lines:
    """What the lines of a node share: tasks to write in, a bound for all that waits, and the watch over sends that get
    nowhere.

    `write_timeout` is how many seconds one send may take, `budget` how many bytes may wait on all lines together.
    """

    def __init__(self, clock: Clock, timers: Timers, *, write_timeout: float, budget: int) -> None:
        self.clock = clock
        self.watched: set[Line] = set()
        """Those in a send that may never end."""
        self.stuck: dict[Line, float] = {}
        """Those that are gone, with somebody still in their last send, and since when."""
        self.loaded: set[Line] = set()
        """Those on which something waits …"""
        self.waiting_bytes = 0
        """… and how much that is."""
        self.overruns = 0
        self._budget = budget
        self._noticing: Timer | None = None
        self._timers = timers
        self._write_timeout = write_timeout
        self._checking: Timer | None = None
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Write in tasks of this group, until it is cancelled."""
        self._tasks = tasks

    def begin(self, run: Callable[[], Awaitable[None]], name: str) -> None:
        """Begin a task. If it fails, that is in the log; it must not take the host's application with it."""

        async def guarded() -> None:
            try:
                await run()
            except Exception:
                logger.exception("%s failed", name)

        assert self._tasks is not None, "the pump has not been started"
        self._tasks.start_soon(guarded, name=name)

    @property
    def congestion(self) -> Congestion:
        return Congestion(len(self.loaded), self.waiting_bytes, self.overruns, len(self.stuck))

    def relieve(self) -> None:
        """What waits on all lines is over its bound: the fullest go, until it is not."""
        while self.waiting_bytes > self._budget:
            max(self.loaded, key=lambda line: line.outbox.size).overrun()

    def abandon(self, line: Line) -> None:
        """It is gone, and whoever is in its last send may never come back. Some servers cannot be made to end it."""
        self.stuck[line] = self.clock.monotonic()
        if self._noticing is None:
            self._noticing = self._timers.call_later(ABANDONED_AFTER, self._notice)

    def _notice(self) -> None:
        before = self.clock.monotonic() - ABANDONED_AFTER
        if kept := sum(since <= before for since in self.stuck.values()):
            logger.warning(
                "the server keeps the sockets of %d connections that were closed because nobody reads there; "
                "jackfield.serving.listen() makes sockets that end by themselves",
                kept,
            )
        self._noticing = self._timers.call_later(ABANDONED_AFTER, self._notice) if self.stuck else None

    def watch(self, line: Line) -> None:
        """It begins a send."""
        line.since = self.clock.monotonic()
        self.watched.add(line)
        if self._checking is None:
            self._checking = self._timers.call_later(self._write_timeout, self._check)

    def _check(self) -> None:
        """Who has been in one send for too long?"""
        now = self.clock.monotonic()
        for line in [line for line in self.watched if now - line.since >= self._write_timeout]:
            line.overrun()
        self._checking = None
        if self.watched:
            left = min(line.since for line in self.watched) + self._write_timeout - now
            self._checking = self._timers.call_later(max(left, self._write_timeout / 100), self._check)
