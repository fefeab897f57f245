"""Stale state + events = fresh state: where it is so, and that it is noticed where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest

from jackfield import Everyone, ServerEvent, Session, State, Workspace, durable, hookimpl
from jackfield.events import PresenceUpdated
from jackfield.testing import bench, check_initial_state, moment
from jackfield_members import Members
from jackfield_presence import Presence
from tests.plugins.chat import public


class Counted(ServerEvent, type="tally.counted", delivery=durable):
    """One more: it says by how much, not how many there are."""

    name: str
    by: int


class Standing(ServerEvent, type="tally.standing", delivery=durable):
    """As many there are now."""

    name: str
    total: int


TALLY = State("tally.counts", int)
LABELS = State("tally.labels", str)


@attrs.define(eq=False)
class Tally:
    """Counts in the engine, and tells differences: an event that is told twice is counted twice."""

    name: str = "tally"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return [Counted, Standing]

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        counts = await session.workspace.all(TALLY)
        return {name: [count, await session.workspace.get(LABELS, name)] for name, count in counts.items()}


async def count(workspace: Workspace, *names: str) -> None:
    for name in names:
        await workspace.update(
            TALLY, name, lambda held: held + 1, publish=lambda _, __, name=name: _told(Counted(name, 1))
        )


def _told(event: ServerEvent) -> Any:
    from jackfield import Post

    return Post(event, Everyone())


def add(state: dict[str, Any], event: ServerEvent) -> None:
    if isinstance(event, Counted):
        state["tally"].setdefault(event.name, [0, ""])[0] += event.by
    elif isinstance(event, PresenceUpdated):
        state["presence"][event.user_id] = event.status


async def test_what_the_engine_keeps_is_told_exactly_once() -> None:
    orders = await check_initial_state(
        Tally,
        before=lambda workspace: count(workspace, "a", "b"),
        change=lambda workspace: count(workspace, "a"),
        apply=add,
    )
    assert orders > 10


async def test_beside_a_plugin_that_reads_later() -> None:
    await check_initial_state(Tally, Presence, change=lambda workspace: count(workspace, "a"), apply=add)


@attrs.define(eq=False)
class Host:
    """A host's own database, and what it tells of it."""

    rows: dict[str, int]
    name: str = "tally"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return [Counted, Standing]

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        await moment()
        return dict(self.rows)


@attrs.define(eq=False)
class Labels:
    """Its state is in the engine."""

    name: str = "labels"

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        return dict(await session.workspace.all(LABELS))


def hosted(tell: Callable[[str, int], ServerEvent]) -> tuple[Callable[[], Host], Callable[[Workspace], Any]]:
    rows: dict[str, int] = {}

    def host() -> Host:
        rows.clear()
        return Host(rows)

    async def change(workspace: Workspace) -> None:
        rows["a"] = rows.get("a", 0) + 1  # the host's commit comes first, then it publishes
        await moment()
        await workspace.publish(tell("a", rows["a"]), to=Everyone())

    return host, change


def put(state: dict[str, Any], event: ServerEvent) -> None:
    if isinstance(event, Standing):
        state["tally"][event.name] = event.total
    elif isinstance(event, Counted):
        state["tally"][event.name] = state["tally"].get(event.name, 0) + event.by


async def test_a_host_whose_events_say_what_is_now_loses_nothing() -> None:
    host, change = hosted(Standing)
    # Not even where other state, which is in the engine, is read behind its own and moves the beginning.
    assert await check_initial_state(host, Labels, change=change, apply=put) > 10


async def test_a_host_whose_events_say_the_difference_counts_twice_and_it_is_noticed() -> None:
    host, change = hosted(lambda name, _: Counted(name, 1))
    with pytest.raises(AssertionError, match=r"one that connects afterwards \{'tally': \{'a': 1\}\}") as error:
        await check_initial_state(host, change=change, apply=put)
    assert error.value.__notes__[0].startswith("in this order of the engine calls:")
    assert "moment" in error.value.__notes__[0]


async def test_a_state_from_before_the_connection_stood_is_noticed() -> None:
    @attrs.define(eq=False)
    class Early(Tally):
        @hookimpl
        async def channels_of(self, workspace: Workspace, user_id: str) -> Sequence[str]:
            self.seen = {name: [count, ""] for name, count in (await workspace.all(TALLY)).items()}
            return []

        @hookimpl
        async def initial_state(self, session: Session) -> object:
            return self.seen

        seen: dict[str, Any] = attrs.field(factory=dict)

    with pytest.raises(AssertionError, match="one that connects afterwards"):
        await check_initial_state(Early, change=lambda workspace: count(workspace, "a"), apply=add)


async def test_a_moment_is_a_checkpoint_elsewhere() -> None:
    await moment()
    async with bench(Members) as b:
        await b.workspace().publish(public())
        await moment()
