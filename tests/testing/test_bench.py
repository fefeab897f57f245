"""The bench itself: what it makes of plugins, and what becomes of what they raise."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import attrs
import pytest

from jackfield import Everyone, Jackfield, MemoryEngine, ServerEvent, Workspace, hookimpl, on, testing
from jackfield.engine import Arrived, Commit, Draft, Feed, History, Lost, Rewound
from jackfield.events import MessageNew, PresenceUpdated, TypingStart
from jackfield.testing import Closed, settle
from jackfield.testing._link import Gate, Link
from jackfield_members import Members
from jackfield_presence import Presence
from tests.plugins.chat import heard, message, public


@attrs.define(eq=False)
class Shop:
    """Opens and shuts, or fails to."""

    opens: Exception | None = None
    shuts: Exception | None = None
    log: list[str] = attrs.field(factory=list[str])
    name: str = "shop"

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Jackfield) -> AsyncGenerator[None, None]:
        self.log.append("open")
        if self.opens is not None:
            raise self.opens
        try:
            yield
        finally:
            self.log.append("shut")
            if self.shuts is not None:
                raise self.shuts


# --- Plugins


async def test_an_object_serves_one_application_and_is_refused_for_several() -> None:
    async with testing.bench(Members(), nodes=1) as b:
        await b.connect("alice")
    with pytest.raises(TypeError, match=r"serves one application; give its class, or a function .* for 2 nodes"):
        async with testing.bench(Members(), nodes=2):
            raise AssertionError("it never begins")


async def test_classes_and_functions_make_one_for_each_node() -> None:
    made: list[Shop] = []

    def shop() -> Shop:
        made.append(Shop())
        return made[-1]

    async with testing.bench(shop, partial(Presence, grace=1), Members, nodes=3) as b:
        assert [plugin.log for plugin in made] == [["open"]] * 3
        assert len({id(node.app.plugins.objects["presence"]) for node in b.nodes}) == 3
    assert [plugin.log for plugin in made] == [["open", "shut"]] * 3


async def test_without_a_plugin_that_knows_the_test_says_who_sees_what() -> None:
    async with testing.bench() as b:
        alice, bob = await b.connect("alice", channels=["c1"]), await b.connect("bob")
        await b.workspace().publish(message())
        assert await heard(alice, bob) == [[message()], []]
        with pytest.raises(Closed, match="4501"):
            await b.connect()


# --- What is raised


async def test_a_node_that_does_not_start_raises_what_it_raised() -> None:
    shop = Shop(opens=OSError("no electricity"))
    with pytest.raises(OSError, match="no electricity"):
        async with testing.bench(shop):
            raise AssertionError("it never begins")
    assert shop.log == ["open"]


async def test_what_a_test_raises_is_raised_and_the_nodes_end_in_order() -> None:
    shop = Shop()
    with pytest.raises(ZeroDivisionError):
        async with testing.bench(shop):
            raise ZeroDivisionError
    assert shop.log == ["open", "shut"]


async def test_what_a_plugin_raises_as_it_ends_is_raised() -> None:
    shop = Shop(shuts=OSError("the door is stuck"))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="the door is stuck"), flatten_subgroups=True):
        async with testing.bench(shop):
            pass
    assert shop.log == ["open", "shut"]


# --- Nodes


async def test_nodes_have_one_engine_and_lives_of_their_own() -> None:
    async with testing.bench(Members, nodes=3) as b:
        clients = [await b.connect(f"user{n}", node=n) for n in range(3)]
        await b.workspace(node=1).publish(public())
        assert await heard(*clients) == [[public()]] * 3
        await b.nodes[1].crash()
        await b.nodes[2].stop()
        assert (await clients[1].closed()).code == 1006
        assert (await clients[2].closed()).code == 4001
        await b.workspace().publish(message())
        assert await heard(clients[0]) == [[message()]]


async def test_a_node_that_is_cut_off_hears_nothing_until_it_is_whole() -> None:
    async with testing.bench(Members, nodes=2) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=1)
        b.nodes[1].partition()
        said: list[ServerEvent] = [public(), message(), TypingStart("c1", "eve")]
        for event in said:
            await b.workspace().publish(event, to=Everyone())
        assert await heard(alice, bob) == [said, []]
        b.nodes[1].heal()
        assert await heard(alice, bob) == [[], said]


async def test_what_happens_reaches_a_node_that_lags_so_many_seconds_later_and_in_order() -> None:
    async with testing.bench(Members, nodes=2) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=1)
        b.nodes[1].lag(5)
        await b.workspace().publish(public())
        await b.clock.advance(2)
        await b.workspace().publish(message())
        assert await heard(alice, bob) == [[public(), message()], []]
        await b.clock.advance(2.9)
        assert await heard(bob) == [[]]
        await b.clock.advance(0.1)
        assert await heard(bob) == [[public()]]
        await b.clock.advance(1.9)
        assert await heard(bob) == [[]]
        await b.clock.advance(0.1)
        assert await heard(bob) == [[message()]]


async def test_without_lag_what_was_held_back_arrives_and_with_less_some_of_it() -> None:
    async with testing.bench(Members, nodes=2) as b:
        bob = await b.connect("bob", node=1)
        b.nodes[1].lag(60)
        said: list[ServerEvent] = [public(), message("m1"), message("m2")]
        for event in said:
            await b.workspace().publish(event)
            await b.clock.advance(1)
        b.nodes[1].lag(2)
        assert await heard(bob) == [said[:2]]
        b.nodes[1].lag(0)
        assert await heard(bob) == [said[2:]]
        await b.workspace().publish(message("m3"))
        assert await heard(bob) == [[message("m3")]]


async def test_exactly_so_many_seconds_later_is_not_too_early() -> None:
    async with testing.bench(Members, nodes=2) as b:
        bob = await b.connect("bob", node=1)
        b.nodes[1].lag(1)
        for part in range(3, 30):  # a wall clock has so large a number that these are rounded
            one, two = message(f"m{part}"), message(f"n{part}")
            await b.workspace().publish(one, to=Everyone())
            await b.clock.advance(1 / part)
            await b.workspace().publish(two, to=Everyone())
            await b.clock.advance(1 - 1 / part)
            assert await heard(bob) == [[one]], part
            await b.clock.advance(1 / part)
            assert await heard(bob) == [[two]], part


async def test_the_hands_of_the_wall_clock_neither_hurry_a_node_that_lags_nor_hold_it_up() -> None:
    async with testing.bench(Members, nodes=2) as b:
        bob = await b.connect("bob", node=1)
        b.nodes[1].lag(5)
        for hands in (-3_600, 7_200):
            event = message(f"m{hands}")
            await b.workspace().publish(event, to=Everyone())
            await settle()
            b.clock.set_wall(hands)
            await b.clock.advance(4.9)
            assert await heard(bob) == [[]]
            await b.clock.advance(0.1)
            assert await heard(bob) == [[event]]


async def test_a_node_that_lags_decides_by_what_is_and_its_own_clients_hear_of_it_late() -> None:
    @attrs.define(eq=False)
    class Ear:
        """Observes."""

        heard: list[str] = attrs.field(factory=list[str])
        name: str = "ear"

        @on(MessageNew)
        async def hear(self, workspace: Workspace, event: MessageNew) -> None:
            self.heard.append(event.id)

    async with testing.bench(Members, Presence, Ear, nodes=2) as b:
        bob = await b.connect("bob", node=1)
        ear: Ear = b.nodes[1].app.plugins.objects["ear"]  # type: ignore[assignment]
        b.nodes[1].lag(5)
        await b.workspace().publish(public())
        receipt = await b.workspace(node=1).publish(message())  # it knows the channel, of which it was not told yet
        assert receipt.published
        assert (await heard(bob), ear.heard) == ([[]], [])
        carol = await b.connect("carol", node=1)  # is told what is
        there = [{"user_id": user, "status": "online"} for user in ("bob", "carol")]
        assert carol.hello.state == {"presence": there}
        await b.clock.advance(5)
        [[channel, said, presence], missed] = await heard(bob, carol)
        assert ([channel, said], ear.heard) == ([public(), message()], ["m1"])
        assert presence == PresenceUpdated("carol", "online")
        assert missed == [], "it was in her hello"


@pytest.mark.parametrize("cut_first", [True, False])
async def test_what_a_node_that_lags_missed_while_it_was_cut_off_does_not_wait_anew(cut_first: bool) -> None:
    async with testing.bench(Members, nodes=2) as b:
        bob = await b.connect("bob", node=1)
        node = b.nodes[1]
        for slow in (node.partition, partial(node.lag, 5)) if cut_first else (partial(node.lag, 5), node.partition):
            slow()
        said: list[ServerEvent] = [public(), message("m1"), message("m2")]
        for event in said:
            await b.workspace().publish(event)
            await b.clock.advance(4)
        assert await heard(bob) == [[]]
        node.heal()
        assert await heard(bob) == [said[:2]]
        node.partition()
        await b.clock.advance(10)
        assert await heard(bob) == [[]]
        node.lag(0)
        assert await heard(bob) == [[]]
        node.heal()
        assert await heard(bob) == [said[2:]]


async def test_what_is_old_enough_stands_at_the_gate() -> None:
    async with testing.bench(Members, nodes=2) as b:
        bob = await b.connect("bob", node=1)
        b.nodes[1].lag(5)
        gate = b.nodes[1].link.gate = Gate(["feed"])
        await b.workspace().publish(public())
        await settle()
        assert not gate.waiting
        await b.clock.advance(5)
        assert gate.waiting
        assert await heard(bob) == [[]]
        gate.open()
        assert await heard(bob) == [[public()]]


@pytest.mark.parametrize("end", ["crash", "stop", "neither"])
async def test_a_node_that_lags_holds_nothing_up_when_it_ends(end: str) -> None:
    async with testing.bench(Members, nodes=2) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=1)
        b.nodes[1].lag(1_000_000)
        await b.workspace().publish(public())
        if end == "neither":
            return
        await (b.nodes[1].crash() if end == "crash" else b.nodes[1].stop())
        assert (await bob.closed()).code == (1006 if end == "crash" else 4001)
        assert await heard(alice) == [[public()]]


# --- What a feed promises, a link keeps


async def news(feed: Feed, got: list[Arrived | Lost]) -> None:
    async for one in feed:
        got.append(one)


async def test_what_nobody_wants_any_more_does_not_arrive_late() -> None:
    clock, engine = testing.FakeClock(), MemoryEngine()
    link, got = Link(engine), list[Arrived | Lost]()
    async with link.open(History(), clock), link.feed() as feed, anyio.create_task_group() as tasks:
        tasks.start_soon(news, feed, got)
        for workspace in ("a", "b"):
            await link.commit(workspace, Commit(drafts=[Draft("one", b"", b"")]))
            feed.want(workspace, 1)
        link.lag(5)
        for workspace in ("a", "b"):
            await link.commit(workspace, Commit(drafts=[Draft("two", b"", b"")]))
        await settle()
        feed.release("a")
        feed.want("a", 2)
        await clock.advance(5)
        assert [(one.workspace, one.upto) for one in got if isinstance(one, Arrived)] == [("b", 2)]
        with pytest.raises(Rewound):
            await link.commit("a", Commit(seen=1, seen_id="another", drafts=[Draft("three", b"", b"")]))
        await clock.advance(4)
        assert len(got) == 1
        await clock.advance(1)
        assert isinstance(got[-1], Lost)
        tasks.cancel_scope.cancel()
