"""What a client hears besides the events of the server, and what it raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from jackfield.errors import JackfieldError

__all__ = ["BufferFull", "Closed", "Disconnected", "Unknown"]


@attrs.frozen
class Disconnected:
    """The line is gone, and the client comes back by itself. A `Hello` tells when."""

    code: int
    """Why: the close code, or 1006 where the line was cut."""
    reason: str
    retry_in: float
    """Seconds until the next attempt."""


@attrs.frozen
class Unknown:
    """An event that this client has no class for: give it to `connect(events=[…])`."""

    type: str
    data: Mapping[str, Any]


class Closed(JackfieldError):
    """The connection has ended, and coming back would not help: the token is refused, for one, or access was revoked.

    `code` is the close code and `reason` its text; `status` is HTTP's where the upgrade itself was refused.
    """

    def __init__(self, code: int, reason: str = "", status: int | None = None) -> None:
        super().__init__(f"HTTP {status}" if status else f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.status = status

    def again(self) -> Closed:
        """Another one like it: what is raised twice collects the tracebacks of both."""
        return Closed(self.code, self.reason, self.status)


class BufferFull(JackfieldError):
    """So many requests wait for an answer already that this one was not taken. Nothing of it was sent."""

    def __init__(self, buffer: int) -> None:
        super().__init__(f"{buffer} requests wait for an answer already")
