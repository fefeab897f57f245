"""Time that stands still until a test turns it, and waiting until everybody waits."""

from __future__ import annotations

import asyncio
import heapq
import sys
from itertools import count

import anyio
from anyio.lowlevel import checkpoint, current_token

__all__ = ["FakeClock", "settle"]

SPINS = 100_000
LOOKS = 3
"""In a row: a cancellation on its way to a task that waits already is a call of the loop, and no task."""


async def settle() -> None:
    """Return when every other task is blocked: what has not happened by then will not happen by itself.

    Raises RuntimeError when they never are, because one of them spins.
    """
    if type(current_token().native_token).__module__.startswith("trio"):
        from trio.testing import wait_all_tasks_blocked

        await wait_all_tasks_blocked()
        return
    # anyio's own looks every 100 ms under asyncio, which is most of a test's time.
    this = asyncio.current_task()
    looks = 0
    for _ in range(SPINS):
        await checkpoint()
        at_rest = all(task is this or _blocked(task) for task in asyncio.all_tasks())
        looks = looks + 1 if at_rest else 0
        if looks == LOOKS:
            return
    raise RuntimeError("the tasks do not come to rest; one of them spins")


def _blocked(task: asyncio.Task[object]) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is not None and not waiter.done()


class FakeClock:
    """A clock that a test turns. `time` is the wall clock's start, in seconds since 1970: 2024-01-01T12:00:00Z."""

    def __init__(self, time: float = 1_704_110_400.0) -> None:
        self._monotonic = 1_000.0
        self._wall = time - self._monotonic
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._number = count()

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._monotonic + self._wall

    def set_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as an administrator would; timers must not notice."""
        self._wall += seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await checkpoint()
            return
        event = anyio.Event()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._number), event))
        await event.wait()

    async def advance(self, seconds: float) -> None:
        """Let so much time pass: whoever sleeps wakes in order, and everything comes to rest in between."""
        until = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= until + sys.float_info.epsilon * until:
            when, _, event = heapq.heappop(self._sleepers)
            self._monotonic = max(self._monotonic, when)
            event.set()
            if not self._sleepers or self._sleepers[0][0] > when:
                await settle()
        self._monotonic = max(self._monotonic, until)
        await settle()
