"""REST: what this application does, handler by handler. The lines with `self.live` tell jackfield; nothing else does.

Every path but the login asks for a session's token, and who does not see a channel learns not even that it exists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from examples.workspace.asking import Body, an_id, body_of, one_of, text
from examples.workspace.database import Database, Row, Taken
from examples.workspace.live import ChannelRead
from jackfield import Channel, Post, Users, Workspace
from jackfield.events import (
    ChannelCreated,
    ChannelUpdated,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    MessageUpdated,
    ReactionAdded,
    ReactionRemoved,
    ThreadUpdated,
)

__all__ = ["API"]

EMOJI = ("👍", "❤️", "😂", "🎉", "👀", "✅")
PAGE = 50
NOTHING = 204

Handler = Callable[[Request, str], Awaitable[Response]]
Change = Callable[[Request, str, Body], Awaitable[Response]]


class API:
    """`live` is the workspace where it is told what has happened."""

    def __init__(self, database: Database, live: Workspace) -> None:
        self.database = database
        self.live = live
        self.in_order = anyio.Lock()

    def routes(self) -> list[Route]:
        channel, message = "/channels/{channel_id}", "/messages/{message_id}"
        return [
            Route("/login", self.login, methods=["POST"]),
            self.change("/logout", "POST", self.logout),
            self.question("/state", self.state),
            self.change("/channels", "POST", self.create_channel),
            self.change("/direct/{user_id}", "PUT", self.open_direct),
            self.question(channel, self.channel),
            self.change(channel, "PATCH", self.update_channel),
            self.change(f"{channel}/members/{{user_id}}", "PUT", self.invite),
            self.change(f"{channel}/members/{{user_id}}", "DELETE", self.leave),
            self.question(f"{channel}/messages", self.messages),
            self.change(f"{channel}/messages", "POST", self.send),
            self.change(f"{channel}/read", "POST", self.mark_read),
            self.change(message, "PATCH", self.edit),
            self.change(message, "DELETE", self.delete),
            self.question(f"{message}/thread", self.thread),
            self.change(f"{message}/reactions/{{emoji}}", "PUT", self.react),
            self.change(f"{message}/reactions/{{emoji}}", "DELETE", self.unreact),
        ]

    def question(self, path: str, handler: Handler) -> Route:
        async def endpoint(request: Request) -> Response:
            return await handler(request, await self.signed_in(request))

        return Route(path, endpoint, methods=["GET"])

    def change(self, path: str, method: str, handler: Change) -> Route:
        """One after the other: asked whether he may, saved and told, so that what is saved first is told first. With
        several processes an outbox table does what this lock does in one."""

        async def endpoint(request: Request) -> Response:
            user, body = await self.signed_in(request), await body_of(request)
            async with self.in_order:
                return await handler(request, user, body)

        return Route(path, endpoint, methods=[method])

    # --- who asks, and what he may

    async def login(self, request: Request) -> Response:
        body = await body_of(request)
        if "key" in body:
            user = await self.database.user_of_key(text(body, "key", most=200))
        else:
            name, password = text(body, "name", most=100), text(body, "password", most=200)
            user = await self.database.user_of_password(name.strip().lower(), password)
        if user is None:
            raise HTTPException(401, "name or password is wrong")
        return JSONResponse({"token": await self.database.open_session(user), "user_id": user})

    async def logout(self, request: Request, user: str, body: Body) -> Response:
        await self.database.close_session(_token(request))
        return Response(status_code=NOTHING)

    async def signed_in(self, request: Request) -> str:
        session = await self.database.session(_token(request))
        if session is None:
            raise HTTPException(401, "sign in first", {"www-authenticate": "Bearer"})
        return session.user_id

    async def seen(self, channel_id: str, user: str) -> Row:
        found = await self.database.channels(user, channel_id)
        if not found:
            raise HTTPException(404, "no such channel")
        return found[0]

    async def seen_message(self, request: Request, user: str) -> Row:
        """One that is not deleted, in a channel that he sees."""
        message = await self.database.message(request.path_params["message_id"])
        if message is None or "deleted_at" in message:
            raise HTTPException(404, "no such message")
        if message["channel_id"] not in await self.database.channels_of(user):
            raise HTTPException(404, "no such message")
        return message

    async def own_message(self, request: Request, user: str) -> Row:
        message = await self.seen_message(request, user)
        if message["user_id"] != user:
            raise HTTPException(403, "this message is somebody else's")
        return message

    async def known_user(self, user: str) -> str:
        if user not in {row["id"] for row in await self.database.users()}:
            raise HTTPException(404, "no such user")
        return user

    # --- what the page shows

    async def state(self, request: Request, user: str) -> Response:
        users, channels = await self.database.users(), await self.database.channels(user)
        return JSONResponse({"me": user, "users": users, "channels": channels, "emoji": EMOJI})

    async def channel(self, request: Request, user: str) -> Response:
        return JSONResponse(await self.seen(request.path_params["channel_id"], user))

    async def messages(self, request: Request, user: str) -> Response:
        channel = await self.seen(request.path_params["channel_id"], user)
        messages = await self.database.messages(channel["id"], request.query_params.get("before"), PAGE + 1)
        return JSONResponse({"messages": messages[-PAGE:], "more": len(messages) > PAGE})

    async def thread(self, request: Request, user: str) -> Response:
        parent = await self.database.message(request.path_params["message_id"])
        if parent is None or parent["channel_id"] not in await self.database.channels_of(user):
            raise HTTPException(404, "no such message")
        return JSONResponse({"parent": parent, "messages": await self.database.replies(parent["id"])})

    # --- messages

    async def send(self, request: Request, user: str, body: Body) -> Response:
        """The page makes the id, so that sending again is harmless."""
        channel = await self.seen(request.path_params["channel_id"], user)
        parent = None
        if "parent_message_id" in body:
            parent = await self.database.message(an_id(body, "parent_message_id"))
            if parent is None or parent["channel_id"] != channel["id"] or "parent_message_id" in parent:
                raise HTTPException(422, "parent_message_id: no message of this channel that can be answered")
        row = {
            "id": an_id(body, "id"),
            "channel_id": channel["id"],
            "user_id": user,
            "content": text(body, "content", most=4000),
            "parent_message_id": parent and parent["id"],
        }
        try:
            message = await self.database.save_message(row)
        except Taken:
            raise HTTPException(409, "another message has that id") from None
        if "deleted_at" not in message:
            names = ("id", "channel_id", "user_id", "content", "created_at", "parent_message_id")
            event = MessageNew(**{name: message[name] for name in names if name in message})
            await self.live.publish_all([Post(event, id=event.id), *await self.thread_of(message)])
        return JSONResponse(message, 201)

    async def edit(self, request: Request, user: str, body: Body) -> Response:
        message = await self.own_message(request, user)
        content = text(body, "content", most=4000)
        edited = await self.database.edit_message(message["id"], content)
        event = MessageUpdated(message["id"], edited["content"], edited["updated_at"])
        await self.live.publish(event, to=Channel(message["channel_id"]))
        return Response(status_code=NOTHING)

    async def delete(self, request: Request, user: str, body: Body) -> Response:
        message = await self.own_message(request, user)
        gone = await self.database.delete_message(message["id"])
        event = Post(MessageDeleted(gone["id"], gone["deleted_at"]), to=Channel(message["channel_id"]))
        await self.live.publish_all([event, *await self.thread_of(message)])
        return Response(status_code=NOTHING)

    async def thread_of(self, message: Row) -> list[Post]:
        """What follows a reply, or the end of one: what its thread counts now."""
        parent = await self.database.message(message.get("parent_message_id", ""))
        if parent is None:
            return []
        event = ThreadUpdated(parent["id"], parent["reply_count"], parent.get("last_reply_at"))
        return [Post(event, to=Channel(parent["channel_id"]))]

    async def react(self, request: Request, user: str, body: Body) -> Response:
        message, emoji = await self.seen_message(request, user), one_of(request.path_params, "emoji", *EMOJI)
        await self.database.react(message["id"], emoji, user)
        event = ReactionAdded(message["id"], emoji, user)
        await self.live.publish(event, to=Channel(message["channel_id"]))
        return Response(status_code=NOTHING)

    async def unreact(self, request: Request, user: str, body: Body) -> Response:
        message, emoji = await self.seen_message(request, user), one_of(request.path_params, "emoji", *EMOJI)
        await self.database.unreact(message["id"], emoji, user)
        event = ReactionRemoved(message["id"], emoji, user)
        await self.live.publish(event, to=Channel(message["channel_id"]))
        return Response(status_code=NOTHING)

    async def mark_read(self, request: Request, user: str, body: Body) -> Response:
        channel = await self.seen(request.path_params["channel_id"], user)
        message = await self.database.message(an_id(body, "message_id"))
        if message is None or message["channel_id"] != channel["id"]:
            raise HTTPException(422, "message_id: no message of this channel")
        read_at = await self.database.mark_read(user, channel["id"], message["created_at"])
        await self.live.publish(ChannelRead(channel["id"], read_at), to=Users(user))
        return Response(status_code=NOTHING)

    # --- channels

    async def create_channel(self, request: Request, user: str, body: Body) -> Response:
        channel = {
            "id": an_id(body, "id"),
            "name": text(body, "name", most=40).strip(),
            "type": one_of(body, "type", "public", "private"),
            "description": text({"description": "", **body}, "description", most=200, least=0),
            "created_by": user,
        }
        members = (user,) if channel["type"] == "private" else ()
        return await self.add_channel(channel, members, user)

    async def open_direct(self, request: Request, user: str, body: Body) -> Response:
        """A private channel of two, whose id is made of theirs: whoever opens it first, it is the same."""
        pair = tuple(sorted((user, await self.known_user(request.path_params["user_id"]))))
        if pair[0] == pair[1]:
            raise HTTPException(422, "a direct message is to somebody else")
        channel = {
            "id": "direct:" + ":".join(pair),
            "name": "",
            "type": "direct",
            "description": "",
            "created_by": user,
        }
        return await self.add_channel(channel, pair, user)

    async def add_channel(self, channel: Row, members: tuple[str, ...], user: str) -> Response:
        try:
            joined = await self.database.create_channel(channel, members)
        except Taken:
            raise HTTPException(409, "another channel has that id") from None
        made = await self.seen(channel["id"], user)
        event = ChannelCreated(made["id"], made["name"], made["type"], made["created_by"])
        others = [member for member in joined if member["user_id"] != made["created_by"]]
        await self.live.publish_all([Post(event, to=Channel(made["id"]), id=made["id"]), *map(_joined, others)])
        return JSONResponse(made, 201)

    async def update_channel(self, request: Request, user: str, body: Body) -> Response:
        channel = await self.seen(request.path_params["channel_id"], user)
        if channel["type"] == "direct":
            raise HTTPException(422, "a direct message has the names of its members")
        name = text(body, "name", most=40).strip() if "name" in body else None
        description = text(body, "description", most=200, least=0) if "description" in body else None
        if name is None and description is None:
            raise HTTPException(422, "name or description: expected one of them")
        await self.database.update_channel(channel["id"], name, description)
        await self.live.publish(ChannelUpdated(channel["id"], name, description), to=Channel(channel["id"]))
        return Response(status_code=NOTHING)

    async def invite(self, request: Request, user: str, body: Body) -> Response:
        channel = await self.seen(request.path_params["channel_id"], user)
        guest = await self.known_user(request.path_params["user_id"])
        if channel["type"] != "private":
            raise HTTPException(422, "only a private channel has members to choose")
        await self.live.publish_all([_joined(await self.database.join(channel["id"], guest))])
        return Response(status_code=NOTHING)

    async def leave(self, request: Request, user: str, body: Body) -> Response:
        channel = await self.seen(request.path_params["channel_id"], user)
        who = request.path_params["user_id"]
        if channel["type"] != "private":
            raise HTTPException(422, "only a private channel can be left")
        if user not in (who, channel["created_by"]):
            raise HTTPException(403, "only who made the channel may send others away")
        if (member := await self.database.leave(channel["id"], who)) is not None:
            await self.live.publish(MemberLeft(channel["id"], who), id=f"{member['id']}.left")
        return Response(status_code=NOTHING)


def _joined(member: Row) -> Post:
    return Post(MemberJoined(member["channel_id"], member["user_id"]), id=member["id"])


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""
