"""The listening socket. The connections that it accepts inherit what no server sets for them."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from stat import S_ISSOCK

from jackfield.errors import ConfigurationError

__all__ = ["listen"]

UNIX = "unix:"

UNSENT_BYTES = 131_072
"""What the kernel holds for a client that does not read; by default it would be four megabytes."""


def listen(
    host: str = "127.0.0.1", port: int = 8000, *, write_timeout: float = 10.0, backlog: int = 2048
) -> socket.socket:
    """A socket that listens, to be given to a server: `uvicorn.Server(config).run(sockets=[listen("0.0.0.0", 8000)])`,
    or by its number (`uvicorn --fd`, `bind = ["fd://3"]`) to one that inherits it.

    `host` is a name or an address, of IPv6 too; `unix:/path` is a unix socket, and `port` is not looked at. Port 0
    takes a free one. On Linux its connections end when a client has taken nothing for `write_timeout` seconds, which no
    server sees to, and the kernel holds 128 KiB for such a client instead of 4 MiB; elsewhere a proxy has to do it.
    `backlog` is how many connections may wait to be accepted. Raises ConfigurationError, in one line, where it cannot
    listen.
    """
    try:
        if host.startswith(UNIX):
            return _unix(host.removeprefix(UNIX), backlog)
        return _tcp(host, port, write_timeout, backlog)
    except OSError as error:
        where = host if host.startswith(UNIX) else f"{host}:{port}"
        raise ConfigurationError(f"cannot listen on {where}: {error.strerror or error}.") from None


def _tcp(host: str, port: int, write_timeout: float, backlog: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in (
            ("TCP_USER_TIMEOUT", min(int(write_timeout * 1000), 2**31 - 1)),
            ("TCP_NOTSENT_LOWAT", UNSENT_BYTES),
        ):
            if (option := getattr(socket, name, None)) is not None:
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
        return _listening(listener, address, backlog)
    except BaseException:
        listener.close()
        raise


def _unix(path: str, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with suppress(FileNotFoundError):
            if S_ISSOCK(Path(path).stat().st_mode) and not _answers(path):
                os.unlink(path)  # of a server that died: nobody else removes it
        return _listening(listener, path, backlog)
    except BaseException:
        listener.close()
        raise


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
    return True


def _listening(listener: socket.socket, address: object, backlog: int) -> socket.socket:
    listener.bind(address)  # type: ignore[arg-type]
    listener.listen(backlog)
    listener.setblocking(False)
    return listener
