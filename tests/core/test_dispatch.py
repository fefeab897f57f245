"""The verbs: who is called, who hears of what went wrong, and how long it may take."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from jackfield import ConfigurationError, EngineUnavailable, Jackfield, Refused, Unauthorized, UnknownAudience, hookimpl
from jackfield._clock import Timers
from jackfield._dispatch import Call, Dispatcher
from jackfield.testing import FakeClock, bench, settle

TIMEOUT = 5.0


class Desk:
    """A dispatcher, its clock, and who was called with what."""

    def __init__(self, clock: FakeClock, tasks: anyio.abc.TaskGroup) -> None:
        self.clock = clock
        self.timers = Timers(clock)
        self.dispatcher = Dispatcher(self.timers, TIMEOUT)
        self.called: list[tuple[object, ...]] = []
        self.cancelled: list[str] = []
        self.tasks = tasks
        tasks.start_soon(self.timers.run)

    def call(self, plugin: str, does: object = None) -> Call:
        """One that returns this, raises it, or waits for so many seconds and returns what comes behind."""

        async def hook(*args: object) -> object:
            self.called.append((plugin, *args))
            if isinstance(does, BaseException):
                raise does
            if isinstance(does, float):
                try:
                    await self.clock.sleep(does)
                except BaseException:
                    self.cancelled.append(plugin)
                    raise
                return f"{plugin} late"
            return does

        return Call(plugin, "on_poll_vote", hook)

    def calls(self, **does: object) -> list[Call]:
        return [self.call(plugin, what) for plugin, what in does.items()]

    async def outcome(self, call: Callable[[], Awaitable[Any]], after: float = 0.0) -> Any:
        """What came of it after so many seconds: what was returned, or raised; "nothing" so far."""
        outcome: Any = "nothing"

        async def run() -> None:
            nonlocal outcome
            try:
                outcome = await call()
            except Exception as error:
                outcome = error

        self.tasks.start_soon(run)
        await self.clock.advance(after)
        return outcome


@asynccontextmanager
async def desk() -> AsyncGenerator[Desk, None]:
    async with anyio.create_task_group() as tasks:
        yield Desk(FakeClock(), tasks)
        tasks.cancel_scope.cancel()


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert {record.name for record in caplog.records} <= {"jackfield"}
    assert {record.levelno for record in caplog.records} <= {logging.ERROR}
    return [record.getMessage() for record in caplog.records]


FAILED = 'plugin "{}": on_poll_vote failed'
LATE = 'plugin "{}": on_poll_vote took longer than 5 s'

Verb = Callable[[Dispatcher, list[Call]], Awaitable[Any]]
VERBS: dict[str, Verb] = {
    "collect": lambda d, calls: d.collect(calls, "subject", "event"),
    "first": lambda d, calls: d.first(calls, "subject", "event"),
    "pipe": lambda d, calls: d.pipe(calls, "subject", "event"),
    "act": lambda d, calls: d.act(calls, "subject", "event"),
    "notify": lambda d, calls: d.notify(calls, "subject", "event"),
}
every = pytest.mark.parametrize("verb", VERBS)
raising = pytest.mark.parametrize("verb", ["collect", "first", "pipe"])


# --- What they return


@every
async def test_everyone_is_called_in_the_order_of_the_list(verb: str) -> None:
    async with desk() as d:
        await VERBS[verb](d.dispatcher, d.calls(b=None, c=None, a=None))
        assert d.called == [(plugin, "subject", "event") for plugin in "bca"]
        assert len(d.dispatcher.faults) == 0


@every
async def test_nobody_is_no_answer(verb: str) -> None:
    nothing = {"collect": [], "pipe": "event"}
    async with desk() as d:
        assert await VERBS[verb](d.dispatcher, []) == nothing.get(verb)


async def test_collect_leaves_out_whoever_has_nothing_to_say() -> None:
    async with desk() as d:
        collected = await d.dispatcher.collect(d.calls(a=1, b=None, c=0, d=[]))
        assert collected == [("a", 1), ("c", 0), ("d", [])]


@pytest.mark.parametrize("answer", [1, 0, "", (), {}, False])
async def test_the_first_answer_ends_the_question(answer: object) -> None:
    async with desk() as d:
        assert await d.dispatcher.first(d.calls(a=None, b=answer, c=2)) is answer
        assert [plugin for plugin, *_ in d.called] == ["a", "b"]


async def test_in_a_pipe_each_is_given_what_the_one_before_it_left() -> None:
    async with desk() as d:
        assert await d.dispatcher.pipe(d.calls(a=None, b="two", c=None, d="", e=None), "who", "one") == ""
        assert d.dispatcher.faults == {}
        assert [args for _, *args in d.called] == [
            ["who", "one"],
            ["who", "one"],
            ["who", "two"],
            ["who", "two"],
            ["who", ""],
        ]


@pytest.mark.parametrize("returned", [True, 0, ["two"]])
async def test_what_a_pipe_is_given_must_be_of_its_kind(returned: object, caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as d:
        with pytest.raises(TypeError, match=rf"^returned {re.escape(repr(returned))}; expected str or None$"):
            await d.dispatcher.pipe(d.calls(a=None, b=returned, c=None), "who", "one")
        assert d.dispatcher.faults == {"b": 1}
        assert 'plugin "b"' in caplog.text


async def test_a_lifespan_that_is_no_context_manager_stops_the_start() -> None:
    class Bare:
        name = "bare"

        @hookimpl
        async def lifespan(self, app: Jackfield) -> AsyncGenerator[None, None]:
            yield

    with pytest.raises(ConfigurationError) as refused:
        async with bench(Bare):
            pass
    assert str(refused.value) == (
        'plugin "bare": lifespan must return a context manager. '
        "Write @asynccontextmanager between @hookimpl and async def."
    )


async def test_what_a_handler_returns_says_nothing() -> None:
    async with desk() as d:
        assert await d.dispatcher.act(d.calls(a=1)) is None
        await d.dispatcher.notify(d.calls(a=1))


async def test_one_decision_is_given_back_as_it_is() -> None:
    async with desk() as d:
        assert await d.dispatcher.decide(d.call("a", [])) == []
        assert await d.dispatcher.decide(d.call("a"), "transaction", "event") is None
        assert d.called == [("a",), ("a", "transaction", "event")]


# --- Who hears what went wrong


@raising
@pytest.mark.parametrize("error", [Unauthorized(), EngineUnavailable()])
async def test_a_refusal_ends_it_and_is_nobodys_fault(
    verb: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as d:
        with pytest.raises(type(error)) as caught:
            await VERBS[verb](d.dispatcher, d.calls(a=None, b=error, c=None))
        assert caught.value is error
        assert [plugin for plugin, *_ in d.called] == ["a", "b"]
        assert (logged(caplog), sum(d.dispatcher.faults.values())) == ([], 0)


@raising
@pytest.mark.parametrize("error", [ZeroDivisionError(), UnknownAudience(), ConfigurationError(), TimeoutError()])
async def test_a_failure_ends_it_and_bears_the_name_of_its_plugin(
    verb: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as d:
        with pytest.raises(type(error)) as caught:
            await VERBS[verb](d.dispatcher, d.calls(a=None, b=error, c=None))
        assert caught.value is error
        assert [plugin for plugin, *_ in d.called] == ["a", "b"]
        assert logged(caplog) == [FAILED.format("b")]
        assert caplog.records[0].exc_info is not None
        assert caplog.records[0].exc_info[1] is error
        assert d.dispatcher.faults == {"b": 1}


async def test_every_handler_acts_and_who_asked_hears_of_the_first_that_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with desk() as d:
        first, second = Unauthorized(), ZeroDivisionError()
        assert await d.dispatcher.act(d.calls(a=None, b=first, c=second, e=Refused(), f=None)) is first
        assert [plugin for plugin, *_ in d.called] == ["a", "b", "c", "e", "f"]
        assert logged(caplog) == [FAILED.format("c")]
        assert d.dispatcher.faults == {"c": 1}
        assert await d.dispatcher.act(d.calls(c=second, b=first)) is second
        assert d.dispatcher.faults == {"c": 2}


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), Unauthorized(), EngineUnavailable(), UnknownAudience(), TimeoutError()]
)
async def test_of_observers_nobody_asked_and_what_they_raise_is_in_the_log(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as d:
        await d.dispatcher.notify(d.calls(a=error, b=None, c=error))
        assert [plugin for plugin, *_ in d.called] == ["a", "b", "c"]
        assert logged(caplog) == [FAILED.format("a"), FAILED.format("c")]
        assert all(record.exc_info is not None and record.exc_info[1] is error for record in caplog.records)
        assert d.dispatcher.faults == {"a": 1, "c": 1}


@pytest.mark.parametrize(
    ("error", "faults"),
    [
        (Unauthorized(), 0),
        (EngineUnavailable(), 0),
        (UnknownAudience(), 0),
        (ZeroDivisionError(), 1),
        (TimeoutError(), 1),
    ],
)
async def test_a_decision_may_say_no_and_is_blamed_for_what_it_breaks(
    error: Exception, faults: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk() as d:
        with pytest.raises(type(error)) as caught:
            await d.dispatcher.decide(d.call("a", error))
        assert caught.value is error
        assert logged(caplog) == [FAILED.format("a")] * faults
        assert d.dispatcher.faults["a"] == faults


async def test_what_is_no_coroutine_is_the_fault_of_its_plugin(caplog: pytest.LogCaptureFixture) -> None:
    """A function that raises as it is called does so inside the deadline."""

    def broken() -> Any:
        raise ZeroDivisionError

    async with desk() as d:
        assert isinstance(await d.dispatcher.act([Call("a", "on_poll_vote", broken)]), ZeroDivisionError)
        assert logged(caplog) == [FAILED.format("a")]


# --- How long it may take


@every
async def test_a_hook_may_take_as_long_as_its_deadline(verb: str) -> None:
    async with desk() as d:
        # Each has a deadline of its own.
        outcome = await d.outcome(lambda: VERBS[verb](d.dispatcher, d.calls(a=4.9, b=4.9)), after=9.9)
        expected = {
            "collect": [("a", "a late"), ("b", "b late")],
            "first": "a late",
            "pipe": "b late",
            "act": None,
            "notify": None,
        }
        assert outcome == expected[verb]
        assert len(d.dispatcher.faults) == 0


@raising
async def test_one_that_takes_longer_is_cancelled_and_ends_it(verb: str, caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as d:
        calls = d.calls(a=100.0, b=None)
        assert await d.outcome(lambda: VERBS[verb](d.dispatcher, calls), after=4.9) == "nothing"
        assert isinstance(await d.outcome(lambda: VERBS[verb](d.dispatcher, calls), after=5), TimeoutError)
        assert d.cancelled == ["a", "a"]
        assert [plugin for plugin, *_ in d.called] == ["a", "a"]
        assert logged(caplog) == [LATE.format("a")] * 2
        assert d.dispatcher.faults == {"a": 2}


async def test_one_that_takes_longer_does_not_keep_it_from_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as d:
        calls = d.calls(a=100.0, b=None)
        assert isinstance(await d.outcome(lambda: d.dispatcher.act(calls), after=5), TimeoutError)
        assert await d.outcome(lambda: d.dispatcher.notify(calls), after=5) is None
        assert [plugin for plugin, *_ in d.called] == ["a", "b"] * 2
        assert logged(caplog) == [LATE.format("a")] * 2


async def test_a_decision_has_the_deadline_of_its_commit_and_none_of_its_own() -> None:
    async with desk() as d:
        assert await d.outcome(lambda: d.dispatcher.decide(d.call("a", 100.0)), after=100) == "a late"


@every
async def test_a_deadline_is_gone_with_its_call(verb: str) -> None:
    async with desk() as d:
        assert await d.outcome(lambda: VERBS[verb](d.dispatcher, d.calls(a=1.0)), after=1) != "nothing"
        with anyio.CancelScope() as scope:
            await d.clock.advance(100)
        assert not scope.cancelled_caught
        assert len(d.dispatcher.faults) == 0


@pytest.mark.parametrize("verb", [*VERBS, "decide"])
async def test_a_cancellation_from_outside_is_never_swallowed(verb: str, caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as d:
        calls, returned = d.calls(a=100.0, b=None), False

        async def run() -> None:
            nonlocal returned
            with scope:
                await (d.dispatcher.decide(calls[0]) if verb == "decide" else VERBS[verb](d.dispatcher, calls))
                returned = True

        scope = anyio.CancelScope()
        d.tasks.start_soon(run)
        await settle()
        scope.cancel()
        await settle()
        assert scope.cancelled_caught
        assert (returned, d.cancelled, len(d.called)) == (False, ["a"], 1)
        assert (logged(caplog), len(d.dispatcher.faults)) == ([], 0)
        await d.clock.advance(100)
        assert len(d.dispatcher.faults) == 0


@pytest.mark.parametrize("swallows", [False, True])
async def test_one_that_answers_its_cancellation_answers_for_it(
    swallows: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Cleaning up may fail, or find an answer after all."""
    async with desk() as d:

        async def hook() -> str:
            try:
                await d.clock.sleep(100)
            except BaseException:
                if not swallows:
                    raise ZeroDivisionError from None
            return "after all"

        outcome = await d.outcome(lambda: d.dispatcher.first([Call("a", "on_poll_vote", hook)]), after=5)
        if swallows:
            assert outcome == "after all"
            assert logged(caplog) == []
        else:
            assert isinstance(outcome, ZeroDivisionError)
            assert logged(caplog) == [FAILED.format("a")]


# --- Wrapping


async def test_the_first_is_outermost() -> None:
    seen: list[str] = []

    def wrapping(plugin: str) -> Call:
        @asynccontextmanager
        async def lifespan(app: str) -> AsyncGenerator[None, None]:
            seen.append(f"{plugin} {app} in")
            try:
                yield
            finally:
                seen.append(f"{plugin} out")

        return Call(plugin, "lifespan", lifespan)

    @asynccontextmanager
    async def broken(app: str) -> AsyncGenerator[None, None]:
        raise ZeroDivisionError
        yield

    async with AsyncExitStack() as stack:
        await Dispatcher.wrap(stack, [wrapping("a"), wrapping("b")], "app")
        assert seen == ["a app in", "b app in"]
    assert seen[2:] == ["b out", "a out"]
    seen.clear()
    with pytest.raises(ZeroDivisionError):
        async with AsyncExitStack() as stack:
            await Dispatcher.wrap(stack, [wrapping("a"), Call("broken", "lifespan", broken), wrapping("b")], "app")
    assert seen == ["a app in", "a out"]
