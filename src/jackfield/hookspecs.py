"""Every fixed hook: what a plugin may answer, decide or hear. Two more exist for every event: `@before(E)` and
`@on(E)`.

A plugin is any object with a `name`; it implements a hook by a method of that name under `@hookimpl`, and takes those
of the hook's arguments that it wants. Which of the five verbs calls it stands above each hook:

- **collect**: everyone's result; **first**: the first answer that is not None, in the order of the list;
- **notify**: everyone, and one that fails does not keep it from the others; **wrap**: a context manager around it all;
- **pipe**: one after the other, each given what the one before it left (`@before`).

A question can be asked by anybody: `await app.ask(presence_of, workspace)`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import pluggy

from jackfield.events import ClientEvent, Event, ServerEvent, Status

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from starlette.routing import BaseRoute

    from jackfield._app import Jackfield
    from jackfield._audience import Audience
    from jackfield._commit import Post
    from jackfield._handshake import Handshake, Principal
    from jackfield._roster import Attendance, Cause
    from jackfield._session import Session
    from jackfield._state import Transaction
    from jackfield._workspace import Workspace

__all__ = [
    "PROJECT",
    "Marker",
    "Verb",
    "audience_of",
    "authenticate",
    "before",
    "cell_due",
    "channels_of",
    "held_for",
    "hookimpl",
    "initial_state",
    "lifespan",
    "on",
    "presence_of",
    "register_events",
    "register_routes",
    "roster_changed",
    "session_closed",
    "session_opened",
    "verbs",
]

PROJECT = "jackfield"
F = TypeVar("F", bound=Callable[..., Any])

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a method of a plugin as the hook that it is named after."""

Verb = Literal["collect", "first", "notify", "pipe", "wrap"]


class Marker(NamedTuple):
    """What `@before(E)` and `@on(E)` leave on a method."""

    side: Literal["before", "on"]
    event: type[Event]
    optional: bool

    @property
    def names_type(self) -> bool:
        """Whether there is a hook for it: a base of a family of events has none."""
        return self.event in _KINDS or "__event__" in vars(self.event)

    @property
    def hook(self) -> str:
        """The name of the hook that it implements."""
        if (known := _KINDS.get(self.event)) is not None:
            return f"{self.side}_{known}"
        return f"{self.side}_{self.event.__event__.name}"


_KINDS: dict[type[Event], str] = {ClientEvent: "client_event", ServerEvent: "server_event"}
MARK = "__jackfield_markers__"


def before(event: type[Event], *, optional: bool = False) -> Callable[[F], F]:
    """Decide: this method is asked before the event takes effect.

    Of a client event it gets `(session, event)` and raises to refuse, returns an event to replace it, or None to
    consent. Of a server event it gets `(transaction, event)`, inside the commit: it reads and writes through the
    transaction, and awaits nothing else; raises to veto, returns a list to publish that instead (`[event, more]`
    adds, `[]` swallows, a `Post` says to whom), or None to consent. It may run again, when somebody else changed what
    it read. `ClientEvent` and `ServerEvent` stand for all of their kind. `optional` allows an event that no plugin
    registers.
    """
    return _marking(Marker("before", event, optional))


def on(event: type[Event], *, optional: bool = False) -> Callable[[F], F]:
    """Act: this method hears of the event.

    Of a client event it gets `(session, event)` and is what handles it: when it returns the client is acknowledged;
    raising a `Refused` answers with its code, anything else with INTERNAL_ERROR. Of a server event it gets
    `(workspace, event)`, once, in the process that published, after the fan-out, at most once if that process dies:
    whatever must not be missed is decided, not observed.
    """
    return _marking(Marker("on", event, optional))


def _marking(marker: Marker) -> Callable[[F], F]:
    if not _is_event(marker.event):  # as where the parentheses were forgotten
        raise TypeError(f"@{marker.side} takes the class of an event: @{marker.side}(MessageNew)")

    def mark(method: F) -> F:
        function = getattr(method, "__func__", method)  # of a static or class method
        setattr(function, MARK, (*getattr(function, MARK, ()), marker))
        return method

    return mark


def _is_event(event: object) -> bool:
    return isinstance(event, type) and issubclass(event, Event)


verbs: dict[str, Verb] = {}
_hookspec = pluggy.HookspecMarker(PROJECT)


def _spec(verb: Verb) -> Callable[[F], F]:
    def mark(function: F) -> F:
        verbs[function.__name__] = verb
        return _hookspec(function)

    return mark


# --- Asked at start-up


@_spec("collect")
def register_events() -> Iterable[type[ClientEvent | ServerEvent]]:
    """The events that are this plugin's: their types become known, and their hooks exist.

    Example: `return PollVote, PollUpdated`
    """
    raise NotImplementedError


@_spec("collect")
def register_routes(app: Jackfield) -> Iterable[BaseRoute]:
    """Starlette routes that stand beside `/ws/{workspace_id}`, under the path where the application is mounted.

    Example: `return [Route("/polls", self.list_polls)]`
    """
    raise NotImplementedError


@_spec("wrap")
def lifespan(app: Jackfield) -> AbstractAsyncContextManager[None]:
    """A context manager around the life of the application, the first plugin outermost. Long work is `app.start_soon`
    in it, never a task group of one's own across its `yield`.

    Example: `app.start_soon(self.follow, app); yield`
    """
    raise NotImplementedError


@_spec("collect")
def held_for() -> float | None:
    """For how many seconds it goes unnoticed that a user has no connection. A drain has every client back in half of
    it, the least that anybody answers. None: it does not matter here.

    Example: `return self.grace`
    """
    raise NotImplementedError


# --- A connection


@_spec("first")
async def authenticate(handshake: Handshake) -> Principal | None:
    """Who is it? None: not mine to say; when nobody says, INVALID_TOKEN. Raise InvalidToken or Unauthorized to refuse;
    anything else that is raised closes 1013, and the client comes back.

    Example: `return Principal(handshake.session["user_id"])`
    """
    raise NotImplementedError


@_spec("first")
async def channels_of(workspace: Workspace, user_id: str) -> Collection[str] | None:
    """Which channels does this user see now? Asked once a connection; from there on the log's `member.*` and
    `channel.*` move it. Raise Unauthorized: he may not enter. `ALL_CHANNELS`: every one there is.

    Example: `return await self.db.channels(workspace.id, user_id)`
    """
    raise NotImplementedError


@_spec("notify")
async def session_opened(session: Session) -> None:
    """A connection stands, and nothing has been sent; what is sent here waits behind `hello`.

    Example: `self.sessions.add(session)`
    """
    raise NotImplementedError


@_spec("collect")
async def initial_state(session: Session) -> object | None:
    """What a client has to know first: `hello.data.state[<the plugin's name>]`. None: no key. Raising closes 1011,
    since half a state is worse than none. It is asked again where the workspace has moved on meanwhile, so it only
    reads.

    Example: `return [{"poll_id": id} for id in await session.workspace.all(POLLS)]`
    """
    raise NotImplementedError


@_spec("notify")
async def session_closed(session: Session, code: int) -> None:
    """A connection is gone; `code` is the close code, ours or the client's. Shielded from cancellation, and bounded.

    Example: `self.sessions.discard(session)`
    """
    raise NotImplementedError


# --- Inside a commit


@_spec("first")
async def audience_of(transaction: Transaction, event: ServerEvent) -> Audience | None:
    """Who sees it, when the publisher did not say? Asked before the event's own `audience()`. Raise UnknownAudience:
    nobody must. It awaits nothing but its transaction.

    Example: `return await transaction.get(AUDIENCES, event.id) if isinstance(event, MessageUpdated) else None`
    """
    raise NotImplementedError


@_spec("collect")
async def roster_changed(
    transaction: Transaction, user_id: str, before: Attendance, after: Attendance, cause: Cause
) -> Sequence[ServerEvent | Post] | None:
    """A user's connections in the workspace changed, over all nodes (or he was revoked, connected or not); what is
    returned is published in the same commit, and so exactly once. It awaits nothing but its transaction, and may run
    again.

    Example: `return [CameIn(user_id)] if not before.connections else None`
    """
    raise NotImplementedError


@_spec("collect")
async def cell_due(transaction: Transaction, state: str, key: str) -> Sequence[ServerEvent | Post] | None:
    """The time of a cell that was written with `due=` has come; asked of every plugin, on one node, until the cell is
    written anew or gone. `state` is the name of its `State`. A cell that nobody rewrites is deleted.

    Example: `return [PollEnded(key)] if state == POLLS.name else None`
    """
    raise NotImplementedError


# --- Questions


@_spec("first")
async def presence_of(workspace: Workspace) -> Mapping[str, Status] | None:
    """Who is online or away in the workspace? The HTTP API asks it.

    Example: `return {"alice": "online"}`
    """
    raise NotImplementedError
