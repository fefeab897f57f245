"""The fan-out: order, turns, take-over, and that nobody holds up anybody else."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from anyio.lowlevel import checkpoint

from jackfield._line import BEHIND, GONE, SENDING, SLOW
from jackfield._pump import TURN_EVENTS, TURN_SENDS, WORKERS, Lane
from jackfield.testing import settle
from tests.core.pumping import MS, answer, late, numbers, pumping

suspends = pytest.mark.parametrize("suspends", [False, True], ids=["a send returns at once", "every send gives way"])


# --- who gets what, in which order


@suspends
async def test_everybody_gets_everything_in_order(suspends: bool) -> None:
    async with pumping() as rig:
        readers = rig.readers(50, suspends=suspends)
        for text in numbers(10):
            rig.publish(readers, text)
        await settle()
        assert [reader.got for reader in readers] == [numbers(10)] * 50


@suspends
async def test_what_comes_while_it_sends_keeps_its_place(suspends: bool) -> None:
    async with pumping() as rig:
        readers = rig.readers(20, suspends=suspends)
        for text in numbers(30):
            rig.publish(readers, text)
            await checkpoint()
        await settle()
        assert [reader.got for reader in readers] == [numbers(30)] * 20


async def test_only_those_get_it_whom_it_is_for() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        rig.publish([alice], "a")
        rig.publish([bob], "b")
        await settle()
        assert (alice.got, bob.got) == (["a"], ["b"])


async def test_neighbours_for_the_same_ones_go_out_connection_by_connection() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        rig.publish([alice, bob], "1", "2")
        await settle()
        assert rig.order == [(alice, "1"), (alice, "2"), (bob, "1"), (bob, "2")]


async def test_what_stands_between_two_for_the_same_ones_keeps_its_place() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        everyone = (alice.line, bob.line)
        for text, lines in (("1", everyone), ("2", (bob.line,)), ("3", everyone)):
            rig.position += 1
            frame = answer(text)
            frame.position = rig.position
            rig.pump.put(rig.lane, lines, frame)
        await settle()
        assert bob.got == ["1", "2", "3"]


async def test_at_most_64_go_out_in_one_turn() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        rig.publish([alice, bob], *numbers(TURN_EVENTS + 1))
        await settle()
        assert rig.order[TURN_EVENTS - 1 : TURN_EVENTS + 1] == [(alice, "63"), (bob, "0")]
        assert alice.got == bob.got == numbers(TURN_EVENTS + 1)


async def test_whoever_has_it_already_does_not_get_it_again() -> None:
    """A connection may go live ahead of the dispatcher, by what its snapshot of the engine had."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.line.position = 2
        rig.publish([alice], "1", "2", "3")
        rig.publish([alice], "4")
        await settle()
        assert alice.got == ["3", "4"]


# --- turns


@suspends
async def test_a_large_workspace_does_not_hold_up_a_small_one(suspends: bool) -> None:
    async with pumping() as rig:
        many, few = rig.readers(2_000, suspends=suspends), rig.readers(5, suspends=suspends)
        rig.publish(many, "large")
        rig.publish(few, "small", lane=Lane())
        await settle()
        assert not late(many, "large")
        last = max(place for place, (reader, _) in enumerate(rig.order) if reader in few)
        assert last < TURN_SENDS + 4 * WORKERS


@pytest.mark.parametrize("stalled", [0, 1, 5])
async def test_the_pump_gives_way_to_everybody_else(stalled: int) -> None:
    """Sends that never suspend must not keep the loop for themselves."""
    async with pumping() as rig:
        readers = rig.readers(2_000)
        for reader in rig.readers(stalled):
            reader.stall()
            rig.publish([reader], "0", lane=Lane())
        await settle()
        rig.publish(readers, "1")
        between = []
        while late(readers, "1"):
            between.append(len(rig.order))
            await checkpoint()
        between.append(len(rig.order))
        assert max(after - before for before, after in pairwise(between)) <= 2 * TURN_SENDS


async def test_those_that_are_passed_over_count_for_a_turn_as_well() -> None:
    async with pumping() as rig:
        gone, alice = rig.readers(2_000), rig.reader()
        for reader in gone:
            reader.line.close()
        rig.publish([*gone, alice], "1")
        steps = 0
        while not alice.got:
            await checkpoint()
            steps += 1
        assert steps >= 2_000 // TURN_SENDS


async def test_a_turn_of_several_frames_gives_way_too() -> None:
    async with pumping() as rig:
        readers = rig.readers(20)
        rig.publish(readers, *numbers(50))
        await settle()
        assert [reader.got for reader in readers] == [numbers(50)] * 20
        assert rig.workers() <= 3


# --- readers that stall


async def test_while_one_does_not_read_the_others_lose_no_time() -> None:
    async with pumping() as rig:
        readers = rig.readers(100)
        readers[50].stall()
        rig.publish(readers, "1")
        await settle()
        assert late(readers, "1") == 1


@suspends
@pytest.mark.parametrize(("stalled", "of"), [(17, 40), (50, 500)])
async def test_whatever_number_stalls_nobody_healthy_waits_longer_than_5_ms(
    stalled: int, of: int, suspends: bool
) -> None:
    async with pumping() as rig:
        readers = rig.readers(of, suspends=suspends)
        for reader in readers[:stalled]:
            reader.stall()
        rig.publish(readers, "1")
        await rig.clock.advance(5 * MS)
        assert late(readers, "1") == stalled
        await rig.clock.advance(5 * MS)  # now all of them are known, and from here on it costs no time at all
        for text in numbers(10, start=2):
            rig.publish(readers, text)
            await settle()
            assert late(readers, text) == stalled
        for reader in readers[:stalled]:
            reader.read_on()
        await settle()
        assert [reader.got for reader in readers] == [["1", *numbers(10, start=2)]] * of


async def test_slow_ones_that_do_read_are_remembered_and_hold_up_nobody() -> None:
    async with pumping() as rig:
        readers = rig.readers(500)
        for reader in readers[:50]:
            reader.takes = 8 * MS
        rig.publish(readers, "0")
        await rig.clock.advance(5 * MS)
        assert late(readers[50:], "0") == 0
        for text in numbers(10, start=1):
            await rig.clock.advance(20 * MS)
            rig.publish(readers, text)
            await settle()
            assert late(readers[50:], text) == 0
        await rig.clock.advance(1)
        assert [reader.got for reader in readers] == [numbers(11)] * 500


async def test_what_was_left_of_a_turn_comes_when_it_reads_again() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        alice.stall()
        rig.publish([alice, bob], *numbers(5))
        await rig.clock.advance(5 * MS)
        rig.publish([alice, bob], *numbers(5, start=5))
        await settle()
        assert (alice.got, bob.got) == ([], numbers(10))
        alice.read_on()
        await settle()
        assert alice.got == numbers(10)


async def test_a_stall_in_the_middle_of_a_turn_loses_nothing() -> None:
    async with pumping() as rig:
        alice = rig.reader(suspends=True)
        rig.publish([alice], *numbers(20))
        while len(alice.got) < 7:
            await checkpoint()
        alice.stall()
        await rig.clock.advance(5 * MS)
        alice.read_on()
        await settle()
        assert alice.got == numbers(20)


async def test_whoever_was_stuck_does_not_come_back_to_the_turn() -> None:
    async with pumping() as rig:
        alice, others = rig.reader(), rig.readers(60)
        alice.stall()
        for reader in others:
            reader.takes = 3 * MS
        rig.publish([alice, *others], "1", "2")
        await rig.clock.advance(6 * MS)
        assert alice.line.gate & SLOW
        alice.read_on()
        await rig.clock.advance(1 * MS)
        assert alice.got == ["1", "2"]
        assert late(others, "2")
        await rig.clock.advance(1)
        assert not late(others, "2")
        assert rig.lane.settled == 2
        assert not rig.lane.turns


async def test_a_stall_shorter_than_5_ms_is_no_stall() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        alice.stall()
        rig.publish([alice, bob], "1")
        await rig.clock.advance(3 * MS)
        alice.read_on()
        await rig.clock.advance(1)
        assert alice.got == ["1"]
        assert not alice.line.gate


@suspends
async def test_a_frame_that_takes_3_ms_is_no_stall_however_many_follow(suspends: bool) -> None:
    """In one turn, or out of the outbox while the same worker holds the gate."""
    async with pumping() as rig:
        alice = rig.reader(suspends=suspends)
        alice.takes = 3 * MS
        rig.publish([alice], *numbers(10))
        await rig.clock.advance(3 * MS)
        for text in numbers(10, start=10):
            rig.publish([alice], text)
        await rig.clock.advance(1)
        assert alice.got == numbers(20)
        assert not alice.line.gate & SLOW


async def test_the_last_of_all_is_missed_too() -> None:
    """Nobody is behind it who would notice; yet it must not go unseen."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1")
        await rig.clock.advance(5 * MS)
        assert alice.line.gate & SLOW
        await rig.clock.advance(10)
        assert alice.told == ["overrun"]


async def test_a_loop_that_was_held_up_takes_nobody_for_stuck() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1")
        await settle()
        rig.clock._monotonic += 0.05  # somebody computed for 50 ms, and the timers come late
        await rig.clock.advance(0)
        assert not alice.line.gate & SLOW
        await rig.clock.advance(5 * MS)
        assert alice.line.gate & SLOW


async def test_a_lone_reader_that_gets_on_is_not_taken_for_stuck() -> None:
    """It is in a send at every look, on the same line; but each time in another one."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 4 * MS
        for text in numbers(20):
            rig.publish([alice], text)
            await rig.clock.advance(4 * MS)
        assert alice.got == numbers(20)
        assert not alice.line.gate & SLOW


async def test_the_workers_stay_as_few_as_they_are_needed() -> None:
    async with pumping() as rig:
        readers = rig.readers(300)
        rig.publish(readers, "1")
        await settle()
        assert rig.workers() <= 3
        for reader in readers[:200]:
            reader.stall()
        rig.publish(readers, "2")
        await rig.clock.advance(20 * MS)
        assert late(readers, "2") == 200
        assert rig.workers() <= WORKERS
        for reader in readers:
            reader.read_on()
        await settle()
        assert late(readers, "2") == 0
        assert rig.workers() <= WORKERS


async def test_sixteen_share_the_scheduler_where_sends_give_way() -> None:
    async with pumping() as rig:
        readers = rig.readers(100, suspends=True)
        rig.publish(readers, "1")
        most = 0
        while late(readers, "1"):
            await checkpoint()
            most = max(most, sum(bool(reader.line.gate & SENDING) for reader in readers))
        assert most == WORKERS


async def test_a_stalled_workspace_leaves_the_others_alone() -> None:
    async with pumping() as rig:
        stalled, healthy = rig.readers(40), rig.readers(40)
        for reader in stalled:
            reader.stall()
        other = Lane()
        rig.publish(stalled, "1")
        rig.publish(healthy, "1", lane=other)
        await rig.clock.advance(5 * MS)
        assert not late(healthy, "1")


async def test_what_is_published_while_all_are_stuck_goes_out_with_the_next_look() -> None:
    async with pumping() as rig:
        stalled, healthy = rig.readers(WORKERS), rig.readers(5)
        for reader in stalled:
            reader.stall()
        rig.publish(stalled, "1")
        await settle()
        rig.publish(healthy, "2")
        await rig.clock.advance(5 * MS)
        assert not late(healthy, "2")


# --- readers that go


async def test_a_broken_socket_is_told_once_and_never_written_to_again() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        alice.error = OSError("gone")
        rig.publish([alice, bob], "1", "2")
        rig.publish([alice, bob], "3")
        await settle()
        assert (alice.got, alice.told) == ([], ["broken"])
        assert alice.line.gate == GONE
        assert bob.got == ["1", "2", "3"]


async def test_a_stuck_send_that_ends_in_an_error_is_told() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1", "2")
        await rig.clock.advance(5 * MS)
        alice.error = OSError("gone")
        alice.read_on()
        await settle()
        assert (alice.got, alice.told) == ([], ["broken"])


async def test_a_connection_that_ends_while_it_is_sent_to_gets_nothing_more() -> None:
    async with pumping() as rig:
        alice = rig.reader(suspends=True)
        rig.publish([alice], *numbers(20))
        while len(alice.got) < 3:
            await checkpoint()
        before = len(alice.got)
        alice.line.close()
        await settle()
        assert len(alice.got) <= before + 1  # the one that was on its way
        assert alice.told == []


async def test_an_owner_that_fails_takes_nobody_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async with pumping() as rig:
        readers = rig.readers(50, suspends=True)

        def fail() -> None:
            raise RuntimeError("a bug")

        for reader in readers[:20]:
            reader.error, reader.broken = OSError("gone"), fail  # type: ignore[method-assign]
        with caplog.at_level(logging.ERROR):
            for text in numbers(3):
                rig.publish(readers, text)
                await rig.clock.advance(10 * MS)
        assert [reader.got for reader in readers[20:]] == [numbers(3)] * 30
        assert "a bug" in caplog.text
        assert rig.lane.settled == rig.position


async def test_an_owner_that_fails_when_its_stuck_send_breaks_takes_nobody_with_it() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)

        def fail() -> None:
            raise RuntimeError("a bug")

        alice.broken = fail  # type: ignore[method-assign]
        alice.stall()
        rig.publish([alice, bob], "1")
        await rig.clock.advance(5 * MS)
        alice.error = OSError("gone")
        alice.read_on()
        await settle()
        rig.publish([alice, bob], "2")
        await settle()
        assert bob.got == ["1", "2"]


# --- tokens that run out


async def test_the_token_is_looked_at_before_every_frame() -> None:
    async with pumping() as rig:
        alice, bob = rig.reader(expires=rig.clock.time() + 10), rig.reader()
        rig.publish([alice, bob], "1")
        await settle()
        rig.clock.set_wall(10)  # no timer notices that
        rig.publish([alice, bob], "2", "3")
        await settle()
        assert (alice.got, alice.told) == (["1"], ["lapsed"])
        assert bob.got == ["1", "2", "3"]


async def test_what_had_been_dispatched_when_it_ran_out_waits_and_nothing_else_does() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        rig.publish([alice], "1", "2")
        alice.line.fall_behind(rig.position)
        rig.publish([alice], "3")
        await settle()
        assert (alice.got, len(alice.line.outbox)) == ([], 2)
        assert alice.line.position == 2
        await alice.line.drain()
        assert alice.got == ["1", "2"]


async def test_a_token_that_runs_out_in_the_middle_of_a_turn_stops_it_there() -> None:
    async with pumping() as rig:
        alice = rig.reader(suspends=True)
        rig.publish([alice], *numbers(20))
        while len(alice.got) < 5:
            await checkpoint()
        before = len(alice.got)
        alice.line.fall_behind(rig.position)
        await settle()
        assert len(alice.got) <= before + 1  # the one that was on its way
        await alice.line.drain()
        assert alice.got == numbers(20)


async def test_who_is_ahead_of_the_dispatcher_and_falls_behind_does_not_get_it_twice() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.line.position = 2
        rig.publish([alice], "1", "2", "3")
        alice.line.fall_behind(rig.position)
        await settle()
        await alice.line.drain()
        assert alice.got == ["3"]


# --- afterwards


async def test_what_is_to_follow_waits_until_everybody_has_been_handed_it() -> None:
    async with pumping() as rig:
        readers = rig.readers(3)
        readers[1].stall()
        rig.publish(readers, "1")
        happened: list[str] = []
        rig.pump.afterwards(rig.lane, 1, lambda: happened.append("told"))
        await settle()
        assert happened == []
        await rig.clock.advance(5 * MS)  # taken over: the stalled one has it in hand
        assert happened == ["told"]
        rig.pump.afterwards(rig.lane, 1, lambda: happened.append("at once"))
        assert happened == ["told", "at once"]


async def test_they_are_called_in_the_order_of_the_log() -> None:
    async with pumping() as rig:
        alice = rig.reader(suspends=True)
        happened: list[int] = []
        for position in (3, 1, 2, 2, 5):
            rig.pump.afterwards(rig.lane, position, lambda position=position: happened.append(position))  # type: ignore[misc]
        rig.publish([alice], "1", "2", "3")
        await settle()
        assert happened == [1, 2, 2, 3]


async def test_one_turn_that_is_still_on_its_way_holds_back_the_later_ones() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        alice.takes = 4 * MS
        rig.publish([alice], "1")
        await settle()
        rig.publish([bob], "2")
        await settle()
        assert bob.got == ["2"]
        assert rig.lane.settled == 0
        rig.pump.settle(rig.lane, 3)
        rig.position = 3
        assert rig.lane.settled == 0
        await rig.clock.advance(4 * MS)
        assert rig.lane.settled == 3


async def test_a_record_that_nobody_here_gets_is_passed_at_once() -> None:
    async with pumping() as rig:
        happened: list[str] = []
        rig.pump.afterwards(rig.lane, 7, lambda: happened.append("told"))
        rig.pump.settle(rig.lane, 7)
        assert happened == ["told"]


async def test_between_two_turns_it_stands_before_the_one_that_is_next() -> None:
    async with pumping() as rig:
        lane = Lane(4)
        assert lane.settled == 4
        alice = rig.reader()
        alice.line.position = 4
        rig.position = 9
        rig.publish([alice], "10", lane=lane)
        rig.pump.settle(lane, 11)
        assert lane.settled == 9
        await settle()
        assert lane.settled == 11


async def test_whoever_waits_for_it_goes_on_when_it_is_so() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        await rig.pump.settled(rig.lane, 0)
        happened: list[str] = []

        async def wait() -> None:
            await rig.pump.settled(rig.lane, 1)
            happened.append("settled")

        rig.tasks.start_soon(wait)
        await settle()
        assert happened == []
        rig.publish([alice], "1")
        await settle()
        assert happened == ["settled"]


async def test_when_nobody_is_left_whoever_waits_is_called() -> None:
    async with pumping() as rig:
        happened: list[str] = []
        rig.pump.afterwards(rig.lane, 9, lambda: happened.append("told"))
        rig.pump.abandon(rig.lane)
        rig.pump.abandon(rig.lane)
        assert happened == ["told"]


# --- the end


async def test_at_the_end_nobody_is_left_in_a_send() -> None:
    async with pumping() as rig:
        readers = rig.readers(20)
        for reader in readers:
            reader.stall()
        rig.publish(readers, "1")
        await rig.clock.advance(5 * MS)
    assert all(reader.cancelled for reader in readers)
    assert all(reader.told == [] for reader in readers)


async def test_who_is_behind_gets_nothing_from_the_pump() -> None:
    async with pumping() as rig:
        alice = rig.reader(live=False)
        rig.publish([alice], "1")
        await settle()
        assert (alice.got, len(alice.line.outbox), alice.line.gate) == ([], 0, BEHIND)


# --- bursts


@pytest.mark.parametrize("readers", [1, 3, 40])
async def test_a_burst_is_no_fault_of_those_who_read_as_fast_as_they_can(readers: int) -> None:
    async with pumping() as rig:
        everybody = rig.readers(readers, suspends=True)
        texts = numbers(1_000)
        rig.publish(everybody, *texts)
        await settle()
        assert all(reader.got == texts for reader in everybody)
        assert rig.pump.lines.congestion[1:] == (0, 0, 0)


async def test_a_burst_for_changing_ones_neither() -> None:
    async with pumping() as rig:
        everybody = rig.readers(5, suspends=True)
        for number in range(1_000):
            rig.publish(everybody[number % 2 :], str(number))
        await settle()
        assert [len(reader.got) for reader in everybody] == [500, 1_000, 1_000, 1_000, 1_000]
        assert all(reader.told == [] for reader in everybody)


async def test_in_a_burst_one_who_stalls_keeps_up_nobody() -> None:
    async with pumping() as rig:
        stalled, *others = rig.readers(4, suspends=True)
        stalled.stall()
        texts = numbers(1_000)
        rig.publish([stalled, *others], *texts)
        for _ in range(10):
            await rig.clock.advance(5 * MS)
        assert all(reader.got == texts for reader in others)
        assert stalled.told == ["overrun"]


async def test_a_burst_in_one_workspace_leaves_room_for_the_others() -> None:
    async with pumping() as rig:
        many, (other,) = rig.readers(3, suspends=True), rig.readers(1, suspends=True)
        lane = Lane()
        rig.publish(many, *numbers(1_000))
        rig.publish([other], "one", lane=lane)
        await settle()
        position = rig.order.index((other, "one"))
        assert position < 600
        assert len(rig.order) == 3_001
