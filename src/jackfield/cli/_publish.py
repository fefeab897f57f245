"""`jackfield publish`: an event to a workspace, past every server; the engine has it when this ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from jackfield import ConfigurationError, Publisher
from jackfield.cli._application import add_application, application, id_
from jackfield.cli._command import Commands, describe
from jackfield.cli._stdin import lines
from jackfield.errors import EngineError, InvalidEvent, JackfieldError

if TYPE_CHECKING:
    from jackfield import Jackfield, Post, Receipt, Workspace

__all__ = ["add"]

TOGETHER = 100
"""Events that are published in one commit."""

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
    parser.add_argument("--data", metavar="JSON", help="its data [{}]")
    parser.add_argument(
        "--to", metavar="WHO", type=_to, help="everyone, channel:ID or users:ID,ID [what it says itself]"
    )
    parser.add_argument("--id", metavar="ID", type=id_, help="so that repeating it is harmless")
    add_application(parser)
    parser.set_defaults(refuse=parser.error)


def run(chosen: argparse.Namespace) -> int:
    if chosen.type is None:
        for flag in "data", "to", "id":
            if getattr(chosen, flag) is not None:
                chosen.refuse(f"--{flag} is of the event that --type names; those on standard input say it themselves")
        anyio.run(_publish_lines, application(chosen), chosen.workspace)
    else:
        body = _body(chosen)
        anyio.run(_publish_one, application(chosen), chosen.workspace, body)
    return 0


async def _publish_one(app: Jackfield, workspace: str, body: bytes) -> None:
    async with Publisher(app) as live:
        try:
            posts = app.read_posts(body)
        except InvalidEvent as error:
            raise _wrong("", error) from None
        await _publish(live.workspace(workspace), [("", posts)])


async def _publish_lines(app: Jackfield, workspace: str) -> None:
    """Those that are waiting already in one commit. What stands before a line that is wrong has been published."""
    async with Publisher(app) as live, aclosing(lines()) as everything:
        async for waiting in everything:
            group: list[tuple[str, list[Post]]] = []
            for number, line in waiting:
                try:
                    group.append((f"line {number}: ", app.read_posts(line)))
                except InvalidEvent as error:
                    await _publish(live.workspace(workspace), group)
                    raise _wrong(f"line {number}: ", error) from None
                if sum(len(posts) for _, posts in group) >= TOGETHER:
                    await _publish(live.workspace(workspace), group)
                    group = []
            await _publish(live.workspace(workspace), group)


async def _publish(workspace: Workspace, group: Sequence[tuple[str, list[Post]]]) -> None:
    """All of it in one commit; where somebody refuses that, nothing has happened, and each is published by itself, so
    that those in front of what is refused are."""
    if not group:
        return
    try:
        receipts = await workspace.publish_all([post for _, posts in group for post in posts])
    except Exception as error:
        if len(group) == 1 or isinstance(error, EngineError):  # what it says is of all of them: it may have happened
            raise _wrong(group[0][0], error) from None
        for one in group:
            await _publish(workspace, [one])
        return
    for receipt in receipts:
        print(_shown(receipt))
    sys.stdout.flush()


def _wrong(place: str, error: Exception) -> ConfigurationError:
    """It in a line."""
    match error:
        case InvalidEvent():
            said = "; ".join(f"{fault.path}: {fault.message}" for fault in error.faults)
        case JackfieldError() | TypeError() | ValueError():
            said = str(error)
        case _:  # a plugin that fails
            said = f"{type(error).__name__}: {error}"
    return ConfigurationError(f"{place}{said}")


def _body(chosen: argparse.Namespace) -> bytes:
    try:
        data = orjson.loads(chosen.data or "{}")
    except orjson.JSONDecodeError:
        raise ConfigurationError("--data is no JSON.") from None
    event: dict[str, Any] = {"type": chosen.type, "data": data}
    if chosen.to is not None:
        event["to"] = chosen.to
    if chosen.id is not None:
        event["id"] = chosen.id
    return orjson.dumps(event)


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
