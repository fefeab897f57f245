"""Some servers that are one cluster; slots are given, moved and asked for by its raw commands."""

from __future__ import annotations

import re
from contextlib import ExitStack

from redis_server import BINARIES, RedisServer
from servers import until

__all__ = ["Cluster"]

PATIENCE = 30.0
SLOTS = 16_384


class Cluster:
    """`nodes` serve slots, each a third of them; `replicas` stand behind the first of them."""

    def __init__(self, nodes: int = 3, replicas: int = 0) -> None:
        self._stack = ExitStack()
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        self.servers = [
            self._stack.enter_context(RedisServer(BINARIES["redis"], *options)) for _ in range(nodes + replicas)
        ]
        self.nodes, self.replicas = self.servers[:nodes], self.servers[nodes:]
        for number, node in enumerate(self.nodes):
            owned = range(SLOTS * number // nodes, SLOTS * (number + 1) // nodes)
            node.command("CLUSTER", "ADDSLOTS", *map(str, owned))
            node.command("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for other in self.servers[1:]:
            other.command("CLUSTER", "MEET", "127.0.0.1", str(self.servers[0].port))
        everybody = len(self.servers)
        until(lambda: all(len(self.ids(one)) == everybody for one in self.servers), PATIENCE, "they know each other")
        for replica in self.replicas:
            replica.command("CLUSTER", "REPLICATE", self.id(self.nodes[0]))
        until(lambda: all(map(self.is_up, self.servers)), PATIENCE, "the cluster is up")

    @property
    def url(self) -> str:
        return f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in self.servers)}"

    def ids(self, server: RedisServer) -> dict[int, str]:
        """Of all that it knows, by their ports."""
        lines = server.command("CLUSTER", "NODES").decode()
        return {int(port): id for id, port in re.findall(r"^(\w{40}) \S*?:(\d+)@", lines, re.MULTILINE)}

    def id(self, server: RedisServer) -> str:
        return self.ids(server)[server.port]

    def is_up(self, server: RedisServer) -> bool:
        return b"cluster_state:ok" in server.command("CLUSTER", "INFO")

    def begin_to_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """From here on what is new in it is the target's, and what there is, is where it is."""
        target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id(source))
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id(target))

    def move_some(self, slot: int, source: RedisServer, target: RedisServer, count: int) -> int:
        """So many of its keys; how many there were to move."""
        answer = source.command("CLUSTER", "GETKEYSINSLOT", str(slot), str(count)).split(b"\r\n")
        keys = [key.decode() for key in answer[2::2]]
        if keys:
            moved = source.command("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys)
            assert moved == b"+OK\r\n", moved
        return len(keys)

    def end_moving(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """All that is left, and who serves it."""
        while self.move_some(slot, source, target, 100):
            pass
        for server in (target, source, *self.nodes):
            server.command("CLUSTER", "SETSLOT", str(slot), "NODE", self.id(target))

    def flush(self) -> None:
        for server in self.nodes:
            server.command("FLUSHALL")

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
