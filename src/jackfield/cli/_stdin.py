"""Standard input, line by line, while the event loop goes on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from anyio import from_thread
from anyio.lowlevel import EventLoopToken, current_token

from jackfield.errors import ConfigurationError

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream

__all__ = ["Line", "lines"]

PIECE = 64 * 1024
"""Bytes that are read at once, and what a pipe holds."""

Line = tuple[int, bytes]
"""Its number, from 1, and what stands in it."""


async def lines() -> AsyncGenerator[list[Line], None]:
    """Those that are waiting already, at least one, and so on until the end; without those in which nothing stands.

    Raises ConfigurationError where there is none, or it cannot be read.
    """
    # A thread of its own and no worker's: one that waits for a terminal must not hold up the end of the process. And no
    # file object, whose lock it would hold then.
    descriptor = _descriptor()
    sending, pieces = anyio.create_memory_object_stream[bytes | OSError](0)
    arguments = descriptor, current_token(), sending
    threading.Thread(target=_read, args=arguments, name="jackfield stdin", daemon=True).start()
    number, begun = 0, b""
    with pieces, sending:
        async for piece in pieces:
            if isinstance(piece, OSError):
                raise ConfigurationError(f"standard input cannot be read: {piece.strerror}.")
            *whole, begun = (begun + piece).split(b"\n") if piece else (begun, b"")
            found = [(number + n, line) for n, line in enumerate(whole, 1) if line.strip()]
            number += len(whole)
            if found:
                yield found
            if not piece:
                return


def _read(descriptor: int, loop: EventLoopToken, sending: MemoryObjectSendStream[bytes | OSError]) -> None:
    """Piece by piece, each when the one before has been taken; an empty one is the end."""
    piece: bytes | OSError = b" "
    # Nobody wants more: the loop is gone, or who took it.
    with suppress(RuntimeError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        while piece and not isinstance(piece, OSError):
            try:
                piece = os.read(descriptor, PIECE)
            except OSError as error:
                piece = error
            from_thread.run(sending.send, piece, token=loop)


def _descriptor() -> int:
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed from the beginning, or since
        raise ConfigurationError("there is no standard input; name an event by --type.") from None
