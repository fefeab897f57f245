"""An example of a schema is one that it takes, or there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import attrs
import pytest

from jackfield.events import JSON, Id, Shape, Timestamp
from jackfield.schema._example import NoExample, example
from jackfield.schema._json_schema import Schemas
from tests.core.test_structure import TAKEN, Node, Option, Tree, name_of
from tests.schema.validators import Draft2020


def of(kind: object, name: str = "v") -> Any:
    """An example of a field of that kind, which is seen to be one."""
    schemas = Schemas("#/$defs/")
    schema = schemas.of(kind, sent=True)
    found = example(schema, schemas.named, name)
    Draft2020({"allOf": [schema], "$defs": schemas.named}).validate(found)
    return found


@pytest.mark.parametrize("kind", list({str(row[0]): row[0] for row in TAKEN}.values()), ids=name_of)
def test_every_kind_has_one(kind: object) -> None:
    of(kind)


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        (Id, "channel_id", "channel-uuid"),
        (Id, "parent_message_id", "message-uuid"),
        (Id, "created_by", "user-uuid"),
        (Timestamp, "created_at", "2024-01-01T12:00:00.000Z"),
        (str, "emoji", "👍"),
        (str, "", "text"),
        (int, "reply_count", 5),
        (Sequence[str], "names", ["general"]),
        (Sequence[JSON], "attachments", []),
        (Mapping[Literal["a", "b"], bool], "votes", {"a": True}),
        (Mapping[Id, int], "votes", {"key": 1}),
        (Option, "option", {"label": "label", "votes": 1}),
        (Tree, "tree", {"left": {}}),
        (Annotated[str, Shape("#[0-9a-f]{6}", "")], "colour", "#336699"),
    ],
    ids=name_of,
)
def test_it_says_what_the_specification_would(kind: object, name: str, found: object) -> None:
    assert of(kind, name) == found


def test_what_has_itself_inside_comes_to_an_end() -> None:
    assert str(of(Node)).endswith("'children': []}]}]}")


@attrs.frozen
class Endless:
    """Nobody can ever say it."""

    inner: Endless


@pytest.mark.parametrize(
    "kind",
    [
        Endless,
        Annotated[str, Shape("q{3}w{7}", "expected something odd")],
        Annotated[str, Shape("(?i)a", "expected an a")],
        Annotated[str, Shape("(?P<a>x)(?P=a)", "expected what Python spells in another way")],
    ],
    ids=name_of,
)
def test_where_none_is_known_there_is_none(kind: object) -> None:
    with pytest.raises(NoExample):
        of(kind)
