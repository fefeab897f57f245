"""The AsyncAPI document of an application: everything that is said on its one channel, as the wire has it. Pure."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.metadata import version as version_of
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jackfield._handshake import SUBPROTOCOL
from jackfield.errors import (
    INTERNAL_ERROR,
    CloseCode,
    InvalidEvent,
    InvalidToken,
    RateLimited,
    Refused,
    Unauthorized,
    UnknownEvent,
)
from jackfield.events import ClientEvent, Event
from jackfield.schema._described import about
from jackfield.schema._example import NoExample, example
from jackfield.schema._frames import CURSOR, Frames
from jackfield.schema._json_schema import Schema, Schemas

if TYPE_CHECKING:
    from jackfield import Jackfield

__all__ = ["asyncapi"]

JSON_TYPE = "application/json"
CHANNEL = "workspace"
HEAR, SAY = "hear", "say"
ABOUT = """\
One WebSocket for each workspace. A client connects with its token, and is sent `hello` first; from there on each
message is a JSON object with a `type`, in both directions. There may be keys that are not described here: ignore them.

With a `ref` beside its `type`, what a client says is answered by `ack`, or by an `error` with the same `ref`."""


def asyncapi(
    app: Jackfield, *, title: str = "Realtime events", version: str | None = None, server: str | None = None
) -> dict[str, Any]:
    """The AsyncAPI 3.0.0 document of every event that is registered, those of clients and those of the server.

    It needs no running application, and is the same for the same one. `title` and `version` (that of jackfield by
    default) are what it says of itself, and `server` is where it is served, such as `wss://chat.example/realtime`.
    Raises ValueError for one that is no address.
    """
    schemas = Schemas("#/components/schemas/")
    refusals = _refusals(app)
    settings = app.settings
    frames = Frames(
        schemas,
        {code: text for code, text, _ in refusals},
        [call.plugin for call in app.plugins.calls("initial_state")],
        round(settings.heartbeat_interval * 1000),
        {"max_event_bytes": settings.max_event_bytes},
    )
    heard, said = app.events.server(), app.events.client()
    payloads: dict[str, Schema] = {
        **{type: frames.of_client(event) for type, event in said.items()},
        **{type: frames.of_server(event) for type, event in heard.items()},
    }
    document: dict[str, Any] = {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version or version_of("jackfield"), "description": ABOUT},
        "defaultContentType": JSON_TYPE,
    }
    if server is not None:
        document["servers"] = {"default": _server(server)}
    document["channels"] = {CHANNEL: _channel(payloads)}
    document["operations"] = {
        SAY: {
            "action": "receive",
            "channel": _at("channels", CHANNEL),
            "title": "What clients say",
            "summary": "The application receives it.",
            "security": [_at("components", "securitySchemes", name) for name in SECURITY],
            "messages": [_in_channel(type) for type in said],
            "reply": {
                "channel": _at("channels", CHANNEL),
                "messages": [_in_channel(type) for type in ("pong", "ack", "error")],
            },
        },
        HEAR: {
            "action": "send",
            "channel": _at("channels", CHANNEL),
            "title": "What clients hear",
            "summary": "The application sends it.",
            "security": [_at("components", "securitySchemes", name) for name in SECURITY],
            "messages": [_in_channel(type) for type in heard],
        },
    }
    document["components"] = {
        "messages": {
            type: _message(app.events[type], app.events.owner(type), payload, schemas)
            for type, payload in payloads.items()
        },
        "schemas": schemas.named,
        "securitySchemes": SECURITY,
    }
    document["x-error-codes"] = [{"code": code, "message": text, "plugin": plugin} for code, text, plugin in refusals]
    document["x-close-codes"] = [
        {"code": code.value, "reason": code.reason, "client": code.client, "reconnect": code.reconnect}
        for code in CloseCode
    ]
    return document


SECURITY: Mapping[str, Any] = {
    "query": {
        "type": "httpApiKey",
        "in": "query",
        "name": "token",
        "description": "The token in the address. Exactly one of the three places has it.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token as `Authorization: Bearer …`, for who can set a header.",
    },
    "subprotocol": {
        "type": "httpApiKey",
        "in": "header",
        "name": "Sec-WebSocket-Protocol",
        "description": f"The token as a subprotocol, for browsers: `{SUBPROTOCOL}, bearer.<token>`. "
        f"The server selects `{SUBPROTOCOL}`.",
    },
}


def _channel(payloads: Mapping[str, Schema]) -> dict[str, Any]:
    return {
        "address": "/ws/{workspace_id}",
        "title": "A workspace",
        "description": "Below the path where the application is mounted.",
        "messages": {type: _at("components", "messages", type) for type in payloads},
        "parameters": {
            "workspace_id": {"description": "The workspace: 1 to 128 of `A-Z a-z 0-9 . _ : @ -`."},
        },
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "token": {"type": "string", "description": "Who connects, where no header says it."},
                        "resume": {
                            "type": "string",
                            "maxLength": CURSOR["maxLength"],
                            "description": "The last `cursor` that the client was sent, empty the first time. "
                            "Only who says it is sent any.",
                        },
                    },
                },
                "bindingVersion": "0.1.0",
            }
        },
    }


def _message(event: type[Event], plugin: str, payload: Schema, schemas: Schemas) -> dict[str, Any]:
    kind = event.__event__
    summary, _, more = about(event).partition("\n\n")
    message: dict[str, Any] = {"name": kind.type, "title": event.__name__}
    if summary:
        message["summary"] = summary
    if more:
        message["description"] = more
    message |= {"tags": [{"name": plugin}], "payload": {"title": kind.type, **payload}}
    with suppress(NoExample):  # better none than a wrong one
        message["examples"] = [{"payload": _example(event, payload, schemas)}]
    message["x-jackfield"] = {"plugin": plugin, **_manner(event)}
    return message


def _example(event: type[Event], payload: Schema, schemas: Schemas) -> dict[str, Any]:
    if issubclass(event, ClientEvent):
        fields: dict[str, Any] = example(schemas.ref(event, sent=False), schemas.named)
        return {"type": event.__event__.type, **fields}
    whole: dict[str, Any] = example(payload, schemas.named)
    return {name: value for name, value in whole.items() if name in payload["required"]}


def _manner(event: type[Event]) -> dict[str, Any]:
    kind = event.__event__
    if issubclass(event, ClientEvent):
        return {"cost": kind.cost}
    key = {"key": list(kind.delivery.key)} if kind.delivery.key else {}
    return {"delivery": kind.delivery.kind, **key}


def _refusals(app: Jackfield) -> list[tuple[str, str, str]]:
    """Code, text and plugin of every error that can be known: those of the core, and those that stand in the module of
    a plugin that is here."""
    core: list[type[Refused]] = [InvalidToken, Unauthorized, RateLimited]
    found = {kind.code: (kind.text(), "jackfield") for kind in core}
    found[INTERNAL_ERROR[0]] = INTERNAL_ERROR[1], "jackfield"
    if not app.settings.strict_error_codes:
        found |= {kind.code: (kind.text(), "jackfield") for kind in (InvalidEvent, UnknownEvent)}
    for name, plugin in app.plugins.objects.items():
        for kind in _named_beside(type(plugin)):
            found.setdefault(kind.code, (kind.text(), name))
    return [(code, text, plugin) for code, (text, plugin) in found.items()]


def _named_beside(plugin: type) -> Iterator[type[Refused]]:
    """The errors with a code of their own that the modules of a class and its bases define, or import."""
    for module in dict.fromkeys(cls.__module__ for cls in plugin.__mro__):
        for value in vars(sys.modules.get(module, object)).values():
            if (
                isinstance(value, type)
                and issubclass(value, Refused)
                and value.__module__ != Refused.__module__
                and "code" in vars(value)
            ):
                yield value


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.netloc or "@" in parts.netloc:
        # Not shown: there may be a password in it.
        raise ValueError("that is no address of a server, such as wss://chat.example/realtime")
    path = {"pathname": parts.path.rstrip("/")} if parts.path.rstrip("/") else {}
    return {"host": parts.netloc, "protocol": parts.scheme, **path}


def _in_channel(type: str) -> dict[str, str]:
    return _at("channels", CHANNEL, "messages", type)


def _at(*path: str) -> dict[str, str]:
    """A pointer. No part of it has a character that would have to be escaped."""
    return {"$ref": "#/" + "/".join(path)}
