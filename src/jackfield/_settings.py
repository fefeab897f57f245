"""The numbers of an application, and the one rule by which the environment sets them.

`JACKFIELD_<FIELD>` is a field of `Settings`; `JACKFIELD_<NAME>_<FIELD>` is the field of the plugin with that name. A
field's metadata may say another name (`{"env": "SECRET"}`), a unit, and what to do when it is missing. An unknown
name or a bad value stops start-up with a line that says which.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Literal

import attrs

from jackfield.errors import ConfigurationError

__all__ = ["PREFIX", "SHIPPED", "Settings", "from_environment", "variables"]

PREFIX = "JACKFIELD_"
SECONDS = {"unit": "seconds"}

SHIPPED = ("token", "rate_limit", "members", "presence", "reactions", "threads", "typing", "http")
"""The plugins that `jackfield serve` has, by the names of their entry points, in their order."""

STANDALONE: Mapping[tuple[str, str], Any] = {("presence", "client_status"): True, ("token", "refresh"): True}
"""What is on in `serve` and off where an application embeds it."""

DEFAULT_ENGINE = "memory://"


def _positive(_: object, field: attrs.Attribute[Any], value: float) -> None:
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"{field.name} must be more than 0")


def seconds(default: float) -> Any:
    return attrs.field(default=default, validator=_positive, metadata=SECONDS)


def count(default: int) -> Any:
    return attrs.field(default=default, validator=_positive)


@attrs.frozen(kw_only=True)
class Settings:
    """The numbers of an application. Times are in seconds, sizes in bytes."""

    heartbeat_interval: float = seconds(30.0)
    """What clients are told to ping by."""
    heartbeat_timeout: float = seconds(75.0)
    """Silence after which a connection is closed 4003."""
    ping_burst: int = count(10)
    """Pings that a connection may send at once."""
    ping_rate: float = attrs.field(default=1.0, validator=_positive)
    """Pings a second that it may send for good."""
    connections_per_user: int = count(20)
    """Live connections of one user in a workspace; one more is closed 4504."""
    connects_per_address: float = attrs.field(default=20.0, validator=_positive)
    """Upgrades a second from one peer address, each node for itself; more are HTTP 429."""
    max_event_bytes: int = count(16_384)
    """Size of what a client sends; more is closed 1009."""
    outbox_events: int = count(256)
    """Events that wait for a slow connection; more close it 4002."""
    outbox_bytes: int = count(1_048_576)
    """The same in bytes."""
    write_timeout: float = seconds(10.0)
    """How long a write may get nowhere; then the connection is closed 4002."""
    history_events: int = count(10_000)
    """Durable events that a workspace's log keeps."""
    history_bytes: int = count(67_108_864)
    """The same in bytes."""
    history_age: float = seconds(86_400.0)
    """The same by age."""
    hook_timeout: float = seconds(5.0)
    """How long one call of a hook may take."""
    node_lease: float = seconds(15.0)
    """Silence after which a node is taken for dead."""
    drain_timeout: float = seconds(8.0)
    """How long an orderly end may take."""
    revoked_for: float = seconds(2_592_000.0)
    """How long a revocation is remembered: as long as the longest token lives."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers' pages that may connect. Without any, a page's origin must be that of `Host`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose forwarding headers are believed."""
    strict_error_codes: bool = False
    """Only the error codes of the specification: ours become INTERNAL_ERROR, with their name in `data.detail`."""
    reject: Literal["close", "http"] = "close"
    """Refuse a handshake by accepting, an error and a close code, which browsers can read; or by HTTP 401 and 403."""


def variables(name: str | None, cls: type) -> dict[str, attrs.Attribute[Any]]:
    """The variables that set an attrs class: the one of the plugin `name`, or `Settings` (None)."""
    if not attrs.has(cls):
        return {}
    return {
        PREFIX + field.metadata.get("env", (f"{name}_{field.name}" if name else field.name).upper()): field
        for field in attrs.fields(cls)
        if field.init and field.name != "name" and not field.name.startswith("_")
    }


def from_environment(
    environ: Mapping[str, str], names: tuple[str, ...] = SHIPPED
) -> tuple[Settings, list[object], object]:
    """Settings, plugins (by the names of their entry points, in that order) and the engine that it describes."""
    classes = {name: _plugin_class(name) for name in names}
    known: dict[str, tuple[str | None, attrs.Attribute[Any]]] = {}
    for name, cls in [(None, Settings), *classes.items()]:
        for variable, field in variables(name, cls).items():
            if variable in known:
                raise ConfigurationError(
                    f"{variable} would set both {known[variable][0] or 'Settings'} and {name}. Rename one field."
                )
            known[variable] = (name, field)
    engine_variable = PREFIX + "ENGINE"
    for variable in environ:
        if variable.startswith(PREFIX) and variable not in known and variable != engine_variable:
            near = get_close_matches(variable, [*known, engine_variable], 1)
            raise ConfigurationError(
                f"{variable} is not a setting." + (f" Did you mean {near[0]}?" if near else " (jackfield serve --help)")
            )
    settings = _build(None, Settings, environ)
    plugins = [_build(name, cls, environ) for name, cls in classes.items()]
    return settings, plugins, _engine(environ.get(engine_variable) or DEFAULT_ENGINE)


def _plugin_class(name: str) -> type:
    for point in entry_points(group="jackfield", name=name):
        try:
            loaded = point.load()
        except ImportError as error:
            raise ConfigurationError(
                f'plugin "{name}" cannot be loaded: {error}. Install what it needs: pip install "jackfield[all]".'
            ) from error
        if isinstance(loaded, type):
            return loaded
        raise ConfigurationError(f'the entry point "{name}" must name a class; {point.value} is none.')
    known = sorted({point.name for point in entry_points(group="jackfield")})
    near = get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
    raise ConfigurationError(f'no plugin is called "{name}". {hint}')


def _build(name: str | None, cls: type, environ: Mapping[str, str]) -> Any:
    values: dict[str, Any] = {}
    hints = typing.get_type_hints(cls) if attrs.has(cls) else {}
    for variable, field in variables(name, cls).items():
        where = f"{cls.__module__}.{cls.__qualname__}.{field.name}" if name else f"Settings.{field.name}"
        if variable in environ and (environ[variable] or field.default is not attrs.NOTHING):
            value = _value(environ[variable], hints[field.name], variable, field, where)
            values[field.alias] = value
        elif (name, field.name) in STANDALONE:
            values[field.alias] = STANDALONE[name or "", field.name]
        elif field.default is attrs.NOTHING:
            remedy = field.metadata.get("remedy", "")
            raise ConfigurationError(f'{variable} is not set; plugin "{name}" needs it. {remedy}'.rstrip())
    try:
        return cls(**values)
    except ValueError as error:
        for variable, field in variables(name, cls).items():
            if field.alias in values and str(error).startswith(field.name):
                shown = variable if not field.repr else f'{variable}="{environ.get(variable, "")}"'
                raise ConfigurationError(f"{shown}: {error}.") from None
        raise ConfigurationError(f"{name or 'Settings'}: {error}.") from None


def _value(text: str, kind: Any, variable: str, field: attrs.Attribute[Any], where: str) -> Any:
    text = text.strip()
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    expected = "valid"
    try:
        if kind is bool:
            expected = "true or false"
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if kind is int:
            expected = "a whole number"
            return int(text)
        if kind is float:
            expected = "a number" + (f" of {field.metadata['unit']}" if "unit" in field.metadata else "")
            number = float(text)
            if not math.isfinite(number) or number < 0:
                raise ValueError
            return number
        if typing.get_origin(kind) is Literal:
            choices = typing.get_args(kind)
            expected = "one of " + ", ".join(choices)
            return choices[choices.index(text)]
        if typing.get_origin(kind) is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if kind is str:
            return text
    except (ValueError, KeyError):
        shown = f'{variable}="{text}"' if field.repr else variable
        raise ConfigurationError(f"{shown} is not {expected} ({where}).") from None
    raise ConfigurationError(f"{variable} cannot be set by the environment: {where} is {kind}.")


def _engine(url: str) -> object:
    scheme = url.partition("://")[0]
    for point in entry_points(group="jackfield.engines", name=scheme):
        return point.load().from_url(url)
    known = sorted({point.name for point in entry_points(group="jackfield.engines")})
    raise ConfigurationError(
        f"{PREFIX}ENGINE: no engine for {scheme}://. There are: {', '.join(f'{name}://' for name in known)}."
    )
