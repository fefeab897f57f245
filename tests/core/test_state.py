"""Typed cells, and the overlay on which a commit is decided."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import attrs
import pytest

from jackfield import Audience, Change, Channel, Everyone, Jackfield, MemoryEngine, State, Transaction, Users, Workspace
from jackfield._state import Overlay, due_of, falls_due, forget, savepoint
from jackfield.engine import Cell, Commit, Committed, Conflict, History, Key, Snapshot
from jackfield.testing import FakeClock


@attrs.frozen
class Poll:
    channel_id: str = ""
    votes: Mapping[str, str] = attrs.field(factory=dict[str, str])
    closed: bool = False


@attrs.frozen
class Told:
    audience: Audience = attrs.field(factory=Everyone)


POLLS = State("polls", Poll)
NUMBER = State("numbers", int)
A = Key("numbers", "a")


# --- State


@pytest.mark.parametrize(
    ("state", "value"),
    [
        (State("x", Poll), Poll("c1", {"alice": "tea"}, True)),
        (State("x", int), 7),
        (State("x", float), 0.1),
        (State("x", str), "ä\n@"),
        (State("x", bool), True),
        (State("x", frozenset[str]), frozenset({"a", "b"})),
        (State("x", dict[str, tuple[int, int]]), {"n1": (1, 0)}),
        (State("x", frozenset[tuple[str, str]]), frozenset({("+1", "alice")})),
        (State("x", list[Poll]), [Poll("c1"), Poll("c2")]),
        (State("x", Told), Told((Channel("c1") & Users("a", "b")) - Users("bob"))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_comes_back_as_it_was(state: State[object], value: object) -> None:
    dumped = state.dump(value)
    assert dumped is not None
    assert state.load(dumped) == value


def test_a_key_that_holds_nothing_reads_as_the_default() -> None:
    assert POLLS.load(None) == Poll()
    assert State("x", frozenset[str]).load(None) == frozenset()
    assert State("x", int, lambda: 5).load(None) == 5


def test_a_state_says_its_default() -> None:
    assert (POLLS.load(None), NUMBER.load(None), NUMBER.of("part").load(None)) == (Poll(), 0, 0)
    assert State("x", int, default=lambda: 7).of("part").load(None) == 7


def test_the_default_is_not_stored() -> None:
    assert POLLS.dump(Poll()) is None
    assert NUMBER.dump(0) is None
    assert State("x", int, lambda: 5).dump(5) is None
    assert State("x", int, lambda: 5).dump(0) == b"0"


def test_a_default_is_made_anew_each_time() -> None:
    state = State("x", list[str])
    state.load(None).append("oops")
    assert state.load(None) == []


def test_a_part_of_a_state_is_a_table_of_its_own() -> None:
    part = State("x", int, lambda: 5).of("m1")
    assert part.name == "x/m1"
    assert part.load(None) == 5
    assert part.load(b"7") == 7


def test_a_state_shows_its_name() -> None:
    assert repr(POLLS) == "State('polls')"


def test_a_cell_with_a_time_reads_as_one_without() -> None:
    assert NUMBER.load(b"@12.5\n7") == 7
    assert due_of(b"@12.5\n7") == 12.5
    assert due_of(b"7") is None
    assert due_of(None) is None


def test_a_change_is_true_when_it_is_one() -> None:
    assert Change(1, 2)
    assert not Change(2, 2)


# --- Overlay and Transaction


@attrs.define
class Desk:
    """An overlay over an engine, and how to commit it."""

    engine: MemoryEngine
    clock: FakeClock
    workspace: Workspace
    overlay: Overlay
    transaction: Transaction

    async def commit(self) -> Committed | Conflict:
        overlay = self.overlay
        return await self.engine.commit("w", Commit(expected=overlay.expected, cells=tuple(overlay.writes.values())))

    async def put(self, key: Key, value: bytes | None, due: float | None = None) -> None:
        """By somebody else."""
        await self.engine.commit("w", Commit(cells=[Cell(key, value, due)]))

    async def cell(self, key: Key) -> bytes | None:
        return (await self.engine.read("w", (key,))).cells[key]


@asynccontextmanager
async def desk(engine: MemoryEngine | None = None) -> AsyncGenerator[Desk, None]:
    engine, clock = engine or MemoryEngine(), FakeClock()
    workspace = Workspace(object.__new__(Jackfield), "w")
    overlay = Overlay(engine, "w", clock.time())
    async with engine.open(History(), clock):
        yield Desk(engine, clock, workspace, overlay, Transaction(workspace, overlay))


async def test_what_was_read_is_compared() -> None:
    async with desk() as d:
        assert await d.transaction.get(NUMBER, "a") == 0
        assert d.overlay.expected == {A: None}
        await d.put(A, b"1")
        outcome = await d.commit()
        assert isinstance(outcome, Conflict)
        assert outcome.cells == {A: b"1"}


async def test_what_was_not_read_is_not() -> None:
    async with desk() as d:
        await d.transaction.get(NUMBER, "b")
        await d.put(A, b"1")
        assert isinstance(await d.commit(), Committed)


async def test_a_value_is_read_once() -> None:
    """And so stays the same for the whole commit."""
    async with desk() as d:
        assert await d.transaction.get(NUMBER, "a") == 0
        await d.put(A, b"1")
        assert await d.transaction.get(NUMBER, "a") == 0


async def test_what_was_written_is_read_back() -> None:
    async with desk() as d:
        change = await d.transaction.update(NUMBER, "a", lambda n: n + 1)
        assert (change.before, change.after) == (0, 1)
        assert await d.transaction.get(NUMBER, "a") == 1
        assert (await d.transaction.update(NUMBER, "a", lambda n: n + 1)).after == 2
        assert await d.cell(A) is None
        await d.commit()
        assert await d.cell(A) == b"2"


async def test_what_makes_no_difference_is_not_written() -> None:
    async with desk() as d:
        await d.put(A, b"1")
        assert not await d.transaction.update(NUMBER, "a", lambda n: n)
        assert d.overlay.writes == {}
        assert d.overlay.expected == {A: b"1"}


async def test_the_default_deletes_the_cell() -> None:
    async with desk() as d:
        await d.put(A, b"1")
        await d.transaction.update(NUMBER, "a", lambda _: 0)
        await d.commit()
        assert (await d.engine.read("w", tables=("numbers",))).tables == {"numbers": {}}


async def test_a_whole_table_is_read_with_what_was_written_on_top() -> None:
    async with desk() as d:
        for key in "abc":
            await d.put(Key("numbers", key), b"1")
        assert await d.transaction.all(NUMBER) == {"a": 1, "b": 1, "c": 1}
        await d.transaction.update(NUMBER, "a", lambda _: 0)
        await d.transaction.update(NUMBER, "b", lambda _: 2)
        await d.transaction.update(NUMBER, "d", lambda _: 4)
        await d.transaction.update(State("others", int), "e", lambda _: 5)
        assert await d.transaction.all(NUMBER) == {"b": 2, "c": 1, "d": 4}
        assert isinstance(await d.commit(), Committed)


async def test_a_whole_table_is_compared_by_its_revision() -> None:
    async with desk() as d:
        await d.put(A, b"1")
        await d.transaction.all(NUMBER)
        assert d.overlay.expected.keys() == {Key("numbers", "")}
        await d.put(Key("numbers", "z"), b"1")
        assert isinstance(await d.commit(), Conflict)


async def test_what_was_written_can_be_undone_to_a_point() -> None:
    async with desk() as d:
        await d.transaction.update(NUMBER, "a", lambda _: 1)
        undo = savepoint(d.transaction)
        await d.transaction.update(NUMBER, "a", lambda _: 2)
        await d.transaction.update(NUMBER, "b", lambda _: 2)
        undo()
        assert await d.transaction.get(NUMBER, "a") == 1
        assert await d.transaction.get(NUMBER, "b") == 0
        # What was read stays compared.
        assert d.overlay.expected == {A: None, Key("numbers", "b"): None}


async def test_a_whole_table_does_not_show_what_was_undone() -> None:
    async with desk() as d:
        await d.put(A, b"1")
        undo = savepoint(d.transaction)
        for key in "abc":
            await d.transaction.update(NUMBER, key, lambda n: n + 5)
        assert await d.transaction.all(NUMBER) == {"a": 6, "b": 5, "c": 5}
        undo()
        assert await d.transaction.all(NUMBER) == {"a": 1}
        await d.transaction.update(NUMBER, "c", lambda n: n + 7)
        assert await d.transaction.all(NUMBER) == {"a": 1, "c": 7}


async def test_after_a_conflict_nothing_is_read_twice_but_tables() -> None:
    reads: list[tuple[object, ...]] = []

    class Watched(MemoryEngine):
        async def read(self, workspace, keys=(), tables=()) -> Snapshot:  # type: ignore[no-untyped-def]
            reads.append((*keys, *tables))
            return await super().read(workspace, keys, tables)

    async with desk(Watched()) as d:
        tx = d.transaction
        for key in "ab":
            await tx.get(NUMBER, key)
        await tx.all(POLLS)
        await tx.update(NUMBER, "a", lambda n: n + 1)
        await d.put(A, b"5")
        outcome = await d.commit()
        assert isinstance(outcome, Conflict)
        d.overlay.again(outcome.cells, 123.0)
        assert d.overlay.now == 123.0
        assert (d.overlay.expected, d.overlay.writes, d.overlay.mark()) == ({}, {}, 0)
        reads.clear()
        assert await tx.get(NUMBER, "b") == 0
        assert (await tx.update(NUMBER, "a", lambda n: n + 1)).after == 6
        assert reads == []
        assert await tx.all(POLLS) == {}
        assert reads == [(Key("polls", ""), "polls")]
        assert isinstance(await d.commit(), Committed)
        assert await d.cell(A) == b"6"


# --- time


class Ahead(MemoryEngine):
    """An engine whose clock is an hour ahead of the node's."""

    async def read(self, workspace, keys=(), tables=()) -> Snapshot:  # type: ignore[no-untyped-def]
        snapshot = await super().read(workspace, keys, tables)
        return snapshot._replace(now=snapshot.now + 3600)


@pytest.mark.parametrize("table", [False, True])
async def test_now_is_the_engines(table: bool) -> None:
    """Or else what the engine says is due, by its own clock, would not be due by the node's."""
    async with desk(Ahead()) as d:
        await (d.transaction.all(NUMBER) if table else d.transaction.get(NUMBER, "a"))
        assert d.transaction.now == d.clock.time() + 3600


async def test_a_cell_may_have_a_time_and_carries_it() -> None:
    async with desk() as d:
        await d.transaction.update(NUMBER, "a", lambda _: 1, due=5)
        await d.commit()
        when = d.clock.time() + 5
        assert await d.engine.due(10) == ([], when)
        assert await d.cell(A) == b"@%r\n1" % when
        assert await d.transaction.get(NUMBER, "a") == 1


async def test_moving_the_time_alone_is_a_write_and_no_change() -> None:
    async with desk() as d:
        await d.transaction.update(NUMBER, "a", lambda _: 1, due=5)
        assert not await d.transaction.update(NUMBER, "a", lambda n: n, due=9)
        await d.commit()
        assert await d.engine.due(10) == ([], d.clock.time() + 9)


async def test_an_update_that_names_no_time_leaves_the_one_that_was_named() -> None:
    async with desk() as d:
        await d.transaction.update(NUMBER, "a", lambda _: 1, due=5)
        await d.transaction.update(NUMBER, "a", lambda _: 2)
        await d.commit()
        assert await d.engine.due(10) == ([], d.clock.time() + 5)


async def test_what_is_deleted_has_no_time() -> None:
    async with desk() as d:
        await d.transaction.update(NUMBER, "a", lambda _: 1, due=5)
        await d.transaction.update(NUMBER, "a", lambda _: 0, due=5)
        await d.commit()
        assert await d.engine.due(10) == ([], None)
        assert await d.cell(A) is None


async def test_a_cell_falls_due_when_its_time_has_come_and_it_is_there() -> None:
    async with desk() as d:
        now = d.clock.time()
        for value, falls in (
            (None, False),
            (b"1", False),
            (b"@%r\n1" % (now - 1), True),
            (b"@%r\n1" % now, True),
            (b"@%r\n1" % (now + 1), False),
        ):
            await d.put(A, value)
            transaction = Transaction(d.workspace, Overlay(d.engine, "w", now))
            assert await falls_due(transaction, A) is falls, value


async def test_a_cell_that_was_due_and_that_nobody_rewrote_is_forgotten() -> None:
    async with desk() as d:
        await d.put(A, b"@1.0\n1", 1.0)
        assert await falls_due(d.transaction, A)
        forget(d.transaction, A)
        await d.commit()
        assert await d.cell(A) is None


@pytest.mark.parametrize(
    ("due", "left"), [(None, None), (9.0, 9.0), (-1.0, None)], ids=["as it was", "a new time", "a time that is over"]
)
async def test_a_cell_that_was_due_and_was_rewritten_stays_without_its_old_time(
    due: float | None, left: float | None
) -> None:
    """Were it left, the cell would be due again at once, and for ever."""
    async with desk() as d:
        await d.put(A, b"@1.0\n1", 1.0)
        assert await falls_due(d.transaction, A)
        await d.transaction.update(NUMBER, "a", lambda n: n + 1, due=due)
        forget(d.transaction, A)
        await d.commit()
        assert await d.transaction.get(NUMBER, "a") == 2
        assert NUMBER.load(await d.cell(A)) == 2
        assert await d.engine.due(10) == ([], None if left is None else d.clock.time() + left)


async def test_a_cell_that_was_due_and_was_deleted_is_gone() -> None:
    async with desk() as d:
        await d.put(A, b"@1.0\n1", 1.0)
        await d.transaction.update(NUMBER, "a", lambda _: 0)
        forget(d.transaction, A)
        await d.commit()
        assert await d.cell(A) is None


async def test_a_fading_cell_says_so() -> None:
    async with desk() as d:
        await d.transaction.update(NUMBER, "a", lambda _: 1, fading=True)
        assert d.overlay.writes[A].fading
        await d.transaction.update(NUMBER, "a", lambda _: 2)
        assert not d.overlay.writes[A].fading
