"""Section 9, the rest: rates, heartbeats and the end of a token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from outsider import Peer, Room, types

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

TYPING = {"type": "typing", "channel_id": "general", "is_typing": True}


def send_many(peer: Peer, count: int, event: dict[str, Any]) -> tuple[int, float]:
    """How many of them were let through, and how long it took to see."""
    began = time.monotonic()
    for number in range(count):
        peer.send({**event, "ref": number})
    good = 0
    for _ in range(count):
        frame = peer.next()
        if frame["type"] == "error":
            assert frame["data"]["code"] == "RATE_LIMITED"
        else:
            good += 1
    return good, time.monotonic() - began


# Rate


def test_a_burst_of_twenty_and_then_two_a_second(room: Room) -> None:
    room.channel()
    alice = room.enter()
    good, took = send_many(alice, 40, TYPING)
    assert 20 <= good <= 20 + 2 * took + 1


def test_one_bucket_a_user_over_all_connections_and_reconnecting_refills_nothing(room: Room) -> None:
    room.channel()
    began = time.monotonic()
    one, other = room.enter("alice"), room.enter("alice")
    good = send_many(one, 12, TYPING)[0] + send_many(other, 12, TYPING)[0]
    one.close()
    again = room.enter("alice")
    good += send_many(again, 12, TYPING)[0]
    assert 20 <= good <= 20 + 2 * (time.monotonic() - began) + 1


def test_other_users_and_other_workspaces_have_buckets_of_their_own(room: Room) -> None:
    room.channel()
    send_many(room.enter("alice"), 25, TYPING)
    assert send_many(room.enter("bob"), 20, TYPING)[0] == 20
    with Room(room.server) as elsewhere:
        elsewhere.channel()
        assert send_many(elsewhere.enter("alice"), 20, TYPING)[0] == 20


def test_a_ping_uses_its_own_bucket_which_is_the_connections(room: Room) -> None:
    room.channel()
    alice = room.enter("alice")
    good, took = send_many(alice, 20, {"type": "ping"})
    assert 10 <= good <= 10 + took + 1
    other = room.enter("alice")
    assert send_many(other, 10, {"type": "ping"})[0] == 10
    assert send_many(alice, 20, TYPING)[0] == 20  # nothing of that one was used


def test_events_use_nothing_of_the_pings(room: Room) -> None:
    room.channel()
    alice = room.enter("alice")
    send_many(alice, 25, TYPING)
    assert send_many(alice, 10, {"type": "ping"})[0] == 10


def test_what_is_invalid_or_unknown_uses_neither(room: Room) -> None:
    room.channel()
    for _ in range(4):
        alice = room.enter("alice")
        for _ in range(6):
            alice.send({"type": "typing", "channel_id": "general"})
            alice.error("INVALID_EVENT")
            alice.send({"type": "nobodys"})
            alice.error("UNKNOWN_EVENT")
        assert send_many(alice, 10, {"type": "ping"})[0] == 10
    assert send_many(alice, 20, TYPING)[0] == 20


def test_the_numbers_are_settings(room_with: Callable[..., Room]) -> None:
    room = room_with(RATE_LIMIT_EVENTS="1", RATE_LIMIT_PER="100", RATE_LIMIT_BURST="3")
    room.channel()
    assert send_many(room.enter("alice"), 10, TYPING)[0] == 3


def test_every_event_of_a_client_counts(room_with: Callable[..., Room]) -> None:
    room = room_with(RATE_LIMIT_EVENTS="1", RATE_LIMIT_PER="100", RATE_LIMIT_BURST="3")
    room.channel()
    alice = room.enter("alice")
    assert alice.ask(TYPING)["type"] == "ack"
    assert alice.ask({"type": "presence", "status": "online"})["type"] == "ack"
    assert alice.ask({**TYPING, "channel_id": "nowhere"})["data"]["code"] == "UNAUTHORIZED"
    assert alice.ask(TYPING)["data"]["code"] == "RATE_LIMITED"


# Heartbeat


def test_silence_closes(room_with: Callable[..., Room]) -> None:
    room = room_with(HEARTBEAT_TIMEOUT="1")
    alice = room.enter()
    began = time.monotonic()
    frames, code, reason = alice.end()
    assert (types(frames), code) == ([], 4003)
    assert reason
    assert 0.8 < time.monotonic() - began < 3


def test_any_text_frame_is_a_sign_of_life(room_with: Callable[..., Room]) -> None:
    room = room_with(HEARTBEAT_TIMEOUT="1")
    peers = {text: room.enter() for text in ('{"type":"ping"}', '{"type":"nobodys"}', "nonsense")}
    deadline = time.monotonic() + 2.2
    while time.monotonic() < deadline:
        for text, peer in peers.items():
            peer.send(text)
            peer.drain(0.13)
    assert [peer.closed for peer in peers.values()] == [False] * 3
    assert [peer.end()[1] for peer in peers.values()] == [4003] * 3


def test_a_ping_of_the_protocol_is_none(room_with: Callable[..., Room]) -> None:
    """A proxy may send those; what says that a client lives is text."""
    room = room_with(HEARTBEAT_TIMEOUT="1")
    alice = room.enter()
    began = time.monotonic()
    while not alice.closed and time.monotonic() < began + 4:
        alice.nudge()
        alice.drain(0.2)
    assert alice.end(1)[1] == 4003


def test_what_is_sent_to_it_is_no_sign_of_a_clients_life(room_with: Callable[..., Room]) -> None:
    room = room_with(HEARTBEAT_TIMEOUT="1")
    room.channel()
    alice = room.enter()
    for number in range(40):
        room.say(f"m{number}")
        alice.drain(0.05)
        if alice.closed:
            break
    assert alice.end(1)[1] == 4003


# The end of a token


def brief_token(room: Room, user: str, seconds: float) -> str:
    now = time.time()
    return room.token(user, iat=now - 10, exp=now + seconds)


def enter_briefly(room: Room, user: str, seconds: float) -> Peer:
    peer = room.connect(f"?token={brief_token(room, user, seconds)}")
    peer.hello = peer.next()
    assert peer.hello["type"] == "hello"
    return peer


def test_after_the_end_of_its_token_and_the_grace_a_connection_is_closed(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_GRACE="0.6")
    began = time.monotonic()
    alice = enter_briefly(room, "alice", 0.5)
    frames, code, _ = alice.end()
    assert [(frame["type"], frame["data"]["code"]) for frame in frames] == [("error", "INVALID_TOKEN")]
    assert code == 4004
    assert 0.9 < time.monotonic() - began < 3


def test_at_the_end_of_a_token_delivery_stops(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_GRACE="0.6")
    room.channel()
    bob = room.enter("bob")
    alice = enter_briefly(room, "alice", 0.5)
    expired = time.monotonic() + 0.5
    room.say("before")
    assert alice.get("message.new")["data"]["id"] == "before"
    assert [each for each in alice.drain(expired + 0.1 - time.monotonic()) if each["type"] == "message.new"] == []
    room.say("after")
    bob.get("message.new")
    bob.get("message.new")
    frames, code, _ = alice.end()
    assert types(frames) == ["error"]
    assert code == 4004


def test_on_a_refresh_what_was_missed_follows_first(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_GRACE="5")
    room.channel()
    bob = room.enter("bob")
    alice = enter_briefly(room, "alice", 0.4)
    alice.drain(0.5)
    ids = [f"m{number}" for number in range(5)]
    for id in ids:
        room.say(id)
        bob.get("message.new")
    assert alice.drain(0.1) == []
    alice.send({"type": "auth.refresh", "token": room.token("alice")})
    room.say("m5")
    came = []
    while "m5" not in came:
        frame = alice.next()
        if frame["type"] in {"message.new", "auth.refreshed"}:
            came.append(frame["data"].get("id", "refreshed"))
    assert [id for id in came if id != "refreshed"] == [*ids, "m5"]
    alice.alive()


def test_a_token_that_is_refreshed_in_time_interrupts_nothing(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_GRACE="0.6")
    room.channel()
    alice = enter_briefly(room, "alice", 0.5)
    alice.send({"type": "auth.refresh", "token": room.token("alice")})
    alice.get("auth.refreshed")
    assert types(alice.drain(1.5)) == []
    room.say("m1")
    alice.get("message.new")


def test_a_refused_refresh_does_not_prolong(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_GRACE="0.6")
    alice = enter_briefly(room, "alice", 0.5)
    for token in "nonsense", room.token("bob"):
        alice.send({"type": "auth.refresh", "token": token})
        alice.error("INVALID_TOKEN")
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_TOKEN"]
    assert code == 4004


def test_a_refresh_with_a_shorter_token_shortens(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_GRACE="0.6")
    alice = room.enter("alice")
    alice.send({"type": "auth.refresh", "token": brief_token(room, "alice", 0.5)})
    alice.get("auth.refreshed")
    assert alice.end()[1] == 4004
