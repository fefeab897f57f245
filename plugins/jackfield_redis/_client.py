"""A client for an address, connected."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from coredis import Redis, RedisCluster, Sentinel
from coredis.connection import TCPLocation
from coredis.exceptions import ClusterDownError
from coredis.retry import NoRetryPolicy

from jackfield_redis._faults import cause

if TYPE_CHECKING:
    from jackfield_redis._address import Address

__all__ = ["ANSWER", "WITHIN", "Client", "connected"]

WITHIN = 2.5
"""Seconds that Redis has for what is asked; below the three that a commit may take."""
ANSWER = 2.0
"""Of these, how long a connection waits for one answer, so that there is time to say what is wrong, or to ask anew."""
QUICK_ANSWER = 0.6
"""The same of one Sentinel, or of one node of a cluster that is asked who the others are: another may know."""

Client = Redis[bytes] | RedisCluster[bytes]

# Whatever fails there is said by us in a line, where the library would print where it came from.
logging.getLogger("coredis").addFilter(lambda _: logging.getLogger("jackfield").isEnabledFor(logging.DEBUG))


@asynccontextmanager
async def connected(address: Address, connections: int) -> AsyncGenerator[Client, None]:
    """With at most so many connections to each node. What is asked is asked once: whether a second time is harmless,
    others know."""
    common: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        "ssl_context": address.tls,
        "connect_timeout": ANSWER,
        "stream_timeout": ANSWER,
    }
    if address.cluster:
        nodes: RedisCluster[bytes] = RedisCluster(
            startup_nodes=await _answering(address, common),
            decode_responses=False,
            retry_policy=NoRetryPolicy(),
            verify_version=False,
            max_connections=connections,
            max_connections_per_node=True,
            skip_full_coverage_check=True,  # a shard that nobody serves says so itself
            **common,
        )
        async with nodes as cluster:
            yield cluster
    elif address.service is not None:
        asking = {
            "username": address.sentinel_username,
            "password": address.sentinel_password,
            "ssl_context": address.tls,
            "connect_timeout": QUICK_ANSWER,
            "stream_timeout": QUICK_ANSWER,
            "max_connections": 2,
        }
        async with (
            Sentinel(
                _locations(address), sentinel_kwargs=asking, db=address.database, max_connections=connections, **common
            ) as sentinel,
            sentinel.primary_for(address.service) as primary,
        ):
            yield primary
    else:
        [(host, port)] = address.hosts
        async with Redis(
            host,
            port,
            address.database,
            retry_policy=NoRetryPolicy(),
            verify_version=False,
            max_connections=connections,
            **common,
        ) as client:
            yield client


async def _answering(address: Address, common: Mapping[str, Any]) -> list[TCPLocation]:
    """The nodes that know the cluster, of those in the URL. The client would ask one after the other, and wait long
    for each that is gone."""
    knowing: list[TCPLocation] = []
    failures: list[Exception] = []
    quick: dict[str, Any] = {
        **common,
        "connect_timeout": QUICK_ANSWER,
        "stream_timeout": QUICK_ANSWER,
        "max_connections": 1,
    }

    async def ask(location: TCPLocation) -> None:
        try:
            asked: Redis[bytes] = Redis(
                location.host, location.port, retry_policy=NoRetryPolicy(), verify_version=False, **quick
            )
            async with asked as node:
                if await node.cluster_slots():
                    knowing.append(location)
        except Exception as error:
            failures.append(error)

    async with anyio.create_task_group() as tasks:
        for location in _locations(address):
            tasks.start_soon(ask, location)
    if not knowing:
        raise cause(failures[0]) if failures else ClusterDownError("none of its nodes serves a slot")
    return knowing


def _locations(address: Address) -> list[TCPLocation]:
    return [TCPLocation(host, port) for host, port in address.hosts]
