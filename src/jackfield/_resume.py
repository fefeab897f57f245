"""A client that comes back with its last cursor: exactly what it missed, or the plain word that it must load afresh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio.lowlevel import checkpoint

from jackfield._cursor import Place, Reason, Unusable
from jackfield._missed import Missed
from jackfield.engine import Snapshot, Trimmed
from jackfield.errors import JackfieldError

if TYPE_CHECKING:
    from jackfield._hub import Hub
    from jackfield._log import Entry
    from jackfield._room import Room
    from jackfield._session import Session

__all__ = ["Recovery", "Resumes", "TooManyResumes"]

AT_ONCE = 32
"""Clients that are caught up at the same time; each may have the whole history in its hands for a moment."""

WAITING = 1_000
"""More than that come back in a moment instead."""


class TooManyResumes(JackfieldError):
    """So many want to be caught up that this one would wait too long: it comes back in a moment."""


class Recovery(NamedTuple):
    """What becomes of a cursor. `held` is the place from which the client goes on, and that `hello` names."""

    held: tuple[int, str]
    reason: Reason | None = None
    entries: Sequence[Entry] = ()


class Resumes:
    """A node's. `limit` is how many events a client is given at most."""

    def __init__(self, hub: Hub, *, limit: int) -> None:
        self._hub = hub
        self._limit = limit
        self._slots = anyio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def recover(self, session: Session, room: Room, at: Snapshot, given: str) -> Recovery:
        """What its user missed between the cursor that he was `given` and a snapshot, which is where he stands now.

        Raises TooManyResumes, or EngineUnavailable.
        """
        here = (at.lasting, self._hub.cursors.mark(room.id, at.epoch, at.lasting, at.lasting_id))
        if not given:
            return Recovery(here)
        try:
            place = self._hub.cursors.read(given, room.id, session.user_id)
            # The room's own epoch is another one as long as it has not been told that the log went back.
            if not place.is_of(at.epoch) or room.epoch != at.epoch or not at.floor <= place.position <= at.lasting:
                raise Unusable("expired")
            missed = Missed(session.user_id, session.channels, sees_all=session.sees_all, limit=self._limit)
            entries = await self._read(room, at, place, missed)
        except Unusable as unusable:
            return Recovery(here, unusable.reason)
        except Trimmed:  # meanwhile
            return Recovery(here, "expired")
        return Recovery((place.position, place.mark), None, entries)

    async def _read(self, room: Room, at: Snapshot, place: Place, missed: Missed) -> Sequence[Entry]:
        if place.position == at.lasting:
            _same(place.names(at.lasting, at.lasting_id))
            return ()
        if self._waiting >= WAITING:
            raise TooManyResumes
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            if place.position == at.floor:
                _same(place.names(at.floor, at.floor_id))
            else:
                own = await self._hub.between(room, place.position - 1, place.position)
                _same(any(place.names(entry.record.position, entry.record.id) for entry in own.entries))
            stretches: list[Sequence[Entry]] = []
            position = place.position
            while position < at.lasting:
                entries, position = await self._hub.between(room, position, at.lasting)
                stretches.append(entries)
                await checkpoint()  # what is at hand is read without waiting, and others want to run
            for stretch in reversed(stretches):
                missed.back(stretch)
                await checkpoint()
            for stretch in stretches:
                missed.forward(stretch)
                await checkpoint()
        finally:
            self._slots.release()
        return missed.entries


def _same(held: bool) -> None:
    """Where the cursor's record does not stand any more, the log went back and was written anew."""
    if not held:
        raise Unusable("expired")
