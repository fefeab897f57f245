"""The application that a command is about: somebody's own, or the one that `jackfield serve` serves."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Mapping

from jackfield import ConfigurationError, Jackfield, MemoryEngine, valid_id
from jackfield._environ import ENGINE
from jackfield.cli._command import add_choice, points
from jackfield.cli._target import load

__all__ = ["add_application", "application", "id_", "standalone"]

SECRET = "JACKFIELD_SECRET"


def add_application(parser: argparse.ArgumentParser) -> None:
    """The flags by which it is chosen."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--app", metavar="module:app", help="a Jackfield of yours, or what mounts one [what serve serves]"
    )
    which.add_argument("--engine", metavar="URL", help="what it stands on, such as redis://… [JACKFIELD_ENGINE]")
    add_choice(parser)


def application(chosen: argparse.Namespace) -> Jackfield:
    """The one that was chosen, on an engine that others reach. Raises ConfigurationError."""
    if chosen.app is not None:
        app = load(chosen.app)[1]
    else:
        app = standalone(
            points(chosen.plugin, chosen.without), {} if chosen.engine is None else {ENGINE: chosen.engine}
        )
    if isinstance(app.engine, MemoryEngine):
        where = f"{chosen.app} has" if chosen.app is not None else f"{ENGINE} is"
        raise ConfigurationError(
            f"{where} memory://, the memory of one process, and no server is in this one: "
            "it takes the engine of your servers, such as redis://localhost:6379/0."
        )
    return app


def standalone(names: tuple[str, ...], flags: Mapping[str, str] | None = None) -> Jackfield:
    """What `jackfield serve` would serve with these plugins, for whoever lets nobody in: that takes no secret."""
    environ = {**os.environ, **(flags or {})}
    if "token" in names and not environ.get(SECRET):
        environ[SECRET] = secrets.token_urlsafe(32)
    return Jackfield.from_environ(environ, plugins=names)


def id_(text: str) -> str:
    """An id of the wire."""
    if not valid_id(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no id: 1 to 128 of A-Z a-z 0-9 . _ : @ -")
    return text
