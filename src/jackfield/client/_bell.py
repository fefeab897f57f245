"""Waiting for news, or for a moment, whichever is first."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from jackfield._clock import Clock

__all__ = ["Bell"]


class Bell:
    """Rung, it wakes the one who waits; or the next one who comes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = anyio.Event()

    def ring(self) -> None:
        """There is news."""
        self._rung.set()

    def hush(self) -> None:
        """Whatever was rung until now is no news any more."""
        self._rung = anyio.Event()

    async def wait(self, until: float = math.inf) -> None:
        """Return when it was rung, or at that moment of the monotonic clock."""
        seconds = until - self._clock.monotonic()
        if seconds == math.inf or self._rung.is_set():
            await self._rung.wait()
        elif seconds > 0:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._ring_in, seconds)
                await self._rung.wait()
                tasks.cancel_scope.cancel()
        self.hush()

    async def _ring_in(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self.ring()
