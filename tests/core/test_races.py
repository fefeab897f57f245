"""The races of two nodes on one engine, in every order of their engine calls.

The oracle is the same everywhere: the fold of the log is what the cells hold, and what every client saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import pytest

from jackfield import EngineUnavailable, Principal, Receipt, UnknownAudience
from jackfield._commit import REVOKED
from jackfield._log import Head
from jackfield._roster import LEASES, ROSTER, SYSTEM
from jackfield.engine import Due, Key
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
from jackfield.testing import Bench, Client, bench
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


def message(id: str, user: str = "alice", *, parent: str | None = None, at: str = NOON, channel: str = "c1") -> MessageNew:
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
            async with bench(Members, Reactions, nodes=2) as b:
                await begin(b, "m1")
                async with order.race(b) as race:
                    await race.start(b.workspace().publish, ReactionAdded("m1", "+1", "bob"))
                    await race.start(b.workspace(node=1).publish, ReactionRemoved("m1", "+1", "bob"))
                found.add(repr((told(await log(b, 2)), await is_given(b))))

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
    async def run(order: Order) -> None:
        async with bench(Members, Threads, nodes=3) as b:
            await begin(b, "m1")
            await b.workspace().publish(message("r1", parent="m1", at="2024-01-01T12:00:01.000Z"))
            alice = await b.connect("alice")
            start = await position(b)
            async with order.race(b) as race:
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

    await every_order(run, at_most=6_000)


async def test_somebody_replies_and_the_newest_reply_is_deleted_and_deleted_again() -> None:
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


def visible(happened: Sequence[Happened], member: bool) -> list[tuple[int, tuple[str, dict[str, Any]]]]:
    """What somebody sees of the private channel, who at first is a member or is none: his own coming and going with
    it, and nothing from outside of it."""
    seen = []
    for h in happened:
        if h.type == "member.joined":
            member = True
        if member:
            seen.append((h.position, (h.type, h.data)))
        if h.type == "member.left":
            member = False
    return seen


@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "joins"])
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "quiet"])
async def test_somebody_comes_or_goes_while_somebody_writes_and_he_connects(leaves: bool, busy: bool) -> None:
    """Nobody sees what came behind his going or ahead of his coming, on whichever node; and no one misses any."""

    async def run(order: Order) -> None:
        async with bench(Members, nodes=3) as b:
            await begin(b, kind="private")
            if leaves:
                await b.workspace().publish(MemberJoined("c1", "bob"))
            before = await b.connect("bob", node=2)
            if busy:
                await b.workspace().publish(message("m0"))
            start = await position(b)
            event = MemberLeft("c1", "bob") if leaves else MemberJoined("c1", "bob")
            writers = dict.fromkeys((0, 1), ("commit",))
            async with order.race(b, kinds={**writers, 2: FEED if busy else CALLS}) as race:
                later = await b.open("bob", node=2)
                await race.start(b.workspace().publish, event)
                await race.start(b.workspace(node=1).publish, message("m1"))
            await b.workspace(node=1).publish(message("m2"))
            happened = await log(b, start)
            seen = visible(happened, member=leaves)
            here = [what for _, what in seen]
            assert (await saw(before))[-len(here) or len(happened) :] == here
            # Who came in between has all of it from some point on.
            since = await saw(later)
            assert since == here[len(here) - len(since) :]
            assert not leaves or len(happened) == 3
            if not leaves:
                assert since, "he sees the channel at last"

    await every_order(run, at_most=10_000)
