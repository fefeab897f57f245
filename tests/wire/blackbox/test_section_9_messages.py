"""Section 9, reactions and threads: what is there already, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from outsider import SOON, Frame, Room, brief, event, message, types

pytestmark = pytest.mark.servers

DELETED = "2024-01-01T12:10:00.000Z"


def reaction(kind: str, user: str = "bob", emoji: str = "👍", message_id: str = "m1") -> Frame:
    return event(f"reaction.{kind}", message_id=message_id, emoji=emoji, user_id=user)


def post(room: Room, body: Frame) -> bool:
    """Whether it was published."""
    (receipt,) = room.post(body)
    return bool(receipt["published"])


# Reactions


def test_what_is_there_is_not_added_and_what_is_not_is_not_removed(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    steps = [
        ("removed", "bob", "👍", False),
        ("added", "bob", "👍", True),
        ("added", "bob", "👍", False),
        ("added", "bob", "❤", True),
        ("added", "carol", "👍", True),
        ("removed", "carol", "❤", False),
        ("removed", "bob", "👍", True),
        ("removed", "bob", "👍", False),
        ("added", "bob", "👍", True),
        ("removed", "carol", "👍", True),
    ]
    for kind, user, emoji, published in steps:
        assert post(room, reaction(kind, user, emoji)) is published, (kind, user, emoji)
    found = [
        (frame["type"].partition(".")[2], frame["data"]["user_id"], frame["data"]["emoji"], True)
        for frame in room.all_of(alice)
    ]
    assert found == [step for step in steps if step[3]]


def test_a_batch_of_reactions_is_one_after_the_other(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    batch = [reaction("added"), reaction("added"), reaction("removed"), reaction("removed"), reaction("added")]
    receipts = room.post({"events": batch})
    assert [receipt["published"] for receipt in receipts] == [True, False, True, False, True]
    assert types(room.all_of(alice)) == ["reaction.added", "reaction.removed", "reaction.added"]


def test_reactions_end_with_their_message(room: Room) -> None:
    room.channel()
    room.say("m1")
    assert post(room, reaction("added"))
    room.publish("message.deleted", id="m1", deleted_at=DELETED)
    assert room.try_post(reaction("added")).status_code == 409
    room.say("m1")  # a publisher may say an id again; it is another message
    assert post(room, reaction("added"))


def test_reactions_end_with_their_channel(room: Room) -> None:
    room.channel()
    room.say("m1")
    assert post(room, reaction("added"))
    room.publish("channel.deleted", id="general")
    room.channel()
    room.say("m1")
    assert post(room, reaction("removed")) is False
    assert post(room, reaction("added"))


def test_of_a_message_that_was_never_seen_a_reaction_is_published_either_way(room: Room) -> None:
    alice = room.enter("alice")
    kinds = ["removed", "added", "added", "removed", "removed"]
    found = [post(room, {**reaction(kind, message_id="unseen"), "to": "everyone"}) for kind in kinds]
    assert found[0] is True  # nobody can say that it was not there
    assert found[1] is True
    came = [type.partition(".")[2] for type in types(room.all_of(alice))]
    assert came == [kind for kind, published in zip(kinds, found, strict=True) if published]


# Threads


def reply(id: str, at: str = SOON, parent: str = "m1", channel: str = "general") -> Frame:
    return event("message.new", **{**message(id, channel), "parent_message_id": parent, "created_at": at})


def at(minute: int) -> str:
    return f"2024-01-01T12:{minute:02}:00.000Z"


def thread(frames: list[Frame]) -> list[dict[str, Any]]:
    return [frame["data"] for frame in frames if frame["type"] == "thread.updated"]


def numbers(count: int, minute: int | None) -> dict[str, Any]:
    last = {} if minute is None else {"last_reply_at": at(minute)}
    return {"parent_message_id": "m1", "reply_count": count, **last}


def test_a_reply_is_followed_by_the_numbers_of_its_thread(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    for number in range(3):
        room.post(reply(f"r{number}", at(number)))
    frames = room.all_of(alice)
    assert types(frames) == ["message.new", "thread.updated"] * 3
    assert thread(frames) == [numbers(1, 0), numbers(2, 1), numbers(3, 2)]


def test_the_newest_reply_is_not_the_last_to_arrive(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    for minute in 5, 3, 9, 1:
        room.post(reply(f"r{minute}", at(minute)))
    assert thread(room.all_of(alice)) == [numbers(1, 5), numbers(2, 5), numbers(3, 9), numbers(4, 9)]
    for minute, expected in (9, numbers(3, 5)), (1, numbers(2, 5)), (5, numbers(1, 3)), (3, numbers(0, None)):
        room.publish("message.deleted", id=f"r{minute}", deleted_at=DELETED)
        frames = room.all_of(alice)
        assert types(frames) == ["message.deleted", "thread.updated"]
        assert thread(frames) == [expected]


def test_newest_is_a_matter_of_time_and_not_of_text(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    first, second = "2024-01-01T12:00:00.000Z", "2024-01-01T14:00:00.000+05:00"  # the second is three hours earlier
    answers = [room.try_post(reply("r1", first)), room.try_post(reply("r2", second))]
    if answers[1].status_code == 202:  # whether other offsets are times at all, the page leaves open
        assert thread(room.all_of(alice))[-1]["last_reply_at"] == first
    else:
        assert answers[1].status_code == 422


def test_a_suppressed_reply_counts_nothing(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    body = {**reply("r1"), "id": "once"}
    assert post(room, body) is True
    assert post(room, body) is False
    assert post(room, {**reply("r2", at(1)), "id": "twice"}) is True
    assert thread(room.all_of(alice)) == [numbers(1, 0), numbers(2, 1)]


def test_in_a_batch_the_numbers_stand_directly_behind_their_reply(room: Room) -> None:
    room.channel()
    room.say("m1")
    alice = room.enter("alice")
    receipts = room.post({"events": [reply("r1"), event("message.new", **message("m2")), reply("r2", at(1))]})
    assert len(receipts) == 3  # of what was sent, and not of what followed from it
    frames = room.all_of(alice)
    assert brief(frames) == [
        ("message.new", "r1"),
        ("thread.updated", ""),
        ("message.new", "m2"),
        ("message.new", "r2"),
        ("thread.updated", ""),
    ]
    assert thread(frames) == [numbers(1, 0), numbers(2, 1)]


def test_the_numbers_go_to_the_channel_of_the_reply(room: Room) -> None:
    room.channel()
    room.channel("c", "private", "alice")
    room.say("m1")
    alice, bob = room.enter("alice"), room.enter("bob")
    room.post(reply("r1", channel="c"))
    assert types(room.all_of(alice)) == ["message.new", "thread.updated"]
    assert room.all_of(bob) == []


def test_an_edit_counts_nothing(room: Room) -> None:
    room.channel()
    room.say("m1")
    room.post(reply("r1"))
    alice = room.enter("alice")
    room.publish("message.updated", id="r1", content="x", updated_at=SOON)
    assert types(room.all_of(alice)) == ["message.updated"]


def test_two_threads_are_counted_apart(room: Room) -> None:
    room.channel()
    room.say("m1")
    room.say("m2")
    alice = room.enter("alice")
    room.post(reply("r1"))
    room.post(reply("r2", at(1), "m2"))
    room.post(reply("r3", at(2)))
    found = thread(room.all_of(alice))
    assert [(each["parent_message_id"], each["reply_count"]) for each in found] == [("m1", 1), ("m2", 1), ("m1", 2)]


def test_of_a_message_that_was_never_seen_the_numbers_are_the_publishers(room: Room) -> None:
    """A reply is a message as any other; what the server did not see begin it cannot count."""
    room.channel()
    alice = room.enter("alice")
    room.post(reply("r1", parent="unseen"))
    assert types(room.all_of(alice)) == ["message.new"]
    data = {"parent_message_id": "unseen", "reply_count": 41, "last_reply_at": SOON}
    room.publish("thread.updated", {"channel": "general"}, **data)
    assert thread(room.all_of(alice)) == [data]


def test_a_thread_ends_with_its_message(room: Room) -> None:
    room.channel()
    room.say("m1")
    room.post(reply("r1"))
    room.publish("message.deleted", id="m1", deleted_at=DELETED)
    room.say("m1")
    alice = room.enter("alice")
    room.post(reply("r2", at(1)))
    assert thread(room.all_of(alice)) == [numbers(1, 1)]
