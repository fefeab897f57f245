"""The HTTP side, in process: publishing, presence, revocation, health."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import attrs
import httpx
import jwt
import orjson
import pytest

from jackfield import (
    Jackfield,
    Refused,
    ServerEvent,
    Settings,
    Transaction,
    Workspace,
    before,
    hookimpl,
    latest,
    testing,
)
from jackfield.engine import EngineRefused
from jackfield.events import (
    ChannelDeleted,
    ChannelUpdated,
    MemberJoined,
    MessageDeleted,
    PresenceUpdated,
    ReactionAdded,
    ThreadUpdated,
    TypingStart,
)
from jackfield.testing._link import Gate
from jackfield_auth import JWTAuth
from jackfield_http import HTTP
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from tests.plugins.chat import EVENTS, KEY, NOON, heard, http, message, private, public, wire

Api = partial(HTTP, api_key=KEY)
bench = partial(testing.bench, Api, Members)

PATHS = [
    ("POST", EVENTS),
    ("GET", "/api/workspaces/w/presence"),
    ("DELETE", "/api/workspaces/w/users/bob/connections"),
]


def ids(body: Any) -> list[tuple[str, bool]]:
    return [(event["id"], event["published"]) for event in body["events"]]


# --- The key


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Basic {KEY}",
        f"Bearer  {KEY}",
        "Bearer ü",
    ],
)
async def test_without_the_key_it_is_401_and_nothing_happens(method: str, path: str, authorization: str | None) -> None:
    async with bench() as b, http(b.app, key=None) as client:
        alice = await b.connect("alice")
        headers = [] if authorization is None else [(b"authorization", authorization.encode())]
        answer = await client.request(method, path, headers=headers, json=wire(public()))
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text
        assert await heard(alice) == [[]]


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_the_key_twice_is_401(method: str, path: str) -> None:
    async with bench() as b, http(b.app, key=None) as client:
        headers = [("authorization", f"Bearer {KEY}")] * 2
        assert (await client.request(method, path, headers=headers, json=wire(public()))).status_code == 401


@pytest.mark.parametrize("key", [None, ""])
@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_where_no_key_is_set_every_keyed_path_is_401(method: str, path: str, key: str | None) -> None:
    async with testing.bench(partial(HTTP, api_key=key), Members) as b, http(b.app, key=None) as client:
        for headers in ({}, {"authorization": "Bearer "}, {"authorization": "Bearer None"}):
            answer = await client.request(method, path, headers=headers, json=wire(public()))
            assert answer.status_code == 401


async def test_the_scheme_is_written_in_either_case_and_the_key_in_any_alphabet() -> None:
    async with testing.bench(partial(HTTP, api_key="schlüssel"), Members) as b, http(b.app, key=None) as client:
        for scheme in ("Bearer", "bearer", "BEARER"):
            headers = [(b"authorization", f"{scheme} schlüssel".encode())]
            assert (await client.post(EVENTS, json=wire(public()), headers=headers)).status_code == 202


def test_the_key_is_in_no_repr() -> None:
    assert KEY not in repr(Api())


@pytest.mark.parametrize("id", ["%20", "a%20b", "ü", "x" * 129, "a+b", "a%0Ab"])
async def test_an_id_that_is_none_is_404(id: str) -> None:
    async with bench() as b, http(b.app) as client:
        for method, path in [
            ("POST", f"/api/workspaces/{id}/events"),
            ("GET", f"/api/workspaces/{id}/presence"),
            ("DELETE", f"/api/workspaces/{id}/users/bob/connections"),
            ("DELETE", f"/api/workspaces/w/users/{id}/connections"),
        ]:
            assert (await client.request(method, path, json=wire(public()))).status_code == 404


@pytest.mark.parametrize("path", ["/", "/api", "/api/workspaces", "/api/workspaces/w", "/nothing", "/ws/w"])
async def test_what_is_not_there_is_404(path: str) -> None:
    async with bench() as b, http(b.app) as client:
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("GET", EVENTS), ("PUT", EVENTS), ("POST", "/api/workspaces/w/presence")])
async def test_another_method_is_405(method: str, path: str) -> None:
    async with bench() as b, http(b.app) as client:
        assert (await client.request(method, path)).status_code == 405


# --- Publishing


async def test_one_event_is_published_and_acknowledged_with_its_place(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as client:
        alice = await b.connect("alice", node=nodes - 1)
        answer = await client.post(EVENTS, json=wire(public(), id="e1"))
        assert answer.status_code == 202
        assert answer.headers["content-type"] == "application/json"
        (event,) = answer.json()["events"]
        assert event.keys() == {"id", "position", "published"}
        assert (event["id"], event["published"]) == ("e1", True)
        assert isinstance(event["position"], str)
        assert await heard(alice) == [[public()]]


async def test_without_an_id_one_is_made() -> None:
    async with bench() as b, http(b.app) as client:
        one, two = [(await client.post(EVENTS, json=wire(public(f"c{n}")))).json()["events"][0] for n in range(2)]
        assert one["id"]
        assert one["id"] != two["id"]
        assert one["position"] != two["position"]


async def test_up_to_a_hundred_events_are_one_batch_in_their_order(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as client:
        alice = await b.connect("alice", node=nodes - 1)
        said = [public(), *(message(f"m{n}") for n in range(99))]
        answer = await client.post(EVENTS, json={"events": [wire(event, id=f"e{n}") for n, event in enumerate(said)]})
        assert answer.status_code == 202
        assert ids(answer.json()) == [(f"e{n}", True) for n in range(100)]
        assert await heard(alice) == [said]


@pytest.mark.parametrize(
    ("to", "hears"),
    [
        ("everyone", ["alice", "bob", "carol"]),
        ({"channel": "c1"}, ["alice", "bob"]),
        ({"users": ["carol", "bob", "nobody"]}, ["bob", "carol"]),
        (None, ["alice", "bob"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("without", [[], ["bob"], ["alice", "carol", "nobody"]], ids=repr)
async def test_to_says_who_gets_it_and_except_users_who_does_not(
    to: Any, hears: list[str], without: list[str], nodes: int
) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as client:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob")])
        users = {user: await b.connect(user, node=n % nodes) for n, user in enumerate(("alice", "bob", "carol"))}
        beside = {} if to is None else {"to": to}
        answer = await client.post(EVENTS, json=wire(message(), **beside, except_users=without))
        assert answer.status_code == 202
        told = [user for user, client in users.items() if await client.pending()]
        assert told == [user for user in hears if user not in without]


@pytest.mark.parametrize("without", [[], ["bob"]], ids=repr)
async def test_a_message_remembers_its_to_and_not_its_exceptions(without: list[str], nodes: int) -> None:
    async with testing.bench(Api, Members, Threads, Reactions, nodes=nodes) as b, http(b.app) as client:
        await b.workspace().publish(public())
        users = {user: await b.connect(user, node=n % nodes) for n, user in enumerate(("alice", "bob", "carol"))}
        to = {"users": ["alice", "bob"]}
        follows: list[ServerEvent] = [ReactionAdded("m1", "👍", "bob"), MessageDeleted("m1", NOON)]
        batch = [wire(message(), to=to, except_users=without), *(wire(event) for event in follows)]
        assert (await client.post(EVENTS, json={"events": batch})).status_code == 202
        told = dict(zip(users, await heard(*users.values()), strict=True))
        assert told == {
            "alice": [message(), *follows],
            "bob": [*([] if without else [message()]), *follows],
            "carol": [],
        }


async def test_what_follows_from_an_event_goes_to_those_whom_it_went_to(nodes: int) -> None:
    async with testing.bench(Api, Members, Threads, nodes=nodes) as b, http(b.app) as client:
        await b.workspace().publish_all([public(), message()])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        reply = message("r1", parent="m1")
        await client.post(EVENTS, json=wire(reply, to={"users": ["alice"]}))
        assert await heard(alice, bob) == [[reply, ThreadUpdated("m1", 1, NOON)], []]


async def test_a_to_replaces_what_would_be_derived_and_needs_no_channel_that_we_know(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as client:
        await b.workspace().publish(private())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        for event, to in ((message(), "everyone"), (message("m2", "nowhere"), {"users": ["bob"]})):
            assert (await client.post(EVENTS, json=wire(event, to=to))).status_code == 202
        assert await heard(alice, bob) == [[message()], [message(), message("m2", "nowhere")]]


async def test_what_a_publisher_leaves_out_is_empty_or_left_out_and_what_is_not_known_is_not_passed_on() -> None:
    async with bench() as b, http(b.app) as client:
        alice = await b.connect("alice")
        data = {"id": "m1", "channel_id": "c1", "user_id": "bob", "content": "hi", "created_at": NOON, "colour": "red"}
        batch = [wire(public()), {"type": "message.new", "data": data}, wire(ChannelUpdated("c1", name="new"))]
        assert (await client.post(EVENTS, json={"events": batch})).status_code == 202
        await alice.pending()
        _, _, new, updated = [frame["data"] for frame in alice.frames]
        assert list(new) == ["id", "channel_id", "user_id", "content", "attachments", "reactions", "created_at"]
        assert (new["attachments"], new["reactions"]) == ([], [])
        assert updated == {"id": "c1", "name": "new"}


class Nudge(ServerEvent, type="nudge", delivery=latest("user_id")):
    """Somebody is nudged."""

    user_id: str


@attrs.define(eq=False)
class Nudges:
    name: str = "nudges"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Nudge,)


async def test_every_registered_server_event_can_be_published_a_plugins_too() -> None:
    async with testing.bench(Api, Members, Nudges) as b, http(b.app) as client:
        alice = await b.connect("alice")
        await b.workspace().publish_all([public(), message()])
        await alice.pending()
        said = [
            MemberJoined("c1", "bob"),
            ReactionAdded("m1", "👍", "bob"),
            ThreadUpdated("m1", 3, NOON),
            TypingStart("c1", "bob"),
            PresenceUpdated("bob", "away"),
            ChannelDeleted("c1"),
        ]
        for event in said:
            assert (await client.post(EVENTS, json=wire(event))).status_code == 202
        answer = await client.post(EVENTS, json=wire(Nudge("bob"), to="everyone"))
        (event,) = answer.json()["events"]
        assert event.keys() == {"id", "published"}  # only durable ones have a place
        assert await heard(alice) == [[*said, Nudge("bob")]]


@pytest.mark.parametrize(
    "type", ["pong", "error", "hello", "ack", "ping", "typing", "nothing", "message.New", "", 7, None]
)
async def test_nothing_else_can_be_published(type: object) -> None:
    async with bench() as b, http(b.app) as client:
        answer = await client.post(EVENTS, json={"type": type, "data": {"ref": 1}, "to": "everyone"})
        assert answer.status_code == 422
        assert answer.json() == {"errors": [{"path": "$.type", "message": "expected the type of a server event"}]}


# --- Idempotency


async def test_the_first_of_an_id_wins_whatever_node_is_asked(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as one, http(b.nodes[nodes - 1].app) as two:
        alice = await b.connect("alice")
        first = (await one.post(EVENTS, json=wire(public(), id="e1"))).json()["events"][0]
        again = await two.post(EVENTS, json=wire(message(), id="e1"))
        assert again.status_code == 202
        assert again.json() == {"events": [{"id": "e1", "published": False, "position": first["position"]}]}
        assert await heard(alice) == [[public()]]


async def test_what_cannot_happen_twice_is_acknowledged_twice_under_one_id(nodes: int) -> None:
    """The repeat of a publisher whose answer was lost: by then the message is gone, and the channel."""
    async with bench(nodes=nodes) as b, http(b.app) as one, http(b.nodes[nodes - 1].app) as two:
        await b.workspace().publish_all([public(), message(), public("c2"), MemberJoined("c2", "bob")])
        for n, event in enumerate([MessageDeleted("m1", NOON), ChannelDeleted("c1"), ChannelDeleted("c2")]):
            body = wire(event, id=f"e{n}")
            first = (await one.post(EVENTS, json=body)).json()["events"][0]
            again = await two.post(EVENTS, json=body)
            assert again.status_code == 202
            assert again.json() == {"events": [{**first, "published": False}]}
        body = {"events": [wire(ChannelDeleted("c2"), id="e2"), wire(ChannelDeleted("c2"), id="new")]}
        assert (await one.post(EVENTS, json=body)).status_code == 409


async def test_an_id_is_known_in_its_workspace_only() -> None:
    async with bench() as b, http(b.app) as client:
        for workspace in ("w", "other"):
            answer = await client.post(f"/api/workspaces/{workspace}/events", json=wire(public(), id="e1"))
            assert ids(answer.json()) == [("e1", True)]


async def test_an_id_is_known_as_long_as_the_history() -> None:
    async with bench(settings=Settings(history_events=3)) as b, http(b.app) as client:
        await client.post(EVENTS, json=wire(public(), id="e1"))
        await client.post(EVENTS, json=wire(message("m1"), id="e2"))
        assert ids((await client.post(EVENTS, json=wire(message("m1"), id="e2"))).json()) == [("e2", False)]
        for n in range(4):
            await client.post(EVENTS, json=wire(message(f"x{n}")))
        assert ids((await client.post(EVENTS, json=wire(message("m1"), id="e2"))).json()) == [("e2", True)]


@pytest.mark.parametrize(
    "settings", [Settings(history_age=60), Settings(history_bytes=2_000)], ids=["as old", "as much"]
)
async def test_the_history_is_as_long_as_it_is_set(settings: Settings) -> None:
    async with bench(settings=settings) as b, http(b.app) as client:
        await client.post(EVENTS, json=wire(public(), id="e1"))
        await client.post(EVENTS, json=wire(message(), id="e2"))
        await b.clock.advance(50)
        assert ids((await client.post(EVENTS, json=wire(message(), id="e2"))).json()) == [("e2", False)]
        await b.clock.advance(20)
        for n in range(10):
            await client.post(EVENTS, json=wire(message(f"x{n}")))
        assert ids((await client.post(EVENTS, json=wire(message(), id="e2"))).json()) == [("e2", True)]


async def test_what_has_no_place_is_published_once_under_one_id_too(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as one, http(b.nodes[nodes - 1].app) as two:
        alice = await b.connect("alice")
        said = wire(PresenceUpdated("bob", "away"), id="e1")
        answers = [(await client.post(EVENTS, json=said)).json() for client in (one, two)]
        assert answers == [{"events": [{"id": "e1", "published": published}]} for published in (True, False)]
        assert await heard(alice) == [[PresenceUpdated("bob", "away")]]


async def test_of_an_id_twice_in_one_batch_the_second_is_the_duplicate(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as client:
        alice = await b.connect("alice", node=nodes - 1)
        batch = [wire(public(), id="a"), wire(message("m1"), id="b"), wire(message("m2"), id="b")]
        one, two, three = (await client.post(EVENTS, json={"events": batch})).json()["events"]
        assert [one["published"], two["published"], three["published"]] == [True, True, False]
        assert three["position"] == two["position"]
        assert await heard(alice) == [[public(), message("m1")]]


async def test_of_a_batch_partly_known_the_rest_is_published(nodes: int) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as one, http(b.nodes[nodes - 1].app) as two:
        alice = await b.connect("alice")
        first = (await one.post(EVENTS, json={"events": [wire(public(), id="a"), wire(message(), id="b")]})).json()
        batch = [wire(message("m0"), id="z"), wire(message(), id="b"), wire(message("m2"), id="c")]
        again = (await two.post(EVENTS, json={"events": batch})).json()
        assert ids(again) == [("z", True), ("b", False), ("c", True)]
        assert again["events"][1]["position"] == first["events"][1]["position"]
        assert await heard(alice) == [[public(), message(), message("m0"), message("m2")]]


async def test_the_id_of_what_changed_nothing_is_remembered_and_has_no_place(nodes: int) -> None:
    async with testing.bench(Api, Members, Reactions, nodes=nodes) as b, http(b.app) as client:
        added = ReactionAdded("m1", "👍", "bob")
        await b.workspace().publish_all([public(), message(), added])
        for _ in range(2):
            answer = await client.post(EVENTS, json=wire(added, id="x"))
            assert answer.status_code == 202
            assert answer.json() == {"events": [{"id": "x", "published": False}]}


async def test_of_the_same_id_at_the_same_moment_on_several_nodes_one_is_published(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect("alice")
        answers: list[Any] = []

        async def post(node: int) -> None:
            async with http(b.nodes[node].app) as client:
                answers.append((await client.post(EVENTS, json=wire(public(), id="e1"))).json()["events"][0])

        async with anyio.create_task_group() as tasks:
            for n in range(5):
                tasks.start_soon(post, n % nodes)
        assert sorted(answer["published"] for answer in answers) == [False] * 4 + [True]
        assert len({answer["position"] for answer in answers}) == 1
        assert await heard(alice) == [[public()]]


# --- What is wrong with it


@pytest.mark.parametrize(
    "event",
    [
        message(channel="nowhere"),
        MessageDeleted("nothing", NOON),
        ReactionAdded("nothing", "👍", "bob"),
        ThreadUpdated("x", 1),
    ],
    ids=lambda event: event.__event__.type,
)
async def test_an_audience_that_nobody_can_resolve_is_409_and_nothing_of_the_batch_happens(
    event: ServerEvent, nodes: int
) -> None:
    async with bench(nodes=nodes) as b, http(b.app) as client:
        alice = await b.connect("alice", node=nodes - 1)
        assert (await client.post(EVENTS, json=wire(event))).status_code == 409
        batch = {"events": [wire(public(), id="a"), wire(event, id="b"), wire(message(), id="c")]}
        answer = await client.post(EVENTS, json=batch)
        assert answer.status_code == 409
        assert answer.json().keys() == {"error"}
        assert await heard(alice) == [[]]
        # Nor are the ids taken.
        assert ids((await client.post(EVENTS, json=wire(public(), id="a"))).json()) == [("a", True)]


async def test_a_body_over_two_mebibytes_is_413_and_not_read_to_its_end() -> None:
    sent: list[Any] = []
    read = 0

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += 65_536
        return {"type": "http.request", "body": b" " * 65_536, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async with bench() as b, http(b.app) as client:
        most = orjson.dumps(wire(public())).ljust(2 * 1024 * 1024)
        assert (await client.post(EVENTS, content=most)).status_code == 202
        headers = [(b"authorization", f"Bearer {KEY}".encode())]
        scope = {
            "type": "http",
            "method": "POST",
            "path": EVENTS,
            "root_path": "",
            "query_string": b"",
            "headers": headers,
        }
        await b.app(scope, receive, send)
        assert sent[0]["status"] == 413
        assert read < 20 * 1024 * 1024


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{}{}", b"\xff", b'{"type":"\xed\xa0\x80"}', b"NaN", b'{"a":1e999}', b"[" * 2000, b"\xef\xbb\xbf{}"],
    ids=repr,
)
async def test_what_is_no_json_is_422(body: bytes) -> None:
    async with bench() as b, http(b.app) as client:
        answer = await client.post(EVENTS, content=body)
        assert answer.status_code == 422
        assert answer.json() == {"errors": [{"path": "$", "message": "expected JSON"}]}


@pytest.mark.parametrize("body", [[], "x", 7, None, True, [wire(public())]], ids=repr)
async def test_what_is_no_object_is_422(body: object) -> None:
    async with bench() as b, http(b.app) as client:
        answer = await client.post(EVENTS, content=orjson.dumps(body))
        assert answer.status_code == 422
        assert answer.json() == {"errors": [{"path": "$", "message": "expected an object"}]}


@pytest.mark.parametrize("events", [[], [wire(public())] * 101, {}, "x", None, 7], ids=lambda events: str(events)[:9])
async def test_a_batch_is_an_array_of_one_to_a_hundred(events: object) -> None:
    async with bench() as b, http(b.app) as client:
        answer = await client.post(EVENTS, json={"events": events, "type": "x"})
        assert answer.status_code == 422
        assert answer.json() == {
            "errors": [
                {"path": "$.type", "message": "not known beside events"},
                {"path": "$.events", "message": "expected an array of 1 to 100 events"},
            ]
        }


async def test_every_wrong_field_is_named_with_its_path_and_nothing_of_what_was_sent() -> None:
    async with bench() as b, http(b.app) as client:
        alice = await b.connect("alice")
        batch = [
            wire(public()),
            {
                "type": "message.new",
                "data": {
                    "id": "s3cret/x",
                    "channel_id": 7,
                    "content": None,
                    "attachments": "s3cret",
                    "created_at": "s3cret",
                },
                "to": {"channel": "s3cret x"},
                "except_users": ["s3cret x"],
                "id": "s3cret x",
                "except": ["s3cret"],
            },
            "s3cret",
            {"data": {}},
            {"type": "channel.deleted"},
            {"type": "channel.deleted", "data": []},
            {"type": "presence.updated", "data": {"user_id": "bob", "status": "s3cret"}},
        ]
        answer = await client.post(EVENTS, json={"events": batch})
        assert answer.status_code == 422
        faults = {fault["path"]: fault["message"] for fault in answer.json()["errors"]}
        an_id = "expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -"
        assert faults == {
            "$.events[1].except": "not known",
            "$.events[1].data.id": an_id,
            "$.events[1].data.channel_id": an_id,
            "$.events[1].data.user_id": "required",
            "$.events[1].data.content": "expected a string",
            "$.events[1].data.attachments": "expected an array",
            "$.events[1].data.created_at": "expected a timestamp such as 2024-01-01T12:00:00.000Z",
            "$.events[1].to": 'expected "everyone", {"channel": id} or {"users": [id, …]}',
            "$.events[1].except_users": "expected an array of ids",
            "$.events[1].id": an_id,
            "$.events[2]": "expected an object",
            "$.events[3].type": "expected the type of a server event",
            "$.events[4].data": "expected an object",
            "$.events[5].data": "expected an object",
            "$.events[6].data.status": "expected one of online, away, offline",
        }
        assert "s3cret" not in answer.text
        assert await heard(alice) == [[]]


async def test_a_single_events_paths_begin_at_the_root() -> None:
    async with bench() as b, http(b.app) as client:
        answer = await client.post(EVENTS, json={"type": "channel.deleted", "data": {"id": 7}})
        assert [fault["path"] for fault in answer.json()["errors"]] == ["$.data.id"]


@pytest.mark.parametrize(
    "to",
    [
        None,
        "",
        "Everyone",
        "nobody",
        [],
        7,
        {},
        {"channel": None},
        {"channel": ["c1"]},
        {"channel": ""},
        {"users": []},
        {"users": "alice"},
        {"users": ["alice", 7]},
        {"users": [""]},
        {"user": "alice"},
        {"channel": "c1", "users": ["alice"]},
        {"everyone": True},
    ],
    ids=repr,
)
async def test_a_to_that_is_none_is_refused_and_never_guessed(to: object) -> None:
    async with bench() as b, http(b.app) as client:
        alice = await b.connect("alice")
        answer = await client.post(EVENTS, json=wire(public(), to=to))
        assert answer.status_code == 422
        assert [fault["path"] for fault in answer.json()["errors"]] == ["$.to"]
        assert await heard(alice) == [[]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("except_users", None),
        ("except_users", "alice"),
        ("except_users", {"alice": 1}),
        ("except_users", [None]),
        ("id", None),
        ("id", ""),
        ("id", 7),
        ("id", "x" * 129),
        ("id", "a b"),
    ],
)
async def test_except_users_and_id_are_what_they_must_be(field: str, value: object) -> None:
    async with bench() as b, http(b.app) as client:
        answer = await client.post(EVENTS, json=wire(public(), **{field: value}))
        assert answer.status_code == 422
        assert [fault["path"] for fault in answer.json()["errors"]] == [f"$.{field}"]


class NotToday(Refused):
    """Not today."""

    code = "NOT_TODAY"


@attrs.define(eq=False)
class Censor:
    name: str = "censor"

    @before(public().__class__)
    async def veto(self, transaction: Transaction, event: ServerEvent) -> None:
        raise NotToday


async def test_what_a_plugin_vetoes_is_403_with_its_code() -> None:
    async with testing.bench(Api, Members, Censor) as b, http(b.app) as client:
        answer = await client.post(EVENTS, json=wire(public()))
        assert answer.status_code == 403
        assert answer.json() == {"error": "Not today.", "code": "NOT_TODAY"}


# --- The engine is away


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_without_the_engine_it_is_503_with_retry_after(method: str, path: str) -> None:
    async with testing.bench(Api, Members, Presence, nodes=3) as b, http(b.app) as client:
        b.nodes[0].partition()
        answer = await client.request(method, path, json=wire(public(), id="e1"))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        b.nodes[0].heal()
        assert (await client.request(method, path, json=wire(public(), id="e1"))).status_code in (200, 202)


async def test_an_outcome_unknown_is_503_and_the_repeat_says_what_happened() -> None:
    async with bench(nodes=3) as b, http(b.app) as client:
        alice = await b.connect("alice", node=2)
        gate = b.nodes[0].link.gate = Gate({"answer"})
        answers = []

        async def post() -> None:
            answers.append(await client.post(EVENTS, json=wire(public(), id="e1")))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(post)
            await testing.settle()
            b.nodes[0].partition()
            gate.open()
        assert answers[0].status_code == 503
        b.nodes[0].heal()
        again = await client.post(EVENTS, json=wire(public(), id="e1"))
        assert ids(again.json()) == [("e1", False)]
        assert await heard(alice) == [[public()]]


async def test_an_engine_that_hangs_is_503_too() -> None:
    async with testing.bench(Api, Members, Presence) as b, http(b.app) as client:
        for method, path in PATHS:
            answers: list[httpx.Response] = []
            gate = b.nodes[0].link.gate = Gate({"read", "commit"})

            async def ask(method: str = method, path: str = path) -> None:
                answers.append(await client.request(method, path, json=wire(public())))  # noqa: B023

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await b.clock.advance(6)
                gate.open()
            assert [answer.status_code for answer in answers] == [503]


async def test_an_engine_that_refuses_is_503_too() -> None:
    async with bench() as b, http(b.app) as client:

        async def refuse(*_: object) -> None:
            raise EngineRefused("read only")

        b.nodes[0].link.commit = refuse  # type: ignore[method-assign, assignment]
        assert (await client.post(EVENTS, json=wire(public()))).status_code == 503
        del b.nodes[0].link.commit


# --- Presence


async def test_presence_is_who_is_online_and_away(nodes: int) -> None:
    settings = Settings(heartbeat_timeout=10_000)
    async with testing.bench(Api, Members, Presence, nodes=nodes, settings=settings) as b, http(b.app) as client:
        path = "/api/workspaces/w/presence"
        assert (await client.get(path)).json() == {"users": []}
        await b.connect("alice", node=nodes - 1)
        await b.clock.advance(600)
        bob = await b.connect("bob")
        carol = await b.connect("carol")
        carol.close()
        await b.clock.advance(21)
        answer = await client.get(path)
        assert answer.status_code == 200
        assert sorted(answer.json()["users"], key=lambda user: user["user_id"]) == [
            {"user_id": "alice", "status": "away"},
            {"user_id": "bob", "status": "online"},
        ]
        bob.close()


async def test_without_its_plugin_nobody_is_there() -> None:
    async with bench() as b, http(b.app) as client:
        assert (await client.get("/api/workspaces/w/presence")).json() == {"users": []}


# --- Revocation


async def test_revocation_closes_a_users_connections_on_every_node_and_counts_them(nodes: int) -> None:
    async with testing.bench(Api, Members, nodes=nodes) as b, http(b.app) as client:
        theirs = [await b.connect("bob", node=n % nodes) for n in range(5)]
        other, elsewhere = await b.connect("alice"), await b.connect("bob", workspace="other")
        answer = await client.delete("/api/workspaces/w/users/bob/connections")
        assert answer.status_code == 202
        assert answer.json() == {"closed": 5}
        for connection in theirs:
            assert (await connection.closed()).code == 4503
            assert [frame["type"] for frame in connection.frames] == ["hello"]
        assert await heard(other, elsewhere) == [[], []]
        assert (await client.delete("/api/workspaces/w/users/bob/connections")).json() == {"closed": 0}
        assert (await client.delete("/api/workspaces/w/users/nobody/connections")).json() == {"closed": 0}


async def test_tokens_of_before_a_revocation_are_4503_from_then_on_on_every_node(nodes: int) -> None:
    secret = "a secret of at least thirty-two bytes"

    async def come(iat: float, node: int) -> int | None:
        token = jwt.encode({"sub": "bob", "workspaces": ["w"], "iat": iat, "exp": iat + 3600}, secret)
        client = await b.open(token=token, node=node)
        return (await client.closed()).code if client.transport.ended else None

    async with testing.bench(Api, Members, partial(JWTAuth, secret), nodes=nodes) as b, http(b.app) as client:
        now = b.clock.time()
        assert await come(now, nodes - 1) is None
        await b.clock.advance(0.25)
        assert (await client.delete("/api/workspaces/w/users/bob/connections")).json() == {"closed": 1}
        for node in range(nodes):
            assert await come(now - 60, node) == 4503
            assert await come(now, node) == 4503  # a whole second is its beginning
            assert await come(now + 0.249, node) == 4503
            assert await come(now + 0.251, node) is None


# --- Health


async def test_health_needs_no_key_and_says_whether_it_lives_and_is_ready() -> None:
    async with bench() as b, http(b.app, key=None) as client:
        for path in ("/health/live", "/health/ready"):
            assert (await client.get(path)).status_code == 200
        b.nodes[0].partition()
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
        b.nodes[0].heal()
        assert (await client.get("/health/ready")).status_code == 200


@attrs.define(eq=False)
class Slow:
    """Somebody who takes his time when the application ends."""

    name: str = "slow"
    ending: anyio.Event = attrs.field(factory=anyio.Event)
    may_end: anyio.Event = attrs.field(factory=anyio.Event)

    @hookimpl
    async def session_closed(self) -> None:
        self.ending.set()
        await self.may_end.wait()


async def test_while_it_ends_it_is_alive_serves_and_is_not_ready() -> None:
    slow = Slow()
    async with testing.bench(Api(), Members(), slow) as b, http(b.app) as client:
        await b.connect("alice")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.nodes[0].stop)
            await slow.ending.wait()
            assert (await client.get("/health/live")).status_code == 200
            assert (await client.get("/health/ready")).status_code == 503
            assert (await client.post(EVENTS, json=wire(public()))).status_code == 202
            slow.may_end.set()


async def test_before_its_start_it_is_alive_and_not_ready() -> None:
    app = Jackfield(Api(), Members(), JWTAuth("x" * 32))
    async with http(app) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503


# --- Threads, reactions and typing by HTTP are those of the plugins


async def test_a_publisher_by_http_is_a_publisher() -> None:
    async with testing.bench(Api, Members, Threads, Reactions) as b, http(b.app) as client:
        alice = await b.connect("alice")
        batch = [
            public(),
            message(),
            message("r1", parent="m1"),
            ReactionAdded("m1", "👍", "bob"),
            ReactionAdded("m1", "👍", "bob"),
        ]
        await client.post(EVENTS, json={"events": [wire(event) for event in batch]})
        assert await heard(alice) == [[*batch[:3], ThreadUpdated("m1", 1, NOON), batch[3]]]


async def test_presence_that_answers_nothing_is_nobody() -> None:
    @attrs.define(eq=False)
    class Silent:
        name: str = "presence"

        @hookimpl
        async def presence_of(self, workspace: Workspace) -> None:
            return None

    async with testing.bench(Api, Members, Silent) as b, http(b.app) as client:
        assert (await client.get("/api/workspaces/w/presence")).json() == {"users": []}
