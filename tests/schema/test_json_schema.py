"""The JSON Schema of a field takes exactly what the wire takes for it."""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from jackfield import ClientEvent, InvalidEvent, ServerEvent
from jackfield._registry import Registry
from jackfield._wire import Wire
from jackfield.events import JSON, Event, Id, MessageNew, Shape, Status, Timestamp
from jackfield.schema import json_schema
from jackfield.schema._json_schema import Schemas
from tests.core.test_structure import REFUSED, TAKEN, Callable, Node, Option, Tree, event_with, name_of, wire_with
from tests.schema.validators import Draft2020

T = TypeVar("T")


def schema_of(annotation: object, *, sent: bool = False) -> dict[str, Any]:
    """Of a field of that kind."""
    whole = json_schema(event_with(annotation), sent=sent)
    return {**whole["properties"]["v"], **({"$defs": whole["$defs"]} if "$defs" in whole else {})}


def takes(event: type[Event], data: object) -> bool:
    """By its schema."""
    return bool(Draft2020(json_schema(event)).is_valid(data))


def reads(event: type[Event], data: object) -> bool:
    """By the wire."""
    try:
        wire_of(event).structure(event, data, "$")
    except InvalidEvent:
        return False
    return True


@cache
def wire_of(event: type[Event]) -> Wire:
    return wire_with(event) if event.__event__.type not in Registry() else wire_with()


def has_whole_float(value: object) -> bool:
    """`1.0`: JSON Schema cannot tell it from 1."""
    if isinstance(value, dict):
        return any(map(has_whole_float, value.values()))
    if isinstance(value, list):
        return any(map(has_whole_float, value))
    return isinstance(value, float) and value.is_integer()


# A form that JSON Schema knows by name only, and what Python cannot put into a set.
UNTOLD = [("yesterday", datetime), ([[1]], set[JSON])]


def rows() -> list[Any]:
    pairs = [row[:2] for row in (*TAKEN, *REFUSED)]
    return [pair for pair in pairs if pair[::-1] not in UNTOLD and not has_whole_float(pair[1])]


@pytest.mark.parametrize(("annotation", "value"), rows(), ids=name_of)
def test_a_field_takes_what_the_wire_takes(annotation: object, value: object) -> None:
    event = event_with(annotation)
    assert takes(event, {"v": value}) is reads(event, {"v": value})
    Draft2020.check_schema(json_schema(event))


KINDS = list({str(row[0]): row[0] for row in (*TAKEN, *REFUSED)}.values())
VALUES = st.sampled_from([row[1] for row in (*TAKEN, *REFUSED)])
ANYTHING = st.recursive(
    VALUES | st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["v", "label", "name", "children", "left", "x", "a"]) | st.text(), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@given(kind=st.sampled_from(KINDS), value=ANYTHING)
def test_whatever_is_said_for_whatever_kind(kind: object, value: object) -> None:
    assume(kind not in (datetime, set[JSON]))
    assume(not has_whole_float(value))
    event = event_with(kind)
    assert takes(event, {"v": value}) is reads(event, {"v": value})


VOCABULARY = {type: event for type, event in Registry().items() if type not in ("hello", "pong", "ack", "error")}
GOOD: Mapping[str, Any] = {"status": "away", "reply_count": 3, "is_typing": True, "attachments": [], "reactions": [{}]}
FIELDS = st.sampled_from(sorted({field.name for event in VOCABULARY.values() for field in attrs.fields(event)}))


@given(
    event=st.sampled_from(list(VOCABULARY.values())),
    changed=st.dictionaries(FIELDS, ANYTHING | st.just("2024-01-01T12:00:00Z"), max_size=2),
    missing=st.sets(FIELDS, max_size=1),
)
def test_whatever_is_said_for_an_event_of_the_specification(
    event: type[Event], changed: dict[str, Any], missing: set[str]
) -> None:
    assume(not has_whole_float(changed))
    whole = {
        field.name: "2024-01-01T12:00:00.000Z" if field.name.endswith("_at") else GOOD.get(field.name, "x")
        for field in attrs.fields(event)
    }
    assert takes(event, whole)
    data = {name: value for name, value in {**whole, **changed}.items() if name not in missing}
    assert takes(event, data) is reads(event, data)


# --- what it looks like


def test_an_event() -> None:
    assert json_schema(MessageNew) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "MessageNew",
        "type": "object",
        "description": "New message sent to a channel or DM.",
        "properties": {
            "id": {"$ref": "#/$defs/Id"},
            "channel_id": {"$ref": "#/$defs/Id"},
            "user_id": {"$ref": "#/$defs/Id"},
            "content": {"type": "string"},
            "attachments": {"type": "array", "default": []},
            "reactions": {"type": "array", "default": []},
            "created_at": {"$ref": "#/$defs/Timestamp"},
            "parent_message_id": {"$ref": "#/$defs/Id"},
        },
        "required": ["id", "channel_id", "user_id", "content", "created_at"],
        "$defs": {
            "Id": {
                "title": "Id",
                "type": "string",
                "description": "An id: 1 to 128 of A-Z a-z 0-9 . _ : @ -",
                "pattern": "^[A-Za-z0-9._:@-]{1,128}$",
            },
            "Timestamp": {
                "title": "Timestamp",
                "type": "string",
                "description": "A timestamp such as 2024-01-01T12:00:00.000Z",
                "pattern": "^(?:[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:"
                "([0-5][0-9]|60)(\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))$",
            },
        },
    }


def test_what_the_server_writes_is_all_there_but_what_is_none() -> None:
    sent = json_schema(MessageNew, sent=True)
    assert set(sent["properties"]) - set(sent["required"]) == {"parent_message_id"}
    assert "default" not in json.dumps(sent)


UserName = NewType("UserName", str)


class Place(TypedDict, total=False):
    """Where something is."""

    x: int


@attrs.frozen
class Page(Generic[T]):
    """Some of more."""

    items: Sequence[T]
    first: T
    last: T | None = None
    own: int = attrs.field(default=1, init=False)


class Mood(Enum):
    """How it is."""

    GOOD = "good"
    COUNT = 2
    NEVER = object()


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (UserName, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (int, {"type": "integer", "minimum": -(2**53), "maximum": 2**53}),
        (float, {"type": "number"}),
        (Status, {"type": "string", "enum": ["online", "away", "offline"]}),
        (Literal["on"], {"type": "string", "const": "on"}),
        (Literal[1, "a"], {"enum": [1, "a"]}),
        (Literal[Mood.GOOD], {"not": {}}),
        (Mood, {"enum": ["good", 2]}),
        (str | bool | None, {"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
        (JSON, {}),
        (Sequence[JSON], {"type": "array"}),
        (set[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[bool, ...], {"type": "array", "items": {"type": "boolean"}}),
        (Mapping[str, JSON], {"type": "object"}),
        (
            Mapping[Status, bool],
            {
                "type": "object",
                "propertyNames": {"type": "string", "enum": ["online", "away", "offline"]},
                "additionalProperties": {"type": "boolean"},
            },
        ),
        (
            Annotated[str, Shape(r"#[\da-f]{6}", "expected a colour")],
            {"type": "string", "description": "A colour", "pattern": "^#[0-9a-f]{6}$"},
        ),
        (
            Annotated[str, Shape("(?i)a+", "expected a's")],
            {"type": "string", "description": "A's", "x-python-pattern": "(?i)a+"},
        ),
        (
            Annotated[str, Shape("a.*", "expected an a, and a z"), Shape(".*z", "not said")],
            {
                "type": "string",
                "description": "An a, and a z",
                "pattern": r"^a[^\n]*$",
                "allOf": [{"pattern": r"^[^\n]*z$"}],
            },
        ),
    ],
    ids=name_of,
)
def test_a_kind(annotation: object, schema: dict[str, Any]) -> None:
    assert schema_of(annotation) == schema


def test_classes_have_names_and_may_have_themselves_inside() -> None:
    schema = schema_of(Tree | None)
    assert schema["$ref"] == "#/$defs/Tree"
    assert schema["$defs"]["Tree"]["properties"] == {"left": {"$ref": "#/$defs/Tree"}}


def test_what_is_inside_is_another_one_read_than_written() -> None:
    read, sent = schema_of(Sequence[Option]), schema_of(Sequence[Option], sent=True)
    assert read["items"] == {"$ref": "#/$defs/OptionInput"}
    assert read["$defs"]["OptionInput"]["required"] == ["label"]
    assert read["$defs"]["OptionInput"]["properties"]["votes"]["default"] == 0
    assert sent["items"] == {"$ref": "#/$defs/Option"}
    assert sent["$defs"]["Option"]["required"] == ["label", "votes"]


def test_a_class_with_a_variable() -> None:
    schema = schema_of(Page[Node], sent=True)
    assert schema["$ref"] == "#/$defs/PageNode"
    node = {"$ref": "#/$defs/Node"}
    assert schema["$defs"]["PageNode"]["properties"] == {
        "items": {"type": "array", "items": node},
        "first": node,
        "last": node,
    }


def test_a_typed_dict() -> None:
    schema = schema_of(Place)
    assert schema["$ref"] == "#/$defs/Place"
    assert schema["$defs"]["Place"]["description"] == "Where something is."
    assert "required" not in schema["$defs"]["Place"]


@dataclasses.dataclass
class Spot:
    """Where something stands."""

    x: int
    y: int = 0
    tags: Sequence[str] = dataclasses.field(default_factory=list)
    own: int = dataclasses.field(default=1, init=False)


def test_a_dataclass() -> None:
    schema = schema_of(Spot)["$defs"]["SpotInput"]
    assert list(schema["properties"]) == ["x", "y", "tags"]
    assert schema["required"] == ["x"]
    assert schema["properties"]["y"]["default"] == 0
    assert schema_of(Spot, sent=True)["$defs"]["Spot"]["required"] == ["x", "y", "tags"]


class Strict(TypedDict):
    """Of which one may be missing."""

    x: int
    y: NotRequired[int]


def test_what_may_be_missing_of_a_typed_dict() -> None:
    schema = schema_of(Strict)["$defs"]["Strict"]
    assert schema["required"] == ["x"]
    assert schema["properties"]["y"]["type"] == "integer"


def test_an_alias_of_python_3_12() -> None:
    assert Schemas("#/").of(TypeAliasType("Name", str), sent=True) == {"type": "string"}


def test_a_kind_that_cattrs_alone_knows_is_anything() -> None:
    assert schema_of(deque[int]) == {"description": "As collections.deque[int] is written."}


class Defaults(ClientEvent, type="defaults.all"):
    """Every kind of default."""

    text: str = "a"
    flag: bool = False
    mood: Mood = Mood.GOOD
    made: Sequence[str] = attrs.field(factory=list)
    empty: Mapping[str, int] = attrs.field(factory=dict)
    full: Sequence[str] = ("a",)
    option: Option = Option("tea")
    own: int = attrs.field(default=attrs.Factory(lambda self: len(self.text), takes_self=True))
    unset: str | None = None


def test_the_defaults_that_json_has_are_told() -> None:
    told = {name: one["default"] for name, one in json_schema(Defaults)["properties"].items() if "default" in one}
    assert told == {"text": "a", "flag": False, "mood": "good", "made": [], "empty": {}}
    assert "required" not in json_schema(Defaults)


def test_two_classes_of_one_name_stay_two() -> None:
    first, second = (attrs.make_class("Thing", {"a": attrs.field(type=kind)}) for kind in (str, Id))

    class Both(ClientEvent, type="both"):
        """Has the two."""

        one: first  # type: ignore[valid-type]
        two: second  # type: ignore[valid-type]

    Both.__annotations__ = {"one": first, "two": second}
    schema = json_schema(Both)
    assert schema["properties"]["one"] == {"$ref": "#/$defs/Thing"}
    assert schema["properties"]["two"] == {"$ref": "#/$defs/Thing2"}


class Written(ServerEvent, type="written"):
    """What an author says of his event,
    on two lines.

    And more.
    """

    plain: str
    """In one field."""
    pointed: Id
    """Whose
    it is."""
    silent: int = 3


class Derived(Written, type="written.again"):
    more: str | None = None
    """Of its own."""


def test_what_an_author_says_is_in_it() -> None:
    schema = json_schema(Written)
    assert schema["description"] == "What an author says of his event, on two lines.\n\nAnd more."
    assert schema["properties"]["plain"]["description"] == "In one field."
    # Beside a pointer older readers see nothing else.
    assert schema["properties"]["pointed"] == {"description": "Whose it is.", "allOf": [{"$ref": "#/$defs/Id"}]}
    assert "description" not in schema["properties"]["silent"]


def test_what_a_base_says_of_its_fields_holds_for_all_of_its_kind_and_what_it_says_of_itself_does_not() -> None:
    schema = json_schema(Derived)
    assert "description" not in schema
    assert schema["properties"]["plain"]["description"] == "In one field."
    assert schema["properties"]["more"]["description"] == "Of its own."


def test_a_class_without_a_source_is_described_without_it() -> None:
    namespace: dict[str, Any] = {"ClientEvent": ClientEvent, "__name__": "nowhere"}
    exec('class Said(ClientEvent, type="said"):\n    a: str\n    """Of a."""\n', namespace)
    assert json_schema(namespace["Said"])["properties"] == {"a": {"type": "string"}}


@pytest.mark.parametrize("annotation", [object, Callable[[], None], tuple[int, str]], ids=name_of)
def test_a_kind_that_json_has_not_is_refused(annotation: object) -> None:
    with pytest.raises(TypeError, match=r"^OneField has a field of a kind that has no form in JSON$"):
        json_schema(event_with(annotation))


def test_a_timestamp_is_the_wires() -> None:
    for text in ("2024-01-01T12:00:00.000Z", "2024-01-01T12:00:00+02:00", "2024-01-01T12:00:60Z"):
        assert takes(event_with(Timestamp), {"v": text})
    for text in ("2024-01-01", "2024-01-01T12:00:00", "2024-13-01T12:00:00Z", "2024-01-01T12:00:00Z\n", "٢024"):
        assert not takes(event_with(Timestamp), {"v": text})
