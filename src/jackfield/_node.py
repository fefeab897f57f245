"""What runs between the start and the end of a lifespan: one node of an application."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from jackfield._clock import Clock, Deadline, Timers
from jackfield._commit import Commits, Post, as_posts
from jackfield._cursor import Cursors
from jackfield._dispatch import Call, Dispatcher
from jackfield._drain import PAUSE, Drain, plan
from jackfield._hub import Hub
from jackfield._lease import LEASES, SYSTEM
from jackfield._observers import Observers
from jackfield._pump import Pump
from jackfield._resume import Resumes
from jackfield._roster import Roster
from jackfield._state import State, Transaction, falls_due, forget
from jackfield._wire import Wire
from jackfield.engine import Due, Engine, EngineError, History
from jackfield.errors import CloseCode

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from jackfield._app import Jackfield
    from jackfield._plugins import Plugins
    from jackfield._session import Session
    from jackfield._settings import Settings
    from jackfield.events import ClientEvent

__all__ = ["Node"]

logger = logging.getLogger("jackfield")

RESTART_AFTER = 1.0
LOOK_EVERY = 1.0
DUE_AT_ONCE = 100

CURSOR_KEY: State[str] = State("cursors", str)
"""What cursors are sealed with"""


class Node:
    """The parts, put together; each knows only those that it is given."""

    def __init__(self, app: Jackfield, engine: Engine, settings: Settings, clock: Clock, plugins: Plugins) -> None:
        self.app = app
        self.engine = engine
        self.settings = settings
        self.clock = clock
        self.sessions: set[Session] = set()
        self.serving = False
        """Whether connections are taken; else it only publishes."""
        self.draining: Drain | None = None
        """How it takes its leave, from when that begins; nobody comes in any more."""
        self.timers = Timers(clock)
        self.dispatcher = Dispatcher(self.timers, settings.hook_timeout)
        self.wire = Wire(
            plugins.registry,
            max_bytes=settings.max_event_bytes,
            strict_error_codes=settings.strict_error_codes,
        )
        self.pump = Pump(clock, self.timers, write_timeout=settings.write_timeout, budget=settings.outbox_budget)
        self.hub = Hub(engine, self.pump)
        self.resumes = Resumes(self.hub, limit=settings.replay_events)
        self.observers = Observers(plugins, self.dispatcher, self.hub, app.workspace, self.start_soon)
        self.commits = Commits(
            engine,
            plugins,
            self.wire,
            self.dispatcher,
            clock,
            self.timers,
            seen=self.hub.seen,
            posted=self.observers.posted,
            due=self._due_at,
        )
        self.roster = Roster(
            engine,
            self.commits,
            self.dispatcher,
            plugins.calls("roster_changed"),
            clock,
            app.workspace,
            lease=settings.node_lease,
            limit=settings.connections_per_user,
            token_lifetime=settings.revoked_for,
            renamed=lambda: self.start_soon(self._share_cursor_key),
        )
        self.authenticate = plugins.calls("authenticate")
        self.channels_of = plugins.calls("channels_of")
        self.session_opened = plugins.calls("session_opened")
        self.session_closed = plugins.calls("session_closed")
        self.initial_state = plugins.calls("initial_state")
        self._cell_due = plugins.calls("cell_due")
        self._lifespan = plugins.calls("lifespan")
        self._client: dict[type[ClientEvent], tuple[tuple[Call, ...], tuple[Call, ...]]] = {
            event: (plugins.before(event), plugins.on(event)) for event in plugins.registry.client().values()
        }
        self._tasks: TaskGroup | None = None
        self._cursor_key = ""
        self._next_look = math.inf
        self._looking: anyio.CancelScope | None = None
        answers = [call.function() for call in plugins.calls("held_for")]
        self._held = min((seconds for seconds in answers if seconds is not None), default=math.inf)
        self._left = anyio.Event()
        self._drained = anyio.Event()

    def client_hooks(self, event: type[ClientEvent]) -> tuple[tuple[Call, ...], tuple[Call, ...]]:
        """Who decides about a client's event, and who handles it."""
        return self._client[event]

    # --- life

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None, None]:
        """Start; and end in order: connections first, then the plugins, then the lease and the engine."""
        async with AsyncExitStack() as stack:
            self.serving = True
            tasks = await self._begin(stack)
            self.pump.start(tasks)
            for name, service in (("feed", self.hub.run), ("due cells", self._look)):
                tasks.start_soon(self._supervise, name, service, name=f"jackfield {name}")
            await self._share_cursor_key()
            await self.roster.start()
            tasks.start_soon(self._supervise, "roster", self.roster.run, name="jackfield roster")
            stack.push_async_callback(self._give_back)
            await self.dispatcher.wrap(stack, self._lifespan, self.app)
            stack.push_async_callback(self._take_leave)
            yield

    @asynccontextmanager
    async def publish(self) -> AsyncGenerator[None, None]:
        """Only what publishing needs: nobody connects here, no other node hears of this one, and plugins' `lifespan` is
        not entered. At the end observers are waited for."""
        async with AsyncExitStack() as stack:
            await self._begin(stack)
            stack.push_async_callback(self._tell_observers)
            yield

    async def _tell_observers(self) -> None:
        try:
            with anyio.CancelScope(shield=True), Deadline(self.timers, self.settings.drain_timeout):
                await self.observers.told()
        except TimeoutError:
            logger.warning("not every observer was told of what had been published")

    async def _begin(self, stack: AsyncExitStack) -> TaskGroup:
        """The engine, time, and the one task group of an application, which is entered and left by the task that holds
        the stack."""
        settings = self.settings
        history = History(settings.history_events, settings.history_bytes, settings.history_age)
        await stack.enter_async_context(self.engine.open(history, self.clock))
        # Deadlines hold until everybody has gone, so the timers run outside of what they bound; and also where the
        # host is cancelled, since its end is bounded by them.
        timing = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(timing.cancel_scope.cancel)
        ticking = anyio.CancelScope(shield=True)
        stack.callback(ticking.cancel)
        timing.start_soon(self._tick, ticking, name="jackfield timers")
        tasks = self._tasks = await stack.enter_async_context(anyio.create_task_group())
        stack.callback(tasks.cancel_scope.cancel)
        return tasks

    async def _tick(self, ticking: anyio.CancelScope) -> None:
        with ticking:
            await self._supervise("timers", self.timers.run)

    # --- its end

    def start_drain(self) -> int:
        """Take no more connections from here on, and begin to end those that there are; how many are left of them.
        Everything else goes on."""
        if self.draining is None:
            settings = self.settings
            self.draining = plan(
                len(self.sessions), rate=settings.drain_rate, held=self._held, timeout=settings.drain_timeout
            )
            self.start_soon(self._drain, self.draining)
        return len(self.sessions)

    async def drain(self) -> None:
        """The same, and wait until they have ended, or their time is over."""
        self.start_drain()
        await self._drained.wait()

    async def _drain(self, drain: Drain) -> None:
        sessions = tuple(self.sessions)
        try:
            # Whoever asked for it may be cancelled, and the host too: clients are told all the same.
            with anyio.CancelScope(shield=True), Deadline(self.timers, drain.limit):
                for start in range(0, len(sessions), drain.batch):
                    if start:
                        await self.clock.sleep(PAUSE)
                    for session in self.sessions.intersection(sessions[start : start + drain.batch]):  # some have gone
                        session.drain(f"retry_after_ms={drain.retry_after_ms()}")
                while self.sessions:
                    self._left = anyio.Event()
                    await self._left.wait()
        except TimeoutError:
            logger.warning("%d connections did not end in time", len(self.sessions))
            self.commits.hasten(drain.reserve / 2)
            for session in tuple(self.sessions):  # whom it did not come to, too
                session.end(CloseCode.DRAINING, f"retry_after_ms={drain.retry_after_ms()}")
        finally:
            self._drained.set()

    async def _take_leave(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.drain()

    async def _give_back(self) -> None:
        # Where a plugin did not start, nobody has come, and nothing has been drained.
        within = self.settings.drain_timeout if self.draining is None else self.draining.reserve
        self.commits.hasten(within / 2)
        try:
            with anyio.CancelScope(shield=True), Deadline(self.timers, within):
                await self.roster.stop()
        except (EngineError, TimeoutError) as error:
            logger.warning("this node's lease could not be given back: %s", str(error) or "it took too long")

    async def _share_cursor_key(self) -> None:
        """One for all nodes of an engine, made by the first: a cursor serves on each of them. Where the engine came
        back without it, whoever comes first says his."""
        before = self._cursor_key

        async def decide(transaction: Transaction) -> Sequence[Post]:
            held = await transaction.update(CURSOR_KEY, "key", lambda held: held or before or secrets.token_hex(32))
            self._cursor_key = held.after
            return ()

        await self.commits.decide(self.app.workspace(SYSTEM), decide)
        if self._cursor_key != before:
            self.hub.cursors = Cursors(self._cursor_key)
            for session in tuple(self.sessions):  # what they hold is half by another key
                session.end(CloseCode.RESTART)

    def entered(self, session: Session) -> None:
        """A connection is being served."""
        self.sessions.add(session)

    def left(self, session: Session) -> None:
        """It is no longer."""
        self.sessions.discard(session)
        self._left.set()

    async def _supervise(self, name: str, service: Callable[[], Awaitable[None]]) -> None:
        """A service of ours that fails is begun anew; it must not take the host's application with it."""
        while True:
            try:
                await service()
            except Exception:
                logger.exception("%s failed and is begun anew", name)
                await self.clock.sleep(RESTART_AFTER)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run it beside everything else; if it fails, that is in the log."""
        if self._tasks is None:
            raise RuntimeError("the application has not been started")

        async def guarded() -> None:
            try:
                await function(*args)
            except Exception:
                name = getattr(function, "__qualname__", repr(function))
                self.dispatcher.faults[name] += 1
                logger.exception("%s, started by start_soon, failed", name)

        self._tasks.start_soon(guarded)

    # --- cells whose time has come

    def _due_at(self, when: float) -> None:
        if when < self._next_look and self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        """Ask the engine what is due. What this node wrote is looked at when it is; each second, what others left
        behind."""
        while True:
            try:
                due, later = await self.engine.due(DUE_AT_ONCE)
                settled = [await self._settle(cell) for cell in due]
            except EngineError as error:
                self.roster.lease.out_of_touch()
                logger.warning("the engine did not say what is due: %s", error)
                settled, later = [False], None
            if settled and all(settled):
                continue
            with anyio.CancelScope() as self._looking:
                now = self.clock.time()
                wait = LOOK_EVERY if settled or later is None else min(LOOK_EVERY, max(0.0, later - now))
                self._next_look = now + wait
                await self.clock.sleep(wait)
            self._looking = None

    async def _settle(self, cell: Due) -> bool:
        """Whether it will not come again at once."""
        workspace_id, key, _ = cell
        settled = False

        async def decide(transaction: Transaction) -> Sequence[Post]:
            nonlocal settled
            settled = await falls_due(transaction, key)
            if not settled:  # somebody else was faster; or by its own clock the engine was too early
                return ()
            posts: list[Post] = []
            for call in self._cell_due:
                posts += as_posts(await self.dispatcher.decide(call, transaction, key.table, key.field))
            forget(transaction, key)
            return posts

        try:
            if workspace_id == SYSTEM and key.table == LEASES.name:
                return await self.roster.lease.due(key)
            await self.commits.decide(self.app.workspace(workspace_id), decide)
        except EngineError:
            raise
        except Exception:
            logger.exception("cell %s of %s is due, and nobody could say what follows", key, workspace_id)
            return False
        return settled
