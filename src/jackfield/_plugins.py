"""One pluggy manager an application: who sits in which chair, in which order, and who is called for what.

pluggy keeps the hook table; what it would let pass in silence is refused here and in `_wiring`.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from types import FunctionType, ModuleType
from typing import Any, cast

import pluggy

from jackfield import hookspecs
from jackfield._dispatch import Call
from jackfield._registry import Registry
from jackfield._wiring import Wiring, function_of, marks_of
from jackfield.errors import ConfigurationError
from jackfield.events import ClientEvent, Event, ServerEvent
from jackfield.hookspecs import PROJECT

__all__ = ["Plugins"]

_serving: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
"""Every plugin object that has an application, by identity. A plugin keeps state, so two applications must not share
one."""


class _Manager(pluggy.PluginManager):
    """pluggy, told which method implements which hook."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        if (markers := marks_of(plugin, name)) is not None:
            return pluggy.HookimplOpts(
                wrapper=False,
                hookwrapper=False,
                optionalhook=markers[0].optional,
                tryfirst=False,
                trylast=False,
                specname=markers[0].hook,
            )
        if function_of(plugin, name) is None:
            return None  # before 1.6 pluggy reads what a property says
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
            Wiring(name, plugin, self._specs(), self.registry).check()
        for name, plugin in self.objects.items():
            self._manager.register(plugin, name)
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

    def _calls(self, hook: str) -> list[tuple[tuple[int, int], Call]]:
        caller = getattr(self._manager.hook, hook, None)
        if caller is None or caller.spec is None:
            return []
        given = caller.spec.argnames
        return [
            (
                (self.names.index(implementation.plugin_name), _line(implementation.plugin, implementation.function)),
                Call(
                    implementation.plugin_name, hook, _taking(implementation.function, given, implementation.argnames)
                ),
            )
            for implementation in caller.get_hookimpls()
        ]

    # --- start-up

    def _seat(self, plugin: object) -> None:
        if isinstance(plugin, type):
            raise ConfigurationError(f"{plugin.__qualname__} is a class. Pass an object: {plugin.__qualname__}(…).")
        if isinstance(plugin, ModuleType):
            raise ConfigurationError(f"{plugin.__name__} is a module. Pass an object of a class that has the hooks.")
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
        # It tells which hooks there are, so it is looked at before the others can be.
        if not Wiring(name, plugin, self._specs(), self.registry).has("register_events"):
            return ()
        answer: Any = cast("Any", plugin).register_events()
        events: tuple[Any, ...] = tuple(answer) if hasattr(answer, "__iter__") else (None,)
        if not all(isinstance(event, type) and issubclass(event, ClientEvent | ServerEvent) for event in events):
            raise ConfigurationError(
                f'plugin "{name}": register_events must return event classes, as in "return PollVote, PollUpdated".'
            )
        return events


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


def _line(plugin: object, function: Callable[..., Any]) -> int:
    """Which of a plugin's methods it is, in the order in which they are written, those of its bases first."""
    written = list(dict.fromkeys(name for cls in reversed(type(plugin).__mro__) for name in vars(cls)))
    return written.index(function.__name__) if function.__name__ in written else len(written)


def _taking(function: Callable[..., Any], given: Sequence[str], wanted: Sequence[str]) -> Callable[..., Any]:
    """The function, taking all that the hook gives although it wants only some of it."""
    if tuple(wanted) == tuple(given):
        return function
    places = [given.index(name) for name in wanted]
    return lambda *args: function(*[args[place] for place in places])


def _path(plugin: object) -> str:
    return f"{type(plugin).__module__}.{type(plugin).__qualname__}"
