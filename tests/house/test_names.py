"""What is public, and that it says what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import jackfield
from jackfield import Clock
from jackfield.engine import Engine, Feed

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))
PACKAGES = ["jackfield", *PLUGINS]


def modules() -> Iterator[str]:
    for package in map(importlib.import_module, PACKAGES):
        yield package.__name__
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield found.name


MODULES = sorted(modules())
PUBLIC = [name for name in MODULES if "._" not in name]


def in_order(name: str) -> tuple[int, str]:
    """As ruff sorts `__all__`: CONSTANTS, Classes, functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def defined(module: ModuleType) -> list[str]:
    """The classes and functions that a module defines and does not call private."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type | FunctionType) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, "a file begins with what it is for"
    listed = module.__all__
    assert list(listed) == sorted(set(listed), key=in_order)
    assert [entry for entry in listed if not hasattr(module, entry)] == []
    assert [entry for entry in listed if entry.startswith("_")] == []


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.startswith("jackfield.") and ".cli." not in name])
def test_what_a_public_module_defines_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert set(defined(module)) <= set(module.__all__)


def test_the_facade_is_what_is_there() -> None:
    there = {
        name
        for name, value in vars(jackfield).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert set(jackfield.__all__) == there


@pytest.mark.parametrize("package", ["jackfield.testing", *PLUGINS])
def test_a_package_offers_what_its_private_modules_hold_and_nothing_of_others(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, type | FunctionType):
            assert value.__module__.split(".")[: package.count(".") + 1] == package.split(".")


PROTOCOLS = (Engine, Feed, Clock)
"""Whoever does what they say need not say it again."""


def documented() -> Iterator[tuple[str, object]]:
    """Every public class and function, and the public methods that a class adds to those of its bases."""
    seen: set[object] = set()
    for module in map(importlib.import_module, PUBLIC):
        for name in module.__all__:
            value = inspect.unwrap(found) if callable(found := getattr(module, name)) else found
            if not isinstance(value, type | FunctionType) or value in seen:
                continue
            seen.add(value)
            yield f"{module.__name__}.{name}", value
            if isinstance(value, type):
                for attribute, member in vars(value).items():
                    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                    written = isinstance(function, FunctionType) and function.__module__ == value.__module__
                    inherited = any(hasattr(base, attribute) for base in (*value.__mro__[1:], *PROTOCOLS))
                    is_hook = hasattr(function, "jackfield_impl") or hasattr(function, "__jackfield_markers__")
                    is_test = attribute.startswith("test_")
                    if written and not attribute.startswith("_") and not inherited and not is_hook and not is_test:
                        yield f"{module.__name__}.{name}.{attribute}", function


SENTENCE = re.compile(r"""[A-Z`@"0-9(].*[.?!:]['")]*$""", re.DOTALL)


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*pair, id=pair[0]) for pair in documented()])
def test_what_is_public_begins_with_a_sentence(name: str, thing: object) -> None:
    text = inspect.cleandoc(thing.__doc__ or "")
    assert text, f"{name} says nothing of itself"
    first = text.split("\n\n")[0]
    assert SENTENCE.match(first), f"{name}: {first!r}"


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=lambda path: path.name)
def test_there_is_one_way_to_be_quoted(path: Path) -> None:
    """`__all__` is a list at the top of a file, so that a reader and a tool find it."""
    assigned = [
        node
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    ]
    if path.name != "__main__.py":
        (node,) = assigned
        assert isinstance(node.value, ast.List)
