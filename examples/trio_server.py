"""jackfield on trio, served by anycorn: the same plugins, and trio itself in yours.

pip install "jackfield[jwt,trio]"
python trio_server.py            # then connect to ws://127.0.0.1:8000/ws/ops
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager

import attrs
import trio
from anycorn import Config
from anycorn.run import run
from starlette.applications import Starlette
from starlette.routing import Mount

from jackfield import (
    Audience,
    ClientEvent,
    Everyone,
    Handshake,
    Jackfield,
    Principal,
    ServerEvent,
    Unauthorized,
    hookimpl,
    latest,
)
from jackfield_members import OpenWorkspace
from jackfield_presence import Presence


class Pulse(ServerEvent, type="pulse", delivery=latest()):
    """How busy the loop is."""

    tasks: int

    def audience(self) -> Audience:
        return Everyone()


@attrs.define(eq=False)
class Pulses:
    """Tells the workspace "ops" how many tasks live; anybody may listen."""

    every: float = 1.0
    name: str = "pulses"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return (Pulse,)

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        if handshake.workspace_id != "ops":
            raise Unauthorized
        return Principal("guest")

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Jackfield) -> AsyncGenerator[None]:
        app.start_soon(self.beat, app)  # a task of the application's own nursery
        yield

    async def beat(self, app: Jackfield) -> None:
        while True:
            tasks = trio.lowlevel.current_statistics().tasks_living
            await app.workspace("ops").publish(Pulse(tasks))
            await app.clock.sleep(self.every)


realtime = Jackfield(Pulses(), OpenWorkspace(), Presence())
app = Starlette(routes=[Mount("/", realtime)], lifespan=realtime.lifespan)


def main(port: int = 8000) -> int:
    config = Config()
    config.application_path = "trio_server:app"
    config.worker_class = "trio"
    config.bind = [f"127.0.0.1:{port}"]
    config.websocket_max_message_size = 65_536  # ours is 16 KiB; what is far larger ends in the server
    config.websocket_permessage_deflate = False  # a small frame can be a large message
    config.websocket_ping_interval = 20.0
    return run(config)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
