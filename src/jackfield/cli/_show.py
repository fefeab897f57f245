"""`jackfield events`, `hooks` and `plugins`: what is loaded, of `jackfield serve` or of an application of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from jackfield import ClientEvent, hookspecs
from jackfield._points import public_name
from jackfield.cli._application import standalone
from jackfield.cli._command import Commands, add_choice, describe, points
from jackfield.cli._target import load

if TYPE_CHECKING:
    import argparse

    from jackfield import Jackfield
    from jackfield.events import Event

__all__ = ["add", "add_target", "app_of", "plugins_of"]

EXAMPLES = """\
  jackfield {name}
  jackfield {name} --plugin polls
  jackfield {name} chat.main:app
"""


def add(commands: Commands, arguments: Sequence[str]) -> None:
    for name, does, lines in (
        ("events", "List every event: who says it, how it is delivered, whose it is, its fields.", events_of),
        ("hooks", "List every hook: what it takes, how it is called, and who implements it.", hooks_of),
        ("plugins", "List the plugins in their order, and the hooks that each implements.", plugins_of),
    ):
        parser = describe(commands, name, does, _showing(lines), EXAMPLES.format(name=name))
        add_target(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """What is looked at: an application of one's own, or the choice of plugins that serve would have."""
    parser.add_argument(
        "target",
        metavar="module:app",
        nargs="?",
        help="a Jackfield, or what mounts one; else what serve would have",
    )
    add_choice(parser)


def _showing(lines: Callable[[Jackfield], list[str]]) -> Callable[[argparse.Namespace], int]:
    def run(chosen: argparse.Namespace) -> int:
        for line in lines(app_of(chosen)):
            print(line)
        return 0

    return run


def app_of(chosen: argparse.Namespace) -> Jackfield:
    """That of `add_target`."""
    if chosen.target is not None:
        return load(chosen.target)[1]
    return standalone(points(chosen.plugin, chosen.without))


def events_of(app: Jackfield) -> list[str]:
    """A line an event."""
    rows = [("TYPE", "SAID BY", "DELIVERY", "PLUGIN", "FIELDS")]
    rows += [
        (type, *_said(event), app.events.owner(type), ", ".join(_fields(event))) for type, event in app.events.items()
    ]
    return _table(rows)


def hooks_of(app: Jackfield) -> list[str]:
    """A line a hook; those of events behind those that are always there."""
    client = {"client_event", *(event.__event__.name for event in app.events.client().values())}
    fixed, generated = [("HOOK", "VERB", "PLUGINS")], list[tuple[str, str, str]]()
    for hook in app.plugins.hooks():
        plugins = ", ".join(call.plugin for call in app.plugins.calls(hook)) or "-"
        if (verb := hookspecs.verbs.get(hook)) is not None:
            taken = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
            fixed.append((f"{hook}({taken})", verb, plugins))
        else:
            side, _, event = hook.partition("_")
            first = "session" if event in client else "transaction" if side == "before" else "workspace"
            generated.append((f"{hook}({first}, event)", "pipe" if side == "before" else "notify", plugins))
    return _table([*fixed, *generated])


def plugins_of(app: Jackfield) -> list[str]:
    """A line a plugin."""
    rows = [("", "PLUGIN", "CLASS", "HOOKS")]
    for number, (name, plugin) in enumerate(app.plugins.objects.items(), 1):
        hooks = [hook for hook in app.plugins.hooks() if name in {call.plugin for call in app.plugins.calls(hook)}]
        rows.append((str(number), name, public_name(type(plugin)), ", ".join(hooks)))
    return _table(rows)


def _said(event: type[Event]) -> tuple[str, str]:
    shape = event.__event__
    if issubclass(event, ClientEvent):
        return "client", f"costs {shape.cost}"
    return "server", shape.delivery.kind + (f"({', '.join(shape.delivery.key)})" if shape.delivery.key else "")


def _fields(event: type[Event]) -> Iterable[str]:
    for field in attrs.fields(event):
        optional = "" if field.default is attrs.NOTHING else "?"
        yield f"{field.name}{optional}"


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
