"""The example workspace in this process: its REST, what it tells jackfield, and who hears of it. No port, no page."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import anyio
import attrs
import httpx
import pytest
from starlette.applications import Starlette

from examples.workspace import database as tables
from examples.workspace.app import STATIC, chat
from examples.workspace.database import Database
from examples.workspace.seed import PEOPLE, seed
from jackfield import Refused, ServerEvent
from jackfield.client import Closed, Unknown, connect

Frame = dict[str, Any]
WITHIN = 10.0


class Person:
    """Somebody with a browser: his requests carry his token, and so does his socket."""

    def __init__(self, app: Starlette, stack: AsyncExitStack, name: str) -> None:
        self.name = name
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host")
        self.hello: Frame = {}
        self._app = app
        self._stack = stack

    async def sign_in(self) -> Person:
        answer = await self.http.post("/login", json={"name": self.name, "password": f"{self.name}-demo"})
        assert answer.status_code == 200, answer.text
        self.http.headers["authorization"] = f"Bearer {answer.json()['token']}"
        return self

    async def connect(self, workspace: str = "acme") -> Person:
        """Until the first frame is there: `hello`, or what it was refused with."""
        bearer = self.http.headers["authorization"].removeprefix("Bearer ")
        self.client = await self._stack.enter_async_context(connect(f"/ws/{workspace}", app=self._app, token=bearer))
        self.hello = await self.next()
        return self

    async def next(self) -> Frame:
        with anyio.fail_after(WITHIN):
            try:
                value = await anext(self.client)
            except Closed as closed:
                return {"type": "close", "data": {"code": closed.code}}
        match value:
            case Unknown(type=type, data=data):
                return {"type": type, "data": data}
            case Refused(code=code):
                return {"type": "error", "data": {"code": code}}
            case _:
                assert isinstance(value, ServerEvent), value
                said = attrs.asdict(value, filter=lambda _, field: field is not None)  # as on the wire
                return {"type": value.__event__.type, "data": said}

    async def hears(self, *types: str) -> list[Frame]:
        """Exactly these come next; how somebody comes and goes is not looked at."""
        frames: list[Frame] = []
        while len(frames) < len(types):
            frame = await self.next()
            if frame["type"] != "presence.updated":
                frames.append(frame["data"])
                assert frame["type"] == types[len(frames) - 1], frame
        return frames

    async def hears_nothing(self) -> None:
        """What is said to everybody now is the next that comes: nothing came before it."""
        mark = await self.say("general", "is there anything before this?")
        (frame,) = await self.hears("message.new")
        assert frame["id"] == mark

    async def say(self, channel: str, content: str, parent: str | None = None, id: str | None = None) -> str:
        body = {"id": id or str(uuid4()), "content": content, **({"parent_message_id": parent} if parent else {})}
        answer = await self.http.post(f"/channels/{channel}/messages", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def state(self) -> dict[str, Frame]:
        channels = (await self.http.get("/state")).json()["channels"]
        return {channel["id"]: channel for channel in channels}


class Town:
    """The application, and who is in it."""

    def __init__(self, app: Starlette, database: Database, stack: AsyncExitStack) -> None:
        self.app = app
        self.database = database
        self._stack = stack

    async def person(self, name: str, *, connected: bool = True) -> Person:
        person = Person(self.app, self._stack, name)
        await self._stack.enter_async_context(person.http)
        await person.sign_in()
        return await person.connect() if connected else person


@asynccontextmanager
async def town(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Town]:
    """Seeded. Entered and left by the test itself."""
    # What a password costs is the point of it, and not that of these tests.
    monkeypatch.setattr(tables, "of_password", lambda password, salt: password.encode() + salt)
    database = Database()
    try:
        await seed(database)
        app = chat(database)
        async with app.router.lifespan_context(app), AsyncExitStack() as stack:
            yield Town(app, database, stack)
    finally:
        database.close()


# --- who comes in


async def test_a_password_and_a_link_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice")
        assert alice.hello["data"]["user_id"] == "alice"
        key = await acme.database.add_key("bob")
        answer = await alice.http.post("/login", json={"key": key})
        assert answer.json()["user_id"] == "bob"
        for wrong in (
            {"key": key[:-1]},
            {"name": "alice", "password": "bob-demo"},
            {"name": "nobody", "password": "alice-demo"},
        ):
            assert (await alice.http.post("/login", json=wrong)).status_code == 401
        for malformed in ({}, {"name": "alice"}, {"key": 1}, {"name": ["alice"], "password": "alice-demo"}):
            assert (await alice.http.post("/login", json=malformed)).status_code == 422


async def test_nothing_but_the_page_and_the_login_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice", connected=False)
        paths = {(route.path, method) for route in acme.app.routes for method in getattr(route, "methods", None) or ()}
        closed = paths - {("/", "GET"), ("/", "HEAD"), ("/login", "POST")}
        assert len(closed) >= 16
        names = {"channel_id": "general", "message_id": "m", "user_id": "bob", "emoji": "👍"}
        for headers in ({"authorization": ""}, {"authorization": "Bearer nobodys"}):
            for path, method in closed:
                answer = await alice.http.request(method, path.format(**names), headers=headers)
                assert answer.status_code == 401, path


async def test_signing_out_ends_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice", connected=False)
        assert (await alice.http.post("/logout")).status_code == 204
        assert (await alice.http.get("/state")).status_code == 401
        await alice.connect()
        assert (alice.hello["data"]["code"], (await alice.next())["data"]["code"]) == ("INVALID_TOKEN", 4501)


async def test_a_session_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        monkeypatch.setattr(tables, "SESSION_LIFE", -1.0)
        alice = await acme.person("alice", connected=False)
        assert (await alice.http.get("/state")).status_code == 401


async def test_a_token_opens_no_other_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice", connected=False)
        await alice.connect("elsewhere")
        assert (alice.hello["data"]["code"], (await alice.next())["data"]["code"]) == ("UNAUTHORIZED", 4502)


async def test_the_database_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    database = Database()
    try:
        await database.add_user("alice", "Alice", "sesame")
        token, key = await database.open_session("alice"), await database.add_key("alice")
        dump = "\n".join(database._sql.iterdump())
        for secret in (token, key, "sesame"):
            assert secret not in dump
            assert secret.encode().hex() not in dump.lower()
        assert await database.user_of_password("alice", "sesame") == "alice"
        assert await database.user_of_password("alice", "Sesame") is None
    finally:
        database.close()


# --- messages


async def test_a_message_its_edit_and_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        id = await alice.say("general", "Grüße <b>an</b> alle")
        for person in (alice, bob):
            (new,) = await person.hears("message.new")
            assert (new["id"], new["user_id"], new["content"]) == (id, "alice", "Grüße <b>an</b> alle")

        assert (await bob.http.patch(f"/messages/{id}", json={"content": "mine"})).status_code == 403
        assert (await bob.http.delete(f"/messages/{id}")).status_code == 403
        assert (await alice.http.patch(f"/messages/{id}", json={"content": "Grüße"})).status_code == 204
        (updated,) = await bob.hears("message.updated")
        assert (updated["id"], updated["content"]) == (id, "Grüße")
        shown = (await bob.http.get("/channels/general/messages")).json()["messages"][-1]
        assert (shown["content"], shown["updated_at"]) == ("Grüße", updated["updated_at"])

        await bob.http.put(f"/messages/{id}/reactions/👍")
        await bob.hears("reaction.added")
        assert (await alice.http.delete(f"/messages/{id}")).status_code == 204
        (deleted,) = await bob.hears("message.deleted")
        shown = (await bob.http.get("/channels/general/messages")).json()["messages"][-1]
        assert (shown["content"], shown["reactions"], shown["deleted_at"]) == ("", [], deleted["deleted_at"])
        for answer in (
            await alice.http.patch(f"/messages/{id}", json={"content": "again"}),
            await alice.http.delete(f"/messages/{id}"),
            await bob.http.put(f"/messages/{id}/reactions/👍"),
        ):
            assert answer.status_code == 404
        await bob.hears_nothing()


async def test_sending_again_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        id = str(uuid4())
        for _ in range(3):
            assert await alice.say("general", "once", id=id) == id
        await bob.hears("message.new")
        shown = (await bob.http.get("/channels/general/messages")).json()["messages"]
        assert [message["id"] for message in shown].count(id) == 1
        body = {"id": id, "content": "somebody else's id"}
        assert (await bob.http.post("/channels/general/messages", json=body)).status_code == 409
        assert (await alice.http.post("/channels/design/messages", json=body)).status_code == 409
        await alice.http.delete(f"/messages/{id}")
        await alice.say("general", "once", id=id)  # it does not come back
        await bob.hears("message.deleted")
        await bob.hears_nothing()


async def test_many_at_once_come_in_the_order_in_which_they_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon((alice, bob)[number % 2].say, "general", str(number))
        heard = await bob.hears(*["message.new"] * 20)
        kept = (await bob.http.get("/channels/general/messages")).json()["messages"][-20:]
        assert [message["id"] for message in heard] == [message["id"] for message in kept]
        moments = [message["created_at"] for message in kept]
        assert moments == sorted(set(moments))


async def test_the_older_of_two_edits_is_never_the_last_that_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        id = await alice.say("general", "draft")
        first_is_saved, second_is_done = anyio.Event(), anyio.Event()
        edit = acme.database.edit_message

        async def dawdle(id: str, content: str) -> tables.Row:
            row = await edit(id, content)
            if content == "older":  # between saving and telling, somebody else has all the time that he wants
                first_is_saved.set()
                with anyio.move_on_after(0.2):
                    await second_is_done.wait()
            return row

        monkeypatch.setattr(acme.database, "edit_message", dawdle)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(alice.http.patch, f"/messages/{id}", json={"content": "older"}))
            await first_is_saved.wait()
            await alice.http.patch(f"/messages/{id}", json={"content": "newer"})
            second_is_done.set()
        heard = await bob.hears("message.new", "message.updated", "message.updated")
        assert [event["content"] for event in heard] == ["draft", "older", "newer"]


async def test_a_reaction_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        id = await alice.say("general", "ship it")
        await bob.hears("message.new")
        for _ in range(2):
            assert (await bob.http.put(f"/messages/{id}/reactions/🎉")).status_code == 204
        (added,) = await bob.hears("reaction.added")
        assert added == {"message_id": id, "emoji": "🎉", "user_id": "bob"}
        shown = (await alice.http.get("/channels/general/messages")).json()["messages"][-1]
        assert shown["reactions"] == [{"emoji": "🎉", "user_id": "bob"}]
        for _ in range(2):
            assert (await bob.http.delete(f"/messages/{id}/reactions/🎉")).status_code == 204
        await bob.hears("reaction.removed")
        assert (await bob.http.put(f"/messages/{id}/reactions/X")).status_code == 422
        await bob.hears_nothing()


async def test_a_thread_is_counted_also_below_a_message_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        seeded = (await alice.http.get("/channels/general/messages")).json()["messages"]
        (parent,) = [message for message in seeded if message["reply_count"]]
        assert parent["reply_count"] == 3
        reply = await alice.say("general", "one more", parent["id"])
        new, updated = await bob.hears("message.new", "thread.updated")
        assert new["parent_message_id"] == parent["id"]
        assert updated == {"parent_message_id": parent["id"], "reply_count": 4, "last_reply_at": new["created_at"]}
        thread = (await bob.http.get(f"/messages/{parent['id']}/thread")).json()
        assert thread["parent"]["reply_count"] == 4
        assert [message["id"] for message in thread["messages"]][-1] == reply
        shown = (await bob.http.get("/channels/general/messages")).json()["messages"]
        assert reply not in {message["id"] for message in shown}

        await alice.http.delete(f"/messages/{reply}")
        _, updated = await bob.hears("message.deleted", "thread.updated")
        assert updated["reply_count"] == 3
        for wrong in (
            reply,
            "nothing",
            (await alice.http.get("/channels/design/messages")).json()["messages"][0]["id"],
        ):
            body = {"id": str(uuid4()), "content": "?", "parent_message_id": wrong}
            assert (await alice.http.post("/channels/general/messages", json=body)).status_code == 422


async def test_what_follows_a_reply_has_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        parent = await alice.say("general", "Where?")
        await bob.hears("message.new")
        bob.client.typing("general")
        await alice.hears("message.new", "typing.start")
        await bob.say("general", "Here", parent)
        # What a plugin says of a message stands directly behind it; the count is the application's own, and comes next.
        await alice.hears("message.new", "typing.stop", "thread.updated")


async def test_pages_go_back_to_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice", connected=False)
        written = [await alice.say("lunch", str(number)) for number in range(120)]
        pages, before = [], ""
        while True:
            page = (await alice.http.get(f"/channels/lunch/messages{before}")).json()
            pages.append([message["id"] for message in page["messages"]])
            if not page["more"]:
                break
            before = f"?before={pages[-1][0]}"
        assert [len(page) for page in pages] == [50, 50, 22]
        assert [id for page in reversed(pages) for id in page][2:] == written


async def test_read_in_one_tab_is_read_in_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, other_tab, bob = await acme.person("alice"), await acme.person("alice"), await acme.person("bob")
        assert len((await alice.state())["lunch"]["unread"]) == 2
        id = await bob.say("lunch", "Noodles it is")
        for person in (alice, other_tab, bob):
            await person.hears("message.new")
        assert len((await alice.state())["lunch"]["unread"]) == 3
        assert (await alice.http.post("/channels/lunch/read", json={"message_id": id})).status_code == 204
        for tab in (alice, other_tab):
            (read,) = await tab.hears("channel.read")
            assert read["channel_id"] == "lunch"
        after = (await alice.state())["lunch"]
        assert (after["unread"], after["read_at"]) == ([], read["read_at"])
        older = (await alice.http.get("/channels/lunch/messages")).json()["messages"][0]["id"]
        await alice.http.post("/channels/lunch/read", json={"message_id": older})
        assert (await alice.hears("channel.read"))[0] == read  # never less than before
        newer = await bob.say("lunch", "Or soup?")
        await alice.say("lunch", "Soup!")
        assert [message["id"] for message in (await alice.state())["lunch"]["unread"]] == [newer]  # one's own is read
        await alice.http.post("/channels/lunch/read", json={"message_id": newer})
        *_, moved = await alice.hears("message.new", "message.new", "channel.read")
        assert moved["read_at"] > read["read_at"]
        assert (await alice.state())["lunch"]["unread"] == []
        await bob.hears("message.new", "message.new")
        await bob.hears_nothing()
        assert (await alice.http.post("/channels/general/read", json={"message_id": id})).status_code == 422


# --- channels


async def test_a_channel_for_everyone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        id = str(uuid4())
        for _ in range(2):
            answer = await alice.http.post("/channels", json={"id": id, "name": " plans ", "type": "public"})
            assert (answer.status_code, answer.json()["name"]) == (201, "plans")
        (created,) = await bob.hears("channel.created")
        assert created == {"id": id, "name": "plans", "type": "public", "created_by": "alice"}
        taken = {"id": id, "name": "mine", "type": "public"}
        assert (await bob.http.post("/channels", json=taken)).status_code == 409
        await bob.say(id, "first!")
        await alice.hears("channel.created", "message.new")
        await bob.hears("message.new")
        assert (await bob.http.patch(f"/channels/{id}", json={"description": "What next"})).status_code == 204
        assert (await alice.hears("channel.updated")) == [{"id": id, "description": "What next"}]
        assert (await alice.http.put(f"/channels/{id}/members/bob")).status_code == 422
        assert (await alice.http.patch(f"/channels/{id}", json={})).status_code == 422


async def test_a_private_channel_from_invitation_to_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice"), await acme.person("bob")
        id = str(uuid4())
        assert (
            await alice.http.post("/channels", json={"id": id, "name": "board", "type": "private"})
        ).status_code == 201
        first = await alice.say(id, "only me")
        await alice.hears("channel.created", "message.new")
        await bob.hears_nothing()
        await alice.hears("message.new")

        for _ in range(2):
            assert (await alice.http.put(f"/channels/{id}/members/bob")).status_code == 204
        for person in (alice, bob):
            assert await person.hears("member.joined") == [{"channel_id": id, "user_id": "bob"}]
        board = (await bob.http.get(f"/channels/{id}")).json()
        assert (board["members"], board["unread"]) == (["alice", "bob"], [])  # what was there is not new
        assert [m["id"] for m in (await bob.http.get(f"/channels/{id}/messages")).json()["messages"]] == [first]
        await alice.say(id, "now you, too")
        await bob.hears("message.new")

        assert (await bob.http.delete(f"/channels/{id}/members/alice")).status_code == 403
        assert (await bob.http.delete(f"/channels/{id}/members/bob")).status_code == 204
        assert await bob.hears("member.left") == [{"channel_id": id, "user_id": "bob"}]
        await alice.say(id, "he is gone")
        await bob.hears_nothing()
        # Invited once more he sees it once more; and who made it may send him away.
        await alice.http.put(f"/channels/{id}/members/bob")
        await bob.hears("member.joined")
        assert (await alice.http.delete(f"/channels/{id}/members/bob")).status_code == 204
        await bob.hears("member.left")
        assert id not in await bob.state()


async def test_who_is_no_member_learns_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even whether it exists: the same answer for what does and what does not."""
    async with town(monkeypatch) as acme:
        alice, bob = await acme.person("alice", connected=False), await acme.person("bob", connected=False)
        assert "launch-party" not in await bob.state()
        secret = (await alice.http.get("/channels/launch-party/messages")).json()["messages"][0]["id"]
        body = {"id": str(uuid4()), "content": "?"}
        asked = [
            ("GET", "/channels/{channel}", None),
            ("PATCH", "/channels/{channel}", {"name": "mine"}),
            ("GET", "/channels/{channel}/messages", None),
            ("POST", "/channels/{channel}/messages", body),
            ("POST", "/channels/{channel}/read", {"message_id": secret}),
            ("PUT", "/channels/{channel}/members/bob", None),
            ("DELETE", "/channels/{channel}/members/bob", None),
            ("DELETE", "/channels/{channel}/members/alice", None),
            ("GET", "/messages/{message}/thread", None),
            ("PATCH", "/messages/{message}", {"content": "?"}),
            ("DELETE", "/messages/{message}", None),
            ("PUT", "/messages/{message}/reactions/👍", None),
            ("DELETE", "/messages/{message}/reactions/👍", None),
        ]
        for method, path, sent in asked:
            there, nowhere = [
                await bob.http.request(method, path.format(channel=channel, message=message), json=sent)
                for channel, message in (("launch-party", secret), ("no-such", "no-such"))
            ]
            assert (there.status_code, there.content) == (404, nowhere.content), path
        reply = {**body, "parent_message_id": secret}
        assert (await bob.http.post("/channels/general/messages", json=reply)).status_code == 422
        assert (await bob.http.post("/channels/general/read", json={"message_id": secret})).status_code == 422


async def test_a_direct_message_is_between_two(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice, bob, carol = [await acme.person(name) for name in PEOPLE]
        made = (await alice.http.put("/direct/bob")).json()
        again = (await bob.http.put("/direct/alice")).json()
        assert made["id"] == again["id"] == "direct:alice:bob"
        assert made["members"] == ["alice", "bob"]
        (created, joined) = await alice.hears("channel.created", "member.joined")
        assert (created["type"], created["created_by"]) == ("direct", "alice")
        assert await bob.hears("member.joined") == [joined] == [{"channel_id": made["id"], "user_id": "bob"}]
        await bob.say(made["id"], "psst")
        await alice.hears("message.new")
        await carol.hears_nothing()
        for method, path in (("PUT", "members/carol"), ("DELETE", "members/alice"), ("PATCH", "")):
            answer = await alice.http.request(method, f"/channels/{made['id']}/{path}".rstrip("/"), json={"name": "x"})
            assert answer.status_code == 422
        assert (await alice.http.put("/direct/alice")).status_code == 422
        assert (await alice.http.put("/direct/nobody")).status_code == 404


# --- what is wrong


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (400, b"{"),
        (400, b"[]"),
        (400, b"\xff"),
        (413, b'"' + b"x" * 70_000 + b'"'),
        (422, b"{}"),
        (422, b'{"id": "x y", "content": "."}'),
        (422, b'{"id": 1, "content": "."}'),
        (422, b'{"id": "x"}'),
        (422, b'{"id": "x", "content": ["."]}'),
        (422, b'{"id": "x", "content": " \\n "}'),
        (422, b'{"id": "x", "content": "\\ud800"}'),
        (422, b'{"id": "x", "content": "' + b"x" * 4001 + b'"}'),
        (422, b'{"id": "x", "content": ".", "parent_message_id": null}'),
    ],
)
async def test_a_bad_body_is_refused_and_says_why(monkeypatch: pytest.MonkeyPatch, status: int, content: bytes) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice", connected=False)
        answer = await alice.http.post("/channels/general/messages", content=content)
        assert answer.status_code == status
        assert answer.json()["error"]


async def test_a_file_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    path = str(tmp_path / "chat.db")
    monkeypatch.setattr(tables, "of_password", lambda password, salt: password.encode() + salt)
    for _ in range(2):
        database = Database(path)
        await seed(database)
        assert [user["id"] for user in await database.users()] == ["alice", "bob", "carol"]
        if not await database.messages("general", None, 1):
            pytest.fail("the second start found nothing")
        database.close()


def test_nothing_that_somebody_wrote_becomes_html() -> None:
    scripts = sorted(STATIC.glob("*.js"))
    assert len(scripts) > 8
    for script in scripts:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(", script.read_text()
        )


async def test_the_page_is_served_with_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(monkeypatch) as acme:
        alice = await acme.person("alice", connected=False)
        for path, kind in (
            ("/", "text/html"),
            ("/static/page.js", "javascript"),
            ("/static/style.css", "text/css"),
            ("/jackfield.js", "javascript"),
        ):
            answer = await alice.http.get(path)
            assert answer.status_code == 200, path
            assert kind in answer.headers["content-type"]
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        page = (await alice.http.get("/")).text
        assert "style=" not in page
        assert "onclick" not in page
