"""`jackfield tail`: what happens in a workspace, as it happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from jackfield import Audience, Jackfield, MemoryEngine, ServerEvent, Settings, Users, ephemeral, hookimpl
from jackfield.cli import main
from jackfield.cli._tail import _show, _tail
from jackfield.engine import Arrived, Lost
from jackfield.testing import settle
from redis_server import RedisServer


class Said(ServerEvent, type="said"):
    text: str

    def audience(self) -> Audience:
        return Users("alice")


class Passed(Said, type="passed", delivery=ephemeral):
    pass


class Says:
    name = "says"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Said, Passed)

    @hookimpl
    async def authenticate(self) -> None:
        return None

    @hookimpl
    async def channels_of(self) -> Sequence[str]:
        return ()


def application(engine: MemoryEngine, settings: Settings | None = None) -> Jackfield:
    return Jackfield(Says(), engine=engine, settings=settings)


def printed(capsysbinary: pytest.CaptureFixture[bytes]) -> tuple[list[str], str]:
    """The texts of what was said, and what there was to say beside it."""
    out, said = capsysbinary.readouterr()
    return [json.loads(line)["data"]["text"] for line in out.splitlines()], said.decode()


async def test_it_prints_what_comes_and_what_was(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    """To whomever it goes, passing ones too; but for what is no event, and what is of others."""
    engine = MemoryEngine()
    app = application(engine)
    async with app.lifespan(), anyio.create_task_group() as tasks:
        await app.workspace("acme").publish_all([Said("before"), Said("before that")])
        for types, since in (None, None), (["passed"], 0), (None, 1):
            tasks.start_soon(_tail, application(engine), "acme", types, since)
            await settle()
        assert printed(capsysbinary) == (["before that"], "")
        await app.workspace("acme").publish(Said("ä"))
        await app.workspace("acme").publish(Passed("passing"))
        await app.workspace("acme").revoke("alice")
        await app.workspace("other").publish(Said("elsewhere"))
        await settle()
        texts, said = printed(capsysbinary)
        assert sorted(texts) == ["passing", "passing", "passing", "ä", "ä"]
        assert said == ""
        tasks.cancel_scope.cancel()


async def test_it_says_what_it_cannot_print(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    engine = MemoryEngine()
    settings = Settings(history_events=2)
    app = application(engine, settings)
    async with app.lifespan(), anyio.create_task_group() as tasks:
        await app.workspace("acme").publish_all([Said(text) for text in "abcd"])
        for since in 0, 2, 7:
            tasks.start_soon(_tail, application(engine, settings), "acme", None, since)
            await settle()
            gone = "jackfield: what stood up to position 2 is no longer kept\n"
            assert printed(capsysbinary) == (["c", "d"] if since < 4 else [], gone if since < 2 else "")
        tasks.cancel_scope.cancel()


def test_it_says_what_was_missed(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    _show(Lost("acme", "e", 0), None)
    assert printed(capsysbinary) == ([], "jackfield: the log went back; what was in it is lost\n")
    _show(Arrived("acme", (), 3, whole=False), None)
    assert printed(capsysbinary) == ([], "jackfield: some of what was only passing is no longer kept\n")


def test_an_engine_that_nobody_shares(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--workspace", "acme"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: JACKFIELD_ENGINE is memory://, the memory of one process, and no server is in this one: "
        "it takes the engine of your servers, such as redis://localhost:6379/0.\n"
    )


@pytest.mark.parametrize("since", ["-1", "yesterday"])
def test_a_position_that_is_none(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tail", "--workspace", "acme", "--since", since]) == 2
    assert "argument --since: " in capsys.readouterr().err


# --- on an engine that processes share


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer(persistent=True) as server:
        yield server


COMMAND = [sys.executable, "-m", "jackfield.cli"]


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JACKFIELD_")}
    kept.pop("PYTHONUNBUFFERED", None)
    return kept


def publish(redis: RedisServer, workspace: str, type: str, data: dict[str, Any]) -> None:
    arguments = ["publish", "--workspace", workspace, "--engine", redis.url, "--type", type, "--data", json.dumps(data)]
    subprocess.run([*COMMAND, *arguments], env=environ(), check=True, capture_output=True, timeout=30)


def channel(id: str) -> dict[str, Any]:
    return {"id": id, "name": id, "type": "public", "created_by": "alice"}


@contextmanager
def tailing(redis: RedisServer, workspace: str, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*COMMAND, "tail", "--workspace", workspace, "--engine", redis.url, *flags]
    with subprocess.Popen(
        command,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Whoever runs the tests in the background has it ignored, and it would be here, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as tail:
        try:
            yield tail
        finally:
            tail.kill()  # where it has ended, that is nothing


def test_it_follows_another_process_until_it_is_interrupted(redis: RedisServer) -> None:
    publish(redis, "acme", "channel.created", channel("c1"))
    with tailing(redis, "acme", "--since", "0", "--type", "channel.created") as tail:
        assert tail.stdout is not None
        first = json.loads(tail.stdout.readline())
        assert (first["type"], first["data"]["id"], first["workspace_id"]) == ("channel.created", "c1", "acme")
        publish(redis, "acme", "channel.deleted", {"id": "c1"})
        publish(redis, "acme", "channel.created", channel("c2"))
        assert json.loads(tail.stdout.readline())["data"]["id"] == "c2"
        tail.send_signal(signal.SIGINT)
        assert tail.communicate(timeout=30) == (b"", b"")
        assert tail.returncode == 130


def test_when_nobody_reads_any_more_it_ends_quietly(redis: RedisServer) -> None:
    """As in `jackfield tail … | head -1`."""
    publish(redis, "beta", "channel.created", channel("c1"))
    with tailing(redis, "beta", "--since", "0") as tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert tail.stdout.readline()
        tail.stdout.close()
        publish(redis, "beta", "channel.created", channel("c2"))
        assert tail.wait(30) == 141
        assert tail.stderr.read() == b""
