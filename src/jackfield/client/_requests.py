"""Requests on their way to an answer: bounded, in order, and over more than one connection. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import anyio
import attrs
import orjson

from jackfield.client._values import BufferFull
from jackfield.errors import InvalidEvent

__all__ = ["Request", "Requests"]

_REF = re.compile(r"request-(\d{1,18})", re.ASCII)


@attrs.define(eq=False)
class Request:
    """One of them. `done` is set when it was answered; then `failure` is what it was refused with, or None."""

    number: int
    text: str
    done: anyio.Event = attrs.field(factory=anyio.Event)
    failure: Exception | None = None


class Requests:
    """At most `buffer` without an answer, at most `window` of those sent.

    What was sent on a connection that ended without answering is sent again on the next: at least once. A server that
    is asked too much says when to come again; from there on one at a time, until none is left.
    """

    def __init__(self, buffer: int, window: int) -> None:
        self._buffer = buffer
        self._window = window
        self._numbers = count(1)
        self._waiting: dict[int, Request] = {}
        self._sent: dict[int, Request] = {}
        self._limited = False
        self._not_before = -math.inf

    def add(self, event: Mapping[str, Any], most: float = math.inf) -> Request:
        """One more. Raises BufferFull, TypeError for what has no form in JSON, and InvalidEvent for more than `most`
        bytes, on which the server would hang up."""
        if len(self._waiting) + len(self._sent) >= self._buffer:
            raise BufferFull(self._buffer)
        number = next(self._numbers)
        text = orjson.dumps({**event, "ref": f"request-{number}"})
        if len(text) > most:
            raise InvalidEvent(f"$: expected at most {most} bytes")
        request = Request(number, text.decode())
        self._waiting[request.number] = request
        return request

    def drop(self, request: Request) -> None:
        """Nobody waits for its answer any more; sent, it stays sent."""
        self._waiting.pop(request.number, None)
        self._sent.pop(request.number, None)
        self._relax()

    @property
    def outstanding(self) -> bool:
        """Whether somebody waits for an answer."""
        return bool(self._sent or self._waiting)

    @property
    def expects(self) -> bool:
        """Whether an answer is on its way."""
        return bool(self._sent)

    def due(self, now: float) -> list[str]:
        """What to send now, each with its `ref`; it counts as sent."""
        if now < self._not_before:
            return []
        room = (1 if self._limited else self._window) - len(self._sent)
        ready = list(self._waiting.values())[: max(0, room)]
        for request in ready:
            self._sent[request.number] = self._waiting.pop(request.number)
        return [request.text for request in ready]

    def due_at(self, now: float) -> float:
        """When to ask `due` next, unless something happens before."""
        return self._not_before if self._waiting and now < self._not_before else math.inf

    def acked(self, ref: object) -> bool:
        """An answer; whether it was to one of these."""
        if (request := self._answered(ref)) is None:
            return False
        request.done.set()
        return True

    def refused(self, ref: object, failure: Exception) -> bool:
        """A refusal; whether it was of one of these."""
        if (request := self._answered(ref)) is None:
            return False
        request.failure = failure
        request.done.set()
        return True

    def limited(self, ref: object, retry_after: float, now: float) -> bool:
        """Too many; whether it was one of these, which then goes back to its place."""
        if (request := self._sent.pop(_number(ref), None)) is None:
            return False
        self._limited = True
        self._not_before = max(self._not_before, now + retry_after)
        self._put_back([request])
        return True

    def lost(self) -> None:
        """The connection has ended; what it did not answer goes first on the next."""
        unanswered, self._sent = list(self._sent.values()), {}
        self._put_back(unanswered)

    def fail(self, failure: Callable[[], Exception]) -> None:
        """There will be no other connection."""
        for request in (*self._sent.values(), *self._waiting.values()):
            request.failure = failure()
            request.done.set()
        self._sent.clear()
        self._waiting.clear()

    def _answered(self, ref: object) -> Request | None:
        request = self._sent.pop(_number(ref), None)
        self._relax()
        return request

    def _relax(self) -> None:
        if not self.outstanding:
            self._limited = False

    def _put_back(self, requests: list[Request]) -> None:
        together = {request.number: request for request in requests} | self._waiting
        self._waiting = dict(sorted(together.items()))


def _number(ref: object) -> int:
    found = _REF.fullmatch(ref) if isinstance(ref, str) else None
    return int(found[1]) if found else 0
