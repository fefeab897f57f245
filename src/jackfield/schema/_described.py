"""What an author wrote about his classes: their docstrings, and the strings that stand below their fields."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

__all__ = ["about", "about_fields"]


def about(cls: type) -> str:
    """What a class says of itself, on one line a paragraph; "" where it says nothing."""
    # Not what a base says: that speaks of all of its kind.
    return _flowing(vars(cls).get("__doc__") or "")


def about_fields(cls: type) -> Mapping[str, str]:
    """field → the text below it, of those that have one; also of bases."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        found |= _texts(base.__module__).get(base.__qualname__, {})
    return found


def _flowing(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


@cache
def _texts(module: str) -> Mapping[str, Mapping[str, str]]:
    """class → field → text, of a module whose source is there."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (KeyError, OSError, TypeError, SyntaxError):
        return {}
    return dict(_classes(tree, ""))


def _classes(node: ast.AST, outer: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef(name):
                yield f"{outer}{name}", dict(_below(child.body))
                yield from _classes(child, f"{outer}{name}.")
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name):
                yield from _classes(child, f"{outer}{name}.<locals>.")
            case _:
                yield from _classes(child, outer)


def _below(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, after in pairwise(body):
        match statement, after:
            case ast.AnnAssign(ast.Name(name)), ast.Expr(ast.Constant(str(text))):
                yield name, _flowing(text)
            case _:
                pass
