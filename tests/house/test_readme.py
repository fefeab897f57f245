"""What the README says is so: its tables are the code's, its code runs, and what it points at is there."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import attrs
import pytest

from jackfield import ClientEvent, CloseCode, Jackfield, Refused, Settings, errors, hookspecs
from jackfield.testing import bench

if TYPE_CHECKING:
    from jackfield.events import Event

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ENVIRON = {"JACKFIELD_SECRET": "only for this test, and 32 bytes long"}


def section(title: str) -> str:
    """What stands under a heading, up to the next."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"the README has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables of a text, without their heads."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    split = [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table]
    rules = [number for number, cells in enumerate(split) if set("".join(cells)) <= set("-:")]
    heads = {number - 1 for number in rules}
    return [cells for number, cells in enumerate(split) if number not in heads and number not in rules]


def quoted(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]*)`", cell)


@cache
def served() -> Jackfield:
    """All that is shipped, with all that is off in an embedded application."""
    return Jackfield.from_environ(ENVIRON)


# --- events


def fields(event: type[Event]) -> list[str]:
    return [field.name + "?" * (field.default is not attrs.NOTHING) for field in attrs.fields(event)]


def public_name(event: type[Event]) -> str:
    """As a plugin author imports it."""
    module = importlib.import_module(re.sub(r"\._.*", "", event.__module__))
    assert getattr(module, event.__name__) is event
    return f"{module.__name__}.{event.__name__}"


def delivery(event: type[Event]) -> str:
    said = event.__event__.delivery
    return f"latest({', '.join(said.key)})" if said.kind == "latest" else said.kind


def test_the_events() -> None:
    text = section("Events")
    registry = served().events
    told: dict[str, tuple[str, list[str], str, str]] = {}
    for type, cls, data, said, owner in rows(text):
        told[quoted(type)[0]] = quoted(cls)[0], quoted(data), said, quoted(owner)[0]
    is_so = {
        type: (
            public_name(event),
            fields(event),
            str(event.__event__.cost) if issubclass(event, ClientEvent) else delivery(event),
            registry.owner(type),
        )
        for type, event in registry.items()
    }
    assert told == is_so


def test_what_registers_an_event_only_when_asked_for() -> None:
    """The third word of that column is an argument of the plugin's."""
    for type, *_, owner in rows(section("Events")):
        chair, *asked = quoted(owner)
        if chair == "jackfield":
            continue
        (point,) = entry_points(group="jackfield", name=chair)
        variables = {**ENVIRON, **{f"JACKFIELD_{chair}_{word.partition('=')[0]}".upper(): "false" for word in asked}}
        registry = Jackfield.from_environ(variables).events
        assert (quoted(type)[0] in registry) is not bool(asked), point


# --- hooks


def signature(function: Any, name: str | None = None) -> str:
    colour = "async " if inspect.iscoroutinefunction(function) else ""
    return f"{colour}{name or function.__name__}({', '.join(inspect.signature(function).parameters)})"


def test_the_hooks() -> None:
    told = {quoted(hook)[0]: (verb, quoted(result)[0]) for hook, verb, result, _ in rows(section("The hooks"))}
    fixed = {
        signature(hook): (verb, inspect.signature(hook).return_annotation)
        for name, verb in hookspecs.verbs.items()
        if (hook := getattr(hookspecs, name))
    }
    assert {hook: said for hook, said in told.items() if "<" not in hook} == fixed


def test_the_hooks_of_every_event() -> None:
    told = {quoted(hook)[0]: verb for hook, verb, *_ in rows(section("The hooks")) if "<" in hook}
    specs = vars(served().plugins._manager.hook)
    is_so = set()
    for side in "before", "on":
        for kind, some in ("client", "typing"), ("server", "message_new"):
            for event in f"{kind}_event", some:
                function = specs[f"{side}_{event}"].spec.function
                is_so.add(signature(function, f"{side}_<{kind} event>"))
    assert set(told) == is_so
    assert {hook: "pipe" if "before" in hook else "notify" for hook in is_so} == told


# --- codes


def test_the_error_codes() -> None:
    def kinds(cls: type[Refused]) -> Iterator[type[Refused]]:
        for sub in cls.__subclasses__():
            if sub.__module__ == "jackfield.errors":
                yield sub
                yield from kinds(sub)

    told = {quoted(code)[0]: text for code, text, *_ in rows(section("Error codes"))}
    assert told == {**{kind.code: kind.text() for kind in kinds(Refused)}, **dict([errors.INTERNAL_ERROR])}


def test_the_close_codes() -> None:
    told = [(int(code), reason, client) for code, reason, client in rows(section("Close codes"))]
    assert told == [(code.value, code.reason, code.client) for code in CloseCode]


@pytest.mark.parametrize("code", CloseCode)
def test_what_a_client_does_follows_the_rule(code: CloseCode) -> None:
    assert code.reconnect == ("reconnect" in code.client)


# --- settings, HTTP, command line


def shown(default: object) -> str:
    match default:
        case attrs.NOTHING:
            return "required"
        case None | ():
            return "none"
        case bool():
            return str(default).lower()
        case float():
            return f"{default:.10g}"
        case _:
            return str(default)


def test_the_settings() -> None:
    is_so = {}
    classes = [(None, Settings), *((point.name, point.load()) for point in entry_points(group="jackfield"))]
    for name, cls in classes:
        for field in attrs.fields(cls):
            if field.init and field.name != "name":
                variable = field.metadata.get("env", f"{name}_{field.name}" if name else field.name)
                is_so[variable.upper()] = shown(field.default)
    assert {quoted(variable)[0]: default for variable, default, _ in rows(section("Settings"))} == is_so


def test_the_http_api() -> None:
    told = {quoted(route)[0] for route, _ in rows(section("HTTP"))}
    is_so = set()
    for call in served().plugins.calls("register_routes"):
        for route in call.function(served()):
            is_so.add(f"{min((route.methods or {'GET'}) - {'HEAD'})} {route.path}")
    assert told == is_so


def test_the_commands() -> None:
    run = subprocess.run([sys.executable, "-m", "jackfield.cli", "--help"], capture_output=True, text=True, check=True)
    listed = re.findall(r"^    ([a-z]+)  ", run.stdout, re.MULTILINE)
    assert [f"jackfield {command}" for command in listed] == [
        quoted(row[0])[0] for row in rows(section("Command line"))
    ]


def test_the_plugins() -> None:
    told = {
        (quoted(source)[0], quoted(plugin)[0].partition("(")[0]) for plugin, source, _ in rows(section("The plugins"))
    }
    packages = {point.module for point in entry_points(group="jackfield") if point.module.startswith("jackfield_")}
    is_so = {
        (package, name)
        for package in packages
        for name, value in vars(importlib.import_module(package)).items()
        if isinstance(value, type) and "name" in {field.name for field in getattr(value, "__attrs_attrs__", ())}
    }
    assert told == is_so | {("jackfield_auth", "JWTAuth")}


# --- where is it?


def test_there_are_twelve_answers() -> None:
    assert len(rows(section(r"Where is it\?"))) == 12


@pytest.mark.parametrize("place", [quoted(answer)[0] for _, answer in rows(section(r"Where is it\?"))])
def test_an_answer_is_there(place: str) -> None:
    path, _, name = place.partition(":")
    body: list[ast.stmt] = ast.parse((ROOT / path).read_text()).body
    for part in name.split("."):
        (found,) = [node for node in body if getattr(node, "name", None) == part]
        assert isinstance(found, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        body = found.body
    assert not isinstance(found, ast.ClassDef)


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


# --- the code

BLOCKS = {
    block.splitlines()[0].removeprefix("# "): block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """All of it in files, by the names in their first lines."""
    for name, block in BLOCKS.items():
        (tmp_path / name).write_text(block)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in BLOCKS:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_every_block_has_a_name() -> None:
    assert all(re.fullmatch(r"[a-z_]+\.py", name) for name in BLOCKS)
    assert len(BLOCKS) == README.count("```python")


@pytest.mark.parametrize("name", [name for name in BLOCKS if not name.startswith("test_")])
def test_a_block_runs(written: Path, name: str) -> None:
    importlib.import_module(name.removesuffix(".py"))


def test_the_tests_in_it_pass(written: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "test_polls.py"]
    ran = subprocess.run(command, cwd=written, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"\d passed", ran.stdout)


def test_embedding_takes_twenty_lines() -> None:
    _, *lines = [line for line in BLOCKS["chat.py"].splitlines() if line.strip()]
    assert len(lines) == 20


async def test_the_plugins_in_it_do_what_it_says(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jackfield.events import MessageNew, timestamp

    moderation, shop = importlib.import_module("moderation"), importlib.import_module("shop")
    async with bench(moderation.Moderation, shop.Shop) as b:
        bob = await b.connect("bob", channels=["c1"])
        assert bob.hello.state == {"presence": [{"user_id": "alice", "status": "online"}]}
        for number in range(6):
            await b.workspace().publish(MessageNew(f"m{number}", "c1", "eve", "buy now", timestamp(0)))
        assert len(await bob.pending()) == 4
    assert capsys.readouterr().out == "w buy now\n" * 4


def test_the_tasks_in_it_publish(written: Path) -> None:
    from jackfield import SyncPublisher
    from redis_server import RedisServer

    tasks = importlib.import_module("tasks")
    with RedisServer() as server, SyncPublisher(tasks.application(server.url)) as live:
        assert tasks.remind("now", live.workspace("acme")).position == 1
        receipts = anyio.run(tasks.remind_all, ["a", "b"], tasks.application(server.url))
        assert [receipt.position for receipt in receipts] == [2, 3]


@pytest.mark.servers
def test_the_embedding_is_served(written: Path) -> None:
    import httpx

    from servers import _free_port, until
    from wireclient import connect

    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "chat:app", f"--port={port}"]
    server = subprocess.Popen(command, cwd=written, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:

            def answers() -> bool:
                try:
                    return http.get("/").status_code == 404
                except httpx.TransportError:
                    return False

            until(answers, 20, "it answers")
            alice = connect(f"ws://127.0.0.1:{port}/ws/acme?token=alices-token")
            assert alice.expect("hello")["data"]["state"]["presence"] == [{"user_id": "alice", "status": "online"}]
            assert http.post("/messages", content="Hello, world!").status_code == 201
            assert alice.expect("message.new")["data"]["content"] == "Hello, world!"
            alice.send_json({"type": "ping"})
            assert alice.receive() == {"type": "pong"}
            alice.close()
    finally:
        server.terminate()
        server.wait(10)
