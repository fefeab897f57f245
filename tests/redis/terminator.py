"""TLS before a server that has none: a relay on loopback that holds the certificate, in threads of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["Terminator"]

PIECE = 1 << 16


class Terminator:
    """Passes on to the port `target` what comes by TLS; with `clients`, the file of an authority, only of those who
    show a certificate of it."""

    def __init__(self, target: int, certificate: tuple[Path, Path], clients: Path | None = None) -> None:
        self.target = target
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
        self._context.load_cert_chain(*certificate)
        if clients is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Terminator:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        for end in tuple(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with (
            client,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self.target)) as server,
            self._context.wrap_socket(client, server_side=True) as sealed,
        ):
            self._ends |= {sealed, server}
            back = threading.Thread(target=_pass, args=(server, sealed), daemon=True)
            back.start()
            _pass(sealed, server)
            back.join()
            self._ends -= {sealed, server}


def _pass(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while piece := one.recv(PIECE):
            other.sendall(piece)
    with suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)
