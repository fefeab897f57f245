"""The classes of events as JSON Schema: it takes what `_structure` takes, no more and no less. Pure.

What JSON Schema cannot tell apart stays one: `1.0` is an integer there, and none here. What a validator of attrs, or
the limits of the whole frame, would refuse besides is not in it.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections import abc
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypeVar, cast, get_args, get_origin

import attrs

from jackfield._structure import MAX_INTEGER, strict_converter
from jackfield.events import Event, Id, Shape, Timestamp
from jackfield.schema._described import about, about_fields
from jackfield.schema._pattern import ecma

__all__ = ["Schema", "Schemas", "json_schema", "told"]

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    bytes: {"type": "string"},
}
ARRAYS = (abc.Iterable, abc.Collection, abc.Sequence, abc.MutableSequence, abc.Set, abc.MutableSet)
SHAPES: Mapping[Shape, str] = {get_args(Id)[1]: "Id", get_args(Timestamp)[1]: "Timestamp"}
"""Those that are everywhere have a name."""
OBJECTS = (dict, abc.Mapping, abc.MutableMapping)
NOTHING_IS_IT: Schema = {"not": {}}


def json_schema(event: type[Event], *, sent: bool = False) -> Schema:
    """The JSON Schema (2020-12) of an event's fields, as they stand in `data`.

    A field with a default may be left out by whoever says it. With `sent` it is what the server writes: there only
    what is None is left out. Other keys than the fields are allowed. Raises TypeError for a field of a kind that has
    no form in JSON.
    """
    try:
        strict_converter().get_structure_hook(event)
    except Exception as error:
        raise TypeError(f"{event.__name__} has a field of a kind that has no form in JSON") from error
    schemas = Schemas("#/$defs/")
    whole = schemas.fields(event, sent=sent)
    return {"$schema": DIALECT, **whole, **({"$defs": schemas.named} if schemas.named else {})}


class Field(NamedTuple):
    """Of a class: its kind as it is annotated, and what it is when it is left out."""

    name: str
    kind: Any
    default: Any


class Schemas:
    """Schemas that point at each other: `named` holds those of the classes, below `at` in the document."""

    def __init__(self, at: str) -> None:
        self.named: dict[str, Schema] = {}
        self._at = at
        self._names: dict[tuple[Any, bool], str] = {}

    def ref(self, cls: Any, *, sent: bool) -> Schema:
        """A pointer at the schema of a class, which is made when it is not there yet."""
        sent = sent and _varies(cls, set())
        if (cls, sent) not in self._names:
            name = self._names[cls, sent] = self._free(_name(cls) + self._ending(cls, sent))
            self.named[name] = {}  # its place, and an end for what has itself inside
            self.named[name] = self.fields(cls, sent=sent)
        return {"$ref": self._at + self._names[cls, sent]}

    def fields(self, cls: Any, *, sent: bool) -> Schema:
        """The schema of a class, an object of its fields."""
        own = get_origin(cls) or cls
        said = about_fields(own)
        properties: dict[str, Schema] = {}
        for field in _fields(cls):
            properties[field.name] = told(self.of(field.kind, sent=sent), said.get(field.name, ""))
            if not sent and (default := _default(field)) is not None:
                properties[field.name]["default"] = default[0]
        required = [
            field.name
            for field in _fields(cls)
            if field.default is attrs.NOTHING or (sent and field.default is not None)
        ]
        schema: Schema = {"title": _name(cls), "type": "object"}
        if text := about(own):
            schema["description"] = text
        if properties:
            schema["properties"] = properties
        if required:
            schema["required"] = required
        return schema

    def of(self, kind: Any, *, sent: bool) -> Schema:
        """The schema of any kind that a field can be."""
        if kind is Any:
            return {}
        if kind in SCALARS:
            return dict(SCALARS[kind])
        if isinstance(kind, NewType):
            return self.of(kind.__supertype__, sent=sent)
        if hasattr(kind, "__value__"):  # type Name = …, of Python 3.12
            return self.of(kind.__value__, sent=sent)
        if isinstance(kind, type) and issubclass(kind, Enum):
            return _one_of([member.value for member in kind])
        if _has_fields(kind):
            return self.ref(kind, sent=sent)
        origin, args = get_origin(kind), get_args(kind)
        if origin is Annotated:
            shapes = [extra for extra in args[1:] if isinstance(extra, Shape)]
            return self._shape(shapes) if shapes else self.of(args[0], sent=sent)
        if origin is Literal:
            return _one_of(args)
        if origin in (typing.Union, types.UnionType):
            takes = [self.of(one, sent=sent) for one in args if one is not types.NoneType]
            return takes[0] if len(takes) == 1 else {"anyOf": takes}
        whole = cast("Any", origin or kind)
        if whole in OBJECTS:
            return self._mapping(args or (str, Any), sent)
        if whole in ARRAYS or (isinstance(whole, type) and issubclass(whole, list | tuple | set | frozenset)):
            items = self.of(args[0], sent=sent) if args else {}
            return {"type": "array", "items": items} if items else {"type": "array"}
        return {"description": f"As {kind} is written."}

    def _shape(self, shapes: Sequence[Shape]) -> Schema:
        if len(shapes) != 1 or (name := SHAPES.get(shapes[0])) is None:
            return _shaped(shapes)
        self.named.setdefault(name, {"title": name, **_shaped(shapes)})
        return {"$ref": self._at + name}

    def _mapping(self, args: Sequence[Any], sent: bool) -> Schema:
        schema: Schema = {"type": "object"}
        if names := (self.of(args[0], sent=sent) if args[0] is not str else {}):
            schema["propertyNames"] = names
        if values := self.of(args[1], sent=sent):
            schema["additionalProperties"] = values
        return schema

    @staticmethod
    def _ending(kind: Any, sent: bool) -> str:
        # An event goes one way only, what is inside of several goes both, and may not be the same there.
        is_event = isinstance(kind, type) and issubclass(kind, Event)
        return "Input" if not sent and not is_event and _varies(kind, set()) else ""

    def _free(self, name: str) -> str:
        """Two authors may have the same idea."""
        number, free = 1, name
        while free in self.named or free in SHAPES.values():
            number += 1
            free = f"{name}{number}"
        return free


def _has_fields(kind: Any) -> bool:
    whole = get_origin(kind) or kind
    if not isinstance(whole, type):
        return False
    cls = cast("type[Any]", whole)
    return attrs.has(cls) or dataclasses.is_dataclass(cls) or typing.is_typeddict(cls)


def _fields(cls: Any) -> Iterator[Field]:
    """What is read and written of a class."""
    whole = get_origin(cls) or cls
    hints = typing.get_type_hints(whole, include_extras=True)
    filled: Mapping[Any, Any] = dict(zip(getattr(whole, "__parameters__", ()), get_args(cls), strict=False))
    if typing.is_typeddict(whole):
        for name, kind in hints.items():
            # Where annotations are texts, the class itself was made without having read these.
            required = get_origin(kind) is typing.Required or name in whole.__required_keys__
            if get_origin(kind) is typing.NotRequired:
                required = False
            if get_origin(kind) in (typing.Required, typing.NotRequired):
                (kind,) = get_args(kind)
            yield Field(name, _fill(kind, filled), attrs.NOTHING if required else None)
    elif dataclasses.is_dataclass(whole):
        for field in dataclasses.fields(whole):
            if field.init:
                left_out = field.default if field.default_factory is dataclasses.MISSING else field.default_factory
                default = attrs.NOTHING if left_out is dataclasses.MISSING else left_out
                yield Field(field.name, _fill(hints[field.name], filled), default)
    else:
        for attribute in attrs.fields(whole):
            if attribute.init:
                kind = hints.get(attribute.name, Any)
                yield Field(attribute.name, _fill(kind, filled), attribute.default)


def _fill(kind: Any, filled: Mapping[Any, Any]) -> Any:
    """A kind with what stands for its variables."""
    if isinstance(kind, TypeVar):
        return filled.get(kind, Any)
    variables = getattr(kind, "__parameters__", ())
    return kind[tuple(filled.get(one, Any) for one in variables)] if variables and get_origin(kind) else kind


def _varies(kind: Any, seen: set[Any]) -> bool:
    """Whether what is written of it has keys that may be left out of what is read."""
    if _has_fields(kind):
        if kind in seen:
            return False
        seen.add(kind)
        return any(
            (field.default is not attrs.NOTHING and field.default is not None) or _varies(field.kind, seen)
            for field in _fields(kind)
        )
    return any(_varies(one, seen) for one in get_args(kind) if get_origin(kind) is not Literal)


def _name(cls: Any) -> str:
    whole = get_origin(cls) or cls
    inner = "".join(_name(one) if isinstance(get_origin(one) or one, type) else "" for one in get_args(cls))
    return (re.sub(r"\W", "", whole.__name__, flags=re.ASCII) or "Object") + inner[:1].upper() + inner[1:]


def _default(field: Field) -> tuple[Any] | None:
    """What the server takes for a field that was left out, where JSON has it; a tuple, for False is a default, too."""
    default = field.default
    if default is attrs.NOTHING:
        return None
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        default = None if default.takes_self else default.factory()
    if isinstance(default, Enum):
        default = default.value
    if isinstance(default, bool | int | float | str):
        return (default,)
    if isinstance(default, list | tuple | set | frozenset | dict) and not default:
        return ({} if isinstance(default, dict) else [],)
    return None


def _one_of(values: Sequence[Any]) -> Schema:
    # Those that JSON has not are never said.
    names: Mapping[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number", types.NoneType: "null"}
    taken = [value for value in values if type(value) in names]
    if not taken:
        return dict(NOTHING_IS_IT)
    schema: Schema = {"const": taken[0]} if len(taken) == 1 else {"enum": taken}
    kinds = {names[type(value)] for value in taken}
    return {"type": kinds.pop(), **schema} if len(kinds) == 1 else schema


def _shaped(shapes: Sequence[Shape]) -> Schema:
    text = shapes[0].expected.removeprefix("expected ")
    schema: Schema = {"type": "string", "description": text[:1].upper() + text[1:]}
    patterns = [{"pattern": said} for shape in shapes if (said := ecma(shape.pattern)) is not None]
    if patterns:
        schema |= patterns[0]
    if patterns[1:]:
        schema["allOf"] = patterns[1:]
    if unsaid := [shape.pattern for shape in shapes if ecma(shape.pattern) is None]:
        schema["x-python-pattern"] = unsaid[0]
    return schema


def told(schema: Schema, text: str) -> Schema:
    """A schema with what is said of this one field, in front of what it says itself."""
    if not text:
        return schema
    if "$ref" in schema:  # beside which older readers see nothing else
        return {"description": text, "allOf": [schema]}
    return {**schema, "description": " ".join(filter(None, (text, schema.get("description"))))}
