"""`jackfield publish`, and `jackfield tail` beside it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jackfield.cli import main
from redis_server import RedisServer


@pytest.fixture
def where(tmp_path: Path, secret: str) -> list[str]:
    return ["--workspace", "acme", "--engine", f"sqlite:///{tmp_path / 'chat.db'}"]


def channel(id: str) -> dict[str, Any]:
    return {"id": id, "name": id, "type": "public", "created_by": "alice"}


def message(id: str, content: str = "hi") -> dict[str, Any]:
    data = {"id": id, "channel_id": "c1", "user_id": "alice", "content": content}
    return {**data, "created_at": "2024-01-01T12:00:00.000Z"}


def receipts(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    out, said = capsys.readouterr()
    assert said == ""
    return [json.loads(line) for line in out.splitlines()]


def test_an_event_and_its_receipt(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    create = ["publish", *where, "--type", "channel.created", "--data", json.dumps(channel("c1")), "--id", "e1"]
    assert main(create) == 0
    assert receipts(capsys) == [{"id": "e1", "position": 1, "published": True}]
    assert main(create) == 0
    assert receipts(capsys) == [{"id": "e1", "position": 1, "published": False}]
    to = ["--to", "users:alice,bob"]
    assert main(["publish", *where, *to, "--type", "message.new", "--data", json.dumps(message("m1"))]) == 0
    [receipt] = receipts(capsys)
    assert (receipt["position"], receipt["published"]) == (2, True)


def test_lines_of_standard_input(
    where: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [
        {"type": "channel.created", "data": channel("c1"), "id": "e1"},
        {"events": [{"type": "message.new", "data": message(f"m{n}"), "id": f"m{n}"} for n in (1, 2)]},
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n\n".join(map(json.dumps, events)) + "\n"))
    assert main(["publish", *where]) == 0
    assert receipts(capsys) == [
        {"id": "e1", "position": 1, "published": True},
        {"id": "m1", "position": 2, "published": True},
        {"id": "m2", "position": 3, "published": True},
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: $: expected JSON"),
        (
            '{"type": "message.new", "data": {"id": "m1"}}',
            "line 2: $.data.channel_id: required; ",
        ),
        ('{"type": "nothing", "data": {}}', "line 2: $.type: expected the type of a server event"),
        (json.dumps({"type": "message.new", "data": message("m1")}), "line 2: "),
    ],
)
def test_what_is_wrong_says_where(
    where: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    """What stands before it has been published."""
    first = json.dumps({"type": "channel.created", "data": channel("c2"), "id": "e1"})
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{first}\n{line}\n"))
    assert main(["publish", *where]) == 1
    out, error = capsys.readouterr()
    assert json.loads(out)["published"]
    assert error.startswith(f"jackfield: {said}")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--to", "nobody"], "is nobody: everyone, channel:ID or users:ID,ID"),
        (["--to", "channel:a b"], "is no id"),
        (["--id", "a b"], "is no id"),
    ],
)
def test_what_makes_no_sense_is_2(
    where: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["publish", *where, "--type", "x", *flags]) == 2
    assert said in capsys.readouterr().err


def test_data_that_is_no_json_and_an_engine_that_nobody_shares(
    secret: str, capsys: pytest.CaptureFixture[str], where: list[str]
) -> None:
    assert main(["publish", *where, "--type", "x", "--data", "{"]) == 1
    assert capsys.readouterr().err == "jackfield: --data is no JSON.\n"
    assert (
        main(["publish", "--workspace", "acme", "--type", "channel.created", "--data", json.dumps(channel("c"))]) == 1
    )
    assert "is the memory of this process" in capsys.readouterr().err


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_tail_prints_what_was_and_what_comes(redis: RedisServer, secret: str) -> None:
    command = [sys.executable, "-m", "jackfield.cli"]
    engine = ["--workspace", "acme", "--engine", redis.url]
    environ = {**os.environ, "JACKFIELD_SECRET": secret}

    def publish(type: str, data: dict[str, Any]) -> None:
        arguments = ["publish", *engine, "--type", type, "--data", json.dumps(data)]
        subprocess.run([*command, *arguments], env=environ, check=True, capture_output=True, timeout=30)

    publish("channel.created", channel("c1"))
    publish("message.new", message("m1"))
    tail = subprocess.Popen(
        [*command, "tail", *engine, "--since", "0", "--type", "message.new", "--type", "message.deleted"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has it ignored, and it would be here, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert tail.stdout is not None
        first = json.loads(tail.stdout.readline())
        assert (first["type"], first["data"]["id"], first["workspace_id"]) == ("message.new", "m1", "acme")
        publish("message.new", message("m2"))
        assert json.loads(tail.stdout.readline())["data"]["id"] == "m2"
    finally:
        tail.send_signal(signal.SIGINT)
        out, said = tail.communicate(timeout=30)
    assert (out, tail.returncode) == ("", 130), said
    assert "Traceback" not in said
