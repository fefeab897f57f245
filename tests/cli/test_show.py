"""`jackfield events`, `hooks`, `plugins` and `check`: what is loaded, and what is wrong with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from jackfield import Jackfield, hookspecs
from jackfield.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REALTIME = """
from jackfield import Jackfield, Principal
from jackfield_auth import TokenAuth
from jackfield_members import OpenWorkspace

async def verify(token, workspace_id):
    return Principal(token)

realtime = Jackfield(TokenAuth(verify=verify), OpenWorkspace())
"""
MOUNTED = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount, Route

inner = Starlette(routes=[Mount("/live", realtime, middleware=[Middleware(GZipMiddleware)])])
app = Starlette(routes=[Route("/", lambda request: None), Mount("/chat", inner)], lifespan=realtime.lifespan)
wrapped = GZipMiddleware(app)
forgotten = Starlette(routes=[Mount("/", realtime)])
"""


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """chat.py, where the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delitem(sys.modules, "chat", raising=False)
    path = tmp_path / "chat.py"
    path.write_text(REALTIME + MOUNTED)
    yield path
    sys.modules.pop("chat", None)


def rows(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    """What was printed, in words."""
    out, said = capsys.readouterr()
    assert said == ""
    assert all(line == line.rstrip() for line in out.splitlines())
    return [line.split() for line in out.splitlines()]


def served() -> Jackfield:
    return Jackfield.from_environ({"JACKFIELD_SECRET": "x" * 32})


def test_events(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events"]) == 0
    _, *found = rows(capsys)
    assert [row[0] for row in found] == list(served().events)
    by_type = {row[0]: row[1:] for row in found}
    assert by_type["typing"] == ["client", "costs", "1", "typing", "channel_id,", "is_typing"]
    assert by_type["typing.stop"][:3] == ["server", "latest(channel_id,", "user_id)"]
    assert by_type["thread.updated"] == (
        ["server", "durable", "jackfield", "parent_message_id,", "reply_count,", "last_reply_at?"]
    )
    assert by_type["auth.refresh"] == ["client", "costs", "1", "token", "token"]


def test_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hooks"]) == 0
    _, *found = rows(capsys)
    text = {" ".join(row) for row in found}
    assert {row[0].partition("(")[0] for row in found} == set(served().plugins.hooks())
    assert {row[0].partition("(")[0] for row in found[: len(hookspecs.verbs)]} == set(hookspecs.verbs)
    assert "authenticate(handshake) first token" in text
    assert "register_events() collect token, presence, typing" in text
    assert "before_message_new(transaction, event) pipe members, reactions, threads, typing" in text
    assert "before_client_event(session, event) pipe rate_limit, presence" in text
    assert "on_typing(session, event) notify typing" in text
    assert "on_message_new(workspace, event) notify -" in text


def test_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--without", "threads"]) == 0
    _, *found = rows(capsys)
    assert [row[:2] for row in found] == [
        [str(number), name]
        for number, name in enumerate(["token", "rate_limit", "members", "presence", "reactions", "typing", "http"], 1)
    ]
    assert found[0][2:] == [
        "jackfield_auth.JWTAuth",
        "authenticate,",
        "lifespan,",
        "on_auth_refresh,",
        "register_events",
    ]


def test_what_is_wrong_with_the_environment(environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environ.setenv("JACKFIELD_NODE_LEESE", "1")
    assert main(["plugins"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: JACKFIELD_NODE_LEESE is not a setting. Did you mean JACKFIELD_NODE_LEASE?\n"
    )


def test_what_can_no_longer_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "--without", "token"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: nobody answers authenticate. Add TokenAuth(verify=…) or JWTAuth(…), "
        "or implement authenticate in a plugin of yours.\n"
    )


@pytest.mark.parametrize("target", ["chat:realtime", "chat:app", "chat:wrapped", "chat:inner.routes"])
def test_an_application_of_ones_own(target: str, chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", target]) == (1 if target.endswith("routes") else 0)
    if not target.endswith("routes"):
        _, *found = rows(capsys)
        assert [row[1:3] for row in found] == [
            ["token", "jackfield_auth.TokenAuth"],
            ["members", "jackfield_members.OpenWorkspace"],
        ]


# --- check


def test_check(chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "chat:app"]) == 0
    events = len(Jackfield.from_environ({"JACKFIELD_SECRET": "x" * 32}, plugins=("token", "members")).events) - 2
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"chat:app is wired rightly: 2 plugins, {events} events, MemoryEngine."


@pytest.mark.parametrize("target", ["chat:realtime", "chat:app"])
def test_check_starts_it(target: str, chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", target, "--start"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"{target} is wired rightly, starts and ends: 2 plugins, ")


def test_check_finds_the_forgotten_lifespan(chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "chat:forgotten"]) == 0
    capsys.readouterr()
    assert main(["check", "chat:forgotten", "--start"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: jackfield was not started: pass lifespan=realtime.lifespan to your application, "
        'or "async with realtime.lifespan():" in your own.\n'
    )


def test_check_of_what_does_not_start(chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with chat.open("a") as more:
        more.write(
            "from contextlib import asynccontextmanager\n"
            "from jackfield import hookimpl\n"
            "class Database:\n"
            "    name = 'database'\n"
            "    @hookimpl\n"
            "    @asynccontextmanager\n"
            "    async def lifespan(self, app):\n"
            "        raise OSError('no route to host')\n"
            "        yield\n"
            "realtime = Jackfield(TokenAuth(verify=verify), OpenWorkspace(), Database())\n"
        )
    assert main(["check", "chat:realtime", "--start"]) == 1
    assert capsys.readouterr().err == "jackfield: it does not start: OSError: no route to host\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("from jackfield import Jackfield\napp = Jackfield()", "nobody answers authenticate. Add TokenAuth("),
        ("import nowhere", "cannot import chat: chat.py:1: ModuleNotFoundError: No module named 'nowhere'\n"),
        ("def f():\n    1 / 0\n\nf()", "cannot import chat: chat.py:2: ZeroDivisionError: division by zero\n"),
        ("1 +", "cannot import chat: SyntaxError: invalid syntax (chat.py, line 1)\n"),
        ("application = 1", 'chat has no "app".\n'),
        ("app = 1", "chat:app is no Jackfield and mounts none (int).\n"),
        (REALTIME, 'chat has no "app". There is: realtime.\n'),
    ],
)
def test_check_of_what_is_none(source: str, said: str, chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chat.write_text(source)
    assert main(["check", "chat:app"]) == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"jackfield: {said}")
    assert error.count("\n") == 1


def test_check_of_nothing(chat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target in "chat", ":app", "chat:":
        assert main(["check", target]) == 1
        assert capsys.readouterr().err == (
            f"jackfield: {target} names nothing. Write module:app, such as chat.main:app.\n"
        )
    assert main(["check", "nowhere:app"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: cannot import nowhere: ModuleNotFoundError: No module named 'nowhere'\n"
    )
