"""The embedded engine: the contract, and what is its own."""

from __future__ import annotations

import pytest

from jackfield import MemoryEngine
from jackfield._ledger import Ledger
from jackfield.engine import Cell, Commit, Committed, Conflict, Draft, History, Key, Lost, Rewound
from jackfield.testing import EngineContract, FakeClock


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self) -> MemoryEngine:
        return MemoryEngine()


def test_its_url_says_no_more_than_memory() -> None:
    assert isinstance(MemoryEngine.from_url("memory://"), MemoryEngine)


async def test_the_id_of_a_passing_record_is_forgotten_with_it(fake_clock: FakeClock) -> None:
    """A workspace of which nothing lasts must not grow for ever."""
    engine = MemoryEngine()
    typing = Commit(drafts=[Draft("t1", b"", b"", lasting=False)])
    async with engine.open(History(), fake_clock):
        assert isinstance(await engine.commit("w", typing), Committed)
        await fake_clock.advance(59)
        assert isinstance(await engine.commit("w", typing), Conflict)
        await fake_clock.advance(2)
        await engine.commit("w", Commit())
        assert isinstance(await engine.commit("w", typing), Committed)


async def test_a_snapshot_is_the_callers_own(fake_clock: FakeClock) -> None:
    engine = MemoryEngine()
    async with engine.open(History(), fake_clock):
        await engine.commit("w", Commit(cells=[Cell(Key("polls", "a"), b"1")]))
        before = await engine.read("w", tables=["polls"])
        await engine.commit("w", Commit(cells=[Cell(Key("polls", "a"), b"2")]))
        assert before.tables == {"polls": {"a": b"1"}}


async def test_a_log_that_went_back_is_told_to_the_nodes_that_want_it(fake_clock: FakeClock) -> None:
    engine = MemoryEngine()
    async with engine.open(History(), fake_clock), engine.feed() as wants, engine.feed() as other:
        wants.want("w", 0)
        other.want("v", 0)
        with pytest.raises(Rewound):
            await engine.commit("w", Commit(seen=9, seen_id="never"))
        for workspace in "wv":
            await engine.commit(workspace, Commit(drafts=[Draft(workspace, b"", b"")]))
        news = aiter(wants)
        assert await anext(news) == Lost("w", (await engine.read("w")).epoch, 0)
        assert (await anext(news)).workspace == "w"
        others = aiter(other)
        assert (await anext(others)).workspace == "v"
        for reader in (news, others):
            await reader.aclose()  # type: ignore[attr-defined]


def passing(id: str) -> Commit:
    return Commit(drafts=[Draft(id, b"", b"", lasting=False)])


def lasting(id: str) -> Commit:
    return Commit(drafts=[Draft(id, b"", b"")])


async def test_workspaces_that_nobody_uses_are_given_back(fake_clock: FakeClock) -> None:
    engine = MemoryEngine()
    async with engine.open(History(age=1_000.0), fake_clock):
        for n in range(50):
            await engine.commit(f"p{n}", passing("t1"))
            await engine.commit(f"l{n}", lasting("m1"))
            await engine.commit(f"c{n}", Commit(cells=[Cell(Key("polls", "a"), b"1", due=1.0, fading=True)]))
            await engine.read(f"r{n}")
        await engine.commit("stays", Commit(cells=[Cell(Key("polls", "a"), b"1")]))
        await fake_clock.advance(61)
        await engine.due(10)
        assert {name[0] for name in engine._logs} == {"l", "c", "s"}
        await fake_clock.advance(1_000)
        assert await engine.due(10) == ([], None)
        assert engine._logs.keys() == {"stays"}
        assert not engine._looks
        assert not engine._due


async def test_what_is_asked_each_second_looks_at_what_is_too_old_and_at_no_more(
    fake_clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand workspaces that hold something cost nothing."""
    looked: list[str] = []
    age = MemoryEngine._age

    def counted(engine: MemoryEngine, workspace: str, log: Ledger, now: float) -> None:
        looked.append(workspace)
        age(engine, workspace, log, now)

    monkeypatch.setattr(MemoryEngine, "_age", counted)
    engine = MemoryEngine()
    async with engine.open(History(), fake_clock):
        for n in range(1_000):
            await engine.commit(f"w{n}", Commit(drafts=[Draft("m1", b"", b"")], cells=[Cell(Key("polls", "a"), b"1")]))
        await fake_clock.advance(100)
        await engine.due(10)
        looked.clear()  # once, whether anything has come of them
        await engine.commit("old", passing("t1"))
        for _ in range(70):
            await fake_clock.advance(1)
            await engine.due(10)
        assert looked == ["old"]
        assert len(engine._looks) == 1_000


async def test_a_busy_workspace_is_noted_down_twice_and_not_more(fake_clock: FakeClock) -> None:
    engine = MemoryEngine()
    async with engine.open(History(events=20), fake_clock):
        for n in range(500):
            await engine.commit("w", lasting(f"m{n}"))
            await engine.commit("w", passing(f"t{n}"))
            await fake_clock.advance(1)
            await engine.due(10)
            assert len(engine._looks) <= 2
        log = engine._logs["w"]
        assert len(log.lasting) == len(log._remembered) == 20
        assert len(log.passing) <= 61
        assert len(log.known) == len(log.lasting) + len(log.passing)


async def test_a_fading_cell_that_is_rewritten_again_and_again_is_noted_down_no_longer_than_the_history_is(
    fake_clock: FakeClock,
) -> None:
    engine = MemoryEngine()
    async with engine.open(History(events=5), fake_clock):
        for n in range(100):
            cell = Cell(Key("polls", "a"), b"%d" % n, fading=True)
            await engine.commit("w", Commit(cells=[cell], drafts=[Draft(f"m{n}", b"", b"")]))
        assert len(engine._logs["w"]._fades) == 5
        assert (await engine.read("w", [Key("polls", "a")])).cells == {Key("polls", "a"): b"99"}
