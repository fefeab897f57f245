"""A Redis that says no: it has no room, or is a replica all at once. Nothing happened then, and it goes on later."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager

import anyio
import anyio.to_thread
import pytest

from jackfield._clock import SystemClock
from jackfield.engine import (
    Cell,
    Commit,
    Committed,
    Draft,
    EngineRefused,
    EngineUnavailable,
    History,
    Key,
)
from jackfield.testing import FakeClock
from jackfield_redis import RedisEngine
from jackfield_redis._address import parse
from redis_server import BINARIES, RedisServer, free_port

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]

A = Key("polls", "a")
ANSWER_WITHIN = 3.0


@pytest.fixture(scope="module")
def module_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def server(module_server: RedisServer) -> RedisServer:
    module_server.command("CONFIG", "SET", "maxmemory", "0")
    module_server.command("REPLICAOF", "NO", "ONE")
    module_server.command("FLUSHALL")
    return module_server


class Told(RedisEngine):
    """By a clock of its own, so that what is noted every few seconds is noted at once."""

    def __init__(self, url: str) -> None:
        super().__init__(parse(url))
        self.clock = FakeClock()

    def _now(self) -> str:
        return repr(self.clock.time())


@asynccontextmanager
async def opened(engine: RedisEngine) -> AsyncGenerator[RedisEngine, None]:
    async with engine.open(History(), SystemClock()):
        yield engine


def step(id: str) -> Commit:
    return Commit(cells=[Cell(A, id.encode())], drafts=[Draft(id, b"{}", b"x" * 1000)])


async def test_without_room_nothing_happens_and_what_there_is_can_be_read(server: RedisServer) -> None:
    engine = Told(server.url)
    async with opened(engine), engine.feed() as feed:
        feed.want("w", 0)
        assert await engine.commit("w", step("one")) == Committed(1, 1, engine.clock.time())
        await engine.clock.advance(10)  # its use would be noted by now
        server.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(2):
            with pytest.raises(EngineRefused) as caught:
                await engine.commit("w", step("two"))
            line = f"{server.url}: OOM command not allowed when used memory > 'maxmemory'"
            assert str(caught.value) == line
            there = await engine.read("w", [A])
            assert (there.position, there.cells[A]) == (1, b"one")
            assert [record.id for record in await engine.records("w", 0, 1, 10)] == ["one"]
            assert await engine.due(10) == ([], None)
        feed.want("w", 0)
        async with aclosing(aiter(feed)) as news:
            with anyio.fail_after(5):
                assert (await anext(news)).upto == 1  # type: ignore[union-attr]
        server.command("CONFIG", "SET", "maxmemory", "0")
        again = await engine.commit("w", step("two"))
        assert isinstance(again, Committed)
        assert (again.first, again.last) == (2, 2)


async def test_who_is_a_replica_for_a_moment_holds_up_and_no_more(server: RedisServer) -> None:
    async with opened(RedisEngine.from_url(server.url)) as engine:
        await engine.commit("w", step("one"))
        server.command("REPLICAOF", "127.0.0.1", str(free_port()))
        later = threading.Timer(1.0, server.command, ("REPLICAOF", "NO", "ONE"))
        later.start()
        done = await engine.commit("w", step("two"))
        assert isinstance(done, Committed)
        assert (done.first, done.last) == (2, 2)
        await anyio.to_thread.run_sync(later.join)


async def test_who_stays_a_replica_is_unavailable(server: RedisServer) -> None:
    async with opened(RedisEngine.from_url(server.url)) as engine:
        await engine.commit("w", step("one"))
        server.command("REPLICAOF", "127.0.0.1", str(free_port()))
        began = anyio.current_time()
        with pytest.raises(EngineUnavailable, match=r"does not answer: .*(read only replica|is a replica)"):
            await engine.commit("w", step("two"))
        assert anyio.current_time() - began < ANSWER_WITHIN
        server.command("REPLICAOF", "NO", "ONE")
        done = await engine.commit("w", step("two"))
        assert isinstance(done, Committed)


async def test_a_replica_at_the_start(server: RedisServer) -> None:
    server.command("REPLICAOF", "127.0.0.1", str(free_port()))
    line = f"{server.url} is a replica, which takes no writes. Name its primary, or ask Sentinel by redis+sentinel://."
    with pytest.raises(EngineUnavailable) as caught:
        async with opened(RedisEngine.from_url(server.url)):
            pass
    assert str(caught.value) == line
    later = threading.Timer(0.5, server.command, ("REPLICAOF", "NO", "ONE"))
    later.start()
    async with opened(RedisEngine.from_url(f"{server.url}?wait=20")) as engine:
        assert isinstance(await engine.commit("w", step("one")), Committed)
    await anyio.to_thread.run_sync(later.join)


async def test_a_script_that_runs_on_and_on_holds_up_and_no_more(server: RedisServer) -> None:
    server.command("CONFIG", "SET", "lua-time-limit", "100")
    endless = threading.Thread(target=server.command, args=("EVAL", "while true do end", "0"))
    async with opened(RedisEngine.from_url(server.url)) as engine:
        await engine.commit("w", step("one"))
        endless.start()
        await anyio.sleep(0.3)
        later = threading.Timer(0.7, server.command, ("SCRIPT", "KILL"))
        later.start()
        done = await engine.commit("w", step("two"))
        assert isinstance(done, Committed)
        assert (done.first, done.last) == (2, 2)
        await anyio.to_thread.run_sync(later.join)
        await anyio.to_thread.run_sync(endless.join)


async def test_what_should_be_set_otherwise_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "jackfield")
    with RedisServer(BINARIES["redis"], "--maxmemory-policy", "allkeys-lru") as server:
        async with opened(RedisEngine.from_url(server.url)) as engine:
            for n in range(3):
                server.command("CLIENT", "KILL", "TYPE", "normal")
                await engine.commit("w", step(f"m{n}"))
        said = [record.getMessage() for record in caplog.records]
        assert (
            said.count(
                f"{server.url} evicts (maxmemory-policy allkeys-lru), so it may lose what it keeps: set noeviction"
            )
            == 1
        )
        assert (
            said.count(f"{server.url} keeps no append-only file, so a restart of it loses events: set appendonly yes")
            == 1
        )


async def test_of_one_that_is_set_well_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "jackfield")
    with RedisServer(persistent=True) as server:
        async with opened(RedisEngine.from_url(server.url)) as engine:
            await engine.commit("w", step("one"))
    assert [record.getMessage() for record in caplog.records] == []
