"""`jackfield asyncapi` and `types`: every event, for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from jackfield.browser import types
from jackfield.cli._command import Commands, describe
from jackfield.cli._show import add_target, app_of
from jackfield.errors import ConfigurationError
from jackfield.schema import asyncapi

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]

ASYNCAPI = """\
  jackfield asyncapi > asyncapi.json
  jackfield asyncapi chat.main:app --title Chat --server wss://chat.example
"""
TYPES = """\
  jackfield types > jackfield.d.ts
  jackfield types chat.main:app > jackfield.d.ts
"""


def add(commands: Commands, arguments: Sequence[str]) -> None:
    document = describe(commands, "asyncapi", "Print every event as an AsyncAPI 3 document.", _asyncapi, ASYNCAPI)
    add_target(document)
    document.add_argument("--title", default="Realtime events", help="what the document is called; %(default)s")
    document.add_argument("--api-version", metavar="VERSION", help="of what it describes; that of jackfield")
    document.add_argument("--server", metavar="URL", help="where it is served, such as wss://chat.example/realtime")
    add_target(describe(commands, "types", "Print the TypeScript of every event and of jackfield.js.", _types, TYPES))


def _asyncapi(chosen: argparse.Namespace) -> int:
    app = app_of(chosen)
    try:
        document = asyncapi(app, title=chosen.title, version=chosen.api_version, server=chosen.server)
    except ValueError as error:
        raise ConfigurationError(f"--server: {error}.") from None
    _print(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return 0


def _types(chosen: argparse.Namespace) -> int:
    _print(types(app_of(chosen)).encode())
    return 0


def _print(text: bytes) -> None:
    """In UTF-8, also where a terminal has another alphabet: it goes into a file."""
    sys.stdout.buffer.write(text.rstrip() + b"\n")
    sys.stdout.flush()
