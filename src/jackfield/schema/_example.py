"""An example of what a schema describes, always the same one, in the words of the specification where it can. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

__all__ = ["NoExample", "example"]

Schema = Mapping[str, Any]

DEPTH = 8
WORDS: Mapping[str, Any] = {
    "content": "Hello, world!",
    "created_by": "user-uuid",
    "description": "What it is about",
    "emoji": "👍",
    "name": "general",
    "reply_count": 5,
    "token": "eyJhbGciOi…",
    "type": "public",
}
# For a pattern: the first that matches.
TEXTS = (
    "2024-01-01T12:00:00.000Z",
    *("a", "A", "1", "ab", "AB", "12", "abc", "ABC", "123", "1234", "a1", "A1", "en", "en-US", "EUR", "a-b", "a_b"),
    *("#336699", "336699", "0x1f", "1.5", "1.2.3", "+15550100", "12:00", "12:00:00", "2024-01-01", "127.0.0.1"),
    *("alice@example.com", "@alice", "#general", ":tada:", "example.com", "https://example.com/", "/a/b", "a/b"),
    *("3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3f2504e04f8941d39a0c0305e82c3301", "text/plain", "poll:lunch", "👍"),
)


class NoExample(Exception):
    """None was found."""


def example(schema: Mapping[str, Any], named: Mapping[str, Any], name: str = "", depth: int = 0) -> Any:
    """Something that the schema takes, for a field called `name`. `named` are the schemas that `$ref` points at, by the
    last word of it.

    Raises NoExample, for a pattern that nobody thought of.
    """
    if depth > DEPTH:
        raise NoExample
    if "$ref" in schema:
        return example(named[schema["$ref"].rpartition("/")[2]], named, name, depth + 1)
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], named, name, depth + 1)
    if "allOf" in schema and "type" not in schema:
        return example(schema["allOf"][0], named, name, depth + 1)
    match schema.get("type"):
        case "object":
            return dict(_members(schema, named, depth))
        case "array":
            return _items(schema, named, name, depth)
        case "string":
            return _text(schema, name)
        case "integer":
            return WORDS.get(name, 1)
        case "number":
            return 1.5
        case "boolean":
            return True
        case _:
            return {}


def _members(schema: Mapping[str, Any], named: Mapping[str, Any], depth: int) -> Iterator[tuple[str, Any]]:
    required: list[str] = schema.get("required", [])
    for name, inner in schema.get("properties", {}).items():
        if name in required:
            yield name, example(inner, named, _owned(name, schema), depth + 1)
        elif len(required) < 2 and depth < 3:  # what is optional is all that it has to say
            yield name, example(inner, named, name, depth + 1)
    values = schema.get("additionalProperties")
    if not schema.get("properties") and isinstance(values, dict):
        key = example(schema.get("propertyNames", {"type": "string"}), named, "key", depth + 1)
        yield key, example(cast("Schema", values), named, "", depth + 1)


def _owned(name: str, schema: Mapping[str, Any]) -> str:
    """An `id` alone is that of what its class speaks of: of a MessageNew, message_id."""
    words = re.findall("[A-Z][a-z0-9]*", schema.get("title", ""))
    return f"{words[0].lower()}_id" if name == "id" and words else name


def _items(schema: Mapping[str, Any], named: Mapping[str, Any], name: str, depth: int) -> list[Any]:
    if "items" not in schema:
        return []
    try:
        return [example(schema["items"], named, name.removesuffix("s"), depth + 1)]
    except NoExample:  # what has itself inside ends with none of it
        return []


def _text(schema: Mapping[str, Any], name: str) -> str:
    guess = WORDS.get(name, f"{name.removesuffix('_id').rpartition('_')[2]}-uuid" if name.endswith("_id") else name)
    if "x-python-pattern" in schema:
        raise NoExample
    patterns = [one["pattern"] for one in (schema, *schema.get("allOf", ())) if "pattern" in one]
    if not patterns:
        return {"date-time": TEXTS[0], "date": "2024-01-01"}.get(schema.get("format", ""), guess or "text")
    for text in (guess, *TEXTS):
        if isinstance(text, str) and all(_matches(pattern, text) for pattern in patterns):
            return text
    raise NoExample


def _matches(pattern: str, text: str) -> bool:
    """Of a pattern of ECMA-262, as far as Python reads it."""
    try:
        return re.fullmatch(pattern, text) is not None
    except re.error:
        return False
