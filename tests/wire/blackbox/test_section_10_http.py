"""Section 10, the HTTP interface."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from outsider import API_KEY, SOON, Frame, Room, brief, event, message, types

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

pytestmark = pytest.mark.servers

CREATED = event("channel.created", id="general", name="general", type="public", created_by="alice")
KEYED = [
    ("POST", "/api/workspaces/a/events"),
    ("GET", "/api/workspaces/a/presence"),
    ("DELETE", "/api/workspaces/a/users/alice/connections"),
]


def paths(answer: httpx.Response) -> set[str]:
    """The paths of a 422, which says nothing else."""
    assert answer.status_code == 422, (answer.status_code, answer.text)
    assert list(answer.json()) == ["errors"]
    for error in answer.json()["errors"]:
        assert set(error) == {"path", "message"}
        assert isinstance(error["message"], str)
        assert error["message"]
    return {error["path"] for error in answer.json()["errors"]}


# Who may


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_without_the_key_it_is_401(room: Room, method: str, path: str) -> None:
    for header in None, "", "Bearer", "Bearer x", f"Bearer {API_KEY}x", f"Bearer {API_KEY[:-1]}", API_KEY:
        headers = {} if header is None else {"Authorization": header}
        assert room.server.api(method, path, key=None, headers=headers).status_code == 401, header
    assert room.server.api(method, path, key=None, headers={"Authorization": f"Basic {API_KEY}"}).status_code == 401
    assert room.server.api(method, f"{path}?key={API_KEY}&token={API_KEY}", key=None).status_code == 401
    # a user's token opens nothing here
    assert room.server.api(method, path, key=room.token()).status_code == 401


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_without_the_key_nobody_learns_what_is_wrong(room: Room, method: str, path: str) -> None:
    bad = path.replace("/a/", "/a!/")
    answers = [
        room.server.api(method, bad, key=None),
        room.server.api(method, path, key=None, content=b"nonsense"),
        # refused before it is read, so that this connection is good for nothing else
        room.server.api(method, path, key="wrong", content=b"x" * 3_000_000, headers={"Connection": "close"}),
    ]
    assert [answer.status_code for answer in answers] == [401] * 3


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_a_server_without_a_key_has_no_keyed_paths(server_with: Callable[..., Any], method: str, path: str) -> None:
    server = server_with(API_KEY=None)
    for key in None, "None", "none", API_KEY:
        assert server.api(method, path, key=key).status_code == 401
    assert server.api("GET", "/health/live", key=None).status_code == 200


def test_health_needs_no_key(room: Room) -> None:
    for path in "/health/live", "/health/ready":
        assert room.server.api("GET", path, key=None).status_code == 200


@pytest.mark.parametrize("id", ["a!", "x" * 129, "a%20b", "%0A", "a%0A", "%C3%A4"])
def test_a_bad_id_is_404(room: Room, id: str) -> None:
    api = room.server.api
    assert api("POST", f"/api/workspaces/{id}/events", json=CREATED).status_code == 404
    assert api("GET", f"/api/workspaces/{id}/presence").status_code == 404
    assert api("DELETE", f"/api/workspaces/{id}/users/alice/connections").status_code == 404
    assert api("DELETE", f"/api/workspaces/a/users/{id}/connections").status_code == 404


# What is published


def test_one_event(room: Room) -> None:
    answer = room.try_post(CREATED)
    assert answer.status_code == 202
    assert list(answer.json()) == ["events"]
    (receipt,) = answer.json()["events"]
    assert set(receipt) == {"id", "position", "published"}
    assert receipt["published"] is True
    assert isinstance(receipt["id"], str)
    assert isinstance(receipt["position"], str)


def test_a_batch_of_a_hundred(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    batch = [event("message.new", **message(f"m{number}")) for number in range(100)]
    receipts = room.post({"events": batch})
    assert [receipt["published"] for receipt in receipts] == [True] * 100
    assert len({receipt["id"] for receipt in receipts}) == 100
    assert brief(room.all_of(alice)) == [("message.new", f"m{number}") for number in range(100)]


def test_a_batch_of_one_is_a_batch(room: Room) -> None:
    assert [receipt["published"] for receipt in room.post({"events": [CREATED]})] == [True]


def test_every_registered_event_but_four_can_be_published(room: Room) -> None:
    room.post(CREATED)
    room.say("m1")
    alice = room.enter("alice")
    for body in [
        event("typing.start", channel_id="general", user_id="zoe"),
        event("typing.stop", channel_id="general", user_id="zoe"),
        event("presence.updated", user_id="zoe", status="away"),
    ]:
        (receipt,) = room.post(body)
        assert receipt["published"] is True
        assert "position" not in receipt  # for durable ones
        assert alice.next()["type"] == body["type"]
    room.publish("thread.updated", parent_message_id="m1", reply_count=7, last_reply_at=SOON)
    assert alice.get("thread.updated")["data"]["reply_count"] == 7
    for type in "pong", "error", "hello", "ack":
        assert "$.type" in paths(room.try_post({"type": type, "data": {"ref": "x", "message": "x", "code": "x"}}))
    assert room.all_of(alice) == []


# Idempotency


def test_an_id_is_published_once(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    first = room.post({**event("message.new", **message("m1")), "id": "key"})
    again = room.post({**event("message.new", **message("m1")), "id": "key"})
    other = room.post({**event("message.new", **message("another")), "id": "key"})  # the first wins
    assert first == [{"id": "key", "published": True, "position": first[0]["position"]}]
    assert again == other == [{"id": "key", "published": False, "position": first[0]["position"]}]
    assert brief(room.all_of(alice)) == [("message.new", "m1")]


def test_an_id_is_a_workspaces_own(room_with: Callable[..., Room]) -> None:
    for room in room_with(), room_with():
        assert room.post({**CREATED, "id": "key"})[0]["published"] is True


def test_of_a_batch_that_is_partly_known_the_rest_is_published(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    batch = [{**event("message.new", **message(f"m{number}")), "id": f"key-{number}"} for number in range(4)]
    room.post({"events": [batch[1], batch[3]]})
    receipts = room.post({"events": batch})
    assert [receipt["published"] for receipt in receipts] == [True, False, True, False]
    assert [receipt["id"] for receipt in receipts] == [f"key-{number}" for number in range(4)]
    assert [id for _, id in brief(room.all_of(alice))] == ["m1", "m3", "m0", "m2"]


def test_of_an_id_twice_in_a_batch_the_second_is_the_duplicate(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    receipts = room.post(
        {"events": [{**event("message.new", **message(f"m{number}")), "id": "key"} for number in range(3)]}
    )
    assert [receipt["published"] for receipt in receipts] == [True, False, False]
    assert len({receipt["position"] for receipt in receipts}) == 1
    assert brief(room.all_of(alice)) == [("message.new", "m0")]


def test_the_id_of_what_changed_nothing_is_remembered_too(room: Room) -> None:
    room.post(CREATED)
    room.say("m1")
    added = event("reaction.added", message_id="m1", emoji="x", user_id="bob")
    room.post(added)
    assert room.post({**added, "id": "key"}) == [{"id": "key", "published": False}]
    room.publish("reaction.removed", message_id="m1", emoji="x", user_id="bob")
    alice = room.enter()
    assert room.post({**added, "id": "key"}) == [{"id": "key", "published": False}]
    assert room.all_of(alice) == []


def test_the_id_of_what_was_refused_is_not(room: Room) -> None:
    body = {**event("message.new", **message("m1")), "id": "key"}
    assert room.try_post(body).status_code == 409
    assert room.try_post({**body, "data": {}}).status_code == 422
    room.post(CREATED)
    assert room.post(body)[0]["published"] is True


def test_an_id_is_known_before_its_audience_is_asked_for(room: Room) -> None:
    """Who repeats an event does not know what became of its channel meanwhile."""
    room.post(CREATED)
    body = {**event("message.new", **message("m1")), "id": "key"}
    first = room.post(body)[0]
    room.publish("channel.deleted", id="general")
    assert room.post(body) == [{**first, "published": False}]


# All or nothing


def test_all_of_a_batch_or_nothing(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    good = event("message.new", **message("m1"))
    for bad, status in [
        (event("message.new", **message("m2", "nowhere")), 409),
        (event("message.updated", id="unknown", content="x", updated_at=SOON), 409),
        (event("message.new", id="m2"), 422),
        ({"type": "nobodys", "data": {}}, 422),
    ]:
        for batch in [good, bad], [bad, good], [{**good, "id": "key"}, bad]:
            assert room.try_post({"events": batch}).status_code == status
    assert room.all_of(alice) == []
    assert room.post({**good, "id": "key"})[0]["published"] is True


# 422


GOOD = event("message.new", **message("m1"))
WRONG: list[tuple[str, object, set[str]]] = [
    ("an empty object", {}, {"$.type"}),
    ("no data", {"type": "message.new"}, {"$.data"}),
    ("data is a list", {"type": "message.new", "data": []}, {"$.data"}),
    ("type is a number", {**GOOD, "type": 7}, {"$.type"}),
    ("type is unknown", {**GOOD, "type": "nobodys"}, {"$.type"}),
    ("type of a client", {"type": "typing", "data": {"channel_id": "general", "is_typing": True}}, {"$.type"}),
    ("a field missing", event("message.deleted", id="m1"), {"$.data.deleted_at"}),
    (
        "every field missing",
        event("message.new"),
        {f"$.data.{name}" for name in ("id", "channel_id", "user_id", "content", "created_at")},
    ),
    (
        "several wrong",
        event("message.new", **{**message("m1"), "content": 7, "user_id": ["x"], "attachments": "none"}),
        {"$.data.content", "$.data.user_id", "$.data.attachments"},
    ),
    ("an id with a space", event("message.new", **message("m 1")), {"$.data.id"}),
    ("an id that is too long", event("channel.deleted", id="x" * 129), {"$.data.id"}),
    ("an empty id", event("channel.deleted", id=""), {"$.data.id"}),
    ("a status that is none", event("presence.updated", user_id="zoe", status="busy"), {"$.data.status"}),
    (
        "a count that is none",
        event("thread.updated", parent_message_id="m1", reply_count="5"),
        {"$.data.reply_count"},
    ),
    (
        "a count over 2^53",
        event("thread.updated", parent_message_id="m1", reply_count=2**53 + 1),
        {"$.data.reply_count"},
    ),
    ("to is a word", {**GOOD, "to": "nobody"}, {"$.to"}),
    ("to is a number", {**GOOD, "to": 7}, {"$.to"}),
    ("to is empty", {**GOOD, "to": {}}, {"$.to"}),
    ("to is both", {**GOOD, "to": {"channel": "general", "users": ["bob"]}}, {"$.to"}),
    ("except_users is a word", {**GOOD, "except_users": "bob"}, {"$.except_users"}),
    ("id is a number", {**GOOD, "id": 7}, {"$.id"}),
    ("id is empty", {**GOOD, "id": ""}, {"$.id"}),
    ("a key that is none", {**GOOD, "exceptusers": ["bob"]}, {"$.exceptusers"}),
    ("a null", None, {"$"}),
    ("a list", [GOOD], {"$"}),
    ("a string", "x", {"$"}),
    ("events is an object", {"events": GOOD}, {"$.events"}),
    ("events is null", {"events": None}, {"$.events"}),
    ("an event is a string", {"events": [GOOD, "x"]}, {"$.events[1]"}),
    (
        "two events",
        {"events": [event("message.new", **{**message("m1"), "content": 7}), GOOD, {**GOOD, "type": "nobodys"}]},
        {"$.events[0].data.content", "$.events[2].type"},
    ),
    ("101 events", {"events": [GOOD] * 101}, {"$.events"}),
]


@pytest.mark.parametrize(("body", "expected"), [each[1:] for each in WRONG], ids=[each[0] for each in WRONG])
def test_what_is_wrong_is_named_by_its_path(room: Room, body: object, expected: set[str]) -> None:
    room.post(CREATED)
    alice = room.enter()
    found = paths(room.try_post(body))
    assert expected <= found
    assert found <= expected or all(any(path.startswith(each) for each in expected) for path in found)
    assert room.all_of(alice) == []


@pytest.mark.parametrize(
    "to", [{"channel": 7}, {"channel": "a b"}, {"users": "bob"}, {"users": [7]}, {"users": ["a b"]}]
)
def test_a_to_that_is_wrong_inside(room: Room, to: object) -> None:
    room.post(CREATED)
    assert any(path.startswith("$.to") for path in paths(room.try_post({**GOOD, "to": to})))


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b'{"type":', b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"type":"x","data":{"a":NaN}}', b"{}{}", b"\x00"],
)
def test_what_is_no_json(room: Room, content: bytes) -> None:
    answer = room.server.api("POST", f"/api/workspaces/{room.id}/events", content=content)
    assert paths(answer) == {"$"}


def test_no_message_of_a_422_repeats_what_was_sent(room: Room) -> None:
    canary = "canary-canary"
    bodies = [
        event("message.new", **{**message("m1"), "content": [canary]}),
        {"type": canary, "data": {}},
        {**GOOD, "to": canary},
        {**GOOD, "id": [canary]},
    ]
    for body in bodies:
        answer = room.try_post(body)
        assert answer.status_code == 422
        assert canary not in answer.text


def test_the_content_type_is_not_asked_for(room: Room) -> None:
    """Not said either way; a publisher without one is no reason for a 500."""
    answer = room.server.api(
        "POST",
        f"/api/workspaces/{room.id}/events",
        content=json.dumps(CREATED).encode(),
        headers={"Content-Type": "text/plain"},
    )
    assert answer.status_code in {202, 415, 422}


def test_deep_and_wide_bodies_do_no_harm(room: Room) -> None:
    for content in [b"[" * 100_000, b'{"events":' * 50_000, json.dumps({"events": [{}] * 100}).encode()]:
        answer = room.server.api("POST", f"/api/workspaces/{room.id}/events", content=content)
        assert answer.status_code == 422


# 413


def test_over_2_mib_is_413(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    path = f"/api/workspaces/{room.id}/events"
    limit = 2 * 1024 * 1024
    bare = len(json.dumps(event("message.new", **message("m1"), extra="")).encode())
    fits = json.dumps(event("message.new", **{**message("m1"), "content": "x" * (limit - bare - 100)})).encode()
    assert len(fits) <= limit
    assert room.server.api("POST", path, content=fits.ljust(limit)).status_code == 202
    assert alice.get("message.new")["data"]["id"] == "m1"
    close = {"Connection": "close"}  # refused before it is read
    assert room.server.api("POST", path, content=fits.ljust(limit + 1), headers=close).status_code == 413

    def chunks() -> Any:
        for _ in range(300):
            yield b" " * 10_000

    assert room.server.api("POST", path, content=chunks(), headers=close).status_code == 413
    assert room.all_of(alice) == []


# Presence


def test_presence_of_whoever_is_here(room: Room) -> None:
    alice = room.enter("alice")
    room.enter("bob")
    alice.ask({"type": "presence", "status": "away"})
    answer = room.server.api("GET", f"/api/workspaces/{room.id}/presence")
    assert answer.status_code == 200
    users = answer.json()["users"]
    assert sorted(users, key=str) == [
        {"user_id": "alice", "status": "away"},
        {"user_id": "bob", "status": "online"},
    ]
    assert list(users[0]) == ["user_id", "status"]


# Revocation


def revoke(room: Room, user: str) -> int:
    answer = room.server.api("DELETE", f"/api/workspaces/{room.id}/users/{user}/connections")
    assert answer.status_code == 202
    assert list(answer.json()) == ["closed"]
    closed: int = answer.json()["closed"]
    assert type(closed) is int
    return closed


def refusal(room: Room, token: str) -> tuple[str, int]:
    frames, code, _ = room.connect(f"?token={token}").end()
    (frame,) = frames
    return frame["data"]["code"], code


def test_a_revocation_closes_all_connections_of_one_user(room: Room) -> None:
    bob = room.enter("bob")
    tabs = [room.enter("alice") for _ in range(3)]
    began = time.monotonic()
    assert revoke(room, "alice") == 3
    for tab in tabs:
        _, code, _ = tab.end(2)
        assert code == 4503
    assert time.monotonic() - began < 2
    bob.alive()
    assert revoke(room, "alice") == 0
    assert revoke(room, "nobody-here") == 0


def test_an_id_in_a_path_may_be_percent_encoded(room: Room) -> None:
    user = "a@b:c.d-e_f"
    tab = room.enter(user)
    assert revoke(room, user.replace("@", "%40").replace(":", "%3A")) == 1
    assert tab.end()[1] == 4503


def test_tokens_from_before_a_revocation_are_of_no_use_and_later_ones_are(room: Room) -> None:
    now = time.time()
    old = room.token("alice", iat=now - 5)
    whole = room.token("alice", iat=int(now))
    bob = room.token("bob", iat=now - 5)
    revoke(room, "alice")
    for _ in range(2):
        assert refusal(room, old) == ("UNAUTHORIZED", 4503)
    # a whole second is its beginning
    assert refusal(room, whole) == ("UNAUTHORIZED", 4503)
    fresh = room.token("alice", iat=time.time())
    peer = room.connect(f"?token={fresh}")
    assert peer.next()["type"] == "hello"
    assert room.connect(f"?token={bob}").next()["type"] == "hello"
    # neither does the old one come back by a refresh
    for token in old, whole:
        peer.send({"type": "auth.refresh", "token": token})
        peer.error("INVALID_TOKEN")
    peer.alive()


def test_a_revocation_closes_connections_of_tokens_that_are_dated_ahead_of_the_server(room: Room) -> None:
    """Who signs tokens has a clock of his own; up to the leeway it is believed, and his users can be shut out."""
    bob = room.enter("bob")
    token = room.token("alice", iat=time.time() + 3)
    tabs = [room.connect(f"?token={token}") for _ in range(2)]
    assert [tab.next()["type"] for tab in tabs] == ["hello"] * 2
    assert revoke(room, "alice") == 2
    assert [tab.end(2)[1] for tab in tabs] == [4503] * 2
    assert [bob.get("presence.updated")["data"]["status"] for _ in range(2)] == ["online", "offline"]
    assert room.presence() == {"bob": "online"}


def test_a_revocation_is_a_workspaces_own(room_with: Callable[..., Room]) -> None:
    one, other = room_with(), room_with()
    token = one.token("alice", workspaces=[one.id, other.id], iat=time.time() - 5)
    revoke(one, "alice")
    assert refusal(one, token) == ("UNAUTHORIZED", 4503)
    assert other.connect(f"?token={token}").next()["type"] == "hello"


def test_the_second_revocation_reaches_whoever_came_back(room: Room) -> None:
    revoke(room, "alice")
    token = room.token("alice", iat=time.time())
    peer = room.connect(f"?token={token}")
    assert peer.next()["type"] == "hello"
    assert revoke(room, "alice") == 1
    assert peer.end()[1] == 4503
    assert refusal(room, token) == ("UNAUTHORIZED", 4503)


def test_a_message_of_ours_is_in_utf_8(room: Room) -> None:
    room.post(CREATED)
    alice = room.enter()
    room.publish("message.new", **{**message("m1"), "content": "Grüße 👍 \x00 \x1b"})
    assert alice.get("message.new")["data"]["content"] == "Grüße 👍 \x00 \x1b"


def test_other_methods_and_paths_are_no_server_errors(room: Room) -> None:
    api = room.server.api
    path = f"/api/workspaces/{room.id}"
    for method, each in [
        ("GET", f"{path}/events"),
        ("PUT", f"{path}/events"),
        ("POST", f"{path}/presence"),
        ("GET", f"{path}/users/alice/connections"),
        ("GET", "/api"),
        ("GET", "/api/workspaces"),
        ("GET", path),
        ("POST", f"{path}/nonsense"),
        ("GET", "/openapi.json"),
    ]:
        assert api(method, each).status_code in {404, 405}, (method, each)


def test_what_is_published_before_anybody_is_there_is_kept_for_the_state(room: Room) -> None:
    batch: list[Frame] = [CREATED, GOOD]
    room.post({"events": batch})
    alice = room.enter()
    room.publish("message.updated", id="m1", content="x", updated_at=SOON)
    assert types(room.all_of(alice)) == ["message.updated"]
