"""An application, or several on one engine, and clients of it, in one task group and without a socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import anyio
import attrs

from jackfield import Handshake, Jackfield, MemoryEngine, Principal, Settings, Workspace, hookimpl
from jackfield.events import Hello
from jackfield.testing._client import Client
from jackfield.testing._clock import FakeClock, settle
from jackfield.testing._link import Link
from jackfield.testing._transport import UVICORN, Profile, Transport

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from jackfield.engine import Engine

__all__ = ["Bench", "BenchNode", "bench"]

WORKSPACE = "w"
PRINCIPAL = "jackfield.bench"

CLEANING = 60
"""Seconds of the clock that the end of a node may take."""


@attrs.define(eq=False)
class _Anybody:
    """Authenticates whom the test says, where no plugin does."""

    name: str = "bench_auth"

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        principal: Principal | None = handshake.scope.get(PRINCIPAL)
        return principal


@attrs.define(eq=False)
class _Seen:
    """Shows the channels that the test says, where no plugin does."""

    channels: dict[tuple[str, str], Collection[str]]
    name: str = "bench_members"

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        return self.channels.get((workspace.id, user_id), ())


class BenchNode:
    """One node of a bench: an application, its link to the engine, and its life."""

    def __init__(self, app: Jackfield, link: Link, tasks: TaskGroup) -> None:
        self.app = app
        self.link = link
        self._tasks = tasks
        self._life = anyio.CancelScope()
        self._stop = anyio.Event()
        self._started = anyio.Event()
        self._stopped = anyio.Event()
        self._failed: BaseException | None = None
        self._servings: set[anyio.CancelScope] = set()
        self._transports: list[Transport] = []

    async def start(self) -> None:
        """Enter its lifespan."""
        self._tasks.start_soon(self._live)
        await self._started.wait()
        if self._failed is not None:
            raise self._failed

    async def stop(self) -> None:
        """Leave its lifespan in order."""
        self._stop.set()
        await self._stopped.wait()

    async def stopping(self, clock: FakeClock) -> None:
        """Until it has ended, with time going on and every client reading: what it still waits for is bounded."""
        for transport in self._transports:
            transport.read_on()
        for _ in range(CLEANING):
            if self._stopped.is_set() or not self._started.is_set():
                return
            await clock.advance(1)

    async def crash(self) -> None:
        """Die at once: nothing is cleaned up, nobody is told."""
        self.link.dead = True
        for transport in self._transports:
            transport.ended = True
        self._life.cancel()
        await settle()

    def partition(self) -> None:
        """Cut its link to the engine: calls fail, and nothing arrives."""
        self.link.cut()

    def heal(self) -> None:
        """Mend it: what it missed arrives."""
        self.link.mend()

    def lag(self, seconds: float) -> None:
        """Slow down its feed: from now on it is told of what happens, itself included, that many seconds of the
        bench's clock later, in order. What waits when it is healed does not wait anew; with 0 all that was held back
        arrives.

        What it asks of the engine is answered at once: it commits, lets in and refuses by what is so now, and `hello`
        says that. But its connections hear of it later, `session.sees` knows it later, and so do the observers of
        what is published here.
        """
        self.link.lag(seconds)

    def serve(self, scope: dict[str, Any], transport: Transport) -> None:
        """Serve one connection, as a server would: in a task of its own."""
        self._transports.append(transport)
        self._tasks.start_soon(self._serve, scope, transport)

    async def _serve(self, scope: dict[str, Any], transport: Transport) -> None:
        with anyio.CancelScope() as serving:
            self._servings.add(serving)
            try:
                await self.app(scope, transport.receive, transport.send)
            finally:
                self._servings.discard(serving)
                transport.returned()

    async def _live(self) -> None:
        with self._life:
            try:
                async with self.app.lifespan():
                    self._started.set()
                    await self._stop.wait()
            except Exception as error:
                if self._started.is_set():
                    raise
                self._failed = error
        self._started.set()
        self._stopped.set()
        for serving in tuple(self._servings):
            serving.cancel()


class Bench:
    """What `bench` gives: nodes, a clock, and clients."""

    def __init__(self, nodes: Sequence[BenchNode], clock: FakeClock, engine: Engine, channels: dict[Any, Any]) -> None:
        self.nodes = nodes
        self.clock = clock
        self.engine = engine
        self._channels = channels

    @property
    def app(self) -> Jackfield:
        """The first node's application."""
        return self.nodes[0].app

    def workspace(self, id: str = WORKSPACE, *, node: int = 0) -> Workspace:
        """A workspace, as a node has it."""
        return self.nodes[node].app.workspace(id)

    async def connect(
        self,
        user_id: str = "",
        *,
        workspace: str = WORKSPACE,
        channels: Iterable[str] | None = None,
        node: int = 0,
        principal: Principal | None = None,
        token: str | None = None,
        resume: str | None = None,
        query: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Iterable[str] = (),
        profile: Profile = UVICORN,
        client: tuple[str, int] | None = None,
    ) -> Client:
        """Connect and read `hello`.

        `channels` are those that the user sees from now on, where no plugin answers `channels_of`; `principal` is who
        it is, where no plugin answers `authenticate`, else `token` says so. With `resume` it keeps a cursor: "" the
        first time, later its last one (`Client.cursor`). Raises Closed when the handshake is refused; the frames
        before the close are in `Closed.args`.
        """
        opened = await self.open(
            user_id,
            workspace=workspace,
            channels=channels,
            node=node,
            principal=principal,
            token=token,
            resume=resume,
            query=query,
            headers=headers,
            subprotocols=subprotocols,
            profile=profile,
            client=client,
        )
        if opened.transport.ended:
            raise await opened.closed()
        opened.hello = await opened.receive(Hello)
        return opened

    async def open(
        self,
        user_id: str = "",
        *,
        workspace: str = WORKSPACE,
        channels: Iterable[str] | None = None,
        node: int = 0,
        principal: Principal | None = None,
        token: str | None = None,
        resume: str | None = None,
        query: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        subprotocols: Iterable[str] = (),
        profile: Profile = UVICORN,
        client: tuple[str, int] | None = None,
    ) -> Client:
        """As `connect`, whatever becomes of it: nothing has been read."""
        if channels is not None:
            self._channels[workspace, user_id] = frozenset(channels)
        if query is None:
            given = {"token": token, "resume": resume}
            query = urlencode({name: value for name, value in given.items() if value is not None})
        transport = Transport(profile)
        scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": f"/ws/{workspace}",
            "raw_path": f"/ws/{workspace}".encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"bench"), *((k.lower().encode(), v.encode()) for k, v in headers)],
            "subprotocols": list(subprotocols),
            "client": client,
            "server": ("bench", 80),
            "extensions": {"websocket.http.response": {}} if profile.denial else {},
            "state": {},
            PRINCIPAL: principal or (Principal(user_id) if user_id else None),
        }
        served = self.nodes[node]
        served.serve(scope, transport)
        await settle()
        return Client(transport, lambda: served.app.node.wire, served.app.events)


@asynccontextmanager
async def bench(
    *plugins: object,
    nodes: int = 1,
    engine: Engine | None = None,
    settings: Settings | None = None,
    clock: FakeClock | None = None,
) -> AsyncGenerator[Bench, None]:
    """Open an application of these plugins, or `nodes` of them on one engine, with a clock that stands still.

    Give classes, or functions that make a plugin; objects will do for one node, since an object serves one
    application. Where none of them answers `authenticate` and `channels_of`, the bench does. Enter and leave it in
    the body of a test.
    """
    clock = clock or FakeClock()
    engine = engine or MemoryEngine()
    channels: dict[tuple[str, str], Collection[str]] = {}
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        made: list[BenchNode] = []
        try:
            for _ in range(nodes):
                objects = [_make(plugin, nodes) for plugin in plugins]
                if not any(hasattr(plugin, "authenticate") for plugin in objects):
                    objects.append(_Anybody())
                if not any(hasattr(plugin, "channels_of") for plugin in objects):
                    objects.append(_Seen(channels))
                link = Link(engine)
                made.append(BenchNode(Jackfield(*objects, engine=link, settings=settings, clock=clock), link, tasks))
            for node in made:
                await node.start()
            yield Bench(made, clock, engine, channels)
        except Exception as error:  # raised below, not inside a group of one
            failure = error
        finally:
            for node in made:
                if node.link.gate is not None:  # who stands there would wait for a clock that nobody turns
                    node.link.gate.open()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                for node in made:
                    await node.stopping(clock)
    if failure is not None:
        raise failure


def _make(plugin: object, nodes: int) -> object:
    if isinstance(plugin, type) or (callable(plugin) and not hasattr(plugin, "name")):
        make: Callable[[], object] = plugin
        return make()
    if nodes > 1:
        raise TypeError(
            f"{plugin!r} serves one application; give its class, or a function that makes it, for {nodes} nodes"
        )
    return plugin
