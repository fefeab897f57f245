"""Reactions: adding what is there, or removing what is not, publishes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from jackfield import Channel, ServerEvent, State, Transaction, before
from jackfield.events import ChannelDeleted, MessageDeleted, MessageNew, ReactionAdded, ReactionRemoved

__all__ = ["Reactions"]

Verdict = Sequence[ServerEvent] | None


@attrs.frozen
class Begun:
    """A message that has been reacted to: where it stands, and whether its reactions are known since it began."""

    channel_id: str = ""
    whole: bool = False


BEGUN = State("reactions", Begun)
"""message → until it, or its channel, is deleted"""
GIVEN = State("reactions.given", bool)
"""by message: user/emoji; a cell for each, so that two who react at once do not wait for each other"""
IN = State("reactions.in", bool)
"""by channel: messages that have been reacted to"""
SEEN = State("reactions.seen", str)
"""message → the channel where its message.new went by; as long as the history"""


@attrs.define(eq=False)
class Reactions:
    """One reaction a user, message and emoji. Of a message that was there before us nothing is known, so that
    whatever is said of it is published."""

    name: str = "reactions"

    @before(MessageNew)
    async def seen(self, transaction: Transaction, event: MessageNew) -> Verdict:
        await transaction.update(SEEN, event.id, lambda _: event.channel_id, fading=True)
        return None

    @before(ReactionAdded)
    async def add(self, transaction: Transaction, event: ReactionAdded) -> Verdict:
        begun = await self._begin(transaction, event.message_id)
        added = await transaction.update(GIVEN.of(event.message_id), _key(event), lambda _: True)
        return None if added or not begun.whole else []

    @before(ReactionRemoved)
    async def remove(self, transaction: Transaction, event: ReactionRemoved) -> Verdict:
        begun = await self._begin(transaction, event.message_id)
        removed = await transaction.update(GIVEN.of(event.message_id), _key(event), lambda _: False)
        return None if removed or not begun.whole else []

    @before(MessageDeleted)
    async def forget(self, transaction: Transaction, event: MessageDeleted) -> Verdict:
        await transaction.update(SEEN, event.id, lambda _: "")
        await self._forget(transaction, event.id)
        return None

    @before(ChannelDeleted)
    async def forget_all(self, transaction: Transaction, event: ChannelDeleted) -> Verdict:
        messages = await transaction.all(IN.of(event.id))
        await transaction.read_ahead(
            [(state, message_id) for state in (BEGUN, SEEN) for message_id in messages],
            [GIVEN.of(message_id) for message_id in messages],
        )
        for message_id in messages:
            await transaction.update(SEEN, message_id, lambda _: "")
            await self._forget(transaction, message_id)
        return None

    @staticmethod
    async def _begin(transaction: Transaction, message_id: str) -> Begun:
        begun = await transaction.get(BEGUN, message_id)
        if begun.channel_id:
            return begun
        channel_id = await transaction.get(SEEN, message_id)
        begun = Begun(channel_id, whole=bool(channel_id))
        if not channel_id and isinstance(transaction.audience, Channel):
            begun = Begun(transaction.audience.id)
        if begun.channel_id:
            await transaction.update(BEGUN, message_id, lambda _: begun)
            await transaction.update(IN.of(begun.channel_id), message_id, lambda _: True)
        return begun

    @staticmethod
    async def _forget(transaction: Transaction, message_id: str) -> None:
        begun = (await transaction.update(BEGUN, message_id, lambda _: Begun())).before
        for key in await transaction.all(GIVEN.of(message_id)):
            await transaction.update(GIVEN.of(message_id), key, lambda _: False)
        if begun.channel_id:
            await transaction.update(IN.of(begun.channel_id), message_id, lambda _: False)


def _key(event: ReactionAdded | ReactionRemoved) -> str:
    return f"{event.user_id}/{event.emoji}"  # no id has a slash
