"""Everything that can go wrong, and what a client is told of it.

    JackfieldError
    ├── ConfigurationError      a developer's mistake; raised at start-up
    ├── EngineError
    │   ├── EngineUnavailable   the engine does not answer: outcome unknown, repeat with the same id
    │   └── EngineRefused       the engine said no: nothing happened
    ├── UnknownAudience         nobody can say who sees this event, so nobody gets it
    └── Refused                 a client's fault; carries the `code` that it is answered with
        ├── InvalidToken
        ├── Unauthorized
        │   └── Revoked
        ├── RateLimited
        ├── InvalidEvent
        └── UnknownEvent

A plugin adds a code of its own by subclassing `Refused`; the first line of the docstring is the constant text that
clients read. Nothing of what a client sent, and no text of an exception, ever goes into an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from math import ceil
from typing import ClassVar, NamedTuple

__all__ = [
    "INTERNAL_ERROR",
    "REASONS",
    "CloseCode",
    "ConfigurationError",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "Fault",
    "InvalidEvent",
    "InvalidToken",
    "JackfieldError",
    "RateLimited",
    "Refused",
    "Revoked",
    "Unauthorized",
    "UnknownAudience",
    "UnknownEvent",
]

INTERNAL_ERROR = ("INTERNAL_ERROR", "Server error.")
"""Code and text of what a client gets when a plugin or an engine failed."""


class JackfieldError(Exception):
    """Base of everything that jackfield raises on purpose."""


class ConfigurationError(JackfieldError):
    """The application is wired wrongly; one line says which plugin, which hook or setting, and what to do."""


class EngineError(JackfieldError):
    """The engine failed."""


class EngineUnavailable(EngineError):
    """The engine does not answer. Whether it happened is unknown; repeating it with the same id is harmless."""


class EngineRefused(EngineError):
    """The engine refused, and nothing happened."""


class UnknownAudience(JackfieldError):
    """Nobody can say who sees this event (its channel or message is unknown), so it is not published."""


class Refused(JackfieldError):
    """The server refused this event."""

    code: ClassVar[str] = "REFUSED"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.text())
        self.detail = detail

    @classmethod
    def text(cls) -> str:
        """The constant text that a client reads: the first line of the class's docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0] or cls.code


class InvalidToken(Refused):
    """Authentication token is invalid.

    `expired` tells a token that was good once from one that never was: the client gets another close code.
    """

    code = "INVALID_TOKEN"

    def __init__(self, detail: str | None = None, *, expired: bool = False) -> None:
        super().__init__(detail)
        self.expired = expired


class Unauthorized(Refused):
    """User not authorized."""

    code = "UNAUTHORIZED"


class Revoked(Unauthorized):
    """User not authorized."""


class RateLimited(Refused):
    """Too many requests.

    `retry_after` is in seconds; clients read it in milliseconds.
    """

    code = "RATE_LIMITED"

    def __init__(self, retry_after: float = 1.0) -> None:
        super().__init__()
        self.retry_after = retry_after

    @property
    def retry_after_ms(self) -> int:
        """The same in whole milliseconds, at least 1. Up, or who comes back at that moment is too early; but not for
        the last bit of a float."""
        return max(1, ceil(self.retry_after * 1000 - 1e-6))


class Fault(NamedTuple):
    """One wrong field: where (`$.data.channel_id`) and what is expected there."""

    path: str
    message: str


class InvalidEvent(Refused):
    """The event is not valid."""

    code = "INVALID_EVENT"

    def __init__(self, detail: str | None = None, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or (f"{faults[0].path}: {faults[0].message}" if faults else None))
        self.faults = tuple(faults)


class UnknownEvent(Refused):
    """No such event."""

    code = "UNKNOWN_EVENT"


class CloseCode(IntEnum):
    """Why a connection ends. A client that does not know a code: 4000-4499 reconnect with jittered backoff,
    4500-4999 do not reconnect until something changes."""

    reason: str
    client: str

    def __new__(cls, value: int, reason: str, client: str) -> CloseCode:
        self = int.__new__(cls, value)
        self._value_ = value
        self.reason = reason
        self.client = client
        return self

    NORMAL = 1000, "", "nothing"
    GOING_AWAY = 1001, "going away", "reconnect, resume"
    UNSUPPORTED = 1003, "binary frame", "fix client"
    TOO_BIG = 1009, "message too big", "fix client"
    INTERNAL = 1011, "internal error", "reconnect after ≥ 5 s"
    RESTART = 1012, "restart", "reconnect, resume"
    OVERLOADED = 1013, "overloaded", "reconnect after `retry_after_ms`"
    DRAINING = 4001, "draining", "reconnect at random within `retry_after_ms`, resume"
    SLOW = 4002, "slow consumer", "reconnect, resume"
    SILENT = 4003, "no heartbeat", "reconnect, resume"
    EXPIRED = 4004, "token expired", "new token, reconnect, resume"
    FLOODING = 4006, "rate limited too long", "reconnect after `retry_after_ms`"
    INVALID_EVENTS = 4500, "too many invalid events", "stop"
    INVALID_TOKEN = 4501, "invalid token", "stop; new token"
    NO_ACCESS = 4502, "no access to this workspace", "stop"
    REVOKED = 4503, "access revoked", "stop"
    TOO_MANY = 4504, "too many connections", "stop"

    @property
    def reconnect(self) -> bool:
        """Whether a client should come back by itself after this code."""
        return self not in _FINAL and self.value < 4500


REASONS = {code.value: code.reason for code in CloseCode}
"""The constant reason of every close code that is ours."""

_FINAL = frozenset({CloseCode.NORMAL, CloseCode.UNSUPPORTED, CloseCode.TOO_BIG})
