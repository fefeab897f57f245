"""The races of two nodes on one engine, in every order of their engine calls.

The oracle is the same everywhere: the fold of the log is what the cells hold, and what every client saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import orjson
import pytest

from jackfield import EngineUnavailable, Everyone, Principal, Receipt, Settings, UnknownAudience
from jackfield._commit import REVOKED
from jackfield._lease import LEASES, SYSTEM
from jackfield._log import Head
from jackfield._roster import ROSTER
from jackfield.engine import Key
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    ReactionAdded,
    ReactionRemoved,
    TypingIndicator,
)
from jackfield.testing import Bench, BenchNode, Client, bench, settle
from jackfield.testing._interleave import Order, every_order
from jackfield.testing._link import CALLS, Gate
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from jackfield_typing import Typing

NOON = "2024-01-01T12:00:00.000Z"
FEED = (*CALLS, "feed")
ANSWERS = (*CALLS, "answer")


class Happened(NamedTuple):
    """A record of the log, read."""

    position: int
    type: str
    data: dict[str, Any]


async def log(b: Bench, after: int = 0) -> list[Happened]:
    """What has happened, in order; what no client gets is left out."""
    upto = (await b.engine.read("w")).position
    records = await b.engine.records("w", after, upto, 10_000)
    return [
        Happened(record.position, (frame := orjson.loads(record.body))["type"], frame["data"])
        for record in records
        if Head.load(record.head).type != REVOKED
    ]


async def position(b: Bench) -> int:
    return (await b.engine.read("w")).position


async def saw(client: Client) -> list[tuple[str, dict[str, Any]]]:
    """What a client has been sent, but for what was for it alone."""
    await client.pending()
    return [(f["type"], f["data"]) for f in client.frames if f["type"] not in ("hello", "ack", "error", "pong")]


def told(happened: Sequence[Happened]) -> list[tuple[str, dict[str, Any]]]:
    return [(h.type, h.data) for h in happened]


def message(
    id: str, user: str = "alice", *, parent: str | None = None, at: str = NOON, channel: str = "c1"
) -> MessageNew:
    return MessageNew(id, channel, user, f"text of {id}", at, parent_message_id=parent)


async def begin(b: Bench, *messages: str, kind: str = "public") -> None:
    """A channel with messages in it."""
    await b.workspace().publish(ChannelCreated("c1", "general", kind, "alice"))
    for id in messages:
        await b.workspace().publish(message(id))


async def is_given(b: Bench) -> bool:
    """Whether bob's reaction is remembered: then it cannot be given again."""
    return not (await b.workspace().publish(ReactionAdded("m1", "+1", "bob"))).published


# --- the tool itself


async def test_what_commutes_is_run_once_and_nothing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every outcome that the full number of orders has, the reduced number has."""

    async def outcomes() -> tuple[int, set[str]]:
        found = set()

        async def run(order: Order) -> None:
            async with bench(Reactions, nodes=2) as b:
                async with order.race(b) as race:
                    for node, event in enumerate((ReactionAdded, ReactionRemoved)):
                        publish = b.workspace(node=node).publish
                        await race.start(lambda publish=publish, e=event: publish(e("m1", "+1", "bob"), to=Everyone()))
                found.add(repr(told(await log(b))))

        return await every_order(run), found

    runs, found = await outcomes()
    monkeypatch.setattr("jackfield.testing._interleave.Step.commutes", lambda self, other: False)
    all_runs, all_found = await outcomes()
    assert found == all_found
    assert len(found) == 2
    assert runs < all_runs


async def test_a_race_that_is_lost_names_its_order() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            await begin(b)
            async with order.race(b) as race:
                first = await race.start(b.workspace().publish, message("m1"))
                second = await race.start(b.workspace(node=1).publish, message("m2"))
            assert first[0].position < second[0].position

    with pytest.raises(AssertionError) as caught:
        await every_order(run)
    [note] = caught.value.__notes__
    assert "node 1: commit w" in note


async def test_more_orders_than_allowed_are_noticed() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            await begin(b)
            async with order.race(b) as race:
                await race.start(b.workspace().publish, message("m1"))
                await race.start(b.workspace(node=1).publish, message("m2"))

    with pytest.raises(RuntimeError, match="more than 1 orders"):
        await every_order(run, at_most=1)


async def test_what_somebody_raises_in_a_race_and_must_not_is_raised() -> None:
    async def run(order: Order) -> None:
        async with bench(Members) as b, order.race(b) as race:
            await race.start(b.workspace().publish, message("m1"))

    with pytest.raises(UnknownAudience):
        await every_order(run)


# --- reactions


@pytest.mark.parametrize("there", [False, True], ids=["not there", "there"])
async def test_a_reaction_is_added_and_removed(there: bool) -> None:
    async def run(order: Order) -> None:
        async with bench(Members, Reactions, nodes=2) as b:
            await begin(b, "m1")
            if there:
                await b.workspace().publish(ReactionAdded("m1", "+1", "bob"))
            clients = [await b.connect(name, node=n) for n, name in enumerate(("alice", "bob"))]
            start = await position(b)
            async with order.race(b, kinds=FEED) as race:
                added = await race.start(b.workspace().publish, ReactionAdded("m1", "+1", "bob"))
                removed = await race.start(b.workspace(node=1).publish, ReactionRemoved("m1", "+1", "bob"))
            happened = await log(b, start)
            held = there
            for h in happened:
                assert (h.type == "reaction.added") is not held, "the log repeats itself"
                held = h.type == "reaction.added"
            assert len(happened) == sum(receipt.published for receipt in (*added, *removed))
            for client in clients:
                assert await saw(client) == told(happened)
            assert await is_given(b) is held

    await every_order(run)


async def test_a_message_is_deleted_and_somebody_reacts_to_it() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, Reactions, nodes=2) as b:
            await begin(b, "m1")
            clients = [await b.connect("alice", node=node) for node in (0, 1)]
            start = await position(b)
            async with order.race(b) as race:
                await race.start(b.workspace().publish, MessageDeleted("m1", NOON))
                reacted = await race.start(
                    b.workspace(node=1).publish, ReactionAdded("m1", "+1", "bob"), may_raise=UnknownAudience
                )
            happened = await log(b, start)
            if isinstance(reacted[0], Receipt):
                assert [h.type for h in happened] == ["reaction.added", "message.deleted"]
            else:
                assert [h.type for h in happened] == ["message.deleted"]
            for client in clients:
                assert await saw(client) == told(happened)

    await every_order(run)


# --- threads


def thread_follows(happened: Sequence[Happened], replies: dict[str, str]) -> None:
    """What every `thread.updated` says is what the log says up to it, and it stands directly behind its cause."""
    for before, h in zip((None, *happened), happened, strict=False):
        if before is not None and before.type in ("message.new", "message.deleted"):
            assert h.type == "thread.updated", "it does not stand directly behind its cause"
        if h.type == "message.new":
            replies[h.data["id"]] = h.data["created_at"]
        elif h.type == "message.deleted":
            del replies[h.data["id"]]
        else:
            assert h.data["reply_count"] == len(replies)
            assert h.data.get("last_reply_at") == max(replies.values(), default=None)


async def test_two_reply_and_the_newest_reply_is_deleted() -> None:
    """All three commits at once, and again those that conflict."""

    async def run(order: Order) -> None:
        async with bench(Members, Threads, nodes=3) as b:
            await begin(b, "m1")
            await b.workspace().publish(message("r1", parent="m1", at="2024-01-01T12:00:01.000Z"))
            alice = await b.connect("alice")
            start = await position(b)
            async with order.race(b, kinds=("commit",)) as race:
                for node, id in enumerate(("r2", "r3")):
                    at = f"2024-01-01T12:00:0{node + 2}.000Z"
                    await race.start(b.workspace(node=node).publish, message(id, parent="m1", at=at))
                await race.start(b.workspace(node=2).publish, MessageDeleted("r1", NOON))
            happened = await log(b, start)
            assert len(happened) == 6
            replies = {"r1": "2024-01-01T12:00:01.000Z"}
            thread_follows(happened, replies)
            assert await saw(alice) == told(happened)
            await b.workspace().publish(message("r4", parent="m1", at=NOON))
            thread_follows((await log(b, start))[-2:], replies)

    await every_order(run)


@pytest.mark.parametrize("reply", [True, False], ids=["somebody replies", "somebody replies too"])
async def test_somebody_replies_and(reply: bool) -> None:
    """The newest reply is deleted; or another one comes. Every order of all that the two nodes ask."""

    async def run(order: Order) -> None:
        async with bench(Members, Threads, nodes=2) as b:
            await begin(b, "m1")
            replies = {"r1": "2024-01-01T12:00:01.000Z"}
            await b.workspace().publish(message("r1", parent="m1", at=replies["r1"]))
            start = await position(b)
            other = MessageDeleted("r1", NOON) if reply else message("r3", parent="m1", at="2024-01-01T12:00:03.000Z")
            async with order.race(b) as race:
                await race.start(b.workspace().publish, message("r2", parent="m1", at="2024-01-01T12:00:02.000Z"))
                await race.start(b.workspace(node=1).publish, other)
            happened = await log(b, start)
            assert len(happened) == 4
            thread_follows(happened, replies)

    await every_order(run)


async def test_a_reply_is_deleted_twice() -> None:
    """Deleting one reply twice lowers the count once; what is newest afterwards is the next newest."""

    async def run(order: Order) -> None:
        async with bench(Members, Threads, nodes=2) as b:
            await begin(b, "m1")
            for n in (1, 2):
                await b.workspace().publish(message(f"r{n}", parent="m1", at=f"2024-01-01T12:00:0{n}.000Z"))
            start = await position(b)
            async with order.race(b) as race:
                for node in (0, 1):
                    await race.start(
                        b.workspace(node=node).publish, MessageDeleted("r2", NOON), may_raise=UnknownAudience
                    )
            happened = await log(b, start)
            thread_follows(happened, {f"r{n}": f"2024-01-01T12:00:0{n}.000Z" for n in (1, 2)})
            assert [h.type for h in happened] == ["message.deleted", "thread.updated"]

    await every_order(run)


# --- channels


async def test_a_channel_is_created_twice() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            clients = [await b.connect(name, node=node) for node, name in enumerate(("alice", "bob"))]
            async with order.race(b) as race:
                one = await race.start(b.workspace().publish, ChannelCreated("c1", "one", "private", "alice"))
                two = await race.start(b.workspace(node=1).publish, ChannelCreated("c1", "two", "private", "bob"))
            happened = await log(b)
            assert [h.type for h in happened] == ["channel.created"]
            assert one[0].published is not two[0].published
            # It is his who made it, and only he sees it.
            creator = happened[0].data["created_by"]
            for client, name in zip(clients, ("alice", "bob"), strict=True):
                assert await saw(client) == (told(happened) if name == creator else [])
            await b.workspace().publish(message("m1"))
            for client, name in zip(clients, ("alice", "bob"), strict=True):
                assert len(await saw(client)) == (2 if name == creator else 0)

    await every_order(run)


async def test_a_channel_is_deleted_and_somebody_writes_in_it() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            await begin(b)
            alice = await b.connect("alice")
            start = await position(b)
            async with order.race(b) as race:
                await race.start(b.workspace().publish, ChannelDeleted("c1"))
                written = await race.start(b.workspace(node=1).publish, message("m1"), may_raise=UnknownAudience)
            happened = await log(b, start)
            there = isinstance(written[0], Receipt)
            assert [h.type for h in happened] == ["message.new"] * there + ["channel.deleted"]
            assert await saw(alice) == told(happened)

    await every_order(run)


def visible(happened: Sequence[Happened], member: bool) -> list[tuple[str, dict[str, Any]]]:
    """What somebody sees of the private channel, who at first is a member or is none: his own coming and going with
    it, and nothing from outside of it."""
    seen = []
    for h in happened:
        if h.type == "member.joined":
            member = True
        if member:
            seen.append((h.type, h.data))
        if h.type == "member.left":
            member = False
    return seen


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "joins"])
async def test_somebody_comes_or_goes_while_somebody_writes_and_he_connects(leaves: bool) -> None:
    """Nobody sees what came behind his going or ahead of his coming, on whichever node; and no one misses any."""

    async def run(order: Order) -> None:
        async with bench(Members, nodes=3) as b:
            await begin(b, kind="private")
            if leaves:
                await b.workspace().publish(MemberJoined("c1", "bob"))
            before = await b.connect("bob", node=2)
            start = await position(b)
            event = MemberLeft("c1", "bob") if leaves else MemberJoined("c1", "bob")
            async with order.race(b) as race:
                later = await b.open("bob", node=2)
                await race.start(b.workspace().publish, event)
                await race.start(b.workspace(node=1).publish, message("m1"))
            await b.workspace(node=1).publish(message("m2"))
            happened = await log(b, start)
            seen = visible(happened, member=leaves)
            assert await saw(before) == seen
            since = await saw(later)
            assert since == seen[len(seen) - len(since) :]
            assert leaves or since, "he sees the channel at last"

    await every_order(run)


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "joins"])
async def test_what_a_node_has_not_been_told_yet_counts_for_who_connects_there(leaves: bool) -> None:
    """The log is ahead of what has arrived at the node where he connects, by more or by less."""

    async def run(order: Order) -> None:
        async with bench(Members, Typing, nodes=2) as b:
            await begin(b, kind="private")
            if leaves:
                await b.workspace().publish(MemberJoined("c1", "bob"))
            await b.connect("alice", node=1)
            await b.workspace().publish(message("m0"))
            start = await position(b)
            event = MemberLeft("c1", "bob") if leaves else MemberJoined("c1", "bob")
            batch = (event, message("m1"))
            async with order.race(b, kinds={0: ("commit",), 1: FEED}) as race:
                bob = await b.open("bob", node=1)
                await race.start(b.workspace().publish_all, batch)
            await b.workspace().publish(message("m2"))
            seen = visible(await log(b, start), member=leaves)
            since = await saw(bob)
            assert since == seen[len(seen) - len(since) :]
            assert leaves or since, "he sees the channel at last"

    await every_order(run)


# --- coming and going


async def settle_down(b: Bench, seconds: float = 45) -> None:
    """Until every lease has been renewed or reaped, every debt paid and every grace over."""
    await b.clock.advance(seconds)


async def rostered(b: Bench, user_id: str) -> int:
    """How many connections the roster knows of."""
    return sum(here[0] for here in (await b.workspace(node=-1).get(ROSTER, user_id)).values())


def statuses(happened: Sequence[Happened], user_id: str) -> list[str]:
    """The transitions of a user, each of which is one."""
    said = [h.data["status"] for h in happened if h.type == "presence.updated" and h.data["user_id"] == user_id]
    assert all(one != other for one, other in pairwise(said)), said
    return said


@pytest.mark.parametrize("fresh", [False, True], ids=["old token", "fresh token"])
async def test_somebody_is_revoked_while_he_connects(fresh: bool) -> None:
    """With an old token he is out, wherever his handshake stood; with one of later he is in."""

    async def run(order: Order) -> None:
        async with bench(Presence, nodes=2) as b:
            now = b.clock.time()
            await b.connect("alice", node=1)
            if fresh:
                await b.workspace().revoke("bob")
                await b.clock.advance(1)
            principal = Principal("bob", issued_at=now + 1 if fresh else now - 10)
            async with order.race(b, kinds=FEED) as race:
                bob = await b.open("bob", node=1, principal=principal)
                if not fresh:
                    ended = await race.start(b.workspace().revoke, "bob")
                else:
                    ended = [0]
            if fresh:
                assert not bob.transport.ended
                assert await rostered(b, "bob") == 1
                return
            closed = await bob.closed()
            assert closed.code == 4503
            assert await rostered(b, "bob") == 0
            # One that stood, as the revocation saw it, was told hello; presence says no more than happened.
            assert statuses(await log(b), "bob") == ["online", "offline"] * ended[0]

    await every_order(run)


@pytest.mark.parametrize("grace", [0, 20])
async def test_the_last_tab_closes_on_one_node_and_the_first_opens_on_another(grace: float) -> None:
    async def run(order: Order) -> None:
        async with bench(lambda: Presence(grace=grace), nodes=2) as b:
            old = await b.connect("alice")
            watcher = await b.connect("bob")
            start = await position(b)
            async with order.race(b):
                new = await b.open("alice", node=1)
                old.close()
                await settle()
            await settle_down(b)
            assert not new.transport.ended
            happened = await log(b, start)
            said = statuses(happened, "alice")
            assert said in ([], ["offline", "online"])
            assert not (grace and said), "within the grace nothing is said"
            assert await saw(watcher) == told(happened)
            assert await rostered(b, "alice") == 1

    await every_order(run)


async def test_the_grace_ends_and_the_first_tab_opens() -> None:
    async def run(order: Order) -> None:
        async with bench(Presence, nodes=2) as b:
            old = await b.connect("alice")
            watcher = await b.connect("bob")
            start = await position(b)
            await b.clock.advance(2)
            old.close()
            b.nodes[1].link.gate = Gate(("due",))  # one node looks what is due, the other lets in
            await b.clock.advance(19)
            async with order.race(b):
                new = await b.open("alice", node=1)
                await b.clock.advance(1.5)
            await settle_down(b)
            happened = await log(b, start)
            assert statuses(happened, "alice") in ([], ["offline", "online"])
            assert await saw(watcher) == told(happened)
            assert not new.transport.ended

    await every_order(run)


async def test_of_two_connections_too_many_for_the_limit_one_is_let_in() -> None:
    async def run(order: Order) -> None:
        async with bench(Presence, nodes=2, settings=Settings(connections_per_user=2)) as b:
            await b.connect("alice")
            async with order.race(b):
                both = [await b.open("alice", node=node) for node in (0, 1)]
            assert sorted(client.transport.ended for client in both) == [False, True]
            [refused] = [client for client in both if client.transport.ended]
            assert (await refused.closed()).code == 4504
            assert await rostered(b, "alice") == 2

    await every_order(run)


# --- typing


def types(happened: Sequence[Happened]) -> bool:
    """Whether somebody types in the end; start and stop take turns."""
    typing = False
    for h in happened:
        if h.type.startswith("typing."):
            assert (h.type == "typing.start") is not typing, told(happened)
            typing = not typing
    return typing


@pytest.mark.parametrize("how", ["says so", "is silent", "writes", "leaves"])
async def test_somebody_stops_typing_on_one_node_and_types_on_another(how: str) -> None:
    async def run(order: Order) -> None:
        async with bench(Members, Typing, nodes=2) as b:
            await begin(b)
            one, two = [await b.connect("alice", node=node) for node in (0, 1)]
            watcher = await b.connect("bob", node=1)
            start = await position(b)
            await one.send(TypingIndicator("c1", True))
            await b.clock.advance(5.5)
            async with order.race(b) as race:
                await two.send(TypingIndicator("c1", True))
                match how:
                    case "says so":
                        await one.send(TypingIndicator("c1", False))
                    case "is silent":
                        await b.clock.advance(1)
                    case "writes":
                        await race.start(b.workspace().publish, message("m1"))
                    case _:
                        one.close()
                        await settle()
            happened = await log(b, start)
            assert await saw(watcher) == told(happened)
            late = await b.connect("carol")
            assert bool(late.hello.state.get("typing")) is types(happened)
            # Whatever came of it, it ends.
            await settle_down(b)
            assert not types(await log(b, start))

    await every_order(run)


# --- ids


async def test_one_id_is_published_on_two_nodes() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, Threads, nodes=2) as b:
            await begin(b, "m1")
            alice = await b.connect("alice", node=1)
            start = await position(b)
            reply = message("r1", parent="m1")
            async with order.race(b) as race:
                outcomes = [
                    (await race.start(lambda node=node: b.workspace(node=node).publish(reply, id="once")))
                    for node in (0, 1)
                ]
            [one], [two] = outcomes
            happened = await log(b, start)
            assert [h.type for h in happened] == ["message.new", "thread.updated"]
            assert happened[1].data["reply_count"] == 1
            assert one.position == two.position == happened[0].position
            assert sorted([one.published, two.published]) == [False, True]
            assert await saw(alice) == told(happened)

    await every_order(run)


async def test_one_id_of_what_can_happen_once_only_is_published_on_two_nodes() -> None:
    """Who repeats the end of a message is not told that there is no such message: it was he who ended it."""

    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            await begin(b, "m1")
            start = await position(b)
            async with order.race(b) as race:
                outcomes = [
                    await race.start(
                        lambda node=node: b.workspace(node=node).publish(MessageDeleted("m1", NOON), id="once")
                    )
                    for node in (0, 1)
                ]
            [one], [two] = outcomes
            assert [h.type for h in await log(b, start)] == ["message.deleted"]
            assert one.position == two.position
            assert sorted([one.published, two.published]) == [False, True]

    await every_order(run)


# --- a node dies: the crash table


async def test_a_publisher_dies_at_any_step_and_the_client_repeats() -> None:
    """Before the commit nothing has happened; after it the repeat finds the first one. Either way it is there once."""
    seen = set()

    async def run(order: Order) -> None:
        async with bench(Members, Threads, nodes=2) as b:
            await begin(b, "m1")
            alice = await b.connect("alice", node=1)
            start = await position(b)

            async def publish(node: int) -> Receipt:
                return await b.workspace(node=node).publish(message("r1", parent="m1"), id="once")

            async with order.race(b, kinds={0: ANSWERS}, crash=0) as race:
                first = await race.start(publish, 0, may_raise=EngineUnavailable)
            heard = isinstance(first[0], Receipt)
            assert heard or race.crashed
            there = bool(await log(b, start))
            assert there or not heard
            again = await publish(1)
            happened = await log(b, start)
            assert [h.type for h in happened] == ["message.new", "thread.updated"]
            assert happened[1].data["reply_count"] == 1
            assert again.published is not there
            assert again.position == happened[0].position
            assert await saw(alice) == told(happened)
            seen.add((heard, there))

    await every_order(run)
    assert seen == {(False, False), (False, True), (True, True)}


async def test_a_node_dies_in_a_handshake_and_leaves_nobody_behind() -> None:
    stages = set()

    async def run(order: Order) -> None:
        async with bench(Presence, nodes=2) as b:
            watcher = await b.connect("bob", node=1)
            start = await position(b)
            async with order.race(b, kinds={0: ANSWERS}, crash=0) as race:
                alice = await b.open("alice")
            stages.add(await rostered(b, "alice"))
            if not race.crashed:
                assert await rostered(b, "alice") == 1
                alice.close()
            await settle_down(b)
            assert await rostered(b, "alice") == 0
            happened = await log(b, start)
            assert statuses(happened, "alice") in ([], ["online", "offline"])
            assert await saw(watcher) == told(happened)
            if race.crashed:
                assert len((await b.engine.read(SYSTEM, tables=(LEASES.name,))).tables[LEASES.name]) == 1

    await every_order(run)
    assert stages == {0, 1}


def lapse(node: BenchNode) -> Key:
    """The cell of a node's lease."""
    return Key(LEASES.name, node.app.node.roster.lease.incarnation)


async def test_a_reaper_dies_at_any_step_and_the_next_one_ends_what_it_began() -> None:
    async def run(order: Order) -> None:
        async with bench(lambda: Presence(grace=0), nodes=3) as b:
            watcher = await b.connect("bob", node=2)
            await b.connect("alice")
            await b.connect("alice", node=1)
            await b.connect("carol")
            start, before = await position(b), len(await saw(watcher))
            lease = lapse(b.nodes[0])
            for node in b.nodes[1:]:
                node.link.gate = Gate(("due",))  # nobody looks what is due
            await b.nodes[0].crash()
            await b.clock.advance(16)
            async with order.race(b, kinds={1: ANSWERS}, crash=1) as race:
                await race.start(b.nodes[1].app.node.roster.lease.due, lease, may_raise=EngineUnavailable)
            await settle_down(b)
            happened = await log(b, start)
            assert statuses(happened, "carol") == ["offline"]
            assert statuses(happened, "alice") == (["offline"] if race.crashed else [])
            assert await rostered(b, "carol") == 0
            assert await rostered(b, "alice") == (0 if race.crashed else 1)
            assert (await saw(watcher))[before:] == told(happened)

    await every_order(run)


async def test_two_reap_one_node() -> None:
    async def run(order: Order) -> None:
        async with bench(lambda: Presence(grace=0), nodes=3) as b:
            watcher = await b.connect("bob", node=2)
            await b.connect("alice")
            start, before = await position(b), len(await saw(watcher))
            lease = lapse(b.nodes[0])
            for node in b.nodes[1:]:
                node.link.gate = Gate(("due",))
            await b.nodes[0].crash()
            await b.clock.advance(16)
            async with order.race(b) as race:
                for node in b.nodes[1:]:
                    await race.start(node.app.node.roster.lease.due, lease)
            happened = await log(b, start)
            assert statuses(happened, "alice") == ["offline"]
            assert (await saw(watcher))[before:] == told(happened)

    await every_order(run)


@pytest.mark.parametrize("known", [True, False], ids=["a place it has", "a new place"])
async def test_a_node_that_was_taken_for_dead_lets_somebody_in(known: bool) -> None:
    """It was only paused. Whatever it and its reaper do, in the end the roster says what is true."""

    async def run(order: Order) -> None:
        async with bench(Presence, nodes=2) as b:
            if known:
                await b.connect("bob")
            b.nodes[1].link.gate = Gate(("due",))
            b.nodes[0].partition()
            await b.clock.advance(16)
            b.nodes[0].heal()
            async with order.race(b, kinds={0: ("commit",), 1: CALLS}) as race:
                alice = await b.open("alice")
                await race.start(b.nodes[1].app.node.roster.lease.due, lapse(b.nodes[0]))
            await settle_down(b)
            assert await rostered(b, "alice") == (0 if alice.transport.ended else 1)
            assert not alice.transport.ended
            if known:
                assert await rostered(b, "bob") == 1
            alice.close()
            await settle_down(b)
            assert await rostered(b, "alice") == 0

    await every_order(run)
