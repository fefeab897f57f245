"""What stands in the log: a record, its head, and how it moves who sees which channel. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from jackfield._audience import Audience, dump, load
from jackfield._outbox import Frame
from jackfield.events import ChannelCreated, ChannelDeleted, MemberJoined, MemberLeft, ServerEvent

if TYPE_CHECKING:
    from jackfield.engine import Record

__all__ = ["REVOKED", "Entry", "Head", "Sight", "sight_of"]

REVOKED = "revoked"
"""Type of the record that ends a user's connections; it is the core's own and never delivered."""

Kind = Literal["durable", "latest", "ephemeral", "control"]


class Sight(NamedTuple):
    """A record that moves who sees a channel: one user, or (None) everyone.

    `seen_by` is of a channel's end: who saw it until then, where that is known.
    """

    gained: bool
    channel_id: str
    user_id: str | None
    seen_by: Audience | None = None

    def moves(self, user_id: str) -> bool:
        """Whether it is about this user, too."""
        return self.user_id is None or self.user_id == user_id


class Head(NamedTuple):
    """What a node needs to fan a record out without reading its text."""

    type: str
    audience: Audience
    kind: Kind
    key: tuple[object, ...] = ()
    sight: Sight | None = None

    def dump(self) -> bytes:
        """As it stands in the log."""
        sight = None
        if self.sight is not None:
            gained, channel_id, user_id, seen_by = self.sight
            sight = [gained, channel_id, user_id, None if seen_by is None else dump(seen_by)]
        return orjson.dumps([self.type, dump(self.audience), self.kind, self.key, sight])

    @classmethod
    @lru_cache(maxsize=1024)
    def load(cls, text: bytes) -> Head:
        """The other way round; most of a channel's records have one and the same."""
        type, audience, kind, key, sight = orjson.loads(text)
        if sight is not None:
            gained, channel_id, user_id, seen_by = sight
            sight = Sight(gained, channel_id, user_id, None if seen_by is None else load(seen_by))
        return cls(type, load(audience), kind, _tuples(key), sight)


class Entry(NamedTuple):
    """A record, with its head read once for all who need it."""

    record: Record
    head: Head

    @classmethod
    def of(cls, record: Record) -> Entry:
        return cls(record, Head.load(record.head))

    def frame(self, mark: Callable[[], str] | None = None) -> Frame:
        """As it goes out; `mark` makes its place in the log, for those who resume."""
        head, record = self.head, self.record
        return Frame(
            record.body.decode(),
            type=head.type,
            kind=head.kind,
            key=head.key,
            position=record.position,
            mark=mark if head.kind == "durable" else None,
        )


def _tuples(key: Any) -> tuple[object, ...]:
    return tuple(_tuples(part) if isinstance(part, list) else part for part in key)


def sight_of(event: ServerEvent, seen_by: Audience | None = None) -> Sight | None:
    """Whether an event moves who sees its channel. A public channel is seen by everyone, any other by its members; who
    saw one that ends, somebody has to say."""
    match event:
        case ChannelCreated(id=id, type="public"):
            return Sight(True, id, None)
        case ChannelCreated(id=id, created_by=user_id):
            return Sight(True, id, user_id)
        case ChannelDeleted(id=id):
            return Sight(False, id, None, seen_by)
        case MemberJoined(channel_id=id, user_id=user_id):
            return Sight(True, id, user_id)
        case MemberLeft(channel_id=id, user_id=user_id):
            return Sight(False, id, user_id)
        case _:
            return None
