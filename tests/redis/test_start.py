"""A Redis that is not there when a node starts, or is not one that can be used: one line says which and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from impostor import HELLO, Impostor
from jackfield._clock import SystemClock
from jackfield.engine import EngineUnavailable, History
from jackfield.errors import ConfigurationError
from jackfield_redis import RedisEngine
from redis_server import BINARIES, RedisServer, free_port
from servers import environment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]

FAIL_WITHIN = 3.0  # seconds
PASSWORD = "Qx7z-not-to-be-seen"
WAIT = "Start it, or add ?wait=60 to its URL."


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[RedisEngine, None]:
    engine = RedisEngine.from_url(url)
    async with engine.open(History(), SystemClock()):
        yield engine


async def refused(url: str, kind: type[Exception], within: float = FAIL_WITHIN) -> str:
    """What is said when it does not start: a line with the address."""
    began = anyio.current_time()
    with pytest.raises(kind) as caught:
        async with opened(url):
            pass
    assert anyio.current_time() - began < within
    line = str(caught.value)
    address = re.sub(r"//.*@", "//", url.partition("?")[0])
    assert line.startswith(f"{address} ")
    assert "\n" not in line
    assert PASSWORD not in line
    return line.removeprefix(f"{address} ")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


# --- nothing there


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_nobody_listens(scheme: str) -> None:
    line = await refused(f"{scheme}://ann:{PASSWORD}@127.0.0.1:{free_port()}/0", EngineUnavailable)
    assert line == f"cannot be reached: Connection refused. {WAIT}"


async def test_no_such_host() -> None:
    line = await refused("redis://nowhere.invalid", EngineUnavailable)
    assert re.fullmatch(r"cannot be reached: [A-Z][a-z ]+\. " + re.escape(WAIT), line)


async def test_no_sentinel_and_no_node_of_a_cluster() -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    line = await refused(f"redis+sentinel://:{PASSWORD}@{hosts}/main", EngineUnavailable)
    assert line == f"cannot be reached: no Sentinel that answers knows a primary of main. {WAIT}"
    line = await refused(f"redis+cluster://:{PASSWORD}@{hosts}", EngineUnavailable)
    assert line == f"cannot be reached: Connection refused. {WAIT}"


@pytest.mark.parametrize("form", ["redis://{}", "redis+sentinel://{}/main", "redis+cluster://{}"])
async def test_a_frozen_one(form: str) -> None:
    with RedisServer() as server:
        server.freeze()
        line = await refused(form.format(f"127.0.0.1:{server.port}"), EngineUnavailable)
        assert re.fullmatch(rf"cannot be reached: .*(timed out|no Sentinel).*\. {re.escape(WAIT)}", line)
        server.thaw()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_serve_says_so_in_one_line_and_ends_with_1(loop: str) -> None:
    port = free_port()
    ended = serve(loop, f"redis://ann:{PASSWORD}@127.0.0.1:{port}")
    assert ended.stderr == f"jackfield: redis://127.0.0.1:{port} cannot be reached: Connection refused. {WAIT}\n"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_serve_prints_no_traceback_of_a_frozen_one(loop: str) -> None:
    with RedisServer() as server:
        server.freeze()
        ended = serve(loop, server.url)
        assert re.fullmatch(rf"jackfield: {server.url} cannot be reached: HELLO timed out .*\n", ended.stderr)
        server.thaw()


def serve(loop: str, url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jackfield.cli", "serve", "--port", "0", "--loop", loop, "--log-level", "warning"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env=environment({"ENGINE": url}), timeout=20, check=False
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    return ended


# --- waiting for it


async def test_it_waits_as_long_as_it_is_told_to() -> None:
    url = f"redis://127.0.0.1:{free_port()}?wait=0.5"
    line = await refused(url, EngineUnavailable)
    assert line == "could not be reached in 0.5 s: Connection refused."


async def test_it_goes_on_when_it_comes(caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer() as server:
        server.kill()
        later = threading.Timer(0.5, server.start)
        later.start()
        async with opened(f"{server.url}?wait=20") as engine:
            assert (await engine.read("w")).position == 0
        await anyio.to_thread.run_sync(later.join)
    away = [record.getMessage() for record in caplog.records if "is away" in record.getMessage()]
    assert away == [f"{server.url} is away: Connection refused"]


async def test_nobody_waits_for_what_waiting_does_not_change(server: RedisServer) -> None:
    line = await refused(f"redis://nobody:{PASSWORD}@127.0.0.1:{server.port}?wait=60", ConfigurationError)
    assert line.startswith("refuses the user or the password of its URL: ")


async def test_one_that_loads_what_it_has() -> None:
    """For two seconds, in which it answers now and then."""
    with RedisServer(BINARIES["redis"], "--key-load-delay", "500", persistent=True) as server:
        server.command("EVAL", "for n = 1, 4000 do redis.call('SET', 'k' .. n, '') end", "0")
        server.kill()
        later = threading.Thread(target=server.start)
        later.start()
        await anyio.sleep(0.2)
        line = await refused(server.url, EngineUnavailable)
        assert line == (
            "cannot be reached: Redis is loading the dataset in memory. Wait for it, or add ?wait=60 to its URL."
        )
        async with opened(f"{server.url}?wait=20") as engine:
            assert (await engine.read("w")).position == 0
        await anyio.to_thread.run_sync(later.join)


# --- the wrong one


async def test_passwords() -> None:
    with RedisServer(BINARIES["redis"], "--requirepass", "right/@:") as server:
        line = await refused(server.url, ConfigurationError)
        assert line == "wants a password: it stands in its URL, redis://user:password@host."
        for user in ("", "default", "nobody"):
            line = await refused(f"redis://{user}:{PASSWORD}@127.0.0.1:{server.port}", ConfigurationError)
            assert line == (
                "refuses the user or the password of its URL: invalid username-password pair or user is disabled."
            )
        async with opened(f"redis://:right%2F%40%3A@127.0.0.1:{server.port}/1") as engine:
            assert (await engine.read("w")).position == 0


async def test_a_database_that_is_not_there(server: RedisServer) -> None:
    line = await refused(f"{server.url}/99", ConfigurationError)
    assert line == "cannot be used: DB index is out of range."


async def test_a_server_that_is_of_another_kind(server: RedisServer) -> None:
    line = await refused(f"redis+cluster://127.0.0.1:{server.port}", ConfigurationError)
    assert line == "cannot be used: This instance has cluster support disabled."
    line = await refused(f"redis+sentinel://127.0.0.1:{server.port}/main", ConfigurationError)
    assert line.startswith("is older than Redis 6.2, or something else: unknown command `SENTINEL`")


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


OLD = b"# Server\r\nredis_version:6.0.16\r\nrole:master\r\n"
IMPOSTORS: dict[str, tuple[Callable[[bytes], bytes | None], bytes, type[Exception], str]] = {
    "too old": (
        lambda said: HELLO if b"HELLO" in said else bulk(OLD),
        b"",
        ConfigurationError,
        "is version 6.0.16; jackfield needs Redis 6.2 or newer, or Valkey.",
    ),
    "older than its language": (
        lambda _: b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n",
        b"",
        ConfigurationError,
        "is older than Redis 6.2, or something else: unknown command `HELLO`, with args beginning with: `3`,.",
    ),
    "http": (
        lambda _: b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        b"",
        ConfigurationError,
        "does not speak the language of Redis: Protocol Error: Unknown RESP data type: 'H'.",
    ),
    "protected": (
        lambda _: b"",
        b"-DENIED Redis is running in protected mode because protected mode is enabled, no bind address was "
        b"specified, no authentication password is requested to clients. In this mode connections are only accepted "
        b"from the loopback interface. If you want to connect from external computers to Redis you may adopt one of "
        b"the following solutions: 1) Just disable protected mode\r\n",
        ConfigurationError,
        "cannot be used: DENIED Redis is running in protected mode because protected mode is enabled, no bind address "
        "was specified, no authentication password is requested to clients.",
    ),
    "hangs up": (
        lambda _: None,
        b"",
        EngineUnavailable,
        "cannot be reached: the connection was cut. See whether it wants TLS or is in protected mode, or add ?wait=60 "
        "to its URL.",
    ),
}


@pytest.mark.parametrize("which", IMPOSTORS)
async def test_what_else_may_listen_there(which: str) -> None:
    answer, greeting, kind, line = IMPOSTORS[which]
    with Impostor(answer, greeting) as impostor:
        assert await refused(f"redis://127.0.0.1:{impostor.port}", kind) == line
