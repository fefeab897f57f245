"""One WebSocket over a socket, by httpx-ws."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import anyio
import httpcore
import httpx
import wsproto.events
from httpx_ws import (
    AsyncWebSocketSession,
    HTTPXWSException,
    WebSocketDisconnect,
    WebSocketUpgradeError,
    aconnect_ws,
)
from wsproto.utilities import LocalProtocolError, ProtocolError

from jackfield.client._ending import CUT, Ended, Ending

__all__ = ["Dial", "Link", "over_sockets"]


class Link(Protocol):
    """A connection that stands."""

    async def send(self, text: str) -> None:
        """Say it. Raises Ended."""
        ...

    async def receive(self) -> str:
        """The next frame. Raises Ended."""
        ...


OF_A_LINE = (
    HTTPXWSException,
    httpx.HTTPError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    ProtocolError,
    anyio.ClosedResourceError,
    OSError,
)
"""What a line can die of."""

GOODBYE = 1.0
"""Seconds that a close frame may take on its way out: on a line that is full it never goes."""

Dial = Callable[[str, str], AbstractAsyncContextManager[Link]]
"""Makes one, with a token and a cursor. Entering it raises Ended where none comes about; leaving it closes 1000."""


def over_sockets(url: str, http: httpx.AsyncClient | None) -> Dial:
    """Connections to `url`. Raises ValueError for what is none."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None

    @asynccontextmanager
    async def dial(token: str, cursor: str) -> AsyncGenerator[Link, None]:
        target = address.copy_merge_params({"resume": cursor})
        headers = {"authorization": f"Bearer {token}"}
        try:
            async with (
                _speaker(http) as client,
                aconnect_ws(
                    str(target),
                    client,
                    session_class=AsyncWebSocketSession,
                    keepalive_ping_interval_seconds=None,  # `ping` is an event here
                    headers=headers,
                    timeout=None,  # whoever dials has patience of his own
                ) as session,
            ):
                try:
                    yield _Socket(session)
                finally:
                    with anyio.move_on_after(GOODBYE, shield=True):
                        await session.close()
                    with anyio.CancelScope(shield=True):
                        await session.stream.aclose()
        except OF_A_LINE as error:
            raise Ended(_ending(error)) from None
        except ExceptionGroup as group:  # what reads the socket is a task
            _, other = group.split(OF_A_LINE)
            if other is not None:
                raise
            raise Ended(Ending(CUT, "broken")) from None

    return dial


@asynccontextmanager
async def _speaker(http: httpx.AsyncClient | None) -> AsyncGenerator[httpx.AsyncClient, None]:
    """Who speaks HTTP for one connection; the caller's own is not closed."""
    if http is not None:
        yield http
        return
    async with httpx.AsyncClient() as client:
        yield client


class _Socket:
    def __init__(self, session: AsyncWebSocketSession) -> None:
        self._session = session

    async def send(self, text: str) -> None:
        try:
            await self._session.send_text(text)
        except LocalProtocolError:  # the other end has said goodbye, and the reader is told what
            return
        except OF_A_LINE as error:
            raise Ended(_ending(error)) from None

    async def receive(self) -> str:
        while True:
            try:
                event = await self._session.receive()
            except HTTPXWSException as error:
                raise Ended(_ending(error)) from None
            if isinstance(event, wsproto.events.TextMessage):
                return event.data


def _ending(error: Exception) -> Ending:
    if isinstance(error, WebSocketDisconnect):
        return Ending(error.code, error.reason or "")
    if isinstance(error, WebSocketUpgradeError) and error.response.status_code != 101:
        return Ending(CUT, status=error.response.status_code, header=error.response.headers.get("retry-after"))
    return Ending(CUT, type(error).__name__)
