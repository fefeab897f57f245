"""Who types: one start, one stop, whatever happens in between and wherever."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from jackfield import Channel, Settings, Unauthorized, Users, testing
from jackfield.errors import InvalidEvent
from jackfield.events import (
    ChannelDeleted,
    MemberJoined,
    MemberLeft,
    ServerEvent,
    ThreadUpdated,
    TypingIndicator,
    TypingStart,
    TypingStop,
)
from jackfield.testing import Bench, Client
from jackfield.testing._link import Gate
from jackfield_members import Members, OpenWorkspace
from jackfield_threads import Threads
from jackfield_typing import Typing
from tests.plugins.chat import NOON, heard, message, private, public, tables

bench = partial(testing.bench, Members, Typing, settings=Settings(heartbeat_timeout=100_000))

YES = TypingIndicator("c1", True)
NO = TypingIndicator("c1", False)
START = TypingStart("c1", "alice")
STOP = TypingStop("c1", "alice")


async def seated(b: Bench, nodes: int) -> tuple[Client, Client]:
    """A public channel, alice who types on the first node, and bob who looks on from the last."""
    await b.workspace().publish(public(by="carol"))
    return await b.connect("alice"), await b.connect("bob", node=nodes - 1)


def typing(client: Client) -> Any:
    return client.hello.state.get("typing")


# --- Starting


async def test_true_is_one_start_and_repeats_are_not_relayed(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        for _ in range(3):
            await alice.request(YES)
            await b.clock.advance(3)
        assert await heard(alice, bob) == [[], [START]]


async def test_a_repeat_puts_the_end_off(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        for _ in range(4):
            await alice.request(YES)
            await b.clock.advance(5.5)
        assert await heard(bob) == [[START]]
        await b.clock.advance(1.5)
        assert await heard(alice, bob) == [[], [STOP]]


async def test_those_who_do_not_see_the_channel_are_told_nothing(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish(private())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await alice.request(YES)
        await alice.request(NO)
        assert await heard(alice, bob) == [[], []]
        assert typing(await b.connect("bob")) is None


async def test_the_users_other_connections_are_told_and_the_one_that_typed_is_not(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, _ = await seated(b, nodes)
        other = await b.connect("alice", node=nodes - 1)
        await alice.request(YES)
        await alice.request(NO)
        assert await heard(alice, other) == [[], [START, STOP]]


async def test_who_comes_later_finds_it_in_hello(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, _ = await seated(b, nodes)
        await alice.request(YES)
        late = await b.connect("carol", node=nodes - 1)
        assert typing(late) == [{"channel_id": "c1", "user_id": "alice"}]
        await alice.request(NO)
        assert await heard(late) == [[STOP]]
        later = await b.connect("dave")
        assert typing(later) is None
        assert "typing" not in later.hello.state


@pytest.mark.parametrize("is_typing", [True, False])
async def test_in_a_channel_that_he_cannot_see_or_that_is_not_there_the_answer_is_the_same(
    is_typing: bool, nodes: int
) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish(private())
        bob = await b.connect("bob", node=nodes - 1)
        answers = []
        for channel in ("c1", "nowhere"):
            await bob.send(TypingIndicator(channel, is_typing), ref=1)
            answers.append(await bob.receive_frame())
        assert answers[0] == answers[1]
        assert answers[0]["data"] == {"message": "User not authorized.", "code": "UNAUTHORIZED", "ref": 1}


async def test_a_channel_that_was_deleted_or_left_is_not_there_and_the_answer_is_the_same(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([public(), private("c2", by="eve"), MemberJoined("c2", "bob")])
        bob = await b.connect("bob", node=nodes - 1)
        await b.workspace().publish_all([ChannelDeleted("c1"), MemberLeft("c2", "bob")])
        await bob.pending()
        answers = []
        for channel in ("c1", "c2", "nowhere"):
            await bob.send(TypingIndicator(channel, True), ref=1)
            answers.append(await bob.receive_frame())
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]["data"]["code"] == "UNAUTHORIZED"


async def test_a_channel_that_was_acknowledged_a_moment_ago_is_not_refused(nodes: int) -> None:
    """Its record has not been dispatched here yet: a node reads up to the log's end before it refuses."""
    async with bench(nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        gate = b.nodes[nodes - 1].link.gate = Gate({"feed"})
        await b.workspace().publish(public())
        await bob.request(YES)
        gate.open()
        assert await heard(alice, bob) == [[public(), TypingStart("c1", "bob")], [public()]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"channel_id": "c1"},
        {"is_typing": True},
        {"channel_id": "c1", "is_typing": "yes"},
        {"channel_id": "c1", "is_typing": 1},
        {"channel_id": "c1", "is_typing": None},
        {"channel_id": 7, "is_typing": True},
        {"channel_id": ["c1"], "is_typing": True},
        {"channel_id": "c" * 10_000, "is_typing": True},
        {"channel_id": "c/1", "is_typing": True},
        {"channel_id": "", "is_typing": True},
    ],
    ids=repr,
)
async def test_a_wrong_field_is_refused(wrong: dict[str, object]) -> None:
    async with bench() as b:
        alice, bob = await seated(b, 1)
        with pytest.raises(InvalidEvent):
            await alice.request({"type": "typing", **wrong})
        assert await heard(bob) == [[]]


async def test_nobody_types_for_somebody_else() -> None:
    async with bench() as b:
        alice, bob = await seated(b, 1)
        await alice.request({"type": "typing", "channel_id": "c1", "is_typing": True, "user_id": "carol"})
        assert await heard(bob) == [[START]]


# --- Stopping, in every way, once


async def test_false_is_one_stop_and_another_false_is_none(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(NO)
        await alice.request(YES)
        await alice.request(NO)
        await alice.request(NO)
        await b.clock.advance(20)
        assert await heard(alice, bob) == [[], [START, STOP]]


async def test_six_seconds_of_silence_are_one_stop(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await b.clock.advance(5.9)
        assert await heard(bob) == [[START]]
        await b.clock.advance(0.2)
        assert await heard(bob) == [[STOP]]
        await b.clock.advance(20)
        alice.close()
        assert await heard(bob) == [[]]


async def test_how_long_a_silence_is_can_be_set(nodes: int) -> None:
    async with testing.bench(Members, lambda: Typing(expires_after=1.5), nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await b.clock.advance(1.4)
        await alice.request(YES)
        await b.clock.advance(1.4)
        assert await heard(bob) == [[START]]
        await b.clock.advance(0.2)
        assert await heard(bob) == [[STOP]]


async def test_the_users_message_is_one_stop_behind_it(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await b.workspace(node=nodes - 1).publish(message(user="alice"))
        await b.clock.advance(20)
        assert await heard(alice, bob) == [[message()], [START, message(), STOP]]


async def test_messages_of_others_and_in_other_channels_stop_nothing() -> None:
    async with bench() as b:
        alice, bob = await seated(b, 1)
        await b.workspace().publish(public("c2"))
        await alice.request(YES)
        await bob.pending()
        await b.workspace().publish_all([message(user="carol"), message("m2", "c2", "alice")])
        assert await heard(bob) == [[message(user="carol"), message("m2", "c2", "alice")]]


@pytest.mark.parametrize("order", [(Members, Threads, Typing), (Typing, Threads, Members)])
async def test_behind_a_message_first_its_thread_and_then_the_stop_whatever_the_order_of_the_plugins(
    order: tuple[type, ...], nodes: int
) -> None:
    async with testing.bench(*order, nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await b.workspace().publish(message(user="carol"))
        await alice.request(YES)
        await bob.pending()
        reply = message("m2", parent="m1")
        await b.workspace().publish(reply)
        assert await heard(bob) == [[reply, ThreadUpdated("m1", 1, NOON), STOP]]


async def test_the_stop_behind_a_message_to_a_few_goes_to_all_who_saw_the_start(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await b.workspace().publish(message(), to=Users("alice"))
        assert await heard(alice, bob) == [[message()], [START, STOP]]


async def test_a_message_published_twice_under_one_id_stops_once(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await b.workspace().publish(message(), id="x")
        await alice.request(YES)
        await b.workspace(node=nodes - 1).publish(message(), id="x")
        assert await heard(bob) == [[START, message(), STOP, START]]


@pytest.mark.parametrize("how", ["close", "drop"])
async def test_the_typing_connection_closing_is_one_stop(how: str, nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        getattr(alice, how)()
        await b.clock.advance(20)
        assert await heard(bob) == [[START, STOP]]


async def test_the_last_of_the_users_typing_connections_closing_is_the_stop(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        one, bob = await seated(b, nodes)
        two, silent = await b.connect("alice", node=nodes - 1), await b.connect("alice")
        await one.request(YES)
        await two.request(YES)
        assert await heard(one, two, bob) == [[], [START], [START]]
        one.close()
        assert await heard(two, bob) == [[], []]
        two.close()
        assert await heard(silent, bob) == [[START, STOP], [STOP]]


async def test_one_of_two_typing_connections_closing_does_not_put_the_end_off(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        one, bob = await seated(b, nodes)
        two = await b.connect("alice", node=nodes - 1)
        await one.request(YES)
        await two.request(YES)
        await b.clock.advance(4)
        one.close()
        await b.clock.advance(1.9)
        assert await heard(bob) == [[START]]
        await b.clock.advance(0.2)
        assert await heard(bob) == [[STOP]]
        await b.clock.advance(20)
        two.close()
        assert await heard(bob) == [[]]


async def test_a_revocation_is_one_stop(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await b.workspace(node=nodes - 1).revoke("alice")
        await b.clock.advance(20)
        assert await heard(bob) == [[START, STOP]]


async def test_leaving_a_private_channel_is_one_stop_for_those_who_stay(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([private(by="bob"), MemberJoined("c1", "alice")])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await alice.request(YES)
        await b.workspace().publish(MemberLeft("c1", "alice"))
        assert await heard(alice, bob) == [[MemberLeft("c1", "alice")], [START, MemberLeft("c1", "alice"), STOP]]
        await b.clock.advance(20)
        alice.close()
        assert await heard(bob) == [[]]


async def test_leaving_a_public_channel_is_no_loss_of_access_and_no_stop() -> None:
    async with bench() as b:
        alice, bob = await seated(b, 1)
        await b.workspace().publish(MemberJoined("c1", "alice"))
        await alice.request(YES)
        await b.workspace().publish(MemberLeft("c1", "alice"))
        assert await heard(bob) == [[MemberJoined("c1", "alice"), START, MemberLeft("c1", "alice")]]
        await b.clock.advance(7)
        assert await heard(bob) == [[STOP]]


async def test_leaving_without_having_typed_stops_nothing() -> None:
    async with bench() as b:
        await b.workspace().publish_all([private(by="bob"), MemberJoined("c1", "alice")])
        bob = await b.connect("bob")
        await b.workspace().publish(MemberLeft("c1", "alice"))
        assert await heard(bob) == [[MemberLeft("c1", "alice")]]


async def test_the_end_of_a_channel_is_one_stop_for_each_who_typed_there(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        carol = await b.connect("carol")
        await b.workspace().publish(public("c2", by="dave"))
        for client, channel in ((alice, "c1"), (carol, "c1"), (carol, "c2")):
            await client.request(TypingIndicator(channel, True))
        await bob.pending()
        await b.workspace(node=nodes - 1).publish(ChannelDeleted("c1"))
        *stops, last = (await heard(bob))[0]
        assert sorted(stops, key=repr) == [STOP, TypingStop("c1", "carol")]
        assert last == ChannelDeleted("c1")
        await b.clock.advance(7)
        assert await heard(bob) == [[TypingStop("c2", "carol")]]


async def test_a_channel_deleted_while_somebody_types_has_its_own_receipt_and_exceptions(nodes: int) -> None:
    """The stops stand ahead of it; what the publisher said of his event is not said of them."""
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        carol = await b.connect("carol")
        await alice.request(YES)
        receipt = await b.workspace().publish(ChannelDeleted("c1"), id="x", except_users=["carol"])
        assert await heard(bob, carol) == [[START, STOP, ChannelDeleted("c1")], [START, STOP]]
        assert receipt.published
        assert receipt.position is not None
        again = await b.workspace(node=nodes - 1).publish(ChannelDeleted("c1"), id="x")
        assert (again.published, again.position) == (False, receipt.position)


async def test_a_channel_that_comes_back_has_nobody_typing(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, _ = await seated(b, nodes)
        await alice.request(YES)
        await b.workspace().publish_all([ChannelDeleted("c1"), public()])
        assert typing(await b.connect("dave", node=nodes - 1)) is None


@pytest.mark.parametrize("nodes", [2, 3])  # somebody must be left to see it
async def test_a_node_that_dies_is_one_stop_by_another(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        carol = await b.connect("carol", node=1)
        await alice.request(YES)
        await b.nodes[0].crash()
        await b.clock.advance(5)
        assert await heard(bob, carol) == [[START], [START]]
        await b.clock.advance(2)
        assert await heard(bob, carol) == [[STOP], [STOP]]
        await b.clock.advance(60)
        assert await heard(bob, carol) == [[], []]


async def test_a_stop_that_the_engine_did_not_take_comes_when_it_is_back(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        for node in b.nodes:
            node.partition()
        alice.close()
        await b.clock.advance(8)
        for node in b.nodes:
            node.heal()
        await b.clock.advance(3)
        assert await heard(bob) == [[START, STOP]]


@pytest.mark.parametrize("channel", ["c1", "nowhere"])
async def test_without_the_engine_it_is_an_error_of_ours_and_the_connection_stays(channel: str, nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        b.nodes[0].partition()
        await alice.send(TypingIndicator(channel, True), ref="r")
        error = await alice.receive_frame()
        assert error["data"] == {"message": "Server error.", "code": "INTERNAL_ERROR", "ref": "r"}
        b.nodes[0].heal()
        await alice.request(YES)
        assert await heard(alice, bob) == [[], [START]]


async def test_after_a_stop_he_can_begin_again(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        said: list[ServerEvent] = []
        for _ in range(3):
            await alice.request(YES)
            await b.clock.advance(7)
            said += [START, STOP]
        assert await heard(alice, bob) == [[], said]


# --- Elsewhere


async def test_where_everyone_sees_everything_it_is_the_same(nodes: int) -> None:
    async with testing.bench(OpenWorkspace, Typing, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await alice.request(YES)
        await alice.request(NO)
        assert await heard(alice, bob) == [[], [START, STOP]]


async def test_where_everyone_sees_everything_leaving_a_channel_stops_nobody() -> None:
    async with testing.bench(OpenWorkspace, Typing) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        await alice.request(YES)
        said: list[ServerEvent] = [MemberLeft("c1", "alice"), MemberJoined("c1", "alice")]
        await b.workspace().publish_all(said)
        assert await heard(bob) == [[START, *said]]


async def test_where_the_host_says_who_sees_what_it_is_the_same(nodes: int) -> None:
    async with testing.bench(Typing, nodes=nodes) as b:
        alice, bob = await b.connect("alice", channels=["c1"]), await b.connect("bob", channels=["c1"], node=nodes - 1)
        carol = await b.connect("carol", channels=["c2"])
        await alice.request(YES)
        with pytest.raises(Unauthorized):
            await carol.request(YES)
        await b.workspace().publish(MemberLeft("c1", "alice"))
        assert await heard(alice, bob, carol) == [
            [MemberLeft("c1", "alice")],
            [START, MemberLeft("c1", "alice"), STOP],
            [],
        ]


async def test_nothing_is_left_when_nobody_types(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice, bob = await seated(b, nodes)
        await alice.request(YES)
        await bob.request(YES)
        await alice.request(NO)
        await b.clock.advance(7)
        assert await tables(b, "typing") == {}


async def test_a_connection_that_wanders_through_all_channels_costs_no_more_than_one() -> None:
    typing_plugin = Typing()
    async with testing.bench(OpenWorkspace, typing_plugin) as b:
        alice = await b.connect("alice")
        for n in range(60):
            await alice.request(TypingIndicator(f"c{n}", True))
            await b.clock.advance(1)
        assert max(map(len, typing_plugin._until.values())) < 10


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_end_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        Typing(expires_after=seconds)


async def test_a_publisher_may_say_it_as_well() -> None:
    async with bench() as b:
        _, bob = await seated(b, 1)
        await b.workspace().publish(TypingStart("c1", "bot"))
        await b.workspace().publish(TypingStop("c1", "bot"), to=Channel("c1"))
        assert await heard(bob) == [[TypingStart("c1", "bot"), TypingStop("c1", "bot")]]
