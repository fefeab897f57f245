"""The calendar of examples/ in presence's chair, on one node and on three."""

from __future__ import annotations

import attrs
import pytest

from examples.calendar_presence import CalendarPresence, transitions
from jackfield import ConfigurationError
from jackfield.events import PresenceUpdated
from jackfield.hookspecs import presence_of
from jackfield.testing import bench
from jackfield_presence import Presence


@attrs.define
class Calendar:
    """One that a test writes into."""

    meeting: frozenset[str] = frozenset()
    closed: bool = False

    async def busy(self, workspace_id: str) -> frozenset[str]:
        if self.closed:
            raise OSError("the calendar does not answer")
        return self.meeting if workspace_id == "w" else frozenset()


def test_transitions() -> None:
    before, after = frozenset({"alice", "bob"}), frozenset({"bob", "carol"})
    assert transitions(before, after) == [PresenceUpdated("carol", "away"), PresenceUpdated("alice", "online")]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_who_sits_in_a_meeting_is_away(nodes: int) -> None:
    calendar = Calendar()
    async with bench(lambda: CalendarPresence(calendar, ["w"], every=30), nodes=nodes) as b:
        alice = await b.connect("alice")
        assert alice.hello.state == {"presence": []}
        calendar.meeting = frozenset({"bob"})
        await b.clock.advance(30)
        assert await alice.receive() == PresenceUpdated("bob", "away")
        assert await alice.pending() == []  # once, though every node has looked
        late = await b.connect("late", node=nodes - 1)
        assert late.hello.state == {"presence": [{"user_id": "bob", "status": "away"}]}
        assert await b.app.ask(presence_of, b.workspace()) == {"bob": "away"}
        calendar.meeting = frozenset()
        await b.clock.advance(30)
        for client in alice, late:
            assert await client.receive() == PresenceUpdated("bob", "online")
            assert await client.pending() == []


async def test_a_calendar_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    calendar = Calendar()
    async with bench(CalendarPresence(calendar, ["w"], every=30)) as b:
        alice = await b.connect("alice")
        calendar.meeting, calendar.closed = frozenset({"bob"}), True
        await b.clock.advance(30)
        assert "CalendarPresence.look, started by start_soon, failed" in caplog.text
        calendar.closed = False
        await b.clock.advance(30)
        assert await alice.receive() == PresenceUpdated("bob", "away")


async def test_two_in_one_chair_do_not_start() -> None:
    with pytest.raises(ConfigurationError, match='two plugins are called "presence"'):
        async with bench(Presence(), CalendarPresence(Calendar(), ["w"])):
            pass
