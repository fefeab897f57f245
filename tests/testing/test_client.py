"""The client of a bench: what it says of what came, and of what did not come."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import anyio
import attrs
import pytest

from jackfield import ClientEvent, Refused, ServerEvent, Session, Settings, hookimpl, latest, on, testing
from jackfield._refusals import InternalError, OtherRefusal
from jackfield.errors import InvalidEvent, InvalidToken, RateLimited, Unauthorized
from jackfield.events import Ack, Hello, Ping, Pong
from jackfield.testing import ANYCORN, DAPHNE, GRANIAN, HYPERCORN, UVICORN, Closed, Profile
from jackfield.testing._link import Gate

HELLO = '  · {"type":"hello",'


class UrnClosed(Refused):
    """This poll is closed."""

    code = "URN_CLOSED"


class Wordless(Refused):
    """Says nothing of its own."""


class Vote(ClientEvent, type="vote"):
    """What becomes of it stands in it."""

    how: str = ""


class Counted(ServerEvent, type="counted", delivery=latest()):
    """A vote was counted."""


def made_up() -> Refused:
    """A code that no class has."""
    refused = UrnClosed()
    refused.code = "MADE_UP"  # type: ignore[misc]
    return refused


RAISED = {
    "token": InvalidToken(),
    "unauthorized": Unauthorized(),
    "limited": RateLimited(2.5),
    "own": UrnClosed(),
    "wordless": Wordless(),
    "refused": Refused(),
    "failure": RuntimeError(),
    "made up": made_up(),
}


@attrs.define(eq=False)
class Ballot:
    name: str = "ballot"

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent | ServerEvent]]:
        return Vote, Counted

    @on(Vote)
    async def vote(self, session: Session, event: Vote) -> None:
        if event.how == "never":
            await anyio.sleep_forever()
        if event.how in RAISED:
            raise RAISED[event.how]
        await session.send(Counted())


bench = partial(testing.bench, Ballot)


# --- Asking


@pytest.mark.parametrize(
    ("how", "raises"),
    [
        ("token", InvalidToken),
        ("unauthorized", Unauthorized),
        ("own", UrnClosed),
        ("wordless", Refused),
        ("refused", Refused),
        ("failure", InternalError),
        ("made up", OtherRefusal),
    ],
)
async def test_a_request_raises_what_the_plugin_raised(how: str, raises: type[Refused]) -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        with pytest.raises(Refused) as refused:
            await alice.request(Vote(how))
        assert type(refused.value) is raises
        assert await alice.pending() == []  # the answer is taken


async def test_a_request_that_comes_too_soon_raises_how_long_to_wait() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        with pytest.raises(RateLimited) as limited:
            await alice.request(Vote("limited"))
        assert limited.value.retry_after == 2.5


async def test_a_request_that_is_no_event_raises_which_field() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        with pytest.raises(InvalidEvent, match=r"\$\.how: expected a string"):
            await alice.request({"type": "vote", "how": 7})


async def test_what_came_before_the_answer_waits_to_be_asked_for() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.request(Vote())
        await alice.request(Vote())
        assert await alice.pending() == [Counted(), Counted()]


async def test_the_answers_of_others_are_left_to_them() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(Vote("own"), ref="mine")
        await alice.send(Vote(), ref="mine")
        await alice.request(Vote())
        (error, counted, ack, again) = await alice.pending()
        assert (error.__event__.type, counted, ack, again) == ("error", Counted(), Ack("mine"), Counted())


async def test_a_request_that_nobody_answers_says_so_and_what_came() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(Vote())
        with pytest.raises(AssertionError) as error:
            await alice.request(Vote("never"))
        said, hello, counted = str(error.value).splitlines()
        assert said == "Vote(how='never') was not answered. What came (→ not asked for yet):"
        assert hello.startswith(HELLO)
        assert counted.startswith('  → {"type":"counted",')
        await b.clock.advance(5.1)
        assert [event.__event__.type for event in await alice.pending()] == ["counted", "error"]


# --- Hearing


async def test_another_event_than_the_one_that_was_waited_for_is_shown() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(Ping())
        with pytest.raises(AssertionError) as error:
            await alice.receive(Hello)
        said, hello, pong = str(error.value).splitlines()
        assert said == "expected hello, got {'type': 'pong'}. What came (→ not asked for yet):"
        assert hello.startswith(HELLO)
        assert pong == '  · {"type":"pong"}'


async def test_nothing_is_said_to_be_nothing() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        with pytest.raises(AssertionError, match=r"^nothing came\. What came \(→ not asked for yet\):\n  · \{"):
            await alice.receive()
        b.nodes[0].link.gate = Gate({"commit"})
        bob = await b.open("bob")
        with pytest.raises(AssertionError, match=r"^nothing came\. Nothing ever came\.$"):
            await bob.receive_frame()


async def test_any_event_can_be_waited_for() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(Ping())
        await alice.send(Vote())
        assert [await alice.receive(), await alice.receive()] == [Pong(), Counted()]


async def test_a_connection_that_stands_is_not_closed() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        with pytest.raises(AssertionError, match=r"^the connection stands\. What came"):
            await alice.closed()


@pytest.mark.parametrize("profile", [UVICORN, HYPERCORN, ANYCORN, GRANIAN, DAPHNE])
async def test_a_connection_that_was_cut_is_closed_1006(profile: Profile) -> None:
    async with bench() as b:
        alice = await b.connect("alice", profile=profile)
        alice.drop()
        closed = await alice.closed()
        assert (closed.code, closed.reason, closed.status, str(closed)) == (1006, "", None, "1006")


async def test_what_came_before_the_end_can_be_asked_for_still_and_then_the_end_is_raised() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        await alice.send(Vote())
        await alice.send(b"")
        assert await alice.receive() == Counted()
        with pytest.raises(Closed, match="1003 binary frame"):
            await alice.receive()


async def test_whoever_is_refused_by_http_is_told_its_status() -> None:
    async with bench(settings=Settings(reject="http")) as b:
        nobody = await b.open()
        with pytest.raises(Closed, match="HTTP 401") as closed:
            await nobody.receive()
        assert (closed.value.code, closed.value.status) == (None, 401)


async def test_two_sends_at_once_are_a_fault_that_every_look_at_it_raises() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        alice.transport.stall()
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(alice.transport.send, {"type": "websocket.send", "text": '{"type":"pong"}'})
            await testing.settle()
            alice.transport.read_on()
        with pytest.raises(AssertionError, match="two sends at the same time"):
            await alice.pending()
