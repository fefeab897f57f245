"""The contract of engines, as tests: on what passes it, jackfield runs.

For whoever writes an engine. In a test module of yours:

    from jackfield.testing import EngineContract

    class TestMyEngine(EngineContract):
        @pytest.fixture
        def engine(self, tmp_path: Path) -> Iterator[MyEngine]:
            yield MyEngine(tmp_path / "log.db")

The fixture gives an engine that nobody has opened, over a store that is empty; clean up behind its `yield`. Every test
opens it with the history that it wants, under asyncio and under trio. Two more things can be said:

- `beside(engine)`: another node's engine on the same store. The same object will do where it lives in the process.
- `pass_time(seconds)`: let the engine's clock go on. It turns `self.clock`; an engine with a clock of its own (a
  server's) has to wait, or to be told.

Nothing here waits for time to pass where it need not, and everything that waits for the engine gives up after
`WITHIN` seconds.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest

from jackfield.engine import (
    Arrived,
    Cell,
    Commit,
    Committed,
    Conflict,
    Draft,
    Engine,
    Feed,
    History,
    Key,
    Lost,
    Record,
    Rewound,
    Snapshot,
    Trimmed,
)
from jackfield.testing._clock import FakeClock

__all__ = ["EngineContract"]

T = TypeVar("T")

W = "w"
A = Key("polls", "a")
B = Key("polls", "b")
REVISION = Key("polls", "")
LONG = 1_000_000.0
MINUTE = 60.0


def lasting(id: str, body: bytes = b"{}") -> Draft:
    return Draft(id, b"head of " + id.encode(), body)


def passing(id: str) -> Draft:
    return Draft(id, b"head of " + id.encode(), b"{}", lasting=False)


def ids(records: Iterable[Record]) -> list[str]:
    return [record.id for record in records]


class _Reader:
    """A feed, read one piece of news after the other."""

    def __init__(self, news: AsyncIterator[Arrived | Lost], within: float) -> None:
        self._news = news
        self._within = within

    async def next(self) -> Arrived | Lost:
        with anyio.fail_after(self._within):
            return await anext(self._news)

    async def arrived(self) -> Arrived:
        news = await self.next()
        assert isinstance(news, Arrived), f"expected records, got {news}"
        return news

    async def lost(self, workspace: str = W) -> Lost:
        """The next loss of a workspace; what had arrived before may come first."""
        while not isinstance(news := await self.next(), Lost) or news.workspace != workspace:
            pass
        return news

    async def records(self, upto: int, workspace: str = W) -> list[Record]:
        """What comes, until everything up to that position has."""
        found: list[Record] = []
        while True:
            news = await self.arrived()
            assert news.workspace == workspace, f"expected news of {workspace}, got {news}"
            found += news.records
            if news.upto >= upto:
                return found


class EngineContract:
    """Subclass it, and give the fixture `engine`; see the module's docstring for what else can be said."""

    pytestmark = pytest.mark.anyio

    WITHIN = 10.0
    """Seconds after which something that has not come counts as missing."""

    clock: FakeClock

    @pytest.fixture
    def engine(self) -> Any:
        """An engine over an empty store, not yet open."""
        raise NotImplementedError("say in a fixture `engine` how to make one")

    def beside(self, engine: Engine) -> Engine:
        """Another node's engine on the same store."""
        return engine

    async def pass_time(self, seconds: float) -> None:
        """Let the engine's clock go on."""
        await self.clock.advance(seconds)

    # --- what the tests are written with

    @pytest.fixture(autouse=True)
    def _fresh_clock(self) -> None:
        self.clock = FakeClock()

    @asynccontextmanager
    async def opened(self, engine: Engine, **history: float) -> AsyncGenerator[Engine, None]:
        """The engine, open, and closed again; leaving is bounded."""
        async with engine.open(History(**history), self.clock):  # type: ignore[arg-type]
            yield engine

    @asynccontextmanager
    async def reading(self, engine: Engine) -> AsyncGenerator[tuple[Feed, _Reader], None]:
        """A feed, and who reads it."""
        async with engine.feed() as feed:
            news = aiter(feed)
            try:
                yield feed, _Reader(news, self.WITHIN)
            finally:
                close: Callable[[], Awaitable[None]] | None = getattr(news, "aclose", None)
                if close is not None:
                    await close()

    async def commit(
        self,
        engine: Engine,
        *drafts: Draft,
        workspace: str = W,
        expected: Mapping[Key, bytes | None] | None = None,
        cells: Sequence[Cell] = (),
        ids: Sequence[str] = (),
        seen: tuple[int, str] = (0, ""),
    ) -> Committed:
        """A commit that must succeed."""
        outcome = await self.attempt(
            engine, *drafts, workspace=workspace, expected=expected, cells=cells, ids=ids, seen=seen
        )
        assert isinstance(outcome, Committed), f"expected that it happens, got {outcome}"
        return outcome

    async def attempt(
        self,
        engine: Engine,
        *drafts: Draft,
        workspace: str = W,
        expected: Mapping[Key, bytes | None] | None = None,
        cells: Sequence[Cell] = (),
        ids: Sequence[str] = (),
        seen: tuple[int, str] = (0, ""),
    ) -> Committed | Conflict:
        """A commit, whatever comes of it."""
        return await engine.commit(
            workspace,
            Commit(seen=seen[0], seen_id=seen[1], expected=expected or {}, cells=cells, drafts=drafts, ids=ids),
        )

    async def put(self, engine: Engine, key: Key, value: bytes | None, **how: Any) -> Committed:
        """Write one cell, whatever it holds."""
        return await self.commit(engine, cells=[Cell(key, value, **how)])

    async def cell(self, engine: Engine, key: Key, workspace: str = W) -> bytes | None:
        """What a cell holds."""
        return (await engine.read(workspace, (key,))).cells[key]

    async def conflict(self, engine: Engine, *drafts: Draft, **commit: Any) -> Conflict:
        """A commit that must not succeed, and of which nothing must happen."""
        before = await self.everything(engine)
        outcome = await self.attempt(engine, *drafts, **commit)
        assert isinstance(outcome, Conflict), f"expected a conflict, got {outcome}"
        assert await self.everything(engine) == before, "something of a commit that conflicts has happened"
        return outcome

    async def forgetting(self, engine: Engine, seconds: float = MINUTE + 2) -> None:
        """Let time pass, with somebody who asks each second what is due, as every node does."""
        await self.pass_time(seconds)
        for _ in range(3):
            await engine.due(10)
            await self.pass_time(1)

    async def everything(self, engine: Engine, workspace: str = W) -> tuple[object, ...]:
        """What a commit could have changed."""
        snapshot = await engine.read(workspace, (A, B, REVISION), ("polls",))
        kept = await engine.records(workspace, snapshot.floor, snapshot.position, 10_000)
        return snapshot.position, snapshot.lasting, snapshot.epoch, snapshot.cells, snapshot.tables, list(kept)

    # --- reading

    async def test_a_workspace_that_nobody_has_used_begins_at_zero(self, engine: Engine) -> None:
        async with self.opened(engine):
            snapshot = await engine.read(W, (A, REVISION), ("polls",))
            assert (snapshot.position, snapshot.lasting, snapshot.lasting_id) == (0, 0, "")
            assert (snapshot.floor, snapshot.floor_id) == (0, "")
            assert snapshot.cells == {A: None, REVISION: None}
            assert snapshot.tables == {"polls": {}}
            assert snapshot.epoch
            assert await engine.records(W, 0, 100, 100) == []

    async def test_an_epoch_lasts(self, engine: Engine) -> None:
        async with self.opened(engine):
            epoch = (await engine.read(W)).epoch
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1")])
            assert (await engine.read(W)).epoch == epoch

    async def test_a_snapshot_names_the_newest_lasting_record(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), lasting("m2"), passing("t1"))
            snapshot = await engine.read(W)
            assert (snapshot.position, snapshot.lasting, snapshot.lasting_id) == (3, 2, "m2")

    async def test_cells_and_tables_are_read_at_one_instant(self, engine: Engine) -> None:
        """A writer keeps two cells of two tables and the log in step; no reader sees them apart."""
        other = Key("others", "a")
        async with self.opened(engine), anyio.create_task_group() as tasks:

            async def write() -> None:
                for n in range(1, 51):
                    value = b"%d" % n
                    await self.commit(engine, lasting(f"m{n}"), cells=[Cell(A, value), Cell(other, value)])

            tasks.start_soon(write)
            position = 0
            while position < 50:
                snapshot = await engine.read(W, (A,), ("others",))
                position = snapshot.position
                value = b"%d" % position if position else None
                assert snapshot.cells[A] == value
                assert snapshot.tables["others"].get("a") == value
                await anyio.lowlevel.checkpoint()

    async def test_workspaces_share_nothing(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1")], ids=["silent"])
            there = await self.commit(engine, lasting("m1"), workspace="other", expected={A: None}, ids=["silent"])
            assert there.first == 1
            assert await self.cell(engine, A, "other") is None

    # --- cells

    async def test_a_cell_holds_any_bytes(self, engine: Engine) -> None:
        values = [b"", bytes(range(256)), "\N{GRINNING FACE}".encode(), b"\r\n$5\r\n*3", b"x" * 200_000]
        async with self.opened(engine):
            for value in values:
                await self.put(engine, A, value)
                assert await self.cell(engine, A) == value
                await self.commit(engine, expected={A: value})

    async def test_a_table_and_a_field_may_have_any_name(self, engine: Engine) -> None:
        names = ["a/b", "a:b", "a b", "ä", "{a}", "a\nb", "*", "'; --", "x" * 300]
        async with self.opened(engine):
            await self.commit(engine, cells=[Cell(Key(name, field), b"1") for name in names for field in names])
            snapshot = await engine.read(W, tables=names)
            assert snapshot.tables == {name: dict.fromkeys(names, b"1") for name in names}

    async def test_none_deletes_a_cell(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, cells=[Cell(A, b"1"), Cell(B, b"2")])
            await self.put(engine, A, None)
            snapshot = await engine.read(W, (A,), ("polls",))
            assert snapshot.cells == {A: None}
            assert snapshot.tables == {"polls": {"b": b"2"}}

    async def test_deleting_what_is_not_there_is_harmless(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.put(engine, A, None)
            assert (await engine.read(W, (A,), ("polls",))).tables == {"polls": {}}

    # --- comparing

    async def test_a_commit_compares_by_value(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, expected={A: None}, cells=[Cell(A, b"1")])
            await self.commit(engine, expected={A: b"1", B: None}, cells=[Cell(A, b"2")])
            await self.put(engine, A, b"1")
            await self.commit(engine, expected={A: b"1"}, cells=[Cell(A, b"3")])
            assert await self.cell(engine, A) == b"3"

    async def test_a_conflict_says_what_the_differing_cells_hold(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, cells=[Cell(A, b"1"), Cell(B, b"2")])
            c = Key("polls", "c")
            conflict = await self.conflict(engine, expected={A: b"1", B: b"3", c: b"4"}, cells=[Cell(A, b"9")])
            assert conflict.cells == {B: b"2", c: None}
            assert conflict.known == {}

    async def test_what_is_there_is_not_absent(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.put(engine, A, b"")
            assert (await self.conflict(engine, expected={A: None})).cells == {A: b""}
            await self.put(engine, A, None)
            assert (await self.conflict(engine, expected={A: b""})).cells == {A: None}

    async def test_of_a_commit_that_conflicts_nothing_happens(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.put(engine, A, b"1")
            await self.conflict(
                engine,
                lasting("m1"),
                passing("t1"),
                expected={A: b"other"},
                cells=[Cell(A, b"2"), Cell(B, b"2", due=1.0)],
                ids=["silent"],
            )
            assert await engine.due(10) == ([], None)
            # Nor are its ids remembered.
            await self.commit(engine, lasting("m1"), passing("t1"), ids=["silent"])

    async def test_a_table_is_compared_by_its_revision(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.put(engine, A, b"1")
            revision = (await engine.read(W, (REVISION,), ("polls",))).cells[REVISION]
            assert revision is not None
            await self.put(engine, Key("others", "a"), b"1")
            await self.commit(engine, lasting("m1"), expected={REVISION: revision})
            for value in (b"2", None):
                before = (await engine.read(W, (REVISION,))).cells[REVISION]
                await self.put(engine, B, value)
                conflict = await self.conflict(engine, expected={REVISION: before})
                assert conflict.cells.keys() == {REVISION}
                # What the conflict says is good for the next try.
                await self.commit(engine, expected=conflict.cells)

    async def test_a_revision_does_not_come_back_with_other_contents(self, engine: Engine) -> None:
        async with self.opened(engine):
            revisions: list[bytes | None] = []
            for value in (b"1", b"2", b"1"):
                await self.put(engine, A, value)
                revisions.append((await engine.read(W, (REVISION,))).cells[REVISION])
                await self.put(engine, A, None)
            await self.put(engine, A, b"3")
            for revision in revisions:
                await self.conflict(engine, expected={REVISION: revision})

    async def test_of_many_who_expect_the_same_one_wins(self, engine: Engine) -> None:
        won: list[int] = []
        async with self.opened(engine):
            other = self.beside(engine)

            async def attempt(number: int, node: Engine) -> None:
                outcome = await self.attempt(
                    node, lasting(f"m{number}"), expected={A: None}, cells=[Cell(A, b"%d" % number)]
                )
                if isinstance(outcome, Committed):
                    won.append(number)
                else:
                    assert outcome.cells.keys() == {A}

            async with self.opened(other) if other is not engine else _nothing(), anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(attempt, number, engine if number % 2 else other)
            assert len(won) == 1
            assert await self.cell(engine, A) == b"%d" % won[0]
            assert ids(await engine.records(W, 0, 100, 100)) == [f"m{won[0]}"]

    # --- positions

    async def test_positions_are_1_2_3_over_lasting_and_passing_records(self, engine: Engine) -> None:
        async with self.opened(engine):
            first = await self.commit(engine, lasting("m1"), passing("t1"), lasting("m2"))
            assert (first.first, first.last) == (1, 3)
            second = await self.commit(engine, passing("t2"))
            assert (second.first, second.last) == (4, 4)
            records = await engine.records(W, 0, 4, 10)
            assert [(r.position, r.id, r.lasting) for r in records] == [
                (1, "m1", True),
                (2, "t1", False),
                (3, "m2", True),
                (4, "t2", False),
            ]

    async def test_a_commit_without_records_has_no_place(self, engine: Engine) -> None:
        async with self.opened(engine):
            empty = await self.put(engine, A, b"1")
            assert (empty.first, empty.last) == (1, 0)
            await self.commit(engine, lasting("m1"))
            empty = await self.put(engine, A, b"2")
            assert (empty.first, empty.last) == (2, 1)
            assert (await engine.read(W)).position == 1

    async def test_positions_of_many_at_once_have_no_hole_and_no_double(self, engine: Engine) -> None:
        async with self.opened(engine):
            outcomes: list[Committed] = []

            async def publish(number: int) -> None:
                drafts = [lasting(f"{number}.{n}") for n in range(number % 3 + 1)]
                outcomes.append(await self.commit(engine, *drafts))

            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(publish, number)
            places = sorted(place for o in outcomes for place in range(o.first, o.last + 1))
            assert places == list(range(1, 61))
            records = await engine.records(W, 0, 60, 100)
            assert [r.position for r in records] == places
            for n, record in enumerate(records):
                of, _, part = record.id.partition(".")
                if part != "0":  # those of one commit stand together
                    assert records[n - 1].id == f"{of}.{int(part) - 1}"

    # --- ids

    async def test_an_id_that_is_known_is_not_published_again(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), passing("t1"), lasting("m2"))
            assert (await self.conflict(engine, lasting("m2"), lasting("m3"))).known == {"m2": 3}
            assert (await self.conflict(engine, passing("t1"))).known == {"t1": 2}
            assert (await self.conflict(engine, lasting("m1"), ids=["m2", "m4"])).known == {"m1": 1, "m2": 3}

    async def test_the_id_of_what_changed_nothing_is_known_without_a_place(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, ids=["silent"])
            assert (await self.conflict(engine, lasting("silent"))).known == {"silent": None}
            assert (await self.conflict(engine, ids=["silent", "new"])).known == {"silent": None}
            await self.commit(engine, lasting("m1"), ids=["also"])
            assert (await self.conflict(engine, ids=["also"])).known == {"also": None}

    async def test_a_conflict_says_all_at_once(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1")], ids=["silent"])
            conflict = await self.conflict(engine, lasting("m1"), expected={A: None, B: b"2"}, ids=["silent"])
            assert conflict.cells == {A: b"1", B: None}
            assert conflict.known == {"m1": 1, "silent": None}

    async def test_repeating_a_commit_is_harmless(self, engine: Engine) -> None:
        """So whoever did not hear the answer may ask again."""
        async with self.opened(engine):
            commit = Commit(expected={A: None}, cells=[Cell(A, b"1")], drafts=[lasting("m1")])
            assert isinstance(await engine.commit(W, commit), Committed)
            assert await engine.commit(W, commit) == await self.conflict(engine, lasting("m1"), expected={A: None})
            assert (await engine.read(W)).position == 1

    # --- the log

    async def test_a_record_comes_back_byte_for_byte(self, engine: Engine) -> None:
        draft = Draft("ä/1", bytes(range(256)), "\N{GRINNING FACE}".encode() * 20_000)
        async with self.opened(engine):
            committed = await self.commit(engine, draft)
            [record] = await engine.records(W, 0, 1, 1)
            assert (record.id, record.head, record.body) == (draft.id, draft.head, draft.body)
            assert record.at == committed.now

    async def test_records_are_those_behind_one_position_and_up_to_another(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, *(lasting(f"m{n}") if n % 3 else passing(f"m{n}") for n in range(1, 11)))
            for after, upto, limit, expected in (
                (0, 10, 100, range(1, 11)),
                (3, 7, 100, range(4, 8)),
                (3, 7, 2, range(4, 6)),
                (0, 99, 3, range(1, 4)),
                (9, 99, 100, range(10, 11)),
                (10, 10, 100, ()),
                (10, 99, 100, ()),
                (99, 100, 100, ()),
            ):
                found = await engine.records(W, after, upto, limit)
                assert [r.position for r in found] == list(expected), (after, upto, limit)

    async def test_a_passing_record_is_kept_for_a_minute(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), passing("t1"), lasting("m2"))
            await self.pass_time(MINUTE - 1)
            await self.commit(engine, passing("t2"))
            assert ids(await engine.records(W, 0, 4, 10)) == ["m1", "t1", "m2", "t2"]
            await self.pass_time(2)
            await self.commit(engine, lasting("m3"))
            records = await engine.records(W, 0, 5, 10)
            assert [(r.position, r.id) for r in records] == [(1, "m1"), (3, "m2"), (4, "t2"), (5, "m3")]
            assert (await engine.read(W)).floor == 0

    # --- the history

    async def test_the_newest_events_are_kept_and_not_one_more(self, engine: Engine) -> None:
        async with self.opened(engine, events=3):
            for n in range(1, 6):
                await self.commit(engine, lasting(f"m{n}"))
                snapshot = await engine.read(W)
                gone = max(0, n - 3)
                assert (snapshot.floor, snapshot.floor_id) == (gone, f"m{gone}" if gone else "")
                assert ids(await engine.records(W, gone, n, 10)) == [f"m{k}" for k in range(gone + 1, n + 1)]

    async def test_a_batch_may_be_more_than_the_history(self, engine: Engine) -> None:
        async with self.opened(engine, events=3):
            await self.commit(engine, *(lasting(f"m{n}") for n in range(1, 6)))
            snapshot = await engine.read(W)
            assert (snapshot.floor, snapshot.floor_id, snapshot.lasting_id) == (2, "m2", "m5")
            assert ids(await engine.records(W, 2, 5, 10)) == ["m3", "m4", "m5"]

    async def test_passing_records_do_not_count(self, engine: Engine) -> None:
        async with self.opened(engine, events=2):
            await self.commit(engine, lasting("m1"), *(passing(f"t{n}") for n in range(10)))
            await self.commit(engine, lasting("m2"))
            assert (await engine.read(W)).floor == 0
            await self.commit(engine, passing("t10"), lasting("m3"))
            snapshot = await engine.read(W)
            assert (snapshot.floor, snapshot.floor_id) == (1, "m1")
            assert ids(r for r in await engine.records(W, 1, 14, 20) if r.lasting) == ["m2", "m3"]

    async def test_so_many_bytes_are_kept_and_not_more(self, engine: Engine) -> None:
        async with self.opened(engine, bytes=35_000):
            for n in range(1, 6):
                await self.commit(engine, lasting(f"m{n}", b"x" * 10_000))
            snapshot = await engine.read(W)
            assert (snapshot.floor, snapshot.floor_id) == (2, "m2")
            await self.commit(engine, lasting("m6", b"x" * 25_000))
            assert (await engine.read(W)).floor_id == "m5"

    async def test_none_older_than_the_age_is_kept(self, engine: Engine) -> None:
        async with self.opened(engine, age=100.0):
            await self.commit(engine, lasting("m1"), lasting("m2"))
            await self.pass_time(60)
            await self.commit(engine, lasting("m3"))
            assert (await engine.read(W)).floor == 0
            await self.pass_time(60)
            await self.commit(engine, lasting("m4"))
            snapshot = await engine.read(W)
            assert (snapshot.floor, snapshot.floor_id) == (2, "m2")
            assert ids(await engine.records(W, 2, 4, 10)) == ["m3", "m4"]

    async def test_a_range_of_which_something_is_gone_is_trimmed(self, engine: Engine) -> None:
        async with self.opened(engine, events=2):
            await self.commit(engine, lasting("m1"), passing("t1"), lasting("m2"), lasting("m3"), lasting("m4"))
            assert (await engine.read(W)).floor == 3
            for after in (0, 1, 2):
                with pytest.raises(Trimmed):
                    await engine.records(W, after, 5, 10)
            assert ids(await engine.records(W, 3, 5, 10)) == ["m3", "m4"]

    async def test_a_snapshot_never_names_as_newest_what_never_was(self, engine: Engine) -> None:
        """Also where the newest lasting record is no longer kept."""
        async with self.opened(engine, bytes=5_000):
            await self.commit(engine, lasting("m1", b"x" * 10_000))
            snapshot = await engine.read(W)
            assert (snapshot.lasting, snapshot.lasting_id) == (1, "m1")
            assert (snapshot.floor, snapshot.floor_id) == (1, "m1")
            assert (await self.commit(engine, lasting("m2"), seen=(1, "m1"))).first == 2

    async def test_an_id_is_known_as_long_as_the_history_is_kept(self, engine: Engine) -> None:
        async with self.opened(engine, events=3):
            await self.commit(engine, lasting("m1"), ids=["silent"])
            await self.commit(engine, lasting("m2"))
            await self.commit(engine, lasting("m3"))
            assert (await self.conflict(engine, ids=["m1", "silent"])).known == {"m1": 1, "silent": None}
            await self.commit(engine, lasting("m4"))
            again = await self.commit(engine, lasting("m1"), ids=["silent"])
            assert again.first == 5

    async def test_the_id_of_what_changed_nothing_is_known_until_what_came_behind_it_is_gone(
        self, engine: Engine
    ) -> None:
        async with self.opened(engine, events=2):
            await self.commit(engine, ids=["before all"])
            await self.commit(engine, lasting("m1"))
            await self.commit(engine, ids=["silent"])
            await self.commit(engine, lasting("m2"))
            assert (await self.conflict(engine, ids=["before all", "silent"])).known.keys() == {"before all", "silent"}
            await self.commit(engine, lasting("m3"))
            assert (await self.conflict(engine, ids=["silent"])).known == {"silent": None}
            await self.commit(engine, ids=["before all"])
            await self.commit(engine, lasting("m4"))
            await self.commit(engine, ids=["silent"])

    async def test_a_fading_cell_is_there_as_long_as_the_history_is(self, engine: Engine) -> None:
        async with self.opened(engine, events=2):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1", fading=True), Cell(B, b"1")])
            await self.commit(engine, lasting("m2"))
            revision = (await engine.read(W, (REVISION,), ("polls",))).cells[REVISION]
            assert await self.cell(engine, A) == b"1"
            await self.commit(engine, lasting("m3"))
            snapshot = await engine.read(W, (A, B), ("polls",))
            assert snapshot.cells == {A: None, B: b"1"}
            assert snapshot.tables == {"polls": {"b": b"1"}}
            # Who has read the table notices.
            await self.conflict(engine, expected={REVISION: revision})

    async def test_a_cell_written_anew_fades_from_then_on_or_not_at_all(self, engine: Engine) -> None:
        async with self.opened(engine, events=2):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1", fading=True), Cell(B, b"1", fading=True)])
            await self.commit(engine, lasting("m2"), cells=[Cell(A, b"2", fading=True), Cell(B, b"2")])
            await self.commit(engine, lasting("m3"))
            assert (await engine.read(W, (A, B))).cells == {A: b"2", B: b"2"}
            await self.commit(engine, lasting("m4"))
            assert (await engine.read(W, (A, B))).cells == {A: None, B: b"2"}

    async def test_a_fading_cell_that_was_deleted_and_written_again_stays(self, engine: Engine) -> None:
        async with self.opened(engine, events=1):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1", fading=True)])
            await self.put(engine, A, None)
            await self.put(engine, A, b"2")
            await self.commit(engine, lasting("m2"), lasting("m3"))
            assert await self.cell(engine, A) == b"2"

    async def test_a_fading_cell_without_a_record_fades_with_what_comes_behind_it(self, engine: Engine) -> None:
        async with self.opened(engine, events=1):
            await self.put(engine, A, b"1", fading=True)
            assert await self.cell(engine, A) == b"1"
            await self.commit(engine, lasting("m1"))
            assert await self.cell(engine, A) == b"1"
            await self.commit(engine, lasting("m2"))
            assert await self.cell(engine, A) is None

    async def test_of_a_cell_that_has_faded_nothing_is_due(self, engine: Engine) -> None:
        async with self.opened(engine, events=1):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1", due=1.0, fading=True)])
            assert [due.key for due in (await engine.due(10))[0]] == [A]
            await self.commit(engine, lasting("m2"))
            assert await engine.due(10) == ([], None)

    # --- what nobody needs any more

    async def test_what_is_too_old_is_gone_though_nobody_commits(self, engine: Engine) -> None:
        async with self.opened(engine, age=100.0):
            await self.commit(
                engine, lasting("m1"), cells=[Cell(A, b"1", due=1.0, fading=True), Cell(B, b"1")], ids=["silent"]
            )
            revision = await self.cell(engine, REVISION)
            await self.pass_time(98)
            assert ids(await engine.records(W, 0, 1, 10)) == ["m1"]
            assert (await self.conflict(engine, ids=["m1", "silent"])).known == {"m1": 1, "silent": None}
            await self.pass_time(4)
            with pytest.raises(Trimmed):
                await engine.records(W, 0, 1, 10)
            snapshot = await engine.read(W, (A, B), ("polls",))
            assert (snapshot.floor, snapshot.floor_id) == (snapshot.lasting, snapshot.lasting_id) == (1, "m1")
            assert snapshot.cells == {A: None, B: b"1"}
            assert snapshot.tables == {"polls": {"b": b"1"}}
            assert (await self.conflict(engine, expected={REVISION: revision, A: b"1"})).cells[A] is None
            assert await engine.due(10) == ([], None)
            assert (await self.commit(engine, lasting("m1"), ids=["silent"], seen=(1, "m1"))).first == 2

    async def test_whoever_asks_first_sees_it_gone(self, engine: Engine) -> None:
        """By whichever door."""
        names = ("records", "cell", "id", "feed", "due")
        async with self.opened(engine, age=100.0), self.reading(engine) as (feed, reader):
            for name in names:
                await self.commit(
                    engine, lasting("m1"), workspace=name, cells=[Cell(A, b"1", due=1.0, fading=True)], ids=["silent"]
                )
            await self.pass_time(102)
            with pytest.raises(Trimmed):
                await engine.records("records", 0, 1, 10)
            assert await self.cell(engine, A, "cell") is None
            await self.commit(engine, lasting("m1"), workspace="id", expected={A: None}, ids=["silent"])
            feed.want("feed", 0)
            await reader.lost("feed")
            assert await engine.due(10) == ([], None)

    async def test_what_is_written_anew_is_as_old_as_that(self, engine: Engine) -> None:
        async with self.opened(engine, age=100.0):
            await self.commit(engine, cells=[Cell(A, b"1", fading=True), Cell(B, b"1", fading=True)])
            await self.pass_time(60)
            await self.commit(engine, cells=[Cell(A, b"2", fading=True), Cell(B, b"2")])
            await self.pass_time(60)
            assert (await engine.read(W, (A, B))).cells == {A: b"2", B: b"2"}
            await self.pass_time(60)
            assert (await engine.read(W, (A, B))).cells == {A: None, B: b"2"}

    async def test_a_passing_record_is_gone_after_a_minute_though_nobody_commits(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), passing("t1"))
            await self.pass_time(MINUTE + 2)
            assert ids(await engine.records(W, 0, 2, 10)) == ["m1"]
            assert (await self.commit(engine, passing("t1"))).first == 3

    async def test_a_log_that_nobody_uses_is_given_back(self, engine: Engine) -> None:
        async with self.opened(engine, age=200.0):
            await self.commit(engine, lasting("m1"), passing("t1"), cells=[Cell(A, b"1")], ids=["silent"])
            await self.put(engine, B, b"1", fading=True)
            revision = await self.cell(engine, REVISION)
            assert revision is not None
            await self.put(engine, A, None)
            before = await engine.read(W)
            await self.forgetting(engine, 202)
            after = await engine.read(W, (REVISION,))
            assert after.epoch != before.epoch
            assert (after.position, after.lasting, after.lasting_id) == (0, 0, "")
            assert (after.floor, after.floor_id) == (0, "")
            assert after.cells == {REVISION: None}
            # What was read of the old one holds of no new one.
            for _ in range(5):
                await self.put(engine, A, b"2")
                assert (await self.conflict(engine, expected={REVISION: revision})).cells.keys() == {REVISION}
            assert (await self.commit(engine, lasting("m1"), ids=["silent"])).first == 1

    async def test_a_log_that_was_only_looked_at_is_given_back(self, engine: Engine) -> None:
        async with self.opened(engine):
            before = await engine.read(W)
            await self.conflict(engine, expected={A: b"1"})
            await self.forgetting(engine)
            assert (await engine.read(W)).epoch != before.epoch

    async def test_a_log_that_was_looked_at_once_more_is_given_back_later(self, engine: Engine) -> None:
        async with self.opened(engine, age=100.0):
            before = await engine.read(W)
            await self.commit(engine, lasting("m1"), workspace="other")
            there = await engine.read("other")
            await self.forgetting(engine, MINUTE - 10)
            assert (await engine.read(W)).epoch == before.epoch
            await self.pass_time(50)
            assert (await engine.read("other")).floor == 1
            await engine.due(10)
            await self.forgetting(engine)
            assert (await engine.read(W)).epoch != before.epoch
            assert (await engine.read("other")).epoch != there.epoch

    async def test_a_log_with_a_cell_stays(self, engine: Engine) -> None:
        async with self.opened(engine, age=100.0):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1")])
            before = await engine.read(W)
            await self.forgetting(engine, 102)
            after = await engine.read(W, (A,))
            assert (after.epoch, after.position, after.lasting_id) == (before.epoch, 1, "m1")
            assert after.cells == {A: b"1"}
            assert (await self.commit(engine, cells=[Cell(A, None)], seen=(1, "m1"))).first == 2
            await self.forgetting(engine)
            assert (await engine.read(W)).epoch != before.epoch

    async def test_a_log_that_a_feed_wants_stays(self, engine: Engine) -> None:
        """So the node that has it open is never told that it went back."""
        async with self.opened(engine, age=100.0), self.reading(engine) as (feed, reader):
            await self.commit(engine, lasting("m1"))
            feed.want(W, 1)
            before = await engine.read(W)
            await self.forgetting(engine, 102)
            assert (await engine.read(W)).epoch == before.epoch
            assert (await self.commit(engine, lasting("m2"), seen=(1, "m1"))).first == 2
            assert ids(await reader.records(2)) == ["m2"]
            await self.forgetting(engine, 102)
            feed.release(W)
            await self.forgetting(engine)
            assert (await engine.read(W)).epoch != before.epoch

    async def test_a_log_whose_feed_has_ended_is_given_back(self, engine: Engine) -> None:
        async with self.opened(engine):
            async with self.reading(engine) as (feed, _):
                feed.want(W, 0)
                before = await engine.read(W)
                await self.forgetting(engine)
                assert (await engine.read(W)).epoch == before.epoch
            await self.forgetting(engine)
            assert (await engine.read(W)).epoch != before.epoch

    async def test_who_has_just_read_where_it_stands_may_want_it(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            await self.commit(engine, passing("t1"))
            await self.forgetting(engine, MINUTE - 5)
            snapshot = await engine.read(W)
            await self.forgetting(engine, MINUTE - 5)
            feed.want(W, snapshot.position)
            await self.forgetting(engine)
            assert (await engine.read(W)).epoch == snapshot.epoch
            await self.commit(engine, passing("t2"))
            assert ids((await reader.arrived()).records) == ["t2"]

    # --- a log that went back

    async def test_who_has_seen_what_the_log_holds_may_commit(self, engine: Engine) -> None:
        async with self.opened(engine, events=2):
            await self.commit(engine, lasting("m1"), seen=(0, ""))
            await self.commit(engine, lasting("m2"), passing("t1"), seen=(1, "m1"))
            await self.commit(engine, lasting("m3"), seen=(2, "m2"))
            await self.commit(engine, lasting("m4"), lasting("m5"), seen=(2, "m2"))
            # The one that was let go last is known by name still; those before it are taken on trust.
            assert ((await engine.read(W)).floor, (await engine.read(W)).floor_id) == (4, "m3")
            await self.commit(engine, passing("t2"), seen=(4, "m3"))
            await self.commit(engine, passing("t3"), seen=(1, "m1"))

    @pytest.mark.parametrize(
        "seen", [(4, "m4"), (3, "other"), (2, "other"), (1, "m1")], ids=["ahead", "newest", "older", "floor"]
    )
    async def test_who_has_seen_more_than_the_log_holds_begins_a_new_epoch(
        self, engine: Engine, seen: tuple[int, str]
    ) -> None:
        async with self.opened(engine, events=2):
            for id in ("m0", "m2", "m3") if seen == (1, "m1") else ("m1", "m2", "m3"):
                await self.commit(engine, lasting(id))
            before = await engine.read(W, (A,))
            with pytest.raises(Rewound):
                await self.attempt(engine, lasting("m5"), cells=[Cell(A, b"1")], ids=["silent"], seen=seen)
            after = await engine.read(W, (A,))
            assert after.epoch != before.epoch
            assert after.cells == {A: None}
            # And it goes on, for those who know.
            await self.commit(engine, lasting("m5"), ids=["silent"])

    async def test_the_feeds_tell_of_the_new_epoch(self, engine: Engine) -> None:
        async with (
            self.opened(engine),
            self.reading(engine) as (one, first),
            self.reading(engine) as (two, second),
        ):
            await self.commit(engine, lasting("m1"))
            await self.commit(engine, lasting("n1"), workspace="other")
            before = await engine.read(W)
            one.want(W, 1, before.epoch)
            two.want(W, 0, before.epoch)
            two.want("other", 1)
            with pytest.raises(Rewound):
                await self.attempt(engine, lasting("m2"), seen=(7, "m7"))
            now = await engine.read(W)
            for reader in (first, second):
                lost = await reader.lost()
                assert lost == Lost(W, now.epoch, now.position)
            await self.commit(engine, lasting("m2"))
            for reader in (first, second):
                assert ids(await reader.records(now.position + 1)) == ["m2"]
            await self.commit(engine, lasting("n2"), workspace="other", seen=(1, "n1"))
            assert ids(await second.records(2, "other")) == ["n2"]

    async def test_of_those_who_notice_that_it_went_back_one_begins_a_new_epoch(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"))
            before = await engine.read(W)
            commit = Commit(epoch=before.epoch, seen=7, seen_id="m7", drafts=[lasting("m2")])
            with pytest.raises(Rewound):
                await engine.commit(W, commit)
            after = await engine.read(W)
            assert after.epoch != before.epoch
            with pytest.raises(Rewound):
                await engine.commit(W, commit)
            assert await engine.read(W) == after._replace(now=(await engine.read(W)).now)
            assert isinstance(await engine.commit(W, Commit(epoch=after.epoch, drafts=[lasting("m2")])), Committed)

    async def test_who_wants_it_in_an_epoch_that_has_ended_is_told(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            await self.commit(engine, lasting("m1"))
            before = await engine.read(W)
            with pytest.raises(Rewound):
                await self.attempt(engine, lasting("m2"), seen=(7, "m7"))
            now = await engine.read(W)
            feed.want(W, before.position, before.epoch)
            assert await reader.lost() == Lost(W, now.epoch, now.position)
            await self.commit(engine, lasting("m2"))
            assert ids(await reader.records(2)) == ["m2"]

    # --- what is due

    async def test_a_cell_is_due_when_its_time_has_come(self, engine: Engine) -> None:
        async with self.opened(engine):
            now = (await engine.read(W)).now
            await self.put(engine, A, b"1", due=now + 5)
            due, later = await engine.due(10)
            assert (list(due), later) == ([], now + 5)
            await self.pass_time(6)
            due, later = await engine.due(10)
            assert [tuple(cell) for cell in due] == [(W, A, now + 5)]
            assert later is None

    async def test_it_is_due_again_until_it_is_rewritten(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.put(engine, A, b"1", due=1.0)
            for _ in range(3):
                assert [cell.key for cell in (await engine.due(10))[0]] == [A]
            await self.put(engine, A, b"2")
            assert await engine.due(10) == ([], None)

    async def test_what_is_deleted_is_not_due(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.put(engine, A, b"1", due=1.0)
            await self.put(engine, A, None)
            assert await engine.due(10) == ([], None)
            await self.put(engine, A, None, due=1.0)
            assert await engine.due(10) == ([], None)

    async def test_what_is_rewritten_is_due_at_its_new_time(self, engine: Engine) -> None:
        async with self.opened(engine):
            now = (await engine.read(W)).now
            await self.put(engine, A, b"1", due=1.0)
            await self.put(engine, A, b"1", due=now + LONG)
            assert await engine.due(10) == ([], now + LONG)
            await self.put(engine, A, b"1", due=2.0)
            due, later = await engine.due(10)
            assert [(cell.key, cell.due) for cell in due] == [(A, 2.0)]
            assert later is None

    async def test_what_is_written_twice_with_one_time_is_named_once(self, engine: Engine) -> None:
        async with self.opened(engine):
            for due in (1.0, 1.0, 2.0, 1.0):
                await self.put(engine, A, b"1", due=due)
            assert [(cell.key, cell.due) for cell in (await engine.due(10))[0]] == [(A, 1.0)]

    async def test_what_is_due_does_not_wait_for_other_workspaces(self, engine: Engine) -> None:
        async with self.opened(engine):
            now = (await engine.read(W)).now
            for workspace, when in (("a", now + LONG), ("b", 1.0), ("c", now + 2 * LONG)):
                await self.commit(engine, workspace=workspace, cells=[Cell(A, b"1", due=when)])
            due, later = await engine.due(10)
            assert [cell.workspace for cell in due] == ["b"]
            assert later == now + LONG

    async def test_no_more_are_named_than_asked_for_and_the_rest_is_due_at_once(self, engine: Engine) -> None:
        async with self.opened(engine):
            keys = {Key("polls", str(n)) for n in range(5)}
            await self.commit(engine, cells=[Cell(key, b"1", due=1.0) for key in keys])
            due, later = await engine.due(3)
            assert len({cell.key for cell in due}) == 3
            assert later is not None
            assert later <= (await engine.read(W)).now
            await self.commit(engine, cells=[Cell(cell.key, None) for cell in due])
            rest, later = await engine.due(3)
            assert {cell.key for cell in rest} == keys - {cell.key for cell in due}
            assert later is None

    # --- the feed

    async def test_a_feed_gives_what_happens_in_order(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            feed.want(W, 0)
            await self.commit(engine, lasting("m1"), passing("t1"))
            await self.put(engine, A, b"1")
            await self.commit(engine, lasting("m2"))
            records = await reader.records(3)
            assert records == list(await engine.records(W, 0, 3, 10))
            assert ids(records) == ["m1", "t1", "m2"]

    async def test_it_begins_with_what_is_behind_the_position_that_is_wanted(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            for n in range(1, 6):
                await self.commit(engine, lasting(f"m{n}") if n % 2 else passing(f"m{n}"))
            feed.want(W, 2)
            await self.commit(engine, lasting("m6"))
            assert ids(await reader.records(6)) == ["m3", "m4", "m5", "m6"]

    async def test_what_is_not_wanted_does_not_come(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            await self.commit(engine, lasting("m1"))
            feed.want(W, 1)
            await self.commit(engine, lasting("n1"), workspace="other")
            await self.commit(engine, lasting("m2"))
            assert ids(await reader.records(2)) == ["m2"]

    async def test_what_is_released_comes_no_more(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            feed.want(W, 0)
            feed.want("other", 0)
            await self.commit(engine, lasting("m1"))
            feed.release(W)
            await self.commit(engine, lasting("m2"))
            await self.commit(engine, lasting("n1"), workspace="other")
            assert ids(await reader.records(1, "other")) == ["n1"]

    async def test_releasing_what_is_not_wanted_is_harmless(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            feed.release(W)
            feed.want(W, 0)
            await self.commit(engine, lasting("m1"))
            assert ids(await reader.records(1)) == ["m1"]

    async def test_what_is_wanted_again_begins_where_it_now_is_wanted(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            feed.want(W, 0)
            await self.commit(engine, lasting("m1"))
            feed.release(W)
            await self.commit(engine, lasting("m2"))
            feed.want(W, 2)
            await self.commit(engine, lasting("m3"))
            assert ids(await reader.records(3)) == ["m3"]

    async def test_every_nodes_feed_gives_all_of_it_and_in_the_same_order(self, engine: Engine) -> None:
        async with self.opened(engine):
            other = self.beside(engine)
            async with (
                self.opened(other) if other is not engine else _nothing(),
                self.reading(engine) as (one, first),
                self.reading(other) as (two, second),
            ):
                one.want(W, 0)
                two.want(W, 0)

                async def publish(node: Engine, name: str) -> None:
                    for n in range(25):
                        draft = lasting if n % 3 else passing
                        await self.commit(node, draft(f"{name}{n}"), draft(f"{name}{n}.behind"))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(publish, engine, "a")
                    tasks.start_soon(publish, other, "b")
                records = await first.records(100)
                assert [r.position for r in records] == list(range(1, 101))
                assert await second.records(100) == records

    async def test_a_reader_that_comes_late_has_missed_nothing(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            feed.want(W, 0)
            for n in range(500):
                await self.commit(engine, lasting(f"m{n}"))
            assert ids(await reader.records(500)) == [f"m{n}" for n in range(500)]

    async def test_wanting_while_others_commit_leaves_no_hole(self, engine: Engine) -> None:
        """A node reads where the log stands, and wants what is behind it."""
        async with (
            self.opened(engine),
            self.reading(engine) as (feed, reader),
            anyio.create_task_group() as tasks,
        ):

            async def publish(workspace: str) -> None:
                for n in range(1, 31):
                    await self.commit(engine, lasting(f"m{n}"), workspace=workspace)

            for number in range(5):
                workspace = f"w{number}"
                tasks.start_soon(publish, workspace)
                await anyio.lowlevel.checkpoint()
                position = (await engine.read(workspace)).position
                feed.want(workspace, position)
                if position < 30:
                    records = await reader.records(30, workspace)
                    assert [r.position for r in records] == list(range(position + 1, 31))
                feed.release(workspace)

    async def test_what_has_passed_already_is_missing_and_the_feed_says_so(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            await self.commit(engine, lasting("m1"), passing("t1"), lasting("m2"))
            await self.pass_time(MINUTE + 1)
            await self.commit(engine, lasting("m3"))
            feed.want(W, 0)
            whole = True
            found: list[str] = []
            while len(found) < 3:
                news = await reader.arrived()
                whole = whole and news.whole
                found += ids(news.records)
            assert found == ["m1", "m2", "m3"]
            assert not whole
            await self.commit(engine, lasting("m4"))
            assert (await reader.arrived()).whole

    async def test_what_is_wanted_and_no_longer_kept_is_lost(self, engine: Engine) -> None:
        async with self.opened(engine, events=2), self.reading(engine) as (feed, reader):
            for n in range(1, 6):
                await self.commit(engine, lasting(f"m{n}"))
            feed.want(W, 2)
            now = await engine.read(W)
            assert await reader.lost() == Lost(W, now.epoch, now.position)
            await self.commit(engine, lasting("m6"))
            assert ids(await reader.records(6)) == ["m6"]

    async def test_what_is_wanted_and_is_not_there_yet_is_lost(self, engine: Engine) -> None:
        """Somebody has seen it, so the log went back."""
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            await self.commit(engine, lasting("m1"))
            feed.want(W, 5)
            now = await engine.read(W)
            assert await reader.lost() == Lost(W, now.epoch, 1)
            await self.commit(engine, lasting("m2"))
            assert ids(await reader.records(2)) == ["m2"]

    async def test_a_feed_that_ends_leaves_the_others_alone(self, engine: Engine) -> None:
        async with self.opened(engine), self.reading(engine) as (feed, reader):
            feed.want(W, 0)
            async with engine.feed() as other:
                other.want(W, 0)
                await self.commit(engine, lasting("m1"))
            await self.commit(engine, lasting("m2"))
            assert ids(await reader.records(2)) == ["m1", "m2"]

    # --- opening

    async def test_two_nodes_may_open_it_and_one_may_leave(self, engine: Engine) -> None:
        async with self.opened(engine):
            other = self.beside(engine)
            async with self.opened(other):
                await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1")])
                assert (await self.conflict(other, lasting("m1"), expected={A: b"1"})).known == {"m1": 1}
                await self.commit(other, lasting("m2"), expected={A: b"1"}, seen=(1, "m1"))
            assert (await self.commit(engine, lasting("m3"), seen=(2, "m2"))).first == 3
            assert ids(await engine.records(W, 0, 3, 10)) == ["m1", "m2", "m3"]

    async def test_opened_again_it_holds_what_it_held(self, engine: Engine) -> None:
        async with self.opened(engine):
            await self.commit(engine, lasting("m1"), cells=[Cell(A, b"1", due=1.0)])
            before = await self.everything(engine)
        async with self.opened(engine):
            assert await self.everything(engine) == before
            assert [cell.key for cell in (await engine.due(10))[0]] == [A]
            assert (await self.conflict(engine, lasting("m1"))).known == {"m1": 1}

    async def test_what_is_raised_inside_of_it_comes_out_as_it_is(self, engine: Engine) -> None:
        with pytest.raises(ZeroDivisionError):
            async with self.opened(engine), self.reading(engine):
                raise ZeroDivisionError

    async def test_whoever_asks_and_is_cancelled_leaves_it_usable(self, engine: Engine) -> None:
        async with self.opened(engine):
            for n in range(1, 6):
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await self.commit(engine, lasting(f"c{n}"), cells=[Cell(A, b"%d" % n)])
            snapshot = await engine.read(W, (A,))
            kept = await engine.records(W, 0, snapshot.position, 10)
            # Each of them has happened, or has not.
            assert [r.position for r in kept] == list(range(1, snapshot.position + 1))
            assert snapshot.cells[A] == (kept[-1].id[1:].encode() if kept else None)
            assert (await self.commit(engine, lasting("m1"))).first == snapshot.position + 1

    async def test_time_goes_on(self, engine: Engine) -> None:
        async with self.opened(engine):
            first: Snapshot = await engine.read(W)
            await self.pass_time(2)
            committed = await self.commit(engine, lasting("m1"))
            assert committed.now >= first.now + 1
            assert (await self.conflict(engine, lasting("m1"))).now >= committed.now


@asynccontextmanager
async def _nothing() -> AsyncGenerator[None, None]:
    yield
