"""What the tests of the plugins say over and over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from jackfield import Jackfield
from jackfield.events import ChannelCreated, MessageNew, ServerEvent
from jackfield.testing import Bench, Client

NOON = "2024-01-01T12:00:00.000Z"
KEY = "the-key-of-the-tests"
EVENTS = "/api/workspaces/w/events"


def public(id: str = "c1", by: str = "alice") -> ChannelCreated:
    return ChannelCreated(id, "general", "public", by)


def private(id: str = "c1", by: str = "alice") -> ChannelCreated:
    return ChannelCreated(id, "secret", "private", by)


def message(
    id: str = "m1", channel: str = "c1", user: str = "alice", *, parent: str | None = None, at: str = NOON
) -> MessageNew:
    return MessageNew(id, channel, user, f"text of {id}", at, parent_message_id=parent)


async def heard(*clients: Client) -> list[list[ServerEvent]]:
    """What each of them, all still connected, has been sent since it was last asked."""
    said = [await client.pending() for client in clients]
    for client in clients:
        assert not client.transport.ended, await client.closed()
    return said


@asynccontextmanager
async def http(app: Jackfield, key: str | None = KEY) -> AsyncIterator[httpx.AsyncClient]:
    """The application's HTTP side, called in this process."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://bench", headers=headers) as client:
        yield client


def wire(event: ServerEvent, **beside: Any) -> dict[str, Any]:
    """An event as a publisher posts it."""
    data = {name: value for name, value in vars(event).items() if value is not None}
    return {"type": event.__event__.type, "data": data, **beside}


async def ends(b: Bench, table: str, workspace: str = "w") -> Mapping[str, bytes]:
    """What the engine holds in a table in the end."""
    return (await b.engine.read(workspace, tables=(table,))).tables[table]


async def tables(b: Bench, prefix: str, workspace: str = "w") -> dict[str, dict[str, bytes]]:
    """Every table of the memory engine that begins so and holds something: what is left when all is over."""
    log = b.engine._logs.get(workspace)  # type: ignore[attr-defined]
    held = {} if log is None else log.tables
    return {name: dict(cells) for name, cells in held.items() if name.startswith(prefix)}
