"""The application: what a host makes, starts and mounts."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from weakref import WeakSet

from anyio.lowlevel import EventLoopToken, current_token
from starlette.routing import Router, WebSocketRoute

from jackfield import _redact, hookspecs
from jackfield._asgi import Edge, deny
from jackfield._body import read_posts
from jackfield._clock import Clock, Deadline, SystemClock, Timer
from jackfield._environ import from_environment
from jackfield._handshake import valid_id
from jackfield._lease import SYSTEM
from jackfield._memory import MemoryEngine
from jackfield._node import Node
from jackfield._opened import opened
from jackfield._plugins import Plugins
from jackfield._points import SHIPPED
from jackfield._settings import Settings
from jackfield._workspace import Workspace
from jackfield.engine import Engine, EngineError
from jackfield.errors import ConfigurationError, Fault, InvalidEvent
from jackfield.events import ID, ServerEvent
from jackfield.serving import drain_on_signals

if TYPE_CHECKING:
    from jackfield._commit import Post
    from jackfield._congestion import Congestion
    from jackfield._registry import Registry

__all__ = ["Jackfield"]

P = ParamSpec("P")
T = TypeVar("T")

NOT_STARTED = (
    "jackfield was not started: pass lifespan=realtime.lifespan to your application, "
    'or "async with realtime.lifespan():" in your own.'
)


class Jackfield:
    """A realtime application, to be mounted in yours: `app.mount("/", realtime)`.

    `plugins` in the order in which they decide. `engine` keeps what connections, restarts and nodes share: the memory
    of this process by default. `settings` are the numbers; `clock` is for tests. Raises ConfigurationError, in one
    line, for what is wired wrongly.
    """

    def __init__(
        self,
        *plugins: object,
        engine: Engine | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.engine: Engine = engine or MemoryEngine()
        self.clock: Clock = clock or SystemClock()
        self.plugins = Plugins(plugins)
        self._running: Node | None = None
        self._loop: EventLoopToken | None = None
        routes = [route for call in self.plugins.calls("register_routes") for route in call.function(self)]
        edge = WebSocketRoute("/ws/{workspace_id}", Edge(self._started))
        self._router = Router([edge, *routes], default=self._nowhere, lifespan=self.lifespan)

    @classmethod
    def from_environ(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        plugins: tuple[str, ...] = SHIPPED,
        clock: Clock | None = None,
    ) -> Jackfield:
        """What `jackfield serve` serves: the shipped plugins, set by `JACKFIELD_…` variables.

        `plugins` are names of entry points of the group `jackfield`. Raises ConfigurationError for an unknown
        variable, a bad value, or one that is missing.
        """
        settings, built, engine = from_environment(os.environ if environ is None else environ, plugins)
        return cls(*built, engine=cast("Engine", engine), settings=settings, clock=clock)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """ASGI: `/ws/{workspace_id}`, and what plugins route."""
        if scope["type"] == "websocket" and not self._started().serving:
            raise ConfigurationError(NOT_STARTED)
        await self._router(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncGenerator[None, None]:
        """Everything runs inside of it: pass it to the host, or enter it in the host's own.

        Raises EngineUnavailable when the engine cannot be reached, and what a plugin's `lifespan` raises.
        """
        if self._running is not None:
            raise ConfigurationError(
                "jackfield was started twice: one lifespan is enough."
                if self._running.serving
                else "a Publisher has this application: end it first, or serve another object."
            )
        async with self._run(Node.run):
            with drain_on_signals(self) if self.settings.drain_on_signals else nullcontext():
                yield

    @asynccontextmanager
    async def publishing(self) -> AsyncGenerator[None, None]:
        """What `Publisher` enters: everything that publishing needs, and nothing more."""
        if self._running is not None:
            raise ConfigurationError(
                "this application is running: publish by its workspace(…), without a Publisher."
                if self._running.serving
                else "a Publisher has this application already: publish by that one, or give this one another object."
            )
        if isinstance(self.engine, MemoryEngine) and not self.engine.is_open:
            raise ConfigurationError(
                "this application's engine is the memory of this process, so nobody would hear what it publishes: "
                "give it an engine that both processes reach, such as RedisEngine.from_url(…)."
            )
        async with self._run(Node.publish):
            yield

    @property
    def served_in(self) -> EventLoopToken | None:
        """The event loop of this process in which it is served, for who is outside of it."""
        return self._loop if self._running is not None and self._running.serving else None

    @asynccontextmanager
    async def _run(self, life: Callable[[Node], AbstractAsyncContextManager[None]]) -> AsyncGenerator[None, None]:
        _redact.install()
        self._loop = current_token()
        self._running = Node(self, self.engine, self.settings, self.clock, self.plugins)
        _run_here.add(self)
        try:
            with opened(self.engine):
                async with life(self._running):
                    yield
        except BaseExceptionGroup as group:
            # The task group inside makes a group of whatever ends it; the host wants the one line.
            raise _alone(group) from None
        finally:
            self._running = None

    # --- what hosts and plugins use

    def workspace(self, id: str) -> Workspace:
        """The workspace of that id; there need be nothing in it. Raises ValueError for what cannot be an id."""
        if not valid_id(id) and id != SYSTEM:
            raise ValueError(f"{id!r} is no id of a workspace: {ID.expected}")
        return Workspace(self, id)

    @property
    def events(self) -> Registry:
        """Every event that is registered: type → class."""
        return self.plugins.registry

    def structure(self, type: object, data: object, path: str = "$") -> ServerEvent:
        """The event that somebody else's JSON means, as the HTTP API takes it: one that may be published.

        Nothing is coerced. Raises InvalidEvent, whose `faults` name every wrong field below `path`.
        """
        event = self.events.get(type) if isinstance(type, str) else None
        if event is None or not issubclass(event, ServerEvent) or not self.events.publishable(event):
            raise InvalidEvent(faults=[Fault(f"{path}.type", "expected the type of a server event")])
        return self.node.wire.structure(event, data, f"{path}.data")

    def read_posts(self, body: bytes) -> list[Post]:
        """What somebody else's JSON asks to publish, as the HTTP API takes it: one event, or a batch under `events`.

        Nothing is guessed. Raises InvalidEvent, whose `faults` name every wrong field.
        """
        return read_posts(body, self.structure)

    @property
    def nodes(self) -> frozenset[str]:
        """The living nodes of this application, as of the last look a few seconds ago."""
        return self.node.roster.lease.nodes

    @property
    def congestion(self) -> Congestion:
        """How far this node's clients are behind with reading."""
        return self.node.pump.lines.congestion

    async def ask(self, question: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask a hook of the verb *first*: `await app.ask(presence_of, workspace)`. None when no plugin answers."""
        if hookspecs.verbs.get(question.__name__) != "first":
            raise TypeError(f"{question.__name__} is no question; those that are: presence_of, channels_of, …")
        calls = self.plugins.calls(question.__name__)
        asked = inspect.signature(question).bind(*args, **kwargs).args  # by name is in any order
        return cast("T", await self.node.dispatcher.first(calls, *asked))

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run a coroutine function beside everything else until it returns, or the application ends. A crash is in
        the log, and ends nothing else."""
        self.node.start_soon(function, *args)

    def call_later(self, seconds: float, function: Callable[..., object], *args: object) -> Timer:
        """Call a plain function in so many seconds, by the application's clock. It must not block. Returns what
        cancels it."""
        return self.node.timers.call_later(seconds, partial(function, *args))

    async def drain(self) -> None:
        """Send everybody elsewhere: no more connections from here on, and those that there are end with 4001, each with
        a moment of its own at which to be back. Returns when they have ended, or `Settings.drain_timeout` is over.

        Everything else goes on, and the lifespan still has to end; its end drains by itself where nobody did. Twice is
        once: the second call waits for the first. Cancelling a call stops the waiting, not the drain.
        """
        await self._started().drain()

    def start_drain(self) -> int:
        """Begin what `drain` does, without waiting for it; how many connections there are still."""
        return self._started().start_drain()

    async def ready(self) -> bool:
        """Whether it takes connections now: it runs, is not ending, and its engine answers."""
        node = self._running
        if node is None or not node.serving or node.draining is not None:
            return False
        try:
            with Deadline(node.timers, self.settings.hook_timeout):
                await self.engine.read(SYSTEM)
        except (EngineError, TimeoutError):
            return False
        return True

    @property
    def node(self) -> Node:
        """What runs between the start and the end of the lifespan; the core's own. Raises ConfigurationError outside
        of it."""
        return self._started()

    def _started(self) -> Node:
        if self._running is None:
            raise ConfigurationError(NOT_STARTED)
        return self._running

    @staticmethod
    async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await deny(scope, send, 404, {})
            return
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


_run_here: WeakSet[Jackfield] = WeakSet()
"""Those that ran in this process."""


def _forked() -> None:
    """What ran in a process does not run in its child."""
    for app in tuple(_run_here):
        app._running = None


if hasattr(os, "register_at_fork"):  # where there is fork
    os.register_at_fork(after_in_child=_forked)


def _alone(error: BaseException) -> BaseException:
    """What is in a group of one, however deep; anything else as it is."""
    inside: Any = getattr(error, "exceptions", ())
    return _alone(inside[0]) if len(inside) == 1 else error
