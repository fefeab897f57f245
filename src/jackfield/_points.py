"""The door for strangers: plugins and engines by the names of their entry points. Embedded, nothing is discovered;
`jackfield serve` and `from_environ` come through here."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

import attrs

from jackfield.errors import ConfigurationError

__all__ = ["SHIPPED", "engine_of", "plugin_points", "public_name", "seats"]

SHIPPED = ("token", "rate_limit", "members", "presence", "reactions", "threads", "typing", "http")
"""The plugins that `jackfield serve` has, by the names of their entry points, in their order."""

EXTRAS = {"jwt": "jwt"}
"""Which extra brings a module that is missing; any other is in `all`."""


def public_name(cls: type) -> str:
    """`jackfield_auth.JWTAuth`, wherever in its package it is written."""
    module = cls.__module__
    while "." in module and getattr(sys.modules.get(module.rpartition(".")[0]), cls.__qualname__, None) is cls:
        module = module.rpartition(".")[0]
    return f"{module}.{cls.__qualname__}"


def plugin_points() -> list[str]:
    """The names of all plugins that are installed."""
    return sorted(_installed())


def seats(points: Sequence[str]) -> list[tuple[str, type]]:
    """(name, class) of the plugins behind these entry points. Raises ConfigurationError where there is none, or where
    two want one chair."""
    installed = _installed()  # once: it reads the metadata of every distribution
    taken: dict[str, type] = {}
    for point in points:
        cls = _load(point, installed)
        chair = _chair(point, cls)
        if (seated := taken.setdefault(chair, cls)) is not cls:
            raise ConfigurationError(
                f'two plugins are called "{chair}": {public_name(seated)} and {public_name(cls)}. '
                "Leave one out, or give one another name=."
            )
    return list(taken.items())


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group="jackfield")}


def _load(point: str, installed: Mapping[str, EntryPoint]) -> type:
    if (entry := installed.get(point)) is None:
        near = get_close_matches(point, installed, 1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(installed))}."
        raise ConfigurationError(f'no plugin is called "{point}". {hint}')
    try:
        loaded = entry.load()
    except (ImportError, AttributeError) as error:
        extra = EXTRAS.get(getattr(error, "name", None) or "", "all")
        raise ConfigurationError(
            f'plugin "{point}" cannot be loaded: {error}. Install what it needs: pip install "jackfield[{extra}]".'
        ) from None
    if not isinstance(loaded, type):
        raise ConfigurationError(f'the entry point "{point}" must name a class; {entry.value} is none.')
    return loaded


def _chair(point: str, cls: type) -> str:
    """The name of the plugin, which its variables bear: that of the class, where it has one."""
    if attrs.has(cls):
        field = attrs.fields_dict(cls).get("name")
        name = None if field is None else field.default
    else:
        name = getattr(cls, "name", None)
    return name if isinstance(name, str) else point


def engine_of(url: str) -> object:
    """The engine behind a URL, by its scheme: an entry point of the group `jackfield.engines`."""
    scheme, separator, _ = url.partition("://")
    known = ", ".join(sorted({f"{point.name}://" for point in entry_points(group="jackfield.engines")}))
    if not separator:  # not shown: there may be a password in it
        raise ConfigurationError(f"JACKFIELD_ENGINE is no URL. There are: {known}.")
    for point in entry_points(group="jackfield.engines", name=scheme):
        try:
            return point.load().from_url(url)
        except ImportError as error:
            ours = point.module.startswith("jackfield_")
            extra = point.module.removeprefix("jackfield_") if ours else scheme
            raise ConfigurationError(
                f"JACKFIELD_ENGINE: {scheme}:// cannot be loaded: {error}. Install what it needs: "
                f'pip install "jackfield[{extra}]".'
            ) from None
        except ValueError as error:
            raise ConfigurationError(f"JACKFIELD_ENGINE: {error}.") from None
    raise ConfigurationError(f"JACKFIELD_ENGINE: no engine for {scheme}://. There are: {known}.")
