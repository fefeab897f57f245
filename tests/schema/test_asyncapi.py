"""The AsyncAPI document: valid by the official schema, and true of every frame that the wire has."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import jsonschema
import pytest

from jackfield import (
    ClientEvent,
    CloseCode,
    Jackfield,
    Refused,
    ServerEvent,
    Session,
    Settings,
    Users,
    hookimpl,
    latest,
    on,
)
from jackfield._wire import Rejected, Wire
from jackfield.errors import InvalidEvent, RateLimited
from jackfield.events import Id, Shape
from jackfield.schema import asyncapi
from jackfield.testing import bench
from jackfield_presence import Presence
from jackfield_typing import Typing
from tests.core.test_structure import Color, Option
from tests.plugins.chat import message
from tests.schema.validators import Contract
from tests.wire.test_golden import CLIENT, SERVER

OFFICIAL = json.loads(Path(__file__).with_name("asyncapi-3.0.0.json").read_text())
ENVIRON = {"JACKFIELD_SECRET": "only for this test, and 32 bytes long"}


class Drawn(ClientEvent, type="board.draw", cost=3):
    """Somebody draws."""

    board_id: Id
    """Which one."""
    options: Sequence[Option]
    colour: Annotated[str, Shape(r"#[\da-f]{6}", "expected a colour such as #336699")] = "#000000"
    named: Color | None = None
    kind: Literal["line", "dot"] | int = "dot"
    tags: Mapping[Id, int] = attrs.field(factory=dict)


class BoardUpdated(ServerEvent, type="board.updated", delivery=latest("board_id")):
    """A board changed.

    Ask for it again.
    """

    board_id: Id
    first: Option
    by: Id | None = None


class BoardFull(Refused):
    """There is no room on this board."""

    code = "BOARD_FULL"


@attrs.define(eq=False)
class Boards:
    """A plugin of somebody's, who has not heard of AsyncAPI."""

    name: str = "boards"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return Drawn, BoardUpdated

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        return {"open": 1}

    @on(Drawn)
    async def draw(self, session: Session, event: Drawn) -> None:
        if event.colour == "#ffffff":
            raise BoardFull


def served(**settings: Any) -> Jackfield:
    """All that is shipped, and a plugin of somebody's."""
    shipped = Jackfield.from_environ(ENVIRON)
    fresh = [attrs.evolve(plugin) for plugin in shipped.plugins.objects.values()]
    return Jackfield(*fresh, Boards(), settings=Settings(**settings))


CONTRACT = Contract(served())
DOCUMENT = CONTRACT.document
MESSAGES = DOCUMENT["components"]["messages"]


# --- the document


def test_it_is_valid_by_the_official_schema() -> None:
    jsonschema.Draft7Validator(OFFICIAL).validate(DOCUMENT)
    with_more = asyncapi(served(), title="Chat", version="2.1", server="wss://chat.example:8443/realtime/")
    jsonschema.Draft7Validator(OFFICIAL).validate(with_more)
    assert with_more["info"]["title"] == "Chat"
    assert with_more["info"]["version"] == "2.1"
    assert with_more["servers"] == {
        "default": {"host": "chat.example:8443", "protocol": "wss", "pathname": "/realtime"}
    }


@pytest.mark.parametrize(
    "wrong",
    [
        lambda document: document.pop("info"),
        lambda document: document["operations"]["say"].update(action="hear"),
        lambda document: document["channels"]["workspace"].update(address=1),
        lambda document: document["components"]["schemas"]["MessageNew"].update(type="class"),
    ],
)
def test_the_official_schema_finds_what_is_wrong(wrong: Any) -> None:
    broken = json.loads(json.dumps(DOCUMENT))
    wrong(broken)
    assert not jsonschema.Draft7Validator(OFFICIAL).is_valid(broken)


def test_it_is_the_same_every_time() -> None:
    assert json.dumps(asyncapi(served())) == json.dumps(DOCUMENT)


@pytest.mark.parametrize(
    "server", ["", "chat.example", "https://chat.example", "wss://", "wss://bob:secret@chat.example"]
)
def test_a_server_that_is_no_address(server: str) -> None:
    with pytest.raises(ValueError, match=r"^that is no address of a server, such as") as caught:
        asyncapi(served(), server=server)
    assert "secret" not in str(caught.value)


def test_every_event_is_in_it_on_its_side() -> None:
    registry = served().events
    assert set(MESSAGES) == set(registry)
    operations = DOCUMENT["operations"]
    assert {name: operation["action"] for name, operation in operations.items()} == {"say": "receive", "hear": "send"}
    for name, events in ("say", registry.client()), ("hear", registry.server()):
        pointed = [pointer["$ref"] for pointer in operations[name]["messages"]]
        assert pointed == [f"#/channels/workspace/messages/{type}" for type in events]


def pointers(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from pointers(inner)


def test_every_pointer_leads_somewhere() -> None:
    for pointer in set(pointers(DOCUMENT)):
        place: Any = DOCUMENT
        for part in pointer.removeprefix("#/").split("/"):
            place = place[part]
        assert place


def test_the_channel() -> None:
    channel = DOCUMENT["channels"]["workspace"]
    assert channel["address"] == "/ws/{workspace_id}"
    assert set(channel["parameters"]) == {"workspace_id"}
    assert set(channel["bindings"]["ws"]["query"]["properties"]) == {"token", "resume"}
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert [(one["type"], one.get("in"), one.get("name")) for one in schemes.values()] == [
        ("httpApiKey", "query", "token"),
        ("http", None, None),
        ("httpApiKey", "header", "Sec-WebSocket-Protocol"),
    ]


def test_an_authors_event_is_in_it_without_his_doing_anything() -> None:
    drawn, updated = MESSAGES["board.draw"], MESSAGES["board.updated"]
    assert drawn["x-jackfield"] == {"plugin": "boards", "cost": 3}
    assert drawn["summary"] == "Somebody draws."
    assert updated["x-jackfield"] == {"plugin": "boards", "delivery": "latest", "key": ["board_id"]}
    assert updated["summary"] == "A board changed."
    assert updated["description"] == "Ask for it again."
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["Drawn"]["properties"]["board_id"]["description"] == "Which one."
    assert {"code": "BOARD_FULL", "message": "There is no room on this board.", "plugin": "boards"} in (
        DOCUMENT["x-error-codes"]
    )
    assert "boards" in schemas["Hello"]["properties"]["state"]["properties"]


def test_what_is_off_is_not_in_it() -> None:
    document = asyncapi(Jackfield.from_environ({**ENVIRON, "JACKFIELD_TOKEN_REFRESH": "false"}))
    assert "auth.refresh" not in document["components"]["messages"]
    assert "AuthRefresh" not in document["components"]["schemas"]
    assert "board.draw" not in document["components"]["messages"]


def test_the_codes() -> None:
    core = ["INVALID_TOKEN", "UNAUTHORIZED", "RATE_LIMITED", "INTERNAL_ERROR", "INVALID_EVENT", "UNKNOWN_EVENT"]
    assert [one["code"] for one in DOCUMENT["x-error-codes"]] == [*core, "BOARD_FULL"]
    strict = asyncapi(served(strict_error_codes=True))
    assert [one["code"] for one in strict["x-error-codes"]] == [*core[:4], "BOARD_FULL"]
    assert [(one["code"], one["reconnect"]) for one in DOCUMENT["x-close-codes"]] == [
        (code.value, code.reconnect) for code in CloseCode
    ]


@pytest.mark.parametrize("type", MESSAGES)
def test_every_event_has_an_example_and_it_is_one(type: str) -> None:
    (example,) = MESSAGES[type]["examples"]
    CONTRACT.check(example["payload"])
    if type in served().events.client():
        wire().decode(json.dumps(example["payload"]), example["payload"].get("workspace_id", "w"))


def test_what_no_example_is_known_for_has_none_and_what_nobody_describes_no_description() -> None:
    class Odd(ServerEvent, type="odd"):
        """Of a pattern that nobody thought of."""

        v: Annotated[str, Shape("q{3}w{7}", "expected something odd")]

    class Silent(ServerEvent, type="silent"):
        v: int

    class Plugin:
        name = "odd"

        @hookimpl
        def register_events(self) -> Iterable[type[ServerEvent]]:
            return Odd, Silent

    fresh = [attrs.evolve(plugin) for plugin in Jackfield.from_environ(ENVIRON).plugins.objects.values()]
    document = asyncapi(Jackfield(*fresh, Plugin()))
    messages = document["components"]["messages"]
    assert "examples" not in messages["odd"]
    assert "summary" not in messages["silent"]
    jsonschema.Draft7Validator(OFFICIAL).validate(document)


# --- the frames


def wire() -> Wire:
    return Wire(served().events, max_bytes=16384)


FRAMES: dict[str, dict[str, Any]] = {type: json.loads(text) for type, text in (*CLIENT.items(), *SERVER.items())}


@pytest.mark.parametrize("type", FRAMES)
def test_the_examples_of_the_specification(type: str) -> None:
    CONTRACT.check(FRAMES[type])


OPTIONAL = {
    "channel.updated": {"name", "description"},
    "error": {"ref", "detail", "retry_after_ms"},
    "hello": {"cursor", "resume"},
    "thread.updated": {"last_reply_at"},
}


def broken(frame: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Every way to leave one required thing out, or to say nothing where something stands."""
    for name in frame:
        if name != "type":
            yield {**frame, name: None}
        if name not in ("type", "ref", "cursor"):
            yield {key: value for key, value in frame.items() if key != name}
    data = frame.get("data", {})
    for name in data:
        yield {**frame, "data": {**data, name: None}}
        if name not in OPTIONAL.get(frame["type"], ()):
            yield {**frame, "data": {key: value for key, value in data.items() if key != name}}


@pytest.mark.parametrize("type", FRAMES)
def test_a_broken_one_is_none(type: str) -> None:
    tried = list(broken(FRAMES[type]))
    assert tried or type in ("ping", "pong")
    for frame in tried:
        assert not CONTRACT.takes(frame), frame


SAID: list[dict[str, Any]] = [
    {"type": "ping"},
    {"type": "ping", "data": {"whatever": [1]}},
    {"type": "ping", "data": 1},
    {"type": "ping", "whatever": 1},
    {"type": "ping", "ref": "r"},
    {"type": "ping", "ref": 2**53},
    {"type": "ping", "ref": 2**53 + 1},
    {"type": "ping", "ref": "x" * 64},
    {"type": "ping", "ref": "x" * 65},
    {"type": "ping", "ref": None},
    {"type": "ping", "ref": True},
    {"type": "ping", "timestamp": 1, "workspace_id": "w"},
    {"type": "ping", "workspace_id": 1},
    {"type": "typing", "channel_id": "c", "is_typing": True},
    {"type": "typing", "data": {"channel_id": "c", "is_typing": True}},
    {"type": "typing", "data": {"channel_id": "c", "is_typing": True, "user_id": 1}, "user_id": 1},
    {"type": "typing", "data": {"channel_id": "c"}, "is_typing": True},
    {"type": "typing", "data": {"channel_id": "c", "is_typing": True}, "is_typing": True},
    {"type": "typing", "data": None, "channel_id": "c", "is_typing": True},
    {"type": "typing", "channel_id": "c", "is_typing": 1},
    {"type": "typing", "channel_id": "c", "is_typing": "yes"},
    {"type": "typing", "channel_id": "c"},
    {"type": "typing", "channel_id": "", "is_typing": True},
    {"type": "typing", "channel_id": "c\n", "is_typing": True},
    {"type": "typing", "channel_id": 1, "is_typing": True},
    {"type": "presence", "status": "away"},
    {"type": "presence", "status": "offline"},
    {"type": "auth.refresh", "token": "t"},
    {"type": "auth.refresh", "token": None},
    {"type": "board.draw", "board_id": "b", "options": []},
    {"type": "board.draw", "board_id": "b", "options": [{"label": "a"}], "colour": "#1234ff", "kind": 7},
    {"type": "board.draw", "board_id": "b", "options": [{"label": "a", "votes": 1, "note": "n"}], "named": "red"},
    {"type": "board.draw", "board_id": "b", "options": [{"label": "a", "note": None}]},
    {"type": "board.draw", "board_id": "b", "options": [{}]},
    {"type": "board.draw", "board_id": "b", "options": [], "colour": "red"},
    {"type": "board.draw", "board_id": "b", "options": [], "named": None},
    {"type": "board.draw", "board_id": "b", "options": [], "kind": "curve"},
    {"type": "board.draw", "board_id": "b", "options": [], "tags": {"a": 1}},
    {"type": "board.draw", "board_id": "b", "options": [], "tags": {"a b": 1}},
    {"type": "board.draw", "board_id": "b", "options": [], "tags": {"a": "1"}},
]


@pytest.mark.parametrize("frame", SAID, ids=str)
def test_what_a_client_may_say_is_what_the_wire_reads(frame: dict[str, Any]) -> None:
    try:
        wire().decode(json.dumps(frame), "w")
    except Rejected:
        assert not CONTRACT.takes(frame)
    else:
        CONTRACT.check(frame)


def test_the_wires_own_errors_are_what_is_described() -> None:
    for refused, ref in (
        (RateLimited(2.5), None),
        (InvalidEvent("$.v: expected an id"), 7),
        (None, "r"),
        (BoardFull(), "r"),
    ):
        CONTRACT.check(json.loads(wire().error(refused, ref, 0.0)))
    for ref in (None, 7, "r"):
        CONTRACT.check(json.loads(wire().pong(ref)))
    strict = Wire(served().events, max_bytes=16384, strict_error_codes=True)
    CONTRACT.check(json.loads(strict.error(InvalidEvent("$.v: expected an id"), None, 0.0)))


async def test_every_frame_of_a_connection_is_what_is_described() -> None:
    """hello with its state, an ack, errors with a ref, a pong with a cursor, what is durable with one, a resume."""
    async with bench(Presence, Typing, Boards) as b:
        contract = Contract(b.app)
        alice = await b.connect("alice", channels=["c1"], resume="")
        await alice.send({"type": "ping", "ref": "p"})
        await alice.send({"type": "board.draw", "board_id": "b", "options": []}, ref=1)
        await alice.send({"type": "board.draw", "board_id": "b", "options": [], "colour": "#ffffff"}, ref=2)
        await alice.send({"type": "board.draw"}, ref="3")
        await alice.send({"type": "typing", "channel_id": "hidden", "is_typing": True}, ref=4)
        await alice.send({"type": "nothing"})
        bob = await b.connect("bob", channels=["c1"])
        await bob.send({"type": "ping"})
        await bob.send({"type": "typing", "channel_id": "c1", "is_typing": True})
        await b.workspace().publish(message())
        await b.workspace().publish(BoardUpdated("b", Option("tea")), to=Users("alice", "bob"))
        again = await b.connect("alice", channels=["c1"], resume=alice.hello.cursor)
        lost = await b.connect("alice", channels=["c1"], resume="no cursor")
        frames = []
        for client in alice, bob, again, lost:
            await client.pending()
            frames += client.frames
    for frame in frames:
        contract.check(frame)
        for worse in broken(frame):
            assert not contract.takes(worse), worse
    heard = Counter(frame["type"] for frame in frames)
    assert heard["hello"] == 4
    assert {"pong", "ack", "error", "message.new", "typing.start", "presence.updated", "board.updated"} <= set(heard)
    resumed = [frame["data"].get("resume") for frame in frames if frame["type"] == "hello"]
    assert resumed == [None, None, {"recovered": True, "replayed": 1}, {"recovered": False, "reason": "unknown"}]
    assert [frame for frame in frames if frame["type"] == "pong" and "cursor" in frame]
    assert [frame for frame in frames if frame["type"] == "message.new" and "cursor" in frame]
