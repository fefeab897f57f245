"""Plays the Python client by commands on standard input, and writes down on standard output what it heard.

A line of JSON each; `drive.mjs` beside it does the same with the browser's. `python drive.py asyncio|trio`
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from jackfield import Refused
from jackfield.client import BufferFull, Client, Closed, Disconnected, Unknown, connect
from jackfield.events import Hello


def say(**entry: object) -> None:
    print(json.dumps(entry), flush=True)


class Driver:
    """One client, and what it is told to do."""

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.client: Client
        self.asked = 0

    async def connect(self, url: str, tokens: list[str], options: Mapping[str, Any]) -> None:
        def token() -> str:
            self.asked += 1
            say(log="token", n=self.asked)
            return tokens[min(self.asked, len(tokens)) - 1]

        ready = anyio.Event()
        self.tasks.start_soon(self._live, url, token, options, ready)
        await ready.wait()

    async def _live(self, url: str, token: Any, options: Mapping[str, Any], ready: anyio.Event) -> None:
        async with connect(url, token=token, **options) as self.client:
            ready.set()
            try:
                async for value in self.client:
                    self._heard(value)
                say(log="status", state="closed", code=1000)
            except Closed as closed:
                say(log="status", state="closed", code=closed.code)

    def _heard(self, value: object) -> None:
        match value:
            case Hello():
                say(log="status", state="open")
                if not value.recovered:
                    say(log="sync", reason=(value.resume or {}).get("reason"))
            case Disconnected(code=code):
                say(log="status", state="waiting", code=code)
            case Refused(code=code):
                say(log="event", type="error", data={"code": code})
            case Unknown(type=type, data=data):
                say(log="event", type=type, data=data)
            case _:
                assert self.client is not None
                say(log="event", type=type_of(value), data=fields_of(value))

    async def request(self, name: str, type: str, data: Mapping[str, Any]) -> None:
        self.tasks.start_soon(self._request, name, {"type": type, **data})

    async def _request(self, name: str, event: Mapping[str, Any]) -> None:
        try:
            await self.client.request(event)
        except Refused as refused:
            say(log="refused", name=name, code=refused.code)
        except BufferFull:
            say(log="refused", name=name, code="BUFFER_FULL")
        except Closed:
            say(log="refused", name=name, code="CLOSED")
        else:
            say(log="acked", name=name)

    async def typing(self, channel_id: str, is_typing: bool) -> None:
        self.client.typing(channel_id, is_typing)

    async def cursor(self) -> None:
        say(log="cursor", cursor=self.client.cursor)

    async def close(self) -> None:
        self.client.close()


def type_of(event: Any) -> str:
    type: str = event.__event__.type
    return type


def fields_of(event: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(event).items() if value is not None}


async def main() -> None:
    async with anyio.create_task_group() as tasks:
        driver = Driver(tasks)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True):
            command = json.loads(line)
            await getattr(driver, command.pop("do"))(**command)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[1])
