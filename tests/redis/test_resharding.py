"""A cluster that changes while events flow: a slot moves, and the replica of a node that stands still takes over."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
import pytest

from clustered import SLOTS, Cluster
from jackfield.engine import Commit, Committed, Draft, EngineUnavailable
from jackfield_redis._names import Names
from servers import until
from two_nodes import PATIENCE, events_until, they_agree, two_nodes

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]


def slot_of(cluster: Cluster, workspace: str) -> int:
    answer = cluster.servers[0].command("CLUSTER", "KEYSLOT", Names("jackfield").shard(workspace))
    return int(answer[1:])


def workspace_of(cluster: Cluster, node: int) -> str:
    """One that this node serves."""
    first, beyond = (SLOTS * number // len(cluster.nodes) for number in (node, node + 1))
    return next(name for name in map("w{}".format, range(1000)) if first <= slot_of(cluster, name) < beyond)


async def test_a_slot_moves_while_events_flow() -> None:
    """What is in it is on two nodes for a while: nothing happens then, least of all in a half of it."""
    with Cluster(3) as cluster:
        workspace = workspace_of(cluster, 0)
        slot = slot_of(cluster, workspace)
        source, target = cluster.nodes[0], cluster.nodes[2]
        async with two_nodes(cluster.url, workspace) as nodes, anyio.create_task_group() as tasks:
            for name, node in zip("ab", nodes, strict=True):
                tasks.start_soon(node.publish_on, name)
            await events_until(nodes, 30)
            cluster.begin_to_move(slot, source, target)
            assert cluster.move_some(slot, source, target, 2) == 2
            with pytest.raises(EngineUnavailable, match="sends on to another, as while a slot moves"):
                await nodes[0].engine.read(workspace)
            cluster.end_moving(slot, source, target)
            await events_until(nodes, 30)
            assert [node.losses for node in nodes] == [0, 0]
            tasks.cancel_scope.cancel()
        async with two_nodes(cluster.url, workspace) as nodes:
            cluster.begin_to_move(slot, target, source)
            cluster.end_moving(slot, target, source)
            for node in nodes:  # sent on, at once and without an error
                done = await node.engine.commit(workspace, Commit(drafts=[Draft(f"of-{id(node)}", b"", b"")]))
                assert isinstance(done, Committed)
            await they_agree(nodes)
            assert [node.losses for node in nodes] == [0, 0]


async def test_a_node_stands_still_and_its_replica_takes_over() -> None:
    """The one that the URL names first; whoever comes then does not wait for it either."""
    with Cluster(3, replicas=1) as cluster:
        hit, spared = workspace_of(cluster, 0), workspace_of(cluster, 1)
        (replica,) = cluster.replicas
        up = partial(until, lambda: b"master_link_status:up" in replica.command("INFO", "replication"))
        await anyio.to_thread.run_sync(up, PATIENCE, "a replica")
        async with two_nodes(cluster.url, hit) as nodes, two_nodes(cluster.url, spared) as others:
            async with anyio.create_task_group() as tasks:
                for name, node in zip("abcd", [*nodes, *others], strict=True):
                    tasks.start_soon(node.publish_on, name)
                await events_until([*nodes, *others], 30)
                cluster.nodes[0].freeze()
                await events_until([*nodes, *others], 30)
                tasks.cancel_scope.cancel()
            await they_agree(nodes)
            await they_agree(others)
            assert [node.losses for node in others] == [0, 0]
        began = anyio.current_time()
        async with two_nodes(cluster.url, hit) as nodes:
            assert anyio.current_time() - began < 5
            await they_agree(nodes)
        cluster.nodes[0].thaw()
