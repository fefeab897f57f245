"""When a token runs out, and when to ask for the next. Pure."""

from __future__ import annotations

import math
from base64 import urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import orjson

__all__ = ["expiry_of", "renew_at"]

MARGIN = 30.0
"""Seconds before its end at which a token is renewed at the latest, where it lives long enough."""
SHARE = 0.1
"""Of its life, the same; and how much of it is chance, so that those who came together do not ask together."""
LEAST = 1.0
"""Seconds between two askings: who gives the same token again would be asked ever faster towards its end."""


def expiry_of(token: str) -> float | None:
    """`exp` of a JSON web token, in seconds since 1970; None for any other. Nothing is verified: only its holder asks,
    who wants to know when to bring the next."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    payload = parts[1]
    try:
        claims: Any = orjson.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        exp = claims["exp"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(exp) if isinstance(exp, int | float) and not isinstance(exp, bool) else None


def renew_at(expires_at: float, now: float, random: Callable[[], float]) -> float:
    """The moment for it, on the clock of both. Never for one that is over: it was taken all the same, so the two clocks
    differ, and the server says when it does not take it any more."""
    left = expires_at - now
    if left <= 0:
        return math.inf
    early = random() * SHARE * left
    return now + max(LEAST, left / 2, left - max(MARGIN, SHARE * left) - early)
