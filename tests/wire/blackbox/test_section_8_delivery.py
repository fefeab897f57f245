"""Section 8: who is told, and in which order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from outsider import SOON, Frame, Peer, Room, brief, event, message, types

if TYPE_CHECKING:
    from collections.abc import Callable

    from wireclient import Client

pytestmark = pytest.mark.servers

DELETED = "2024-01-01T12:10:00.000Z"


@pytest.fixture
def three(room: Room) -> tuple[Peer, Peer, Peer]:
    return room.enter("alice"), room.enter("bob"), room.enter("carol")


def heard(room: Room, peers: tuple[Peer, ...]) -> list[list[tuple[str, str]]]:
    return [brief(room.all_of(peer)) for peer in peers]


def updates(id: str) -> list[tuple[str, Frame]]:
    """Everything that can happen to a message, the last thing last."""
    return [
        ("message.updated", {"id": id, "content": "x", "updated_at": SOON}),
        ("reaction.added", {"message_id": id, "emoji": "x", "user_id": "alice"}),
        ("reaction.removed", {"message_id": id, "emoji": "x", "user_id": "alice"}),
        ("message.new", message(f"reply-to-{id}", parent_message_id=id)),
        ("message.deleted", {"id": id, "deleted_at": DELETED}),
    ]


# Channels and members


def test_a_public_channel_is_seen_by_everyone(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel("general", "public", "dave")
    room.say("m1")
    room.publish("channel.updated", id="general", name="x")
    room.publish("channel.deleted", id="general")
    expected = [
        ("channel.created", "general"),
        ("message.new", "m1"),
        ("channel.updated", "general"),
        ("channel.deleted", "general"),
    ]
    assert heard(room, three) == [expected] * 3


@pytest.mark.parametrize("type", ["private", "dm", "Public", "PUBLIC", "public ", "x", "nonsense"])
def test_a_channel_of_any_other_type_is_seen_by_its_members(room: Room, three: tuple[Peer, ...], type: str) -> None:
    room.channel("c", type, "alice")
    room.say("m1", "c")
    room.publish("member.joined", channel_id="c", user_id="bob")
    room.say("m2", "c")
    room.publish("channel.updated", id="c", name="x")
    room.publish("member.left", channel_id="c", user_id="alice")
    room.say("m3", "c")
    room.publish("channel.deleted", id="c")
    alice, bob, carol = heard(room, three)
    assert alice == [
        ("channel.created", "c"),
        ("message.new", "m1"),
        ("member.joined", ""),
        ("message.new", "m2"),
        ("channel.updated", "c"),
        ("member.left", ""),
    ]
    assert bob == [
        ("member.joined", ""),
        ("message.new", "m2"),
        ("channel.updated", "c"),
        ("member.left", ""),
        ("message.new", "m3"),
        ("channel.deleted", "c"),
    ]
    assert carol == []


def test_who_left_and_comes_back_sees_it_again(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel("c", "private", "alice", "bob")
    for number in range(3):
        room.publish("member.left", channel_id="c", user_id="bob")
        room.say(f"without-{number}", "c")
        room.publish("member.joined", channel_id="c", user_id="bob")
        room.say(f"with-{number}", "c")
    bob = heard(room, three)[1]
    assert [id for type, id in bob if type == "message.new"] == ["with-0", "with-1", "with-2"]
    assert [type for type, _ in bob].count("member.left") == 3
    assert [type for type, _ in bob].count("member.joined") == 4


def test_in_a_public_channel_members_are_told_to_everyone_and_change_nobodys_sight(
    room: Room, three: tuple[Peer, ...]
) -> None:
    room.channel("general", "public", "dave")
    room.publish("member.joined", channel_id="general", user_id="alice")
    room.publish("member.left", channel_id="general", user_id="alice")
    room.publish("member.joined", channel_id="general", user_id="bob")
    room.say("m1")
    for frames in heard(room, three):
        assert [type for type, _ in frames] == [
            "channel.created",
            "member.joined",
            "member.left",
            "member.joined",
            "message.new",
        ]


@pytest.mark.parametrize("type", ["public", "private"])
def test_a_repeated_join_or_leave_publishes_nothing(room: Room, type: str) -> None:
    room.channel("c", type, "alice")
    alice = room.enter("alice")
    for kind, published in [
        ("member.joined", True),
        ("member.joined", False),
        ("member.left", True),
        ("member.left", False),
        ("member.joined", True),
    ]:
        receipt = room.publish(kind, channel_id="c", user_id="bob")
        assert receipt["published"] is published
        assert ("position" in receipt) is published
    assert types(room.all_of(alice)) == ["member.joined", "member.left", "member.joined"]


def test_its_creator_is_a_member_already(room: Room) -> None:
    room.channel("c", "private", "alice")
    assert room.publish("member.joined", channel_id="c", user_id="alice")["published"] is False


def test_a_leave_of_who_was_never_there(room: Room) -> None:
    room.channel("c", "private", "alice")
    alice, bob = room.enter("alice"), room.enter("bob")
    assert room.publish("member.left", channel_id="c", user_id="bob")["published"] is False
    assert room.all_of(alice) == room.all_of(bob) == []


def test_creating_a_channel_that_exists_publishes_nothing_and_changes_nothing(
    room: Room, three: tuple[Peer, ...]
) -> None:
    room.channel("c", "private", "alice")
    for type in "private", "public":
        receipt = room.publish("channel.created", id="c", name="other", type=type, created_by="bob")
        assert receipt["published"] is False
        assert "position" not in receipt
    room.say("m1", "c")
    expected = [("channel.created", "c"), ("message.new", "m1")]
    assert heard(room, three) == [expected, [], []]


def test_after_its_end_a_channel_does_not_exist(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel("c", "private", "alice", "bob")
    room.say("m1", "c")
    assert room.publish("channel.deleted", id="c")["published"] is True
    for body in [
        event("message.new", **message("m2", "c")),
        event("channel.updated", id="c", name="x"),
        event("channel.deleted", id="c"),
        event("member.joined", channel_id="c", user_id="carol"),
        event("member.left", channel_id="c", user_id="bob"),
        event("message.updated", id="m1", content="x", updated_at=SOON),
        event("reaction.added", message_id="m1", emoji="x", user_id="bob"),
    ]:
        assert room.try_post(body).status_code == 409, body
    alice, bob, carol = heard(room, three)
    assert alice[-1] == bob[-1] == ("channel.deleted", "c")
    assert carol == []
    # a new one of that name is another one: nobody is in it but who made it
    room.channel("c", "private", "carol")
    room.say("m3", "c", "carol")
    assert heard(room, three) == [[], [], [("channel.created", "c"), ("message.new", "m3")]]


# Messages


@pytest.mark.parametrize("private", [True, False])
def test_what_happens_to_a_message_follows_its_audience(room: Room, three: tuple[Peer, ...], private: bool) -> None:
    room.channel("c", "private" if private else "public", "alice", "bob")
    room.say("m1", "c")
    for type, data in updates("m1"):
        room.publish(type, **({**data, "channel_id": "c"} if type == "message.new" else data))
    alice, bob, carol = heard(room, three)
    assert [type for type, _ in bob][-7:] == [
        "message.new",
        "message.updated",
        "reaction.added",
        "reaction.removed",
        "message.new",
        "thread.updated",
        "message.deleted",
    ]
    assert alice[-7:] == bob[-7:]
    assert carol == ([] if private else alice)


def test_the_audience_is_that_of_now(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel("c", "private", "alice", "bob")
    room.say("m1", "c")
    room.publish("member.left", channel_id="c", user_id="bob")
    room.publish("member.joined", channel_id="c", user_id="carol")
    room.publish("message.updated", id="m1", content="x", updated_at=SOON)
    alice, bob, carol = heard(room, three)
    assert ("message.updated", "m1") in alice
    assert ("message.updated", "m1") not in bob
    assert ("message.updated", "m1") in carol


def test_after_its_end_a_message_does_not_exist(room: Room) -> None:
    room.channel()
    room.say("m1")
    room.publish("message.deleted", id="m1", deleted_at=DELETED)
    alice = room.enter("alice")
    for type, data in updates("m1"):
        if type != "message.new":
            assert room.try_post(event(type, **data)).status_code == 409, type
    assert room.all_of(alice) == []


def test_what_nobody_knows_is_refused_and_not_broadcast(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel()
    heard(room, three)
    for body in [
        event("message.new", **message("m1", "nowhere")),
        event("message.updated", id="unknown", content="x", updated_at=SOON),
        event("message.deleted", id="unknown", deleted_at=DELETED),
        event("reaction.added", message_id="unknown", emoji="x", user_id="alice"),
        event("reaction.removed", message_id="unknown", emoji="x", user_id="alice"),
        event("thread.updated", parent_message_id="unknown", reply_count=1, last_reply_at=SOON),
        event("channel.updated", id="nowhere", name="x"),
        event("channel.deleted", id="nowhere"),
        event("member.joined", channel_id="nowhere", user_id="alice"),
        event("member.left", channel_id="nowhere", user_id="alice"),
    ]:
        assert room.try_post(body).status_code == 409, body
    # the publisher is trusted; whether a channel that is not there is one to be told, the page leaves open
    assert room.try_post(event("message.new", {"channel": "nowhere"}, **message("m1"))).status_code in {202, 409}
    assert heard(room, three) == [[], [], []]


# to and except_users


def test_a_to_of_users_replaces_the_audience_then_and_later(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel()
    room.say("m1", "general", "alice", {"users": ["bob", "nobody-here"]})
    for type, data in updates("m1"):
        room.publish(type, **data)
    alice, bob, carol = heard(room, three)
    # a reply goes to the channel, as any message does; its thread.updated to the reply's channel
    assert [each for each in alice if each[1] != "reply-to-m1" and each[0] != "thread.updated"] == [
        ("channel.created", "general")
    ]
    assert alice == carol
    assert [each for each in bob if each[1] == "m1"] == [
        ("message.new", "m1"),
        ("message.updated", "m1"),
        ("reaction.added", "m1"),
        ("reaction.removed", "m1"),
        ("message.deleted", "m1"),
    ]


def test_a_to_of_everyone_or_of_another_channel(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel("secret", "private", "alice")
    room.channel("other", "private", "bob")
    heard(room, three)
    room.say("m1", "secret", "alice", "everyone")
    assert heard(room, three) == [[("message.new", "m1")]] * 3
    room.say("m2", "secret", "alice", {"channel": "other"})
    room.publish("message.updated", id="m2", content="x", updated_at=SOON)
    assert heard(room, three) == [[], [("message.new", "m2"), ("message.updated", "m2")], []]
    room.publish("message.updated", id="m1", content="x", updated_at=SOON)
    assert heard(room, three) == [[("message.updated", "m1")]] * 3


def test_a_to_makes_unknown_things_known_enough(room: Room, three: tuple[Peer, ...]) -> None:
    room.publish("message.updated", {"users": ["bob"]}, id="unknown", content="x", updated_at=SOON)
    room.publish("thread.updated", {"users": ["bob"]}, parent_message_id="unknown", reply_count=1)
    assert heard(room, three) == [[], [("message.updated", "unknown"), ("thread.updated", "")], []]


def test_no_users_are_nobody(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel()
    heard(room, three)
    answer = room.try_post(event("message.new", {"users": []}, **message("m1")))
    assert answer.status_code in {202, 422}  # not said; but it is not everybody
    assert heard(room, three) == [[], [], []]


def test_some_are_left_out(room: Room, three: tuple[Peer, ...]) -> None:
    room.channel("c", "private", "alice", "bob")
    room.channel("general")
    heard(room, three)
    room.post({**event("message.new", **message("m1")), "except_users": ["bob", "nobody-here"]})
    room.post({**event("message.new", **message("m2", "c")), "except_users": ["alice"]})
    room.post({**event("message.new", "everyone", **message("m3", "c")), "except_users": ["carol"]})
    room.post({**event("message.new", {"users": ["bob", "carol"]}, **message("m4")), "except_users": ["carol"]})
    room.post({**event("message.new", **message("m5")), "except_users": []})
    found = [[id for _, id in frames] for frames in heard(room, three)]
    assert found == [["m1", "m3", "m5"], ["m2", "m3", "m4", "m5"], ["m1", "m5"]]


def test_except_users_is_of_one_event(room: Room, three: tuple[Peer, ...]) -> None:
    """What happens to a message goes to its audience, "a `to` included"; who was left out of it is not said to be."""
    room.channel()
    heard(room, three)
    room.post({**event("message.new", **message("m1")), "except_users": ["bob"]})
    room.post({**event("message.updated", id="m1", content="x", updated_at=SOON), "except_users": ["bob"]})
    assert heard(room, three)[1] == []


def test_every_connection_of_a_user_is_told(room: Room) -> None:
    tabs = [room.enter("alice") for _ in range(3)]
    room.channel("c", "private", "alice")
    room.say("m1", "c")
    for tab in tabs:
        assert brief(room.all_of(tab)) == [("channel.created", "c"), ("message.new", "m1")]


# Batches


def test_in_a_batch_each_event_is_resolved_as_if_those_before_it_were_published(
    room: Room, three: tuple[Peer, ...]
) -> None:
    batch = [
        event("channel.created", id="c", name="c", type="private", created_by="alice"),
        event("message.new", **message("m1", "c")),
        event("member.joined", channel_id="c", user_id="bob"),
        event("message.new", **message("m2", "c")),
        event("reaction.added", message_id="m1", emoji="x", user_id="bob"),
        event("member.left", channel_id="c", user_id="alice"),
        event("message.updated", id="m1", content="x", updated_at=SOON),
        event("message.deleted", id="m1", deleted_at=DELETED),
        event("channel.deleted", id="c"),
    ]
    receipts = room.post({"events": batch})
    assert [receipt["published"] for receipt in receipts] == [True] * len(batch)
    every = brief(batch)
    assert heard(room, three) == [every[:6], every[2:], []]


def test_a_batch_that_contradicts_itself_is_refused_whole(room: Room, three: tuple[Peer, ...]) -> None:
    for batch in [
        [
            event("channel.created", id="c", name="c", type="public", created_by="alice"),
            event("channel.deleted", id="c"),
            event("message.new", **message("m1", "c")),
        ],
        [
            event("channel.created", id="c", name="c", type="public", created_by="alice"),
            event("message.new", **message("m1", "c")),
            event("message.deleted", id="m1", deleted_at=DELETED),
            event("message.updated", id="m1", content="x", updated_at=SOON),
        ],
        [
            event("message.new", **message("m1", "c")),
            event("channel.created", id="c", name="c", type="public", created_by="alice"),
        ],
    ]:
        assert room.try_post({"events": batch}).status_code == 409
    assert heard(room, three) == [[], [], []]
    room.channel("c")  # nothing of it stayed
    assert heard(room, three) == [[("channel.created", "c")]] * 3


# Order


def test_the_order_is_the_same_for_everybody(room: Room) -> None:
    """Publishers that know nothing of each other; each batch stays together, each publisher's stay in their order."""
    room.channel("general")
    room.channel("c", "private", "alice", "bob", "carol")
    peers = [room.enter(user) for user in ("alice", "bob", "carol")]
    failures: list[BaseException] = []

    def publish(name: int) -> None:
        try:
            for number in range(15):
                channel = "general" if (name + number) % 2 else "c"
                ids = [f"{name}-{number}-{part}" for part in range(3)]
                room.post({"events": [event("message.new", **message(id, channel)) for id in ids]})
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    rows = [[frame["data"]["id"] for frame in room.all_of(peer)] for peer in peers]
    assert rows[0] == rows[1] == rows[2]
    assert len(rows[0]) == 4 * 15 * 3
    for name in range(4):
        own = [id for id in rows[0] if id.startswith(f"{name}-")]
        assert own == [f"{name}-{number}-{part}" for number in range(15) for part in range(3)]
    for at in range(0, len(rows[0]), 3):
        first = rows[0][at].rpartition("-")[0]
        assert rows[0][at : at + 3] == [f"{first}-{part}" for part in range(3)]


def test_behind_a_message_first_its_thread_and_then_the_end_of_typing(room: Room) -> None:
    room.channel()
    room.say("m1", "general", "bob")
    alice, bob = room.enter("alice"), room.enter("bob")
    alice.send({"type": "typing", "channel_id": "general", "is_typing": True})
    bob.get("typing.start")
    room.post(
        {
            "events": [
                event("message.new", **message("r1", "general", "alice", parent_message_id="m1")),
                event("message.new", **message("m2", "general", "bob")),
            ]
        }
    )
    assert types(room.all_of(bob)) == ["message.new", "thread.updated", "typing.stop", "message.new"]


def test_positions_are_opaque_text(room: Room) -> None:
    room.channel()
    receipts = [room.say(f"m{number}") for number in range(3)]
    for receipt in receipts:
        assert isinstance(receipt["position"], str)
        assert receipt["position"]
    assert len({receipt["position"] for receipt in receipts}) == 3


def test_what_the_server_remembers_is_a_workspaces_own(room_with: Callable[..., Room]) -> None:
    one, other = room_with(), room_with()
    for room in one, other:
        room.channel("c", "private", "alice")
    one.say("m1", "c")
    body: dict[str, Any] = event("message.updated", id="m1", content="x", updated_at=SOON)
    assert other.try_post(body).status_code == 409
    bob = other.enter("bob")
    one.publish("member.joined", channel_id="c", user_id="bob")
    other.say("m2", "c")
    assert other.all_of(bob) == []


# Those who read slowly


def stuffed(room: Room, user: str) -> Client:
    """A client that reads nothing, with so much on its way to it that the rest waits in its outbox."""
    slow = room.raw(f"?token={room.token(user)}", recv_buffer=4096)
    slow.expect("hello")
    # far more than the kernel holds between us, far less than closes a connection
    stuffing = [event("message.new", **message(f"stuffing-{number}", content="x" * 16_000)) for number in range(60)]
    for at in range(0, 60, 10):
        room.post({"events": stuffing[at : at + 10]})
    return slow


def test_of_a_state_a_slow_reader_gets_the_latest(room: Room) -> None:
    """A start that was never sent and its stop go together; and of a user the newest presence is what he gets."""
    room.channel()
    alice = room.enter("alice")
    slow = stuffed(room, "slow")
    for _ in range(3):
        for is_typing in True, False:
            assert alice.ask({"type": "typing", "channel_id": "general", "is_typing": is_typing})["type"] == "ack"
        for status in "away", "online":
            assert alice.ask({"type": "presence", "status": status})["type"] == "ack"
    assert alice.ask({"type": "presence", "status": "away"})["type"] == "ack"
    room.say("last")
    frames: list[Frame] = []
    while not frames or frames[-1]["data"].get("id") != "last":
        frame = slow.receive()
        assert isinstance(frame, dict), frame
        frames.append(frame)
    durable = [frame["data"]["id"] for frame in frames if frame["type"] == "message.new"]
    assert durable == [*(f"stuffing-{number}" for number in range(60)), "last"]
    typing = [frame["type"] for frame in frames if frame["type"].startswith("typing.")]
    assert typing == ["typing.start", "typing.stop"] * (len(typing) // 2)
    present = [frame["data"]["status"] for frame in frames if frame["type"] == "presence.updated"]
    assert present[-1] == "away"
    assert len(typing) < 6  # else the reader was not slow, and this test says nothing
    assert len(present) < 7


def test_more_bytes_than_an_outbox_holds_close_it(room_with: Callable[..., Room]) -> None:
    room = room_with(OUTBOX_BYTES="300000", OUTBOX_EVENTS="100000")
    room.channel()
    slow = stuffed(room, "slow")
    room.post({"events": [event("message.new", **message(f"m{n}", content="x" * 16_000)) for n in range(60)]})
    room.post({"events": [event("message.new", **message(f"n{n}", content="x" * 16_000)) for n in range(60)]})
    _, code, _ = slow.until_closed(15)
    assert code == 4002
