"""The one rule by which the environment sets an application and its plugins.

`JACKFIELD_<FIELD>` is a field of `Settings`; `JACKFIELD_<NAME>_<FIELD>` is the field of the plugin with that name. A
field's metadata may say another name (`{"env": "SECRET"}`), a unit, and what to do when it is missing (`"remedy"`);
with `repr=False` it is a secret, and its value never stands in an error. An unknown name or a bad value stops start-up
with a line that says which.
"""

from __future__ import annotations

import json
import math
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import Any, Literal

import attrs

from jackfield._points import SHIPPED, engine_of, plugin_points, public_name, seats
from jackfield._settings import Settings
from jackfield.errors import ConfigurationError

__all__ = ["ENGINE", "Variable", "from_environment", "known_variables", "plugin_from"]

PREFIX = "JACKFIELD_"
ENGINE = PREFIX + "ENGINE"

STANDALONE: Mapping[tuple[str | None, str], Any] = {("presence", "client_status"): True, ("token", "refresh"): True}
"""What is on in `serve` and off where an application embeds it."""

DEFAULT_ENGINE = "memory://"


_LISTS: Mapping[Any, Callable[[Iterable[str]], Collection[str]]] = {
    tuple: tuple,
    list: list,
    set: set,
    frozenset: frozenset,
    Collection: tuple,
    Iterable: tuple,
    Sequence: tuple,
}


def _settable(kind: Any) -> bool:
    if kind in (bool, int, float, str):
        return True
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return all(isinstance(arg, str) for arg in args)
    return origin in _LISTS and args[0] is str and args[1:] in ((), (...,))


def _without_none(kind: Any) -> tuple[Any, bool]:
    """A type without its None, and whether it had one."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(kind) if arg is not types.NoneType]
        if len(rest) == 1:
            return rest[0], True
    return kind, False


@attrs.frozen
class Variable:
    """A variable of the environment, and the field that it sets; `plugin` is None for one of `Settings`."""

    name: str
    plugin: str | None
    owner: type
    field: attrs.Attribute[Any]
    kind: Any
    optional: bool

    @property
    def required(self) -> bool:
        """There is nothing else that it could be."""
        return self.field.default is attrs.NOTHING and (self.plugin, self.field.name) not in STANDALONE

    @property
    def argument(self) -> str:
        """What the class calls it when it is made."""
        return self.field.alias or self.field.name

    @property
    def secret(self) -> bool:
        """Its value must not be shown."""
        return not self.field.repr

    @property
    def default(self) -> Any:
        """What it is in `serve` when nobody sets it."""
        default = STANDALONE.get((self.plugin, self.field.name), self.field.default)
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            return None if default.takes_self else default.factory()
        return default

    @property
    def place(self) -> str:
        """Where the field stands in the code."""
        owner = "Settings" if self.owner is Settings else public_name(self.owner)
        return f"{owner}.{self.field.name}"

    @property
    def expected(self) -> str:
        """What it wants to be, after "is not"."""
        if self.kind is bool:
            return "true or false"
        if self.kind is int:
            return "a whole number"
        if self.kind is float:
            return "a number" + (f" of {self.field.metadata['unit']}" if "unit" in self.field.metadata else "")
        return "one of " + ", ".join(typing.get_args(self.kind))

    def shown(self, text: str) -> str:
        """The assignment as an error shows it."""
        return self.name if self.secret else f"{self.name}={json.dumps(text, ensure_ascii=False)}"

    def is_unset(self, text: str) -> bool:
        """Whether that counts as nothing. An empty text does; an empty number is a bad one."""
        return not text.strip() and (self.optional or self.kind is str)

    def read(self, text: str) -> Any:
        """The value. Raises ConfigurationError for a text that is none."""
        try:
            return self._read(text.strip())
        except (ValueError, KeyError):
            raise ConfigurationError(f"{self.shown(text)} is not {self.expected} ({self.place}).") from None

    def _read(self, text: str) -> Any:
        if self.kind is str:
            return text
        if self.kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if self.kind is int:
            return int(text) if not text.endswith(".0") else int(text[:-2])
        if self.kind is float:
            number = float(text)
            if not math.isfinite(number) or number < 0:
                raise ValueError
            return number
        if typing.get_origin(self.kind) is Literal:
            choices = typing.get_args(self.kind)
            return choices[choices.index(text)]
        parts = (part.strip() for part in text.split(","))
        return _LISTS[typing.get_origin(self.kind)](part for part in parts if part)


def variables(cls: type, name: str | None = None) -> dict[str, Variable]:
    """The variables that set an attrs class: that of the plugin `name`, or `Settings`."""
    if not attrs.has(cls):
        return {}
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise ConfigurationError(
            f'plugin "{name}": an annotation of {public_name(cls)} means nothing at run time: '
            f"{error}. Import it outside of TYPE_CHECKING."
        ) from None
    found: dict[str, Variable] = {}
    for field in attrs.fields(cls):
        kind, optional = _without_none(hints.get(field.name))
        if not field.init or field.name == "name" or field.name.startswith("_") or not _settable(kind):
            continue
        variable = PREFIX + field.metadata.get("env", f"{name}_{field.name}" if name else field.name).upper()
        found[variable] = Variable(variable, name, cls, field, kind, optional)
    return found


def from_environment(
    environ: Mapping[str, str], points: Sequence[str] = SHIPPED
) -> tuple[Settings, list[object], object]:
    """Settings, plugins (by the names of their entry points, in that order) and the engine that it describes."""
    seated = seats(points)
    known = _known(seated)
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and name != ENGINE:
            raise ConfigurationError(f"{name} is not a setting{_hint(name, known, points)}")
    settings = _build(Settings, None, environ)
    plugins = [_build(cls, chair, environ) for chair, cls in seated]
    return settings, plugins, engine_of(environ.get(ENGINE) or DEFAULT_ENGINE)


def known_variables(points: Sequence[str] = SHIPPED) -> dict[str, Variable]:
    """Every variable but that of the engine, with these plugins. Raises ConfigurationError where two are one."""
    return _known(seats(points))


def _known(seated: Sequence[tuple[str, type]]) -> dict[str, Variable]:
    known: dict[str, Variable] = {}
    for cls, chair in [(Settings, None), *((cls, chair) for chair, cls in seated)]:
        for name, variable in variables(cls, chair).items():
            if (other := known.get(name)) is not None:
                raise ConfigurationError(f"{name} would set both {other.place} and {variable.place}. Rename one field.")
            known[name] = variable
    return known


def plugin_from(environ: Mapping[str, str], point: str) -> Any:
    """One plugin, by the name of its entry point, as the environment describes it."""
    ((chair, cls),) = seats([point])
    return _build(cls, chair, environ)


def _hint(variable: str, known: Collection[str], points: Sequence[str]) -> str:
    for point in set(plugin_points()).difference(points):
        with suppress(ConfigurationError):  # perhaps it is left out because it cannot be loaded
            if variable in known_variables([point]):
                return f': plugin "{point}" is left out.'
    # Without the prefix, which makes everything look alike.
    near = get_close_matches(variable.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in (*known, ENGINE)], 1)
    return f". Did you mean {PREFIX}{near[0]}?" if near else ". All of them: jackfield serve --help"


def _build(cls: type, name: str | None, environ: Mapping[str, str]) -> Any:
    values: dict[str, Any] = {}
    own = variables(cls, name)
    for variable in own.values():
        text = environ.get(variable.name)
        if text is not None and not variable.is_unset(text):
            values[variable.argument] = variable.read(text)
        elif variable.required:
            remedy = variable.field.metadata.get("remedy", "")
            raise ConfigurationError(f'{variable.name} is not set; plugin "{name}" needs it. {remedy}'.rstrip())
        elif (name, variable.field.name) in STANDALONE:
            values[variable.argument] = variable.default
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(_refusal(error, name, own.values(), values, environ)) from None


def _refusal(
    error: Exception,
    name: str | None,
    own: Collection[Variable],
    values: Mapping[str, Any],
    environ: Mapping[str, str],
) -> str:
    """What a class had against its values, with the variable to change: ours begin with the name of the field, those
    of attrs quote it."""
    said = str(error.args[0]) if error.args else type(error).__name__
    for variable in own:
        if variable.secret and (value := values.get(variable.argument)):
            said = said.replace(str(value), "…")
    for variable in own:
        name_of_field = variable.field.name
        if variable.argument in values and (
            said.startswith((f"{name_of_field} ", f"{name_of_field}:")) or f"'{name_of_field}'" in said
        ):
            return f"{variable.shown(environ.get(variable.name, ''))}: {said}."
    return f'plugin "{name}" cannot be made of the environment: {said}.' if name else f"Settings: {said}."
