"""`jackfield asyncapi` and `jackfield types`: what they print is what the library makes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jackfield import Jackfield
from jackfield.browser import types
from jackfield.cli import main
from jackfield.schema import asyncapi

CHAT = """
from jackfield import ClientEvent, Jackfield, Principal, hookimpl, on
from jackfield_auth import TokenAuth
from jackfield_members import OpenWorkspace

async def verify(token, workspace_id):
    return Principal(token)

class Waved(ClientEvent, type="wave"):
    '''Somebody waves, with a “👋”.'''

class Waves:
    name = "waves"
    @hookimpl
    def register_events(self):
        return (Waved,)
    @on(Waved)
    async def wave(self, session, event):
        pass

realtime = Jackfield(TokenAuth(verify=verify), OpenWorkspace(), Waves())
"""


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jackfield]:
    """The application in chat.py, where the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "chat", raising=False)
    (tmp_path / "chat.py").write_text(CHAT, encoding="utf-8")
    import chat  # type: ignore[import-not-found]

    yield chat.realtime
    sys.modules.pop("chat", None)


def served() -> Jackfield:
    return Jackfield.from_environ({"JACKFIELD_SECRET": "x" * 32})


def printed(capsysbinary: pytest.CaptureFixture[bytes]) -> str:
    out, said = capsysbinary.readouterr()
    assert said == b""
    assert out.endswith(b"\n")
    assert not out.endswith(b"\n\n")
    return out.decode("utf-8")


def test_the_document_of_what_serve_would_have(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["asyncapi"]) == 0
    assert json.loads(printed(capsysbinary)) == asyncapi(served())


def test_the_document_without_a_plugin(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["asyncapi", "--without", "typing"]) == 0
    assert "typing" not in json.loads(printed(capsysbinary))["components"]["messages"]


def test_the_document_of_an_application(chat: Jackfield, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    command = ["asyncapi", "chat:realtime", "--title", "Chat", "--api-version", "7", "--server", "wss://chat.example"]
    assert main(command) == 0
    document = json.loads(printed(capsysbinary))
    assert document == asyncapi(chat, title="Chat", version="7", server="wss://chat.example")
    assert document["components"]["messages"]["wave"]["summary"] == "Somebody waves, with a “👋”."


def test_a_server_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["asyncapi", "--server", "chat.example"]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert said == ("jackfield: --server: that is no address of a server, such as wss://chat.example/realtime.\n")


def test_the_types_of_what_serve_would_have(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["types"]) == 0
    assert printed(capsysbinary) == types(served()).rstrip() + "\n"


def test_the_types_of_an_application(chat: Jackfield, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["types", "chat:realtime"]) == 0
    text = printed(capsysbinary)
    assert text == types(chat).rstrip() + "\n"
    assert '  /** Somebody waves, with a “👋”. */\n  "wave": Waved;\n' in text
