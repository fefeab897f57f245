"""Who is connected where: one cell a user and workspace, and the nodes that may write into it.

A node lives under an incarnation, random and new after each lapse. Its lease is a cell that falls due; whoever finds
it due reaps it: first it ends the lease, so that the node finds no new place, then in each place its right to write,
then its users. What has ended does not begin again: a node that was only paused cannot write its users back to life.
What a node writes is what it has, not a difference: writing it again after a failure is harmless.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import anyio
import attrs

from jackfield._audience import Users
from jackfield._commit import Commits, Decision, Post, Revocation, as_posts
from jackfield._state import State, Transaction, falls_due, savepoint
from jackfield.errors import EngineError, EngineUnavailable, RateLimited, Revoked

if TYPE_CHECKING:
    from jackfield._clock import Clock
    from jackfield._dispatch import Call, Dispatcher
    from jackfield._session import Session
    from jackfield._workspace import Workspace
    from jackfield.engine import Engine, Key

__all__ = ["SYSTEM", "Attendance", "Cause", "Roster"]

logger = logging.getLogger("jackfield")

SYSTEM = "~jackfield"
"""The workspace of the nodes themselves. No id of the wire has a tilde."""

CHUNK = 100
TRIES = 3
ENDED_FOR = 86_400.0
"""Seconds that it is remembered of an incarnation that it may not write: longer than a node can be paused."""
Cause = Literal["opened", "closed", "idle", "lost", "revoked"]

_Here = Mapping[str, tuple[int, int]]
ROSTER: State[dict[str, tuple[int, int]]] = State("roster", dict[str, tuple[int, int]])
"""user → incarnation → connections, and how many of them are idle"""
WRITERS: State[str] = State("roster.nodes", str)
"""incarnation → whether it may write here"""
REVOKED: State[float] = State("revoked", float)
"""user → since when; as long as the longest token lives"""
LEASES: State[str] = State("nodes", str)
"""incarnation → whether it lives; due when it should have been renewed"""
PLACES: State[bool] = State("nodes.workspaces", bool)
"""by incarnation: workspaces"""
ALIVE = "alive"
ENDED = "ended"


@attrs.frozen
class Attendance:
    """A user's connections in a workspace, over all nodes, and how many of them are idle."""

    connections: int = 0
    idle: int = 0


class _Lapsed(EngineError):
    """Another node has reaped this one."""


class _Debt:
    """Something that is to be written, and was not yet."""

    __slots__ = ("cause",)

    def __init__(self, cause: Cause) -> None:
        self.cause: Cause = cause


class Roster:
    """A node's part of it."""

    def __init__(
        self,
        engine: Engine,
        commits: Commits,
        dispatcher: Dispatcher,
        changed: Sequence[Call],
        clock: Clock,
        workspace: Callable[[str], Workspace],
        *,
        lease: float,
        limit: int,
        token_lifetime: float,
    ) -> None:
        self.incarnation = secrets.token_hex(8)
        self.nodes: frozenset[str] = frozenset()
        self._engine = engine
        self._commits = commits
        self._dispatcher = dispatcher
        self._changed = changed
        self._clock = clock
        self._workspace = workspace
        self._lease = lease
        self._limit = limit
        self._token_lifetime = token_lifetime
        self._sessions: dict[tuple[str, str], dict[Session, None]] = {}
        self._owed: dict[tuple[str, str], _Debt] = {}
        self._places: set[str] = set()
        self._renewing = anyio.Lock()
        self._stopped = False
        self._in_touch = clock.monotonic()

    # --- connections

    async def open(self, session: Session) -> None:
        """Write a connection in. Raises Revoked, RateLimited when the user has too many, or EngineUnavailable."""
        key = (session.workspace.id, session.user_id)
        self._sessions.setdefault(key, {})[session] = None
        try:
            await self._write(key, "opened", session)
        except BaseException:
            self._forget(key, session)
            # It may have been counted: its commit may have happened all the same, or another's counted it too.
            self._owed.setdefault(key, _Debt("closed"))
            raise

    async def close(self, session: Session) -> None:
        """Write it out; owed where the engine is away, and paid by `run`."""
        key = (session.workspace.id, session.user_id)
        if session in self._sessions.get(key, ()):
            self._forget(key, session)
        elif key not in self._owed:
            return
        if not self._stopped:
            await self._pay(key, "closed")

    async def idle(self, session: Session) -> None:
        """Whether the connection is idle has changed."""
        await self._pay((session.workspace.id, session.user_id), "idle")

    async def revoke(self, workspace: Workspace, user_id: str) -> int:
        """End a user's connections on all nodes, in one commit with his going."""
        ended = 0

        async def decide(transaction: Transaction) -> Sequence[Post]:
            nonlocal ended
            # Whole milliseconds, as tokens have them; a token of this very one counts as issued before.
            since = int(transaction.now * 1000) / 1000
            await transaction.update(REVOKED, user_id, lambda _: since, due=self._token_lifetime)
            before = _sum((await transaction.update(ROSTER, user_id, lambda _: {})).before)
            ended = before.connections
            posts = await self._tell(transaction, user_id, before, Attendance(), "revoked")
            return [Post(Revocation(user_id, since), to=Users(user_id)), *posts]

        await self._commits.decide(workspace, decide)
        return ended

    def _forget(self, key: tuple[str, str], session: Session) -> None:
        sessions = self._sessions.get(key)
        if sessions is not None:
            sessions.pop(session, None)
            if not sessions:
                del self._sessions[key]

    async def _pay(self, key: tuple[str, str], cause: Cause) -> None:
        debt = self._owed[key] = _Debt(cause)
        try:
            await self._write(key, cause)
        except EngineError as error:
            logger.warning("the roster of %s is owed a write: %s", key[0], error)
        except Exception:
            logger.exception("the roster of %s is owed a write", key[0])
        else:
            if self._owed.get(key) is debt:  # one that was made meanwhile has yet to be paid
                del self._owed[key]

    async def _write(self, key: tuple[str, str], cause: Cause, opening: Session | None = None) -> None:
        workspace_id, user_id = key

        def deciding(node: str) -> Decision:
            async def decide(transaction: Transaction) -> Sequence[Post]:
                if await transaction.get(WRITERS, node) != ALIVE:
                    raise _Lapsed
                since = await transaction.get(REVOKED, user_id)
                there = await transaction.get(ROSTER, user_id)
                others = {other: here for other, here in there.items() if other != node}
                mine = [session for session in self._sessions.get(key, ()) if not session.revoked_by(since)]
                if opening is not None:
                    if opening not in mine:
                        raise Revoked
                    if _sum(others).connections + mine.index(opening) >= self._limit:
                        raise RateLimited
                here = {node: (len(mine), sum(session.idle for session in mine))} if mine else {}
                change = await transaction.update(ROSTER, user_id, lambda _: {**others, **here})
                return await self._tell(transaction, user_id, _sum(change.before), _sum(change.after), cause)

            return decide

        for _ in range(TRIES):
            node = self.incarnation
            try:
                if workspace_id not in self._places:
                    await self._take_place(node, workspace_id)
                await self._commits.decide(self._workspace(workspace_id), deciding(node))
            except _Lapsed:
                await self._begin_anew(node)
            else:
                return
        raise EngineUnavailable("this node is taken for dead again and again")

    async def _tell(
        self, transaction: Transaction, user_id: str, before: Attendance, after: Attendance, cause: Cause
    ) -> list[Post]:
        if before == after:
            return []
        posts: list[Post] = []
        for call in self._changed:
            undo = savepoint(transaction)
            try:
                posts += as_posts(await self._dispatcher.decide(call, transaction, user_id, before, after, cause))
            except EngineError:
                raise
            except Exception:  # it has been blamed; who is gone is gone, whatever a plugin makes of it
                if cause == "opened":
                    raise
                undo()
        return posts

    async def _take_place(self, node: str, workspace_id: str) -> None:
        """Announce the place before the first write there, so that a reaper finds every trace."""

        async def announce(transaction: Transaction) -> Sequence[Post]:
            if await transaction.get(LEASES, node) != ALIVE:
                raise _Lapsed
            await transaction.update(PLACES.of(node), workspace_id, lambda _: True)
            return ()

        async def begin(transaction: Transaction) -> Sequence[Post]:
            if await transaction.get(WRITERS, node) == ENDED:
                raise _Lapsed
            await transaction.update(WRITERS, node, lambda _: ALIVE)
            return ()

        await self._commits.decide(self._workspace(SYSTEM), announce)
        await self._commits.decide(self._workspace(workspace_id), begin)
        if node == self.incarnation:
            self._places.add(workspace_id)

    # --- nodes

    async def start(self) -> None:
        """Take a lease."""
        await self._beat(new=True)

    async def run(self) -> None:
        """Renew it, and pay what is owed, until cancelled."""
        while True:
            await self._clock.sleep(self._lease / 3)
            try:
                await self._renew()
                for key, debt in tuple(self._owed.items()):
                    if self._owed.get(key) is debt:
                        await self._pay(key, debt.cause)
            except EngineError as error:
                self.out_of_touch()
                logger.warning("the lease of this node could not be renewed: %s", error)

    async def stop(self) -> None:
        """Give it back, and leave nothing behind: whoever is still written in, is so no longer."""
        self._stopped = True
        for workspace_id in tuple(self._places):
            await self._reap(self.incarnation, workspace_id, "closed")
        await self._bury(self.incarnation)

    def out_of_touch(self) -> None:
        """The engine did not answer. Who was out of touch reaps nobody until a whole lease has passed."""
        self._in_touch = self._clock.monotonic()

    async def _renew(self) -> None:
        node = self.incarnation
        try:
            await self._beat()
        except _Lapsed:
            await self._begin_anew(node)

    async def _beat(self, *, new: bool = False) -> None:
        node = self.incarnation

        async def decide(transaction: Transaction) -> Sequence[Post]:
            if not new and await transaction.get(LEASES, node) != ALIVE:
                raise _Lapsed
            await transaction.update(LEASES, node, lambda _: ALIVE, due=self._lease)
            return ()

        await self._commits.decide(self._workspace(SYSTEM), decide)
        leases = (await self._engine.read(SYSTEM, tables=(LEASES.name,))).tables[LEASES.name]
        self.nodes = frozenset(node for node, cell in leases.items() if LEASES.load(cell) == ALIVE)

    async def _begin_anew(self, lapsed: str) -> None:
        """Under another name; one of all those who notice does it."""
        async with self._renewing:
            if self.incarnation != lapsed:
                return
            logger.warning("this node was taken for dead; it goes on under a new name")
            self.incarnation = secrets.token_hex(8)
            self._places.clear()
            self._owed.update({key: _Debt("opened") for key in self._sessions})
            await self._beat(new=True)

    async def lease_due(self, key: Key) -> bool:
        """A node's lease has run out: reap it. Harmless when several do. False: there is nothing to do yet."""
        node = key.field
        if node == self.incarnation:
            await self._renew()
            return True
        if self._clock.monotonic() - self._in_touch < self._lease:
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
                await transaction.update(LEASES, node, lambda _: ENDED, due=self._lease / 3)
            return ()

        await self._commits.decide(self._workspace(SYSTEM), decide)
        return condemned

    async def _reap(self, node: str, workspace_id: str, cause: Cause) -> None:
        workspace = self._workspace(workspace_id)

        async def silence(transaction: Transaction) -> Sequence[Post]:
            await transaction.update(WRITERS, node, lambda _: ENDED, due=ENDED_FOR)
            return ()

        await self._commits.decide(workspace, silence)
        everyone = (await self._engine.read(workspace_id, tables=(ROSTER.name,))).tables[ROSTER.name]
        users = [user_id for user_id, cell in everyone.items() if node in ROSTER.load(cell)]
        for start in range(0, len(users), CHUNK):
            await self._commits.decide(workspace, self._losing(node, users[start : start + CHUNK], cause))

    async def _bury(self, node: str) -> None:
        """Forget where it was, and that it was."""

        async def decide(transaction: Transaction) -> Sequence[Post]:
            for workspace_id in await transaction.all(PLACES.of(node)):
                await transaction.update(PLACES.of(node), workspace_id, lambda _: False)
            await transaction.update(LEASES, node, lambda _: "")
            return ()

        await self._commits.decide(self._workspace(SYSTEM), decide)

    def _losing(self, node: str, users: Sequence[str], cause: Cause) -> Decision:
        async def decide(transaction: Transaction) -> Sequence[Post]:
            posts: list[Post] = []
            for user_id in users:
                change = await transaction.update(
                    ROSTER, user_id, lambda there: {other: here for other, here in there.items() if other != node}
                )
                posts += await self._tell(transaction, user_id, _sum(change.before), _sum(change.after), cause)
            return posts

        return decide


def _sum(there: _Here) -> Attendance:
    return Attendance(sum(here[0] for here in there.values()), sum(here[1] for here in there.values()))
