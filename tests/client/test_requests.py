"""Requests on their way to an answer, against an oracle that keeps one list."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from jackfield.client import BufferFull, Closed
from jackfield.client._requests import Request, Requests
from jackfield.errors import UnknownEvent


def numbers(texts: Iterable[str]) -> list[int]:
    return [json.loads(text)["number"] for text in texts]


def refs(texts: Iterable[str]) -> list[str]:
    return [json.loads(text)["ref"] for text in texts]


class RequestsMachine(RuleBasedStateMachine):
    """The server of this machine keeps what it was sent and did not answer, over any number of connections."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Requests
        self.open: dict[int, Request] = {}
        self.sent: dict[int, str] = {}
        self.ever_sent: set[int] = set()
        self.now = 0.0
        self.not_before = -math.inf
        self.limited = False
        self.count = 0

    @initialize(buffer=st.integers(1, 8), window=st.integers(1, 5))
    def begin(self, buffer: int, window: int) -> None:
        self.buffer, self.window = buffer, window
        self.requests = Requests(buffer, window)

    @rule()
    def add(self) -> None:
        self.count += 1
        if len(self.open) == self.buffer:
            with pytest.raises(BufferFull):
                self.requests.add({"number": self.count})
        else:
            self.open[self.count] = self.requests.add({"number": self.count})

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 2.5]))
    def send(self, seconds: float) -> None:
        """Exactly the oldest that fit, and nothing before its time."""
        self.now += seconds
        waiting = sorted(self.open.keys() - self.sent.keys())
        room = (1 if self.limited else self.window) - len(self.sent)
        expected = waiting[: max(0, room)] if self.now >= self.not_before else []
        if self.now < self.not_before and waiting:
            assert self.requests.due_at(self.now) == self.not_before
        else:
            assert self.requests.due_at(self.now) == math.inf
        texts = self.requests.due(self.now)
        assert numbers(texts) == expected
        self.sent.update(zip(expected, refs(texts), strict=True))
        self.ever_sent.update(expected)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.sent)))
        ref = self.sent.pop(number)
        request = self.open.pop(number)
        assert not request.done.is_set()
        if data.draw(st.booleans()):
            assert self.requests.acked(ref)
            assert request.failure is None
        else:
            failure = UnknownEvent()
            assert self.requests.refused(ref, failure)
            assert request.failure is failure
        assert request.done.is_set()
        assert not self.requests.acked(ref), "an answer counts once"

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), seconds=st.sampled_from([0.3, 1.0, 2.0]))
    def limit(self, data: st.DataObject, seconds: float) -> None:
        number = data.draw(st.sampled_from(sorted(self.sent)))
        assert self.requests.limited(self.sent.pop(number), seconds, self.now)
        self.limited = True
        self.not_before = max(self.not_before, self.now + seconds)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.open)))
        self.requests.drop(self.open.pop(number))
        self.sent.pop(number, None)

    @rule()
    def cut(self) -> None:
        self.requests.lost()
        self.sent.clear()

    @rule(ref=st.one_of(st.none(), st.integers(), st.text(), st.just("request-0"), st.just("request-99999999")))
    def answer_to_another(self, ref: object) -> None:
        assert not self.requests.acked(ref)
        assert not self.requests.refused(ref, UnknownEvent())
        assert not self.requests.limited(ref, 1.0, self.now)

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "requests"):
            return
        if not self.open:
            self.limited = False
        assert self.requests.expects == bool(self.sent)
        assert self.requests.outstanding == bool(self.open)
        assert len(self.sent) <= max(self.window, 1)
        assert not any(request.done.is_set() for request in self.open.values())

    def teardown(self) -> None:
        """In the end each is sent, at least once, and in order; and a close answers what is left."""
        if not hasattr(self, "requests"):
            return
        self.requests.lost()
        self.now, order = max(self.now, self.not_before), []
        while texts := self.requests.due(self.now):
            order += numbers(texts)
            for ref in refs(texts)[:-1]:
                assert self.requests.acked(ref)
            last = refs(texts)[-1]
            if len(order) == len(self.open):
                break
            assert self.requests.acked(last)
        assert order == sorted(self.open)
        left = [request for request in self.open.values() if not request.done.is_set()]
        self.requests.fail(lambda: Closed(4503))
        assert len(left) == min(1, len(self.open))
        assert all(isinstance(request.failure, Closed) and request.done.is_set() for request in left)
        assert self.requests.due(self.now) == []


TestRequests = RequestsMachine.TestCase
TestRequests.settings = settings(max_examples=200, stateful_step_count=40)


def test_what_has_no_form_in_json_is_refused_at_once_and_takes_no_room() -> None:
    requests = Requests(1, 1)
    with pytest.raises(TypeError):
        requests.add({"type": object()})
    requests.add({"type": "x", "ref": "mine"})
    assert refs(requests.due(0.0)) == ["request-2"], "the ref is ours"
