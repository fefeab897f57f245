"""jackfield in a Starlette application that has users, channels and messages of its own.

    pip install "jackfield[serve]" itsdangerous
    uvicorn starlette_app:app

Its session cookie says who connects, and its database who sees what: jackfield asks, and keeps neither.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Collection
from uuid import uuid4

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from jackfield import Handshake, Jackfield, Principal, Unauthorized, Workspace, hookimpl
from jackfield.events import MemberJoined, MessageNew, timestamp
from jackfield_presence import Presence
from jackfield_typing import Typing

WORKSPACE = "acme"


class Database:
    """What this application has anyway. SQLite in memory stands for yours."""

    def __init__(self) -> None:
        self.sql = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.sql.executescript("""
            CREATE TABLE members (channel_id TEXT, user_id TEXT, UNIQUE (channel_id, user_id));
            CREATE TABLE messages (id TEXT PRIMARY KEY, channel_id TEXT, user_id TEXT, content TEXT, created_at TEXT);
            INSERT INTO members VALUES ('general', 'alice'), ('general', 'bob'), ('board', 'alice');
        """)

    async def channels(self, user_id: str) -> set[str]:
        rows = self.sql.execute("SELECT channel_id FROM members WHERE user_id = ?", (user_id,))
        return {channel_id for (channel_id,) in rows}

    async def join(self, channel_id: str, user_id: str) -> None:
        self.sql.execute("INSERT OR IGNORE INTO members VALUES (?, ?)", (channel_id, user_id))

    async def save(self, message: MessageNew) -> None:
        row = (message.id, message.channel_id, message.user_id, message.content, message.created_at)
        self.sql.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", row)


db = Database()


@attrs.define(eq=False)
class Accounts:
    """Who is it, and what may he see? Only this application knows."""

    name: str = "accounts"

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        # A cookie comes along from any page, so jackfield lets in only pages of this host, or of allowed_origins.
        if (user_id := handshake.session.get("user_id")) is None:
            return None  # nobody answers: INVALID_TOKEN
        if handshake.workspace_id != WORKSPACE:
            raise Unauthorized
        return Principal(user_id)

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        return await db.channels(user_id)  # once a connection; from there on MemberJoined and MemberLeft move it


realtime = Jackfield(Accounts(), Presence(), Typing())


async def login(request: Request) -> Response:
    request.session["user_id"] = (await request.json())["user_id"]  # look at the password here
    return Response(status_code=204)


async def post_message(request: Request) -> Response:
    user_id, channel_id = await member(request)
    content = (await request.json())["content"]
    message = MessageNew(uuid4().hex, channel_id, user_id, content, timestamp(realtime.clock.time()))
    await db.save(message)  # yours first, then the world
    await realtime.workspace(WORKSPACE).publish(message, id=message.id)
    return JSONResponse({"id": message.id}, status_code=201)


async def invite(request: Request) -> Response:
    _, channel_id = await member(request)
    guest = (await request.json())["user_id"]
    await db.join(channel_id, guest)
    await realtime.workspace(WORKSPACE).publish(MemberJoined(channel_id, guest))
    return Response(status_code=204)


async def member(request: Request) -> tuple[str, str]:
    """Who asks, and about which channel of his."""
    user_id, channel_id = request.session.get("user_id"), request.path_params["channel_id"]
    if user_id is None:
        raise HTTPException(401)
    if channel_id not in await db.channels(user_id):
        raise HTTPException(404)
    return user_id, channel_id


app = Starlette(
    routes=[
        Route("/login", login, methods=["POST"]),
        Route("/channels/{channel_id}/messages", post_message, methods=["POST"]),
        Route("/channels/{channel_id}/members", invite, methods=["POST"]),
        Mount("/", realtime),  # last: it answers /ws/{workspace_id}, and what plugins route
    ],
    middleware=[
        Middleware(SessionMiddleware, secret_key=os.environ.get("SESSION_SECRET") or secrets.token_urlsafe()),
    ],
    lifespan=realtime.lifespan,
)
