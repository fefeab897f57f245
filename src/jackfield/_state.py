"""What is remembered: typed cells over the engine, read and written inside one commit.

A plugin declares `State("polls", Poll)` and gets, in every workspace, a `Poll` for each key. What it changes in a
`Transaction` lands on an overlay; the commit compares everything that was read, and is decided again where that moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import orjson
from cattrs.preconf.orjson import make_converter

from jackfield._audience import Audience, dump, load
from jackfield.engine import Cell, Engine, Key

if TYPE_CHECKING:
    from jackfield._workspace import Workspace

__all__ = ["Change", "Overlay", "State", "Transaction", "due_of", "falls_due", "forget", "savepoint"]

T = TypeVar("T")
_converter = make_converter()
# A cell may remember an audience, as members do for what follows a message.
_converter.register_structure_hook(Audience, lambda value, _: load(value))
_converter.register_unstructure_hook(Audience, dump)

DUE = b"@"
"""A cell with a due time carries it in front of its value, so that moving the time moves what a commit compares. No
JSON begins like this."""


def due_of(value: bytes | None) -> float | None:
    """When a stored cell falls due (wall clock, seconds)."""
    return None if value is None or not value.startswith(DUE) else float(value[1 : value.index(b"\n")])


def _undated(value: bytes) -> bytes:
    return value[value.index(b"\n") + 1 :] if value.startswith(DUE) else value


class State(Generic[T]):
    """A typed cell for each key, in every workspace.

    `name` begins with the plugin's name; whoever takes a plugin's chair finds its cells by it. `type` is an attrs
    class, a scalar or a collection of them, whatever cattrs can turn into JSON and back; a key that holds nothing
    reads as `type()`, or as `default`. Keep cells small (a user, a message): every change writes the whole of one,
    and two nodes that change the same one wait for each other.
    """

    def __init__(self, name: str, type: type[T], default: Callable[[], T] | None = None) -> None:
        self.name = name
        self.type = type
        self._default = default or type
        self._structure = _converter.get_structure_hook(type)
        self._unstructure = _converter.get_unstructure_hook(type)

    def __repr__(self) -> str:
        return f"State({self.name!r})"

    def of(self, part: str) -> State[T]:
        """The same, in a table of its own: for what is read as a whole, such as the replies of one message."""
        return State(f"{self.name}/{part}", self.type, self._default)

    def load(self, value: bytes | None) -> T:
        """A cell's value."""
        if value is None:
            return self._default()
        value = _undated(value)
        loaded: T = self._structure(orjson.loads(value), self.type)
        return loaded

    def dump(self, value: T) -> bytes | None:
        """A value's cell; None where it is what an empty cell reads as."""
        if value == self._default():
            return None
        return orjson.dumps(self._unstructure(value))


@attrs.frozen
class Change(Generic[T]):
    """What an update did. True when it did something."""

    before: T
    after: T

    def __bool__(self) -> bool:
        return bool(self.before != self.after)


class Overlay:
    """One commit in the making: what was read, which the commit will compare, and what is written on top.

    `mark` and `back_to` undo the writes of a decision that came to nothing. What it read stays compared: that costs a
    second try at worst, never a mistake.
    """

    def __init__(self, engine: Engine, workspace_id: str, now: float) -> None:
        self.now = now
        self.expected: dict[Key, bytes | None] = {}
        self.writes: dict[Key, Cell] = {}
        self._engine = engine
        self._workspace_id = workspace_id
        self._known: dict[Key, bytes | None] = {}
        self._tables: dict[str, Mapping[str, bytes]] = {}
        self._undo: list[tuple[Key, Cell | None]] = []
        self._written: dict[str, dict[Key, None]] = {}

    async def get(self, key: Key) -> bytes | None:
        """A cell, as this commit would leave it."""
        if (written := self.writes.get(key)) is not None:
            return written.value
        if key not in self.expected:
            if (table := self._tables.get(key.table)) is not None:
                return table.get(key.field)  # the table's revision is compared
            await self.read_ahead((key,))
            self.expected[key] = self._known[key]
        return self.expected[key]

    async def all(self, table: str) -> dict[str, bytes]:
        """A whole table, as this commit would leave it. Its revision is compared."""
        await self.read_ahead(tables=(table,))
        rows = dict(self._tables[table])
        for key in self._written.get(table, ()):
            if (cell := self.writes.get(key)) is None:  # undone since
                continue
            if cell.value is None:
                rows.pop(key.field, None)
            else:
                rows[key.field] = cell.value
        return rows

    async def read_ahead(self, keys: Iterable[Key] = (), tables: Iterable[str] = ()) -> None:
        """Ask the engine once for what has not been asked yet."""
        tables = [table for table in tables if table not in self._tables]
        keys = [key for key in keys if key not in self._known and key.table not in self._tables]
        if not keys and not tables:
            return
        revisions = {table: Key(table, "") for table in tables}
        snapshot = await self._engine.read(self._workspace_id, (*keys, *revisions.values()), tables)
        self.now = snapshot.now
        self._known.update({key: snapshot.cells[key] for key in keys})
        self._tables.update(snapshot.tables)
        self.expected.update({revision: snapshot.cells[revision] for revision in revisions.values()})

    def put(self, cell: Cell) -> None:
        """Write or delete."""
        self._undo.append((cell.key, self.writes.get(cell.key)))
        self.writes[cell.key] = cell
        self._written.setdefault(cell.key.table, {})[cell.key] = None

    def mark(self) -> int:
        """A point to come back to."""
        return len(self._undo)

    def back_to(self, mark: int) -> None:
        """Undo what was written since."""
        while len(self._undo) > mark:
            key, cell = self._undo.pop()
            if cell is None:
                del self.writes[key]
            else:
                self.writes[key] = cell

    def again(self, cells: Mapping[Key, bytes | None], now: float) -> None:
        """Begin anew, after a conflict that told what the engine now holds. What was equal then needs no second
        read."""
        self._known.update(self.expected)
        self._known.update(cells)
        self._known = {key: value for key, value in self._known.items() if key.field}
        self.now = now
        self.expected.clear()
        self.writes.clear()
        self._tables.clear()
        self._undo.clear()
        self._written.clear()


class Transaction:
    """What a hook inside a commit sees: the workspace at one point, with what this commit has decided so far on top.

    What is written is committed together with the event that is being decided, or not at all.
    """

    def __init__(self, workspace: Workspace, overlay: Overlay) -> None:
        self.workspace = workspace
        self.audience: Audience | None = None
        """Who the event being decided is for, before the publisher's exceptions."""
        self.moves_sight = True
        """Set False for a `member.*` that changes nobody's sight: of a channel that everyone sees anyhow, or of who is
        a member already. What a user saw earlier is found by walking back over these events."""
        self.seen_by: Audience | None = None
        """Set it for a `channel.deleted` to who saw the channel until then. Those of them who come back later are told.
        Where it stays None and nothing else shows it, who resumes across that event has to load afresh."""
        self._overlay = overlay

    @property
    def now(self) -> float:
        """The engine's wall clock, in seconds; one and the same for all nodes."""
        return self._overlay.now

    async def get(self, state: State[T], key: str) -> T:
        """The value of a key; the commit fails, and is decided again, if somebody changes it first."""
        return state.load(await self._overlay.get(Key(state.name, key)))

    async def all(self, state: State[T]) -> dict[str, T]:
        """Every key that holds something. Any change of any of them makes this decided again."""
        return {key: state.load(value) for key, value in (await self._overlay.all(state.name)).items()}

    async def read_ahead(self, cells: Iterable[tuple[State[Any], str]] = (), tables: Iterable[State[Any]] = ()) -> None:
        """Read in one trip what is about to be asked for: for a decision over many cells, such as the end of a channel.
        Changes nothing but the time that it takes."""
        keys = [Key(state.name, key) for state, key in cells]
        await self._overlay.read_ahead(keys, [state.name for state in tables])

    async def update(
        self,
        state: State[T],
        key: str,
        change: Callable[[T], T],
        *,
        due: float | None = None,
        fading: bool = False,
    ) -> Change[T]:
        """Put what `change` makes of the value in its place; nothing is written where it makes no difference.

        `change` is a pure function; it may run again. `due`, in seconds from now, has `cell_due` asked then; an
        update that names none leaves the time that was named before. `fading` forgets the cell when the history has
        passed this commit.
        """
        cell = Key(state.name, key)
        held = await self._overlay.get(cell)
        before = state.load(held)
        after = change(before)
        if before != after or due is not None:
            value = state.dump(after)
            when = self.now + due if due is not None else due_of(held)
            if value is None:
                when = None
            elif when is not None:
                value = b"%s%r\n%s" % (DUE, when, value)
            self._overlay.put(Cell(cell, value, when, fading))
        return Change(before, after)


async def falls_due(transaction: Transaction, key: Key) -> bool:
    """Whether a cell is there still, and its time has come."""
    due = due_of(await transaction._overlay.get(key))
    return due is not None and due <= transaction.now


def forget(transaction: Transaction, key: Key) -> None:
    """Be done with a cell that was due: delete it, where this commit has not written it anew."""
    overlay = transaction._overlay
    written = overlay.writes.get(key)
    if written is None:
        overlay.put(Cell(key, None))
    elif written.due is not None and written.due <= transaction.now:  # left as it was, it would be due for ever
        overlay.put(Cell(key, _undated(written.value or b""), None, written.fading))


def savepoint(transaction: Transaction) -> Callable[[], None]:
    """What undoes everything that is written from here on."""
    overlay = transaction._overlay
    return partial(overlay.back_to, overlay.mark())
