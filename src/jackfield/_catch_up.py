"""How a connection comes up to where the log ends: when it opens, when it resumes, when a fresh token comes.

It stands at a position, with nothing queued for it; what its user sees there is folded along. It reads its way up from
the records at hand, then from the engine, 64 in a turn, and goes live at the end with no await between the last look
and the flip. So a replay cannot overflow an outbox, and `hello`, replay and refresh are one path.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

from jackfield._audience import AllChannels, includes
from jackfield._backlog import TURN
from jackfield._line import BEHIND, GONE
from jackfield.engine import EngineError, Trimmed
from jackfield.errors import CloseCode

if TYPE_CHECKING:
    from jackfield._log import Entry
    from jackfield._node import Node
    from jackfield._resume import Recovery
    from jackfield._room import Room
    from jackfield._session import Session
    from jackfield.engine import Snapshot
    from jackfield.events import JSON

__all__ = ["CatchUp"]

logger = logging.getLogger("jackfield")


class CatchUp:
    """A session's. `given` is the cursor that its client brought, "" the first time, None where it keeps none."""

    __slots__ = ("_missed", "_node", "_recovery", "_running", "_session", "_was_live", "given", "room", "stood_at")

    def __init__(self, node: Node, session: Session, given: str | None) -> None:
        self.given = given
        self.room: Room | None = None
        """None before it has entered, and when it has left."""
        self.stood_at = math.inf
        """The position at which it was in the roster and the room."""
        self._node = node
        self._session = session
        self._recovery: Recovery | None = None
        self._missed: deque[Entry] | None = None
        self._running = False
        self._was_live = False

    # --- where it stands

    async def enter(self, channels: Callable[[], Awaitable[Collection[str]]]) -> None:
        """Into the roster and the room, not yet live: a position, what its user sees there, and what he missed.

        Raises Unauthorized, Revoked, RateLimited, TooManyResumes or EngineUnavailable.
        """
        node, session, line = self._node, self._session, self._session.line
        self.room = room = await node.hub.enter(session)
        # The answer is at least as new as this position, and what happened behind it is folded in again: that is
        # harmless.
        asked_at = room.position
        seen = await channels()
        session.sees_all = isinstance(seen, AllChannels)
        session.channels = set(seen)
        await node.roster.open(session)
        snapshot = await node.engine.read(room.id)
        line.position = asked_at
        await self._fold_up_to(room, snapshot.position)
        self.stood_at = snapshot.position
        if self.given is not None:
            self._recovery = await node.resumes.recover(session, room, snapshot, self.given)
            self._missed = deque(self._recovery.entries) or None
            line.tag = node.hub.cursors.tag(room.id, session.user_id)
            line.held = self._recovery.held

    async def advance(self, snapshot: Snapshot) -> None:
        """Its initial state is of there, so what was before that is told by it. Not for who gets a replay: its events
        would have a gap."""
        line, room = self._session.line, self.room
        assert room is not None, "it has entered"
        if self._recovery is not None:
            if self.given and self._recovery.reason is None:
                return
            mark = self._node.hub.cursors.mark(room.id, snapshot.epoch, snapshot.lasting, snapshot.lasting_id)
            line.held = snapshot.lasting, mark
        await self._fold_up_to(room, snapshot.position)

    async def _fold_up_to(self, room: Room, position: int) -> None:
        line = self._session.line
        while line.position < position:
            entries, line.position = await self._node.hub.between(room, line.position, position)
            for entry in entries:
                self._fold(entry)

    async def sees_now(self, channel_id: str) -> bool:
        """Whether its user sees a channel where the log ends."""
        session, room, node = self._session, self.room, self._node
        if session.sees(channel_id) or room is None:
            return session.sees(channel_id)
        upto = (await node.engine.read(room.id)).position
        line, sees = session.line, False
        position = line.position if line.gate & BEHIND else room.position
        while position < upto:
            entries, position = await node.hub.between(room, position, upto)
            for entry in entries:
                sight = entry.head.sight
                if sight is not None and sight.channel_id == channel_id and sight.moves(session.user_id):
                    sees = sight.gained
        return sees

    def cursor(self) -> str | None:
        """Of the newest place up to which it has been sent all that it may see; None for a client that keeps none.

        Beyond the last one that it was sent there may be records that were not for it. They count when all before them
        has been handed to everybody, and nothing of that waits here.
        """
        line, room = self._session.line, self.room
        if line.tag is None:
            return None
        if room is not None and not (line.gate & BEHIND or line.outbox.marked or self._session.expired):
            newest = room.lasting(room.lane.settled)
            if newest is not None and newest[0] > line.held[0]:
                line.held = newest[0], self._node.hub.cursors.mark(room.id, room.epoch, *newest)
        return f"{line.held[1]}{line.tag}"

    def outcome(self) -> Mapping[str, JSON] | None:
        """What `hello` says of the cursor that was brought; forgotten when it has been said."""
        recovery, self._recovery = self._recovery, None
        if recovery is None or not self.given:
            return None
        if recovery.reason is not None:
            return {"recovered": False, "reason": recovery.reason}
        return {"recovered": True, "replayed": len(recovery.entries)}

    # --- up to the end

    def begin(self) -> None:
        """Go live, or begin to read: not in the connection's own task, which has to be in `receive`, nor in a hook,
        which has a deadline."""
        if not self._running and not self._go_live():
            self._running = True
            self._node.start_soon(self._run)

    async def _run(self) -> None:
        line, room, node, session = self._session.line, self.room, self._node, self._session
        try:
            if room is None:  # it has gone meanwhile
                return
            await self._replay(room)
            await node.pump.settled(room.lane, line.upto)  # what had been dispatched to it waits in its outbox by then
            await line.drain()
            while not (line.gate & GONE or session.expired or self._go_live()):
                if self._missed:  # its token ran out in the replay, and a fresh one came before this had left
                    await self._replay(room)
                    continue
                entries, upto = await node.hub.between(room, line.position, room.position)
                for entry in entries:
                    if not session.expired:
                        await self._read(room, entry)
                if not session.expired:
                    line.position = upto  # passing ones may be gone
                await checkpoint()  # neither reads nor sends need suspend, and others want to run
        except Trimmed:  # a fresh token came too late; or so much has happened while this one was opening
            session.end(CloseCode.EXPIRED if self._was_live else CloseCode.SLOW)
        except EngineError as error:
            logger.warning("a connection could not be caught up: %s", error)
            session.end(CloseCode.OVERLOADED)
        finally:
            self._running = False

    def _go_live(self) -> bool:
        """Where the log ends, with no await between the look and the flip. False: there is more of it."""
        room, line, session = self.room, self._session.line, self._session
        # It may be ahead of the dispatcher by what was committed a moment ago: that comes by, and passes it over.
        if room is None or line.gate & GONE or session.expired or self._missed or line.position < room.position:
            return False
        if room.lane.settled < line.upto:  # what had been dispatched to it still comes, and would be passed over
            return False
        self._was_live = True
        line.go_live()
        room.seat(session)
        return True

    async def _replay(self, room: Room) -> None:
        """What was missed. As far as its token goes: a fresh one goes on from there."""
        session, missed = self._session, self._missed
        while missed and not (session.line.gate & GONE or session.expired):
            await session.line.send(self._node.hub.frame(room, missed.popleft()))
            if len(missed) % TURN == 0:
                await checkpoint()

    async def _read(self, room: Room, entry: Entry) -> None:
        """One record, as it would have come: who gains sight sees it, who loses sight sees it still."""
        session, sight = self._session, entry.head.sight
        if sight is not None and sight.gained:
            self._fold(entry)
        if entry.head.kind != "control" and includes(entry.head.audience, session):
            await session.line.send(self._node.hub.frame(room, entry))
        if sight is not None and not sight.gained:
            self._fold(entry)
        session.line.position = entry.record.position

    def _fold(self, entry: Entry) -> None:
        session, sight = self._session, entry.head.sight
        if sight is not None and sight.moves(session.user_id):
            (session.gain if sight.gained else session.lose)(sight.channel_id)
