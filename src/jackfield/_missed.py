"""What a user has missed: of the records behind a cursor those that he may see now and could see at their place. Pure.

Nobody keeps a history of memberships: every change of them is a record. From what the user sees now they are walked
back, newest first, to what he saw at the cursor; then they are folded forward again, and each record is looked at as it
was when it happened. Both ways it goes a stretch at a time, so that the caller can let others run between them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import orjson

from jackfield._audience import includes
from jackfield._cursor import Unusable

if TYPE_CHECKING:
    from jackfield._log import Entry, Sight

__all__ = ["Missed"]


class _Sees:
    """A user, by what he sees at some point of the log."""

    id = ""
    """No record that lasts was meant for, or kept from, a connection that is not there yet."""

    def __init__(self, user_id: str, channels: Collection[str], *, sees_all: bool) -> None:
        self.user_id = user_id
        self.channels = set(channels)
        self.sees_all = sees_all

    def sees(self, channel_id: str) -> bool:
        return self.sees_all or channel_id in self.channels

    def watches(self, topic: str) -> bool:
        return False


class Missed:
    """Give it every stretch to `back`, the newest first, then to `forward`, the oldest first; `entries` then are what
    he missed. Both raise Unusable: where that cannot be known, and where it is more than `limit`."""

    def __init__(self, user_id: str, channels: Collection[str], *, sees_all: bool, limit: int) -> None:
        self.entries: list[Entry] = []
        self._now = _Sees(user_id, channels, sees_all=sees_all)
        self._then = _Sees(user_id, channels, sees_all=sees_all)
        self._limit = limit
        self._unknown: set[str] = set()

    def back(self, entries: Sequence[Entry]) -> None:
        """What he saw before them."""
        then = self._then
        for _, head in reversed(entries):
            sight = head.sight
            if sight is None or not sight.moves(then.user_id):
                continue
            if sight.gained:
                then.channels.discard(sight.channel_id)
                self._unknown.discard(sight.channel_id)
            elif sight.user_id is not None:
                then.channels.add(sight.channel_id)
                self._unknown.discard(sight.channel_id)
            else:
                self._end_undone(sight)

    def _end_undone(self, sight: Sight) -> None:
        """Before a channel's end; its members are no longer asked for."""
        then, channel_id = self._then, sight.channel_id
        then.channels.discard(channel_id)
        if sight.seen_by is not None:
            if includes(sight.seen_by, then):
                then.channels.add(channel_id)
        elif not then.sees_all:  # also where it was told to some by name: what he saw before hangs on it too
            self._unknown.add(channel_id)

    def forward(self, entries: Sequence[Entry]) -> None:
        """What of them he would have been sent, and may see still."""
        if self._unknown:
            raise Unusable("expired")
        then, now = self._then, self._now
        for entry in entries:
            record, head = entry
            sight = head.sight if head.sight is not None and head.sight.moves(then.user_id) else None
            if sight is not None and sight.gained:
                then.channels.add(sight.channel_id)
            if (
                record.lasting
                and head.kind == "durable"
                and includes(head.audience, then)
                and (includes(head.audience, now) or _is_told_anyway(entry, now.user_id))
            ):
                if len(self.entries) == self._limit:
                    raise Unusable("too_many")
                self.entries.append(entry)
            if sight is not None and not sight.gained:
                then.channels.discard(sight.channel_id)


def _is_told_anyway(entry: Entry, user_id: str) -> bool:
    """His own coming and going, and the end of a channel, he is told though he sees it no longer."""
    record, head = entry
    if head.type in ("member.joined", "member.left"):
        # In a public channel it moves nobody's sight, and only its text says whose it is.
        return bool(orjson.loads(record.body)["data"]["user_id"] == user_id)
    return head.type == "channel.deleted"
