"""What a client may send and what it gets for it: sections 3 and 6 of the wire, row by row."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jackfield import ClientEvent, CloseCode, Settings, hookimpl, on
from jackfield._registry import Registry
from jackfield._wire import Incoming, Rejected, Wire
from jackfield.events import Id, Ping, TypingIndicator, TypingStart
from jackfield.testing import Client, bench
from jackfield_typing import Typing

KIB16 = 16 * 1024
OK_TYPING = TypingIndicator("c1", True)


class Tally(ClientEvent, type="tally"):
    """A number."""

    n: int


class Named(ClientEvent, type="named"):
    """All that is optional."""

    name: str | None = None
    by: Id | None = None


class Page:
    """Brings the events of this page."""

    name = "page"

    @hookimpl
    def register_events(self) -> list[type[ClientEvent]]:
        return [Tally, Named]


def make_wire() -> Wire:
    registry = Registry()
    registry.add("typing", TypingIndicator)
    registry.add("tests", Tally)
    registry.add("tests", Named)
    return Wire(registry, max_bytes=KIB16)


WIRE = make_wire()


def refused(text: str) -> tuple[str, str | None]:
    """Code and detail of the answer."""
    with pytest.raises(Rejected) as caught:
        WIRE.decode(text, "w")
    return caught.value.refused.code, caught.value.refused.detail


def typing(**changed: Any) -> str:
    """A `typing`, flat, with some of it changed; `...` leaves a key out."""
    fields = {"type": "typing", "channel_id": "c1", "is_typing": True} | changed
    return json.dumps({key: value for key, value in fields.items() if value is not ...})


def nested(depth: int) -> str:
    """A ping of so many levels; the event itself is the first."""
    return f'{{"type":"ping","x":{"[" * (depth - 1)}{"]" * (depth - 1)}}}'


def keyed(count: int) -> str:
    """A ping of so many keys."""
    return json.dumps({"type": "ping", **{f"k{n}": n for n in range(count - 1)}})


def listed(count: int, item: object = 0) -> str:
    """A ping with so many items."""
    return json.dumps({"type": "ping", "x": [item] * count})


NOT_JSON = "$: expected JSON"
NOT_OBJECT = "$: expected an object"
NO_TYPE = "$.type: expected a string of 1 to 64 characters"
NO_ID = "$.channel_id: expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -"
NO_BOOL = "$.is_typing: expected true or false"
NO_REF = "$.ref: expected a string of at most 64 characters, or an integer"
NO_INTEGER = "$.n: expected an integer within ±2^53"
TOO_DEEP = "$: expected at most 32 levels"
TOO_MANY_KEYS = "$: expected at most 64 keys in an object"
TOO_MANY_ITEMS = "$: expected at most 1000 items in an array"
OTHER_WORKSPACE = "$.workspace_id: expected this connection's workspace"

INVALID = {
    # not an object of JSON
    "empty text": ("", NOT_JSON),
    "white space only": (" \t\r\n", NOT_JSON),
    "a word": ("hello", NOT_JSON),
    "half an object": ('{"type":"ping"', NOT_JSON),
    "single quotes": ("{'type':'ping'}", NOT_JSON),
    "a trailing comma": ('{"type":"ping",}', NOT_JSON),
    "a comment": ('{"type":"ping"} // so', NOT_JSON),
    "a BOM first": ('\ufeff{"type":"ping"}', NOT_JSON),
    "two values in one frame": ('{"type":"ping"}{"type":"ping"}', NOT_JSON),
    "two values on two lines": ('{"type":"ping"}\n{"type":"ping"}', NOT_JSON),
    "white space that is not JSON's": ('\u00a0{"type":"ping"}', NOT_JSON),
    "an escape before it": ('\x1b[31m{"type":"ping"}', NOT_JSON),
    "a raw newline in a string": ('{"type":"pi\nng"}', NOT_JSON),
    "null": ("null", NOT_OBJECT),
    "a number": ("1", NOT_OBJECT),
    "a string": ('"ping"', NOT_OBJECT),
    "an array": ('[{"type":"ping"}]', NOT_OBJECT),
    "true": ("true", NOT_OBJECT),
    # numbers and strings that JSON has not
    "NaN": ('{"type":"ping","x":NaN}', NOT_JSON),
    "Infinity": ('{"type":"ping","x":Infinity}', NOT_JSON),
    "-Infinity": ('{"type":"ping","x":-Infinity}', NOT_JSON),
    "1e999": ('{"type":"ping","x":1e999}', NOT_JSON),
    "a leading zero": ('{"type":"ping","x":01}', NOT_JSON),
    "a lone high surrogate, escaped": ('{"type":"ping","x":"\\ud800"}', NOT_JSON),
    "a lone low surrogate, escaped": ('{"type":"ping","x":"\\udc00"}', NOT_JSON),
    "a lone surrogate in a key": ('{"type":"ping","\\ud800":1}', NOT_JSON),
    "a lone surrogate as it is": ('{"type":"ping","x":"\ud800"}', NOT_JSON),
    # type
    "no type": ("{}", NO_TYPE),
    "no type, but data": ('{"data":{"type":"ping"}}', NO_TYPE),
    "type null": ('{"type":null}', NO_TYPE),
    "type a number": ('{"type":1}', NO_TYPE),
    "type a list": ('{"type":["ping"]}', NO_TYPE),
    "type an object": ('{"type":{"ping":1}}', NO_TYPE),
    "type empty": ('{"type":""}', NO_TYPE),
    "type of 65 characters": (json.dumps({"type": "t" * 65}), NO_TYPE),
    "type of 10 KB": (json.dumps({"type": "t" * 10_000}), NO_TYPE),
    # the fields of typing
    "typing without channel_id": (typing(channel_id=...), "$.channel_id: required"),
    "typing without is_typing": (typing(is_typing=...), "$.is_typing: required"),
    "is_typing yes": (typing(is_typing="yes"), NO_BOOL),
    "is_typing true in quotes": (typing(is_typing="true"), NO_BOOL),
    "is_typing 1": (typing(is_typing=1), NO_BOOL),
    "is_typing 0": (typing(is_typing=0), NO_BOOL),
    "is_typing null": (typing(is_typing=None), NO_BOOL),
    "is_typing a list": (typing(is_typing=[]), NO_BOOL),
    "channel_id a number": (typing(channel_id=1), NO_ID),
    "channel_id true": (typing(channel_id=True), NO_ID),
    "channel_id null": (typing(channel_id=None), NO_ID),
    "channel_id a list": (typing(channel_id=["c1"]), NO_ID),
    "channel_id an object": (typing(channel_id={"id": "c1"}), NO_ID),
    "channel_id empty": (typing(channel_id=""), NO_ID),
    "channel_id of 129 characters": (typing(channel_id="c" * 129), NO_ID),
    "channel_id of 10 KB": (typing(channel_id="c" * 10_000), NO_ID),
    "channel_id with a space": (typing(channel_id="c 1"), NO_ID),
    "channel_id with a slash": (typing(channel_id="../c1"), NO_ID),
    "channel_id with a newline at its end": (typing(channel_id="c1\n"), NO_ID),
    "channel_id with CR and LF": (typing(channel_id="c1\r\nset-cookie: a"), NO_ID),
    "channel_id with an ANSI escape": (typing(channel_id="\x1b[31mc1"), NO_ID),
    "channel_id with a NUL": (typing(channel_id="c1\x00"), NO_ID),
    "channel_id of digits that are not ASCII": (typing(channel_id="c\u0661"), NO_ID),
    "channel_id of letters that look like ASCII": (typing(channel_id="\u04411"), NO_ID),
    "the first wrong field is named": (typing(channel_id=1, is_typing="yes"), NO_ID),
    # data
    "data null": ('{"type":"ping","data":null}', "$.data: expected an object"),
    "data a list": ('{"type":"ping","data":[]}', "$.data: expected an object"),
    "data a string": ('{"type":"ping","data":"{}"}', "$.data: expected an object"),
    "data a number": (typing(data=1), "$.data: expected an object"),
    "a field inside of data is wrong": (
        '{"type":"typing","data":{"channel_id":"c1","is_typing":1}}',
        "$.data.is_typing: expected true or false",
    ),
    "a field is missing in data": (
        '{"type":"typing","data":{"channel_id":"c1"}}',
        "$.data.is_typing: required",
    ),
    "a field outside of an empty data": (typing(data={}), "$.channel_id: expected inside data"),
    "a field outside of data, and another inside": (
        '{"type":"typing","is_typing":true,"data":{"channel_id":"c1"}}',
        "$.is_typing: expected inside data",
    ),
    "a field outside of data, and inside as well": (
        '{"type":"typing","channel_id":"c1","data":{"channel_id":"c1","is_typing":true}}',
        "$.channel_id: expected inside data",
    ),
    "an optional field outside of data": ('{"type":"named","name":"n","data":{}}', "$.name: expected inside data"),
    "an optional field that is null": ('{"type":"named","name":null}', "$.name: expected a string"),
    "an optional id that is null": (
        '{"type":"named","by":null}',
        "$.by: expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -",
    ),
    # workspace_id
    "another workspace": (typing(workspace_id="beta"), OTHER_WORKSPACE),
    "the workspace in other letters": (typing(workspace_id="W"), OTHER_WORKSPACE),
    "workspace_id null": (typing(workspace_id=None), OTHER_WORKSPACE),
    "workspace_id a list": (typing(workspace_id=["w"]), OTHER_WORKSPACE),
    "another workspace on a ping": ('{"type":"ping","workspace_id":"beta"}', OTHER_WORKSPACE),
    "another workspace on an unknown event": ('{"type":"nothing","workspace_id":"beta"}', OTHER_WORKSPACE),
    # ref
    "ref of 65 characters": (typing(ref="r" * 65), NO_REF),
    "ref null": (typing(ref=None), NO_REF),
    "ref true": (typing(ref=True), NO_REF),
    "ref a fraction": (typing(ref=1.5), NO_REF),
    "ref a whole number with a point": ('{"type":"ping","ref":1.0}', NO_REF),
    "ref a list": (typing(ref=[1]), NO_REF),
    "ref an object": (typing(ref={}), NO_REF),
    "ref 2^53+1": (typing(ref=2**53 + 1), NO_REF),
    "ref -2^53-1": (typing(ref=-(2**53) - 1), NO_REF),
    "ref 2^64": (typing(ref=2**64), NO_REF),
    # integers
    "2^53+1 in an integer field": (json.dumps({"type": "tally", "n": 2**53 + 1}), NO_INTEGER),
    "-2^53-1 in an integer field": (json.dumps({"type": "tally", "n": -(2**53) - 1}), NO_INTEGER),
    "2^64 in an integer field": (json.dumps({"type": "tally", "n": 2**64}), NO_INTEGER),
    "1.0 in an integer field": ('{"type":"tally","n":1.0}', NO_INTEGER),
    "1e3 in an integer field": ('{"type":"tally","n":1e3}', NO_INTEGER),
    "true in an integer field": ('{"type":"tally","n":true}', NO_INTEGER),
    "a text in an integer field": ('{"type":"tally","n":"1"}', NO_INTEGER),
    # limits
    "depth 33": (nested(33), TOO_DEEP),
    "depth 33 in objects": ('{"type":"ping","x":' + '{"x":' * 32 + "1" + "}" * 32 + "}", TOO_DEEP),
    "depth 33 in data": ('{"type":"ping","data":{"x":' + "[" * 31 + "]" * 31 + "}}", TOO_DEEP),
    "depth 33 in an unknown event": (nested(33).replace("ping", "nothing"), TOO_DEEP),
    "depth 1000": (nested(1000), TOO_DEEP),
    "deeper than the parser goes": (nested(3000), NOT_JSON),
    "65 keys": (keyed(65), TOO_MANY_KEYS),
    "65 keys in data": (json.dumps({"type": "ping", "data": {f"k{n}": n for n in range(65)}}), TOO_MANY_KEYS),
    "65 keys in an object in an array": (
        json.dumps({"type": "ping", "x": [{f"k{n}": n for n in range(65)}]}),
        TOO_MANY_KEYS,
    ),
    "1,001 items": (listed(1001), TOO_MANY_ITEMS),
    "1,001 items in an array in an array": (json.dumps({"type": "ping", "x": [[0] * 1001]}), TOO_MANY_ITEMS),
    "1,001 empty arrays": (listed(1001, []), TOO_MANY_ITEMS),
}

UNKNOWN = {
    "capitals": '{"type":"PING"}',
    "a space behind": '{"type":"ping "}',
    "a space before": '{"type":" ping"}',
    "a newline behind": '{"type":"ping\\n"}',
    "a NUL behind": '{"type":"ping\\u0000"}',
    "letters that look like ASCII": '{"type":"р\u0456ng"}',
    "__class__": '{"type":"__class__"}',
    "__init__": '{"type":"__init__"}',
    "on_connect": '{"type":"on_connect"}',
    "on_typing": '{"type":"on_typing"}',
    "the name of a class": '{"type":"TypingIndicator"}',
    "the name of a hook": '{"type":"authenticate"}',
    "message.new": '{"type":"message.new"}',
    "message.new, whole": '{"type":"message.new","data":{"id":"m","channel_id":"c1","user_id":"u","content":"x",'
    '"created_at":"2024-01-01T12:00:00.000Z"}}',
    "hello": '{"type":"hello"}',
    "pong": '{"type":"pong"}',
    "ack": '{"type":"ack"}',
    "error": '{"type":"error"}',
    "an event that nobody registered": '{"type":"poll.vote"}',
    "a dotted path": '{"type":"typing.__class__"}',
    "64 characters": json.dumps({"type": "t" * 64}),
    "with data that is no object": '{"type":"nothing","data":[]}',
    "CR, LF and an escape": '{"type":"a\\r\\n\\u001b[31mb"}',
}

ACCEPTED: dict[str, tuple[str, Incoming]] = {
    "white space round it": (' \t\r\n{"type":"ping"}\r\n ', Incoming(Ping(), None)),
    "white space inside": ('{ "type" :\n"ping" }', Incoming(Ping(), None)),
    "an escaped type": ('{"type":"\\u0070ing"}', Incoming(Ping(), None)),
    "ping with an empty data": ('{"type":"ping","data":{}}', Incoming(Ping(), None)),
    "ping with any data": ('{"type":"ping","data":{"a":[1,{"b":null}]}}', Incoming(Ping(), None)),
    "ping with more keys": ('{"type":"ping","x":1,"on_connect":[]}', Incoming(Ping(), None)),
    "typing, flat": (typing(), Incoming(OK_TYPING, None)),
    "typing, in data": (
        '{"type":"typing","data":{"channel_id":"c1","is_typing":true}}',
        Incoming(OK_TYPING, None),
    ),
    "typing, false": (typing(is_typing=False), Incoming(TypingIndicator("c1", False), None)),
    "typing with more keys": (typing(x=[1], __class__="x"), Incoming(OK_TYPING, None)),
    "typing with more keys in data": (
        '{"type":"typing","data":{"channel_id":"c1","is_typing":true,"type":"ping","ref":1}}',
        Incoming(OK_TYPING, None),
    ),
    "more keys beside data": (
        '{"type":"typing","x":1,"data":{"channel_id":"c1","is_typing":true}}',
        Incoming(OK_TYPING, None),
    ),
    "somebody else's user_id": (typing(user_id="bob"), Incoming(OK_TYPING, None)),
    "somebody else's user_id beside data": (
        '{"type":"typing","user_id":"bob","data":{"channel_id":"c1","is_typing":true}}',
        Incoming(OK_TYPING, None),
    ),
    "the connection's workspace": (typing(workspace_id="w"), Incoming(OK_TYPING, None)),
    "a workspace inside of data is just a key": (
        '{"type":"ping","data":{"workspace_id":"beta"}}',
        Incoming(Ping(), None),
    ),
    "any timestamp": (typing(timestamp="yesterday"), Incoming(OK_TYPING, None)),
    "a timestamp that is null": (typing(timestamp=None), Incoming(OK_TYPING, None)),
    "a key twice, the last wins": ('{"type":"typing","type":"ping"}', Incoming(Ping(), None)),
    "a field twice, the last wins": (
        '{"type":"typing","channel_id":7,"is_typing":false,"channel_id":"c1","is_typing":true}',
        Incoming(OK_TYPING, None),
    ),
    "an id of 128 characters": (typing(channel_id="c" * 128), Incoming(TypingIndicator("c" * 128, True), None)),
    "an id of all that it may have": (
        typing(channel_id="AZaz09._:@-"),
        Incoming(TypingIndicator("AZaz09._:@-", True), None),
    ),
    "a pair of surrogates": ('{"type":"named","name":"\\ud83d\\udc4d"}', Incoming(Named("👍"), None)),
    "controls and escapes in a text": (
        '{"type":"named","name":"a\\r\\n\\u001b[31m\\u0000"}',
        Incoming(Named("a\r\n\x1b[31m\x00"), None),
    ),
    "an optional field left out": ('{"type":"named"}', Incoming(Named(), None)),
    "ref, a string": (typing(ref="a"), Incoming(OK_TYPING, "a")),
    "ref, an empty string": (typing(ref=""), Incoming(OK_TYPING, "")),
    "ref of 64 characters": (typing(ref="r" * 64), Incoming(OK_TYPING, "r" * 64)),
    "ref of 64 characters, not of 64 bytes": (typing(ref="👍" * 64), Incoming(OK_TYPING, "👍" * 64)),
    "ref, an integer": (typing(ref=7), Incoming(OK_TYPING, 7)),
    "ref 0": (typing(ref=0), Incoming(OK_TYPING, 0)),
    "ref 2^53": (typing(ref=2**53), Incoming(OK_TYPING, 2**53)),
    "ref -2^53": (typing(ref=-(2**53)), Incoming(OK_TYPING, -(2**53))),
    "ref beside data": ('{"type":"ping","ref":1,"data":{"ref":2}}', Incoming(Ping(), 1)),
    "ref inside of data is just a key": ('{"type":"ping","data":{"ref":2}}', Incoming(Ping(), None)),
    "2^53 in an integer field": (json.dumps({"type": "tally", "n": 2**53}), Incoming(Tally(2**53), None)),
    "-2^53 in an integer field": (json.dumps({"type": "tally", "n": -(2**53)}), Incoming(Tally(-(2**53)), None)),
    "a big number where nobody looks": ('{"type":"ping","x":1e300}', Incoming(Ping(), None)),
    "depth 32": (nested(32), Incoming(Ping(), None)),
    "depth 32 in objects": ('{"type":"ping","x":' + '{"x":' * 31 + "1" + "}" * 31 + "}", Incoming(Ping(), None)),
    "64 keys": (keyed(64), Incoming(Ping(), None)),
    "64 keys in data": (
        json.dumps({"type": "ping", "data": {f"k{n}": n for n in range(64)}}),
        Incoming(Ping(), None),
    ),
    "64 keys in each of many objects": (
        json.dumps({"type": "ping", "x": [{f"{n}": 0 for n in range(64)}] * 20}),
        Incoming(Ping(), None),
    ),
    "1,000 items": (listed(1000), Incoming(Ping(), None)),
    "1,000 items, empty arrays": (listed(1000, []), Incoming(Ping(), None)),
    "1,000 items twice": (json.dumps({"type": "ping", "x": [0] * 1000, "y": [0] * 1000}), Incoming(Ping(), None)),
    "brackets in a text are no levels": (json.dumps({"type": "ping", "x": "[{" * 999}), Incoming(Ping(), None)),
    "colons and commas in a text count nothing": (
        json.dumps({"type": "ping", "x": ":," * 2000}),
        Incoming(Ping(), None),
    ),
}


def rows(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(*(row if isinstance(row, tuple) else (row,)), id=name) for name, row in table.items()]


@pytest.mark.parametrize(("text", "detail"), rows(INVALID))
def test_it_is_invalid_and_the_detail_names_the_field(text: str, detail: str) -> None:
    assert refused(text) == ("INVALID_EVENT", detail)


@pytest.mark.parametrize("text", rows(UNKNOWN))
def test_a_type_that_no_plugin_owns_is_unknown(text: str) -> None:
    assert refused(text) == ("UNKNOWN_EVENT", None)


@pytest.mark.parametrize(("text", "incoming"), rows(ACCEPTED))
def test_it_is_accepted(text: str, incoming: Incoming) -> None:
    assert WIRE.decode(text, "w") == incoming


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ('{"type":"nothing","ref":"r"}', "r"),
        ('{"type":"","ref":7}', 7),
        ('{"type":"typing","ref":"r"}', "r"),
        ('{"type":"ping","ref":0,"workspace_id":"beta"}', 0),
        ('{"type":"ping","ref":"","data":null}', ""),
        ('{"type":"typing","ref":"r","channel_id":"c1","data":{}}', "r"),
        (nested(33).replace('"ping"', '"ping","ref":"r"'), "r"),
        ('{"type":"ping","ref":null}', None),
        ('{"type":"ping","ref":"' + "r" * 65 + '"}', None),
        ('{"type":"ping","ref":true}', None),
        ('{"type":"ping","ref":"r"', None),
        ('["ref"]', None),
    ],
)
def test_a_refusal_knows_its_ref_wherever_it_could_be_read(text: str, ref: str | int | None) -> None:
    with pytest.raises(Rejected) as caught:
        WIRE.decode(text, "w")
    assert caught.value.ref == ref


@pytest.mark.parametrize(
    ("text", "too_big"),
    [
        pytest.param("a" * KIB16, False, id="16 KiB of ASCII"),
        pytest.param("a" * (KIB16 + 1), True, id="one more"),
        pytest.param("é" * (KIB16 // 2), False, id="16 KiB in two bytes each"),
        pytest.param("é" * (KIB16 // 2) + "a", True, id="one more than 16 KiB in two bytes each"),
        pytest.param("👍" * (KIB16 // 4), False, id="16 KiB in four bytes each"),
        pytest.param("👍" * (KIB16 // 4) + "a", True, id="one more than 16 KiB in four bytes each"),
        pytest.param("", False, id="nothing"),
        pytest.param("\ud800", False, id="what is no text, and is refused later"),
    ],
)
def test_the_limit_of_a_message_is_in_bytes_of_utf8(text: str, too_big: bool) -> None:
    assert WIRE.too_big(text) is too_big


# --- the same, through a connection


@pytest.mark.parametrize(("text", "detail"), rows(INVALID))
async def test_an_invalid_event_is_answered_and_the_connection_stays(text: str, detail: str) -> None:
    async with bench(Typing, Page) as b:
        alice = await b.connect("alice", channels=["c1"])
        await alice.send(text)
        error = await alice.receive_frame()
        assert list(error) == ["type", "data", "timestamp"]
        assert {key: value for key, value in error["data"].items() if key != "ref"} == {
            "message": "The event is not valid.",
            "code": "INVALID_EVENT",
            "detail": detail,
        }
        await alice.send('{"type":"ping"}')
        assert await alice.receive_frame() == {"type": "pong"}


@pytest.mark.parametrize("text", rows(UNKNOWN))
async def test_an_unknown_event_is_answered_and_the_connection_stays(text: str) -> None:
    async with bench(Typing) as b:
        alice = await b.connect("alice", channels=["c1"])
        await alice.send(text)
        error = await alice.receive_frame()
        assert error["data"] == {"message": "No such event.", "code": "UNKNOWN_EVENT"}
        await alice.send('{"type":"ping"}')
        assert await alice.receive_frame() == {"type": "pong"}


FORGED = "\r\n\x1b[31mforged line"


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": FORGED}, "UNKNOWN_EVENT"),
        ({"type": FORGED * 9}, "INVALID_EVENT"),
        ({"type": "typing", "channel_id": FORGED, "is_typing": True}, "INVALID_EVENT"),
        ({"type": "typing", "channel_id": "c1", "is_typing": FORGED}, "INVALID_EVENT"),
        ({"type": "named", "by": FORGED}, "INVALID_EVENT"),
        ({"type": "ping", "workspace_id": FORGED}, "INVALID_EVENT"),
        ({"type": "ping", "data": FORGED}, "INVALID_EVENT"),
        ({"type": "ping", "ref": FORGED * 9}, "INVALID_EVENT"),
        ({"type": "named", "name": FORGED}, "INTERNAL_ERROR"),  # a text may have them: its handler fails
        ({"type": "named", "name": "x", FORGED: FORGED}, "INTERNAL_ERROR"),
        ({"type": "typing", "channel_id": "c1", "is_typing": True, "ref": FORGED}, "INTERNAL_ERROR"),
        (FORGED, "INVALID_EVENT"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isupper() else None,
)
async def test_line_ends_and_escapes_make_no_line_in_any_log(
    event: Any, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Page):
        @on(Named)
        async def named(self) -> None:
            raise RuntimeError

    caplog.set_level(0)
    async with bench(Typing, Fails) as b:
        alice = await b.connect("alice", channels=["c1"])
        b.nodes[0].partition()
        await alice.send(event)
        error = await alice.receive_frame()
        assert error["data"]["code"] == code
        assert "forged" not in json.dumps({**error["data"], "ref": None})
        b.nodes[0].heal()
    assert "forged" not in caplog.text
    assert not any("\n" in record.getMessage() for record in caplog.records)


async def test_a_binary_frame_closes_1003() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(b'{"type":"ping"}')
        assert (await alice.closed()).code == CloseCode.UNSUPPORTED == 1003
        assert len(alice.frames) == 1  # hello


async def test_16_kib_are_read() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send('{"type":"ping"}'.ljust(KIB16))
        assert await alice.receive_frame() == {"type": "pong"}


async def test_more_than_16_kib_are_answered_and_then_close_1009() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send('{"type":"ping"}'.ljust(KIB16 + 1))
        error = await alice.receive_frame()
        assert error["data"] == {
            "message": "The event is not valid.",
            "code": "INVALID_EVENT",
            "detail": "$: expected at most 16384 bytes",
        }
        assert (await alice.closed()).code == CloseCode.TOO_BIG == 1009


async def test_what_is_too_big_is_no_strike_and_what_came_before_it_is_handled() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(9):
            await alice.send("no json")
        await alice.send({"type": "ping"})
        await alice.send("x" * (KIB16 + 1))
        assert [frame["type"] for frame in await frames(alice)] == ["hello", *["error"] * 9, "pong", "error"]
        assert (await alice.closed()).code == 1009


async def frames(client: Client) -> list[dict[str, Any]]:
    await client.pending()
    return client.frames


async def test_the_limit_of_a_message_can_be_set() -> None:
    async with bench(settings=Settings(max_event_bytes=15)) as b:
        alice = await b.connect("alice")
        assert alice.hello.limits == {"max_event_bytes": 15}
        await alice.send('{"type":"ping"}')
        assert await alice.receive_frame() == {"type": "pong"}
        await alice.send('{"type":"ping"} ')
        assert (await alice.closed()).code == 1009


@pytest.mark.parametrize("data", ["{}", '{"a":"b"}', '{"ref":1}', '{"type":"typing","channel_id":1}'])
async def test_a_ping_with_any_data_is_answered_and_nothing_of_it_is_echoed(data: str) -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(f'{{"type":"ping","data":{data}}}')
        assert await alice.receive_frame() == {"type": "pong"}


@pytest.mark.parametrize("ref", ["r", "", 0, -7, 2**53, "👍" * 64])
async def test_a_ref_comes_back_in_whatever_answers(ref: str | int) -> None:
    async with bench(Typing) as b:
        alice = await b.connect("alice", channels=["c1"])
        await alice.send({"type": "ping"}, ref=ref)
        assert await alice.receive_frame() == {"type": "pong", "ref": ref}
        await alice.send({"type": "nothing"}, ref=ref)
        assert (await alice.receive_frame())["data"]["ref"] == ref
        await alice.send(OK_TYPING, ref=ref)
        ack = await alice.receive_frame()
        assert list(ack) == ["type", "data", "workspace_id", "timestamp"]
        assert (ack["type"], ack["data"], ack["workspace_id"]) == ("ack", {"ref": ref}, "w")


async def test_without_a_ref_there_is_no_ack() -> None:
    async with bench(Typing) as b:
        alice = await b.connect("alice", channels=["c1"])
        await alice.send(OK_TYPING)
        assert await alice.pending() == []


@pytest.mark.parametrize("channel_id", ["secret", "nowhere"])
async def test_a_channel_that_is_not_visible_and_one_that_is_not_there_get_the_same_bytes(channel_id: str) -> None:
    async with bench(Typing) as b:
        await b.connect("bob", channels=["secret"])
        alice = await b.connect("alice", channels=["c1"])
        await alice.send({"type": "typing", "channel_id": channel_id, "is_typing": True})
        error = await alice.receive_frame()
        assert error["data"] == {"message": "User not authorized.", "code": "UNAUTHORIZED"}
        assert await alice.pending() == []


async def test_whoever_names_another_user_still_types_as_himself() -> None:
    async with bench(Typing) as b:
        alice = await b.connect("alice", channels=["c1"])
        bob = await b.connect("bob", channels=["c1"])
        await alice.send({"type": "typing", "channel_id": "c1", "is_typing": True, "user_id": "bob"})
        assert await bob.receive(TypingStart) == TypingStart("c1", "alice")
