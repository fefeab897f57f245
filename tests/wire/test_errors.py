"""What a client is told when something goes wrong: section 4 of the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jackfield import CloseCode, Refused, Unauthorized
from jackfield._registry import Registry
from jackfield._wire import Wire
from jackfield.errors import Fault, InvalidEvent, InvalidToken, RateLimited, Revoked, UnknownEvent
from jackfield.testing import bench
from jackfield_typing import Typing

STAMP = "2024-01-01T12:00:00.000Z"
AT = 1_704_110_400.0
PLAIN = Wire(Registry(), max_bytes=16384)
STRICT = Wire(Registry(), max_bytes=16384, strict_error_codes=True)


class BallotClosed(Refused):
    """This poll is closed.

    What stands here is for who reads the code.
    """

    code = "BALLOT_CLOSED"


class Wordless(Refused):
    code = "WORDLESS"


def said(wire: Wire, refused: Refused | None, ref: str | int | None = None) -> dict[str, Any]:
    error = json.loads(wire.error(refused, ref, AT))
    assert list(error) == ["type", "data", "timestamp"]
    assert (error["type"], error["timestamp"]) == ("error", STAMP)
    data: dict[str, Any] = error["data"]
    return data


CONSTANT = {
    "INVALID_TOKEN": (InvalidToken(), "Authentication token is invalid."),
    "INVALID_TOKEN, expired": (InvalidToken(expired=True), "Authentication token is invalid."),
    "UNAUTHORIZED": (Unauthorized(), "User not authorized."),
    "UNAUTHORIZED, revoked": (Revoked(), "User not authorized."),
    "UNKNOWN_EVENT": (UnknownEvent(), "No such event."),
    "INVALID_EVENT": (InvalidEvent(), "The event is not valid."),
    "BALLOT_CLOSED": (BallotClosed(), "This poll is closed."),
    "WORDLESS": (Wordless(), "WORDLESS"),
}


@pytest.mark.parametrize(
    ("code", "refused", "message"),
    [pytest.param(name.partition(",")[0], *row, id=name) for name, row in CONSTANT.items()],
)
def test_a_code_has_one_text(code: str, refused: Refused, message: str) -> None:
    assert said(PLAIN, refused) == {"message": message, "code": code}
    assert list(said(PLAIN, refused)) == ["message", "code"]


@pytest.mark.parametrize(
    "refused",
    [InvalidToken("a secret"), Unauthorized("a secret"), UnknownEvent("a secret"), BallotClosed("a secret")],
    ids=lambda refused: refused.code,
)
def test_what_a_plugin_says_of_it_stays_with_us(refused: Refused) -> None:
    assert "secret" not in json.dumps(said(PLAIN, refused))
    assert "secret" not in json.dumps(said(STRICT, refused))


def test_an_invalid_event_names_the_field() -> None:
    refused = InvalidEvent(faults=[Fault("$.data.n", "expected a number"), Fault("$.data.m", "required")])
    assert said(PLAIN, refused) == {
        "message": "The event is not valid.",
        "code": "INVALID_EVENT",
        "detail": "$.data.n: expected a number",
    }


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [
        pytest.param(1.0, 1000, id="a second"),
        pytest.param(0.5, 500, id="half a second"),
        pytest.param(0.1, 100, id="a tenth"),
        pytest.param(1 / 3, 334, id="never too early"),
        pytest.param(0.0001, 1, id="hardly anything"),
        pytest.param(0.0, 1, id="nothing"),
        pytest.param(2.0 - 0.9, 1100, id="what floating point makes of 1.1"),
        pytest.param(1 - 0.9, 100, id="what floating point makes of 0.1"),
        pytest.param(86400.0, 86_400_000, id="a day"),
    ],
)
def test_who_waits_as_long_as_he_was_told_has_waited_long_enough(seconds: float, milliseconds: int) -> None:
    assert said(PLAIN, RateLimited(seconds)) == {
        "message": "Too many requests.",
        "code": "RATE_LIMITED",
        "retry_after_ms": milliseconds,
    }


@pytest.mark.parametrize("ref", ["r", "", 0, -1, 2**53])
@pytest.mark.parametrize(
    "refused",
    [None, Unauthorized(), RateLimited(), InvalidEvent("$: expected JSON"), UnknownEvent(), BallotClosed()],
    ids=lambda refused: "failure" if refused is None else refused.code,
)
@pytest.mark.parametrize("wire", [PLAIN, STRICT], ids=["plain", "strict"])
def test_a_ref_is_echoed_last(wire: Wire, refused: Refused | None, ref: str | int) -> None:
    data = said(wire, refused, ref)
    assert list(data)[-1] == "ref"
    assert data.pop("ref") == ref
    assert data == said(wire, refused)


@pytest.mark.parametrize(
    ("refused", "detail"),
    [
        pytest.param(InvalidEvent("$.type: expected"), "INVALID_EVENT", id="invalid"),
        pytest.param(InvalidEvent(), "INVALID_EVENT", id="invalid, without a field"),
        pytest.param(UnknownEvent(), "UNKNOWN_EVENT", id="unknown"),
    ],
)
def test_strict_sends_the_two_of_ours_as_a_code_of_the_specification(refused: Refused, detail: str) -> None:
    assert said(STRICT, refused) == {"message": "Server error.", "code": "INTERNAL_ERROR", "detail": detail}


@pytest.mark.parametrize(
    "refused",
    [None, InvalidToken(), Unauthorized(), Revoked(), RateLimited(2.0), BallotClosed()],
    ids=lambda refused: "failure" if refused is None else type(refused).__name__,
)
def test_strict_changes_nothing_else(refused: Refused | None) -> None:
    assert STRICT.error(refused, None, AT) == PLAIN.error(refused, None, AT)


# --- what it does to a connection


async def test_the_tenth_invalid_event_is_answered_and_then_close_4500() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(10):
            await alice.send("nonsense")
        assert [type(event).__name__ for event in await alice.pending()] == ["Error"] * 10
        assert (await alice.closed()).code == CloseCode.INVALID_EVENTS == 4500


async def test_an_unknown_event_counts_half() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(19):
            await alice.send({"type": "nothing"})
        assert len(await alice.pending()) == 19
        await alice.send({"type": "nothing"})
        assert len(await alice.pending()) == 1
        assert (await alice.closed()).code == 4500


async def test_what_was_invalid_a_minute_ago_is_forgotten() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(30):
            await alice.send("nonsense")
            await b.clock.advance(7.0)
        assert len(await alice.pending()) == 30


async def test_a_ping_after_the_time_that_it_was_told_to_wait_is_answered() -> None:
    async with bench() as b:
        alice = await b.connect("alice")
        for _ in range(10):
            await alice.send({"type": "ping"})
        await b.clock.advance(0.3336)
        assert len(await alice.pending()) == 10
        await alice.send({"type": "ping"})
        error = await alice.receive_frame()
        await b.clock.advance(error["data"]["retry_after_ms"] / 1000)
        await alice.send({"type": "ping"})
        assert await alice.receive_frame() == {"type": "pong"}


async def test_a_refusal_of_the_plugin_counts_nothing() -> None:
    async with bench(Typing) as b:
        alice = await b.connect("alice", channels=["c1"])
        for _ in range(30):
            await alice.send({"type": "typing", "channel_id": "c2", "is_typing": True})
        assert {frame.code for frame in await alice.pending()} == {"UNAUTHORIZED"}  # type: ignore[attr-defined]
