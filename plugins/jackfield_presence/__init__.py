"""Who is there: `online` while somebody sits at one of a user's connections, `away` while nobody does, `offline` a
grace after the last one ended. Each transition is decided with the roster's change that causes it, and so published
once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Literal
from weakref import WeakKeyDictionary, WeakSet

import attrs

from jackfield import (
    Attendance,
    ClientEvent,
    Connection,
    Post,
    ServerEvent,
    Session,
    State,
    Transaction,
    Workspace,
    before,
    hookimpl,
    on,
)
from jackfield.errors import EngineError
from jackfield.events import PresenceUpdated, Status
from jackfield_presence._crowd import (
    EVERYBODY,
    PRESENCE,
    STORM,
    STORM_LASTS,
    TOLD,
    WATCHING,
    PresenceCrowded,
    PresenceWatch,
    PresenceWatched,
    UserStatus,
    audience,
    listed,
    told,
    turn,
    watchers,
)

__all__ = ["Presence", "PresenceCrowded", "PresenceSet", "PresenceWatch", "PresenceWatched", "UserStatus"]

COUNTED_AFTER = 0.25
"""Seconds from a transition until those who are there are counted: a table is read whole."""
STORM_AT = 5_000
"""Deliveries in that time, of a node's transitions to everyone: a twentieth of what a core can do."""

LINGER = State("presence.linger", bool)
"""users without a connection, until the grace is over"""
RETURNED = State("presence.returned", bool)
"""users who were away, and came back so; for another grace"""


class PresenceSet(ClientEvent, type="presence"):
    """Somebody says whether he is there."""

    status: Literal["online", "away"]


def _seconds(_: object, field: attrs.Attribute[float], value: float) -> None:
    if value < 0:
        raise ValueError(f"{field.name} must not be negative")


@attrs.define(eq=False)
class Presence:
    """`grace` seconds after his last connection ended a user is offline, and `away_after` seconds after his last
    event on any of them he is away; a `ping` is no event. With `client_status` a client may say so itself, and what
    it said stands until it says otherwise.

    Each transition is told to everyone in the workspace, until more than `broadcast_limit` users are there: from then
    on to those who watch the user by `presence.watch`, and to himself. While very many come or go at once, those who
    watch anybody are told of no other until it is over, and of everyone then."""

    grace: float = attrs.field(default=20.0, validator=_seconds, metadata={"unit": "seconds"})
    away_after: float = attrs.field(default=600.0, validator=_seconds, metadata={"unit": "seconds"})
    client_status: bool = False
    broadcast_limit: int = attrs.field(default=1_000, validator=attrs.validators.ge(1), metadata={"unit": "users"})
    name: str = "presence"
    _active: WeakKeyDictionary[Session, float] = attrs.field(
        factory=WeakKeyDictionary[Session, float], init=False, repr=False
    )
    _said: WeakSet[Session] = attrs.field(factory=WeakSet[Session], init=False, repr=False)
    _still_away: set[tuple[str, str]] = attrs.field(factory=set[tuple[str, str]], init=False, repr=False)
    _watched: WeakKeyDictionary[Session, Sequence[str]] = attrs.field(
        factory=WeakKeyDictionary[Session, Sequence[str]], init=False, repr=False
    )
    _counting: Counter[Workspace] = attrs.field(factory=Counter[Workspace], init=False, repr=False)
    _cancel: dict[Session, Callable[[], None]] = attrs.field(
        factory=dict[Session, Callable[[], None]], init=False, repr=False
    )

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        asked_for = (PresenceSet,) if self.client_status else ()
        return (*asked_for, PresenceWatch, PresenceWatched, PresenceCrowded)

    @hookimpl
    def held_for(self) -> float:
        return self.grace  # who is back by then, after a drain too, has never been away

    # --- decided with the roster

    @hookimpl
    async def roster_changed(
        self, transaction: Transaction, user_id: str, after: Attendance, cause: str
    ) -> Sequence[ServerEvent] | None:
        asked = [(state, user_id) for state in (PRESENCE, LINGER, RETURNED)]
        await transaction.read_ahead([*asked, (TOLD, EVERYBODY)])
        if after.connections:
            lingered = (await transaction.update(LINGER, user_id, lambda _: False)).before
            if cause == "opened" and await self._is_still_away(transaction, user_id, lingered):
                return None
            return await self._become(transaction, user_id, "away" if after.idle == after.connections else "online")
        if cause == "revoked" or self.grace == 0:
            await transaction.update(LINGER, user_id, lambda _: False)
            return await self._become(transaction, user_id, "offline")
        await transaction.update(LINGER, user_id, lambda _: True, due=self.grace)
        return None

    @hookimpl
    async def cell_due(self, transaction: Transaction, state: str, key: str) -> Sequence[ServerEvent] | None:
        if state == STORM.name:
            await transaction.update(STORM, key, lambda _: False)
            return [PresenceCrowded(False)]  # if that is so: it is decided when it is published
        return await self._become(transaction, key, "offline") if state == LINGER.name else None

    async def _is_still_away(self, transaction: Transaction, user_id: str, lingered: bool) -> bool:
        """Whether a connection opens that came back by itself: of somebody who was away, within the grace. All that he
        had come back then, one after the other, as after a drain; and nothing is sent."""
        still = await transaction.get(PRESENCE, user_id) == "away" and (
            lingered or await transaction.get(RETURNED, user_id)
        )
        if still and lingered:
            await transaction.update(RETURNED, user_id, lambda _: True, due=self.grace)
        (self._still_away.add if still else self._still_away.discard)((transaction.workspace.id, user_id))
        return still

    @staticmethod
    async def _become(transaction: Transaction, user_id: str, status: Status) -> Sequence[ServerEvent] | None:
        remembered = "" if status == "offline" else status
        changed = await transaction.update(PRESENCE, user_id, lambda _: remembered)
        return [PresenceUpdated(user_id, status)] if changed else None

    # --- who is told

    @before(PresenceUpdated)
    async def address(self, transaction: Transaction, event: PresenceUpdated) -> Post | None:
        if transaction.audience != event.audience():
            return None  # whoever published it said to whom
        return Post(event, to=await audience(transaction, event.user_id))

    @on(PresenceUpdated)
    async def count_later(self, workspace: Workspace) -> None:
        self._counting[workspace] += 1
        if self._counting[workspace] == 1:
            workspace.app.call_later(COUNTED_AFTER, workspace.app.start_soon, partial(self._count, workspace))

    async def _count(self, workspace: Workspace) -> None:
        transitions = self._counting.pop(workspace)
        try:
            was = await workspace.get(TOLD, EVERYBODY)
            online = len(await workspace.all(PRESENCE))
            if was != "crowd" and transitions * online > STORM_AT:
                await workspace.update(STORM, EVERYBODY, lambda _: True, due=STORM_LASTS)
            storms = await workspace.get(STORM, EVERYBODY)
            if told(online, self.broadcast_limit, was, storms) != was:
                await workspace.publish(PresenceCrowded(not was))
        except EngineError:
            await self.count_later(workspace)

    @before(PresenceCrowded)
    async def decide(self, transaction: Transaction) -> Post | Sequence[Post]:
        return await turn(transaction, self.broadcast_limit) or ()

    @on(PresenceWatch)
    async def watch(self, session: Session, event: PresenceWatch) -> None:
        for user_id in self._watched.get(session, ()):
            session.unwatch(watchers(user_id))
        self._watched[session] = event.user_ids
        session.watch(WATCHING.name)
        for user_id in (session.user_id, *event.user_ids):
            session.watch(watchers(user_id))
        # A record of the log, too: so what is said here is of one place in it, and what follows is told behind it.
        asked = PresenceWatched(listed({}, dict.fromkeys(event.user_ids)))
        await session.workspace.publish(asked, to=Connection(session.id))

    @before(PresenceWatched)
    async def look_up(self, transaction: Transaction, event: PresenceWatched) -> PresenceWatched:
        user_ids = [user.user_id for user in event.users]
        await transaction.read_ahead([(TOLD, EVERYBODY), *((PRESENCE, user_id) for user_id in user_ids)])
        statuses = {user_id: await transaction.get(PRESENCE, user_id) for user_id in user_ids}
        return PresenceWatched(listed(statuses, user_ids), await transaction.get(TOLD, EVERYBODY) != "")

    # --- asked

    @hookimpl
    async def presence_of(self, workspace: Workspace) -> Mapping[str, Status]:
        statuses = await workspace.all(PRESENCE)
        return {user_id: "away" if status == "away" else "online" for user_id, status in statuses.items()}

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        workspace = session.workspace
        if await workspace.get(TOLD, EVERYBODY) == "crowd":
            own = {session.user_id: await workspace.get(PRESENCE, session.user_id)}
            return {"partial": True, "users": [attrs.asdict(user) for user in listed(own, own)]}
        statuses = await self.presence_of(workspace)
        return [{"user_id": user_id, "status": status} for user_id, status in statuses.items()]

    # --- is somebody there?

    @hookimpl
    async def session_opened(self, session: Session) -> None:
        self._active[session] = session.workspace.app.clock.monotonic()
        self._look_later(session, self.away_after)
        session.watch(watchers(session.user_id))
        if (session.workspace.id, session.user_id) in self._still_away:
            await session.set_idle(True)  # until somebody does something on it

    @hookimpl
    async def session_closed(self, session: Session) -> None:
        self._active.pop(session, None)
        self._still_away.discard((session.workspace.id, session.user_id))
        if (cancel := self._cancel.pop(session, None)) is not None:
            cancel()

    @before(ClientEvent)
    async def active(self, session: Session, event: ClientEvent) -> None:
        self._active[session] = session.workspace.app.clock.monotonic()
        if session.idle and session not in self._said and not isinstance(event, PresenceSet):
            await session.set_idle(False)
            self._look_later(session, self.away_after)

    @on(PresenceSet, optional=True)
    async def said(self, session: Session, event: PresenceSet) -> None:
        if event.status == "away":
            self._said.add(session)
        else:
            self._said.discard(session)
            self._look_later(session, self.away_after)
        await session.set_idle(event.status == "away")

    def _look_later(self, session: Session, seconds: float) -> None:
        """One timer a connection, re-armed only when it rings: an event costs a look at the clock, and no timer."""
        if session not in self._cancel:
            self._cancel[session] = session.workspace.app.call_later(seconds, self._look, session).cancel

    def _look(self, session: Session) -> None:
        del self._cancel[session]
        if session.idle or (left := self._left(session)) is None:
            return
        if left > 0:
            self._look_later(session, left)
        else:
            session.workspace.app.start_soon(self._doze, session)

    def _left(self, session: Session) -> float | None:
        """Seconds until it counts as idle; None: it has ended."""
        active = self._active.get(session)
        return None if active is None else active + self.away_after - session.workspace.app.clock.monotonic()

    async def _doze(self, session: Session) -> None:
        # Between the timer and this task it may have said something, or ended.
        if (left := self._left(session)) is not None and left <= 0:
            await session.set_idle(True)
        elif left is not None:
            self._look_later(session, left)
