"""Redis or Valkey, for many nodes that share everything.

    Jackfield(…, engine=RedisEngine.from_url("redis://localhost:6379/0"))

Redis 6.2 or newer, or Valkey: alone, behind Sentinel, or a cluster. Its `maxmemory-policy` must be `noeviction`; and
without `appendonly yes` a restart of it loses the history.
"""

from __future__ import annotations

from jackfield_redis._engine import RedisEngine

__all__ = ["RedisEngine"]
