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
    shielded: bool = False
    """A blocked `send` cannot be cancelled; a close by another task frees it."""
    silent: bool = False
    """`send` after the end returns as if nothing were wrong, instead of raising."""
    blocks: bool = True
    """`send` waits for a client that does not read; without it the server buffers."""
    disconnect_code: int | None = 1005
    """What the application is told when the client goes without a code."""
    denial: bool = True
    """The extension `websocket.http.response` is offered."""


UVICORN = Profile()
HYPERCORN = Profile(suspends=True, silent=True, disconnect_code=1006)
ANYCORN = Profile(suspends=True, shielded=True, silent=True)
GRANIAN = Profile(suspends=True, silent=True)
DAPHNE = Profile(silent=True, blocks=False, disconnect_code=None, denial=False)


class Disconnected(OSError):
    """What servers raise from `send` when the client has gone."""


class Transport:
    """Both ends. The application's are `receive` and `send`; the client's are the rest."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.sent: list[Message] = []
        """Everything that the application sent, in order."""
        self.ended = False
        self.delay = 0.0
        self._incoming: deque[Message] = deque([{"type": "websocket.connect"}])
        self._arrival = anyio.Event()
        self._readable = anyio.Event()
        self._readable.set()
        self.sending = 0

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
        assert self.sending == 0 or message["type"] == "websocket.close", "two sends at the same time"
        self.sending += 1
        try:
            if self.profile.suspends:
                await checkpoint()
            closing = message["type"] == "websocket.close"
            if self.profile.blocks and not self._readable.is_set() and not self.ended and not closing:
                with anyio.CancelScope(shield=self.profile.shielded):
                    await self._readable.wait()
            if self.ended:
                if self.profile.silent:
                    return
                raise Disconnected("the client has gone")
            self.sent.append(message)
            if message["type"] in ("websocket.close", "websocket.http.response.body"):
                self._end(1006)
        finally:
            self.sending -= 1

    # --- the client's end

    def put(self, message: Message) -> None:
        """From the client."""
        if not self.ended:
            self._incoming.append(message)
            self._arrival.set()

    def disconnect(self, code: int | None = None) -> None:
        """The client goes; by a close frame where it says a code."""
        self._end(self.profile.disconnect_code if code is None else code)

    def stall(self) -> None:
        """The client stops reading."""
        self._readable = anyio.Event()

    def read_on(self) -> None:
        """The client reads again."""
        self._readable.set()

    def _end(self, code: int | None) -> None:
        if not self.ended:
            self.ended = True
            self._incoming.append({"type": "websocket.disconnect", "code": code, "reason": ""})
            self._arrival.set()
            self._readable.set()
