"""Redis by TLS: who it is, who asks, and one line where either is not as it should be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path

import anyio
import pytest

from authority import Authority
from impostor import HELLO, Impostor
from jackfield._clock import SystemClock
from jackfield.engine import Arrived, Commit, Committed, Draft, EngineUnavailable, History
from jackfield.errors import ConfigurationError
from jackfield_redis import RedisEngine
from redis_server import BINARIES, RedisServer, free_port
from servers import until
from terminator import Terminator

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def localhost(authority: Authority) -> tuple[Path, Path]:
    return authority.sign("localhost")


async def works(url: str, server: RedisServer) -> None:
    """What is published comes."""
    server.command("FLUSHALL")
    engine = RedisEngine.from_url(url)
    async with engine.open(History(), SystemClock()), engine.feed() as feed:
        feed.want("w", 0)
        async with aclosing(aiter(feed)) as news:  # type: ignore[type-var]
            with anyio.fail_after(10):
                for n in range(1, 4):
                    draft = Draft(f"m{n}", b"{}", b"x" * 100_000)
                    done = await engine.commit("w", Commit(drafts=[draft]))
                    assert isinstance(done, Committed)
                    got = await anext(news)
                    assert isinstance(got, Arrived)
                    assert (got.upto, [record.body for record in got.records]) == (n, [draft.body])


async def refused(url: str, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        async with RedisEngine.from_url(url).open(History(), SystemClock()):
            pass
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix(f"{url.partition('?')[0]} ")


async def test_it_works(server: RedisServer, authority: Authority, localhost: tuple[Path, Path]) -> None:
    with Terminator(server.port, localhost) as tls:
        await works(f"rediss://localhost:{tls.port}/2?ca={authority.ca}", server)


async def test_an_address_may_stand_in_the_certificate(server: RedisServer, authority: Authority) -> None:
    with Terminator(server.port, authority.sign("127.0.0.1")) as tls:
        await works(f"rediss://127.0.0.1:{tls.port}?ca={authority.ca}", server)


async def test_the_client_may_have_to_show_one_too(
    server: RedisServer, authority: Authority, localhost: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = authority.sign("client")
    strange = Authority(tmp_path).sign("client")
    with Terminator(server.port, localhost, clients=authority.ca) as tls:
        url = f"rediss://localhost:{tls.port}?ca={authority.ca}"
        await works(f"{url}&cert={cert}&key={key}", server)
        for query in ("", f"&cert={strange[0]}&key={strange[1]}"):
            line = await refused(url + query, EngineUnavailable)
            assert re.fullmatch(r"cannot be reached: .*(alert|cut).*", line), line


async def test_who_shows_one_for_another_host_is_refused(server: RedisServer, authority: Authority) -> None:
    with Terminator(server.port, authority.sign("elsewhere.example")) as tls:
        line = await refused(f"rediss://localhost:{tls.port}?ca={authority.ca}&wait=60", ConfigurationError)
        assert line == (
            "shows a certificate that is not trusted: Hostname mismatch, certificate is not valid for 'localhost'. "
            "See ?ca= in its URL."
        )


async def test_who_is_vouched_for_by_a_stranger_is_refused(
    server: RedisServer, localhost: tuple[Path, Path], tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    with Terminator(server.port, localhost) as tls:
        for query in ("", f"?ca={stranger.ca}"):
            line = await refused(f"rediss://localhost:{tls.port}{query}", ConfigurationError)
            assert re.fullmatch(
                r"shows a certificate that is not trusted: [^.]*certificate[^.]*\. See \?ca= in its URL\.", line
            )


async def test_who_speaks_otherwise_than_asked(
    server: RedisServer, authority: Authority, localhost: tuple[Path, Path]
) -> None:
    line = await refused(f"rediss://localhost:{server.port}?ca={authority.ca}", EngineUnavailable)
    assert line == "cannot be reached: no answer in time. See whether it speaks TLS, or add ?wait=60 to its URL."
    with Terminator(server.port, localhost) as tls:
        line = await refused(f"redis://localhost:{tls.port}", EngineUnavailable)
        assert line == (
            "cannot be reached: the connection was cut. See whether it wants TLS or is in protected mode, or add "
            "?wait=60 to its URL."
        )


async def test_the_sentinels_speak_it_too(server: RedisServer, authority: Authority) -> None:
    certificate = authority.sign("127.0.0.1")
    with ExitStack() as stack:
        primary = stack.enter_context(Terminator(server.port, certificate))
        where = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%d\r\n" % (len(str(primary.port)), primary.port)
        asked: list[bytes] = []

        def answer(said: bytes) -> bytes:
            asked.append(said)
            return HELLO if b"HELLO" in said else where

        plain = stack.enter_context(Impostor(answer))
        sentinel = stack.enter_context(Terminator(plain.port, certificate))
        query = f"?ca={authority.ca}&sentinel_user=watch&sentinel_password=man"
        hosts = f"127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}"
        await works(f"rediss+sentinel://{hosts}/main{query}", server)
        assert any(b"AUTH" in said and b"watch" in said and b"man" in said for said in asked)
        line = await refused(f"rediss+sentinel://127.0.0.1:{plain.port}/main{query}", EngineUnavailable)
        assert "no Sentinel that answers knows a primary of main" in line


async def test_a_cluster_speaks_it_too(authority: Authority) -> None:
    """What it says of itself leads to the relay, too."""
    with Terminator(0, authority.sign("127.0.0.1")) as tls:
        announced = ("--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", f"{tls.port}")
        with RedisServer(BINARIES["redis"], "--cluster-enabled", "yes", *announced) as server:
            tls.target = server.port
            server.command("CLUSTER", "ADDSLOTS", *map(str, range(16_384)))
            until(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"), 10, "the cluster is up")
            await works(f"rediss+cluster://127.0.0.1:{tls.port}?ca={authority.ca}", server)
