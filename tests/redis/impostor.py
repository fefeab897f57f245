"""What may listen on the port of Redis and is none, or not one that can be used; in threads of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

__all__ = ["HELLO", "Impostor"]

HELLO = b"%3\r\n$7\r\nversion\r\n$5\r\n6.2.5\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n"
"""What a real one says first."""


class Impostor:
    """Answers each piece that it is sent, or, where that is None, ends the connection; `greeting` is said at once."""

    def __init__(self, answer: Callable[[bytes], bytes | None], greeting: bytes = b"") -> None:
        self._answer = answer
        self._greeting = greeting
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Impostor:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(self._greeting)
            while (said := connection.recv(65_536)) and (answer := self._answer(said)) is not None:
                connection.sendall(answer)
