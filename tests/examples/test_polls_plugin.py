"""The polls of examples/, on one node and on three."""

from __future__ import annotations

import attrs
import pytest

from examples.polls_plugin import POLLS, Poll, PollClosed, Polls, PollUpdated, PollVote
from jackfield import Unauthorized
from jackfield.events import MemberLeft
from jackfield.testing import bench


def test_a_poll_is_a_value() -> None:
    poll = Poll("c1").vote("alice", "tea").vote("bob", "mate").vote("alice", "mate")
    assert poll.tally() == {"mate": 2}
    with pytest.raises(PollClosed):
        attrs.evolve(poll, closed=True).vote("carol", "tea")


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_vote_reaches_who_watches(nodes: int) -> None:
    async with bench(Polls, nodes=nodes) as b:
        await b.workspace().update(POLLS, "p1", lambda _: Poll("c1"))
        alice = await b.connect("alice", channels=["c1"])
        bob = await b.connect("bob", channels=["c1"], node=nodes - 1)
        await alice.request(PollVote("p1", "tea"))
        await bob.send(PollVote("p1", "mate"))
        assert await alice.receive(PollUpdated) == PollUpdated("p1", "c1", {"tea": 1})
        assert await alice.receive(PollUpdated) == PollUpdated("p1", "c1", {"tea": 1, "mate": 1})
        assert await bob.receive(PollUpdated) == PollUpdated("p1", "c1", {"tea": 1, "mate": 1})


@pytest.mark.parametrize("nodes", [1, 3])
async def test_everyone_ends_with_the_same_tally(nodes: int) -> None:
    async with bench(Polls, nodes=nodes) as b:
        await b.workspace().update(POLLS, "p1", lambda _: Poll("c1"))
        voters = [await b.connect(f"user{n}", channels=["c1"], node=n % nodes) for n in range(6)]
        for n, voter in enumerate(voters):
            await voter.request(PollVote("p1", "tea" if n % 2 else "mate"))
        for voter in voters:
            assert (await voter.pending())[-1] == PollUpdated("p1", "c1", {"mate": 3, "tea": 3})
        late = await b.connect("late", channels=["c1"], node=nodes - 1)
        assert late.hello.state["polls"] == {"p1": {"mate": 3, "tea": 3}}


async def test_the_same_vote_again_is_no_news() -> None:
    async with bench(Polls) as b:
        await b.workspace().update(POLLS, "p1", lambda _: Poll("c1"))
        alice = await b.connect("alice", channels=["c1"])
        await alice.request(PollVote("p1", "tea"))
        await alice.receive(PollUpdated)
        await alice.request(PollVote("p1", "tea"))
        assert await alice.pending() == []


async def test_a_closed_poll_says_so_by_its_own_code() -> None:
    async with bench(Polls) as b:
        await b.workspace().update(POLLS, "p1", lambda _: Poll("c1", closed=True))
        alice = await b.connect("alice", channels=["c1"])
        with pytest.raises(PollClosed):
            await alice.request(PollVote("p1", "tea"))
        await alice.send(PollVote("p1", "tea"))
        assert (await alice.receive_frame())["data"] == {"message": "This poll is closed.", "code": "POLL_CLOSED"}


async def test_a_stranger_learns_nothing() -> None:
    async with bench(Polls) as b:
        await b.workspace().update(POLLS, "hidden", lambda _: Poll("c1"))
        mallory = await b.connect("mallory", channels=["c2"])
        assert mallory.hello.state["polls"] == {}
        for poll_id in "hidden", "not-there":
            with pytest.raises(Unauthorized):
                await mallory.request(PollVote(poll_id, "tea"))
        assert await mallory.pending() == []


async def test_who_leaves_the_channel_hears_no_more_of_it() -> None:
    async with bench(Polls) as b:
        await b.workspace().update(POLLS, "p1", lambda _: Poll("c1"))
        alice = await b.connect("alice", channels=["c1"])
        bob = await b.connect("bob", channels=["c1"])
        await bob.request(PollVote("p1", "mate"))
        await bob.receive(PollUpdated)
        await b.workspace().publish(MemberLeft("c1", "bob"))
        await bob.receive(MemberLeft)
        await alice.request(PollVote("p1", "tea"))
        assert await bob.pending() == []
