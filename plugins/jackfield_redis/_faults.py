"""What is wrong with Redis, or on the way to it: in a line, and what follows from it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import anyio
from coredis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    ReadOnlyError,
    RedisClusterError,
    ResponseError,
    TryAgainError,
)

__all__ = ["cause", "cut", "demoted", "denied", "full", "passes", "said"]

LONGEST = 240

_around_a_script = re.compile(
    r"^Error running script \(call to \w+\): (?:@?user_script: ?\d+: )+-?| script: \w+, on @user_script:\d+\.$"
)


def cause(error: BaseException) -> Exception:
    """What it comes down to."""
    inside: Sequence[BaseException] = getattr(error, "exceptions", ())
    if inside:
        return cause(inside[0])
    if isinstance(error, ConnectionError | RedisClusterError | OSError) and error.__cause__ is not None:
        return cause(error.__cause__)
    return error if isinstance(error, Exception) else RuntimeError(type(error).__name__)


def said(error: BaseException) -> str:
    """In a line that is never empty, nor long."""
    if isinstance(error, OSError) and error.errno is not None:
        ours = type(error).__module__ == "builtins"  # what is said by others is no errno of the system
        return os.strerror(error.errno) if ours else str(error.strerror)
    if cut(error):
        return "the connection was cut"
    if isinstance(error, ClusterError):
        return "each of its nodes sends on to another, as while a slot moves"
    text = _around_a_script.sub("", " ".join(str(error).split()))
    if not text:
        return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
    if len(text) > LONGEST:
        text = text.partition(". ")[0][:LONGEST]
    return text.removesuffix(".")


def cut(error: BaseException) -> bool:
    """Whether the other side ended the connection."""
    return isinstance(
        error, anyio.EndOfStream | anyio.BrokenResourceError | anyio.ClosedResourceError | ConnectionResetError
    )


def passes(error: BaseException) -> bool:
    """Whether it did nothing, and will in a moment: it starts, a script runs too long, another takes over."""
    # Redirected from node to node a client gives up: each points to the other while a slot moves.
    moments = BusyLoadingError | AskError | ClusterDownError | ClusterError | TryAgainError
    return isinstance(error, moments) or _code(error) in ("BUSY", "MASTERDOWN")


def full(error: BaseException) -> bool:
    """Whether it did nothing, for want of room, of a disk or of replicas."""
    return _code(error) in ("OOM", "MISCONF", "NOREPLICAS")


def demoted(error: BaseException) -> bool:
    """Whether it did nothing, being a replica: another is the primary now."""
    return isinstance(error, ReadOnlyError) or _code(error) == "READONLY"


def denied(error: BaseException | str) -> bool:
    """Whether the user may not do it; out of a script there is no code for that before Redis 7."""
    text = str(error)
    return "The user executing the script can't" in text or "no permissions" in text or "NOPERM" in text


def _code(error: BaseException) -> str:
    if not isinstance(error, ResponseError):
        return ""
    return said(error).partition(" ")[0]
