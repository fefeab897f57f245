"""What a node asks of Redis before it uses it, whether it can; and what is said where it cannot."""

from __future__ import annotations

import logging
import secrets
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coredis.exceptions import (
    AuthenticationError,
    AuthenticationRequiredError,
    InvalidResponse,
    PrimaryNotFoundError,
    ResponseError,
    UnknownCommandError,
)

from jackfield.engine import EngineRefused, EngineUnavailable
from jackfield.errors import ConfigurationError
from jackfield_redis._faults import cut, demoted, denied, full, passes, said
from jackfield_redis._names import Names
from jackfield_redis._scripts import run

if TYPE_CHECKING:
    from coredis.connection import BaseConnection

    from jackfield_redis._address import Address
    from jackfield_redis._client import Client
    from jackfield_redis._seal import Seal

__all__ = ["failure", "greet"]

logger = logging.getLogger("jackfield")

OLDEST = (6, 2)
MARK = b"jackfield"
"""What stands there sealed, so that a node with other keys is noticed before it reads or writes anything."""


async def greet(client: Client, address: Address, seal: Seal, *, first: bool) -> None:
    """Say what should be known of it, once. Raises ConfigurationError where it cannot be used, EngineUnavailable where
    it cannot just now."""
    if address.cluster and not first:
        return  # it was asked for its nodes; that one of them is away is of interest to its shards only
    async with client.connection_pool.acquire() as connection:
        told = _told(await connection.create_request(b"INFO"))
        _usable(told, address)
        if first:
            await _subscribe(connection, Names(address.prefix))
    if first:
        await _mark(client, address, seal)
        _advise(told, address)


def _told(info: Any) -> dict[str, str]:
    lines = (line.partition(":") for line in bytes(info).decode().splitlines())
    return {name: value for name, colon, value in lines if colon}


def _usable(told: Mapping[str, str], address: Address) -> None:
    version = told.get("redis_version", "0")
    if tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < OLDEST:
        raise ConfigurationError(f"{address} is version {version}; jackfield needs Redis 6.2 or newer, or Valkey.")
    if not address.cluster and told.get("role", "master") != "master":
        raise EngineUnavailable(
            f"{address} is a replica, which takes no writes. Name its primary, or ask Sentinel by redis+sentinel://."
        )


def failure(fault: Exception, address: Address) -> ConfigurationError | EngineUnavailable:
    """Why it could not be used, for whoever starts a node; a ConfigurationError where waiting changes nothing."""
    if isinstance(fault, ConfigurationError | EngineUnavailable):
        return fault
    why = said(fault)
    if isinstance(fault, ssl.SSLCertVerificationError):
        why = f"shows a certificate that is not trusted: {fault.verify_message.rstrip('.')}. See ?ca= in its URL"
    elif isinstance(fault, InvalidResponse):
        why = f"does not speak the language of Redis: {why}"
    elif isinstance(fault, AuthenticationRequiredError):
        sentinel = ", that of a Sentinel as ?sentinel_password=" if address.service else ""
        why = f"wants a password: it stands in its URL, redis://user:password@host{sentinel}"
    elif isinstance(fault, AuthenticationError):
        why = f"refuses the user or the password of its URL: {why}"
    elif denied(fault):
        why = f"does not let its user do all that the README lists: {why}"
    elif isinstance(fault, UnknownCommandError):
        why = f"is older than Redis 6.2, or something else: {why}"
    elif isinstance(fault, ResponseError) and not (passes(fault) or full(fault) or demoted(fault)):
        why = f"cannot be used: {why}"
    else:
        return _unreachable(fault, address)
    return ConfigurationError(f"{address} {why}.")


def _unreachable(fault: Exception, address: Address) -> EngineUnavailable:
    why, advice = said(fault), "Start it"
    if isinstance(fault, PrimaryNotFoundError):
        why = f"no Sentinel that answers knows a primary of {address.service}"
    elif isinstance(fault, TimeoutError) and address.tls is not None:
        advice = "See whether it speaks TLS"
    elif cut(fault):
        advice = "See whether it wants TLS or is in protected mode"
    elif isinstance(fault, ResponseError) or passes(fault):
        advice = "Wait for it"
    if address.wait:
        return EngineUnavailable(f"{address} could not be reached in {address.wait:g} s: {why}.")
    return EngineUnavailable(f"{address} cannot be reached: {why}. {advice}, or add ?wait=60 to its URL.")


def _advise(told: Mapping[str, str], address: Address) -> None:
    policy = told.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        logger.warning("%s evicts (maxmemory-policy %s), so it may lose what it keeps: set noeviction", address, policy)
    if told.get("aof_enabled") == "0":
        logger.warning("%s keeps no append-only file, so a restart of it loses events: set appendonly yes", address)


async def _subscribe(connection: BaseConnection, names: Names) -> None:
    """Raises AuthorizationError. Whoever may subscribe is told so beside the answers, so that the one to PING follows;
    whoever may not is answered that, which is taken for the answer to PING."""
    for command in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
        connection.send_command(command, names.pulse("greeting"))
        await connection.create_request(b"PING")


async def _mark(client: Client, address: Address, seal: Seal) -> None:
    shard = Names(address.prefix).shards[0]
    ours = seal.close(MARK, "mark")
    held = b""
    while held != ours:  # at most twice: what it opens, it seals anew by its first key
        arguments = ["", 0, 0, 0, secrets.token_hex(8), ours, held]
        held, refused = await run(client, "greet", [shard], arguments)
        forbidden = [name for name, why in zip(refused[::2], refused[1::2], strict=True) if denied(why.decode())]
        if forbidden:
            commands = b", ".join(dict.fromkeys(forbidden)).decode()
            raise ConfigurationError(
                f"{address} does not let its user do {commands} with {address.prefix}:*; the README has its rights."
            )
        if not _opens(seal, held):
            raise ConfigurationError(f"{address} {_other_keys(address, held)}")


def _opens(seal: Seal, held: bytes) -> bool:
    try:
        return seal.open(held, "mark") == MARK
    except EngineRefused:
        return False


def _other_keys(address: Address, held: bytes) -> str:
    if not address.keys:
        return "is sealed: name in ?keys= the file of keys that its other nodes have."
    if held == MARK:
        return "is in use without keys: take away ?keys=, or begin anew below another ?prefix=."
    return "is sealed by none of the keys in the file of ?keys=: take the one that its other nodes have."
