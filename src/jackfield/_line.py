"""One connection's way out: who may send on it, and what waits meanwhile.

Whoever sends holds the **gate**: `SENDING` is set in the step that finds it free, and the outbox is looked at in the
step that clears it. So two sends never overlap, order holds, and nothing waits unseen. Three kinds of senders share it:
the pump's workers, the connection's own task (answers, and all of it while the line is behind), and a writer, a task
that lives while there is something in the outbox.

- **Slow.** A line on which a send once blocked sends through its outbox, until 64 sends in a row did not. Without
  that memory each slow reader would hold up everybody at every event.
- **Behind.** A line that is opening or expired is a position with nothing queued: its session reads it up.
- **Gone.** A line that got nowhere for ten seconds, or whose outbox is over its bound, is never written to again. The
  task in its last send may never come back: it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from jackfield._congestion import Lines
    from jackfield._outbox import Frame, Outbox

__all__ = ["AWAITED", "BEHIND", "GONE", "SENDING", "SLOW", "WAITING", "Line", "Owner"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

SENDING = 1
"""Somebody holds the gate."""
SLOW = 2
"""It has blocked: its events go through its outbox."""
WAITING = 4
"""Its outbox holds something."""
BEHIND = 8
"""It is opening, catching up or expired: its own session feeds it."""
GONE = 16
"""Nothing is ever written to it again."""
AWAITED = 32
"""Somebody stands before the gate."""

UNBLOCKED_AFTER = 64
UNBLOCKED_WITHIN = 0.001
AT_ONCE = 64


class Owner(Protocol):
    """Whose line it is; told at once, and it takes the line out of every index before it returns."""

    def broken(self) -> None:
        """The socket is gone."""

    def overrun(self) -> None:
        """It is too slow, and must be closed."""

    def lapsed(self) -> None:
        """Its token has run out: `fall_behind`."""


class Line:
    """One connection, as those see it who send.

    `position` is that of the last record that was handed to it, or that its session has read. What had been dispatched
    to it when it fell behind, from `handed` to `upto`, still comes into its outbox. `expires` is when its token does
    (wall clock, seconds). `waiting_sends` counts what a worker sends out of its outbox, so that standing still can be
    told from getting on. A client that keeps a cursor has a `tag`; `held` is the place of the last one it was sent.
    """

    __slots__ = (
        "_counted",
        "_fast",
        "_free",
        "_lines",
        "expires",
        "gate",
        "handed",
        "held",
        "outbox",
        "owner",
        "position",
        "since",
        "tag",
        "upto",
        "waiting_sends",
        "write",
    )

    def __init__(self, lines: Lines, owner: Owner, write: Send, outbox: Outbox, expires: float | None) -> None:
        self.owner = owner
        self.write = write
        self.outbox = outbox
        self.gate = BEHIND
        self.position = 0
        self.handed = self.upto = 0
        self.tag: str | None = None
        self.held: tuple[int, str] = (0, "")
        self.expires = math.inf if expires is None else expires
        self.waiting_sends = 0
        self.since = 0.0
        self._lines = lines
        self._counted = 0
        self._fast = 0
        self._free: anyio.Event | None = None

    # --- what sessions use

    def offer(self, frame: Frame) -> None:
        """Send it in its turn; never waits."""
        if self.gate & GONE:
            return
        if not self.outbox.offer(frame):
            self.overrun()
            return
        self._count()
        self._lines.relieve()
        if len(self.outbox):
            self.gate |= WAITING
            if not self.gate & (SENDING | BEHIND):
                self._write_soon()

    async def answer(self, frame: Frame) -> None:
        """From the connection's own task: directly where nothing is in the way, else in its turn. At most this one is
        sent here, since that task must get back to `receive`."""
        gate = self.gate
        if gate & (SENDING | GONE) or gate & (SLOW | BEHIND) == SLOW:
            self.offer(frame)
        else:
            await self.send(frame)

    async def send(self, frame: Frame) -> None:
        """As soon as nobody else does; returns when it is written, or nothing can be."""
        if await self._enter():
            try:
                await self.write(frame.message if self.tag is None else frame.to(self))
            except Exception:  # whatever a server raises for a socket that is gone
                self.broken()
            finally:
                self.release()

    async def drain(self) -> None:
        """Write what waits. Of a line that is behind; or is about to end, and gets nothing new from here on."""
        self.gate |= BEHIND
        if await self._enter():
            await self.write_on(GONE)

    def go_live(self) -> None:
        """It has caught up: from here on the pump feeds it what is behind its position."""
        self.gate &= ~BEHIND
        if self.gate & (WAITING | SENDING) == WAITING:
            self._write_soon()

    def fall_behind(self, upto: int) -> None:
        """From here on its session feeds it what is behind `upto`. What was dispatched before, and has not come to it
        yet, will wait in its outbox."""
        self.gate |= BEHIND
        self.handed = self.position
        self.position = self.upto = max(upto, self.position)

    def close(self) -> None:
        """Nothing is ever written to it again."""
        self.gate |= GONE
        self.outbox.clear()
        self._count()
        self._let_in()

    def broken(self) -> None:
        """Its socket is gone."""
        if not self.gate & GONE:
            self.close()
            self.owner.broken()

    def overrun(self) -> None:
        """It does not read what it gets."""
        self._lines.watched.discard(self)
        if self.gate & SENDING:
            self._lines.abandon(self)
        if not self.gate & GONE:
            self._lines.overruns += 1
            self.close()
            self.owner.overrun()

    # --- what workers use

    def aside(self, frames: Sequence[Frame], now: float) -> None:
        """Take what cannot just be sent: it waits, or the session reads it up, or it has been handed over before."""
        if self.expires <= now and not self.gate & (BEHIND | GONE):
            self.owner.lapsed()
        for frame in frames:
            if self.gate & BEHIND:
                if self.handed < frame.position <= self.upto:
                    self.handed = frame.position
                    self.offer(frame)
            elif self.position < frame.position:
                self.position = frame.position
                self.offer(frame)

    def block(self, rest: Sequence[Frame]) -> None:
        """The send that a worker is in does not come back: `rest` and all that follows waits here."""
        self.gate |= SLOW
        self._fast = 0
        self._lines.watch(self)
        self.put_back(rest)

    def put_back(self, rest: Sequence[Frame]) -> None:
        """A worker had these in its hands, and did not get to them."""
        if not self.gate & GONE:
            self.outbox.put_back(rest)
            self._count()

    async def write_waiting(self) -> None:
        """Holding the gate: write a few that came meanwhile. A send that raises is the caller's."""
        for _ in range(AT_ONCE):
            if self.gate != SENDING | WAITING or (frame := self._next()) is None:
                break
            self.waiting_sends += 1
            await self.write(frame.message if self.tag is None else frame.to(self))

    async def write_on(self, until: int = GONE | BEHIND) -> None:
        """Holding the gate: write what waits, however long it takes, and leave."""
        clock = self._lines.clock
        written = 0
        try:
            while not self.gate & until and (frame := self._next()) is not None:
                self._lines.watch(self)
                await self.write(frame.message if self.tag is None else frame.to(self))
                self._fast = self._fast + 1 if clock.monotonic() - self.since < UNBLOCKED_WITHIN else 0
                if self._fast == UNBLOCKED_AFTER:
                    self.gate &= ~SLOW
                written += 1
                if written % AT_ONCE == 0:
                    await checkpoint()  # sends may never suspend, and others want to run
        except Exception:  # whatever a server raises for a socket that is gone
            self.broken()
        finally:
            self.release()

    def release(self) -> None:
        """Leave the gate. Whoever leaves it with the outbox not empty leaves it to a writer."""
        self._lines.watched.discard(self)
        self._lines.stuck.pop(self, None)
        self.gate = self.gate & ~(SENDING | WAITING) | (WAITING if len(self.outbox) else 0)
        self._let_in()
        if self.gate & (WAITING | BEHIND | GONE) == WAITING:
            self._write_soon()

    # --- the gate

    async def _enter(self) -> bool:
        """Take the gate when it is free. False: the line is gone."""
        while self.gate & (SENDING | GONE) == SENDING:
            self.gate |= AWAITED
            if self._free is None:
                self._free = anyio.Event()
            await self._free.wait()
        if self.gate & GONE:
            return False
        self.gate |= SENDING
        self._lines.watch(self)
        return True

    def _let_in(self) -> None:
        if self._free is not None:
            self.gate &= ~AWAITED
            self._free.set()
            self._free = None

    def _write_soon(self) -> None:
        self.gate |= SENDING
        self._lines.begin(self.write_on, "jackfield writer")

    def _next(self) -> Frame | None:
        """What is to be written next, unless the token has run out: that is looked at before every single frame."""
        if self.expires <= self._lines.clock.time():
            if not self.gate & BEHIND:
                self.owner.lapsed()
            return None
        frame = self.outbox.take()
        self._count()
        return frame

    def _count(self) -> None:
        """Something came to the outbox, or went."""
        lines, size = self._lines, self.outbox.size
        lines.waiting_bytes += size - self._counted
        self._counted = size
        if size:
            lines.loaded.add(self)
        else:
            lines.loaded.discard(self)
