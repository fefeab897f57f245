"""One connection, from `hello` to its close code."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import attrs
import pytest

from jackfield import (
    ClientEvent,
    CloseCode,
    Everyone,
    InvalidToken,
    Principal,
    Refused,
    ServerEvent,
    Session,
    Settings,
    State,
    Topic,
    Unauthorized,
    before,
    hookimpl,
    latest,
    on,
)
from jackfield._room import RECENT
from jackfield.events import ChannelCreated, ChannelDeleted, MemberJoined, MemberLeft, MessageNew
from jackfield.testing import (
    ANYCORN,
    DAPHNE,
    GRANIAN,
    HYPERCORN,
    UVICORN,
    Bench,
    Client,
    Profile,
    bench,
    settle,
)
from jackfield.testing._link import Gate

NOON = "2024-01-01T12:00:00.000Z"
PING = {"type": "ping"}
PATIENT = Settings(heartbeat_timeout=100_000)
COUNTS = State("counts", int)
profiles = pytest.mark.parametrize(
    "profile",
    [UVICORN, HYPERCORN, ANYCORN, GRANIAN, DAPHNE],
    ids=["uvicorn", "hypercorn", "anycorn", "granian", "daphne"],
)


class Say(ClientEvent, type="say"):
    """Have something done with it."""

    text: str = ""


class Whisper(ClientEvent, type="whisper", when_expired=True):
    """What may be said under a token that has run out."""


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


class Mood(ServerEvent, type="mood", delivery=latest("user_id")):
    """Only the newest counts, and none is kept for long."""

    user_id: str
    mood: str

    def audience(self) -> Everyone:
        return Everyone()


class Closed(Refused):
    """The desk is closed."""

    code = "DESK_CLOSED"


@attrs.define(eq=False)
class Desk:
    """Has what a test wants happen in the hooks, and remembers the sessions."""

    name: str = "desk"
    sessions: list[Session] = attrs.field(factory=list)
    codes: list[int] = attrs.field(factory=list)
    handled: list[str] = attrs.field(factory=list)
    opened: Callable[[Session], Awaitable[None]] | None = None
    state: Callable[[Session], Awaitable[object]] | None = None
    decide: Callable[[Session, Say], Awaitable[Say | None]] | None = None
    handle: Callable[[Session, Say], Awaitable[None]] | None = None

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent | ServerEvent]]:
        return Say, Whisper, Said, Mood

    @hookimpl
    async def session_opened(self, session: Session) -> None:
        self.sessions.append(session)
        if self.opened is not None:
            await self.opened(session)

    @hookimpl
    async def session_closed(self, session: Session, code: int) -> None:
        self.codes.append(code)

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        return None if self.state is None else await self.state(session)

    @before(Say)
    async def may_say(self, session: Session, event: Say) -> Say | None:
        return None if self.decide is None else await self.decide(session, event)

    @on(Say)
    async def say(self, session: Session, event: Say) -> None:
        self.handled.append(event.text)
        if self.handle is not None:
            await self.handle(session, event)

    @on(Whisper)
    async def whisper(self, session: Session, event: Whisper) -> None:
        self.handled.append("whispered")


def message(id: str, channel: str = "c1") -> MessageNew:
    return MessageNew(id, channel, "alice", "text", NOON)


async def say(b: Bench, *texts: str) -> None:
    for text in texts:
        await b.workspace().publish(Said(text))
    await settle()


def said(client: Client) -> list[str]:
    """What was said, of all that the client has been sent."""
    client._take()
    return [frame["data"]["text"] for frame in client.frames if frame["type"] == "said"]


def types(client: Client) -> list[str]:
    """What it has been sent, by type."""
    client._take()
    return [frame["type"] for frame in client.frames]


def numbers(count: int, start: int = 0) -> list[str]:
    return [str(number) for number in range(start, start + count)]


def a_token(b: Bench, seconds: float, **more: Any) -> Principal:
    """One of alice's that runs out in so many seconds."""
    return Principal("alice", expires_at=b.clock.time() + seconds, **more)


# --- it opens


async def test_hello_comes_first_then_what_hooks_had_sent_then_the_rest() -> None:
    desk = Desk()

    async def welcome(session: Session) -> None:
        await session.send(Said("welcome"))
        await session.workspace.publish(Said("somebody comes"))

    desk.opened = welcome
    async with bench(desk) as b:
        alice = await b.connect("alice")
        await say(b, "later")
        await settle()
        assert types(alice) == ["hello", "said", "said", "said"]
        assert said(alice) == ["welcome", "somebody comes", "later"]


async def test_what_happens_while_it_opens_follows_hello() -> None:
    """However long a hook takes, and however much it is: nothing is queued meanwhile."""
    desk, go_on = Desk(), anyio.Event()

    async def wait(session: Session) -> None:
        await go_on.wait()

    desk.state = wait
    async with bench(desk, settings=Settings(outbox_events=5)) as b:
        alice = await b.open("alice")
        await say(b, *numbers(300))
        assert types(alice) == []
        go_on.set()
        await settle()
        assert types(alice) == ["hello", *["said"] * 300]
        assert said(alice) == numbers(300)
        await say(b, "live")
        await settle()
        assert said(alice)[-1] == "live"


async def test_an_initial_state_that_fails_is_an_internal_error_and_1011() -> None:
    desk = Desk()

    async def fail(session: Session) -> None:
        raise RuntimeError("a bug")

    desk.state = fail
    async with bench(desk) as b:
        alice = await b.open("alice")
        assert (await alice.receive_frame())["data"]["code"] == "INTERNAL_ERROR"
        assert (await alice.closed()).code == 1011
        assert desk.codes == [1011]


@pytest.mark.parametrize("resume", [None, ""])
async def test_a_channel_that_is_lost_while_it_opens_is_in_no_initial_state(resume: str | None) -> None:
    """Its going is not told, since the stream begins behind it; so the state must know of it."""
    desk = Desk()
    asked = 0

    async def state(session: Session) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            await b.workspace().publish(MemberLeft("c1", "alice"))
        await b.workspace().get(COUNTS, "n")
        return [channel_id for channel_id in ("c1", "c2") if session.sees(channel_id)]

    desk.state = state
    async with bench(desk) as b:
        alice = await b.connect("alice", channels=["c1", "c2"], resume=resume)
        assert alice.hello.state == {"desk": ["c2"]}
        for channel_id in ("c1", "c2"):
            await b.workspace().publish(message(f"in-{channel_id}", channel_id))
        assert await alice.pending() == [message("in-c2", "c2")]
        assert asked == 2


async def test_who_resumes_is_told_what_happens_while_it_opens_behind_what_he_missed() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice", resume="")
        alice.close()
        await say(b, "missed")

        async def state(session: Session) -> int:
            if len(desk.codes) == 1:
                desk.codes.append(0)
                await b.workspace().update(COUNTS, "n", lambda n: n + 1, publish=lambda _, n: Said(str(n)))
            return await b.workspace().get(COUNTS, "n")

        desk.state = state
        alice = await b.connect("alice", resume=alice.cursor)
        assert alice.hello.state == {"desk": 1}
        await settle()
        assert said(alice) == ["missed", "1"]


@pytest.mark.parametrize("call", ["read", "records"])
async def test_an_engine_that_does_not_answer_between_the_hooks_holds_nobody_up(call: str) -> None:
    """What the hooks ask has their deadline, and what is asked to put their answers together had none."""
    desk = Desk()
    gate = Gate((call,))
    async with bench(desk) as b:

        async def state(session: Session) -> int:
            b.nodes[0].link.gate = None  # records are not at hand, and the log is ahead of where it stands
            await b.workspace().get(COUNTS, "n")
            await b.workspace().update(COUNTS, "n", lambda n: n + 1, publish=lambda _, n: Said(str(n)))
            session.up.room.recent.clear()  # type: ignore[union-attr]
            n = await b.workspace().get(COUNTS, "n")
            b.nodes[0].link.gate = gate
            return n

        desk.state = state
        alice = await b.open("alice")
        await b.clock.advance(9.9)
        assert gate.waiting
        assert types(alice) == []
        await b.clock.advance(0.2)
        assert (await alice.closed()).code == 1011
        gate.open()
        await settle()
        assert not b.app.node.sessions


async def test_a_hook_that_closes_it_as_it_opens() -> None:
    desk = Desk()

    async def close(session: Session) -> None:
        session.close(4999, "not today")

    desk.opened = close
    async with bench(desk) as b:
        alice = await b.open("alice")
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4999, "not today")
        assert types(alice) == []


async def test_who_goes_before_hello_leaves_nothing_behind() -> None:
    desk, go_on = Desk(), anyio.Event()

    async def wait(session: Session) -> None:
        await go_on.wait()

    desk.state = wait
    async with bench(desk) as b:
        alice = await b.open("alice")
        alice.drop()
        go_on.set()
        await settle()
        assert not b.app.node.sessions
        assert not b.app.node.hub.rooms
        await say(b, "nobody hears it")


async def test_its_representation_says_who_and_where() -> None:
    desk = Desk()
    async with bench(desk) as b:
        await b.connect("alice")
        (session,) = desk.sessions
        assert repr(session) == f"<Session {session.id} of alice in w>"


# --- heartbeat


async def test_75_seconds_of_silence_are_4003() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await b.clock.advance(74.9)
        assert not alice.transport.ended
        await b.clock.advance(0.2)
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4003, "no heartbeat")


@pytest.mark.parametrize("text", ['{"type":"ping"}', "nonsense", '{"type":"nobody.owns.it"}'])
async def test_any_text_frame_is_a_sign_of_life(text: str) -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(5):
            await b.clock.advance(74)
            await alice.send(text)
        await b.clock.advance(74)
        assert not alice.transport.ended
        await b.clock.advance(1.1)
        assert (await alice.closed()).code == 4003


async def test_what_it_is_sent_is_no_sign_of_its_life() -> None:
    async with bench(Desk) as b:
        alice = await b.connect("alice")
        for text in numbers(8):
            await b.clock.advance(10)
            await say(b, text)
        assert (await alice.closed()).code == 4003
        assert said(alice) == numbers(7)


# --- what is no event


async def test_a_binary_frame_is_1003() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(b'{"type":"ping"}')
        assert (await alice.closed()).code == 1003
        assert types(alice) == ["hello"]


async def test_a_message_that_is_too_big_is_invalid_and_1009() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send('{"type":"ping","x":"' + "x" * 16_384 + '"}')
        error = await alice.receive_frame()
        assert error["data"]["code"] == "INVALID_EVENT"
        assert error["data"]["detail"] == "$: expected at most 16384 bytes"
        assert (await alice.closed()).code == 1009


async def test_the_size_is_that_of_its_bytes() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send('{"type":"ping","x":"' + "x" * 16_362 + '"}')
        assert types(alice)[1:] == ["pong"]
        await alice.send('{"type":"ping","x":"' + "ü" * 8_200 + '"}')
        assert (await alice.closed()).code == 1009


async def test_an_end_of_our_own_waits_two_seconds_for_who_does_not_read() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice")
        alice.transport.stall()
        await desk.sessions[0].send(Said("one"))
        await alice.send(b"binary")
        await b.clock.advance(1.9)
        assert not alice.transport.ended
        assert b.app.node.hub.rooms["w"].everyone()
        await b.clock.advance(0.1)  # and as long for the close frame
        assert not b.app.node.hub.rooms["w"].everyone()
        await b.clock.advance(2)
        assert not b.app.node.sessions
        assert desk.codes == [1003]


async def test_what_waits_goes_out_before_an_end_of_our_own() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice")
        for text in numbers(3):
            await desk.sessions[0].send(Said(text))
        await alice.send(b"binary")
        assert said(alice) == numbers(3)
        assert (await alice.closed()).code == 1003


async def test_the_tenth_invalid_event_within_a_minute_is_answered_and_4500() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(9):
            await alice.send("nonsense")
        assert not alice.transport.ended
        await b.clock.advance(59)
        await alice.send("nonsense")
        assert types(alice) == ["hello", *["error"] * 10]
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4500, "too many invalid events")


async def test_the_minute_slides() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(100):
            await b.clock.advance(6.7)  # nine in any minute
            await alice.send("nonsense")
        assert not alice.transport.ended


async def test_an_unknown_event_counts_half() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(19):
            await alice.send({"type": "nobody.owns.it"})
        assert not alice.transport.ended
        await alice.send({"type": "nobody.owns.it"})
        assert types(alice).count("error") == 20
        assert (await alice.closed()).code == 4500


async def test_both_kinds_are_counted_together() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(9):
            await alice.send("nonsense")
        await alice.send({"type": "nobody.owns.it"})
        assert not alice.transport.ended
        await alice.send({"type": "nobody.owns.it"})
        assert (await alice.closed()).code == 4500


async def test_what_a_plugin_refuses_counts_for_nothing() -> None:
    desk = Desk()

    async def refuse(session: Session, event: Say) -> None:
        raise Closed

    desk.handle = refuse
    async with bench(desk) as b:
        alice = await b.connect("alice")
        for _ in range(50):
            await alice.send(Say("x"))
        assert not alice.transport.ended
        assert types(alice).count("error") == 50


# --- ping


async def test_ten_pings_at_once_and_one_a_second_from_then_on() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(11):
            await alice.send(PING)
        assert types(alice) == ["hello", *["pong"] * 10, "error"]
        assert alice.frames[-1]["data"] == {
            "message": "Too many requests.",
            "code": "RATE_LIMITED",
            "retry_after_ms": 1000,
        }
        await b.clock.advance(0.5)
        await alice.send(PING)
        alice._take()
        assert alice.frames[-1]["data"]["retry_after_ms"] == 500
        await b.clock.advance(0.5)
        await alice.send(PING)
        assert types(alice)[-1] == "pong"


async def test_the_bucket_holds_no_more_than_ten() -> None:
    async with bench(settings=PATIENT) as b:
        alice = await b.connect("alice")
        await b.clock.advance(3600)
        for _ in range(12):
            await alice.send(PING)
        assert types(alice) == ["hello", *["pong"] * 10, "error", "error"]


async def test_a_ping_with_a_reference_is_answered_with_it() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(PING, ref="r1")
        await alice.send({"type": "ping", "data": {"x": 1}, "ref": 7})
        alice._take()
        assert alice.frames[1:] == [{"type": "pong", "ref": "r1"}, {"type": "pong", "ref": 7}]


async def test_a_ping_that_is_refused_says_which() -> None:
    async with bench(settings=Settings(ping_burst=1)) as b:
        alice = await b.connect("alice")
        await alice.send(PING)
        await alice.send(PING, ref="second")
        alice._take()
        assert alice.frames[-1]["data"]["ref"] == "second"


async def test_a_minute_of_excess_is_4006() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(10):
            await alice.send(PING)
        sent = 0
        while not alice.transport.ended:
            await alice.send(PING)
            await b.clock.advance(0.5)
            sent += 1
        assert 119 <= sent <= 122
        closed = await alice.closed()
        assert closed.code == 4006
        assert closed.reason.startswith("retry_after_ms=")


async def test_who_slows_down_for_a_while_begins_a_new_minute() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(10):
            for _ in range(60):
                await alice.send(PING)
                await b.clock.advance(0.5)
            await b.clock.advance(11)
        assert not alice.transport.ended


# --- events of clients


async def test_what_was_handled_is_acknowledged_where_it_was_asked_for() -> None:
    async with bench(Desk) as b:
        alice = await b.connect("alice")
        await alice.send(Say("one"))
        assert types(alice) == ["hello"]
        await alice.send(Say("two"), ref="r1")
        ack = await alice.receive_frame()
        assert (ack["type"], ack["data"]) == ("ack", {"ref": "r1"})
        await alice.request(Say("three"))


async def test_events_of_one_connection_are_handled_one_after_the_other() -> None:
    desk, go_on = Desk(), anyio.Event()

    async def wait(session: Session, event: Say) -> None:
        if event.text == "slow":
            await go_on.wait()

    desk.handle = wait
    async with bench(desk) as b:
        alice = await b.connect("alice")
        bob = await b.connect("bob")
        await alice.send(Say("slow"))
        await alice.send(Say("next"))
        await bob.send(Say("bob's"))
        assert desk.handled == ["slow", "bob's"]
        go_on.set()
        await settle()
        assert desk.handled == ["slow", "bob's", "next"]


async def test_a_hook_may_replace_it() -> None:
    desk = Desk()

    async def shout(session: Session, event: Say) -> Say:
        return Say(event.text.upper())

    desk.decide = shout
    async with bench(desk) as b:
        alice = await b.connect("alice")
        await alice.request(Say("hello"))
        assert desk.handled == ["HELLO"]


@pytest.mark.parametrize("hook", ["decide", "handle"])
@pytest.mark.parametrize(
    ("error", "code"),
    [(Closed(), "DESK_CLOSED"), (Unauthorized(), "UNAUTHORIZED"), (RuntimeError("secret"), "INTERNAL_ERROR")],
    ids=["a code of the plugin's own", "a code of the core's", "a failure"],
)
async def test_who_asked_hears_what_came_of_it(hook: str, error: Exception, code: str) -> None:
    desk = Desk()

    async def fail(session: Session, event: Say) -> None:
        raise error

    setattr(desk, hook, fail)
    async with bench(desk) as b:
        alice = await b.connect("alice")
        await alice.send(Say("x"), ref="r1")
        answer = await alice.receive_frame()
        assert answer["type"] == "error"
        assert (answer["data"]["code"], answer["data"]["ref"]) == (code, "r1")
        assert await alice.pending() == []  # and no ack
        assert "secret" not in str(alice.frames)
        assert desk.handled == ([] if hook == "decide" else ["x"])


async def test_a_handler_that_takes_too_long_is_cut_off_after_5_seconds() -> None:
    desk = Desk()

    async def hang(session: Session, event: Say) -> None:
        await anyio.sleep_forever()

    desk.handle = hang
    async with bench(desk) as b:
        alice = await b.connect("alice")
        await alice.send(Say("x"), ref="r1")
        await b.clock.advance(4.9)
        assert types(alice) == ["hello"]
        await b.clock.advance(0.2)
        answer = await alice.receive_frame()
        assert answer["data"]["code"] == "INTERNAL_ERROR"
        await alice.send(PING)
        assert types(alice)[-1] == "pong"


async def test_without_the_engine_what_needs_it_is_an_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()

    async def publish(session: Session, event: Say) -> None:
        await session.workspace.publish(Said(event.text))

    desk.handle = publish
    async with bench(desk) as b:
        alice = await b.connect("alice")
        b.nodes[0].partition()
        with caplog.at_level(logging.WARNING):
            await alice.send(Say("x"), ref="r1")
            await b.clock.advance(4)
        answer = await alice.receive_frame()
        assert answer["data"]["code"] == "INTERNAL_ERROR"
        assert "say could not be handled" in caplog.text
        assert not alice.transport.ended
        b.nodes[0].heal()


# --- what is sent to one connection


async def test_what_is_sent_to_one_connection_reaches_no_other() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        await desk.sessions[0].send(Said("for alice"))
        await desk.sessions[0].send(Mood("bob", "fine"))
        await settle()
        assert (types(alice)[1:], types(bob)[1:]) == (["said", "mood"], [])


async def test_an_event_waits_behind_what_was_sent_before() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice")
        await desk.sessions[0].send(Said("1"))
        await say(b, "2")
        await settle()
        assert said(alice) == ["1", "2"]


async def test_a_topic_reaches_those_who_watch_it() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        session = desk.sessions[0]
        session.watch("poll:p1")
        session.watch("poll:p1")
        assert session.watches("poll:p1")
        await b.workspace().publish(Mood("x", "1"), to=Topic("poll:p1"))
        await settle()
        session.unwatch("poll:p1")
        session.unwatch("poll:p1")
        await b.workspace().publish(Mood("x", "2"), to=Topic("poll:p1"))
        await settle()
        assert (types(alice)[1:], types(bob)[1:]) == (["mood"], [])


async def test_a_topic_may_be_watched_before_it_is_live_and_after_it_is_gone() -> None:
    desk = Desk()

    async def watch(session: Session) -> None:
        session.watch("a")
        session.watch("b")
        session.unwatch("b")

    desk.opened = watch
    async with bench(desk) as b:
        alice = await b.connect("alice")
        await b.workspace().publish(Mood("x", "1"), to=Topic("a"))
        await b.workspace().publish(Mood("y", "1"), to=Topic("b"))
        await settle()
        assert types(alice) == ["hello", "mood"]
        assert alice.frames[-1]["data"]["user_id"] == "x"
        alice.drop()
        await settle()
        session = desk.sessions[0]
        session.watch("c")
        session.unwatch("c")
        await session.send(Said("nobody reads it"))


# --- it ends


async def test_a_hook_may_end_it_and_nothing_more_is_delivered() -> None:
    desk = Desk()

    async def end(session: Session, event: Say) -> None:
        session.close(4900, "enough")
        session.close(4901, "the first to say so is heard")
        await session.send(Said("too late"))

    desk.handle = end
    async with bench(desk) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        await alice.send(Say("x"), ref="r1")
        await say(b, "after")
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4900, "enough")
        assert types(alice) == ["hello"]
        assert said(bob) == ["after"]
        assert desk.codes == [4900]


async def test_a_code_of_ours_has_its_reason_without_being_told() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        desk.sessions[0].close(CloseCode.NO_ACCESS)
        desk.sessions[1].close()
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4502, "no access to this workspace")
        assert (await bob.closed()).code == 1000


async def test_what_had_been_queued_for_it_is_not_sent_any_more() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice")
        alice.transport.stall()
        await say(b, "stuck", "queued")
        await b.clock.advance(0.01)
        await say(b, "more")
        desk.sessions[0].close(4900)
        await settle()
        alice.transport.read_on()
        assert (await alice.closed()).code == 4900
        assert said(alice) == ["stuck"]


@profiles
async def test_the_main_job_on_every_server(profile: Profile) -> None:
    async with bench(Desk) as b:
        alice, bob = await b.connect("alice", profile=profile), await b.connect("bob", profile=profile)
        await alice.request(Say("x"))
        await alice.send(PING)
        await say(b, *numbers(100))
        await settle()
        assert types(alice) == ["hello", "pong", *["said"] * 100]
        assert said(alice) == said(bob) == numbers(100)


@profiles
@pytest.mark.parametrize("code", [1000, 1001, 4999, None])
async def test_a_client_that_goes_is_gone_at_once(profile: Profile, code: int | None) -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice, bob = await b.connect("alice", profile=profile), await b.connect("bob", profile=profile)
        alice.transport.disconnect(code)
        await settle()
        heard = code if code is not None and profile.hears_code else profile.disconnect_code or 1005
        assert desk.codes == [heard]
        assert len(b.app.node.sessions) == 1
        await say(b, "after")
        await settle()
        assert said(bob) == ["after"]


@profiles
async def test_it_is_always_closed_explicitly(profile: Profile) -> None:
    """A server may not write the code, and must not keep the socket for it."""
    async with bench(Desk) as b:
        alice = await b.connect("alice", profile=profile)
        await alice.send(b"binary")
        closed = await alice.closed()
        assert closed.code == (1003 if profile.every_code else 1000)
        assert alice.transport.ended


@profiles
@pytest.mark.parametrize("code", [1009, 1011, 1012, 1013, 4002, 4500])
async def test_codes_that_a_server_refuses_to_write_become_1000(profile: Profile, code: int) -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice", profile=profile)
        desk.sessions[0].close(code)
        closed = await alice.closed()
        assert closed.code == (code if profile.every_code or code >= 3000 else 1000)
        assert desk.codes == [code]
        assert not b.app.node.sessions


@profiles
async def test_a_refusal_that_a_server_cannot_write_becomes_1000(profile: Profile) -> None:
    class Broken:
        name = "broken"

        @hookimpl
        async def authenticate(self) -> Principal:
            raise RuntimeError("the accounts are away")

    async with bench(Broken) as b:
        alice = await b.open("alice", profile=profile)
        assert (await alice.receive_frame())["data"]["code"] == "INTERNAL_ERROR"
        assert (await alice.closed()).code == (1013 if profile.every_code else 1000)


async def test_a_socket_that_is_gone_cannot_be_closed_and_nobody_minds() -> None:
    desk = Desk()

    async def end(session: Session, event: Say) -> None:
        session.close(4900)

    desk.handle = end
    async with bench(desk) as b:
        alice = await b.connect("alice")
        alice.transport.put({"type": "websocket.receive", "text": '{"type":"say","text":"x"}'})
        alice.drop()
        await settle()
        assert desk.codes == [4900]
        assert not b.app.node.sessions


async def test_a_close_that_cannot_be_written_is_given_up_after_two_seconds() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice")
        alice.transport.stall()
        desk.sessions[0].close(4900)
        await settle()
        assert len(b.app.node.sessions) == 1
        await b.clock.advance(2.1)
        assert not b.app.node.sessions
        assert desk.codes == [4900]


async def test_a_task_that_is_stuck_in_a_send_is_freed_by_a_close_from_outside() -> None:
    """On some servers nothing else does, and the task itself cannot come to it."""
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice", profile=ANYCORN)
        alice.transport.stall()
        await alice.send(PING)  # the answer is the one that does not come back
        desk.sessions[0].close(4900)
        await settle()
        assert len(b.app.node.sessions) == 1
        await b.clock.advance(2.1)
        assert (await alice.closed()).code == 4900
        assert not b.app.node.sessions


async def test_a_stuck_send_of_its_own_task_is_noticed_after_ten_seconds() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice")
        alice.transport.stall()
        await alice.send(PING)
        await b.clock.advance(9.9)
        assert len(b.app.node.sessions) == 1
        await b.clock.advance(2.3)
        assert not b.app.node.sessions
        assert desk.codes == [4002]


@pytest.mark.parametrize("profile", [UVICORN, ANYCORN], ids=["uvicorn", "anycorn"])
async def test_hello_to_somebody_who_does_not_read_is_over_after_ten_seconds(profile: Profile) -> None:
    desk, go_on = Desk(), anyio.Event()

    async def wait(session: Session) -> None:
        await go_on.wait()

    desk.opened = wait
    async with bench(desk) as b:
        alice = await b.open("alice", profile=profile)
        alice.transport.stall()
        go_on.set()
        await b.clock.advance(15)
        assert types(alice) == []
        assert not b.app.node.sessions
        assert desk.codes == [4002]


# --- expiry


async def test_delivery_stops_when_the_token_runs_out_and_25_seconds_later_it_is_over() -> None:
    desk = Desk()
    async with bench(desk, settings=PATIENT) as b:
        alice = await b.connect(principal=a_token(b, 60))
        bob = await b.connect("bob")
        await b.clock.advance(59.9)
        await say(b, "in time")
        await b.clock.advance(0.1)
        await say(b, "too late")
        await b.clock.advance(24.9)
        assert not alice.transport.ended
        await b.clock.advance(0.1)
        assert types(alice) == ["hello", "said", "error"]
        assert alice.frames[-1]["data"]["code"] == "INVALID_TOKEN"
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4004, "token expired")
        assert said(alice) == ["in time"]
        assert said(bob) == ["in time", "too late"]


async def test_an_expired_connection_is_alive_but_may_not_act() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(61)
        await alice.send(PING)
        await alice.send(Say("x"), ref="r1")
        await alice.send(Whisper(), ref="r2")
        assert types(alice) == ["hello", "pong", "error", "ack"]
        assert alice.frames[2]["data"]["code"] == "INVALID_TOKEN"
        assert desk.handled == ["whispered"]


@pytest.mark.parametrize(("over", "code"), [(4.0, None), (6.0, 4004)])
async def test_a_token_that_has_just_run_out_gets_hello_and_nothing_more(over: float, code: int | None) -> None:
    async with bench(Desk) as b:
        alice = await b.open(principal=a_token(b, -over))
        await say(b, "not for her")
        if code is None:
            assert types(alice) == ["hello"]
            await b.clock.advance(25 - over - 0.1)
            assert not alice.transport.ended
            await b.clock.advance(0.2)
            assert (await alice.closed()).code == 4004
        else:
            assert (await alice.receive_frame())["data"]["code"] == "INVALID_TOKEN"
            assert (await alice.closed()).code == code


async def test_under_a_fresh_token_what_was_missed_follows_first_in_order_and_once() -> None:
    desk = Desk()
    async with bench(desk, settings=Settings(outbox_events=5)) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await say(b, "before")
        await b.clock.advance(60)
        await say(b, *numbers(300))
        assert said(alice) == ["before"]
        await desk.sessions[0].renew(a_token(b, 600))
        await say(b, "after")
        await settle()
        assert said(alice) == ["before", *numbers(300), "after"]


async def test_a_fresh_token_in_time_changes_nothing_on_the_wire() -> None:
    desk = Desk()
    async with bench(desk, settings=PATIENT) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(59)
        await desk.sessions[0].renew(a_token(b, 60))
        for text in numbers(50):
            await b.clock.advance(1)
            await say(b, text)
        assert said(alice) == numbers(50)


async def test_a_token_without_an_end_stays() -> None:
    desk = Desk()
    async with bench(desk, settings=PATIENT) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(70)
        await desk.sessions[0].renew(Principal("alice"))
        await b.clock.advance(3600)
        await say(b, "still here")
        await settle()
        assert said(alice) == ["still here"]


async def test_somebody_elses_token_renews_nothing() -> None:
    desk = Desk()
    async with bench(desk, settings=PATIENT) as b:
        alice = await b.connect(principal=a_token(b, 60))
        with pytest.raises(InvalidToken):
            await desk.sessions[0].renew(Principal("mallory"))
        await b.clock.advance(86)
        assert (await alice.closed()).code == 4004


async def test_several_fresh_tokens_at_once_are_one() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(100))
        for _ in range(3):
            await desk.sessions[0].renew(a_token(b, 600))
        await say(b, "after")
        await settle()
        assert said(alice) == [*numbers(100), "after"]


async def test_it_may_run_out_again_and_again() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 10))
        expected = []
        for round in range(5):
            await b.clock.advance(10)
            expected.append(f"missed {round}")
            await say(b, expected[-1])
            await b.clock.advance(5)
            await desk.sessions[0].renew(a_token(b, 10))
            expected.append(f"live {round}")
            await say(b, expected[-1])
            await alice.send(PING)
        assert said(alice) == expected


async def test_a_token_that_runs_out_while_the_missed_is_read_stops_it_there() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(200))
        alice.transport.stall()
        await desk.sessions[0].renew(a_token(b, 2))
        await b.clock.advance(3)
        alice.transport.read_on()
        await settle()
        assert said(alice) == ["0"]
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        assert said(alice) == numbers(200)


async def test_what_is_no_longer_kept_is_4004() -> None:
    desk = Desk()
    async with bench(desk, settings=Settings(history_events=10)) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(300))
        await desk.sessions[0].renew(a_token(b, 600))
        assert (await alice.closed()).code == 4004
        assert said(alice) == []


async def test_without_the_engine_it_cannot_catch_up_and_is_1013() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(300))  # more than the node has at hand
        b.nodes[0].partition()
        await desk.sessions[0].renew(a_token(b, 600))
        assert (await alice.closed()).code == 1013
        b.nodes[0].heal()


async def test_what_was_passing_and_is_forgotten_is_not_missed() -> None:
    desk = Desk()
    async with bench(desk, settings=PATIENT) as b:
        alice = await b.connect(principal=Principal("alice", b.clock.time() + 10, grace=1_000))
        bob = await b.connect("bob")
        await b.clock.advance(10)
        for number in range(300):
            await b.workspace().publish(Mood("bob", str(number)))
        await b.clock.advance(100)
        for number in range(RECENT):  # so that the node has none of them at hand either
            await say(b, str(number))
        await desk.sessions[0].renew(a_token(b, 600))
        await say(b, "live")
        await settle()
        assert types(alice) == ["hello", *["said"] * (RECENT + 1)]
        assert len(types(bob)) == 302 + RECENT


async def test_who_comes_to_see_a_channel_meanwhile_sees_what_was_said_there_from_then_on() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice", principal=a_token(b, 60), channels=["c1"])
        await b.workspace().publish(message("m0"))
        await b.clock.advance(60)
        for event in (
            message("m1"),
            message("hidden-1", "c2"),
            MemberJoined("c2", "alice"),
            message("m2", "c2"),
            MemberLeft("c1", "alice"),
            message("hidden-2"),
            MemberLeft("c2", "bob"),
            ChannelCreated("c3", "three", "public", "bob"),
            message("m3", "c3"),
        ):
            await b.workspace().publish(event, to=Everyone() if isinstance(event, ChannelCreated) else None)
        await desk.sessions[0].renew(a_token(b, 600))
        await b.workspace().publish(message("m4", "c2"))
        await b.workspace().publish(message("hidden-3"))
        await settle()
        alice._take()
        ids = [frame["data"]["id"] for frame in alice.frames if frame["type"] == "message.new"]
        assert ids == ["m0", "m1", "m2", "m3", "m4"]
        assert desk.sessions[0].sees("c2")
        assert not desk.sessions[0].sees("c1")


async def test_where_the_log_ends_it_sees_what_has_not_come_by_here_yet() -> None:
    """What another node has acknowledged counts."""
    async with bench(Desk, nodes=2) as b:
        await b.connect("alice", channels=["c1"])
        desk = b.app.plugins.objects["desk"]
        assert isinstance(desk, Desk)
        [session] = desk.sessions
        b.nodes[0].link.gate = Gate(("feed",))
        other = b.workspace(node=1)
        await other.publish_all(message(f"old-{number}") for number in range(100))  # more than are read at a time
        for event, sees in (
            (message("m1"), (True, False)),
            (MemberJoined("c2", "bob"), (True, False)),
            (MemberJoined("c3", "alice"), (True, False)),
            (MemberJoined("c2", "alice"), (True, True)),
            (MemberLeft("c2", "alice"), (True, False)),
            (ChannelCreated("c2", "two", "public", "bob"), (True, True)),
            (ChannelDeleted("c1"), (True, True)),  # it is asked before refusing; what ends, ends in its place
        ):
            await other.publish(event, to=Everyone())
            assert tuple([await session.sees_now(channel) for channel in ("c1", "c2")]) == sees, event
        assert (session.sees("c1"), session.sees("c2")) == (True, False)
        b.nodes[0].link.gate.open()
        await settle()
        assert (session.sees("c1"), session.sees("c2")) == (False, True)


async def test_what_was_on_its_way_when_it_ran_out_comes_with_the_fresh_token() -> None:
    """Dispatched by the memberships of that moment, and not looked up again by those of a later one."""
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice", principal=a_token(b, 5), channels=["c1"])
        alice.transport.stall()
        for event in (message("m0"), message("m1"), MemberLeft("c1", "alice"), message("hidden")):
            await b.workspace().publish(event)
        await b.clock.advance(5)
        alice.transport.read_on()
        await settle()
        assert types(alice) == ["hello", "message.new"]
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        assert types(alice) == ["hello", "message.new", "message.new", "member.left"]


async def test_who_ran_out_in_the_middle_of_a_fan_out_misses_nothing_and_leaks_nothing() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect("alice", principal=a_token(b, 60), channels=["c1"])
        await b.connect("bob", channels=["c1"])
        b.clock.set_wall(60)  # no timer notices it: the pump does, at the first frame
        for event in (message("m0"), MemberLeft("c1", "alice"), message("hidden")):
            await b.workspace().publish(event)
        await settle()
        assert types(alice) == ["hello"]
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        assert types(alice) == ["hello", "message.new", "member.left"]


async def test_a_clock_that_is_set_back_gives_the_token_its_time_back() -> None:
    desk = Desk()
    async with bench(desk, settings=PATIENT) as b:
        alice = await b.connect(principal=a_token(b, 60))
        b.clock.set_wall(-30)
        await b.clock.advance(60)
        await say(b, "still good")
        await alice.send(PING)
        await b.clock.advance(30)
        await say(b, "missed")
        assert said(alice) == ["still good"]
        b.clock.set_wall(-40)  # and in the grace once more
        await b.clock.advance(25)
        await settle()
        assert said(alice) == ["still good", "missed"]
        await b.clock.advance(15)
        await say(b, "too late")
        assert said(alice) == ["still good", "missed"]
        await b.clock.advance(25)
        assert (await alice.closed()).code == 4004


async def test_answers_go_on_while_the_missed_is_read() -> None:
    """The receive loop is free: on a slow link it takes longer than a server waits for a pong."""
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(5))
        alice.transport.stall()
        await desk.sessions[0].renew(a_token(b, 600))
        await alice.send(Say("heard"))
        assert desk.handled == ["heard"]
        await alice.send(PING)
        alice.transport.read_on()
        await settle()
        assert said(alice) == numbers(5)
        assert types(alice).count("pong") == 1


async def test_who_goes_while_the_missed_is_read_leaves_nothing_behind() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(200))
        alice.transport.stall()
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        alice.drop()
        await settle()
        assert not b.app.node.sessions
        assert not b.app.node.hub.rooms


async def test_who_is_ended_while_the_missed_is_read_gets_no_more_of_it() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        await say(b, *numbers(200))
        alice.transport.stall()
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        desk.sessions[0].close(4900)
        await settle()
        alice.transport.read_on()
        assert (await alice.closed()).code == 4900
        assert said(alice) == ["0"]


async def test_a_token_renewed_as_it_goes_is_harmless() -> None:
    desk = Desk()
    async with bench(desk) as b:
        alice = await b.connect(principal=a_token(b, 60))
        await b.clock.advance(60)
        alice.drop()
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        await desk.sessions[0].renew(a_token(b, 600))
        await settle()
        assert not b.app.node.sessions


# --- idle


async def test_whether_somebody_is_there_is_told_once() -> None:
    desk = Desk()
    told: list[int] = []

    class Listener:
        name = "listener"

        @hookimpl
        async def roster_changed(self, after: Any) -> None:
            told.append(after.idle)

    async with bench(desk, Listener) as b:
        await b.connect("alice")
        for idle in (True, True, False):
            await desk.sessions[0].set_idle(idle)
        assert told == [0, 1, 0]
