"""Who sees which channel, decided by `Members`, or by nobody in an `OpenWorkspace`."""

from __future__ import annotations

import anyio
import pytest

from jackfield import Channel, Everyone, Post, Settings, UnknownAudience, Users
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageUpdated,
    ReactionAdded,
    ReactionRemoved,
    ServerEvent,
    ThreadUpdated,
    TypingStart,
)
from jackfield.testing import bench
from jackfield_members import Members, OpenWorkspace
from tests.plugins.chat import NOON, heard, message, private, public, tables

# --- Public channels


async def test_everyone_in_the_workspace_sees_a_public_channel(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await b.workspace().publish_all([public(), message()])
        assert await heard(alice, bob) == [[public(), message()], [public(), message()]]


async def test_who_comes_later_sees_the_public_channels_too(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(public())
        bob = await b.connect("bob", node=nodes - 1)
        await b.workspace().publish(message())
        assert await bob.pending() == [message()]


async def test_members_of_a_public_channel_come_and_go_before_everyone_and_nobodys_sight_moves(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        said: list[ServerEvent] = [MemberJoined("c1", "bob"), MemberLeft("c1", "bob"), message()]
        await b.workspace().publish_all(said)
        assert await heard(alice, bob) == [said, said]


# --- Private channels


@pytest.mark.parametrize("kind", ["private", "dm", "group", "Public", ""])
async def test_any_type_but_public_is_private_and_its_creator_is_a_member(kind: str, nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        created = ChannelCreated("c1", "secret", kind, "alice")
        await b.workspace().publish_all([created, message()])
        late = await b.connect("alice", node=nodes - 1)
        await b.workspace(node=nodes - 1).publish(message("m2"))
        assert await heard(alice, bob, late) == [[created, message(), message("m2")], [], [message("m2")]]


async def test_who_joins_is_told_and_so_are_the_members(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        alice, bob, carol = await b.connect("alice"), await b.connect("bob", node=nodes - 1), await b.connect("carol")
        await b.workspace().publish_all([private(), message(), MemberJoined("c1", "bob"), message("m2")])
        assert await heard(alice, bob, carol) == [
            [private(), message(), MemberJoined("c1", "bob"), message("m2")],
            [MemberJoined("c1", "bob"), message("m2")],
            [],
        ]


async def test_who_leaves_is_told_still_and_then_nothing_more(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob")])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await b.workspace(node=nodes - 1).publish(MemberLeft("c1", "bob"))
        await b.workspace().publish_all([message(), MemberJoined("c1", "carol")])
        assert await heard(alice, bob) == [
            [MemberLeft("c1", "bob"), message(), MemberJoined("c1", "carol")],
            [MemberLeft("c1", "bob")],
        ]
        again = await b.connect("bob")
        await b.workspace().publish(message("m2"))
        assert await again.pending() == []


async def test_the_creator_can_leave_what_he_created() -> None:
    async with bench(Members) as b:
        alice = await b.connect("alice")
        await b.workspace().publish_all([private(), MemberLeft("c1", "alice"), message()])
        assert await alice.pending() == [private(), MemberLeft("c1", "alice")]


async def test_every_connection_of_a_member_sees_the_channel(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        one, two = await b.connect("bob"), await b.connect("bob", node=nodes - 1)
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message(), MemberLeft("c1", "bob")])
        await b.workspace().publish(message("m2"))
        assert await heard(one, two) == [[MemberJoined("c1", "bob"), message(), MemberLeft("c1", "bob")]] * 2


@pytest.mark.parametrize("made", [public, private])
async def test_a_repeated_join_or_leave_publishes_nothing(made: object, nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(made())  # type: ignore[operator]
        alice = await b.connect("alice", node=nodes - 1)
        joined, left = MemberJoined("c1", "bob"), MemberLeft("c1", "bob")
        published = [
            (await b.workspace(node=n % nodes).publish(event)).published
            for n, event in enumerate([left, joined, joined, left, left, joined])
        ]
        assert published == [False, True, False, True, False, True]
        assert await alice.pending() == [joined, left, joined]


async def test_joining_at_the_same_moment_on_several_nodes_is_joining_once(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(private())
        alice = await b.connect("alice")
        async with anyio.create_task_group() as tasks:
            for n in range(6):
                tasks.start_soon(b.workspace(node=n % nodes).publish, MemberJoined("c1", "bob"))
        assert await alice.pending() == [MemberJoined("c1", "bob")]


# --- Creating and deleting


async def test_creating_a_channel_that_exists_publishes_nothing_and_keeps_its_type(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(private())
        bob = await b.connect("bob")
        assert not (await b.workspace(node=nodes - 1).publish(public(by="bob"))).published
        await b.workspace().publish(message())
        assert await bob.pending() == []


async def test_an_update_reaches_those_who_see_the_channel_and_does_not_change_its_type() -> None:
    async with bench(Members) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        updated = ChannelUpdated("c1", name="new-name")
        await b.workspace().publish_all([private(), updated])
        assert await heard(alice, bob) == [[private(), updated], []]


async def test_the_end_of_a_channel_reaches_those_who_saw_it_and_then_it_does_not_exist(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message()])
        alice, bob, carol = await b.connect("alice"), await b.connect("bob", node=nodes - 1), await b.connect("carol")
        await b.workspace().publish(ChannelDeleted("c1"))
        assert await heard(alice, bob, carol) == [[ChannelDeleted("c1")], [ChannelDeleted("c1")], []]
        for gone in [
            message("m2"),
            MessageUpdated("m1", "x", NOON),
            ReactionAdded("m1", "👍", "bob"),
            MemberJoined("c1", "carol"),
            MemberLeft("c1", "bob"),
            ChannelUpdated("c1", name="x"),
            ChannelDeleted("c1"),
        ]:
            with pytest.raises(UnknownAudience):
                await b.workspace(node=nodes - 1).publish(gone)
        assert await heard(alice, bob, carol) == [[], [], []]


@pytest.mark.parametrize("made", [public, private])
async def test_a_deleted_channel_that_comes_back_is_empty(made: object, nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message()])
        # One batch, at one moment: not even the clock tells the old channel from the new one.
        await b.workspace().publish_all([ChannelDeleted("c1"), made(by="carol")])  # type: ignore[operator]
        bob, carol = await b.connect("bob", node=nodes - 1), await b.connect("carol")
        for follows in [ReactionAdded("m1", "👍", "bob"), MessageUpdated("m1", "x", NOON), MessageDeleted("m1", NOON)]:
            with pytest.raises(UnknownAudience):
                await b.workspace().publish(follows)
        await b.workspace().publish(message("m2"))
        assert await heard(bob, carol) == [[message("m2")] if made is public else [], [message("m2")]]


async def test_a_channel_that_ends_leaves_no_cell_behind() -> None:
    async with bench(Members) as b:
        before = await tables(b, "members")
        joins = [MemberJoined("c1", f"user{n}") for n in range(5)]
        await b.workspace().publish_all([public("c2"), private(), *joins, message(), MessageDeleted("m1", NOON)])
        await b.workspace().publish_all([ChannelDeleted("c1"), ChannelDeleted("c2")])
        assert await tables(b, "members") == before == {}


# --- What follows a message

FOLLOWING: list[ServerEvent] = [
    MessageUpdated("m1", "edited", NOON),
    ReactionAdded("m1", "👍", "bob"),
    ReactionRemoved("m1", "👍", "bob"),
    ThreadUpdated("m1", 3, NOON),
    MessageDeleted("m1", NOON),
]


@pytest.mark.parametrize("follows", FOLLOWING, ids=lambda event: event.__event__.type)
async def test_what_follows_a_message_goes_where_the_message_went(follows: ServerEvent, nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message()])
        bob, carol = await b.connect("bob", node=nodes - 1), await b.connect("carol")
        await b.workspace(node=nodes - 1).publish(follows)
        assert await heard(bob, carol) == [[follows], []]


@pytest.mark.parametrize("follows", FOLLOWING, ids=lambda event: event.__event__.type)
async def test_a_message_is_remembered_with_its_to_and_without_its_exceptions(follows: ServerEvent, nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice, bob, carol = await b.connect("alice"), await b.connect("bob", node=nodes - 1), await b.connect("carol")
        await b.workspace().publish(message(), to=Users("alice", "bob"), except_users=["bob"])
        await b.workspace(node=nodes - 1).publish(follows)
        assert await heard(alice, bob, carol) == [[message(), follows], [follows], []]


@pytest.mark.parametrize("follows", FOLLOWING, ids=lambda event: event.__event__.type)
async def test_what_follows_a_message_that_nobody_knows_is_refused_and_not_broadcast(follows: ServerEvent) -> None:
    async with bench(Members) as b:
        alice = await b.connect("alice")
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(follows)
        await b.workspace().publish(follows, to=Users("alice"))
        assert await alice.pending() == [follows]


@pytest.mark.parametrize(
    "event",
    [
        message(channel="nowhere"),
        MemberJoined("nowhere", "alice"),
        MemberLeft("nowhere", "alice"),
        ChannelUpdated("nowhere", name="x"),
        ChannelDeleted("nowhere"),
        TypingStart("nowhere", "bob"),
    ],
    ids=lambda event: event.__event__.type,
)
async def test_an_event_of_a_channel_that_nobody_knows_is_refused(event: ServerEvent) -> None:
    async with bench(Members) as b:
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(event)


async def test_a_to_does_not_make_a_channel_that_is_not_there(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        for event in (MemberJoined("nowhere", "alice"), MemberLeft("nowhere", "alice")):
            with pytest.raises(UnknownAudience):
                await b.workspace().publish(event, to=Everyone())
        assert not (await b.workspace().publish(ChannelDeleted("nowhere"), to=Everyone())).published
        assert await heard(alice) == [[]]


async def test_after_its_end_a_message_does_not_exist(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), MessageDeleted("m1", NOON)])
        for follows in FOLLOWING:
            with pytest.raises(UnknownAudience):
                await b.workspace(node=nodes - 1).publish(follows)


async def test_a_message_in_a_channel_that_only_the_publisher_knows_is_remembered_by_its_to(nodes: int) -> None:
    """A host that keeps its direct messages to itself names the users; creating a channel of that id later does not
    open them."""
    async with bench(Members, nodes=nodes) as b:
        alice, carol = await b.connect("alice"), await b.connect("carol", node=nodes - 1)
        await b.workspace().publish(message(channel="dm"), to=Users("alice", "bob"))
        await b.workspace().publish_all([public("dm"), FOLLOWING[0]])
        assert await heard(alice, carol) == [[message(channel="dm"), public("dm"), FOLLOWING[0]], [public("dm")]]


async def test_in_a_batch_each_event_is_resolved_as_if_those_before_it_had_happened(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        bob = await b.connect("bob", node=nodes - 1)
        said: list[ServerEvent] = [
            private(),
            MemberJoined("c1", "bob"),
            message(),
            MessageUpdated("m1", "edited", NOON),
            MemberLeft("c1", "bob"),
            message("m2"),
            ChannelDeleted("c1"),
        ]
        await b.workspace().publish_all(said)
        assert await bob.pending() == said[1:5]


async def test_a_batch_with_one_event_that_nobody_can_resolve_publishes_nothing(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        with pytest.raises(UnknownAudience):
            await b.workspace().publish_all([public(), message(), message(channel="nowhere")])
        assert await alice.pending() == []
        with pytest.raises(UnknownAudience):  # nor was the channel made
            await b.workspace().publish(message())


async def test_a_publishers_to_replaces_what_would_be_derived(nodes: int) -> None:
    async with bench(Members, nodes=nodes) as b:
        await b.workspace().publish(private())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await b.workspace().publish(message(), to=Everyone(), except_users=["alice"])
        await b.workspace().publish(message("m2"), to=Users("bob"))
        await b.workspace().publish(message("m3"), to=Channel("c1"), except_users=["bob"])
        assert await heard(alice, bob) == [[message("m3")], [message(), message("m2")]]


async def test_channels_and_their_members_outlast_the_history_and_messages_do_not() -> None:
    async with bench(Members, settings=Settings(history_events=5)) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob"), message()])
        await b.workspace().publish_all([message(f"x{n}") for n in range(6)])
        bob = await b.connect("bob")
        await b.workspace().publish(message("m2"))
        assert await bob.pending() == [message("m2")]
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(MessageUpdated("m1", "x", NOON))


async def test_workspaces_have_nothing_in_common() -> None:
    async with bench(Members) as b:
        there = await b.connect("alice", workspace="other")
        await b.workspace().publish_all([public(), message()])
        with pytest.raises(UnknownAudience):
            await b.workspace("other").publish(message())
        assert await there.pending() == []


# --- Where everyone sees everything


async def test_in_an_open_workspace_everyone_sees_every_channel(nodes: int) -> None:
    async with bench(OpenWorkspace, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        said: list[ServerEvent] = [
            private(),
            message(),
            *FOLLOWING,
            ChannelUpdated("c1", name="x"),
            ChannelDeleted("c1"),
        ]
        await b.workspace().publish_all(said)
        assert await heard(alice, bob) == [said, said]


async def test_in_an_open_workspace_leaving_a_channel_closes_nobodys_eyes() -> None:
    async with bench(OpenWorkspace) as b:
        alice = await b.connect("alice")
        said: list[ServerEvent] = [MemberJoined("c1", "alice"), MemberLeft("c1", "alice"), message()]
        await b.workspace().publish_all(said)
        assert await alice.pending() == said


@pytest.mark.parametrize("follows", FOLLOWING, ids=lambda event: event.__event__.type)
async def test_in_an_open_workspace_too_what_follows_a_message_goes_to_those_it_was_for(
    follows: ServerEvent, nodes: int
) -> None:
    async with bench(OpenWorkspace, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await b.workspace().publish(message(), to=Users("alice"))
        await b.workspace(node=nodes - 1).publish(follows)
        assert await heard(alice, bob) == [[message(), follows], []]


async def test_in_an_open_workspace_nothing_is_kept_of_a_message_that_ended() -> None:
    async with bench(OpenWorkspace) as b:
        posts = [Post(message(), to=Users("alice")), Post(MessageDeleted("m1", NOON)), Post(message("m2"))]
        await b.workspace().publish_all(posts)
        assert await tables(b, "members") == {}
