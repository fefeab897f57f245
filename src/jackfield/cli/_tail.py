"""`jackfield tail`: what happens in a workspace, as it happens, to whomever it goes."""

from __future__ import annotations

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
    import argparse

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
    parser.add_argument("--since", metavar="POSITION", type=int, help="what is kept from there on, first [from now on]")
    add_application(parser)


def run(chosen: argparse.Namespace) -> int:
    anyio.run(_tail, application(chosen), chosen.workspace, chosen.type, chosen.since)
    return 0


async def _tail(app: Jackfield, workspace: str, types: Sequence[str] | None, since: int | None) -> None:
    numbers = app.settings
    history = History(numbers.history_events, numbers.history_bytes, numbers.history_age)
    async with app.engine.open(history, app.clock), app.engine.feed() as feed:
        now = await app.engine.read(workspace)
        feed.want(workspace, now.position if since is None else max(since, now.floor), now.epoch)
        async with aclosing(aiter(feed)) as everything:
            async for news in everything:
                _show(news, types)


def _show(news: Arrived | Lost, types: Sequence[str] | None) -> None:
    if isinstance(news, Lost):
        print("jackfield: the log went back; what was in it is lost", file=sys.stderr)
        return
    for entry in map(Entry.of, news.records):
        if entry.head.type != REVOKED and (types is None or entry.head.type in types):
            print(entry.record.body.decode(), flush=True)
    if not news.whole:
        print("jackfield: some of what had passed by is no longer kept", file=sys.stderr)
