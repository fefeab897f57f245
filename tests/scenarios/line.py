"""The line between a client and its server, for tests to break: a TCP relay on loopback, in threads of its own."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Literal

Manner = Literal["pass", "refuse", "freeze"]

RST = struct.pack("ii", 1, 0)
PIECE = 1 << 16


class Line:
    """Relays to `target`, a port that may change. What is cut is reset, as by a router that forgot it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        """Seconds that each piece is held up, in either direction."""
        self.manner: Manner = "pass"
        """What becomes of connections that are made from now on."""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all that there are."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                _reset(end)
        self._flowing.set()

    def refuse(self) -> None:
        """The same, and let nobody through until `accept`."""
        self.manner = "refuse"
        self.cut()

    def accept(self) -> None:
        self.manner = "pass"

    def freeze(self) -> None:
        """Pass nothing on, and tell nobody. Connections that are made behind a `thaw` are well; these never again."""
        self.manner = "freeze"
        self._flowing.clear()

    def thaw(self) -> None:
        """Let new ones through."""
        self.manner = "pass"
        self._flowing = threading.Event()
        self._flowing.set()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                if self.manner == "refuse":
                    _reset(client)
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:  # nobody listens there just now
                    _reset(client)
                    continue
                self._pairs.append((client, server))
                threading.Thread(target=self._relay, args=(client, server, self._flowing), daemon=True).start()

    def _relay(self, client: socket.socket, server: socket.socket, flowing: threading.Event) -> None:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=self._pass, args=(server, client, flowing), daemon=True)
        back.start()
        self._pass(client, server, flowing)
        back.join()
        client.close()
        server.close()

    def _pass(self, one: socket.socket, other: socket.socket, flowing: threading.Event) -> None:
        try:
            while piece := one.recv(PIECE):
                flowing.wait()
                if self.delay:
                    time.sleep(self.delay)
                other.sendall(piece)
            flowing.wait()
            other.shutdown(socket.SHUT_WR)
        except OSError:
            _reset(other)


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        end.shutdown(socket.SHUT_RD)  # wakes who reads it
        end.close()
