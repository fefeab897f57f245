"""The verbs: how hooks run. pluggy knows who implements what; here it is called, by the rules of each verb.

A call has a deadline, so that it can hold up only its own connection, and what it breaks bears its plugin's name.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from jackfield._clock import Deadline, Timers
from jackfield.errors import ConfigurationError, EngineError, JackfieldError, Refused

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

__all__ = ["Call", "Dispatcher"]

logger = logging.getLogger("jackfield")
T = TypeVar("T")


class Call(NamedTuple):
    """One implementation of a hook, resolved at start-up."""

    plugin: str
    hook: str
    function: Callable[..., Any]


class Dispatcher:
    """Calls hooks. `faults` counts, by plugin, what they broke."""

    def __init__(self, timers: Timers, timeout: float) -> None:
        self._timers = timers
        self._timeout = timeout
        self.faults: Counter[str] = Counter()

    async def collect(self, calls: Sequence[Call], *args: object) -> list[tuple[str, Any]]:
        """Everyone's result that is not None, with the plugin's name. The first to raise ends it."""
        results: list[tuple[str, Any]] = []
        for call in calls:
            if (result := await self._guarded(call, args)) is not None:
                results.append((call.plugin, result))
        return results

    async def first(self, calls: Sequence[Call], *args: object) -> Any:
        """The first answer, or None."""
        for call in calls:
            if (answer := await self._guarded(call, args)) is not None:
                return answer
        return None

    async def pipe(self, calls: Sequence[Call], subject: object, value: T) -> T:
        """Each may replace the value by one of its kind, or raise."""
        for call in calls:
            if (replaced := await self._guarded(call, (subject, value))) is not None:
                if not isinstance(replaced, type(value)):
                    error = TypeError(f"returned {replaced!r}; expected {type(value).__name__} or None")
                    self._blame(call, error)
                    raise error
                value = replaced
        return value

    async def act(self, calls: Sequence[Call], *args: object) -> Exception | None:
        """All of them, whatever one raises; who asked, hears: the first that was raised is the answer."""
        failure: Exception | None = None
        for call in calls:
            try:
                await self._guarded(call, args)
            except Exception as error:
                failure = failure or error
        return failure

    async def notify(self, calls: Sequence[Call], *args: object) -> None:
        """All of them, and nobody asked: what one raises is in the log."""
        for call in calls:
            try:
                await self._guarded(call, args)
            except (Refused, EngineError) as error:
                self._blame(call, error)
            except Exception:  # it has been blamed
                pass

    async def decide(self, call: Call, *args: object) -> Any:
        """One of those that run inside a commit. The commit has a deadline of its own, so these have none."""
        try:
            return await call.function(*args)
        except JackfieldError:
            raise
        except Exception as error:
            self._blame(call, error)
            raise

    @staticmethod
    async def wrap(stack: AsyncExitStack, calls: Sequence[Call], *args: object) -> None:
        """Enter each one's context manager, the first outermost."""
        for call in calls:
            manager: object = call.function(*args)
            if not isinstance(manager, AbstractAsyncContextManager):
                raise ConfigurationError(
                    f'plugin "{call.plugin}": {call.hook} must return a context manager. '
                    "Write @asynccontextmanager between @hookimpl and async def."
                )
            await stack.enter_async_context(cast("AbstractAsyncContextManager[None]", manager))

    async def _guarded(self, call: Call, args: Sequence[object]) -> Any:
        deadline = Deadline(self._timers, self._timeout)
        try:
            with deadline:
                awaitable: Awaitable[Any] = call.function(*args)
                return await awaitable
        except (Refused, EngineError):  # for who asked
            raise
        except Exception as error:
            self._blame(call, error, late=deadline.passed)
            raise

    def _blame(self, call: Call, error: Exception, *, late: bool = False) -> None:
        self.faults[call.plugin] += 1
        if late:
            logger.error('plugin "%s": %s took longer than %g s', call.plugin, call.hook, self._timeout)
        else:
            logger.error('plugin "%s": %s failed', call.plugin, call.hook, exc_info=error)
