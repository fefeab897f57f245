"""What the scripts answer and say on the bus, read."""

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

__all__ = ["CaughtUp", "News", "WentBack", "caught_up", "due", "news", "outcome", "records", "snapshot"]


logger = logging.getLogger("jackfield")


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
    records: Sequence[Record]


def outcome(answer: Any, workspace: str, seal: Seal) -> Committed | Conflict:
    """Of a commit. Raises Rewound."""
    match answer:
        case [b"done", first, last, now]:
            return Committed(int(first), int(last), float(now))
        case [b"conflict", differing, known, now]:
            cells = {Key(t.decode(), f.decode()): _value(v, seal, workspace, t, f) for t, f, v in _threes(differing)}
            ids = iter(known)
            return Conflict(
                cells, {id.decode(): int(at) if at else None for id, at in zip(ids, ids, strict=True)}, float(now)
            )
        case _:
            raise Rewound(workspace)


def snapshot(answer: Any, workspace: str, keys: Sequence[Key], tables: Sequence[str], seal: Seal) -> Snapshot:
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
        {key: _value(value, seal, workspace, *map(str.encode, key)) for key, value in zip(keys, cells, strict=True)},
        {table: _table(row, seal, workspace, table) for table, row in zip(tables, rows, strict=True)},
    )


def records(answer: Any, workspace: str, limit: int, seal: Seal) -> list[Record]:
    """Lasting and passing ones, in their order."""
    lasting, passing = answer
    both = heapq.merge(
        _entries(lasting, True, workspace, seal), _entries(passing, False, workspace, seal), key=itemgetter(0)
    )
    return list(islice(both, limit))


def caught_up(answer: Any, workspace: str, limit: int, seal: Seal) -> CaughtUp | WentBack:
    """Of a question for what stands behind a position."""
    epoch, top = answer[0].decode(), int(answer[1])
    if len(answer) == 2:
        return WentBack(epoch, top)
    found = records(answer[4:], workspace, limit, seal)
    upto = found[-1].position if len(answer[4]) + len(answer[5]) >= limit and found else top
    return CaughtUp(epoch, found, upto, top, (int(answer[2]), answer[3].decode()))


def due(answer: Any) -> tuple[list[Due], float | None, list[str]]:
    """What is due, when something else will be, and logs that hold nothing."""
    cells, later, idle = answer
    found: list[Due] = []
    for name, when in cells:
        workspace, _, cell = name.partition(b"/")
        length, _, key = cell.partition(b":")
        found.append(
            Due(workspace.decode(), Key(key[: int(length)].decode(), key[int(length) :].decode()), float(when))
        )
    return found, float(later) if later else None, [name.decode() for name in idle]


def news(said: bytes, workspace: str, seal: Seal) -> News:
    """Of a message on the bus."""
    line, _, rest = said.partition(b"\n")
    epoch, first, last, at = line.split()
    found: list[Record] = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        id_size, head_size, body_size, lasting = map(int, line.split())
        body_at, end = id_size + head_size, id_size + head_size + body_size
        position = int(first) + len(found)
        record = _record(
            position, rest[:id_size], rest[id_size:body_at], rest[body_at:end], bool(lasting), at, workspace, seal
        )
        if record is None:
            return News(epoch.decode(), int(first), int(last), ())
        found.append(record)
        rest = rest[end:]
    return News(epoch.decode(), int(first), int(last), found)


def _entries(entries: Any, lasting: bool, workspace: str, seal: Seal) -> Iterator[Record]:
    for place, (_, id, _, head, _, body, _, at) in entries or ():
        record = _record(int(place.partition(b"-")[0]), id, head, body, lasting, at, workspace, seal)
        if record is not None:
            yield record


def _record(
    position: int, id: bytes, head: bytes, body: bytes, lasting: bool, at: bytes, workspace: str, seal: Seal
) -> Record | None:
    """None for what is none of ours: it is passed over, and what is ours goes on."""
    name = id.decode()
    try:
        said = seal.open(head, workspace, "head", name), seal.open(body, workspace, "body", name)
    except EngineRefused as error:
        logger.warning("record %d of %s is passed over: %s", position, workspace, error)
        return None
    return Record(position, name, *said, lasting, float(at))


def _table(row: Sequence[bytes], seal: Seal, workspace: str, table: str) -> dict[str, bytes]:
    fields = iter(row)
    return {f.decode(): seal.open(v, workspace, "cell", table, f.decode()) for f, v in zip(fields, fields, strict=True)}


def _value(value: bytes | None, seal: Seal, workspace: str, table: bytes, field: bytes) -> bytes | None:
    if value is None or not field:  # the revision of a table is nobody's
        return value
    return seal.open(value, workspace, "cell", table.decode(), field.decode())


def _threes(flat: Sequence[Any]) -> Sequence[tuple[Any, Any, Any]]:
    items = iter(flat)
    return list(zip(items, items, items, strict=True))
