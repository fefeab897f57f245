"""What can be said: the base of every event, how it is delivered, and one class for each event of the specification.

An event is a frozen value. Its type, its delivery and its price stand beside its fields, as class keywords:

    class PollVote(ClientEvent, type="poll.vote", cost=5):
        \"""A member votes in an open poll.\"""
        poll_id: Id
        choice: str

No decorator is needed. An optional field is one whose default is None; unset, it is left out on the wire, never null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, dataclass_transform

import attrs

from jackfield._audience import Audience, Channel, Everyone

__all__ = [
    "JSON",
    "Ack",
    "ChannelCreated",
    "ChannelDeleted",
    "ChannelUpdated",
    "ClientEvent",
    "Delivery",
    "Error",
    "Event",
    "EventType",
    "Hello",
    "Id",
    "InChannel",
    "MemberJoined",
    "MemberLeft",
    "MessageDeleted",
    "MessageNew",
    "MessageUpdated",
    "Ping",
    "Pong",
    "PresenceUpdated",
    "ReactionAdded",
    "ReactionRemoved",
    "ServerEvent",
    "Shape",
    "Status",
    "ThreadUpdated",
    "Timestamp",
    "TypingIndicator",
    "TypingStart",
    "TypingStop",
    "durable",
    "ephemeral",
    "latest",
    "timestamp",
]

type_pattern = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*", re.ASCII)


@attrs.frozen
class Shape:
    """What a text must look like, for `Annotated[str, Shape(…)]`; `expected` is what an error says."""

    pattern: str
    expected: str
    matches: Any = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "matches", re.compile(self.pattern, re.ASCII).fullmatch)


JSON = Any
"""A value of JSON: None, bool, int, float, str, or lists and objects of them."""

ID = Shape(r"[A-Za-z0-9._:@-]{1,128}", "expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -")
Id = Annotated[str, ID]
"""A workspace, channel, user or message: 1 to 128 characters of `A-Z a-z 0-9 . _ : @ -`."""

Timestamp = Annotated[
    str,
    Shape(
        r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d{1,9})?"
        r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)",
        "expected a timestamp such as 2024-01-01T12:00:00.000Z",
    ),
]
"""A moment as the wire writes it; `timestamp()` makes one."""

Status = Literal["online", "away", "offline"]
"""What a user's presence can be."""


def timestamp(moment: datetime | float) -> str:
    """A moment as the wire writes it: UTC, milliseconds, `Z`.

    `moment` is an aware datetime, or seconds since 1970. Raises ValueError for a naive datetime: it names no moment.
    """
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("a naive datetime names no moment; give it a tzinfo")
        moment = moment.astimezone(UTC)
    else:
        seconds, milliseconds = divmod(int(moment * 1000), 1000)  # cut off, not rounded up into the next one
        return f"{_second(seconds)}.{milliseconds:03}Z"
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")


@attrs.frozen
class Delivery:
    """What becomes of an event on its way to a connection that cannot keep up. Make one with `latest(…)`."""

    kind: Literal["durable", "latest", "ephemeral"]
    key: tuple[str, ...] = ()
    pair: str | None = None

    def key_of(self, event: Event) -> tuple[object, ...]:
        """What makes two `latest` events of the same thing."""
        return (self.pair or type(event).__event__.type, *(getattr(event, name) for name in self.key))


durable = Delivery("durable")
"""Never dropped, kept in the history; a connection too slow for it is closed 4002 and resumes. The default."""

ephemeral = Delivery("ephemeral")
"""Dropped first, never kept: for what is worthless a moment later."""


def latest(*key: str, pair: str | None = None) -> Delivery:
    """Only the newest counts: a queued older one of the same `key` (names of fields) gives way.

    Two types that take turns (start, stop) name the same `pair`: a queued one and its opposite then go together.
    """
    return Delivery("latest", key, pair)


@attrs.frozen
class EventType:
    """What stands beside an event's fields."""

    type: str
    name: str
    """`type` as it stands in the names of hooks: `poll.vote` is `poll_vote`."""
    delivery: Delivery = durable
    cost: int = 1
    """Tokens that it takes from its sender's bucket; 0 is free."""
    when_expired: bool = False
    """Served also on a connection whose token has expired."""


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
class Event:
    """Base of both kinds; subclass `ClientEvent` or `ServerEvent`."""

    __event__: ClassVar[EventType]
    __attrs_attrs__: ClassVar[Any]

    def __init_subclass__(
        cls, *, type: str = "", delivery: Delivery = durable, cost: int = 1, when_expired: bool = False
    ) -> None:
        super().__init_subclass__()
        # Not slotted: slots would make another class, and this hook runs inside the making of this one.
        attrs.define(frozen=True, slots=False, auto_attribs=True)(cls)
        if not type:  # a base of a family of events; the registry refuses it, its subclasses have a type each
            return
        if not type_pattern.fullmatch(type) or len(type) > 64:
            raise TypeError(f"{type!r} is no type of an event: lower case words joined by dots, at most 64 characters")
        fields = {field.name for field in attrs.fields(cls)}
        if reserved := fields & cls._reserved:
            raise TypeError(f"{cls.__name__}.{min(reserved)}: that word belongs to the envelope; rename the field")
        if cost < 0:
            raise TypeError(f"{cls.__name__}: cost must be 0 or more; an event that gives tokens back is no event")
        if missing := set(delivery.key) - fields:
            raise TypeError(f"{cls.__name__}: latest({min(missing)!r}) names no field")
        cls.__event__ = EventType(type, type.replace(".", "_"), delivery, cost, when_expired)

    _reserved: ClassVar[frozenset[str]] = frozenset({"audience", "__event__"})


class ClientEvent(Event):
    """Something a client says. Its fields stand flat beside `type`, or in `data`."""

    # Beside `type` stand these; a field of that name could not be told from them.
    _reserved: ClassVar[frozenset[str]] = Event._reserved | {"type", "data", "ref", "workspace_id", "timestamp"}


class ServerEvent(Event):
    """Something that happened. Its fields are `data` on the wire; one that is None is left out."""

    def audience(self) -> Audience | None:
        """Who gets it when the publisher does not say. None: the plugins are asked, and without an answer it is
        refused."""
        return None


class InChannel(ServerEvent):
    """What everyone who sees a channel gets."""

    channel_id: Id

    def audience(self) -> Audience:
        return Channel(self.channel_id)


# --- Client → server


class Ping(ClientEvent, type="ping", cost=0):
    """Heartbeat; answered by `pong`."""


class TypingIndicator(ClientEvent, type="typing"):
    """The user types in a channel, or stopped."""

    channel_id: Id
    is_typing: bool


# --- Server → client: the connection itself


class Hello(ServerEvent, type="hello", delivery=ephemeral):
    """The initial state, first on every connection."""

    connection_id: Id
    user_id: Id
    heartbeat_interval_ms: int
    limits: Mapping[str, int]
    state: Mapping[str, JSON]
    cursor: str | None = None
    """For a client that asked by `?resume=`."""
    resume: Mapping[str, JSON] | None = None
    """What became of the cursor that it brought."""

    @property
    def recovered(self) -> bool:
        """Whether all that was missed follows. If not, and on a first connection, the state has to be loaded."""
        return bool(self.resume and self.resume.get("recovered"))


class Pong(ServerEvent, type="pong", delivery=ephemeral):
    """Answer to `ping`."""


class Ack(ServerEvent, type="ack", delivery=ephemeral):
    """An event that carried a `ref` was handled."""

    ref: JSON


class Error(ServerEvent, type="error", delivery=ephemeral):
    """Error occurred during WebSocket communication."""

    message: str
    code: str


# --- Server → client: messages


class MessageNew(ServerEvent, type="message.new"):
    """New message sent to a channel or DM."""

    id: Id
    channel_id: Id
    user_id: Id
    content: str
    attachments: Sequence[JSON] = attrs.field(factory=list[JSON], kw_only=True)
    reactions: Sequence[JSON] = attrs.field(factory=list[JSON], kw_only=True)
    created_at: Timestamp
    parent_message_id: Id | None = None

    def audience(self) -> Audience:
        return Channel(self.channel_id)


class MessageUpdated(ServerEvent, type="message.updated"):
    """Message edited."""

    id: Id
    content: str
    updated_at: Timestamp


class MessageDeleted(ServerEvent, type="message.deleted"):
    """Message deleted."""

    id: Id
    deleted_at: Timestamp


# --- Server → client: reactions


class ReactionAdded(ServerEvent, type="reaction.added"):
    """Reaction added to a message."""

    message_id: Id
    emoji: str
    user_id: Id


class ReactionRemoved(ServerEvent, type="reaction.removed"):
    """Reaction removed from a message."""

    message_id: Id
    emoji: str
    user_id: Id


# --- Server → client: typing and presence


class TypingStart(InChannel, type="typing.start", delivery=latest("channel_id", "user_id", pair="typing")):
    """User started typing."""

    user_id: Id


class TypingStop(InChannel, type="typing.stop", delivery=latest("channel_id", "user_id", pair="typing")):
    """User stopped typing."""

    user_id: Id


class PresenceUpdated(ServerEvent, type="presence.updated", delivery=latest("user_id")):
    """User presence status changed."""

    user_id: Id
    status: Status

    def audience(self) -> Audience:
        return Everyone()


# --- Server → client: channels and members


class ChannelCreated(ServerEvent, type="channel.created"):
    """New channel created."""

    id: Id
    name: str
    type: str
    created_by: Id


class ChannelUpdated(ServerEvent, type="channel.updated"):
    """Channel updated."""

    id: Id
    name: str | None = None
    description: str | None = None


class ChannelDeleted(ServerEvent, type="channel.deleted"):
    """Channel deleted."""

    id: Id


class MemberJoined(InChannel, type="member.joined"):
    """User joined a channel."""

    user_id: Id


class MemberLeft(InChannel, type="member.left"):
    """User left a channel."""

    user_id: Id


# --- Server → client: threads


class ThreadUpdated(ServerEvent, type="thread.updated"):
    """Thread reply count or participants updated."""

    parent_message_id: Id
    reply_count: int
    last_reply_at: Timestamp | None = None
