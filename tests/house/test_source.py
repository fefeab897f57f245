"""Rules for what is written, read from the syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "plugins").rglob("*.py"), *(ROOT / "examples").rglob("*.py")])

LINES = 330
LONGER = {
    "src/jackfield/_pump.py": (390, "the rules of the fan-out lean on each other: two files would be a circle"),
    "src/jackfield/_session.py": (560, "one connection from its first frame to its last"),
    "src/jackfield/_commit.py": (520, "one commit: combining, deciding, what follows; each is a step of the next"),
    "src/jackfield/events.py": (400, "half of it is a list: one class for each event of the specification"),
    "src/jackfield/testing/_engine_contract.py": (1150, "a contract: one class to subclass, a test for each promise"),
}
"""file → most lines that it may have, and why"""

HOLDS_A_GROUP = {
    ("src/jackfield/client/_connect.py", "connect"),
    ("src/jackfield/client/_in_process.py", "in_process.dial"),
    ("plugins/jackfield_redis/_beside.py", "beside"),
    ("src/jackfield/testing/_bench.py", "bench"),  # these two are entered and left in the body of a test
    ("src/jackfield/testing/_interleave.py", "Order.race"),
}
"""Generators that yield inside a task group; everybody else would leave it in another task than entered it."""

SCOPES = {"create_task_group", "open_nursery", "TaskGroup", "CancelScope", "move_on_after", "fail_after", "Deadline"}
SECRETS = re.compile(r"(^|_)(key|secret|token|password|signature|authorization)$", re.IGNORECASE)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of a file with its qualified name, inner ones too."""

    def walk(node: ast.AST, outer: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        for child in ast.iter_child_nodes(node):
            name = outer
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outer}.{child.name}".lstrip(".")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield name, child
            yield from walk(child, name)

    yield from walk(ast.parse(path.read_text()), "")


def own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function, but not in the functions inside of it."""
    for child in ast.iter_child_nodes(function):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from own_nodes(child)


def called(node: ast.AST) -> set[str]:
    """The last names of all that is called in an expression."""
    return {
        ast.unparse(call.func).rpartition(".")[2]
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name | ast.Attribute)
    }


def yields(nodes: Iterator[ast.AST]) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in nodes)


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_file_is_long(path: Path) -> None:
    allowed, _ = LONGER.get(ids(path), (LINES, ""))
    lines = len(path.read_text().splitlines())
    assert lines <= allowed, "what is the second idea in it?"


def test_those_that_may_be_long_are() -> None:
    for name in LONGER:
        assert len((ROOT / name).read_text().splitlines()) > LINES, f"{name} needs no exception any more"


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_no_scope_is_held_across_a_yield(path: Path) -> None:
    for name, function in functions(path):
        if not yields(own_nodes(function)) or (ids(path), name) in HOLDS_A_GROUP:
            continue
        for node in own_nodes(function):
            if isinstance(node, ast.With | ast.AsyncWith) and yields(own_nodes(node)):
                held = set().union(*(called(item.context_expr) for item in node.items)) & SCOPES
                assert not held, f"{name} yields inside {held}"
            if isinstance(node, ast.Call) and called(node) & {"enter_async_context", "enter_context"}:
                assert not called(node) & SCOPES, f"{name} enters a scope that outlives a yield"


def test_those_that_may_hold_a_group_do() -> None:
    for file, wanted in HOLDS_A_GROUP:
        (function,) = [function for name, function in functions(ROOT / file) if name == wanted]
        assert yields(own_nodes(function))
        assert called(function) & SCOPES


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_nothing_swallows_a_cancellation(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            caught = "BaseException" if node.type is None else ast.unparse(node.type)
            if re.search(r"\b(BaseException|get_cancelled_exc_class|CancelledError|Cancelled)\b", caught):
                last = node.body[-1]
                raises = isinstance(last, ast.Raise) and last.exc is None
                assert raises, f"line {node.lineno}: except {caught} has to end with a plain raise"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins").rglob("*.py")), ids=ids)
def test_secrets_are_compared_in_constant_time(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) or _is_constant(side) for side in sides):
            continue  # what is written in the source is no secret
        if any(isinstance(operator, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for operator in node.ops):
            named = [name for side in sides if SECRETS.search(name := ast.unparse(side).rpartition(".")[2])]
            assert not named, f"line {node.lineno}: {ast.unparse(node)}; write hmac.compare_digest"


def test_the_key_of_the_http_plugin_is_compared_so() -> None:
    tree = ast.parse((ROOT / "plugins/jackfield_http/_http.py").read_text())
    assert "compare_digest" in called(tree)


def _is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id.isupper()
