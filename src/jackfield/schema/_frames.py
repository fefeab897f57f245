"""The frames of the wire: what stands round the fields of an event, in both directions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import attrs

from jackfield._cursor import MAX_CHARACTERS, Reason
from jackfield._structure import MAX_INTEGER
from jackfield._wire import MAX_REF
from jackfield.events import Ack, ClientEvent, Error, Hello, Id, Pong, ServerEvent, Timestamp
from jackfield.schema._json_schema import Schema, Schemas, told

__all__ = ["Frames"]

COUNT: Schema = {"type": "integer", "minimum": 0}
REF: Schema = {
    "description": "The client's own mark of what it says, by which it knows the answer.",
    "anyOf": [
        {"type": "string", "maxLength": MAX_REF},
        {"type": "integer", "minimum": -MAX_INTEGER, "maximum": MAX_INTEGER},
    ],
    "examples": ["r1"],
}
CURSOR: Schema = {
    "description": "Where the client stands, for `?resume=`. Only on a connection that asked by it.",
    "type": "string",
    "maxLength": MAX_CHARACTERS,
}
RESUME: Schema = {
    "description": "What became of the cursor that the client brought; only where it brought one.",
    "anyOf": [
        {
            "description": "All that it missed follows.",
            "type": "object",
            "properties": {"recovered": {"type": "boolean", "const": True}, "replayed": COUNT},
            "required": ["recovered", "replayed"],
        },
        {
            "description": "Nothing is replayed: it has to load its state afresh.",
            "type": "object",
            "properties": {
                "recovered": {"type": "boolean", "const": False},
                "reason": {"type": "string", "enum": list(get_args(Reason))},
            },
            "required": ["recovered", "reason"],
        },
    ],
}


@attrs.frozen
class Frames:
    """Makes them, of one application. `codes` are those of its errors, and what each says; `states` are the plugins
    that may say something in `hello`."""

    schemas: Schemas
    codes: Mapping[str, str]
    states: Sequence[str]
    heartbeat_interval_ms: int
    limits: Mapping[str, int]

    def of_client(self, event: type[ClientEvent]) -> Schema:
        """What a client says: the fields flat beside `type`, or all of them in `data`."""
        fields = self.schemas.ref(event, sent=False)
        flat = {"description": "Its fields beside `type`.", "allOf": [fields], "not": {"required": ["data"]}}
        inside: Schema = {
            "description": "Its fields in `data`.",
            "type": "object",
            "properties": {"data": fields},
            "required": ["data"],
        }
        if beside := [{"required": [field.name]} for field in attrs.fields(event) if field.init]:
            inside["not"] = {"anyOf": beside}
        return {
            "type": "object",
            "properties": {
                "type": _type(event.__event__.type),
                "ref": REF,
                "workspace_id": self._id("That of the connection; it may be left out."),
                "timestamp": {"description": "Ignored."},
            },
            "required": ["type"],
            "anyOf": [flat, inside],
        }

    def of_server(self, event: type[ServerEvent]) -> Schema:
        """What the server says: the envelope, and the fields in `data`."""
        kind = event.__event__
        if event is Pong:
            return _object({"type": _type(kind.type)}, {"ref": REF, "cursor": CURSOR})
        envelope = {
            "type": _type(kind.type),
            "data": self._data(event),
            "workspace_id": self._id("That of the connection."),
            "timestamp": self._timestamp("When it happened, stamped once by the server; it is no order."),
        }
        if event is Error:
            del envelope["workspace_id"]
        return _object(envelope, {"cursor": CURSOR} if kind.delivery.kind == "durable" else {})

    def _data(self, event: type[ServerEvent]) -> Schema:
        """Where a field is less than its annotation, since the server itself fills it, it is said here."""
        pointer = self.schemas.ref(event, sent=True)
        whole = self.schemas.named[pointer["$ref"].rpartition("/")[2]]
        fields = whole.get("properties", {})
        if event is Hello:
            fields["heartbeat_interval_ms"] = {
                "description": "Milliseconds from one `ping` to the next.",
                **COUNT,
                "examples": [self.heartbeat_interval_ms],
            }
            fields["limits"] |= {
                "description": "What the server takes.",
                "properties": {
                    name: {"description": "The largest message, in bytes.", **COUNT, "examples": [value]}
                    for name, value in self.limits.items()
                },
                "required": list(self.limits),
            }
            fields["state"] |= {
                "description": "What the plugins have to say first; a key for each that has something to say.",
                "properties": {name: {"description": f"What `{name}` says."} for name in self.states},
                "additionalProperties": True,
            }
            fields["cursor"] = CURSOR
            fields["resume"] = RESUME
        elif event is Ack:
            fields["ref"] = REF
        elif event is Error:
            known = ", ".join(f"`{code}`" for code in self.codes)
            fields["message"] = {
                "description": "A constant text for each code.",
                "type": "string",
                "examples": list(self.codes.values())[:1],
            }
            fields["code"] = {
                "description": f"Known: {known}. There may be more.",
                "type": "string",
                "examples": list(self.codes),
            }
            fields["retry_after_ms"] = {
                "description": "Of `RATE_LIMITED`: milliseconds until the next is taken.",
                **COUNT,
            }
            fields["detail"] = {"description": "Which field is wrong, and what it takes.", "type": "string"}
            fields["ref"] = REF
        return pointer

    def _id(self, description: str) -> Schema:
        return told(self.schemas.of(Id, sent=True), description)

    def _timestamp(self, description: str) -> Schema:
        return told(self.schemas.of(Timestamp, sent=True), description)


def _type(type: str) -> Schema:
    return {"type": "string", "const": type}


def _object(properties: Mapping[str, Schema], optional: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": {**properties, **optional}, "required": list(properties)}
