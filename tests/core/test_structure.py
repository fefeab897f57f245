"""Fields of every kind that an author may give an event: read strictly, written without nulls. Pure.

What the specification's own events do on the wire stands in `tests/wire`.
"""

from __future__ import annotations

import collections
import json
import types
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence, Set
from datetime import UTC, datetime
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Dict, List, Literal, NewType, Optional, TypedDict, Union  # noqa: UP035

import attrs
import orjson
import pytest

from jackfield import ClientEvent, ConfigurationError, InvalidEvent, Refused, ServerEvent
from jackfield._registry import Registry
from jackfield._wire import Rejected, Wire
from jackfield.errors import Fault
from jackfield.events import JSON, Event, Id, MessageNew, Ping, Shape, Status, Timestamp


class Color(Enum):
    RED = "red"


class Flavour(StrEnum):
    TEA = "tea"


class Tone(str, Enum):  # noqa: UP042
    HIGH = "high"


class Level(IntEnum):
    LOW = 1


class Ratio(float, Enum):
    HALF = 0.5


UserName = NewType("UserName", str)


@attrs.frozen
class Option:
    """A class inside of an event."""

    label: str
    votes: int = 0
    note: str | None = None


@attrs.frozen
class Node:
    """A class that has itself inside."""

    name: str
    children: Sequence[Node] = attrs.field(factory=list)


@attrs.frozen
class Tree:
    """A class that may have itself inside."""

    left: Tree | None = None


class Place(TypedDict):
    x: int


def event_with(annotation: object, **field: Any) -> type[ClientEvent]:
    """An event with one field, `v`, of this kind."""

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = {"v": annotation}
        namespace["__module__"] = __name__
        if field:
            namespace["v"] = attrs.field(**field)

    return types.new_class("OneField", (ClientEvent,), {"type": "one.field"}, fill)  # type: ignore[no-any-return]


def wire_with(*events: type[Event]) -> Wire:
    registry = Registry()
    for event in events:
        registry.add("tests", event)
    return Wire(registry, max_bytes=16384)


def read(annotation: object, value: object) -> Any:
    """What the field becomes."""
    wire = wire_with(event_with(annotation))
    return wire.decode(json.dumps({"type": "one.field", "v": value}), "w").event.v  # type: ignore[attr-defined]


def detail(annotation: object, value: object) -> str | None:
    """How it is refused."""
    with pytest.raises(Rejected) as caught:
        read(annotation, value)
    return caught.value.refused.detail


STRING = "expected a string"
BOOL = "expected true or false"
INTEGER = "expected an integer within ±2^53"
NUMBER = "expected a number"
ARRAY = "expected an array"
OBJECT = "expected an object"
ID = "expected an id: 1 to 128 of A-Z a-z 0-9 . _ : @ -"

TAKEN: list[tuple[object, object, object]] = [
    (str, "", ""),
    (str, "👍\x00", "👍\x00"),
    (Annotated[str, "a remark"], "a", "a"),
    (UserName, "a", "a"),
    (bool, True, True),
    (bool, False, False),
    (int, 0, 0),
    (int, 2**53, 2**53),
    (int, -(2**53), -(2**53)),
    (float, 1.5, 1.5),
    (float, 1, 1.0),
    (Id, "a", "a"),
    (Annotated[str, "a remark", Shape("[a-z]", "expected a letter")], "a", "a"),
    (Status, "away", "away"),
    (Literal[1, "one", True], 1, 1),
    (Literal[1, "one", True], True, True),
    (Timestamp, "2024-01-01T12:00:00.000Z", "2024-01-01T12:00:00.000Z"),
    (Timestamp, "2024-01-01T12:00:00+02:00", "2024-01-01T12:00:00+02:00"),
    (str | None, "a", "a"),
    (Optional[int], 1, 1),  # noqa: UP045
    (Union[int, None], 1, 1),  # noqa: UP007
    (Id | None, "a", "a"),
    (Sequence[int] | None, [1], [1]),
    (int | str, 1, 1),
    (int | str, "a", "a"),
    (int | str | None, "a", "a"),
    (str | Sequence[str], ["a"], ["a"]),
    (str | Sequence[str], "a", "a"),
    (Option | None, {"label": "tea"}, Option("tea")),
    (JSON, None, None),
    (JSON, {"a": [1, None, {"b": 2**60}]}, {"a": [1, None, {"b": 2**60}]}),
    (Sequence[str], [], []),
    (Sequence[str], ["a"], ["a"]),
    (Sequence[JSON], [None, [1]], [None, [1]]),
    (Sequence, [1], [1]),
    (MutableSequence[int], [1], [1]),
    (Collection[int], [1], [1]),
    (Iterable[int], [1], [1]),
    (list, [1, "a"], [1, "a"]),
    (list[int], [1], [1]),
    (List[int], [1], [1]),  # noqa: UP006
    (list[list[int]], [[1], []], [[1], []]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple, [1, "a"], (1, "a")),
    (set[str], ["a", "a"], {"a"}),
    (frozenset[str], ["a"], frozenset({"a"})),
    (Set[str], ["a"], frozenset({"a"})),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (Mapping[str, JSON], {"a": None}, {"a": None}),
    (Mapping, {"a": None}, {"a": None}),
    (MutableMapping[str, int], {"a": 1}, {"a": 1}),
    (dict, {"a": None}, {"a": None}),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (Dict[str, int], {"a": 1}, {"a": 1}),  # noqa: UP006
    (dict[Id, Sequence[Id]], {"a": ["b"]}, {"a": ["b"]}),
    (Option, {"label": "tea"}, Option("tea")),
    (Option, {"label": "tea", "votes": 2, "note": "x", "more": 1}, Option("tea", 2, "x")),
    (Sequence[Option], [{"label": "tea"}], [Option("tea")]),
    (Mapping[str, Option], {"a": {"label": "tea"}}, {"a": Option("tea")}),
    (Node, {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
    (Place, {"x": 1}, {"x": 1}),
    (Color, "red", Color.RED),
    (Flavour, "tea", Flavour.TEA),
    (Tone, "high", Tone.HIGH),
    (Level, 1, Level.LOW),
    (Ratio, 0.5, Ratio.HALF),
    (Sequence[Color], ["red"], [Color.RED]),
    (Tree, {"left": {"left": {}}}, Tree(Tree(Tree()))),
    (Option | Node, {"name": "a"}, Node("a")),
    (Option | Node, {"label": "a"}, Option("a")),
    (Option | Node | None, {"label": "a"}, Option("a")),
    (datetime, "2024-01-01T12:00:00+00:00", datetime(2024, 1, 1, 12, tzinfo=UTC)),
]

REFUSED: list[tuple[object, object, str]] = [
    (str, 1, f"$.v: {STRING}"),
    (str, None, f"$.v: {STRING}"),
    (Option | Node | None, None, "$.v: not valid"),
    (str, ["a"], f"$.v: {STRING}"),
    (Annotated[str, "a remark"], 1, f"$.v: {STRING}"),
    (UserName, 1, f"$.v: {STRING}"),
    (bool, 1, f"$.v: {BOOL}"),
    (bool, 0, f"$.v: {BOOL}"),
    (bool, "true", f"$.v: {BOOL}"),
    (bool, None, f"$.v: {BOOL}"),
    (int, True, f"$.v: {INTEGER}"),
    (int, 1.0, f"$.v: {INTEGER}"),
    (int, "1", f"$.v: {INTEGER}"),
    (int, None, f"$.v: {INTEGER}"),
    (int, 2**53 + 1, f"$.v: {INTEGER}"),
    (int, -(2**53) - 1, f"$.v: {INTEGER}"),
    (float, True, f"$.v: {NUMBER}"),
    (float, "1.5", f"$.v: {NUMBER}"),
    (float, None, f"$.v: {NUMBER}"),
    (Id, "", f"$.v: {ID}"),
    (Id, 1, f"$.v: {ID}"),
    (Annotated[str, "a remark", Shape("[a-z]", "expected a letter")], "A", "$.v: expected a letter"),
    (Status, "busy", "$.v: expected one of online, away, offline"),
    (Status, None, "$.v: expected one of online, away, offline"),
    (Status, ["online"], "$.v: expected one of online, away, offline"),
    (Literal[1], True, "$.v: expected one of 1"),
    (Literal[True], 1, "$.v: expected one of True"),
    (Timestamp, "2024-01-01", "$.v: expected a timestamp such as 2024-01-01T12:00:00.000Z"),
    (Timestamp, "2024-01-01T12:00:00", "$.v: expected a timestamp such as 2024-01-01T12:00:00.000Z"),
    (str | None, None, f"$.v: {STRING}"),
    (str | None, 1, f"$.v: {STRING}"),
    (Id | None, "a b", f"$.v: {ID}"),
    (Sequence[int] | None, None, f"$.v: {ARRAY}"),
    (Sequence[int] | None, ["a"], f"$.v[0]: {INTEGER}"),
    (int | str, True, "$.v: not valid"),
    (int | str, 1.5, "$.v: not valid"),
    (int | str, 2**53 + 1, "$.v: not valid"),
    (int | str, None, "$.v: not valid"),
    (int | str | None, None, "$.v: not valid"),
    (str | Sequence[str], {"a": 1}, "$.v: not valid"),
    (Option | None, None, "$.v: expected an object"),
    (Sequence[str], "abc", f"$.v: {ARRAY}"),
    (Sequence[str], {"a": 1}, f"$.v: {ARRAY}"),
    (Sequence[str], None, f"$.v: {ARRAY}"),
    (Sequence[str], ["a", 1], f"$.v[1]: {STRING}"),
    (Sequence[JSON], "abc", f"$.v: {ARRAY}"),
    (Sequence, "abc", f"$.v: {ARRAY}"),
    (MutableSequence[str], "abc", f"$.v: {ARRAY}"),
    (Collection[str], "abc", f"$.v: {ARRAY}"),
    (Iterable[str], "abc", f"$.v: {ARRAY}"),
    (list, "abc", f"$.v: {ARRAY}"),
    (list[str], "abc", f"$.v: {ARRAY}"),
    (list[str], {"a": 1}, f"$.v: {ARRAY}"),
    (list[str], [1], f"$.v[0]: {STRING}"),
    (List[str], "abc", f"$.v: {ARRAY}"),  # noqa: UP006
    (list[list[int]], [[1], ["1"]], f"$.v[1][0]: {INTEGER}"),
    (list[list[int]], [{}], f"$.v[0]: {ARRAY}"),
    (tuple[str, ...], "abc", f"$.v: {ARRAY}"),
    (tuple[str, ...], [1], f"$.v[0]: {STRING}"),
    (tuple, "abc", f"$.v: {ARRAY}"),
    (set[str], "abc", f"$.v: {ARRAY}"),
    (set[str], {"a": 1}, f"$.v: {ARRAY}"),
    (frozenset[str], "abc", f"$.v: {ARRAY}"),
    (Set[str], "abc", f"$.v: {ARRAY}"),
    (set[JSON], [[1]], "$.v: not valid"),
    (Mapping[str, int], [], f"$.v: {OBJECT}"),
    (Mapping[str, int], [["a", 1]], f"$.v: {OBJECT}"),
    (Mapping[str, int], None, f"$.v: {OBJECT}"),
    (Mapping[str, int], {"a": "1"}, f"$.v[*]: {INTEGER}"),
    (Mapping, [], f"$.v: {OBJECT}"),
    (MutableMapping[str, int], [], f"$.v: {OBJECT}"),
    (dict, [], f"$.v: {OBJECT}"),
    (dict, [["a", 1]], f"$.v: {OBJECT}"),
    (dict[str, int], [], f"$.v: {OBJECT}"),
    (dict[str, int], {"a": True}, f"$.v[*]: {INTEGER}"),
    (Dict[str, int], [], f"$.v: {OBJECT}"),  # noqa: UP006
    (dict[Id, int], {"a b": 1}, f"$.v[*]: {ID}"),
    (Mapping[str, Sequence[int]], {"a": [1, "2"]}, f"$.v[*][1]: {INTEGER}"),
    (Option, {}, "$.v.label: required"),
    (Option, {"label": 1}, f"$.v.label: {STRING}"),
    (Option, {"label": "tea", "note": None}, f"$.v.note: {STRING}"),
    (Option, "tea", f"$.v: {OBJECT}"),
    (Option, ["tea"], f"$.v: {OBJECT}"),
    (Option, None, f"$.v: {OBJECT}"),
    (Sequence[Option], [{"label": "tea"}, {"label": 1}], f"$.v[1].label: {STRING}"),
    (Mapping[str, Option], {"a": {"label": 1}}, f"$.v[*].label: {STRING}"),
    (Node, {"name": "a", "children": [{"name": 1}]}, f"$.v.children[0].name: {STRING}"),
    (Place, {"x": "1"}, f"$.v.x: {INTEGER}"),
    (Place, {}, "$.v.x: required"),
    (Color, "blue", "$.v: expected one of red"),
    (Color, ["red"], "$.v: expected one of red"),
    (Flavour, "blue", "$.v: expected one of tea"),
    (Tone, "blue", "$.v: expected one of high"),
    (Level, 2, "$.v: expected one of 1"),
    (Level, True, "$.v: expected one of 1"),
    (Ratio, 0.25, "$.v: expected one of 0.5"),
    (Tree, {"left": {"left": 1}}, f"$.v.left.left: {OBJECT}"),
    (Option | Node, {"neither": 1}, "$.v: not valid"),
    (datetime, "yesterday", "$.v: not valid"),
    (datetime, 1, "$.v: not valid"),
]


def name_of(value: object) -> str:
    return str(value)[:48]


@pytest.mark.parametrize(("annotation", "value", "field"), TAKEN, ids=name_of)
def test_a_field_takes_what_it_is_made_for(annotation: object, value: object, field: object) -> None:
    got = read(annotation, value)
    assert got == field
    assert type(got) is type(field)


@pytest.mark.parametrize(("annotation", "value", "expected"), REFUSED, ids=name_of)
def test_a_field_coerces_nothing_and_says_where_and_what(annotation: object, value: object, expected: str) -> None:
    assert detail(annotation, value) == expected


@pytest.mark.parametrize(("annotation", "value"), [row[:2] for row in TAKEN], ids=name_of)
def test_what_was_read_is_written_as_it_was(annotation: object, value: object) -> None:
    wire = wire_with(event_with(annotation))
    event = wire.decode(json.dumps({"type": "one.field", "v": value}), "w").event
    assert wire.structure(type(event), orjson.loads(orjson.dumps(wire.data(event))), "$") == event


@pytest.mark.parametrize(
    "annotation",
    [
        pytest.param(object, id="object"),
        pytest.param(Callable[[], None], id="a function"),
        pytest.param(tuple[int, str], id="a tuple of fixed length"),
        pytest.param(Wire, id="any other class"),
        pytest.param(Sequence[object], id="an array of anything"),
    ],
)
def test_a_field_of_a_kind_that_json_has_not_stops_the_start(annotation: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        wire_with(event_with(annotation))
    assert str(caught.value) == (
        'plugin "tests": OneField ("one.field") has a field of a kind that has no form in JSON. '
        "Annotate it with str, int, float, bool, Literal, Sequence, Mapping, JSON, or an attrs class of these."
    )


# --- classes


class Choice(ServerEvent, type="choice"):
    """A class of attrs inside, with something unset."""

    option: Option
    options: Sequence[Option] = ()
    by: Option | None = None


class Derived(ClientEvent, type="derived"):
    """One that makes a field of its own, and is particular about another."""

    a: int = attrs.field(validator=attrs.validators.lt(10))
    b: int | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.a == 3:
            raise ValueError(f"{self.a} is a secret")
        if self.a == 4:
            raise Refused("4 is a secret")


class Defaults(ClientEvent, type="defaults"):
    """Every way to leave something out."""

    n: int = 5
    tags: Sequence[str] = attrs.field(factory=list[str])
    name: str | None = None
    title: str | None = "none yet"


def test_what_is_unset_in_a_class_inside_of_an_event_is_left_out_too() -> None:
    wire = wire_with(Choice)
    event = Choice(Option("tea"), [Option("mate", 1), Option("maté", note="x")])
    text = wire.encode(event, "w", 0.0)
    assert "null" not in text
    assert json.loads(text)["data"] == {
        "option": {"label": "tea", "votes": 0},
        "options": [{"label": "mate", "votes": 1}, {"label": "maté", "votes": 0, "note": "x"}],
    }
    assert wire.structure(Choice, json.loads(text)["data"], "$.data") == event


def test_what_has_a_default_may_be_left_out() -> None:
    wire = wire_with(Defaults)
    assert wire.decode('{"type":"defaults"}', "w").event == Defaults()
    assert wire.data(Defaults()) == {"n": 5, "tags": [], "title": "none yet"}


def test_a_field_that_an_event_makes_itself_is_not_read() -> None:
    wire = wire_with(Derived)
    assert wire.decode('{"type":"derived","a":1,"b":2}', "w").event == Derived(1)
    assert wire.data(Derived(1)) == {"a": 1}


@pytest.mark.parametrize("a", [3, 4, 10, 20])
def test_what_a_class_says_of_its_values_stays_with_us(a: int) -> None:
    with pytest.raises(Rejected) as caught:
        wire_with(Derived).decode(json.dumps({"type": "derived", "a": a}), "w")
    refused = caught.value.refused
    assert isinstance(refused, InvalidEvent)
    assert [fault.message for fault in refused.faults] == ["not valid"]


def test_a_missing_key_inside_of_a_value_is_no_missing_field() -> None:
    class Looked(ClientEvent, type="looked"):
        """Looks its value up."""

        v: str = attrs.field(validator=lambda _, __, value: {}[value])

    assert wire_with(Looked)
    with pytest.raises(Rejected) as caught:
        wire_with(Looked).decode('{"type":"looked","v":"a secret"}', "w")
    assert "secret" not in str(caught.value.refused.detail)


@pytest.mark.parametrize("kinds", [(Mapping[str, int], dict[str, int]), (dict[str, int], Mapping[str, int])], ids=str)
def test_one_field_makes_no_other_one_laxer(kinds: tuple[object, ...]) -> None:
    for kind in (*kinds, *kinds):
        assert detail(kind, []) == f"$.v: {OBJECT}"
        assert detail(kind, [["a", 1]]) == f"$.v: {OBJECT}"
        assert read(kind, {"a": 1}) == {"a": 1}


def test_all_that_is_wrong_is_named() -> None:
    with pytest.raises(InvalidEvent) as caught:
        wire_with().structure(MessageNew, {"id": 1, "content": None, "attachments": [], "more": 1}, "$.events[3].data")
    assert caught.value.faults == (
        Fault("$.events[3].data.id", ID),
        Fault("$.events[3].data.channel_id", "required"),
        Fault("$.events[3].data.user_id", "required"),
        Fault("$.events[3].data.content", STRING),
        Fault("$.events[3].data.created_at", "required"),
    )
    assert caught.value.detail == f"$.events[3].data.id: {ID}"


@pytest.mark.parametrize("fields", [None, [], "x", 1, True])
def test_an_event_is_made_of_an_object_only(fields: object) -> None:
    with pytest.raises(InvalidEvent) as caught:
        wire_with().structure(MessageNew, fields, "$.data")
    assert caught.value.faults == (Fault("$.data", OBJECT),)


@pytest.mark.parametrize("key", ["a secret", "a @ b secret", "'] secret ['", "secret\n", "."])
def test_a_key_that_a_client_chose_is_in_no_answer(key: str) -> None:
    wire = wire_with(event_with(Mapping[str, int]))
    with pytest.raises(Rejected) as caught:
        wire.decode(json.dumps({"type": "one.field", "v": {key: "x"}}), "w")
    assert caught.value.refused.detail == f"$.v[*]: {INTEGER}"


# --- writing


def test_a_mapping_of_any_kind_is_written_as_an_object() -> None:
    class Tallied(ServerEvent, type="tallied"):
        """Counts."""

        tally: Mapping[str, int]

    wire = wire_with(Tallied)
    for tally in ({"a": 1}, collections.Counter("a"), types.MappingProxyType({"a": 1}), collections.ChainMap({"a": 1})):
        assert json.loads(wire.encode(Tallied(tally), "w", 0.0))["data"] == {"tally": {"a": 1}}


def test_a_sequence_of_any_kind_is_written_as_an_array() -> None:
    class Listed(ServerEvent, type="listed"):
        """Lists."""

        items: Sequence[JSON]

    wire = wire_with(Listed)
    for items in ([1], (1,), collections.deque([1])):
        assert json.loads(wire.encode(Listed(items), "w", 0.0))["data"] == {"items": [1]}


def test_an_event_without_fields_has_an_empty_data() -> None:
    assert wire_with().data(Ping()) == {}


def test_an_events_own_value_is_not_changed_by_writing_it() -> None:
    event = MessageNew("m1", "c1", "alice", "hi", "2024-01-01T12:00:00.000Z")
    wire = wire_with()
    wire.data(event)["content"] = "changed"
    wire.data(event)["attachments"].append("changed")
    assert event.content == "hi"
    assert wire.data(event)["attachments"] == []
