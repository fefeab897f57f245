"""A pump, lines that lead to readers instead of sockets, and time that the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, MutableMapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import checkpoint

from jackfield._clock import Timers
from jackfield._line import GONE, SENDING, Line
from jackfield._outbox import Frame, Outbox
from jackfield._pump import Lane, Pump
from jackfield.testing import FakeClock

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

MS = 0.001


class Reader:
    """Who stands at the other end of a line, and owns it.

    It can stop reading, take its time, give way at every frame as trio's servers do, or be gone.
    """

    def __init__(self, rig: Rig, max_events: int, max_bytes: int, expires: float | None) -> None:
        self.rig = rig
        self.got: list[str] = []
        """What it has read, in order."""
        self.told: list[str] = []
        """What it heard as the owner of its line."""
        self.takes = 0.0
        self.suspends = False
        self.error: Exception | None = None
        self.cancelled = False
        self._reading = anyio.Event()
        self._reading.set()
        self._sending = 0
        self.line = Line(rig.pump.lines, self, self.write, Outbox(max_events, max_bytes), expires)

    async def write(self, message: MutableMapping[str, Any]) -> None:
        if self._sending:
            self.rig.faults.append("two sends at the same time")
        if not self.line.gate & SENDING:
            self.rig.faults.append("a send outside of the gate")
        if self.line.gate & GONE:
            self.rig.faults.append("a send to one that is gone")
        self._sending += 1
        try:
            if self.suspends:
                await checkpoint()
            if self.takes:
                await self.rig.clock.sleep(self.takes)
            if not self._reading.is_set():
                await self._reading.wait()
            if self.error is not None:
                raise self.error
            self.got.append(message["text"])
        except anyio.get_cancelled_exc_class():
            self.cancelled = True
            raise
        finally:
            self._sending -= 1
        self.rig.order.append((self, message["text"]))

    def stall(self) -> None:
        """Stop reading: the send of the next frame does not come back."""
        if self._reading.is_set():
            self._reading = anyio.Event()

    def read_on(self) -> None:
        self._reading.set()

    # --- as the owner of its line

    def broken(self) -> None:
        self.told.append("broken")

    def overrun(self) -> None:
        self.told.append("overrun")

    def lapsed(self) -> None:
        self.told.append("lapsed")
        self.line.fall_behind(self.rig.position)


class Rig:
    """What a test has in its hands."""

    def __init__(self, pump: Pump, clock: FakeClock, tasks: TaskGroup) -> None:
        self.pump = pump
        self.clock = clock
        self.tasks = tasks
        self.lane = Lane()
        self.position = 0
        self.order: list[tuple[Reader, str]] = []
        """Every frame that anybody read, in the order of the whole node."""
        self.faults: list[str] = []
        """What must not happen, and would be taken for a broken socket if it raised where it is seen."""

    def reader(
        self,
        *,
        live: bool = True,
        max_events: int = 256,
        max_bytes: int = 1_048_576,
        expires: float | None = None,
        suspends: bool = False,
    ) -> Reader:
        reader = Reader(self, max_events, max_bytes, expires)
        reader.suspends = suspends
        reader.line.position = self.position
        if live:
            reader.line.go_live()
        return reader

    def readers(self, number: int, *, suspends: bool = False) -> list[Reader]:
        return [self.reader(suspends=suspends) for _ in range(number)]

    def publish(self, to: Sequence[Reader], *texts: str, lane: Lane | None = None) -> None:
        """As the dispatcher does: neighbours for the same ones are one and the same tuple."""
        lines = tuple(reader.line for reader in to)
        for text in texts:
            self.position += 1
            self.pump.put(self.lane if lane is None else lane, lines, Frame(text, type="t", position=self.position))

    def workers(self) -> int:
        """How many tasks the pump keeps, those not counted that are stuck."""
        return len(self.pump._workers)


def answer(text: str) -> Frame:
    """What is not in the log."""
    return Frame(text, type="t")


def numbers(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def late(readers: Collection[Reader], text: str) -> int:
    """How many of them have not read it."""
    return sum(text not in reader.got for reader in readers)


@asynccontextmanager
async def pumping(*, write_timeout: float = 10.0, budget: int = 1 << 30) -> AsyncIterator[Rig]:
    """Enter and leave it in the body of a test."""
    clock = FakeClock()
    timers = Timers(clock)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        pump = Pump(clock, timers, write_timeout=write_timeout, budget=budget)
        pump.start(tasks)
        tasks.start_soon(timers.run)
        rig = Rig(pump, clock, tasks)
        try:
            yield rig
        except Exception as error:  # raised below, not inside a group of one
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    assert not rig.faults
