"""The embedded engine: the contract, and what is its own."""

from __future__ import annotations

import pytest

from jackfield import MemoryEngine
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
