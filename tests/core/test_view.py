"""What `initial_state` reads is of one position, and that is where the stream begins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from jackfield import MemoryEngine
from jackfield._view import TRIES, View, reader
from jackfield.engine import Cell, Commit, Draft, History, Key, Snapshot
from jackfield.testing import FakeClock, settle

A, B, C = Key("t", "a"), Key("t", "b"), Key("t", "c")


class Desk:
    def __init__(self, engine: MemoryEngine) -> None:
        self.engine = engine
        self.reads: list[tuple[set[Key], set[str]]] = []
        self.moved = 0

    async def read(self, workspace: str, keys: Any = (), tables: Any = ()) -> Any:
        self.reads.append(({*keys}, {*tables}))
        return await self.engine.read(workspace, keys, tables)

    async def move(self, key: Key = A, workspace: str = "w") -> None:
        """Somebody changes a cell, and says so."""
        self.moved += 1
        value = b"%d" % self.moved
        commit = Commit(cells=[Cell(key, value)], drafts=[Draft(f"d{self.moved}", b"", b"")])
        await self.engine.commit(workspace, commit)

    async def take(self, ask: Callable[[], Awaitable[Any]]) -> tuple[Any, int | None]:
        """The answer, and where the connection stands then, if it was told to go on."""
        position = (await self.engine.read("w")).position
        at: int | None = None

        async def advance(snapshot: Snapshot) -> None:
            nonlocal at
            at = snapshot.position

        answer = await View(self, "w", position).take(ask, advance)  # type: ignore[arg-type]
        return answer, at

    async def value(self, key: Key, workspace: str = "w") -> int:
        return int((await reader(self, workspace).read(workspace, (key,))).cells[key] or 0)  # type: ignore[arg-type]


@asynccontextmanager
async def desk() -> AsyncGenerator[Desk, None]:
    engine = MemoryEngine()
    async with engine.open(History(), FakeClock()):
        yield Desk(engine)


async def test_while_nothing_happens_it_is_asked_once_and_where_it_stood() -> None:
    async with desk() as d:
        await d.move()

        async def ask() -> list[int]:
            return [await d.value(A), await d.value(B)]

        assert await d.take(ask) == ([1, 0], None)
        assert d.reads == [({A}, set()), ({B}, set())]


async def test_where_something_happened_it_is_asked_again_on_top_of_one_instant() -> None:
    async with desk() as d:
        asked = 0

        async def ask() -> list[int]:
            nonlocal asked
            asked += 1
            first = await d.value(A)
            await d.move(A)  # the second time, too: behind that instant
            return [first, await d.value(A), await d.value(B)]

        assert await d.take(ask) == ([1, 1, 0], 1)
        assert asked == 2
        assert d.reads[-1] == ({A, B}, set())


async def test_what_is_only_asked_the_second_time_is_read_with_all_the_rest_the_third() -> None:
    async with desk() as d:
        asked = 0

        async def ask() -> list[int]:
            nonlocal asked
            asked += 1
            if asked < 3:
                await d.move(B)
            found = [await d.value(A)]
            if asked > 1:
                found.append(await d.value(B))
            return found

        assert await d.take(ask) == ([0, 2], 2)
        assert d.reads[-1] == ({A, B}, set())


async def test_a_table_is_at_hand_too() -> None:
    async with desk() as d:
        await d.move(B)

        async def ask() -> object:
            await d.move(A)
            snapshot = await reader(d, "w").read("w", tables=("t",))  # type: ignore[arg-type]
            return dict(snapshot.tables["t"])

        assert await d.take(ask) == ({"a": b"2", "b": b"1"}, 2)


async def test_who_asks_for_something_else_each_time_gets_what_is_no_older_than_where_it_stands() -> None:
    async with desk() as d:
        asked = 0

        async def ask() -> int:
            nonlocal asked
            asked += 1
            await d.move(Key("t", f"{asked}"))
            return await d.value(Key("t", f"{asked}"))

        assert await d.take(ask) == (TRIES + 1, TRIES)
        assert asked == TRIES + 1


async def test_another_workspace_is_read_as_it_is() -> None:
    async with desk() as d:

        async def ask() -> list[int]:
            before = await d.value(A, "other")
            await d.move(A, "other")
            return [before, await d.value(A, "other")]

        assert await d.take(ask) == ([0, 1], None)


async def test_outside_of_it_everything_is_read_as_it_is_and_tasks_inside_read_through_it() -> None:
    async with desk() as d:
        inside: list[int] = []

        async def ask() -> None:
            async def note() -> None:
                inside.append(await d.value(A))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(note)
            await d.move(A)
            inside.append(await d.value(A))

        await d.take(ask)
        assert inside == [0, 1, 1, 1]
        assert await d.value(A) == 2


async def test_a_task_that_was_begun_inside_and_lives_on_reads_what_there_is() -> None:
    async with desk() as d, anyio.create_task_group() as tasks:
        over, found = anyio.Event(), anyio.Event()
        values: list[int] = []

        async def live_on() -> None:
            await over.wait()
            values.append(await d.value(A))
            found.set()

        async def ask() -> int:
            await d.move()
            if d.moved == 2:
                tasks.start_soon(live_on)
            return await d.value(A)

        assert await d.take(ask) == (1, 1)
        await d.move()
        over.set()
        await found.wait()
        assert values == [3]


async def test_when_it_is_over_a_task_that_was_begun_inside_leaves_nothing_in_it() -> None:
    async with desk() as d, anyio.create_task_group() as tasks:
        over = anyio.Event()
        readers: list[object] = []

        async def live_on() -> None:
            readers.append(reader(d, "w"))  # type: ignore[arg-type]
            await over.wait()
            readers.append(reader(d, "w"))  # type: ignore[arg-type]

        async def ask() -> int:
            tasks.start_soon(live_on)
            await settle()
            return await d.value(A)

        await d.take(ask)
        over.set()
        await settle()
        assert isinstance(readers[0], View)
        assert readers[1] is d


async def test_another_applications_workspace_of_the_same_name_is_another() -> None:
    async with desk() as d, desk() as other:
        await other.move()

        async def ask() -> list[int]:
            await d.value(A)
            await d.move(B)
            return [await d.value(A), await other.value(A)]

        assert await d.take(ask) == ([0, 1], 1)


async def test_what_is_raised_is_raised_and_the_view_is_left() -> None:
    async with desk() as d:

        async def ask() -> None:
            raise ValueError("no state")

        with pytest.raises(ValueError, match="no state"):
            await d.take(ask)
        assert reader(d, "w") is d  # type: ignore[arg-type]
