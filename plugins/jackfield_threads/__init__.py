"""Threads: behind every reply, and behind the end of one, stands what its thread now counts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs

from jackfield import Channel, ServerEvent, State, Transaction, before
from jackfield.events import ChannelDeleted, MessageDeleted, MessageNew, ThreadUpdated

__all__ = ["Threads"]

Verdict = Sequence[ServerEvent] | None


@attrs.frozen
class Thread:
    """What a thread counts; `last` is its newest reply's `created_at`."""

    count: int = 0
    last: str = ""


THREADS = State("threads", Thread)
"""parent → until it, or its channel, is deleted"""
REPLIES = State("threads.replies", str)
"""by parent: reply → created_at"""
PARENTS = State("threads.of", str)
"""reply → parent"""
SEEN = State("threads.seen", bool)
"""message → its message.new went by; as long as the history"""
IN = State("threads.in", bool)
"""by channel: parents"""


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


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
        thread = await transaction.get(THREADS, parent)
        if not thread.count and not await transaction.get(SEEN, parent):
            return None
        if not await transaction.update(REPLIES.of(parent), event.id, lambda _: event.created_at):
            return None
        await transaction.update(PARENTS, event.id, lambda _: parent)
        last = max(filter(None, (thread.last, event.created_at)), key=_moment)
        after = (await transaction.update(THREADS, parent, lambda _: Thread(thread.count + 1, last))).after
        if isinstance(transaction.audience, Channel):
            await transaction.update(IN.of(transaction.audience.id), parent, lambda _: True)
        return [event, ThreadUpdated(parent, after.count, after.last)]

    @before(MessageDeleted)
    async def delete(self, transaction: Transaction, event: MessageDeleted) -> Verdict:
        await self._forget(transaction, event.id)
        parent = (await transaction.update(PARENTS, event.id, lambda _: "")).before
        if not parent:
            return None
        gone = (await transaction.update(REPLIES.of(parent), event.id, lambda _: "")).before
        thread = await transaction.get(THREADS, parent)
        last = thread.last
        if gone == last:
            last = max((await transaction.all(REPLIES.of(parent))).values(), key=_moment, default="")
        count = max(0, thread.count - 1)
        await transaction.update(THREADS, parent, lambda _: Thread(count, last))
        # A thread without replies is a message that we have seen; its next reply is counted again.
        if not count:
            await transaction.update(SEEN, parent, lambda _: True, fading=True)
        return [event, ThreadUpdated(parent, count, last or None)]

    @before(ChannelDeleted)
    async def delete_all(self, transaction: Transaction, event: ChannelDeleted) -> Verdict:
        for parent in await transaction.all(IN.of(event.id)):
            await self._forget(transaction, parent)
            await transaction.update(IN.of(event.id), parent, lambda _: False)
        return None

    @staticmethod
    async def _forget(transaction: Transaction, message_id: str) -> None:
        """A message ends, and the thread behind it."""
        await transaction.update(SEEN, message_id, lambda _: False)
        if await transaction.update(THREADS, message_id, lambda _: Thread()):
            for reply in await transaction.all(REPLIES.of(message_id)):
                await transaction.update(REPLIES.of(message_id), reply, lambda _: "")
                await transaction.update(PARENTS, reply, lambda _: "")
