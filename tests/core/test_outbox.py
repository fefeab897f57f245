"""What a congested connection still has to get: the delivery rules and the bounds. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from jackfield import Settings
from jackfield._outbox import Frame, Outbox

MIB = 2**20


def durable(text: str = "d") -> Frame:
    return Frame(text, type="message.new", position=1)


def ephemeral(text: str = "e") -> Frame:
    return Frame(text, type="cursor.moved", kind="ephemeral")


def online(user: str, text: str = "p") -> Frame:
    return Frame(text, type="presence.updated", kind="latest", key=("presence.updated", user))


def start(user: str = "alice", text: str = "start") -> Frame:
    return Frame(text, type="typing.start", kind="latest", key=("typing", "c1", user))


def stop(user: str = "alice", text: str = "stop") -> Frame:
    return Frame(text, type="typing.stop", kind="latest", key=("typing", "c1", user))


def outbox(*frames: Frame, events: int = 256, size: int = MIB) -> Outbox:
    box = Outbox(events, size)
    for frame in frames:
        assert box.offer(frame)
    return box


def drain(box: Outbox) -> list[Frame]:
    taken = []
    while (frame := box.take()) is not None:
        taken.append(frame)
    assert len(box) == box.size == 0
    return taken


# --- frames


@pytest.mark.parametrize(
    ("text", "size"),
    [("", 0), ("abc", 3), ("é", 2), ("👍", 4), ("a👍", 5)],
)
def test_a_frame_weighs_its_bytes_of_utf8(text: str, size: int) -> None:
    assert durable(text).size == size


def test_a_frame_is_the_message_that_a_server_takes() -> None:
    assert durable("x").message == {"type": "websocket.send", "text": "x"}


# --- order and rules


def test_an_empty_outbox_has_nothing_to_take() -> None:
    assert Outbox(256, MIB).take() is None


def test_what_comes_first_goes_first() -> None:
    frames = [durable(str(number)) for number in range(5)]
    assert drain(outbox(*frames)) == frames


def test_of_latest_the_older_gives_way_and_the_newer_stands_at_the_end() -> None:
    old, new, other, message = online("alice", "old"), online("alice", "new"), online("bob"), durable()
    assert drain(outbox(old, other, message, new)) == [other, message, new]


def test_latest_of_different_keys_do_not_meet() -> None:
    frames = [online("alice"), online("bob"), start("alice"), start("bob")]
    assert drain(outbox(*frames)) == frames


def test_an_unsent_start_and_its_stop_go_together() -> None:
    message = durable()
    assert drain(outbox(start(), message, stop())) == [message]


def test_an_unsent_stop_and_the_start_behind_it_go_together() -> None:
    assert drain(outbox(stop(), start())) == []


def test_a_stop_whose_start_was_sent_is_kept() -> None:
    box = outbox(start())
    box.take()
    last = stop()
    assert box.offer(last)
    assert drain(box) == [last]


def test_start_stop_start_is_a_start() -> None:
    last = start()
    assert drain(outbox(start(), stop(), last)) == [last]


def test_a_start_again_stands_at_the_end() -> None:
    message, again = durable(), start()
    assert drain(outbox(start(), message, again)) == [message, again]


def test_one_users_stop_takes_nobody_elses_start_along() -> None:
    frames = [start("bob"), stop("alice")]
    assert drain(outbox(*frames)) == frames


def test_a_durable_never_gives_way() -> None:
    frames = [durable("same"), durable("same"), durable("same")]
    assert drain(outbox(*frames)) == frames


def test_a_key_can_be_used_again_when_its_frame_is_gone() -> None:
    box = outbox(online("alice"))
    box.take()
    again = online("alice")
    assert box.offer(again)
    assert drain(box) == [again]


# --- bounds


def test_the_bounds_are_those_of_the_page() -> None:
    assert (Settings().outbox_events, Settings().outbox_bytes) == (256, MIB)


@pytest.mark.parametrize("make", [durable, start], ids=["durable", "latest"])
def test_it_holds_256_events_and_not_one_more(make: type[Frame]) -> None:
    box = outbox(*(durable("x") for _ in range(255)))
    assert box.offer(make())  # type: ignore[call-arg]
    assert len(box) == 256
    assert not box.offer(durable())
    assert not box.offer(online("bob"))
    assert len(box) == 256


def test_it_holds_a_mebibyte_and_not_one_byte_more() -> None:
    box = outbox(durable("x" * (MIB - 1)))
    assert not box.offer(durable("xx"))
    assert box.offer(durable("x"))
    assert box.size == MIB
    assert not box.offer(durable("x"))
    assert box.offer(durable(""))


def test_a_mebibyte_is_one_of_bytes_and_not_of_characters() -> None:
    assert outbox(durable("👍" * (MIB // 4))).size == MIB
    assert not Outbox(256, MIB).offer(durable("👍" * (MIB // 4) + "x"))


def test_what_alone_is_over_the_bound_never_gets_in() -> None:
    box = Outbox(256, 10)
    assert not box.offer(durable("x" * 11))
    assert len(box) == box.size == 0


def test_where_there_was_room_once_there_is_room_again() -> None:
    box = outbox(durable("12345"), durable("12345"), events=2, size=10)
    assert not box.offer(durable("1"))
    box.take()
    assert box.offer(durable("54321"))
    assert (len(box), box.size) == (2, 10)


def test_a_newer_latest_takes_the_room_of_the_older() -> None:
    box = outbox(online("alice", "12345"), durable("12345"), events=2, size=10)
    assert box.offer(online("alice", "54321"))
    assert not box.offer(online("bob", "1"))


def test_a_newer_latest_that_is_too_big_even_so_has_no_room() -> None:
    assert not outbox(online("alice", "1"), size=10).offer(online("alice", "x" * 11))


def test_a_stop_needs_no_room_where_it_takes_its_start_along() -> None:
    box = outbox(start(text="x"), durable("x"), events=2, size=2)
    assert box.offer(stop(text="x" * 100))
    assert (len(box), box.size) == (1, 1)


def test_clear_leaves_nothing_behind() -> None:
    box = outbox(durable(), online("alice"), ephemeral())
    box.clear()
    assert len(box) == box.size == 0
    again = online("alice")
    assert box.offer(again)
    assert drain(box) == [again]


# --- ephemeral


def test_an_ephemeral_waits_in_its_turn_while_there_is_plenty_of_room() -> None:
    frames = [durable(), ephemeral(), durable()]
    assert drain(outbox(*frames)) == frames


def test_from_half_of_the_events_on_an_ephemeral_is_dropped() -> None:
    box = outbox(*(durable("") for _ in range(127)))
    assert box.offer(ephemeral())
    assert len(box) == 128
    assert box.offer(ephemeral())
    assert len(box) == 128


def test_from_half_of_the_bytes_on_an_ephemeral_is_dropped() -> None:
    box = outbox(durable("x" * (MIB // 2 - 1)))
    assert box.offer(ephemeral("xx"))
    assert len(box) == 1
    assert box.offer(ephemeral("x"))
    assert (len(box), box.size) == (2, MIB // 2)


def test_an_ephemeral_gives_way_to_what_must_not_be_dropped() -> None:
    box = outbox(ephemeral("1"), durable("2"), ephemeral("3"), events=8)
    frames = [durable(str(number)) for number in range(5)]
    for frame in frames:
        assert box.offer(frame)
    last = durable("last")
    assert box.offer(last)
    texts = [frame.message["text"] for frame in drain(box)]
    assert texts == ["2", "3", "0", "1", "2", "3", "4", "last"]  # the oldest one went, and no more than needed


def test_as_many_ephemerals_go_as_make_room_for_the_bytes() -> None:
    box = outbox(ephemeral("11"), ephemeral("22"), ephemeral("33"), durable("4444"), size=20)
    assert box.offer(durable("5" * 13))
    assert [frame.message["text"] for frame in drain(box)] == ["33", "4444", "5" * 13]


def test_for_what_has_no_room_even_without_them_they_go_and_it_is_refused() -> None:
    box = outbox(ephemeral("1"), durable("2" * 8), size=10)
    assert not box.offer(durable("3" * 3))
    assert [frame.message["text"] for frame in drain(box)] == ["2" * 8]


def test_an_ephemeral_that_is_dropped_is_no_reason_to_close() -> None:
    box = outbox(*(durable("") for _ in range(256)))
    assert box.offer(ephemeral())
    assert len(box) == 256


# --- put back


def test_what_was_not_written_comes_first_again() -> None:
    one, two, three, four = (durable(str(number)) for number in range(4))
    box = outbox(one, two, three)
    taken = [box.take(), box.take()]
    assert box.offer(four)
    box.put_back(frame for frame in taken if frame is not None)
    assert drain(box) == [one, two, three, four]


def test_into_an_empty_outbox_too() -> None:
    one, two, three = (durable(str(number)) for number in range(3))
    box = outbox(one, two)
    taken = drain(box)
    box.put_back(taken)
    assert box.offer(three)
    assert (len(box), box.size) == (3, 3)
    assert drain(box) == [one, two, three]


def test_again_and_again() -> None:
    frames = [durable(str(number)) for number in range(3)]
    box = outbox(*frames)
    for _ in range(3):
        first, second = box.take(), box.take()
        assert (first, second) == (frames[0], frames[1])
        box.put_back([frames[1]])
        box.put_back([frames[0]])
    assert drain(box) == frames


def test_what_had_been_let_in_stays_in_although_others_came_meanwhile() -> None:
    box = outbox(durable("1"), durable("2"), events=2)
    taken = box.take()
    assert taken is not None
    assert box.offer(durable("3"))
    box.put_back([taken])
    assert len(box) == 3
    assert not box.offer(durable("4"))


def test_a_latest_that_was_overtaken_meanwhile_is_not_put_back() -> None:
    old, new, message = online("alice", "old"), online("alice", "new"), durable()
    box = outbox(old, message)
    assert box.take() is old
    assert box.offer(new)
    box.put_back([old])
    assert drain(box) == [message, new]


def test_a_start_whose_stop_came_meanwhile_goes_with_it() -> None:
    begun, message = start(), durable()
    box = outbox(begun)
    assert box.take() is begun
    assert box.offer(message)
    assert box.offer(stop())
    box.put_back([begun])
    assert drain(box) == [message]


def test_a_latest_that_is_put_back_is_the_queued_one_again() -> None:
    begun = start()
    box = outbox(begun, durable())
    assert box.take() is begun
    box.put_back([begun])
    assert box.offer(stop())
    assert len(box) == 1


@pytest.mark.parametrize(
    ("taken", "left"),
    [
        pytest.param([start(), stop()], 0, id="a start and its stop"),
        pytest.param([start(), stop(), start()], 1, id="and a start again"),
        pytest.param([stop(), start(), stop()], 1, id="a stop, and both again"),
        pytest.param([online("alice"), online("alice")], 1, id="two states"),
        pytest.param([], 0, id="nothing"),
    ],
)
def test_what_goes_together_goes_together_among_what_is_put_back(taken: list[Frame], left: int) -> None:
    box = outbox(durable("last"))
    box.put_back(taken)
    frames = drain(box)
    assert [frame.type for frame in frames] == [frame.type for frame in taken[-1:] * left] + ["message.new"]


# --- against an oracle


class Naive:
    """The rules in the plainest way: a list, walked each time."""

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self.max_events, self.max_bytes = max_events, max_bytes
        self.frames: list[Frame] = []

    def fits(self, frame: Frame, parts: int = 1) -> bool:
        size = sum(queued.size for queued in self.frames)
        return len(self.frames) < self.max_events // parts and size + frame.size <= self.max_bytes // parts

    def twin(self, frame: Frame) -> Frame | None:
        for queued in self.frames:
            if frame.kind == queued.kind == "latest" and frame.key == queued.key:
                return queued
        return None

    def offer(self, frame: Frame) -> bool:
        if (twin := self.twin(frame)) is not None:
            self.frames.remove(twin)
            if twin.type != frame.type:
                return True
        if frame.kind == "ephemeral":
            if self.fits(frame, 2):
                self.frames.append(frame)
            return True
        while not self.fits(frame):
            shed = next((queued for queued in self.frames if queued.kind == "ephemeral"), None)
            if shed is None:
                return False
            self.frames.remove(shed)
        self.frames.append(frame)
        return True

    def put_back(self, frames: list[Frame]) -> None:
        for frame in reversed(frames):
            twin = self.twin(frame)
            if twin is None:
                self.frames.insert(0, frame)
            elif twin.type != frame.type:
                self.frames.remove(twin)


class Congestion(RuleBasedStateMachine):
    """A connection that gets more than it reads. What it has been sent must make sense to its client."""

    def __init__(self) -> None:
        super().__init__()
        self.connect()

    def connect(self) -> None:
        self.box = Outbox(6, 24)
        self.naive = Naive(6, 24)
        self.flight: list[Frame] = []
        self.sent: list[Frame] = []
        self.durables: list[Frame] = []
        self.status: dict[str, str] = {}
        self.typing = {"alice": False, "bob": False}

    def offer(self, frame: Frame) -> None:
        let_in = self.box.offer(frame)
        assert let_in == self.naive.offer(frame)
        if not let_in:  # 4002: the client comes back, and reads the rest from the log
            assert frame.kind != "ephemeral"
            self.connect()
            return
        if frame.kind == "durable":
            self.durables.append(frame)
        if frame.type == "presence.updated":
            self.status[str(frame.key[1])] = frame.message["text"]

    @rule(size=st.integers(0, 12))
    def message(self, size: int) -> None:
        self.offer(durable("x" * size))

    @rule(size=st.integers(0, 12))
    def passing(self, size: int) -> None:
        self.offer(ephemeral("x" * size))

    @rule(user=st.sampled_from(["alice", "bob"]), status=st.sampled_from(["on", "away", "off"]))
    def presence(self, user: str, status: str) -> None:
        self.offer(online(user, status))

    @rule(user=st.sampled_from(["alice", "bob"]))
    def types(self, user: str) -> None:
        """Starts and stops take turns: the server tells of transitions only."""
        self.typing[user] = not self.typing[user]
        self.offer(start(user, "s") if self.typing[user] else stop(user, "t"))

    @rule()
    def take(self) -> None:
        taken = self.box.take()
        assert taken is (self.naive.frames.pop(0) if self.naive.frames else None)
        if taken is not None:
            self.flight.append(taken)

    @precondition(lambda self: self.flight)
    @rule()
    def written(self) -> None:
        self.sent += self.flight
        self.flight = []

    @precondition(lambda self: self.flight)
    @rule(data=st.data())
    def stuck(self, data: st.DataObject) -> None:
        """The first were written, the rest was not."""
        number = data.draw(st.integers(0, len(self.flight)))
        self.sent += self.flight[:number]
        self.box.put_back(self.flight[number:])
        self.naive.put_back(self.flight[number:])
        self.flight = []

    @invariant()
    def the_oracle_agrees(self) -> None:
        assert len(self.box) == len(self.naive.frames)
        assert self.box.size == sum(frame.size for frame in self.naive.frames)

    def teardown(self) -> None:
        self.box.put_back(self.flight)
        self.naive.put_back(self.flight)
        rest = drain(self.box)
        assert rest == self.naive.frames
        self.sent += rest
        assert [frame for frame in self.sent if frame.kind == "durable"] == self.durables
        status: dict[str, str] = {}
        typing = {"alice": False, "bob": False}
        for frame in self.sent:
            if frame.type == "presence.updated":
                status[str(frame.key[1])] = frame.message["text"]
            elif frame.type in ("typing.start", "typing.stop"):
                user, now = str(frame.key[2]), frame.type == "typing.start"
                assert typing[user] != now, "a client is told of transitions only"
                typing[user] = now
        assert status == self.status
        assert typing == self.typing


TestCongestion = Congestion.TestCase
TestCongestion.settings = settings(deadline=None, stateful_step_count=40)


@given(st.lists(st.sampled_from([durable, ephemeral]), max_size=40))
def test_a_durable_is_never_dropped_in_silence(kinds: list[type[Frame]]) -> None:
    box = Outbox(8, 64)
    let_in = [frame for frame in (kind("x" * 3) for kind in kinds) if box.offer(frame)]  # type: ignore[call-arg]
    assert [f for f in drain(box) if f.kind == "durable"] == [f for f in let_in if f.kind == "durable"]
