"""Section 2 and the specification's own pages: what an event looks like, and what comes first."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from outsider import ENVELOPE, SOON, TIMESTAMP, Peer, Room, event, message, types

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

CREATED = event("channel.created", id="general", name="general", type="public", created_by="alice")
NEW = event("message.new", **message("m1"))
LATER = "2024-01-01T12:05:00.000Z"


def one(type: str, /, **data: Any) -> list[dict[str, Any]]:
    return [CREATED, NEW, event(type, **data)]


EVENTS: list[list[dict[str, Any]]] = [
    [CREATED],
    [
        CREATED,
        event(
            "message.new",
            id="m1",
            channel_id="general",
            user_id="alice",
            content='Hello, world! 👍 Grüße "quoted" \\ \u2028 <&> \x7f',
            attachments=[{"url": "https://example.com/a.png", "size": 7, "more": {"nested": [1, 2.5, None, True]}}],
            reactions=[],
            created_at=SOON,
        ),
    ],
    one("message.updated", id="m1", content="Updated content", updated_at=LATER),
    one("message.deleted", id="m1", deleted_at=LATER),
    one("reaction.added", message_id="m1", emoji="👍", user_id="bob"),
    [
        *one("reaction.added", message_id="m1", emoji="👍", user_id="bob"),
        event("reaction.removed", message_id="m1", emoji="👍", user_id="bob"),
    ],
    one("channel.updated", id="general", name="new-name", description="Updated description"),
    one("channel.updated", id="general", name="new-name"),
    one("channel.deleted", id="general"),
    one("member.joined", channel_id="general", user_id="carol"),
    [
        *one("member.joined", channel_id="general", user_id="carol"),
        event("member.left", channel_id="general", user_id="carol"),
    ],
]


@pytest.mark.parametrize("batch", EVENTS, ids=lambda batch: f"{batch[-1]['type']}-{len(batch[-1]['data'])}")
def test_an_event_comes_as_the_specification_shows_it(room: Room, batch: list[dict[str, Any]]) -> None:
    alice, bob = room.enter("alice"), room.enter("bob")
    room.post({"events": batch})
    for published in batch:
        came = [peer.get(published["type"]) for peer in (alice, bob)]
        assert alice.raws[-1] == bob.raws[-1]  # one stamp an event, the same bytes for all
        assert list(came[0]) == ENVELOPE
        assert came[0]["data"] == {**defaults(published["type"]), **published["data"]}
        assert came[0]["workspace_id"] == room.id
    # white space and escapes are nobody's business, but what a client pays for
    assert alice.raws[-1] == json.dumps(json.loads(alice.raws[-1]), ensure_ascii=False, separators=(",", ":"))


def defaults(type: str) -> dict[str, Any]:
    return {"attachments": [], "reactions": []} if type == "message.new" else {}


@pytest.mark.parametrize("batch", EVENTS, ids=lambda batch: f"{batch[-1]['type']}-{len(batch[-1]['data'])}")
def test_the_keys_of_data_stand_in_the_order_of_the_specification(room: Room, batch: list[dict[str, Any]]) -> None:
    """Not promised by the page; but a golden file that is compared as text must not notice us."""
    alice = room.enter("alice")
    turned = [{**each, "data": dict(reversed(each["data"].items()))} for each in batch]
    room.post({"events": turned})
    came = [alice.get(each["type"]) for each in batch]
    for frame, published in zip(came, batch, strict=True):
        given = published["data"] if len(published["data"]) > 5 else {**published["data"], **defaults(frame["type"])}
        if frame["type"] == "message.new":
            assert list(frame["data"]) == [
                *["id", "channel_id", "user_id", "content", "attachments", "reactions", "created_at"]
            ]
        else:
            assert list(frame["data"]) == list(given)


def test_a_thread_and_a_reply(room: Room) -> None:
    room.channel()
    alice = room.enter("alice")
    room.say("m1")
    room.say("r1", parent_message_id="m1")
    assert "parent_message_id" not in alice.get("message.new")["data"]
    assert alice.get("message.new")["data"]["parent_message_id"] == "m1"
    updated = alice.get("thread.updated")
    assert list(updated) == ENVELOPE
    assert list(updated["data"].items()) == [
        ("parent_message_id", "m1"),
        ("reply_count", 1),
        ("last_reply_at", SOON),
    ]


def test_typing_and_presence(room: Room) -> None:
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    presence = alice.get("presence.updated")
    assert list(presence) == ENVELOPE
    assert list(presence["data"].items()) == [("user_id", "bob"), ("status", "online")]
    bob.send({"type": "typing", "channel_id": "general", "is_typing": True})
    start = alice.get("typing.start")
    bob.send({"type": "typing", "channel_id": "general", "is_typing": False})
    stop = alice.get("typing.stop")
    for frame in start, stop:
        assert list(frame) == ENVELOPE
        assert list(frame["data"].items()) == [("channel_id", "general"), ("user_id", "bob")]


def test_what_is_unset_is_left_out_and_never_null(room: Room) -> None:
    room.channel()
    alice = room.enter("alice")
    data = message("m1", parent_message_id=None)
    answer = room.try_post(event("message.new", **data))
    assert answer.status_code in {202, 422}  # not said; but a null must not travel on
    if answer.status_code == 202:
        alice.get("message.new")
        assert "null" not in alice.raws[-1]
    room.publish("channel.updated", id="general", name="x")
    alice.get("channel.updated")
    assert "null" not in alice.raws[-1]
    assert "description" not in alice.raws[-1]


def test_the_timestamp_is_now_in_utc_with_milliseconds(room: Room) -> None:
    room.channel()
    alice = room.enter("alice")
    before = datetime.now(UTC)
    room.say("m1")
    frame = alice.get("message.new")
    after = datetime.now(UTC)
    for stamped in frame, alice.hello:
        assert TIMESTAMP.fullmatch(stamped["timestamp"])
    at = datetime.fromisoformat(frame["timestamp"])
    assert before - timedelta(milliseconds=1) <= at <= after
    assert frame["data"]["created_at"] == SOON  # that one is the publisher's


def test_pong_is_bare(room: Room) -> None:
    alice = room.enter()
    alice.send({"type": "ping"})
    alice.next()
    assert alice.raws[-1] == '{"type":"pong"}'


def test_error_has_no_workspace(room: Room) -> None:
    alice = room.enter()
    alice.send("nonsense")
    assert list(alice.next()) == ["type", "data", "timestamp"]


# hello


def test_hello_exactly(room: Room) -> None:
    alice = room.enter("alice")
    hello = alice.hello
    assert list(hello) == ENVELOPE
    assert hello["workspace_id"] == room.id
    assert list(hello["data"]) == ["connection_id", "user_id", "heartbeat_interval_ms", "limits", "state"]
    assert isinstance(hello["data"]["connection_id"], str)
    assert hello["data"]["connection_id"]
    assert hello["data"]["heartbeat_interval_ms"] == 30_000
    assert hello["data"]["limits"] == {"max_event_bytes": 16_384}
    # one key a plugin that has something to say: nobody types
    assert hello["data"]["state"] == {"presence": [{"user_id": "alice", "status": "online"}]}
    assert alice.raws[0] == json.dumps(hello, separators=(",", ":"))


def test_every_connection_has_an_id_of_its_own(room: Room) -> None:
    assert len({room.enter().hello["data"]["connection_id"] for _ in range(5)}) == 5


def test_hello_says_the_settings_of_this_server(room_with: Callable[..., Room]) -> None:
    data = room_with(HEARTBEAT_INTERVAL="12.5", MAX_EVENT_BYTES="1000").enter().hello["data"]
    assert data["heartbeat_interval_ms"] == 12_500
    assert data["limits"] == {"max_event_bytes": 1000}


def test_ones_own_coming_online_is_not_sent_to_the_connection_that_caused_it(room: Room) -> None:
    room.channel()
    alice = room.enter("alice")
    assert alice.drain(0.3) == []
    again = room.enter("alice")  # no transition, so nobody hears of it
    assert again.hello["data"]["state"]["presence"] == [{"user_id": "alice", "status": "online"}]
    room.say("m1")
    assert types([alice.next(), again.next()]) == ["message.new", "message.new"]


def test_a_hello_shows_everybody(room: Room) -> None:
    for user in "alice", "bob", "bob", "carol":
        peer = room.enter(user)
    found = {user["user_id"]: user["status"] for user in peer.hello["data"]["state"]["presence"]}
    assert found == {"alice": "online", "bob": "online", "carol": "online"}
    assert len(peer.hello["data"]["state"]["presence"]) == 3
    assert room.presence() == found


def test_nothing_is_sent_before_hello_and_nothing_is_missing_behind_it(room: Room) -> None:
    """A publisher that never rests; whoever comes sees an unbroken row from some number on."""
    room.channel()
    stop = threading.Event()
    numbers = count()
    published = []

    def publish() -> None:
        while not stop.is_set():
            number = next(numbers)
            room.say(f"m{number}")
            published.append(number)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        peers: list[tuple[int, Peer]] = []
        while len(peers) < 15:
            acknowledged = len(published)
            peers.append((acknowledged, room.enter(f"user-{len(peers)}")))
    finally:
        stop.set()
        thread.join()
    for acknowledged, peer in peers:
        came = [int(frame["data"]["id"][1:]) for frame in room.all_of(peer) if frame["type"] == "message.new"]
        expected = list(range(came[0], len(published))) if came else []
        assert came == expected
        # Nothing promises the past; but between the state and the first event there is no hole, so
        # the first can lie behind what was acknowledged only by what was published while it shook hands.
        assert not came or came[0] >= acknowledged - 1


def test_what_was_acknowledged_before_the_handshake_is_in_effect_for_it(room: Room) -> None:
    for number in range(20):
        room.channel(f"c{number}", "private", "bob")
        room.publish("member.joined", channel_id=f"c{number}", user_id="alice")
        alice = room.connect(f"?token={room.token('alice')}")
        room.say(f"m{number}", f"c{number}", "bob")
        assert alice.next()["type"] == "hello"
        alice.get("message.new")
        room.publish("member.left", channel_id=f"c{number}", user_id="alice")
        again = room.connect(f"?token={room.token('alice')}")
        room.say(f"n{number}", f"c{number}", "bob")
        again.hello = again.next()
        assert not [frame for frame in room.all_of(again) if frame["type"] == "message.new"]
        alice.close()
        again.close()


def test_of_two_who_come_at_once_each_hears_of_the_other(room: Room) -> None:
    for number in range(10):
        users = [f"left-{number}", f"right-{number}"]
        with ExitStack() as stack:
            peers: dict[str, Peer] = {}

            def come(user: str, peers: dict[str, Peer] = peers) -> None:
                peers[user] = room.enter(user)

            threads = [threading.Thread(target=come, args=(user,)) for user in users]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for user, other in (users, users[::-1]):
                peer = peers[user]
                stack.callback(peer.close)
                known = {each["user_id"] for each in peer.hello["data"]["state"]["presence"]}
                deadline = time.monotonic() + 5
                while other not in known:
                    known.add(peer.next(deadline - time.monotonic())["data"]["user_id"])
