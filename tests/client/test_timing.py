"""Heart, keystrokes and the life of a token: what depends on nothing but the moment."""

from __future__ import annotations

import json
import math
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackfield.client._debounce import Debounce
from jackfield.client._heart import Heart
from jackfield.client._renewal import expiry_of, renew_at

# --- the heart


def test_until_hello_nothing_else_is_a_sign_of_life() -> None:
    heart = Heart(10, 100)
    assert heart.dead_at(100) == 110
    assert heart.ping_at == math.inf
    heart.lived()
    assert heart.dead_at(105) == 110
    heart.opened(30, 105)
    assert (heart.ping_at, heart.dead_at(105)) == (135, 145)


def test_it_pings_also_while_events_flow_and_any_frame_answers() -> None:
    heart = Heart(10, 0)
    heart.opened(30, 0)
    for now in range(0, 30, 5):
        heart.lived()
        assert heart.ping_at == 30, now
    heart.pinged(30)
    assert (heart.ping_at, heart.dead_at(30)) == (60, 40)
    heart.lived()
    assert heart.dead_at(31) == 70


def test_a_ping_that_cannot_be_sent_owes_a_sign_of_life_as_well() -> None:
    heart = Heart(10, 0)
    heart.opened(30, 0)
    assert heart.dead_at(39) == 40
    heart.pinged(39)
    assert heart.dead_at(39) == 40


def test_silence_of_ours_kills_nobody() -> None:
    heart = Heart(10, 0)
    heart.opened(30, 0)
    heart.pinged(30)
    heart.hold()
    assert heart.dead_at(100) == 110
    heart.resume()
    assert heart.dead_at(100) == 70


@pytest.mark.parametrize("interval", [0.0, -5.0, 0.001])
def test_a_server_that_wants_pings_all_the_time_gets_one_a_second(interval: float) -> None:
    heart = Heart(10, 0)
    heart.opened(interval, 0)
    assert heart.ping_at == 1
    heart.pinged(1)
    assert heart.ping_at == 2


# --- keystrokes


def test_typing_is_said_as_seldom_as_will_do() -> None:
    keys = Debounce(3, 5)
    assert [keys.pressed("c", now) for now in (0, 1, 2.9, 3, 4, 6)] == [True, False, False, True, False, True]
    assert keys.pressed("d", 6)
    assert keys.idle_at == 11
    assert keys.idle(10.9) == []
    assert sorted(keys.idle(11)) == ["c", "d"]
    assert keys.idle(20) == []
    assert keys.idle_at == math.inf
    assert keys.pressed("c", 20)


def test_it_is_over_once() -> None:
    keys = Debounce(3, 5)
    assert not keys.stopped("c")
    keys.pressed("c", 0)
    assert keys.stopped("c")
    assert not keys.stopped("c")
    keys.pressed("c", 0)
    keys.forget()
    assert not keys.stopped("c")
    assert keys.idle(9) == []


@given(st.floats(0, 1e9), st.floats(0.001, 100))
def test_at_the_moment_that_it_names_it_is_over(now: float, idle: float) -> None:
    """Or who asks would ask again and again."""
    keys = Debounce(idle, idle)
    keys.pressed("c", now)
    assert keys.idle(keys.idle_at) == ["c"]


# --- tokens


def jwt(claims: Any) -> str:
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    return f"e30.{urlsafe_b64encode(payload).decode().rstrip('=')}.c2ln"


@pytest.mark.parametrize(
    ("token", "expires_at"),
    [
        (jwt({"exp": 1_700_000_000}), 1_700_000_000),
        (jwt({"exp": 1_700_000_000.25}), 1_700_000_000.25),
        (jwt({"exp": True}), None),
        (jwt({"exp": "1700000000"}), None),
        (jwt({"exp": None}), None),
        (jwt({}), None),
        (jwt([1]), None),
        (jwt("exp"), None),
        (jwt(7), None),
        (jwt(b"\xff\xfe"), None),
        ("e30." + jwt({"exp": 1}), None),
        (jwt({"exp": 1}).rpartition(".")[0], None),
        ("", None),
        ("an opaque token", None),
        ("a.b.c", None),
        ("a.ä.c", None),
        ("...", None),
    ],
)
def test_when_a_token_runs_out(token: str, expires_at: float | None) -> None:
    assert expiry_of(token) == expires_at


@given(st.text() | st.from_regex(r"[\w-]*\.[\w-]*\.[\w-]*"))
def test_any_text_is_no_reason_to_fail(token: str) -> None:
    assert expiry_of(token) is None or isinstance(expiry_of(token), float)


@pytest.mark.parametrize(
    ("left", "random", "after"),
    [
        (3600, 0.0, 3240),  # a tenth before
        (3600, 1.0, 2880),  # and a tenth earlier by chance
        (200, 0.0, 170),  # 30 s before
        (50, 0.0, 25),  # not sooner than half
        (50, 1.0, 25),
        (4, 0.0, 2),
        (1.5, 0.0, 1),  # not more than once a second
        (0.2, 0.0, 1),
        (0, 0.0, math.inf),
        (-60, 0.0, math.inf),
    ],
)
def test_when_the_next_is_asked_for(left: float, random: float, after: float) -> None:
    assert renew_at(1000 + left, 1000, lambda: random) == 1000 + after


@given(st.floats(-1e12, 1e300), st.floats(0, 1, exclude_max=True))
def test_it_never_spins(left: float, random: float) -> None:
    assert renew_at(1e9 + left, 1e9, lambda: random) - 1e9 >= 1
