"""What many read of a log is read once; what is kept of it has a bound."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import pytest

from jackfield import EngineUnavailable, Everyone, MemoryEngine
from jackfield._backlog import ENTRY_BYTES, TURN, Backlog
from jackfield._log import Head
from jackfield.engine import Commit, Committed, Draft, History, Record, Trimmed
from jackfield.testing import FakeClock, settle
from jackfield.testing._link import Gate, Link

HEAD = Head("said", Everyone(), "durable").dump()


class Log:
    """An engine behind a link that counts, and the backlog before it."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()
        self.link = Link(self.engine)
        self.backlog = Backlog(self.link)

    async def write(self, count: int, *, body: bytes = b"{}", workspace: str = "w", lasting: bool = True) -> None:
        """Records whose ids are their positions."""
        start = (await self.engine.read(workspace)).position + 1
        drafts = [Draft(f"r{start + n}", HEAD, body, lasting) for n in range(count)]
        assert isinstance(await self.engine.commit(workspace, Commit(drafts=drafts)), Committed)

    async def all(self, after: int, upto: int, workspace: str = "w", epoch: str = "e") -> list[int]:
        """Read from block to block, as one who reads his way up."""
        found: list[int] = []
        while after < upto:
            entries, next_ = await self.backlog.read(workspace, epoch, after, upto)
            assert after < next_ <= upto
            assert all(after < entry.record.position <= next_ for entry in entries)
            found += [entry.record.position for entry in entries]
            after = next_
        return found

    @property
    def asked(self) -> int:
        return self.link.calls.count("records")


@pytest.mark.parametrize("after", [0, 1, 63, 64, 65, 127, 128, 199])
@pytest.mark.parametrize("upto", [1, 63, 64, 65, 128, 129, 200])
async def test_from_block_to_block_it_is_every_record_once(after: int, upto: int) -> None:
    log = Log()
    await log.write(200)
    assert await log.all(after, upto) == [*range(after + 1, upto + 1)]
    assert await log.all(after, upto) == [*range(after + 1, upto + 1)]


async def test_a_block_is_at_most_a_turn() -> None:
    log = Log()
    await log.write(200)
    stretch = await log.backlog.read("w", "e", 0, 200)
    assert (len(stretch.entries), stretch.upto) == (TURN, TURN)
    stretch = await log.backlog.read("w", "e", 70, 200)
    assert [entry.record.position for entry in stretch.entries] == [*range(71, 129)]


async def test_a_hundred_that_come_back_to_the_same_range_ask_once_for_each_block() -> None:
    log = Log()
    await log.write(150)
    log.link.gate = gate = Gate(["records"])
    found: list[list[int]] = []

    async def come_back(after: int) -> None:
        found.append(await log.all(after, 150))

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(come_back, number % 30)
        await settle()
        assert gate.waiting == 1
        gate.open()
    assert log.asked == 3
    assert sorted(found) == sorted([*range(number % 30 + 1, 151)] for number in range(100))


async def test_other_workspaces_epochs_and_ends_are_other_blocks() -> None:
    log = Log()
    await log.write(10)
    await log.write(5, workspace="v")
    assert len(await log.all(0, 10)) == 10
    assert len(await log.all(0, 5, "v")) == 5
    assert len(await log.all(0, 10, epoch="f")) == 10
    assert len(await log.all(0, 9)) == 9
    assert log.asked == 4


async def test_one_who_leaves_while_he_reads_for_all_leaves_it_to_the_next() -> None:
    log = Log()
    await log.write(10)
    log.link.gate = gate = Gate(["records"])
    found: list[list[int]] = []
    scopes: list[anyio.CancelScope] = []

    async def come_back() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            found.append(await log.all(0, 10))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(come_back)
            await settle()
        assert gate.waiting == 1
        scopes[0].cancel()
        await settle()
        assert gate.waiting == 1
        scopes[1].cancel()
        await settle()
        gate.open()
    assert found == [[*range(1, 11)]]
    assert not log.backlog._reading
    assert await log.all(0, 10) == [*range(1, 11)]
    assert log.asked in (2, 3)  # who comes next is trio's choice: the second one may have been only waiting


async def test_one_who_waits_and_leaves_hurts_nobody() -> None:
    log = Log()
    await log.write(10)
    log.link.gate = gate = Gate(["records"])
    found: list[list[int]] = []
    waiting = anyio.CancelScope()

    async def lead() -> None:
        found.append(await log.all(0, 10))

    async def wait() -> None:
        with waiting:
            await log.all(0, 10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lead)
        await settle()
        tasks.start_soon(wait)
        await settle()
        waiting.cancel()
        await settle()
        gate.open()
    assert found == [[*range(1, 11)]]
    assert log.asked == 1


async def test_where_it_failed_the_next_one_tries() -> None:
    log = Log()
    await log.write(10)
    log.link.cut()
    with pytest.raises(EngineUnavailable):
        await log.all(0, 10)
    log.link.mend()
    assert await log.all(0, 10) == [*range(1, 11)]


# --- what is no longer kept


async def keeping(log: Log, events: int) -> None:
    log.engine._history = History(events=events)
    log.engine._clock = FakeClock()


async def test_what_is_kept_of_a_block_that_is_cut_is_given() -> None:
    log = Log()
    await keeping(log, 50)
    await log.write(100)  # 51 … 100 are kept
    assert await log.all(50, 100) == [*range(51, 101)]
    assert await log.all(60, 100) == [*range(61, 101)]
    assert await log.all(70, 100) == [*range(71, 101)]


@pytest.mark.parametrize("after", [0, 1, 49])
async def test_one_record_too_few_is_trimmed(after: int) -> None:
    log = Log()
    await keeping(log, 50)
    await log.write(100)
    with pytest.raises(Trimmed):
        await log.all(after, 100)


async def test_where_a_block_begins_at_what_is_gone_it_is_asked_for_once() -> None:
    """What stands at its start cannot be had in any other way."""
    log = Log()
    await keeping(log, 10)
    await log.write(100)
    with pytest.raises(Trimmed):
        await log.all(64, 100)
    assert log.asked == 1


async def test_passing_records_that_are_gone_leave_no_hole_in_the_way() -> None:
    clock, log = FakeClock(), Log()
    log.engine._clock = clock
    await log.write(3)
    await log.write(100, lasting=False)
    await log.write(3)
    assert len(await log.all(0, 106)) == 106
    await clock.advance(61)
    log.backlog.forget("w")
    assert await log.all(0, 106) == [1, 2, 3, 104, 105, 106]


# --- how much


async def test_it_keeps_so_many_bytes_and_lets_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    block = ENTRY_BYTES + 64 * (ENTRY_BYTES + 100)
    monkeypatch.setattr("jackfield._backlog.KEPT_BYTES", block * 3)
    log = Log()
    await log.write(64 * 5, body=b"x" * 100)
    await log.all(0, 64 * 5)
    assert log.backlog._size == block * 3
    assert [block.start for block in log.backlog._kept] == [128, 192, 256]
    await log.all(128, 192)  # now it is the newest
    await log.all(0, 64)
    assert [block.start for block in log.backlog._kept] == [256, 128, 0]
    assert log.asked == 6


async def test_a_block_that_is_over_the_bound_by_itself_is_given_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jackfield._backlog.KEPT_BYTES", 100)
    log = Log()
    await log.write(3, body=b"x" * 100)
    assert await log.all(0, 3) == [1, 2, 3]
    assert not log.backlog._kept
    assert log.backlog._size == 0


async def test_nothing_of_a_workspace_is_kept_when_nobody_is_left_there() -> None:
    log = Log()
    await log.write(100)
    await log.write(10, workspace="v")
    await log.all(0, 100)
    await log.all(0, 10, "v")
    log.backlog.forget("w")
    assert {block.workspace_id for block in log.backlog._kept} == {"v"}
    assert log.backlog._size == ENTRY_BYTES + 10 * (ENTRY_BYTES + 2)
    await log.all(0, 10, "v")
    assert log.asked == 3
    log.backlog.forget("v")
    assert log.backlog._size == 0


async def test_what_was_still_being_read_then_is_not_kept() -> None:
    class Slow(MemoryEngine):
        async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
            found = await super().records(workspace, after, upto, limit)
            await anyio.lowlevel.checkpoint()
            return found

    log = Log()
    log.engine = Slow()
    log.backlog = Backlog(log.engine)
    await log.write(3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(log.all, 0, 3)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    log.backlog.forget("w")
    assert not log.backlog._kept
    assert not log.backlog._reading
