"""The two directions of one application. Pure; the tables of the wire themselves stand in `tests/wire`."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from jackfield import ServerEvent
from jackfield._registry import Registry
from jackfield._wire import MAX_DEPTH, MAX_ITEMS, MAX_KEYS, MAX_REF, MAX_TYPE, Incoming, Rejected, Wire
from jackfield.errors import InvalidEvent
from jackfield.events import Event, MemberLeft, MessageNew, Ping, TypingIndicator

NOON = "2024-01-01T12:00:00.000Z"
HI = MessageNew("m1", "c1", "alice", "hi", NOON)
TYPING = '{"type":"typing","channel_id":"c1","is_typing":true}'


class Letters(ServerEvent, type="letters"):
    """Text."""

    text: str


def wire_with(*events: type[Event], max_bytes: int = 16384) -> Wire:
    registry = Registry()
    for event in events:
        registry.add("tests", event)
    return Wire(registry, max_bytes=max_bytes)


def test_the_limits_are_those_of_the_page() -> None:
    assert (MAX_DEPTH, MAX_KEYS, MAX_ITEMS, MAX_TYPE, MAX_REF) == (32, 64, 1000, 64, 64)


def test_a_wire_reads_what_its_registry_had() -> None:
    assert wire_with(TypingIndicator).decode(TYPING, "w") == Incoming(TypingIndicator("c1", True), None)
    with pytest.raises(Rejected) as caught:
        wire_with().decode(TYPING, "w")
    assert caught.value.refused.code == "UNKNOWN_EVENT"


def test_two_applications_know_nothing_of_each_others_events() -> None:
    one, other = wire_with(TypingIndicator), wire_with()
    assert one.decode('{"type":"ping"}', "w") == other.decode('{"type":"ping"}', "w") == Incoming(Ping(), None)
    with pytest.raises(Rejected):
        other.decode(TYPING, "w")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_704_110_400, "2024-01-01T12:00:00.000Z"),
        (1_704_110_400.001, "2024-01-01T12:00:00.001Z"),
        (1_704_110_400.1239, "2024-01-01T12:00:00.123Z"),
        (1_704_110_400.9999, "2024-01-01T12:00:00.999Z"),
    ],
)
def test_a_stamp_is_utc_with_milliseconds_and_z_and_never_ahead(seconds: float, text: str) -> None:
    assert json.loads(wire_with().encode(MemberLeft("c1", "alice"), "w", seconds))["timestamp"] == text
    assert json.loads(wire_with().error(None, None, seconds))["timestamp"] == text


@pytest.mark.parametrize("text", ["</script>", "\u2028", "\x00\x1f", '"\\', "👍", "é", "\r\n\x1b[31m"])
def test_whatever_stands_in_a_text_is_one_line_of_json(text: str) -> None:
    frame = wire_with(Letters).encode(Letters(text), "w", 0.0)
    assert "\n" not in frame
    assert "\r" not in frame
    assert "\x1b" not in frame
    assert json.loads(frame)["data"] == {"text": text}


def test_the_same_event_is_the_same_bytes() -> None:
    assert wire_with().encode(HI, "w", 1.0) == wire_with().encode(HI, "w", 1.0)


def test_the_fields_of_any_event_can_be_had_alone() -> None:
    assert wire_with(TypingIndicator).data(TypingIndicator("c1", True)) == {"channel_id": "c1", "is_typing": True}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (MessageNew(1, "c1", "alice", "hi", NOON), "MessageNew.id: expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -"),  # type: ignore[arg-type]
        (MessageNew("m1", "c1", "alice", None, NOON), "MessageNew.content: expected a string"),  # type: ignore[arg-type]
        (
            MessageNew("m1", "c1", "alice", "hi", datetime(2024, 1, 1, tzinfo=UTC)),  # type: ignore[arg-type]
            "MessageNew.created_at: expected a timestamp such as 2024-01-01T12:00:00.000Z",
        ),
        (
            MessageNew("m1", "c1", "", 3, NOON),  # type: ignore[arg-type]
            "MessageNew.user_id: expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -; "
            "MessageNew.content: expected a string",
        ),
        (MessageNew("m1", "c1", "alice", "hi", NOON, reactions=3), "MessageNew.reactions: expected an array"),  # type: ignore[arg-type]
        (MessageNew("m1", "c1", "alice", "hi", NOON, attachments="a"), "MessageNew.attachments: expected an array"),
    ],
)
def test_what_a_host_made_is_looked_at_before_it_is_written(event: MessageNew, said: str) -> None:
    with pytest.raises(TypeError) as raised:
        wire_with().check(event)
    assert str(raised.value) == said


def test_what_is_right_passes() -> None:
    wire_with().check(HI)


def test_too_big_is_too_big_wherever_the_limit_is() -> None:
    wire = wire_with(max_bytes=4)
    assert [wire.too_big(text) for text in ("", "abcd", "abcde", "éé", "éée", "👍", "👍a")] == [
        False,
        False,
        True,
        False,
        True,
        False,
        True,
    ]


def test_reading_changes_nothing_so_that_it_can_be_done_again() -> None:
    wire = wire_with(TypingIndicator)
    assert wire.decode(TYPING, "w") == wire.decode(TYPING, "w")
    for _ in range(2):
        with pytest.raises(Rejected):
            wire.decode("nonsense", "w")


def test_a_rejection_hides_what_it_came_from() -> None:
    """Whoever logs it with its traceback must not log what the client sent."""
    with pytest.raises(Rejected) as caught:
        wire_with(TypingIndicator).decode('{"type":"typing","channel_id":"a secret","is_typing":1}', "w")
    assert caught.value.__suppress_context__
    assert isinstance(caught.value.refused, InvalidEvent)
    assert caught.value.refused.__suppress_context__
    assert "secret" not in repr(caught.value.refused)
    assert "secret" not in repr(caught.value)
