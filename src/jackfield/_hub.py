"""Who is connected here: the rooms of a node, and the one dispatcher that the engine's feed runs.

A record comes back from the engine in its place in the order. Here its sight is folded into the indexes, its audience
looked up in them, and its frame queued for the pump; nothing of that waits. What an index loses, it loses in one step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, cast

from jackfield._backlog import TURN, Backlog, Stretch
from jackfield._log import REVOKED, Entry, Head
from jackfield._room import Room
from jackfield.engine import Arrived, Engine, Feed, Lost, Record
from jackfield.errors import CloseCode

if TYPE_CHECKING:
    from jackfield._cursor import Cursors
    from jackfield._outbox import Frame
    from jackfield._pump import Pump
    from jackfield._session import Session

__all__ = ["Hub"]

logger = logging.getLogger("jackfield")


class Hub:
    """All rooms of a node."""

    cursors: Cursors
    """By the key that the nodes of an engine share; known when it is open."""

    def __init__(self, engine: Engine, pump: Pump) -> None:
        self.rooms: dict[str, Room] = {}
        self._engine = engine
        self._backlog = Backlog(engine)
        self._pump = pump
        self._feed: Feed | None = None

    async def run(self) -> None:
        """Dispatch what the feed brings, until cancelled."""
        async with self._engine.feed() as self._feed:
            for room in self.rooms.values():
                if room.opened.is_set():  # one that is being opened wants it by itself
                    self._feed.want(room.id, room.position, room.epoch)
            async with aclosing(aiter(self._feed)) as everything:
                async for news in everything:
                    if isinstance(news, Arrived):
                        self.arrived(news.workspace, news.records)
                        if not news.whole:
                            self._missed(news.workspace)
                    else:
                        self._lost(news)

    # --- coming and going

    async def enter(self, session: Session) -> Room:
        """The room of its workspace, opened where it is the first one here. `leave` gives it back."""
        workspace_id = session.workspace.id
        room = self.rooms.get(workspace_id)
        if room is None:
            room = self.rooms[workspace_id] = Room(workspace_id)
            room.sessions.add(session)
            try:
                snapshot = await self._engine.read(workspace_id)
            except BaseException:
                # Who waits for it opens it anew.
                del self.rooms[workspace_id]
                room.opened.set()
                raise
            room.position = room.lane.settled = snapshot.position
            room.epoch, room.newest = snapshot.epoch, (snapshot.lasting, snapshot.lasting_id)
            if self._feed is not None:
                self._feed.want(workspace_id, room.position, room.epoch)
            room.opened.set()
            return room
        room.sessions.add(session)
        try:
            await room.opened.wait()
        except BaseException:
            self.leave(room, session)
            raise
        return room if self.rooms.get(workspace_id) is room else await self.enter(session)

    def leave(self, room: Room, session: Session) -> None:
        """It is gone; the last one closes the room."""
        room.unseat(session)
        room.sessions.discard(session)
        if not room.sessions and self.rooms.get(room.id) is room:
            del self.rooms[room.id]
            if self._feed is not None:
                self._feed.release(room.id)
            self._pump.abandon(room.lane)
            self._backlog.forget(room.id)

    # --- what happened

    def arrived(self, workspace_id: str, records: Sequence[Record]) -> None:
        """Records in their order; those that have been here before are passed over."""
        room = self.rooms.get(workspace_id)
        if room is None:
            return
        for record in records:
            if record.position > room.position:
                self._dispatch(room, Entry.of(record))

    def _dispatch(self, room: Room, entry: Entry) -> None:
        record, head = entry
        room.position = record.position
        room.recent.append(entry)
        if record.lasting:
            room.newest = (record.position, record.id)
        sight = head.sight
        if sight is not None and sight.gained:  # who comes is told too
            room.see(sight)
        if head.type == REVOKED:
            self._revoke(room, head, record.position)
            self._pump.settle(room.lane, record.position)
        elif recipients := room.recipients(head.audience):
            self._pump.put(room.lane, recipients, self.frame(room, entry))
        else:
            self._pump.settle(room.lane, record.position)
        if sight is not None and not sight.gained:  # who goes is told still
            room.unsee(sight)

    @staticmethod
    def _revoke(room: Room, head: Head, position: int) -> None:
        """Whoever was here before it, and of those who come meanwhile the ones with a token from before it. Tokens are
        dated by another clock than ours, which may be ahead."""
        user_id, since = cast("tuple[str, float]", head.key)
        for session in tuple(room.sessions):
            if session.user_id == user_id and (session.stood_before(position) or session.revoked_by(since)):
                session.end(CloseCode.REVOKED)

    def _missed(self, workspace_id: str) -> None:
        """This node was away for longer than passing records are kept. Who is there, and who types, a hello tells."""
        room = self.rooms.get(workspace_id)
        if room is not None:
            logger.warning("presence of workspace %s was missed; its clients connect anew", workspace_id)
            for session in tuple(room.sessions):
                session.end(CloseCode.RESTART)

    def _lost(self, news: Lost) -> None:
        room = self.rooms.get(news.workspace)
        if room is None:
            return
        logger.warning("the log of workspace %s went back; its clients connect anew", room.id)
        room.epoch, room.position, room.newest = news.epoch, news.position, (0, "")
        room.recent.clear()
        for session in tuple(room.sessions):
            session.end(CloseCode.RESTART)

    def seen(self, workspace_id: str) -> tuple[str, int, str]:
        """The newest lasting record that this node knows of, and in which epoch."""
        room = self.rooms.get(workspace_id)
        return ("", 0, "") if room is None else (room.epoch, *room.newest)

    def after_fan_out(self, workspace_id: str, position: int, call: Callable[[], object]) -> None:
        """Call it when the record at `position` has been handed to everybody here; at once where nobody is."""
        room = self.rooms.get(workspace_id)
        if room is None:
            call()
        else:
            self._pump.afterwards(room.lane, position, call)

    # --- reading up

    def frame(self, room: Room, entry: Entry) -> Frame:
        """A record as it goes out there."""
        record = entry.record
        return entry.frame(partial(self.cursors.mark, room.id, room.epoch, record.position, record.id))

    async def between(self, room: Room, after: int, upto: int) -> Stretch:
        """At most a turn's records of (after, upto], from those at hand or else from the engine.

        Raises Trimmed when they are no longer kept.
        """
        recent = room.recent
        # They end where the dispatcher stands, and the log may be ahead of it.
        if recent and recent[0].record.position <= after + 1 <= recent[-1].record.position:
            first = after + 1 - recent[0].record.position
            # Positions have no holes, so a place is a subtraction; where the node missed passing ones it is not.
            if recent[-1].record.position - recent[0].record.position == len(recent) - 1:
                entries = [recent[n] for n in range(first, min(first + TURN, first + upto - after, len(recent)))]
                return Stretch(entries, entries[-1].record.position)
        return await self._backlog.read(room.id, room.epoch, after, upto)
