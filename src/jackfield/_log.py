"""What stands in the log: a record's head, and how it moves who sees which channel. Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import orjson

from jackfield._audience import Audience, dump, load
from jackfield.events import ChannelCreated, ChannelDeleted, MemberJoined, MemberLeft, ServerEvent

__all__ = ["REVOKED", "Head", "Sight", "sight_of"]

REVOKED = "revoked"
"""Type of the record that ends a user's connections; it is the core's own and never delivered."""

Kind = Literal["durable", "latest", "ephemeral", "control"]


class Sight(NamedTuple):
    """A record that moves who sees a channel: one user, or (None) everyone."""

    gained: bool
    channel_id: str
    user_id: str | None


class Head(NamedTuple):
    """What a node needs to fan a record out without reading its text."""

    type: str
    audience: Audience
    kind: Kind
    key: tuple[object, ...] = ()
    sight: Sight | None = None

    def dump(self) -> bytes:
        """As it stands in the log."""
        sight = None if self.sight is None else list(self.sight)
        return orjson.dumps([self.type, dump(self.audience), self.kind, self.key, sight])

    @classmethod
    @lru_cache(maxsize=1024)
    def load(cls, text: bytes) -> Head:
        """The other way round; most of a channel's records have one and the same."""
        type, audience, kind, key, sight = orjson.loads(text)
        return cls(type, load(audience), kind, _tuples(key), Sight(*sight) if sight else None)


def _tuples(key: Any) -> tuple[object, ...]:
    return tuple(_tuples(part) if isinstance(part, list) else part for part in key)


def sight_of(event: ServerEvent) -> Sight | None:
    """Whether an event moves who sees its channel. A public channel is seen by everyone, any other by its members."""
    match event:
        case ChannelCreated(id=id, type="public"):
            return Sight(True, id, None)
        case ChannelCreated(id=id, created_by=user_id):
            return Sight(True, id, user_id)
        case ChannelDeleted(id=id):
            return Sight(False, id, None)
        case MemberJoined(channel_id=id, user_id=user_id):
            return Sight(True, id, user_id)
        case MemberLeft(channel_id=id, user_id=user_id):
            return Sight(False, id, user_id)
        case _:
            return None
