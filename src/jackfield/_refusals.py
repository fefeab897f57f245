"""An `error` of the wire as the exception that it stands for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jackfield.errors import INTERNAL_ERROR, InvalidEvent, RateLimited, Refused

__all__ = ["InternalError", "OtherRefusal", "refusal"]


class InternalError(Refused):
    """Server error."""

    code = INTERNAL_ERROR[0]


class OtherRefusal(Refused):
    """The server refused this event."""  # of a class that is not known here

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]


def refusal(data: Mapping[str, Any]) -> Refused:
    """What it was refused with: an object of the class that has its code, a plugin's own too, where this process knows
    one."""
    code: str = data["code"]
    if code == RateLimited.code:
        return RateLimited(data.get("retry_after_ms", 1000) / 1000)
    if code == InvalidEvent.code:
        return InvalidEvent(data.get("detail"))
    kinds: list[type[Refused]] = [Refused, *_kinds(Refused)]
    for kind in kinds:
        if vars(kind).get("code") == code:
            return kind()
    return OtherRefusal(code, data.get("message", ""))


def _kinds(kind: type[Refused]) -> Iterator[type[Refused]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _kinds(sub)
