"""Swapping a plugin: sit in its chair. Presence that comes from a calendar, instead of from connections.

    realtime = Jackfield(…, CalendarPresence(calendar, workspaces=["acme"]))

Its name is "presence", so clients find it at `hello.data.state.presence`, the HTTP API asks it, and `Presence()` beside
it is an error at start-up. Every node looks at the calendar; whoever sees a meeting first, says so, and nobody twice.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

import attrs

from jackfield import Jackfield, Session, State, Workspace, hookimpl
from jackfield.events import PresenceUpdated, Status


class Calendar(Protocol):
    """Your calendar, as far as this needs it."""

    async def busy(self, workspace_id: str) -> frozenset[str]:
        """The users who sit in a meeting now."""
        ...


BUSY = State("presence.busy", frozenset[str])


@attrs.define(eq=False)
class CalendarPresence:
    """Who sits in a meeting is away."""

    calendar: Calendar
    workspaces: Collection[str]
    every: float = 60.0
    name: str = "presence"

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Jackfield) -> AsyncGenerator[None]:
        app.start_soon(self.follow, app)
        yield

    async def follow(self, app: Jackfield) -> None:
        while True:
            for id in self.workspaces:
                app.start_soon(self.look, app.workspace(id))  # one that fails is in the log, and ends nothing else
            await app.clock.sleep(self.every)

    async def look(self, workspace: Workspace) -> None:
        busy = await self.calendar.busy(workspace.id)
        await workspace.update(BUSY, "all", lambda _: busy, publish=transitions)

    @hookimpl
    async def presence_of(self, workspace: Workspace) -> Mapping[str, Status]:
        busy = await workspace.get(BUSY, "all")
        return dict.fromkeys(busy, "away")

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        statuses = await self.presence_of(session.workspace)
        return [{"user_id": user_id, "status": status} for user_id, status in statuses.items()]


def transitions(before: frozenset[str], after: frozenset[str]) -> list[PresenceUpdated]:
    """Who went into a meeting, and who came out of one."""
    return [
        *(PresenceUpdated(user_id, "away") for user_id in sorted(after - before)),
        *(PresenceUpdated(user_id, "online") for user_id in sorted(before - after)),
    ]
