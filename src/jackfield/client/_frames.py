"""What the server says, taken apart: a frame, the event in it, and whether it came before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import attrs
import orjson

from jackfield._wire import Wire
from jackfield.client._ending import CUT, Ended, Ending
from jackfield.client._values import Unknown
from jackfield.errors import InvalidEvent
from jackfield.events import ClientEvent, ServerEvent

if TYPE_CHECKING:
    from jackfield._registry import Registry

__all__ = ["Frame", "Seen", "Vocabulary", "broken", "frame_of"]

REMEMBERED = 1_000
"""Cursors by which an event that came twice is told; as many as a server replays."""


def broken(what: str) -> Ended:
    """For a server that does not speak as agreed: its line is as good as cut."""
    return Ended(Ending(CUT, what))


@attrs.frozen
class Frame:
    """One of them."""

    type: str
    data: Mapping[str, Any]
    cursor: str | None = None
    """Behind which event the reader then is, where it says so."""


def frame_of(text: str) -> Frame:
    """Raises Ended for what is none."""
    try:
        loaded: object = orjson.loads(text)
    except ValueError:
        raise broken("not JSON") from None
    if not isinstance(loaded, dict):
        raise broken("no event")
    envelope = cast("dict[str, Any]", loaded)
    type, data = envelope.get("type"), envelope.get("data", {})
    if not isinstance(type, str) or not isinstance(data, dict):
        raise broken("no event")
    fields = cast("dict[str, Any]", data)
    cursor = (fields if type == "hello" else envelope).get("cursor")
    return Frame(type, fields, cursor if isinstance(cursor, str) and cursor else None)


class Seen:
    """The cursors of the newest events."""

    def __init__(self) -> None:
        self._cursors: dict[str, None] = {}

    def before(self, cursor: str) -> bool:
        """Whether this one came already; from now on it has."""
        if cursor in self._cursors:
            return True
        self._cursors[cursor] = None
        if len(self._cursors) > REMEMBERED:
            del self._cursors[next(iter(self._cursors))]
        return False


class Vocabulary:
    """The events that a client knows."""

    def __init__(self, registry: Registry) -> None:
        self._classes = registry
        self._wire = Wire(registry, max_bytes=0)

    def event(self, frame: Frame) -> ServerEvent | Unknown:
        """What a frame says. An event of another version than ours is unknown, too."""
        event = self._classes.get(frame.type)
        if event is not None and issubclass(event, ServerEvent):
            try:
                return self._wire.structure(event, frame.data, "$.data")
            except InvalidEvent:
                pass
        return Unknown(frame.type, frame.data)

    def flat(self, event: ClientEvent | Mapping[str, Any]) -> dict[str, Any]:
        """An event as a client says it; a mapping as it is."""
        if isinstance(event, ClientEvent):
            return {"type": event.__event__.type, **self._wire.data(event)}
        return dict(event)
