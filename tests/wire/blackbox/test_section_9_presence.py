"""Section 9, presence: who is here, who is away, and that everybody is told once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from outsider import Peer, Room, event, message, until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

TYPING = {"type": "typing", "channel_id": "general", "is_typing": True}


def statuses(peer: Peer, seconds: float) -> list[tuple[str, str]]:
    """The transitions that come within this time."""
    frames = peer.drain(seconds)
    assert {frame["type"] for frame in frames} <= {"presence.updated"}
    return [(frame["data"]["user_id"], frame["data"]["status"]) for frame in frames]


def status(peer: Peer, user: str, timeout: float = 5.0) -> str:
    """The next transition, which is this user's."""
    data = peer.get("presence.updated", timeout)["data"]
    assert data["user_id"] == user
    return str(data["status"])


@pytest.fixture
def quick(room_with: Callable[..., Room]) -> Room:
    """Somebody who goes is missed soon."""
    return room_with(PRESENCE_GRACE="0.5")


@pytest.fixture
def sleepy(room_with: Callable[..., Room]) -> Room:
    """Whoever is idle is away soon."""
    return room_with(PRESENCE_GRACE="0.5", PRESENCE_AWAY_AFTER="0.6")


# Online and offline


def test_everybody_is_told_who_comes_and_goes_once(quick: Room) -> None:
    bob = quick.enter("bob")
    alice = quick.enter("alice")
    assert status(bob, "alice") == "online"
    began = time.monotonic()
    alice.close()
    assert status(bob, "alice") == "offline"
    assert time.monotonic() - began >= 0.45  # the grace
    assert quick.presence() == {"bob": "online"}
    assert statuses(bob, 0.3) == []
    quick.enter("alice")
    assert status(bob, "alice") == "online"


def test_tabs_are_one_user(quick: Room) -> None:
    bob = quick.enter("bob")
    tabs = [quick.enter("alice") for _ in range(4)]
    assert status(bob, "alice") == "online"
    for tab in tabs[:3]:
        tab.close()
    assert statuses(bob, 0.8) == []
    tabs[3].cut()
    assert status(bob, "alice") == "offline"
    assert statuses(bob, 0.3) == []


def test_a_reload_within_the_grace_sends_nothing(quick: Room) -> None:
    bob = quick.enter("bob")
    alice = quick.enter("alice")
    assert status(bob, "alice") == "online"
    for number in range(4):
        if number % 2:
            alice.cut()
        else:
            alice.close()
        assert quick.presence() == {"alice": "online", "bob": "online"}  # within the grace he counts as here
        alice = quick.enter("alice")
        here = {each["user_id"]: each["status"] for each in alice.hello["data"]["state"]["presence"]}
        assert here == {"alice": "online", "bob": "online"}
    assert statuses(bob, 0.8) == []
    alice.close()
    assert status(bob, "alice") == "offline"


def test_whoever_was_refused_was_never_here(quick: Room) -> None:
    bob = quick.enter("bob")
    quick.connect(f"?token={quick.token('alice', key='y' * 40)}").end()
    quick.connect(f"?token={quick.token('carol', workspaces=['elsewhere'])}").end()
    quick.connect(f"?token={quick.token('dave', iat=time.time() - 60, exp=time.time() - 30)}").end()
    assert statuses(bob, 0.8) == []
    assert quick.presence() == {"bob": "online"}


def test_after_a_revocation_there_is_no_grace(room: Room) -> None:
    bob, alice = room.enter("bob"), room.enter("alice")
    assert status(bob, "alice") == "online"
    answer = room.server.api("DELETE", f"/api/workspaces/{room.id}/users/alice/connections")
    assert answer.status_code == 202
    assert alice.end()[1] == 4503
    assert status(bob, "alice", 2) == "offline"  # the grace of this server is twenty seconds
    assert room.presence() == {"bob": "online"}


def test_a_workspaces_presence_is_its_own(quick: Room, room_with: Callable[..., Room]) -> None:
    other = room_with(PRESENCE_GRACE="0.5")
    bob = quick.enter("bob")
    other.enter("alice").close()
    assert statuses(bob, 0.8) == []
    assert quick.presence() == {"bob": "online"}


def test_an_empty_workspace(room: Room) -> None:
    assert room.presence() == {}


# Away because he says so


def test_whoever_says_that_he_is_away_is(room: Room) -> None:
    bob, alice = room.enter("bob"), room.enter("alice")
    assert status(bob, "alice") == "online"
    assert alice.ask({"type": "presence", "status": "away"})["type"] == "ack"
    assert status(bob, "alice") == "away"
    assert room.presence() == {"alice": "away", "bob": "online"}
    carol = room.enter("carol")
    here = {each["user_id"]: each["status"] for each in carol.hello["data"]["state"]["presence"]}
    assert here == {"alice": "away", "bob": "online", "carol": "online"}
    assert status(bob, "carol") == "online"
    alice.ask({"type": "presence", "status": "away"})  # again, and nobody hears of it
    alice.ask({"type": "presence", "data": {"status": "online"}})
    assert status(bob, "alice") == "online"
    assert statuses(bob, 0.3) == []


def test_he_is_away_when_every_tab_of_his_is(room: Room) -> None:
    bob = room.enter("bob")
    tabs = [room.enter("alice") for _ in range(3)]
    assert status(bob, "alice") == "online"
    for tab in tabs[:2]:
        tab.ask({"type": "presence", "status": "away"})
    assert statuses(bob, 0.3) == []
    tabs[2].ask({"type": "presence", "status": "away"})
    assert status(bob, "alice") == "away"
    tabs[0].ask({"type": "presence", "status": "online"})
    assert status(bob, "alice") == "online"
    assert statuses(bob, 0.3) == []


def test_the_tab_that_was_online_closes_and_the_others_are_away(quick: Room) -> None:
    bob = quick.enter("bob")
    away, online = quick.enter("alice"), quick.enter("alice")
    assert status(bob, "alice") == "online"
    away.ask({"type": "presence", "status": "away"})
    online.close()
    assert status(bob, "alice") == "away"
    away.close()
    assert status(bob, "alice") == "offline"


def test_a_new_tab_of_somebody_away_is_not(room: Room) -> None:
    bob, alice = room.enter("bob"), room.enter("alice")
    assert status(bob, "alice") == "online"
    alice.ask({"type": "presence", "status": "away"})
    assert status(bob, "alice") == "away"
    again = room.enter("alice")
    assert status(bob, "alice") == "online"
    assert {"user_id": "alice", "status": "online"} in again.hello["data"]["state"]["presence"]


# Away because he is idle


def test_whoever_is_idle_is_away_and_a_ping_is_no_activity(sleepy: Room) -> None:
    sleepy.channel()
    alice = sleepy.enter("alice")
    bob = sleepy.enter("bob")
    assert status(alice, "bob") == "online"
    began = time.monotonic()
    found = []
    while len(found) < 2 and time.monotonic() < began + 5:
        alice.send({"type": "ping", "ref": 1})
        found += statuses_and_pongs(alice, 0.15)
    assert sorted(found) == [("alice", "away"), ("bob", "away")]
    assert time.monotonic() - began >= 0.4
    assert sleepy.presence() == {"alice": "away", "bob": "away"}
    bob.send(TYPING)
    found = []
    until(lambda: found.extend(statuses_and_pongs(alice, 0.05)) or ("bob", "online") in found, "bob is back")
    assert sleepy.presence()["bob"] == "online"


def statuses_and_pongs(peer: Peer, seconds: float) -> list[tuple[str, str]]:
    return [
        (frame["data"]["user_id"], frame["data"]["status"])
        for frame in peer.drain(seconds)
        if frame["type"] == "presence.updated"
    ]


def test_whoever_is_active_stays_online(sleepy: Room) -> None:
    sleepy.channel()
    bob = sleepy.enter("bob")
    alice = sleepy.enter("alice")
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        alice.send({**TYPING, "is_typing": False})
        alice.drain(0.25)
    found = [each for each in statuses_and_pongs(bob, 0) if each[0] == "alice"]
    assert found == [("alice", "online")]


# Order


def test_transitions_of_a_user_come_in_their_order(room_with: Callable[..., Room]) -> None:
    room = room_with(RATE_LIMIT_BURST="1000")
    bob, alice = room.enter("bob"), room.enter("alice")
    sent = ["online"]
    for number in range(30):
        sent.append("online" if number % 2 else "away")
        alice.send({"type": "presence", "status": sent[-1]})
    alice.ask({"type": "presence", "status": "away"})
    sent.append("away")
    found = [each for _, each in statuses(bob, 0.3)]
    while new := statuses(bob, 0.3):
        found += [each for _, each in new]
    # `latest` may have let the newer take the place of an older one that was not sent; but never out of order
    assert found[-1] == "away"
    rest = iter(sent)
    assert all(each in rest for each in found)


# What publishers may say


def test_a_message_is_no_activity_of_its_author(sleepy: Room) -> None:
    """It is the publisher's, and comes by HTTP."""
    sleepy.channel()
    bob = sleepy.enter("bob")
    sleepy.enter("alice")
    found: list[tuple[str, str]] = []
    number = 0
    deadline = time.monotonic() + 4
    while ("alice", "away") not in found and time.monotonic() < deadline:
        number += 1
        sleepy.post(event("message.new", **message(f"m{number}", "general", "alice")))
        found += statuses_and_pongs(bob, 0.2)
    assert ("alice", "away") in found
