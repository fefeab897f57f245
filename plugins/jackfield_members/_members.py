"""Channels, their members, and the audience of every message, remembered in the engine."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

import attrs

from jackfield import (
    Audience,
    Channel,
    Everyone,
    ServerEvent,
    State,
    Transaction,
    UnknownAudience,
    Users,
    Workspace,
    before,
    hookimpl,
)
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    MessageUpdated,
    ReactionAdded,
    ReactionRemoved,
    ThreadUpdated,
)

__all__ = ["Members"]

Verdict = Sequence[ServerEvent] | None


@attrs.frozen
class Standing:
    """A channel that exists. `birth` tells it from an earlier one of the same id."""

    type: str = ""
    birth: str = ""

    @property
    def public(self) -> bool:
        return self.type == "public"


@attrs.frozen
class Told:
    """Whom a message was for, and in which channel it stood; `birth` is "" where only the publisher knew of it."""

    audience: Audience = attrs.field(factory=Everyone)
    channel_id: str = ""
    birth: str = ""


CHANNELS = State("members.channels", Standing)
PUBLIC = State("members.public", bool)
IN = State("members.in", bool)
"""by channel: its members"""
OF = State("members.of", bool)
"""by user: his channels"""
MESSAGES = State("members.messages", Told)
"""as long as the history"""


@attrs.define(eq=False)
class Members:
    """A channel of type "public" is seen by everyone in the workspace, any other by its members, its creator first."""

    name: str = "members"

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        return {*await workspace.all(PUBLIC), *await workspace.all(OF.of(user_id))}

    @hookimpl
    async def audience_of(self, transaction: Transaction, event: ServerEvent) -> Audience | None:
        match event:
            case ChannelCreated(id=id):
                return Channel(id)
            case ChannelUpdated(id=id) | ChannelDeleted(id=id):
                return await self._channel(transaction, id)
            case MessageUpdated(id=id) | MessageDeleted(id=id):
                return await self._told(transaction, id)
            case ReactionAdded(message_id=id) | ReactionRemoved(message_id=id) | ThreadUpdated(parent_message_id=id):
                return await self._told(transaction, id)
            case _:
                own = event.audience()
                return await self._channel(transaction, own.id) if isinstance(own, Channel) else None

    # --- channels

    @before(ChannelCreated)
    async def create(self, transaction: Transaction, event: ChannelCreated) -> Verdict:
        if (await transaction.get(CHANNELS, event.id)).birth:
            return []
        standing = Standing(event.type, secrets.token_hex(8))
        await transaction.update(CHANNELS, event.id, lambda _: standing)
        if standing.public:
            await transaction.update(PUBLIC, event.id, lambda _: True)
        else:
            await self._join(transaction, event.id, event.created_by)
        return None

    @before(ChannelDeleted)
    async def delete(self, transaction: Transaction, event: ChannelDeleted) -> Verdict:
        if not await transaction.update(CHANNELS, event.id, lambda _: Standing()):
            return []
        public = bool(await transaction.update(PUBLIC, event.id, lambda _: False))
        members = await transaction.all(IN.of(event.id))
        transaction.seen_by = Everyone() if public else Users(*members)
        await transaction.read_ahead((OF.of(user_id), event.id) for user_id in members)
        for user_id in members:
            await self._leave(transaction, event.id, user_id)
        return None

    # --- members

    @before(MemberJoined)
    async def join(self, transaction: Transaction, event: MemberJoined) -> Verdict:
        transaction.moves_sight = not await self._is_public(transaction, event.channel_id)
        return None if await self._join(transaction, event.channel_id, event.user_id) else []

    @before(MemberLeft)
    async def leave(self, transaction: Transaction, event: MemberLeft) -> Verdict:
        transaction.moves_sight = not await self._is_public(transaction, event.channel_id)
        return None if await self._leave(transaction, event.channel_id, event.user_id) else []

    # --- messages

    @before(MessageNew)
    async def remember(self, transaction: Transaction, event: MessageNew) -> Verdict:
        audience = transaction.audience
        assert audience is not None, "an event that is decided has one"
        told = Told(audience, event.channel_id, (await transaction.get(CHANNELS, event.channel_id)).birth)
        await transaction.update(MESSAGES, event.id, lambda _: told, fading=True)
        return None

    @before(MessageDeleted)
    async def forget(self, transaction: Transaction, event: MessageDeleted) -> Verdict:
        await transaction.update(MESSAGES, event.id, lambda _: Told())
        return None

    # --- what is remembered

    @staticmethod
    async def _channel(transaction: Transaction, channel_id: str) -> Audience:
        if not (await transaction.get(CHANNELS, channel_id)).birth:
            raise UnknownAudience("no such channel; channel.created makes one")
        return Channel(channel_id)

    @staticmethod
    async def _told(transaction: Transaction, message_id: str) -> Audience:
        """Whom a message was for. It ends with its channel, also where that id has come back."""
        told = await transaction.get(MESSAGES, message_id)
        if not told.channel_id:
            raise UnknownAudience("no such message here; publish it with to, if it is from before")
        if told.birth and (await transaction.get(CHANNELS, told.channel_id)).birth != told.birth:
            raise UnknownAudience("no such message here; publish it with to, if it is from before")
        return told.audience

    @staticmethod
    async def _is_public(transaction: Transaction, channel_id: str) -> bool:
        standing = await transaction.get(CHANNELS, channel_id)
        if not standing.birth:
            raise UnknownAudience("no such channel; channel.created makes one")
        return standing.public

    @staticmethod
    async def _join(transaction: Transaction, channel_id: str, user_id: str) -> bool:
        await transaction.update(OF.of(user_id), channel_id, lambda _: True)
        return bool(await transaction.update(IN.of(channel_id), user_id, lambda _: True))

    @staticmethod
    async def _leave(transaction: Transaction, channel_id: str, user_id: str) -> bool:
        await transaction.update(OF.of(user_id), channel_id, lambda _: False)
        return bool(await transaction.update(IN.of(channel_id), user_id, lambda _: False))
