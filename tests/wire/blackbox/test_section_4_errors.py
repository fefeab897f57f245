"""Sections 4 and 5: what an error looks like, what it costs, and how a connection ends."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from outsider import Peer, Room, message, timeless, until
from outsider import event as say

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

INVALID = "nonsense"
UNKNOWN = {"type": "nobodys"}
TYPING = {"type": "typing", "channel_id": "general", "is_typing": True}


def error_of(peer: Peer) -> dict[str, Any]:
    frame = peer.get("error")
    assert list(frame) == ["type", "data", "timestamp"]
    assert list(frame["data"])[:2] == ["message", "code"]
    return frame["data"]


def test_a_message_is_a_constant_of_its_code(room: Room) -> None:
    canary = "canary-canary"
    room.channel("secret", "private", "bob")
    inputs: dict[str, list[object]] = {
        "INVALID_EVENT": [
            canary,
            {canary: canary},
            {"type": 7, "x": canary},
            {"type": "typing", "channel_id": canary},
            {"type": "typing", "channel_id": f"{canary} ", "is_typing": True},
            {"type": "typing", "channel_id": canary, "is_typing": canary},
            {"type": "ping", "workspace_id": canary},
            {"type": "ping", "ref": [canary]},
        ],
        "UNKNOWN_EVENT": [{"type": canary}, {"type": "message.new", "data": {"content": canary}}],
        "UNAUTHORIZED": [{**TYPING, "channel_id": canary}, {**TYPING, "channel_id": "secret"}],
        "INVALID_TOKEN": [{"type": "auth.refresh", "token": canary}],
    }
    for code, sent in inputs.items():
        alice = room.enter("alice")
        messages = set()
        for event in sent:
            alice.send(event)
            data = error_of(alice)
            assert data["code"] == code
            assert isinstance(data["message"], str)
            assert data["message"]
            messages.add(data["message"])
            assert canary not in alice.raws[-1]
        assert len(messages) == 1


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"type": "typing", "is_typing": True}, "channel_id"),
        ({"type": "typing", "channel_id": "general"}, "is_typing"),
        ({"type": "typing", "channel_id": 7, "is_typing": True}, "channel_id"),
        ({"type": "typing", "channel_id": "general", "is_typing": "yes"}, "is_typing"),
        ({"type": "typing", "data": {"channel_id": "general"}}, "is_typing"),
        ({"type": "ping", "ref": []}, "ref"),
        ({"type": "ping", "workspace_id": "elsewhere"}, "workspace_id"),
        ({"type": 7}, "type"),
        ({}, "type"),
        ({"type": "ping", "data": 7}, "data"),
        ({"type": "auth.refresh"}, "token"),
        ({"type": "presence", "status": "busy"}, "status"),
    ],
)
def test_detail_names_the_field(room: Room, event: dict[str, Any], field: str) -> None:
    alice = room.enter()
    alice.send(event)
    data = error_of(alice)
    assert data["code"] == "INVALID_EVENT"
    assert isinstance(data["detail"], str)
    assert field in data["detail"]


def test_the_same_bytes_for_a_channel_that_is_not_visible_and_one_that_does_not_exist(room: Room) -> None:
    room.channel("secret", "private", "bob")
    room.channel("gone", "public", "bob")
    room.publish("channel.deleted", id="gone")
    room.channel("left", "private", "bob", "alice")
    room.publish("member.left", channel_id="left", user_id="alice")
    alice = room.enter("alice")
    for channel in "secret", "nowhere", "gone", "left":
        for is_typing in True, False:
            alice.send({"type": "typing", "channel_id": channel, "is_typing": is_typing})
            assert error_of(alice) == {"message": error_text(alice), "code": "UNAUTHORIZED"}
    assert len({timeless(raw) for raw in alice.raws if '"error"' in raw}) == 1
    alice.alive()


def error_text(peer: Peer) -> str:
    return str(json.loads(peer.raws[-1])["data"]["message"])


def test_unauthorized_counts_as_no_fault(room: Room) -> None:
    """Only what is invalid or unknown ends a connection."""
    alice = room.enter()
    for _ in range(15):
        alice.send({**TYPING, "channel_id": "nowhere"})
        alice.error("UNAUTHORIZED")
    alice.alive()


# 4500


def test_the_tenth_invalid_event_is_answered_and_then_it_is_over(room: Room) -> None:
    alice = room.enter()
    for _ in range(12):
        alice.send(INVALID)
    frames, code, reason = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"] * 10
    assert code == 4500
    assert INVALID not in reason


def test_nine_invalid_events_are_borne(room: Room) -> None:
    alice = room.enter()
    for _ in range(9):
        alice.send(INVALID)
        alice.error("INVALID_EVENT")
    alice.alive()
    alice.send(INVALID)
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"]
    assert code == 4500


def test_an_unknown_event_counts_half(room: Room) -> None:
    alice = room.enter()
    for _ in range(19):
        alice.send(UNKNOWN)
        alice.error("UNKNOWN_EVENT")
    alice.alive()
    alice.send(UNKNOWN)
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["UNKNOWN_EVENT"]
    assert code == 4500


def test_invalid_and_unknown_are_counted_together(room: Room) -> None:
    alice = room.enter()
    for _ in range(9):
        alice.send(INVALID)
        alice.error("INVALID_EVENT")
    alice.send(UNKNOWN)
    alice.error("UNKNOWN_EVENT")  # nine and a half
    alice.alive()
    alice.send(UNKNOWN)
    assert alice.end()[1] == 4500


def test_a_new_connection_is_counted_anew(room: Room) -> None:
    for _ in range(3):
        alice = room.enter()
        for _ in range(9):
            alice.send(INVALID)
            alice.error("INVALID_EVENT")
        alice.alive()


# RATE_LIMITED


def test_too_many_events(room: Room) -> None:
    room.channel()
    alice = room.enter()
    for number in range(30):
        alice.send({**TYPING, "ref": number})
    found = [alice.next() for _ in range(30)]
    errors = [frame["data"] for frame in found if frame["type"] == "error"]
    assert errors
    for data in errors:
        assert list(data)[:2] == ["message", "code"]
        assert data["code"] == "RATE_LIMITED"
        assert type(data["retry_after_ms"]) is int
        assert 0 < data["retry_after_ms"] <= 60_000
        assert set(data) == {"message", "code", "retry_after_ms", "ref"}
    # an ack or an error for each, never both
    assert sorted(frame["data"]["ref"] for frame in found) == list(range(30))
    alice.alive()


def test_after_the_time_that_an_error_names_it_works(room_with: Callable[..., Room]) -> None:
    room = room_with(RATE_LIMIT_EVENTS="10", RATE_LIMIT_PER="1", RATE_LIMIT_BURST="2")
    room.channel()
    alice = room.enter()
    while (answer := alice.ask(TYPING))["type"] == "ack":
        pass
    due = time.monotonic() + answer["data"]["retry_after_ms"] / 1000
    assert answer["data"]["retry_after_ms"] <= 200
    assert alice.drain(due - time.monotonic()) == []
    assert alice.ask(TYPING)["type"] == "ack"


# strict_error_codes


def test_strict_error_codes(room_with: Callable[..., Room]) -> None:
    room = room_with(STRICT_ERROR_CODES="true")
    room.channel()
    alice = room.enter()
    for sent, name in [
        (INVALID, "INVALID_EVENT"),
        ({"type": "typing"}, "INVALID_EVENT"),
        (UNKNOWN, "UNKNOWN_EVENT"),
        ({"type": "ping", "ref": []}, "INVALID_EVENT"),
    ]:
        alice.send(sent)
        data = error_of(alice)
        assert data["code"] == "INTERNAL_ERROR"
        assert data["detail"] == name
    alice.send({"type": "typing", "ref": 7})
    assert error_of(alice)["ref"] == 7
    alice.send({**TYPING, "channel_id": "nowhere"})
    assert error_of(alice)["code"] == "UNAUTHORIZED"
    alice.alive()
    fresh = room.enter()
    for _ in range(10):
        fresh.send(INVALID)
    frames, code, _ = fresh.end()
    assert [frame["data"]["code"] for frame in frames] == ["INTERNAL_ERROR"] * 10
    assert code == 4500


# How a connection ends


def test_an_end_in_order(room: Room) -> None:
    client = room.raw(f"?token={room.token()}")
    client.expect("hello")
    client.close(1000)
    assert client.closed is not None
    assert client.closed.code == 1000


def test_whoever_does_not_read_is_closed_and_nobody_else_notices(room_with: Callable[..., Room]) -> None:
    room = room_with(OUTBOX_EVENTS="64")
    room.channel()
    slow = room.raw(f"?token={room.token('slow')}", recv_buffer=4096)
    slow.expect("hello")
    quick = room.enter("quick")
    sent = [f"m{number}" for number in range(500)]  # more than any buffer between us holds
    seen: list[str] = []
    for at in range(0, len(sent), 20):  # batches are quick: whoever takes nothing for ten seconds is cut without a word
        room.post({"events": [say("message.new", **message(id, content="x" * 10_000)) for id in sent[at : at + 20]]})
        seen += [quick.get("message.new")["data"]["id"] for _ in range(20)]
    assert seen == sent
    frames, code, _ = slow.until_closed(15)
    came = [frame["data"]["id"] for frame in frames if frame["type"] == "message.new"]
    assert code == 4002
    assert len(came) < len(sent)
    assert came == sent[: len(came)]  # no hole in what it had


def test_many_ends_leave_nothing_behind(room: Room) -> None:
    for _ in range(5):
        alice = room.enter("alice")
        alice.send(b"binary")
        assert alice.end()[1] == 1003
        room.enter("alice").cut()
    # 20 connections a user are allowed: none of the dead ones may count for long
    bob = room.enter("bob")

    def twenty() -> bool:
        peers: list[Peer] = []
        try:
            for _ in range(20):
                peer = room.connect(f"?token={room.token('alice')}")
                peers.append(peer)
                if peer.next()["type"] != "hello":
                    return False
            return True
        finally:
            for peer in peers:
                peer.close()

    until(twenty, "twenty places")
    bob.alive()
