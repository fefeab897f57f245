"""Text to event and event to text: the envelope, its limits, and nothing else. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin

import attrs
import cattrs
import orjson
from cattrs.preconf.orjson import make_converter

from jackfield.errors import INTERNAL_ERROR, Fault, InvalidEvent, RateLimited, Refused, UnknownEvent
from jackfield.events import ClientEvent, Event, ServerEvent, Shape, timestamp

if typing.TYPE_CHECKING:
    from jackfield._registry import Registry

__all__ = ["PING", "PONG", "Incoming", "Ref", "Wire"]

PING = '{"type":"ping"}'
PONG = '{"type":"pong"}'

MAX_DEPTH = 32
MAX_KEYS = 64
MAX_ITEMS = 1000
MAX_INTEGER = 2**53
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
        self._converter = _strict_converter()
        self._client = registry.client()
        self._fields = {name: [f.name for f in attrs.fields(cls)] for name, cls in self._client.items()}
        self._data: dict[type[Event], Callable[[Event], dict[str, Any]]] = {}

    # --- in

    def too_big(self, text: str) -> bool:
        """Whether it is over the limit, in bytes of UTF-8."""
        return len(text) > self.max_bytes or (
            not text.isascii() and len(text.encode("utf-8", "replace")) > self.max_bytes
        )

    def decode(self, text: str, workspace_id: str) -> Incoming:
        """What a client said on its connection to `workspace_id`. Raises Rejected."""
        try:
            envelope = orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            raise Rejected(InvalidEvent("$: expected JSON")) from None
        if not isinstance(envelope, dict):
            raise Rejected(InvalidEvent("$: expected an object"))
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
        path, fields = "$", envelope
        if "data" in envelope:
            path, fields = "$.data", envelope["data"]
            if not isinstance(fields, dict):
                raise Rejected(InvalidEvent("$.data: expected an object"), ref)
            for name in self._fields[type]:
                if name in envelope:
                    raise Rejected(InvalidEvent(f"$.{name}: expected inside data"), ref)
        try:
            return Incoming(self.structure(event, fields, path), ref)
        except InvalidEvent as refused:
            raise Rejected(refused, ref) from None

    def structure(self, event: type[E], fields: object, path: str) -> E:
        """An event from the object that JSON has for it. Nothing is coerced, keys that it does not have are ignored.

        Raises InvalidEvent with every wrong field, each with its place below `path`.
        """
        if not isinstance(fields, dict):
            raise InvalidEvent(faults=[Fault(path, "expected an object")])
        try:
            return self._converter.structure(fields, event)
        except Exception as error:
            raise InvalidEvent(faults=_faults(error, path)) from None

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

    def data(self, event: Event) -> dict[str, Any]:
        """An event's fields as JSON has them, without the optional ones that are unset."""
        if (unstructure := self._data.get(type(event))) is None:
            unstructure = self._data[type(event)] = self._unstructure_for(type(event))
        return unstructure(event)

    def error(self, refused: Refused | None, ref: Ref, at: float) -> str:
        """What a client is told; None stands for a failure of ours."""
        code, message = INTERNAL_ERROR if refused is None else (refused.code, refused.text())
        data: dict[str, Any] = {"message": message, "code": code}
        if isinstance(refused, RateLimited):
            data["retry_after_ms"] = max(1, round(refused.retry_after * 1000))
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

    @staticmethod
    def _text(envelope: Mapping[str, Any]) -> str:
        return orjson.dumps(envelope).decode()

    def _unstructure_for(self, event: type[Event]) -> Callable[[Event], dict[str, Any]]:
        every = self._converter.get_unstructure_hook(event)
        optional = [field.name for field in attrs.fields(event) if field.default is None]

        def unstructure(event: Event) -> dict[str, Any]:
            data: dict[str, Any] = every(event)
            for name in optional:
                if data[name] is None:
                    del data[name]
            return data

        return unstructure if optional else every


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
                if len(value) > MAX_KEYS:
                    return f"$: expected at most {MAX_KEYS} keys in an object"
                below += value.values()
            else:
                if len(value) > MAX_ITEMS:
                    return f"$: expected at most {MAX_ITEMS} items in an array"
                below += value
        level = [value for value in below if isinstance(value, dict | list)]
        if not level:
            return None
    return f"$: expected at most {MAX_DEPTH} levels"


class Mismatch(ValueError):
    """A value that a field does not take; the text says what it takes, and nothing of the value."""


def _strict_converter() -> cattrs.Converter:
    """cattrs, but `"yes"` is no boolean and `1` is no text."""
    converter = make_converter()

    def only(kind: type[Any], expected: str) -> None:
        def structure(value: object, _: object) -> object:
            if type(value) is not kind:
                raise Mismatch(expected)
            return value

        converter.register_structure_hook(kind, structure)

    def integer(value: object, _: object) -> int:
        if type(value) is not int or abs(value) > MAX_INTEGER:
            raise Mismatch("expected an integer within ±2^53")
        return value

    def number(value: object, _: object) -> float:
        if type(value) not in (int, float):
            raise Mismatch("expected a number")
        return float(typing.cast("float", value))

    def literal(value: object, kind: Any) -> object:
        if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in get_args(kind)):
            raise Mismatch("expected one of " + ", ".join(map(str, get_args(kind))))
        return value

    def shaped(kind: Any) -> Callable[[object, object], str]:
        shapes = [extra for extra in kind.__metadata__ if isinstance(extra, Shape)]

        def structure(value: object, _: object) -> str:
            if type(value) is not str or not all(shape.matches(value) for shape in shapes):
                raise Mismatch(shapes[0].expected)
            return value

        return structure

    def optional(kind: Any) -> Callable[[object, object], Any]:
        (inner,) = (arg for arg in get_args(kind) if arg is not type(None))
        structure = converter.get_structure_hook(inner)
        return lambda value, _: structure(value, inner)

    def is_optional(kind: Any) -> bool:
        # Absent is None on the wire, and null is not absent: an optional field takes what it is optional of.
        args = get_args(kind)
        return get_origin(kind) in (types.UnionType, typing.Union) and len(args) == 2 and type(None) in args

    def sequence(kind: Any) -> Callable[[object, object], list[Any]]:
        (inner,) = get_args(kind)[:1] or (Any,)
        plain = cattrs.Converter.get_structure_hook(converter, list[inner])  # type: ignore[valid-type]

        def structure(value: object, _: object) -> list[Any]:
            if type(value) is not list:
                raise Mismatch("expected an array")
            return typing.cast("list[Any]", plain(value, list[inner]))  # type: ignore[valid-type]

        return structure

    def mapping(kind: Any) -> Callable[[object, object], dict[str, Any]]:
        inner = (*get_args(kind), Any)[1] if get_args(kind) else Any
        plain = cattrs.Converter.get_structure_hook(converter, dict[str, inner])  # type: ignore[valid-type]

        def structure(value: object, _: object) -> dict[str, Any]:
            if type(value) is not dict:
                raise Mismatch("expected an object")
            return typing.cast("dict[str, Any]", plain(value, dict[str, inner]))  # type: ignore[valid-type]

        return structure

    only(str, "expected a string")
    only(bool, "expected true or false")
    converter.register_structure_hook(int, integer)
    converter.register_structure_hook(float, number)
    converter.register_structure_hook_func(lambda kind: get_origin(kind) is Literal, literal)
    converter.register_structure_hook_factory(
        lambda kind: get_origin(kind) is Annotated and any(isinstance(extra, Shape) for extra in kind.__metadata__),
        shaped,
    )
    converter.register_structure_hook_factory(is_optional, optional)
    converter.register_structure_hook_factory(_is_sequence, sequence)
    converter.register_structure_hook_factory(_is_mapping, mapping)
    return converter


def _is_sequence(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and origin is not list and issubclass(origin, typing.Sequence)


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and origin is not dict and issubclass(origin, typing.Mapping)


def _faults(error: Exception, path: str) -> list[Fault]:
    """Where cattrs found what: its messages are constants, or ours."""
    faults = []
    for line in cattrs.transform_error(error, path, lambda failure, _: _expectation(failure)):
        message, _, where = line.rpartition(" @ ")
        faults.append(Fault(where, message))
    return faults


def _expectation(failure: BaseException) -> str:
    if isinstance(failure, KeyError):
        return "required"
    return str(failure) if isinstance(failure, Mismatch) else "not valid"
