"""A node that ends sends its clients elsewhere: all are told when to be back, nobody waits for who does not go, and
nobody is seen to be gone who comes back."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint

from jackfield import (
    ClientEvent,
    Clock,
    ConfigurationError,
    Everyone,
    Handshake,
    MemoryEngine,
    Principal,
    ServerEvent,
    Session,
    Settings,
    hookimpl,
    on,
)
from jackfield._commit import COMMIT_WITHIN
from jackfield._drain import BATCH, PAUSE, WINDOW, plan
from jackfield.events import PresenceUpdated
from jackfield.serving import drain_on_signals, until_drained
from jackfield.testing import ANYCORN, HYPERCORN, UVICORN, Client, Closed, FakeClock, bench, settle
from jackfield.testing._link import Gate
from jackfield_http import HTTP
from jackfield_members import OpenWorkspace
from jackfield_presence import Presence, PresenceSet
from tests.plugins.chat import KEY, http

GRACE = 20.0


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


@attrs.define(eq=False)
class Speech:
    """Something to say; and it may keep those who go."""

    name: str = "speech"
    keeps: Callable[[], Any] | None = None
    codes: list[int] = attrs.field(factory=list)

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Said,)

    @hookimpl
    async def session_closed(self, session: Session, code: int) -> None:
        self.codes.append(code)
        if self.keeps is not None:
            await self.keeps()


def waits(clock: Clock, seconds: float) -> Speech:
    return Speech(keeps=partial(clock.sleep, seconds))


def retry_after(closed: Closed) -> int:
    assert closed.code == 4001
    name, _, milliseconds = closed.reason.partition("=")
    assert name == "retry_after_ms"
    return int(milliseconds)


def is_open(client: Client) -> bool:
    return not client.transport.ended


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name == "jackfield"]  # loops complain of slow machines
    return [record.getMessage() for record in ours if record.levelno == logging.WARNING]


# --- Who is told when


@pytest.mark.parametrize(
    ("connections", "held", "window"),
    [
        (1, math.inf, 2.0),
        (1_000, math.inf, 2.0),
        (1_500, math.inf, 3.0),
        (10_000, math.inf, 20.0),
        (10_000, 20.0, 10.0),
        (10_000, 30.0, 15.0),
        (1_000_000, math.inf, 25.0),
        (1_000, 3.0, 1.5),
        (1_000, 0.0, 0.0),
    ],
)
def test_the_window_grows_with_the_number_and_is_half_of_what_goes_unnoticed(
    connections: int, held: float, window: float
) -> None:
    assert plan(connections, rate=500, held=held, timeout=8).window == window


@pytest.mark.parametrize("connections", [1, 500, 10_000, 100_000, 1_000_000])
@pytest.mark.parametrize("timeout", [0.01, 1.0, 8.0, 60.0])
def test_all_are_told_in_half_of_the_limit(connections: int, timeout: float) -> None:
    drain = plan(connections, rate=500, held=math.inf, timeout=timeout)
    assert (math.ceil(connections / drain.batch) - 1) * PAUSE <= drain.limit / 2
    assert drain.batch >= BATCH
    assert drain.limit + drain.reserve == timeout
    assert 0 < drain.limit < timeout


def test_moments_are_spread_over_all_of_the_window() -> None:
    drain = plan(5_000, rate=500, held=20, timeout=8)
    told = sorted(drain.retry_after_ms() for _ in range(4_000))
    assert told[0] >= 0
    assert told[-1] <= 10_000
    for quarter, until in enumerate(range(2_500, 10_001, 2_500), 1):
        assert abs(sum(moment < until for moment in told) / 4_000 - quarter / 4) < 0.05
    assert {drain.retry_after() for _ in range(1_000)} == set(range(1, 11))
    assert plan(1, rate=500, held=0, timeout=8).retry_after() == 1


# --- What a drain does


async def test_from_its_first_step_nobody_comes_in_and_whoever_asks_is_told_when() -> None:
    async with bench(Speech, partial(HTTP, api_key=KEY)) as b, http(b.app) as client:
        alice = await b.connect("alice")
        assert (await client.get("/health/ready")).status_code == 200
        assert b.app.start_drain() == 1
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
        bob = await b.open("bob")
        assert (await bob.closed()).status == 503
        (start, *_) = bob.transport.sent
        assert 1 <= int(dict(start["headers"])[b"retry-after"]) <= WINDOW[0]
        assert 0 <= retry_after(await alice.closed()) <= WINDOW[0] * 1000
        assert (await client.get("/health/ready")).status_code == 503


async def test_whoever_is_on_the_way_in_is_sent_away_too() -> None:
    inside = anyio.Event()

    class Slow:
        name = "slow"

        @hookimpl
        async def authenticate(self, handshake: Handshake) -> Principal:
            if handshake.workspace_id == "slow":
                await inside.wait()
            return Principal(handshake.workspace_id)

        @hookimpl
        async def channels_of(self, user_id: str) -> Sequence[str]:
            if user_id == "slower":
                await inside.wait()
            return ()

    async with bench(Slow()) as b:
        authenticating = await b.open(workspace="slow")
        entering = await b.open(workspace="slower")
        b.app.start_drain()
        await settle()
        assert is_open(authenticating)
        inside.set()
        assert (await authenticating.closed()).status == 503
        assert 0 <= retry_after(await entering.closed()) <= WINDOW[0] * 1000
        assert not any(frame["type"] == "hello" for frame in entering.frames)
        assert not b.app.node.sessions


async def test_whose_handshake_hangs_is_refused_and_not_closed_before_it_stands() -> None:
    async with bench(Speech) as b:
        node = b.nodes[0]
        node.link.gate = gate = Gate(("commit",))
        opening = await b.open("alice")
        b.app.start_drain()
        await b.clock.advance(2.5)  # the time that a close may take
        assert opening.transport.sent == []
        gate.open()
        closed = await opening.closed()
        assert closed.status == 503 or closed.code == 4001
        assert {message["type"] for message in opening.transport.sent[:1]} <= {
            "websocket.accept",
            "websocket.http.response.start",
        }


async def test_they_go_in_batches_and_get_what_there_is_until_then() -> None:
    async with bench(Speech, settings=Settings(connections_per_user=1_000), engine=MemoryEngine()) as b:
        clients = [await b.connect(f"u{n}") for n in range(BATCH + 100)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.app.drain)
            await settle()
            assert sum(map(is_open, clients)) == 100
            await b.workspace().publish(Said("still here"))
            await settle()
            left = [client for client in clients if is_open(client)]
            assert len(left) == 100
            for client in left:
                assert await client.receive(Said) == Said("still here")
            await b.clock.advance(PAUSE)
            assert not any(map(is_open, clients))
        told = sorted([retry_after(await client.closed()) for client in clients])
        assert told[0] >= 0
        assert told[-1] <= WINDOW[0] * 1000
        for start in range(0, int(WINDOW[0] * 1000), 500):
            assert sum(start <= moment < start + 500 for moment in told) > len(told) / 10
        assert max(after - before for before, after in pairwise(told)) < 250
        await b.workspace().publish(Said("nobody hears it, and it is published"))


async def test_who_has_gone_before_it_is_his_turn_is_not_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """His server is done with him, and a close would come two seconds late."""
    drained: list[Session] = []
    monkeypatch.setattr(Session, "drain", lambda session, _: drained.append(session))
    monkeypatch.setattr("jackfield._drain.BATCH", 1)
    async with bench(Speech) as b:
        clients = [await b.connect(f"u{n}") for n in range(3)]
        b.app.start_drain()
        await settle()
        for client in clients:
            client.close()
        await b.clock.advance(3 * PAUSE)
        assert len(drained) == 1


async def test_what_was_dispatched_to_a_slow_one_comes_before_the_close() -> None:
    async with bench(Speech) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        alice.transport.stall()
        for n in range(5):
            await b.workspace().publish(Said(f"{n}"))
        await b.clock.advance(0.1)
        b.app.start_drain()
        await settle()
        retry_after(await bob.closed())
        assert is_open(alice)
        await b.workspace().publish(Said("too late"))
        await b.clock.advance(1)
        alice.transport.read_on()
        assert [await alice.receive(Said) for _ in range(5)] == [Said(f"{n}") for n in range(5)]
        retry_after(await alice.closed())
        assert not any(frame["data"].get("text") == "too late" for frame in alice.frames)


async def test_and_what_is_still_on_its_way_through_the_pump() -> None:
    async with bench(Speech) as b:
        clients = [await b.connect(f"u{n}", profile=HYPERCORN) for n in range(40)]
        room = b.app.node.hub.rooms["w"]
        receipt = await b.workspace().publish(Said("last"))
        while room.position < (receipt.position or 0):
            await checkpoint()
        assert room.lane.settled < room.position, "it has been dispatched, and not been sent to all"
        b.app.start_drain()
        for client in clients:
            assert await client.receive(Said) == Said("last")
            retry_after(await client.closed())


@pytest.mark.parametrize("profile", [UVICORN, ANYCORN])
async def test_who_does_not_read_keeps_nobody(profile: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with bench(Speech, settings=Settings(drain_timeout=8)) as b:
        stalled = [await b.connect(f"s{n}", profile=profile) for n in range(10)]
        reading = [await b.connect(f"r{n}", profile=profile) for n in range(10)]
        for client in stalled:
            client.transport.stall()
        for n in range(5):
            await b.workspace().publish(Said(f"{n}"))
        await b.clock.advance(0.1)
        began = b.clock.monotonic()
        ended: list[float] = []

        async def drain() -> None:
            await b.app.drain()
            ended.append(b.clock.monotonic() - began)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            await settle()
            for client in reading:
                retry_after(await client.closed())
            await b.clock.advance(6)
        assert ended
        assert ended[0] <= 6
        assert not b.app.node.sessions
        assert warnings(caplog) == []


async def test_a_limit_is_a_limit(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    async with bench(waits(clock, 100), clock=clock, settings=Settings(drain_timeout=4, hook_timeout=60)) as b:
        alice = await b.connect("alice")
        began = clock.monotonic()
        ended: list[float] = []

        async def end() -> None:
            await b.nodes[0].stop()
            ended.append(clock.monotonic() - began)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            await clock.advance(2.9)
            retry_after(await alice.closed())
            assert ended == []
            await clock.advance(1.1)
            assert ended
            assert 3 <= ended[0] <= 4
        assert warnings(caplog) == ["1 connections did not end in time"]
        await clock.advance(100)  # lets the hook go


async def test_twice_is_once_and_the_second_waits_for_the_first() -> None:
    clock = FakeClock()
    async with bench(waits(clock, 1), clock=clock) as b:
        alice = await b.connect("alice")
        done: list[str] = []

        async def drain(name: str) -> None:
            await b.app.drain()
            done.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain, "first")
            await settle()
            tasks.start_soon(drain, "second")
            await settle()
            assert b.app.start_drain() == 1
            assert done == []
            await clock.advance(1)
            assert sorted(done) == ["first", "second"]
        assert [message["type"] for message in alice.transport.sent].count("websocket.close") == 1
        assert b.app.start_drain() == 0
        await b.app.drain()
        before = clock.monotonic()
        await b.nodes[0].stop()
        assert clock.monotonic() == before
    with pytest.raises(ConfigurationError, match="was not started"):
        await b.app.drain()


async def test_whoever_asked_may_be_cancelled_and_everybody_is_told_all_the_same() -> None:
    async with bench(Speech, settings=Settings(connections_per_user=1_000)) as b:
        clients = [await b.connect(f"u{n}") for n in range(BATCH + 1)]
        with anyio.CancelScope() as scope:
            scope.cancel()
            await b.app.drain()
        assert scope.cancelled_caught
        await settle()
        assert sum(map(is_open, clients)) == 1
        await b.clock.advance(PAUSE)
        for client in clients:
            retry_after(await client.closed())


async def test_a_host_that_is_cancelled_waits_no_longer_than_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    speech = waits(clock, 1_000)
    async with bench(speech, clock=clock, settings=Settings(drain_timeout=4, hook_timeout=10_000)) as b:
        alice = await b.connect("alice")
        node = b.nodes[0]
        node._life.cancel()  # as a host's task group does
        await settle()
        assert speech.codes == [4001]
        retry_after(await alice.closed())
        assert not node._stopped.is_set()
        await clock.advance(4)
        assert node._stopped.is_set()
        assert warnings(caplog) == ["1 connections did not end in time"]
        await clock.advance(1_000)


async def test_a_start_that_fails_has_nothing_to_drain() -> None:
    class Fails:
        name = "fails"

        @hookimpl
        def lifespan(self) -> Any:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with bench(Speech, Fails):
            pass


# --- Who comes back was never away


def offline(user: str) -> PresenceUpdated:
    return PresenceUpdated(user, "offline")


async def statuses(client: Client) -> list[PresenceUpdated]:
    return [event for event in await client.pending() if isinstance(event, PresenceUpdated)]


async def test_the_least_that_anybody_holds_bounds_the_window() -> None:
    class Holds:
        name = "holds"

        @hookimpl
        def held_for(self) -> float | None:
            return 0.1

    class Careless:
        name = "careless"

        @hookimpl
        def held_for(self) -> None:
            return None

    async with bench(Presence, Holds, Careless) as b:
        clients = [await b.connect(f"u{n}") for n in range(50)]
        await b.app.drain()
        assert 0 < max([retry_after(await client.closed()) for client in clients]) <= 50


@pytest.mark.parametrize("at_once", [True, False], ids=["another node", "and it ends meanwhile"])
async def test_who_is_elsewhere_in_time_was_never_away(at_once: bool) -> None:
    async with bench(lambda: Presence(grace=GRACE), nodes=2, settings=Settings(heartbeat_timeout=10_000)) as b:
        watcher = await b.connect("watcher", node=1)
        users = [f"u{n}" for n in range(10)]
        there = [await b.connect(user) for user in users]
        await statuses(watcher)
        await b.app.drain()
        ends = [retry_after(await client.closed()) / 1000 for client in there]
        told = sorted(zip(ends, users, strict=True))
        assert told[-1][0] <= GRACE / 2
        if not at_once:
            await b.nodes[0].stop()
        now = 0.0
        for moment, user in told[1:]:  # the first one does not come back
            await b.clock.advance(moment - now)
            now = moment
            await b.connect(user, node=1)
        assert await statuses(watcher) == []
        await b.clock.advance(GRACE - now - 0.1)
        assert await statuses(watcher) == []
        await b.clock.advance(2)
        assert await statuses(watcher) == [offline(told[0][1])]
        await b.clock.advance(3 * GRACE)
        assert await statuses(watcher) == []


async def test_who_was_away_is_away_when_he_is_back_until_he_does_something() -> None:
    patient = Settings(heartbeat_timeout=10_000)
    async with bench(lambda: Presence(client_status=True), nodes=2, settings=patient) as b:
        watcher = await b.connect("watcher", node=1)
        idle = [await b.connect("idle") for _ in range(2)]
        said = await b.connect("said")
        await said.request(PresenceSet("away"))
        await b.clock.advance(500)
        await watcher.request(PresenceSet("online"))
        await b.clock.advance(150)
        seen = {event.user_id: event.status for event in await statuses(watcher)}
        assert seen == {"idle": "away", "said": "away"}
        await b.app.drain()
        await b.clock.advance(5)
        idle = [await b.connect("idle", node=1) for _ in idle]
        said = await b.connect("said", node=1)
        await b.clock.advance(30)
        assert await statuses(watcher) == []
        assert {user["user_id"]: user["status"] for user in said.hello.state["presence"]} == {
            **seen,
            "watcher": "online",
        }
        await idle[0].send({"type": "ping"})
        assert await statuses(watcher) == []
        for client, user in (idle[1], "idle"), (said, "said"):
            await client.request(PresenceSet("online"))
            assert await statuses(watcher) == [PresenceUpdated(user, "online")]
        await watcher.request(PresenceSet("online"))
        await b.clock.advance(550)
        assert await statuses(watcher) == []
        await b.clock.advance(100)  # and from then on it is as always
        assert {event.user_id for event in await statuses(watcher)} == {"idle", "said", "watcher"}


async def test_a_restart_on_what_remembers_is_not_seen_by_anybody() -> None:
    engine, clock = MemoryEngine(), FakeClock()
    users = [f"u{n}" for n in range(5)]

    def made() -> Any:
        return bench(lambda: Presence(grace=GRACE), engine=engine, clock=clock)

    async with made() as b:
        there = [await b.connect(user) for user in [*users, "gone"]]
        for client in there:
            await client.pending()
        position = (await engine.read("w")).position
        await b.nodes[0].stop()
        for client in there:
            assert retry_after(await client.closed()) <= GRACE * 500
    await clock.advance(GRACE / 2)
    async with made() as b:
        back = [await b.connect(user) for user in users]
        assert back[-1].hello.state["presence"] == [{"user_id": user, "status": "online"} for user in [*users, "gone"]]
        assert (await engine.read("w")).position == position, "nobody saw anything"
        await clock.advance(GRACE)
        assert [await statuses(client) for client in back] == [[offline("gone")]] * len(back)
        await clock.advance(40)
        assert [await statuses(client) for client in back] == [[]] * len(back)


class Ask(ClientEvent, type="ask"):
    """Something that takes its time."""


@attrs.define(eq=False)
class Stubborn:
    """Its handler does not let itself be cancelled, and with it the connection does not end."""

    clock: Clock
    name: str = "stubborn"

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent]]:
        return (Ask,)

    @on(Ask)
    async def think(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.clock.sleep(1_000)


async def test_who_is_still_there_at_the_end_has_his_grace_from_then() -> None:
    clock = FakeClock()
    settings = Settings(drain_timeout=4, hook_timeout=10_000, heartbeat_timeout=10_000)
    presence = partial(Presence, grace=GRACE)
    async with bench(presence, partial(Stubborn, clock), clock=clock, settings=settings) as b:
        bob = await b.connect("bob")
        await bob.send(Ask())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.nodes[0].stop)
            await clock.advance(4)
        async with bench(presence, engine=b.engine, clock=clock, settings=settings) as after:
            alice = await after.connect("alice")
            await clock.advance(GRACE - 2)
            assert await statuses(alice) == []
            await clock.advance(2)
            assert await statuses(alice) == [offline("bob")]
        await clock.advance(1_000)


async def test_an_engine_that_does_not_answer_takes_no_longer_than_one_commit_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bench(Speech) as b:
        node = b.nodes[0]
        alice = await b.connect("alice")
        node.link.gate = Gate(("commit",))
        began = b.clock.monotonic()
        ended: list[float] = []

        async def end() -> None:
            await node.stop()
            ended.append(b.clock.monotonic() - began)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            await settle()
            retry_after(await alice.closed())
            assert ended == []
            await b.clock.advance(b.app.settings.drain_timeout + COMMIT_WITHIN)
            assert ended
            node.link.gate.open()
        assert [said for said in warnings(caplog) if said.startswith("this node's lease could not be given back: ")]


# --- By HTTP


async def test_it_is_begun_by_http_and_the_answer_does_not_wait() -> None:
    clock = FakeClock()
    async with bench(waits(clock, 1), partial(HTTP, api_key=KEY), OpenWorkspace, clock=clock) as b:
        clients = [await b.connect(f"u{n}") for n in range(3)]
        async with http(b.app) as client:
            key = {"authorization": f"Bearer {KEY}"}
            for headers in {"authorization": ""}, {"authorization": "Bearer other"}:
                assert (await client.post("/admin/drain", headers=headers)).status_code == 401
            assert all(map(is_open, clients))
            answer = await client.post("/admin/drain", headers=key)
            assert (answer.status_code, answer.json()) == (202, {"connections": 3})
            for one in clients:
                retry_after(await one.closed())
            await clock.advance(1)
            answer = await client.post("/admin/drain", headers=key)
            assert (answer.status_code, answer.json()) == (202, {"connections": 0})
            event = {"type": "said", "data": {"text": "served until the process exits"}}
            assert (await client.post("/api/workspaces/w/events", json=event, headers=key)).status_code == 202


# --- By a signal

SIGNAL = signal.SIGTERM


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What whoever listened before us has heard: a server, as it asks Python itself."""
    numbers: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: numbers.append(number)) for number in (SIGNAL, signal.SIGINT)
    }
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_a_signal_drains_first_and_is_then_passed_on(heard: list[int]) -> None:
    clock = FakeClock()
    mine = signal.getsignal(SIGNAL)
    async with bench(waits(clock, 1), clock=clock) as b:
        alice = await b.connect("alice")
        with drain_on_signals(b.app):
            signal.raise_signal(SIGNAL)
            await settle()
            retry_after(await alice.closed())
            assert heard == []
            await clock.advance(1)
            assert heard == [SIGNAL]
            signal.raise_signal(SIGNAL)
            assert heard == [SIGNAL, SIGNAL]
        assert signal.getsignal(SIGNAL) is mine


async def test_a_second_one_is_passed_on_at_once_and_nothing_twice(heard: list[int]) -> None:
    clock = FakeClock()
    async with bench(waits(clock, 1), clock=clock) as b:
        await b.connect("alice")
        with drain_on_signals(b.app):
            signal.raise_signal(SIGNAL)
            await settle()
            signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGINT]
            await clock.advance(5)
            assert heard == [signal.SIGINT]


async def test_a_setting_does_it_for_the_whole_life(heard: list[int]) -> None:
    mine = signal.getsignal(SIGNAL)
    async with bench(Speech, settings=Settings(drain_on_signals=True)) as b:
        alice = await b.connect("alice")
        assert signal.getsignal(SIGNAL) is not mine
        signal.raise_signal(SIGNAL)
        await settle()
        retry_after(await alice.closed())
        assert heard == [SIGNAL]
    async with bench(Speech, settings=Settings(drain_on_signals=True)) as b:
        assert signal.getsignal(SIGNAL) is not mine
        await b.nodes[0].stop()
        assert signal.getsignal(SIGNAL) is mine
    async with bench(Speech) as b:
        assert signal.getsignal(SIGNAL) is mine


async def test_a_server_that_asked_its_loop_is_held_back_too(heard: list[int]) -> None:
    """Under asyncio it hears by the socket that wakes the loop, and not by Python."""
    clock = FakeClock()
    received: list[int] = []

    async def listen(*, task_status: Any) -> None:
        with anyio.open_signal_receiver(SIGNAL, signal.SIGUSR1) as signals:
            task_status.started()
            async for number in signals:
                received.append(number)

    async with bench(waits(clock, 1), clock=clock) as b, anyio.create_task_group() as tasks:
        await tasks.start(listen)
        alice = await b.connect("alice")
        with drain_on_signals(b.app):
            signal.raise_signal(signal.SIGUSR1)  # none of ours
            await _until(lambda: received)
            assert received == [signal.SIGUSR1]
            signal.raise_signal(SIGNAL)
            await _until(lambda: not is_open(alice))
            assert received == [signal.SIGUSR1]
            await clock.advance(1)
            await _until(lambda: len(received) > 1)
            assert received == [signal.SIGUSR1, SIGNAL]
        tasks.cancel_scope.cancel()


async def _until(question: Callable[[], Any]) -> None:
    """The kernel carries it, by a socket: no task of ours is at work meanwhile."""
    with anyio.fail_after(5):
        while not question():
            await checkpoint()
    await settle()


async def test_who_came_after_us_is_left_alone(heard: list[int]) -> None:
    later = lambda *_: None  # noqa: E731
    async with bench(Speech) as b:
        with drain_on_signals(b.app):
            signal.signal(SIGNAL, later)
        assert signal.getsignal(SIGNAL) is later


async def test_what_is_ignored_stays_so(heard: list[int]) -> None:
    signal.signal(SIGNAL, signal.SIG_IGN)
    async with bench(Speech) as b:
        alice = await b.connect("alice")
        with drain_on_signals(b.app):
            assert signal.getsignal(SIGNAL) is signal.SIG_IGN
            signal.raise_signal(SIGNAL)
            await settle()
            assert is_open(alice)


async def test_outside_of_the_main_thread_it_says_so_and_serves(
    anyio_backend: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async def live() -> str:
        async with bench(Speech, settings=Settings(drain_on_signals=True)) as b:
            return (await b.connect("alice")).hello.user_id

    backend, options = anyio_backend
    assert await anyio.to_thread.run_sync(partial(anyio.run, live, backend=backend, backend_options=options)) == "alice"
    assert warnings(caplog) == ["signals reach the main thread only, and this is another one: nobody drains at SIGTERM"]


async def test_before_the_lifespan_there_is_nothing_to_drain() -> None:
    async with bench(Speech) as b:
        await b.nodes[0].stop()
        with pytest.raises(ConfigurationError, match="was not started"), drain_on_signals(b.app):
            pass


async def test_a_trigger_for_servers_that_take_one(heard: list[int]) -> None:
    clock = FakeClock()
    ended = anyio.Event()
    async with bench(waits(clock, 1), clock=clock) as b, anyio.create_task_group() as tasks:
        alice = await b.connect("alice")

        async def serve() -> None:
            await until_drained(b.app)
            ended.set()

        tasks.start_soon(serve)
        await settle()
        signal.raise_signal(SIGNAL)
        await _until(lambda: not is_open(alice))
        retry_after(await alice.closed())
        assert not ended.is_set()
        await clock.advance(1)
        assert ended.is_set()
