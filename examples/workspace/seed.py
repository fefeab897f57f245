"""A workspace that looks alive: three people, some channels, and what they said since yesterday."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from examples.workspace.database import Database

__all__ = ["PEOPLE", "seed"]

PEOPLE = {"alice": "Alice Winter", "bob": "Bob Okafor", "carol": "Carol Díaz"}
"""The password of each is the name and `-demo`: `alice-demo`."""

CHANNELS = (
    ("general", "public", "What everyone should know", "carol", ()),
    ("design", "public", "How it looks, and why", "alice", ()),
    ("lunch", "public", "", "bob", ()),
    ("launch-party", "private", "Pssst", "alice", ("alice", "carol")),
)


class Said(NamedTuple):
    minutes_ago: int
    channel: str
    user: str
    content: str
    reactions: tuple[str, ...] = ()
    replies: tuple[tuple[int, str, str], ...] = ()


STORY = (
    Said(1704, "general", "carol", "Good morning! The release notes are in the shared folder, please have a look."),
    Said(
        1701,
        "general",
        "alice",
        "Read them. I would move the part about offline to the top, it is what people ask for.",
    ),
    Said(1698, "general", "carol", "Agreed, moved.", ("👍 alice", "👍 bob")),
    Said(
        1560,
        "general",
        "bob",
        "I unplugged my network for ten minutes and everything was there when I came back. Not a message lost.",
        ("🎉 alice", "🎉 carol", "👀 carol"),
        (
            (1552, "alice", "Also what you had written meanwhile?"),
            (1549, "bob", "Also that. It said that it would be sent, and it was."),
            (1547, "carol", "That goes into the notes, too."),
        ),
    ),
    Said(128, "general", "alice", "Morning all. Demo for the board is at three, I will share my screen."),
    Said(127, "general", "alice", "Whoever wants to see it before: now is a good time."),
    Said(
        96,
        "general",
        "bob",
        "Looked at it on my phone on the train, with every tunnel there is.\nIt just goes on.",
        ("👍 alice",),
    ),
    Said(41, "general", "carol", "Away until tomorrow. Have fun with the board!", ("👍 bob",)),
    Said(310, "design", "alice", "New colours: one accent, and quiet greys that are readable in the dark, too."),
    Said(305, "design", "bob", "Much calmer. Does the contrast hold?"),
    Said(303, "design", "alice", "4.5 to 1 everywhere, measured by a test.", ("✅ bob",)),
    Said(75, "lunch", "bob", "Noodles at half past twelve?"),
    Said(70, "lunch", "carol", "I am on a train, have some for me 🍜"),
    Said(200, "launch-party", "carol", "Bob must not know about the cake."),
    Said(180, "launch-party", "alice", "My lips are sealed.", ("😂 carol",)),
)


async def seed(database: Database) -> None:
    """Fill a database in which nobody is yet."""
    if await database.users():
        return
    for id, name in PEOPLE.items():
        await database.add_user(id, name, f"{id}-demo")
    for id, type, description, user, members in CHANNELS:
        row = {"id": id, "name": id, "type": type, "description": description, "created_by": user}
        await database.create_channel(row, members)
    now = datetime.now(UTC)
    for said in STORY:
        id = await _say(database, now, said.minutes_ago, said.channel, said.user, said.content)
        for reaction in said.reactions:
            emoji, _, user = reaction.partition(" ")
            await database.react(id, emoji, user)
        for minutes_ago, user, content in said.replies:
            await _say(database, now, minutes_ago, said.channel, user, content, parent=id)
    for user in PEOPLE:
        for channel, *_ in CHANNELS:
            last = (await database.messages(channel, None, 1))[-1]
            if (user, channel) != ("alice", "lunch"):  # so that something is unread
                await database.mark_read(user, channel, last["created_at"])


async def _say(
    database: Database,
    now: datetime,
    minutes_ago: int,
    channel: str,
    user: str,
    content: str,
    parent: str | None = None,
) -> str:
    id = uuid4().hex
    row = {"id": id, "channel_id": channel, "user_id": user, "content": content, "parent_message_id": parent}
    at = (now - timedelta(minutes=minutes_ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    await database.save_message(row, at)
    return id
