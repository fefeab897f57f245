"""What a congested connection still has to get: delivery rules and bounds. Pure.

Durable frames are never dropped. Of `latest` frames a queued older one of the same key gives way, the newer stands at
the end; a queued one and its opposite (start, stop) go together, since the client then is where it already was.
Ephemeral frames are refused from half the bound on, and go first when room is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, Protocol

__all__ = ["Frame", "Holder", "Message", "Outbox"]

Message = MutableMapping[str, Any]


class Holder(Protocol):
    """A connection that keeps a cursor: `tag` is its own part of it, `held` the newest place that it has been sent."""

    tag: str | None
    held: tuple[int, str]


class Frame:
    """A finished message, shared by all who get it, with what an outbox needs to know of it.

    `mark` makes the part of a cursor that its place in the log is; only a record that lasts has one.
    """

    __slots__ = ("_marked", "key", "kind", "mark", "message", "position", "size", "type")

    def __init__(
        self,
        text: str,
        *,
        type: str,
        kind: str = "durable",
        key: tuple[object, ...] = (),
        position: int = 0,
        mark: Callable[[], str] | None = None,
    ) -> None:
        self.message: Message = {"type": "websocket.send", "text": text}
        self.mark = mark
        self._marked: tuple[str, tuple[int, str]] | None = None
        self.type = type
        self.kind = kind
        self.key = key
        self.position = position
        self.size = len(text) if text.isascii() else len(text.encode())

    def to(self, holder: Holder) -> Message:
        """The same for one that keeps a cursor: with its last key, made once and finished by the tag."""
        if self.mark is None:
            return self.message
        if self._marked is None:
            mark = self.mark()
            self._marked = (f'{self.message["text"][:-1]},"cursor":"{mark}', (self.position, mark))
        text, holder.held = self._marked
        return {"type": "websocket.send", "text": f'{text}{holder.tag}"}}'}


class Outbox:
    """Frames that wait, oldest first; bounded by `max_events` and `max_bytes`. `marked` counts those of the log."""

    __slots__ = ("_frames", "_latest", "_max_bytes", "_max_events", "_next", "marked", "size")

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.size = 0
        self.marked = 0
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
        self.size = self.marked = 0

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
        self.marked += frame.mark is not None
        if frame.kind == "latest":
            self._latest[frame.key] = number

    def _remove(self, number: int) -> Frame:
        frame = self._frames.pop(number)
        self.size -= frame.size
        self.marked -= frame.mark is not None
        if frame.kind == "latest":
            del self._latest[frame.key]
        return frame
