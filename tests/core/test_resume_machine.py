"""Clients that come and go in any order, on two nodes of one engine: each is given exactly its own, once, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jackfield import Everyone, Jackfield, MemoryEngine, Principal, Session, Settings, Users
from jackfield.engine import Engine
from jackfield.testing import HYPERCORN, UVICORN, Bench, BenchNode, Client, Profile, bench, settle
from jackfield.testing._bench import _Anybody
from jackfield.testing._link import CALLS, Gate, Link
from jackfield.testing._transport import Message, Transport
from jackfield_members import Members
from tests.core.inline_sqlite import inline_sqlite
from tests.core.sights import CHANNELS, USERS, World

KEPT, REPLAYED, OUTBOX = 16, 8, 200
NUMBERS = Settings(
    history_events=KEPT,
    replay_events=REPLAYED,
    outbox_events=OUTBOX,
    ping_burst=10_000,
    heartbeat_timeout=100_000,
    connections_per_user=1_000,
    connects_per_address=100_000,
)
OWNERS = ("alice", "alice", "bob", "carol")


@contextmanager
def memory() -> Iterator[Engine]:
    yield MemoryEngine()


ENGINES: list[Any] = [pytest.param(memory, id="memory"), pytest.param(inline_sqlite, id="sqlite")]


@attrs.frozen
class Impatient(Profile):
    """A client that reads so many messages, and then no more."""

    reads: int = 0


class Reading(Transport):
    def _write(self, message: Message) -> None:
        super()._write(message)
        if isinstance(self.profile, Impatient) and len(self.sent) == self.profile.reads:
            self.stall()


@pytest.fixture(autouse=True, scope="module")
def reading() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jackfield.testing._bench.Transport", Reading)
        yield


@attrs.define(eq=False)
class Connection:
    """One connection: where it began, and what it has to be sent from there on."""

    client: Client
    user: str
    node: int
    start: int
    stood_at: int
    missed: list[int]
    got: list[int] = attrs.field(factory=list)
    frames: int = 1
    stalled: bool = False
    was_stalled: bool = False
    may_end: bool = False
    given: str | None = None
    outcome: dict[str, Any] | None = None
    greeted: bool = False

    def expected(self, world: World) -> list[int]:
        live = world.sent[self.user]
        return [*self.missed, *(place for place in range(self.stood_at + 1, world.position + 1) if live[place - 1])]


class Run:
    """What the commands of an example do, and what must have come of it."""

    def __init__(self, b: Bench) -> None:
        self.b = b
        self.world = World()
        self.slots: list[Connection | None] = [None] * len(OWNERS)
        self.cursors: dict[str, list[tuple[str, int]]] = {user: [] for user in USERS}
        self.lagging: set[int] = set()
        self.read = b.app.node.hub.cursors.read  # by the key that all nodes share

    # --- what happens in the log

    async def happen(self, node: int, name: str, *arguments: Any) -> None:
        """One thing, by the rules of the oracle; where it changes nothing, nothing is published."""
        world, before = self.world, self.world.position
        getattr(world, name)(*arguments)
        if world.position > before:
            event, audience = world.events[-1]
            to = audience if name == "say" and len(arguments) > 1 else None
            receipt = await self.b.workspace(node=self.whole(node)).publish(event, to=to)
            assert (receipt.position, receipt.published) == (world.position, True)
            await settle()

    async def burst(self, node: int, channel: str, count: int) -> None:
        """Many at once, so that neighbours go out together."""
        world, before = self.world, self.world.position
        for _ in range(count):
            world.say(channel)
        events = [event for event, _ in world.events[before:]]
        if events:
            await self.b.workspace(node=self.whole(node)).publish_all(events)
            await settle()

    def whole(self, node: int) -> int:
        """A node that reaches the engine; the first always does."""
        return 0 if node in self.cut else node

    @property
    def cut(self) -> set[int]:
        return {number for number, node in enumerate(self.b.nodes) if not node.link._whole.is_set()}

    # --- clients

    async def come(
        self, slot: int, node: int, back: int | None, reads: int, suspends: bool, lives: float | None
    ) -> None:
        """Fresh (None), or with a cursor of his from before; perhaps he soon reads no more, or his token runs out."""
        await self.drop(slot)
        user, node, world = OWNERS[slot], self.whole(node), self.world
        held = self.cursors[user]
        given, start = ("", world.position) if back is None or not held else held[-1 - back % len(held)]
        quirks = HYPERCORN if suspends else UVICORN
        profile = Impatient(**{**attrs.asdict(quirks), "reads": reads}) if reads else quirks
        expected: dict[str, Any] | None = None
        missed: list[int] = []
        if given:
            missed = world.missed(user, start)
            if start < world.position - KEPT:
                expected = {"recovered": False, "reason": "expired"}
            elif len(missed) > REPLAYED:
                expected = {"recovered": False, "reason": "too_many"}
            else:
                expected = {"recovered": True, "replayed": len(missed)}
            if not expected["recovered"]:
                missed, start = [], world.position
        client = await self.b.open(
            user, node=node, resume=given, profile=profile, principal=Principal(user, self.in_(lives))
        )
        self.slots[slot] = Connection(
            client,
            user,
            node,
            start,
            world.position,
            missed,
            stalled=bool(reads),
            was_stalled=bool(reads),
            may_end=lives is not None,
            given=given,
            outcome=expected,
        )

    async def cancel(self, slot: int, node: int, back: int, step: int) -> None:
        """A handshake that is broken off while it waits for the engine, or at once."""
        user, node = OWNERS[slot], self.whole(node)
        held, served = self.cursors[user], self.b.nodes[node]
        if node in self.lagging or not held:
            return
        gate = served.link.gate = Gate(CALLS)
        others = set(served._servings)
        await self.b.open(user, node=node, resume=held[-1 - back % len(held)][0])
        for _ in range(step):
            gate.step()
            await settle()
        for scope in served._servings - others:
            scope.cancel()
        await settle()
        gate.open()
        served.link.gate = None
        await settle()
        resumes = served.app.node.resumes
        assert (resumes._waiting, resumes._slots.value) == (0, 32)

    async def drop(self, slot: int) -> None:
        if (connection := self.slots[slot]) is not None:
            self.look(connection)
            connection.client.drop()
            await settle()
            self.slots[slot] = None

    async def stall(self, slot: int) -> None:
        if (connection := self.slots[slot]) is not None:
            connection.stalled = connection.was_stalled = True
            connection.client.transport.stall()

    async def read_on(self, slot: int) -> None:
        if (connection := self.slots[slot]) is not None:
            connection.stalled = False
            connection.client.transport.profile = UVICORN
            connection.client.transport.read_on()
            await settle()

    def in_(self, seconds: float | None) -> float | None:
        return None if seconds is None else self.b.clock.time() + seconds

    def session(self, connection: Connection) -> Session | None:
        for session in self.b.nodes[connection.node].app.node.sessions:
            if getattr(session.line.write, "__self__", None) is connection.client.transport:
                return session
        return None

    async def renew(self, slot: int, lives: float | None) -> None:
        """A fresh token, perhaps a short one."""
        connection = self.slots[slot]
        if connection is not None and connection.node not in self.cut and (session := self.session(connection)):
            connection.may_end = lives is not None
            await session.renew(Principal(connection.user, self.in_(lives)))
            await settle()

    async def ping(self, slot: int) -> None:
        if (connection := self.slots[slot]) is not None:
            await connection.client.send({"type": "ping"})

    # --- nodes and time

    async def advance(self, seconds: float) -> None:
        await self.b.clock.advance(seconds)

    async def lag(self, node: int) -> None:
        """Its feed stands still; the engine answers."""
        if node not in self.lagging:
            self.lagging.add(node)
            self.b.nodes[node].link.gate = Gate(["feed"])

    async def catch_up(self, node: int) -> None:
        room = self.b.nodes[node].app.node.hub.rooms.get("w")
        if room is not None and room.position < self.world.position - KEPT:  # what it has not read is gone
            for connection in self.slots:
                if connection is not None and connection.node == node:
                    connection.may_end = True
        link = self.b.nodes[node].link
        self.lagging.discard(node)
        if link.gate is not None:
            link.gate.open()
            link.gate = None
        link.mend()
        await settle()

    async def partition(self) -> None:
        if 1 not in self.cut:
            self.b.nodes[1].partition()

    async def restart(self, node: int, orderly: bool) -> None:
        """Another process on the same engine takes its place."""
        await self.catch_up(node)
        old = self.b.nodes[node]
        if orderly:
            old._stop.set()
            await old.stopping(self.b.clock)
        else:
            await old.crash()
        for slot, connection in enumerate(self.slots):
            if connection is not None and connection.node == node:
                self.look(connection)
                self.slots[slot] = None
        link = Link(self.b.engine)
        app = Jackfield(Members(), _Anybody(), engine=link, settings=NUMBERS, clock=self.b.clock)
        new = BenchNode(app, link, old._tasks)
        await new.start()
        nodes = self.b.nodes
        assert isinstance(nodes, list)
        nodes[node] = new

    # --- what must have come of it

    def look(self, connection: Connection) -> None:
        """What has come so far is the beginning of what is to come, and every cursor names its place."""
        client, user, world = connection.client, connection.user, self.world
        client._take()
        expected = connection.expected(world)
        for frame in client.frames[connection.frames - 1 :]:
            connection.frames += 1
            if frame["type"] == "error":  # its node lags behind what is kept: come back in a moment
                assert connection.node in self.lagging
                connection.may_end = True
                continue
            if frame["type"] == "hello":
                assert frame["data"].get("resume") == connection.outcome
                cursor = frame["data"]["cursor"]
                if connection.outcome is not None and connection.outcome["recovered"]:
                    assert cursor == connection.given
                assert self.place(connection, cursor) == connection.start
                connection.greeted = True
                continue
            assert connection.greeted, "nothing comes before hello"
            place = self.place(connection, frame["cursor"])
            if frame["type"] == "pong":
                last = connection.got[-1] if connection.got else connection.start
                assert place >= last, "it fell behind what was sent"
                assert [due for due in expected if due <= place] == connection.got, "it ran ahead"
            else:
                connection.got.append(place)
                event, _ = world.events[place - 1]
                assert (frame["type"], frame["data"]) == (event.__event__.type, _data(event))
                assert connection.got == expected[: len(connection.got)]
            self.cursors[user].append((frame["cursor"], place))
        if (
            connection.greeted
            and (held := (client.frames[0]["data"]["cursor"], connection.start)) not in (self.cursors[user])
        ):
            self.cursors[user].append(held)

    def place(self, connection: Connection, cursor: str) -> int:
        assert len(cursor) <= 128
        return self.read(cursor, "w", connection.user).position

    async def check(self) -> None:
        """After every command: and who reads, on a node that is told, has all that is his."""
        for slot, connection in enumerate(self.slots):
            if connection is None:
                continue
            self.look(connection)
            if connection.client.transport.ended:
                assert connection.was_stalled or connection.may_end, await connection.client.closed()
                self.slots[slot] = None
            elif not connection.stalled and connection.node not in self.lagging | self.cut:
                session = self.session(connection)
                if session is not None and session.expired:
                    continue
                assert connection.got == connection.expected(self.world)

    async def end(self) -> None:
        """Everybody reads again, and the newest cursor names the end of the log."""
        for node in range(len(self.b.nodes)):
            await self.catch_up(node)
        for slot in range(len(self.slots)):
            await self.read_on(slot)
            await self.renew(slot, None)
        await self.advance(1)
        await self.check()
        for slot, connection in enumerate(self.slots):
            if connection is not None and not connection.client.transport.ended:
                await self.ping(slot)
                assert self.place(connection, connection.client.cursor) == self.world.position
        await self.check()
        for node in self.b.nodes:
            resumes = node.app.node.resumes
            assert (resumes._waiting, resumes._slots.value) == (0, 32)


def _data(event: Any) -> dict[str, Any]:
    data = {name: value for name, value in attrs.asdict(event).items() if value is not None}
    if event.__event__.type == "message.new":
        data = {**data, "attachments": [], "reactions": []}
    return data


slot, node = st.integers(0, len(OWNERS) - 1), st.integers(0, 1)
user, channel = st.sampled_from(USERS), st.sampled_from(CHANNELS)


def happens(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just("happen"), node, st.just(name), *arguments)


audience = st.one_of(
    st.just(Everyone()), st.sets(user, min_size=1).map(lambda users: Users(*sorted(users))), user.map(Users)
)
says = st.one_of(happens("say", channel), happens("say", channel, audience))
moves = st.one_of(
    happens("create", channel, st.sampled_from(["public", "private", "private"]), user),
    happens("join", channel, user),
    happens("join", channel, user),
    happens("leave", channel, user),
    happens("delete", channel, st.just(True)),
)
bursts = st.tuples(st.just("burst"), node, channel, st.integers(2, 8))
comes = st.tuples(
    st.just("come"),
    slot,
    node,
    st.one_of(st.none(), st.just(0), st.just(0), st.integers(0, 30)),
    st.sampled_from([0, 0, 0, 0, 0, 0, 2, 3, 5, 7]),
    st.booleans(),
    st.sampled_from([None, None, None, 0.003, 0.5, 5.0]),
)
troubles = st.one_of(
    st.tuples(st.just("drop"), slot),
    st.tuples(st.just("stall"), slot),
    st.tuples(st.just("read_on"), slot),
    st.tuples(st.just("ping"), slot),
    st.tuples(st.just("renew"), slot, st.sampled_from([None, 0.003, 5.0])),
    st.tuples(st.just("cancel"), slot, node, st.integers(0, 20), st.integers(0, 7)),
    st.tuples(st.just("lag"), node),
    st.tuples(st.just("catch_up"), node),
    st.tuples(st.just("advance"), st.sampled_from([0.003, 0.01, 1.0, 11.0])),
    st.one_of(st.tuples(st.just("partition")), st.tuples(st.just("restart"), node, st.booleans())),
)
# Drawn in two steps: strategies that are joined would be one flat choice, and nobody would ever come back.
kinds = st.sampled_from([comes] * 6 + [says] * 4 + [moves] * 5 + [bursts] * 3 + [troubles] * 6)
commands = st.lists(kinds.flatmap(lambda kind: kind), min_size=12, max_size=45)


@pytest.mark.parametrize("engine", ENGINES)
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(commands=commands)
async def test_whatever_happens_who_comes_back_is_given_what_he_missed_and_nothing_else(
    engine: Callable[[], AbstractContextManager[Engine]], commands: list[Any]
) -> None:
    with engine() as made:
        await play(made, commands)


async def play(engine: Engine, commands: list[Any]) -> None:
    async with bench(Members, nodes=2, engine=engine, settings=NUMBERS) as b:
        run = Run(b)
        await run.happen(0, "create", "c1", "private", "alice")
        await run.happen(0, "join", "c1", "bob")
        await run.happen(0, "create", "c2", "public", "alice")
        for name, *arguments in commands:
            await getattr(run, name)(*arguments)
            await run.check()
        await run.end()
