"""What the scripts answer and say on the bus, read: what is none of ours is passed over, and said once."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from jackfield.engine import Committed, Conflict, Due, EngineRefused, Key, Record, Rewound, Snapshot

if TYPE_CHECKING:
    from jackfield_redis._seal import Seal

__all__ = ["Answers", "CaughtUp", "News", "WentBack"]

logger = logging.getLogger("jackfield")

REMEMBERED = 1_000
"""Places of which is known that they have been spoken of."""


class CaughtUp(NamedTuple):
    """What stands behind a position, all of it up to `upto`, where the log stands at `top`."""

    epoch: str
    records: Sequence[Record]
    upto: int
    top: int
    newest: tuple[int, str]


class WentBack(NamedTuple):
    """The log does not hold what had been given; it stands at `top`."""

    epoch: str
    top: int


class News(NamedTuple):
    """What was said on the bus: these positions have been taken, by these records where they are said."""

    epoch: str
    first: int
    last: int
    behind: tuple[int, str]
    """The newest lasting record before them."""
    records: Sequence[Record]


class Answers:
    """Read by who knows how they are sealed."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._spoken_of: dict[str, None] = {}

    def outcome(self, answer: Any, workspace: str) -> Committed | Conflict:
        """Of a commit. Raises Rewound."""
        match answer:
            case [b"done", first, last, now]:
                return Committed(int(first), int(last), float(now))
            case [b"conflict", differing, known, now]:
                cells = {Key(t.decode(), f.decode()): self._cell(v, workspace, t, f) for t, f, v in _threes(differing)}
                ids = iter(known)
                return Conflict(
                    cells, {id.decode(): int(at) if at else None for id, at in zip(ids, ids, strict=True)}, float(now)
                )
            case _:
                raise Rewound(workspace)

    def snapshot(self, answer: Any, workspace: str, keys: Sequence[Key], tables: Sequence[str]) -> Snapshot:
        """Of a read."""
        epoch, top, newest, newest_id, floor, floor_id, now, cells, rows = answer
        return Snapshot(
            epoch.decode(),
            int(top),
            int(newest),
            newest_id.decode(),
            int(floor),
            floor_id.decode(),
            float(now),
            {key: self._cell(value, workspace, *map(str.encode, key)) for key, value in zip(keys, cells, strict=True)},
            {table: self._table(row, workspace, table) for table, row in zip(tables, rows, strict=True)},
        )

    def records(self, answer: Any, workspace: str, limit: int) -> list[Record]:
        """Lasting and passing ones, in their order."""
        return list(islice(self._merged(answer, workspace), limit))

    def caught_up(self, answer: Any, workspace: str, limit: int) -> CaughtUp | WentBack:
        """Of a question for what stands behind a position."""
        epoch, top = answer[0].decode(), int(answer[1])
        if len(answer) == 2:
            return WentBack(epoch, top)
        # Where one of both goes on, the other is known up to there.
        upto = min((_position(entries[-1]) for entries in answer[4:] if len(entries) >= limit), default=top)
        found = [record for record in self._merged(answer[4:], workspace) if record.position <= upto]
        return CaughtUp(epoch, found, upto, top, (int(answer[2]), answer[3].decode()))

    def due(self, answer: Any) -> tuple[list[Due], float | None, list[str]]:
        """What is due, when something else will be, and logs that hold nothing."""
        cells, later, idle = answer
        found: list[Due] = []
        for name, when in cells:
            workspace, _, cell = name.partition(b"/")
            length, _, key = cell.partition(b":")
            try:
                size = int(length)
                found.append(Due(workspace.decode(), Key(key[:size].decode(), key[size:].decode()), float(when)))
            except ValueError as error:
                self._pass_over(f"a cell that is due, {name!r}", error)
        return found, float(later) if later else None, [name.decode() for name in idle]

    def news(self, said: bytes, workspace: str) -> News | None:
        """Of a message on the bus; None for one that says nothing."""
        found: list[Record] = []
        try:
            line, _, rest = said.partition(b"\n")
            epoch, first, last, at, newest, size = line.split()
            before = int(newest), rest[: int(size)].decode()
            rest = rest[int(size) :]
            while rest:
                line, _, rest = rest.partition(b"\n")
                id_size, head_size, body_size, lasting = map(int, line.split())
                body_at, end = id_size + head_size, id_size + head_size + body_size
                pieces = rest[:id_size], rest[id_size:body_at], rest[body_at:end]
                found.append(self._record(int(first) + len(found), *pieces, bool(lasting), at, workspace))
                rest = rest[end:]
            return News(epoch.decode(), int(first), int(last), before, found)
        except (ValueError, EngineRefused) as error:
            self._pass_over(f"what is said on the bus of {workspace}", error)
            return None

    def _merged(self, answer: Any, workspace: str) -> Iterator[Record]:
        lasting, passing = answer
        return heapq.merge(
            self._entries(lasting, True, workspace), self._entries(passing, False, workspace), key=itemgetter(0)
        )

    def _entries(self, entries: Any, lasting: bool, workspace: str) -> Iterator[Record]:
        for entry in entries:
            try:
                place, (_, id, _, head, _, body, _, at) = entry
                if not place.endswith(b"-0"):
                    raise ValueError("a second one at that position")
                yield self._record(_position(entry), id, head, body, lasting, at, workspace)
            except (ValueError, EngineRefused) as error:
                self._pass_over(f"record {entry[0].decode()} of {workspace}", error)

    def _record(
        self, position: int, id: bytes, head: bytes, body: bytes, lasting: bool, at: bytes, workspace: str
    ) -> Record:
        name = id.decode()
        said = self._seal.open(head, workspace, "head", name), self._seal.open(body, workspace, "body", name)
        return Record(position, name, *said, lasting, float(at))

    def _pass_over(self, what: str, why: Exception) -> None:
        if what not in self._spoken_of:
            self._spoken_of[what] = None
            if len(self._spoken_of) > REMEMBERED:
                del self._spoken_of[next(iter(self._spoken_of))]
            logger.warning("%s is passed over: %s", what, why)

    def _table(self, row: Sequence[bytes], workspace: str, table: str) -> dict[str, bytes]:
        fields = iter(row)
        return {
            (field := _text(f)): self._seal.open(v, workspace, "cell", table, field)
            for f, v in zip(fields, fields, strict=True)
        }

    def _cell(self, value: bytes | None, workspace: str, table: bytes, field: bytes) -> bytes | None:
        if value is None or not field:  # the revision of a table is nobody's
            return value
        return self._seal.open(value, workspace, "cell", _text(table), _text(field))


def _position(entry: Any) -> int:
    return int(entry[0].partition(b"-")[0])


def _threes(flat: Sequence[Any]) -> Sequence[tuple[Any, Any, Any]]:
    items = iter(flat)
    return list(zip(items, items, items, strict=True))


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise EngineRefused(f"{name!r} stands there, which is no name of ours") from None
