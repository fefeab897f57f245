"""What every server here serves: jackfield as `serve` has it, mounted by a host."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Mount

from jackfield import Jackfield

realtime = Jackfield.from_environ()
application = Starlette(routes=[Mount("/", realtime)], lifespan=realtime.lifespan)


class WithoutLifespan:
    """The same for daphne, which speaks no lifespan: whoever embeds jackfield there has to enter it himself.

    A task of its own holds it open from the first call on: whoever enters it has to leave it, and daphne
    runs every connection in another task. Nobody leaves it: daphne ends without telling its application.
    """

    def __init__(self) -> None:
        self.entered: asyncio.Future[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.entered is None:
            self.entered = asyncio.get_running_loop().create_future()
            self.holder = asyncio.create_task(self.hold(self.entered))
        await asyncio.shield(self.entered)  # daphne cancels a connection that left; the others still wait
        await application(scope, receive, send)

    async def hold(self, entered: asyncio.Future[None]) -> None:
        try:
            async with realtime.lifespan():
                entered.set_result(None)
                await asyncio.Event().wait()
        except Exception as error:
            if not entered.done():
                entered.set_exception(error)
            raise


without_lifespan = WithoutLifespan()
