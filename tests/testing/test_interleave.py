"""Every order of the engine's calls: the runs themselves, and what is wrong with a scenario."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from jackfield.events import MemberJoined
from jackfield.testing import Bench, bench, settle
from jackfield.testing import _interleave as interleave
from jackfield.testing._interleave import Order, every_order
from jackfield_members import Members
from tests.plugins.chat import heard, message, private, public


async def reads(b: Bench, node: int, times: int = 1) -> None:
    for _ in range(times):
        await b.nodes[node].link.read("w")


async def test_a_run_that_does_otherwise_the_second_time_is_noticed() -> None:
    runs = 0

    async def run(order: Order) -> None:
        nonlocal runs
        runs += 1
        async with bench(Members, nodes=2) as b, order.race(b) as race:
            for node in range(2):
                await race.start(b.workspace("w" if runs == 1 else "other", node=node).publish, public())

    with pytest.raises(RuntimeError, match="the same steps led elsewhere") as error:
        await every_order(run)
    assert runs == 2
    assert error.value.__notes__[0].startswith("in this order of the engine calls:")


async def test_who_waits_a_moment_before_he_asks_is_waited_for() -> None:
    async def run(order: Order) -> None:
        async with bench(Members) as b:
            alice = await b.connect("alice")

            async def later() -> None:
                await b.clock.sleep(0.05)
                await b.workspace().publish(public())

            async with order.race(b) as race:
                await race.start(later)
            assert await heard(alice) == [[public()]]

    assert await every_order(run) == 1


async def test_who_waits_for_what_never_comes_is_noticed() -> None:
    async def run(order: Order) -> None:
        async with bench(Members) as b, order.race(b) as race:
            await race.start(anyio.sleep_forever)
            await race.start(reads, b, 0)

    with pytest.raises(AssertionError, match="1 of 2 wait for ever"):
        await every_order(run)


async def test_who_never_stops_asking_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleave, "STEPS", 20)

    async def run(order: Order) -> None:
        async with bench(Members) as b, order.race(b) as race:
            await race.start(reads, b, 0, 1000)

    with pytest.raises(AssertionError, match="it does not come to an end within 20 steps"):
        await every_order(run)


async def test_what_may_be_raised_is_an_outcome() -> None:
    outcomes: list[list[Any]] = []

    async def fail() -> None:
        raise KeyError

    async def run(order: Order) -> None:
        async with bench(Members) as b, order.race(b) as race:
            outcomes.append(await race.start(fail, may_raise=KeyError))
            outcomes.append(await race.start(reads, b, 0))

    assert await every_order(run) == 1
    assert [[type(one) for one in outcome] for outcome in outcomes] == [[KeyError], [type(None)]]


async def test_a_node_dies_at_every_step_and_once_not_at_all() -> None:
    crashed: list[bool] = []

    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            async with order.race(b, crash=1) as race:
                await race.start(reads, b, 1, 2, may_raise=Exception)
            crashed.append(race.crashed)

    assert await every_order(run) == 4  # before either read, behind both, and never
    assert sorted(crashed) == [False, True, True, True]


async def test_what_is_not_held_passes() -> None:
    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b, order.race(b, kinds={1: ("read",)}) as race:
            await race.start(reads, b, 0, 5)
            await race.start(reads, b, 1, 2)
            await settle()
            assert race.ended == 1  # the one whom nobody held

    assert await every_order(run) == 1


async def test_orders_that_differ_are_both_run() -> None:
    """Whoever comes first in the log: a member who is told of the message, or one who joined behind it."""
    told: list[list[object]] = []

    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            await b.workspace().publish(private(by="bob"))
            alice = await b.connect("alice")
            async with order.race(b) as race:
                await race.start(b.workspace(node=0).publish, MemberJoined("c1", "alice"))
                await race.start(b.workspace(node=1).publish, message(user="bob"))
            (said,) = await heard(alice)
            told.append([type(event).__name__ for event in said])

    await every_order(run)
    assert ["MemberJoined", "MessageNew"] in told
    assert ["MemberJoined"] in told
