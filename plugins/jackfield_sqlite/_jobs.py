"""What can be asked of the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from jackfield.engine import (
    Arrived,
    Commit,
    Committed,
    Conflict,
    Due,
    History,
    Key,
    Lost,
    Record,
    Rewound,
    Snapshot,
)
from jackfield_sqlite._feed import CaughtUp
from jackfield_sqlite._ledger import Ledger, NeedsWriting
from jackfield_sqlite._thread import Job

if TYPE_CHECKING:
    from jackfield_sqlite._rows import Log

__all__ = ["BoundJob", "CatchUpJob", "CommitJob", "DueJob", "ReadJob", "RecordsJob"]

CHUNK = 256
"""Records that a feed reads at a time."""


class BoundJob(Job):
    """How much is kept from here on."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self._history = history

    def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> None:
        ledger.keeping.history = self._history


class ReadJob(Job):
    def __init__(self, workspace: str, keys: Collection[Key], tables: Collection[str]) -> None:
        super().__init__()
        self._workspace = workspace
        self._keys = keys
        self._tables = tables

    def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> Snapshot:
        log = ledger.find(self._workspace, now, as_it_is=as_it_is)
        return ledger.snapshot(log, self._keys, self._tables, now)

    def act(self, ledger: Ledger, now: float) -> Snapshot:
        return ledger.snapshot(ledger.log(self._workspace, now), self._keys, self._tables, now)


class RecordsJob(Job):
    def __init__(self, workspace: str, after: int, upto: int, limit: int) -> None:
        super().__init__()
        self._workspace = workspace
        self._range = after, upto, limit

    def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> list[Record]:
        return ledger.records(ledger.find(self._workspace, now, as_it_is=as_it_is), *self._range, now)

    def act(self, ledger: Ledger, now: float) -> list[Record]:
        return ledger.records(ledger.log(self._workspace, now), *self._range, now)


class CatchUpJob(Job):
    def __init__(self, workspace: str, after: int, epoch: str) -> None:
        super().__init__()
        self._workspace = workspace
        self._after = after
        self._epoch = epoch

    def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> CaughtUp | Lost:
        return self._of(ledger, ledger.find(self._workspace, now, as_it_is=as_it_is), now)

    def act(self, ledger: Ledger, now: float) -> CaughtUp | Lost:
        return self._of(ledger, ledger.log(self._workspace, now), now)

    def _of(self, ledger: Ledger, log: Log, now: float) -> CaughtUp | Lost:
        if not log.floor <= self._after <= log.top or self._epoch not in ("", log.epoch):
            return Lost(self._workspace, log.epoch, log.top)
        records = ledger.records(log, self._after, log.top, CHUNK, now)
        return CaughtUp(records, records[-1].position if len(records) == CHUNK else log.top, log.top)


class DueJob(Job):
    def __init__(self, limit: int, released: Mapping[str, float]) -> None:
        super().__init__()
        self._limit = limit
        self._released = released

    def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> tuple[list[Due], float | None]:
        if not as_it_is and (self._released or ledger.keeping.is_anything_old(now)):
            raise NeedsWriting
        return ledger.due(self._limit, now)

    def act(self, ledger: Ledger, now: float) -> tuple[list[Due], float | None]:
        ledger.keeping.look(self._released, now)
        return ledger.due(self._limit, now)


class CommitJob(Job):
    def __init__(self, workspace: str, commit: Commit, offer: Callable[[Arrived | Lost], None]) -> None:
        super().__init__()
        self._workspace = workspace
        self._commit = commit
        self._offer = offer
        self._news: Arrived | Lost | None = None

    def act(self, ledger: Ledger, now: float) -> Committed | Conflict:
        log = ledger.log(self._workspace, now)
        try:
            outcome, records = ledger.commit(log, self._commit, now)
        except Rewound:
            self._news = Lost(self._workspace, log.epoch, log.top)
            raise
        self._news = Arrived(self._workspace, records, log.top) if records else None
        return outcome

    def answer(self) -> None:
        happened = self.error is None or isinstance(self.error, Rewound)
        if self._news is not None and happened:
            self._offer(self._news)
        super().answer()
