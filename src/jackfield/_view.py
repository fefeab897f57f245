"""What `initial_state` reads: all of it at one position of the log, which is where the connection's stream begins.

State that was read at two moments is of neither, and a stream that begins before it tells again what is in it. While
nothing happens in the workspace there is nothing to do. Where something did, everything that was asked for is read at
one instant, and the hooks are asked once more on top of that. What they know from elsewhere, such as the host's own
database, then is that instant's or newer: it may know of an event that still comes, and misses none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from jackfield.engine import Engine, Key, Snapshot

__all__ = ["View", "reader"]

T = TypeVar("T")

TRIES = 5
"""By then everything that hooks ask for is known, unless each answer leads them elsewhere."""

_through: ContextVar[View | None] = ContextVar("jackfield_view", default=None)


def reader(engine: Engine, workspace_id: str) -> Engine | View:
    """What a workspace is read from here: through the view, inside of one."""
    view = _through.get()
    return engine if view is None or not view.is_of(engine, workspace_id) else view


class View:
    """A workspace as of one position; first of all the one where the connection stands."""

    def __init__(self, engine: Engine, workspace_id: str, position: int) -> None:
        self._workspace_id = workspace_id
        self._engine = engine
        self._position = position
        self._keys: set[Key] = set()
        self._tables: set[str] = set()
        self._held: Snapshot | None = None
        self._torn = False
        self._over = False

    def is_of(self, engine: Engine, workspace_id: str) -> bool:
        """Whether this workspace is to be looked at through it: while it is taken, and not another application's, which
        may have one of the same name."""
        return not self._over and self._engine is engine and self._workspace_id == workspace_id

    async def take(self, ask: Callable[[], Awaitable[T]], advance: Callable[[Snapshot], Awaitable[None]]) -> T:
        """What `ask` returns, having read through this. Before it is asked again, `advance` is told where that stands
        then: what the connection itself knows has to be of there, too. Where each time it read something else, the
        answer may be newer than that, and is no older."""
        with self._looked_through():
            answer = await ask()
            for _ in range(TRIES):
                if not self._torn:
                    break
                self._held = await self._engine.read(self._workspace_id, tuple(self._keys), tuple(self._tables))
                self._position, self._torn = self._held.position, False
                await advance(self._held)
                answer = await ask()
            return answer

    @contextmanager
    def _looked_through(self) -> Generator[None, None, None]:
        token = _through.set(self)
        try:
            yield
        finally:
            self._over = True  # a task that was begun inside still has it
            self._held = None
            _through.reset(token)

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        """As the engine's."""
        held = self._held
        if held is not None and held.cells.keys() >= {*keys} and held.tables.keys() >= {*tables}:
            return held
        self._keys.update(keys)
        self._tables.update(tables)
        fresh = await self._engine.read(workspace, keys, tables)
        self._torn |= fresh.position != self._position
        return fresh
