"""TypeScript of what an application's clients say and hear: interfaces made of its AsyncAPI document, and behind them
the declarations of `jackfield.js`, which are the same for all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jackfield.schema import asyncapi

if TYPE_CHECKING:
    from jackfield import Jackfield

__all__ = ["types"]

Schema = Mapping[str, Any]

HEAD = """\
// What this application's clients say and hear. Printed by `jackfield types`; do not edit.
"""
UNANSWERED = ("ping",)
"""No request: the client says it by itself, and it gets no `ack`."""
BARE = ("pong",)
"""It has no data."""
WORDS = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
TAKEN = {"Events", "Exclude", "Partial", "Promise", "Record", "Requests", "URL", "WebSocket"}
"""Names that mean something else in the file; so do those that the client's half declares."""


def types(app: Jackfield) -> str:
    """The declarations of an application: `Events` and `Requests` by type, an interface for the data of each, and the
    client's own. They go beside `jackfield.js`, as `jackfield.d.ts`."""
    client = files("jackfield.browser").joinpath("client.d.ts").read_text("utf-8")
    taken = TAKEN | set(
        re.findall(r"^export (?:declare )?(?:class|function|interface|type) (\w+)", client, re.MULTILINE)
    )
    return "\n".join((HEAD, *_Declarations(asyncapi(app), taken).lines(), client))


class _Declarations:
    """Those of a document's schemas; `taken` are names that none of them may have."""

    def __init__(self, document: Mapping[str, Any], taken: set[str]) -> None:
        components = document["components"]
        self._schemas: Mapping[str, Schema] = components["schemas"]
        self._messages: Mapping[str, Any] = components["messages"]
        self._names: dict[str, str] = {}
        for name in self._schemas:
            free = name
            while free in taken or free in self._names.values():
                free += "Data"
            self._names[name] = free
        operations = document["operations"]
        self._said = [type for type in _types_of(operations["say"]) if type not in UNANSWERED]
        self._heard = [type for type in _types_of(operations["hear"]) if type not in BARE]

    def lines(self) -> Iterator[str]:
        for name, schema in self._schemas.items():
            yield from self._interface(self._names[name], schema)
            yield ""
        yield from self._map("Events", "What the server says: data by type.", self._heard)
        yield ""
        yield from self._map("Requests", "What a client may say: data by type.", self._said)
        yield ""

    def _map(self, name: str, text: str, types: list[str]) -> Iterator[str]:
        yield from _remark(text, "")
        yield f"export interface {name} {{"
        for type in types:
            message = self._messages[type]
            yield from _remark(message.get("summary", ""), "  ")
            yield f"  {json.dumps(type)}: {self._of(_data(message['payload']))};"
        yield "}"

    def _interface(self, name: str, schema: Schema) -> Iterator[str]:
        yield from _remark(schema.get("description", ""), "")
        if not schema.get("properties"):
            is_empty = schema.get("type") == "object"
            yield f"export type {name} = {'Record<string, never>' if is_empty else self._of(schema)};"
            return
        yield f"export interface {name} {{"
        for field, inner in schema["properties"].items():
            yield from _remark(inner.get("description", ""), "  ")
            yield f"  {_key(field, schema)}: {self._of(inner)};"
        yield "}"

    def _of(self, schema: Schema) -> str:
        """The type of what a schema takes."""
        if "$ref" in schema:
            return self._names[_last(schema)]
        if "const" in schema or "enum" in schema:
            return " | ".join(json.dumps(one, ensure_ascii=False) for one in schema.get("enum", [schema.get("const")]))
        if "anyOf" in schema:
            return " | ".join(dict.fromkeys(map(self._of, schema["anyOf"])))
        if "not" in schema:
            return "never"
        match schema.get("type"):
            case "object":
                return self._object(schema)
            case "array":
                item = self._of(schema["items"]) if "items" in schema else "unknown"
                return f"({item})[]" if " | " in item else f"{item}[]"
            case "string" if len(known := schema.get("examples", ())) > 1:
                return " | ".join((*map(json.dumps, known), "(string & {})"))
            case str(word):
                return WORDS[word]
            case _:
                return self._of(schema["allOf"][0]) if "allOf" in schema else "unknown"

    def _object(self, schema: Schema) -> str:
        more = schema.get("additionalProperties")
        values = "unknown" if more in (None, True) else self._of(more)
        if not (properties := schema.get("properties")):
            key = self._of(schema.get("propertyNames", {"type": "string"}))
            # Where only some words are keys, not every one of them has to be there.
            record = f"Record<{key}, {values}>"
            return f"Partial<{record}>" if key.startswith('"') else record
        members = [f"{_key(name, schema)}: {self._of(inner)}" for name, inner in properties.items()]
        if more is not None:
            members.append(f"[more: string]: {values}")
        return "{ " + "; ".join(members) + " }"


def _types_of(operation: Mapping[str, Any]) -> list[str]:
    return [_last(message) for message in operation["messages"]]


def _data(payload: Schema) -> Schema:
    """The schema of a message's fields."""
    if "data" in payload["properties"]:
        data: Schema = payload["properties"]["data"]
        return data
    inside: Schema = payload["anyOf"][1]["properties"]["data"]
    return inside


def _last(pointer: Schema) -> str:
    name: str = pointer["$ref"].rpartition("/")[2]
    return name


def _key(name: str, schema: Schema) -> str:
    quoted = name if re.fullmatch(r"[A-Za-z_$][\w$]*", name, re.ASCII) else json.dumps(name)
    return quoted if name in schema.get("required", ()) else f"{quoted}?"


def _remark(text: str, indent: str) -> Iterator[str]:
    lines = text.replace("*/", "*\u200b/").splitlines()
    if len(lines) == 1:
        yield f"{indent}/** {lines[0]} */"
    elif lines:
        yield f"{indent}/**"
        yield from (f"{indent} * {line}".rstrip() for line in lines)
        yield f"{indent} */"
