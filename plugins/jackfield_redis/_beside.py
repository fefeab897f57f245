"""A service that runs beside a body, and ends with it: in order, and where that takes too long by force."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

__all__ = ["Service", "beside"]

ENDED_WITHIN = 0.5
"""Seconds; the other side may be gone, and the end must not wait for it."""


class Service(Protocol):
    """What runs until it is stopped, or cancelled."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Says when it has started."""

    def stop(self) -> None:
        """End in order: a connection that is cancelled while it is made leaves something behind."""


@asynccontextmanager
async def beside(service: Service) -> AsyncGenerator[None, None]:
    """From when it has started. What is raised inside comes out as it is, not in a group of one."""
    failure: Exception | None = None
    ended = anyio.Event()
    life = anyio.CancelScope()

    async def run(*, task_status: TaskStatus[None]) -> None:
        try:
            with life:
                await service.run(task_status=task_status)
        except Exception:
            if not life.cancel_called:  # ended by force, it may trip over what it leaves
                raise
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        try:
            await tasks.start(run)
            life.shield = True  # whoever is cancelled ends it in order, too
            yield
        except Exception as error:
            failure = error
        finally:
            service.stop()
            with anyio.move_on_after(ENDED_WITHIN, shield=True):
                await ended.wait()
            life.cancel()
    if failure is not None:
        raise failure
