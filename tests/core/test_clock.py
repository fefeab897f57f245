"""Time, injected: the one heap of a node, and deadlines on it, turned by hand."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from jackfield._clock import Deadline, SystemClock, Timers
from jackfield.testing import FakeClock, settle


@asynccontextmanager
async def running() -> AsyncGenerator[tuple[FakeClock, Timers]]:
    """Timers that run, on a clock that stands."""
    clock = FakeClock()
    timers = Timers(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(timers.run)
        await settle()
        yield clock, timers
        tasks.cancel_scope.cancel()


# --- timers


async def test_a_call_comes_when_its_time_has_come_and_once() -> None:
    async with running() as (clock, timers):
        called: list[float] = []
        timers.call_later(5, lambda: called.append(clock.monotonic()))
        began = clock.monotonic()
        await clock.advance(4.999)
        assert called == []
        await clock.advance(0.001)
        assert called == [pytest.approx(began + 5)]
        await clock.advance(100)
        assert len(called) == 1


async def test_calls_come_in_the_order_of_their_times() -> None:
    async with running() as (clock, timers):
        called: list[str] = []
        for seconds, name in [(3, "c"), (1, "a"), (2, "b"), (10, "z")]:
            timers.call_later(seconds, lambda name=name: called.append(name))
        await clock.advance(5)
        assert called == ["a", "b", "c"]


async def test_calls_of_one_moment_come_in_the_order_in_which_they_were_asked_for() -> None:
    async with running() as (clock, timers):
        called: list[int] = []
        for number in range(5):
            timers.call_later(1, lambda number=number: called.append(number))
        await clock.advance(1)
        assert called == [0, 1, 2, 3, 4]


async def test_what_was_cancelled_is_not_called() -> None:
    async with running() as (clock, timers):
        called: list[str] = []
        first = timers.call_later(1, lambda: called.append("first"))
        timers.call_later(2, lambda: called.append("second"))
        first.cancel()
        first.cancel()
        await clock.advance(3)
        assert called == ["second"]


async def test_to_cancel_what_has_been_called_is_without_effect() -> None:
    async with running() as (clock, timers):
        called: list[int] = []
        timer = timers.call_later(1, lambda: called.append(1))
        await clock.advance(1)
        timer.cancel()
        await clock.advance(1)
        assert called == [1]


async def test_an_earlier_call_is_not_late_because_a_later_one_is_awaited() -> None:
    async with running() as (clock, timers):
        called: list[str] = []
        timers.call_later(100, lambda: called.append("late"))
        await settle()
        timers.call_later(1, lambda: called.append("early"))
        timers.call_later(0.5, lambda: called.append("earlier"))
        await clock.advance(1)
        assert called == ["earlier", "early"]
        await clock.advance(99)
        assert called == ["earlier", "early", "late"]


@pytest.mark.parametrize("seconds", [0, -1, -1e9])
async def test_a_time_that_is_past_has_come(seconds: float) -> None:
    async with running() as (_, timers):
        called: list[int] = []
        timers.call_later(seconds, lambda: called.append(1))
        assert called == []  # not from within
        await settle()
        assert called == [1]


async def test_a_call_may_ask_for_another() -> None:
    async with running() as (clock, timers):
        called: list[float] = []

        def again() -> None:
            called.append(clock.monotonic())
            if len(called) < 4:
                timers.call_later(1, again)

        timers.call_later(1, again)
        began = clock.monotonic()
        await clock.advance(10)
        assert called == [pytest.approx(began + number) for number in (1, 2, 3, 4)]


async def test_a_call_may_ask_for_one_at_once() -> None:
    async with running() as (clock, timers):
        called: list[str] = []
        timers.call_later(1, lambda: timers.call_later(0, lambda: called.append("inner")))
        await clock.advance(1)
        assert called == ["inner"]


async def test_a_call_may_cancel_its_neighbour() -> None:
    async with running() as (clock, timers):
        called: list[str] = []
        timers.call_later(1, lambda: second.cancel())
        second = timers.call_later(1, lambda: called.append("second"))
        await clock.advance(2)
        assert called == []


async def test_what_was_asked_for_before_they_ran_is_called_when_they_run() -> None:
    clock = FakeClock()
    timers = Timers(clock)
    called: list[int] = []
    timers.call_later(1, lambda: called.append(1))
    await clock.advance(5)
    assert called == []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(timers.run)
        await settle()
        tasks.cancel_scope.cancel()
    assert called == [1]
    timers.call_later(1, lambda: called.append(2))  # nobody listens any more, and nothing breaks


async def test_a_wall_clock_that_is_set_moves_no_timer() -> None:
    async with running() as (clock, timers):
        called: list[int] = []
        timers.call_later(10, lambda: called.append(1))
        clock.set_wall(3600)
        await settle()
        assert called == []
        clock.set_wall(-7200)
        await clock.advance(10)
        assert called == [1]


async def test_awkward_fractions_of_seconds_come_to_an_end() -> None:
    async with running() as (clock, timers):
        called: list[int] = []
        for number in range(100):
            timers.call_later(0.1 + number / 7, lambda number=number: called.append(number))
        for _ in range(150):
            await clock.advance(0.1)
        assert called == list(range(100))


async def test_what_was_cancelled_is_forgotten_long_before_its_time() -> None:
    """A token may live for a month, and a connection for a minute."""
    async with running() as (clock, timers):
        called: list[int] = []
        kept = [
            timers.call_later(2_000_000 + number, lambda number=number: called.append(number)) for number in range(50)
        ]
        for _ in range(10_000):
            timers.call_later(2_592_000, lambda: called.append(-1)).cancel()
        assert len(timers) < 500
        await clock.advance(2_592_000)
        assert called == list(range(50))
        assert len(kept) == 50
        assert len(timers) == 0


async def test_to_forget_disturbs_no_call_that_is_under_way() -> None:
    async with running() as (clock, timers):
        called: list[str] = []

        def storm() -> None:
            for _ in range(5_000):
                timers.call_later(1000, lambda: called.append("never")).cancel()
            timers.call_later(0, lambda: called.append("at once"))

        timers.call_later(1, storm)
        timers.call_later(1, lambda: called.append("neighbour"))
        timers.call_later(2, lambda: called.append("later"))
        await clock.advance(3)
        assert called == ["neighbour", "at once", "later"]


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=200))
def test_calls_come_as_a_sorted_list_would_have_them(timers: list[tuple[int, bool]]) -> None:
    async def run() -> list[int]:
        async with running() as (clock, heap):
            called: list[int] = []
            for number, (seconds, cancelled) in enumerate(timers):
                timer = heap.call_later(seconds, lambda number=number: called.append(number))
                if cancelled:
                    timer.cancel()
            await clock.advance(20)
            return called

    expected = [number for number, (_, cancelled) in enumerate(timers) if not cancelled]
    assert anyio.run(run) == sorted(expected, key=lambda number: timers[number][0])


# --- deadlines


async def test_a_body_in_time_is_left_alone() -> None:
    async with running() as (clock, timers):
        with Deadline(timers, 5):
            await clock.sleep(0)
        await clock.advance(10)


async def test_a_body_that_takes_too_long_ends_with_a_timeout() -> None:
    async with running() as (clock, timers):
        ended: list[str] = []

        async def slow() -> None:
            try:
                with Deadline(timers, 5):
                    await anyio.sleep_forever()
            except TimeoutError:
                ended.append("timeout")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow)
            await clock.advance(4.9)
            assert ended == []
            await clock.advance(0.2)
        assert ended == ["timeout"]


async def test_a_body_that_ends_as_its_time_comes_is_no_timeout() -> None:
    async with running() as (clock, timers):
        with Deadline(timers, 5):
            with anyio.CancelScope(shield=True):
                await clock.advance(10)
            said = "done"
        assert said == "done"


async def test_a_body_that_asks_after_its_time_is_told() -> None:
    async with running() as (clock, timers):

        async def late() -> None:
            with Deadline(timers, 5):
                with anyio.CancelScope(shield=True):
                    await clock.advance(10)
                await checkpoint()

        with pytest.raises(TimeoutError):
            await late()


async def test_what_a_body_raises_comes_through() -> None:
    async with running() as (clock, timers):

        async def failing(after: float) -> None:
            with Deadline(timers, 5):
                with anyio.CancelScope(shield=True):
                    await clock.advance(after)
                raise ValueError("mine")

        for after in (0, 10):
            with pytest.raises(ValueError, match="mine"):
                await failing(after)


async def test_the_nearer_of_two_deadlines_is_the_one_that_ends() -> None:
    async with running() as (clock, timers):
        ended: list[str] = []

        async def slow(outer: float, inner: float) -> None:
            try:
                with Deadline(timers, outer):
                    try:
                        with Deadline(timers, inner):
                            await anyio.sleep_forever()
                    except TimeoutError:
                        ended.append("inner")
                        await anyio.sleep_forever()
            except TimeoutError:
                ended.append("outer")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow, 1, 2)
            await clock.advance(1)
            assert ended == ["outer"]
            tasks.start_soon(slow, 2, 1)
            await clock.advance(1)
            assert ended == ["outer", "inner"]
            await clock.advance(1)
        assert ended == ["outer", "inner", "outer"]


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    async with running() as (_, timers):
        with anyio.CancelScope() as outside:
            outside.cancel()
            with Deadline(timers, 5):
                await anyio.sleep_forever()
        assert outside.cancelled_caught


async def test_a_shielded_body_is_ended_by_its_deadline_only() -> None:
    async with running() as (clock, timers):
        ended: list[str] = []

        async def shielded() -> None:
            try:
                with Deadline(timers, 5) as deadline:
                    assert not deadline.shield
                    deadline.shield = True
                    assert deadline.shield
                    await anyio.sleep_forever()
            except TimeoutError:
                ended.append("timeout")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(shielded)
            await settle()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await settle()
                assert ended == []
                await clock.advance(5)
        assert ended == ["timeout"]


async def test_a_deadline_leaves_nothing_behind() -> None:
    async with running() as (_, timers):
        for _ in range(10_000):
            with Deadline(timers, 5):
                pass
        assert len(timers) < 500


# --- the machine's clock


async def test_the_systems_clock_is_the_machines() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= time.monotonic() <= clock.monotonic()
    assert clock.time() <= time.time() <= clock.time()
    await clock.sleep(0)


async def test_timers_run_on_the_systems_clock_too() -> None:
    timers = Timers(SystemClock())
    called = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(timers.run)
        timers.call_later(60, lambda: None)
        timers.call_later(0.001, called.set)
        await called.wait()
        tasks.cancel_scope.cancel()
