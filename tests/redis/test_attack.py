"""What breaks between a node and its Redis at the worst moment: nothing happens twice, and no feed has a hole."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from coredis.exceptions import ResponseError

from jackfield._clock import SystemClock
from jackfield.engine import (
    Arrived,
    Cell,
    Commit,
    Committed,
    Draft,
    EngineUnavailable,
    History,
    Key,
    Lost,
    Rewound,
)
from jackfield_redis import RedisEngine, _bus, _client, _feed, _link
from jackfield_redis._address import parse
from jackfield_redis._feed import Head, RedisFeed
from jackfield_redis._link import Link
from jackfield_redis._names import Names
from jackfield_redis._seal import Open
from line import Line
from redis_server import BINARIES, RedisServer
from servers import until

# A connection of coredis that could not be made leaves its streams as they were.
pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning")]

W = "w"
A = Key("polls", "a")
PATIENCE = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    # Whoever follows it does so at once.
    with RedisServer(BINARIES["redis"], "--repl-diskless-sync-delay", "0") as server:
        yield server


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> Iterator[None]:
    server.command("FLUSHALL")
    yield
    gc.collect()  # here, where nobody minds


@contextmanager
def line_to(server: RedisServer) -> Iterator[Line]:
    line = Line(server.port)
    try:
        yield line
    finally:
        line.close()


@asynccontextmanager
async def node(port: int, history: History | None = None) -> AsyncGenerator[RedisEngine, None]:
    """An engine that goes by this port, open."""
    engine = RedisEngine.from_url(f"redis://127.0.0.1:{port}")
    async with engine.open(history or History(), SystemClock()):
        yield engine


def lasting(*ids: str) -> Commit:
    return Commit(drafts=[Draft(id, b"head", b"body") for id in ids])


async def commit(engine: RedisEngine, commit: Commit) -> Committed:
    outcome = await engine.commit(W, commit)
    assert isinstance(outcome, Committed), outcome
    return outcome


async def following(news: AsyncIterator[Arrived | Lost]) -> Arrived | Lost:
    with anyio.fail_after(PATIENCE):
        return await anext(news)


@contextmanager
def a_copy_that_falls_behind(server: RedisServer) -> Iterator[RedisServer]:
    """A replica that was promoted before it had everything; what it has, it has by the same epochs."""
    with RedisServer() as copy:
        copy.command("REPLICAOF", "127.0.0.1", str(server.port))
        until(lambda: b"master_link_status:up" in copy.command("INFO", "replication"), PATIENCE, "it follows")
        copy.command("REPLICAOF", "NO", "ONE")
        yield copy


async def test_a_log_that_went_back_and_was_written_up_to_the_same_place_is_lost(server: RedisServer) -> None:
    """By a node that had not seen what was lost: one that only publishes has nobody who is told."""
    with line_to(server) as line:
        async with node(line.port) as ours, ours.feed() as feed:
            news = aiter(feed)
            await commit(ours, lasting("m1"))
            with a_copy_that_falls_behind(server) as copy:
                feed.want(W, 1, (await ours.read(W)).epoch)
                await commit(ours, lasting("m2"))
                arrived = await following(news)
                assert isinstance(arrived, Arrived)
                assert [record.id for record in arrived.records] == ["m2"]
                line.refuse()
                async with node(copy.port) as other:
                    assert (await commit(other, lasting("n2"))).last == 2
                    line.target = copy.port
                    line.accept()
                    assert isinstance(await following(news), Lost)
            await news.aclose()


async def test_what_follows_on_a_log_that_went_back_does_not_follow(server: RedisServer) -> None:
    """Written up to the same place meanwhile, and its next record heard before anybody has looked where it stands."""
    asked, answer = anyio.Event(), anyio.Event()
    with line_to(server) as line:
        async with node(line.port) as ours, ours.feed() as feed:
            assert isinstance(feed, RedisFeed)
            news = aiter(feed)
            await commit(ours, lasting("m1"))
            with a_copy_that_falls_behind(server) as copy:
                feed.want(W, 1, (await ours.read(W)).epoch)
                await commit(ours, lasting("m2"))
                await following(news)
                line.refuse()
                heads = feed._heads

                async def later(workspaces: Sequence[str]) -> Mapping[str, Head | None]:
                    asked.set()
                    await answer.wait()
                    return await heads(workspaces)

                feed._heads = later
                async with node(copy.port) as other:
                    await commit(other, lasting("n2"))
                    line.target = copy.port
                    line.accept()
                    with anyio.fail_after(PATIENCE):
                        await asked.wait()
                    await commit(other, lasting("n3"))
                    assert isinstance(await following(news), Lost)
                    answer.set()
            await news.aclose()


async def test_whoever_asks_while_a_line_is_given_up_asks_by_the_next(server: RedisServer) -> None:
    """Also where it was about to make a connection of the old."""
    begun, go_on = anyio.Event(), anyio.Event()
    async with node(server.port) as engine:
        link = engine._link
        client = link._client
        assert client is not None
        pool: Any = client.connection_pool
        construct = pool._construct_connection

        async def slowly() -> Any:
            begun.set()
            await go_on.wait()
            return await construct()

        pool._construct_connection = slowly
        with anyio.fail_after(PATIENCE):
            async with pool.acquire(), anyio.create_task_group() as tasks:
                tasks.start_soon(engine.read, W)
                await begun.wait()
                link._suspect(client)
                while not (another := link._client):
                    await link._changed.wait()
                assert another is not client
                go_on.set()


async def test_what_a_line_held_up_is_not_done_when_it_was_done_since(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked again, by another way, and that was heard. The first comes late."""
    monkeypatch.setattr(_client, "ANSWER", 0.3)
    with line_to(server) as line:
        async with node(line.port) as engine, node(server.port) as other:
            await commit(engine, Commit(cells=[Cell(A, b"0")]))
            held = line._flowing
            line.freeze()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(commit, engine, Commit(cells=[Cell(A, b"1")]))
                await anyio.sleep(0.1)
                line.thaw()
            await commit(other, Commit(cells=[Cell(A, b"2")]))
            before = calls(server)
            held.set()
            await anyio.to_thread.run_sync(until, lambda: calls(server) > before, PATIENCE, "it has come")
            assert (await other.read(W, [A])).cells[A] == b"2"


def calls(server: RedisServer) -> int:
    """Scripts that have run, by name."""
    said = server.command("INFO", "commandstats")
    found = [line for line in said.split(b"\r\n") if line.startswith(b"cmdstat_evalsha:")]
    return int(found[0].partition(b"calls=")[2].partition(b",")[0]) if found else 0


async def test_what_may_have_happened_is_not_called_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once without an answer, and then refused: "nothing happened" would be more than anybody knows."""
    answers: list[Exception] = [TimeoutError(), ResponseError("OOM command not allowed when used memory > 'maxmemory'")]

    async def run(*_: object) -> Any:
        raise answers.pop(0)

    monkeypatch.setattr(_link, "run", run)
    link = Link(parse("redis://localhost"), Open())
    monkeypatch.setattr(link, "_suspect", lambda _: None)
    link._client = object()  # type: ignore[assignment]
    with pytest.raises(EngineUnavailable):
        await link.call("commit", ["shard"], lambda _: ())


@pytest.fixture
def no_look_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not heard stays unknown."""
    monkeypatch.setattr(_feed, "LOOK_EVERY", 1_000.0)


async def has_looked(feed: Any, workspace: str) -> None:
    """It hears of it, and knows where it stands."""
    with anyio.fail_after(PATIENCE):
        while feed._bus._missing or feed._bus._surplus or feed._unseen or not feed.wanted[workspace].seen[0]:
            await anyio.lowlevel.checkpoint()


@pytest.mark.usefixtures("no_look_around")
async def test_a_new_epoch_is_heard_of_at_once(server: RedisServer) -> None:
    """Not by what is committed in it: that may be a long time."""
    async with node(server.port) as ours, node(server.port) as other, ours.feed() as feed:
        news = aiter(feed)
        await commit(other, lasting("m1"))
        feed.want(W, 1, (await ours.read(W)).epoch)
        await has_looked(feed, W)
        with pytest.raises(Rewound):
            await other.commit(W, Commit(seen=7, seen_id="m7"))
        assert isinstance(await following(news), Lost)
        await news.aclose()


@pytest.mark.usefixtures("no_look_around")
async def test_what_is_released_and_wanted_in_one_step_is_heard_still(server: RedisServer) -> None:
    async with node(server.port) as ours, node(server.port) as other, ours.feed() as feed:
        news = aiter(feed)
        await commit(other, lasting("m1"))
        epoch = (await ours.read(W)).epoch
        feed.want(W, 1, epoch)
        await has_looked(feed, W)
        feed.release(W)
        feed.want(W, 1, epoch)
        await has_looked(feed, W)
        # Of what a feed does not hear any more Redis knows nobody who does.
        heard = Names("jackfield").bus(W)
        assert server.command("PUBSUB", "NUMSUB", heard).endswith(b":1\r\n")
        await commit(other, lasting("m2"))
        assert isinstance(await following(news), Arrived)
        await news.aclose()


@pytest.mark.usefixtures("no_look_around")
async def test_a_line_that_passes_nothing_on_is_noticed_though_nobody_asks(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the pulse alone: who only listens cannot tell it from peace."""
    monkeypatch.setattr(_bus, "BEAT", 0.1)
    monkeypatch.setattr(_bus, "MISSED", 0.5)
    line = Separate(server.port)
    async with node(line.port) as ours, node(server.port) as other:
        others = len(line.each)
        async with ours.feed() as feed:
            news = aiter(feed)
            await commit(other, lasting("m1"))
            feed.want(W, 1, (await ours.read(W)).epoch)
            await has_looked(feed, W)
            line.each[others].clear()  # the one that listens; what the pulse is made by goes on
            await commit(other, lasting("m2"))
            assert isinstance(await following(news), Arrived)
            await news.aclose()
    line.close()


class Separate(Line):
    """Each connection has a tap of its own."""

    def __init__(self, target: int) -> None:
        self.each: list[threading.Event] = []
        super().__init__(target)

    def _relay(self, client: socket.socket, server: socket.socket, flowing: threading.Event) -> None:
        flowing = threading.Event()
        flowing.set()
        self.each.append(flowing)
        super()._relay(client, server, flowing)

    def close(self) -> None:
        super().close()
        for flowing in self.each:
            flowing.set()
