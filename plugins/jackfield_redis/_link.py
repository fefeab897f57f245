"""A node's way to Redis for what it asks: made anew where it breaks, and whoever asks meanwhile waits a moment.

Times here are those of the world, not of the injected clock: what is on the other side knows no other.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio
from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from jackfield.engine import EngineRefused, EngineUnavailable
from jackfield.errors import ConfigurationError
from jackfield_redis._address import WITHIN
from jackfield_redis._scripts import SCRIPTS

if TYPE_CHECKING:
    from anyio.abc import TaskStatus
    from coredis.commands import Script

    from jackfield_redis._address import Address, Client

__all__ = ["Link", "cause", "said"]

logger = logging.getLogger("jackfield")

AGAIN_AFTER = 0.1
"""Seconds until what failed is tried again, and at first until a new connection is."""
AGAIN_AT_LEAST = 1.0
"""The same where it goes on failing."""
OLDEST = (6, 2)

PASSES = (BusyLoadingError, ClusterDownError, MovedError, NoScriptError, ReadOnlyError, TryAgainError)
"""What Redis says where it does nothing, and will in a moment: it starts, or another takes over."""


class Link:
    """One pool of connections to an address, supervised by `run`."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._client: Client | None = None
        self._scripts: dict[str, Script[bytes]] = {}
        self._changed = anyio.Event()
        self._broken = anyio.Event()
        self._stopping = anyio.Event()
        self._why = "it has not been reached yet"

    async def call(self, name: str, shards: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run a script. Raises EngineUnavailable when nothing is heard in time; it may have run then."""
        again = False
        client: Client | None = None
        with anyio.move_on_after(WITHIN):
            while True:
                while (client := self._client) is None:
                    await self._changed.wait()
                try:
                    return await self._scripts[name](shards, arguments, callback=_as_it_is)
                except PASSES as error:
                    self._why = said(error)
                except ResponseError as error:
                    # What was asked before, and not answered, may have happened.
                    kind = EngineUnavailable if again else EngineRefused
                    raise kind(f"{self._address}: {said(error)}") from None
                except (RedisError, OSError, TimeoutError, anyio.BrokenResourceError) as error:
                    again = True
                    self._why = said(error)
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
                async with self._address.client(self._address.connections) as client:
                    await self._greet(client, first=not started)
                    self._scripts = {name: client.register_script(script) for name, script in SCRIPTS.items()}
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
                if not started and (isinstance(fault, ConfigurationError) or anyio.current_time() >= waits_until):
                    raise self._unreachable(fault) from None
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

    async def _greet(self, client: Client, *, first: bool) -> None:
        """Whether it can be used; with what should be known of it, once."""
        with anyio.fail_after(WITHIN):
            told: dict[str, Any] = dict(await client.info())
            for script in SCRIPTS.values():  # one that came back has forgotten them
                await client.script_load(script)
        if not first:
            return
        version = str(told.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
            raise ConfigurationError(
                f"{self._address} is version {version}; jackfield needs Redis 6.2 or newer, or Valkey."
            )
        policy = str(told.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            logger.warning(
                "%s evicts (maxmemory-policy %s), so it may lose what it keeps: set noeviction", self._address, policy
            )
        if not int(told.get("aof_enabled", 1)):
            logger.warning(
                "%s keeps no append-only file, so a restart of it loses events: set appendonly yes", self._address
            )

    def _unreachable(self, fault: BaseException) -> Exception:
        if isinstance(fault, ConfigurationError):
            return fault
        if isinstance(fault, AuthenticationError | AuthorizationError):
            return ConfigurationError(f"{self._address} refuses the user or the password of its URL: {said(fault)}")
        return EngineUnavailable(
            f"{self._address} cannot be reached: {said(fault)}. Start it, or add ?wait=60 to its URL."
        )


def _as_it_is(answer: Any, **_: Any) -> Any:
    return answer


def cause(error: BaseException) -> BaseException:
    """What it comes down to."""
    inside: Sequence[BaseException] = getattr(error, "exceptions", ())
    if inside:
        return cause(inside[0])
    if isinstance(error, ConnectionError) and error.__cause__ is not None:
        return cause(error.__cause__) if not isinstance(error, AuthenticationError | AuthorizationError) else error
    return error


def said(error: BaseException) -> str:
    """In a line, and never empty."""
    return " ".join(str(error).split()) or type(error).__name__
