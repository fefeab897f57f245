"""A node's way to Redis for what it asks: made anew where it breaks, and whoever asks meanwhile waits a moment.

Times here are those of the world, not of the injected clock: what is on the other side knows no other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
from coredis.exceptions import ResponseError

from jackfield.engine import EngineRefused, EngineUnavailable
from jackfield.errors import ConfigurationError
from jackfield_redis._client import WITHIN, connected
from jackfield_redis._faults import cause, demoted, passes, said
from jackfield_redis._greeting import failure, greet
from jackfield_redis._scripts import run

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from jackfield_redis._address import Address
    from jackfield_redis._client import Client
    from jackfield_redis._seal import Seal

__all__ = ["Link"]

logger = logging.getLogger("jackfield")

AGAIN_AFTER = 0.1
"""Seconds until what failed is tried again, and at first until a new connection is."""
AGAIN_AT_LEAST = 1.0
"""The same where it goes on failing."""


class Link:
    """One pool of connections to an address, supervised by `run`."""

    def __init__(self, address: Address, seal: Seal) -> None:
        self._address = address
        self._seal = seal
        self._client: Client | None = None
        self._changed = anyio.Event()
        self._broken = anyio.Event()
        self._stopping = anyio.Event()
        self._why = "it has not been reached yet"

    async def call(self, name: str, shards: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script, asked again where nothing is heard. Raises EngineUnavailable when nothing is heard in time; it
        may have run then."""
        again = False
        client: Client | None = None
        with anyio.move_on_after(WITHIN):
            while True:
                while (client := self._client) is None:
                    if self._stopping.is_set():
                        raise EngineUnavailable(f"{self._address} is being left")
                    await self._changed.wait()
                try:
                    return await run(client, name, shards, arguments)
                except Exception as error:  # where its pool is left, or a node of a cluster dies, it fails by anything
                    self._why = said(cause(error))
                    if demoted(error):
                        self._suspect(client)
                    elif isinstance(error, ResponseError) and not passes(error):
                        # What was asked before, and not answered, may have happened.
                        kind = EngineUnavailable if again else EngineRefused
                        raise kind(f"{self._address}: {self._why}") from None
                    elif not passes(error):
                        again = True
                        self._suspect(client)
                await anyio.sleep(AGAIN_AFTER)
        self._suspect(client)
        raise EngineUnavailable(f"{self._address} does not answer: {self._why}")

    def _suspect(self, client: Client | None) -> None:
        """It failed somebody; a new one is made."""
        if client is not None and client is self._client:
            self._client = None
            self._broken.set()

    # --- its life

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Until it is stopped. Has started when it is connected; what is wrong before that is raised."""
        waits_until = anyio.current_time() + self._address.wait
        started = False
        pause = AGAIN_AFTER
        while not self._stopping.is_set():
            self._broken = anyio.Event()
            try:
                async with connected(self._address, self._address.connections) as client:
                    with anyio.fail_after(WITHIN):
                        await greet(client, self._address, self._seal, first=not started)
                    self._client = client
                    self._changed.set()
                    self._changed = anyio.Event()
                    if not started:
                        started = True
                        task_status.started()
                    elif pause > AGAIN_AFTER:
                        logger.warning("%s answers again", self._address)
                    pause = AGAIN_AFTER
                    if not self._stopping.is_set():
                        await self._broken.wait()
            except Exception as error:
                fault = cause(error)
                self._why = said(fault)
                if not started:
                    refusal = failure(fault, self._address)
                    if isinstance(refusal, ConfigurationError) or anyio.current_time() >= waits_until:
                        raise refusal from None
                if pause == AGAIN_AFTER:
                    logger.warning("%s is away: %s", self._address, self._why)
                pause = AGAIN_AT_LEAST
            finally:
                self._client = None
            with anyio.move_on_after(pause):
                await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()
        self._broken.set()
        self._changed.set()
