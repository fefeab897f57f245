"""jackfield in a FastAPI application that has access tokens of its own; channels are left to `Members`.

    pip install "jackfield[serve]" fastapi
    uvicorn fastapi_app:app

Connect to ws://127.0.0.1:8000/ws/acme?token=token-of-alice, and make channels and messages at /docs.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import uuid4

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

from jackfield import Jackfield, Principal, Unauthorized
from jackfield.events import ChannelCreated, MemberJoined, MessageNew, MessageUpdated, timestamp
from jackfield.hookspecs import channels_of
from jackfield_auth import TokenAuth
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from jackfield_threads import Threads
from jackfield_typing import Typing

# What this application has anyway; dicts stand for your database.
TOKENS = {"token-of-alice": "alice", "token-of-bob": "bob", "token-of-carol": "carol"}
WORKSPACES = {"acme": {"alice", "bob"}, "beta": {"carol"}}
ADMINS = {"alice"}
MESSAGES: dict[tuple[str, str], MessageNew] = {}


async def verify(token: str, workspace_id: str) -> Principal | None:
    """Whose token is it, and may he enter?"""
    if (user_id := TOKENS.get(token)) is None:
        return None  # INVALID_TOKEN
    if user_id not in WORKSPACES.get(workspace_id, ()):
        raise Unauthorized
    return Principal(user_id)


realtime = Jackfield(TokenAuth(verify=verify), RateLimit(), Members(), Presence(), Threads(), Typing())
app = FastAPI(lifespan=realtime.lifespan)


async def user(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> str:
    if (user_id := TOKENS.get(bearer.credentials)) is None:
        raise HTTPException(401)
    return user_id


User = Annotated[str, Depends(user)]


class NewChannel(BaseModel):
    name: str
    type: Literal["public", "private"] = "public"


class NewMember(BaseModel):
    user_id: str


class NewMessage(BaseModel):
    content: str
    parent_message_id: str | None = None


@app.post("/workspaces/{workspace_id}/channels", status_code=201)
async def create_channel(workspace_id: str, body: NewChannel, user: User) -> str:
    if user not in WORKSPACES.get(workspace_id, ()):
        raise HTTPException(404)
    channel = ChannelCreated(uuid4().hex, body.name, body.type, created_by=user)
    await realtime.workspace(workspace_id).publish(channel, id=channel.id)
    return channel.id


@app.post("/workspaces/{workspace_id}/channels/{channel_id}/members", status_code=204)
async def add_member(workspace_id: str, channel_id: str, body: NewMember, user: User) -> None:
    await must_see(workspace_id, channel_id, user)
    await realtime.workspace(workspace_id).publish(MemberJoined(channel_id, body.user_id))


@app.post("/workspaces/{workspace_id}/channels/{channel_id}/messages", status_code=201)
async def post_message(workspace_id: str, channel_id: str, body: NewMessage, user: User) -> str:
    await must_see(workspace_id, channel_id, user)
    message = MessageNew(uuid4().hex, channel_id, user, body.content, now(), body.parent_message_id)
    MESSAGES[workspace_id, message.id] = message  # yours first, then the world
    await realtime.workspace(workspace_id).publish(message, id=message.id)
    return message.id


@app.put("/workspaces/{workspace_id}/messages/{message_id}", status_code=204)
async def edit_message(workspace_id: str, message_id: str, body: NewMessage, user: User) -> None:
    message = MESSAGES.get((workspace_id, message_id))
    if message is None or message.user_id != user:
        raise HTTPException(404)
    # It names no channel: Members remembers who was told of the message.
    await realtime.workspace(workspace_id).publish(MessageUpdated(message_id, body.content, now()))


@app.delete("/workspaces/{workspace_id}/members/{user_id}", status_code=204)
async def kick(workspace_id: str, user_id: str, user: User) -> None:
    if user not in ADMINS & WORKSPACES.get(workspace_id, set()):
        raise HTTPException(403)
    WORKSPACES[workspace_id].discard(user_id)
    await realtime.workspace(workspace_id).revoke(user_id)  # every connection, on every node


async def must_see(workspace_id: str, channel_id: str, user: str) -> None:
    """The same question that a handshake asks."""
    if user not in WORKSPACES.get(workspace_id, ()):
        raise HTTPException(404)
    if channel_id not in (await realtime.ask(channels_of, realtime.workspace(workspace_id), user) or ()):
        raise HTTPException(404)


def now() -> str:
    return timestamp(realtime.clock.time())


app.mount("/", realtime)  # last: it answers /ws/{workspace_id}, and what plugins route
