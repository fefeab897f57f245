"""Two nodes that publish and listen, each by an engine of its own; and what must hold of them whatever breaks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio

from jackfield._clock import SystemClock
from jackfield.engine import Commit, Conflict, Draft, EngineUnavailable, History, Lost, Rewound
from jackfield_redis import RedisEngine

__all__ = ["PATIENCE", "Node", "events_until", "they_agree", "two_nodes"]

PATIENCE = 20.0
PAUSE = 0.01  # seconds between two events


class Node:
    """An engine of its own, and what its feed has given."""

    def __init__(self, url: str, workspace: str) -> None:
        self.engine = RedisEngine.from_url(url)
        self.workspace = workspace
        self.epoch = ""
        self.seen = (0, "")
        self.given: list[str] = []
        """Ids, from the last loss on."""
        self.position = 0
        self.losses = 0
        self.confirmed: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Node, None]:
        async with self.engine.open(History(), SystemClock()), anyio.create_task_group() as tasks:
            self.epoch = (await self.engine.read(self.workspace)).epoch
            tasks.start_soon(self._listen)
            yield self
            tasks.cancel_scope.cancel()

    async def _listen(self) -> None:
        async with self.engine.feed() as feed:
            feed.want(self.workspace, 0, self.epoch)
            async for news in feed:
                if isinstance(news, Lost):
                    self.epoch, self.position, self.seen = news.epoch, news.position, (0, "")
                    self.given.clear()
                    self.losses += 1
                else:
                    assert news.whole
                    assert [record.position for record in news.records] == [*range(self.position + 1, news.upto + 1)]
                    self.position = news.upto
                    self.given += [record.id for record in news.records]
                    self.seen = (news.upto, news.records[-1].id)

    async def publish(self, id: str) -> None:
        """Until it is confirmed."""
        while True:
            try:
                done = await self.engine.commit(
                    self.workspace, Commit(self.epoch, *self.seen, drafts=[Draft(id, b"{}", b"{}")])
                )
            except (EngineUnavailable, Rewound):
                await anyio.sleep(PAUSE)
                continue
            assert not isinstance(done, Conflict) or id in done.known
            self.confirmed.append(id)
            return

    async def publish_on(self, name: str) -> None:
        number = 0
        while True:
            number += 1
            await self.publish(f"{name}{number}")
            await anyio.sleep(PAUSE)


@asynccontextmanager
async def two_nodes(url: str, workspace: str = "w") -> AsyncGenerator[list[Node], None]:
    nodes = [Node(url, workspace), Node(url, workspace)]
    async with nodes[0].running(), nodes[1].running():
        yield nodes


async def they_agree(nodes: list[Node]) -> None:
    """Whatever has happened, both have been given what stands in the log, and all that is confirmed from here on."""
    for node in nodes:
        await node.publish(f"last-of-{id(node)}")
    last = {node.confirmed[-1] for node in nodes}
    await eventually(lambda: all(last <= set(node.given) for node in nodes))
    with anyio.fail_after(PATIENCE):
        engine, workspace = nodes[0].engine, nodes[0].workspace
        there = await engine.read(workspace)
        log = [record.id for record in await engine.records(workspace, 0, there.position, 10_000)]
    for node in nodes:
        assert node.position == there.position
        assert node.given == log[len(log) - len(node.given) :]
    if not any(node.losses for node in nodes):
        assert {one for node in nodes for one in node.confirmed} <= set(log)
    assert len(log) == len(set(log)), "once each"


async def events_until(nodes: list[Node], count: int) -> None:
    goal = [len(node.confirmed) + count for node in nodes]
    await eventually(lambda: all(len(node.confirmed) >= enough for node, enough in zip(nodes, goal, strict=True)))


async def eventually(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while True:
            if holds():
                return
            await anyio.sleep(PAUSE)
