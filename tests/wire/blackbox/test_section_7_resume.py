"""Section 7: who comes back is given what he missed, or told that he cannot be."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from outsider import ENVELOPE, SOON, Frame, Peer, Room, brief, event, message, serving, types, until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

CURSOR = re.compile(r"[\x21-\x7e]{1,128}")


def come(room: Room, user: str = "alice", cursor: str = "", **claims: Any) -> Peer:
    peer = room.connect(f"?token={room.token(user, **claims)}&resume={cursor}")
    peer.hello = peer.next()
    assert peer.hello["type"] == "hello", peer.hello
    return peer


def latest(peer: Peer) -> str:
    """The last cursor that has come."""
    for raw in reversed(peer.raws):
        frame = json.loads(raw)
        if cursor := frame.get("cursor") or frame.get("data", {}).get("cursor"):
            return str(cursor)
    raise AssertionError(f"no cursor in {peer.raws}")


def left(room: Room, user: str = "alice") -> str:
    """The cursor of somebody who was here."""
    peer = come(room, user)
    peer.close()
    return latest(peer)


def outcome(peer: Peer) -> Any:
    return peer.hello["data"].get("resume")


def replayed(peer: Peer) -> list[Frame]:
    """Exactly as many as hello says."""
    assert outcome(peer)["recovered"] is True, outcome(peer)
    frames: list[Frame] = []
    while len(frames) < outcome(peer)["replayed"]:
        frame = peer.next()
        if frame["type"] != "presence.updated":
            frames.append(frame)
    return frames


def lost(reason: str) -> Frame:
    return {"recovered": False, "reason": reason}


def say_many(room: Room, count: int, start: int = 0) -> None:
    for first in range(start, start + count, 100):
        batch = [event("message.new", **message(f"m{n}")) for n in range(first, min(first + 100, start + count))]
        room.post({"events": batch})


def ids(frames: list[Frame]) -> list[str]:
    return [frame["data"]["id"] for frame in frames]


# The shape


def test_only_who_asks_gets_a_cursor_fifth_and_last(room: Room) -> None:
    room.channel()
    plain, keeping = room.enter("alice"), come(room, "bob")
    room.say("m1")
    room.publish("reaction.added", message_id="m1", emoji="+1", user_id="bob")
    for type in ("message.new", "reaction.added"):
        assert list(plain.get(type)) == ENVELOPE
        frame = keeping.get(type)
        assert list(frame) == [*ENVELOPE, "cursor"]
        assert CURSOR.fullmatch(frame["cursor"])
        assert re.sub(r',"cursor":"[^"]*"}$', "}", keeping.raws[-1]) == plain.raws[-1]
    assert "cursor" not in plain.raws[0]
    assert "resume" not in plain.raws[0]
    assert list(keeping.hello) == ENVELOPE
    assert list(keeping.hello["data"])[-2:] == ["state", "cursor"]
    plain.alive()


def test_pong_carries_it_after_ref(room: Room) -> None:
    alice = come(room)
    alice.send({"type": "ping"})
    assert list(alice.get("pong")) == ["type", "cursor"]
    alice.send({"type": "ping", "ref": 1})
    assert list(alice.get("pong")) == ["type", "ref", "cursor"]


def test_typing_presence_and_errors_carry_none(room: Room) -> None:
    room.channel()
    alice, bob = come(room, "alice"), come(room, "bob")
    bob.send({"type": "typing", "channel_id": "general", "is_typing": True})
    assert "cursor" not in alice.get("typing.start")
    alice.send("nonsense")
    alice.error("INVALID_EVENT")
    assert not any('"cursor"' in raw for raw in alice.raws[1:])


# What follows


def test_what_was_missed_follows_hello_in_order_and_before_anything_newer(room: Room) -> None:
    room.channel()
    cursor = left(room)
    there = come(room)
    say_many(room, 150)
    alice = come(room, "alice", cursor)
    say_many(room, 50, 150)
    assert outcome(alice) == {"recovered": True, "replayed": 150}
    assert alice.hello["data"]["cursor"] == cursor
    assert ids([alice.get("message.new") for _ in range(200)]) == [f"m{n}" for n in range(200)]
    assert [there.get("message.new") for _ in range(200)]
    assert [raw for raw in alice.raws if "message.new" in raw] == [raw for raw in there.raws if "message.new" in raw]


def test_from_every_cursor_that_came_it_goes_on(room: Room) -> None:
    room.channel()
    alice = come(room)
    say_many(room, 8)
    cursors = [alice.get("message.new")["cursor"] for _ in range(8)]
    for number, cursor in enumerate(cursors):
        assert ids(replayed(come(room, "alice", cursor))) == [f"m{n}" for n in range(number + 1, 8)]


def test_who_was_cut_off_misses_nothing_and_has_nothing_twice(room: Room) -> None:
    room.channel()
    got: list[str] = []
    cursor = ""
    for turn in range(6):
        alice = come(room, "alice", cursor)
        say_many(room, 20, turn * 20)
        if cursor:
            got += ids(replayed(alice))
        while len(got) < turn * 20 + 7 * (turn % 3):
            got.append(alice.get("message.new")["data"]["id"])
        cursor = latest(alice)
        alice.cut()
    got += ids(replayed(come(room, "alice", cursor)))
    assert got == [f"m{n}" for n in range(120)]


def test_who_keeps_the_cursor_of_the_pong_is_given_nothing_that_he_has_had(room: Room) -> None:
    room.channel()
    room.channel("c", "private", "bob")
    alice = come(room)
    room.say("m1")
    for number in range(5):
        room.say(f"hidden-{number}", "c")
    alice.get("message.new")
    alice.send({"type": "ping"})
    alice.get("pong")
    alice.close()
    assert outcome(come(room, "alice", latest(alice))) == {"recovered": True, "replayed": 0}


def test_a_thousand_are_replayed_and_one_more_is_too_many(room: Room) -> None:
    room.channel()
    cursor = left(room)
    say_many(room, 1000)
    alice = come(room, "alice", cursor)
    assert ids(replayed(alice)) == [f"m{n}" for n in range(1000)]
    room.say("one-more")
    assert ids([alice.get("message.new")]) == ["one-more"]
    late = come(room, "alice", cursor)
    assert outcome(late) == lost("too_many")
    assert types(room.all_of(late)) == []


# Reasons


def test_what_is_no_longer_kept_is_expired_and_what_is_kept_is_not(room_with: Callable[..., Room]) -> None:
    room = room_with(HISTORY_EVENTS="20", REPLAY_EVENTS="10")
    room.channel()
    alice = come(room)
    say_many(room, 30)
    cursors = [alice.get("message.new")["cursor"] for _ in range(30)]
    for number, cursor in enumerate(cursors):
        peer = come(room, "alice", cursor)
        if number < 9:
            assert outcome(peer) == lost("expired"), number
        elif number < 19:
            assert outcome(peer) == lost("too_many"), number
        else:
            assert ids(replayed(peer)) == [f"m{n}" for n in range(number + 1, 30)], number
        peer.close()


@pytest.mark.parametrize("cursor", ["0", "null", "nonsense", "A" * 129, "%00", "a%2Fb", "%F0%9F%91%8D"])
def test_what_is_no_cursor_is_unknown(room: Room, cursor: str) -> None:
    assert outcome(come(room, "alice", cursor)) == lost("unknown")


def test_somebody_elses_and_a_forged_one_are_foreign(room: Room) -> None:
    bobs, own = left(room, "bob"), left(room, "alice")
    assert outcome(come(room, "alice", bobs)) == lost("foreign")
    for index in (0, 10, len(own) // 2, len(own) - 1):
        forged = f"{own[:index]}{'A' if own[index] != 'A' else 'B'}{own[index + 1 :]}"
        assert outcome(come(room, "alice", forged)) == lost("foreign"), index
    with Room(room.server) as elsewhere:
        assert outcome(come(elsewhere, "alice", own)) == lost("foreign")


def test_where_it_cannot_be_recovered_the_connection_goes_on_from_here(room: Room) -> None:
    room.channel()
    alice = come(room, "alice", "nonsense")
    room.say("m1")
    alice.get("message.new")
    assert ids(replayed(come(room, "alice", alice.hello["data"]["cursor"]))) == ["m1"]


def test_a_server_that_lost_everything_says_expired(loop: str) -> None:
    with serving(loop) as server, Room(server) as room:
        cursor, id = left(room), room.id
    with serving(loop) as server, Room(server) as room:
        room.id = id
        assert outcome(come(room, "alice", cursor)) == lost("expired")


# Who may see what


def test_only_what_he_could_see_then_and_may_see_now(room: Room) -> None:
    room.channel("c", "private", "alice")
    cursor = left(room, "bob")
    room.say("before", "c")
    room.publish("member.joined", channel_id="c", user_id="bob")
    room.say("first", "c")
    room.publish("member.left", channel_id="c", user_id="bob")
    room.say("between", "c")
    away = come(room, "bob", cursor)
    assert types(replayed(away)) == ["member.joined", "member.left"]
    room.publish("member.joined", channel_id="c", user_id="bob")
    room.say("second", "c")
    back = replayed(come(room, "bob", cursor))
    assert brief(back) == [
        ("member.joined", ""),
        ("message.new", "first"),
        ("member.left", ""),
        ("member.joined", ""),
        ("message.new", "second"),
    ]


@pytest.mark.parametrize("type", ["public", "private"])
def test_his_own_comings_and_the_end_of_a_channel_he_is_told(room: Room, type: str) -> None:
    room.channel("c", type, "alice")
    alice, bob, carol = left(room, "alice"), left(room, "bob"), left(room, "carol")
    room.publish("member.joined", channel_id="c", user_id="bob")
    room.say("m1", "c")
    room.publish("channel.deleted", id="c")
    assert types(replayed(come(room, "bob", bob))) == ["member.joined", "channel.deleted"]
    assert types(replayed(come(room, "alice", alice))) == ["channel.deleted"]
    expected = ["channel.deleted"] if type == "public" else []
    assert types(replayed(come(room, "carol", carol))) == expected


def test_an_event_to_users_is_for_them_then_and_now(room: Room) -> None:
    alice, bob = left(room, "alice"), left(room, "bob")
    room.say("for-bob", "general", "alice", {"users": ["bob"]})
    assert ids(replayed(come(room, "bob", bob))) == ["for-bob"]
    assert replayed(come(room, "alice", alice)) == []


def test_what_passes_is_not_replayed(room: Room) -> None:
    room.channel()
    cursor = left(room)
    bob = come(room, "bob")
    bob.send({"type": "typing", "channel_id": "general", "is_typing": True})
    bob.send({"type": "typing", "channel_id": "general", "is_typing": False, "ref": 1})
    bob.get("ack")
    assert outcome(come(room, "alice", cursor)) == {"recovered": True, "replayed": 0}


def test_every_durable_kind_is_replayed(room: Room) -> None:
    cursor = left(room, "bob")
    room.channel("c", "private", "bob")
    room.publish("channel.updated", id="c", name="x")
    room.say("m1", "c")
    room.publish("message.updated", id="m1", content="x", updated_at=SOON)
    room.publish("reaction.added", message_id="m1", emoji="x", user_id="bob")
    room.publish("reaction.removed", message_id="m1", emoji="x", user_id="bob")
    room.say("m2", "c", parent_message_id="m1")
    room.publish("message.deleted", id="m2", deleted_at=SOON)
    assert types(replayed(come(room, "bob", cursor))) == [
        "channel.created",
        "channel.updated",
        "message.new",
        "message.updated",
        "reaction.added",
        "reaction.removed",
        "message.new",
        "thread.updated",
        "message.deleted",
        "thread.updated",
    ]


def test_who_was_revoked_is_not_let_in_by_a_cursor(room: Room) -> None:
    cursor = left(room)
    old = room.token("alice")
    answer = room.server.api("DELETE", f"/api/workspaces/{room.id}/users/alice/connections")
    assert answer.status_code == 202, answer.text
    time.sleep(0.01)  # the next token is of a later millisecond
    frames, code, _ = room.connect(f"?token={old}&resume={cursor}").end()
    assert (types(frames), code) == (["error"], 4503)
    assert outcome(come(room, "alice", cursor)) == {"recovered": True, "replayed": 0}


# Slow readers


def test_who_did_not_read_is_4002_and_comes_back_to_the_rest(room_with: Callable[..., Room]) -> None:
    room = room_with(WRITE_TIMEOUT="1", PRESENCE_GRACE="0.1")
    room.channel()
    cursor = left(room)
    text = "x" * 8000
    for first in range(0, 900, 90):
        batch = [event("message.new", **{**message(f"m{n}"), "content": text}) for n in range(first, first + 90)]
        room.post({"events": batch})
    slow = room.raw(f"?token={room.token('alice')}&resume={cursor}", recv_buffer=4096)
    first = slow.receive()
    got = [slow.expect("message.new") for _ in range(20)]
    until(lambda: room.presence().get("alice") != "online", "the slow one is out", 10)
    frames, code, _ = slow.until_closed(20)
    assert code in (4002, 1006)  # a reset has no code
    got += [frame for frame in frames if frame["type"] == "message.new"]
    assert first["data"]["resume"] == {"recovered": True, "replayed": 900}
    assert 20 <= len(got) < 900
    rest = replayed(come(room, "alice", got[-1]["cursor"]))
    assert ids(got) + ids(rest) == [f"m{n}" for n in range(900)]
