"""What everything shared stands on: cells and an ordered log, changed together or not at all.

An engine is whatever passes `jackfield.testing.EngineContract`. Each workspace has cells (a table, a field, a value)
and a log of records at positions 1, 2, 3 …; `Engine.commit` compares cells, writes cells and appends records in one
step. A decision is a function of what it read, so comparing values is enough: when they are equal, so is the decision.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

import attrs

from jackfield.errors import EngineError, EngineRefused, EngineUnavailable

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from jackfield._clock import Clock

__all__ = [
    "Arrived",
    "Cell",
    "Commit",
    "Committed",
    "Conflict",
    "Draft",
    "Due",
    "Engine",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "Feed",
    "History",
    "Key",
    "Lost",
    "Record",
    "Rewound",
    "Snapshot",
    "Trimmed",
]


class Rewound(EngineError):
    """The log went back: it does not hold what this node has seen. A new epoch has begun, here or before."""


class Trimmed(EngineError):
    """A lasting record of the asked range is no longer kept."""


class Key(NamedTuple):
    """One cell of a workspace. `table` starts with its plugin's name; the field "" reads as the table's revision."""

    table: str
    field: str


NOTHING: Mapping[Key, bytes | None] = MappingProxyType({})


class Cell(NamedTuple):
    """A write. None deletes; `due` (wall clock, seconds) asks to be woken then; `fading` forgets it once the history
    has passed this commit: its records are let go, or it is too old."""

    key: Key
    value: bytes | None
    due: float | None = None
    fading: bool = False


class Draft(NamedTuple):
    """A record to append. `head` is what a node needs to fan out, `body` the finished text."""

    id: str
    head: bytes
    body: bytes
    lasting: bool = True
    """False: same order and same feed, but kept for a minute only and never replayed."""


class Record(NamedTuple):
    """A draft in its place. Positions of a workspace are 1, 2, 3 … over lasting and passing ones together."""

    position: int
    id: str
    head: bytes
    body: bytes
    lasting: bool
    at: float


class Commit(NamedTuple):
    """If every `expected` cell still has that value and no id is known: write, append, remember the ids. Else nothing.

    `seen` and `seen_id` are the newest lasting record that the node has: where the log does not hold it, and it is
    above the floor, the log went back. Where `epoch` is given and is not that of the log, somebody else has found that
    out already, and this node has not heard yet. `ids` are idempotency keys of events that turned out to change
    nothing; a draft's own id is remembered with it.
    """

    epoch: str = ""
    seen: int = 0
    seen_id: str = ""
    expected: Mapping[Key, bytes | None] = NOTHING
    cells: Sequence[Cell] = ()
    drafts: Sequence[Draft] = ()
    ids: Collection[str] = ()


class Committed(NamedTuple):
    """It happened: the records stand at `first` … `last` with nothing between them (`first` = `last` + 1: none)."""

    first: int
    last: int
    now: float


class Conflict(NamedTuple):
    """It did not happen: what the differing cells hold now, and where the known ids stand (None: changed nothing)."""

    cells: Mapping[Key, bytes | None]
    known: Mapping[str, int | None]
    now: float


class Snapshot(NamedTuple):
    """Cells and tables, all as of `position`.

    `lasting` is the newest lasting record, which a cursor names; `floor` the newest lasting record that is no longer
    kept; each with its id. `now` is the engine's wall clock, in seconds.
    """

    epoch: str
    position: int
    lasting: int
    lasting_id: str
    floor: int
    floor_id: str
    now: float
    cells: Mapping[Key, bytes | None]
    tables: Mapping[str, Mapping[str, bytes]]


@attrs.frozen
class Arrived:
    """Every lasting record up to `upto` has now been given; `whole` is False where passing ones were gone already."""

    workspace: str
    records: Sequence[Record]
    upto: int
    whole: bool = True


@attrs.frozen
class Lost:
    """The log went back or came back empty; a new epoch has begun at `position`."""

    workspace: str
    epoch: str
    position: int


class Due(NamedTuple):
    """A cell whose time has come."""

    workspace: str
    key: Key
    due: float


@attrs.frozen
class History:
    """How much of a workspace's log is kept: the newest `events`, at most `bytes` of them, none older than `age`
    seconds, whether anybody commits to it or not.

    Passing records are kept a minute, and do not count. A workspace that holds no cell, no record and no id any more,
    and that no feed wants, is forgotten a minute after its last use; it begins anew with another epoch.
    """

    events: int = 10_000
    bytes: int = 64 * 1024 * 1024
    age: float = 86_400.0


class Feed(Protocol):
    """One a node: whatever happens in the wanted workspaces, each in order and without a hole."""

    def want(self, workspace: str, after: int, epoch: str = "") -> None:
        """Give everything behind position `after`, which is Lost where the log does not hold that, or where `epoch` is
        given and it has another. Takes effect at once and never waits."""
        ...

    def release(self, workspace: str) -> None:
        """Nothing of it any more. Never waits."""
        ...

    def __aiter__(self) -> AsyncGenerator[Arrived | Lost, None]:
        """One reader a node; it must hand over without awaiting anybody's send."""
        ...


class Engine(Protocol):
    """Memory, SQLite, Redis, or yours.

    Everything raises EngineUnavailable (outcome unknown) or EngineRefused (nothing happened) and nothing else of its
    own.
    """

    def open(self, history: History, clock: Clock) -> AbstractAsyncContextManager[None]:
        """Connect, or fail with the address in the message; leaving is bounded even when the other side is gone.

        Two nodes of one process may open the same object.
        """
        ...

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        """Cells and whole tables at one instant, with the position of that instant; begins the log where there is
        none."""
        ...

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        """The one way anything changes, in one atomic step. Repeating it after EngineUnavailable is harmless.

        Raises Rewound where `seen` is not in the log, having begun a new epoch in the same step, and where `epoch` is
        another one than the log's: so a log that goes back once begins one epoch, however many nodes notice.
        """
        ...

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        """What is kept of (after, upto], lasting and passing, in order, at most `limit`.

        Raises Trimmed when a lasting record of the range is gone.
        """
        ...

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        """At most `limit` cells whose time has come (again at each call until they are rewritten), and when the next
        one's will (wall clock, seconds). Every node asks each second: the time to give back what is too old."""
        ...

    def feed(self) -> AbstractAsyncContextManager[Feed]:
        """The node's own feed; cut links, restarts and lost wake-ups are mended inside it."""
        ...
