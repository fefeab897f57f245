"""How a connection ended, and what a client does about it. Pure; the rules are those of the close codes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import attrs

from jackfield.errors import CloseCode

__all__ = ["CUT", "Backoff", "Ended", "Ending", "pause"]

CUT = 1006
"""What RFC 6455 calls an end without a close frame."""

LEAST_AFTER_INTERNAL = 5.0
"""Seconds that a server which failed is left alone."""

_NONE_GIVEN = 1005
_RETRY_AFTER = re.compile(r"retry_after_ms=(\d{1,9})", re.ASCII)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_FINAL_BELOW_4500 = frozenset({CloseCode.NORMAL, CloseCode.UNSUPPORTED, CloseCode.TOO_BIG})
_INTERNAL, _DRAINING, _INVALID_TOKEN = map(int, (CloseCode.INTERNAL, CloseCode.DRAINING, CloseCode.INVALID_TOKEN))
_TOKEN_REFUSED = 401
_COME_LATER = frozenset({429, 503})


def _given(code: int | None) -> int:
    return CUT if code is None or code == _NONE_GIVEN else int(code)


@attrs.frozen
class Ending:
    """The end of a connection, or of an attempt to make one."""

    code: int = attrs.field(default=CUT, converter=_given)
    reason: str = ""
    status: int | None = None
    """HTTP's, where the upgrade was refused."""
    header: str | None = None
    """`Retry-After` of that answer."""

    @property
    def verdict(self) -> Literal["again", "new token", "never"]:
        """Whether to come back; "new token": only with another one than was refused."""
        if self.status is not None:
            if self.status == _TOKEN_REFUSED:
                return "new token"
            return "never" if 400 <= self.status < 500 and self.status not in _COME_LATER else "again"
        if self.code == _INVALID_TOKEN:
            return "new token"
        return "never" if self.code in _FINAL_BELOW_4500 or self.code >= 4500 else "again"

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asked for."""
        if self.header is not None:
            return float(self.header) if _SECONDS.fullmatch(self.header) else None  # a date would need the same clock
        found = _RETRY_AFTER.fullmatch(self.reason)
        return int(found[1]) / 1000 if found else None

    def __str__(self) -> str:
        if self.status is not None:
            return f"HTTP {self.status}"
        return f"{self.code} {self.reason}".rstrip()


class Ended(Exception):
    """The line is gone, or never stood."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(str(ending))
        self.ending = ending


@attrs.define
class Backoff:
    """Full jitter: at random up to `base`, doubled with each failure in a row, never over `cap` seconds.

    A link that stood for `stable` seconds ends the row; one that merely opened does not, or a server that lets in and
    fails at once would be asked as often as it can answer. The formula is the one of
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    base: float
    cap: float
    stable: float
    random: Callable[[], float]
    failures: int = 0

    def stood(self, seconds: float) -> None:
        """A link has ended that was open for so long."""
        if seconds >= self.stable:
            self.failures = 0

    def next(self) -> float:
        """Seconds before the next attempt."""
        most = min(self.cap, self.base * 2.0 ** min(self.failures, 32))
        self.failures += 1
        return self.random() * most


def pause(ending: Ending, backoff: Backoff) -> float:
    """Seconds until the next attempt, after an end that permits one."""
    asked = ending.retry_after
    if ending.code == _DRAINING and asked is not None:
        return backoff.random() * asked  # that spreads everybody already
    least = LEAST_AFTER_INTERNAL if ending.code == _INTERNAL else 0.0
    return max(asked or 0.0, least) + backoff.next()
