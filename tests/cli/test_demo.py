"""The demo: it is a check, so it has to fail where something is wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from jackfield.cli import _stage, demo
from jackfield.cli._stage import closed, event, normal


@pytest.mark.servers
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_all_is_as_it_should_be(loop: str, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert demo.main([f"--loop={loop}"]) == 0
    assert time.monotonic() - began < 15
    out = capsys.readouterr().out
    *_, last = out.splitlines()
    assert last.startswith("All as it should be: ")
    for word in ("hello", "typing.start", "typing.stop", "reaction.added", "thread.updated", "INVALID_TOKEN", "4502"):
        assert word in out
    assert "RATE_LIMITED" in out
    assert "\033" not in out  # no terminal, no colours
    assert "eyJ" not in out  # no token


@pytest.mark.servers
def test_as_it_is_called() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jackfield.cli.demo"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""


@pytest.mark.servers
def test_what_comes_instead_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = demo.message

    def other(id: str, *arguments: Any) -> dict[str, object]:
        return real(id, *arguments) | ({"unknown": 1} if id == "m1" else {})

    monkeypatch.setattr(demo, "message", other)
    assert demo.main([]) == 1
    out = capsys.readouterr().out
    _, _, end = out.partition("\nNot as it should be: alice\n")
    assert end.startswith("--- alice: expected\n+++ alice: arrived\n")
    assert '"unknown": 1' in "".join(line for line in end.splitlines() if line.startswith("-"))


@pytest.mark.servers
def test_what_does_not_come_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def wave(stage: _stage.Stage, alice: _stage.Actor, bob: _stage.Actor, carol: _stage.Actor) -> None:
        monkeypatch.setattr(_stage, "PATIENCE", 0.2)
        await carol.hears(event("wave", "beta"))

    monkeypatch.setattr(demo, "they_talk", wave)
    assert demo.main([]) == 1
    assert '-{"type": "wave"' in capsys.readouterr().out


@pytest.mark.servers
@pytest.mark.parametrize("step", ["publish", "call"])
def test_an_answer_of_the_api_that_is_wrong(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def wrong(*_: object, **__: object) -> Any:
        return False if step == "publish" else (500, {})

    monkeypatch.setattr(_stage.Stage, step, wrong)
    assert demo.main([]) == 1
    said = "channel.created was not published" if step == "publish" else "500 instead of 202"
    assert f"\nNot as it should be: host: {said}\n" in capsys.readouterr().out


@pytest.mark.servers
def test_a_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "SETTINGS", {"NOTHING": 1})
    assert demo.main([]) == 1
    assert capsys.readouterr().out == "Not as it should be: the server did not start\n"


def test_what_is_compared() -> None:
    frame: dict[str, Any] = {
        "type": "error",
        "data": {"code": "RATE_LIMITED", "retry_after_ms": 17},
        "timestamp": "2026-01-02T03:04:05.678Z",
    }
    assert normal(frame) == event("error", code="RATE_LIMITED", retry_after_ms=9)
    assert normal({**frame, "timestamp": "2026-01-02 03:04:05"}) != normal(frame)
    assert normal(dict(reversed(frame.items()))) != normal(frame)
    assert normal({**frame, "workspace_id": "acme"}) != normal(frame)
    assert normal({"type": "pong"}) == '{"type": "pong"}'
    assert closed(1012) == closed(4001) != closed(1000)
