"""One pluggy manager an application: names, order, colours, and the errors that stop start-up.

pluggy keeps the hook table. What it would let pass in silence (a method that looks like a hook and is none, a plain
function where a coroutine is awaited, two plugins in one chair) is refused here, in one line that says what to do.
"""

from __future__ import annotations

import inspect
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from types import FunctionType
from typing import Any, cast

import pluggy

from jackfield import hookspecs
from jackfield._dispatch import Call
from jackfield._registry import Registry
from jackfield.errors import ConfigurationError
from jackfield.events import ClientEvent, Event, ServerEvent
from jackfield.hookspecs import MARK, PROJECT, Marker

__all__ = ["Plugins"]

_serving: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
"""Every plugin object that has an application, by identity. A plugin keeps state, so two applications must not share
one."""


class _Manager(pluggy.PluginManager):
    """pluggy, told which method implements which hook."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if (markers := _markers(plugin, name)) is not None:
            return pluggy.HookimplOpts(
                wrapper=False,
                hookwrapper=False,
                optionalhook=markers[0].optional,
                tryfirst=False,
                trylast=False,
                specname=markers[0].hook,
            )
        return super().parse_hookimpl_opts(plugin, name)


class Plugins:
    """The plugins of one application, in the order of the list."""

    def __init__(self, plugins: Sequence[object]) -> None:
        self.names: list[str] = []
        self.objects: dict[str, object] = {}
        self.registry = Registry()
        self._manager = _Manager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for plugin in plugins:
            self._seat(plugin)
        for name, plugin in self.objects.items():
            for event in self._registered(name, plugin):
                self.registry.add(name, event)
        self._manager.add_hookspecs(_event_specs(self.registry))
        for name, plugin in self.objects.items():
            self._scan(name, plugin)
        for name in reversed(self.names):  # pluggy calls the last registered first; the list is the order
            self._manager.register(self.objects[name], name)
        for hook, remedy in _REQUIRED.items():
            if not self.calls(hook):
                raise ConfigurationError(f"nobody answers {hook}. {remedy}")
        _serving.update((id(plugin), plugin) for plugin in plugins)

    # --- what the rest of the core asks

    def calls(self, hook: str) -> tuple[Call, ...]:
        """Who implements a hook, in the order of the list."""
        return tuple(call for _, call in sorted(self._calls(hook), key=lambda pair: pair[0]))

    def before(self, event: type[Event]) -> tuple[Call, ...]:
        """Who decides about an event: `@before(E)` and `@before(ClientEvent or ServerEvent)`, in one order."""
        return self._about("before", event)

    def on(self, event: type[Event]) -> tuple[Call, ...]:
        """Who acts on an event, or observes it."""
        return self._about("on", event)

    def hooks(self) -> list[str]:
        """Every hook there is, by name."""
        return sorted(self._specs())

    def _specs(self) -> dict[str, Any]:
        # One without is that of an event that nobody registers, and a method with `optional=True`.
        callers = vars(self._manager.hook).items()
        return {name: caller.spec for name, caller in callers if not name.startswith("_") and caller.spec is not None}

    def _about(self, side: str, event: type[Event]) -> tuple[Call, ...]:
        kind = "client_event" if issubclass(event, ClientEvent) else "server_event"
        pairs = [*self._calls(f"{side}_{event.__event__.name}"), *self._calls(f"{side}_{kind}")]
        return tuple(call for _, call in sorted(pairs, key=lambda pair: pair[0]))

    def _calls(self, hook: str) -> list[tuple[int, Call]]:
        caller = getattr(self._manager.hook, hook, None)
        if caller is None or caller.spec is None:
            return []
        given = caller.spec.argnames
        return [
            (
                self.names.index(implementation.plugin_name),
                Call(
                    implementation.plugin_name, hook, _taking(implementation.function, given, implementation.argnames)
                ),
            )
            for implementation in reversed(caller.get_hookimpls())
        ]

    # --- start-up

    def _seat(self, plugin: object) -> None:
        if isinstance(plugin, type):
            raise ConfigurationError(f"{plugin.__qualname__} is a class. Pass an object: {plugin.__qualname__}(…).")
        name = getattr(plugin, "name", None)
        if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ConfigurationError(f'{_path(plugin)} has no name. Give it one: name: str = "polls" (a-z, 0-9, _).')
        if (seated := self.objects.get(name)) is not None:
            raise ConfigurationError(
                f'two plugins are called "{name}": {_path(seated)} and {_path(plugin)}. '
                "Leave one out, or give one another name=."
            )
        if _serving.get(id(plugin)) is plugin:
            raise ConfigurationError(f'plugin "{name}" already serves another application. Make a second object.')
        try:
            weakref.ref(plugin)
        except TypeError:
            raise ConfigurationError(
                f'plugin "{name}": {type(plugin).__qualname__} has slots without "__weakref__". Add it to them.'
            ) from None
        self.names.append(name)
        self.objects[name] = plugin

    def _registered(self, name: str, plugin: object) -> Iterable[type[Event]]:
        attribute = "register_events"
        function = dict(_methods(plugin)).get(attribute)
        if function is None:
            return ()
        self._check(name, plugin, attribute, function, self._specs())
        answer: object = getattr(plugin, attribute)()
        events: tuple[Any, ...] = tuple(cast("Iterable[Any]", answer)) if isinstance(answer, Iterable) else (None,)
        if not all(isinstance(event, type) and issubclass(event, ClientEvent | ServerEvent) for event in events):
            raise ConfigurationError(
                f'plugin "{name}": register_events must return event classes, as in "return PollVote, PollUpdated".'
            )
        return events

    def _scan(self, name: str, plugin: object) -> None:
        """Refuse, in our words, what pluggy would refuse in its own or not see at all."""
        specs = self._specs()
        for attribute, function in _methods(plugin):
            self._check(name, plugin, attribute, function, specs)

    def _check(
        self, name: str, plugin: object, attribute: str, function: Callable[..., Any], specs: dict[str, Any]
    ) -> None:
        markers = _markers(plugin, attribute)
        options: dict[str, object] | None = getattr(function, f"{PROJECT}_impl", None)
        if markers is None and options is None:
            self._refuse_unmarked(name, attribute, specs)
            self._refuse_overridden(name, type(plugin), attribute)
            return
        if len(markers or ()) + (options is not None) > 1:
            raise ConfigurationError(
                f'plugin "{name}": {attribute} is marked twice. One method hears one event; write a second method.'
            )
        if markers is None:
            hook = attribute
            if hook not in specs:
                raise ConfigurationError(f'plugin "{name}": {_no_hook(hook, specs)}')
            if any((options or {}).values()):
                raise ConfigurationError(
                    f'plugin "{name}": {hook}: @hookimpl takes no options here. The order is the list.'
                )
        else:
            marker = markers[0]
            if not marker.names_type:
                raise ConfigurationError(_no_type(name, marker.event))
            hook = marker.hook
            if hook not in specs:
                if marker.optional and marker.event.__event__.type not in self.registry:
                    return
                raise ConfigurationError(_no_owner(name, marker, self.registry))
        self._check_signature(name, plugin, attribute, hook, specs[hook])

    def _refuse_unmarked(self, name: str, attribute: str, specs: dict[str, Any]) -> None:
        if attribute.startswith(("on_", "before_")):
            if attribute not in specs:
                raise ConfigurationError(f'plugin "{name}": {_no_hook(attribute, specs)}')
            side, _, about = attribute.partition("_")
            classes = (ClientEvent, ServerEvent, *self.registry.hookable())
            [event] = [cls for cls in classes if Marker("on", cls, False).hook == f"on_{about}"]
            raise ConfigurationError(
                f'plugin "{name}": {attribute} looks like a hook and is not marked. '
                f"Write @{side}({event.__name__}) above it, or rename it."
            )
        if attribute in hookspecs.verbs:
            raise ConfigurationError(
                f'plugin "{name}": {attribute} looks like a hook and is not marked. '
                "Write @hookimpl above it, or rename it."
            )

    @staticmethod
    def _refuse_overridden(name: str, cls: type, attribute: str) -> None:
        """A method that takes the place of a marked one would be no hook any more, and nobody would notice."""
        for base in cls.__mro__[1:]:
            for marker in getattr(vars(base).get(attribute), MARK, ()):
                raise ConfigurationError(
                    f'plugin "{name}": {attribute} is a hook in {base.__qualname__} and not marked in '
                    f"{cls.__qualname__}. Write @{marker.side}({marker.event.__name__}) above it, or rename it."
                )

    @staticmethod
    def _check_signature(name: str, plugin: object, attribute: str, hook: str, spec: Any) -> None:
        function = getattr(plugin, attribute)
        parameters = inspect.signature(function).parameters.values()
        given = ", ".join(spec.argnames) or "none"
        for parameter in parameters:
            asked = parameter.default is parameter.empty
            if parameter.name not in spec.argnames and asked:
                listed = ", ".join(p.name for p in parameters)
                raise ConfigurationError(
                    f'plugin "{name}": {attribute}({listed}): '
                    f'{hook} has no argument "{parameter.name}"; it gives {given}.'
                )
            if parameter.name in spec.argnames and not (asked and parameter.kind in _POSITIONAL):
                raise ConfigurationError(
                    f'plugin "{name}": {attribute} must take "{parameter.name}" by position and without a default; '
                    f"{hook} gives it."
                )
        asynchronous = inspect.iscoroutinefunction(spec.function)
        if asynchronous and not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f'plugin "{name}": {attribute} must be "async def"; {hook} is asynchronous.')
        if not asynchronous and inspect.iscoroutinefunction(function):
            raise ConfigurationError(f'plugin "{name}": {attribute} must be "def"; {hook} is synchronous.')


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_REQUIRED = {
    "authenticate": "Add TokenAuth(verify=…) or JWTAuth(…), or implement authenticate in a plugin of yours.",
    "channels_of": "Add Members(), or OpenWorkspace() where everyone sees everything, "
    "or implement channels_of from your database.",
}


def _event_specs(registry: Registry) -> type:
    """A namespace with the specification of each event's two hooks, which is what pluggy reads."""

    async def client_hook(session: object, event: object) -> None: ...
    async def before_server_hook(transaction: object, event: object) -> None: ...
    async def on_server_hook(workspace: object, event: object) -> None: ...

    namespace: dict[str, object] = {}

    def specify(name: str, template: Callable[..., Any]) -> None:
        assert isinstance(template, FunctionType), "the templates stand above"
        # A copy for each, under its name; static, so that pluggy sees all of the arguments.
        function = FunctionType(template.__code__, template.__globals__, name)
        namespace[name] = staticmethod(pluggy.HookspecMarker(PROJECT)(function))

    events = registry.hookable()
    for kind in ("client_event", *(event.__event__.name for event in events if issubclass(event, ClientEvent))):
        specify(f"before_{kind}", client_hook)
        specify(f"on_{kind}", client_hook)
    for kind in ("server_event", *(event.__event__.name for event in events if issubclass(event, ServerEvent))):
        specify(f"before_{kind}", before_server_hook)
        specify(f"on_{kind}", on_server_hook)
    return type("EventSpecs", (), namespace)


def _methods(plugin: object) -> list[tuple[str, Callable[..., Any]]]:
    found: list[tuple[str, Callable[..., Any]]] = []
    for attribute in dir(type(plugin)):
        function = inspect.getattr_static(type(plugin), attribute)
        function = getattr(function, "__func__", function)  # static and class methods
        if isinstance(function, FunctionType) and not attribute.startswith("__"):
            found.append((attribute, function))
    return found


def _markers(plugin: object, attribute: str) -> tuple[Marker, ...] | None:
    function = inspect.getattr_static(type(plugin), attribute, None)
    return getattr(getattr(function, "__func__", function), MARK, None)


def _taking(function: Callable[..., Any], given: Sequence[str], wanted: Sequence[str]) -> Callable[..., Any]:
    """The function, taking all that the hook gives although it wants only some of it."""
    if tuple(wanted) == tuple(given):
        return function
    places = [given.index(name) for name in wanted]
    return lambda *args: function(*[args[place] for place in places])


def _path(plugin: object) -> str:
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"


def _no_hook(attribute: str, specs: dict[str, Any]) -> str:
    near = get_close_matches(attribute, specs, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return f"{attribute} is no hook. {hint}(jackfield hooks lists all)"


def _no_type(name: str, event: type[Event]) -> str:
    return f'plugin "{name}": {event.__name__} names no type. Write class {event.__name__}(…, type="poll.vote").'


def _no_owner(name: str, marker: Marker, registry: Registry) -> str:
    event = marker.event
    type = event.__event__.type
    if type in registry:
        return f'plugin "{name}": {type} is jackfield\'s own and has no hooks.'
    return (
        f'plugin "{name}": nobody registers {type}. Add its plugin, or write '
        f"@{marker.side}({event.__name__}, optional=True)."
    )
