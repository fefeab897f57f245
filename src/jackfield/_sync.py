"""Publishing without an event loop: the one place where jackfield has a thread, with a loop of its own in it."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
from anyio.from_thread import BlockingPortal
from anyio.from_thread import run as run_in_loop
from anyio.lowlevel import current_token

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
    own, and in a child process after a fork anew. All that are made for an application are one. Where the application
    is served in this process, as one that is mounted beside Django, calls go there, and nothing is started.

    It ends with the process, or by `close`. Inside of an event loop use `Publisher`: there this raises RuntimeError.
    `backend` is "asyncio" or "trio". Calls raise what those of `Publisher` do.
    """

    def __init__(self, app: Jackfield, *, backend: str = "asyncio") -> None:
        self._app = app
        self._backend = backend
        self._home = _homes.setdefault(app, _Home())

    def workspace(self, id: str) -> SyncWorkspace:
        """The workspace of that id. Raises ValueError for what cannot be an id."""
        return SyncWorkspace(self, self._app.workspace(id))

    def close(self) -> None:
        """Tell the observers what they have to know, and let go of the engine. A later call starts it again."""
        self._home.close()

    def __enter__(self) -> SyncPublisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine function returns, run where this publishes."""
        try:
            current_token()
        except RuntimeError:
            pass
        else:
            raise RuntimeError('a SyncPublisher would stop this event loop: use "async with Publisher(app)" here')
        if (loop := self._app.served_in) is not None:
            return run_in_loop(function, token=loop)
        return self._home.submit(self._app, self._backend, function).result()


class _Home:
    """Where an application publishes for those without an event loop: at most one life at a time."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Of what ran in the process that was forked, its child has nothing."""
        self._lock = threading.Lock()
        self._life: _Life | None = None

    def submit(self, app: Jackfield, backend: str, function: Callable[[], Awaitable[T]]) -> Future[T]:
        """Begin it there; what is begun, `close` waits for."""
        with self._lock:
            if self._life is None or self._life.is_over():
                # Kept before it is started: whoever waits for that may be interrupted, as by the time limit of a task,
                # and whoever comes next waits on.
                self._life = _Life(app, backend)
            return self._life.start().start_task_soon(function)

    def close(self) -> None:
        with self._lock:
            if self._life is not None:
                self._life.end()
                self._life = None

    @property
    def is_starting(self) -> bool:
        return self._life is not None and not self._life.portal.done()


class _Life:
    """A thread in which a Publisher is open."""

    def __init__(self, app: Jackfield, backend: str) -> None:
        self.portal: Future[BlockingPortal] = Future()
        self._app = app
        self._ending = False
        self._ended = threading.Event()
        self._stop: anyio.Event
        self._thread = threading.Thread(target=self._run, args=(backend,), name="jackfield publisher", daemon=True)

    def start(self) -> BlockingPortal:
        """Wait until it has started. Raises why it has not."""
        if self._thread.ident is None:
            self._thread.start()
        return self.portal.result()

    def end(self) -> None:
        """Wait until it has ended; harmless where it has."""
        self._ending = True
        if self._thread.ident is None:
            return
        if self.portal.exception() is None:  # waits for it to start, too
            with suppress(RuntimeError):  # it has been told
                self.portal.result().call(self._stop.set)
        self._ended.wait()  # a join that is interrupted takes the thread for ended

    def is_over(self) -> bool:
        """Whether it did not start, or has ended: somebody who waited for that may have been interrupted."""
        if self._ending:
            self.end()
        return self._ending or self._ended.is_set() or (self.portal.done() and self.portal.exception() is not None)

    def _run(self, backend: str) -> None:
        try:
            anyio.run(self._live, backend=backend)
        except Exception as error:
            if self.portal.done():
                raise
            self.portal.set_exception(error)
        finally:
            self._ended.set()

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


_homes: WeakKeyDictionary[Jackfield, _Home] = WeakKeyDictionary()


@atexit.register
def _close_all() -> None:
    for home in tuple(_homes.values()):
        if not home.is_starting:  # an engine that is not there must not hold up the end
            home.close()


def _forked() -> None:
    for home in tuple(_homes.values()):
        home.begin_anew()


if hasattr(os, "register_at_fork"):  # where there is fork
    os.register_at_fork(after_in_child=_forked)
