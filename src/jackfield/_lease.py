"""A node's lease of life: the name under which it may write, and what becomes of those whose lease ran out.

A node lives under an incarnation, random and new after each lapse. Its lease is a cell that falls due; whoever finds
it due reaps it: first it ends the lease, so that the node finds no new place, then in each place its right to write,
then what it has there. What has ended does not begin again: a node that was only paused cannot write its users back
to life.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Literal

import anyio

from jackfield._state import State, Transaction, falls_due
from jackfield.errors import EngineError

if TYPE_CHECKING:
    from jackfield._clock import Clock
    from jackfield._commit import Commits, Post
    from jackfield._workspace import Workspace
    from jackfield.engine import Engine, Key

__all__ = ["LEASES", "SYSTEM", "WRITERS", "Lapsed", "Lease"]

logger = logging.getLogger("jackfield")

SYSTEM = "~jackfield"
"""The workspace of the nodes themselves. No id of the wire has a tilde."""

ENDED_FOR = 86_400.0
"""Seconds that it is remembered of an incarnation that it may not write: longer than a node can be paused."""

UNUSED_FOR = 60.0
"""Seconds without anybody there, after which a node gives a place back."""
LEAVES = 20
"""Places that it gives back at a time."""

WRITERS: State[str] = State("roster.nodes", str)
"""incarnation → whether it may write here"""
LEASES: State[str] = State("nodes", str)
"""incarnation → whether it lives; due when it should have been renewed"""
PLACES: State[bool] = State("nodes.workspaces", bool)
"""by incarnation: workspaces"""
ALIVE = "alive"
ENDED = "ended"


class Lapsed(EngineError):
    """Another node has reaped this one."""


class Lease:
    """A node's own, and its eye on those of the others.

    `seconds` is how long it holds. `reap(incarnation, workspace_id, cause)` takes out what a node had in a place where
    it can write no more; `renamed()` is told when this node goes on under a new incarnation.
    """

    def __init__(
        self,
        engine: Engine,
        commits: Commits,
        clock: Clock,
        workspace: Callable[[str], Workspace],
        *,
        seconds: float,
        reap: Callable[[str, str, Literal["closed", "lost"]], Awaitable[None]],
        renamed: Callable[[], None],
    ) -> None:
        self.incarnation = secrets.token_hex(8)
        self.nodes: frozenset[str] = frozenset()
        """All that live, when this one last renewed."""
        self.seconds = seconds
        self._engine = engine
        self._commits = commits
        self._clock = clock
        self._workspace = workspace
        self._take_out = reap
        self._renamed = renamed
        self._places: set[str] = set()
        self._unused: dict[str, float] = {}
        self._leaving: dict[str, anyio.Event] = {}
        self._renewing = anyio.Lock()
        self._in_touch = clock.monotonic()

    # --- its own

    async def start(self) -> None:
        """Take it."""
        await self._beat(new=True)

    async def renew(self) -> None:
        """Make it last; under a new name where somebody took this node for dead."""
        node = self.incarnation
        try:
            await self._beat()
        except Lapsed:
            await self.begin_anew(node)

    async def stop(self) -> None:
        """Give it back, and leave nothing behind."""
        for workspace_id in tuple(self._places):
            await self._reap(self.incarnation, workspace_id, "closed")
        await self._bury(self.incarnation)

    def out_of_touch(self) -> None:
        """The engine did not answer. Who was out of touch reaps nobody until a whole lease has passed."""
        self._in_touch = self._clock.monotonic()

    async def begin_anew(self, lapsed: str) -> None:
        """Under another name; one of all those who notice does it."""
        async with self._renewing:
            if self.incarnation != lapsed:
                return
            logger.warning("this node was taken for dead; it goes on under a new name")
            self.incarnation = secrets.token_hex(8)
            self._places.clear()
            self._unused.clear()
            self._renamed()
            await self._beat(new=True)

    async def _beat(self, *, new: bool = False) -> None:
        node = self.incarnation

        async def decide(transaction: Transaction) -> Sequence[Post]:
            if not new and await transaction.get(LEASES, node) != ALIVE:
                raise Lapsed
            await transaction.update(LEASES, node, lambda _: ALIVE, due=self.seconds)
            return ()

        await self._commits.decide(self._workspace(SYSTEM), decide)
        leases = (await self._engine.read(SYSTEM, tables=(LEASES.name,))).tables[LEASES.name]
        self.nodes = frozenset(node for node, cell in leases.items() if LEASES.load(cell) == ALIVE)

    # --- its places

    async def take_place(self, node: str, workspace_id: str) -> None:
        """Announce a place before the first write there, so that a reaper finds every trace. Raises Lapsed."""
        while (leaving := self._leaving.get(workspace_id)) is not None:
            await leaving.wait()
        if workspace_id in self._places:
            return

        async def announce(transaction: Transaction) -> Sequence[Post]:
            if await transaction.get(LEASES, node) != ALIVE:
                raise Lapsed
            await transaction.update(PLACES.of(node), workspace_id, lambda _: True)
            return ()

        async def begin(transaction: Transaction) -> Sequence[Post]:
            if await transaction.get(WRITERS, node) == ENDED:
                raise Lapsed
            await transaction.update(WRITERS, node, lambda _: ALIVE)
            return ()

        await self._commits.decide(self._workspace(SYSTEM), announce)
        await self._commits.decide(self._workspace(workspace_id), begin)
        if node == self.incarnation:
            self._places.add(workspace_id)
            self._unused.pop(workspace_id, None)

    async def leave_unused(self, is_used: Callable[[str], bool]) -> None:
        """Give back places in which nobody is any more: else no workspace would ever be forgotten while this node
        lives."""
        now = self._clock.monotonic()
        for workspace_id in tuple(self._places):
            if is_used(workspace_id):
                self._unused.pop(workspace_id, None)
            else:
                self._unused.setdefault(workspace_id, now)
        old = [workspace_id for workspace_id, since in self._unused.items() if since + UNUSED_FOR <= now]
        for workspace_id in old[:LEAVES]:
            if not is_used(workspace_id):
                await self._leave(self.incarnation, workspace_id)

    async def _leave(self, node: str, workspace_id: str) -> None:
        async def end(transaction: Transaction) -> Sequence[Post]:
            # Who has been reaped stays so.
            await transaction.update(WRITERS, node, lambda state: "" if state == ALIVE else state)
            return ()

        async def forget(transaction: Transaction) -> Sequence[Post]:
            await transaction.update(PLACES.of(node), workspace_id, lambda _: False)
            return ()

        self._places.discard(workspace_id)
        self._leaving[workspace_id] = anyio.Event()
        try:
            await self._commits.decide(self._workspace(workspace_id), end)
            await self._commits.decide(self._workspace(SYSTEM), forget)
            # Where that fails it is tried again, as long as nobody comes; who comes takes it anew.
            self._unused.pop(workspace_id, None)
        finally:
            self._leaving.pop(workspace_id).set()

    @staticmethod
    async def check(transaction: Transaction, node: str) -> None:
        """That the node may still write here. Raises Lapsed."""
        if await transaction.get(WRITERS, node) != ALIVE:
            raise Lapsed

    # --- the others'

    async def due(self, key: Key) -> bool:
        """A node's lease has run out: reap it. Harmless when several do. False: there is nothing to do yet."""
        node = key.field
        if node == self.incarnation:
            await self.renew()
            return True
        if self._clock.monotonic() - self._in_touch < self.seconds:
            return False  # perhaps it was the engine that was away, and the node renews in a moment
        if not await self._condemn(node, key):
            return False
        logger.warning("node %s is dead; its connections end", node)
        places = PLACES.of(node).name
        for workspace_id in (await self._engine.read(SYSTEM, tables=(places,))).tables[places]:
            await self._reap(node, workspace_id, "lost")
        await self._bury(node)
        return True

    async def _condemn(self, node: str, key: Key) -> bool:
        """End its lease, unless it has renewed it meanwhile. It is due again where who reaps it dies over it."""
        condemned = False

        async def decide(transaction: Transaction) -> Sequence[Post]:
            nonlocal condemned
            condemned = await falls_due(transaction, key)
            if condemned:
                await transaction.update(LEASES, node, lambda _: ENDED, due=self.seconds / 3)
            return ()

        await self._commits.decide(self._workspace(SYSTEM), decide)
        return condemned

    async def _reap(self, node: str, workspace_id: str, cause: Literal["closed", "lost"]) -> None:
        async def silence(transaction: Transaction) -> Sequence[Post]:
            await transaction.update(WRITERS, node, lambda _: ENDED, due=ENDED_FOR)
            return ()

        await self._commits.decide(self._workspace(workspace_id), silence)
        await self._take_out(node, workspace_id, cause)

    async def _bury(self, node: str) -> None:
        """Forget where it was, and that it was."""

        async def decide(transaction: Transaction) -> Sequence[Post]:
            for workspace_id in await transaction.all(PLACES.of(node)):
                await transaction.update(PLACES.of(node), workspace_id, lambda _: False)
            await transaction.update(LEASES, node, lambda _: "")
            return ()

        await self._commits.decide(self._workspace(SYSTEM), decide)
