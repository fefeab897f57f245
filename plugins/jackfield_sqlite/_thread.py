"""The one thread that has the file. What waits for it while it is at work is done together next: what only reads, then
in one transaction, with one flush of the disk, what writes.

A thread of its own, and none of a pool: the outcome of a transaction has to be told to everybody, also where whoever
began it has been cancelled, and under asyncio nothing holds a cancellation off.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

import anyio
from anyio.from_thread import run_sync as run_in_loop
from anyio.lowlevel import current_token

from jackfield.errors import EngineError, EngineUnavailable
from jackfield_sqlite._file import File
from jackfield_sqlite._ledger import Ledger, NeedsWriting

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FileThread", "Job"]

logger = logging.getLogger("jackfield")

TOGETHER = 1000
"""Jobs that are done at a time."""


class Job:
    """Something to ask of the file. `look` reads, or raises NeedsWriting; then `act` is called in a transaction.
    `answer` is called in the event loop, in the order in which it was done."""

    def __init__(self) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self.withdrawn = False
        self.done = anyio.Event()

    def look(self, ledger: Ledger, now: float, *, as_it_is: bool) -> Any:
        """`as_it_is`: there is nothing better than what is too old."""
        raise NeedsWriting

    def act(self, ledger: Ledger, now: float) -> Any:
        raise NotImplementedError

    def answer(self) -> None:
        self.done.set()


class _LoopIsGone(Exception):
    """The event loop in which it was opened has ended without closing it."""


class FileThread:
    """Opens the file, and does what is asked of it until it is closed."""

    def __init__(self, path: Path, is_wanted: Callable[[str], bool], now: Callable[[], float]) -> None:
        self._path = path
        self._is_wanted = is_wanted
        self._now = now
        self._loop = current_token()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._opened = anyio.Event()
        self._closed = anyio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._told: set[str] = set()
        self._ailing = False
        self._file: File
        self._ledger: Ledger

    async def open(self) -> None:
        """Raises ConfigurationError, or EngineUnavailable; then it has ended."""
        Thread(target=self._run, name=f"jackfield {self._path.name}", daemon=True).start()
        try:
            await self._opened.wait()
        except BaseException:
            self._jobs.put(None)
            raise
        if self._failure is not None:
            raise self._failure

    async def ask(self, job: Job) -> Any:
        """Do it; whoever is cancelled meanwhile does not learn whether it was done."""
        if self._ended:
            raise EngineUnavailable(f"{self._path} has been closed")
        self._jobs.put(job)
        try:
            await job.done.wait()
        except BaseException:
            job.withdrawn = True
            raise
        if job.error is not None:
            raise job.error
        return job.result

    async def close(self) -> None:
        """When all that has been asked is done."""
        self._jobs.put(None)
        await self._closed.wait()

    def _end(self) -> None:
        """Nobody does what is still asked."""
        self._ended = True
        with suppress(Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    job.error = EngineUnavailable(f"{self._path} has been closed")
                    job.done.set()
        self._closed.set()

    # --- in the thread

    def _run(self) -> None:
        with suppress(_LoopIsGone):
            try:
                self._file = File(self._path)
            except Exception as error:
                self._failure = error
                self._tell(self._opened.set)
                return
            try:
                self._serve()
            finally:
                with suppress(sqlite3.Error):
                    self._file.close()
                self._tell(self._end)

    def _serve(self) -> None:
        try:
            self._ledger = Ledger(self._file.connection, self._is_wanted)
            self._ledger.keeping.look_through_all(self._now())
        except sqlite3.Error as error:
            self._failure = self._file.failure(error, committing=False)
        self._tell(self._opened.set)
        if self._failure is not None:
            return
        going = True
        while going:
            batch = self._next()
            if batch[-1] is None:
                going = False
            jobs = [job for job in batch if job is not None]
            done = self._do([job for job in jobs if not job.withdrawn])
            self._tell(partial(_answer, done))

    def _next(self) -> list[Job | None]:
        batch = [self._jobs.get()]
        with suppress(Empty):
            while batch[-1] is not None and len(batch) < TOGETHER:
                batch.append(self._jobs.get_nowait())
        return batch

    def _tell(self, call: Callable[[], object]) -> None:
        try:
            run_in_loop(call, token=self._loop)
        except RuntimeError:  # and with it is everybody who could be told
            raise _LoopIsGone from None

    def _do(self, jobs: Sequence[Job]) -> list[Job]:
        """All of them; returns them in the order in which they were done."""
        now = self._now()
        self._ledger.begin()
        writing: list[Job] = []
        reading: list[Job] = []
        for job in jobs:
            (reading if self._look(job, now, as_it_is=False) else writing).append(job)
        if writing:
            self._write(writing, now)
        return reading + writing

    def _look(self, job: Job, now: float, *, as_it_is: bool) -> bool:
        """Whether that was enough."""
        try:
            job.result = job.look(self._ledger, now, as_it_is=as_it_is)
        except NeedsWriting:
            return False
        except EngineError as error:  # an outcome, such as that it is no longer kept
            job.error = error
        except Exception as error:
            job.error = self._failed(error, committing=False)
        return True

    def _write(self, jobs: Sequence[Job], now: float) -> None:
        error, committing = self._transact(jobs, now)
        if error is None:
            self._recovered()
            return
        if len(jobs) > 1 and not committing and not _concerns_all(error):
            for job in jobs:  # one of them cannot be done; the others can
                self._write([job], now)
            return
        failure = self._failed(error, committing=committing)
        self._ledger.begin()
        for job in jobs:
            # Who only wanted to know is answered, with some that is too old.
            job.error = None
            if not self._look(job, now, as_it_is=True):
                job.error = failure

    def _transact(self, jobs: Sequence[Job], now: float) -> tuple[Exception | None, bool]:
        """What it failed with, and whether that was in COMMIT; all of it has been undone."""
        run = self._file.connection.execute
        committing = False
        try:
            run("BEGIN IMMEDIATE")
            self._ledger.begin()
            for job in jobs:
                job.error = None
                try:
                    job.result = job.act(self._ledger, now)
                except EngineError as error:  # an outcome, such as that a log went back
                    job.error = error
            self._ledger.finish()
            self._file.check()
            committing = True
            run("COMMIT")
        except Exception as error:
            try:
                if self._file.connection.in_transaction:
                    run("ROLLBACK")
            except sqlite3.Error as second:
                return second, True
            return error, committing
        return None, False

    # --- what is said of it

    def _failed(self, error: Exception, *, committing: bool) -> EngineError:
        """As an error for whoever asked; what is wrong with the file is said once in the log, too."""
        failure = self._file.failure(error, committing=committing)
        self._ailing |= _concerns_all(error)
        said = str(failure)
        if said not in self._told and isinstance(error, EngineError | sqlite3.DatabaseError):
            self._told.add(said)
            logger.warning("%s", said)
        return failure

    def _recovered(self) -> None:
        if self._ailing:
            self._ailing = False
            self._told.clear()
            logger.warning("%s is written again", self._path)


def _concerns_all(error: Exception) -> bool:
    """Whether it is the disk that fails, and not what one of them asks for."""
    return isinstance(error, EngineError | sqlite3.OperationalError)


def _answer(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.answer()
