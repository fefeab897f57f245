"""How much a user may say: one bucket a user and workspace, whatever connections and nodes he uses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
import pytest

import jackfield_rate_limit
from jackfield import ClientEvent, RateLimited, Session, Settings, Unauthorized, hookimpl, on, testing
from jackfield.engine import EngineRefused
from jackfield.events import Ping, TypingIndicator
from jackfield.testing import Client
from jackfield_rate_limit import Bucket, RateLimit
from jackfield_typing import Typing
from tests.plugins.chat import tables


class Say(ClientEvent, type="say"):
    """Something."""


class Shout(ClientEvent, type="shout", cost=5):
    """Something that costs as much as five."""


class Sing(ClientEvent, type="sing", cost=50):
    """Something that costs more than a bucket holds."""


class Breathe(ClientEvent, type="breathe", cost=0):
    """Something free."""


@attrs.define(eq=False)
class Parlour:
    """Hears what is said."""

    name: str = "parlour"
    heard: list[str] = attrs.field(factory=list[str])

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent]]:
        return Say, Shout, Sing, Breathe

    @on(ClientEvent)
    async def hear(self, session: Session, event: ClientEvent) -> None:
        self.heard.append(event.__event__.type)


bench = partial(testing.bench, RateLimit, Parlour, settings=Settings(heartbeat_timeout=100_000))


async def says(client: Client, event: ClientEvent, times: int = 1) -> list[float]:
    """For each: 0 where it was taken, else the seconds that it was told to wait."""
    outcomes = []
    for _ in range(times):
        try:
            await client.request(event)
        except RateLimited as limited:
            outcomes.append(limited.retry_after)
        else:
            outcomes.append(0.0)
    return outcomes


# --- The bucket


async def test_twenty_at_once_and_then_two_a_second() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        assert await says(alice, Say(), 21) == [0.0] * 20 + [0.5]
        await b.clock.advance(0.5)
        assert await says(alice, Say(), 2) == [0.0, 0.5]
        await b.clock.advance(2)
        assert await says(alice, Say(), 5) == [0.0] * 4 + [0.5]
        await b.clock.advance(100)
        assert await says(alice, Say(), 21) == [0.0] * 20 + [0.5]


async def test_a_hundred_and_twenty_a_minute_are_never_refused() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(240):
            assert await says(alice, Say()) == [0.0]
            await b.clock.advance(0.5)


async def test_a_refused_event_is_not_handled_and_says_when_to_come_again() -> None:
    parlour = Parlour()
    async with testing.bench(RateLimit, parlour) as b:
        alice = await b.connect("alice")
        for _ in range(25):
            await alice.send(Say(), ref="r")
        assert parlour.heard == ["say"] * 20
        await alice.pending()
        (error, *_) = [frame for frame in alice.frames if frame["type"] == "error"]
        assert error["data"] == {
            "message": "Too many requests.",
            "code": "RATE_LIMITED",
            "retry_after_ms": 500,
            "ref": "r",
        }


async def test_it_is_one_bucket_over_all_connections_and_nodes(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        clients = [await b.connect("alice", node=n % nodes) for n in range(4)]
        taken = [(await says(clients[n % 4], Say()))[0] == 0.0 for n in range(24)]
        assert taken == [True] * 20 + [False] * 4
        await b.clock.advance(1)
        assert [(await says(client, Say()))[0] == 0.0 for client in clients] == [True, True, False, False]


async def test_reconnecting_refills_nothing(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice")
        assert sum(await says(alice, Say(), 20)) == 0
        for n in range(3):
            alice.close()
            alice = await b.connect("alice", node=(n + 1) % nodes)
            assert await says(alice, Say()) == [0.5]


async def test_users_and_workspaces_have_buckets_of_their_own() -> None:
    async with bench() as b:
        alice, bob, there = (
            await b.connect("alice"),
            await b.connect("bob"),
            await b.connect("alice", workspace="other"),
        )
        await says(alice, Say(), 30)
        assert sum(await says(bob, Say(), 20) + await says(there, Say(), 20)) == 0


async def test_an_event_costs_what_its_class_says(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        assert await says(alice, Shout(), 3) == [0.0] * 3
        assert await says(alice, Say()) == [0.0]
        assert await says(alice, Shout()) == [0.5]
        assert await says(alice, Breathe(), 50) == [0.0] * 50


async def test_a_dear_event_that_is_refused_does_not_bar_a_cheap_one_for_which_there_is_room(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        await says(alice, Say(), 17)
        assert await says(alice, Shout()) == [1.0]
        assert await says(alice, Say(), 4) == [0.0] * 3 + [0.5]
        assert await says(alice, Shout()) == [2.5]


async def test_an_event_that_costs_more_than_a_bucket_holds_takes_a_whole_one() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        assert await says(alice, Sing(), 2) == [0.0, 10.0]
        await b.clock.advance(10)
        assert await says(alice, Sing()) == [0.0]


async def test_a_ping_does_not_use_it_and_has_a_bucket_of_its_own_for_each_connection() -> None:
    async with bench() as b:
        one, two = await b.connect("alice"), await b.connect("alice")
        for client in (one, two):
            await says(client, Say(), 30)
            await client.pending()
            for _ in range(11):
                await client.send(Ping())
            await client.pending()
            said = [frame["type"] for frame in client.frames[-11:]]
            assert said == ["pong"] * 10 + ["error"]
            assert client.frames[-1]["data"]["code"] == "RATE_LIMITED"
            assert client.frames[-1]["data"]["retry_after_ms"] == 1000
        await b.clock.advance(1)
        await one.send(Ping())
        assert await one.receive_frame() == {"type": "pong"}


async def test_what_is_invalid_or_unknown_uses_nothing_of_it_and_nothing_of_the_pings() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(4):
            await alice.send({"type": "nobody's"})
            await alice.send({"type": "ping", "data": 7})
        await alice.pending()
        assert sum(await says(alice, Say(), 20)) == 0
        for _ in range(10):
            await alice.send(Ping())
        await alice.pending()
        assert [frame["type"] for frame in alice.frames[-10:]] == ["pong"] * 10


async def test_an_event_that_a_plugin_refuses_is_an_event() -> None:
    async with bench(Typing) as b:
        alice = await b.connect("alice", channels=["c1"])
        for _ in range(20):
            with pytest.raises(Unauthorized):
                await alice.request(TypingIndicator("c2", True))
        with pytest.raises(RateLimited):
            await alice.request(TypingIndicator("c1", True))


async def test_pings_do_not_bar_what_is_said_and_what_is_said_bars_no_pings() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(15):
            await alice.send(Ping())
        assert await says(alice, Say(), 21) == [0.0] * 20 + [0.5]


async def test_who_comes_back_when_he_was_told_to_is_heard() -> None:
    """Whatever the numbers are: milliseconds are rounded up."""
    for events, per, burst in ((120, 60, 20), (7, 3, 1), (1, 7, 1), (3, 0.7, 2.5), (1000, 60, 1)):
        async with testing.bench(RateLimit(events=events, per=per, burst=burst), Parlour) as b:
            alice = await b.connect("alice")
            await b.clock.advance(0.1234)
            for _ in range(5):
                while not (wait := (await says(alice, Say()))[0]):
                    await b.clock.advance(0.0101)
                assert wait * 1000 == pytest.approx(round(wait * 1000))
                assert 0 < wait <= per / events + 0.001
                await b.clock.advance(wait)
                assert await says(alice, Say()) == [0.0]


async def test_a_flood_costs_no_commits() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await says(alice, Say(), 21)
        b.nodes[0].link.calls.clear()
        assert await says(alice, Say(), 50) == [0.5] * 50
        assert b.nodes[0].link.calls == []


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        (RateLimit(events=10, per=1, burst=3), [0.0] * 3 + [0.1]),
        (RateLimit(events=1, per=60, burst=1), [0.0, 60.0]),
        (RateLimit(events=0.5, per=2, burst=1.5), [0.0, 2.0]),
    ],
    ids=repr,
)
async def test_its_numbers_can_be_set(plugin: RateLimit, expected: list[float]) -> None:
    fresh = attrs.evolve(plugin)
    async with testing.bench(fresh, Parlour) as b:
        alice = await b.connect("alice")
        assert await says(alice, Say(), len(expected)) == pytest.approx(expected)


@pytest.mark.parametrize("field", ["events", "per", "burst"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_that_make_no_bucket_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} must be more than 0"):
        RateLimit(**{field: value})


# --- Without the engine


async def test_without_the_engine_each_node_limits_by_itself(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        clients = [await b.connect("alice", node=n) for n in range(nodes)]
        for node in b.nodes:
            node.partition()
        for client in clients:
            assert await says(client, Say(), 22) == [0.0] * 20 + [0.5, 0.5]
        await b.clock.advance(1)
        assert [len([s for s in await says(client, Say(), 3) if not s]) for client in clients] == [2] * nodes


async def test_when_the_engine_is_back_its_bucket_counts_again(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        await says(alice, Say(), 19)
        b.nodes[nodes - 1].partition()
        assert await says(alice, Say(), 21) == [0.0] * 20 + [0.5]
        b.nodes[nodes - 1].heal()
        assert await says(alice, Say()) == [0.5]  # what was said meanwhile has been said
        await b.clock.advance(1)
        assert await says(alice, Say(), 4) == [0.0, 0.0, 0.0, 0.5]


async def test_an_engine_that_refuses_is_away_too() -> None:
    async with bench() as b:
        alice = await b.connect("alice")

        async def refuse(*_: object) -> None:
            raise EngineRefused("read only")

        b.nodes[0].link.commit = refuse  # type: ignore[method-assign, assignment]
        assert await says(alice, Say(), 21) == [0.0] * 20 + [0.5]
        del b.nodes[0].link.commit


async def test_nothing_is_left_of_who_has_been_silent(nodes: int) -> None:
    limit = RateLimit()
    async with bench(nodes=nodes) if nodes > 1 else testing.bench(limit, Parlour) as b:
        for n in range(5):
            await says(await b.connect(f"user{n}", node=n % nodes), Say(), 30)
        assert len((await tables(b, "rate_limit"))["rate_limit"]) == 5
        await b.clock.advance(12)
        assert await tables(b, "rate_limit") == {}


async def test_what_a_node_remembers_by_itself_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jackfield_rate_limit, "FORGET_AT", 4)
    limit = RateLimit()
    limit._forget_at = 4
    async with testing.bench(limit, Parlour, settings=Settings(heartbeat_timeout=100_000)) as b:
        clients = [await b.connect(f"user{n}") for n in range(60)]
        b.nodes[0].partition()
        for client in clients:
            await says(client, Say())
            await b.clock.advance(9)
        assert len(limit._known) <= 5


# --- Clocks


async def test_a_wall_clock_that_is_set_back_bars_nobody_for_longer_than_a_bucket_takes_to_fill() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await says(alice, Say(), 21)
        b.clock.set_wall(-3600)
        assert await says(alice, Say(), 21) == [0.0] * 20 + [0.5]


async def test_nodes_whose_clocks_differ_refill_nothing_by_it() -> None:
    bucket = Bucket()
    taken = 0
    for n in range(200):  # two nodes in turn, one five seconds ahead, and no time passes
        try:
            bucket = bucket.take(1, 1000.0 + 5 * (n % 2), burst=20, rate=2)
        except RateLimited:
            continue
        taken += 1
    assert taken <= 30
