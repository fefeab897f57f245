"""The rights that the README asks for: with them everything works, and without any one of them a line says which."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import test_contract
from jackfield._clock import SystemClock
from jackfield.engine import History
from jackfield.errors import ConfigurationError
from jackfield_redis import RedisEngine
from redis_server import RedisServer

RIGHTS = [
    "~jackfield:*",
    "&jackfield:*",
    "&jackfield/*",
    "+ping",
    "+info",
    "+evalsha",
    "+eval",
    "+subscribe",
    "+unsubscribe",
    "+publish",
    "+time",
    "+hget",
    "+hmget",
    "+hgetall",
    "+hset",
    "+hdel",
    "+exists",
    "+del",
    "+pexpire",
    "+xadd",
    "+xdel",
    "+xlen",
    "+xrange",
    "+xtrim",
    "+zadd",
    "+zrem",
    "+zrangebyscore",
]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def user(server: RedisServer, *rights: str) -> str:
    """The URL of one who may do this, and nothing else."""
    server.command("ACL", "DELUSER", "jack")
    assert server.command("ACL", "SETUSER", "jack", "on", ">pw", "resetchannels", *rights) == b"+OK\r\n"
    return f"redis://jack:pw@127.0.0.1:{server.port}"


class TestWithThatMuch(test_contract.TestRedis):
    """The contract, by a user who may do no more."""

    @pytest.fixture
    def engine(self, server: RedisServer) -> RedisEngine:
        server.command("FLUSHALL")
        self._url = user(server, *RIGHTS)
        return self._another()


@pytest.mark.parametrize("right", RIGHTS)
async def test_without_one_of_them_it_does_not_start_and_says_which(server: RedisServer, right: str) -> None:
    server.command("FLUSHALL")
    server.command("SCRIPT", "FLUSH")
    url = user(server, *(one for one in RIGHTS if one != right))
    with pytest.raises(ConfigurationError) as caught:
        async with RedisEngine.from_url(url).open(History(), SystemClock()):
            pass
    line = str(caught.value)
    assert re.match(r"redis://127\.0\.0\.1:\d+ does not let its user do ", line)
    assert "\n" not in line
    named = {"~": "the keys|PUBLISH", "&": "channels|PUBLISH"}.get(right[0], re.escape(right[1:]))
    assert re.search(named, line, re.IGNORECASE) or right == "+time"  # which every script begins with


def test_the_readme_lists_them() -> None:
    readme = " ".join(Path(__file__).parents[2].joinpath("README.md").read_text().split())
    assert " ".join(RIGHTS) in readme
