"""Three nodes, and one thing after the other that breaks while events flow: nothing is lost, doubled or out of order,
and nobody is told to load afresh.

Real processes, real sockets, a real Redis, a link a node: one that all share would hide races.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from fleet import Fleet, Listener, Publisher, everything, fleet
from servers import until

pytestmark = pytest.mark.servers

CLIENTS = 3  # of each node
BEFORE, AFTER = 1.0, 2.0  # seconds of events around what breaks


@contextmanager
def events_flowing(those: Fleet, nodes: tuple[int, ...] = (0, 1, 2)) -> Iterator[tuple[Publisher, list[Listener]]]:
    """Around what breaks; at the end everybody has had everything."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(Listener(those, node, f"user-{node}-{n}")) for node in range(3) for n in range(CLIENTS)
        ]
        with Publisher(those, nodes) as publisher:
            time.sleep(BEFORE)
            yield publisher, listeners
            time.sleep(AFTER)
        for listener in listeners:
            everything(listener, publisher.said)


def test_a_node_is_killed() -> None:
    with fleet() as those, events_flowing(those) as (publisher, listeners):
        publisher.nodes.remove(0)
        those.nodes[0].kill()
        those.nodes[0].door.target = those.nodes[1].server.port
        until(lambda: all(len(one.resumed) == 2 for one in listeners[:CLIENTS]), 10, "its clients are back")
        assert all(len(one.resumed) == 1 for one in listeners[CLIENTS:])


def test_redis_is_killed_and_starts_again_with_what_it_wrote() -> None:
    with fleet() as those, events_flowing(those) as (_, listeners):
        those.redis.kill()
        time.sleep(1)
        those.redis.start()
        assert all(len(one.resumed) == 1 for one in listeners), "connections live on"


def test_redis_stands_still_for_five_seconds() -> None:
    with fleet() as those, events_flowing(those) as (publisher, listeners):
        those.redis.freeze()
        time.sleep(5)
        assert those.ready(0) == 503
        those.redis.thaw()
        until(lambda: those.ready(0) == 200, 10, "it is ready again")
        assert publisher.failed > 0
        assert publisher.slowest < 3.5
        assert all(len(one.resumed) == 1 for one in listeners), "connections live on"


def test_the_line_of_a_node_is_cut_again_and_again() -> None:
    with fleet() as those, events_flowing(those) as (_, listeners):
        for _ in range(10):
            those.nodes[0].line.cut()
            time.sleep(0.3)
        assert all(len(one.resumed) == 1 for one in listeners), "connections live on"


def test_the_line_of_a_node_passes_nothing_on() -> None:
    with fleet() as those, events_flowing(those, (1, 2)) as (_, listeners):
        line = those.nodes[0].line
        line.freeze()
        until(lambda: those.ready(0) == 503, 10, "the node has noticed")
        line.thaw()  # for lines that are new; those that there were stay as they are
        until(lambda: those.ready(0) == 200, 10, "it has found another way")
        assert all(len(one.resumed) == 1 for one in listeners), "connections live on"


def test_redis_throws_its_clients_out_again_and_again() -> None:
    with fleet() as those, events_flowing(those) as (_, listeners):
        for n in range(12):
            those.redis.command("CLIENT", "KILL", "TYPE", "pubsub" if n % 2 else "normal")
            time.sleep(0.25)
        assert all(len(one.resumed) == 1 for one in listeners), "connections live on"
