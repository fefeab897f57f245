"""The two servers that `jackfield serve` runs on: uvicorn under asyncio, anycorn under trio.

Each is one coroutine function that serves until `stop` is set, and says through `task_status` when it listens. The
lifespan and the signals are ours, so neither server is given them: what starts, what ends and in which order does not
depend on the server.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
from anyio import TASK_STATUS_IGNORED

from jackfield.errors import ConfigurationError

if TYPE_CHECKING:
    import socket

    from anyio.abc import TaskStatus

    from jackfield import Jackfield

__all__ = ["Server", "backend", "server"]

MESSAGE_BYTES = 65_536
"""What a server lets through at least: it is the application that answers a message which is too big."""

UNANSWERED = "ASGI callable returned without completing handshake."
PING_EVERY = 20
STOPS_WITHIN = 1
"""Seconds that a server has once every connection has been ended by the application."""


class Server(Protocol):
    """Serves until `stop` is set."""

    def __call__(
        self,
        app: Jackfield,
        listener: socket.socket,
        stop: anyio.Event,
        *,
        task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
    ) -> Coroutine[Any, Any, None]: ...


def server(loop: str) -> Server:
    """The server for this loop. Raises ConfigurationError, naming the extra, where it is not installed."""
    name, extra, run = {"asyncio": ("uvicorn", "serve", _uvicorn), "trio": ("anycorn", "trio", _anycorn)}[loop]
    try:
        for module in (name, "websockets") if loop == "asyncio" else (name, "trio"):
            __import__(module)
    except ImportError as error:
        raise ConfigurationError(f'--loop {loop} needs {name}: pip install "jackfield[{extra}]" ({error}).') from None
    return run


def backend(loop: str) -> dict[str, Any]:
    """What anyio.run() takes for this loop: asyncio is uvloop, where that is installed."""
    if loop == "asyncio":
        try:
            import uvloop
        except ImportError:
            return {"backend": "asyncio"}
        return {"backend": "asyncio", "backend_options": {"loop_factory": uvloop.new_event_loop}}
    return {"backend": loop}


async def _uvicorn(
    app: Jackfield,
    listener: socket.socket,
    stop: anyio.Event,
    *,
    task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
) -> None:
    import uvicorn
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    # An upgrade that is denied by HTTP counts as unanswered there: an error in the log for each.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != UNANSWERED)

    class Protocol(WebSocketsSansIOProtocol):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self.handshake_initiated and self.conn.handshake_exc is not None:
                # refused by websockets itself, as a line over 8 KiB is: uvicorn leaves the answer unsent
                self.handshake_complete = self.close_sent = True
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.transport.close()

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield  # they are ours; uvicorn would raise them again at its end

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            task_status.started()

    config = uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="off",
        ws=Protocol,
        ws_max_size=max(MESSAGE_BYTES, 4 * app.settings.max_event_bytes),
        ws_per_message_deflate=False,
        ws_ping_interval=PING_EVERY,
        ws_ping_timeout=PING_EVERY,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # JACKFIELD_TRUSTED_PROXIES says whom to believe
        server_header=False,
        timeout_graceful_shutdown=STOPS_WITHIN,
    )
    serving = Server(config)

    async def stopping() -> None:
        await stop.wait()
        serving.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stopping)
        await serving.serve(sockets=[listener])
        tasks.cancel_scope.cancel()


async def _anycorn(
    app: Jackfield,
    listener: socket.socket,
    stop: anyio.Event,
    *,
    task_status: TaskStatus[None] = TASK_STATUS_IGNORED,
) -> None:
    import anycorn
    from anycorn.protocol import ws_stream

    class Buffer(ws_stream.WebsocketBuffer):
        def extend(self, event: Any) -> None:
            # What is too much is dropped, and the application refuses the rest, which is too big all the same: where
            # anycorn does, it sends 1009 and then forgets the connection without closing it.
            bounded = replace(event, data=event.data[: self.max_length - self.length])
            super().extend(bounded)  # pyright: ignore[reportUnknownMemberType]

    ws_stream.WebsocketBuffer = Buffer  # type: ignore[misc]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":  # anycorn cannot be kept from speaking it
            for word in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{word}.complete"})
        else:
            await app(scope, receive, send)

    config = anycorn.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = 2048
    config.accesslog = None
    config.errorlog = logging.getLogger("anycorn.error")
    config.include_server_header = False
    config.websocket_max_message_size = max(MESSAGE_BYTES, 4 * app.settings.max_event_bytes)
    config.websocket_permessage_deflate = False
    # No pings: anycorn sends the first one at once, and closes the socket without waiting for the answer to a close
    # frame. A late pong would be answered with a reset, and a client lose the error that came before the close.
    config.graceful_timeout = STOPS_WITHIN
    async with anyio.create_task_group() as tasks:
        serve = cast("Any", anycorn.serve)  # pyright: ignore[reportUnknownMemberType]
        await tasks.start(partial(serve, application, config, shutdown_trigger=stop.wait, mode="asgi"))
        task_status.started()
