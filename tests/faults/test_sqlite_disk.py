"""A disk that is full, under the engine and under a server that runs: what was refused has not happened, what can be
read is read, and it goes on when there is room."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

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
)
from jackfield.testing import FakeClock, settle
from jackfield_sqlite import SQLiteEngine
from jackfield_sqlite._thread import Job
from servers import Server, running

A = Key("polls", "a")


class _Pragma(Job):
    """Asked of the connection that the engine has: nobody else has one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def look(self, ledger: Any, now: float, *, as_it_is: bool) -> Any:
        return ledger._ask(f"PRAGMA {self._text}").fetchone()[0]


async def pragma(engine: SQLiteEngine, text: str) -> Any:
    assert engine._thread is not None
    return await engine._thread.ask(_Pragma(text))


@asynccontextmanager
async def full(engine: SQLiteEngine) -> AsyncGenerator[None, None]:
    """No page more than there is."""
    before = await pragma(engine, "max_page_count")
    await pragma(engine, f"max_page_count = {await pragma(engine, 'page_count')}")
    yield
    await pragma(engine, f"max_page_count = {before}")


def message(id: str, size: int = 20_000) -> Commit:
    return Commit(drafts=[Draft(id, b"head", b"x" * size)])


async def test_a_full_disk_refuses_and_nothing_has_happened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.db"
    engine, clock = SQLiteEngine(path), FakeClock()
    async with engine.open(History(), clock), engine.feed() as feed:
        await engine.commit("w", message("m1"))
        await engine.commit("w", Commit(cells=[Cell(A, b"1", due=1.0)]))
        async with full(engine):
            for n in range(2, 6):
                with pytest.raises(EngineRefused) as caught:
                    await engine.commit("w", message(f"m{n}"))
                assert str(caught.value) == f"{path}: the disk is full; make room, and it goes on"
            # What can be read is read, and what is due is due, also when something of it is too old to be kept.
            await clock.advance(86_400 + 70)
            assert (await engine.read("w", [A])).cells == {A: b"1"}
            assert [due.key for due in (await engine.due(10))[0]] == [A]
        feed.want("w", 1)
        assert [await outcome(engine, f"m{n}") for n in range(2, 6)] == [2, 3, 4, 5]
        news = aiter(feed)
        arrived = await anext(news)
        assert [record.id for record in arrived.records] == ["m2", "m3", "m4", "m5"]  # type: ignore[union-attr]
        await news.aclose()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [str(caught.value), f"{path} is written again"]
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def outcome(engine: SQLiteEngine, id: str) -> int:
    committed = await engine.commit("w", message(id))
    assert isinstance(committed, Committed)
    return committed.first


class _Hold(Job):
    """Keeps the thread busy until it is let go, so that what is asked meanwhile is done together."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def look(self, ledger: Any, now: float, *, as_it_is: bool) -> None:
        assert self.let_go.wait(20)


async def test_who_commits_together_is_refused_together(tmp_path: Path) -> None:
    engine = SQLiteEngine(tmp_path / "log.db")
    refused: list[str] = []

    async def attempt(workspace: str) -> None:
        with pytest.raises(EngineRefused) as caught:
            await engine.commit(workspace, message(workspace, 100))
        refused.append(str(caught.value))

    async with engine.open(History(), FakeClock()):
        assert engine._thread is not None
        workspaces = [f"w{n}" for n in range(400)]
        hold = _Hold()
        async with full(engine), anyio.create_task_group() as tasks:
            tasks.start_soon(engine._thread.ask, hold)
            await settle()
            for workspace in workspaces:
                tasks.start_soon(attempt, workspace)
            await settle()
            hold.let_go.set()
        assert len(refused) == 400
        assert len(set(refused)) == 1
        for workspace in workspaces:
            assert (await engine.read(workspace)).position == 0


@pytest.mark.parametrize("is_written", [True, False])
async def test_a_disk_that_cannot_flush_leaves_the_outcome_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_written: bool
) -> None:
    """Whoever hears so asks again with the same id; the feeds are told of what happened, and only of that."""
    path = tmp_path / "log.db"
    engine = SQLiteEngine(path)
    async with engine.open(History(), FakeClock()), engine.feed() as feed:
        thread = engine._thread
        assert thread is not None
        connection = thread._file.connection
        breaks = True

        class Flushing:
            """The connection, with a COMMIT that fails, as fsync does, behind its work or in front of it."""

            in_transaction = property(lambda self: connection.in_transaction)

            def execute(self, statement: str, *values: Any) -> Any:
                if statement != "COMMIT" or not breaks:
                    return connection.execute(statement, *values)
                if is_written:
                    connection.execute(statement)
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error

            close = connection.close

        feed.want("w", 0)
        await engine.commit("w", message("m0"))
        news = aiter(feed)
        assert isinstance(await anext(news), Arrived)
        monkeypatch.setattr(thread._file, "connection", Flushing())
        with pytest.raises(EngineUnavailable) as caught:
            await engine.commit("w", message("m1"))
        assert str(caught.value) == (
            f"{path}: nobody knows whether it was written (disk I/O error); look after the disk"
        )
        breaks = False
        if is_written:
            again = await engine.commit("w", message("m1"))
            assert isinstance(again, Conflict)
            assert again.known == {"m1": 2}
        else:
            assert await outcome(engine, "another") == 2
        await engine.commit("w", message("m2"))
        found: list[tuple[int, str]] = []
        while len(found) < 2:
            found += [(record.position, record.id) for record in (await anext(news)).records]  # type: ignore[union-attr]
        assert found == [(2, "m1" if is_written else "another"), (3, "m2")]
        await news.aclose()


# --- under a server


def post(server: Server, id: str, size: int = 8000) -> Any:
    data = {"id": id, "channel_id": "c1", "user_id": "alice", "created_at": "2024-01-01T12:00:00.000Z"}
    event = {"type": "message.new", "data": {**data, "content": "x" * size}, "to": "everyone", "id": id}
    return server.http.post(f"{server.url}/api/workspaces/acme/events", json=event)


@pytest.mark.servers
@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="Linux only")
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_server_whose_disk_fills_up(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with running(f"serve-{loop}", ENGINE=f"sqlite:///{path}") as server:
        process = psutil.Process(server.process.pid)
        assert [post(server, f"m{n}").status_code for n in range(5)] == [202] * 5
        _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 10_000, hard))
        answers = [post(server, f"n{n}") for n in range(30)]
        refused = [n for n, answer in enumerate(answers) if answer.status_code != 202]
        assert len(refused) >= 25
        assert {answers[n].status_code for n in refused} == {503}
        assert {answers[n].headers["retry-after"] for n in refused} == {"1"}
        # What is there is read, and what is published already says so.
        assert server.http.get(f"{server.url}/api/workspaces/acme/presence").status_code == 200
        process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))
        for n, answer in enumerate(answers):
            again = post(server, f"n{n}")
            assert again.status_code == 202
            assert again.json()["events"][0]["published"] is (n in refused), answer.text
        assert post(server, "after").json()["events"] == [{"id": "after", "published": True, "position": "36"}]
        log = server.log()
        assert "Traceback" not in log
        said = [line for line in log.splitlines() if f"{path}" in line and "lease" not in line and "roster" not in line]
        assert len([line for line in said if "cannot be written" in line]) == 1, log
        assert len([line for line in said if "is written again" in line]) == 1, log
        server.stop()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        positions = [position for (position,) in db.execute("SELECT position FROM lasting ORDER BY position")]
        assert positions == list(range(1, 37))
