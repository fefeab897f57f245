"""SIGTERM, heard before the server hears of it: first the clients are sent elsewhere, then the server may end.

Servers listen to signals in two ways, and both are held back. One that asked Python (`signal.signal`: uvicorn, and
whatever runs on trio) is behind our handler. One that asked its loop (`add_signal_handler`: hypercorn without workers,
the workers of granian) hears by a socket into which Python writes each signal's number: ours is put in its place.

Whoever was there before is told at the end by the same signal, raised once more when everything stands as it did.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
from anyio.lowlevel import current_token

from jackfield._clock import Deadline

if TYPE_CHECKING:
    from types import FrameType

    from jackfield._app import Jackfield

__all__ = ["drain_on_signals", "until_drained"]

logger = logging.getLogger("jackfield")

SIGNALS = (signal.SIGTERM, signal.SIGINT)
LOOK_EVERY = 0.1
"""Seconds after which a loop that was begun anew hears no signal before we do."""


async def until_drained(app: Jackfield) -> None:
    """Wait for SIGTERM or SIGINT, then drain. It is what `serve` of anycorn and of hypercorn takes as
    `shutdown_trigger`: `partial(until_drained, realtime)`. A second signal does what it would have done without this:
    it ends the process. Main thread only."""
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async for received in signals:
            logger.info("%s: draining; a second one kills", received.name)
            break
    await app.drain()


@contextmanager
def drain_on_signals(app: Jackfield) -> Generator[None, None, None]:
    """Inside of it, SIGTERM and SIGINT first drain `app`, and are then passed on to whoever listened before: your
    server, which ends as it always does. A second one is passed on at once. Enter it inside the lifespan; or let
    `Settings(drain_on_signals=True)` do it. Raises ConfigurationError outside of the lifespan.

    A signal that is ignored stays so. Outside of the main thread no signal can be heard: that is a warning in the log,
    and nothing is changed.
    """
    chain = _Chain(app)
    try:
        chain.install()
    except ValueError:  # so it is said by Python
        logger.warning("signals reach the main thread only, and this is another one: nobody drains at SIGTERM")
    try:
        yield
    finally:
        chain.restore()


class _Chain:
    """Ours, in front of whoever listened before."""

    def __init__(self, app: Jackfield) -> None:
        self._node = app.node
        self._loop: Any = current_token().native_token
        self._before: dict[signal.Signals, Any] = {}
        self._heard: signal.Signals | None = None
        self._rung = anyio.Event()
        self._bytes: _Bytes | None = None

    def install(self) -> None:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):  # None: not Python's, and could not be put back
                signal.signal(number, self._hear)
                self._before[number] = before
        if self._before:
            self._node.start_soon(self._drain)
            if hasattr(self._loop, "add_reader"):  # asyncio, or what speaks like it
                self._bytes = _Bytes(self._loop, self._is_ours)

    def restore(self) -> None:
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None
        while self._before:
            number, before = self._before.popitem()
            if self._is_ours(number):  # else somebody came after us
                signal.signal(number, before)

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) == self._hear

    def _hear(self, number: int, _: FrameType | None) -> None:
        """Between any two instructions of the main thread: nothing here may take for granted what others were at."""
        if self._heard is not None:
            self._pass_on(number)
        else:
            self._heard = signal.Signals(number)
            # The one door into a loop that a signal may take.
            soon = getattr(self._loop, "run_sync_soon", None) or self._loop.call_soon_threadsafe
            soon(self._rung.set)

    async def _drain(self) -> None:
        while self._heard is None:
            if self._bytes is not None:
                self._bytes.interpose()
            with suppress(TimeoutError), Deadline(self._node.timers, LOOK_EVERY):
                await self._rung.wait()
        logger.info("%s: draining; a second one ends it at once", self._heard.name)
        await self._node.drain()
        self._pass_on(self._heard)

    def _pass_on(self, number: int) -> None:
        if self._before:
            self.restore()
            signal.raise_signal(number)


class _Bytes:
    """In the place of the socket by which a loop hears of signals: `ours` are held back, the others go on to it."""

    def __init__(self, loop: Any, ours: Callable[[int], bool]) -> None:
        self._loop = loop
        self._ours = ours
        self._ears, self._mouth = socket.socketpair()
        for end in (self._ears, self._mouth):
            end.setblocking(False)
        self._theirs = -1
        self.interpose()
        loop.add_reader(self._ears, self._read)

    def interpose(self) -> None:
        """Again, where the loop has made itself a new one, as uvloop does each time that it is run."""
        current = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        if current != self._mouth.fileno():
            self._theirs = current

    def _read(self) -> None:
        with suppress(OSError):  # nothing is there; or their loop has ended meanwhile
            numbers = bytes(number for number in self._ears.recv(4096) if not self._ours(number))
            if numbers and self._theirs != -1:
                with socket.socket(fileno=self._theirs) as theirs:
                    try:
                        theirs.send(numbers)
                    finally:
                        theirs.detach()

    def close(self) -> None:
        self._loop.remove_reader(self._ears)
        current = signal.set_wakeup_fd(-1)
        # Another one than ours is of somebody who came after us.
        theirs = self._theirs if current == self._mouth.fileno() else current
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        self._read()
        self._ears.close()
        self._mouth.close()
