"""Reactions: adding what is there, or removing what is not, publishes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from jackfield import Channel, ServerEvent, State, Transaction, before
from jackfield.events import ChannelDeleted, MessageDeleted, MessageNew, ReactionAdded, ReactionRemoved

__all__ = ["Reactions"]

Verdict = Sequence[ServerEvent] | None


@attrs.frozen
class Given:
    """The reactions of a message: (emoji, user). `whole` where they have been counted since its `message.new`."""

    whole: bool = False
    by: frozenset[tuple[str, str]] = frozenset()


REACTIONS = State("reactions", Given)
"""message → until it, or its channel, is deleted"""
SEEN = State("reactions.seen", bool)
"""message → its message.new went by; as long as the history"""
IN = State("reactions.in", bool)
"""by channel: messages with reactions"""


@attrs.define(eq=False)
class Reactions:
    """One reaction a user, message and emoji. Of a message that was there before us nothing is known, so that
    whatever is said of it is published."""

    name: str = "reactions"

    @before(MessageNew)
    async def seen(self, transaction: Transaction, event: MessageNew) -> Verdict:
        await transaction.update(SEEN, event.id, lambda _: True, fading=True)
        return None

    @before(ReactionAdded)
    async def add(self, transaction: Transaction, event: ReactionAdded) -> Verdict:
        reaction = (event.emoji, event.user_id)
        whole = await self._whole(transaction, event.message_id)
        change = await transaction.update(
            REACTIONS, event.message_id, lambda given: Given(whole, given.by | {reaction})
        )
        if change and isinstance(transaction.audience, Channel):
            await transaction.update(IN.of(transaction.audience.id), event.message_id, lambda _: True)
        return None if reaction not in change.before.by or not whole else []

    @before(ReactionRemoved)
    async def remove(self, transaction: Transaction, event: ReactionRemoved) -> Verdict:
        reaction = (event.emoji, event.user_id)
        whole = await self._whole(transaction, event.message_id)
        change = await transaction.update(
            REACTIONS, event.message_id, lambda given: Given(whole, given.by - {reaction}) if given.by else given
        )
        return None if reaction in change.before.by or not whole else []

    @before(MessageDeleted)
    async def forget(self, transaction: Transaction, event: MessageDeleted) -> Verdict:
        await self._forget(transaction, event.id)
        if isinstance(transaction.audience, Channel):
            await transaction.update(IN.of(transaction.audience.id), event.id, lambda _: False)
        return None

    @before(ChannelDeleted)
    async def forget_all(self, transaction: Transaction, event: ChannelDeleted) -> Verdict:
        for message_id in await transaction.all(IN.of(event.id)):
            await self._forget(transaction, message_id)
            await transaction.update(IN.of(event.id), message_id, lambda _: False)
        return None

    @staticmethod
    async def _whole(transaction: Transaction, message_id: str) -> bool:
        return await transaction.get(SEEN, message_id) or (await transaction.get(REACTIONS, message_id)).whole

    @staticmethod
    async def _forget(transaction: Transaction, message_id: str) -> None:
        await transaction.update(REACTIONS, message_id, lambda _: Given())
        await transaction.update(SEEN, message_id, lambda _: False)
