"""What a publisher sends, read strictly: every wrong field is named, none is guessed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard

import orjson

from jackfield._audience import Audience, Channel, Everyone, Users
from jackfield._commit import Post
from jackfield._handshake import valid_id
from jackfield.errors import Fault, InvalidEvent

if TYPE_CHECKING:
    from jackfield.events import ServerEvent

__all__ = ["read_posts"]

MAX_EVENTS = 100
KEYS = {"type", "data", "to", "except_users", "id"}

Structure = Callable[[object, object, str], "ServerEvent"]
"""(type, data, path) → the event; raises InvalidEvent with every wrong field."""


def read_posts(body: bytes, structure: Structure) -> list[Post]:
    """The posts of a request's body. Raises InvalidEvent with all its faults."""
    content: Any
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidEvent(faults=[Fault("$", "expected JSON")]) from None
    if not _is_object(content):
        raise InvalidEvent(faults=[Fault("$", "expected an object")])
    if "events" not in content:
        return _read([("$", content)], structure)
    events = content["events"]
    faults = [Fault(f"$.{key}", "not known beside events") for key in content if key != "events"]
    if not _is_array(events) or not 1 <= len(events) <= MAX_EVENTS:
        faults.append(Fault("$.events", f"expected an array of 1 to {MAX_EVENTS} events"))
    if faults:
        raise InvalidEvent(faults=faults)
    return _read([(f"$.events[{n}]", event) for n, event in enumerate(events)], structure)


def _read(items: list[tuple[str, Any]], structure: Structure) -> list[Post]:
    posts: list[Post] = []
    faults: list[Fault] = []
    for path, item in items:
        try:
            posts.append(_post(path, item, structure))
        except InvalidEvent as refused:
            faults += refused.faults
    if faults:
        raise InvalidEvent(faults=faults)
    return posts


def _post(path: str, item: Any, structure: Structure) -> Post:
    if not _is_object(item):
        raise InvalidEvent(faults=[Fault(path, "expected an object")])
    # A misspelt except_users would show an event to those whom it must not reach.
    faults = [Fault(f"{path}.{key}", "not known") for key in item if key not in KEYS]
    event: ServerEvent | None = None
    try:
        event = structure(item.get("type"), item.get("data"), path)
    except InvalidEvent as refused:
        faults += refused.faults
    to: Audience | None = None
    if "to" in item:
        to = _audience(item["to"])
        if to is None:
            faults.append(Fault(f"{path}.to", 'expected "everyone", {"channel": id} or {"users": [id, …]}'))
    except_users: Any = item.get("except_users", [])
    if not _ids(except_users):
        faults.append(Fault(f"{path}.except_users", "expected an array of ids"))
    id = item.get("id")
    if "id" in item and not (isinstance(id, str) and valid_id(id)):
        faults.append(Fault(f"{path}.id", "expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -"))
    if faults or event is None:
        raise InvalidEvent(faults=faults)
    return Post(event, to, tuple(except_users), id)


def _audience(to: Any) -> Audience | None:
    match to:
        case "everyone":
            return Everyone()
        case {"channel": str(id)} if len(to) == 1 and valid_id(id):
            return Channel(id)
        case {"users": ids} if len(to) == 1 and _ids(ids) and ids:
            return Users(*ids)
        case _:
            return None


def _ids(value: object) -> TypeGuard[list[str]]:
    return _is_array(value) and all(isinstance(id, str) and valid_id(id) for id in value)


# What JSON has, and the checkers cannot see.


def _is_array(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)
