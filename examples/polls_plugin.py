"""A plugin, whole: polls. Right on one node and on many, since a vote and the tally that it makes are one commit.

The host opens a poll, and later closes it:

    polls = realtime.workspace("acme")
    await polls.update(POLLS, "lunch", lambda _: Poll("general"))
    await polls.update(POLLS, "lunch", lambda poll: attrs.evolve(poll, closed=True))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import attrs

from jackfield import (
    Audience,
    Channel,
    ClientEvent,
    Refused,
    ServerEvent,
    Session,
    State,
    Topic,
    Unauthorized,
    hookimpl,
    latest,
    on,
)
from jackfield.events import Id


class PollVote(ClientEvent, type="poll.vote", cost=5):
    """A member votes in an open poll."""

    poll_id: Id
    choice: Id


class PollUpdated(ServerEvent, type="poll.updated", delivery=latest("poll_id")):
    """The tally of a poll changed."""

    poll_id: Id
    channel_id: Id
    tally: Mapping[str, int]

    def audience(self) -> Audience:  # those who look at it, while they may
        return Channel(self.channel_id) & Topic(f"poll:{self.poll_id}")


class PollClosed(Refused):
    """This poll is closed."""

    code = "POLL_CLOSED"


@attrs.frozen
class Poll:
    """Who voted for what. Pure: tested without a loop."""

    channel_id: str = ""
    votes: Mapping[str, str] = attrs.field(factory=dict[str, str])
    closed: bool = False

    def vote(self, user_id: str, choice: str) -> Poll:
        if self.closed:
            raise PollClosed
        return attrs.evolve(self, votes={**self.votes, user_id: choice})

    def tally(self) -> Mapping[str, int]:
        return Counter(self.votes.values())

    def seen_by(self, session: Session) -> bool:
        return bool(self.channel_id) and session.sees(self.channel_id)


POLLS = State("polls", Poll)  # a typed cell a key, in every workspace; Poll() where there is none


@attrs.define(eq=False)
class Polls:
    """One ballot a member; the last vote counts."""

    name: str = "polls"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return PollVote, PollUpdated

    @hookimpl
    async def initial_state(self, session: Session) -> object:  # hello.data.state.polls
        polls = await session.workspace.all(POLLS)
        return {id: poll.tally() for id, poll in polls.items() if poll.seen_by(session)}

    @on(PollVote)  # returns: ack · Refused: its code · anything else: INTERNAL_ERROR
    async def count(self, session: Session, event: PollVote) -> None:
        poll = await session.workspace.get(POLLS, event.poll_id)
        if not poll.seen_by(session):
            raise Unauthorized  # hidden, or not there: the same words for both
        session.watch(f"poll:{event.poll_id}")
        await session.workspace.update(  # state and event: one commit, or neither
            POLLS,
            event.poll_id,
            lambda poll: poll.vote(session.user_id, event.choice),
            publish=lambda _, poll: PollUpdated(event.poll_id, poll.channel_id, poll.tally()),
        )
