"""What is read of the log for those who read their way up: once for all who come back to the same range.

After a blink everybody wants the same few thousand records. They are read in blocks that begin at the same positions
for everyone; a block that somebody is reading is waited for, and one that was read a moment ago is at hand.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import anyio

from jackfield._log import Entry
from jackfield.engine import Engine, Trimmed

__all__ = ["TURN", "Backlog", "Stretch"]

TURN = 64
"""Records that are read at a time."""

KEPT_BYTES = 16 * 1024 * 1024
ENTRY_BYTES = 256
"""What a record takes beside its text, and a block beside its records."""


class Stretch(NamedTuple):
    """Part of a log: whatever there still is up to `upto`."""

    entries: Sequence[Entry]
    upto: int


class _Block(NamedTuple):
    workspace_id: str
    epoch: str
    start: int
    end: int


class Backlog:
    """A node's."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._kept: OrderedDict[_Block, tuple[Sequence[Entry], int]] = OrderedDict()
        self._size = 0
        self._reading: dict[_Block, anyio.Event] = {}

    async def read(self, workspace_id: str, epoch: str, after: int, upto: int) -> Stretch:
        """The records of (after, upto], as far as one block goes. Raises Trimmed when they are no longer kept."""
        start = after - after % TURN
        block = _Block(workspace_id, epoch, start, min(start + TURN, upto))
        try:
            entries = await self._share(block)
        except Trimmed:
            if after == start:
                raise
            entries = await self._load(workspace_id, after, block.end)
        return Stretch([entry for entry in entries if entry.record.position > after], block.end)

    def forget(self, workspace_id: str) -> None:
        """Nobody is left there."""
        for block in [block for block in self._kept if block.workspace_id == workspace_id]:
            self._drop(block)

    async def _share(self, block: _Block) -> Sequence[Entry]:
        while (reading := self._reading.get(block)) is not None:
            await reading.wait()
        if block in self._kept:
            self._kept.move_to_end(block)
            return self._kept[block][0]
        done = self._reading[block] = anyio.Event()
        try:
            entries = await self._load(block.workspace_id, block.start, block.end)
        finally:  # where it failed, the next one tries
            del self._reading[block]
            done.set()
        self._keep(block, entries)
        return entries

    async def _load(self, workspace_id: str, after: int, upto: int) -> Sequence[Entry]:
        return [Entry.of(record) for record in await self._engine.records(workspace_id, after, upto, TURN)]

    def _keep(self, block: _Block, entries: Sequence[Entry]) -> None:
        size = ENTRY_BYTES + sum(ENTRY_BYTES + len(entry.record.body) for entry in entries)
        self._kept[block] = entries, size
        self._size += size
        while self._size > KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, block: _Block) -> None:
        self._size -= self._kept.pop(block)[1]
