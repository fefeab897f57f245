"""What can be wrong with a file when it is opened: one line that names it, and says what to do."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from jackfield.cli import main
from jackfield.engine import Cell, Commit, Draft, EngineRefused, EngineUnavailable, History, Key
from jackfield.errors import ConfigurationError, JackfieldError
from jackfield.testing import FakeClock
from jackfield_sqlite import SQLiteEngine

NOBODY = 65534


async def refusal(path: Path, **options: float) -> tuple[type, str]:
    """What opening it raises."""
    with pytest.raises(JackfieldError) as caught:
        async with SQLiteEngine(path, **options).open(History(), FakeClock()):
            pass
    assert "\n" not in str(caught.value)
    return type(caught.value), str(caught.value)


async def make(path: Path) -> None:
    async with SQLiteEngine(path).open(History(), FakeClock()):
        pass


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A directory, seen by somebody who is not root: to him a file is read-only that says so."""
    directory = Path(tempfile.mkdtemp())
    try:
        yield directory
    finally:
        if os.geteuid() == NOBODY:
            os.seteuid(0)
        directory.chmod(stat.S_IRWXU)
        shutil.rmtree(directory)


def step_down() -> None:
    if os.geteuid() == 0:
        os.seteuid(NOBODY)


async def test_a_directory(tmp_path: Path) -> None:
    assert await refusal(tmp_path) == (
        ConfigurationError,
        f"{tmp_path} is a directory; name a file for the SQLite engine.",
    )


async def test_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "log.db"
    assert await refusal(path) == (
        ConfigurationError,
        f"{path}: there is no directory {tmp_path}/nowhere; create it first.",
    )


async def test_no_sqlite_file(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_text("Dear diary, today I was opened by a program. " * 100)
    before = path.read_bytes()
    assert await refusal(path) == (
        ConfigurationError,
        f"{path} is no SQLite file; name another, or put a backup in its place.",
    )
    assert path.read_bytes() == before


async def test_the_header_is_garbage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await make(path)
    with path.open("r+b") as file:
        file.write(bytes(range(100)))
    assert (await refusal(path))[1] == f"{path} is no SQLite file; name another, or put a backup in its place."


async def test_the_first_page_is_garbage(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await make(path)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 900)
    kind, said = await refusal(path)
    assert kind is ConfigurationError
    assert said == f"{path} is damaged (database disk image is malformed); put a backup in its place."


async def test_the_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE photo (id INTEGER PRIMARY KEY)")
    before = path.read_bytes()
    assert await refusal(path) == (
        ConfigurationError,
        f"{path} is the SQLite file of another program; name another file.",
    )
    assert path.read_bytes() == before, "it has been changed"


async def test_the_file_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    await make(path)
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 7")
    assert await refusal(path) == (
        ConfigurationError,
        f"{path} was written by a newer jackfield (format 7, this one knows 1); use that one, or name another file.",
    )


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.touch()
    await make(path)
    assert path.stat().st_size > 0


async def test_a_file_that_is_read_only() -> None:
    with unprivileged() as directory:
        path = directory / "log.db"
        await make(path)
        path.chmod(0o444)
        directory.chmod(0o777)
        step_down()
        assert await refusal(path) == (
            ConfigurationError,
            f"{path} can only be read; the process must own the file, and may create others beside it.",
        )


async def test_a_directory_that_is_read_only() -> None:
    with unprivileged() as directory:
        path = directory / "log.db"
        directory.chmod(0o555)
        step_down()
        assert await refusal(path) == (
            ConfigurationError,
            f"{path} cannot be opened for writing (unable to open database file); "
            "the process must own the file, and may create others beside it.",
        )


# --- who has it


HOLDER = """
import sys, anyio
from jackfield._clock import SystemClock
from jackfield.engine import Commit, Draft, History
from jackfield_sqlite import SQLiteEngine

async def main():
    engine = SQLiteEngine(sys.argv[1], wait=0)
    async with engine.open(History(), SystemClock()):
        await engine.commit("w", Commit(drafts=[Draft("m1", b"", b"")]))
        print("open", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)

anyio.run(main)
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The file, open in another process."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "open\n"
            yield holder
        finally:
            holder.kill()


@pytest.mark.servers
async def test_another_process_has_it(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with held(path):
        assert await refusal(path, wait=0) == (
            EngineUnavailable,
            f"{path} is in use by another process; one file serves one node at a time; "
            "stop the other one, or name another file.",
        )


@pytest.mark.servers
async def test_who_has_it_and_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    clock = FakeClock()
    engine = SQLiteEngine(path)
    positions: list[int] = []

    async def open_it() -> None:
        async with engine.open(History(), clock):
            positions.append((await engine.read("w")).position)

    with held(path) as holder:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_it)
            for _ in range(5):
                await anyio.to_thread.run_sync(lambda: None)
                await clock.advance(0.3)
            assert positions == []
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            await anyio.to_thread.run_sync(holder.wait)
            with anyio.fail_after(20):
                while not positions:
                    await anyio.to_thread.run_sync(lambda: None)
                    await clock.advance(0.01)
    assert positions == [1]


@pytest.mark.servers
async def test_who_was_killed_has_it_no_more(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with held(path) as holder:
        holder.kill()
        await anyio.to_thread.run_sync(holder.wait)
        engine = SQLiteEngine(path, wait=0)
        async with engine.open(History(), FakeClock()):
            assert (await engine.read("w")).position == 1


# --- what is wrong with it while it is open


async def test_a_page_in_the_middle_is_garbage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It shows when somebody wants it; the others go on."""
    path = tmp_path / "log.db"
    async with SQLiteEngine(path).open(History(), FakeClock()):
        pass
    engine, body = SQLiteEngine(path), b"x" * 3000
    async with engine.open(History(), FakeClock()):
        for workspace in "abc":
            for n in range(20):
                await engine.commit(workspace, Commit(drafts=[Draft(f"{workspace}{n}", b"head", body)]))
            await engine.commit(workspace, Commit(cells=[Cell(Key("t", f"{workspace}{n}"), body) for n in range(20)]))
    with closing(sqlite3.connect(path)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'cell'").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xaa" * size)
    said = f"{path} is damaged (database disk image is malformed); stop, and put a backup in its place"
    engine = SQLiteEngine(path)
    async with engine.open(History(), FakeClock()):
        for _ in range(3):
            with pytest.raises(EngineRefused) as caught:
                await engine.commit("a", Commit(cells=[Cell(Key("t", "a1"), b"1")]))
            assert str(caught.value) == said
            with pytest.raises(EngineRefused):
                await engine.read("a", [Key("t", "a1")])
        # Who needs nothing of it is served, together with one who does.
        outcomes: list[object] = []

        async def attempt(workspace: str, commit: Commit) -> None:
            try:
                outcomes.append((workspace, (await engine.commit(workspace, commit))[:2]))
            except EngineRefused:
                outcomes.append((workspace, "refused"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(attempt, "b", Commit(drafts=[Draft("b20", b"", b"")]))
            tasks.start_soon(attempt, "a", Commit(cells=[Cell(Key("t", "a1"), b"1")]))
            tasks.start_soon(attempt, "c", Commit(drafts=[Draft("c20", b"", b"")]))
        assert sorted(outcomes, key=str) == [("a", "refused"), ("b", (21, 21)), ("c", (21, 21))]
    assert [record.getMessage() for record in caplog.records] == [said]


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_file_that_is_deleted_takes_nothing_more(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was written into it would be gone with the process."""
    path = tmp_path / "log.db"
    engine = SQLiteEngine(path)
    async with engine.open(History(), FakeClock()):
        await engine.commit("w", Commit(drafts=[Draft("m1", b"", b"")]))
        gone = Path(f"{path}{suffix}")
        os.rename(gone, tmp_path / "elsewhere")
        for n in range(3):
            with pytest.raises(EngineRefused) as caught:
                await engine.commit("w", Commit(drafts=[Draft(f"n{n}", b"", b"")]))
            assert str(caught.value) == (
                f"{path}, or the log.db-wal beside it, has been deleted or replaced while it was in use; "
                "put it back, and restart"
            )
        assert (await engine.read("w")).position == 1
        os.rename(tmp_path / "elsewhere", gone)
        assert (await engine.commit("w", Commit(drafts=[Draft("m2", b"", b"")])))[0] == 2
    assert [record.getMessage() for record in caplog.records] == [str(caught.value), f"{path} is written again"]


# --- as whoever starts a server sees it


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_server_says_it_in_one_line(
    loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JACKFIELD_SECRET", "a secret that only this test knows, of 32 bytes")
    path = tmp_path / "log.db"
    path.write_text("no database, but a good deal of text. " * 100)
    assert main(["serve", "--port=0", f"--loop={loop}", f"--engine=sqlite:///{path}"]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in said.splitlines() if line.startswith("jackfield: ")]
    assert line == f"jackfield: {path} is no SQLite file; name another, or put a backup in its place."
    assert "Traceback" not in said


@pytest.mark.servers
def test_a_server_whose_file_another_process_has_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JACKFIELD_SECRET", "a secret that only this test knows, of 32 bytes")
    path = tmp_path / "log.db"
    with held(path):
        assert main(["serve", "--port=0", f"--engine=sqlite:///{path}?wait=0.2"]) == 1
    said = capsys.readouterr().err
    assert f"jackfield: {path} is in use by another process; one file serves one node at a time; " in said
    assert "Traceback" not in said
