"""The fan-out: what goes out next, and who takes it.

A delivery costs one `await send` and nothing else: no task, queue, event, deadline, hook or encoding for each
recipient. The dispatcher appends to a workspace's lane and wakes a worker; workers take recipients from one shared
iterator and await each one's `send` in turn. What keeps one connection from holding up the others:

- **A follower.** Whoever begins to send has seen to it that somebody comes after him. While sends do not suspend
  (uvicorn under asyncio) one worker does everything; where each of them does (the servers' trio sends) they soon are
  sixteen, and share each pass of the scheduler.
- **Take-over.** While anybody is in a send, one timer looks every 5 ms whether he got on. Who did not is stuck in a
  connection that does not read: he never comes back to the iterator, becomes that connection's writer (`_line`), and
  another is hired. So workers are counted without the stuck ones.
- **Turns.** Neighbours in a lane for the very same recipients go out connection by connection, at most 64; a worker
  gives way to the other lanes, and to everything else in the process, every 256 sends.

Measured: a parked task costs 1 to 9 µs to wake and a deadline round a send 5 µs, where a whole delivery costs 6.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import checkpoint

from jackfield._congestion import Lines
from jackfield._line import BEHIND, GONE, SENDING, WAITING, Line

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from jackfield._clock import Clock, Timer, Timers
    from jackfield._outbox import Frame

__all__ = ["Lane", "Pump"]

WORKERS = 16
"""Tasks that are in a send at the same time, not counting the stuck ones."""

TURN_EVENTS = 64
TURN_SENDS = 256
LOOK_EVERY = 0.005
STILL_FOR = 0.004
BACKLOG = 16
"""With more than that queued, a lane's next turn waits for the last sends of the one before: else a burst would be
handed to connections that are in the middle of it, and fill the outboxes of those who read as fast as they can."""
REPLACED_BY = 4
"""Where some are stuck there may be more, and looking for them one by one would take its time."""


class Lane:
    """One workspace's queue. `settled` is the position up to which everything has wholly been handed over."""

    __slots__ = ("jobs", "newest", "paused", "queued", "settled", "turn", "turns", "whenever")

    def __init__(self, position: int = 0) -> None:
        self.jobs: deque[tuple[Sequence[Line], Frame]] = deque()
        self.turn: Turn | None = None
        """The one that still has recipients."""
        self.turns: deque[Turn] = deque()
        """Those in whose sends somebody still is, too."""
        self.queued = False
        self.paused = False
        self.settled = self.newest = position
        self.whenever: list[tuple[int, Callable[[], object]]] = []


class Turn:
    """Frames on their way to the same recipients, one connection after the other."""

    __slots__ = ("exhausted", "first", "frames", "lane", "last", "left", "now", "recipients", "workers")

    def __init__(self, lane: Lane, recipients: Sequence[Line], frames: list[Frame], now: float) -> None:
        self.lane = lane
        self.recipients: Iterator[Line] = iter(recipients)
        self.frames = frames
        self.first = frames[0].position
        self.last = frames[-1].position
        self.left = TURN_SENDS
        self.now = now
        self.workers = 0
        self.exhausted = False


class Worker:
    """A task that sends; `line` is the one whose send it is in, and `index` how many of the turn's frames it began."""

    __slots__ = ("index", "left", "line", "lost", "seen", "seen_at", "turn")

    def __init__(self) -> None:
        self.line: Line | None = None
        self.turn: Turn | None = None
        self.index = 0
        self.left = TURN_SENDS
        self.lost = False
        self.seen: tuple[object, ...] = ()
        self.seen_at = 0.0

    def place(self) -> tuple[object, ...]:
        """Where it is; another one after each send."""
        line = self.line
        return () if line is None else (self.turn, line, self.index, line.waiting_sends)


class Pump:
    """A node's. `write_timeout` is how many seconds a send may get nowhere, `budget` how many bytes may wait."""

    def __init__(self, clock: Clock, timers: Timers, *, write_timeout: float, budget: int) -> None:
        self.lines = Lines(clock, timers, write_timeout=write_timeout, budget=budget)
        self._clock = clock
        self._timers = timers
        self._ready: deque[Lane] = deque()
        self._turn: Turn | None = None
        self._workers: list[Worker] = []
        self._idle: list[anyio.Event] = []
        self._coming = 0
        """Workers on their way, who will see whatever there is to do …"""
        self._pausing = 0
        """… and of those the ones that only let others run."""
        self._looking: Timer | None = None
        self._look_at = 0.0

    def start(self, tasks: TaskGroup) -> None:
        """Send from tasks of this group, until it is cancelled."""
        self.lines.start(tasks)

    # --- what the dispatcher asks

    def put(self, lane: Lane, recipients: Sequence[Line], frame: Frame) -> None:
        """Send a frame to those; never waits. Neighbours with the very same `recipients` go out together."""
        lane.jobs.append((recipients, frame))
        lane.newest = frame.position
        if not lane.queued:
            lane.queued = True
            self._ready.append(lane)
        if not self._coming:
            self._rouse(1)

    def settle(self, lane: Lane, position: int) -> None:
        """Nobody here gets the record at `position`."""
        lane.newest = position
        self._settle(lane)

    def afterwards(self, lane: Lane, position: int, call: Callable[[], object]) -> None:
        """Call it when everything up to `position` has been handed to everybody; at once where that is so."""
        if lane.settled >= position:
            call()
        else:
            insort(lane.whenever, (position, call), key=itemgetter(0))

    async def settled(self, lane: Lane, position: int) -> None:
        """Wait until everything up to `position` has been handed to everybody."""
        if lane.settled < position:
            reached = anyio.Event()
            self.afterwards(lane, position, reached.set)
            await reached.wait()

    @staticmethod
    def abandon(lane: Lane) -> None:
        """Nobody is left here: what was to be called afterwards is called now."""
        calls, lane.whenever = lane.whenever, []
        for _, call in calls:
            call()

    # --- turns

    def _next_turn(self) -> Turn | None:
        while self._ready:
            lane = self._ready.popleft()
            if lane.turn is not None or not lane.turns or len(lane.jobs) < BACKLOG:
                return self._begin_turn(lane)
            lane.paused = True  # `_leave` has it ready again
        return None

    def _begin_turn(self, lane: Lane) -> Turn:
        turn = lane.turn
        if turn is None:
            recipients, frame = lane.jobs.popleft()
            frames = [frame]
            while lane.jobs and lane.jobs[0][0] is recipients and len(frames) < TURN_EVENTS:
                frames.append(lane.jobs.popleft()[1])
            turn = lane.turn = Turn(lane, recipients, frames, self._clock.time())
            lane.turns.append(turn)
        else:
            turn.left = TURN_SENDS
            turn.now = self._clock.time()
        self._turn = turn
        return turn

    def _leave(self, worker: Worker, turn: Turn) -> None:
        """A worker takes no more of it: its recipients are exhausted, or it is the turn of others."""
        worker.turn = worker.line = None
        turn.workers -= 1
        lane = turn.lane
        if self._turn is turn:
            self._turn = None
            if turn.exhausted:
                lane.turn = None
            if lane.turn is not None or lane.jobs:
                self._ready.append(lane)  # behind the others; its iterator goes on where it stands
            else:
                lane.queued = False
        if turn.exhausted and not turn.workers:
            self._settle(lane)
            if lane.paused and not lane.turns:
                lane.paused = False
                self._ready.append(lane)

    @staticmethod
    def _settle(lane: Lane) -> None:
        turns = lane.turns
        while turns and turns[0].exhausted and not turns[0].workers:
            turns.popleft()
        if turns:
            lane.settled = turns[0].first - 1
        elif lane.jobs:
            lane.settled = lane.jobs[0][1].position - 1
        else:
            lane.settled = lane.newest
        reached = bisect_right(lane.whenever, lane.settled, key=itemgetter(0))
        calls = lane.whenever[:reached]
        del lane.whenever[:reached]
        for _, call in calls:
            call()

    # --- workers

    def _rouse(self, number: int) -> int:
        """Have so many come, as far as there are. Returns how many do; else all are in a send: the first to get on
        comes by itself, and where none does, `_look` hires."""
        for roused in range(number):
            if self._idle:
                self._coming += 1
                self._idle.pop().set()
            elif len(self._workers) < WORKERS:
                self._hire()
            else:
                return roused
        return number

    def _hire(self) -> None:
        worker = Worker()
        self._workers.append(worker)
        self._coming += 1
        self.lines.begin(lambda: self._work(worker), "jackfield pump")

    def _dismiss(self, worker: Worker) -> None:
        """It takes no more turns, whatever it is in."""
        self._workers.remove(worker)
        if (turn := worker.turn) is not None:
            self._leave(worker, turn)

    async def _work(self, worker: Worker) -> None:
        try:
            while await self._take_turns(worker):
                wake = anyio.Event()
                self._idle.append(wake)
                await wake.wait()
        except Exception:
            if not worker.lost:
                self._dismiss(worker)
            raise

    async def _take_turns(self, worker: Worker) -> bool:
        """Until there are none. False: this worker is not wanted any more."""
        while True:
            self._coming -= 1
            if not self._watch() and self._pausing:  # sends do not give way, so one is enough, and it goes on
                break
            while worker.left > 0 and (turn := self._turn or self._next_turn()) is not None:
                if not self._coming:  # as many as are in a send, and one: so they double
                    self._rouse(1 + self._sending())
                await self._serve(worker, turn)
                if worker.lost:
                    return False
            if worker.left > 0:
                break
            worker.left = TURN_SENDS
            self._coming += 1
            self._pausing += 1
            await checkpoint()  # sends may never suspend, and others want to run
            self._pausing -= 1
        if len(self._workers) > WORKERS:
            self._dismiss(worker)
            return False
        return True

    def _sending(self) -> int:
        return sum(worker.line is not None for worker in self._workers)

    async def _serve(self, worker: Worker, turn: Turn) -> None:
        """Send a turn's frames to the connections that this worker gets from the shared iterator."""
        worker.turn = turn
        turn.workers += 1
        frames, first, last, now = turn.frames, turn.first, turn.last, turn.now
        worker.index = cost = len(frames)
        single = frames[0] if cost == 1 else None
        message = frames[0].message
        mine = 0
        for line in turn.recipients:
            if line.gate or line.position >= first or line.expires <= now:
                line.aside(frames, now)
            else:
                line.gate = SENDING
                line.position = last
                worker.line = line
                write = line.write
                try:
                    if single is not None:
                        await write(message if line.tag is None else single.to(line))
                    else:
                        await self._send_all(worker, line, frames)
                    if line.gate == SENDING | WAITING:  # more came while it was in there
                        await line.write_waiting()
                except Exception:  # whatever a server raises for a socket that is gone
                    line.broken()
                if line.gate == SENDING:
                    line.gate = 0
                elif worker.lost:
                    await line.write_on()
                    return
                else:
                    line.release()
            mine += cost
            turn.left = left = turn.left - cost
            if left <= 0:
                break
        else:
            turn.exhausted = True
        worker.left -= mine
        self._leave(worker, turn)

    @staticmethod
    async def _send_all(worker: Worker, line: Line, frames: list[Frame]) -> None:
        worker.index = 0
        for frame in frames:
            worker.index += 1
            await line.write(frame.message if line.tag is None else frame.to(line))
            if worker.lost:  # what is left waits already
                break
            if line.gate & (GONE | BEHIND):
                line.put_back(frames[worker.index :])
                break

    # --- standing still

    def _watch(self) -> bool:
        """Note who is in which send, and look in 5 ms whether he is in it still. Whether anybody got on since."""
        now = self._clock.monotonic()
        got_on = False
        for worker in self._workers:
            if place := worker.place():
                if worker.seen != place:
                    worker.seen, worker.seen_at = place, now
                    got_on = True
                if self._looking is None:
                    self._looking = self._timers.call_later(LOOK_EVERY, self._look)
                    self._look_at = now + LOOK_EVERY
        return got_on

    def _look(self) -> None:
        now = self._clock.monotonic()
        patience = STILL_FOR + 2 * (now - self._look_at)  # if this comes late, the whole loop was held up, and they too
        stuck = 0
        for worker in tuple(self._workers):
            line = worker.line
            if line is not None and worker.place() == worker.seen and now - worker.seen_at >= patience:
                self._take_over(worker, line)
                stuck += 1
        if stuck and not self._coming and (self._turn is not None or self._ready):
            for _ in range(REPLACED_BY * stuck - self._rouse(REPLACED_BY * stuck)):
                self._hire()
        self._looking = None
        self._watch()

    def _take_over(self, worker: Worker, line: Line) -> None:
        turn = worker.turn
        assert turn is not None, "who is in a send is in a turn"
        worker.lost = True
        line.block(turn.frames[worker.index :])
        self._dismiss(worker)
