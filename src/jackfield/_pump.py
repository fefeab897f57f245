"""The fan-out: who writes to whom, and when.

A delivery costs one `await send` and nothing else: no task, queue, event, deadline, hook or encoding for each
recipient. A worker awaits `send` for one recipient after the other; the dispatcher only appends to a queue and wakes
it. What makes that safe:

- **Take-over.** One timer, running only while the pump is busy, looks every 5 ms whether each worker got on. One that
  did not is stuck in a connection that does not read: it never comes back to the shared iterator, becomes that
  connection's writer, and another takes its place. Workers are counted without the stuck ones.
- **Slow.** A connection that once blocked keeps an outbox and a writer of its own, until 64 sends in a row did not.
  Without that memory each slow reader would cost everybody 5 ms at every event.
- **Gate.** Every connection has one, and whoever sends holds it: `SENDING` is set in the step that takes the
  connection from the iterator, and the outbox is looked at in the step that clears it. So two sends never overlap,
  and order holds.
- **Behind.** A connection that is opening or expired is a position with nothing queued; its own task reads it up.

Measured: a parked task costs 1 to 9 µs to wake and a deadline round a send 5 µs, where a whole delivery costs 6.
Under trio the servers' sends suspend every time, and sixteen workers share each pass of the scheduler.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.lowlevel import checkpoint, current_token

from jackfield._outbox import Frame, Outbox

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from jackfield._clock import Clock, Timer, Timers

__all__ = ["BEHIND", "GONE", "SENDING", "SLOW", "WAITING", "Lane", "Line", "Pump"]

logger = logging.getLogger("jackfield")
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SENDING = 1
"""Somebody is in `send`."""
SLOW = 2
"""It has blocked: its events go through its outbox."""
WAITING = 4
"""Its outbox holds something."""
BEHIND = 8
"""It is opening, catching up or expired: its own task feeds it."""
GONE = 16
"""Nothing is ever written to it again."""

TURN_EVENTS = 64
TURN_SENDS = 256
TAKE_OVER_AFTER = 0.005
UNBLOCKED_AFTER = 64
UNBLOCKED_WITHIN = 0.001
LINGER = 10


class Owner(Protocol):
    """Whose line it is; told at once, and it takes the line out of every index before it returns."""

    def broken(self) -> None:
        """The socket is gone."""

    def overrun(self) -> None:
        """It is too slow, and must be closed."""


class Line:
    """One connection, as the pump sees it.

    `position` is that of the last record that was handed to it; `expires` when its token does (wall clock, seconds).
    """

    __slots__ = ("expires", "fast", "freed", "gate", "outbox", "owner", "position", "since", "write", "writing")

    def __init__(self, owner: Owner, write: Send, outbox: Outbox, expires: float | None) -> None:
        self.owner = owner
        self.write = write
        self.outbox = outbox
        self.gate = BEHIND
        self.position = 0
        self.expires = float("inf") if expires is None else expires
        self.since = 0.0
        self.fast = 0
        self.freed: anyio.Event | None = None
        self.writing = False


class Turn:
    """Frames on their way to the same recipients, one connection after the other."""

    __slots__ = ("exhausted", "first", "frames", "lane", "last", "left", "now", "recipients")

    def __init__(self, lane: Lane, recipients: Sequence[Line], frames: list[Frame]) -> None:
        self.lane = lane
        self.recipients: Iterator[Line] = iter(recipients)
        self.frames = frames
        self.first = frames[0].position
        self.last = frames[-1].position
        self.left = TURN_SENDS
        self.now = 0.0
        self.exhausted = False


class Lane:
    """One workspace's queue. `settled` is the position up to which every round has wholly ended."""

    __slots__ = ("jobs", "queued", "settled", "turn", "whenever")

    def __init__(self, position: int = 0) -> None:
        self.jobs: deque[tuple[Sequence[Line], Frame]] = deque()
        self.turn: Turn | None = None
        self.queued = False
        self.settled = position
        self.whenever: deque[tuple[int, Callable[[], object]]] = deque()


class Worker:
    """A task that sends. `mark` moves with every send, so that standing still can be seen from outside."""

    __slots__ = ("frames", "index", "line", "lost", "mark", "seen", "sent", "turn", "wake")

    def __init__(self) -> None:
        self.line: Line | None = None
        self.turn: Turn | None = None
        self.frames: list[Frame] = []
        self.index = 0
        self.mark = 0
        self.seen = -1
        self.sent = 0
        self.lost = False
        self.wake: anyio.Event | None = None


class Pump:
    """A node's. `write_timeout`, in seconds, is how long a send may get nowhere."""

    def __init__(self, clock: Clock, timers: Timers, *, write_timeout: float) -> None:
        self.stuck = 0
        self._clock = clock
        self._timers = timers
        self._write_timeout = write_timeout
        self._ready: deque[Lane] = deque()
        self._turn: Turn | None = None
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._watched: set[Line] = set()
        self._watching: Timer | None = None
        self._looking: Timer | None = None
        self._linger = 0
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup) -> None:
        """Send from tasks of this group, until it is cancelled."""
        self._tasks = tasks
        trio = type(current_token().native_token).__module__.startswith("trio")
        for _ in range(16 if trio else 1):
            self._hire()

    # --- what the dispatcher and the connections ask

    def put(self, lane: Lane, recipients: Sequence[Line], frame: Frame) -> None:
        """Send a frame to those; never waits. Neighbours with the very same `recipients` go out together."""
        lane.jobs.append((recipients, frame))
        if not lane.queued:
            lane.queued = True
            self._ready.append(lane)
        if self._idle:
            for worker in self._idle[-len(recipients) :]:
                self._rouse(worker)

    def afterwards(self, lane: Lane, position: int, call: Callable[[], object]) -> None:
        """Call it when everything up to `position` has been handed to everybody; at once where that is so."""
        if lane.settled >= position:
            call()
        else:
            lane.whenever.append((position, call))

    @staticmethod
    def abandon(lane: Lane) -> None:
        """Nobody is left here: what was to be called afterwards is called now."""
        while lane.whenever:
            lane.whenever.popleft()[1]()

    def settle(self, lane: Lane, position: int) -> None:
        """Nobody here gets the record at `position`."""
        if lane.turn is None and not lane.jobs:
            self._settled(lane, position)
        else:
            lane.jobs.append(((), Frame("", type="", position=position)))

    def offer(self, line: Line, frame: Frame) -> None:
        """Send it to one connection, in its turn; never waits."""
        if line.gate & GONE:
            return
        if not line.outbox.offer(frame):
            line.owner.overrun()
            return
        line.gate |= WAITING
        if not line.gate & (SENDING | BEHIND) and not line.writing:
            self._write_soon(line)

    async def answer(self, line: Line, frame: Frame) -> None:
        """From the connection's own task: directly where nothing is in the way, else queued. At most this one is sent
        here, since that task must get back to `receive`."""
        if line.gate & ~BEHIND:
            self.offer(line, frame)
        else:
            await self.send_now(line, frame)

    async def send_now(self, line: Line, frame: Frame) -> None:
        """Send it as soon as nobody else is sending on that connection, and return when it is written."""
        while line.gate & SENDING:
            line.freed = line.freed or anyio.Event()
            await line.freed.wait()
        if line.gate & GONE:
            return
        line.gate |= SENDING
        line.since = self._clock.monotonic()
        self._watched.add(line)
        self._watch()
        try:
            await line.write(frame.message)
        except Exception:  # whatever a server raises for a socket that is gone
            line.owner.broken()
        finally:
            self._watched.discard(line)
            self._free(line)

    async def drain(self, line: Line) -> None:
        """From the connection's own task: write what its outbox holds."""
        while (frame := line.outbox.take()) is not None and not line.gate & GONE:
            await self.send_now(line, frame)
        line.gate &= ~WAITING

    def go_live(self, line: Line) -> None:
        """The connection has caught up; from here on the pump feeds it what is behind its position."""
        line.gate &= ~BEHIND
        if line.gate & WAITING:
            self._write_soon(line)

    def fall_behind(self, line: Line, lane: Lane) -> None:
        """From here on its own task feeds it, from the last position that it surely has got."""
        line.gate |= BEHIND
        line.position = max(line.position, lane.settled)

    # --- workers

    def _hire(self) -> None:
        assert self._tasks is not None, "the pump has not been started"
        worker = Worker()
        self._workers.append(worker)
        self._tasks.start_soon(self._work, worker, name="jackfield pump")

    def _rouse(self, worker: Worker) -> None:
        self._idle.remove(worker)
        if worker.wake is not None:
            worker.wake.set()
        if self._looking is None:
            self._look()

    async def _work(self, worker: Worker) -> None:
        while not worker.lost:
            turn = self._turn or self._next_turn()
            if turn is None:
                worker.wake = anyio.Event()
                self._idle.append(worker)
                await worker.wake.wait()
                worker.wake = None
                continue
            before = turn.left
            await self._serve(worker, turn)
            worker.sent += before - turn.left
            if worker.sent >= TURN_SENDS and not worker.lost:
                worker.sent = 0
                await checkpoint()  # sends may never suspend, and others want to run

    def _next_turn(self) -> Turn | None:
        while self._ready:
            lane = self._ready.popleft()
            if (turn := lane.turn) is None:
                if not lane.jobs:
                    lane.queued = False
                    continue
                recipients, frame = lane.jobs.popleft()
                frames = [frame]
                while lane.jobs and lane.jobs[0][0] is recipients and len(frames) < TURN_EVENTS:
                    frames.append(lane.jobs.popleft()[1])
                turn = lane.turn = Turn(lane, recipients, frames)
            turn.left = TURN_SENDS
            turn.now = self._clock.time()
            self._turn = turn
            return turn
        return None

    async def _serve(self, worker: Worker, turn: Turn) -> None:
        """Send a turn's frames to the connections that this worker gets from the shared iterator."""
        worker.turn = turn
        worker.frames = frames = turn.frames
        first, last, now, cost = turn.first, turn.last, turn.now, len(turn.frames)
        single = frames[0].message if cost == 1 else None
        for line in turn.recipients:
            if line.gate or line.position >= first or line.expires <= now:
                self._aside(line, frames)
                continue
            line.gate = SENDING
            line.position = last
            worker.line = line
            worker.mark += 1
            try:
                if single is not None:
                    worker.index = 1
                    await line.write(single)
                else:
                    await self._send_all(worker, line, frames)
                if line.gate == SENDING | WAITING and not worker.lost:
                    await self._send_waiting(worker, line)
            except Exception:  # whatever a server raises for a socket that is gone
                line.owner.broken()
            worker.line = None
            if worker.lost:
                await self._write(line)
                return
            if line.gate == SENDING:
                line.gate = 0
            else:
                self._free(line)
            turn.left -= cost
            if turn.left <= 0:
                break
            if self._turn is not turn:  # another worker has seen its end, or put it back in the row
                break
        else:
            turn.exhausted = True
        self._leave(worker, turn)

    @staticmethod
    async def _send_all(worker: Worker, line: Line, frames: list[Frame]) -> None:
        worker.index = 0
        for frame in frames:
            worker.index += 1
            worker.mark += 1
            await line.write(frame.message)
            if worker.lost or line.gate & GONE:  # what is left has gone to its outbox, or nowhere
                return

    @staticmethod
    async def _send_waiting(worker: Worker, line: Line) -> None:
        """What came for the connection while this worker was sending to it, as every send under trio lets it."""
        worker.index = len(worker.frames)
        for _ in range(TURN_EVENTS):
            if line.gate != SENDING | WAITING or (frame := line.outbox.take()) is None:
                break
            worker.mark += 1
            await line.write(frame.message)
            if worker.lost:
                return
        if not len(line.outbox):
            line.gate &= ~WAITING

    def _leave(self, worker: Worker, turn: Turn) -> None:
        worker.turn = None
        if self._turn is turn:
            self._turn = None
            if not turn.exhausted:
                self._ready.append(turn.lane)  # others first; its iterator goes on where it stands
                return
            turn.lane.turn = None
            if turn.lane.jobs:
                self._ready.append(turn.lane)
            else:
                turn.lane.queued = False
        if turn.exhausted and not any(other.turn is turn for other in self._workers):
            self._settled(turn.lane, turn.last)

    def _settled(self, lane: Lane, position: int) -> None:
        lane.settled = max(lane.settled, position)
        while lane.whenever and lane.whenever[0][0] <= lane.settled:
            lane.whenever.popleft()[1]()

    def _aside(self, line: Line, frames: Sequence[Frame]) -> None:
        """A connection that the worker cannot just send to."""
        if line.gate & (GONE | BEHIND):
            return  # the one gets nothing, the other reads its way up by itself
        for frame in frames:
            if frame.position > line.position:
                line.position = frame.position
                self.offer(line, frame)

    # --- one connection

    def _free(self, line: Line) -> None:
        """Whoever finishes a send with the outbox not empty hands it to a writer."""
        line.gate &= ~SENDING
        if line.freed is not None:
            line.freed.set()
            line.freed = None
        if line.gate & WAITING and not line.gate & (BEHIND | GONE) and not line.writing:
            self._write_soon(line)

    def _write_soon(self, line: Line) -> None:
        assert self._tasks is not None, "the pump has not been started"
        line.writing = True
        self._tasks.start_soon(self._write, line, name="jackfield writer")

    async def _write(self, line: Line) -> None:
        """Write one connection's outbox; lives while there is something to write."""
        line.writing = True
        line.gate |= SENDING
        self._watched.add(line)
        self._watch()
        try:
            while not line.gate & (GONE | BEHIND) and (frame := line.outbox.take()) is not None:
                line.since = before = self._clock.monotonic()
                await line.write(frame.message)
                line.fast = line.fast + 1 if self._clock.monotonic() - before < UNBLOCKED_WITHIN else 0
                if line.fast % TURN_EVENTS == TURN_EVENTS - 1:
                    await checkpoint()
        except Exception:  # whatever a server raises for a socket that is gone
            line.owner.broken()
        finally:
            self._watched.discard(line)
            line.writing = False
            if not len(line.outbox):
                line.gate &= ~WAITING
            self._free(line)
            if line.fast >= UNBLOCKED_AFTER:
                line.gate &= ~SLOW

    # --- standing still

    def _look(self) -> None:
        """Every 5 ms while there is work: has each worker got on?"""
        stuck = [w for w in self._workers if w.line is not None and w.mark == w.seen]
        for worker in stuck:
            self._take_over(worker)
        for worker in self._workers:
            worker.seen = worker.mark if worker.line is not None else -1
        self._linger = LINGER if len(self._idle) < len(self._workers) else self._linger - 1
        self._looking = self._timers.call_later(TAKE_OVER_AFTER, self._look) if self._linger > 0 else None

    def _take_over(self, worker: Worker) -> None:
        line = worker.line
        assert line is not None, "only a worker that sends can be stuck"
        worker.lost = True
        self._workers.remove(worker)
        line.since = self._clock.monotonic()
        line.fast = 0
        line.gate |= SLOW
        self._watched.add(line)
        self._watch()
        if rest := worker.frames[worker.index :]:
            line.outbox.put_back(rest)
            line.gate |= WAITING
        if (turn := worker.turn) is not None:
            worker.turn = None
            if turn.exhausted and not any(other.turn is turn for other in self._workers):
                self._settled(turn.lane, turn.last)
        self._hire()

    def _watch(self) -> None:
        if self._watching is None:
            self._watching = self._timers.call_later(self._write_timeout / 4, self._check_progress)

    def _check_progress(self) -> None:
        """Now and then, while anybody is in a send that may not end: who has been for too long?"""
        limit = self._clock.monotonic() - self._write_timeout
        for line in [line for line in self._watched if line.gate & SENDING and line.since <= limit]:
            self._watched.discard(line)
            line.owner.overrun()
        self._watching = None
        if self._watched:
            self._watch()
