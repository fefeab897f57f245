"""Who has to be told what, over many nodes: the log is read once, in its order, by an oracle of its own.

Of a record it takes the type, the data, its place and its time; of its head only whom it revokes, and which connection
typed. Who sees a channel it finds out by itself.
"""

from __future__ import annotations

from typing import Any

import attrs
import orjson

from jackfield._audience import Connection, Except
from jackfield._log import REVOKED, Head
from jackfield.engine import Record

Told = tuple[str, dict[str, Any]]
DELIVERED_ALONE = ("hello", "ack", "error", "pong")


@attrs.define(eq=False)
class Listener:
    """A connection, and what it is to be told from its beginning on, each with its place in the log."""

    user: str
    start: int
    id: str
    due: list[tuple[int, Told]] = attrs.field(factory=list)
    revoked_at: int | None = None

    def upto(self, position: int) -> list[Told]:
        return [told for place, told in self.due if place <= position]


class Log:
    """What has happened, as far as it has been read; and what follows for those who listen."""

    def __init__(self) -> None:
        self.position = 0
        self.times: list[float] = []
        """When each record was written."""
        self.members: dict[str, set[str] | None] = {}
        """Channel → its members; None: everybody."""
        self.statuses: dict[str, str] = {}
        self.typing: set[tuple[str, str]] = set()
        self.transitions: dict[str, list[str]] = {}
        self.listeners: list[Listener] = []
        self._where: dict[str, str] = {}

    def read(self, record: Record) -> None:
        assert record.position == self.position + 1, "the log has no holes"
        self.position = record.position
        self.times.append(record.at)
        head = Head.load(record.head)
        if head.type == REVOKED:
            self._revoke(str(head.key[0]))
            return
        frame = orjson.loads(record.body)
        type, data = frame["type"], frame["data"]
        silent = head.audience.without if isinstance(head.audience, Except) else None
        match type.partition(".")[0]:
            case "presence":
                self._presence(data["user_id"], data["status"])
                self._tell(type, data, None)
            case "typing":
                self._typing(type, data["channel_id"], data["user_id"])
                self._tell(type, data, data["channel_id"], silent)
            case "channel" | "member":
                self._sight(type, data)
            case _:
                id = data.get("parent_message_id") if type == "thread.updated" else data.get("message_id")
                channel = self._where.setdefault(data["id"], data["channel_id"]) if id is None else self._where[id]
                self._tell(type, data, channel)

    def sees(self, user: str, channel: str | None) -> bool:
        if channel is None:
            return True
        members = self.members.get(channel, set())
        return members is None or user in members

    def at(self, position: int) -> float:
        return self.times[position - 1]

    # --- what it means

    def _tell(self, type: str, data: dict[str, Any], channel: str | None, silent: object = None) -> None:
        for listener in self.listeners:
            if listener.start >= self.position or listener.revoked_at is not None:
                continue
            if self.sees(listener.user, channel) and silent != Connection(listener.id):
                listener.due.append((self.position, (type, data)))

    def _presence(self, user: str, status: str) -> None:
        assert self.statuses.get(user, "offline") != status, f"{user} is {status} twice"
        self.statuses[user] = status
        self.transitions.setdefault(user, []).append(status)

    def _typing(self, type: str, channel: str, user: str) -> None:
        began = type == "typing.start"
        assert ((channel, user) in self.typing) is not began, f"{type} of {user} twice"
        (self.typing.add if began else self.typing.discard)((channel, user))

    def _sight(self, type: str, data: dict[str, Any]) -> None:
        """Who comes is told of it, and who goes too."""
        channel, user = data.get("channel_id", data.get("id")), data.get("user_id")
        members = self.members.get(channel, set())
        if type == "channel.created":
            assert channel not in self.members
            self.members[channel] = None if data["type"] == "public" else {data["created_by"]}
        elif type == "member.joined" and members is not None:
            assert user not in members, f"{user} joins twice"
            members.add(user)
        self._tell(type, data, channel)
        if type == "channel.deleted":
            assert not any(typed == channel for typed, _ in self.typing), "who types there has stopped before"
            del self.members[channel]
        elif type == "member.left" and members is not None:
            members.remove(user)

    def _revoke(self, user: str) -> None:
        for listener in self.listeners:
            if listener.user == user and listener.start < self.position and listener.revoked_at is None:
                listener.revoked_at = self.position
