"""JSON to the classes of events, without coercion: `"yes"` is no boolean and `1` is no text. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import cattrs
from cattrs.preconf.orjson import make_converter

from jackfield.errors import Fault
from jackfield.events import Shape

__all__ = ["MAX_INTEGER", "faults_of", "strict_converter"]

MAX_INTEGER = 2**53
"""Integers beyond it are not the same for every client: JavaScript has none there."""


class Mismatch(ValueError):
    """A value that a field does not take; the text says what it takes, and nothing of the value."""


def strict_converter() -> cattrs.Converter:
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
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Mismatch("expected a number")
        return float(value)

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
        of = types.GenericAlias(list, (inner,))
        plain = converter.get_structure_hook(of)

        def structure(value: object, _: object) -> list[Any]:
            if type(value) is not list:
                raise Mismatch("expected an array")
            items: list[Any] = plain(value, of)
            return items

        return structure

    def mapping(kind: Any) -> Callable[[object, object], dict[str, Any]]:
        inner = (*get_args(kind), Any)[1] if get_args(kind) else Any
        of = types.GenericAlias(dict, (str, inner))
        plain = converter.get_structure_hook(of)

        def structure(value: object, _: object) -> dict[str, Any]:
            if type(value) is not dict:
                raise Mismatch("expected an object")
            items: dict[str, Any] = plain(value, of)
            return items

        return structure

    only(str, "expected a string")
    only(bool, "expected true or false")
    converter.register_structure_hook(int, integer)
    converter.register_structure_hook(float, number)
    converter.register_structure_hook_func(_is_literal, literal)
    converter.register_structure_hook_factory(_is_shaped, shaped)
    converter.register_structure_hook_factory(is_optional, optional)
    converter.register_structure_hook_factory(_is_sequence, sequence)
    converter.register_structure_hook_factory(_is_mapping, mapping)
    return converter


def _is_literal(kind: Any) -> bool:
    origin: object = get_origin(kind)
    return origin is Literal


def _is_shaped(kind: Any) -> bool:
    origin: object = get_origin(kind)
    return origin is Annotated and any(isinstance(extra, Shape) for extra in kind.__metadata__)


def _is_sequence(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and origin is not list and issubclass(origin, Sequence)


def _is_mapping(kind: Any) -> bool:
    origin = get_origin(kind)
    return isinstance(origin, type) and origin is not dict and issubclass(origin, Mapping)


def faults_of(error: Exception, path: str) -> list[Fault]:
    """Where cattrs found what: its messages are constants, or ours."""
    faults: list[Fault] = []
    for line in cattrs.transform_error(error, path, lambda failure, _: _expectation(failure)):
        message, _, where = line.rpartition(" @ ")
        faults.append(Fault(where, message))
    return faults


def _expectation(failure: BaseException) -> str:
    if isinstance(failure, KeyError):
        return "required"
    return str(failure) if isinstance(failure, Mismatch) else "not valid"
