"""Who an event is for: a name that every node resolves by itself, at the event's own place in the log.

An audience never is a list of connections. `Channel("c1") & Topic("poll:p1") - Users("bob")` is a value; `resolve`
looks it up in a node's indexes, `includes` asks it of one connection that is still reading its way up.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Set
from typing import Any, Protocol, TypeVar

import attrs

__all__ = [
    "ALL_CHANNELS",
    "AllChannels",
    "Audience",
    "Both",
    "Channel",
    "Connection",
    "Everyone",
    "Except",
    "Index",
    "Topic",
    "Users",
    "Viewer",
    "dump",
    "includes",
    "load",
    "resolve",
    "topics",
]

T = TypeVar("T", bound=Hashable)
T_co = TypeVar("T_co", bound=Hashable, covariant=True)


class Audience:
    """Who an event is for. `a & b` is who is in both, `a - b` who is in a and not in b."""

    __slots__ = ()

    def __and__(self, other: Audience) -> Audience:
        return Both(self, other)

    def __sub__(self, other: Audience) -> Audience:
        return Except(self, other)


@attrs.frozen
class Everyone(Audience):
    """Everyone who is connected to the workspace."""


@attrs.frozen
class Channel(Audience):
    """Those who see a channel."""

    id: str


@attrs.frozen(init=False)
class Users(Audience):
    """These users, on all their connections."""

    ids: tuple[str, ...]

    def __init__(self, *ids: str) -> None:
        object.__setattr__(self, "ids", ids)


@attrs.frozen
class Topic(Audience):
    """The connections that watch something just now (`session.watch`). It is no authorisation: join it by `&`."""

    name: str


@attrs.frozen
class Connection(Audience):
    """One connection; made to be taken away from another audience."""

    id: str


@attrs.frozen
class Both(Audience):
    """Who is in both."""

    left: Audience
    right: Audience


@attrs.frozen
class Except(Audience):
    """Who is in one and not in the other."""

    whole: Audience
    without: Audience


class AllChannels(Collection[str]):
    """Answer of `channels_of` where everyone sees every channel: contains any id, and lists none."""

    def __contains__(self, channel_id: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "ALL_CHANNELS"


ALL_CHANNELS = AllChannels()


class Index(Protocol[T_co]):
    """Where a node finds connections."""

    def everyone(self) -> Set[T_co]: ...
    def channel(self, channel_id: str) -> Set[T_co]: ...
    def user(self, user_id: str) -> Set[T_co]: ...
    def topic(self, name: str) -> Set[T_co]: ...
    def connection(self, connection_id: str) -> Set[T_co]: ...


class Viewer(Protocol):
    """One connection, asked whether an event is for it."""

    @property
    def id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    def sees(self, channel_id: str) -> bool: ...
    def watches(self, topic: str) -> bool: ...


def resolve(audience: Audience, index: Index[T]) -> Set[T]:
    """The connections that it names at this moment; costs what it finds, not what is connected.

    The set may be the index's own: copy it before anything is awaited.
    """
    match audience:
        case Channel(id):
            return index.channel(id)
        case Everyone():
            return index.everyone()
        case Users(ids):
            return index.user(ids[0]) if len(ids) == 1 else _union(index.user(id) for id in ids)
        case Topic(name):
            return index.topic(name)
        case Connection(id):
            return index.connection(id)
        case Both(left, right):
            return resolve(left, index) & resolve(right, index)
        case Except(whole, without):
            return resolve(whole, index) - resolve(without, index)
        case _:
            raise TypeError(f"no audience: {audience!r}")


def _union(sets: Iterable[Set[T]]) -> Set[T]:
    found: set[T] = set()
    return found.union(*sets)


def includes(audience: Audience, viewer: Viewer) -> bool:
    """Whether it names this one connection, by what the connection sees at the moment."""
    match audience:
        case Channel(id):
            return viewer.sees(id)
        case Everyone():
            return True
        case Users(ids):
            return viewer.user_id in ids
        case Topic(name):
            return viewer.watches(name)
        case Connection(id):
            return viewer.id == id
        case Both(left, right):
            return includes(left, viewer) and includes(right, viewer)
        case Except(whole, without):
            return includes(whole, viewer) and not includes(without, viewer)
        case _:
            raise TypeError(f"no audience: {audience!r}")


def topics(audience: Audience) -> bool:
    """Whether a connection's life decides it, so that nothing of it could be given to who comes back."""
    match audience:
        case Topic():
            return True
        case Both(left, right):
            return topics(left) or topics(right)
        case Except(whole, _):
            return topics(whole)
        case _:
            return False


def dump(audience: Audience) -> list[Any]:
    """As JSON, for the head of a record."""
    match audience:
        case Channel(id):
            return ["channel", id]
        case Everyone():
            return ["everyone"]
        case Users(ids):
            return ["users", *ids]
        case Topic(name):
            return ["topic", name]
        case Connection(id):
            return ["connection", id]
        case Both(left, right):
            return ["&", dump(left), dump(right)]
        case Except(whole, without):
            return ["-", dump(whole), dump(without)]
        case _:
            raise TypeError(f"no audience: {audience!r}")


def load(json: list[Any]) -> Audience:
    """The other way round."""
    match json:
        case ["channel", id]:
            return Channel(id)
        case ["everyone"]:
            return Everyone()
        case ["users", *ids]:
            return Users(*ids)
        case ["topic", name]:
            return Topic(name)
        case ["connection", id]:
            return Connection(id)
        case ["&", left, right]:
            return Both(load(left), load(right))
        case ["-", whole, without]:
            return Except(load(whole), load(without))
        case _:
            raise ValueError(f"no audience: {json!r}")
