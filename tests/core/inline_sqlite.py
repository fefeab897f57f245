"""The SQLite engine without its thread: what is asked is done at once, so that a test sees when everything is at rest.

The file, its statements and its rules are the real ones; that they hold from a thread is for the engine's own tests.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.lowlevel import checkpoint

from jackfield_sqlite import SQLiteEngine
from jackfield_sqlite._file import File
from jackfield_sqlite._ledger import Ledger
from jackfield_sqlite._thread import FileThread, Job


class AtOnce(FileThread):
    async def open(self) -> None:
        self._file = File(self._path)
        self._ledger = Ledger(self._file.connection, self._is_wanted)
        self._ledger.keeping.look_through_all(self._now())

    async def ask(self, job: Job) -> Any:
        await checkpoint()
        self._do([job])
        job.answer()
        if job.error is not None:
            raise job.error
        return job.result

    async def close(self) -> None:
        self._file.close()


class InlineSQLite(SQLiteEngine):
    async def _begin(self) -> FileThread:
        thread = AtOnce(self._path.absolute(), self._is_wanted, lambda: self._clock.time())
        await thread.open()
        return thread


@contextmanager
def inline_sqlite() -> Iterator[InlineSQLite]:
    """On a file of its own, that is gone afterwards; in memory where the machine can, since a test flushes no disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield InlineSQLite(Path(directory) / "chat.db")
