"""A blocking WebSocket client that shares nothing with the code under test: a socket, wsproto, deadlines.

It reads only while somebody waits for a frame, so a client that nobody asks is a client that stopped reading.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 5.0  # seconds any wait may take unless its caller says otherwise
ABNORMAL = 1006  # what RFC 6455 calls an end without a close frame


@dataclass(frozen=True)
class Closed:
    """The end of a connection, as its client saw it."""

    code: int
    reason: str


Frame = dict[str, Any]


class Client:
    """One connection; `handshake_status` is 101 when it stands, None when the server hung up unanswered."""

    def __init__(self, address: tuple[str, int], request: Request, recv_buffer: int | None, timeout: float) -> None:
        self.handshake_status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.subprotocol: str | None = None
        self.closed: Closed | None = None
        self._answered = False
        self._text = ""
        self._frames: deque[Frame] = deque()
        self._wire = WSConnection(ConnectionType.CLIENT)
        self._socket = socket.socket()
        if recv_buffer is not None:  # before connecting: the window is agreed upon there
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, recv_buffer)
        self._socket.settimeout(timeout)
        self._socket.connect(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send(request)
        deadline = time.monotonic() + timeout
        while not self._answered:
            self._read(deadline, "an answer to the handshake")

    @property
    def port(self) -> int:
        """The client's own port: its name in the kernel's tables."""
        return int(self._socket.getsockname()[1])

    def release(self) -> socket.socket:
        """The bare socket, for one who reads a great many of them by himself; nothing more is asked of this."""
        return self._socket

    def send_json(self, event: object) -> None:
        self.send_text(json.dumps(event))

    def send_text(self, text: str) -> None:
        self._send(TextMessage(text))

    def send_bytes(self, data: bytes) -> None:
        self._send(BytesMessage(data))

    def receive(self, timeout: float = PATIENCE) -> Frame | Closed:
        """The next frame, or how the connection ended; what came before the end is given first."""
        assert self.handshake_status == 101, f"the handshake was answered {self.handshake_status}: {self.body!r}"
        deadline = time.monotonic() + timeout
        while not self._frames:
            if self.closed is not None:
                return self.closed
            self._read(deadline, "a frame")
        return self._frames.popleft()

    def expect(self, type: str, timeout: float = PATIENCE) -> Frame:
        """The next frame of this type; others may come before it, and are named if it does not come."""
        return self.through(type, timeout)[-1]

    def through(self, type: str, timeout: float = PATIENCE) -> list[Frame]:
        """Every frame up to the next one of this type, that one included."""
        deadline = time.monotonic() + timeout
        frames: list[Frame] = []
        while True:
            try:
                frame = self.receive(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"no {type} within {timeout} s; there came {frames}") from None
            assert not isinstance(frame, Closed), f"{frame} instead of {type}; there came {frames}"
            frames.append(frame)
            if frame["type"] == type:
                return frames

    def until_closed(self, timeout: float = PATIENCE) -> tuple[list[Frame], int, str]:
        deadline = time.monotonic() + timeout
        frames: list[Frame] = []
        while not isinstance(frame := self.receive(max(0.0, deadline - time.monotonic())), Closed):
            frames.append(frame)
        return frames, frame.code, frame.reason

    def close(self, code: int | None = 1000, timeout: float = PATIENCE) -> None:
        """Say goodbye and wait for the answer; None sends a close frame that carries no code."""
        if self.closed is None and self.handshake_status == 101:
            if code is None:  # wsproto always writes one: a masked, empty close frame by hand
                self._socket.sendall(b"\x88\x80\x00\x00\x00\x00")
            else:
                self._send(CloseConnection(code))
            self.until_closed(timeout)
        self._socket.close()

    def abort(self) -> None:
        """Go without a word: the peer gets a RST, unread bytes or not. Harmless after the end."""
        if self._socket.fileno() == -1:
            return
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
        self.closed = Closed(ABNORMAL, "")

    def _send(self, event: Event) -> None:
        self._socket.settimeout(PATIENCE)
        self._socket.sendall(self._wire.send(event))

    def _read(self, deadline: float, what: str) -> None:
        if (left := deadline - time.monotonic()) <= 0:
            raise TimeoutError(f"no {what} in time")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise TimeoutError(f"no {what} in time") from None
        except ConnectionError:  # a RST is an end like another
            data = b""
        self._wire.receive_data(data or None)
        for event in self._wire.events():
            self._take(event)
        if not data:
            self._answered = True
            self.closed = self.closed or Closed(ABNORMAL, "")
            self._socket.close()

    def _take(self, event: Event) -> None:
        match event:
            case AcceptConnection():
                self._answered, self.handshake_status, self.subprotocol = True, 101, event.subprotocol
                self.headers = _headers(event.extra_headers)
            case RejectConnection():
                self._answered, self.handshake_status = not event.has_body, event.status_code
                self.headers = _headers(event.headers)
            case RejectData():
                self.body += bytes(event.data)
                self._answered = event.body_finished
            case TextMessage():
                self._text += event.data
                if event.message_finished:
                    self._frames.append(json.loads(self._text))
                    self._text = ""
            case Ping():
                self._answer(event)
            case CloseConnection():
                if self.closed is None:
                    self.closed = Closed(int(event.code), event.reason or "")
                    self._answer(event)
            case _:
                pass

    def _answer(self, event: Ping | CloseConnection) -> None:
        with suppress(OSError, LocalProtocolError):  # a courtesy: the peer may be gone, or have had ours already
            self._send(event.response())


def _headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in pairs}


def connect(
    url: str,
    *,
    headers: Sequence[tuple[str, str]] = (),
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    recv_buffer: int | None = None,
    timeout: float = PATIENCE,
) -> Client:
    """Shake hands with `url`; a refusal is no exception: see the client's `handshake_status`."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    extra = [*headers, *([("Origin", origin)] if origin is not None else [])]
    request = Request(
        host=parts.netloc,
        target=f"{parts.path}?{parts.query}" if parts.query else parts.path,
        extra_headers=[(name.encode(), value.encode()) for name, value in extra],
        subprotocols=list(subprotocols),
    )
    return Client((parts.hostname, parts.port), request, recv_buffer, timeout)
