"""One connection, from its first frame to its end: who reads, who writes, and who notices that nothing comes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

from jackfield.client._ending import CUT, Ended, Ending

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from jackfield._clock import Clock
    from jackfield.client._bell import Bell
    from jackfield.client._heart import Heart
    from jackfield.client._link import Link

__all__ = ["Talk", "converse"]

SILENT = Ending(CUT, "silent")


class Talk(Protocol):
    """What is to be said on a connection, and what becomes of what is heard. None of it waits for the other end."""

    def due(self, now: float) -> list[str]:
        """What to send now."""
        ...

    def due_at(self, now: float) -> float:
        """When to ask `due` again, unless the bell rings before."""
        ...

    def heard(self, text: str) -> bool:
        """A frame; whether to read on. Raises Ended to leave."""
        ...

    async def room(self) -> None:
        """Return when it may."""
        ...

    async def renew(self) -> None:
        """What goes on beside."""
        ...


async def converse(
    dialed: AbstractAsyncContextManager[Link], talk: Talk, heart: Heart, bell: Bell, clock: Clock
) -> Ending:
    """Connect, talk until the line ends, and say how it did."""
    endings: list[Ending] = []
    dialing = anyio.CancelScope()

    async def read(link: Link) -> None:
        while True:
            text = await link.receive()
            heart.lived()
            if not talk.heard(text):
                heart.hold()
                await talk.room()
                heart.resume()

    async def write(link: Link) -> None:
        while True:
            for text in talk.due(clock.monotonic()):
                await link.send(text)
            await bell.wait(talk.due_at(clock.monotonic()))

    async def watch() -> None:
        now = clock.monotonic()
        while (dead_at := heart.dead_at(now)) > now:
            await clock.sleep(dead_at - now)
            now = clock.monotonic()
        endings.append(SILENT)
        dialing.cancel()

    async def until_the_end(part: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await part()
        except Ended as ended:
            endings.append(ended.ending)
            scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            with dialing:
                async with dialed as link, anyio.create_task_group() as talking:
                    for part in (partial(read, link), partial(write, link), talk.renew):
                        talking.start_soon(until_the_end, part, talking.cancel_scope)
        except Ended as ended:
            endings.append(ended.ending)
        tasks.cancel_scope.cancel()
    return endings[0]
