"""What a node hears from Redis: the channels that it wants, made true by a supervisor, and its own pulse among them.

Messages only wake: of a link that broke some are lost, and nobody says so. So whatever is joined, anew or for the first
time, is looked at once it is; and who wants it keeps his own position. Times here are those of the world.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from coredis.retry import NoRetryPolicy

from jackfield_redis._client import WITHIN, connected
from jackfield_redis._faults import cause, said

if TYPE_CHECKING:
    from coredis.patterns.pubsub import BasePubSub

    from jackfield_redis._address import Address
    from jackfield_redis._client import Client
    from jackfield_redis._names import Names

    PubSub = BasePubSub[bytes, Any]

__all__ = ["Bus"]

logger = logging.getLogger("jackfield")

BEAT = 2.0
"""Seconds between two beats of the pulse."""
MISSED = 5.0
"""Seconds without a beat after which the link is taken for dead."""
AT_ONCE = 500
"""Channels that are joined or left by one command."""
AGAIN_AFTER = 0.2
AGAIN_AT_LEAST = 1.0
CONNECTIONS = 2
"""One that listens, and one that makes the pulse beat."""


class Listener(Protocol):
    """Who is told of what is heard; everything at once."""

    def heard(self, workspace: str, message: bytes) -> None:
        """It was said there."""

    def joined(self, workspaces: Sequence[str]) -> None:
        """From here on what is said there is heard; what was said before may have been missed."""


class Bus:
    """A feed's. `want` and `release` say what should be heard; `run` makes it so."""

    def __init__(self, address: Address, names: Names, listener: Listener) -> None:
        self._address = address
        self._names = names
        self._listener = listener
        self._wanted: dict[str, None] = {}
        self._joined: set[str] = set()
        self._missing: dict[str, None] = {}
        self._surplus: dict[str, None] = {}
        self._change = anyio.Event()
        self._pulse = names.pulse(secrets.token_hex(8))
        self._beat = 0.0
        self._stopping = anyio.Event()

    def want(self, workspace: str) -> None:
        self._wanted[workspace] = None
        self._surplus.pop(workspace, None)
        if workspace in self._joined:
            self._listener.joined((workspace,))
        else:
            self._missing[workspace] = None
            self._change.set()

    def release(self, workspace: str) -> None:
        self._wanted.pop(workspace, None)
        self._missing.pop(workspace, None)
        if workspace in self._joined:
            self._surplus[workspace] = None
            self._change.set()

    # --- its life

    async def run(self) -> None:
        """Until it is stopped."""
        while not self._stopping.is_set():
            began = anyio.current_time()
            try:
                async with connected(self._address, CONNECTIONS) as client:
                    await self._listen(client)
            except Exception as error:
                logger.info("what is said at %s is not heard for a moment: %s", self._address, said(cause(error)))
            # One that held a while is made again at once.
            with anyio.move_on_after(AGAIN_AFTER if anyio.current_time() - began > BEAT else AGAIN_AT_LEAST):
                await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()

    async def _listen(self, client: Client) -> None:
        self._joined.clear()
        self._surplus.clear()
        self._missing = dict(self._wanted)
        self._change.set()
        pubsub = client.pubsub(
            retry_policy=NoRetryPolicy(), subscription_timeout=WITHIN, max_idle_seconds=86_400, channels=(self._pulse,)
        )
        async with pubsub, anyio.create_task_group() as tasks:
            await self._pulse_once(client)  # connected from here on, so that no task is cancelled while it connects
            self._beat = anyio.current_time()
            for task in (partial(self._hear, pubsub), partial(self._join, pubsub), partial(self._beat_on, client)):
                tasks.start_soon(task)
            await self._stopping.wait()
            tasks.cancel_scope.cancel()

    async def _hear(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(ignore_subscribe_messages=True)
            if message is None:
                continue
            channel = cast("bytes", message["channel"]).decode()
            if channel == self._pulse:
                self._beat = anyio.current_time()
            elif (workspace := self._names.workspace(channel)) in self._wanted:
                self._listener.heard(workspace, cast("bytes", message["data"]))

    async def _join(self, pubsub: PubSub) -> None:
        """Make it true, whatever is wanted meanwhile."""
        while True:
            if missing := list(islice(self._missing, AT_ONCE)):
                for workspace in missing:
                    del self._missing[workspace]
                self._joined.update(missing)
                await pubsub.subscribe(*map(self._names.bus, missing))
                self._listener.joined([workspace for workspace in missing if workspace in self._wanted])
            elif surplus := list(islice(self._surplus, AT_ONCE)):
                for workspace in surplus:
                    del self._surplus[workspace]
                self._joined.difference_update(surplus)
                await pubsub.unsubscribe(*map(self._names.bus, surplus))
            else:
                self._change = anyio.Event()
                await self._change.wait()

    async def _beat_on(self, client: Client) -> None:
        """Say something, and hear it; as long as that is so, what others say is heard too."""
        while anyio.current_time() - self._beat < MISSED:
            await self._pulse_once(client)
            await anyio.sleep(BEAT)
        raise TimeoutError("its own pulse is not heard")

    async def _pulse_once(self, client: Client) -> None:
        with anyio.fail_after(WITHIN):
            await client.publish(self._pulse, b"")
