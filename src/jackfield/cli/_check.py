"""`jackfield check module:app`: is an application wired rightly?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from jackfield import ConfigurationError, Jackfield, JackfieldError
from jackfield.cli._command import Commands, describe, leaf
from jackfield.cli._show import plugins_of
from jackfield.cli._target import load

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]

EXAMPLES = """\
  jackfield check chat.main:realtime
  jackfield check chat.main:app --start
"""


def add(commands: Commands, arguments: Sequence[str]) -> None:
    parser = describe(commands, "check", "Import an application and say what is wrong with it.", run, EXAMPLES)
    parser.add_argument("target", metavar="module:app", help="a Jackfield, or what mounts one")
    parser.add_argument(
        "--start", action="store_true", help="also start it and end it again, with all that it connects to"
    )


def run(chosen: argparse.Namespace) -> int:
    host, realtime = load(chosen.target)
    if chosen.start:
        anyio.run(_start, host, realtime)
    for line in plugins_of(realtime):
        print(line)
    engine = type(realtime.engine).__name__
    done = "is wired rightly, starts and ends" if chosen.start else "is wired rightly"
    print(f"{chosen.target} {done}: {len(realtime.plugins.names)} plugins, {len(realtime.events)} events, {engine}.")
    return 0


async def _start(host: Any, realtime: Jackfield) -> None:
    """Enter the host's own lifespan: whether it starts jackfield, too, is what is so easily forgotten."""
    try:
        if host is realtime:
            async with realtime.lifespan():
                return
        async with host.router.lifespan_context(host):
            _ = realtime.node
    except Exception as error:
        first = leaf(error)
        if isinstance(first, JackfieldError):
            raise first from None
        raise ConfigurationError(f"it does not start: {type(first).__name__}: {first}") from None
