"""A primary, its replica, and a Sentinel that watches both."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from redis_server import BINARIES, RedisServer, command, free_port
from servers import until

__all__ = ["Watched"]

PATIENCE = 20.0
CONFIGURATION = """\
port {port}
bind 127.0.0.1
dir {directory}
sentinel monitor main 127.0.0.1 {primary} 1
sentinel down-after-milliseconds main 700
sentinel failover-timeout main 4000
"""


class Watched:
    """Two servers that are one service, called main: which of them is its primary, the Sentinel says."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.primary, self.replica = (self._stack.enter_context(RedisServer(persistent=True)) for _ in range(2))
        self.replica.command("REPLICAOF", "127.0.0.1", str(self.primary.port))
        self.replica_is_up()
        self.port = free_port()
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="jackfield-sentinel-")))
        file = directory / "sentinel.conf"
        file.write_text(CONFIGURATION.format(port=self.port, directory=directory, primary=self.primary.port))
        self._process = subprocess.Popen([BINARIES["redis"], str(file), "--sentinel"], stdout=subprocess.DEVNULL)
        self._stack.callback(self._end)
        until(lambda: b"num-slaves\r\n$1\r\n1" in self._ask("master"), PATIENCE, "the Sentinel knows the replica")

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/main"

    def replica_is_up(self) -> None:
        """It has what the primary has."""
        until(lambda: b"master_link_status:up" in self.replica.command("INFO", "replication"), PATIENCE, "a replica")

    def wait_for_the_other(self) -> None:
        """Until the replica has taken over; they change names then."""
        until(lambda: self._answers_for(self.replica), PATIENCE, "the replica has taken over")
        self.primary, self.replica = self.replica, self.primary

    def fail_over(self) -> None:
        """Now, and in order."""
        until(lambda: self._ask("failover").startswith(b"+OK"), PATIENCE, "the Sentinel knows enough of the replica")
        self.wait_for_the_other()

    def _answers_for(self, server: RedisServer) -> bool:
        named = str(server.port).encode() in self._ask("get-master-addr-by-name")
        return named and b"role:master" in server.command("INFO", "replication")

    def _ask(self, what: str) -> bytes:
        try:
            return command(self.port, "SENTINEL", what, "main")
        except OSError:
            return b""

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
