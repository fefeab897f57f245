"""`jackfield tail`: what happens in a workspace, as it happens, to whomever it goes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import anyio

from jackfield._log import REVOKED, Entry
from jackfield.cli._application import add_application, application, id_
from jackfield.cli._command import Commands, describe
from jackfield.engine import Arrived, History, Lost

if TYPE_CHECKING:
    from jackfield import Jackfield

__all__ = ["add"]

EXAMPLES = """\
  jackfield tail --workspace acme
  jackfield tail --workspace acme --type message.new --since 0 | jq .data
"""


def add(commands: Commands, arguments: Sequence[str]) -> None:
    does = "Print every event of a workspace as it happens, a line of JSON each, until you end it."
    parser = describe(commands, "tail", does, run, EXAMPLES)
    parser.add_argument("--workspace", metavar="ID", type=id_, required=True, help="where")
    parser.add_argument("--type", metavar="TYPE", action="append", help="only such; may be repeated")
    parser.add_argument(
        "--since", metavar="POSITION", type=_position, help="what is kept from there on, first [from now on]"
    )
    add_application(parser)


def run(chosen: argparse.Namespace) -> int:
    anyio.run(_tail, application(chosen), chosen.workspace, chosen.type, chosen.since)
    return 0


async def _tail(app: Jackfield, workspace: str, types: Sequence[str] | None, since: int | None) -> None:
    numbers = app.settings
    history = History(numbers.history_events, numbers.history_bytes, numbers.history_age)
    async with app.engine.open(history, app.clock), app.engine.feed() as feed:
        now = await app.engine.read(workspace)
        after = now.position if since is None else min(max(since, now.floor), now.position)
        if since is not None and since < after:
            _warn(f"what stood up to position {after} is no longer kept")
        feed.want(workspace, after, now.epoch)
        async with aclosing(aiter(feed)) as everything:
            async for news in everything:
                _show(news, types)


def _show(news: Arrived | Lost, types: Sequence[str] | None) -> None:
    if isinstance(news, Lost):
        _warn("the log went back; what was in it is lost")
        return
    for entry in map(Entry.of, news.records):
        if entry.head.type != REVOKED and (types is None or entry.head.type in types):
            # As it is, in UTF-8, also where a terminal has another alphabet: it goes into a pipe.
            sys.stdout.buffer.write(entry.record.body + b"\n")
    sys.stdout.flush()
    if not news.whole:
        _warn("some of what was only passing is no longer kept")


def _warn(said: str) -> None:
    print(f"jackfield: {said}", file=sys.stderr, flush=True)


def _position(text: str) -> int:
    position = int(text)
    if position < 0:
        raise argparse.ArgumentTypeError(f"{position} is no position: 0 is the beginning")
    return position
