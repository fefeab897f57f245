"""The application that a command is about: somebody's own, or the one that `jackfield serve` serves."""

from __future__ import annotations

import argparse
import os

from jackfield import Jackfield, valid_id
from jackfield.cli._command import add_choice, points
from jackfield.cli._target import load

__all__ = ["add_application", "application", "id_"]


def add_application(parser: argparse.ArgumentParser) -> None:
    """The flags by which it is chosen."""
    parser.add_argument(
        "--app", metavar="module:app", help="a Jackfield of yours, or what mounts one [what serve serves]"
    )
    parser.add_argument("--engine", metavar="URL", help="what it stands on, such as redis://… [JACKFIELD_ENGINE]")
    add_choice(parser)


def application(chosen: argparse.Namespace) -> Jackfield:
    """The one that was chosen. Raises ConfigurationError."""
    if chosen.app is not None:
        return load(chosen.app)[1]
    flags = {} if chosen.engine is None else {"JACKFIELD_ENGINE": chosen.engine}
    return Jackfield.from_environ({**os.environ, **flags}, plugins=points(chosen.plugin, chosen.without))


def id_(text: str) -> str:
    """An id of the wire."""
    if not valid_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id: 1 to 128 of A-Z a-z 0-9 . _ : @ -")
    return text
