"""Whoever leaves does not wait for a Redis that is gone, frozen, or behind a line that passes nothing on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing

import anyio
import pytest

from jackfield._clock import SystemClock
from jackfield.engine import Arrived, Commit, Draft, EngineUnavailable, History
from jackfield_redis import RedisEngine
from line import Line
from redis_server import RedisServer
from servers import Workspace, running

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]

LEFT_WITHIN = 3.0  # seconds
DRAIN = 2.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def line(server: RedisServer) -> Iterator[Line]:
    line = Line(server.port)
    yield line
    server.thaw()
    line.close()


def kill(server: RedisServer, line: Line) -> None:
    server.kill()


def freeze(server: RedisServer, line: Line) -> None:
    server.freeze()


def freeze_the_line(server: RedisServer, line: Line) -> None:
    line.freeze()


def cut_the_line(server: RedisServer, line: Line) -> None:
    line.refuse()


Break = Callable[[RedisServer, Line], None]
TRYING = 2.7  # seconds after which it tries again, or has been given up


def how(*ways: Break) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("how", ways, ids=lambda way: way.__name__)


@pytest.mark.parametrize(
    ("how", "later"),
    [(kill, 0), (freeze, 0), (freeze_the_line, 0), (cut_the_line, 0), (kill, TRYING), (freeze, TRYING)],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_the_engine_is_left(server: RedisServer, line: Line, how: Break, later: float) -> None:
    engine = RedisEngine.from_url(f"redis://127.0.0.1:{line.port}")
    answers: list[BaseException] = []

    async def ask() -> None:
        try:
            await engine.read("w")
        except EngineUnavailable as error:
            answers.append(error)

    async with anyio.create_task_group() as tasks:
        async with engine.open(History(), SystemClock()), engine.feed() as feed:
            feed.want("w", 0)
            async with aclosing(aiter(feed)) as news:  # type: ignore[type-var]
                await engine.commit("w", Commit(drafts=[Draft("one", b"{}", b"{}")]))
                assert isinstance(await anext(news), Arrived)
            how(server, line)
            for _ in range(3):
                tasks.start_soon(ask)
            await anyio.sleep(later)
            began = anyio.current_time()
        assert anyio.current_time() - began < LEFT_WITHIN
    assert len(answers) == 3, "whoever asks is answered, also when nobody is there any more"


@how(kill, freeze, freeze_the_line, cut_the_line)
async def test_the_feed_is_left_and_the_engine_stays(server: RedisServer, line: Line, how: Break) -> None:
    engine = RedisEngine.from_url(f"redis://127.0.0.1:{line.port}")
    async with engine.open(History(), SystemClock()):
        async with engine.feed() as feed:
            for n in range(1200):
                feed.want(f"w{n}", 0)
            await anyio.sleep(0.3)
            how(server, line)
            began = anyio.current_time()
        assert anyio.current_time() - began < LEFT_WITHIN
        began = anyio.current_time()
    assert anyio.current_time() - began < LEFT_WITHIN


@how(kill, freeze)
async def test_what_is_raised_inside_comes_out_in_time(server: RedisServer, line: Line, how: Break) -> None:
    engine = RedisEngine.from_url(f"redis://127.0.0.1:{line.port}")
    began = 0.0

    async def fail_inside() -> None:
        nonlocal began
        async with engine.open(History(), SystemClock()), engine.feed():
            how(server, line)
            began = anyio.current_time()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail_inside()
    assert anyio.current_time() - began < LEFT_WITHIN


@how(cut_the_line, freeze_the_line)
async def test_whoever_is_cancelled_leaves_in_time(server: RedisServer, line: Line, how: Break) -> None:
    engine = RedisEngine.from_url(f"redis://127.0.0.1:{line.port}")
    with anyio.move_on_after(0.3) as scope:
        async with engine.open(History(), SystemClock()), engine.feed():
            how(server, line)
            began = anyio.current_time()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() - began < LEFT_WITHIN + 0.3


@how(kill, freeze)
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_serve_ends_within_the_limit_of_its_drain(server: RedisServer, line: Line, how: Break, loop: str) -> None:
    url = f"redis://127.0.0.1:{line.port}"
    with running(f"serve-{loop}", ENGINE=url, DRAIN_TIMEOUT=f"{DRAIN}") as served, Workspace(served) as workspace:
        clients = [workspace.enter(f"user-{n}") for n in range(5)]
        how(server, line)
        assert served.stop() < DRAIN + 2
        assert served.process.returncode == 0
        assert "Traceback" not in served.log()
        assert len(clients) == 5
