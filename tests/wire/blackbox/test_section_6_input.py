"""Section 6: bad input, and exactly what it gets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from outsider import Room, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.servers

KIB_16 = 16 * 1024


def nested(depth: int, inside: str = "1") -> str:
    return "[" * depth + inside + "]" * depth


def ping(data: str) -> str:
    return f'{{"type":"ping","data":{data}}}'


def padded(size: int, filler: str = "x") -> str:
    """A ping of exactly so many bytes."""
    bare = ping('{"x":""}')
    left = size - len(bare)
    text = filler * (left // len(filler.encode()))
    return ping(json.dumps({"x": text + "y" * (left - len(text.encode()))}, ensure_ascii=False).replace(": ", ":"))


INVALID = {
    "empty": "",
    "a space": " ",
    "not JSON": "nonsense",
    "half": '{"type":"ping"',
    "single quotes": "{'type':'ping'}",
    "a comma too many": '{"type":"ping",}',
    "a comment": '{"type":"ping"/**/}',
    "a BOM": '\ufeff{"type":"ping"}',
    "two values": '{"type":"ping"}{"type":"ping"}',
    "two lines": '{"type":"ping"}\n{"type":"ping"}',
    "something behind": '{"type":"ping"} x',
    "null": "null",
    "a number": "7",
    "a string": '"ping"',
    "a boolean": "true",
    "an array": '[{"type":"ping"}]',
    "an empty array": "[]",
    "no type": "{}",
    "no type but data": '{"data":{"type":"ping"}}',
    "type is a number": '{"type":7}',
    "type is null": '{"type":null}',
    "type is a list": '{"type":["ping"]}',
    "type is an object": '{"type":{"ping":1}}',
    "type is true": '{"type":true}',
    "type is empty": '{"type":""}',
    "type is too long": json.dumps({"type": "x" * 65}),
    "NaN": ping('{"x":NaN}'),
    "Infinity": ping('{"x":Infinity}'),
    "-Infinity": ping('{"x":-Infinity}'),
    "1e999": ping('{"x":1e999}'),
    "-1e999": ping('{"x":-1e999}'),
    "NaN beside": '{"type":"ping","x":NaN}',
    "1e999 beside": '{"type":"ping","x":1e999}',
    "a lone surrogate": ping(r'{"x":"\ud800"}'),
    "a lone low surrogate": ping(r'{"x":"\udc00"}'),
    "surrogates the wrong way": ping(r'{"x":"\udc00\ud800"}'),
    "a lone surrogate in a key": ping(r'{"\ud800":1}'),
    "a lone surrogate in a type": r'{"type":"\ud800"}',
    "depth 33": ping(f'{{"x":{nested(31)}}}'),
    "depth 33 of objects": ping('{"x":' * 32 + "1" + "}" * 32),
    "depth 33 beside": f'{{"type":"ping","x":{nested(32)}}}',
    "depth 4000": ping(nested(4000)),
    "depth 8000 unclosed": "[" * 8000,
    "depth 2000 of objects": '{"type":' * 1000 + "1" + "}" * 1000,
    "65 keys": ping(json.dumps({f"k{n}": n for n in range(65)})),
    "65 keys beside": json.dumps({"type": "ping"} | {f"k{n}": n for n in range(64)}),
    "65 keys further in": ping(json.dumps({"x": [{f"k{n}": n for n in range(65)}]})),
    "1001 items": ping(json.dumps({"x": [0] * 1001})),
    "1001 items further in": ping(json.dumps({"x": [[0] * 1001]})),
    "2^53+1 in a field": json.dumps({"type": "ping", "ref": 2**53 + 1}),
    "a raw control character": '{"type":"ping","data":{"x":"a\nb"}}',
    "a raw NUL": '{"type":"ping","data":{"x":"\x00"}}',
    "a leading zero": ping('{"x":01}'),
    "a plus": ping('{"x":+1}'),
    "a bare dot": ping('{"x":1.}'),
    "a bad escape": ping(r'{"x":"\x41"}'),
    "white space that is none": '\u00a0{"type":"ping"}',
    "a form feed": '\x0c{"type":"ping"}',
    "undefined": ping('{"x":undefined}'),
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
def test_what_is_invalid(room: Room, text: str) -> None:
    alice = room.enter()
    alice.send(text)
    data = alice.error("INVALID_EVENT")
    assert list(data) == ["message", "code", "detail"]
    assert isinstance(data["detail"], str)
    alice.alive()


VALID = {
    "white space round it": ' \t\r\n{"type":"ping"}\n\t \r',
    "white space inside": '{ "type" :\n"ping"\t}',
    "extra keys": '{"type":"ping","a":1,"b":[1],"c":{"d":null}}',
    "a key twice, the last wins": '{"type":"nobodys","type":"ping"}',
    "escapes": r'{"\u0074ype":"p\u0069ng"}',
    "a pair of surrogates": ping(r'{"x":"\ud83d\udc4d"}'),
    "empty data": ping("{}"),
    "much data": ping('{"type":"typing","data":{"ref":1},"workspace_id":"elsewhere","connection":7}'),
    "depth 32": ping(f'{{"x":{nested(30)}}}'),
    "depth 32 of objects": ping('{"x":' * 31 + "1" + "}" * 31),
    "64 keys": ping(json.dumps({f"k{n}": n for n in range(64)})),
    "64 keys with type": json.dumps({"type": "ping"} | {f"k{n}": n for n in range(63)}),
    "1000 items": ping(json.dumps({"x": [0] * 1000})),
    "1000 items many times": ping(json.dumps({"x": [[0] * 1000] * 4})),
    "16 KiB": padded(KIB_16),
    "16 KiB of umlauts": padded(KIB_16, "ü"),
    "2^53+1 where no integer is asked for": ping(json.dumps({"x": 2**53 + 1})),
    "control characters, escaped": ping(r'{"x":"\u0000\u001b[31m\r\n"}'),
    "U+2028": ping('{"x":"\u2028"}'),
    "a BOM inside": ping('{"x":"\ufeff"}'),
    "a noncharacter": ping('{"x":"\uffff"}'),
}


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_what_is_accepted(room: Room, text: str) -> None:
    alice = room.enter()
    alice.send(text)
    alice.next()
    assert alice.raws[-1] == '{"type":"pong"}'


UNKNOWN = [
    *["PING", "Ping", "ping ", " ping", "ping\u0000", "p", "x" * 64, "👍" * 64],
    *["__class__", "__init__", "on_connect", "on_ping", "handle_ping", "connect", "disconnect", "websocket.close"],
    *["message.new", "message.updated", "message.deleted", "reaction.added", "reaction.removed", "typing.start"],
    *["typing.stop", "presence.updated", "channel.created", "channel.updated", "channel.deleted", "member.joined"],
    *["member.left", "thread.updated", "error", "pong", "hello", "ack", "auth.refreshed"],
    *["typing/../ping", "\r\n", "\x1b[31m", "null", "*", "ping\n"],
]


@pytest.mark.parametrize("first", range(0, len(UNKNOWN), 9))
def test_what_nobody_owns(room: Room, first: int) -> None:
    alice = room.enter()
    for type in UNKNOWN[first : first + 9]:
        alice.send({"type": type, "data": {"id": "x"}})
        data = alice.error("UNKNOWN_EVENT")
        assert list(data) == ["message", "code"]
    alice.alive()


def test_a_server_event_from_a_client_reaches_nobody(room: Room) -> None:
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    alice.send(
        {
            "type": "message.new",
            "data": {"id": "m", "channel_id": "general", "user_id": "alice", "content": "x", "created_at": "now"},
        }
    )
    alice.error("UNKNOWN_EVENT")
    assert room.all_of(bob) == []


BAD_TYPING: list[dict[str, Any]] = [
    {},
    {"is_typing": True},
    {"channel_id": "general"},
    *[{"channel_id": "general", "is_typing": value} for value in ("yes", 1, None)],
    *[
        {"channel_id": value, "is_typing": True}
        for value in (7, ["general"], None, True, {}, "", "x" * 10_240, "x" * 129, "a b", "a/b", "ä", "a\n", "\x1b[31m")
    ],
]


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("fields", BAD_TYPING, ids=lambda fields: str(fields)[:40])
def test_typing_with_a_field_that_is_wrong(room: Room, fields: dict[str, Any], flat: bool) -> None:
    room.channel()
    alice = room.enter()
    alice.send({"type": "typing", **fields} if flat else {"type": "typing", "data": fields})
    alice.error("INVALID_EVENT")
    alice.alive()


@pytest.mark.parametrize("channel", ["a", "x" * 128, "A-z0.9_:@-"])
def test_typing_in_a_channel_of_every_good_name(room: Room, channel: str) -> None:
    room.channel(channel)
    alice, bob = room.enter("alice"), room.enter("bob")
    alice.send({"type": "typing", "channel_id": channel, "is_typing": True})
    assert bob.get("typing.start")["data"]["channel_id"] == channel


def test_of_a_key_twice_the_last_wins(room: Room) -> None:
    room.channel()
    alice, bob = room.enter("alice"), room.enter("bob")
    alice.send('{"type":"typing","channel_id":"nowhere","channel_id":"general","is_typing":"yes","is_typing":true}')
    assert bob.get("typing.start")["data"]["channel_id"] == "general"


# Frames


@pytest.mark.parametrize("data", [b"", b'{"type":"ping"}', b"\xff", b"x" * 70_000])
def test_a_binary_frame(room: Room, data: bytes) -> None:
    alice = room.enter()
    alice.send(data)
    frames, code, _ = alice.end()
    assert (frames, code) == ([], 1003) or (len(data) > 65_536 and code == 1009)


@pytest.mark.parametrize("size", [KIB_16 + 1, KIB_16 + 100, 60_000])
def test_more_than_16_kib(room: Room, size: int) -> None:
    alice = room.enter()
    alice.send(padded(size))
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"]
    assert code == 1009


def test_more_than_16_kib_is_a_matter_of_bytes(room: Room) -> None:
    text = padded(KIB_16 + 2, "ü")
    assert len(text) < KIB_16
    alice = room.enter()
    alice.send(text)
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"]
    assert code == 1009


def test_more_than_16_kib_of_nonsense(room: Room) -> None:
    alice = room.enter()
    alice.send("x" * (KIB_16 + 1))
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"]
    assert code == 1009


def test_all_fragments_count_together(room: Room) -> None:
    text = padded(KIB_16)
    alice = room.enter()
    alice.send(iter([text[:5], text[5:9000], "", text[9000:]]))
    alice.get("pong")
    alice.send(iter([text[:9000], text[9000:], "    "]))
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"]
    assert code == 1009


def test_a_megabyte_ends_the_connection_whoever_answers(room: Room) -> None:
    """A message far beyond the limit may be the server's own to refuse; but it is 1009."""
    alice = room.enter()
    alice.send(padded(1 << 20))
    frames, code, _ = alice.end()
    assert [frame["data"]["code"] for frame in frames] in ([], ["INVALID_EVENT"])
    assert code == 1009


def test_the_limit_is_a_setting(room_with: Callable[..., Room]) -> None:
    room = room_with(MAX_EVENT_BYTES="200")
    alice = room.enter()
    alice.send(padded(200))
    alice.get("pong")
    alice.send(padded(201))
    assert alice.end()[1] == 1009


# The log


def test_one_log_line_stays_one_line(loop: str) -> None:
    """Whatever a client writes anywhere, no line of the log begins with it and no terminal obeys it."""
    with serving(loop) as server, Room(server) as room:
        for evil in "evil\r\nevil: forged", "\x1b[31mevil", "evil\u2028evil: x", "evil\x00", "\x85evil":
            alice = room.enter()
            for event in [
                {"type": evil},
                {"type": "typing", "channel_id": evil, "is_typing": True},
                {"type": "typing", "channel_id": "x", "is_typing": evil},
                {"type": "ping", "ref": evil, "workspace_id": evil},
                {"type": "auth.refresh", "token": evil},
                {evil: evil},
                evil,
            ]:
                alice.send(event)
                alice.get("error")
            body = {"type": "message.new", "data": {evil: evil, "id": evil, "content": evil}, "to": evil, "id": evil}
            assert room.try_post(body).status_code == 422
            assert room.try_post({"type": evil, "data": {}}).status_code == 422
            alice.close()
        server.api("GET", "/api/workspaces/%0Aevil%1b/presence")
        server.http.get(f"{server.url}/%0d%0aevil%1b[31m", headers={"X-Evil": "evil"})
        room.refused("", "/ws/%0Aevil%1B")
        server.end()
        check(server)


def check(server: Server) -> None:
    printed = server.stderr.read_bytes().decode()
    for line in printed.split("\n"):
        assert not line.lstrip().startswith("evil"), line
        assert not [character for character in line if not character.isprintable() and character != "\t"], line
