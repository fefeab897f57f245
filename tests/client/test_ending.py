"""What a client does about each end, by the table of close codes and what HTTP says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackfield.client._ending import Backoff, Ended, Ending, pause
from jackfield.errors import CloseCode


def backoff(random: float = 1.0) -> Backoff:
    return Backoff(0.5, 20.0, 30.0, lambda: random)


@pytest.mark.parametrize("code", CloseCode)
def test_every_code_of_ours(code: CloseCode) -> None:
    expected = "new token" if code is CloseCode.INVALID_TOKEN else "again" if code.reconnect else "never"
    assert Ending(code, code.reason).verdict == expected


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        *((code, "again") for code in (1002, 1005, 1006, 1008, 1014, 1015, 3000, 3999, 4000, 4499)),
        *((code, "never") for code in (4500, 4777, 4999)),
    ],
)
def test_codes_that_nobody_knows(code: int, verdict: str) -> None:
    assert Ending(code).verdict == verdict


@pytest.mark.parametrize("code", [None, 1005])
def test_no_code_is_a_cut(code: int | None) -> None:
    assert Ending(code).code == 1006


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (401, "new token"),
        *((status, "again") for status in (200, 302, 429, 500, 502, 503)),
        *((status, "never") for status in (400, 403, 404, 426)),
    ],
)
def test_http(status: int, verdict: str) -> None:
    assert Ending(status=status).verdict == verdict
    assert str(Ending(status=status)) == f"HTTP {status}"


@pytest.mark.parametrize(
    ("ending", "least", "most"),
    [
        (Ending(1006), 0.0, 0.5),
        (Ending(4002, "slow consumer"), 0.0, 0.5),
        (Ending(4222, "who knows"), 0.0, 0.5),
        (Ending(1011, "internal error"), 5.0, 5.5),
        (Ending(1011, "retry_after_ms=7000"), 7.0, 7.5),
        (Ending(1011, "retry_after_ms=10"), 5.0, 5.5),
        (Ending(1013, "retry_after_ms=2500"), 2.5, 3.0),
        (Ending(4006, "retry_after_ms=2500"), 2.5, 3.0),
        (Ending(4333, "retry_after_ms=2500"), 2.5, 3.0),
        (Ending(4006, "retry_after_ms=-5"), 0.0, 0.5),
        (Ending(4006, "retry_after_ms=١٢"), 0.0, 0.5),
        (Ending(4006, "retry_after_ms=9999999999999999"), 0.0, 0.5),
        (Ending(4006, "please retry_after_ms=2500"), 0.0, 0.5),
        (Ending(4001, "retry_after_ms=4000"), 0.0, 4.0),
        (Ending(4001, "draining"), 0.0, 0.5),
        (Ending(status=429, header="3"), 3.0, 3.5),
        (Ending(status=503, header="0"), 0.0, 0.5),
        (Ending(status=503, header="Wed, 21 Oct 2026 07:28:00 GMT"), 0.0, 0.5),
        (Ending(status=503, header="²"), 0.0, 0.5),
        (Ending(status=503, header="9" * 400), 0.0, 0.5),
        (Ending(status=503), 0.0, 0.5),
    ],
    ids=str,
)
def test_the_pause(ending: Ending, least: float, most: float) -> None:
    assert pause(ending, backoff(0.0)) == least
    assert pause(ending, backoff(1.0)) == most


def test_it_doubles_up_to_its_cap() -> None:
    waiting = backoff()
    assert [waiting.next() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 20, 20]
    waiting.failures = 10**6
    assert waiting.next() == 20


def test_a_row_of_failures_ends_with_a_link_that_stood_and_not_with_one_that_opened() -> None:
    waiting = backoff()
    waiting.next()
    waiting.stood(29.9)
    assert waiting.next() == 1.0
    waiting.stood(30.0)
    assert waiting.next() == 0.5


def test_a_drain_that_spreads_everybody_is_no_failure() -> None:
    waiting = backoff()
    assert pause(Ending(4001, "retry_after_ms=1000"), waiting) == 1.0
    assert waiting.next() == 0.5


@given(st.integers(1000, 4999), st.text(), st.none() | st.integers(200, 599), st.none() | st.text())
def test_no_end_leaves_it_without_an_answer(code: int, reason: str, status: int | None, header: str | None) -> None:
    ending = Ending(code, reason, status, header)
    assert ending.verdict in {"again", "new token", "never"}
    assert 0 <= pause(ending, backoff()) < 2e9
    assert str(Ended(ending)) == str(ending)
