"""Every order in which several nodes can ask their engine: a race that some order loses is lost here.

A run holds each call of each node before the engine, and lets one through at a time. Which one is the run's choice; it
is run from the start once more for every other choice, until none is left.

Two calls of different nodes are tried in both orders only where that can make a difference: not where both of them
read, where they concern different workspaces, or where one reads cells that the other does not write. What is left
out so has the outcome of an order that is run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import anyio
import attrs
from anyio.lowlevel import checkpoint

from jackfield.testing._clock import settle
from jackfield.testing._link import CALLS, Gate, Held

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from jackfield.testing._bench import Bench

__all__ = ["Order", "Race", "every_order", "moment"]

AT_MOST = 2_000
STEPS = 500
PATIENCE = 100
"""How often, in a run, the clock is turned for somebody who waits a moment."""
WAIT = 0.02
MOMENT = "moment"

_moments: ContextVar[Gate | None] = ContextVar("jackfield_moments", default=None)

Kinds = Collection[str] | Mapping[int, Collection[str]]


@attrs.frozen(order=True)
class Step:
    """Something that can happen next; equal to that of another run which has come this far in the same way."""

    node: int
    call: str
    workspace: str = ""
    number: int = 0
    about: frozenset[object] = attrs.field(default=frozenset(), eq=False, order=False)

    def __str__(self) -> str:
        return MOMENT if self.call == MOMENT else f"node {self.node}: {self.call} {self.workspace}".rstrip()

    def commutes(self, other: Step) -> bool:
        """Whether it makes no difference which of the two comes first."""
        if self.node == other.node or MOMENT in (self.call, other.call):
            return False
        if not {self.call, other.call} <= _ASKED:  # what arrives at a node, or ends it, is its own affair
            return True
        if self.workspace != other.workspace:
            return True
        match self.call, other.call:
            case "commit", "commit":
                return False
            case "commit", "read":
                return bool(other.about) and not other.about & self.about
            case "read", "commit":
                return bool(self.about) and not other.about & self.about
            case _:
                return "commit" not in (self.call, other.call)


_ASKED = frozenset({"read", "commit", "records", "due"})


class _Choice:
    """A point at which several steps were possible. `idle` are those whose orders have been run from elsewhere."""

    __slots__ = ("done", "idle", "steps", "taken")

    def __init__(self, steps: Sequence[Step], idle: Collection[Step]) -> None:
        self.steps = steps
        self.idle = frozenset(idle)
        self.done: set[Step] = set()
        self.taken: Step

    def take(self) -> bool:
        """Take the next one that has not been tried. False: there is none."""
        for step in self.steps:
            if step not in self.idle and step not in self.done:
                self.taken = step
                self.done.add(step)
                return True
        return False

    def again(self, steps: Sequence[Step]) -> None:
        """Another run has come this far; in it random names may be others."""
        if set(steps) != set(self.steps):
            raise RuntimeError(
                f"the same steps led elsewhere: {[*map(str, self.steps)]} before, {[*map(str, steps)]} now"
            )
        self.steps = steps
        self.taken = next(step for step in steps if step == self.taken)

    def rests(self, step: Step) -> bool:
        """Whether, behind this choice, that step need not be tried: it was, from here, and would not notice."""
        return (step in self.idle or step in self.done) and step.commutes(self.taken) and step != self.taken


class _Redundant(Exception):
    """All that could follow has been run in another order."""


class Order:
    """One run's choices: the first of them given, the rest made as they come."""

    def __init__(self, choices: list[_Choice]) -> None:
        self._choices = choices
        self._next = 0

    def __str__(self) -> str:
        return "\n".join(f"  {number}. {choice.taken}" for number, choice in enumerate(self._choices[: self._next], 1))

    def choose(self, steps: Sequence[Step]) -> Step:
        """Which comes next."""
        if self._next < len(self._choices):
            choice = self._choices[self._next]
            choice.again(steps)
        else:
            before = self._choices[-1] if self._choices else None
            idle = [step for step in steps if before is not None and before.rests(step)]
            choice = _Choice(steps, idle)
            if not choice.take():
                raise _Redundant
            self._choices.append(choice)
        self._next += 1
        return choice.taken

    @asynccontextmanager
    async def race(
        self,
        bench: Bench,
        *,
        kinds: Kinds = CALLS,
        crash: int | None = None,
    ) -> AsyncGenerator[Race, None]:
        """Inside of it every call of every node is held; at its end they are let through in this run's order, until
        nobody asks any more.

        `kinds` are those that are held, of all nodes or of each: "answer" is a step between a commit and what it comes
        back with, "feed" what arrives at a node. The node `crash` dies at some step of it, in another run at another,
        and in one not at all. What stood at a gate before stands there until the end.
        """
        before = [node.link.gate for node in bench.nodes]
        for number, node in enumerate(bench.nodes):
            node.link.gate = Gate(_of(kinds, number))
        race: Race | None = None
        try:
            async with anyio.create_task_group() as tasks:
                race = Race(bench, tasks, crash)
                token = _moments.set(race.moments)
                try:
                    yield race
                    await race.drive(self)
                finally:
                    _moments.reset(token)
                    for gate in (*before, race.moments, *(node.link.gate for node in bench.nodes)):
                        if gate is not None:
                            gate.open()
                    for node in bench.nodes:
                        node.link.gate = None
                    if race.ended < race.started:
                        tasks.cancel_scope.cancel()
        except ExceptionGroup as group:  # of one, and it is ours
            raise group.exceptions[0] from None
        await settle()
        assert race is not None, "a group that could not be opened has raised"
        race.judge()


class Race:
    """Who runs in it, and how it is going."""

    def __init__(self, bench: Bench, tasks: TaskGroup, crash: int | None) -> None:
        self.started = 0
        self.ended = 0
        self.crashed = False
        """Whether the node has died in this run."""
        self.moments = Gate([MOMENT])
        self._bench = bench
        self._tasks = tasks
        self._crash = crash
        self._failures: list[Exception] = []

    async def start(
        self,
        function: Callable[..., Awaitable[Any]],
        *args: object,
        may_raise: type[Exception] | tuple[type[Exception], ...] = (),
    ) -> list[Any]:
        """Run it beside the others, up to its first call. What it returns will stand in the list that this returns,
        as what it raises will if it may."""
        outcome: list[Any] = []

        async def run() -> None:
            try:
                outcome.append(await function(*args))
            except may_raise as error:
                outcome.append(error)
            except Exception as error:
                self._failures.append(error)
            finally:
                self.ended += 1

        self.started += 1
        self._tasks.start_soon(run)
        await settle()
        return outcome

    def judge(self) -> None:
        """Raises what somebody raised and must not have."""
        if self._failures:
            raise self._failures[0]

    async def drive(self, order: Order) -> None:
        """Let one step happen after the other, until none is left."""
        patience = PATIENCE
        for _ in range(STEPS):
            await settle()
            held = self._held()
            steps = sorted(held)
            if not steps and self.ended < self.started and patience:
                patience -= 1  # somebody waits a random moment before it tries again
                await self._bench.clock.advance(WAIT)
                continue
            if self._crash is not None and not self.crashed:
                steps.append(Step(self._crash, "crash"))
                if len(steps) == 1:
                    steps.append(Step(self._crash, "stay"))
            if not steps:
                if self.ended < self.started:
                    raise AssertionError(f"{self.started - self.ended} of {self.started} wait for ever")
                return
            step = order.choose(steps)
            if step.call == "stay":
                return
            if step.call == "crash":
                self.crashed = True
                await self._bench.nodes[step.node].crash()
                continue
            gate, call = held[step]
            gate.let(call)
        raise AssertionError(f"it does not come to an end within {STEPS} steps")

    def _held(self) -> dict[Step, tuple[Gate, Held]]:
        held: dict[Step, tuple[Gate, Held]] = {
            Step(-1, MOMENT, "", call.number): (self.moments, call) for call in self.moments.held
        }
        for number, node in enumerate(self._bench.nodes):
            if (gate := node.link.gate) is not None:
                for call in gate.held:
                    held[Step(number, call.call, call.workspace, call.number, call.about)] = (gate, call)
        return held


async def moment() -> None:
    """A point at which others may come between, such as a question to a host's own database that a test has replaced:
    what is checked in every order is held here, too. Anywhere else it is a checkpoint and nothing more."""
    gate = _moments.get()
    if gate is None:
        await checkpoint()
    else:
        await gate.pass_through(MOMENT, "")


async def every_order(run: Callable[[Order], Awaitable[None]], *, at_most: int = AT_MOST) -> int:
    """Run it once for every order of the engine calls inside its `order.race(…)`; returns how often that was.

        async def run(order: Order) -> None:
            async with bench(Members, Reactions, nodes=2) as b:
                async with order.race(b) as race:
                    await race.start(b.workspace(node=0).publish, ReactionAdded("m1", "+1", "alice"))
                    await race.start(b.workspace(node=1).publish, ReactionRemoved("m1", "+1", "alice"))
                assert …

        await every_order(run)

    `run` makes everything anew each time, and has one race. What it raises is raised, with the order that led to it.
    Raises RuntimeError when there are more than `at_most` orders, so that a scenario that has grown is noticed.
    """
    choices: list[_Choice] = []
    runs = 0
    while True:
        if runs == at_most:
            raise RuntimeError(f"more than {at_most} orders; make the scenario smaller, or allow more")
        order = Order(choices)
        runs += 1
        try:
            await run(order)
        except _Redundant:
            pass
        except Exception as error:
            error.add_note(f"in this order of the engine calls:\n{order}")
            raise
        while choices and not choices[-1].take():
            choices.pop()
        if not choices:
            return runs


def _of(kinds: Kinds, node: int) -> Collection[str]:
    """What is held of one node."""
    if isinstance(kinds, Mapping):
        return cast("Mapping[int, Collection[str]]", kinds).get(node, ())
    return kinds
