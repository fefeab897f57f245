"""Reactions: adding what is there, or removing what is not, publishes nothing."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from jackfield import Channel, Everyone, Settings, UnknownAudience, Users, testing
from jackfield.events import (
    ChannelDeleted,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    ReactionAdded,
    ReactionRemoved,
    ServerEvent,
)
from jackfield_members import Members, OpenWorkspace
from jackfield_reactions import Reactions
from tests.plugins.chat import NOON, heard, message, private, public, tables

bench = partial(testing.bench, Members, Reactions)

ADDED = ReactionAdded("m1", "👍", "bob")
REMOVED = ReactionRemoved("m1", "👍", "bob")


async def test_adding_what_is_there_and_removing_what_is_not_publishes_nothing(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice", node=nodes - 1)
        published = [
            (await b.workspace(node=n % nodes).publish(event)).published
            for n, event in enumerate([REMOVED, ADDED, ADDED, REMOVED, REMOVED, ADDED])
        ]
        assert published == [False, True, False, True, False, True]
        assert await heard(alice) == [[ADDED, REMOVED, ADDED]]


async def test_a_reaction_is_a_user_and_an_emoji_and_a_message(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), message("m2")])
        alice = await b.connect("alice", node=nodes - 1)
        said: list[ServerEvent] = [
            ADDED,
            ReactionAdded("m1", "🎉", "bob"),
            ReactionAdded("m1", "👍", "carol"),
            ReactionAdded("m2", "👍", "bob"),
            ReactionAdded("m1", "carol/👍", "bob"),
            ReactionRemoved("m1", "🎉", "bob"),
        ]
        await b.workspace().publish_all(said)
        assert await heard(alice) == [said]


@pytest.mark.parametrize("emoji", ["👍", "👍🏽", ":+1:", "👩‍👩‍👧", "", "a/b", "\n", "x" * 500])
async def test_an_emoji_is_any_text(emoji: str) -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice")
        said: list[ServerEvent] = [ReactionAdded("m1", emoji, "bob"), ReactionRemoved("m1", emoji, "bob")]
        await b.workspace().publish_all([said[0], said[0], said[1], said[1]])
        assert await heard(alice) == [said]


async def test_at_the_same_moment_on_several_nodes_one_of_them_is_published(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice")
        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(b.workspace(node=n % nodes).publish, ADDED)
        assert await heard(alice) == [[ADDED]]


async def test_the_id_of_one_that_changed_nothing_is_remembered_too(nodes: int) -> None:
    """Its answer was lost; meanwhile somebody removed it. The repeat must not bring it back."""
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), ADDED])
        alice = await b.connect("alice", node=nodes - 1)
        first = await b.workspace().publish(ADDED, id="x")
        await b.workspace().publish(REMOVED)
        again = await b.workspace(node=nodes - 1).publish(ADDED, id="x")
        assert [(r.id, r.published, r.position) for r in (first, again)] == [("x", False, None)] * 2
        assert await heard(alice) == [[REMOVED]]


async def test_in_a_batch_each_sees_what_those_before_it_did(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        batch: list[ServerEvent] = [public(), message(), ADDED, ADDED, REMOVED, REMOVED, ADDED]
        receipts = await b.workspace().publish_all(batch)
        assert [receipt.published for receipt in receipts] == [True, True, True, False, True, False, True]
        assert await heard(alice) == [[public(), message(), ADDED, REMOVED, ADDED]]


async def test_a_batch_that_is_refused_added_nothing() -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message()])
        with pytest.raises(UnknownAudience):
            await b.workspace().publish_all([ADDED, message(channel="nowhere")])
        assert (await b.workspace().publish(ADDED)).published


async def test_only_those_who_see_the_message_see_its_reactions(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message()])
        alice, bob, carol = await b.connect("alice"), await b.connect("bob", node=nodes - 1), await b.connect("carol")
        await b.workspace().publish_all([ADDED, MemberLeft("c1", "bob"), REMOVED])
        left = MemberLeft("c1", "bob")
        assert await heard(alice, bob, carol) == [[ADDED, left, REMOVED], [ADDED, left], []]


# --- How long it is remembered


async def test_until_the_message_is_deleted(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), ADDED, MessageDeleted("m1", NOON)])
        with pytest.raises(UnknownAudience):
            await b.workspace(node=nodes - 1).publish(ADDED)
        await b.workspace().publish(message())
        assert (await b.workspace(node=nodes - 1).publish(ADDED)).published


async def test_until_the_channel_is_deleted(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), ADDED, ChannelDeleted("c1"), public(), message()])
        assert (await b.workspace(node=nodes - 1).publish(ADDED)).published


async def test_beyond_the_history() -> None:
    async with bench(settings=Settings(history_events=3)) as b:
        await b.workspace().publish_all([public(), message(), ADDED])
        await b.workspace().publish_all([message(f"x{n}") for n in range(5)])
        alice = await b.connect("alice")
        assert not (await b.workspace().publish(ADDED, to=Channel("c1"))).published
        assert (await b.workspace().publish(REMOVED, to=Channel("c1"))).published
        assert not (await b.workspace().publish(REMOVED, to=Channel("c1"))).published
        assert await heard(alice) == [[REMOVED]]


@pytest.mark.parametrize("end", [MessageDeleted("m1", NOON), ChannelDeleted("c1")])
@pytest.mark.parametrize("house", [Members, OpenWorkspace])
async def test_nothing_is_left_after_that(end: ServerEvent, house: type) -> None:
    async with testing.bench(house, Reactions) as b:
        await b.workspace().publish_all([public(), message()])
        others = [ReactionAdded("m1", "👍", f"user{n}") for n in range(5)]
        await b.workspace().publish_all([ADDED, *others, REMOVED])
        await b.workspace().publish(ADDED)
        await b.workspace().publish(end)
        left = await tables(b, "reactions")
        left.pop("reactions.seen", None)  # fades with the history
        assert left == {}


async def test_nothing_is_left_of_a_message_to_a_few_when_its_channel_is_deleted() -> None:
    async with bench() as b:
        await b.workspace().publish(public())
        await b.workspace().publish(message(), to=Users("alice", "bob"))
        await b.workspace().publish_all([ADDED, ChannelDeleted("c1")])
        left = await tables(b, "reactions")
        left.pop("reactions.seen", None)
        assert left == {}


async def test_a_message_that_was_seen_and_never_reacted_to_fades_with_the_history() -> None:
    async with bench(settings=Settings(history_events=3)) as b:
        await b.workspace().publish_all([public(), message()])
        await b.workspace().publish_all([message(f"x{n}") for n in range(5)])
        assert "m1" not in (await tables(b, "reactions"))["reactions.seen"]


# --- Messages that nobody has seen begin


async def test_of_a_message_that_was_there_before_us_it_is_published_either_way(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        said = [REMOVED, ADDED, ADDED, REMOVED, REMOVED]
        for event in said:
            assert (await b.workspace().publish(event, to=Everyone())).published
        assert await heard(alice) == [said]


async def test_and_forgotten_with_the_channel_that_its_to_names() -> None:
    async with bench() as b:
        await b.workspace().publish(public())
        await b.workspace().publish(ADDED, to=Channel("c1"))
        await b.workspace().publish(ChannelDeleted("c1"))
        assert await tables(b, "reactions") == {}


async def test_a_message_without_reactions_is_deleted_as_any_other() -> None:
    async with bench() as b:
        await b.workspace().publish_all([public(), message(), MessageDeleted("m1", NOON)])
        assert await tables(b, "reactions") == {}


async def test_without_a_to_it_is_refused() -> None:
    async with bench() as b:
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(ADDED)


async def test_where_everyone_sees_everything_unknown_messages_are_too(nodes: int) -> None:
    async with testing.bench(OpenWorkspace, Reactions, nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        await b.workspace().publish_all([ADDED, message("m2"), ReactionAdded("m2", "👍", "bob")])
        assert not (await b.workspace().publish(ReactionAdded("m2", "👍", "bob"))).published
        assert await heard(alice) == [[ADDED, message("m2"), ReactionAdded("m2", "👍", "bob")]]


async def test_a_thousand_reactions_to_one_message_do_not_make_the_next_one_dear() -> None:
    """Each is a cell of its own: two who react at once do not wait for each other, and nobody rewrites them all."""
    async with bench() as b:
        await b.workspace().publish_all([public(), message()])
        for start in range(0, 1000, 100):
            await b.workspace().publish_all([ReactionAdded("m1", "👍", f"u{start + n}") for n in range(100)])
        cells = [value for table in (await tables(b, "reactions")).values() for value in table.values()]
        assert max(map(len, cells)) < 300
