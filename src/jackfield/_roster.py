"""Who is connected where: one cell a user and workspace, in which each node writes what it has.

What a node writes is what it has, not a difference: writing it again after a failure is harmless. It writes under its
lease (`_lease`), so that nobody who is taken for dead comes back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import attrs

from jackfield._audience import Users
from jackfield._commit import Commits, Decision, Post, Revocation, as_posts
from jackfield._lease import WRITERS, Lapsed, Lease
from jackfield._state import State, Transaction, savepoint
from jackfield.errors import EngineError, EngineUnavailable, RateLimited, Revoked

if TYPE_CHECKING:
    from jackfield._clock import Clock
    from jackfield._dispatch import Call, Dispatcher
    from jackfield._session import Session
    from jackfield._workspace import Workspace
    from jackfield.engine import Engine

__all__ = ["Attendance", "Cause", "Roster"]

logger = logging.getLogger("jackfield")

CHUNK = 100
TRIES = 3
Cause = Literal["opened", "closed", "idle", "lost", "revoked"]

_Here = Mapping[str, tuple[int, int]]
ROSTER: State[dict[str, tuple[int, int]]] = State("roster", dict[str, tuple[int, int]])
"""user → incarnation → connections, and how many of them are idle"""
REVOKED: State[float] = State("revoked", float)
"""user → since when; as long as the longest token lives"""


@attrs.frozen
class Attendance:
    """A user's connections in a workspace, over all nodes, and how many of them are idle."""

    connections: int = 0
    idle: int = 0


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
        renamed: Callable[[], None],
    ) -> None:
        self.lease = Lease(engine, commits, clock, workspace, seconds=lease, reap=self._lose, renamed=self._owe_all)
        self._engine = engine
        self._commits = commits
        self._dispatcher = dispatcher
        self._changed = changed
        self._clock = clock
        self._workspace = workspace
        self._limit = limit
        self._token_lifetime = token_lifetime
        self._renamed = renamed
        self._sessions: dict[tuple[str, str], dict[Session, None]] = {}
        self._users: Counter[str] = Counter()
        self._owed: dict[tuple[str, str], _Debt] = {}
        self._stopped = False

    # --- connections

    async def open(self, session: Session) -> None:
        """Write a connection in. Raises Revoked, RateLimited when the user has too many, or EngineUnavailable."""
        key = (session.workspace.id, session.user_id)
        if key not in self._sessions:
            self._sessions[key] = {}
            self._users[session.workspace.id] += 1
        self._sessions[key][session] = None
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
            # To the last digit: whoever issues tokens may round down, to milliseconds or not at all.
            since = transaction.now
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
                self._users[key[0]] -= 1
                if not self._users[key[0]]:
                    del self._users[key[0]]

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
                await transaction.read_ahead(((WRITERS, node), (REVOKED, user_id), (ROSTER, user_id)))
                await self.lease.check(transaction, node)
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
            node = self.lease.incarnation
            try:
                await self.lease.take_place(node, workspace_id)
                await self._commits.decide(self._workspace(workspace_id), deciding(node))
            except Lapsed:
                await self.lease.begin_anew(node)
            else:
                return
        raise EngineUnavailable("this node is taken for dead again and again")

    async def _tell(
        self, transaction: Transaction, user_id: str, before: Attendance, after: Attendance, cause: Cause
    ) -> list[Post]:
        if before == after and cause != "revoked":  # who is thrown out may have gone a moment ago, and be missed
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

    # --- its life

    async def start(self) -> None:
        """Take a lease."""
        await self.lease.start()

    async def run(self) -> None:
        """Renew it, and pay what is owed, until cancelled."""
        while True:
            await self._clock.sleep(self.lease.seconds / 3)
            try:
                await self.lease.renew()
                for key, debt in tuple(self._owed.items()):
                    if self._owed.get(key) is debt:
                        await self._pay(key, debt.cause)
                await self.lease.leave_unused(self._is_used)
            except EngineError as error:
                self.lease.out_of_touch()
                logger.warning("the lease of this node could not be renewed: %s", error)

    async def stop(self) -> None:
        """Give it back: whoever is still written in, is so no longer."""
        self._stopped = True
        await self.lease.stop()

    def _is_used(self, workspace_id: str) -> bool:
        """Whether this node has written there, or is about to."""
        return workspace_id in self._users or any(owed == workspace_id for owed, _ in self._owed)

    def _owe_all(self) -> None:
        """What stood under the name that lapsed is to be written under the new one."""
        self._owed.update({key: _Debt("opened") for key in self._sessions})
        self._renamed()

    async def _lose(self, node: str, workspace_id: str, cause: Cause) -> None:
        """Take out whoever a node had there."""
        everyone = (await self._engine.read(workspace_id, tables=(ROSTER.name,))).tables[ROSTER.name]
        users = [user_id for user_id, cell in everyone.items() if node in ROSTER.load(cell)]
        workspace = self._workspace(workspace_id)
        for start in range(0, len(users), CHUNK):
            await self._commits.decide(workspace, self._losing(node, users[start : start + CHUNK], cause))

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
