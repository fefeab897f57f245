"""`jackfield publish`: an event to a workspace, past every server; the engine has it when this ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import anyio
import orjson

from jackfield import ConfigurationError, Publisher, Receipt, Refused
from jackfield.cli._application import add_application, application, id_
from jackfield.cli._command import Commands, describe
from jackfield.errors import InvalidEvent, JackfieldError

__all__ = ["add"]

EXAMPLES = """\
  jackfield publish --workspace acme --type member.left --data '{"channel_id": "c1", "user_id": "bob"}'
  jackfield publish --workspace acme --to users:alice,bob --id n1 --type … --data …
  jackfield publish --workspace acme --app chat.main:app < events.jsonl
"""


def add(commands: Commands, arguments: Sequence[str]) -> None:
    does = (
        'Publish an event, or the events on standard input: one a line, or {"events": […]}, as the HTTP API takes them.'
    )
    parser = describe(commands, "publish", does, run, EXAMPLES)
    parser.add_argument("--workspace", metavar="ID", type=id_, required=True, help="where")
    parser.add_argument("--type", metavar="TYPE", help="of the event; without it events are read from standard input")
    parser.add_argument("--data", metavar="JSON", default="{}", help="its data [{}]")
    parser.add_argument(
        "--to", metavar="WHO", type=_to, help="everyone, channel:ID or users:ID,ID [what it says itself]"
    )
    parser.add_argument("--id", metavar="ID", type=id_, help="so that repeating it is harmless")
    add_application(parser)


def run(chosen: argparse.Namespace) -> int:
    bodies: Iterable[tuple[str, bytes]] = [("", _body(chosen))] if chosen.type is not None else _lines()
    anyio.run(_publish, application(chosen), chosen.workspace, bodies)
    return 0


async def _publish(app: Any, workspace: str, bodies: Iterable[tuple[str, bytes]]) -> None:
    async with Publisher(app) as live:
        for place, body in bodies:
            try:
                for receipt in await live.workspace(workspace).publish_all(app.read_posts(body)):
                    print(_shown(receipt), flush=True)
            except InvalidEvent as error:
                faults = "; ".join(f"{fault.path}: {fault.message}" for fault in error.faults)
                raise ConfigurationError(f"{place}{faults}") from None
            except (JackfieldError, Refused, ValueError) as error:
                if isinstance(error, ConfigurationError) or not place:
                    raise
                raise ConfigurationError(f"{place}{error}") from None


def _body(chosen: argparse.Namespace) -> bytes:
    try:
        data = orjson.loads(chosen.data)
    except orjson.JSONDecodeError:
        raise ConfigurationError("--data is no JSON.") from None
    event: dict[str, Any] = {"type": chosen.type, "data": data}
    if chosen.to is not None:
        event["to"] = chosen.to
    if chosen.id is not None:
        event["id"] = chosen.id
    return orjson.dumps(event)


def _lines() -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield f"line {number}: ", line.encode()


def _shown(receipt: Receipt) -> str:
    position = {} if receipt.position is None else {"position": receipt.position}
    return orjson.dumps({"id": receipt.id, **position, "published": receipt.published}).decode()


def _to(text: str) -> Any:
    kind, _, ids = text.partition(":")
    match kind:
        case "everyone" if not ids:
            return "everyone"
        case "channel" if ids:
            return {"channel": id_(ids)}
        case "users" if ids:
            return {"users": [id_(id) for id in ids.split(",")]}
        case _:
            raise argparse.ArgumentTypeError(f"{text!r} is nobody: everyone, channel:ID or users:ID,ID")
