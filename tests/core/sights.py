"""Who sees what at which place of a log: the oracle of the tests of resume, written without the code under test."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import attrs
import orjson
import pytest

from jackfield._audience import Audience, Channel, Connection, Everyone, Topic, Users
from jackfield._cursor import Unusable
from jackfield._log import Entry, Head, sight_of
from jackfield._missed import Missed
from jackfield.engine import Record
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    MemberJoined,
    MemberLeft,
    MessageNew,
    ServerEvent,
)

NOON = "2024-01-01T12:00:00.000Z"
USERS = ("alice", "bob", "carol")
CHANNELS = ("c1", "c2")


@attrs.define
class Seen:
    """A user, as a node holds him while he is there."""

    user_id: str
    channels: set[str] = attrs.field(factory=set)
    sees_all: bool = False

    def gets(self, audience: Audience) -> bool:
        """Written anew, and not with the code under test."""
        if isinstance(audience, Users):
            return self.user_id in audience.ids
        if isinstance(audience, Channel):
            return self.sees_all or audience.id in self.channels
        if isinstance(audience, Everyone):
            return True
        if isinstance(audience, Connection | Topic):
            return False
        whole, without = audience.whole, audience.without  # type: ignore[attr-defined]
        return self.gets(whole) and not self.gets(without)


class World:
    """A log, and what every user would have been sent at each of its places."""

    def __init__(self, sees_all: Collection[str] = ()) -> None:
        self.entries: list[Entry] = []
        self.events: list[tuple[ServerEvent, Audience]] = []
        self.sent: dict[str, list[bool]] = {user: [] for user in USERS}
        self.users = {user: Seen(user, sees_all=user in sees_all) for user in USERS}
        self.types: dict[str, str] = {}
        self.members: dict[str, set[str]] = {}

    @property
    def position(self) -> int:
        return len(self.entries)

    def write(
        self,
        event: ServerEvent,
        audience: Audience,
        *,
        kind: Any = "durable",
        moves: bool = True,
        seen_by: Audience | None = None,
    ) -> None:
        sight = sight_of(event, seen_by) if moves else None
        head = Head(event.__event__.type, audience, kind, (), sight)
        position = self.position + 1
        body = orjson.dumps({"type": head.type, "data": attrs.asdict(event)})
        record = Record(position, f"r{position}", head.dump(), body, kind == "durable", 0.0)
        entry = Entry.of(record)
        assert entry.head == head
        self.entries.append(entry)
        self.events.append((event, audience))
        for user in self.users.values():
            if sight is not None and sight.gained and sight.moves(user.user_id):
                user.channels.add(sight.channel_id)
            self.sent[user.user_id].append(kind == "durable" and user.gets(audience))
            if sight is not None and not sight.gained and sight.moves(user.user_id):
                user.channels.discard(sight.channel_id)

    # what can happen, by the rules that the plugin of members has

    def create(self, channel: str, type: str, by: str) -> None:
        if channel not in self.types:
            self.types[channel] = type
            self.members[channel] = set() if type == "public" else {by}
            self.write(ChannelCreated(channel, channel, type, by), Channel(channel))

    def delete(self, channel: str, known: bool, to: Audience | None = None) -> None:
        if channel in self.types:
            public = self.types.pop(channel) == "public"
            seen_by = Everyone() if public else Users(*sorted(self.members[channel]))
            del self.members[channel]
            self.write(ChannelDeleted(channel), to or Channel(channel), seen_by=seen_by if known else None)

    def join(self, channel: str, user: str) -> None:
        if channel in self.types and user not in self.members[channel]:
            self.members[channel].add(user)
            self.write(MemberJoined(channel, user), Channel(channel), moves=self.types[channel] != "public")

    def leave(self, channel: str, user: str) -> None:
        if channel in self.types and user in self.members[channel]:
            self.members[channel].discard(user)
            self.write(MemberLeft(channel, user), Channel(channel), moves=self.types[channel] != "public")

    def say(self, channel: str, to: Audience | None = None) -> None:
        if to is not None or channel in self.types:
            self.write(MessageNew(f"m{self.position}", channel, "alice", "text", NOON), to or Channel(channel))

    def update(self, channel: str) -> None:
        if channel in self.types:
            self.write(ChannelUpdated(channel, name="new"), Channel(channel))

    def whisper(self, channel: str) -> None:
        """Something that passes; and something of the core's own."""
        self.write(ChannelUpdated(channel, name="passing"), Everyone(), kind="latest")

    def revoke(self, user: str) -> None:
        position = self.position + 1
        head = Head("revoked", Users(user), "control", (user, 1.0))
        self.entries.append(Entry.of(Record(position, f"r{position}", head.dump(), b"", True, 0.0)))
        for sent in self.sent.values():
            sent.append(False)

    # the oracle

    def missed(self, user: str, after: int) -> list[int]:
        """What he was sent behind that place and may see still; besides, his own comings and goings, and the end of
        what he saw."""
        now = self.users[user]
        expected = []
        for entry, sent in zip(self.entries[after:], self.sent[user][after:], strict=True):
            data = orjson.loads(entry.record.body or b"{}").get("data", {})
            own = entry.head.type in ("member.joined", "member.left") and data["user_id"] == user
            if sent and (now.gets(entry.head.audience) or own or entry.head.type == "channel.deleted"):
                expected.append(entry.record.position)
        return expected

    def asked(self, user: str, after: int, *, limit: int = 1000, stretch: int = 3) -> list[int]:
        """The same from the code under test, a stretch at a time."""
        now = self.users[user]
        missed = Missed(user, frozenset(now.channels), sees_all=now.sees_all, limit=limit)
        stretches = [self.entries[n : n + stretch] for n in range(after, self.position, stretch)]
        for part in reversed(stretches):
            missed.back(part)
        for part in stretches:
            missed.forward(part)
        return [entry.record.position for entry in missed.entries]

    def reason(self, user: str, after: int, **options: Any) -> str:
        with pytest.raises(Unusable) as refused:
            self.asked(user, after, **options)
        return refused.value.reason
