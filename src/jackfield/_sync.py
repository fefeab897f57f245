"""Publishing without an event loop: the one place where jackfield has a thread, with a loop of its own in it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

import anyio
from anyio.from_thread import BlockingPortal

from jackfield._publisher import Publisher

if TYPE_CHECKING:
    from jackfield._app import Jackfield
    from jackfield._audience import Audience
    from jackfield._commit import Post, Receipt
    from jackfield._workspace import Workspace
    from jackfield.events import ServerEvent

__all__ = ["SyncPublisher", "SyncWorkspace"]

T = TypeVar("T")


class SyncPublisher:
    """`Publisher` for code without an event loop: a Celery task, a Django view, a script.

        live = SyncPublisher(realtime)
        live.workspace("acme").publish(MessageNew(…), id=row.id)

    It may be made when a module is imported, and used from any thread: it starts at the first call, in a thread of its
    own, and in a child process after a fork anew. It ends with the process, or by `close`. Inside of an event loop use
    `Publisher`: there this raises RuntimeError. `backend` is "asyncio" or "trio". Calls raise what those of `Publisher`
    do.
    """

    def __init__(self, app: Jackfield, *, backend: str = "asyncio") -> None:
        self._app = app
        self._backend = backend
        self._lock = threading.Lock()
        self._life: _Life | None = None
        _made.add(self)

    def workspace(self, id: str) -> SyncWorkspace:
        """The workspace of that id. Raises ValueError for what cannot be an id."""
        return SyncWorkspace(self, self._app.workspace(id))

    def close(self) -> None:
        """Tell the observers what they have to know, and let go of the engine. A later call starts it again."""
        with self._lock:
            life, self._life = self._life, None
            if life is not None:
                life.end()

    def __enter__(self) -> SyncPublisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """What the coroutine function returns, run where this publishes."""
        try:
            anyio.get_current_task()
        except RuntimeError:
            pass
        else:
            raise RuntimeError('a SyncPublisher would stop this event loop: use "async with Publisher(app)" here')
        with self._lock:
            if self._life is None:
                life = _Life(self._app, self._backend)
                life.portal.result()
                self._life = life
            portal = self._life.portal.result()
        return portal.call(function)

    def forked(self) -> None:
        """Of what ran in the process that was forked, its child has nothing: begin anew."""
        self._app.forsake()
        self._lock = threading.Lock()
        self._life = None


class _Life:
    """A thread in which a Publisher is open. Nothing of it waits for anybody where it is only let go of, as after a
    fork."""

    def __init__(self, app: Jackfield, backend: str) -> None:
        self.portal: Future[BlockingPortal] = Future()
        self._app = app
        self._stop: anyio.Event
        self._thread = threading.Thread(target=self._run, args=(backend,), name="jackfield publisher", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.portal.result().call(self._stop.set)
        self._thread.join()

    def _run(self, backend: str) -> None:
        try:
            anyio.run(self._live, backend=backend)
        except Exception as error:
            if self.portal.done():
                raise
            self.portal.set_exception(error)

    async def _live(self) -> None:
        self._stop = anyio.Event()
        async with Publisher(self._app), BlockingPortal() as portal:
            self.portal.set_result(portal)
            await self._stop.wait()


class SyncWorkspace:
    """A workspace, for code without an event loop; made by `SyncPublisher.workspace`."""

    def __init__(self, publisher: SyncPublisher, workspace: Workspace) -> None:
        self.id = workspace.id
        self._publisher = publisher
        self._workspace = workspace

    def publish(
        self,
        event: ServerEvent,
        *,
        to: Audience | None = None,
        except_users: Collection[str] = (),
        id: str | None = None,
    ) -> Receipt:
        """Make it happen; as `Workspace.publish`."""
        return self._publisher.call(lambda: self._workspace.publish(event, to=to, except_users=except_users, id=id))

    def publish_all(self, events: Iterable[ServerEvent | Post]) -> list[Receipt]:
        """Several events, in this order, all of them or none; as `Workspace.publish_all`."""
        return self._publisher.call(lambda: self._workspace.publish_all(events))

    def revoke(self, user_id: str) -> int:
        """End every connection of a user, on every node; as `Workspace.revoke`."""
        return self._publisher.call(lambda: self._workspace.revoke(user_id))


_made: WeakSet[SyncPublisher] = WeakSet()


@atexit.register
def _close_all() -> None:
    for publisher in tuple(_made):
        publisher.close()


def _forked() -> None:
    for publisher in tuple(_made):
        publisher.forked()


if hasattr(os, "register_at_fork"):  # where there is fork
    os.register_at_fork(after_in_child=_forked)
