"""Rooms, their indexes, and what the feed brings, with guests instead of connections."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import attrs
import pytest

from jackfield import (
    Audience,
    Channel,
    Connection,
    EngineUnavailable,
    Everyone,
    MemoryEngine,
    Principal,
    ServerEvent,
    Topic,
    Users,
    hookimpl,
)
from jackfield._backlog import TURN
from jackfield._cursor import Cursors
from jackfield._hub import Hub
from jackfield._log import REVOKED, Head, Sight
from jackfield._room import RECENT, Room
from jackfield.engine import Arrived, Commit, Draft, Feed, History, Lost, Record, Rewound, Snapshot
from jackfield.testing import FakeClock, bench, settle


@attrs.define(eq=False)
class Guest:
    """What the hub asks of a session, and what it says to it."""

    id: str
    user_id: str = ""
    channels: set[str] = attrs.field(factory=set)
    topics: set[str] = attrs.field(factory=set)
    sees_all: bool = False
    workspace: Any = attrs.field(factory=lambda: SimpleNamespace(id="w"))
    codes: list[int] = attrs.field(factory=list)
    before: bool = True
    """Whether it stood here before whatever is asked about."""
    old: bool = True
    """Whether its token is from before whatever is asked about."""

    @property
    def line(self) -> Any:
        return self  # so that recipients can be read

    def gain(self, channel_id: str) -> None:
        self.channels.add(channel_id)

    def lose(self, channel_id: str) -> None:
        self.channels.discard(channel_id)

    def end(self, code: int) -> None:
        self.codes.append(code)

    def stood_before(self, position: int) -> bool:
        return self.before

    def revoked_by(self, since: float) -> bool:
        return self.old


class Outlet:
    """A pump that writes down what it is told."""

    def __init__(self) -> None:
        self.put_to: list[tuple[list[str], str]] = []
        self.settled: list[int] = []
        self.later: list[int] = []
        self.abandoned = 0

    def put(self, lane: object, recipients: Sequence[Guest], frame: Any) -> None:
        self.put_to.append(([guest.id for guest in recipients], frame.message["text"]))

    def settle(self, lane: object, position: int) -> None:
        self.settled.append(position)

    def afterwards(self, lane: object, position: int, call: Callable[[], object]) -> None:
        self.later.append(position)

    def abandon(self, lane: object) -> None:
        self.abandoned += 1


class Faulty(MemoryEngine):
    """A memory that can be slow to read, or fail; it counts, and its feed can break."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.fails: list[Exception] = []
        self.gate: anyio.Event | None = None
        self.asked: list[tuple[int, int, int]] = []
        self.wanted: list[tuple[str, int]] = []
        self.released: list[str] = []
        self.broken = anyio.Event()

    async def read(self, workspace: str, *about: Any, **more: Any) -> Snapshot:
        self.reads += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise self.fails.pop()
        return await super().read(workspace, *about, **more)

    async def records(self, workspace: str, after: int, upto: int, limit: int) -> Sequence[Record]:
        self.asked.append((after, upto, limit))
        return await super().records(workspace, after, upto, limit)

    @asynccontextmanager
    async def feed(self) -> AsyncGenerator[Feed, None]:
        async with super().feed() as feed:
            want, release = feed.want, feed.release
            feed.want = lambda id, after, epoch: (self.wanted.append((id, after)), want(id, after, epoch))[1]  # type: ignore[method-assign]
            feed.release = lambda id: (self.released.append(id), release(id))[1]  # type: ignore[method-assign]
            yield feed


@attrs.define
class Desk:
    """A hub over an engine."""

    hub: Hub
    engine: Faulty
    outlet: Outlet
    tasks: anyio.abc.TaskGroup

    async def append(self, *texts: str, head: Head | None = None, lasting: bool = True) -> None:
        """Into the log, for everyone."""
        head = head or Head("said", Everyone(), "durable")
        drafts = [Draft(text, head.dump(), text.encode(), lasting) for text in texts]
        await self.engine.commit("w", Commit(drafts=drafts))
        await settle()

    async def enter(self, *guests: Guest) -> Room:
        """Into the room, and live."""
        for guest in guests:
            room = await self.hub.enter(guest)  # type: ignore[arg-type]
            room.seat(guest)  # type: ignore[arg-type]
        return room

    def put(self) -> list[tuple[list[str], str]]:
        """What has been put since the last time, and to whom."""
        put, self.outlet.put_to = self.outlet.put_to, []
        return put


@asynccontextmanager
async def desk(*, run: bool = True) -> AsyncGenerator[Desk, None]:
    engine, outlet = Faulty(), Outlet()
    hub = Hub(engine, outlet)  # type: ignore[arg-type]
    hub.cursors = Cursors("00" * 32)
    async with engine.open(History(), FakeClock()), anyio.create_task_group() as tasks:
        if run:
            tasks.start_soon(hub.run)
            await settle()
        failure: Exception | None = None
        try:
            yield Desk(hub, engine, outlet, tasks)
        except Exception as error:  # raised below, not inside a group of one
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def ids(room: Room, audience: Audience) -> list[str]:
    return sorted(guest.id for guest in room.recipients(audience))  # type: ignore[attr-defined]


def room_of(*guests: Guest) -> Any:
    room: Any = Room("w")
    for guest in guests:
        room.seat(guest)
    return room


def indexes(room: Any) -> list[object]:
    """What a room knows of connections, of whatever kind; all of it empty when nobody stands there."""
    return [value for name, value in vars(room).items() if isinstance(value, dict) and value]


# --- The indexes of a room


def test_who_an_audience_names() -> None:
    room = room_of(
        Guest("1", "alice", {"c1", "c2"}, {"poll:1"}),
        Guest("2", "alice", {"c1"}),
        Guest("3", "bob", {"c2"}, {"poll:1"}),
        Guest("4", "carol", sees_all=True),
    )
    for audience, expected in {
        Everyone(): "1234",
        Channel("c1"): "124",
        Channel("c2"): "134",
        Channel("unknown"): "4",
        Users("alice", "nobody"): "12",
        Topic("poll:1"): "13",
        Topic("poll:2"): "",
        Connection("3"): "3",
        Connection("5"): "",
        Channel("c1") & Topic("poll:1"): "1",
        Channel("c2") - Users("alice"): "34",
    }.items():
        assert ids(room, audience) == list(expected)


def test_where_nobody_sees_everything_a_channel_has_its_own() -> None:
    room = room_of(Guest("1", "alice", {"c1"}))
    assert (ids(room, Channel("c1")), ids(room, Channel("c2"))) == (["1"], [])


def test_who_leaves_is_out_of_every_index_and_nothing_is_left_of_it() -> None:
    guests = [Guest("1", "alice", {"c1"}, {"t"}), Guest("2", "alice", {"c1"}, {"t"}), Guest("3", "bob", sees_all=True)]
    room = room_of(*guests)
    room.unseat(guests[0])
    for audience in (Everyone(), Users("alice"), Channel("c1"), Topic("t")):
        assert "1" not in ids(room, audience)
        assert ids(room, audience) != []
    assert ids(room, Connection("1")) == []
    for guest in (*guests, *guests):  # twice, which is harmless
        room.unseat(guest)
    assert indexes(room) == []


def test_a_topic_is_watched_while_one_is_live() -> None:
    guest = Guest("1")
    room = room_of()
    room.watch(guest, "t")
    assert ids(room, Topic("t")) == []
    room.seat(guest)
    room.watch(guest, "t")
    assert ids(room, Topic("t")) == ["1"]
    room.unwatch(guest, "t")
    room.unwatch(guest, "never watched")
    assert ids(room, Topic("t")) == []


@pytest.mark.parametrize(("user_id", "gains"), [("alice", "12"), (None, "123"), ("nobody", "")])
def test_a_channel_is_seen_by_one_user_or_by_all(user_id: str | None, gains: str) -> None:
    guests = [Guest("1", "alice"), Guest("2", "alice"), Guest("3", "bob")]
    room = room_of(*guests)
    room.see(Sight(True, "c1", user_id))
    assert ids(room, Channel("c1")) == list(gains)
    assert [guest.id for guest in guests if guest.channels == {"c1"}] == list(gains)


@pytest.mark.parametrize(("user_id", "stay"), [("alice", "3"), (None, ""), ("nobody", "13")])
def test_and_seen_no_longer(user_id: str | None, stay: str) -> None:
    guests = [Guest("1", "alice", {"c1", "c2"}), Guest("2", "alice", {"c2"}), Guest("3", "bob", {"c1"})]
    room = room_of(*guests)
    room.unsee(Sight(False, "c1", user_id))
    room.unsee(Sight(False, "unknown", user_id))
    assert ids(room, Channel("c1")) == list(stay)
    assert [guest.id for guest in guests if "c1" in guest.channels] == list(stay)
    assert ids(room, Channel("c2")) == ["1", "2"]


def test_an_answer_holds_until_somebody_moves() -> None:
    """The pump knows neighbours in its queue by it."""
    guest, other = Guest("1", "alice", {"c1"}), Guest("2", "bob")
    room = room_of(guest)
    moves: list[Callable[[], None]] = [
        lambda: room.seat(other),
        lambda: room.watch(other, "c1"),
        lambda: room.unwatch(other, "c1"),
        lambda: room.see(Sight(True, "c1", "bob")),
        lambda: room.unsee(Sight(False, "c1", "bob")),
        lambda: room.unseat(other),
    ]
    for move in moves:
        answer = room.recipients(Channel("c1") & Everyone())
        assert room.recipients(Channel("c1") & Everyone()) is answer
        move()
        assert room.recipients(Channel("c1") & Everyone()) is not answer
    assert room.recipients(Everyone()) == (guest,)


# --- Coming and going


async def test_the_first_opens_the_room_where_the_log_stands_and_the_last_closes_it() -> None:
    async with desk() as d:
        await d.append("one", "two")
        alice, bob = Guest("1"), Guest("2")
        room = await d.enter(alice, bob)
        assert d.hub.rooms == {"w": room}
        assert (room.position, room.lane.settled, d.hub.seen("w")[1:]) == (2, 2, (2, "two"))
        assert (d.engine.reads, d.engine.wanted) == (1, [("w", 2)])
        d.hub.leave(room, alice)  # type: ignore[arg-type]
        assert (d.hub.rooms, d.engine.released, d.outlet.abandoned) == ({"w": room}, [], 0)
        await d.append("three")
        assert d.put() == [(["2"], "three")]
        d.hub.leave(room, bob)  # type: ignore[arg-type]
        assert (d.hub.rooms, d.engine.released, d.outlet.abandoned) == ({}, ["w"], 1)
        d.hub.leave(room, bob)  # type: ignore[arg-type]
        assert d.engine.released == ["w"]
        await d.append("four")
        assert d.put() == []
        assert d.hub.seen("w") == ("", 0, "")


async def test_who_leaves_a_room_of_before_closes_nothing() -> None:
    async with desk() as d:
        alice = Guest("1")
        old = await d.enter(alice)
        d.hub.leave(old, alice)  # type: ignore[arg-type]
        room = await d.enter(Guest("2"))
        d.hub.leave(old, alice)  # type: ignore[arg-type]
        assert d.hub.rooms == {"w": room}
        assert room is not old


async def entering(d: Desk, *guests: Guest) -> tuple[list[Any], list[anyio.CancelScope]]:
    """Let them enter beside each other; what came of it, and what cancels it."""
    outcomes: list[Any] = ["waits"] * len(guests)
    scopes = [anyio.CancelScope() for _ in guests]

    async def enter(number: int) -> None:
        with scopes[number]:
            try:
                outcomes[number] = await d.hub.enter(guests[number])  # type: ignore[arg-type]
            except EngineUnavailable:
                outcomes[number] = "refused"

    for number in range(len(guests)):
        d.tasks.start_soon(enter, number)
        await settle()
    return outcomes, scopes


async def test_who_comes_while_it_is_opened_waits_and_asks_nobody() -> None:
    async with desk() as d:
        d.engine.gate = anyio.Event()
        outcomes, _ = await entering(d, *map(Guest, "123"))
        assert outcomes == ["waits"] * 3
        d.engine.gate.set()
        await settle()
        assert outcomes == [d.hub.rooms["w"]] * 3
        assert d.engine.reads == 1


async def test_where_it_could_not_be_opened_who_waits_opens_it_anew() -> None:
    async with desk() as d:
        d.engine.gate = anyio.Event()
        d.engine.fails = [EngineUnavailable()]
        guests = [*map(Guest, "123")]
        outcomes, _ = await entering(d, *guests)
        d.engine.gate.set()
        await settle()
        room = d.hub.rooms["w"]
        assert outcomes == ["refused", room, room]
        assert room.sessions == {*guests[1:]}
        assert d.engine.wanted == [("w", 0)]
        assert d.engine.reads == 2


async def test_where_it_could_not_be_opened_nothing_is_left_of_it() -> None:
    async with desk() as d:
        d.engine.fails = [EngineUnavailable()]
        outcomes, _ = await entering(d, Guest("1"))
        assert (outcomes, d.hub.rooms, d.engine.wanted) == (["refused"], {}, [])


@pytest.mark.parametrize("gone", [0, 1], ids=["who opens it", "who waits for it"])
async def test_who_gives_up_meanwhile_is_not_in_it(gone: int) -> None:
    async with desk() as d:
        d.engine.gate = anyio.Event()
        guests = [*map(Guest, "123")]
        outcomes, scopes = await entering(d, *guests)
        scopes[gone].cancel()
        await settle()
        d.engine.gate.set()
        await settle()
        room = d.hub.rooms["w"]
        assert outcomes == ["waits" if number == gone else room for number in range(3)]
        assert room.sessions == {guest for number, guest in enumerate(guests) if number != gone}


async def test_who_gives_up_last_closes_it() -> None:
    async with desk() as d:
        d.engine.gate = anyio.Event()
        _, scopes = await entering(d, Guest("1"), Guest("2"))
        for scope in reversed(scopes):
            scope.cancel()
            await settle()
        assert d.hub.rooms == {}


# --- The feed


async def test_what_stands_before_the_feed_begins_is_wanted_by_it() -> None:
    async with desk(run=False) as d:
        room = await d.enter(Guest("1"))
        elsewhere = Guest("2", workspace=SimpleNamespace(id="other"))
        d.hub.leave(await d.enter(elsewhere), elsewhere)  # type: ignore[arg-type]
        await d.append("one")
        d.engine.gate = anyio.Event()
        await entering(d, Guest("3", workspace=SimpleNamespace(id="opening")))
        d.tasks.start_soon(d.hub.run)
        await settle()
        assert d.engine.wanted == [("w", 0)]
        assert d.put() == [(["1"], "one")]
        d.engine.gate.set()
        await settle()
        assert d.engine.wanted == [("w", 0), ("opening", 0)]
        assert room.position == 1


async def test_a_feed_that_is_begun_anew_goes_on_where_it_stood() -> None:
    async with desk(run=False) as d:
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await d.hub.run()

        d.tasks.start_soon(run)
        await settle()
        await d.enter(Guest("1"))
        await d.append("one")
        scope.cancel()
        await settle()
        await d.append("two", "three")
        d.tasks.start_soon(d.hub.run)
        await settle()
        assert [text for _, text in d.put()] == ["one", "two", "three"]
        assert d.engine.wanted == [("w", 0), ("w", 1)]


async def test_a_record_is_dispatched_once_however_often_it_comes() -> None:
    async with desk() as d:
        room = await d.enter(Guest("1"))
        await d.append("one", "two")
        records = await d.engine.records("w", 0, 2, 9)
        d.put()
        d.hub.arrived("w", records)
        assert (d.put(), len(room.recent), room.position) == ([], 2, 2)


async def test_what_comes_for_a_room_that_is_gone_is_nothing() -> None:
    async with desk() as d:
        await d.append("one")
        d.hub.arrived("w", await d.engine.records("w", 0, 1, 9))
        d.hub._lost(Lost("w", "epoch", 0))
        assert (d.put(), d.hub.rooms) == ([], {})


async def test_what_nobody_here_gets_is_settled_at_once() -> None:
    async with desk() as d:
        await d.enter(Guest("1", "alice"))
        await d.append("for bob", head=Head("said", Users("bob"), "durable"))
        assert (d.put(), d.outlet.settled) == ([], [1])


async def test_only_what_lasts_is_the_newest() -> None:
    async with desk() as d:
        room = await d.enter(Guest("1"))
        await d.append("one")
        await d.append("passing", lasting=False)
        assert (d.hub.seen("w")[1:], room.position) == ((1, "one"), 2)


async def test_who_comes_is_told_too_and_who_goes_is_told_still() -> None:
    async with desk() as d:
        alice = Guest("1", "alice")
        await d.enter(alice)
        for gained, text in ((True, "comes"), (False, "goes")):
            await d.append(text, head=Head("moved", Channel("c1"), "durable", sight=Sight(gained, "c1", "alice")))
            assert d.put() == [(["1"], text)]
            assert (alice.channels == {"c1"}) is gained
        await d.append("said", head=Head("said", Channel("c1"), "durable"))
        assert d.put() == []


async def test_a_revocation_ends_whom_it_is_meant_for_and_is_told_to_nobody() -> None:
    async with desk() as d:
        stood, came, fresh = (
            Guest("1", "alice", old=False),
            Guest("2", "alice", before=False),
            Guest("3", "alice", before=False, old=False),
        )
        bob = Guest("4", "bob")
        await d.enter(stood, came, fresh, bob)
        await d.append("", head=Head(REVOKED, Everyone(), "control", ("alice", 5.0)))
        assert [guest.codes for guest in (stood, came, fresh, bob)] == [[4503], [4503], [], []]
        assert (d.put(), d.outlet.settled) == ([], [1])


async def test_where_the_log_went_back_everyone_connects_anew(caplog: pytest.LogCaptureFixture) -> None:
    async with desk() as d:
        await d.append("one")
        live, opening = Guest("1"), Guest("2")
        room = await d.enter(live)
        await d.hub.enter(opening)  # type: ignore[arg-type]
        await d.append("two")
        with pytest.raises(Rewound):
            await d.engine.commit("w", Commit(seen=5, seen_id="never"))
        await settle()
        assert (live.codes, opening.codes) == ([1012], [1012])
        assert (room.position, d.hub.seen("w")[1:], list(room.recent)) == (2, (0, ""), [])
        assert caplog.messages == ["the log of workspace w went back; its clients connect anew"]
        assert caplog.records[0].levelno == logging.WARNING


async def test_where_passing_records_were_missed_everyone_connects_anew(caplog: pytest.LogCaptureFixture) -> None:
    """What they show of who is there may be wrong, and nothing else would ever say so."""
    async with desk() as d:
        live = Guest("1")
        room = await d.enter(live)
        [feed] = d.engine._feeds
        late = Record(7, "late", Head("said", Everyone(), "durable", ()).dump(), b"{}", True, 0.0)
        feed._put(Arrived("w", [late], 7, whole=False))
        feed._put(Arrived("elsewhere", [], 7, whole=False))
        await settle()
        assert (live.codes, room.position) == ([1012], 7)
        assert [recipients for recipients, _ in d.put()] == [["1"]]
        assert caplog.messages == ["presence of workspace w was missed; its clients connect anew"]


async def test_what_follows_the_fan_out_waits_for_it_where_somebody_is() -> None:
    async with desk() as d:
        called: list[str] = []
        d.hub.after_fan_out("w", 7, lambda: called.append("at once"))
        assert (called, d.outlet.later) == (["at once"], [])
        await d.enter(Guest("1"))
        d.hub.after_fan_out("w", 7, lambda: called.append("later"))
        assert (called, d.outlet.later) == (["at once"], [7])


# --- Reading up


async def texts(d: Desk, room: Room, after: int, upto: int) -> list[str]:
    return [str(entry.frame().message["text"]) for entry in (await d.hub.between(room, after, upto)).entries]


async def test_what_is_at_hand_is_not_asked_for() -> None:
    async with desk() as d:
        room = await d.enter(Guest("1"))
        await d.append(*"abcdefgh")
        assert await texts(d, room, 0, 8) == [*"abcdefgh"]
        assert await texts(d, room, 2, 5) == [*"cde"]
        assert await texts(d, room, 7, 99) == ["h"]
        assert d.engine.asked == []


async def test_of_what_is_at_hand_it_is_a_turn_at_a_time() -> None:
    async with desk() as d:
        room = await d.enter(Guest("1"))
        await d.append(*map(str, range(1, TURN + 11)))
        assert await texts(d, room, 0, 1000) == [*map(str, range(1, TURN + 1))]
        assert await texts(d, room, TURN, 1000) == [*map(str, range(TURN + 1, TURN + 11))]


async def test_the_rest_is_asked_of_the_engine_a_turn_at_a_time() -> None:
    async with desk() as d:
        await d.append("old")
        room = await d.enter(Guest("1"))
        assert await texts(d, room, 0, 1) == ["old"]  # nothing at hand
        await d.append(*map(str, range(2, RECENT + 4)))
        assert len(room.recent) == RECENT
        assert await texts(d, room, 1, 2) == ["2"]  # no longer at hand
        assert await texts(d, room, 3, 4) == ["4"]
        assert await texts(d, room, room.position, room.position + 1) == []  # the log may be ahead
        assert d.engine.asked == [(0, 1, TURN), (0, 2, TURN), (256, 260, TURN)]


async def test_where_the_node_missed_passing_ones_places_cannot_be_counted() -> None:
    async with desk() as d:
        room = await d.enter(Guest("1"))
        records = [
            Record(n, f"{n}", Head("said", Everyone(), "durable").dump(), f"{n}".encode(), True, 0) for n in (1, 4)
        ]
        d.hub.arrived("w", records)
        await d.append(*"1234")
        assert await texts(d, room, 0, 4) == [*"1234"]
        assert d.engine.asked == [(0, 4, TURN)]


# --- In an application


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


@attrs.define(eq=False)
class Says:
    name: str = "says"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Said,)


async def test_a_feed_that_breaks_is_mended_and_nobody_misses_anything(caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(MemoryEngine):
        breaks = False

        @asynccontextmanager
        async def feed(self) -> AsyncGenerator[Feed, None]:
            async with super().feed() as feed:

                class Broken:
                    want, release = feed.want, feed.release

                    async def __aiter__(_) -> AsyncGenerator[Any, None]:
                        async with aclosing(aiter(feed)) as all_news:  # type: ignore[type-var]
                            async for news in all_news:
                                if self.breaks:
                                    raise ZeroDivisionError
                                yield news

                yield Broken()

    engine = Breaks()
    async with bench(Says, engine=engine) as b:
        alice = await b.connect("alice", principal=Principal("alice"))
        await b.workspace().publish(Said("one"))
        await settle()
        engine.breaks = True
        await b.workspace().publish(Said("two"))
        await settle()
        engine.breaks = False
        await b.workspace().publish(Said("three"))
        assert await alice.pending() == [Said("one")]
        bob = await b.connect("bob")
        await b.clock.advance(1)
        assert await alice.pending() == [Said("two"), Said("three")]
        await b.workspace().publish(Said("four"))
        assert await alice.pending() == await bob.pending() == [Said("four")]
        assert caplog.messages == ["feed failed and is begun anew"]
