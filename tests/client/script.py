"""A server that says what a test tells it to, line by line, without a socket; and a program that reads the client."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from jackfield.client import Client, Closed, Value, connect
from jackfield.client._ending import Ended, Ending
from jackfield.testing import FakeClock, settle

HELLO = {
    "connection_id": "k1",
    "user_id": "alice",
    "heartbeat_interval_ms": 30_000,
    "limits": {"max_event_bytes": 16_384},
    "state": {},
}
WHEN = "2024-01-01T12:00:00.000Z"


class Line:
    """One connection, seen from the server."""

    def __init__(self, token: str, resume: str) -> None:
        self.token = token
        self.resume = resume
        self.left = False
        """Whether the client has gone."""
        self.texts: list[str] = []
        self._asked_for = 0
        self._incoming: deque[str | Ending] = deque()
        self._news = anyio.Event()
        self._flows = anyio.Event()
        self._flows.set()

    # --- the client's end

    async def send(self, text: str) -> None:
        await self._flows.wait()
        if self._incoming and isinstance(self._incoming[0], Ending):
            raise Ended(self._incoming[0])
        self.texts.append(text)

    async def receive(self) -> str:
        while not self._incoming:
            self._news = anyio.Event()
            await self._news.wait()
        if isinstance(self._incoming[0], Ending):
            raise Ended(self._incoming[0])
        return self._incoming.popleft()

    # --- the test's

    async def put(self, *texts: str) -> None:
        self._incoming += texts
        self._news.set()
        await settle()

    async def say(self, type: str, data: Any = None, **more: Any) -> None:
        await self.put(frame(type, data, **more))

    async def hello(self, cursor: str | None = None, **data: Any) -> None:
        given = {} if cursor is None else {"cursor": cursor}
        await self.say("hello", {**HELLO, **given, **data})

    async def end(self, code: int | None = 1006, reason: str = "", **more: Any) -> None:
        self._incoming.append(Ending(code, reason, **more))
        self._news.set()
        await settle()

    def freeze(self) -> None:
        """Its buffers are full: nothing goes out."""
        self._flows = anyio.Event()

    def thaw(self) -> None:
        self._flows.set()

    async def heard(self) -> list[dict[str, Any]]:
        """What the client has said since this was last asked."""
        await settle()
        new, self._asked_for = self.texts[self._asked_for :], len(self.texts)
        return [json.loads(text) for text in new]

    async def ack(self, event: dict[str, Any]) -> None:
        await self.say("ack", {"ref": event["ref"]})

    async def refuse(self, event: dict[str, Any], code: str, **data: Any) -> None:
        await self.say("error", {"message": "m", "code": code, "ref": event["ref"], **data})


def frame(type: str, data: Any = None, **more: Any) -> str:
    fields = {} if data is None else {"data": data}
    return json.dumps({"type": type, **fields, "workspace_id": "w", "timestamp": WHEN, **more})


def message(number: int, user_id: str = "bob", channel_id: str = "c1") -> str:
    """A durable one; its cursor is its number."""
    data = {"id": f"m{number}", "channel_id": channel_id, "user_id": user_id, "content": "", "created_at": WHEN}
    return frame("message.new", data, cursor=f"{number}")


class Program:
    """A client on scripted lines, and all that it hears."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.client: Client
        self.lines: list[Line] = []
        self.plan: deque[Ending] = deque()
        """How the next attempts end before a line stands."""
        self.hangs = False
        """Whether the next attempts come to nothing, neither good nor bad."""
        self.heard: list[Value] = []
        self.closed: Closed | None = None
        self.over = False
        self.reading = True

    @asynccontextmanager
    async def dial(self, token: str, resume: str) -> AsyncGenerator[Line, None]:
        line = Line(token, resume)
        self.lines.append(line)
        try:
            if self.hangs:
                await anyio.sleep_forever()
            if self.plan:
                raise Ended(self.plan.popleft())
            yield line
        finally:
            line.left = True

    @property
    def line(self) -> Line:
        return self.lines[-1]

    async def read(self) -> None:
        try:
            async for value in self.client:
                self.heard.append(value)
        except Closed as closed:
            self.closed = closed
        self.over = True

    def news(self) -> list[Value]:
        """What it has heard since this was last asked."""
        new, self.heard = self.heard, []
        return new


@asynccontextmanager
async def program(*, reading: bool = True, chance: float = 1.0, **options: Any) -> AsyncGenerator[Program, None]:
    clock = options.pop("clock", None) or FakeClock()
    made = Program(clock)
    options.setdefault("token", "t1")
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            async with connect(
                "ws://script/ws/w", dial=made.dial, clock=clock, random=lambda: chance, **options
            ) as made.client:
                if reading:
                    tasks.start_soon(made.read)
                await settle()
                yield made
        except Exception as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


@asynccontextmanager
async def opened(cursor: str | None = "0", **options: Any) -> AsyncGenerator[Program, None]:
    """The same, behind its first `hello`, which is heard."""
    async with program(**options) as made:
        await made.line.hello(cursor)
        made.news()
        yield made
