"""One connection's gate: who may send on it, what waits, and how it ends."""

from __future__ import annotations

import logging

import anyio
import pytest
from anyio.lowlevel import checkpoint

from jackfield._line import AT_ONCE, BEHIND, GONE, SENDING, SLOW, UNBLOCKED_AFTER, WAITING
from jackfield._outbox import Frame
from jackfield.testing import settle
from tests.core.pumping import MS, Reader, Rig, answer, numbers, pumping


async def make_slow(rig: Rig) -> Reader:
    """A reader on which a send has blocked, and which reads again."""
    reader = rig.reader()
    reader.stall()
    rig.publish([reader], "blocked")
    await rig.clock.advance(5 * MS)
    reader.read_on()
    await settle()
    assert reader.line.gate == SLOW
    return reader


# --- answers


async def test_an_answer_goes_out_directly() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        await alice.line.answer(answer("pong"))
        assert (alice.got, alice.line.gate) == (["pong"], 0)


async def test_an_answer_waits_for_the_send_that_somebody_is_in() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        rig.publish([alice], "1")
        await settle()
        await alice.line.answer(answer("pong"))  # comes back at once: its task has to be in `receive`
        assert alice.got == []
        await rig.clock.advance(1)
        assert alice.got == ["1", "pong"]


async def test_what_came_during_an_answer_is_written_by_somebody_else() -> None:
    """The connection's own task sends its one answer, and goes back to `receive`."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        finished: list[str] = []

        async def own_task() -> None:
            await alice.line.answer(answer("pong"))
            finished.append("pong")

        rig.tasks.start_soon(own_task)
        await settle()
        rig.publish([alice], "1", "2")
        await rig.clock.advance(2 * MS)
        assert (alice.got, finished) == (["pong"], ["pong"])
        await rig.clock.advance(1)
        assert alice.got == ["pong", "1", "2"]


async def test_an_answer_to_a_slow_one_goes_through_its_outbox() -> None:
    """Else its own task would be the one that is stuck."""
    async with pumping() as rig:
        alice = await make_slow(rig)
        alice.stall()
        await alice.line.answer(answer("pong"))
        await settle()
        assert alice.line.gate & SENDING
        alice.read_on()
        await settle()
        assert alice.got == ["blocked", "pong"]


async def test_an_answer_overtakes_what_waits_for_a_fresh_token() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        rig.publish([alice], "1")
        alice.line.fall_behind(rig.position)
        await settle()
        await alice.line.answer(answer("pong"))
        assert alice.got == ["pong"]
        await alice.line.drain()
        assert alice.got == ["pong", "1"]


async def test_an_answer_reaches_a_slow_one_whose_token_ran_out() -> None:
    """No writer writes to it, so its own task has to."""
    async with pumping() as rig:
        alice = await make_slow(rig)
        alice.line.fall_behind(rig.position)
        await alice.line.answer(answer("pong"))
        assert alice.got == ["blocked", "pong"]


async def test_a_connection_that_is_gone_is_answered_nothing() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.line.close()
        await alice.line.answer(answer("pong"))
        await alice.line.send(answer("pong"))
        alice.line.offer(answer("pong"))
        await alice.line.drain()
        await settle()
        assert (alice.got, alice.line.gate & ~BEHIND) == ([], GONE)


async def test_an_answer_that_breaks_tells_the_owner_and_raises_nothing() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.error = OSError("gone")
        await alice.line.answer(answer("pong"))
        assert (alice.told, alice.line.gate) == (["broken"], GONE)


async def test_an_answer_that_is_cancelled_leaves_the_gate() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        with anyio.CancelScope() as scope:

            async def cancel_when_stuck() -> None:
                await settle()
                scope.cancel()

            rig.tasks.start_soon(cancel_when_stuck)
            await alice.line.answer(answer("pong"))
        assert (alice.cancelled, alice.line.gate) == (True, 0)


# --- the outbox and its writer


async def test_what_is_offered_is_written_in_its_turn() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        for text in numbers(3):
            alice.line.offer(answer(text))
        assert alice.got == []
        await settle()
        assert (alice.got, alice.line.gate) == (numbers(3), 0)


async def test_an_event_waits_behind_what_was_offered_before() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.line.offer(answer("offered"))
        rig.publish([alice], "published")
        await settle()
        assert alice.got == ["offered", "published"]


async def test_a_pair_that_goes_together_leaves_nothing_to_write() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.line.offer(Frame("start", type="start", kind="latest", key=("typing", "bob")))
        alice.line.offer(Frame("stop", type="stop", kind="latest", key=("typing", "bob")))
        await settle()
        assert (alice.got, alice.line.gate) == ([], 0)


async def test_a_pair_that_goes_together_behind_a_send_leaves_nothing_to_write() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        rig.publish([alice], "1")
        await settle()
        alice.line.offer(Frame("start", type="start", kind="latest", key=("typing", "bob")))
        alice.line.offer(Frame("stop", type="stop", kind="latest", key=("typing", "bob")))
        await rig.clock.advance(1)
        assert (alice.got, alice.line.gate) == (["1"], 0)


async def test_what_is_dropped_makes_nobody_write() -> None:
    async with pumping() as rig:
        alice = rig.reader(max_events=1)
        alice.line.offer(Frame("gone", type="t", kind="ephemeral"))
        assert alice.line.gate == 0


async def test_a_writer_gives_way_to_others() -> None:
    async with pumping() as rig:
        alice = rig.reader(max_events=10_000)
        for text in numbers(1_000):
            alice.line.offer(answer(text))
        steps = 0
        while len(alice.got) < 1_000:
            await checkpoint()
            steps += 1
        assert steps >= 1_000 // AT_ONCE


async def test_a_worker_is_not_kept_by_one_connection() -> None:
    """What collects while it is in a send it writes itself, up to 64 frames; the rest is for a writer."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        rig.publish([alice], "first")
        await settle()
        for text in numbers(3 * AT_ONCE):
            alice.line.offer(answer(text))
        alice.takes = 0
        bob = rig.reader()
        await rig.clock.advance(2 * MS)
        rig.publish([bob], "bob's")
        await settle()
        assert alice.got == ["first", *numbers(3 * AT_ONCE)]
        assert bob.got == ["bob's"]


async def test_a_writer_whose_socket_breaks_tells_the_owner() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.error = OSError("gone")
        alice.line.offer(answer("1"))
        alice.line.offer(answer("2"))
        await settle()
        assert (alice.told, alice.line.gate, len(alice.line.outbox)) == (["broken"], GONE, 0)


async def test_a_writer_that_fails_takes_nobody_with_it(caplog: pytest.LogCaptureFixture) -> None:
    async with pumping() as rig:
        alice = rig.reader()

        def fail() -> None:
            raise RuntimeError("a bug")

        alice.error, alice.broken = OSError("gone"), fail  # type: ignore[method-assign]
        with caplog.at_level(logging.ERROR):
            alice.line.offer(answer("1"))
            await settle()
        assert "a bug" in caplog.text


async def test_a_writer_looks_at_the_token_before_every_frame() -> None:
    async with pumping() as rig:
        alice = rig.reader(expires=rig.clock.time() + 10)
        alice.takes = 2 * MS
        for text in numbers(5):
            alice.line.offer(answer(text))
        await rig.clock.advance(3 * MS)
        rig.clock.set_wall(10)
        await rig.clock.advance(1)
        assert (alice.got, alice.told) == (["0", "1"], ["lapsed"])
        assert alice.line.gate == BEHIND | WAITING


async def test_a_worker_looks_at_the_token_before_what_collected() -> None:
    async with pumping() as rig:
        alice = rig.reader(expires=rig.clock.time() + 10)
        alice.takes = 2 * MS
        rig.publish([alice], "1")
        await settle()
        rig.publish([alice], "2")
        await settle()
        rig.clock.set_wall(10)
        await rig.clock.advance(1)
        assert (alice.got, alice.told) == (["1"], ["lapsed"])
        assert alice.line.gate == BEHIND | WAITING


# --- slow


async def test_after_64_sends_that_did_not_block_it_is_slow_no_longer() -> None:
    async with pumping() as rig:
        alice = await make_slow(rig)
        for text in numbers(UNBLOCKED_AFTER - 1):
            rig.publish([alice], text)
            await settle()
        # The send that it was unblocked with counts for nothing: it had blocked.
        assert alice.line.gate == SLOW
        rig.publish([alice], "the last")
        await settle()
        assert alice.line.gate == 0


async def test_one_send_that_takes_its_time_begins_the_count_anew() -> None:
    async with pumping() as rig:
        alice = await make_slow(rig)
        for text in numbers(UNBLOCKED_AFTER - 1):
            rig.publish([alice], text)
            await settle()
        alice.takes = 2 * MS
        rig.publish([alice], "slow")
        await rig.clock.advance(2 * MS)
        alice.takes = 0
        for text in numbers(UNBLOCKED_AFTER - 1):
            rig.publish([alice], text)
            await settle()
        assert alice.line.gate == SLOW


async def test_what_did_not_block_before_it_was_slow_counts_for_nothing() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        for text in numbers(UNBLOCKED_AFTER - 1):
            alice.line.offer(answer(text))
        await settle()
        alice.stall()
        rig.publish([alice], "blocked")
        await rig.clock.advance(5 * MS)
        alice.read_on()
        rig.publish([alice], "next")
        await settle()
        assert alice.line.gate == SLOW


async def test_it_recovers_while_much_waits() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "blocked")
        await rig.clock.advance(5 * MS)
        for text in numbers(2 * UNBLOCKED_AFTER):
            rig.publish([alice], text)
        await settle()
        alice.read_on()
        await settle()
        assert alice.got == ["blocked", *numbers(2 * UNBLOCKED_AFTER)]
        assert alice.line.gate == 0


# --- behind


async def test_what_is_offered_to_one_that_is_behind_waits_until_it_goes_live() -> None:
    async with pumping() as rig:
        alice = rig.reader(live=False)
        alice.line.offer(answer("offered"))
        await settle()
        assert alice.got == []
        alice.line.go_live()
        await settle()
        assert (alice.got, alice.line.gate) == (["offered"], 0)


async def test_going_live_does_not_overlap_the_send_that_somebody_is_stuck_in() -> None:
    """The token ran out while its send was stuck, and a fresh one has come."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1", "2")
        await rig.clock.advance(5 * MS)
        alice.line.fall_behind(rig.position)
        alice.line.go_live()
        await settle()
        assert alice.line.gate & SENDING
        alice.read_on()
        await settle()
        assert alice.got == ["1", "2"]


async def test_reading_up_waits_for_the_send_that_somebody_is_stuck_in() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1", "2")
        await rig.clock.advance(5 * MS)
        alice.line.fall_behind(rig.position)

        async def read_up() -> None:
            await alice.line.drain()
            await alice.line.send(answer("3"))
            alice.line.go_live()

        rig.tasks.start_soon(read_up)
        rig.tasks.start_soon(alice.line.send, answer("somewhere"))
        await settle()
        assert alice.got == []
        alice.read_on()
        await settle()
        assert [text for text in alice.got if text != "somewhere"] == ["1", "2", "3"]
        assert alice.got.count("somewhere") == 1
        assert alice.line.gate == SLOW


async def test_whoever_waits_for_the_gate_of_a_connection_that_ends_waits_no_longer() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1")
        await rig.clock.advance(5 * MS)
        alice.line.fall_behind(rig.position)
        came_back: list[str] = []

        async def read_up() -> None:
            await alice.line.drain()
            came_back.append("drained")

        rig.tasks.start_soon(read_up)
        await settle()
        assert came_back == []
        alice.line.close()
        await settle()
        assert came_back == ["drained"]


async def test_draining_stops_where_the_token_has_run_out() -> None:
    async with pumping() as rig:
        alice = rig.reader(live=False, expires=rig.clock.time())
        alice.line.offer(answer("1"))
        await alice.line.drain()
        assert (alice.got, alice.told) == ([], [])
        assert alice.line.gate == BEHIND | WAITING


async def test_while_it_drains_a_live_one_gets_nothing_new() -> None:
    """What waits goes out before an orderly end, and no more than that."""
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        for text in numbers(3):
            alice.line.offer(answer(text))
        rig.tasks.start_soon(alice.line.drain)
        await settle()
        for text in numbers(5, start=10):
            rig.publish([alice], text)
            await rig.clock.advance(2 * MS)
        assert alice.got == numbers(3)


# --- sends that get nowhere


async def test_after_ten_seconds_in_one_send_it_is_over_once() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        alice.stall()
        rig.publish([alice, bob], "1")
        await rig.clock.advance(5 * MS)
        await rig.clock.advance(9.9)
        assert alice.told == []
        await rig.clock.advance(0.2)
        assert alice.told == ["overrun"]
        assert [*rig.pump.lines.stuck] == [alice.line]
        rig.publish([alice, bob], "2")
        await rig.clock.advance(60)
        assert (alice.told, alice.got, bob.got) == (["overrun"], [], ["1", "2"])


async def test_a_send_that_comes_back_after_all_is_stuck_no_longer() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1", "2")
        await rig.clock.advance(11)
        assert [*rig.pump.lines.stuck] == [alice.line]
        alice.read_on()
        await settle()
        assert not rig.pump.lines.stuck
        assert (alice.got, alice.line.gate & SENDING) == (["1"], 0)


async def test_a_send_of_the_connections_own_task_is_watched_too() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.tasks.start_soon(alice.line.answer, answer("pong"))
        await rig.clock.advance(10)
        assert alice.told == ["overrun"]


async def test_every_frame_has_its_own_ten_seconds() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 9.0
        for text in numbers(5):
            alice.line.offer(answer(text))
        await rig.clock.advance(46)
        assert (alice.got, alice.told) == (numbers(5), [])


async def test_each_is_over_at_its_own_time() -> None:
    async with pumping() as rig:
        alice, bob = rig.readers(2)
        alice.stall()
        bob.stall()
        alice.line.offer(answer("1"))
        await rig.clock.advance(4)
        bob.line.offer(answer("1"))
        await rig.clock.advance(6.2)
        assert (alice.told, bob.told) == (["overrun"], [])
        await rig.clock.advance(4)
        assert bob.told == ["overrun"]


async def test_a_stuck_send_of_a_connection_that_has_ended_is_counted_and_nobody_is_told() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.stall()
        rig.publish([alice], "1")
        await rig.clock.advance(5 * MS)
        alice.line.close()
        await rig.clock.advance(11)
        assert (alice.told, [*rig.pump.lines.stuck]) == ([], [alice.line])


# --- outboxes that are too small


@pytest.mark.parametrize(("max_events", "max_bytes"), [(256, 1_048_576), (10_000, 256)], ids=["events", "bytes"])
async def test_more_than_the_outbox_holds_is_over_once(max_events: int, max_bytes: int) -> None:
    async with pumping() as rig:
        alice = rig.reader(max_events=max_events, max_bytes=max_bytes)
        bob = rig.reader()
        alice.stall()
        rig.publish([alice, bob], "x")
        await rig.clock.advance(5 * MS)
        for _ in range(256):
            rig.publish([alice, bob], "x")
            await settle()
        assert alice.told == []
        assert len(alice.line.outbox) == 256
        for _ in range(5):
            rig.publish([alice, bob], "x")
            await settle()
        assert alice.told == ["overrun"]
        assert len(alice.line.outbox) == 0
        assert len(bob.got) == 262
        alice.read_on()
        await settle()
        assert alice.got == ["x"]


async def test_a_turn_that_overruns_it_is_told_once() -> None:
    async with pumping() as rig:
        alice = rig.reader(max_events=2)
        alice.stall()
        rig.publish([alice], "1")
        await rig.clock.advance(5 * MS)
        rig.publish([alice], *numbers(10))
        await settle()
        assert alice.told == ["overrun"]


async def test_one_that_is_behind_can_be_overrun_too() -> None:
    async with pumping() as rig:
        alice = rig.reader(live=False, max_events=2)
        for text in numbers(5):
            alice.line.offer(answer(text))
        assert alice.told == ["overrun"]
        assert not rig.pump.lines.stuck


async def test_a_writer_stops_where_its_line_falls_behind() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        for text in numbers(5):
            alice.line.offer(answer(text))
        await rig.clock.advance(3 * MS)
        alice.line.fall_behind(rig.position)
        await rig.clock.advance(1)
        assert alice.got == ["0", "1"]
        alice.takes = 0
        await alice.line.drain()
        assert alice.got == numbers(5)


async def test_a_worker_stops_where_the_line_falls_behind_that_it_writes_the_rest_of() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        alice.takes = 2 * MS
        rig.publish([alice], "0")
        await settle()
        for text in numbers(4, start=1):
            rig.publish([alice], text)
        await rig.clock.advance(3 * MS)
        alice.line.fall_behind(rig.position)
        await rig.clock.advance(1)
        assert alice.got == ["0", "1"]
        alice.takes = 0
        await alice.line.drain()
        assert alice.got == numbers(5)


# --- all lines of a node together


async def test_where_too_much_waits_on_all_lines_together_the_fullest_go() -> None:
    async with pumping(budget=1_000) as rig:
        some, more, most = readers = rig.readers(3)
        for reader in readers:
            reader.stall()
        rig.publish(readers, "in the send that stalls")
        await rig.clock.advance(5 * MS)
        for reader, number in ((some, 1), (more, 3), (most, 5)):
            rig.publish([reader], *["x" * 100] * number)
        await settle()
        assert rig.pump.lines.congestion[:3] == (3, 900, 0)
        rig.publish([some], "y" * 100)
        await settle()
        assert [reader.told for reader in readers] == [[], [], []]  # as much as may wait
        rig.publish([some], "y")
        await settle()
        assert [reader.told for reader in readers] == [[], [], ["overrun"]]
        assert rig.pump.lines.congestion[:3] == (2, 501, 1)
        rig.publish([some], "z" * 600)  # it is now the fullest itself
        await settle()
        assert [reader.told for reader in readers] == [["overrun"], [], ["overrun"]]
        assert rig.pump.lines.congestion[:3] == (1, 300, 2)
        more.read_on()
        await settle()
        assert more.got == ["in the send that stalls", *["x" * 100] * 3]
        assert rig.pump.lines.congestion[:3] == (0, 0, 2)


async def test_what_waits_is_counted_as_it_comes_goes_is_put_back_and_is_given_up() -> None:
    async with pumping() as rig:
        alice = rig.reader()
        lines, line = rig.pump.lines, alice.line
        line.fall_behind(0)
        line.offer(answer("1234"))
        assert lines.congestion == (1, 4, 0, 0)
        line.put_back([answer("12")])
        assert lines.congestion == (1, 6, 0, 0)
        await line.drain()
        assert (alice.got, lines.congestion) == (["12", "1234"], (0, 0, 0, 0))
        line.offer(answer("1"))
        line.close()
        assert lines.congestion == (0, 0, 0, 0)


async def test_a_server_that_lets_go_of_no_socket_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    async with pumping() as rig:
        alice, bob, carol = readers = rig.readers(3)
        for reader in readers:
            reader.stall()
        rig.publish(readers, "1")
        await rig.clock.advance(11)
        assert rig.pump.lines.congestion == (0, 0, 3, 3)
        carol.read_on()  # her server ends the send
        await rig.clock.advance(29)
        assert caplog.messages == []
        await rig.clock.advance(1)
        message = (
            "the server keeps the sockets of 2 connections that were closed because nobody reads there; "
            "jackfield.serving.listen() makes sockets that end by themselves"
        )
        assert caplog.messages == [message]
        alice.read_on()
        bob.read_on()
        await rig.clock.advance(120)
        assert caplog.messages == [message]
        assert rig.pump.lines.congestion == (0, 0, 3, 0)
