"""Who is told: everyone, while there are few. Above a limit each transition goes to those who watch its user, so that
what a join costs does not grow with the workspace.

Where the limit stands is decided in a commit, and what says so is a record as any other: what comes before it in the
log went to everyone, and what comes behind it does not, on every node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import attrs

from jackfield import Audience, ClientEvent, Everyone, ServerEvent, State, Topic, Transaction
from jackfield.events import Id, Status, latest

__all__ = [
    "CROWDED",
    "EVERYBODY",
    "MOST_WATCHED",
    "PRESENCE",
    "PresenceCrowded",
    "PresenceWatch",
    "PresenceWatched",
    "UserStatus",
    "audience",
    "is_crowded",
    "listed",
    "turn",
    "watchers",
]

MOST_WATCHED = 500
RETURN_AT = 0.9
"""Of the limit: so that one who comes and goes does not turn it each time."""

PRESENCE = State("presence", str)
"""user → online or away; who is offline has none"""
CROWDED = State("presence.crowded", bool)
EVERYBODY = "everybody"
"""its one key"""


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
    """How it is with whom this connection watches; from here on each of their transitions follows."""

    users: Sequence[UserStatus]

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


def is_crowded(online: int, limit: int, was: bool) -> bool:
    """Whether only those who watch are to be told."""
    return online > (limit * RETURN_AT if was else limit)


async def turn(transaction: Transaction, limit: int) -> PresenceCrowded | None:
    """Decide anew; what there is to say, where it turns."""
    statuses = await transaction.all(PRESENCE)
    turned = await transaction.update(CROWDED, EVERYBODY, lambda was: is_crowded(len(statuses), limit, was))
    if not turned:
        return None
    return PresenceCrowded(True) if turned.after else PresenceCrowded(False, listed(statuses, statuses))


async def audience(transaction: Transaction, user_id: str) -> Audience:
    """Who is told of a user's transition."""
    return Topic(watchers(user_id)) if await transaction.get(CROWDED, EVERYBODY) else Everyone()
