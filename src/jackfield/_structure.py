"""JSON to the classes of events and back. Nothing is coerced: `"yes"` is no boolean, `1` no text, `"abc"` no list; and
what is unset is left out, never null. Pure.
"""

from __future__ import annotations

import types
import typing
from collections import abc
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache
from typing import Annotated, Any, Literal, cast, get_args, get_origin

import attrs
from cattrs.cols import (
    list_structure_factory,
    mapping_structure_factory,  # pyright: ignore[reportUnknownVariableType]
)
from cattrs.errors import ClassValidationError, IterableValidationError
from cattrs.preconf.orjson import make_converter

from jackfield.errors import Fault
from jackfield.events import Shape

if typing.TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["MAX_INTEGER", "faults_of", "strict_converter"]

MAX_INTEGER = 2**53
"""Integers beyond it are not the same for every client: JavaScript has none there."""

Structure = Callable[[Any, Any], Any]

_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Sequence: list,
    abc.MutableSequence: list,
    tuple: tuple,
    set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
    abc.Set: frozenset,
}
"""What a field may be that JSON has an array for, and what is made of it."""

_OBJECTS = frozenset({dict, abc.Mapping, abc.MutableMapping})


class Mismatch(ValueError):
    """A value that a field does not take; the text says what it takes, and nothing of the value."""


@cache
def strict_converter() -> Converter:
    """cattrs, but a field takes its own form of JSON only. What has no form in JSON raises on being looked up."""
    converter = make_converter()

    def alternatives(kind: Any) -> Structure:
        # Absent is None on the wire, and null is not absent: an optional field takes what it is optional of.
        inner = [arg for arg in get_args(kind) if arg is not types.NoneType]
        if any(attrs.has(arg) for arg in inner):  # which of several classes it is, cattrs knows better: by their fields
            inner = [typing.Union[tuple(inner)]]  # noqa: UP007
        takes = [(converter.get_structure_hook(one), one) for one in inner]

        def any_of(value: object, _: object) -> object:
            for structure, one in takes:
                with suppress(Exception):
                    return structure(value, one)
            raise Mismatch("not valid")

        structure, only = takes[0]
        return any_of if len(takes) > 1 else lambda value, _: structure(value, only)

    def array(kind: Any) -> Structure:
        made = _ARRAYS[get_origin(kind) or kind]
        item, *more = get_args(kind) or (Any,)
        if more and more != [...]:
            raise TypeError("a tuple of fixed length has no form in JSON")
        of: Any = types.GenericAlias(list, (item,))
        items = list_structure_factory(of, converter)

        def structure(value: object, _: object) -> object:
            if type(value) is not list:
                raise Mismatch("expected an array")
            found: list[Any] = items(value, of)
            return found if made is list else made(found)

        return structure

    def mapping(kind: Any) -> Structure:
        # Not by the converter's own method: that would register it, and dict[…] would go unchecked from there on.
        of: Any = types.GenericAlias(dict, get_args(kind) or (str, Any))
        return _object(mapping_structure_factory(of, converter))

    def fields(kind: Any) -> Structure:
        return _object(converter.gen_structure_attrs_fromdict(kind))

    def written(kind: Any) -> Callable[[Any], dict[str, Any]]:
        every = converter.gen_unstructure_attrs_fromdict(kind)
        optional = [field.name for field in attrs.fields(kind) if field.init and field.default is None]

        def unstructure(value: object) -> dict[str, Any]:
            data = every(value)
            for name in optional:
                if data[name] is None:
                    del data[name]
            return data

        return unstructure if optional else every

    for kind, takes in {str: _text, bool: _boolean, int: _integer, float: _number}.items():
        converter.register_structure_hook(kind, _scalar(takes))
    converter.register_structure_hook_func(_is_literal, _literal)
    converter.register_structure_hook(Enum, _enum)
    converter.register_structure_hook_factory(_is_shaped, _shaped)
    converter.register_structure_hook_factory(_is_union, alternatives)
    converter.register_structure_hook_factory(_is_array, array)
    converter.register_structure_hook_factory(_is_mapping, mapping)
    converter.register_structure_hook_factory(attrs.has, fields)
    converter.register_unstructure_hook_factory(attrs.has, written)
    converter.register_unstructure_hook_func(_is_json, _listed)
    return converter


def _scalar(takes: Callable[[object], object]) -> Structure:
    # cattrs looks by class, and an enumeration of texts is a text, too.
    return lambda value, kind: _enum(value, kind) if _is_enum(kind) else takes(value)


def _text(value: object) -> str:
    if type(value) is not str:
        raise Mismatch("expected a string")
    return value


def _boolean(value: object) -> bool:
    if type(value) is not bool:
        raise Mismatch("expected true or false")
    return value


def _integer(value: object) -> int:
    if type(value) is not int or abs(value) > MAX_INTEGER:
        raise Mismatch("expected an integer within ±2^53")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Mismatch("expected a number")
    return float(value)


def _literal(value: object, kind: Any) -> object:
    choices: tuple[object, ...] = get_args(kind)
    return choices[_place(value, choices)]


def _enum(value: object, kind: type[Enum]) -> Enum:
    members = list(kind)
    return members[_place(value, [member.value for member in members])]


def _place(value: object, choices: abc.Sequence[object]) -> int:
    """Where it stands; 1 is not True."""
    for place, choice in enumerate(choices):
        if type(value) is type(choice) and value == choice:
            return place
    raise Mismatch("expected one of " + ", ".join(map(str, choices)))


def _shaped(kind: Any) -> Structure:
    shapes = [extra for extra in kind.__metadata__ if isinstance(extra, Shape)]

    def structure(value: object, _: object) -> str:
        if type(value) is not str or not all(shape.matches(value) for shape in shapes):
            raise Mismatch(shapes[0].expected)
        return value

    return structure


def _object(plain: Structure) -> Structure:
    def structure(value: object, kind: object) -> object:
        if type(value) is not dict:
            raise Mismatch("expected an object")
        return plain(value, kind)

    return structure


def _is_literal(kind: Any) -> bool:
    origin: object = get_origin(kind)
    return origin is Literal


def _listed(value: object) -> object:
    """What JSON has an array for as a list; anything else stays, for whoever checks it to find."""
    if isinstance(value, abc.Sequence | abc.Set) and not isinstance(value, str | bytes):
        return list(cast("abc.Iterable[object]", value))
    return value


def _is_json(kind: Any) -> bool:
    """An array of anything: its items are written as they are, and what has no form in JSON is `Wire`'s to ask for."""
    return _is_array(kind) and get_args(kind)[:1] == (Any,)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _is_shaped(kind: Any) -> bool:
    origin: object = get_origin(kind)
    return origin is Annotated and any(isinstance(extra, Shape) for extra in kind.__metadata__)


def _is_union(kind: Any) -> bool:
    if get_origin(kind) not in (types.UnionType, typing.Union):
        return False
    return types.NoneType in get_args(kind) or not any(attrs.has(arg) for arg in get_args(kind))


def _is_array(kind: Any) -> bool:
    return (get_origin(kind) or kind) in _ARRAYS


def _is_mapping(kind: Any) -> bool:
    return (get_origin(kind) or kind) in _OBJECTS


def faults_of(error: Exception, path: str) -> list[Fault]:
    """Where cattrs found what. A mapping's keys are the client's words, and so are not named."""
    if isinstance(error, ClassValidationError):
        noted, others = error.group_exceptions()
        inside = [
            ([Fault(where, "required")] if isinstance(each, KeyError) else faults_of(each, where))
            for each, where in ((each, f"{path}.{note.name}") for each, note in noted)
        ]
    elif isinstance(error, IterableValidationError):
        found, others = error.group_exceptions()
        inside = [
            faults_of(each, f"{path}[{note.index if isinstance(note.index, int) else '*'}]") for each, note in found
        ]
    else:
        return [Fault(path, str(error) if isinstance(error, Mismatch) else "not valid")]
    return [fault for faults in (*inside, *(faults_of(each, path) for each in others)) for fault in faults]
