"""Whoever observes what this process published: told once it has been handed to everybody here, and in its order."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from jackfield._commit import Posted
    from jackfield._dispatch import Call, Dispatcher
    from jackfield._hub import Hub
    from jackfield._plugins import Plugins
    from jackfield._workspace import Workspace
    from jackfield.events import ServerEvent

__all__ = ["Observers"]


class Observers:
    """Every `@on(<server event>)` of an application."""

    def __init__(
        self,
        plugins: Plugins,
        dispatcher: Dispatcher,
        hub: Hub,
        workspace: Callable[[str], Workspace],
        start_soon: Callable[[Callable[..., Awaitable[Any]], Workspace], None],
    ) -> None:
        self._dispatcher = dispatcher
        self._hub = hub
        self._workspace = workspace
        self._start_soon = start_soon
        self._calls: dict[type[ServerEvent], tuple[Call, ...]] = {
            event: calls for event in plugins.registry.server().values() if (calls := plugins.on(event))
        }
        self._waiting: dict[str, deque[ServerEvent]] = {}
        self._told = anyio.Event()

    def posted(self, workspace_id: str, posted: Sequence[Posted]) -> None:
        """These have just been published."""
        for event, position in posted:
            if type(event) in self._calls:
                self._hub.after_fan_out(workspace_id, position, lambda event=event: self._tell(workspace_id, event))  # type: ignore[misc]

    async def told(self) -> None:
        """Wait until all of them have been told."""
        while self._waiting:
            self._told = anyio.Event()
            await self._told.wait()

    def _tell(self, workspace_id: str, event: ServerEvent) -> None:
        waiting = self._waiting.get(workspace_id)
        if waiting is not None:
            waiting.append(event)
        else:
            self._waiting[workspace_id] = deque((event,))
            self._start_soon(self._observe, self._workspace(workspace_id))

    async def _observe(self, workspace: Workspace) -> None:
        """One event after the other, so that observers see a workspace's events in their order."""
        waiting = self._waiting[workspace.id]
        try:
            while waiting:
                event = waiting.popleft()
                await self._dispatcher.notify(self._calls[type(event)], workspace, event)
        finally:
            del self._waiting[workspace.id]
            self._told.set()
