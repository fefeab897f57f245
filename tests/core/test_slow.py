"""Readers that stall, are slow, break, expire and come back, in any order: each living one gets exactly its own."""

from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jackfield import Everyone, ServerEvent, Session, Settings, hookimpl
from jackfield._line import BEHIND, GONE
from jackfield._outbox import Frame
from jackfield._pump import Lane
from jackfield.testing import ANYCORN, DAPHNE, GRANIAN, HYPERCORN, UVICORN, Bench, Client, Profile, bench, settle
from tests.core.pumping import MS, Reader, Rig, pumping

MEMBERS = 6
WORKSPACES = 2


class Workspace:
    """A log and its lane, and who is seated: as the hub has them."""

    def __init__(self) -> None:
        self.lane = Lane()
        self.log: list[tuple[frozenset[int], str]] = []
        self.seated: set[int] = set()

    @property
    def position(self) -> int:
        return len(self.log)


class Member(Reader):
    """A reader with the life of a session: it expires, gets a fresh token, and reads up what it missed."""

    def __init__(self, rig: Rig, number: int, workspace: Workspace) -> None:
        super().__init__(rig, max_events=12 if number % 3 == 0 else 10_000, max_bytes=1_048_576, expires=None)
        self.number = number
        self.workspace = workspace
        self.reading_up = False
        self.asked: list[str] = []
        self.line.go_live()
        workspace.seated.add(number)

    @property
    def lives(self) -> bool:
        return not self.line.gate & GONE

    def broken(self) -> None:
        super().broken()
        self.workspace.seated.discard(self.number)

    def overrun(self) -> None:
        super().overrun()
        self.workspace.seated.discard(self.number)

    def expire(self) -> None:
        if not self.line.gate & (BEHIND | GONE):
            self.workspace.seated.discard(self.number)
            self.line.fall_behind(self.workspace.position)

    async def renew(self) -> None:
        line, workspace = self.line, self.workspace
        if self.reading_up or not line.gate & BEHIND:
            return
        self.reading_up = True
        await self.rig.pump.settled(workspace.lane, line.upto)
        await line.drain()
        while line.position < workspace.position:
            to, text = workspace.log[line.position]
            await checkpoint()  # as the engine is asked
            if self.number in to:
                await line.send(Frame(text, type="t", position=line.position + 1))
            line.position += 1
        self.reading_up = False
        if self.lives:
            line.go_live()
            workspace.seated.add(self.number)


class World:
    """What the commands of an example do, and what must have come of it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.workspaces = [Workspace() for _ in range(WORKSPACES)]
        self.members = [Member(rig, number, self.workspaces[number % WORKSPACES]) for number in range(MEMBERS)]

    async def publish(self, number: int, to: frozenset[int], count: int) -> None:
        workspace = self.workspaces[number]
        to = frozenset(member for member in to if self.members[member].workspace is workspace)
        lines = tuple(self.members[member].line for member in sorted(to & workspace.seated))
        for _ in range(count):
            text = f"{number}:{workspace.position + 1}"
            workspace.log.append((to, text))
            if lines:
                self.rig.pump.put(workspace.lane, lines, Frame(text, type="t", position=workspace.position))
            else:
                self.rig.pump.settle(workspace.lane, workspace.position)

    async def stall(self, number: int) -> None:
        self.members[number].stall()

    async def read_on(self, number: int) -> None:
        self.members[number].read_on()

    async def take(self, number: int, ms: int) -> None:
        self.members[number].takes = ms * MS

    async def give_way(self, number: int, gives_way: bool) -> None:
        self.members[number].suspends = gives_way

    async def break_(self, number: int) -> None:
        self.members[number].error = OSError("gone")

    async def ask(self, number: int) -> None:
        member = self.members[number]
        member.asked.append(f"answer {len(member.asked)}")
        self.rig.tasks.start_soon(member.line.answer, Frame(member.asked[-1], type="pong"))

    async def expire(self, number: int) -> None:
        self.members[number].expire()

    async def renew(self, number: int) -> None:
        self.rig.tasks.start_soon(self.members[number].renew)

    async def advance(self, ms: int) -> None:
        await self.rig.clock.advance(ms * MS)

    async def step(self, times: int) -> None:
        for _ in range(times):
            await checkpoint()

    async def settle(self) -> None:
        await settle()

    async def check(self) -> None:
        """Everybody reads again, and every token is fresh."""
        for member in self.members:
            member.takes = 0
            member.read_on()
        await self.rig.clock.advance(20)
        for member in self.members:
            await self.renew(member.number)
        await self.rig.clock.advance(20)
        for member in self.members:
            mine = [text for to, text in member.workspace.log if member.number in to]
            records = [text for text in member.got if not text.startswith("answer")]
            assert len(member.told) <= 1
            assert records == mine[: len(records)]
            if member.lives:
                assert records == mine
                assert sorted(text for text in member.got if text.startswith("answer")) == sorted(member.asked)
                assert member.line.gate & BEHIND == 0
                assert len(member.line.outbox) == 0
        for workspace in self.workspaces:
            assert workspace.lane.settled == workspace.position
        assert not self.rig.pump.lines.watched
        assert not self.rig.pump.lines.stuck


member = st.integers(0, MEMBERS - 1)
commands = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.integers(0, WORKSPACES - 1),
            st.frozensets(member, min_size=1),
            st.sampled_from([1, 1, 1, 2, 5, 20, 70]),
        ),
        st.tuples(st.just("publish"), st.integers(0, 1), st.just(frozenset(range(MEMBERS))), st.just(1)),
        st.tuples(st.just("stall"), member),
        st.tuples(st.just("read_on"), member),
        st.tuples(st.just("take"), member, st.sampled_from([0, 3, 8])),
        st.tuples(st.just("give_way"), member, st.booleans()),
        st.tuples(st.just("break_"), member),
        st.tuples(st.just("ask"), member),
        st.tuples(st.just("expire"), member),
        st.tuples(st.just("renew"), member),
        st.tuples(st.just("advance"), st.sampled_from([1, 5, 6, 20, 11_000])),
        st.tuples(st.just("step"), st.integers(1, 5)),
        st.tuples(st.just("settle")),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(commands)
async def test_whatever_happens_every_living_reader_gets_exactly_its_own_in_order(commands: list[Any]) -> None:
    async with pumping() as rig:
        world = World(rig)
        for name, *arguments in commands:
            await getattr(world, name)(*arguments)
        await world.check()


# --- the same through sessions


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


@attrs.define(eq=False)
class Words:
    name: str = "words"
    codes: list[int] = attrs.field(factory=list)

    @hookimpl
    def register_events(self) -> list[type[ServerEvent]]:
        return [Said]

    @hookimpl
    async def session_closed(self, session: Session, code: int) -> None:
        self.codes.append(code)


profiles = pytest.mark.parametrize(
    "profile", [UVICORN, HYPERCORN, ANYCORN, GRANIAN], ids=["uvicorn", "hypercorn", "anycorn", "granian"]
)


async def say(b: Bench, *texts: str) -> None:
    for text in texts:
        await b.workspace().publish(Said(text))
        await settle()


def said(client: Client) -> list[str]:
    client._take()
    return [frame["data"]["text"] for frame in client.frames if frame["type"] == "said"]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


@profiles
async def test_fifty_clients_of_which_some_do_not_read(profile: Profile) -> None:
    """The others lose no time, and the stalled ones are out after ten seconds."""
    words = Words()
    async with bench(words, settings=Settings(connections_per_user=100)) as b:
        clients = [await b.connect("alice", profile=profile) for _ in range(50)]
        stalled, healthy = clients[:20], clients[20:]
        for client in stalled:
            client.transport.stall()
        await say(b, "0")
        await b.clock.advance(10 * MS)
        for text in numbers(100)[1:]:
            await say(b, text)
            assert all(said(client)[-1] == text for client in healthy)
        await b.clock.advance(15)
        assert words.codes == [4002] * 20
        assert len(b.app.node.sessions) == 30
        await say(b, "after")
        assert all(said(client) == [*numbers(100), "after"] for client in healthy)


@profiles
async def test_more_than_its_outbox_holds_is_4002_once(profile: Profile) -> None:
    words = Words()
    async with bench(words) as b:
        alice, bob = await b.connect("alice", profile=profile), await b.connect("bob", profile=profile)
        alice.transport.stall()
        await say(b, "stuck")
        await b.clock.advance(10 * MS)
        await say(b, *numbers(256))
        assert not words.codes
        await say(b, "one too many", "and another")
        await b.clock.advance(3)
        assert words.codes == [4002]
        assert not alice.transport.faults
        assert said(bob) == ["stuck", *numbers(256), "one too many", "and another"]


async def test_whoever_reads_again_in_time_is_told_why() -> None:
    async with bench(Words, settings=Settings(outbox_events=5)) as b:
        alice = await b.connect("alice")
        alice.transport.stall()
        await say(b, "stuck")
        await b.clock.advance(10 * MS)
        await say(b, *numbers(6))
        alice.transport.read_on()
        closed = await alice.closed()
        assert (closed.code, closed.reason) == (4002, "slow consumer")
        assert said(alice) == ["stuck"]


async def test_a_server_that_buffers_is_never_slow() -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", profile=DAPHNE)
        alice.transport.stall()
        await say(b, *numbers(300))
        await b.clock.advance(20)
        assert said(alice) == numbers(300)
        assert not alice.transport.ended


@profiles
async def test_who_reads_again_gets_all_of_it_in_order(profile: Profile) -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", profile=profile)
        alice.transport.stall()
        await say(b, *numbers(200))
        await b.clock.advance(5)
        assert said(alice) == []
        alice.transport.read_on()
        await alice.send({"type": "ping"})
        assert said(alice) == numbers(200)
        assert alice.frames[-1] == {"type": "pong"}


@pytest.mark.parametrize("profile", [HYPERCORN, ANYCORN], ids=["hypercorn", "anycorn"])
async def test_a_send_that_is_silent_after_the_end_is_not_called_for_ever(profile: Profile) -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", profile=profile)
        (session,) = b.app.node.sessions
        send, calls = session.line.write, 0

        async def count(message: Any) -> None:
            nonlocal calls
            calls += 1
            await send(message)

        session.line.write = count
        alice.transport.stall()
        await say(b, *numbers(100))
        await b.clock.advance(10 * MS)
        alice.drop()
        await settle()
        assert calls <= 101
        assert not b.app.node.sessions


async def test_at_the_end_of_the_lifespan_the_stuck_ones_do_not_keep_it() -> None:
    words = Words()
    async with bench(words) as b:
        clients = [await b.connect(f"u{number}", profile=ANYCORN) for number in range(20)]
        for client in clients[:10]:
            client.transport.stall()
        await say(b, "x")
        await b.clock.advance(10 * MS)
        stopped = anyio.Event()

        async def stop() -> None:
            await b.nodes[0].stop()
            stopped.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            await b.clock.advance(20)
            assert stopped.is_set()
        assert words.codes == [4001] * 20
