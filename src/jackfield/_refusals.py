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
    one. Whatever else a server says there is no reason to fail."""
    code, message, detail = (_text(data.get(key)) for key in ("code", "message", "detail"))
    made = _made(code, message, detail, data.get("retry_after_ms"))
    made.detail = detail or None
    return made


def _made(code: str, message: str, detail: str, milliseconds: object) -> Refused:
    if code == RateLimited.code:
        return RateLimited(_seconds(milliseconds))
    if code == InvalidEvent.code:
        return InvalidEvent(detail)
    kinds: list[type[Refused]] = [Refused, *_kinds(Refused)]
    for kind in kinds:
        if vars(kind).get("code") == code:
            try:
                return kind()
            except TypeError:  # it needs what does not go over the wire
                break
    return OtherRefusal(code, message)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(milliseconds: object) -> float:
    return max(1, milliseconds) / 1000 if isinstance(milliseconds, int | float) else 1.0


def _kinds(kind: type[Refused]) -> Iterator[type[Refused]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _kinds(sub)
