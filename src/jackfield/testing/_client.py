"""A client of a bench: says events, and is told what the server said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

import orjson

from jackfield import ClientEvent
from jackfield._refusals import refusal
from jackfield.errors import JackfieldError
from jackfield.events import Event, Hello, ServerEvent
from jackfield.testing._clock import settle

if TYPE_CHECKING:
    from jackfield._wire import Wire
    from jackfield.testing._transport import Transport

__all__ = ["Client", "Closed"]

E = TypeVar("E", bound=ServerEvent)


class Closed(JackfieldError):
    """The server ended the connection, or refused it. `status` is HTTP's where it was refused before it stood."""

    def __init__(self, code: int | None, reason: str = "", status: int | None = None) -> None:
        super().__init__(f"HTTP {status}" if status else f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason
        self.status = status


class Client:
    """One connection. What has come and was not asked for yet waits in order."""

    def __init__(self, transport: Transport, wire: Callable[[], Wire], classes: Mapping[str, type[Event]]) -> None:
        self.transport = transport
        self.frames: list[dict[str, Any]] = []
        """Every frame so far, as JSON."""
        self.hello: Hello
        """The initial state."""
        self._wire = wire
        self._classes = classes
        self._seen = 0
        self._read = 0
        self._ref = 0

    # --- saying

    async def send(self, event: ClientEvent | Mapping[str, Any] | str | bytes, *, ref: str | int | None = None) -> None:
        """Say an event; a mapping, a text or bytes go as they are. Returns when the server is at rest."""
        message: dict[str, Any] = {"type": "websocket.receive"}
        if isinstance(event, bytes):
            message["bytes"] = event
        elif isinstance(event, str):
            message["text"] = event
        else:
            flat: dict[str, Any] = (
                {"type": event.__event__.type, **self._wire().data(event)}
                if isinstance(event, ClientEvent)
                else {**event}
            )
            if ref is not None:
                flat["ref"] = ref
            message["text"] = orjson.dumps(flat).decode()
        self.transport.put(message)
        await settle()

    async def request(self, event: ClientEvent | Mapping[str, Any]) -> None:
        """Say it and wait for the answer: returns on `ack`, raises the `Refused` that it was answered with."""
        self._ref += 1
        ref = f"bench-{self._ref}"
        await self.send(event, ref=ref)
        self._take()
        for number in range(self._read, len(self.frames)):
            frame = self.frames[number]
            if frame["type"] == "error" and frame["data"].get("ref") == ref:
                del self.frames[number]
                raise refusal(frame["data"])
            if frame["type"] == "ack" and frame["data"]["ref"] == ref:
                del self.frames[number]
                return
        raise AssertionError(f"{event} was not answered. {self._what_came()}")

    @property
    def cursor(self) -> str:
        """The last one that has come: `bench.connect(..., resume=client.cursor)` goes on from there. "" for a client
        that did not ask for one."""
        self._take()
        for frame in reversed(self.frames):
            cursor: str | None = frame.get("cursor") or frame.get("data", {}).get("cursor")
            if cursor:
                return cursor
        return ""

    def close(self, code: int = 1000) -> None:
        """Leave in order."""
        self.transport.disconnect(code)

    def drop(self) -> None:
        """Be cut off."""
        self.transport.disconnect()

    # --- hearing

    @overload
    async def receive(self) -> ServerEvent: ...
    @overload
    async def receive(self, event: type[E]) -> E: ...
    async def receive(self, event: type[ServerEvent] | None = None) -> ServerEvent:
        """The next event. Raises AssertionError, listing what came, when it is another or none; Closed at the end."""
        frame = await self.receive_frame()
        got = self._event(frame)
        if event is not None and type(got) is not event:
            raise AssertionError(f"expected {event.__event__.type}, got {frame}. {self._what_came()}")
        return got

    async def receive_frame(self) -> dict[str, Any]:
        """The next frame, as JSON."""
        await settle()
        self._take()
        if self._read >= len(self.frames):
            self._raise_closed()
            raise AssertionError(f"nothing came. {self._what_came()}")
        self._read += 1
        return self.frames[self._read - 1]

    async def pending(self) -> list[ServerEvent]:
        """All that has come and was not asked for; nothing more will come by itself. Takes it."""
        await settle()
        self._take()
        frames, self._read = self.frames[self._read :], len(self.frames)
        return [self._event(frame) for frame in frames]

    async def closed(self) -> Closed:
        """How the server ended the connection. Raises AssertionError while it stands."""
        await settle()
        self._take()
        try:
            self._raise_closed()
        except Closed as closed:
            return closed
        raise AssertionError(f"the connection stands. {self._what_came()}")

    def _take(self) -> None:
        assert not self.transport.faults, self.transport.faults[0]
        for message in self.transport.sent[self._seen :]:
            self._seen += 1
            if message["type"] == "websocket.send":
                self.frames.append(orjson.loads(message["text"]))

    def _raise_closed(self) -> None:
        for message in self.transport.sent:
            if message["type"] == "websocket.close":
                raise Closed(message.get("code", 1000), message.get("reason", ""))
            if message["type"] == "websocket.http.response.start":
                raise Closed(None, status=message["status"])
        if self.transport.ended:
            raise Closed(1006)

    def _event(self, frame: dict[str, Any]) -> ServerEvent:
        event = self._classes[frame["type"]]
        assert issubclass(event, ServerEvent), "a server says server events"
        return self._wire().structure(event, frame.get("data", {}), "$.data")

    def _what_came(self) -> str:
        self._take()
        lines = [
            f"  {'·' if n < self._read else '→'} {orjson.dumps(frame).decode()}" for n, frame in enumerate(self.frames)
        ]
        return "What came (→ not asked for yet):\n" + "\n".join(lines) if lines else "Nothing ever came."
