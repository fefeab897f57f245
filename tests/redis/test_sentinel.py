"""Redis behind Sentinel: another takes over while events flow, with all there was, or with less of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
import pytest

from impostor import HELLO, Impostor
from jackfield.engine import Commit, Committed, Draft
from redis_server import RedisServer
from servers import until
from two_nodes import PATIENCE, events_until, eventually, they_agree, two_nodes
from watched import Watched

pytestmark = [pytest.mark.servers, pytest.mark.usefixtures("cut_off")]


@pytest.fixture
def watched() -> Iterator[Watched]:
    with Watched() as watched:
        yield watched


def in_order(watched: Watched) -> None:
    watched.fail_over()


def by_force(watched: Watched) -> None:
    watched.primary.kill()
    watched.wait_for_the_other()


@pytest.mark.parametrize("change", [in_order, by_force])
async def test_it_goes_on_where_another_takes_over(watched: Watched, change: Callable[[Watched], None]) -> None:
    async with two_nodes(watched.url) as nodes:
        async with anyio.create_task_group() as tasks:
            for name, node in zip("ab", nodes, strict=True):
                tasks.start_soon(node.publish_on, name)
            await events_until(nodes, 30)
            await anyio.to_thread.run_sync(change, watched)
            await events_until(nodes, 30)
            tasks.cancel_scope.cancel()
        await they_agree(nodes)


async def test_what_the_old_primary_had_and_the_new_one_has_not_is_a_new_epoch(watched: Watched) -> None:
    """Its replica is cut off before the last five."""
    async with two_nodes(watched.url) as nodes:
        for n in range(5):
            await nodes[n % 2].publish(f"kept{n}")
        watched.primary.command("WAIT", "1", "5000")
        watched.replica.command("CONFIG", "SET", "masteruser", "nobody")
        watched.replica.command("CONFIG", "SET", "masterauth", "wrong")
        watched.replica.command("CLIENT", "KILL", "TYPE", "master")
        for n in range(5):
            await nodes[n % 2].publish(f"gone{n}")
        await eventually(lambda: all(node.position == 10 for node in nodes))
        before = nodes[0].epoch
        watched.primary.kill()
        await anyio.to_thread.run_sync(watched.wait_for_the_other)
        await nodes[0].publish("new")
        there = await nodes[0].engine.read("w")
        assert [r.id for r in await nodes[0].engine.records("w", 0, there.position, 100)] == [
            *(f"kept{n}" for n in range(5)),
            "new",
        ]
        await eventually(lambda: all(node.losses for node in nodes))
        assert there.epoch != before
        await they_agree(nodes)
        assert [node.losses for node in nodes] == [1, 1]


async def test_connections_to_who_is_demoted_are_not_used_on() -> None:
    """It throws nobody out, as Sentinel would have it do; it only says that it takes no writes."""
    with RedisServer() as old, RedisServer() as new:
        new.command("REPLICAOF", "127.0.0.1", str(old.port))
        until(lambda: b"master_link_status:up" in new.command("INFO", "replication"), PATIENCE, "a replica")
        primary = old

        def answer(said: bytes) -> bytes:
            port = str(primary.port).encode()
            return HELLO if b"HELLO" in said else b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(port), port)

        with Impostor(answer) as sentinel:
            async with two_nodes(f"redis+sentinel://127.0.0.1:{sentinel.port}/main") as nodes:
                for n in range(10):
                    await nodes[n % 2].publish(f"before{n}")
                old.command("WAIT", "1", "5000")
                new.command("REPLICAOF", "NO", "ONE")
                old.command("REPLICAOF", "127.0.0.1", str(new.port))
                primary = new
                with anyio.fail_after(PATIENCE):
                    for node in nodes:  # at once, without an error
                        done = await node.engine.commit("w", Commit(drafts=[Draft(f"of-{id(node)}", b"", b"")]))
                        assert isinstance(done, Committed)
                await they_agree(nodes)
                assert [node.losses for node in nodes] == [0, 0]


async def test_nobody_stays_with_a_primary_that_was_frozen_and_comes_back(watched: Watched) -> None:
    """It takes itself for the primary still, until Sentinel tells it otherwise."""
    async with two_nodes(watched.url) as nodes:
        for node in nodes:
            await node.publish(f"first-of-{id(node)}")
        watched.primary.freeze()
        await anyio.to_thread.run_sync(watched.wait_for_the_other)
        watched.replica.thaw()
        for n in range(5):
            await nodes[n % 2].publish(f"after{n}")
        await they_agree(nodes)
        assert b"role:master" in watched.replica.command("INFO", "replication"), "it is not too late for that"
        assert [node.losses for node in nodes] == [0, 0]
