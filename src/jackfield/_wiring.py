"""What stops the start: methods that look like hooks and are none, marks that nobody would hear, signatures that would
fail at the first call. Each is refused in one line that says what to do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from types import FunctionType
from typing import Any

import attrs

from jackfield import hookspecs
from jackfield._registry import Registry
from jackfield.errors import ConfigurationError
from jackfield.events import ClientEvent, Event, ServerEvent
from jackfield.hookspecs import MARK, PROJECT, Marker

__all__ = ["Wiring", "function_of", "marks_of"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@attrs.frozen
class Wiring:
    """One plugin's, beside the hooks (`specs`) and events that there are."""

    name: str
    plugin: object
    specs: dict[str, Any]
    registry: Registry

    def check(self) -> None:
        """Raises ConfigurationError at the first thing that is wrong."""
        for attribute, function in _methods(self.plugin):
            self._check(attribute, function)

    def has(self, attribute: str) -> bool:
        """Whether it has this method. Raises ConfigurationError where that is wired wrongly."""
        function = dict(_methods(self.plugin)).get(attribute)
        if function is not None:
            self._check(attribute, function)
        return function is not None

    def _check(self, attribute: str, function: Callable[..., Any]) -> None:
        markers = marks_of(self.plugin, attribute)
        options: dict[str, object] | None = getattr(function, f"{PROJECT}_impl", None)
        if markers is None and options is None:
            self._refuse_unmarked(attribute)
            self._refuse_overridden(attribute)
            return
        if len(markers or ()) + (options is not None) > 1:
            raise self._error(f"{attribute} is marked twice. One method hears one event; write a second method.")
        if markers is None:
            hook = attribute
            if hook not in self.specs:
                raise self._error(self._no_hook(hook))
            if any((options or {}).values()):
                raise self._error(f"{hook}: @hookimpl takes no options here. The order is the list.")
        else:
            marker = markers[0]
            if not marker.names_type:
                event = marker.event.__name__
                raise self._error(f'{event} names no type. Write class {event}(…, type="poll.vote").')
            hook = marker.hook
            if hook not in self.specs:
                if marker.optional and marker.event.__event__.type not in self.registry:
                    return
                raise self._error(self._no_owner(marker))
        self._check_signature(attribute, hook)

    def _refuse_unmarked(self, attribute: str) -> None:
        if attribute.startswith(("on_", "before_")):
            if attribute not in self.specs:
                raise self._error(self._no_hook(attribute))
            side, _, about = attribute.partition("_")
            classes: list[type[Event]] = [ClientEvent, ServerEvent, *self.registry.hookable()]
            [event] = [cls for cls in classes if Marker("on", cls, False).hook == f"on_{about}"]
            raise self._error(
                f"{attribute} looks like a hook and is not marked. "
                f"Write @{side}({event.__name__}) above it, or rename it."
            )
        if attribute in hookspecs.verbs:
            raise self._error(
                f"{attribute} looks like a hook and is not marked. Write @hookimpl above it, or rename it."
            )

    def _refuse_overridden(self, attribute: str) -> None:
        """A method that takes the place of a marked one would be no hook any more, and nobody would notice."""
        cls = type(self.plugin)
        for base in cls.__mro__[1:]:
            for marker in _marks(vars(base).get(attribute)) or ():
                raise self._error(
                    f"{attribute} is a hook in {base.__qualname__} and not marked in "
                    f"{cls.__qualname__}. Write @{marker.side}({marker.event.__name__}) above it, or rename it."
                )

    def _check_signature(self, attribute: str, hook: str) -> None:
        spec = self.specs[hook]
        function = getattr(self.plugin, attribute)
        parameters = inspect.signature(function).parameters.values()
        given = ", ".join(spec.argnames) or "none"
        for parameter in parameters:
            asked = parameter.default is parameter.empty
            if parameter.name not in spec.argnames and asked:
                listed = ", ".join(p.name for p in parameters)
                raise self._error(
                    f'{attribute}({listed}): {hook} has no argument "{parameter.name}"; it gives {given}.'
                )
            if parameter.name in spec.argnames and not (asked and parameter.kind in _POSITIONAL):
                raise self._error(
                    f'{attribute} must take "{parameter.name}" by position and without a default; {hook} gives it.'
                )
        asynchronous = inspect.iscoroutinefunction(spec.function)
        if asynchronous and not inspect.iscoroutinefunction(function):
            raise self._error(f'{attribute} must be "async def"; {hook} is asynchronous.')
        if not asynchronous and inspect.iscoroutinefunction(function):
            raise self._error(f'{attribute} must be "def"; {hook} is synchronous.')

    # --- in one line

    def _error(self, what: str) -> ConfigurationError:
        return ConfigurationError(f'plugin "{self.name}": {what}')

    def _no_hook(self, attribute: str) -> str:
        near = get_close_matches(attribute, self.specs, 1)
        hint = f"Did you mean {near[0]}? " if near else ""
        return f"{attribute} is no hook. {hint}(jackfield hooks lists all)"

    def _no_owner(self, marker: Marker) -> str:
        event = marker.event
        type = event.__event__.type
        if type in self.registry:
            return f"{type} is jackfield's own and has no hooks."
        return f"nobody registers {type}. Add its plugin, or write @{marker.side}({event.__name__}, optional=True)."


def function_of(plugin: object, attribute: str) -> FunctionType | None:
    """The function behind a method, a static and a class method's, too; None for what is none, such as a property."""
    found = inspect.getattr_static(type(plugin), attribute, None)
    function = getattr(found, "__func__", found)
    return function if isinstance(function, FunctionType) else None


def marks_of(plugin: object, attribute: str) -> tuple[Marker, ...] | None:
    """What `@before` and `@on` have left on a method; None where there was neither."""
    return _marks(inspect.getattr_static(type(plugin), attribute, None))


def _marks(function: object) -> tuple[Marker, ...] | None:
    return getattr(getattr(function, "__func__", function), MARK, None)


def _methods(plugin: object) -> list[tuple[str, Callable[..., Any]]]:
    found: list[tuple[str, Callable[..., Any]]] = []
    for attribute in dir(type(plugin)):
        function = function_of(plugin, attribute)
        if function is not None and not attribute.startswith("__"):
            found.append((attribute, function))
    return found
