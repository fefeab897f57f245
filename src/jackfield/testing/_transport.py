"""A connection between a client and an ASGI application, without a socket, with the quirks of real servers."""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from typing import Any

import anyio
import attrs
from anyio.lowlevel import checkpoint

__all__ = ["ANYCORN", "DAPHNE", "GRANIAN", "HYPERCORN", "UVICORN", "Profile", "Transport"]

Message = MutableMapping[str, Any]


@attrs.frozen
class Profile:
    """How a server behaves where ASGI leaves it open; measured on the servers themselves."""

    suspends: bool = False
    """Every `send` gives way to others, also when there is room."""
    blocks: bool = True
    """`send` waits for a client that does not read; without it the server buffers."""
    shielded: bool = False
    """A blocked `send` cannot be cancelled; a close by another task frees it. Without it a close waits, too."""
    silent: bool = False
    """`send` after the end returns as if nothing were wrong, instead of raising."""
    every_code: bool = True
    """A close may carry any code; without it `send` raises for all but 1000 and 3000 to 4999."""
    reasons: bool = True
    """A close carries its reason."""
    ends: bool = True
    """The socket ends when the application returns; without it only a close ends it."""
    hears_code: bool = True
    """The application is told the code of a client's close, instead of `disconnect_code` in any case."""
    disconnect_code: int | None = 1005
    """What the application is told when the client goes without a code."""
    denial: bool = True
    """The extension `websocket.http.response` is offered."""


UVICORN = Profile()
HYPERCORN = Profile(suspends=True, silent=True, hears_code=False, disconnect_code=1006)
ANYCORN = Profile(suspends=True, shielded=True, silent=True)
GRANIAN = Profile(suspends=True, silent=True)
DAPHNE = Profile(
    blocks=False, silent=True, every_code=False, reasons=False, ends=False, disconnect_code=None, denial=False
)


class Disconnected(OSError):
    """What servers raise from `send` when the client has gone."""


class Transport:
    """Both ends. The application's are `receive` and `send`; the client's are the rest."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.sent: list[Message] = []
        """Everything that the application sent, in order."""
        self.ended = False
        self.faults: list[str] = []
        """What the application did that no server allows. Kept, since an application may catch what `send` raises."""
        self._sending = 0
        self._returned = False
        self._incoming: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrival = anyio.Event()
        self._readable = anyio.Event()
        self._readable.set()
        self._writing = anyio.Lock(fast_acquire=True)

    # --- the application's end

    async def receive(self) -> Message:
        while not self._incoming:
            self._arrival = anyio.Event()
            await self._arrival.wait()
        message = self._incoming.popleft()
        if message["type"] == "websocket.disconnect":
            self._incoming.appendleft(message)
        return message

    async def send(self, message: Message) -> None:
        closing = message["type"] == "websocket.close"
        if self._sending and not closing:
            self.faults.append("two sends at the same time")
        self._sending += 1
        try:
            if self.profile.suspends:
                await checkpoint()
            if not self.profile.blocks or (closing and self.profile.shielded):
                self._write(message)
            else:
                with anyio.CancelScope(shield=self.profile.shielded):
                    async with self._writing:
                        if not self._readable.is_set():
                            await self._readable.wait()
                        self._write(message)
        finally:
            self._sending -= 1

    def _write(self, message: Message) -> None:
        if self.ended:
            if self.profile.silent:
                return
            raise Disconnected("the client has gone")
        if message["type"] == "websocket.close":
            code = message.get("code", 1000)
            accepted = self.sent and self.sent[0]["type"] == "websocket.accept"  # before that it says no code at all
            if accepted and not self.profile.every_code and code != 1000 and not 3000 <= code <= 4999:
                raise ValueError(f"invalid close code {code} (must be 1000 or from [3000, 4999])")
            if not self.profile.reasons:
                message = {**message, "reason": ""}
        self.sent.append(message)
        if message["type"] in ("websocket.close", "websocket.http.response.body"):
            self._end(1006)

    def returned(self) -> None:
        """The application has come to its end. A client that does not read keeps the socket until it does."""
        self._returned = True
        if self.profile.ends and self._readable.is_set():
            self._end(1006)

    # --- the client's end

    def put(self, message: Message) -> None:
        """From the client."""
        if not self.ended:
            self._incoming.append(message)
            self._arrival.set()

    def disconnect(self, code: int | None = None) -> None:
        """The client goes; by a close frame where it says a code."""
        heard = code is not None and self.profile.hears_code
        self._end(code if heard else self.profile.disconnect_code)

    def stall(self) -> None:
        """The client stops reading."""
        if self._readable.is_set():
            self._readable = anyio.Event()

    def read_on(self) -> None:
        """The client reads again."""
        self._readable.set()
        if self._returned:
            self.returned()

    def _end(self, code: int | None) -> None:
        if not self.ended:
            self.ended = True
            self._incoming.append({"type": "websocket.disconnect", "code": code, "reason": ""})
            self._arrival.set()
            self._readable.set()
