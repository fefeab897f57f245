"""Section 3: what a client may send, and what is a reply to what."""

from __future__ import annotations

import math
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from outsider import ENVELOPE, TIMESTAMP, Room, timeless

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

TYPING = {"type": "typing", "channel_id": "general", "is_typing": True}


def test_fields_stand_flat_or_inside_data(room: Room) -> None:
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    bob.send({"type": "typing", "channel_id": "general", "is_typing": True})
    alice.get("typing.start")
    bob.send({"type": "typing", "data": {"channel_id": "general", "is_typing": False}})
    alice.get("typing.stop")


@pytest.mark.parametrize(
    "event",
    [
        {**TYPING, "data": {"channel_id": "general", "is_typing": True}},
        {**TYPING, "data": {}},
        {"type": "typing", "channel_id": "general", "data": {"is_typing": True}},
        {"type": "typing", "is_typing": True, "data": {"channel_id": "general"}},
        {"type": "typing", "is_typing": True, "data": {"channel_id": "general", "is_typing": True}},
    ],
)
def test_a_field_outside_a_data_that_is_present(room: Room, event: dict[str, Any]) -> None:
    room.channel()
    alice = room.enter()
    alice.send(event)
    alice.error("INVALID_EVENT")
    alice.alive()


@pytest.mark.parametrize("data", [7, "x", [], True])
def test_data_that_is_no_object(room: Room, data: Any) -> None:
    alice = room.enter()
    alice.send({"type": "typing", "data": data})
    alice.error("INVALID_EVENT")
    alice.alive()


def test_workspace_id_must_be_the_connections_own(room: Room) -> None:
    room.channel()
    alice = room.enter()
    alice.send({"type": "ping", "workspace_id": room.id})
    alice.get("pong")
    assert alice.ask({**TYPING, "workspace_id": room.id})["type"] == "ack"
    for other in ["elsewhere", room.id.upper(), "", 7, None, [room.id], {"id": room.id}]:
        alice.send({"type": "ping", "workspace_id": other})
        alice.error("INVALID_EVENT")
    alice.alive()


@pytest.mark.parametrize("value", ["2024-01-01T12:00:00.000Z", "nonsense", 7, None, [], {}])
def test_timestamp_is_ignored(room: Room, value: Any) -> None:
    alice = room.enter()
    alice.send({"type": "ping", "timestamp": value})
    alice.get("pong")


@pytest.mark.parametrize("value", ["bob", "no such user", 7, None, []])
def test_nobody_speaks_for_somebody_else(room: Room, value: Any) -> None:
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    alice.send({**TYPING, "user_id": value})
    assert bob.get("typing.start")["data"]["user_id"] == "alice"
    alice.send({"type": "typing", "data": {"channel_id": "general", "is_typing": False, "user_id": value}})
    assert bob.get("typing.stop")["data"]["user_id"] == "alice"


# ref


@pytest.mark.parametrize("ref", ["r", "", "x" * 64, "ü" * 64, "👍", "\r\n\x1b[31m", 0, -1, 7, 2**53, -(2**53)])
def test_a_ref_comes_back_as_it_was(room: Room, ref: str | int) -> None:
    room.channel()
    alice = room.enter()
    alice.send({"type": "ping", "ref": ref})
    pong = alice.next()
    assert list(pong.items()) == [("type", "pong"), ("ref", ref)]
    assert type(pong["ref"]) is type(ref)
    alice.send({**TYPING, "ref": ref})
    ack = alice.next()
    assert list(ack) == ENVELOPE
    assert ack["type"] == "ack"
    assert ack["data"] == {"ref": ref}
    assert ack["workspace_id"] == room.id
    assert TIMESTAMP.fullmatch(ack["timestamp"])
    alice.send({"type": "typing", "data": {"channel_id": "nowhere", "is_typing": True}, "ref": ref})
    assert alice.error("UNAUTHORIZED")["ref"] == ref
    alice.send({"type": "nobodys", "ref": ref})
    assert alice.error("UNKNOWN_EVENT")["ref"] == ref
    alice.send({"type": "typing", "ref": ref})
    assert alice.error("INVALID_EVENT")["ref"] == ref
    alice.alive()  # no ack came behind any error


@pytest.mark.parametrize(
    "ref", [None, "x" * 65, 1.5, 1.0, True, False, [], {}, ["r"], 2**53 + 1, -(2**53) - 1, 10**30, "\ud800"]
)
def test_a_ref_that_is_none(room: Room, ref: Any) -> None:
    room.channel()
    alice = room.enter()
    for event in {"type": "ping"}, TYPING:
        alice.send({**event, "ref": ref})
        data = alice.error("INVALID_EVENT")
        assert "ref" not in data
    alice.alive()


def test_without_a_ref_there_is_no_ack(room: Room) -> None:
    room.channel()
    alice = room.enter()
    for is_typing in True, True, False, False:
        alice.send({**TYPING, "is_typing": is_typing})
    alice.alive()
    alice.send({"type": "presence", "status": "away"})
    alice.get("presence.updated")
    alice.alive()


def test_a_ref_in_data_is_no_ref(room: Room) -> None:
    room.channel()
    alice = room.enter()
    alice.send({"type": "typing", "data": {"channel_id": "general", "is_typing": True, "ref": "r"}})
    alice.alive()


def test_answers_come_in_the_order_of_the_questions(room: Room) -> None:
    room.channel()
    alice = room.enter()
    for number in range(9):
        alice.send({**TYPING, "ref": number} if number % 2 else {"type": "ping", "ref": number})
    found = [alice.next() for _ in range(9)]
    assert [frame["ref"] if frame["type"] == "pong" else frame["data"]["ref"] for frame in found] == list(range(9))


@pytest.mark.parametrize("value", ["yes", "true", "false", "", 0, 1, 1.0, None, [], {}])
def test_what_is_no_boolean(room: Room, value: Any) -> None:
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    alice.send({**TYPING, "is_typing": value})
    data = alice.error("INVALID_EVENT")
    assert "is_typing" in data["detail"]
    alice.alive()
    assert room.all_of(bob) == []


# auth.refresh


def test_a_token_is_refreshed(room: Room) -> None:
    alice = room.enter()
    exp = int(time.time()) + 1234
    alice.send({"type": "auth.refresh", "token": room.token(exp=exp)})
    frame = alice.next()
    assert list(frame) == ENVELOPE
    assert frame["type"] == "auth.refreshed"
    assert list(frame["data"]) == ["expires_at"]
    assert TIMESTAMP.fullmatch(frame["data"]["expires_at"])
    assert datetime.fromisoformat(frame["data"]["expires_at"]).timestamp() == exp
    assert frame["workspace_id"] == room.id
    alice.alive()


def test_a_refresh_with_a_ref_is_acknowledged(room: Room) -> None:
    alice = room.enter()
    alice.send({"type": "auth.refresh", "data": {"token": room.token()}, "ref": "r"})
    found = [alice.next(), alice.next()]
    assert {frame["type"] for frame in found} == {"auth.refreshed", "ack"}
    assert next(frame["data"] for frame in found if frame["type"] == "ack") == {"ref": "r"}


def test_a_refused_refresh_leaves_the_connection_as_it_was(room: Room) -> None:
    alice = room.enter()
    tokens = [
        "nonsense",
        room.token(key="y" * 40),
        room.token("bob"),
        room.token(workspaces=["elsewhere"]),
        room.token(iat=time.time() - 100, exp=time.time() - 60),
        room.token(exp=math.floor(time.time()) + 31 * 24 * 3600),
        "",
    ]
    for token in tokens:
        alice.send({"type": "auth.refresh", "token": token, "ref": "r"})
        assert alice.error("INVALID_TOKEN")["ref"] == "r"
    alice.alive()


@pytest.mark.parametrize("fields", [{}, {"token": 7}, {"token": None}, {"token": ["x"]}, {"data": {}}])
def test_a_refresh_without_a_token(room: Room, fields: dict[str, Any]) -> None:
    alice = room.enter()
    alice.send({"type": "auth.refresh", **fields})
    alice.error("INVALID_EVENT")
    alice.alive()


def test_a_message_is_the_same_whatever_was_wrong_with_the_token(room: Room) -> None:
    alice = room.enter()
    canary = "canary-canary"
    for token in canary, room.token("bob"):
        alice.send({"type": "auth.refresh", "token": token})
        alice.error("INVALID_TOKEN")
    assert timeless(alice.raws[-1]) == timeless(alice.raws[-2])
    assert canary not in alice.raws[-2]


# presence


@pytest.mark.parametrize("status", ["offline", "busy", "", "ONLINE", "Away", 7, None, True, ["away"]])
def test_a_status_that_is_none(room: Room, status: Any) -> None:
    alice = room.enter()
    alice.send({"type": "presence", "status": status})
    assert "status" in alice.error("INVALID_EVENT")["detail"]
    alice.alive()


def test_both_extensions_can_be_switched_off(room_with: Callable[..., Room]) -> None:
    room = room_with(TOKEN_REFRESH="false", PRESENCE_CLIENT_STATUS="false")
    alice = room.enter()
    alice.send({"type": "auth.refresh", "token": room.token()})
    alice.error("UNKNOWN_EVENT")
    alice.send({"type": "presence", "status": "away"})
    alice.error("UNKNOWN_EVENT")
    alice.alive()
