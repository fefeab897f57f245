"""What has come and was not asked for yet, over all connections of a client."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

import anyio

if TYPE_CHECKING:
    from jackfield.client._values import Closed

__all__ = ["Inbox"]

T = TypeVar("T")


class Inbox(Generic[T]):
    """Whoever reads the line waits for room, so a reader who is slow slows the server down, and not the memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._last_is_notice = False
        self._changed = anyio.Event()
        self._end: Closed | None = None
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether who puts more should wait."""
        return len(self._items) >= self._size

    def put(self, item: T) -> None:
        """At the end; also where there is no room."""
        self._items.append(item)
        self._last_is_notice = False
        self.changed()

    def notice(self, item: T) -> None:
        """The same, of what nobody can make wait. For a reader who is away only the last of them is kept."""
        if self._last_is_notice and len(self._items) > self._size:
            self._items.pop()
        self.put(item)
        self._last_is_notice = True

    def end(self, failure: Closed | None) -> None:
        """Nothing more will come; whoever asks hears this failure, or just the end."""
        self._ended, self._end = True, failure
        self.changed()

    async def take(self) -> T:
        """The next. Raises what it was ended with, else StopAsyncIteration."""
        while not self._items:
            if self._ended:
                raise StopAsyncIteration if self._end is None else self._end.again()
            await self.change()
        item = self._items.popleft()
        self.changed()
        return item

    async def change(self) -> None:
        """Return when something has."""
        await self._changed.wait()

    def changed(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = anyio.Event()
