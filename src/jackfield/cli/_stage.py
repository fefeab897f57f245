"""What the demo plays on: a real server in a process of its own, real WebSockets, and a record of all that arrives."""

from __future__ import annotations

import difflib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jackfield._environ import plugin_from
from jackfield._redact import clean
from jackfield.cli._token import make

if TYPE_CHECKING:
    from anyio.abc import Process, TaskGroup

__all__ = ["Actor", "Differs", "Server", "Stage", "closed", "event", "served"]

PATIENCE = 5.0
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
VARYING = {"connection_id", "expires_at", "retry_after_ms"}
"""What is another value each time: it only has to be there."""

COLOURS = {"alice": 36, "bob": 32, "carol": 35, "host": 33}
SOMEBODY = 31


class Differs(Exception):
    """Something else came than what should have, or nothing."""


class Actor:
    """A client: what it is sent is printed as it arrives, and kept."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.name = name
        self.arrived: list[str] = []
        self.expected: list[str] = []
        self._stage = stage
        self._socket: ClientConnection | None = None
        self._news = anyio.Event()

    @property
    def gone(self) -> bool:
        """Whether the connection has had its end, as it should."""
        return self.expected[-1:] != [] and self.expected[-1].startswith(("closed", "HTTP"))

    async def say(self, **event: object) -> None:
        """Send an event."""
        await self.send(json.dumps(event))

    async def send(self, text: str) -> None:
        """Send what may be no event at all."""
        assert self._socket is not None
        self._stage.show(self.name, "->", text)
        await self._socket.send(text)

    async def leave(self) -> None:
        """Close the connection."""
        assert self._socket is not None
        self._stage.show(self.name, "->", "closes")
        await self._socket.close()

    async def hears(self, *expected: str) -> None:
        """This comes next, and nothing before it. What should not come at all shows at the end."""
        self.expected += expected
        with anyio.move_on_after(PATIENCE):
            while len(self.arrived) < len(self.expected):
                self._news = anyio.Event()
                await self._news.wait()
        if self.arrived[: len(self.expected)] != self.expected:
            raise Differs(self.name)

    def take(self, line: str) -> None:
        """Keep it."""
        self.arrived.append(line)
        self._news.set()

    async def listen(self, socket: ClientConnection) -> None:
        """Until the connection ends, and why."""
        self._socket = socket
        try:
            while True:
                text = await socket.recv(decode=True)
                self._stage.show(self.name, "<-", text)
                self.take(normal(json.loads(text)))
        except ConnectionClosed:
            code, reason = socket.close_code or 1006, socket.close_reason or ""
            self._stage.show(self.name, "<-", f"closed {code} {reason}".rstrip())
            self.take(closed(code))


class Stage:
    """A server, and who came to it."""

    def __init__(self, server: Server, tasks: TaskGroup) -> None:
        self.actors: list[Actor] = []
        self._server = server
        self._tasks = tasks
        self._auth = plugin_from(server.environ, "token")
        self._began = time.monotonic()
        self._tty = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine

    def title(self, text: str) -> None:
        """What follows."""
        print(f"\n{text}", flush=True)

    def show(self, who: str, arrow: str, what: str) -> None:
        """One line: when, who, which way, what."""
        what = clean(what)
        if len(what) > 200:
            what = f"{what[:120]}… ({len(what)} characters)"
        colour = COLOURS.get(who.partition(" ")[0], SOMEBODY)
        name = f"\033[{colour}m{who:<8}\033[0m" if self._tty else f"{who:<8}"
        print(f"{time.monotonic() - self._began:6.2f}  {name} {arrow} {what}", flush=True)

    def token(self, user: str, *workspaces: str) -> str:
        """As `jackfield token` prints it."""
        return make(self._auth, user, workspaces, 600)

    async def enter(self, name: str, workspace: str, token: str, *, origin: str | None = None) -> Actor:
        """Somebody connects, or tries to."""
        actor = Actor(self, name)
        self.actors.append(actor)
        self.show(name, "->", f"connects to /ws/{workspace}" + (f" from a page of {origin}" if origin else ""))
        address = f"{self._server.url.replace('http', 'ws', 1)}/ws/{workspace}?token={token}"
        try:
            headers = {"Origin": origin} if origin else {}
            socket = await connect(address, proxy=None, compression=None, additional_headers=headers)
        except InvalidStatus as refused:
            self.show(name, "<-", f"HTTP {refused.response.status_code}")
            actor.take(f"HTTP {refused.response.status_code}")
        else:
            self._tasks.start_soon(actor.listen, socket)
        return actor

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The host's own server calls the HTTP API: status and JSON."""
        request = urllib.request.Request(
            self._server.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._server.environ['JACKFIELD_API_KEY']}"},
            method=method,
        )
        text = "" if body is None else " " + json.dumps(body, ensure_ascii=False)
        self.show("host", "->", f"{method} {path}{text}")

        def answer() -> tuple[int, bytes]:
            try:
                with self._http.open(request, timeout=PATIENCE) as response:
                    return response.status, response.read()
            except urllib.error.HTTPError as refused:
                with refused:
                    return refused.code, refused.read()

        status, raw = await anyio.to_thread.run_sync(answer)
        self.show("host", "<-", f"{status} {raw.decode()}")
        return status, json.loads(raw)

    async def publish(self, workspace: str, type: str, /, **data: object) -> bool:
        """One event; whether it was published, and did not merely repeat what is so already."""
        body = {"type": type, "data": data}
        status, answer = await self.call("POST", f"/api/workspaces/{workspace}/events", body)
        if status != 202:
            raise Differs(f"host: {status} instead of 202")
        return bool(answer["events"][0]["published"])

    async def hear_the_end(self) -> None:
        """Those who are still connected when the server has ended."""
        for actor in self.actors:
            if not actor.gone:
                await actor.hears(closed(1012))

    def difference(self) -> list[str]:
        """What came and what should have, where they are not the same: nothing, if all is well."""
        return [
            line
            for actor in self.actors
            if actor.arrived != actor.expected
            for line in difflib.unified_diff(
                actor.expected, actor.arrived, f"{actor.name}: expected", f"{actor.name}: arrived", lineterm="", n=1
            )
        ]


def event(type: str, workspace: str | None = None, /, **data: object) -> str:
    """A frame as it should arrive; without a workspace it is one about the connection."""
    frame: dict[str, object] = {"type": type, "data": data}
    if workspace is not None:
        frame["workspace_id"] = workspace
    return normal({**frame, "timestamp": "2024-01-01T12:00:00.000Z"})


def closed(*codes: int) -> str:
    """The end of a connection. A server that ends says 1012, or 4001 where it drains: both are "come again"."""
    return "closed: the server ends" if {1012, 4001} & set(codes) else f"closed {codes[0]}"


def normal(frame: dict[str, Any]) -> str:
    """A frame without what is another value each time; the order of its keys is kept, and so compared."""
    data = {key: "…" if key in VARYING else value for key, value in frame.get("data", {}).items()}
    told = {**frame, "data": data} if "data" in frame else frame
    if isinstance(stamp := frame.get("timestamp"), str) and MOMENT.fullmatch(stamp):
        told = {**told, "timestamp": "…"}
    return json.dumps(told, ensure_ascii=False)


class Server:
    """`jackfield serve` in a process of its own; `environ` is what it was given."""

    def __init__(self, process: Process, url: str, environ: Mapping[str, str]) -> None:
        self.url = url
        self.environ = environ
        self._process = process

    async def end(self) -> None:
        """SIGTERM; it has to end well, and soon."""
        self._process.send_signal(signal.SIGTERM)
        code = None
        with anyio.move_on_after(2 * PATIENCE):
            code = await self._process.wait()
        if code != 0:
            raise Differs("the server did not end" if code is None else f"the server ended with {code}")


@asynccontextmanager
async def served(arguments: Sequence[str], settings: Mapping[str, object]) -> AsyncGenerator[Server]:
    """A server on a free port, with fresh secrets."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("JACKFIELD_")}
    environ |= {f"JACKFIELD_{name}": str(value) for name, value in settings.items()}
    environ |= {"JACKFIELD_SECRET": secrets.token_urlsafe(32), "JACKFIELD_API_KEY": secrets.token_urlsafe(32)}
    command = [sys.executable, "-m", "jackfield.cli", "serve", "--port=0", "--log-level=warning", *arguments]
    process = await anyio.open_process(command, stdout=subprocess.PIPE, stderr=None, env=environ)
    try:
        url = await _first_line(process)
        if not url.startswith("http"):
            raise Differs("the server did not start")
        yield Server(process, url, environ)
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def _first_line(process: Process) -> str:
    assert process.stdout is not None
    line = b""
    with anyio.move_on_after(4 * PATIENCE):
        async for some in process.stdout:
            line += some
            if line.endswith(b"\n"):
                break
    return line.decode().strip()
