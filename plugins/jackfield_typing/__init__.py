"""Who types: one `typing.start`, one `typing.stop`, whatever happens in between and wherever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

import attrs

from jackfield import (
    Channel,
    ClientEvent,
    Connection,
    Post,
    ServerEvent,
    Session,
    State,
    Transaction,
    Unauthorized,
    before,
    hookimpl,
    on,
)
from jackfield.events import ChannelDeleted, MemberLeft, MessageNew, TypingIndicator, TypingStart, TypingStop

__all__ = ["Typing"]


@attrs.frozen
class Typist:
    """Somebody who types in a channel: on which connections, and which of them was the first."""

    first: str = ""
    connections: frozenset[str] = frozenset()

    def joined(self, connection_id: str) -> Typist:
        return Typist(self.first or connection_id, self.connections | {connection_id})

    def left(self, connection_id: str) -> Typist:
        connections = self.connections - {connection_id}
        return Typist(self.first, connections) if connections else Typist()


TYPING = State("typing", Typist)
"""channel/user → while he types; due when he has been silent for too long"""


def _key(channel_id: str, user_id: str) -> str:
    return f"{channel_id}/{user_id}"  # no id has a slash


def _start(channel_id: str, user_id: str, typist: Typist) -> Post:
    return Post(TypingStart(channel_id, user_id), to=Channel(channel_id) - Connection(typist.first))


def _stop(channel_id: str, user_id: str, typist: Typist) -> Post:
    """To those who were told that he began."""
    return Post(TypingStop(channel_id, user_id), to=Channel(channel_id) - Connection(typist.first))


def _positive(_: object, field: attrs.Attribute[float], value: float) -> None:
    if value <= 0:
        raise ValueError(f"{field.name} must be more than 0")


@attrs.define(eq=False)
class Typing:
    """`expires_after` seconds without a repeat somebody has stopped."""

    expires_after: float = attrs.field(default=6.0, validator=_positive, metadata={"unit": "seconds"})
    name: str = "typing"
    _until: WeakKeyDictionary[Session, dict[str, float]] = attrs.field(
        factory=WeakKeyDictionary[Session, dict[str, float]], init=False, repr=False
    )

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return (TypingIndicator,)

    @on(TypingIndicator)
    async def typed(self, session: Session, event: TypingIndicator) -> None:
        channel_id, user_id = event.channel_id, session.user_id
        if not await session.sees_now(channel_id):
            raise Unauthorized
        # Which channels a connection may still be typing in, to end it there when it closes.
        now = session.workspace.app.clock.monotonic()
        until = {channel: end for channel, end in self._until.get(session, {}).items() if end > now}
        self._until[session] = until
        if event.is_typing:
            until[channel_id] = now + self.expires_after
            await session.workspace.update(
                TYPING,
                _key(channel_id, user_id),
                lambda typist: typist.joined(session.id),
                publish=lambda before, after: None if before.first else _start(channel_id, user_id, after),
                due=self.expires_after,
            )
        else:
            until.pop(channel_id, None)
            await session.workspace.update(
                TYPING,
                _key(channel_id, user_id),
                lambda _: Typist(),
                publish=lambda before, _: _stop(channel_id, user_id, before),
            )

    @hookimpl
    async def session_closed(self, session: Session) -> None:
        for channel_id in self._until.pop(session, ()):
            await session.workspace.update(
                TYPING,
                _key(channel_id, session.user_id),
                lambda typist: typist.left(session.id),
                publish=lambda before, after, channel_id=channel_id: (  # type: ignore[misc]
                    None if after.first else _stop(channel_id, session.user_id, before)
                ),
            )

    @hookimpl
    async def cell_due(self, transaction: Transaction, state: str, key: str) -> Sequence[Post] | None:
        return await self._ended(transaction, key) if state == TYPING.name else None

    @before(MessageNew)
    async def sent(self, transaction: Transaction, event: MessageNew) -> Sequence[ServerEvent | Post] | None:
        stop = await self._ended(transaction, _key(event.channel_id, event.user_id))
        return [event, *stop] if stop else None

    @before(MemberLeft)
    async def lost(self, transaction: Transaction, event: MemberLeft) -> Sequence[ServerEvent | Post] | None:
        if not transaction.moves_sight:
            return None
        stop = await self._ended(transaction, _key(event.channel_id, event.user_id))
        return [event, *stop] if stop else None

    @before(ChannelDeleted)
    async def closed(self, transaction: Transaction, event: ChannelDeleted) -> Sequence[ServerEvent | Post] | None:
        """The stops stand ahead: behind it nobody sees the channel any more."""
        stops: list[Post] = []
        for key in await transaction.all(TYPING):
            if key.startswith(f"{event.id}/"):
                stops += await self._ended(transaction, key)
        return [*stops, event] if stops else None

    @hookimpl
    async def initial_state(self, session: Session) -> object | None:
        keys = [key.split("/") for key in await session.workspace.all(TYPING)]
        typing = [{"channel_id": channel, "user_id": user} for channel, user in keys if session.sees(channel)]
        return typing or None

    @staticmethod
    async def _ended(transaction: Transaction, key: str) -> list[Post]:
        channel_id, user_id = key.split("/")
        change = await transaction.update(TYPING, key, lambda _: Typist())
        return [_stop(channel_id, user_id, change.before)] if change else []
