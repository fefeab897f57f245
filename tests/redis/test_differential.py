"""The Redis engine beside the embedded one: the same is asked of both, by the same clock, and both must say the same.

Each has epochs and revisions of its own; what is compared of them is when they change. What either may answer in its
own way is left out of what is asked, each time with the reason. Under one back end: what is compared here is scripts
and how their answers are read, and the contract runs both back ends through these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from typing import Any, TypeVar

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from jackfield import MemoryEngine
from jackfield.engine import (
    Arrived,
    Cell,
    Commit,
    Conflict,
    Draft,
    Engine,
    History,
    Key,
    Lost,
    Rewound,
    Snapshot,
    Trimmed,
)
from jackfield.testing import FakeClock
from jackfield_redis import RedisEngine
from jackfield_redis._address import parse
from redis_server import BINARIES, RedisServer

T = TypeVar("T")

EXAMPLES, STEPS = 60, 40
WITHIN = 5.0
WORKSPACES = ("w", "a.b:c@d-e_f")
TABLES = ("one", "1:one", "t/x")
FIELDS = ("a", "b", "a:b")
KEYS = [Key(table, field) for table in TABLES for field in FIELDS]
REVISIONS = [Key(table, "") for table in TABLES]
IDS = [f"i{n}" for n in range(8)]
DUE = (None, None, -5.0, 0.0, 30.0, 120.0)
"""Seconds from now."""


class Told(RedisEngine):
    """By the clock of the test."""

    clock: FakeClock

    def _now(self) -> str:
        return repr(self.clock.time())


class Side:
    """One of the two, what its feed has given, and the names that it has for what the other calls otherwise."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.feed: Any = None
        self.news: Any = None
        self.seen: dict[str, Snapshot] = {}
        self.heard: dict[str, list[tuple[object, ...]]] = {}
        """What the feed has given of each workspace that is wanted, with what came in pieces put together."""
        self._names: dict[tuple[str, object], int] = {}

    def name(self, kind: str, value: object) -> int | None:
        """A number for an epoch or a revision: which one it is, in the order in which they have been met."""
        return None if value is None else self._names.setdefault((kind, value), len(self._names))

    def cells(self, workspace: str, cells: Mapping[Key, bytes | None]) -> Mapping[Key, object]:
        return {
            key: value if key.field else self.name(f"revision of {workspace} {key.table}", value)
            for key, value in cells.items()
        }

    def snapshot(self, workspace: str, snapshot: Snapshot) -> tuple[object, ...]:
        epoch = self.name("epoch", (workspace, snapshot.epoch))
        return (*snapshot._replace(epoch="", cells={}), epoch, self.cells(workspace, snapshot.cells))

    def hear(self, news: Arrived | Lost) -> None:
        heard = self.heard[news.workspace]
        if isinstance(news, Lost):
            heard.append(("lost", self.name("epoch", (news.workspace, news.epoch)), news.position))
            return
        for record in news.records:
            heard.append(("record", *record))
        if not news.whole:
            heard.append(("not whole", news.upto))


class Machine(RuleBasedStateMachine):
    """Two engines and a feed of each."""

    portal: BlockingPortal
    server: RedisServer

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self.clock = FakeClock()
        self.number = 0

    @initialize(
        events=st.sampled_from([1, 2, 3, 5, 100]),
        bytes=st.sampled_from([40, 200, 100_000]),
        age=st.sampled_from([20.0, 100.0, 1_000.0]),
    )
    def begin(self, events: int, bytes: int, age: float) -> None:
        self.server.command("FLUSHALL")
        self.history = History(events, bytes, age)
        redis = Told(parse(self.server.url))
        redis.clock = self.clock
        self.memory, self.redis = self.sides = Side(MemoryEngine()), Side(redis)
        for side in self.sides:
            self._enter(side.engine.open(self.history, self.clock))
            side.feed = self._enter(side.engine.feed())
            side.news = aiter(side.feed)
            self._stack.callback(self.portal.call, side.news.aclose)

    def _enter(self, context: Any) -> Any:
        return self._stack.enter_context(self.portal.wrap_async_context_manager(context))

    def teardown(self) -> None:
        self._stack.close()

    # --- how both are asked

    def both(self, ask: Callable[[Side], Awaitable[T]]) -> tuple[T, T]:
        async def call() -> tuple[T, T]:
            with anyio.fail_after(WITHIN):
                return await ask(self.memory), await ask(self.redis)

        return self.portal.call(call)

    def same(self, ask: Callable[[Side], Awaitable[object]]) -> object:
        ours, theirs = self.both(ask)
        assert theirs == ours
        return ours

    # --- what happens

    @rule(seconds=st.sampled_from([0.5, 4.0, 19.0, 21.0, 59.0, 62.0, 130.0]))
    def pass_time(self, seconds: float) -> None:
        """While a node asks each second, of which the last ones do."""
        self.portal.call(self.clock.advance, seconds)
        for _ in range(2):
            self.due(100)
            self.portal.call(self.clock.advance, 1.0)

    @rule(limit=st.sampled_from([1, 2, 100]))
    def due(self, limit: int) -> None:
        """Redis notes a use of a log when the last that it noted is five seconds old, so it may give it back so much
        earlier: there it is used once more."""
        for workspace, log in self.memory.engine._logs.items():  # type: ignore[attr-defined]
            if 54 < self.clock.time() - log.used < 61:
                self.read(workspace)

        async def ask(side: Side) -> tuple[object, ...]:
            found, later = await side.engine.due(limit)
            times = [due.due for due in found]
            # Of two with one time either may be named first.
            return times, later, set(found) if len(found) < limit else None

        self.same(ask)

    @rule(workspace=st.sampled_from(WORKSPACES))
    def read(self, workspace: str) -> None:
        async def ask(side: Side) -> object:
            snapshot = await side.engine.read(workspace, [*KEYS, *REVISIONS], TABLES)
            side.seen[workspace] = snapshot
            return side.snapshot(workspace, snapshot)

        self.same(ask)

    @rule(
        workspace=st.sampled_from(WORKSPACES),
        after=st.integers(0, 30),
        upto=st.integers(0, 40),
        limit=st.sampled_from([1, 3, 100]),
    )
    def records(self, workspace: str, after: int, upto: int, limit: int) -> None:
        async def ask(side: Side) -> object:
            try:
                return list(await side.engine.records(workspace, after, upto, limit))
            except Trimmed:
                return "trimmed"

        self.same(ask)

    @rule(data=st.data(), workspace=st.sampled_from(WORKSPACES))
    def commit(self, data: st.DataObject, workspace: str) -> None:
        draw = data.draw
        now = self.clock.time()
        writing = draw(st.lists(st.sampled_from(KEYS), max_size=3, unique=True))
        cells = [
            Cell(
                key,
                draw(st.sampled_from([None, b"", b"1", b"2"])),
                None if (due := draw(st.sampled_from(DUE))) is None else now + due,
                draw(st.booleans()),
            )
            for key in writing
        ]
        known = self._ids_at_hand(workspace)
        ids = draw(st.lists(st.sampled_from([*known, f"n{self.number}"]), max_size=2, unique=True))
        drafts = []
        for n in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 4]))):
            id = draw(st.sampled_from([*known, *[f"d{self.number}.{n}"] * 12]))
            drafts.append(Draft(id, b"h" * draw(st.integers(0, 9)), b"b" * draw(st.integers(0, 60)), draw(_mostly)))
        # An id that stands in one commit twice is nothing that a node does.
        if len({*ids, *(draft.id for draft in drafts)}) < len(ids) + len(drafts):
            return
        # Of a batch of which not all is kept a feed that has not looked yet gives nothing, but that it is lost.
        kept = [draft for draft in drafts if draft.lasting]
        if workspace in self.redis.heard and (
            len(kept) > self.history.events
            or sum(len(d.id) + len(d.head) + len(d.body) for d in kept) > self.history.bytes
        ):
            return
        self.number += 1
        compared = draw(st.lists(st.sampled_from([*KEYS, *REVISIONS]), max_size=3, unique=True))
        fresh = draw(st.sampled_from([True, True, True, False]))
        value = draw(st.sampled_from([None, b"1", b""]))
        seen = draw(st.sampled_from(["nothing", "nothing", "newest", "newest", "wrong", "ahead"]))
        told = draw(st.booleans())

        async def ask(side: Side) -> object:
            snapshot = await side.engine.read(workspace, compared)
            if not fresh:
                snapshot = side.seen.get(workspace, snapshot)
            expected = {
                key: snapshot.cells.get(key) if fresh else (value if key.field else b"none of them") for key in compared
            }
            at = {
                "nothing": (0, ""),
                "newest": (snapshot.lasting, snapshot.lasting_id),
                "wrong": (snapshot.lasting, "other"),
                "ahead": (snapshot.position + 3, "other"),
            }[seen]
            epoch = snapshot.epoch if told else ""
            try:
                outcome = await side.engine.commit(workspace, Commit(epoch, *at, expected, cells, drafts, ids))
            except Rewound:
                return "rewound"
            if isinstance(outcome, Conflict):
                return side.cells(workspace, outcome.cells), dict(outcome.known), outcome.now
            return outcome

        self.same(ask)
        self._hear()

    def _ids_at_hand(self, workspace: str) -> list[str]:
        """Of those that were used, without the ones of which a batch has been cut: of such a batch the embedded engine
        knows all ids until the last of it is let go, Redis each until its own record is."""
        log = self.memory.engine._logs.get(workspace)  # type: ignore[attr-defined]
        cut = set() if log is None else {id for id, at in log.known.items() if at is not None and at <= log.floor[0]}
        return [id for id in IDS if id not in cut] + ([] if log is None else sorted(log.known.keys() - cut)[:6])

    # --- the feed

    @rule(workspace=st.sampled_from(WORKSPACES), behind=st.sampled_from([0, 0, 0, 1, 2, 50, -3]))
    def want(self, workspace: str, behind: int) -> None:
        """From where it stands, from before, or from where it has never been. With its epoch, as a node does: without,
        a feed cannot know of one that begins before it has looked."""

        async def ask(side: Side) -> None:
            snapshot = await side.engine.read(workspace)
            side.feed.want(workspace, max(0, snapshot.position - behind), snapshot.epoch)
            side.heard[workspace] = []

        self.both(ask)
        self._hear()

    @rule(workspace=st.sampled_from(WORKSPACES))
    def release(self, workspace: str) -> None:
        """Until it is released a log is in use, and each has its own way to note that."""

        async def ask(side: Side) -> None:
            side.feed.release(workspace)
            side.heard.pop(workspace, None)
            await side.engine.read(workspace)

        self.both(ask)

    def _hear(self) -> None:
        """What the embedded engine tells at once comes from Redis by and by: the same records, and the same losses."""

        async def wait() -> None:
            while self.memory.engine._feeds[0]._queue:  # type: ignore[attr-defined]
                self.memory.hear(await anext(self.memory.news))
            with anyio.move_on_after(WITHIN):
                while self.redis.heard != self.memory.heard:
                    self.redis.hear(await anext(self.redis.news))

        self.portal.call(wait)
        assert self.redis.heard == self.memory.heard


_mostly = st.sampled_from([True, True, True, False])


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", BINARIES)
def test_redis_says_what_the_embedded_engine_says(name: str) -> None:
    with RedisServer(BINARIES[name]) as server, start_blocking_portal("asyncio") as portal:
        machine = type("Both", (Machine,), {"server": server, "portal": portal})
        # What is not heard is waited for, so that to make a failing example smaller would take minutes.
        how = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, phases=[Phase.generate])
        run_state_machine_as_test(machine, settings=how)
