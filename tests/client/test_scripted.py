"""A client on lines that a test writes: connecting, coming back, hearing, the heart, requests, typing, tokens."""

from __future__ import annotations

import json
import logging
from base64 import urlsafe_b64encode
from typing import Any

import anyio
import pytest

from jackfield import ClientEvent, Refused
from jackfield.client import BufferFull, Closed, Disconnected, Unknown, connect
from jackfield.client._ending import Ending
from jackfield.errors import InvalidEvent, InvalidToken, RateLimited, Unauthorized
from jackfield.events import Hello, MessageNew
from jackfield.testing import FakeClock, settle
from tests.client.script import Program, frame, message, opened, program


class Say(ClientEvent, type="client_test.say"):
    text: str


def ids(program: Program) -> list[str]:
    return [value.id for value in program.news() if isinstance(value, MessageNew)]


def jwt(expires_at: float, name: str = "t") -> str:
    payload = urlsafe_b64encode(json.dumps({"exp": expires_at, "jti": name}).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


class Provider:
    """Gives one token after the other, the last again and again; an exception it raises."""

    def __init__(self, *tokens: Any) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    async def __call__(self) -> str | None:
        self.asked += 1
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(token, Exception):
            raise token
        if token == "hangs":
            await anyio.sleep_forever()
        return token  # type: ignore[no-any-return]


class Asked:
    """A request on its way, in a task of its own."""

    def __init__(self) -> None:
        self.outcome: object = "waits"
        self.scope = anyio.CancelScope()

    async def run(self, program: Program, event: Any) -> None:
        with self.scope:
            try:
                await program.client.request(event)
                self.outcome = "acked"
            except (Refused, BufferFull, Closed) as error:
                self.outcome = error


async def ask(tasks: Any, program: Program, *names: str) -> list[Asked]:
    asked = [Asked() for _ in names]
    for one, name in zip(asked, names, strict=True):
        tasks.start_soon(one.run, program, {"type": "say", "name": name})
        await settle()  # trio starts them in any order
    return asked


def names(heard: list[dict[str, Any]]) -> list[str]:
    return [event["name"] for event in heard if "name" in event]


# --- connecting


async def test_hello_opens_it() -> None:
    async with program() as p:
        assert (p.line.token, p.line.resume, p.client.connected, p.client.hello) == ("t1", "", False, None)
        await p.line.hello("7")
        assert p.client.connected
        (hello,) = p.news()
        assert hello is p.client.hello
        assert p.client.cursor == "7"
        assert not hello.recovered


async def test_a_cursor_that_was_kept_is_brought() -> None:
    async with program(cursor="41") as p:
        assert p.line.resume == "41"
        assert p.client.cursor == "41"


async def test_the_token_is_asked_for_at_each_connect_and_plain_functions_will_do() -> None:
    tokens = iter(["a", "b"])
    async with program(token=lambda: next(tokens)) as p:
        await p.line.hello("0")
        await p.line.end()
        await p.clock.advance(0.5)
        assert [line.token for line in p.lines] == ["a", "b"]


@pytest.mark.parametrize("none", [None, ""])
async def test_no_token_is_no_right(none: str | None) -> None:
    async with program(token=Provider(none)) as p:
        assert p.over
        assert p.lines == []
        assert p.closed is not None
        assert p.closed.code == 4502
        with pytest.raises(Closed):
            await p.client.request({"type": "x"})


@pytest.mark.parametrize("fault", [RuntimeError("secret-token"), "bad\ntoken", "tökén", 7, "hangs"])
async def test_a_provider_that_fails_is_a_failed_attempt(fault: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with program(token=Provider(fault, "t2")) as p:
        await p.clock.advance(10 if fault == "hangs" else 0)
        assert p.news() == [Disconnected(1006, "no token could be had", 0.5)]
        await p.clock.advance(0.5)
        assert p.line.token == "t2"
    assert "no token could be had" in caplog.text
    assert "secret" not in caplog.text
    assert "\n" not in caplog.messages[0]


async def test_an_attempt_has_patience_from_its_start_to_hello() -> None:
    """The token, the upgrade and what else is said before count."""
    async with program(token=Provider("hangs", "t2"), patience=10.0) as p:
        p.hangs = True
        await p.clock.advance(10.5)
        assert len(p.lines) == 1
        await p.clock.advance(9.9)
        assert not p.line.left
        await p.clock.advance(0.1)
        assert p.line.left
        assert [type(value) for value in p.news()] == [Disconnected] * 2
        p.hangs = False
        await p.clock.advance(1)
        await p.line.say("error", {"message": "m", "code": "INTERNAL_ERROR"})
        await p.line.say("pong")
        await p.clock.advance(10)
        assert p.line.left
        assert isinstance(p.news()[0], Refused)


@pytest.mark.parametrize("url", ["", "chat.example", "ftp://a/ws/w", "ws:///ws/w", "ws://a:b/ws/w", "ws://a\x00/"])
async def test_what_is_no_address_is_said_at_once(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|address|[Pp]ort"):
        async with connect(url, token="t"):
            pass


async def test_a_token_has_no_place_in_the_address_nor_what_no_header_takes_in_a_token() -> None:
    for app in None, object():
        with pytest.raises(ValueError, match="leave the token out"):
            async with connect("ws://a/ws/w?token=x", token="t", app=app):
                pass
    for bad in "a\nb", "tökén", " t ", "t\x00":
        with pytest.raises(ValueError, match="no header takes") as refused:
            async with connect("ws://a/ws/w", token=bad):
                pass
        assert bad not in str(refused.value)
    async with connect("ws://127.0.0.1:9/ws/w?nontoken=1", token="t"):
        pass


# --- coming back


async def test_it_comes_back_with_the_newest_cursor_and_says_so() -> None:
    async with opened() as p:
        await p.line.put(message(1), message(2))
        await p.line.end(4002, "slow consumer")
        assert p.line.left
        assert p.news()[-1] == Disconnected(4002, "slow consumer", 0.5)
        assert not p.client.connected
        await p.clock.advance(0.5)
        assert (len(p.lines), p.line.resume) == (2, "2")


async def test_no_code_is_told_as_a_cut() -> None:
    async with opened() as p:
        await p.line.end(1005)
        assert p.news() == [Disconnected(1006, "", 0.5)]


async def test_pauses_grow_until_a_link_stood() -> None:
    async with program(backoff_base=1.0, backoff_cap=3.0, stable=30.0) as p:
        pauses = []
        for seconds in 0, 29, 0, 30, 0:
            await p.line.hello("0")
            await p.clock.advance(seconds)
            await p.line.end()
            pauses += [value.retry_in for value in p.news() if isinstance(value, Disconnected)]
            await p.clock.advance(pauses[-1])
        assert pauses == [1, 2, 3, 1, 2]


@pytest.mark.parametrize(
    "end", [(1000, ""), (1003, ""), (1009, ""), (4500, ""), (4502, ""), (4503, ""), (4504, ""), (4999, "x"), (4501, "")]
)
async def test_where_coming_back_would_not_help_it_ends(end: tuple[int, str]) -> None:
    async with opened() as p:
        await p.line.put(message(1))
        await p.line.end(*end)
        assert ids(p) == ["m1"]
        assert p.over
        assert p.closed is not None
        assert (p.closed.code, p.closed.reason) == end
        await p.clock.advance(100)
        assert len(p.lines) == 1
        for _ in range(2):
            with pytest.raises(Closed):
                await anext(p.client)


@pytest.mark.parametrize("status", [403, 404, 401])
async def test_a_refused_upgrade_ends_it(status: int) -> None:
    async with program() as p:
        await p.line.end(status=status)
        assert p.closed is not None
        assert (p.closed.status, str(p.closed)) == (status, f"HTTP {status}")


async def test_a_busy_server_says_when() -> None:
    async with program() as p:
        await p.line.end(status=429, header="7")
        await p.clock.advance(7.4)
        assert len(p.lines) == 1
        await p.clock.advance(0.1)
        assert len(p.lines) == 2


async def test_reconnect_ends_a_pause_and_only_that_one() -> None:
    async with opened() as p:
        p.client.reconnect()  # it stands: nothing to come back from
        await p.line.end(4002)
        await settle()
        assert len(p.lines) == 1
        p.client.reconnect()
        p.client.reconnect()
        await settle()
        assert len(p.lines) == 2
        await p.line.end(4002)
        assert len(p.lines) == 2
        await p.clock.advance(1)
        assert len(p.lines) == 3


async def test_another_token_than_the_refused_one_is_tried_once() -> None:
    provider = Provider("a", "b", "c")
    async with program(token=provider) as p:
        await p.line.say("error", {"message": "m", "code": "INVALID_TOKEN"})
        await p.line.end(4501)
        assert [type(value) for value in p.news()] == [InvalidToken, Disconnected]
        await p.clock.advance(0.5)
        assert p.line.token == "b"
        await p.line.end(status=401)
        assert p.closed is not None
        assert provider.asked == 2


async def test_behind_a_hello_it_is_tried_again() -> None:
    async with program(token=Provider("a", "b", "c")) as p:
        for token in "a", "b":
            assert p.line.token == token
            await p.line.end(4501)
            await p.clock.advance(5)
            await p.line.hello("0")
        assert p.line.token == "c"


@pytest.mark.parametrize("second", ["a", None])
async def test_the_same_token_or_none_is_no_other(second: str | None) -> None:
    async with program(token=Provider("a", second)) as p:
        await p.line.end(4501)
        assert p.closed is not None
        assert p.closed.code == 4501
        assert len(p.lines) == 1


async def test_a_provider_that_fails_at_a_refusal_is_asked_again() -> None:
    async with program(token=Provider("a", RuntimeError(), "b")) as p:
        await p.line.end(4501)
        await p.clock.advance(0.5)
        assert p.line.token == "b"
        await p.line.end(4501)
        assert p.closed is not None


# --- hearing


async def test_what_came_twice_is_told_once() -> None:
    async with opened() as p:
        await p.line.put(message(1), message(2), message(1))
        await p.line.end()
        await p.clock.advance(0.5)
        assert p.line.resume == "2"
        await p.line.hello("2", resume={"recovered": True, "replayed": 1})
        await p.line.put(message(2), message(3))
        assert ids(p) == ["m1", "m2", "m3"]
        assert p.client.cursor == "3"


async def test_the_cursor_shown_never_runs_ahead_of_what_was_given() -> None:
    async with opened(reading=False) as p:
        assert p.client.cursor == ""
        await p.line.put(message(1), frame("pong", cursor="5"), message(6))
        assert p.client.cursor == ""
        assert isinstance(await anext(p.client), Hello)
        assert p.client.cursor == "0"
        assert isinstance(await anext(p.client), MessageNew)
        assert p.client.cursor == "1"
        await p.line.end()
        await p.clock.advance(0.5)
        assert p.line.resume == "6"
        await p.line.hello("6", resume={"recovered": True, "replayed": 0})
        assert isinstance(await anext(p.client), MessageNew)
        assert p.client.cursor == "6"
        assert isinstance(await anext(p.client), Disconnected)


async def test_a_pong_moves_the_reader_who_waits() -> None:
    async with opened() as p:
        await p.line.put(frame("pong", cursor="5"), frame("pong"))
        assert p.news() == []
        assert p.client.cursor == "5"


async def test_a_server_without_resume() -> None:
    async with opened(cursor=None) as p:
        assert p.client.cursor == ""
        await p.line.say("typing.start", {"channel_id": "c", "user_id": "u"})
        await p.line.end()
        await p.clock.advance(0.5)
        assert p.line.resume == ""
        await p.line.hello()
        assert [type(value).__name__ for value in p.news()] == ["TypingStart", "Disconnected", "Hello"]


async def test_a_hello_that_is_not_recovered_says_so() -> None:
    async with opened() as p:
        await p.line.end()
        await p.clock.advance(0.5)
        await p.line.hello("9", resume={"recovered": False, "reason": "expired"})
        hello = p.news()[-1]
        assert isinstance(hello, Hello)
        assert not hello.recovered
        assert p.client.cursor == "9"


async def test_events_that_nobody_knows_are_handed_on() -> None:
    async with opened() as p:
        await p.line.say("shop.sold", {"n": 7}, cursor="4")
        await p.line.say("typing.start", {"channel_id": 7})
        assert p.news() == [Unknown("shop.sold", {"n": 7}), Unknown("typing.start", {"channel_id": 7})]
        assert p.client.cursor == "4"


async def test_an_error_that_answers_nothing_is_told_and_logged_on_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with opened() as p:
        await p.line.say("error", {"message": "m", "code": "UNAUTHORIZED"})
        await p.line.say("error", {"message": "n\no", "code": "X\r\nY", "ref": "whose"})
        first, second = p.news()
        assert isinstance(first, Unauthorized)
        assert isinstance(second, Refused)
        assert second.code == "X\r\nY"
    assert caplog.messages == ["the server says UNAUTHORIZED: User not authorized.", "the server says X Y: n o"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"type":7}', '{"type":"x","data":7}', '{"type":"hello"}'])
@pytest.mark.parametrize("before", [True, False])
async def test_a_broken_server_is_a_broken_line(text: str, before: bool) -> None:
    async with program() as p:
        if not before:
            await p.line.hello("0")
        await p.line.put(message(1), text, message(2))
        assert p.line.left
        assert ids(p) == ["m1"]
        await p.clock.advance(0.5)
        assert p.line.resume == "1"


async def test_odd_answers_are_no_reason_to_fail() -> None:
    async with opened() as p:
        for data in {}, {"ref": None}, {"ref": []}, {"ref": "request-99"}:
            await p.line.say("ack", data)
            await p.line.say("error", data)
        assert p.client.connected
        assert all(isinstance(value, Refused) for value in p.news())


# --- a slow reader


async def test_a_slow_reader_slows_the_server_and_nobody_dies_of_it() -> None:
    async with opened(reading=False, inbox=4) as p:
        await p.line.put(*(message(number) for number in range(1, 10)))
        assert len(p.line._incoming) == 6
        await p.clock.advance(300)
        assert not p.line.left
        for _ in range(10):
            await anext(p.client)
            await settle()
        assert p.client.cursor == "9"
        await p.clock.advance(39.9)
        assert not p.lines[0].left
        await p.clock.advance(0.1)
        assert p.lines[0].left


async def test_a_reader_who_asks_something_is_answered_though_there_is_no_room() -> None:
    """Or each would wait for the other."""
    async with opened(reading=False, inbox=2) as p, anyio.create_task_group() as tasks:
        await p.line.put(*(message(number) for number in range(1, 6)))
        (one,) = await ask(tasks, p, "one")
        (event,) = await p.line.heard()
        await p.line.ack(event)
        assert one.outcome == "acked"
        assert await anext(p.client) == p.client.hello
        await p.line.put(*(message(number) for number in range(6, 9)))
        assert len(p.line._incoming) == 3, "and then there is none again"


async def test_without_a_line_too() -> None:
    async with opened(reading=False, inbox=2) as p, anyio.create_task_group() as tasks:
        await p.line.put(*(message(number) for number in range(1, 3)))
        (one,) = await ask(tasks, p, "one")
        await p.line.heard()
        await p.line.end()
        await p.clock.advance(0.5)
        await p.line.say("error", {"message": "m", "code": "INTERNAL_ERROR"})
        await p.line.end(1013)
        await p.clock.advance(1)
        await p.line.hello("2", resume={"recovered": True, "replayed": 0})
        await p.line.ack((await p.line.heard())[0])
        assert one.outcome == "acked"


async def test_who_does_not_read_is_not_filled_up_with_failures() -> None:
    """It comes back when he does, or when he asks for something."""
    async with program(reading=False, inbox=3) as p, anyio.create_task_group() as tasks:
        for _ in range(50):
            await p.line.say("error", {"message": "m", "code": "INTERNAL_ERROR"})
            await p.line.end(1013)
            p.client.reconnect()
            await settle()
        assert len(p.lines) == 2
        await anext(p.client)
        await anext(p.client)
        await settle()
        assert len(p.lines) == 3
        await p.line.end(1013)
        await p.clock.advance(20)
        assert len(p.lines) == 3
        await ask(tasks, p, "one")
        assert len(p.lines) == 4
        for _ in range(50):
            await p.line.end(1013)
            p.client.reconnect()
            await settle()
        assert len(p.lines) == 54
        p.client.close()
        assert len([value async for value in p.client]) == 4


async def test_two_readers_share_what_comes() -> None:
    async with opened(reading=False) as p, anyio.create_task_group() as tasks:
        await anext(p.client)
        heard: list[str] = []

        async def read() -> None:
            async for value in p.client:
                assert isinstance(value, MessageNew)
                heard.append(value.id)

        tasks.start_soon(read)
        tasks.start_soon(read)
        await p.line.put(*(message(number) for number in range(5)))
        p.client.close()
        await settle()
        assert sorted(heard) == [f"m{number}" for number in range(5)]


async def test_a_reader_who_gives_up_loses_nothing() -> None:
    async with opened(reading=False) as p:
        await anext(p.client)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anext(p.client)
        await p.line.put(message(1))
        value = await anext(p.client)
        assert isinstance(value, MessageNew)


# --- the heart


async def test_it_pings_also_while_events_flow_and_gives_a_silent_line_up() -> None:
    async with opened() as p:
        for number in range(1, 7):
            await p.clock.advance(5)
            await p.line.put(message(number))
        assert await p.line.heard() == [{"type": "ping"}]
        await p.line.say("pong")
        await p.clock.advance(30)
        assert await p.line.heard() == [{"type": "ping"}]
        p.news()
        await p.clock.advance(9.9)
        assert not p.line.left
        await p.clock.advance(0.1)
        assert p.line.left
        assert p.news() == [Disconnected(1006, "silent", 0.5)]


async def test_a_line_whose_buffers_are_full_is_given_up_too() -> None:
    async with opened() as p, anyio.create_task_group() as tasks:
        p.line.freeze()
        await ask(tasks, p, "one")
        await p.clock.advance(39.9)
        assert not p.line.left
        await p.clock.advance(0.1)
        assert p.line.left
        p.client.close()


async def test_a_server_that_wants_pings_all_the_time() -> None:
    async with program() as p:
        await p.line.hello("0", heartbeat_interval_ms=0)
        await p.clock.advance(3)
        assert await p.line.heard() == [{"type": "ping"}] * 3


async def test_the_wall_clock_is_none_of_its_business() -> None:
    async with opened() as p:
        p.clock.set_wall(-86_400 * 365)
        await p.clock.advance(30)
        p.clock.set_wall(86_400 * 3650)
        assert await p.line.heard() == [{"type": "ping"}]
        await p.line.say("pong")
        await p.clock.advance(29)
        assert not p.line.left


# --- requests


async def test_a_request_ends_with_its_answer() -> None:
    async with opened() as p, anyio.create_task_group() as tasks:
        one, two, three = await ask(tasks, p, "one", "two", "three")
        first, second, third = await p.line.heard()
        await p.line.ack(third)
        await p.line.refuse(second, "UNAUTHORIZED")
        await p.line.refuse(first, "POLL_SHUT", message="shut", detail="$.x")
        assert three.outcome == "acked"
        assert isinstance(two.outcome, Unauthorized)
        assert isinstance(one.outcome, Refused)
        assert (one.outcome.code, str(one.outcome), one.outcome.detail) == ("POLL_SHUT", "shut", "$.x")
        assert p.news() == []


async def test_events_of_ones_own_are_said_flat() -> None:
    async with opened() as p, anyio.create_task_group() as tasks:
        tasks.start_soon(p.client.request, Say("hi"))
        (event,) = await p.line.heard()
        assert event == {"type": "client_test.say", "text": "hi", "ref": event["ref"]}
        await p.line.ack(event)


async def test_what_has_no_form_in_json_fails_where_it_was_said() -> None:
    async with opened() as p:
        with pytest.raises(TypeError):
            await p.client.request({"type": "x", "what": object()})
        with pytest.raises(TypeError):
            p.client.typing(object())  # type: ignore[arg-type]
        assert p.client.connected


async def test_without_a_line_they_wait_and_what_was_not_answered_goes_first() -> None:
    async with program(window=2) as p, anyio.create_task_group() as tasks:
        asked = await ask(tasks, p, "a", "b", "c")
        assert await p.line.heard() == []
        await p.line.hello("0")
        heard = await p.line.heard()
        assert names(heard) == ["a", "b"]
        await p.line.ack(heard[0])
        assert names(await p.line.heard()) == ["c"]
        await p.line.end()
        asked += await ask(tasks, p, "d")
        await p.clock.advance(0.5)
        await p.line.hello("0", resume={"recovered": True, "replayed": 0})
        heard = await p.line.heard()
        assert names(heard) == ["b", "c"]
        for event in heard:
            await p.line.ack(event)
        (last,) = await p.line.heard()
        await p.line.ack(last)
        assert [one.outcome for one in asked] == ["acked"] * 4


async def test_what_is_over_the_limit_of_the_server_is_not_sent() -> None:
    async with opened() as p, anyio.create_task_group() as tasks:
        await p.line.hello(limits={"max_event_bytes": 100})
        with pytest.raises(InvalidEvent, match="at most 100 bytes"):
            await p.client.request({"type": "say", "text": "é" * 50})
        (asked,) = await ask(tasks, p, "fits")
        await p.line.ack({"ref": "request-2"})
        assert asked.outcome == "acked"


async def test_at_most_so_many() -> None:
    async with opened(buffer=3, window=2) as p, anyio.create_task_group() as tasks:
        await ask(tasks, p, "a", "b", "c")
        await settle()
        with pytest.raises(BufferFull, match="3 requests"):
            await p.client.request({"type": "say", "name": "d"})
        assert names(await p.line.heard()) == ["a", "b"]
        p.client.close()


async def test_who_stands_behind_one_that_is_given_up_is_next() -> None:
    async with opened(window=1) as p, anyio.create_task_group() as tasks:
        first, second = await ask(tasks, p, "a", "b")
        (event,) = await p.line.heard()
        first.scope.cancel()
        heard = await p.line.heard()
        assert names(heard) == ["b"]
        await p.line.ack(event)
        assert second.outcome == "waits"
        await p.line.ack(heard[0])
        assert second.outcome == "acked"


async def test_a_limit_is_waited_out_one_at_a_time() -> None:
    async with opened(window=3) as p, anyio.create_task_group() as tasks:
        asked = await ask(tasks, p, "a", "b", "c", "d")
        a, b, c = await p.line.heard()
        await p.line.ack(a)
        (d,) = await p.line.heard()
        for event in b, c, d:
            await p.line.refuse(event, "RATE_LIMITED", retry_after_ms=2000)
        await p.clock.advance(1.9)
        assert await p.line.heard() == []
        await p.clock.advance(0.1)
        for name in "bcd":
            (event,) = await p.line.heard()
            assert event["name"] == name
            await p.line.ack(event)
        assert [one.outcome for one in asked] == ["acked"] * 4
        assert p.news() == []
        await ask(tasks, p, "e", "f")
        assert names(await p.line.heard()) == ["e", "f"]
        p.client.close()


async def test_a_limit_survives_the_line() -> None:
    async with opened() as p, anyio.create_task_group() as tasks:
        await ask(tasks, p, "a")
        await p.line.refuse((await p.line.heard())[0], "RATE_LIMITED", retry_after_ms=5000)
        await p.line.end()
        await p.clock.advance(0.5)
        await p.line.hello("0")
        await p.clock.advance(4.4)
        assert await p.line.heard() == []
        await p.clock.advance(0.1)
        assert names(await p.line.heard()) == ["a"]
        p.client.close()


async def test_a_limit_of_nothing_of_ours_is_told() -> None:
    async with opened() as p:
        await p.line.say("error", {"message": "m", "code": "RATE_LIMITED", "retry_after_ms": 2000})
        (limited,) = p.news()
        assert isinstance(limited, RateLimited)
        assert limited.retry_after == 2.0


async def test_an_end_for_good_answers_them_all() -> None:
    async with opened(window=1) as p, anyio.create_task_group() as tasks:
        asked = await ask(tasks, p, "a", "b")
        await p.line.heard()
        await p.line.end(4503, "access revoked")
        for one in asked:
            assert isinstance(one.outcome, Closed)
            assert one.outcome.code == 4503
        assert asked[0].outcome is not asked[1].outcome


# --- typing


async def test_typing() -> None:
    async with opened() as p:
        for _ in range(7):
            p.client.typing("c")
            await p.clock.advance(1)
        said = [(event["type"], event["channel_id"], event["is_typing"]) for event in await p.line.heard()]
        assert said == [("typing", "c", True)] * 3
        await p.clock.advance(3.9)
        assert await p.line.heard() == []
        await p.clock.advance(0.1)
        assert await p.line.heard() == [{"type": "typing", "channel_id": "c", "is_typing": False}]
        p.client.typing("c", False)
        await p.clock.advance(10)
        assert await p.line.heard() == []
        p.client.typing("c")
        p.client.typing("c", False)
        assert [event["is_typing"] for event in await p.line.heard()] == [True, False]


async def test_typing_is_never_kept() -> None:
    async with program() as p:
        p.client.typing("c")
        await p.line.hello("0")
        p.client.typing("c")
        assert len(await p.line.heard()) == 1
        p.client.typing("d")
        await p.line.end()
        p.client.typing("c")
        await p.clock.advance(0.5)
        await p.line.hello("0")
        await p.clock.advance(6)
        assert await p.line.heard() == []


async def test_ones_own_message_ends_it() -> None:
    async with opened() as p:
        p.client.typing("c1")
        await p.line.heard()
        await p.line.put(message(1, "bob"))
        p.client.typing("c1")
        assert await p.line.heard() == []
        await p.line.put(message(2, "alice"))
        await p.clock.advance(6)
        assert await p.line.heard() == []
        p.client.typing("c1")
        assert len(await p.line.heard()) == 1


# --- tokens


async def test_a_fresh_token_is_brought_before_the_old_one_ends() -> None:
    clock = FakeClock()
    first, second = jwt(clock.time() + 1000), jwt(clock.time() + 2000)
    provider = Provider(first, second)
    async with opened(token=provider, clock=clock, chance=0.0) as p:
        assert await pass_time(p, 895) == []
        assert provider.asked == 1
        said = await pass_time(p, 5)
        assert said == [{"type": "auth.refresh", "token": second, "ref": "renewal"}]


async def pass_time(p: Program, seconds: float) -> list[dict[str, Any]]:
    """Time passes on a line that lives; what the client said but for pings."""
    said: list[dict[str, Any]] = []
    for _ in range(round(seconds / 5)):
        await p.clock.advance(5)
        for event in await p.line.heard():
            if event["type"] == "ping":
                await p.line.say("pong")
            else:
                said.append(event)
    return said


async def test_and_the_one_behind_it() -> None:
    clock = FakeClock()
    tokens = [jwt(clock.time() + 1000 * n) for n in (1, 2, 3)]
    async with opened(token=Provider(*tokens), clock=clock, chance=0.0) as p:
        said = await pass_time(p, 900)
        await p.line.say("auth.refreshed", {"expires_at": "2024-01-01T12:33:20.000Z"})
        await p.line.say("ack", {"ref": "renewal"})
        said += await pass_time(p, 1000)
        assert [event["token"] for event in said] == tokens[1:]
        assert len(p.lines) == 1


@pytest.mark.parametrize("code", ["UNKNOWN_EVENT", "INVALID_EVENT", "INTERNAL_ERROR"])
async def test_where_it_is_not_taken_it_comes_in_by_the_door(code: str) -> None:
    clock = FakeClock()
    tokens = [jwt(clock.time() + 1000 * n) for n in (1, 2, 3)]
    provider = Provider(*tokens)
    async with opened(token=provider, clock=clock, chance=0.0) as p, anyio.create_task_group() as tasks:
        (asked,) = await ask(tasks, p, "a")
        event = (await pass_time(p, 900))[-1]
        await p.line.refuse(event, code)
        assert p.lines[0].left
        assert [line.token for line in p.lines] == tokens[:2]
        assert provider.asked == 2
        assert p.news() == []
        await p.line.hello("0", resume={"recovered": True, "replayed": 0})
        await p.line.ack((await p.line.heard())[0])
        assert asked.outcome == "acked"


async def test_a_refused_one_is_told_and_the_line_stays() -> None:
    clock = FakeClock()
    provider = Provider(jwt(clock.time() + 100), jwt(clock.time() + 101))
    async with opened(token=provider, clock=clock, chance=0.0) as p:
        (event,) = await pass_time(p, 70)
        await p.line.refuse(event, "INVALID_TOKEN")
        assert [type(value) for value in p.news()] == [InvalidToken]
        assert p.client.connected


@pytest.mark.parametrize("answers", [["same"], [RuntimeError()], ["hangs"], [None]])
async def test_a_provider_with_nothing_new_is_not_pressed(answers: list[Any]) -> None:
    clock = FakeClock()
    token = jwt(clock.time() + 100)
    provider = Provider(token, *(token if answer == "same" else answer for answer in answers))
    async with opened(token=provider, clock=clock, chance=0.0, patience=4.0) as p:
        assert await pass_time(p, 300) == []
        assert 2 < provider.asked < 12
        assert p.client.connected


async def test_a_token_that_seems_to_have_run_out_is_left_to_the_server() -> None:
    """It was taken, so the two clocks differ."""
    clock = FakeClock()
    provider = Provider(jwt(clock.time() - 5))
    async with opened(token=provider, clock=clock) as p:
        assert await pass_time(p, 100) == []
        assert provider.asked == 1
        await p.line.end(4004, "token expired")
        await p.clock.advance(0.5)
        assert (provider.asked, len(p.lines)) == (2, 2)


async def test_a_text_is_never_renewed() -> None:
    clock = FakeClock()
    async with opened(token=jwt(clock.time() + 100), clock=clock) as p:
        assert await pass_time(p, 200) == []


# --- leaving


async def test_close_within_the_iteration_ends_it_behind_what_has_come() -> None:
    async with opened(reading=False) as p:
        await p.line.put(message(1), message(2))
        heard = []
        async for value in p.client:
            heard.append(type(value))
            p.client.close()
            p.client.close()
        assert heard == [Hello, MessageNew, MessageNew]
        await settle()
        assert p.line.left
        with pytest.raises(StopAsyncIteration):
            await anext(p.client)
        with pytest.raises(Closed):
            await p.client.request({"type": "x"})
        p.client.typing("c")
        p.client.reconnect()


async def test_close_answers_requests() -> None:
    async with opened() as p, anyio.create_task_group() as tasks:
        (one,) = await ask(tasks, p, "a")
        await p.line.heard()
        p.client.close()
        await settle()
        assert isinstance(one.outcome, Closed)
        assert one.outcome.code == 1000
        assert p.over
        assert p.closed is None


async def in_state(state: str, p: Program) -> None:
    if state == "open":
        await p.line.hello("0")
    if state == "waiting":
        await p.line.end()
    await settle()


@pytest.mark.parametrize("state", ["asking", "dialing", "handshaking", "open", "waiting", "closed"])
async def test_the_block_is_left_at_once_in_every_state(state: str) -> None:
    clock, p = FakeClock(), Program(FakeClock())
    p.hangs = state == "dialing"
    if state == "closed":
        p.plan.append(Ending(4503))
    token = Provider("hangs" if state == "asking" else "t")
    async with connect("ws://script/ws/w", token=token, dial=p.dial, clock=clock) as p.client:
        await settle()
        if state in ("open", "waiting"):
            await in_state(state, p)
    assert all(line.left for line in p.lines)
    assert len(p.lines) == (state != "asking")
    await settle()  # raises where a task spins


@pytest.mark.parametrize("state", ["dialing", "handshaking", "open", "waiting"])
async def test_cancelled_from_outside_it_leaves_as_well(state: str) -> None:
    p = Program(FakeClock())
    p.hangs = state == "dialing"
    entered = False
    with anyio.CancelScope() as scope:
        async with connect("ws://script/ws/w", token="t", dial=p.dial, clock=p.clock) as p.client:
            await settle()
            if state in ("open", "waiting"):
                await in_state(state, p)
            entered = True
            scope.cancel()
            async for _ in p.client:
                pass
            await anyio.sleep_forever()
    assert entered
    assert scope.cancelled_caught
    assert p.line.left


class Stop(BaseException):
    """As KeyboardInterrupt is."""


@pytest.mark.parametrize("error", [LookupError(), Stop(), KeyboardInterrupt(), StopAsyncIteration(), Closed(4503)])
async def test_what_the_body_raises_comes_out_as_it_is(error: BaseException) -> None:
    p = Program(FakeClock())

    async def body() -> None:
        async with connect("ws://script/ws/w", token="t", dial=p.dial, clock=p.clock) as p.client:
            await settle()
            raise error

    with pytest.raises(type(error)) as raised:
        await body()
    assert raised.value is error
    assert p.line.left


async def test_a_last_word_of_the_server_does_not_undo_a_close() -> None:
    async with opened() as p:
        p.line._incoming.append(Ending(4503))
        p.line._news.set()
        p.client.close()
        await settle()
        assert p.over
        assert p.closed is None
