"""Text to event and event to text: the envelope, its limits, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import attrs
import orjson

from jackfield._registry import CORE, Registry
from jackfield._structure import MAX_INTEGER, faults_of, strict_converter
from jackfield.errors import INTERNAL_ERROR, ConfigurationError, InvalidEvent, RateLimited, Refused, UnknownEvent
from jackfield.events import ClientEvent, Event, ServerEvent, timestamp

__all__ = ["PING", "PONG", "Incoming", "Ref", "Wire"]

PING = '{"type":"ping"}'
PONG = '{"type":"pong"}'

MAX_DEPTH = 32
MAX_KEYS = 64
MAX_ITEMS = 1000
MAX_TYPE = 64
MAX_REF = 64

Ref = str | int | None
E = TypeVar("E", bound=Event)


class Incoming(NamedTuple):
    """What a client said; `ref` is how it wants to be answered."""

    event: ClientEvent
    ref: Ref


class Rejected(Exception):
    """What a client said is no event; `ref` is known where it could be read."""

    def __init__(self, refused: Refused, ref: Ref = None) -> None:
        self.refused = refused
        self.ref = ref


class Wire:
    """The two directions, for one application's events."""

    def __init__(self, registry: Registry, *, max_bytes: int, strict_error_codes: bool = False) -> None:
        self.max_bytes = max_bytes
        self._registry = registry
        self._strict = strict_error_codes
        self._converter = strict_converter()
        self._client = registry.client()
        self._fields = {name: [f.name for f in attrs.fields(cls)] for name, cls in self._client.items()}
        self._data: dict[type[Event], Callable[[Event], dict[str, Any]]] = {}
        for type, event in registry.items():
            if (owner := registry.owner(type)) != CORE:
                self._check(owner, event)

    # --- in

    def too_big(self, text: str) -> bool:
        """Whether it is over the limit, in bytes of UTF-8."""
        return len(text) > self.max_bytes or (
            not text.isascii() and len(text.encode("utf-8", "replace")) > self.max_bytes
        )

    def decode(self, text: str, workspace_id: str) -> Incoming:
        """What a client said on its connection to `workspace_id`. Raises Rejected."""
        try:
            loaded: object = orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            raise Rejected(InvalidEvent("$: expected JSON")) from None
        if not isinstance(loaded, dict):
            raise Rejected(InvalidEvent("$: expected an object"))
        envelope = cast("dict[str, Any]", loaded)
        ref = envelope.get("ref")
        if "ref" in envelope and not _is_ref(ref):
            raise Rejected(InvalidEvent(f"$.ref: expected a string of at most {MAX_REF} characters, or an integer"))
        if fault := _over_limits(text, envelope):
            raise Rejected(InvalidEvent(fault), ref)
        type = envelope.get("type")
        if not isinstance(type, str) or not 0 < len(type) <= MAX_TYPE:
            raise Rejected(InvalidEvent(f"$.type: expected a string of 1 to {MAX_TYPE} characters"), ref)
        if "workspace_id" in envelope and envelope["workspace_id"] != workspace_id:
            raise Rejected(InvalidEvent("$.workspace_id: expected this connection's workspace"), ref)
        if (event := self._client.get(type)) is None:
            raise Rejected(UnknownEvent(), ref)
        path: str = "$"
        fields: Any = envelope
        if "data" in envelope:
            path, fields = "$.data", envelope["data"]
            if not isinstance(fields, dict):
                raise Rejected(InvalidEvent("$.data: expected an object"), ref)
            for name in self._fields[type]:
                if name in envelope:
                    raise Rejected(InvalidEvent(f"$.{name}: expected inside data"), ref)
        try:
            return Incoming(self.structure(event, cast("object", fields), path), ref)
        except InvalidEvent as refused:
            raise Rejected(refused, ref) from None

    def structure(self, event: type[E], fields: object, path: str) -> E:
        """An event from the object that JSON has for it. Nothing is coerced, keys that it does not have are ignored.

        Raises InvalidEvent with every wrong field, each with its place below `path`.
        """
        try:
            return self._converter.structure(fields, event)
        except Exception as error:
            raise InvalidEvent(faults=faults_of(error, path)) from None

    # --- out

    def encode(self, event: ServerEvent, workspace_id: str, at: float) -> str:
        """The finished text of what happened; `at` is when, in seconds since 1970."""
        return self._text(
            {
                "type": event.__event__.type,
                "data": self.data(event),
                "workspace_id": workspace_id,
                "timestamp": timestamp(at),
            }
        )

    def check(self, event: ServerEvent) -> None:
        """That it reads back as what it says it is; a host may have put anything into it.

        Raises TypeError with every field that does not.
        """
        kind = type(event)
        try:
            self._converter.structure(self.data(event), kind)
        except Exception as error:
            faults = faults_of(error, kind.__name__)
            raise TypeError("; ".join(f"{fault.path}: {fault.message}" for fault in faults)) from None

    def data(self, event: Event) -> dict[str, Any]:
        """An event's fields as JSON has them, without the optional ones that are unset."""
        if (unstructure := self._data.get(type(event))) is None:
            unstructure = self._data[type(event)] = self._converter.get_unstructure_hook(type(event))
        return unstructure(event)

    def error(self, refused: Refused | None, ref: Ref, at: float) -> str:
        """What a client is told; None stands for a failure of ours."""
        code, message = INTERNAL_ERROR if refused is None else (refused.code, refused.text())
        data: dict[str, Any] = {"message": message, "code": code}
        if isinstance(refused, RateLimited):
            data["retry_after_ms"] = refused.retry_after_ms
        if isinstance(refused, InvalidEvent) and refused.detail:
            data["detail"] = refused.detail
        if self._strict and isinstance(refused, InvalidEvent | UnknownEvent):
            data["code"], data["message"] = INTERNAL_ERROR
            data["detail"] = refused.code
        if ref is not None:
            data["ref"] = ref
        return self._text({"type": "error", "data": data, "timestamp": timestamp(at)})

    def pong(self, ref: Ref) -> str:
        """Answer to a ping."""
        return PONG if ref is None else self._text({"type": "pong", "ref": ref})

    def _text(self, envelope: Mapping[str, Any]) -> str:
        return orjson.dumps(envelope, default=self._converter.unstructure).decode()

    def _check(self, owner: str, event: type[Event]) -> None:
        """Stop the start where a field could never be read."""
        try:
            self._converter.get_structure_hook(event)
        except Exception as error:
            raise ConfigurationError(
                f'plugin "{owner}": {event.__name__} ("{event.__event__.type}") has a field of a kind that has no form '
                "in JSON. Annotate it with str, int, float, bool, Literal, Sequence, Mapping, JSON, or an attrs class "
                "of these."
            ) from error


def _is_ref(ref: object) -> bool:
    if isinstance(ref, str):
        return len(ref) <= MAX_REF
    return isinstance(ref, int) and not isinstance(ref, bool) and abs(ref) <= MAX_INTEGER


def _over_limits(text: str, envelope: dict[str, Any]) -> str | None:
    # Counting brackets and commas in C settles nearly every frame; only one that could be over a limit is walked.
    brackets = text.count("{") + text.count("[")
    if brackets <= MAX_DEPTH and text.count(":") <= MAX_KEYS and text.count(",") < MAX_ITEMS:
        return None
    level: list[Any] = [envelope]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                keys = cast("dict[str, Any]", value)
                if len(keys) > MAX_KEYS:
                    return f"$: expected at most {MAX_KEYS} keys in an object"
                below += keys.values()
            else:
                items: list[Any] = value
                if len(items) > MAX_ITEMS:
                    return f"$: expected at most {MAX_ITEMS} items in an array"
                below += items
        level = [value for value in below if isinstance(value, dict | list)]
        if not level:
            return None
    return f"$: expected at most {MAX_DEPTH} levels"
