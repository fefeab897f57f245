"""What runs while an application runs: its services, its observers, the cells that fall due, and an orderly end."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from jackfield import (
    ClientEvent,
    Clock,
    EngineUnavailable,
    Everyone,
    Jackfield,
    MemoryEngine,
    ServerEvent,
    Session,
    Settings,
    State,
    Transaction,
    Workspace,
    before,
    hookimpl,
    on,
)
from jackfield._lease import LEASES, SYSTEM
from jackfield._node import DUE_AT_ONCE, Node
from jackfield.engine import Commit, History
from jackfield.testing import Bench, bench, settle


class Say(ClientEvent, type="say"):
    """Have it said."""

    text: str


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


class Shown(ServerEvent, type="shown"):
    """What nobody observes."""

    def audience(self) -> Everyone:
        return Everyone()


NUMBER = State("desk.number", int)


@attrs.define(eq=False)
class Desk:
    """Does in its hooks what a test wants."""

    name: str = "desk"
    did: list[str] = attrs.field(factory=list)
    observe: Callable[[Workspace, Said], Awaitable[None]] | None = None
    due: Callable[[Transaction, str], Awaitable[Sequence[ServerEvent] | None]] | None = None

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent | ServerEvent]]:
        return Say, Said, Shown

    @on(Say)
    async def say(self, session: Session, event: Say) -> None:
        await session.workspace.publish(Said(event.text))

    @on(Said)
    async def hear(self, workspace: Workspace, event: Said) -> None:
        if self.observe is not None:
            await self.observe(workspace, event)
        self.did.append(f"{workspace.id} {event.text}")

    @hookimpl
    async def cell_due(self, transaction: Transaction, state: str, key: str) -> Sequence[ServerEvent] | None:
        self.did.append(f"{state} {key}")
        return None if self.due is None else await self.due(transaction, key)


def desk(b: Bench, node: int = 0) -> Desk:
    plugin = b.nodes[node].app.plugins.objects["desk"]
    assert isinstance(plugin, Desk)
    return plugin


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records if record.name == "jackfield"]


# --- What a plugin starts


async def test_what_crashes_is_named_and_counted_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def crash(*args: object) -> None:
        raise ZeroDivisionError(*args)

    async with bench(Desk) as b:
        other = anyio.Event()

        async def wait() -> None:
            await b.clock.sleep(10)
            other.set()

        b.app.start_soon(wait)
        b.app.start_soon(crash, 1, 2)
        b.app.start_soon(partial(crash, 3))
        await settle()
        name = f"{test_what_crashes_is_named_and_counted_and_ends_nothing_else.__qualname__}.<locals>.crash"
        [second, first] = sorted(caplog.records, key=lambda record: record.getMessage())
        assert first.getMessage() == f"{name}, started by start_soon, failed"
        assert first.exc_info is not None
        assert str(first.exc_info[1]) == "(1, 2)"
        assert second.getMessage().startswith("functools.partial(")  # what has no name is shown
        assert b.app.node.dispatcher.faults[name] == 1
        alice = await b.connect("alice")
        await alice.request(Say("hi"))
        await b.clock.advance(10)
        assert other.is_set()


async def test_it_ends_with_the_application() -> None:
    async with bench(Desk) as b:
        ended: list[str] = []

        async def forever() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("cancelled")

        b.app.start_soon(forever)
        await settle()
        assert ended == []
        await b.nodes[0].stop()
        assert ended == ["cancelled"]


async def test_before_it_runs_nothing_can_be_started_in_it() -> None:
    async with bench(Desk) as b:
        idle = Node(b.app, MemoryEngine(), Settings(), b.clock, b.app.plugins)
        with pytest.raises(RuntimeError, match="the application has not been started"):
            idle.start_soon(anyio.sleep, 0)


async def test_a_timer_that_raises_does_not_stop_time(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(Desk) as b:
        called: list[float] = []

        def crash() -> None:
            raise ZeroDivisionError

        b.app.call_later(1, crash)
        b.app.call_later(1, lambda: called.append(b.clock.monotonic()))
        b.app.call_later(5, lambda: called.append(b.clock.monotonic()))
        start = b.clock.monotonic()
        await b.clock.advance(5)
        assert [at - start for at in called] == [1, 5]
        ((level, said),) = logged(caplog)
        assert level == logging.ERROR
        assert said.endswith("crash, called later, failed")


# --- Observers


async def test_observers_hear_a_workspaces_events_in_their_order_each_when_the_last_has_ended() -> None:
    async with bench(Desk) as b:

        async def slow(workspace: Workspace, event: Said) -> None:
            if event.text == "slow":
                await b.clock.sleep(3)

        desk(b).observe = slow
        for text in ("slow", "two", "three"):
            await b.workspace().publish(Said(text))  # which waits for nobody
        await b.workspace("other").publish(Said("elsewhere"))
        await settle()
        assert desk(b).did == ["other elsewhere"]
        await b.workspace().publish(Said("four"))
        await b.clock.advance(3)
        assert desk(b).did[1:] == ["w slow", "w two", "w three", "w four"]
        await b.workspace().publish(Said("five"))
        await settle()
        assert desk(b).did[-1] == "w five"
        assert b.app.node.observers._waiting == {}


async def test_an_observer_that_fails_or_takes_too_long_keeps_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(Desk) as b:

        async def trouble(workspace: Workspace, event: Said) -> None:
            if event.text == "fails":
                raise ZeroDivisionError
            if event.text == "hangs":
                await anyio.sleep_forever()
            if event.text == "engine":
                raise EngineUnavailable("no engine")

        desk(b).observe = trouble
        for text in ("fails", "hangs", "engine", "fine"):
            await b.workspace().publish(Said(text))
        await b.clock.advance(5)
        assert desk(b).did == ["w fine"]
        assert logged(caplog) == [
            (logging.ERROR, 'plugin "desk": on_said failed'),
            (logging.ERROR, 'plugin "desk": on_said took longer than 5 s'),
            (logging.ERROR, 'plugin "desk": on_said failed'),
        ]
        assert b.app.node.dispatcher.faults == {"desk": 3}


async def test_only_the_node_that_published_observes() -> None:
    async with bench(Desk, nodes=3) as b:
        clients = [await b.connect("alice", node=node) for node in range(3)]
        await b.workspace(node=1).publish(Said("one"))
        await clients[2].request(Say("two"))
        assert [await client.pending() for client in clients] == [[Said("one"), Said("two")]] * 3
        assert [desk(b, node).did for node in range(3)] == [[], ["w one"], ["w two"]]


async def test_what_was_not_published_is_not_observed() -> None:
    class Vetoes:
        name = "vetoes"

        @before(Said)
        async def decide(self, event: Said) -> list[ServerEvent] | None:
            return [] if event.text == "swallowed" else None

    async with bench(Desk, Vetoes) as b:
        await b.workspace().publish(Said("swallowed"))
        await b.workspace().publish(Said("one"), id="x")
        await b.workspace().publish(Said("again"), id="x")
        await b.workspace().publish(Shown())
        await settle()
        assert desk(b).did == ["w one"]


async def test_an_observer_may_publish_and_is_told_of_that_too() -> None:
    async with bench(Desk) as b:

        async def echo(workspace: Workspace, event: Said) -> None:
            if not event.text.startswith("re:"):
                await workspace.publish(Said(f"re:{event.text}"))

        desk(b).observe = echo
        alice = await b.connect("alice")
        await b.workspace().publish(Said("hi"))
        assert await alice.pending() == [Said("hi"), Said("re:hi")]
        assert desk(b).did == ["w hi", "w re:hi"]


# --- Cells whose time has come


async def remember(b: Bench, key: str, due: float, node: int = 0) -> None:
    await b.workspace(node=node).update(NUMBER, key, lambda n: n + 1, due=due)


async def test_a_cell_is_asked_about_when_its_time_has_come_and_then_is_gone() -> None:
    async with bench(Desk) as b:
        await remember(b, "late", 5)
        await remember(b, "soon", 0.3)
        await b.clock.advance(0.25)
        assert desk(b).did == []
        await b.clock.advance(0.1)
        assert desk(b).did == ["desk.number soon"]
        assert await b.workspace().all(NUMBER) == {"late": 1}
        await b.clock.advance(10)
        assert desk(b).did == ["desk.number soon", "desk.number late"]
        assert await b.workspace().all(NUMBER) == {}


async def test_what_follows_is_published_once_whoever_wrote_it() -> None:
    async with bench(Desk, nodes=3) as b:
        for node in range(3):

            async def ended(transaction: Transaction, key: str) -> list[ServerEvent]:
                return [Said(f"{key} ended")]

            desk(b, node).due = ended
        alice = await b.connect("alice", node=2)
        await remember(b, "a", 3)
        await b.nodes[0].crash()
        await remember(b, "b", 4, node=1)
        await b.clock.advance(6)
        assert await alice.pending() == [Said("a ended"), Said("b ended")]


async def test_a_cell_that_is_written_anew_has_time_again() -> None:
    async with bench(Desk) as b:

        async def again(transaction: Transaction, key: str) -> None:
            if await transaction.get(NUMBER, key) < 3:
                await transaction.update(NUMBER, key, lambda n: n + 1, due=10)

        desk(b).due = again
        await remember(b, "a", 10)
        for number in (1, 2, 3):
            assert await b.workspace().all(NUMBER) == {"a": number}
            await b.clock.advance(10.5)
        assert await b.workspace().all(NUMBER) == {}


async def test_a_cell_that_nobody_can_settle_comes_again_and_keeps_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(Desk) as b:
        broken = True

        async def fail(transaction: Transaction, key: str) -> None:
            if key == "bad" and broken:
                raise ZeroDivisionError

        desk(b).due = fail
        await remember(b, "bad", 1)
        await remember(b, "good", 1)
        await b.clock.advance(1.5)
        assert await b.workspace().all(NUMBER) == {"bad": 1}
        errors = [message for level, message in logged(caplog) if level == logging.ERROR]
        assert set(errors) == {
            'plugin "desk": cell_due failed',
            "cell Key(table='desk.number', field='bad') of w is due, and nobody could say what follows",
        }
        asked = desk(b).did.count("desk.number bad")
        assert b.app.node.dispatcher.faults == {"desk": asked}
        await b.clock.advance(3)
        assert desk(b).did.count("desk.number bad") == asked + 3, "once a second"
        broken = False
        await b.clock.advance(1)
        assert await b.workspace().all(NUMBER) == {}


async def test_as_many_as_fall_due_at_once_are_all_settled() -> None:
    async with bench(Desk) as b:
        for number in range(2 * DUE_AT_ONCE + 1):
            await remember(b, f"{number}", 7)
        await b.clock.advance(7.1)
        assert len(desk(b).did) == 2 * DUE_AT_ONCE + 1
        assert await b.workspace().all(NUMBER) == {}


async def test_an_outage_of_the_engine_is_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(Desk) as b:
        await remember(b, "a", 2)
        b.nodes[0].partition()
        await b.clock.advance(4)
        assert desk(b).did == []
        warning = (logging.WARNING, "the engine did not say what is due: the link is cut")
        assert warning in logged(caplog)
        b.nodes[0].heal()
        await b.clock.advance(1)
        assert desk(b).did == ["desk.number a"]


async def test_an_engine_that_fails_in_the_middle_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(MemoryEngine):
        failing = False

        async def commit(self, workspace: str, commit: Commit) -> Any:
            if self.failing and workspace == "w":
                raise EngineUnavailable("in the middle")
            return await super().commit(workspace, commit)

    engine = Fails()
    async with bench(Desk, engine=engine) as b:
        await remember(b, "a", 1)
        engine.failing = True
        await b.clock.advance(3)
        assert await b.workspace().all(NUMBER) == {"a": 1}
        assert {level for level, _ in logged(caplog)} == {logging.WARNING}
        engine.failing = False
        await b.clock.advance(2)
        assert await b.workspace().all(NUMBER) == {}


# --- The end


class Told(MemoryEngine):
    """Tells when it is opened and closed, and who is alive by then."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    @asynccontextmanager
    async def open(self, history: History, clock: Clock) -> AsyncGenerator[None, None]:
        async with super().open(history, clock):
            self.told.append("engine opened")
            yield
            self.told.append(f"engine closed, {await self.alive()} alive")

    async def alive(self) -> int:
        return len((await self.read(SYSTEM, tables=(LEASES.name,))).tables[LEASES.name])


async def test_it_ends_in_order_connections_plugins_lease_engine() -> None:
    engine = Told()

    def watching(label: str) -> object:
        @attrs.define(eq=False)
        class Watches:
            name: str = label

            @hookimpl
            @asynccontextmanager
            async def lifespan(self, app: Jackfield) -> AsyncGenerator[None, None]:
                engine.told.append(f"{label} in, {await engine.alive()} alive")
                yield
                engine.told.append(f"{label} out, {await engine.alive()} alive")

            @hookimpl
            async def session_closed(self, session: Session, code: int) -> None:
                await session.workspace.update(NUMBER, "closed", lambda n: n + 1)  # it all still works
                engine.told.append(f"{label} {session.user_id} {code}")

        return Watches()

    async with bench(watching("a"), watching("b"), Desk(), engine=engine) as b:
        await b.connect("alice")
        await b.nodes[0].stop()
    assert engine.told == [
        "engine opened",
        "a in, 1 alive",
        "b in, 1 alive",
        "a alice 4001",
        "b alice 4001",
        "b out, 1 alive",
        "a out, 1 alive",
        "engine closed, 0 alive",
    ]


async def test_while_it_ends_nobody_comes_in_and_who_does_not_end_in_time_is_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @attrs.define(eq=False)
    class Slow:
        clock: Clock
        name: str = "slow"

        @hookimpl
        async def session_closed(self) -> None:
            await self.clock.sleep(4)

    async with bench(Desk) as first:
        clock = first.clock
    async with bench(Desk(), Slow(clock), clock=clock, settings=Settings(drain_timeout=3)) as b:
        await b.connect("alice")
        await b.connect("bob")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.nodes[0].stop)
            await clock.advance(2)
            assert (await (await b.open("carol")).closed()).status == 503
            assert logged(caplog) == []
            await clock.advance(10)
        assert logged(caplog) == [(logging.WARNING, "2 connections did not end in time")]


async def test_an_end_takes_no_longer_than_its_connections() -> None:
    async with bench(Desk) as b:
        alice = await b.connect("alice")
        before = b.clock.monotonic()
        await b.nodes[0].stop()
        assert (await alice.closed()).code == 4001
        assert b.clock.monotonic() == before


async def test_a_lease_that_cannot_be_given_back_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(Desk) as b:
        b.nodes[0].partition()
        await b.nodes[0].stop()
        # Whoever asks what is due may hear of it first.
        assert logged(caplog)[-1] == (
            logging.WARNING,
            "this node's lease could not be given back: the link is cut",
        )
