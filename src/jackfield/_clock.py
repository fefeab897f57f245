"""Time, injected: what jackfield does at a moment, it does by one of these, so that a test can turn the hands.

`Timers` is the one heap of a node: a timer costs a push, and a deadline round a call is a timer that cancels a scope.
"""

from __future__ import annotations

import heapq
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Clock", "Deadline", "SystemClock", "Timer", "Timers"]

logger = logging.getLogger("jackfield")

SWEEP = 256
"""Timers from which on those that were cancelled are looked for."""


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Seconds that never go back; for how long."""
        ...

    def time(self) -> float:
        """Seconds since 1970; for stamps and expiry."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


class Timer:
    """A call that is still to come."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self.call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """It will not be called. Without effect when it has been."""
        self.call = None


class Timers:
    """Every local deadline of a node, on one heap with one sleeping task."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Timer]] = []
        self._number = count()
        self._sleep: anyio.CancelScope | None = None
        self._until = math.inf
        self._full = SWEEP
        self._scopes: type[anyio.CancelScope] | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call it, synchronously, in so many seconds; it must not block. What it raises is in the log."""
        timer = Timer(call)
        when = self.clock.monotonic() + seconds
        heapq.heappush(self._heap, (when, next(self._number), timer))
        if when < self._until and self._sleep is not None:
            self._sleep.cancel()
        if len(self._heap) >= self._full:
            self._sweep()
        return timer

    def scope(self) -> anyio.CancelScope:
        """An `anyio.CancelScope()`, without asking every time which library runs: that is half of its price."""
        if self._scopes is None:
            self._scopes = type(anyio.CancelScope())
        return self._scopes()

    def _sweep(self) -> None:
        """Forget what was cancelled. Else it would stay until its time, and a token's may be a month away."""
        self._heap[:] = [entry for entry in self._heap if entry[2].call is not None]
        heapq.heapify(self._heap)
        self._full = max(SWEEP, 2 * len(self._heap))

    async def run(self) -> None:
        """Call what falls due, until cancelled."""
        heap = self._heap
        while True:
            while heap and (heap[0][2].call is None or heap[0][0] <= self.clock.monotonic()):
                if (call := heapq.heappop(heap)[2].call) is not None:
                    try:
                        call()
                    except Exception:
                        called = call.func if isinstance(call, partial) else call  # its arguments may be a secret
                        logger.exception("%s, called later, failed", getattr(called, "__qualname__", "something"))
            with anyio.CancelScope() as self._sleep:
                if heap:
                    self._until = heap[0][0]
                    await self.clock.sleep(max(0.0, self._until - self.clock.monotonic()))
                else:
                    self._until = math.inf
                    await anyio.sleep_forever()
            self._sleep = None


class Deadline:
    """`with Deadline(timers, 5):` raises TimeoutError when its body took longer. About a third of what a scope with a
    deadline of its own costs, and it obeys the injected clock."""

    __slots__ = ("_scope", "_seconds", "_timer", "_timers")

    def __init__(self, timers: Timers, seconds: float) -> None:
        self._timers = timers
        self._seconds = seconds

    def __enter__(self) -> Deadline:
        self._scope = self._timers.scope()
        self._timer = self._timers.call_later(self._seconds, self._scope.cancel)
        self._scope.__enter__()
        return self

    @property
    def shield(self) -> bool:
        """Whether cancellation from outside waits until this is over."""
        return self._scope.shield

    @shield.setter
    def shield(self, shield: bool) -> None:
        self._scope.shield = shield

    def hasten(self, seconds: float) -> None:
        """So many seconds from now, and no longer."""
        self._timers.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._timer.call is not None:  # it is not over yet
            self._scope.cancel()

    @property
    def passed(self) -> bool:
        """Whether it is what ended the body; a TimeoutError may be the body's own."""
        return self._scope.cancelled_caught

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._timer.cancel()
        swallowed = self._scope.__exit__(kind, error, traceback)
        if self._scope.cancelled_caught:
            raise TimeoutError
        return swallowed
