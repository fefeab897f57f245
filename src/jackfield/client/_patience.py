"""Waiting no longer than so many seconds of the injected clock."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from jackfield._clock import Clock

__all__ = ["within"]

T = TypeVar("T")


async def within(clock: Clock, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    """What it returns, or raises. Raises TimeoutError where it takes longer, and cancels it."""
    results: list[T] = []
    failures: list[Exception] = []

    async def run() -> None:
        try:
            results.append(await call())
        except Exception as error:  # raised below, not inside a group of one
            failures.append(error)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await clock.sleep(seconds)
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]
    if not results:
        raise TimeoutError
    return results[0]
