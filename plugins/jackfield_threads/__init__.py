"""Threads: behind every reply, and behind the end of one, stands what its thread now counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs

from jackfield import ServerEvent, State, Transaction, before
from jackfield.events import ChannelDeleted, MessageDeleted, MessageNew, ThreadUpdated

__all__ = ["Threads"]

Verdict = Sequence[ServerEvent] | None


@attrs.frozen
class Thread:
    """What a thread counts; `last` is its newest reply's `created_at`, `channel_id` where its replies stand."""

    count: int = 0
    last: str = ""
    channel_id: str = ""


THREADS = State("threads", Thread)
"""parent → while it has replies, and neither it nor its channel is deleted"""
REPLIES = State("threads.replies", str)
"""by parent: reply → created_at"""
PARENTS = State("threads.of", str)
"""reply → parent"""
IN = State("threads.in", bool)
"""by channel: parents"""
SEEN = State("threads.seen", bool)
"""message → its message.new went by; as long as the history"""

OLDEST = datetime.min.replace(tzinfo=UTC)


def _moment(text: str) -> datetime:
    """What a `created_at` is compared by. A leap second, or the 30th of February, is older than all that are."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return OLDEST


@attrs.define(eq=False)
class Threads:
    """Counts the replies of a message that it has seen begin. What was there before us the publisher counts himself,
    and says so by a `thread.updated` of his own."""

    name: str = "threads"

    @before(MessageNew)
    async def reply(self, transaction: Transaction, event: MessageNew) -> Verdict:
        await transaction.update(SEEN, event.id, lambda _: True, fading=True)
        if (parent := event.parent_message_id) is None:
            return None
        if await transaction.get(PARENTS, event.id):  # published anew
            return None
        thread = await transaction.get(THREADS, parent)
        if not thread.count and not await transaction.get(SEEN, parent):
            return None
        last = max(event.created_at, thread.last, key=_moment)
        thread = Thread(thread.count + 1, last, thread.channel_id or event.channel_id)
        await transaction.update(THREADS, parent, lambda _: thread)
        await transaction.update(REPLIES.of(parent), event.id, lambda _: event.created_at)
        await transaction.update(PARENTS, event.id, lambda _: parent)
        await transaction.update(IN.of(thread.channel_id), parent, lambda _: True)
        return [event, ThreadUpdated(parent, thread.count, thread.last)]

    @before(MessageDeleted)
    async def delete(self, transaction: Transaction, event: MessageDeleted) -> Verdict:
        await self._forget(transaction, event.id)
        parent = (await transaction.update(PARENTS, event.id, lambda _: "")).before
        if not parent:
            return None
        gone = (await transaction.update(REPLIES.of(parent), event.id, lambda _: "")).before
        thread = await transaction.get(THREADS, parent)
        if thread.count <= 1:
            # A thread without replies is a message that we have seen; its next reply is counted again.
            await self._forget(transaction, parent)
            await transaction.update(SEEN, parent, lambda _: True, fading=True)
            return [event, ThreadUpdated(parent, 0)]
        last = thread.last
        if gone == last:
            last = max((await transaction.all(REPLIES.of(parent))).values(), key=_moment, default=gone)
        thread = attrs.evolve(thread, count=thread.count - 1, last=last)
        await transaction.update(THREADS, parent, lambda _: thread)
        return [event, ThreadUpdated(parent, thread.count, thread.last)]

    @before(ChannelDeleted)
    async def delete_all(self, transaction: Transaction, event: ChannelDeleted) -> Verdict:
        parents = await transaction.all(IN.of(event.id))
        await transaction.read_ahead(
            [(state, parent) for state in (THREADS, SEEN) for parent in parents],
            [REPLIES.of(parent) for parent in parents],
        )
        replies = [reply for parent in parents for reply in await transaction.all(REPLIES.of(parent))]
        await transaction.read_ahead((PARENTS, reply) for reply in replies)
        for parent in parents:
            await self._forget(transaction, parent)
        return None

    @staticmethod
    async def _forget(transaction: Transaction, message_id: str) -> None:
        """A message ends, and the thread behind it."""
        await transaction.update(SEEN, message_id, lambda _: False)
        thread = (await transaction.update(THREADS, message_id, lambda _: Thread())).before
        if thread.count:
            await transaction.update(IN.of(thread.channel_id), message_id, lambda _: False)
            replies = await transaction.all(REPLIES.of(message_id))
            await transaction.read_ahead((PARENTS, reply) for reply in replies)
            for reply in replies:
                await transaction.update(REPLIES.of(message_id), reply, lambda _: "")
                await transaction.update(PARENTS, reply, lambda _: "")
