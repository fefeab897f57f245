"""What this application remembers: SQLite, plain SQL, one method a question. jackfield knows nothing of it.

Every method is one transaction, run in a thread so that the event loop never waits for the disk, one after the other.
"""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from anyio import CapacityLimiter, to_thread

from examples.workspace.hashes import of_password, of_random

__all__ = ["Database", "Row", "Session", "Taken"]

T = TypeVar("T")
Row = dict[str, Any]
"""A row by the names of its columns; those that are NULL are left out."""

SESSION_LIFE = 14 * 86_400.0
UNREAD = 100
"""So many unread messages are counted; the page then says 99+."""

SCHEMA = (Path(__file__).parent / "schema.sql").read_text()

SEEN = "(type = 'public' OR EXISTS (SELECT 1 FROM members WHERE channel_id = channels.id AND user_id = :user))"

MESSAGES = """
    SELECT id, channel_id, user_id, content, created_at, updated_at, deleted_at, parent_message_id,
        (SELECT count(*) FROM messages r WHERE r.parent_message_id = m.id AND r.deleted_at IS NULL) AS reply_count,
        (SELECT max(created_at) FROM messages r WHERE r.parent_message_id = m.id AND r.deleted_at IS NULL)
            AS last_reply_at
    FROM messages m
"""


class Session(NamedTuple):
    """Somebody who signed in; the moments are seconds since 1970."""

    user_id: str
    issued_at: float
    expires_at: float


class Taken(Exception):
    """That id is another thing's."""


class Database:
    """Of one workspace. `path` is a file, or ":memory:"."""

    def __init__(self, path: str = ":memory:") -> None:
        self._sql = sqlite3.connect(path, check_same_thread=False)
        self._sql.row_factory = sqlite3.Row
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.executescript(SCHEMA)
        self._turn = CapacityLimiter(1)

    def close(self) -> None:
        self._sql.close()

    # --- users and their sessions

    async def add_user(self, id: str, name: str, password: str) -> None:
        salt = secrets.token_bytes(16)
        hashed = await to_thread.run_sync(of_password, password, salt)
        sql = "INSERT INTO users VALUES (:id, :name, :salt, :hash)"
        await self._do(sql, id=id, name=name, salt=salt, hash=hashed)

    async def users(self) -> list[Row]:
        return await self._do("SELECT id, name FROM users ORDER BY name")

    async def user_of_password(self, user: str, password: str) -> str | None:
        found = await self._do("SELECT salt, hash FROM users WHERE id = :user", user=user)
        # A name that is not there takes as long as one that is.
        salt, wanted = (found[0]["salt"], found[0]["hash"]) if found else (b"", b"")
        hashed = await to_thread.run_sync(of_password, password, salt)
        return user if hmac.compare_digest(hashed, wanted) else None

    async def add_key(self, user: str) -> str:
        """What signs this user in without a password, as a link does that was mailed to him."""
        key = secrets.token_urlsafe(16)
        await self._do("INSERT INTO keys VALUES (:hash, :user)", hash=of_random(key), user=user)
        return key

    async def user_of_key(self, key: str) -> str | None:
        found = await self._do("SELECT user_id FROM keys WHERE hash = :hash", hash=of_random(key))
        return found[0]["user_id"] if found else None

    async def open_session(self, user: str) -> str:
        """A new token of his."""
        token, now = secrets.token_urlsafe(32), time.time()
        row = {"hash": of_random(token), "user": user, "now": now, "end": now + SESSION_LIFE}
        await self._do("INSERT INTO sessions VALUES (:hash, :user, :now, :end)", **row)
        return token

    async def session(self, token: str) -> Session | None:
        sql = "SELECT user_id, issued_at, expires_at FROM sessions WHERE hash = :hash AND expires_at > :now"
        found = await self._do(sql, hash=of_random(token), now=time.time())
        return Session(**found[0]) if found else None

    async def close_session(self, token: str) -> None:
        await self._do("DELETE FROM sessions WHERE hash = :hash", hash=of_random(token))

    # --- channels and their members

    async def channels_of(self, user: str) -> set[str]:
        """Those that he sees: every public one, and those that he is a member of."""
        return {row["id"] for row in await self._do(f"SELECT id FROM channels WHERE {SEEN}", user=user)}

    async def channels(self, user: str, only: str | None = None) -> list[Row]:
        """What he sees of them: who else is in it, how far he has read, and what is unread."""

        def read(sql: sqlite3.Connection) -> list[Row]:
            where = f"{SEEN} AND (:only IS NULL OR id = :only)"
            channels = _rows(sql, f"SELECT * FROM channels WHERE {where} ORDER BY name", user=user, only=only)
            for channel in channels:
                here = {"user": user, "channel": channel["id"]}
                members = _rows(sql, "SELECT user_id FROM members WHERE channel_id = :channel ORDER BY user_id", **here)
                reads = _rows(sql, "SELECT read_at FROM reads WHERE channel_id = :channel AND user_id = :user", **here)
                channel["members"] = [member["user_id"] for member in members]
                channel["read_at"] = here["read_at"] = reads[0]["read_at"] if reads else ""
                channel["unread"] = _rows(
                    sql,
                    """SELECT id, created_at FROM messages WHERE channel_id = :channel AND parent_message_id IS NULL
                    AND user_id <> :user AND deleted_at IS NULL AND created_at > :read_at
                    ORDER BY created_at DESC LIMIT :most""",
                    **here,
                    most=UNREAD,
                )
            return channels

        return await self._run(read)

    async def create_channel(self, channel: Row, members: tuple[str, ...]) -> list[Row]:
        """A channel and its first members. It was there already: nothing changes. Its members' rows are returned.

        Raises Taken where that is another one.
        """

        def write(sql: sqlite3.Connection) -> list[Row]:
            statement = "INSERT OR IGNORE INTO channels VALUES (:id, :name, :type, :description, :created_by)"
            if sql.execute(statement, channel).rowcount:
                return [_join(sql, channel["id"], member) for member in members]
            (there,) = _rows(sql, "SELECT type, created_by FROM channels WHERE id = :id", **channel)
            if there["type"] != channel["type"] or there["created_by"] not in (channel["created_by"], *members):
                raise Taken
            return _rows(sql, "SELECT * FROM members WHERE channel_id = :id", **channel)

        return await self._run(write)

    async def update_channel(self, id: str, name: str | None, description: str | None) -> None:
        await self._do(
            "UPDATE channels SET name = coalesce(:name, name), description = coalesce(:description, description) "
            "WHERE id = :id",
            id=id,
            name=name,
            description=description,
        )

    async def join(self, channel_id: str, user: str) -> Row:
        """His membership; what was said before he came counts as read."""
        return await self._run(lambda sql: _join(sql, channel_id, user))

    async def leave(self, channel_id: str, user: str) -> Row | None:
        """The membership that he had."""
        sql = "DELETE FROM members WHERE channel_id = :channel AND user_id = :user RETURNING *"
        rows = await self._do(sql, channel=channel_id, user=user)
        return rows[0] if rows else None

    # --- messages

    async def messages(self, channel_id: str, before: str | None, most: int) -> list[Row]:
        """A page of a channel, the oldest first; `before` is the id of a message that the page ends in front of."""
        return await self._messages(
            """WHERE channel_id = :channel AND parent_message_id IS NULL AND (
                :before IS NULL OR created_at < (SELECT created_at FROM messages WHERE id = :before)
            ) ORDER BY created_at DESC LIMIT :most""",
            channel=channel_id,
            before=before,
            most=most,
        )

    async def replies(self, message_id: str) -> list[Row]:
        return await self._messages("WHERE parent_message_id = :id ORDER BY created_at DESC", id=message_id)

    async def message(self, id: str) -> Row | None:
        found = await self._messages("WHERE id = :id", id=id)
        return found[0] if found else None

    async def save_message(self, message: Row, at: str | None = None) -> Row:
        """As it stands now. The page chose its id, so it can send it again and it is there once. `at` is for the past.

        Raises Taken where another message has that id.
        """

        def write(sql: sqlite3.Connection) -> None:
            last = sql.execute("SELECT max(created_at) FROM messages").fetchone()[0]
            sql.execute(
                """INSERT OR IGNORE INTO messages (id, channel_id, user_id, parent_message_id, content, created_at)
                VALUES (:id, :channel_id, :user_id, :parent_message_id, :content, :created_at)""",
                {**message, "created_at": at or _now(last)},
            )

        await self._run(write)
        saved = await self.message(message["id"])
        assert saved is not None, "it has just been written"
        if any(saved.get(name) != message[name] for name in ("channel_id", "user_id", "parent_message_id")):
            raise Taken
        return saved

    async def edit_message(self, id: str, content: str) -> Row:
        sql = "UPDATE messages SET content = :content, updated_at = :now WHERE id = :id RETURNING *"
        return (await self._do(sql, id=id, content=content, now=_now()))[0]

    async def delete_message(self, id: str) -> Row:
        """What it said is gone; its place stays, for those who answered. Doing it again changes nothing."""

        def write(sql: sqlite3.Connection) -> Row:
            values = {"id": id, "now": _now()}
            sql.execute("DELETE FROM reactions WHERE message_id = :id", values)
            return _rows(
                sql,
                """UPDATE messages SET content = '', deleted_at = coalesce(deleted_at, :now)
                WHERE id = :id RETURNING *""",
                **values,
            )[0]

        return await self._run(write)

    async def react(self, message_id: str, emoji: str, user: str) -> None:
        sql = "INSERT OR IGNORE INTO reactions VALUES (:id, :emoji, :user)"
        await self._do(sql, id=message_id, emoji=emoji, user=user)

    async def unreact(self, message_id: str, emoji: str, user: str) -> None:
        sql = "DELETE FROM reactions WHERE message_id = :id AND emoji = :emoji AND user_id = :user"
        await self._do(sql, id=message_id, emoji=emoji, user=user)

    async def mark_read(self, user: str, channel_id: str, read_at: str) -> str:
        """How far he has read now: never less than before."""
        (row,) = await self._do(
            """INSERT INTO reads VALUES (:user, :channel, :read_at)
            ON CONFLICT DO UPDATE SET read_at = max(read_at, excluded.read_at) RETURNING read_at""",
            user=user,
            channel=channel_id,
            read_at=read_at,
        )
        return str(row["read_at"])

    # --- how it is asked

    async def _do(self, sql: str, **values: object) -> list[Row]:
        return await self._run(lambda connection: _rows(connection, sql, **values))

    async def _messages(self, where: str, **values: object) -> list[Row]:
        """With their reactions; the newest come first, and are given last."""

        def read(sql: sqlite3.Connection) -> list[Row]:
            messages = _rows(sql, MESSAGES + where, **values)[::-1]
            ids = json.dumps([message["id"] for message in messages])
            given = _rows(
                sql,
                """SELECT message_id, emoji, user_id FROM reactions
                WHERE message_id IN (SELECT value FROM json_each(:ids)) ORDER BY rowid""",
                ids=ids,
            )
            for message in messages:
                message["reactions"] = [
                    {"emoji": row["emoji"], "user_id": row["user_id"]}
                    for row in given
                    if row["message_id"] == message["id"]
                ]
            return messages

        return await self._run(read)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transaction() -> T:
            with self._sql:
                return work(self._sql)

        return await to_thread.run_sync(transaction, limiter=self._turn)


def _rows(sql: sqlite3.Connection, statement: str, **values: object) -> list[Row]:
    rows = sql.execute(statement, values).fetchall()
    return [{name: row[name] for name in row.keys() if row[name] is not None} for row in rows]  # noqa: SIM118


def _join(sql: sqlite3.Connection, channel_id: str, user: str) -> Row:
    member = {"id": uuid4().hex, "channel_id": channel_id, "user_id": user}
    if sql.execute("INSERT OR IGNORE INTO members VALUES (:id, :channel_id, :user_id)", member).rowcount:
        sql.execute(
            """INSERT OR REPLACE INTO reads SELECT :user_id, :channel_id, max(created_at) FROM messages
            WHERE channel_id = :channel_id HAVING max(created_at) IS NOT NULL""",
            member,
        )
    (row,) = _rows(sql, "SELECT * FROM members WHERE channel_id = :channel_id AND user_id = :user_id", **member)
    return row


def _now(last: str | None = None) -> str:
    """The moment, or a millisecond after the last message: no two messages share one, and so it is their order."""
    now = datetime.now(UTC)
    if last is not None:
        now = max(now, datetime.fromisoformat(last) + timedelta(milliseconds=1))
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
