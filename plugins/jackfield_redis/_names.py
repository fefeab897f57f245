"""What things are called in Redis."""

from __future__ import annotations

from zlib import crc32

__all__ = ["SHARDS", "Names"]

SHARDS = 16
"""Tags of keys: everything of a workspace has one of them, so that it stands on one node of a cluster, together with
the list of what falls due in that shard."""


class Names:
    """Of everything below a prefix."""

    def __init__(self, prefix: str) -> None:
        self.shards = [f"{prefix}:{{{number}}}" for number in range(SHARDS)]
        self._prefix = prefix

    def shard(self, workspace: str) -> str:
        """The shard that a workspace is in."""
        return self.shards[crc32(workspace.encode()) % SHARDS]

    def bus(self, workspace: str) -> str:
        """The channel on which is said what happens there."""
        return f"{self.shard(workspace)}:{workspace}/bus"

    def workspace(self, bus: str) -> str:
        """Whose channel it is."""
        return bus.partition("}:")[2].removesuffix("/bus")

    def pulse(self, feed: str) -> str:
        """The channel on which a feed hears itself."""
        return f"{self._prefix}/pulse/{feed}"
