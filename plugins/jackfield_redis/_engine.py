"""The engine: what is asked of it is a script that Redis runs."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from jackfield.engine import (
    Commit,
    Committed,
    Conflict,
    Due,
    EngineUnavailable,
    Feed,
    History,
    Key,
    Record,
    Snapshot,
    Trimmed,
)
from jackfield_redis._address import Address, parse
from jackfield_redis._answers import Answers, CaughtUp, WentBack
from jackfield_redis._beside import beside
from jackfield_redis._feed import Head, RedisFeed, Want
from jackfield_redis._link import Link
from jackfield_redis._names import Names
from jackfield_redis._seal import seal_with

if TYPE_CHECKING:
    from jackfield import Clock

__all__ = ["RedisEngine"]

READ_AT_ONCE = 1_000


class RedisEngine:
    """Everything in Redis or Valkey, so that many nodes have it; made by `RedisEngine.from_url`.

    What is asked while Redis is away for a moment waits, at most 2.5 seconds, and is asked again; a commit is made once
    all the same. Then EngineUnavailable is raised, until Redis is back: connections live on meanwhile, and what others
    have published is delivered then.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._names = Names(address.prefix)
        self._seal = seal_with(address.keys)
        self._answers = Answers(self._seal)
        self._links: list[Link] = []
        self._feeds: list[RedisFeed] = []
        self._history = History()

    @classmethod
    def from_url(cls, url: str) -> RedisEngine:
        """`redis://[user:password@]host[:port][/database]`, or `rediss://…` by TLS.

        `redis+sentinel://host:26379,host:26379/service[/database]` asks Sentinels, `redis+cluster://host,host` is a
        cluster. Behind a `?`, with `&` between them:

        - `wait=`: seconds to wait at the start for a Redis that is not there (0: not at all)
        - `prefix=`: what every key begins with (`jackfield`)
        - `connections=`: how many a node has at most for what it asks (8)
        - `ca=`, `cert=`, `key=`: files for TLS; without `ca` those of the system
        - `keys=`: a file of keys in hex, one a line, by which what is written is sealed: the first seals, all open

        Raises ValueError for any other.
        """
        return cls(parse(url))

    def __repr__(self) -> str:
        return f"RedisEngine({self._address})"

    # --- from the first node that opens it to the last that leaves

    @asynccontextmanager
    async def open(self, history: History, clock: Clock) -> AsyncGenerator[None, None]:
        self._history = history
        link = Link(self._address, self._seal)
        async with beside(link):
            self._links.append(link)
            try:
                yield
            finally:
                self._links.remove(link)

    # --- what is asked

    async def read(self, workspace: str, keys: Collection[Key] = (), tables: Collection[str] = ()) -> Snapshot:
        asked = tuple(keys), tuple(tables)
        flat = [name for key in asked[0] for name in key]
        answer = await self._call("read", workspace, len(asked[0]), *flat, *asked[1])
        return self._answers.snapshot(answer, workspace, *asked)

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        seal = self._seal
        flat: list[Any] = []
        for (table, field), value in commit.expected.items():
            ways: Sequence[bytes] = ()
            if value is not None:
                ways = seal.ways(value, workspace, "cell", table, field) if field else (value,)
            flat += (table, field, len(ways), *ways)
        for cell in commit.cells:
            (table, field), value, due, fading = cell
            written = b"" if value is None else seal.close(value, workspace, "cell", table, field)
            flat += (table, field, int(value is not None), written, "" if due is None else repr(due), int(fading))
        for draft in commit.drafts:
            head = seal.close(draft.head, workspace, "head", draft.id)
            flat += (draft.id, head, seal.close(draft.body, workspace, "body", draft.id), int(draft.lasting))
        sizes = len(commit.expected), len(commit.cells), len(commit.drafts), len(commit.ids)
        before = (workspace, commit.epoch, commit.seen, commit.seen_id, *sizes)
        answer = await self._call_shards("commit", [self._names.shard(workspace)], *before, *flat, *commit.ids)
        return self._answers.outcome(answer, workspace)

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        answer = await self._call("records", workspace, after, upto, limit)
        if answer is None:
            raise Trimmed(workspace)
        return self._answers.records(answer, workspace, limit)

    async def due(self, limit: int) -> tuple[Sequence[Due], float | None]:
        shards = self._names.shards
        groups = [[shard] for shard in shards] if self._address.cluster else [shards]
        found: list[Due] = []
        soon: list[float] = []
        for group in groups:
            due, later, idle = self._answers.due(await self._call_shards("due", group, limit))
            found += due
            if later is not None:
                soon.append(later)
            await self._give_back(idle)
        found.sort(key=lambda one: one.due)
        soon += [one.due for one in found[limit:]]
        return found[:limit], min(soon, default=None)

    @asynccontextmanager
    async def feed(self) -> AsyncGenerator[Feed, None]:
        feed = RedisFeed(self._address, self._names, self._catch_up, self._heads, self._answers.news)
        async with beside(feed):
            self._feeds.append(feed)
            try:
                yield feed
            finally:
                self._feeds.remove(feed)

    # --- how it is asked

    @property
    def _link(self) -> Link:
        if not self._links:
            raise EngineUnavailable(f"{self._address} is not open")
        return self._links[-1]

    def _now(self) -> str:
        """The moment of it, where that is not for Redis to say: its clock is the one that all nodes have."""
        return ""

    def _common(self) -> tuple[Any, ...]:
        history = self._history
        return self._now(), history.events, history.bytes, repr(float(history.age)), secrets.token_hex(8)

    async def _call(self, name: str, workspace: str, *arguments: Any) -> Any:
        return await self._call_shards(name, [self._names.shard(workspace)], workspace, *arguments)

    async def _call_shards(self, name: str, shards: Sequence[str], *arguments: Any) -> Any:
        return await self._link.call(name, shards, [*self._common(), *arguments])

    async def _give_back(self, idle: Sequence[str]) -> None:
        """Logs that hold nothing are forgotten, but for those that a feed here wants; other nodes have said of theirs
        that they are used."""
        wanted = [workspace for workspace in idle if any(workspace in feed.wanted for feed in self._feeds)]
        for script, workspaces in (("heads", wanted), ("give_back", [name for name in idle if name not in wanted])):
            for shard, names in self._by_shard(workspaces).items():
                await self._call_shards(script, [shard], *names)

    def _by_shard(self, workspaces: Sequence[str]) -> Mapping[str, list[str]]:
        shards: dict[str, list[str]] = defaultdict(list)
        for workspace in workspaces:
            shards[self._names.shard(workspace)].append(workspace)
        return shards

    # --- what a feed asks

    async def _catch_up(self, want: Want) -> CaughtUp | WentBack:
        after = want.given
        answer = await self._call("catch_up", want.workspace, want.epoch, *want.seen, after, READ_AT_ONCE)
        return self._answers.caught_up(answer, want.workspace, READ_AT_ONCE)

    async def _heads(self, workspaces: Sequence[str]) -> Mapping[str, Head | None]:
        heads: dict[str, Head | None] = {}
        for shard, names in self._by_shard(workspaces).items():
            for name, head in zip(names, await self._call_shards("heads", [shard], *names), strict=True):
                heads[name] = (
                    None if head is None else (head[0].decode(), int(head[1]), (int(head[2]), head[3].decode()))
                )
        return heads
