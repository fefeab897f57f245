"""What a congested connection still has to get: delivery rules and bounds. Pure.

Durable frames are never dropped. Of `latest` frames a queued older one of the same key gives way, the newer stands at
the end; a queued one and its opposite (start, stop) go together, since the client then is where it already was.
Ephemeral frames are refused from half the bound on, and go first when room is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, MutableMapping
from typing import Any

__all__ = ["Frame", "Outbox"]


class Frame:
    """A finished message, shared by all who get it, with what an outbox needs to know of it."""

    __slots__ = ("key", "kind", "message", "position", "size", "type")

    def __init__(
        self, text: str, *, type: str, kind: str = "durable", key: tuple[object, ...] = (), position: int = 0
    ) -> None:
        self.message: MutableMapping[str, Any] = {"type": "websocket.send", "text": text}
        self.type = type
        self.kind = kind
        self.key = key
        self.position = position
        self.size = len(text) if text.isascii() else len(text.encode())


class Outbox:
    """Frames that wait, oldest first; bounded by `max_events` and `max_bytes`."""

    __slots__ = ("_frames", "_latest", "_max_bytes", "_max_events", "_next", "size")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.size = 0
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._frames: OrderedDict[int, Frame] = OrderedDict()
        self._latest: dict[tuple[object, ...], int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._frames)

    def offer(self, frame: Frame) -> bool:
        """Queue it by its delivery rule. False: there is no room for what must not be dropped."""
        if frame.kind == "latest" and (queued := self._latest.get(frame.key)) is not None:
            opposite = self._frames[queued].type != frame.type
            self._remove(queued)
            if opposite:
                return True
        if frame.kind == "ephemeral" and self._over(frame, 2):
            return True
        if self._over(frame, 1):
            self._shed(frame)
            if self._over(frame, 1):
                return False
        self._put(self._next, frame)
        self._next += 1
        return True

    def take(self) -> Frame | None:
        """The oldest, or None."""
        if not self._frames:
            return None
        number = next(iter(self._frames))
        return self._remove(number)

    def put_back(self, frames: Iterable[Frame]) -> None:
        """These come first again: they had been taken and were not written. What had been let in stays in."""
        for frame in reversed(list(frames)):
            if frame.kind == "latest" and (queued := self._latest.get(frame.key)) is not None:
                if self._frames[queued].type != frame.type:
                    self._remove(queued)
                continue  # what came meanwhile is newer, or its opposite
            number = next(iter(self._frames), self._next) - 1
            self._put(number, frame)
            self._frames.move_to_end(number, last=False)

    def clear(self) -> None:
        """Nothing waits any more."""
        self._frames.clear()
        self._latest.clear()
        self.size = 0

    def _over(self, frame: Frame, parts: int) -> bool:
        return len(self._frames) >= self._max_events // parts or self.size + frame.size > self._max_bytes // parts

    def _shed(self, frame: Frame) -> None:
        for number in [n for n, queued in self._frames.items() if queued.kind == "ephemeral"]:
            self._remove(number)
            if not self._over(frame, 1):
                return

    def _put(self, number: int, frame: Frame) -> None:
        self._frames[number] = frame
        self.size += frame.size
        if frame.kind == "latest":
            self._latest[frame.key] = number

    def _remove(self, number: int) -> Frame:
        frame = self._frames.pop(number)
        self.size -= frame.size
        if frame.kind == "latest":
            del self._latest[frame.key]
        return frame
