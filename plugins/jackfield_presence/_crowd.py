"""Who is told: everyone, while there are few. Above a limit each transition goes to those who watch its user, so that
what a join costs does not grow with the workspace. And while so many come or go at once that telling everyone of each
would cost the square of them, whoever watches is told of those only, and of everyone when it is over.

How it stands is decided in a commit, and what says so is a record as any other: what comes before it in the log went to
everyone, and what comes behind it does not, on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

from jackfield import Audience, ClientEvent, Everyone, Post, ServerEvent, State, Topic, Transaction
from jackfield.events import Id, Status, latest

__all__ = [
    "EVERYBODY",
    "MOST_WATCHED",
    "PRESENCE",
    "STORM",
    "STORM_LASTS",
    "TOLD",
    "WATCHING",
    "PresenceCrowded",
    "PresenceWatch",
    "PresenceWatched",
    "UserStatus",
    "audience",
    "listed",
    "told",
    "turn",
    "watchers",
]

MOST_WATCHED = 500
RETURN_AT = 0.9
"""Of the limit: so that one who comes and goes does not turn it each time."""
STORM_LASTS = 1.5
"""Seconds that a storm counts as one after it was last seen to be."""

PRESENCE = State("presence", str)
"""user → online or away; who is offline has none"""
STORM = State("presence.storm", bool)
"""while many come or go at once"""
TOLD = State("presence.told", str)
"""who is told of each transition: everyone, in a storm who does not watch at all and who watches the user, or only who
watches him"""
EVERYBODY = "everybody"
"""the one key of both"""
WATCHING = Topic("presence")
"""Those who said whom they watch, be it nobody."""


@attrs.frozen
class UserStatus:
    """A user, and whether he is there."""

    user_id: Id
    status: Status


class PresenceWatch(ClientEvent, type="presence.watch"):
    """Whose transitions this connection is to be told where the workspace is crowded: these, and no longer those that
    it named before. Answered by `presence.watched`."""

    user_ids: Sequence[Id] = attrs.field(validator=attrs.validators.max_len(MOST_WATCHED))


class PresenceWatched(ServerEvent, type="presence.watched", delivery=latest()):
    """How it is with whom this connection watches; from here on each of their transitions follows. Where it is
    `partial` only theirs do."""

    users: Sequence[UserStatus]
    partial: bool = False

    def audience(self) -> Audience | None:
        return None


class PresenceCrowded(ServerEvent, type="presence.crowded", delivery=latest()):
    """From here on a connection is told of those whom it watches (`partial`), or of everyone again, who then are
    `users`."""

    partial: bool
    users: Sequence[UserStatus] | None = None

    def audience(self) -> Audience:
        return Everyone()


def watchers(user_id: str) -> str:
    """The topic of those who watch a user."""
    return f"presence:{user_id}"


def listed(statuses: Mapping[str, str], user_ids: Iterable[str]) -> list[UserStatus]:
    """Users with their status."""
    known: Mapping[str, Literal["online", "away"]] = {"online": "online", "away": "away"}
    return [UserStatus(user_id, known.get(statuses.get(user_id, ""), "offline")) for user_id in user_ids]


def told(online: int, limit: int, was: str, storms: bool) -> str:
    """How it is to stand, with so many there."""
    if online > (limit * RETURN_AT if was == "crowd" else limit):
        return "crowd"
    return "storm" if storms and was != "crowd" else ""  # first everyone is told who is there


async def turn(transaction: Transaction, limit: int) -> Post | None:
    """Decide anew; what there is to say, and to whom, where it turns."""
    statuses = await transaction.all(PRESENCE)
    storms = await transaction.get(STORM, EVERYBODY)
    turned = await transaction.update(TOLD, EVERYBODY, lambda was: told(len(statuses), limit, was, storms))
    if not turned:
        return None
    said = PresenceCrowded(True) if turned.after else PresenceCrowded(False, listed(statuses, statuses))
    if "storm" not in (turned.before, turned.after):
        return Post(said, to=Everyone())
    # Of a storm only those know who watch. Where it ends in a crowd they know that already.
    return Post(said, to=Everyone() - WATCHING if turned.after == "crowd" else WATCHING)


async def audience(transaction: Transaction, user_id: str) -> Audience:
    """Who is told of a user's transition."""
    his = Topic(watchers(user_id))
    match await transaction.get(TOLD, EVERYBODY):
        case "crowd":
            return his
        case "storm":
            return Everyone() - (WATCHING - his)
        case _:
            return Everyone()
