"""The exceptions, the codes that clients read, and why connections end. Pure."""

from __future__ import annotations

import pytest

from jackfield import errors
from jackfield.errors import (
    INTERNAL_ERROR,
    CloseCode,
    ConfigurationError,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Fault,
    InvalidEvent,
    InvalidToken,
    JackfieldError,
    RateLimited,
    Refused,
    Revoked,
    Unauthorized,
    UnknownAudience,
    UnknownEvent,
)

TREE = """
JackfieldError
    ConfigurationError
    EngineError
        EngineUnavailable
        EngineRefused
    UnknownAudience
    Refused
        InvalidToken
        Unauthorized
            Revoked
        RateLimited
        InvalidEvent
        UnknownEvent
"""


def drawn(kind: type[Exception], level: int = 0) -> str:
    below = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return "    " * level + kind.__name__ + "\n" + "".join(drawn(sub, level + 1) for sub in below)


def test_the_tree_is_as_it_is_drawn() -> None:
    assert drawn(JackfieldError) == TREE.lstrip()
    in_words = [line.strip("│├└─ ").split()[0] for line in (errors.__doc__ or "").splitlines() if line[:4] == "    "]
    assert in_words == TREE.split()


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        (InvalidToken, "INVALID_TOKEN", "Authentication token is invalid."),
        (Unauthorized, "UNAUTHORIZED", "User not authorized."),
        (Revoked, "UNAUTHORIZED", "User not authorized."),
        (RateLimited, "RATE_LIMITED", "Too many requests."),
        (InvalidEvent, "INVALID_EVENT", "The event is not valid."),
        (UnknownEvent, "UNKNOWN_EVENT", "No such event."),
    ],
)
def test_a_refusal_has_a_code_and_a_constant_text(kind: type[Refused], code: str, text: str) -> None:
    assert (kind.code, kind.text()) == (code, text)
    assert kind().code == code
    assert str(kind()) == text


def test_a_failure_of_ours_has_one_too() -> None:
    assert INTERNAL_ERROR == ("INTERNAL_ERROR", "Server error.")


class BallotClosed(Refused):
    """This poll is closed.

    More for who reads the code.
    """

    code = "BALLOT_CLOSED"


class PollGone(BallotClosed):
    code = "POLL_GONE"


class Indented(Refused):
    """
    On a line of its own.
    """


def test_an_authors_refusal_reads_the_first_line_of_its_docstring() -> None:
    assert (BallotClosed.code, BallotClosed.text()) == ("BALLOT_CLOSED", "This poll is closed.")
    assert Indented.text() == "On a line of its own."


def test_one_without_a_docstring_reads_its_code() -> None:
    assert PollGone.text() == "POLL_GONE"


def test_a_detail_is_for_the_log_and_changes_no_text() -> None:
    refused = BallotClosed("poll p1 ended yesterday")
    assert str(refused) == refused.detail == "poll p1 ended yesterday"
    assert refused.text() == "This poll is closed."
    assert BallotClosed().detail is None


def test_an_expired_token_is_told_from_one_that_never_was() -> None:
    assert InvalidToken(expired=True).expired
    assert not InvalidToken().expired
    assert InvalidToken("why").detail == "why"


def test_a_limit_says_when_to_come_back() -> None:
    assert RateLimited().retry_after == 1.0
    assert RateLimited(0.25).retry_after == 0.25


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(1.0, 1000), (0.25, 250), (0.2501, 251), (0.0, 1), (0.1 + 0.2, 300)]
)
def test_who_waits_as_long_as_he_is_told_is_not_too_early(seconds: float, milliseconds: int) -> None:
    assert RateLimited(seconds).retry_after_ms == milliseconds


def test_an_invalid_event_names_its_first_fault_and_keeps_all() -> None:
    faults = [Fault("$.a", "required"), Fault("$.b", "expected a string")]
    refused = InvalidEvent(faults=faults)
    assert refused.detail == str(refused) == "$.a: required"
    assert refused.faults == tuple(faults)
    assert InvalidEvent("$: expected JSON", faults=faults).detail == "$: expected JSON"
    assert InvalidEvent().detail is None
    assert InvalidEvent().faults == ()


@pytest.mark.parametrize("kind", [ConfigurationError, EngineError, EngineRefused, EngineUnavailable, UnknownAudience])
def test_the_others_are_no_refusals(kind: type[JackfieldError]) -> None:
    assert issubclass(kind, JackfieldError)
    assert not issubclass(kind, Refused)


CLOSES = {
    1000: ("nothing", False),
    1001: ("reconnect, resume", True),
    1003: ("fix client", False),
    1009: ("fix client", False),
    1011: ("reconnect after ≥ 5 s", True),
    1012: ("reconnect, resume", True),
    1013: ("reconnect after `retry_after_ms`", True),
    4001: ("reconnect at random within `retry_after_ms`, resume", True),
    4002: ("reconnect, resume", True),
    4003: ("reconnect, resume", True),
    4004: ("new token, reconnect, resume", True),
    4006: ("reconnect after `retry_after_ms`", True),
    4500: ("stop", False),
    4501: ("stop; new token", False),
    4502: ("stop", False),
    4503: ("stop", False),
    4504: ("stop", False),
}


def test_the_close_codes_are_those_of_the_wire() -> None:
    assert {int(code): (code.client, code.reconnect) for code in CloseCode} == CLOSES


@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.name)
def test_a_close_code_can_be_sent(code: CloseCode) -> None:
    assert code == 1000 or 1001 <= code <= 1014 or 4000 <= code < 5000
    assert code not in (1004, 1005, 1006)
    assert len(code.reason.encode()) <= 123
    assert code.reason.isascii()


@pytest.mark.parametrize("code", [code for code in CloseCode if code >= 4000], ids=lambda code: code.name)
def test_the_range_of_ours_says_whether_to_come_back(code: CloseCode) -> None:
    assert code.reconnect is (code < 4500)
    assert code.client.startswith("stop") is (code >= 4500)


def test_a_close_code_is_found_by_its_number() -> None:
    assert CloseCode(4002) is CloseCode.SLOW
    assert CloseCode.SLOW.reason == "slow consumer"
    with pytest.raises(ValueError, match="4999"):
        CloseCode(4999)
