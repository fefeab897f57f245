"""The distribution: what it carries, what it opens by name, and what stands in no file of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import attrs
import pytest

from jackfield import MemoryEngine
from jackfield_redis import RedisEngine
from jackfield_sqlite import SQLiteEngine

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))
PACKAGES = [ROOT / "src/jackfield", *PLUGINS]

HOSTS = re.compile(r"pypi\.|pythonhosted\.|npmjs\.|crates\.io|anaconda\.|/simple/", re.IGNORECASE)
PATHS = re.compile(r"(?<![\w.~:/])/(?:work|root|home|Users|tmp)/")


def plugin_points(group: str = "jackfield") -> list[EntryPoint]:
    return [point for point in entry_points(group=group) if point.dist and point.dist.name == "jackfield"]


@pytest.mark.parametrize("group", ["jackfield", "jackfield.engines"])
def test_the_entry_points_are_those_of_the_project(group: str) -> None:
    assert {point.name: point.value for point in plugin_points(group)} == PYPROJECT["project"]["entry-points"][group]


@pytest.mark.parametrize("point", plugin_points(), ids=lambda point: point.name)
def test_an_entry_point_is_the_chair_of_its_class(point: EntryPoint) -> None:
    plugin = point.load()
    assert isinstance(plugin, type)
    assert attrs.fields_dict(plugin)["name"].default == point.name


def test_every_plugin_has_an_entry_point() -> None:
    points = [*plugin_points(), *plugin_points("jackfield.engines")]
    assert {point.module for point in points} == {"jackfield", *(path.name for path in PLUGINS)}


@pytest.mark.parametrize(
    ("scheme", "url", "engine"),
    [
        ("memory", "memory://", MemoryEngine),
        ("sqlite", "sqlite:///x.db", SQLiteEngine),
        ("redis", "redis://localhost", RedisEngine),
        ("rediss", "rediss://localhost", RedisEngine),
        ("redis+sentinel", "redis+sentinel://a,b/main", RedisEngine),
        ("rediss+sentinel", "rediss+sentinel://a,b/main", RedisEngine),
        ("redis+cluster", "redis+cluster://a,b", RedisEngine),
        ("rediss+cluster", "rediss+cluster://a,b", RedisEngine),
    ],
)
def test_engines_are_opened_by_the_scheme_of_their_url(scheme: str, url: str, engine: type) -> None:
    (point,) = entry_points(group="jackfield.engines", name=scheme)
    assert isinstance(point.load().from_url(url), engine)


def test_the_command_is_there() -> None:
    (command,) = entry_points(group="console_scripts", name="jackfield")
    assert callable(command.load())


def test_the_wheel_carries_every_package() -> None:
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(str(path.relative_to(ROOT)) for path in PACKAGES)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_is_typed(package: Path) -> None:
    assert (package / "py.typed").exists()


def test_tokens_of_ones_own_need_no_library_for_others() -> None:
    """`pip install jackfield` brings no PyJWT."""
    code = "import sys; sys.modules['jwt'] = None; from jackfield_auth import TokenAuth; import jackfield.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_package_does_not_have_it_says() -> None:
    import jackfield_auth

    with pytest.raises(AttributeError, match="'jackfield_auth' has no attribute 'OAuth'"):
        jackfield_auth.OAuth  # type: ignore[attr-defined]  # noqa: B018


def files() -> list[Path]:
    """What is, or will be, under version control."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no clone")
    return [path for line in listed.stdout.splitlines() if (path := ROOT / line).is_file()]


def test_no_file_knows_a_machine() -> None:
    """Nor a registry: where packages come from is for the configuration of whoever installs them."""
    found = []
    for path in files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if PATHS.search(line) or (HOSTS.search(line) and path != Path(__file__)):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []
