"""The import law: which file may know which, read from the syntax tree."""

from __future__ import annotations

import ast
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC, PLUGINS, EXAMPLES = ROOT / "src/jackfield", ROOT / "plugins", ROOT / "examples"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Lowest first. A module imports from its own row and from those above it; nothing points back, and nothing in a circle.
# What only a type checker imports is exempt: an annotation may look up.
LAYERS = [
    {"errors", "_audience", "_clock", "_drain", "_outbox", "_redact"},
    {"events"},
    {"engine", "hookspecs", "_registry", "_structure", "_wire", "_log", "_cursor", "_missed", "_handshake"},
    {"_settings", "_points", "_environ"},
    {"_dispatch", "_wiring", "_plugins", "_state", "_ledger", "_memory"},
    {
        "_commit",
        "_congestion",
        "_line",
        "_pump",
        "_view",
        "_workspace",
        "_lease",
        "_roster",
        "_backlog",
        "_room",
        "_hub",
        "_resume",
        "_catch_up",
        "_session",
    },
    {"_body", "_observers", "_opened"},
    {"_node"},
    {"_asgi", "_app", "serving"},
    {"_publisher"},
    {"_sync"},
    {""},  # the facade: jackfield itself
    {"schema"},
    {"browser"},
    {"_refusals"},
    {"client"},
    {"testing", "cli"},
]
CORE = [name for layer in LAYERS[:-3] for name in layer]

BASE = {"anyio", "attrs", "cattrs", "orjson", "pluggy", "starlette"}
"""What the core may import that is not Python's own; the base dependencies, and nothing else."""
OF_CLIENT = {"httpcore", "httpx", "httpx_ws", "wsproto"}
"""What the extra `client` brings, for `jackfield.client` alone."""
OF_PLUGINS = {"anyio", "attrs", "coredis", "cryptography", "jwt", "orjson", "starlette"}
"""The same for plugins."""
BACKENDS = {"asyncio", "trio", "uvloop", "threading", "concurrent", "multiprocessing"}
"""The core runs on anyio, and knows none of them."""
OF_SYNC = {"threading", "concurrent"}
"""But for the one module that is for code without an event loop."""


def imports(path: Path, *, for_checkers: bool = False) -> set[tuple[str, str]]:
    """(module, name) of every import of a file, wherever it stands in it; name is "" for a plain import."""
    found: set[tuple[str, str]] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        match node := todo.pop():
            case ast.Import(names):
                found |= {(alias.name, "") for alias in names}
            case ast.ImportFrom(str(module), names, level):
                assert level == 0, f"{path}: relative imports hide where something comes from"
                found |= {(module, alias.name) for alias in names}
            case ast.If(ast.Name("TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")) if not for_checkers:
                todo += node.orelse
            case _:
                todo += ast.iter_child_nodes(node)
    return found


def module_of(path: Path) -> str:
    """`_wire` for src/jackfield/_wire.py, `testing` for all of its package, "" for the facade."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def own_imports(path: Path) -> set[str]:
    """The modules of jackfield that a file imports: `from jackfield import errors` is `errors`, too."""
    found = set()
    for module, name in imports(path):
        if module == "jackfield" or module.startswith("jackfield."):
            inner = module.removeprefix("jackfield").removeprefix(".").split(".")[0]
            is_module = not inner and ((SRC / f"{name}.py").exists() or (SRC / name).is_dir())
            found.add(name if is_module else inner)
    return found


SOURCES = sorted(SRC.rglob("*.py"))
PLUGIN_SOURCES = sorted(PLUGINS.rglob("*.py"))


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_every_module_stands_in_one_layer() -> None:
    placed = [name for layer in LAYERS for name in layer]
    assert sorted(placed) == sorted({module_of(path) for path in SOURCES})


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_nothing_points_back(path: Path) -> None:
    own = next(number for number, layer in enumerate(LAYERS) if module_of(path) in layer)
    allowed = set().union(*LAYERS[: own + 1])
    assert own_imports(path) <= allowed


def test_nothing_goes_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        graph.setdefault(module_of(path), set()).update(own_imports(path) - {module_of(path)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


@pytest.mark.parametrize("path", [path for path in SOURCES if module_of(path) in CORE], ids=ids)
def test_the_core_imports_only_anyio_and_the_base_dependencies(path: Path) -> None:
    tops = {module.split(".")[0] for module, _ in imports(path, for_checkers=True)} - {"jackfield"}
    assert not tops & (BACKENDS - OF_SYNC if module_of(path) == "_sync" else BACKENDS)
    assert {name for name in tops if not _is_python(name)} <= BASE


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_only_the_client_needs_what_its_extra_brings(path: Path) -> None:
    tops = {module.split(".")[0] for module, _ in imports(path, for_checkers=True)}
    if module_of(path) == "client":
        assert tops <= BASE | OF_CLIENT | {"jackfield"} | sys.stdlib_module_names
        assert not tops & BACKENDS
    else:
        assert not tops & OF_CLIENT


def test_the_extra_of_the_client_is_what_it_imports() -> None:
    extra = {line.split(">=")[0].replace("-", "_") for line in PYPROJECT["project"]["optional-dependencies"]["client"]}
    assert extra == OF_CLIENT


def test_the_base_dependencies_are_those_of_the_distribution() -> None:
    assert {line.split(">=")[0] for line in PYPROJECT["project"]["dependencies"]} == BASE


@pytest.mark.parametrize("path", PLUGIN_SOURCES, ids=ids)
def test_plugins_import_only_public_names_and_no_other_plugin(path: Path) -> None:
    own = path.relative_to(PLUGINS).parts[0]
    for module, name in imports(path, for_checkers=True):
        top, *rest = module.split(".")
        if top == "jackfield":
            assert not any(part.startswith("_") for part in [*rest, name]), f"{module}.{name} is private"
            assert rest != ["testing"], "a plugin does not test itself"
        elif not _is_python(top):
            assert top == own or top in OF_PLUGINS, f"{own} may not import {top}"


@pytest.mark.parametrize("path", [*PLUGIN_SOURCES, *sorted(EXAMPLES.rglob("*.py"))], ids=ids)
def test_plugins_and_examples_use_no_private_attribute(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(ast.Name("self" | "cls"), _):
                pass
            case ast.Attribute(attr=str(name)) if name.startswith("_") and not name.startswith("__"):
                assert name in {"_asdict", "_replace"}, f"{path.name}:{node.lineno}: {ast.unparse(node)}"
            case _:
                pass


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.py")), ids=ids)
def test_examples_import_only_public_names(path: Path) -> None:
    for module, name in imports(path, for_checkers=True):
        if module.split(".")[0].startswith("jackfield"):
            assert not any(part.startswith("_") for part in [*module.split("."), name])


def _is_python(top: str) -> bool:
    return top in sys.stdlib_module_names
