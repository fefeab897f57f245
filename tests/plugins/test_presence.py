"""Who is there: every transition once, whatever number of tabs, nodes or crashes took part."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from typing import Any

import anyio
import pytest

from jackfield import Principal, Settings, testing
from jackfield.errors import InvalidEvent
from jackfield.events import Ping, PresenceUpdated, TypingIndicator
from jackfield.hookspecs import presence_of
from jackfield.testing import Bench, Client
from jackfield_members import Members
from jackfield_presence import Presence, PresenceSet
from jackfield_typing import Typing
from tests.plugins.chat import heard, public, tables

PATIENT = Settings(heartbeat_timeout=100_000)
"""Nobody is closed for being silent."""

bench = partial(testing.bench, settings=PATIENT)


def online(user: str) -> PresenceUpdated:
    return PresenceUpdated(user, "online")


def away(user: str) -> PresenceUpdated:
    return PresenceUpdated(user, "away")


def offline(user: str) -> PresenceUpdated:
    return PresenceUpdated(user, "offline")


def state(client: Client) -> dict[str, str]:
    users: list[dict[str, str]] = client.hello.state["presence"]
    return {user["user_id"]: user["status"] for user in users}


async def statuses(b: Bench, node: int = 0) -> Any:
    return await b.nodes[node].app.ask(presence_of, b.workspace(node=node))


# --- Coming


async def test_the_first_connection_makes_a_user_online_once_and_before_everyone_else(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice, carol = await b.connect("alice"), await b.connect("carol", node=nodes - 1)
        await heard(alice, carol)
        await b.connect("bob", node=nodes - 1)
        assert await heard(alice, carol) == [[online("bob")], [online("bob")]]
        await b.connect("bob")
        assert await heard(alice, carol) == [[], []]


async def test_your_own_coming_is_in_hello_and_not_sent_to_the_connection_that_caused_it(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        assert state(alice) == {"alice": "online"}
        assert await alice.pending() == []
        assert [frame["type"] for frame in alice.frames] == ["hello"]


async def test_presence_stands_in_hello_as_the_wire_has_it() -> None:
    async with bench(Presence) as b:
        alice = await b.connect("alice")
        assert alice.frames[0]["data"]["state"] == {"presence": [{"user_id": "alice", "status": "online"}]}


async def test_who_comes_later_finds_who_is_there(nodes: int) -> None:
    async with bench(lambda: Presence(client_status=True), nodes=nodes) as b:
        bob = await b.connect("bob")
        await bob.send(PresenceSet("away"))
        carol = await b.connect("carol", node=nodes - 1)
        assert state(carol) == {"bob": "away", "carol": "online"}


# --- Going


async def test_offline_comes_a_grace_after_the_last_connection_ended(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice = await b.connect("alice")
        one, two = await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await alice.pending()
        one.close()
        await b.clock.advance(60)
        await alice.send(Ping())
        assert [type(event).__name__ for event in await alice.pending()] == ["Pong"]
        two.drop()
        await b.clock.advance(19)
        assert await alice.pending() == []
        assert await statuses(b) == {"alice": "online", "bob": "online"}
        await b.clock.advance(2)
        assert await alice.pending() == [offline("bob")]
        assert await statuses(b, nodes - 1) == {"alice": "online"}
        await b.clock.advance(50)
        assert await alice.pending() == []


async def test_a_reload_within_the_grace_says_nothing(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice = await b.connect("alice")
        bob = await b.connect("bob")
        await alice.pending()
        for n in range(3):
            bob.close()
            await b.clock.advance(19)
            bob = await b.connect("bob", node=(n + 1) % nodes)
            assert state(bob) == {"alice": "online", "bob": "online"}
        await b.clock.advance(50)
        assert await alice.pending() == []
        bob.close()
        await b.clock.advance(21)
        assert await alice.pending() == [offline("bob")]


async def test_a_reload_that_opens_before_it_closes_says_nothing(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice = await b.connect("alice")
        first = await b.connect("bob")
        await alice.pending()
        await b.connect("bob", node=nodes - 1)
        first.close()
        await b.clock.advance(60)
        assert await alice.pending() == []


async def test_closing_on_one_node_and_opening_on_another_at_the_same_moment_says_nothing(nodes: int) -> None:
    async with bench(lambda: Presence(grace=5), nodes=nodes) as b:
        alice = await b.connect("alice")
        bob = await b.connect("bob")
        await alice.pending()
        async with anyio.create_task_group() as tasks:
            bob.close()
            tasks.start_soon(lambda: b.connect("bob", node=nodes - 1))
        await b.clock.advance(60)
        assert await alice.pending() == []


async def test_without_a_grace_a_user_is_offline_at_once(nodes: int) -> None:
    async with bench(lambda: Presence(grace=0), nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await alice.pending()
        bob.close()
        assert await alice.pending() == [offline("bob")]
        await b.connect("bob")
        assert await alice.pending() == [online("bob")]


async def test_a_revoked_user_is_offline_at_once_and_once(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice = await b.connect("alice")
        await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await alice.pending()
        assert await b.workspace().revoke("bob") == 2
        assert await alice.pending() == [offline("bob")]
        await b.clock.advance(60)
        assert await alice.pending() == []


async def test_a_user_who_lingers_and_is_revoked_goes_offline_at_once_and_once(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        bob.close()
        await alice.pending()
        assert await b.workspace(node=nodes - 1).revoke("bob") == 0
        assert await alice.pending() == [offline("bob")]
        await b.clock.advance(60)
        assert await alice.pending() == []


async def test_several_users_come_and_go_each_in_the_order_of_his_own_transitions(nodes: int) -> None:
    async with bench(lambda: Presence(grace=0), nodes=nodes) as b:
        alice = await b.connect("alice")
        said = []
        for n in range(4):
            here = [await b.connect(f"user{k}", node=(n + k) % nodes) for k in range(3)]
            for client in here:
                client.close()
            said += await alice.pending()
        for k in range(3):
            mine = [event.status for event in said if event.user_id == f"user{k}"]  # type: ignore[attr-defined]
            assert mine == ["online", "offline"] * 4


# --- Away


async def test_idle_for_ten_minutes_is_away_and_a_ping_is_no_activity(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        bob, carol = await b.connect("bob", node=nodes - 1), await b.connect("carol")
        for _ in range(19):
            await b.clock.advance(30)
            for client in (bob, carol):
                await client.send(Ping())
        assert {type(event).__name__ for event in await bob.pending()} == {"PresenceUpdated", "Pong"}
        await b.clock.advance(31)
        assert sorted(event.user_id for event in await bob.pending()) == ["bob", "carol"]  # type: ignore[attr-defined]
        assert await statuses(b) == {"bob": "away", "carol": "away"}


async def test_away_is_when_every_connection_is_idle(nodes: int) -> None:
    async with bench(Presence, Members, Typing, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice = await b.connect("alice")
        one, two = await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await b.clock.advance(500)
        await two.send(TypingIndicator("c1", True))
        await b.clock.advance(101)
        assert state(await b.connect("carol")) == {"alice": "away", "bob": "online", "carol": "online"}
        await alice.pending()
        await b.clock.advance(498)
        assert await alice.pending() == []
        await b.clock.advance(1)
        assert await alice.pending() == [away("bob")]
        await one.send(TypingIndicator("c1", False))
        assert await alice.pending() == [online("bob")]


async def test_how_long_one_must_be_idle_can_be_set() -> None:
    async with bench(lambda: Presence(away_after=2.5), Members, Typing) as b:
        await b.workspace().publish(public())
        bob = await b.connect("bob")
        await b.clock.advance(2.4)
        await bob.send(TypingIndicator("c1", False))
        await b.clock.advance(2.4)
        assert await heard(bob) == [[]]
        await b.clock.advance(0.2)
        assert await heard(bob) == [[away("bob")]]


async def test_a_plain_ping_does_not_bring_back_who_is_away(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        bob = await b.connect("bob", node=nodes - 1)
        await b.clock.advance(600)
        await bob.send(Ping())
        assert [type(event).__name__ for event in await bob.pending()] == ["PresenceUpdated", "Pong"]
        assert await statuses(b) == {"bob": "away"}


async def test_one_connection_that_is_idle_and_one_that_said_so_are_away(nodes: int) -> None:
    async with bench(lambda: Presence(client_status=True), nodes=nodes) as b:
        idle, says = await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await b.clock.advance(300)
        await says.request(PresenceSet("away"))
        await b.clock.advance(299)
        assert await heard(idle, says) == [[], []]
        await b.clock.advance(1)
        assert await heard(idle, says) == [[away("bob")]] * 2
        await says.request(PresenceSet("online"))
        assert await heard(idle, says) == [[online("bob")]] * 2


async def test_the_last_active_connection_closing_leaves_the_idle_ones_away(nodes: int) -> None:
    async with bench(Presence, Members, Typing, nodes=nodes) as b:
        await b.workspace().publish(public())
        idle, active = await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await b.clock.advance(500)
        await active.send(TypingIndicator("c1", False))
        await b.clock.advance(100)
        assert await heard(idle) == [[]]
        active.close()
        assert await heard(idle) == [[away("bob")]]


async def test_who_is_away_is_away_within_the_grace_too(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await b.clock.advance(600)
        await alice.pending()
        bob.close()
        await b.clock.advance(19)
        assert await statuses(b, nodes - 1) == {"alice": "away", "bob": "away"}
        assert state(await b.connect("carol")) == {"alice": "away", "bob": "away", "carol": "online"}
        await alice.pending()
        await b.clock.advance(2)
        assert await heard(alice) == [[offline("bob")]]


async def test_who_is_away_and_opens_another_connection_is_online_again(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        bob = await b.connect("bob")
        await b.clock.advance(600)
        assert await bob.pending() == [away("bob")]
        new = await b.connect("bob", node=nodes - 1)
        assert await heard(bob, new) == [[online("bob")], []]
        new.close()
        assert await bob.pending() == [away("bob")]


async def test_who_is_away_and_goes_is_offline_after_the_grace(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        bob = await b.connect("bob")
        await b.clock.advance(600)
        alice = await b.connect("alice", node=nodes - 1)
        bob.close()
        await b.clock.advance(21)
        assert await alice.pending() == [offline("bob")]


async def test_every_event_but_a_ping_begins_the_ten_minutes_anew() -> None:
    async with bench(Presence, Members, Typing) as b:
        await b.workspace().publish(public())
        bob = await b.connect("bob")
        for _ in range(3):
            await b.clock.advance(599)
            await bob.send(TypingIndicator("c1", False))
        await b.clock.advance(599)
        assert await bob.pending() == []
        await b.clock.advance(1)
        assert await bob.pending() == [away("bob")]


async def test_an_event_at_the_very_moment_of_falling_idle_is_not_lost() -> None:
    async with bench(Presence, Members, Typing) as b:
        await b.workspace().publish(public())
        frames = {"type": "websocket.receive", "text": '{"type":"typing","channel_id":"c1","is_typing":false}'}
        clients: list[Client] = []
        b.app.call_later(600, lambda: clients[0].transport.put(frames))  # rings just before the timer of presence
        clients.append(bob := await b.connect("bob"))
        await b.clock.advance(600 + 599)
        assert await statuses(b) == {"bob": "online"}
        await bob.pending()
        await b.clock.advance(1)
        assert await heard(bob) == [[away("bob")]]


async def test_who_has_gone_by_the_time_he_would_fall_idle_does_not() -> None:
    presence = Presence()
    async with bench(presence) as b:
        bob = await b.connect("bob")
        (session,) = b.app.node.sessions
        bob.close()
        await b.clock.advance(600)
        await presence._doze(session)
        assert not session.idle


# --- What a client says itself


async def test_a_client_says_away_and_online_where_it_is_allowed(nodes: int) -> None:
    async with bench(lambda: Presence(client_status=True), nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await heard(alice, bob)
        for status, event in (("away", away("bob")), ("away", None), ("online", online("bob")), ("online", None)):
            await bob.request(PresenceSet(status))  # type: ignore[arg-type]
            assert await heard(alice, bob) == [[event], [event]] if event else [[], []]


async def test_what_a_client_said_stands_until_it_says_otherwise() -> None:
    async with bench(lambda: Presence(client_status=True), Members, Typing) as b:
        await b.workspace().publish(public())
        bob = await b.connect("bob")
        await bob.request(PresenceSet("away"))
        await bob.request(TypingIndicator("c1", False))
        await b.clock.advance(700)
        assert await bob.pending() == [away("bob")]
        await bob.request(PresenceSet("online"))
        assert await bob.pending() == [online("bob")]
        await b.clock.advance(600)
        assert await bob.pending() == [away("bob")]
        await bob.request(PresenceSet("online"))
        assert await bob.pending() == [online("bob")]


async def test_said_on_one_of_two_connections_the_other_keeps_him_online(nodes: int) -> None:
    async with bench(lambda: Presence(client_status=True), nodes=nodes) as b:
        one, two = await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await one.request(PresenceSet("away"))
        assert await heard(one, two) == [[], []]
        await two.request(PresenceSet("away"))
        assert await heard(one, two) == [[away("bob")], [away("bob")]]


@pytest.mark.parametrize("status", ["offline", "Online", "", 1, None, True, ["away"]])
async def test_a_client_cannot_say_anything_else(status: object) -> None:
    async with bench(lambda: Presence(client_status=True)) as b:
        bob = await b.connect("bob")
        with pytest.raises(InvalidEvent):
            await bob.request({"type": "presence", "status": status})
        assert await bob.pending() == []


async def test_embedded_the_event_is_unknown_unless_asked_for() -> None:
    async with bench(Presence) as b:
        bob = await b.connect("bob")
        await bob.send({"type": "presence", "status": "away"})
        assert (await bob.receive_frame())["data"]["code"] == "UNKNOWN_EVENT"


async def test_a_client_that_toggles_all_day_costs_no_more_than_one_that_does_not() -> None:
    async with bench(lambda: Presence(client_status=True)) as b:
        bob = await b.connect("bob")
        timers = b.app.node.timers
        waiting = []
        for _ in range(10):
            for _ in range(50):
                await bob.send(PresenceSet("away"))
                await bob.send(PresenceSet("online"))
            await b.clock.advance(10)  # the deadlines of the hooks are over
            waiting.append(len(timers._heap))
        assert waiting[-1] == waiting[0]


async def test_a_connection_that_has_ended_is_forgotten_long_before_it_would_have_fallen_idle() -> None:
    async with bench(Presence) as b:
        bob = await b.connect("bob")
        (session,) = b.app.node.sessions
        remains = weakref.ref(session)
        del session
        bob.close()
        await b.clock.advance(10)
        gc.collect()
        assert remains() is None


# --- Nodes that die, engines that are away


async def test_a_dead_nodes_users_go_offline_once_after_its_lease_and_the_grace() -> None:
    async with bench(Presence, nodes=3) as b:
        alice, dave = await b.connect("alice"), await b.connect("dave", node=2)
        await b.connect("bob", node=1), await b.connect("bob", node=1), await b.connect("erin", node=1)
        await b.connect("carol", node=1), await b.connect("carol", node=2)
        await heard(alice, dave)
        await b.nodes[1].crash()
        await b.clock.advance(15 + 19)
        assert await heard(alice, dave) == [[], []]
        await b.clock.advance(3)
        for said in await heard(alice, dave):
            assert sorted(said, key=repr) == [offline("bob"), offline("erin")]
        await b.clock.advance(30)
        assert await heard(alice, dave) == [[], []]


async def test_the_lease_and_the_grace_can_be_set() -> None:
    settings = Settings(heartbeat_timeout=100_000, node_lease=3)
    async with testing.bench(lambda: Presence(grace=1.5), nodes=2, settings=settings) as b:
        alice = await b.connect("alice")
        await b.connect("bob", node=1)
        await alice.pending()
        await b.nodes[1].crash()
        await b.clock.advance(1.9)  # renewed a second ago at most
        assert await heard(alice) == [[]]
        await b.clock.advance(4.6)
        assert await heard(alice) == [[offline("bob")]]


async def test_who_comes_back_on_another_node_before_that_was_never_gone() -> None:
    async with bench(Presence, nodes=3) as b:
        alice = await b.connect("alice")
        await b.connect("bob", node=1)
        await alice.pending()
        await b.nodes[1].crash()
        await b.clock.advance(10)
        await b.connect("bob", node=2)
        await b.clock.advance(60)
        assert await alice.pending() == []


async def test_a_node_that_ends_in_order_gives_its_users_the_grace() -> None:
    async with bench(Presence, nodes=2) as b:  # somebody must be left to see it
        alice = await b.connect("alice")
        await b.connect("bob", node=1)
        await alice.pending()
        await b.nodes[1].stop()
        await b.clock.advance(19)
        assert await alice.pending() == []
        await b.clock.advance(2)
        assert await alice.pending() == [offline("bob")]


async def test_an_outage_of_the_engine_ends_nobody() -> None:
    async with bench(Presence, nodes=3) as b:
        alice = await b.connect("alice")
        await b.connect("bob", node=1)
        await alice.pending()
        for node in b.nodes:
            node.partition()
        await b.clock.advance(40)
        for node in b.nodes:
            node.heal()
        await b.clock.advance(30)
        assert await alice.pending() == []
        assert await statuses(b, 2) == {"alice": "online", "bob": "online"}


async def test_a_node_that_was_cut_off_and_comes_back_brings_its_users_back() -> None:
    async with bench(Presence, nodes=3) as b:
        alice = await b.connect("alice")
        await b.connect("bob", node=1)
        await alice.pending()
        b.nodes[1].partition()
        await b.clock.advance(15 + 20 + 5)
        assert await alice.pending() == [offline("bob")]
        b.nodes[1].heal()
        await b.clock.advance(15)
        assert await alice.pending() == [online("bob")]


async def test_who_left_while_the_engine_was_away_goes_offline_when_it_is_back(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await alice.pending()
        b.nodes[nodes - 1].partition()
        bob.close()
        await b.clock.advance(10)
        b.nodes[nodes - 1].heal()
        await b.clock.advance(30)
        assert await alice.pending() == [offline("bob")]


# --- All the rest


async def test_nothing_is_left_of_who_has_gone(nodes: int) -> None:
    async with bench(Presence, nodes=nodes) as b:
        clients = [await b.connect(f"user{n}", node=n % nodes) for n in range(5)]
        for client in clients:
            client.close()
        await b.clock.advance(30)
        assert await tables(b, "presence") == {}


async def test_workspaces_know_nothing_of_each_other() -> None:
    async with bench(Presence) as b:
        alice = await b.connect("alice")
        there = await b.connect("bob", workspace="other")
        assert await heard(alice, there) == [[], []]
        assert state(there) == {"bob": "online"}


async def test_an_expired_token_is_no_end_of_the_connection_before_its_grace() -> None:
    async with bench(Presence) as b:
        alice = await b.connect("alice")
        now = b.clock.time()
        await b.connect("bob", principal=Principal("bob", expires_at=now + 10))
        await alice.pending()
        await b.clock.advance(10 + 25 + 19)
        assert await alice.pending() == []
        await b.clock.advance(2)
        assert await alice.pending() == [offline("bob")]


@pytest.mark.parametrize("wrong", [{"grace": -1}, {"away_after": -0.5}])
def test_a_negative_time_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        Presence(**wrong)  # type: ignore[arg-type]


async def test_a_host_may_say_it_as_well() -> None:
    async with bench(Presence) as b:
        alice = await b.connect("alice")
        await b.workspace().publish(online("bot"))
        assert await heard(alice) == [[online("bot")]]
