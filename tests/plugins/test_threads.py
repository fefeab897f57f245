"""Threads: directly behind every reply stands what its thread now counts."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from jackfield import Channel, Settings, UnknownAudience, Users, testing
from jackfield.events import (
    ChannelDeleted,
    MemberJoined,
    MessageDeleted,
    MessageNew,
    ReactionAdded,
    ServerEvent,
    ThreadUpdated,
)
from jackfield_members import Members, OpenWorkspace
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from tests.plugins.chat import NOON, heard, message, private, public, tables

bench = partial(testing.bench, Members, Threads)


def at(minute: int) -> str:
    return f"2024-01-01T12:{minute:02}:00.000Z"


def reply(n: int, parent: str = "m1", channel: str = "c1") -> MessageNew:
    return message(f"r{n}", channel, "bob", parent=parent, at=at(n))


def counts(replies: int, last: int | None = None, parent: str = "m1") -> ThreadUpdated:
    return ThreadUpdated(parent, replies, None if last is None else at(last))


def deleted(n: int) -> MessageDeleted:
    return MessageDeleted(f"r{n}", NOON)


async def test_a_reply_is_followed_by_its_thread(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish(reply(1))
        await b.workspace(node=nodes - 1).publish(reply(2))
        assert await heard(alice) == [[reply(1), counts(1, 1), reply(2), counts(2, 2)]]


async def test_it_looks_on_the_wire_as_the_specification_has_it() -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice")
        await b.workspace().publish_all([reply(1), deleted(1)])
        await alice.pending()
        frames = [frame["data"] for frame in alice.frames if frame["type"] == "thread.updated"]
        assert frames == [
            {"parent_message_id": "m1", "reply_count": 1, "last_reply_at": at(1)},
            {"parent_message_id": "m1", "reply_count": 0},
        ]


async def test_a_message_that_is_no_reply_is_followed_by_nothing() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await b.workspace().publish_all([public(), message(), message("m2")])
        assert await heard(alice) == [[public(), message(), message("m2")]]


async def test_last_reply_at_is_the_newest_replys_whatever_the_order_they_came_in(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish_all([reply(5), reply(2)])
        elsewhere = message("r9", parent="m1", at="2024-01-01T14:30:00+02:30")  # noon, elsewhere
        await b.workspace().publish(elsewhere)
        assert await heard(alice) == [[reply(5), counts(1, 5), reply(2), counts(2, 5), elsewhere, counts(3, 5)]]


async def test_deleting_a_reply_lowers_the_count(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), reply(1), reply(2), reply(3)])
        alice = await b.connect("alice", node=nodes - 1)
        said: list[ServerEvent] = []
        for n, after in ((3, counts(2, 2)), (1, counts(1, 2)), (2, counts(0))):
            await b.workspace(node=n % nodes).publish(deleted(n))
            said += [deleted(n), after]
        assert await heard(alice) == [said]


async def test_deleting_a_message_that_is_no_reply_is_followed_by_nothing() -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message(), reply(1), message("m2")])
        alice = await b.connect("alice")
        await b.workspace().publish_all([MessageDeleted("m2", NOON), MessageDeleted("m1", NOON), deleted(1)])
        assert await heard(alice) == [[MessageDeleted("m2", NOON), MessageDeleted("m1", NOON), deleted(1)]]


async def test_a_thread_that_was_emptied_begins_anew(nodes: int) -> None:
    async with bench(nodes=nodes, settings=Settings(history_events=8)) as b:
        await b.workspace().publish_all([public(), message(), reply(1), deleted(1)])
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish(reply(2))
        assert await heard(alice) == [[reply(2), counts(1, 2)]]


async def test_a_suppressed_duplicate_counts_nothing(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice", node=nodes - 1)
        first = await b.workspace().publish(reply(1), id="x")
        again = await b.workspace(node=nodes - 1).publish(reply(1), id="x")
        assert (first.published, again.published, again.position) == (True, False, first.position)
        await b.workspace().publish(reply(2))
        assert await heard(alice) == [[reply(1), counts(1, 1), reply(2), counts(2, 2)]]


async def test_a_reply_that_is_published_anew_is_not_counted_anew(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), reply(1)])
        alice = await b.connect("alice", node=nodes - 1)
        moved = message("r1", user="bob", parent="m1", at=at(4))
        await b.workspace().publish_all([moved, reply(2)])
        assert await heard(alice) == [[moved, reply(2), counts(2, 2)]]


async def test_deleting_a_reply_twice_under_one_id_lowers_the_count_once(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), reply(1), reply(2)])
        alice = await b.connect("alice", node=nodes - 1)
        first = await b.workspace().publish(deleted(1), id="x")
        again = await b.workspace(node=nodes - 1).publish(deleted(1), id="x")
        assert (again.published, again.position) == (False, first.position)
        assert await heard(alice) == [[deleted(1), counts(1, 2)]]


async def test_replies_at_the_same_moment_on_several_nodes_are_counted_one_after_the_other(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice", node=nodes - 1)
        async with anyio.create_task_group() as tasks:
            for n in range(1, 10):
                tasks.start_soon(b.workspace(node=n % nodes).publish, reply(n))
        said = (await heard(alice))[0]
        newest = 0
        for count, (event, update) in enumerate(zip(said[::2], said[1::2], strict=True), 1):
            assert isinstance(event, MessageNew)
            newest = max(newest, int(event.id[1:]))
            assert update == counts(count, newest)
        assert len(said) == 18


async def test_it_goes_to_the_replys_channel(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message()])
        bob, carol = await b.connect("bob", node=nodes - 1), await b.connect("carol")
        await b.workspace().publish(reply(1))
        assert await heard(bob, carol) == [[reply(1), counts(1, 1)], []]


async def test_it_goes_to_the_replys_channel_where_its_parent_stands_in_another(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([private("c1", by="alice"), private("c2", by="bob"), message()])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        elsewhere = reply(1, channel="c2")
        await b.workspace().publish(elsewhere)
        await b.workspace(node=nodes - 1).publish(deleted(1))
        assert await heard(alice, bob) == [[], [elsewhere, counts(1, 1), deleted(1), counts(0)]]


async def test_it_goes_where_a_reply_to_a_few_went(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await b.workspace().publish(reply(1), to=Users("alice"))
        await b.workspace().publish(deleted(1))
        assert await heard(alice, bob) == [[reply(1), counts(1, 1), deleted(1), counts(0)], []]


async def test_in_a_batch_each_reply_is_followed_by_its_own_count(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish_all([public(), message(), reply(1), reply(2), message("m2"), deleted(2)])
        assert await heard(alice) == [
            [
                public(),
                message(),
                reply(1),
                counts(1, 1),
                reply(2),
                counts(2, 2),
                message("m2"),
                deleted(2),
                counts(1, 1),
            ]
        ]


async def test_a_reply_can_have_replies_of_its_own() -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message(), reply(1)])
        alice = await b.connect("alice")
        await b.workspace().publish_all([reply(2, parent="r1"), deleted(1)])
        await b.workspace().publish(deleted(2))
        assert await heard(alice) == [[reply(2, parent="r1"), counts(1, 2, "r1"), deleted(1), counts(0), deleted(2)]]


# --- Messages that nobody has seen begin


async def test_of_a_message_that_was_there_before_us_the_numbers_are_the_publishers(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish(public())
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish(reply(1, parent="old"))
        await b.workspace().publish(counts(41, 1, "old"), to=Channel("c1"))
        await b.workspace().publish(deleted(1))
        assert await heard(alice) == [[reply(1, parent="old"), counts(41, 1, "old"), deleted(1)]]


async def test_what_is_counted_is_remembered_beyond_the_history() -> None:
    async with bench(settings=Settings(history_events=4)) as b:
        await b.workspace().publish_all([public(), message(), reply(1)])
        await b.workspace().publish_all([message(f"x{n}") for n in range(9)])
        alice = await b.connect("alice")
        await b.workspace().publish(reply(2))
        await b.workspace().publish(deleted(1), to=Channel("c1"))
        assert await heard(alice) == [[reply(2), counts(2, 2), deleted(1), counts(1, 2)]]


# --- How long it is remembered


async def test_after_its_end_a_thread_is_not_there(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), reply(1), MessageDeleted("m1", NOON)])
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish(reply(2))
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(counts(9))
        await b.workspace().publish_all([message(), reply(3)])
        assert await heard(alice) == [[reply(2), message(), reply(3), counts(1, 3)]]


@pytest.mark.parametrize("house", [Members, OpenWorkspace])
@pytest.mark.parametrize(
    "ends",
    [[ChannelDeleted("c1")], [MessageDeleted("m1", NOON)], [deleted(1), deleted(2)]],
    ids=["channel", "parent", "replies"],
)
async def test_nothing_is_left_after_that(ends: list[ServerEvent], house: type) -> None:
    async with testing.bench(house, Threads) as b:
        await b.workspace().publish_all([public(), message(), reply(1), reply(2)])
        await b.workspace().publish_all(ends)
        left = await tables(b, "threads")
        left.pop("threads.seen", None)  # fades with the history
        assert left == {}


async def test_nothing_is_left_of_a_thread_of_a_few_when_its_channel_is_deleted() -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message()])
        await b.workspace().publish(reply(1), to=Users("alice"))
        await b.workspace().publish(ChannelDeleted("c1"))
        left = await tables(b, "threads")
        left.pop("threads.seen", None)
        assert left == {}


async def test_the_end_of_a_big_channel_asks_the_engine_a_few_times() -> None:
    """Else a channel with thousands of messages could not be deleted within the time that a commit has."""
    async with testing.bench(Members, Reactions, Threads) as b:
        everything: list[ServerEvent] = [private()]
        for n in range(40):
            everything += [message(f"m{n}"), MemberJoined("c1", f"user{n}")]
            everything += [ReactionAdded(f"m{n}", "👍", "bob"), reply(n, parent=f"m{n}")]
        await b.workspace().publish_all(everything)
        calls = b.nodes[0].link.calls
        calls.clear()
        await b.workspace().publish(ChannelDeleted("c1"))
        assert len(calls) < 15
        left = await tables(b, "")
        assert set(left) <= {"roster.nodes", "threads.seen", "reactions.seen", "members.messages"}


# --- Moments that are none


@pytest.mark.parametrize(
    "moment",
    [
        "2024-02-30T12:00:00.000Z",
        "2024-01-01T23:59:60Z",
        "2023-02-29T23:59:60.999999999+23:59",
        "2024-01-01T12:00:00.123456789Z",
    ],
)
async def test_a_moment_that_no_calendar_has_loses_no_reply(moment: str) -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message(), reply(1)])
        alice = await b.connect("alice")
        odd = message("odd", parent="m1", at=moment)
        await b.workspace().publish_all([odd, reply(2), deleted(2), MessageDeleted("odd", NOON)])
        said = (await heard(alice))[0]
        assert said[0] == odd
        assert [event.reply_count for event in said if isinstance(event, ThreadUpdated)] == [2, 3, 2, 1]
        assert said[-1] == counts(1, 1)
