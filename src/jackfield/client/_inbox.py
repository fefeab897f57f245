"""What has come and was not asked for yet, over all connections of a client."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import anyio

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """Whoever reads the line waits for `room`, so a reader who is slow slows the server down, and not the memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = anyio.Event()
        self._end: Exception | None = None
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether who puts more should wait."""
        return len(self._items) >= self._size

    def put(self, item: T) -> None:
        """At the end; also where there is no room."""
        self._items.append(item)
        self._change()

    def end(self, failure: Exception | None) -> None:
        """Nothing more will come; whoever asks hears this failure, or just the end."""
        self._ended, self._end = True, failure
        self._change()

    async def room(self) -> None:
        """Return when there is some."""
        while self.full and not self._ended:
            await self._changed.wait()

    async def take(self) -> T:
        """The next. Raises what it was ended with, else StopAsyncIteration."""
        while not self._items:
            if self._ended:
                raise self._end or StopAsyncIteration
            await self._changed.wait()
        item = self._items.popleft()
        self._change()
        return item

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
