"""Three nodes on one engine, with every plugin, and whatever becomes of them: crashed, cut off, lagging.

The log is read by an oracle of its own (`told`): it says of every connection what it has to be sent, in which order,
and when at the earliest. What may stand in the log at all, the commands say.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jackfield import EngineUnavailable, Jackfield, Principal, RateLimited, ServerEvent, Settings, Unauthorized
from jackfield._lease import LEASES, SYSTEM
from jackfield._roster import ROSTER
from jackfield.errors import Refused
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    MemberJoined,
    MemberLeft,
    MessageNew,
    PresenceUpdated,
    ReactionAdded,
    ReactionRemoved,
    TypingIndicator,
    TypingStart,
    TypingStop,
)
from jackfield.hookspecs import presence_of
from jackfield.testing import Bench, BenchNode, Client, bench, settle
from jackfield.testing._bench import _Anybody
from jackfield.testing._link import Link
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from jackfield_typing import Typing
from tests.core.told import DELIVERED_ALONE, Listener, Log, Told
from tests.plugins.chat import heard, message, private, public

NOON = "2024-01-01T12:00:00.000Z"
NODES = 3
USERS = ("alice", "bob", "carol")
CHANNELS = ("c1", "c2")
LEASE, GRACE, SILENCE = 15, 20, 6
UNMOVED = Settings(heartbeat_timeout=100_000, connects_per_address=100_000)


def limit() -> RateLimit:
    return RateLimit(events=1_000_000, burst=1_000_000)


PLUGINS: tuple[Callable[[], object], ...] = (Members, Presence, Typing, Reactions, Threads, limit)


def seen(client: Client) -> list[Told]:
    client._take()
    return [(f["type"], f["data"]) for f in client.frames if f["type"] not in DELIVERED_ALONE]


@attrs.define(eq=False)
class Guest:
    """A connection, and what is known of it beside what it is to be told."""

    client: Client
    listener: Listener
    node: int
    steady: bool = True
    """Whether its node has reached the engine since it came."""


class Run:
    """What the commands of an example do, and what must have come of it."""

    def __init__(self, b: Bench) -> None:
        self.b = b
        self.log = Log()
        self.guests: list[Guest] = []
        self.watchers: list[Guest] = []
        self.alive = [True] * NODES
        self.cut = [False] * NODES
        self.lags = [0.0] * NODES
        self.arrived = [0] * NODES
        """How much of the log each node has been told of."""
        self.typists: dict[tuple[str, str], set[str]] = {}
        self.silent_at: dict[tuple[str, str], float] = {}
        self.reacted: set[str] = set()
        self.messages: dict[str, list[str]] = {}
        self.last: tuple[ServerEvent, str, int | None] | None = None
        self.number = 0

    # --- publishing

    async def publish(self, node: int, event: ServerEvent, happens: bool, id: str | None = None) -> bool:
        """By a node that reaches the engine; by one that does not it fails, and has not happened."""
        if not self.alive[node]:
            return False
        workspace = self.b.workspace(node=node)
        if self.cut[node]:
            with pytest.raises(EngineUnavailable):
                await workspace.publish(event, id=id)
            return False
        receipt = await workspace.publish(event, id=id)
        assert receipt.published is happens, event
        if id is not None:
            self.last = (event, id, receipt.position)
        await settle()
        return happens

    async def say(self, node: int, channel: str, user: str, reply: bool) -> None:
        if channel in self.log.members:
            self.number += 1
            those = self.messages[channel]
            parent = those[0] if reply and those else None
            event = MessageNew(f"m{self.number}", channel, user, "text", NOON, parent_message_id=parent)
            if await self.publish(node, event, True, f"once-{self.number}"):
                those.append(event.id)
                self.stopped(channel, user)

    async def again(self, node: int) -> None:
        """What was said last, by whichever node: it has been."""
        if self.last is not None and self.alive[node] and not self.cut[node]:
            event, id, position = self.last
            receipt = await self.b.workspace(node=node).publish(event, id=id)
            assert (receipt.published, receipt.position) == (False, position)

    async def react(self, node: int, channel: str, adds: bool) -> None:
        if those := self.messages.get(channel):
            id = those[-1]
            event = (ReactionAdded if adds else ReactionRemoved)(id, "+1", "alice")
            if await self.publish(node, event, (id in self.reacted) is not adds):
                (self.reacted.add if adds else self.reacted.discard)(id)

    async def create(self, node: int, channel: str, kind: str, user: str) -> None:
        happens = channel not in self.log.members
        if await self.publish(node, ChannelCreated(channel, channel, kind, user), happens):
            self.messages[channel] = []

    async def delete(self, node: int, channel: str) -> None:
        if channel in self.log.members and await self.publish(node, ChannelDeleted(channel), True):
            del self.messages[channel]
            for user in USERS:
                self.stopped(channel, user)

    async def join(self, node: int, channel: str, user: str) -> None:
        members = self.log.members.get(channel)
        if members is not None:
            await self.publish(node, MemberJoined(channel, user), user not in members)

    async def leave(self, node: int, channel: str, user: str) -> None:
        members = self.log.members.get(channel)
        if members is not None and await self.publish(node, MemberLeft(channel, user), user in members):
            self.stopped(channel, user)

    # --- clients

    async def open(self, node: int, user: str) -> None:
        if not self.alive[node]:
            return
        client = await self.b.open(user, node=node)
        if self.cut[node]:
            assert (await client.closed()).code == 1013
            return
        await self.read()
        client._take()
        hello = client.frames[0]["data"]
        listener = Listener(user, self.log.position, hello["connection_id"])
        self.log.listeners.append(listener)
        guest = Guest(client, listener, node)
        (self.guests if user in USERS else self.watchers).append(guest)
        there = {one["user_id"]: one["status"] for one in hello["state"]["presence"]}
        assert there == self.online(), "hello says who is there"
        types = {(one["channel_id"], one["user_id"]) for one in hello["state"].get("typing", ())}
        assert types == {(c, u) for c, u in self.log.typing if self.log.sees(user, c)}, "and who types"

    def guest(self, which: int) -> Guest | None:
        return self.guests[which % len(self.guests)] if self.guests else None

    async def close(self, which: int, orderly: bool) -> None:
        if (guest := self.guest(which)) is not None:
            self.guests.remove(guest)
            self.log.listeners.remove(guest.listener)
            (guest.client.close if orderly else guest.client.drop)()
            await settle()
            self.gone(guest)

    def gone(self, guest: Guest) -> None:
        """Where its node says so, his last connection that types is his stop. Else his silence is."""
        if self.alive[guest.node] and not self.cut[guest.node]:
            for (channel, user), connections in [*self.typists.items()]:
                if guest.listener.id in connections:
                    connections.remove(guest.listener.id)
                    if not connections:
                        self.stopped(channel, user)

    async def move(self, which: int, node: int) -> None:
        """A reload, by another node."""
        if (guest := self.guest(which)) is not None:
            await self.close(which, True)
            await self.open(node, guest.listener.user)

    async def type(self, which: int, channel: str, types: bool) -> None:
        guest = self.guest(which)
        if guest is None:
            return
        user, node = guest.listener.user, guest.node
        code = "OK"
        try:
            await guest.client.request(TypingIndicator(channel, types))
        except Refused as refused:
            code = refused.code
        if code == Unauthorized.code:
            assert not self.log.sees(user, channel) or self.cut[node]
        elif code != "OK":
            assert (code, self.cut[node]) == ("INTERNAL_ERROR", True)
        else:
            # Who is told late that he has left may still type for a moment; who has come is heard at once.
            assert self.log.sees(user, channel) or self.lags[node] or self.cut[node]
            if types:
                self.silent_at[channel, user] = self.b.clock.time() + SILENCE
                self.typists.setdefault((channel, user), set()).add(guest.listener.id)
            else:
                self.stopped(channel, user)

    def stopped(self, channel: str, user: str) -> None:
        self.silent_at.pop((channel, user), None)
        self.typists.pop((channel, user), None)

    async def revoke(self, node: int, user: str) -> None:
        if self.alive[node] and not self.cut[node]:
            await self.b.workspace(node=node).revoke(user)
            await self.advance(1)  # who comes back from here on has come later

    # --- nodes and time

    async def crash(self, node: int) -> None:
        if self.alive[node]:
            await self.b.nodes[node].crash()
            self.alive[node] = self.cut[node] = False
            self.lags[node] = 0
            for guest in [*self.guests, *self.watchers]:
                if guest.node == node:
                    (self.guests if guest in self.guests else self.watchers).remove(guest)
                    self.log.listeners.remove(guest.listener)

    async def start(self, node: int) -> None:
        """Another process takes its place."""
        if not self.alive[node]:
            link = Link(self.b.engine)
            app = Jackfield(
                *[make() for make in PLUGINS], _Anybody(), engine=link, settings=UNMOVED, clock=self.b.clock
            )
            new = BenchNode(app, link, self.b.nodes[node]._tasks)
            await new.start()
            nodes = self.b.nodes
            assert isinstance(nodes, list)
            nodes[node], self.alive[node] = new, True
            await self.read()
            self.arrived[node] = self.log.position
            await self.open(node, f"watcher-{node}")

    async def partition(self, node: int) -> None:
        if self.alive[node]:
            self.b.nodes[node].partition()
            self.cut[node] = True
            for guest in [*self.guests, *self.watchers]:
                guest.steady = guest.steady and guest.node != node

    async def heal(self, node: int) -> None:
        if self.alive[node]:
            self.b.nodes[node].heal()
            self.cut[node] = False
            await settle()

    async def lag(self, node: int, seconds: float) -> None:
        if self.alive[node]:
            self.b.nodes[node].lag(seconds)
            self.lags[node] = seconds
            await settle()

    async def advance(self, seconds: float) -> None:
        await self.b.clock.advance(seconds)

    # --- what must have come of it

    def online(self) -> dict[str, str]:
        return {user: status for user, status in self.log.statuses.items() if status != "offline"}

    async def read(self) -> None:
        """What passes is kept for a minute, so this is done often."""
        log, engine = self.log, self.b.engine
        upto = (await engine.read("w")).position
        for record in await engine.records("w", log.position, upto, 10_000):
            log.read(record)
        assert log.position == upto

    async def check(self) -> None:
        """After every command."""
        await settle()
        await self.read()
        now, log = self.b.clock.time(), self.log
        for node in range(NODES):
            if self.alive[node] and not self.cut[node]:
                while self.arrived[node] < log.position:
                    if log.at(self.arrived[node] + 1) > now - self.lags[node] + 0.000_01:
                        break
                    self.arrived[node] += 1
                assert await self.b.nodes[node].app.ask(presence_of, self.b.workspace(node=node)) == self.online()
        for guest in [*self.watchers, *self.guests]:
            listener, arrived, got = guest.listener, self.arrived[guest.node], seen(guest.client)
            expected = listener.upto(arrived)
            if listener.revoked_at is not None and listener.revoked_at <= arrived:
                assert (await guest.client.closed()).code == 4503
                assert got == expected[: len(got)], listener.user  # what still waited for him is not sent any more
                self.guests.remove(guest)
                log.listeners.remove(listener)
                self.gone(guest)
            else:
                assert not guest.client.transport.ended, await guest.client.closed()
                assert got == expected, listener.user
                assert listener.revoked_at or not guest.steady or listener.user in self.online()
        # Each node looks each second, and the one that wrote it at once.
        for typist in [*self.silent_at]:
            if typist not in log.typing:
                assert self.silent_at[typist] <= now, "he has not stopped"
                self.stopped(*typist)
        assert all(self.silent_at.get(typist, 0) + 1 >= now for typist in log.typing), "he has stopped"

    async def end(self) -> None:
        """Everything is whole again, and for long enough: who is connected is there, and nobody else."""
        for node in range(NODES):
            await self.heal(node)
            await self.lag(node, 0)
        await self.check()
        for _ in range(4):
            await self.advance((2 * LEASE + GRACE) / 4)
            await self.check()
        connections: dict[str, int] = {}
        for guest in [*self.watchers, *self.guests]:
            connections[guest.listener.user] = connections.get(guest.listener.user, 0) + 1
        assert self.online() == dict.fromkeys(connections, "online")
        roster = await self.b.workspace(node=0).all(ROSTER)
        assert {user: sum(n for n, _ in there.values()) for user, there in roster.items()} == connections
        assert not self.log.typing
        leases = (await self.b.engine.read(SYSTEM, tables=(LEASES.name,))).tables[LEASES.name]
        assert len(leases) == sum(self.alive)


node, other = st.integers(0, NODES - 1), st.integers(1, NODES - 1)
user, channel, which = st.sampled_from(USERS), st.sampled_from(CHANNELS), st.integers(0, 5)


def command(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), *arguments)


comes = st.one_of(command("open", node, user), command("open", node, user), command("move", which, node))
goes = st.one_of(command("close", which, st.booleans()), command("close", which, st.booleans()))
says = st.one_of(command("say", node, channel, user, st.booleans()), command("again", node))
moves = st.one_of(command("join", node, st.just("c1"), user), command("leave", node, st.just("c1"), user))
turns = st.one_of(
    command("create", node, channel, st.sampled_from(["public", "private"]), user),
    command("delete", node, channel),
    command("react", node, channel, st.booleans()),
)
types = command("type", which, channel, st.sampled_from([True, True, False]))
time = command("advance", st.sampled_from([0.4, 1.0, 3.0, 5.5, 11.0]))
troubles = st.one_of(
    command("lag", node, st.sampled_from([0.0, 0.5, 4.0, 12.0])),
    command("partition", other),
    command("heal", other),
    command("crash", other),
    command("start", other),
    command("revoke", node, user),
)
kinds = st.sampled_from(
    [comes] * 5 + [goes] * 2 + [says] * 3 + [moves] * 3 + [turns] + [types] * 3 + [time] * 4 + [troubles] * 6
)
commands = st.lists(kinds.flatmap(lambda kind: kind), min_size=15, max_size=40)


@pytest.mark.timeout(600)  # what has failed is made smaller for five minutes at most
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
@given(commands=commands)
async def test_whatever_becomes_of_nodes_everybody_is_told_what_is_his_once_and_in_order(commands: list[Any]) -> None:
    await play(commands)


async def play(commands: list[Any]) -> None:
    async with bench(*PLUGINS, nodes=NODES, settings=UNMOVED) as b:
        run = Run(b)
        await run.create(0, "c1", "private", "alice")
        await run.create(0, "c2", "public", "alice")
        for number in range(NODES):
            await run.open(number, f"watcher-{number}")
        await run.check()
        for name, *arguments in commands:
            await getattr(run, name)(*arguments)
            await run.check()
        await run.end()


# --- each of it by itself

cluster = partial(bench, *PLUGINS, nodes=NODES, settings=UNMOVED)


async def watch(b: Bench) -> list[Client]:
    """Somebody on every node, who has been told of everybody."""
    watchers = [await b.connect(f"watcher-{node}", node=node) for node in range(NODES)]
    await heard(*watchers)
    return watchers


@pytest.mark.parametrize("how", ["says so", "is silent", "writes", "goes", "is revoked", "leaves", "crashes", "is cut"])
async def test_who_typed_on_two_nodes_has_stopped_once(how: str) -> None:
    async with cluster() as b:
        await b.workspace().publish(private(by="bob"))
        for n in range(NODES):
            await b.workspace().publish(MemberJoined("c1", f"watcher-{n}"))
        watchers = await watch(b)
        bobs = [await b.connect("bob", node=node) for node in (1, 2)]
        await heard(*watchers)
        for bob in bobs:
            await bob.request(TypingIndicator("c1", True))
        assert await heard(*watchers) == [[TypingStart("c1", "bob")]] * NODES
        b.nodes[2].lag(2)
        match how:
            case "says so":
                await bobs[1].request(TypingIndicator("c1", False))
            case "writes":
                await b.workspace(node=2).publish(message(user="bob"))
            case "goes":
                for bob in bobs:
                    bob.close()
            case "is revoked":
                await b.workspace(node=2).revoke("bob")
            case "leaves":
                await b.workspace(node=2).publish(MemberLeft("c1", "bob"))
            case "crashes":
                await b.nodes[1].crash()
                bobs[1].drop()
            case "is cut":
                b.nodes[1].partition()
                await b.clock.advance(SILENCE + 1)
                b.nodes[1].heal()
            case _:
                pass
        await b.clock.advance(SILENCE + 3)
        await b.clock.advance(2 * LEASE + GRACE)
        for n, watcher in enumerate(watchers):
            stops = [event for event in await watcher.pending() if isinstance(event, TypingStart | TypingStop)]
            assert stops == [TypingStop("c1", "bob")] * (how != "crashes" or n != 1)


async def test_six_connections_on_three_nodes_are_one_bucket() -> None:
    async with bench(Members, Presence, Typing, RateLimit, nodes=NODES, settings=UNMOVED) as b:
        await b.workspace().publish(public())
        clients = [await b.connect("bob", node=n % NODES) for n in range(6)]
        b.nodes[1].lag(60)  # it is asked of the engine, which no feed holds up

        async def taken(clients: list[Client], times: int) -> int:
            count = 0
            for n in range(times):
                try:
                    await clients[n % len(clients)].request(TypingIndicator("c1", True))
                except RateLimited:
                    continue
                count += 1
            return count

        assert await taken(clients, 60) == 20
        await b.clock.advance(1)
        assert await taken(clients, 12) == 2
        await b.nodes[2].crash()
        again = [await b.connect("bob", node=n % 2) for n in range(2)]
        assert await taken([*clients[:2], *again], 8) == 0
        await b.clock.advance(2)
        assert await taken([*clients[:2], *again], 8) == 4


@pytest.mark.parametrize("seed", range(3))
async def test_nobody_sees_a_private_channel_at_a_place_where_he_is_not_in_it(seed: int) -> None:
    """He comes and goes by one node after the other; two of his own nodes hear of it late, or not for a while."""
    chance = random.Random(seed)
    async with cluster() as b:
        await b.workspace().publish(private())
        bobs = [await b.connect("bob", node=node) for node in range(NODES)]
        await heard(*bobs)
        inside, allowed, said = False, list[ServerEvent](), 0
        b.nodes[1].lag(3)
        for _ in range(120):
            node = chance.choice([0, 1])
            match chance.choice(["moves", "moves", "says", "says", "says", "time", "cut"]):
                case "moves":
                    inside = not inside
                    event = MemberJoined("c1", "bob") if inside else MemberLeft("c1", "bob")
                    await b.workspace(node=node).publish(event)
                    allowed.append(event)
                case "says":
                    said += 1
                    await b.workspace(node=node).publish(message(f"m{said}"))
                    allowed += [message(f"m{said}")] * inside
                case "time":
                    await b.clock.advance(chance.random() * 3)
                case _:
                    chance.choice([b.nodes[2].partition, b.nodes[2].heal])()
        b.nodes[2].heal()
        await b.clock.advance(3)
        for got in await heard(*bobs):
            assert [event for event in got if not isinstance(event, PresenceUpdated)] == allowed


async def test_who_is_revoked_is_out_on_every_node_when_that_hears_of_it_and_comes_into_none() -> None:
    async with cluster() as b:
        watchers = await watch(b)
        issued = b.clock.time() - 10
        old, new = Principal("bob", issued_at=issued), Principal("bob", issued_at=issued + 11)
        bobs = [await b.connect("bob", node=node, principal=old) for node in range(NODES)]
        await heard(*watchers)
        b.nodes[1].partition()
        b.nodes[2].lag(5)
        assert await b.workspace().revoke("bob") == 3
        assert (await bobs[0].closed()).code == 4503
        assert not bobs[1].transport.ended
        assert not bobs[2].transport.ended
        # He is let in nowhere: the engine is asked, however late a node is told.
        codes = [(await (await b.open("bob", node=node, principal=old)).closed()).code for node in range(NODES)]
        assert codes == [4503, 1013, 4503]
        await b.clock.advance(4)
        fresh = await b.connect("bob", node=2, principal=new)
        assert not bobs[2].transport.ended
        await b.clock.advance(1)
        assert (await bobs[2].closed()).code == 4503
        assert await heard(fresh) == [[]]  # a token of later stands, when the node is told too
        b.nodes[1].heal()
        assert (await bobs[1].closed()).code == 4503
        assert (await (await b.open("bob", node=1, principal=old)).closed()).code == 4503
        await b.clock.advance(2 * LEASE + GRACE)
        assert await heard(*watchers) == [[PresenceUpdated("bob", "offline"), PresenceUpdated("bob", "online")]] * 3
        assert not fresh.transport.ended


@pytest.mark.parametrize("trouble", ["none", "lag", "crash", "cut"])
async def test_a_reload_by_another_node_within_the_grace_tells_nobody(trouble: str) -> None:
    async with cluster() as b:
        watchers = await watch(b)
        bob = await b.connect("bob", node=2)
        await heard(*watchers)
        match trouble:
            case "lag":
                for node in b.nodes:
                    node.lag(5)
            case "crash":
                await b.nodes[2].crash()
                watchers.pop()
            case "cut":
                b.nodes[2].partition()
        for node in (1, 0, 1):
            bob.drop()
            await b.clock.advance(GRACE - 1)
            bob = await b.connect("bob", node=node)
            assert {"user_id": "bob", "status": "online"} in bob.hello.state["presence"]
        b.nodes[2].heal()
        await b.clock.advance(2 * LEASE + GRACE)
        for got in await heard(*watchers):
            assert [event for event in got if event.user_id == "bob"] == []  # type: ignore[attr-defined]
        bob.close()
        await b.clock.advance(GRACE + 6)
        for got in await heard(*watchers):
            assert got == [PresenceUpdated("bob", "offline")]


async def test_a_user_has_so_many_connections_over_all_nodes() -> None:
    few = attrs.evolve(UNMOVED, connections_per_user=3)
    async with bench(*PLUGINS, nodes=NODES, settings=few) as b:
        bobs = [await b.connect("bob", node=node) for node in range(NODES)]
        b.nodes[1].lag(5)

        async def refused() -> list[int | None]:
            clients = [await b.open("bob", node=node) for node in range(NODES)]
            return [(await client.closed()).code for client in clients]

        assert await refused() == [4504] * 3
        b.nodes[2].partition()
        assert await refused() == [4504, 4504, 1013]
        b.nodes[2].heal()
        bobs[0].close()
        await settle()
        await b.connect("bob", node=1)  # free at once, although that node is told of nothing yet
        assert await refused() == [4504] * 3
        await b.nodes[2].crash()
        assert (await (await b.open("bob")).closed()).code == 4504
        await b.clock.advance(LEASE + 2)  # nobody knew that he had gone
        await b.connect("bob")
        assert (await (await b.open("bob", node=1)).closed()).code == 4504
