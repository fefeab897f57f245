"""A connection straight into an ASGI application of this process, as a server would make it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import anyio
from anyio.lowlevel import checkpoint

from jackfield.client._ending import CUT, Ended, Ending
from jackfield.errors import CloseCode

if TYPE_CHECKING:
    from jackfield.client._link import Dial, Link

__all__ = ["in_process"]

logger = logging.getLogger("jackfield.client")

ROOM = 16
"""Frames that lie between the two; then the application waits, as it does for a socket that is full."""
GOODBYE = 1.0
"""Seconds that the application may take to end behind the connection. Then it is cancelled."""

Message = MutableMapping[str, Any]


def in_process(url: str, app: Any) -> Dial:
    """Connections to this application; of the URL only path and query count."""
    parts = urlsplit(url)
    query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "resume"]

    @asynccontextmanager
    async def dial(token: str, cursor: str) -> AsyncGenerator[Link, None]:
        call = _Call(
            {
                "type": "websocket",
                "asgi": {"version": "3.0", "spec_version": "2.4"},
                "http_version": "1.1",
                "scheme": "ws",
                "path": unquote(parts.path),
                "raw_path": parts.path.encode(),
                "root_path": "",
                "query_string": urlencode([*query, ("resume", cursor)]).encode(),
                "headers": [(b"host", b"in.process"), (b"authorization", f"Bearer {token}".encode())],
                "subprotocols": [],
                "client": None,
                "server": ("in.process", 80),
                "extensions": {"websocket.http.response": {}},
                "state": {},
            }
        )
        refused: Ended | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call.serve, app)
            try:
                await call.answer()
                yield call
            except Ended as ended:  # raised below, not inside a group of one
                refused = ended
            finally:
                call.hang_up()
        if refused is not None:
            raise refused

    return dial


class _Call:
    def __init__(self, scope: dict[str, Any]) -> None:
        self._scope = scope
        self._to_app: deque[Message] = deque([{"type": "websocket.connect"}])
        self._to_client: deque[str] = deque()
        self._accepted = False
        self._refusal: Ending | None = None
        self._ending: Ending | None = None
        self._left = False
        self._changed = anyio.Event()
        self._life = anyio.CancelScope(shield=True)

    # --- the server's part

    async def serve(self, app: Any) -> None:
        """It hears that the client has gone, and is not cancelled for it."""
        with self._life:
            try:
                await app(self._scope, self._hear, self._say)
                self._end(Ending(CUT, "the application returned") if self._accepted else Ending(status=500))
            except Exception:
                if not self._left:
                    logger.exception("the application failed")
                self._end(Ending(CloseCode.INTERNAL) if self._accepted else Ending(status=500))

    async def answer(self) -> None:
        """Return when it was let in. Raises Ended."""
        while not self._accepted:
            if self._ending is not None:
                raise Ended(self._ending)
            await self._changed.wait()

    def hang_up(self) -> None:
        """The client goes."""
        self._left = True
        self._to_app.append({"type": "websocket.disconnect", "code": 1000 if self._accepted else CUT, "reason": ""})
        self._life.deadline = anyio.current_time() + GOODBYE
        self._change()

    # --- the client's end

    async def send(self, text: str) -> None:
        await checkpoint()
        if self._ending is not None:
            raise Ended(self._ending)
        self._to_app.append({"type": "websocket.receive", "text": text})
        self._change()

    async def receive(self) -> str:
        await checkpoint()
        while not self._to_client:
            if self._ending is not None:
                raise Ended(self._ending)
            await self._changed.wait()
        self._change()
        return self._to_client.popleft()

    # --- the application's end

    async def _hear(self) -> Message:
        while not self._to_app:
            await self._changed.wait()
        if self._to_app[0]["type"] == "websocket.disconnect":
            return self._to_app[0]
        return self._to_app.popleft()

    async def _say(self, message: Message) -> None:
        while message["type"] == "websocket.send" and len(self._to_client) >= ROOM and not self._left:
            await self._changed.wait()
        if self._left or self._ending is not None:
            raise OSError("the client has gone")
        match message["type"]:
            case "websocket.accept":
                self._accepted = True
            case "websocket.send":
                self._to_client += [message["text"]] if message.get("text") is not None else []
            case "websocket.close" if self._accepted:
                self._end(Ending(message.get("code", CloseCode.NORMAL), message.get("reason") or ""))
            case "websocket.close":
                self._end(Ending(status=403))
            case "websocket.http.response.start":
                self._refusal = Ending(status=message["status"], header=_retry_after(message.get("headers", ())))
            case "websocket.http.response.body" if not message.get("more_body") and self._refusal is not None:
                self._end(self._refusal)
            case _:
                pass
        self._change()

    def _end(self, ending: Ending) -> None:
        self._ending = self._ending or ending
        if not self._left:
            self._to_app.append({"type": "websocket.disconnect", "code": ending.code, "reason": ending.reason})
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == b"retry-after"), None)
