"""A frame, the event in it, whether it came before; and an error as the exception that it stands for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackfield import ClientEvent, Refused, ServerEvent
from jackfield._refusals import InternalError, OtherRefusal, refusal
from jackfield._registry import Registry
from jackfield.client import Unknown
from jackfield.client._ending import Ended
from jackfield.client._frames import REMEMBERED, Frame, Seen, Vocabulary, frame_of
from jackfield.errors import InvalidEvent, InvalidToken, RateLimited, Unauthorized
from jackfield.events import TypingIndicator, TypingStop


class Knock(ClientEvent, type="client_test.knock"):
    door: str
    loud: bool | None = None


class Opened(ServerEvent, type="client_test.opened"):
    door: str


class DoorLocked(Refused):
    """This door is locked."""

    code = "DOOR_LOCKED"


class DoorGone(Refused):
    """There was a door."""

    code = "DOOR_GONE"

    def __init__(self, door: str) -> None:
        super().__init__()
        self.door = door


@pytest.mark.parametrize(
    "text",
    [
        *("", "hello", "{", "null", "7", '"hello"', "[]", "{}", "\ud800", "[" * 5000),
        *('{"type":7}', '{"type":null}', '{"data":{}}'),
        *('{"type":"x","data":null}', '{"type":"x","data":[]}', '{"type":"x","data":"y"}'),
    ],
)
def test_what_is_no_frame_ends_the_line(text: str) -> None:
    with pytest.raises(Ended) as ended:
        frame_of(text)
    assert ended.value.ending.verdict == "again"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON | st.fixed_dictionaries({"type": st.sampled_from(["hello", "error", "x"]), "data": JSON, "cursor": JSON}))
def test_whatever_it_is_it_is_a_frame_or_an_end(value: Any) -> None:
    try:
        frame = frame_of(json.dumps(value))
    except Ended:
        return
    assert isinstance(frame.cursor, str | None)
    assert isinstance(Vocabulary(Registry()).event(frame), ServerEvent | Unknown)
    assert isinstance(refusal(frame.data), Refused)


def test_where_the_cursor_stands() -> None:
    assert frame_of('{"type":"pong","cursor":"c7"}') == Frame("pong", {}, "c7")
    assert frame_of('{"type":"pong"}') == Frame("pong", {})
    assert frame_of('{"type":"hello","data":{"cursor":"c7"},"cursor":"no"}').cursor == "c7"
    assert frame_of('{"type":"x","data":{"cursor":"of the event"}}').cursor is None
    assert frame_of('{"type":"x","cursor":7}').cursor is None
    assert frame_of('{"type":"x","cursor":""}').cursor is None


def test_a_cursor_counts_as_seen_for_the_next_thousand() -> None:
    seen = Seen()
    assert not seen.before("0")
    assert seen.before("0")
    assert not any(seen.before(str(number)) for number in range(1, REMEMBERED))
    assert seen.before("0")
    assert not seen.before("one more")
    assert not seen.before("0")


def test_events() -> None:
    registry = Registry()
    for event in (Knock, Opened):
        registry.add("here", event)
    known = Vocabulary(registry)
    assert known.event(Frame("client_test.opened", {"door": "d", "later": 1})) == Opened("d")
    assert known.event(Frame("typing.stop", {"channel_id": "c", "user_id": "u"})) == TypingStop("c", "u")
    assert known.event(Frame("client_test.opened", {"door": 7})) == Unknown("client_test.opened", {"door": 7})
    assert known.event(Frame("client_test.knock", {"door": "d"})) == Unknown("client_test.knock", {"door": "d"})
    assert known.event(Frame("what", {})) == Unknown("what", {})
    assert known.flat(Knock("d")) == {"type": "client_test.knock", "door": "d"}
    assert known.flat(TypingIndicator("c", True)) == {"type": "typing", "channel_id": "c", "is_typing": True}
    assert known.flat({"type": "free", "x": 1}) == {"type": "free", "x": 1}


@pytest.mark.parametrize(
    ("data", "kind", "text", "detail"),
    [
        ({"code": "UNAUTHORIZED", "message": "m"}, Unauthorized, "User not authorized.", None),
        ({"code": "INVALID_TOKEN"}, InvalidToken, "Authentication token is invalid.", None),
        ({"code": "DOOR_LOCKED"}, DoorLocked, "This door is locked.", None),
        ({"code": "DOOR_GONE", "message": "gone"}, OtherRefusal, "gone", None),
        ({"code": "INVALID_EVENT", "detail": "$.a: expected"}, InvalidEvent, "$.a: expected", "$.a: expected"),
        ({"code": "INTERNAL_ERROR", "detail": "UNKNOWN_EVENT"}, InternalError, "Server error.", "UNKNOWN_EVENT"),
        ({"code": "NEW_ONE", "message": "later"}, OtherRefusal, "later", None),
        ({}, OtherRefusal, Refused.text(), None),
        ({"code": 7, "message": None, "detail": []}, OtherRefusal, Refused.text(), None),
    ],
)
def test_refusals(data: dict[str, Any], kind: type[Refused], text: str, detail: str | None) -> None:
    made = refusal(data)
    assert type(made) is kind
    assert str(made) == text
    assert made.detail == detail
    assert made.code == (data.get("code") if isinstance(data.get("code"), str) else "")


@pytest.mark.parametrize(
    ("milliseconds", "seconds"), [(2500, 2.5), (0, 0.001), (-9, 0.001), (None, 1.0), ("5", 1.0), (1.5, 0.0015)]
)
def test_a_limit_says_when(milliseconds: Any, seconds: float) -> None:
    made = refusal({"code": "RATE_LIMITED", "retry_after_ms": milliseconds})
    assert isinstance(made, RateLimited)
    assert made.retry_after == seconds
    assert refusal({"code": "RATE_LIMITED"}).code == "RATE_LIMITED"
