"""The engine in a file: the contract, and what is its own."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from jackfield import ConfigurationError, Jackfield
from jackfield.engine import (
    Arrived,
    Cell,
    Commit,
    Committed,
    Conflict,
    Draft,
    EngineRefused,
    EngineUnavailable,
    History,
    Key,
    Record,
    Rewound,
)
from jackfield.events import MessageNew, timestamp
from jackfield.testing import EngineContract, FakeClock, bench, settle
from jackfield_members import OpenWorkspace
from jackfield_presence import Presence
from jackfield_sqlite import SQLiteEngine
from jackfield_sqlite._feed import CaughtUp, SQLiteFeed
from jackfield_sqlite._file import File
from jackfield_sqlite._keeping import AT_ONCE
from jackfield_sqlite._ledger import Ledger
from jackfield_sqlite._thread import FileThread, Job

A = Key("polls", "a")
B = Key("polls", "b")
REVISION = Key("polls", "")
TABLES = ("log", "cell", "revision", "lasting", "passing", "silent")


class TestContract(EngineContract):
    @pytest.fixture
    def engine(self, tmp_path: Path) -> SQLiteEngine:
        return SQLiteEngine(tmp_path / "log.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lasting(id: str) -> Draft:
    return Draft(id, b"head", b"body")


def rows(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as db:
        return {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


# --- its URL


@pytest.mark.parametrize(
    ("url", "path", "wait"),
    [
        ("sqlite:///log.db", "log.db", 5),
        ("sqlite:///a/log.db", "a/log.db", 5),
        ("sqlite:////var/lib/log.db", "/var/lib/log.db", 5),
        ("sqlite:////my%20data/log.db?wait=0.5", "/my data/log.db", 0.5),
    ],
)
def test_a_url_names_a_file(url: str, path: str, wait: float) -> None:
    engine = SQLiteEngine.from_url(url)
    assert (str(engine._path), engine._wait) == (path, wait)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://log.db", "sqlite:// takes three slashes and a path, or four and an absolute one."),
        ("sqlite://", "sqlite:/// must name a file; what is not to be kept is memory://."),
        ("sqlite:///", "sqlite:/// must name a file; what is not to be kept is memory://."),
        ("sqlite:///:memory:", "sqlite:/// must name a file; what is not to be kept is memory://."),
        ("sqlite:///x.db?mode=ro", 'sqlite:/// has no setting "mode"; there is wait, in seconds.'),
        ("sqlite:///x.db?wait=soon", 'sqlite:///: wait="soon" is not a number of seconds.'),
        ("sqlite:///x.db?wait=-1", 'sqlite:///: wait="-1" is not a number of seconds.'),
        ("sqlite:///x.db?wait=inf", 'sqlite:///: wait="inf" is not a number of seconds.'),
    ],
)
def test_a_url_that_does_not_is_refused_in_one_line(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Jackfield.from_environ({"JACKFIELD_SECRET": "only for this test, and 32 bytes long", "JACKFIELD_ENGINE": url})
    assert str(caught.value) == f"JACKFIELD_ENGINE: {said}"


# --- from one opening to the next


async def test_after_a_restart_it_is_as_it_was(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    async with engine.open(History(), clock):
        await engine.commit("w", Commit(drafts=[lasting("m1"), Draft("t1", b"", b"", lasting=False)], ids=["silent"]))
        await engine.commit("w", Commit(cells=[Cell(A, b"1", due=1.0), Cell(B, b"2")]))
        await engine.commit("w", Commit(cells=[Cell(B, None)]))
        before = await engine.read("w", (A, REVISION), ("polls",))
        records = await engine.records("w", 0, 2, 10)
        with pytest.raises(Rewound):
            await engine.commit("gone", Commit(seen=3, seen_id="never"))
        epoch = (await engine.read("gone")).epoch
    engine = SQLiteEngine(path)
    async with engine.open(History(), clock):
        assert await engine.read("w", (A, REVISION), ("polls",)) == before
        assert await engine.records("w", 0, 2, 10) == records
        assert [due.key for due in (await engine.due(10))[0]] == [A]
        assert (await engine.read("gone")).epoch == epoch
        known = await engine.commit("w", Commit(drafts=[lasting("m1")], ids=["silent"]))
        assert isinstance(known, Conflict)
        assert known.known == {"m1": 1, "silent": None}
        # A revision that somebody has read names nothing else from here on.
        for _ in range(9):
            await engine.commit("w", Commit(cells=[Cell(A, b"2")]))
            assert isinstance(await engine.commit("w", Commit(expected={REVISION: before.cells[REVISION]})), Conflict)
        after = await engine.commit("w", Commit(drafts=[lasting("m2")], seen=1, seen_id="m1", epoch=before.epoch))
        assert isinstance(after, Committed)
        assert after.first == 3


async def test_what_became_too_old_meanwhile_is_let_go(path: Path, clock: FakeClock) -> None:
    async with (engine := SQLiteEngine(path)).open(History(), clock):
        await engine.commit("w", Commit(drafts=[lasting("m1")], cells=[Cell(A, b"1", fading=True)], ids=["silent"]))
        await engine.commit("w", Commit(drafts=[Draft("t1", b"", b"", lasting=False)]))
        await engine.commit("cells only", Commit(cells=[Cell(A, b"1")]))
    assert rows(path) == {"log": 2, "cell": 2, "revision": 2, "lasting": 1, "passing": 1, "silent": 1}
    await clock.advance(86_401)
    async with (engine := SQLiteEngine(path)).open(History(), clock):
        await engine.due(10)
    assert rows(path) == {"log": 1, "cell": 1, "revision": 1, "lasting": 0, "passing": 0, "silent": 0}
    async with (engine := SQLiteEngine(path)).open(History(), clock):
        await engine.commit("cells only", Commit(cells=[Cell(A, None)]))
        await clock.advance(62)
        await engine.due(10)
    assert set(rows(path).values()) == {0}


async def test_a_node_that_died_leaves_no_workspace_behind(path: Path, clock: FakeClock) -> None:
    """One that its feed wanted, and that nobody has asked for since."""
    async with (engine := SQLiteEngine(path)).open(History(), clock), engine.feed() as feed:
        await engine.commit("w", Commit(drafts=[Draft("t1", b"", b"", lasting=False)]))
        feed.want("w", 1)
        await clock.advance(130)
        await engine.due(10)
        await engine.due(10)
        engine._feeds = ()  # as with kill -9: nothing is released
    assert rows(path)["log"] == 1
    async with (engine := SQLiteEngine(path)).open(History(), clock):
        await clock.advance(62)
        await engine.due(10)
    assert rows(path)["log"] == 0


async def test_many_workspaces_are_given_back_a_few_at_a_time(path: Path, clock: FakeClock) -> None:
    async with (engine := SQLiteEngine(path)).open(History(), clock):
        async with anyio.create_task_group() as tasks:
            for n in range(250):
                tasks.start_soon(engine.commit, f"w{n}", Commit(drafts=[Draft("t1", b"", b"", lasting=False)]))
        await clock.advance(70)
        left = [await _logs(engine)]
        while left[-1]:
            await engine.due(10)
            left.append(await _logs(engine))
            assert len(left) < 10
        assert all(before - after <= AT_ONCE for before, after in pairwise(left))
    assert set(rows(path).values()) == {0}


async def _logs(engine: SQLiteEngine) -> int:
    return int(await ask(engine, lambda ledger: ledger._ask("SELECT count(*) FROM log").fetchone()[0]))


async def ask(engine: SQLiteEngine, question: Callable[[Ledger], Any]) -> Any:
    class Question(Job):
        def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> Any:
            return question(ledger)

    assert engine._thread is not None
    return await engine._thread.ask(Question())


async def test_two_nodes_that_open_it_at_once_open_one_file(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path, wait=0)
    both, go = [anyio.Event(), anyio.Event()], anyio.Event()

    async def node(number: int) -> None:
        async with engine.open(History(), clock):
            both[number].set()
            await go.wait()
            await engine.commit("w", Commit(drafts=[lasting(f"m{number}")]))

    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(node, 0)
            tasks.start_soon(node, 1)
            for opened in both:
                await opened.wait()
            go.set()
    async with engine.open(History(), clock):
        assert (await engine.read("w")).position == 2


async def test_who_is_cancelled_while_he_opens_it_leaves_it_to_others(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    for _ in range(5):
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with engine.open(History(), clock):
                pass
    opened = anyio.Event()

    async def open_it() -> None:
        async with engine.open(History(), clock):
            await engine.commit("w", Commit(drafts=[lasting("m1")]))
            opened.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_it)
        with anyio.fail_after(10):
            while not opened.is_set():
                await anyio.to_thread.run_sync(lambda: None)
                await clock.advance(0.1)


async def test_nothing_is_asked_of_it_when_it_is_not_open(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    with pytest.raises(EngineUnavailable, match=f"^{path} is not open$"):
        await engine.read("w")
    async with engine.open(History(), clock):
        thread = engine._thread
        assert thread is not None
    with pytest.raises(EngineUnavailable, match="is not open"):
        await engine.commit("w", Commit())
    with pytest.raises(EngineUnavailable, match=f"^{path} has been closed$"):
        await thread.ask(Job())


async def test_what_is_asked_when_it_has_just_been_closed_is_answered(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    async with engine.open(History(), clock), anyio.create_task_group() as tasks:
        assert engine._thread is not None
        async with held(engine):
            engine._thread._jobs.put(None)

            async def late() -> None:
                with pytest.raises(EngineUnavailable, match="has been closed"):
                    await engine.commit("w", Commit(drafts=[lasting("m1")]))

            tasks.start_soon(late)
            await settle()


# --- together


@asynccontextmanager
async def held(engine: SQLiteEngine) -> AsyncGenerator[None, None]:
    """The thread is busy, so that what is asked meanwhile is done together."""
    go, busy = threading.Event(), threading.Event()
    assert engine._thread is not None

    class Hold(Job):
        def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> None:
            busy.set()
            assert go.wait(20)

    hold = Hold()
    engine._thread._jobs.put(hold)
    await anyio.to_thread.run_sync(busy.wait)
    try:
        yield
    finally:
        go.set()
    await hold.done.wait()


async def test_what_waits_is_committed_with_one_flush(path: Path, clock: FakeClock) -> None:
    engine, said = SQLiteEngine(path), list[str]()
    async with engine.open(History(), clock), engine.feed() as feed:
        await ask(engine, lambda ledger: ledger._ask.__self__.set_trace_callback(said.append))  # type: ignore[attr-defined]
        feed.want("w", 0)
        async with anyio.create_task_group() as tasks, held(engine):
            for n in range(50):
                tasks.start_soon(engine.commit, "w", Commit(drafts=[lasting(f"m{n}")]))
            await settle()
        await ask(engine, lambda ledger: ledger._ask.__self__.set_trace_callback(None))  # type: ignore[attr-defined]
        assert said.count("BEGIN IMMEDIATE") == said.count("COMMIT") == 1
        news = aiter(feed)
        found: list[int] = []
        while len(found) < 50:
            arrived = await anext(news)
            assert isinstance(arrived, Arrived)
            assert arrived.whole
            found += [record.position for record in arrived.records]
        assert found == list(range(1, 51))
        await news.aclose()


async def test_in_a_group_each_sees_what_those_before_it_did(path: Path, clock: FakeClock) -> None:
    engine, outcomes = SQLiteEngine(path), dict[int, Committed | Conflict]()

    async def attempt(n: int) -> None:
        cells = [Cell(A, b"%d" % n), Cell(B, None)]
        outcomes[n] = await engine.commit("w", Commit(expected={A: None}, cells=cells, drafts=[lasting(f"m{n}")]))

    async def withdraw() -> None:
        with pytest.raises(Rewound):
            await engine.commit("v", Commit(seen=9, seen_id="never"))

    async with engine.open(History(), clock), anyio.create_task_group() as tasks, held(engine):
        for n in range(5):
            tasks.start_soon(attempt, n)
        tasks.start_soon(withdraw)
        await settle()
    won = [n for n, outcome in outcomes.items() if isinstance(outcome, Committed)]
    assert len(won) == 1
    others = [outcome for outcome in outcomes.values() if isinstance(outcome, Conflict)]
    assert [other.cells for other in others] == [{A: b"%d" % won[0]}] * 4


async def test_in_a_group_a_table_is_compared_by_its_revision_too(path: Path, clock: FakeClock) -> None:
    engine, outcomes = SQLiteEngine(path), list[Committed | Conflict]()

    async def attempt(expected: bytes | None, value: bytes | None) -> None:
        outcomes.append(await engine.commit("w", Commit(expected={REVISION: expected}, cells=[Cell(A, value)])))

    async with engine.open(History(), clock):
        await engine.commit("w", Commit(cells=[Cell(A, b"1")]))
        revision = (await engine.read("w", (REVISION,))).cells[REVISION]
        async with anyio.create_task_group() as tasks, held(engine):
            for expected, value in ((revision, b"2"), (revision, b"3"), (None, b"4")):
                tasks.start_soon(attempt, expected, value)
                await settle()
        assert [type(outcome) for outcome in outcomes].count(Conflict) == 2
        now = (await engine.read("w", (REVISION,))).cells
        assert now[REVISION] not in (None, revision)
        assert all(outcome.cells == now for outcome in outcomes if isinstance(outcome, Conflict))


async def test_one_that_cannot_be_kept_holds_up_nobody(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    outcomes: dict[str, object] = {}

    async def attempt(id: str) -> None:
        try:
            outcomes[id] = type(await engine.commit("w", Commit(drafts=[lasting(id)])))
        except EngineRefused as error:
            outcomes[id] = str(error)

    async with engine.open(History(), clock), anyio.create_task_group() as tasks, held(engine):
        for id in ("m1", "half a pair: \ud83d", "m2"):
            tasks.start_soon(attempt, id)
            await settle()
    assert outcomes["m1"] is outcomes["m2"] is Committed
    assert str(outcomes["half a pair: \ud83d"]).startswith(f"{path}: this cannot be kept (")


async def test_who_is_cancelled_before_it_was_done_is_withdrawn(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    async with engine.open(History(), clock):
        async with anyio.create_task_group() as tasks, held(engine):
            tasks.start_soon(engine.commit, "w", Commit(drafts=[lasting("m1")]))
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel, scope)
                await engine.commit("w", Commit(drafts=[lasting("m2")]))
            tasks.start_soon(engine.commit, "w", Commit(drafts=[lasting("m3")]))
            await settle()
        assert [record.id for record in await engine.records("w", 0, 9, 9)] == ["m1", "m3"]


async def _cancel(scope: anyio.CancelScope) -> None:
    await settle()
    scope.cancel()


async def test_whoever_is_cancelled_at_whatever_moment_leaves_nobody_waiting(path: Path, clock: FakeClock) -> None:
    engine, told = SQLiteEngine(path), dict[str, int]()
    chance = random.Random(1)
    async with engine.open(History(), clock), engine.feed() as feed:
        feed.want("w", 0)

        async def publish(name: str, patience: int) -> None:
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel_after, scope, patience)
                for n in count():
                    committed = await engine.commit("w", Commit(drafts=[lasting(f"{name}.{n}")]))
                    assert isinstance(committed, Committed)
                    told[f"{name}.{n}"] = committed.first

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for n in range(40):
                    tasks.start_soon(publish, f"p{n}", chance.randrange(200))
            position = (await engine.read("w")).position
            records = await engine.records("w", 0, position, 100_000)
        assert [record.position for record in records] == list(range(1, position + 1))
        there = {record.id: record.position for record in records}
        assert told.items() <= there.items(), "what somebody was told of is not there"
        news = aiter(feed)
        given: list[int] = []
        while len(given) < position:
            given += [record.position for record in (await anext(news)).records]  # type: ignore[union-attr]
        assert given == list(range(1, position + 1))
        await news.aclose()


async def _cancel_after(scope: anyio.CancelScope, checkpoints: int) -> None:
    for _ in range(checkpoints):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"debug": True})], ids=["asyncio"])
async def test_asyncios_own_cancellation_leaves_nobody_waiting(path: Path, clock: FakeClock) -> None:
    """It knows no shield; a thread of a pool would be forgotten with its outcome."""
    engine = SQLiteEngine(path)
    async with engine.open(History(), clock):
        async with held(engine):
            asked = [asyncio.ensure_future(engine.commit("w", Commit(drafts=[lasting(f"m{n}")]))) for n in range(6)]
            await settle()
            for task in asked[::2]:
                task.cancel()
            await settle()
        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, Committed] * 3
        assert isinstance(await engine.commit("w", Commit(drafts=[lasting("m9")])), Committed)


def test_a_loop_that_is_gone_keeps_no_file_open(path: Path) -> None:
    async def begin() -> FileThread:
        thread = FileThread(path, lambda workspace: False, time.time)
        await thread.open()
        return thread

    thread = asyncio.run(begin())
    (running,) = [thread for thread in threading.enumerate() if thread.name == "jackfield log.db"]
    thread._jobs.put(Job())
    running.join(10)
    assert not running.is_alive()
    assert rows(path)["log"] == 0


# --- its feed


async def test_a_feed_reads_a_long_way_up_in_pieces(path: Path, clock: FakeClock) -> None:
    engine = SQLiteEngine(path)
    async with engine.open(History(), clock), engine.feed() as feed:
        await engine.commit("w", Commit(drafts=[lasting(f"m{n}") for n in range(600)]))
        await engine.commit("w", Commit(drafts=[lasting("m600")]))
        feed.want("w", 10)
        news = aiter(feed)
        pieces = [await anext(news) for _ in range(3)]
        assert [piece.upto for piece in pieces] == [266, 522, 601]  # type: ignore[union-attr]
        await engine.commit("w", Commit(drafts=[lasting("m601")]))
        assert [record.id for record in (await anext(news)).records] == ["m601"]  # type: ignore[union-attr]
        await news.aclose()


async def test_a_feed_asks_again_where_the_file_could_not_be_read(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [EngineUnavailable("the disk sleeps"), None]
    asked: list[tuple[str, int]] = []

    async def catch_up(workspace: str, after: int, epoch: str) -> Any:
        asked.append((workspace, after))
        if (error := answers.pop(0)) is not None:
            raise error
        return CaughtUp([], 7, 7)

    feed = SQLiteFeed(catch_up, lambda _: None, clock.sleep)
    feed.want("w", 5)
    found: list[object] = []

    async def read() -> None:
        news = aiter(feed)
        found.append(await anext(news))
        await news.aclose()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await settle()
        assert (asked, found) == ([("w", 5)], [])
        await clock.advance(1)
    assert asked == [("w", 5)] * 2
    assert found == [Arrived("w", [], 7, False)]
    assert [record.getMessage() for record in caplog.records] == [
        "what has happened in w could not be read: the disk sleeps"
    ]


async def test_what_is_released_while_it_is_read_does_not_come(clock: FakeClock) -> None:
    released: list[str] = []

    async def catch_up(workspace: str, after: int, epoch: str) -> Any:
        if workspace == "w":
            feed.release("w")
        return CaughtUp([], after + 1, after + 1)

    feed = SQLiteFeed(catch_up, released.append, clock.sleep)
    feed.want("w", 5)
    feed.want("v", 1)
    news = aiter(feed)
    assert await anext(news) == Arrived("v", [], 2, False)
    assert released == ["w"]
    await news.aclose()


async def test_what_is_missing_in_front_of_news_is_read_first(clock: FakeClock) -> None:
    """As with a wake-up that got lost: the file knows."""
    records = [Record(n, f"m{n}", b"", b"", True, 0.0) for n in range(1, 10)]
    asked: list[int] = []

    async def catch_up(workspace: str, after: int, epoch: str) -> CaughtUp:
        asked.append(after)
        upto = 2 if len(asked) == 1 else 6
        return CaughtUp(records[after:upto], upto, upto)

    feed = SQLiteFeed(catch_up, lambda _: None, clock.sleep)
    feed.want("w", 0)
    feed.offer(Arrived("w", records[1:2], 2))
    feed.offer(Arrived("w", records[4:7], 7))
    news = aiter(feed)
    found = [await anext(news) for _ in range(3)]
    assert asked == [0, 2]
    assert [[record.position for record in piece.records] for piece in found] == [[1, 2], [3, 4, 5, 6], [7]]  # type: ignore[union-attr]
    await news.aclose()


# --- a whole application on it


class _Inline(FileThread):
    """The same without a thread: a bench waits until every task is blocked, and knows of no thread."""

    async def open(self) -> None:
        self._file = File(self._path)
        self._ledger = Ledger(self._file.connection, self._is_wanted)

    async def ask(self, job: Job) -> Any:
        for done in self._do([job]):
            done.answer()
        if job.error is not None:
            raise job.error
        return job.result

    async def close(self) -> None:
        self._file.close()


async def test_an_application_goes_on_where_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jackfield_sqlite._engine.FileThread", _Inline)
    clock, first = FakeClock(), None
    event = MessageNew("m1", "c1", "alice", "hello", timestamp(0))
    for start in range(3):
        async with bench(OpenWorkspace, Presence, nodes=2, engine=SQLiteEngine(path), clock=clock) as b:
            await b.connect("alice")
            bob = await b.connect("bob", node=1)
            assert {user["user_id"] for user in bob.hello.state["presence"]} == {"alice", "bob"}
            receipt = await b.workspace().publish(event, id="m1")
            assert receipt.published is (start == 0)
            first = first or receipt.position
            assert receipt.position == first is not None
            await b.workspace().publish(event, id=f"again {start}")
            assert (await bob.receive(MessageNew)).content == "hello"
