"""Presence where many are there: who is told of a transition, and that nobody believes what is no longer so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jackfield_presence
from jackfield import Settings, Users, testing
from jackfield.errors import InvalidEvent
from jackfield.events import PresenceUpdated
from jackfield.testing import Bench, Client
from jackfield_presence import Presence, PresenceCrowded, PresenceSet, PresenceWatch, PresenceWatched, UserStatus
from tests.plugins.chat import heard

bench = partial(testing.bench, settings=Settings(heartbeat_timeout=100_000))
COUNTED = 0.3
"""Seconds until those who are there have been counted."""


def small(limit: int = 3) -> Presence:
    return Presence(grace=0, broadcast_limit=limit, client_status=True)


async def come(b: Bench, *users: str, node: int = 0) -> list[Client]:
    clients = [await b.connect(user, node=node) for user in users]
    await b.clock.advance(COUNTED)
    return clients


async def watch(client: Client, *user_ids: str) -> dict[str, str]:
    """What it is told of them."""
    await client.pending()
    await client.request(PresenceWatch(user_ids))
    return {user.user_id: user.status for user in (await client.receive(PresenceWatched)).users}


def of(events: list[Any], user: str) -> list[Any]:
    return [event for event in events if isinstance(event, PresenceUpdated) and event.user_id == user]


async def test_up_to_the_limit_everyone_is_told(nodes: int) -> None:
    async with bench(small, nodes=nodes) as b:
        [alice, _] = await come(b, "alice", "bob")
        await come(b, "carol", node=nodes - 1)
        assert [event.user_id for event in (await heard(alice))[0]] == ["bob", "carol"]
        dave = await b.connect("dave")
        assert [user["user_id"] for user in dave.hello.state["presence"]] == ["alice", "bob", "carol", "dave"]


async def test_above_it_everyone_is_told_so_once_and_then_only_who_watches(nodes: int) -> None:
    async with bench(small, nodes=nodes) as b:
        clients = await come(b, "alice", "bob", "carol", "dave", node=nodes - 1)
        for client, told in zip(clients, await heard(*clients), strict=True):
            assert [event for event in told if not isinstance(event, PresenceUpdated)] == [PresenceCrowded(True)], (
                client
            )
        alice, bob, carol, dave = clients
        assert await watch(alice, "erin", "bob") == {"erin": "offline", "bob": "online"}
        [erin] = await come(b, "erin")
        await bob.send(PresenceSet("away"))
        assert await heard(alice, carol, dave) == [
            [PresenceUpdated("erin", "online"), PresenceUpdated("bob", "away")],
            [],
            [],
        ]
        assert await heard(bob) == [[PresenceUpdated("bob", "away")]], "who it is himself"
        assert await heard(erin) == [[]]


async def test_hello_says_that_it_is_not_all(nodes: int) -> None:
    async with bench(small, nodes=nodes) as b:
        await come(b, "alice", "bob", "carol", "dave")
        erin = await b.connect("erin", node=nodes - 1)
        own = {"user_id": "erin", "status": "online"}
        assert erin.hello.state == {"presence": {"partial": True, "users": [own]}}
        assert await erin.pending() == []


async def test_where_there_is_room_again_everyone_is_told_of_everyone(nodes: int) -> None:
    async with bench(small, nodes=nodes) as b:
        alice, bob, *others = await come(b, "alice", "bob", "carol", "dave", "erin")
        await heard(alice, bob)
        for client in others[:2]:
            client.close()
        await b.clock.advance(COUNTED)
        assert await heard(alice, bob) == [[], []], "three are three tenths too many to turn back"
        others[2].close()
        await b.clock.advance(COUNTED)
        there = [UserStatus("alice", "online"), UserStatus("bob", "online")]
        assert await heard(alice, bob) == [[PresenceCrowded(False, there)]] * 2
        await come(b, "frank", node=nodes - 1)
        assert await heard(alice) == [[PresenceUpdated("frank", "online")]]


async def test_whom_one_watches_is_what_was_said_last(nodes: int) -> None:
    async with bench(small, nodes=nodes) as b:
        alice, *_ = await come(b, "alice", "bob", "carol", "dave")
        assert await watch(alice, "erin") == {"erin": "offline"}
        assert await watch(alice, "frank", "frank", "alice") == {"frank": "offline", "alice": "online"}
        await heard(alice)
        await come(b, "erin", "frank", node=nodes - 1)
        assert await heard(alice) == [[PresenceUpdated("frank", "online")]]
        assert await watch(alice) == {}
        await come(b, "erin", "frank")
        await alice.send(PresenceSet("away"))
        assert await heard(alice) == [[PresenceUpdated("alice", "away")]]


async def test_at_most_five_hundred_are_watched() -> None:
    async with bench(small, settings=Settings(max_event_bytes=100_000)) as b:
        alice = await b.connect("alice")
        with pytest.raises(InvalidEvent):
            await alice.request({"type": "presence.watch", "user_ids": [f"u{n}" for n in range(501)]})
        assert len(await watch(alice, *(f"u{n}" for n in range(500)))) == 500


async def test_each_connection_watches_for_itself() -> None:
    async with bench(small) as b:
        one, other, *_ = await come(b, "alice", "alice", "bob", "carol", "dave")
        await watch(one, "erin")
        await heard(one, other)
        await come(b, "erin")
        assert await heard(one, other) == [[PresenceUpdated("erin", "online")], []]


async def test_to_whom_a_host_says_it_he_says_it() -> None:
    async with bench(small) as b:
        alice, bob, *_ = await come(b, "alice", "bob", "carol", "dave")
        await heard(alice, bob)
        await b.workspace().publish(PresenceUpdated("zoe", "online"), to=Users("bob"))
        assert await heard(alice, bob) == [[], [PresenceUpdated("zoe", "online")]]


async def test_a_watcher_whose_user_is_at_a_node_that_crashes_is_told() -> None:
    async with bench(small, nodes=2) as b:
        alice, *_ = await come(b, "alice", "bob", "carol")
        await come(b, "dave", "erin", node=1)
        await watch(alice, "dave")
        await heard(alice)
        await b.nodes[1].crash()
        await b.clock.advance(60)
        assert of((await heard(alice))[0], "dave") == [PresenceUpdated("dave", "offline")]


async def test_an_engine_that_is_away_is_asked_again_how_many_there_are() -> None:
    async with bench(small) as b:
        alice, *_ = [await b.connect(user) for user in ("alice", "bob", "carol", "dave")]
        b.nodes[0].partition()
        await b.clock.advance(5)
        b.nodes[0].heal()
        await b.clock.advance(5)
        assert PresenceCrowded(True) in (await heard(alice))[0]


class Believer:
    """What a client believes that does as it is told."""

    def __init__(self, client: Client, user: str) -> None:
        self.client = client
        self.user = user
        self.watched: set[str] = set()
        self.deliveries = 0
        state = client.hello.state["presence"]
        self.partial = isinstance(state, dict)
        self.users = {user["user_id"]: user["status"] for user in (state["users"] if self.partial else state)}

    async def listen(self) -> None:
        for event in await self.client.pending():
            self.deliveries += 1
            match event:
                case PresenceUpdated(user_id=user, status=status):
                    assert not self.partial or user in (self.user, *self.watched)
                    assert self.users.get(user, "offline") != status, "told twice"
                    self.users[user] = status
                case PresenceWatched(users=users, partial=partial):
                    self.users |= {user.user_id: user.status for user in users}
                    self.partial = partial
                case PresenceCrowded(partial=partial, users=users):
                    assert self.partial != partial
                    self.partial = partial
                    if users is not None:
                        self.users = {user.user_id: user.status for user in users}
                case _:
                    raise AssertionError(event)

    def believes(self, users: Sequence[str]) -> dict[str, str]:
        """Of those whom it knows about."""
        known = [user for user in users if not self.partial or user == self.user or user in self.watched]
        return {user: self.users.get(user, "offline") for user in known}


USERS = [f"u{n}" for n in range(7)]
somebody = st.sampled_from(USERS)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("come"), somebody, st.integers(0, 1)),
        st.tuples(st.just("come"), somebody, st.integers(0, 1)),
        st.tuples(st.just("go"), somebody),
        st.tuples(st.just("say"), somebody, st.sampled_from(["online", "away"])),
        st.tuples(st.just("watch"), somebody, st.sets(somebody, max_size=3)),
        st.tuples(st.just("count")),
    ),
    max_size=40,
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
@given(steps=steps, storm_at=st.sampled_from([1, 4, 8, 1_000]))
async def test_nobody_believes_what_is_not_so(steps: list[tuple[Any, ...]], storm_at: int) -> None:
    """At every moment, of everyone of whom he is told; in every state of the workspace and through each turn."""
    with patch.object(jackfield_presence, "STORM_AT", storm_at):
        async with bench(small, nodes=2) as b:
            await believe(b, steps)


async def believe(b: Bench, steps: list[tuple[Any, ...]]) -> None:
    there: dict[str, Believer] = {}
    statuses = dict.fromkeys(USERS, "offline")
    for step, *arguments in [*steps, ("count",), ("calm",)]:
        match step, arguments:
            case "come", [user, node] if user not in there:
                there[user] = Believer(await b.connect(user, node=node), user)
                statuses[user] = "online"
            case "go", [user] if user in there:
                there.pop(user).client.close()
                statuses[user] = "offline"
            case "say", [user, status] if user in there:
                await there[user].client.send(PresenceSet(status))
                statuses[user] = status
            case "watch", [user, others] if user in there:
                await there[user].listen()
                there[user].watched = others
                await there[user].client.send(PresenceWatch(sorted(others)))
            case "calm", _:
                await b.clock.advance(5)
            case _:
                await b.clock.advance(COUNTED)
        for one in there.values():
            await one.listen()
            believed = one.believes(USERS)
            assert believed == {user: statuses[user] for user in believed}
    if len(there) > 3:
        assert all(one.partial for one in there.values())
    if len(there) <= 2:
        assert not any(one.partial for one in there.values())


@pytest.mark.parametrize("watching", [True, False])
async def test_a_storm_costs_whoever_watches_little_and_nobody_his_rights(nodes: int, watching: bool) -> None:
    """A hundred and twenty in six seconds: without it each is told of all that come behind him, sixty on average."""
    with patch.object(jackfield_presence, "STORM_AT", 50):
        async with bench(lambda: Presence(broadcast_limit=1_000), nodes=nodes) as b:
            believers: list[Believer] = []
            for number in range(120):
                user = f"u{number}"
                believers.append(Believer(await b.connect(user, node=number % nodes), user))
                if watching:
                    await believers[-1].client.send(PresenceWatch(["u0"]))
                    believers[-1].watched = {"u0"}
                await b.clock.advance(0.05)
            await b.clock.advance(5)
            for one in believers:
                await one.listen()
                assert one.users == {f"u{number}": "online" for number in range(120)}
                assert not one.partial
            deliveries = sum(one.deliveries for one in believers)
            assert deliveries < 20 * 120 if watching else deliveries == 120 * 119 / 2


async def test_a_storm_whose_node_crashes_is_over_all_the_same() -> None:
    with patch.object(jackfield_presence, "STORM_AT", 5):
        async with bench(lambda: Presence(broadcast_limit=1_000), nodes=2) as b:
            alice = await b.connect("alice")
            await watch(alice)
            for number in range(6):
                await b.connect(f"u{number}", node=1)
            await b.clock.advance(0.3)
            assert PresenceCrowded(True) in (await heard(alice))[0]
            await b.nodes[1].crash()
            await b.clock.advance(5)
            [over] = [event for event in (await heard(alice))[0] if isinstance(event, PresenceCrowded)]
            assert not over.partial
            assert len(over.users or ()) == 7, "they linger"
