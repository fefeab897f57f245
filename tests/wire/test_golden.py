"""Every JSON example of the specification: what stands in `golden/` is its text, to the byte.

A client's example is read; a server's is made from the class of the event, key for key in the order of the example, and
read back. The examples stand on several lines, the wire on one: white space between tokens is all that may differ.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from jackfield import ClientEvent, Refused, ServerEvent
from jackfield._registry import Registry
from jackfield._wire import PING, PONG, Incoming, Wire
from jackfield.errors import CloseCode, InvalidToken, RateLimited, Unauthorized
from jackfield.events import (
    Ack,
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    Error,
    Hello,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    MessageUpdated,
    Ping,
    PresenceUpdated,
    ReactionAdded,
    ReactionRemoved,
    ThreadUpdated,
    TypingIndicator,
    TypingStart,
    TypingStop,
)

GOLDEN = Path(__file__).parent / "golden"
CLIENT = {path.stem: path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("client/*.json"))}
SERVER = {path.stem: path.read_text(encoding="utf-8") for path in sorted(GOLDEN.glob("server/*.json"))}

WORKSPACE = "workspace-uuid"

SAID: dict[str, ClientEvent] = {
    "ping": Ping(),
    "typing": TypingIndicator("channel-uuid", True),
}

HAPPENED: dict[str, ServerEvent] = {
    "message.new": MessageNew("message-uuid", "channel-uuid", "user-uuid", "Hello, world!", "2024-01-01T12:00:00.000Z"),
    "message.updated": MessageUpdated("message-uuid", "Updated content", "2024-01-01T12:05:00.000Z"),
    "message.deleted": MessageDeleted("message-uuid", "2024-01-01T12:10:00.000Z"),
    "reaction.added": ReactionAdded("message-uuid", "👍", "user-uuid"),
    "reaction.removed": ReactionRemoved("message-uuid", "👍", "user-uuid"),
    "typing.start": TypingStart("channel-uuid", "user-uuid"),
    "typing.stop": TypingStop("channel-uuid", "user-uuid"),
    "presence.updated": PresenceUpdated("user-uuid", "online"),
    "channel.created": ChannelCreated("channel-uuid", "general", "public", "user-uuid"),
    "channel.updated": ChannelUpdated("channel-uuid", "new-name", "Updated description"),
    "channel.deleted": ChannelDeleted("channel-uuid"),
    "member.joined": MemberJoined("channel-uuid", "user-uuid"),
    "member.left": MemberLeft("channel-uuid", "user-uuid"),
    "thread.updated": ThreadUpdated("message-uuid", 5, "2024-01-01T12:00:00.000Z"),
}


class Described(Refused):
    """Error description"""

    code = "ERROR_CODE"


def make_wire() -> Wire:
    registry = Registry()
    registry.add("typing", TypingIndicator)
    return Wire(registry, max_bytes=16384)


def on_one_line(example: str) -> str:
    """The example without the white space between its tokens; keys stay in its order."""
    return json.dumps(json.loads(example), ensure_ascii=False, separators=(",", ":"))


def seconds(example: dict[str, Any]) -> float:
    return datetime.fromisoformat(example["timestamp"]).timestamp()


def test_every_example_is_here_and_every_event_of_the_vocabulary_has_one() -> None:
    assert set(CLIENT) == set(SAID)
    assert set(SERVER) == {*HAPPENED, "pong", "error"}
    assert set(Registry().server()) == {*SERVER, "hello", "ack"}


@pytest.mark.parametrize("type", CLIENT)
def test_what_a_client_says_is_read_as_the_specification_has_it(type: str) -> None:
    assert make_wire().decode(CLIENT[type], WORKSPACE) == Incoming(SAID[type], None)
    assert make_wire().decode(on_one_line(CLIENT[type]), WORKSPACE) == Incoming(SAID[type], None)


@pytest.mark.parametrize("type", CLIENT)
def test_a_clients_event_is_written_as_the_specification_has_it(type: str) -> None:
    event = SAID[type]
    flat = {"type": type, **make_wire().data(event)}
    assert json.dumps(flat, separators=(",", ":")) == on_one_line(CLIENT[type])


@pytest.mark.parametrize("type", HAPPENED)
def test_what_the_server_says_is_the_example_to_the_byte(type: str) -> None:
    example = json.loads(SERVER[type])
    assert make_wire().encode(HAPPENED[type], WORKSPACE, seconds(example)) == on_one_line(SERVER[type])


@pytest.mark.parametrize("type", HAPPENED)
def test_what_the_server_says_is_read_back_to_the_same_event(type: str) -> None:
    data = json.loads(SERVER[type])["data"]
    assert make_wire().structure(type_of(type), data, "$.data") == HAPPENED[type]


@pytest.mark.parametrize("type", HAPPENED)
def test_a_client_does_not_notice_in_what_order_it_sends_keys(type: str) -> None:
    data = dict(reversed(json.loads(SERVER[type])["data"].items()))
    assert make_wire().structure(type_of(type), data, "$.data") == HAPPENED[type]


def type_of(type: str) -> type[ServerEvent]:
    return Registry().server()[type]


def test_a_pong_is_bare() -> None:
    assert on_one_line(SERVER["pong"]) == PONG == '{"type":"pong"}'
    assert make_wire().pong(None) == PONG


def test_the_short_way_knows_the_ping_of_the_specification() -> None:
    assert on_one_line(CLIENT["ping"]) == PING


def test_an_error_names_no_workspace() -> None:
    example = json.loads(SERVER["error"])
    assert make_wire().error(Described(), None, seconds(example)) == on_one_line(SERVER["error"])
    assert make_wire().structure(Error, example["data"], "$.data") == Error("Error description", "ERROR_CODE")


@pytest.mark.parametrize(
    ("event", "data"),
    [
        pytest.param(
            MessageNew(
                "m2",
                "c1",
                "alice",
                "hi",
                "2024-01-01T12:00:00.000Z",
                "m1",
                attachments=[{"url": "x"}],
                reactions=["👍"],
            ),
            '{"id":"m2","channel_id":"c1","user_id":"alice","content":"hi","attachments":[{"url":"x"}],'
            '"reactions":["👍"],"created_at":"2024-01-01T12:00:00.000Z","parent_message_id":"m1"}',
            id="a reply names its parent, last",
        ),
        pytest.param(ChannelUpdated("c1", name="new"), '{"id":"c1","name":"new"}', id="a channel that was renamed"),
        pytest.param(ChannelUpdated("c1", description=""), '{"id":"c1","description":""}', id="empty is not unset"),
        pytest.param(ChannelUpdated("c1"), '{"id":"c1"}', id="nothing but the id"),
        pytest.param(
            ThreadUpdated("m1", 0), '{"parent_message_id":"m1","reply_count":0}', id="a thread with no reply left"
        ),
        pytest.param(Ack(ref=7), '{"ref":7}', id="an ack"),
    ],
)
def test_an_optional_field_that_is_unset_is_left_out_and_never_null(event: ServerEvent, data: str) -> None:
    text = make_wire().encode(event, "w", 1_704_110_400.0)
    type = event.__event__.type
    assert text == (f'{{"type":"{type}","data":{data},"workspace_id":"w","timestamp":"2024-01-01T12:00:00.000Z"}}')
    assert make_wire().structure(type_of(type), json.loads(text)["data"], "$.data") == event


def test_hello_has_its_keys_in_the_order_of_the_wire() -> None:
    hello = Hello(
        connection_id="1",
        user_id="alice",
        heartbeat_interval_ms=30000,
        limits={"max_event_bytes": 16384},
        state={"presence": [{"user_id": "alice", "status": "online"}]},
    )
    assert make_wire().encode(hello, "w", 1_704_110_400.0) == (
        '{"type":"hello","data":{"connection_id":"1","user_id":"alice","heartbeat_interval_ms":30000,'
        '"limits":{"max_event_bytes":16384},"state":{"presence":[{"user_id":"alice","status":"online"}]}},'
        '"workspace_id":"w","timestamp":"2024-01-01T12:00:00.000Z"}'
    )


@pytest.mark.parametrize("type", sorted(HAPPENED))
def test_every_server_event_has_the_four_keys_in_order(type: str) -> None:
    envelope = json.loads(make_wire().encode(HAPPENED[type], "w", 0.0))
    assert list(envelope) == ["type", "data", "workspace_id", "timestamp"]


@pytest.mark.parametrize("type", sorted(HAPPENED))
def test_a_client_may_say_no_server_event(type: str) -> None:
    assert type not in Registry().client()


@pytest.mark.parametrize(
    ("refused", "code"),
    [(InvalidToken(), "INVALID_TOKEN"), (Unauthorized(), "UNAUTHORIZED"), (RateLimited(), "RATE_LIMITED")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_specifications_error_codes_are_these(refused: Refused, code: str) -> None:
    assert json.loads(make_wire().error(refused, None, 0.0))["data"]["code"] == code


def test_a_failure_of_ours_is_the_specifications_internal_error() -> None:
    assert make_wire().error(None, None, 0.0) == (
        '{"type":"error","data":{"message":"Server error.","code":"INTERNAL_ERROR"},'
        '"timestamp":"1970-01-01T00:00:00.000Z"}'
    )


def test_no_close_code_has_a_reason_too_long_for_its_frame() -> None:
    assert all(len(code.reason.encode()) <= 123 for code in CloseCode)
