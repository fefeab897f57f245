"""The TypeScript of an application. That a compiler takes it is seen by `nox -s browser`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal

import attrs
import pytest

from jackfield import ClientEvent, Jackfield, ServerEvent, hookimpl, on
from jackfield.browser import script, types
from jackfield.events import JSON, Id, Shape, Status, Timestamp
from tests.core.test_structure import Color, Level, Option, Tree

ENVIRON = {"JACKFIELD_SECRET": "only for this test, and 32 bytes long"}


class Everything(ServerEvent, type="every.thing"):
    """A field of every kind; and */ ends nothing.

    In two paragraphs.
    """

    text: str
    """Said of the text."""
    id: Id
    at: Timestamp
    flag: bool
    whole: int
    number: float
    anything: JSON
    status: Status
    one: Literal["a"]
    nothing: Literal[Color.RED]
    mixed: Literal[1, True, "a"]
    color: Color
    level: Level
    shaped: Annotated[str, Shape("[a-z]", "expected a letter")]
    names: Sequence[str]
    statuses: Sequence[Status]
    more: Sequence[JSON]
    counts: Mapping[str, int]
    of_few: Mapping[Status, bool]
    open: Mapping[str, JSON]
    either: str | Sequence[int]
    options: Sequence[Option]
    tree: Tree
    defaulted: int = 3
    unset: str | None = None


class Asked(ClientEvent, type="asked"):
    """With a default, and what is inside of another event, too."""

    option: Option
    n: int = 1


class Promise(ServerEvent, type="promised"):
    """Of a name that means something else."""

    v: int


class Client(ServerEvent, type="client.seen"):
    """Of one that the client's half has."""

    v: int


class Empty(ClientEvent, type="emptied"):
    """Without a field."""


@attrs.define(eq=False)
class Plugin:
    """Somebody's."""

    name: str = "everything"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return Everything, Asked, Promise, Client, Empty

    @on(Asked)
    async def asked(self, session: Any, event: Asked) -> None: ...

    @on(Empty)
    async def emptied(self, session: Any, event: Empty) -> None: ...


@cache
def written() -> str:
    shipped = Jackfield.from_environ(ENVIRON).plugins.objects.values()
    return types(Jackfield(*(attrs.evolve(plugin) for plugin in shipped), Plugin()))  # type: ignore[type-var]


def members(name: str) -> dict[str, str]:
    """Key → type, of an interface."""
    (found,) = re.findall(rf"^export interface {name} \{{\n(.*?)^\}}", written(), re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^  (\S+): (.*);$", found, re.MULTILINE))


def test_a_field_of_every_kind() -> None:
    assert members("Everything") == {
        "text": "string",
        "id": "Id",
        "at": "Timestamp",
        "flag": "boolean",
        "whole": "number",
        "number": "number",
        "anything": "unknown",
        "status": '"online" | "away" | "offline"',
        "one": '"a"',
        "nothing": "never",
        "mixed": '1 | true | "a"',
        "color": '"red"',
        "level": "1",
        "shaped": "string",
        "names": "string[]",
        "statuses": '("online" | "away" | "offline")[]',
        "more": "unknown[]",
        "counts": "Record<string, number>",
        "of_few": 'Partial<Record<"online" | "away" | "offline", boolean>>',
        "open": "Record<string, unknown>",
        "either": "string | number[]",
        "options": "Option[]",
        "tree": "Tree",
        "defaulted": "number",
        "unset?": "string",
    }


def test_what_is_said_may_leave_out_what_has_a_default() -> None:
    assert members("Asked") == {"option": "OptionInput", "n?": "number"}
    assert members("OptionInput") == {"label": "string", "votes?": "number", "note?": "string"}
    assert members("Option") == {"label": "string", "votes": "number", "note?": "string"}


def test_the_maps_have_what_is_handed_out_and_what_can_be_asked() -> None:
    registry = Jackfield.from_environ(ENVIRON).events
    own = {'"every.thing"', '"promised"', '"client.seen"'}
    assert set(members("Events")) == {f'"{type}"' for type in registry.server() if type != "pong"} | own
    asked = {'"asked"', '"emptied"'}
    assert set(members("Requests")) == {f'"{type}"' for type in registry.client() if type != "ping"} | asked
    assert members("Events")['"message.new"'] == "MessageNew"
    assert members("Requests")['"asked"'] == "Asked"


def test_no_name_is_there_twice() -> None:
    declared = re.findall(r"^export (?:declare )?(?:class|function|interface|type) (\w+)", written(), re.MULTILINE)
    assert len(declared) == len(set(declared))
    assert members("Events")['"promised"'] == "PromiseData"
    assert members("Events")['"client.seen"'] == "ClientData"
    assert members("ClientData") == {"v": "number"}


def test_what_has_no_field_takes_none() -> None:
    assert "export type Empty = Record<string, never>;\n" in written()


def test_what_the_author_says_stands_above_it() -> None:
    assert (
        "/**\n * A field of every kind; and *\u200b/ ends nothing.\n *\n * In two paragraphs.\n */\n"
        "export interface Everything {\n  /** Said of the text. */\n  text: string;\n  id: Id;\n"
    ) in written()


def test_codes_are_offered_and_others_are_taken() -> None:
    code = members("Error")["code"]
    assert code.startswith('"INVALID_TOKEN" | "UNAUTHORIZED" | ')
    assert code.endswith(" | (string & {})")


def test_it_goes_with_the_client() -> None:
    assert "export declare function connect<" in written()
    assert re.search(r"^export function connect\(", script(), re.MULTILINE)


@pytest.mark.parametrize("name", ["jackfield.js", "client.d.ts"])
def test_what_a_browser_needs_is_beside_the_package(name: str) -> None:
    from importlib.resources import files

    assert files("jackfield.browser").joinpath(name).is_file()
