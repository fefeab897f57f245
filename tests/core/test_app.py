"""The application, as a host has it: made, started, mounted, asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route

from jackfield import (
    ConfigurationError,
    Everyone,
    Handshake,
    InvalidEvent,
    Jackfield,
    MemoryEngine,
    Principal,
    ServerEvent,
    Settings,
    Workspace,
    hookimpl,
)
from jackfield._clock import SystemClock
from jackfield._lease import SYSTEM
from jackfield.engine import History, Snapshot
from jackfield.errors import EngineUnavailable, Fault
from jackfield.events import MessageNew, Status
from jackfield.hookspecs import authenticate, channels_of, presence_of, session_opened
from jackfield.testing import FakeClock, bench, settle

NOT_STARTED = (
    "jackfield was not started: pass lifespan=realtime.lifespan to your application, "
    'or "async with realtime.lifespan():" in your own.'
)


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


@attrs.define(eq=False)
class Host:
    """All that an application needs, and a route."""

    name: str = "host"
    life: Callable[[], AbstractAsyncContextManager[None]] | None = None

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Said,)

    @hookimpl
    def register_routes(self, app: Jackfield) -> list[BaseRoute]:
        async def count(request: Request) -> PlainTextResponse:
            return PlainTextResponse(f"{len(app.events)} events")

        return [Route(f"/{self.name}", count)]

    @hookimpl
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        if self.life is None:
            yield
        else:
            async with self.life():
                yield

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        return Principal(handshake.token) if handshake.token else None

    @hookimpl
    async def channels_of(self, user_id: str, workspace: Workspace) -> Collection[str]:
        return [workspace.id, user_id]


def made(**how: Any) -> Jackfield:
    return Jackfield(Host(), **{"clock": FakeClock(), **how})


class Socket:
    """A server's end of an ASGI connection."""

    def __init__(self, *messages: Mapping[str, Any]) -> None:
        self.sent: list[MutableMapping[str, Any]] = []
        self._send, self._receive = anyio.create_memory_object_stream[Mapping[str, Any]](10)
        for message in messages:
            self._send.send_nowait(message)

    async def say(self, type: str) -> None:
        await self._send.send({"type": type})
        await settle()

    async def receive(self) -> Any:
        return await self._receive.receive()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    def close(self) -> None:
        self._send.close()
        self._receive.close()


async def call(app: Any, type: str, path: str, *messages: Mapping[str, Any], **more: Any) -> list[Any]:
    """What an application sends for a scope."""
    socket = Socket(*messages)
    scope = {
        "type": type,
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "subprotocols": [],
        "extensions": {},
        "state": {},
        **more,
    }
    try:
        await app(scope, socket.receive, socket.send)
    finally:
        socket.close()
    return socket.sent


async def get(app: Any, path: str) -> tuple[int, bytes]:
    start, body = await call(app, "http", path, {"type": "http.request", "body": b""})
    return start["status"], body["body"]


# --- Made


def test_without_a_word_it_is_of_this_process_and_of_this_machines_time() -> None:
    app = Jackfield(Host())
    assert (type(app.engine), type(app.clock), app.settings) == (MemoryEngine, SystemClock, Settings())
    engine, clock, settings = MemoryEngine(), FakeClock(), Settings(node_lease=3)
    app = Jackfield(Host(), engine=engine, clock=clock, settings=settings)
    assert (app.engine, app.clock, app.settings) == (engine, clock, settings)


def test_the_environment_is_that_of_the_process_unless_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "a secret of at least thirty-two bytes"
    monkeypatch.setenv("JACKFIELD_SECRET", secret)
    monkeypatch.setenv("JACKFIELD_NODE_LEASE", "7")
    clock = FakeClock()
    app = Jackfield.from_environ(clock=clock)
    assert (app.settings.node_lease, app.clock) == (7, clock)
    assert Jackfield.from_environ({"JACKFIELD_SECRET": secret}).settings.node_lease == Settings().node_lease


@pytest.mark.parametrize("id", ["", "a b", "ä", "a/b", "x" * 129, "~other", "w\n"])
def test_what_is_no_id_names_no_workspace(id: str) -> None:
    with pytest.raises(ValueError, match="is no id of a workspace: expected an id: 1 to 128 of A-Z a-z 0-9"):
        made().workspace(id)


def test_what_is_one_does() -> None:
    for id in ("w", "A-1.b_c:d@e", "x" * 128, SYSTEM):
        assert made().workspace(id).id == id


def test_its_events_are_the_specifications_and_its_plugins() -> None:
    events = made().events
    assert events["said"] is Said
    assert events["message.new"] is MessageNew
    assert events.owner("said") == "host"


# --- Not started


async def attempt(call: Callable[[], Any]) -> None:
    if hasattr(outcome := call(), "__await__"):
        await outcome


async def test_before_and_behind_its_lifespan_every_call_says_what_is_missing() -> None:
    async def nothing() -> None: ...

    app = made()
    workspace = app.workspace("w")
    calls: list[Callable[[], Any]] = [
        lambda: app.node,
        lambda: app.nodes,
        lambda: app.start_soon(nothing),
        lambda: app.call_later(1, print),
        lambda: app.structure("said", {"text": "x"}),
        lambda: app.ask(presence_of, workspace),
        lambda: workspace.publish(Said("x")),
        lambda: call(app, "websocket", "/ws/w", {"type": "websocket.connect"}),
        lambda: call(app, "websocket", "/nowhere", {"type": "websocket.connect"}),
    ]
    for _ in range(2):
        for made_call in calls:
            with pytest.raises(ConfigurationError) as caught:
                await attempt(made_call)
            assert str(caught.value) == NOT_STARTED
        async with app.lifespan():
            assert len(app.nodes) == 1


# --- Started


async def test_it_is_started_once_at_a_time() -> None:
    app = made()
    for _ in range(2):
        async with app.lifespan():
            await app.workspace("w").publish(Said("x"))
            with pytest.raises(ConfigurationError, match=r"^jackfield was started twice: one lifespan is enough\.$"):
                async with app.lifespan():
                    pass
            assert await app.ready()
    # What its engine keeps is still there.
    assert (await app.engine.read("w")).position == 2


@pytest.mark.parametrize("where", ["start", "body", "end"])
async def test_what_ends_it_is_raised_as_it_is(where: str) -> None:
    """Not in a group of one, as the task groups inside make of it."""
    error = ZeroDivisionError(where)

    @asynccontextmanager
    async def life() -> AsyncGenerator[None, None]:
        if where == "start":
            raise error
        yield
        if where == "end":
            raise error

    async def run() -> None:
        async with app.lifespan():
            if where == "body":
                raise error

    app = Jackfield(Host(life=life), clock=FakeClock())
    with pytest.raises(ZeroDivisionError) as caught:
        await run()
    assert caught.value is error
    assert not await app.ready()


async def test_several_that_end_it_together_are_all_told() -> None:
    app = made()
    with pytest.raises(BaseExceptionGroup) as caught:
        async with app.lifespan():
            raise BaseExceptionGroup("both", [ZeroDivisionError(), KeyError()])
    assert caught.group_contains(ZeroDivisionError)
    assert caught.group_contains(KeyError)


async def test_an_engine_that_cannot_be_reached_is_named() -> None:
    class Away(MemoryEngine):
        @asynccontextmanager
        async def open(self, history: History, clock: object) -> AsyncGenerator[None, None]:
            raise EngineUnavailable("no engine at example:1234")
            yield

    with pytest.raises(EngineUnavailable, match="no engine at example:1234"):
        async with made(engine=Away()).lifespan():
            pass


async def test_it_may_be_the_whole_of_what_a_server_serves() -> None:
    app, server = made(), Socket()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, {"type": "lifespan", "state": {}}, server.receive, server.send)
        await server.say("lifespan.startup")
        assert server.sent == [{"type": "lifespan.startup.complete"}]
        assert await app.ready()
        await server.say("lifespan.shutdown")
        assert server.sent[1:] == [{"type": "lifespan.shutdown.complete"}]
        assert not await app.ready()
    server.close()


# --- Mounted


@pytest.mark.parametrize("prefix", ["", "/live"])
async def test_it_serves_its_sockets_and_what_plugins_route_wherever_it_is_mounted(prefix: str) -> None:
    app = Jackfield(Host(), Host2(), clock=FakeClock())
    host = Starlette(routes=[Mount(prefix or "/", app)])
    async with app.lifespan():
        for name in ("host", "second"):
            assert await get(host, f"{prefix}/{name}") == (200, b"%d events" % len(app.events))
        assert await get(host, f"{prefix}/nowhere") == (404, b"")
        connect = {"type": "websocket.connect"}
        accept, hello, *_ = await call(
            host,
            "websocket",
            f"{prefix}/ws/w",
            connect,
            {"type": "websocket.disconnect", "code": 1000},
            query_string=b"token=alice",
        )
        assert (accept["type"], '"type":"hello"' in hello["text"]) == ("websocket.accept", True)
        # What is no socket of ours is refused before it stands: by HTTP, where the server can.
        assert await call(host, "websocket", f"{prefix}/nowhere", connect) == [
            {"type": "websocket.close", "code": 1008, "reason": ""}
        ]
        denied = await call(host, "websocket", f"{prefix}/nowhere", connect, extensions={"websocket.http.response": {}})
        assert [message.get("status") for message in denied] == [404, None]


@attrs.define(eq=False)
class Host2:
    name: str = "second"

    @hookimpl
    def register_routes(self, app: Jackfield) -> Sequence[BaseRoute]:
        async def count(request: Request) -> PlainTextResponse:
            return PlainTextResponse(f"{len(app.events)} events")

        return (Route("/second", count), Route("/host", self.never))

    async def never(self, request: Request) -> PlainTextResponse:
        raise AssertionError("the first of the list has it")


# --- Asked


async def test_a_question_is_answered_by_the_first_who_knows() -> None:
    def knowing(label: str, answer: dict[str, Status] | None) -> object:
        @attrs.define(eq=False)
        class Knows:
            name: str = label

            @hookimpl
            async def presence_of(self, workspace: Workspace) -> Mapping[str, Status] | None:
                asked.append((label, workspace.id))
                return answer

        return Knows()

    asked: list[tuple[str, str]] = []
    plugins = [knowing("a", None), knowing("b", {"alice": "away"}), knowing("c", {})]
    async with bench(Host(), *plugins) as b:
        assert await b.app.ask(presence_of, b.workspace()) == {"alice": "away"}
        assert asked == [("a", "w"), ("b", "w")]
    async with bench(Host()) as b:
        assert await b.app.ask(presence_of, b.workspace()) is None  # type: ignore[func-returns-value]


async def test_what_it_is_asked_about_may_be_named_in_any_order() -> None:
    async with bench(Host()) as b:
        workspace = b.workspace()
        for answer in (
            await b.app.ask(channels_of, workspace, "alice"),
            await b.app.ask(channels_of, workspace, user_id="alice"),
            await b.app.ask(channels_of, user_id="alice", workspace=workspace),
        ):
            assert answer == ["w", "alice"]
        for args in ((), (workspace,), (workspace, "alice", "more")):
            with pytest.raises(TypeError, match="argument"):
                await b.app.ask(channels_of, *args)  # type: ignore[call-arg,arg-type]


async def test_what_is_no_question_is_refused() -> None:
    async def whoever() -> None: ...

    async with bench(Host()) as b:
        for question in (session_opened, whoever):
            with pytest.raises(TypeError, match=f"^{question.__name__} is no question; those that are: presence_of,"):
                await b.app.ask(question)  # type: ignore[arg-type,call-arg]
        handshake = Handshake({"type": "websocket", "headers": []})
        handshake.token = "alice"
        assert await b.app.ask(authenticate, handshake) == Principal("alice")


async def test_somebody_elses_json_becomes_an_event_or_every_fault_in_it_is_named() -> None:
    async with bench(Host()) as b:
        assert b.app.structure("said", {"text": "hi"}) == Said("hi")
        for type in ("unknown", "ping", "typing", "hello", "error", None, 7, ["said"]):
            with pytest.raises(InvalidEvent) as caught:
                b.app.structure(type, {"text": "hi"}, "$.events[3]")
            assert caught.value.faults == (Fault("$.events[3].type", "expected the type of a server event"),)
        with pytest.raises(InvalidEvent) as caught:
            b.app.structure("said", {"text": 7})
        assert [fault.path for fault in caught.value.faults] == ["$.data.text"]


async def test_its_nodes_are_those_that_live() -> None:
    async with bench(Host, nodes=2) as b:
        await b.clock.advance(10)
        assert len(b.app.nodes) == 2
        assert b.nodes[0].app.nodes == b.nodes[1].app.nodes


async def test_what_is_called_later_is_called_by_its_clock_unless_it_is_cancelled() -> None:
    async with bench(Host()) as b:
        called: list[tuple[object, ...]] = []
        b.app.call_later(2, lambda *args: called.append(args), 1, "two")
        timer = b.app.call_later(1, called.append, ("never",))
        timer.cancel()
        await b.clock.advance(1.9)
        assert called == []
        await b.clock.advance(0.1)
        assert called == [(1, "two")]


async def test_it_is_ready_from_its_start_to_its_end_while_its_engine_answers() -> None:
    class Slow(MemoryEngine):
        slow: anyio.Event | None = None

        async def read(self, workspace: str, *about: Any, **more: Any) -> Snapshot:
            if self.slow is not None and workspace == SYSTEM and not any(about):
                await self.slow.wait()
            return await super().read(workspace, *about, **more)

    engine = Slow()
    async with bench(Host(), engine=engine) as b:
        node = b.nodes[0]
        assert await b.app.ready()
        node.partition()
        assert not await b.app.ready()
        node.heal()
        assert await b.app.ready()
        engine.slow = anyio.Event()
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await b.app.ready())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await b.clock.advance(4.9)
            assert answers == []
            await b.clock.advance(0.2)
            assert answers == [False]
        engine.slow = None
        assert await b.app.ready()
        await b.app.drain()
        assert not await b.app.ready()
        await node.stop()
        assert not await b.app.ready()
