"""`jackfield publish`: an event of the command line, or those on standard input."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jackfield.cli import main


@pytest.fixture
def where(tmp_path: Path) -> list[str]:
    """No token is looked at, so it takes no secret."""
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


Typed = Callable[[bytes], None]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    """Puts something on standard input."""
    with ExitStack() as stack:

        def put(text: bytes) -> None:
            (tmp_path / "stdin").write_bytes(text)
            monkeypatch.setattr(sys, "stdin", stack.enter_context((tmp_path / "stdin").open()))

        yield put


def test_lines_of_standard_input(where: list[str], capsys: pytest.CaptureFixture[str], typed: Typed) -> None:
    events = [
        {"type": "channel.created", "data": channel("c1"), "id": "e1"},
        {"events": [{"type": "message.new", "data": message(f"m{n}"), "id": f"m{n}"} for n in (1, 2)]},
    ]
    typed("\n\n".join(map(json.dumps, events)).encode())  # the last line has no end
    assert main(["publish", *where]) == 0
    assert receipts(capsys) == [
        {"id": "e1", "position": 1, "published": True},
        {"id": "m1", "position": 2, "published": True},
        {"id": "m2", "position": 3, "published": True},
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "line 2: $: expected JSON"),
        (b"\xff\xfe", "line 2: $: expected JSON"),
        (b'{"type": "message.new", "data": {"id": "m1"}}', "line 2: $.data.channel_id: required; "),
        (b'{"type": "nothing", "data": {}}', "line 2: $.type: expected the type of a server event"),
        (
            json.dumps({"type": "message.new", "data": message("m1")}).encode(),
            "line 2: no such channel; channel.created makes one\n",
        ),
    ],
)
def test_what_is_wrong_says_where(
    where: list[str], capsys: pytest.CaptureFixture[str], typed: Typed, line: bytes, said: str
) -> None:
    """What stands before it has been published, and nothing of what stands behind it."""
    first, last = (json.dumps({"type": "channel.created", "data": channel(id)}).encode() for id in ("c2", "c3"))
    typed(b"\n".join([first, line, last]))
    assert main(["publish", *where]) == 1
    out, error = capsys.readouterr()
    assert [json.loads(line)["position"] for line in out.splitlines()] == [1]
    assert error.startswith(f"jackfield: {said}")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--to", "nobody"], "is nobody: everyone, channel:ID or users:ID,ID"),
        (["--to", "channel:a b"], "is no id"),
        (["--id", "a b"], "is no id"),
        (["--app", "chat:app"], "argument --app: not allowed with argument --engine"),
    ],
)
def test_what_makes_no_sense_is_2(
    where: list[str], capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    assert main(["publish", *where, "--type", "x", *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--data", "{}"], ["--to", "everyone"], ["--id", "e1"]])
def test_what_is_of_an_event_that_is_not_named_is_2(
    where: list[str], capsys: pytest.CaptureFixture[str], flag: list[str]
) -> None:
    assert main(["publish", *where, *flag]) == 2
    assert capsys.readouterr().err.endswith(
        f"error: {flag[0]} is of the event that --type names; those on standard input say it themselves\n"
    )


def test_what_is_refused_is_a_line(where: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", *where, "--type", "message.new", "--data", json.dumps(message("m1"))]) == 1
    assert capsys.readouterr().err == "jackfield: no such channel; channel.created makes one\n"
    assert main(["publish", *where, "--type", "message.new"]) == 1
    assert capsys.readouterr().err.startswith("jackfield: $.data.id: required; $.data.channel_id: required; ")


def test_data_that_is_no_json_and_an_engine_that_nobody_shares(
    capsys: pytest.CaptureFixture[str], where: list[str]
) -> None:
    assert main(["publish", *where, "--type", "x", "--data", "{"]) == 1
    assert capsys.readouterr().err == "jackfield: --data is no JSON.\n"
    assert main(["publish", "--workspace", "acme", "--type", "channel.created"]) == 1
    assert capsys.readouterr().err == (
        "jackfield: JACKFIELD_ENGINE is memory://, the memory of one process, and no server is in this one: "
        "it takes the engine of your servers, such as redis://localhost:6379/0.\n"
    )


# --- an application of one's own

CHAT = """
from jackfield import Everyone, Jackfield, ServerEvent, before, hookimpl, on
from jackfield.engine import EngineUnavailable
from jackfield_sqlite import SQLiteEngine

class Said(ServerEvent, type="said"):
    text: str
    def audience(self):
        return Everyone()

observed = []

class Says:
    name = "says"
    @hookimpl
    def register_events(self):
        return (Said,)
    @hookimpl
    async def authenticate(self):
        return None
    @hookimpl
    async def channels_of(self):
        return ()
    @before(Said)
    async def fail(self, transaction, event):
        if event.text == "fail":
            raise KeyError("lost")
    @on(Said)
    async def hear(self, workspace, event):
        observed.append(event.text)

class Engine(SQLiteEngine):
    commits = []
    away = False
    async def commit(self, workspace, commit):
        self.commits.append(len(commit.drafts))
        if self.away:
            raise EngineUnavailable("it is away")
        return await super().commit(workspace, commit)

engine = Engine("chat.db")
app = Jackfield(Says(), engine=engine)
"""


@pytest.fixture
def chat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """chat.py, where the command is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "chat", raising=False)
    (tmp_path / "chat.py").write_text(CHAT, encoding="utf-8")
    yield importlib.import_module("chat")
    sys.modules.pop("chat", None)


def said(text: str) -> bytes:
    return json.dumps({"type": "said", "data": {"text": text}}).encode()


def test_what_is_waiting_already_is_one_commit(chat: Any, typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    typed(b"".join(said(str(number)) + b"\n" for number in range(250)))
    assert main(["publish", "--workspace", "acme", "--app", "chat:app"]) == 0
    assert [receipt["position"] for receipt in receipts(capsys)] == list(range(1, 251))
    assert chat.engine.commits == [100, 100, 50]
    assert chat.observed == [str(number) for number in range(250)]


def test_a_plugin_that_fails_is_a_line_and_observers_hear_of_the_rest(
    chat: Any, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(b"\n".join(map(said, ["one", "two", "fail", "three"])))
    assert main(["publish", "--workspace", "acme", "--app", "chat:app"]) == 1
    assert capsys.readouterr().err == "jackfield: line 3: KeyError: 'lost'\n"
    assert chat.observed == ["one", "two"]


def test_what_may_have_happened_is_not_published_again(
    chat: Any, typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    chat.engine.away = True
    typed(said("one") + b"\n" + said("two") + b"\n")
    assert main(["publish", "--workspace", "acme", "--app", "chat:app"]) == 1
    assert capsys.readouterr() == ("", "jackfield: line 1: it is away\n")
    assert chat.engine.commits == [2]


def test_without_standard_input(chat: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["publish", "--workspace", "acme", "--app", "chat:app"]) == 1
    assert capsys.readouterr().err == "jackfield: there is no standard input; name an event by --type.\n"


def test_standard_input_that_cannot_be_read(
    chat: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with (tmp_path / "out").open("w") as only_to_write:
        monkeypatch.setattr(sys, "stdin", only_to_write)
        assert main(["publish", "--workspace", "acme", "--app", "chat:app"]) == 1
    assert capsys.readouterr().err == "jackfield: standard input cannot be read: Bad file descriptor.\n"


@contextmanager
def piped() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "jackfield.cli", "publish", "--workspace", "acme", "--app", "chat:app"]
    pipe = subprocess.PIPE
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command,
        env=environ,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        # Whoever runs the tests in the background has it ignored, and it would be here, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as publishing:
        try:
            yield publishing
        finally:
            publishing.kill()  # where it has ended, that is nothing


def type_in(publishing: subprocess.Popen[bytes], text: bytes) -> None:
    assert publishing.stdin is not None
    publishing.stdin.write(text)
    publishing.stdin.flush()


def test_a_line_is_published_when_it_comes_and_an_interruption_ends_the_waiting(chat: Any) -> None:
    with piped() as publishing:
        assert publishing.stdout is not None
        type_in(publishing, said("one") + b"\n" + said("two")[:9])
        assert json.loads(publishing.stdout.readline())["position"] == 1
        type_in(publishing, said("two")[9:] + b"\n" + said("three"))
        assert json.loads(publishing.stdout.readline())["position"] == 2
        publishing.send_signal(signal.SIGINT)
        assert publishing.wait(20) == 130
        assert publishing.stderr is not None
        assert publishing.stderr.read() == b""


def test_lines_are_counted_through_all_pieces(chat: Any) -> None:
    with piped() as publishing:
        assert publishing.stdout is not None
        assert publishing.stderr is not None
        type_in(publishing, said("one") + b"\n")
        assert publishing.stdout.readline()
        type_in(publishing, b"\n" + said("three") + b"\n")
        assert publishing.stdout.readline()
        type_in(publishing, b"four\n")
        assert publishing.wait(20) == 1
        assert publishing.stderr.read() == b"jackfield: line 4: $: expected JSON\n"


def test_when_nobody_reads_any_more_it_ends_quietly(chat: Any) -> None:
    with piped() as publishing:
        assert publishing.stdout is not None
        assert publishing.stderr is not None
        type_in(publishing, said("one") + b"\n")
        assert publishing.stdout.readline()
        publishing.stdout.close()
        type_in(publishing, said("two") + b"\n")
        assert publishing.wait(20) == 141
        assert publishing.stderr.read() == b""
