"""Which events there are: type, class, the hooks they make, and whose they are. Pure; wrong ones stop start-up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from jackfield import events
from jackfield.errors import ConfigurationError
from jackfield.events import ClientEvent, Event, ServerEvent

__all__ = ["CORE", "Registry"]

CORE = "jackfield"

_CLIENT: tuple[type[ClientEvent], ...] = (events.Ping,)
_CONNECTION: tuple[type[ServerEvent], ...] = (events.Hello, events.Pong, events.Ack, events.Error)
_VOCABULARY: tuple[type[ServerEvent], ...] = (
    events.MessageNew,
    events.MessageUpdated,
    events.MessageDeleted,
    events.ReactionAdded,
    events.ReactionRemoved,
    events.TypingStart,
    events.TypingStop,
    events.PresenceUpdated,
    events.ChannelCreated,
    events.ChannelUpdated,
    events.ChannelDeleted,
    events.MemberJoined,
    events.MemberLeft,
    events.ThreadUpdated,
)

# What @on(ClientEvent) and @on(ServerEvent) are called.
_GENERAL = frozenset({"client_event", "server_event"})


class Registry(Mapping[str, type[Event]]):
    """Every event of an application: a mapping from type to class. The specification's own are always there."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Event]] = {}
        self._owners: dict[str, str] = {}
        self._hooks: dict[str, str] = {}
        for event in (*_CLIENT, *_CONNECTION, *_VOCABULARY):
            self.add(CORE, event)

    def add(self, owner: str, event: type[Event]) -> None:
        """Make it known as `owner`'s. Raises ConfigurationError where its type, or the name of its hooks, is taken."""
        if "__event__" not in vars(event):
            raise ConfigurationError(
                f'plugin "{owner}": {event.__name__} names no type. Write class {event.__name__}(…, type="poll.vote").'
            )
        type, name = event.__event__.type, event.__event__.name
        if self._classes.get(type) is event and self._owners[type] == owner:
            return
        if type in self._classes:
            raise ConfigurationError(
                f'"{type}" is registered twice: by {self._owners[type]} and by {owner}. '
                "Leave one out, or rename one type."
            )
        if name in _GENERAL:
            raise ConfigurationError(
                f'plugin "{owner}": on_{name} is the hook of every event, so "{type}" cannot be a type. Rename it.'
            )
        if (other := self._hooks.get(name)) is not None:
            raise ConfigurationError(
                f'"{other}" ({self._owners[other]}) and "{type}" ({owner}) are both on_{name}. Rename one type.'
            )
        self._classes[type] = event
        self._owners[type] = owner
        self._hooks[name] = type

    def __getitem__(self, type: str) -> type[Event]:
        return self._classes[type]

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, item: object) -> bool:
        """Of a type's text, or of a class."""
        if isinstance(item, str):
            return item in self._classes
        return isinstance(item, type) and item in self._classes.values()

    def owner(self, type: str) -> str:
        """The name of the plugin that registered it, or "jackfield"."""
        return self._owners[type]

    def client(self) -> dict[str, type[ClientEvent]]:
        """What a client may say."""
        return {name: event for name, event in self._classes.items() if issubclass(event, ClientEvent)}

    def server(self) -> dict[str, type[ServerEvent]]:
        """What may happen."""
        return {name: event for name, event in self._classes.items() if issubclass(event, ServerEvent)}

    def publishable(self, event: type[Event]) -> bool:
        """Whether a host may publish it: any server event but those that speak of the connection itself."""
        return issubclass(event, ServerEvent) and event not in _CONNECTION and event in self._classes.values()

    def hookable(self) -> Iterable[type[Event]]:
        """Those that have a `before_` and an `on_` hook: all but ping, hello, pong, ack and error, the core's own."""
        return [event for event in self._classes.values() if event not in _CONNECTION and event not in _CLIENT]

    def nearest(self, type: str) -> str | None:
        """What somebody who wrote `type` may have meant."""
        return next(iter(get_close_matches(type, self._classes, 1)), None)
