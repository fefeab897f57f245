"""The applications of examples/, in this process: their handlers, their logins, their sockets, no port."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import reload
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from examples import fastapi_app, starlette_app, trio_server
from jackfield.testing import UVICORN, bench, settle
from jackfield.testing._transport import Transport

if TYPE_CHECKING:
    from anyio.abc import TaskGroup
    from starlette.applications import Starlette

Frame = dict[str, Any]


class Socket:
    """A WebSocket to an application."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._read = 0

    async def frames(self) -> list[Frame]:
        """What has come since they were last asked for."""
        await settle()
        sent = self.transport.sent[self._read :]
        self._read += len(sent)
        return [json.loads(message["text"]) for message in sent if message["type"] == "websocket.send"]

    async def say(self, **event: object) -> None:
        self.transport.put({"type": "websocket.receive", "text": json.dumps(event)})

    @property
    def code(self) -> int:
        """What it was closed with."""
        return int(self.transport.sent[-1]["code"])


class Browser:
    """One that keeps cookies."""

    def __init__(self, app: Starlette, tasks: TaskGroup) -> None:
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://host")
        self._app = app
        self._tasks = tasks

    async def connect(self, path: str, *, origin: str = "http://host") -> Socket:
        transport = Transport(UVICORN)
        url = httpx.URL(path)
        headers = {"host": "host", "origin": origin}
        if self.http.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": url.path,
            "raw_path": url.raw_path,
            "root_path": "",
            "query_string": url.query,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": [],
            "client": None,
            "server": ("host", 80),
            "extensions": {"websocket.http.response": {}},
        }
        self._tasks.start_soon(self._app, scope, transport.receive, transport.send)
        await settle()
        return Socket(transport)

    async def post(self, path: str, body: object, token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.http.post(path, json=body, headers=headers)


@asynccontextmanager
async def started(app: Starlette) -> AsyncGenerator[TaskGroup]:
    """Entered and left by the test itself."""
    async with anyio.create_task_group() as tasks:
        async with app.router.lifespan_context(app):
            yield tasks
        tasks.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def fresh() -> None:
    """What one test has written, the next does not find."""
    for module in starlette_app, fastapi_app:
        reload(module)


async def test_starlette_logs_in_by_its_cookie_and_sees_what_its_database_says() -> None:
    async with started(starlette_app.app) as tasks:
        alice, bob = (Browser(starlette_app.app, tasks) for _ in range(2))
        assert (await alice.post("/channels/general/messages", {"content": "?"})).status_code == 401
        for browser, name in (alice, "alice"), (bob, "bob"):
            assert (await browser.post("/login", {"user_id": name})).status_code == 204
        hers, his = await alice.connect("/ws/acme"), await bob.connect("/ws/acme")
        assert (await hers.frames())[0]["type"] == "hello"
        (hello,) = await his.frames()
        assert {user["user_id"] for user in hello["data"]["state"]["presence"]} == {"alice", "bob"}

        answer = await alice.post("/channels/general/messages", {"content": "Grüße"})
        assert answer.status_code == 201
        for socket in hers, his:
            (frame,) = await socket.frames()
            assert frame["type"] == "message.new"
            assert frame["data"]["id"] == answer.json()["id"]
            assert frame["data"]["content"] == "Grüße"

        assert (await bob.post("/channels/board/messages", {"content": "?"})).status_code == 404
        await alice.post("/channels/board/messages", {"content": "in private"})
        assert len(await hers.frames()) == 1
        assert await his.frames() == []
        assert (await alice.post("/channels/board/members", {"user_id": "bob"})).status_code == 204
        await alice.post("/channels/board/messages", {"content": "now with bob"})
        assert [frame["type"] for frame in await his.frames()] == ["member.joined", "message.new"]


async def test_starlette_refuses_who_has_no_cookie_or_comes_from_elsewhere() -> None:
    async with started(starlette_app.app) as tasks:
        nobody = Browser(starlette_app.app, tasks)
        socket = await nobody.connect("/ws/acme")
        (error,) = await socket.frames()
        assert (error["data"]["code"], socket.code) == ("INVALID_TOKEN", 4501)
        await nobody.post("/login", {"user_id": "alice"})
        socket = await nobody.connect("/ws/elsewhere")
        (error,) = await socket.frames()
        assert (error["data"]["code"], socket.code) == ("UNAUTHORIZED", 4502)
        socket = await nobody.connect("/ws/acme", origin="http://evil.example")
        assert socket.transport.sent[0]["status"] == 403


async def test_fastapi_from_a_channel_to_a_thread() -> None:
    alice, bob = "token-of-alice", "token-of-bob"
    async with started(fastapi_app.app) as tasks:
        browser = Browser(fastapi_app.app, tasks)
        hers = await browser.connect(f"/ws/acme?token={alice}")
        his = await browser.connect(f"/ws/acme?token={bob}")
        await hers.frames(), await his.frames()

        answer = await browser.post("/workspaces/acme/channels", {"name": "board", "type": "private"}, alice)
        assert answer.status_code == 201
        channel = f"/workspaces/acme/channels/{answer.json()}"
        assert [frame["type"] for frame in await hers.frames()] == ["channel.created"]
        assert (await browser.post(f"{channel}/messages", {"content": "?"}, bob)).status_code == 404
        assert (await browser.post(f"{channel}/members", {"user_id": "bob"}, alice)).status_code == 204
        assert [frame["type"] for frame in await his.frames()] == ["member.joined"]

        await his.say(type="typing", channel_id=answer.json(), is_typing=True)
        await hers.frames()
        parent = (await browser.post(f"{channel}/messages", {"content": "first"}, bob)).json()
        assert [frame["type"] for frame in await hers.frames()] == ["message.new", "typing.stop"]
        await browser.post(f"{channel}/messages", {"content": "second", "parent_message_id": parent}, alice)
        assert [frame["type"] for frame in await hers.frames()] == ["message.new", "thread.updated"]

        edit = f"/workspaces/acme/messages/{parent}"
        headers = {"authorization": f"Bearer {bob}"}
        assert (await browser.http.put(edit, json={"content": "1st"}, headers=headers)).status_code == 204
        assert (await hers.frames())[0]["data"]["content"] == "1st"


async def test_fastapi_lets_in_by_token_and_throws_out() -> None:
    async with started(fastapi_app.app) as tasks:
        browser = Browser(fastapi_app.app, tasks)
        for query, code in ("?token=nobodys", 4501), ("", 4501), ("?token=token-of-carol", 4502):
            assert (await browser.connect(f"/ws/acme{query}")).code == code
        assert (await browser.post("/workspaces/acme/channels", {"name": "x"}, "token-of-carol")).status_code == 404
        assert (await browser.post("/workspaces/acme/channels", {"name": "x"}, "nobodys")).status_code == 401
        his = await browser.connect("/ws/acme?token=token-of-bob")
        path, alice, bob = "/workspaces/acme/members/bob", "token-of-alice", "token-of-bob"
        assert (await browser.http.delete(path, headers={"authorization": f"Bearer {bob}"})).status_code == 403
        assert (await browser.http.delete(path, headers={"authorization": f"Bearer {alice}"})).status_code == 204
        await settle()
        assert his.code == 4503
        assert (await browser.connect("/ws/acme?token=token-of-bob")).code == 4502


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_has_a_pulse() -> None:
    async with bench(trio_server.Pulses, trio_server.OpenWorkspace) as b:
        guest = await b.connect(workspace="ops")
        await b.clock.advance(1)
        pulse = await guest.receive(trio_server.Pulse)
        assert pulse.tasks > 5
