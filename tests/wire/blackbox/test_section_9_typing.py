"""Section 9, typing: one start, one stop, however it ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from outsider import Frame, Peer, Room, event, message, types

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers


def typing(is_typing: bool = True, channel: str = "general") -> dict[str, Any]:
    return {"type": "typing", "channel_id": channel, "is_typing": is_typing}


def said(frames: list[Frame]) -> list[tuple[str, str]]:
    """The kind and the user of typing events; whatever else there is stays a type."""
    return [
        (frame["type"], frame["data"]["user_id"]) if frame["type"].startswith("typing.") else (frame["type"], "")
        for frame in frames
    ]


@pytest.fixture
def two(room: Room) -> tuple[Peer, Peer]:
    """Alice types, bob watches; nothing expires before six seconds."""
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    return alice, bob


@pytest.fixture
def hasty(room_with: Callable[..., Room]) -> Room:
    room = room_with(TYPING_EXPIRES_AFTER="0.6", PRESENCE_GRACE="0.3")
    room.channel()
    return room


def test_one_start_and_one_stop_and_never_to_the_connection_that_typed(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    for is_typing in True, True, True, False, False, True, False:
        assert alice.ask(typing(is_typing))["type"] == "ack"
    assert said(room.all_of(bob)) == [("typing.start", "alice"), ("typing.stop", "alice")] * 2
    assert room.all_of(alice) == []


def test_a_stop_without_a_start_is_none(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    assert alice.ask(typing(False))["type"] == "ack"
    assert room.all_of(bob) == []


def test_the_other_tabs_of_the_user_are_told(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    other = room.enter("alice")
    alice.ask(typing())
    alice.ask(typing(False))
    for peer in bob, other:
        assert said(room.all_of(peer)) == [("typing.start", "alice"), ("typing.stop", "alice")]


def test_only_those_who_see_the_channel_are_told(room: Room) -> None:
    room.channel("c", "private", "alice", "bob")
    alice, bob, carol = room.enter("alice"), room.enter("bob"), room.enter("carol")
    alice.ask(typing(True, "c"))
    alice.ask(typing(False, "c"))
    assert types(room.all_of(bob)) == ["typing.start", "typing.stop"]
    assert room.all_of(carol) == []
    later = room.enter("carol")
    assert "typing" not in later.hello["data"]["state"]


def test_who_comes_later_finds_it_in_hello(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, _ = two
    room.channel("second")
    alice.ask(typing())
    alice.ask(typing(True, "second"))
    carol = room.enter("carol")
    found = carol.hello["data"]["state"]["typing"]
    assert sorted(found, key=str) == [
        {"channel_id": "general", "user_id": "alice"},
        {"channel_id": "second", "user_id": "alice"},
    ]
    assert list(found[0]) == ["channel_id", "user_id"]
    alice.ask(typing(False))
    alice.ask(typing(False, "second"))
    assert types(room.all_of(carol)) == ["typing.stop", "typing.stop"]
    assert "typing" not in room.enter("dave").hello["data"]["state"]


def test_two_users_and_two_channels_are_told_apart(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    room.channel("second")
    carol = room.enter("carol")
    alice.ask(typing())
    bob.ask(typing())
    alice.ask(typing(True, "second"))
    alice.ask(typing(False))
    found = [
        (frame["type"], frame["data"]["user_id"], frame["data"]["channel_id"])
        for frame in room.all_of(carol)
        if frame["type"].startswith("typing.")
    ]
    assert found == [
        ("typing.start", "alice", "general"),
        ("typing.start", "bob", "general"),
        ("typing.start", "alice", "second"),
        ("typing.stop", "alice", "general"),
    ]


# How it ends


def test_it_ends_without_a_repeat(hasty: Room) -> None:
    alice, bob = hasty.enter("alice"), hasty.enter("bob")
    began = time.monotonic()
    alice.send(typing())
    bob.get("typing.start")
    bob.get("typing.stop")
    assert 0.5 <= time.monotonic() - began < 3
    assert bob.drain(0.8) == []


def test_repeats_extend_it(hasty: Room) -> None:
    alice, bob = hasty.enter("alice"), hasty.enter("bob")
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        alice.send(typing())
        alice.drain(0.3)
    assert types(bob.drain(0)) == ["typing.start"]
    last = time.monotonic()
    bob.get("typing.stop")
    assert time.monotonic() - last < 2
    assert bob.drain(0.8) == []


def test_a_message_ends_it_and_stands_before_the_stop(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    alice.ask(typing())
    room.say("m1", "general", "alice")
    assert types(room.all_of(bob)) == ["typing.start", "message.new", "typing.stop"]
    assert types(room.all_of(alice)) == ["message.new"]
    assert alice.ask(typing(False))["type"] == "ack"
    assert room.all_of(bob) == []
    alice.ask(typing())
    assert types(room.all_of(bob)) == ["typing.start"]


def test_messages_of_others_and_elsewhere_do_not_end_it(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    room.channel("second")
    alice.ask(typing())
    room.say("m1", "general", "bob")
    room.say("m2", "second", "alice")
    found = types(room.all_of(bob))
    assert found == ["channel.created", "typing.start", "message.new", "message.new"]


def test_a_message_that_was_suppressed_does_not_end_it(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    body = {**event("message.new", **message("m1")), "id": "once"}
    room.post(body)
    alice.ask(typing())
    assert room.post(body)[0]["published"] is False
    assert types(room.all_of(bob)) == ["message.new", "typing.start"]


@pytest.mark.parametrize("how", ["close", "cut"])
def test_the_last_typing_connection_ends_it(room: Room, two: tuple[Peer, Peer], how: str) -> None:
    alice, bob = two
    other, idle = room.enter("alice"), room.enter("alice")
    alice.ask(typing())
    other.ask(typing())
    getattr(alice, how)()
    bob.get("typing.start")
    assert [frame for frame in bob.drain(0.4) if frame["type"] != "presence.updated"] == []
    getattr(other, how)()
    assert bob.get("typing.stop")["data"] == {"channel_id": "general", "user_id": "alice"}
    assert types(room.all_of(idle)) == ["typing.start", "typing.stop"]
    assert room.all_of(bob) == []


def test_leaving_a_private_channel_ends_it(room: Room) -> None:
    room.channel("c", "private", "alice", "bob")
    alice, bob = room.enter("alice"), room.enter("bob")
    other = room.enter("alice")
    alice.ask(typing(True, "c"))
    room.publish("member.left", channel_id="c", user_id="alice")
    assert sorted(types(room.all_of(bob))) == ["member.left", "typing.start", "typing.stop"]
    # nothing of the channel after the leave, to whoever left
    assert types(room.all_of(alice)) == ["member.left"]
    seen = types(room.all_of(other))
    assert seen[-1] == "member.left"
    alice.send(typing(False, "c"))
    alice.error("UNAUTHORIZED")
    assert room.all_of(bob) == []


def test_leaving_a_public_channel_does_not(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    room.publish("member.joined", channel_id="general", user_id="alice")
    alice.ask(typing())
    room.publish("member.left", channel_id="general", user_id="alice")
    assert types(room.all_of(bob)) == ["member.joined", "typing.start", "member.left"]


def test_the_end_of_the_channel_ends_it(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    alice.ask(typing())
    room.publish("channel.deleted", id="general")
    found = types(room.all_of(bob))
    assert sorted(found) == ["channel.deleted", "typing.start", "typing.stop"]
    assert "typing" not in room.enter("carol").hello["data"]["state"]


def test_a_revocation_ends_it(room: Room, two: tuple[Peer, Peer]) -> None:
    alice, bob = two
    alice.ask(typing())
    room.server.api("DELETE", f"/api/workspaces/{room.id}/users/alice/connections")
    assert alice.end()[1] == 4503
    bob.get("typing.start")
    bob.get("typing.stop")
    assert room.all_of(bob) == []


def test_false_from_a_connection_that_does_not_type(room: Room, two: tuple[Peer, Peer]) -> None:
    """Another tab says false: whether that is the user's is not said; but there is one stop in the end, no more."""
    alice, bob = two
    other = room.enter("alice")
    alice.ask(typing())
    other.ask(typing(False))
    alice.ask(typing(False))
    assert types(room.all_of(bob)) == ["typing.start", "typing.stop"]
