"""Publishing from elsewhere: a task queue, a script. The same plugins decide, and nobody connects here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from jackfield._app import Jackfield
    from jackfield._workspace import Workspace

__all__ = ["Publisher"]


class Publisher:
    """Publishes for an application that is not served in this process, on an engine that both reach.

        async with Publisher(realtime) as live:
            await live.workspace("acme").publish(MessageNew(…), id=row.id)

    The application is the object that you would serve: the same plugins decide, the same types validate, and
    `@on(<server event>)` observers run here, once. Entering it opens the engine and nothing else: no connection is
    taken, no node is added. The plugins' `lifespan` is not entered: there a plugin begins what an application does once
    as long as it is served, such as following a calendar; what your hooks need open, such as a database, open around
    it. Leaving it, by an exception too, waits until the observers have been told, at most `Settings.drain_timeout`.

    Entering raises ConfigurationError where the application runs in this process already, where its engine is the
    memory of this process and nobody has it open, or where the engine is open in another event loop; and
    EngineUnavailable when the engine cannot be reached.
    """

    def __init__(self, app: Jackfield) -> None:
        self._app = app
        self._life: AbstractAsyncContextManager[None] | None = None

    async def __aenter__(self) -> Publisher:
        life = self._app.publishing()
        await life.__aenter__()
        self._life = life
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        assert self._life is not None, "it was entered"
        return await self._life.__aexit__(kind, error, trace)

    def workspace(self, id: str) -> Workspace:
        """The workspace of that id, as the application has it. Raises ValueError for what cannot be an id."""
        return self._app.workspace(id)
