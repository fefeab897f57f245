"""The contract of engines on a real Redis, and on Valkey where there is one; as it is, and sealed."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from jackfield.engine import Engine
from jackfield.testing import EngineContract, FakeClock
from jackfield_redis import RedisEngine
from jackfield_redis._address import parse
from redis_server import BINARIES, RedisServer

KEYS = (bytes(range(64)), bytes(64))


@pytest.fixture(scope="module", params=BINARIES)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(BINARIES[request.param]) as server:
        yield server


class Told(RedisEngine):
    """By the clock of the test, for which nobody has to wait."""

    clock: FakeClock

    def _now(self) -> str:
        return repr(self.clock.time())


class TestRedis(EngineContract):
    """What the contract waits for comes by a real network, while its clock stands."""

    keys: tuple[bytes, ...] = ()

    @pytest.fixture
    def engine(self, server: RedisServer) -> RedisEngine:
        server.command("FLUSHALL")
        self._url = server.url
        return self._another()

    def beside(self, engine: Engine) -> Engine:
        return self._another()

    def _another(self) -> RedisEngine:
        engine = Told(attrs.evolve(parse(self._url), keys=self.keys))
        engine.clock = self.clock
        return engine


class TestSealed(TestRedis):
    keys = KEYS
