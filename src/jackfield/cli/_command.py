"""How every command is described, and the question that several of them ask: which plugins?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, cast

from jackfield._points import SHIPPED
from jackfield.errors import ConfigurationError

__all__ = ["Commands", "add_choice", "describe", "leaf", "points"]

BEFORE = "http"
"""What a stranger's plugin stands in front of: it decides before the world is told."""


class Commands(Protocol):
    """Where a command adds itself."""

    def add_parser(self, name: str, **options: Any) -> argparse.ArgumentParser: ...


def describe(
    commands: Commands, name: str, does: str, run: Callable[[argparse.Namespace], int], examples: str
) -> argparse.ArgumentParser:
    """A command's parser; `does` says in a line what it is for."""
    parser = commands.add_parser(
        name,
        help=does[0].lower() + does[1:].rstrip("."),
        description=does,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The flags by which plugins are chosen."""
    parser.add_argument(
        "--plugin",
        metavar="NAME",
        action="append",
        default=[],
        help=f'add the plugin of this entry point of the group "jackfield", in front of {BEFORE}; may be repeated',
    )
    parser.add_argument(
        "--without",
        metavar="NAME",
        action="append",
        default=[],
        help=f"leave one out; may be repeated; there are {', '.join(SHIPPED)}",
    )


def leaf(error: BaseException) -> BaseException:
    """The first that is no group: a task group wraps whatever is raised in it."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def points(plugin: Sequence[str], without: Sequence[str]) -> tuple[str, ...]:
    """The entry points that were chosen, in their order."""
    for name in without:
        if name not in SHIPPED:
            near = get_close_matches(name, SHIPPED, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(SHIPPED)}."
            raise ConfigurationError(f'--without {name}: no shipped plugin is called "{name}". {hint}')
    chosen = [name for name in SHIPPED if name not in without]
    for name in plugin:
        if name in chosen:
            raise ConfigurationError(f"--plugin {name}: it is there already.")
        chosen.insert(chosen.index(BEFORE) if BEFORE in chosen else len(chosen), name)
    return tuple(chosen)
