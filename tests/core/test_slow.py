"""Readers that stall, are slow, break, expire and come back, in any order: each living one gets exactly what is its own."""

from __future__ import annotations

from typing import Any

from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jackfield._line import BEHIND, GONE
from jackfield._outbox import Frame
from jackfield._pump import Lane
from jackfield.testing import settle
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
