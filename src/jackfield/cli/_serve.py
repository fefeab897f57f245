"""`jackfield serve`: a server of its own, with every shipped plugin."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import anyio

from jackfield import Jackfield
from jackfield._settings import SHIPPED
from jackfield.cli import _servers
from jackfield.errors import ConfigurationError, EngineError

__all__ = ["add"]

logger = logging.getLogger("jackfield")


def add(commands: Any, arguments: Sequence[str]) -> None:
    parser: argparse.ArgumentParser = commands.add_parser("serve", help="serve on a port", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--engine")
    parser.add_argument("--allowed-origins")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    environ = dict(os.environ)
    for name in ("engine", "allowed_origins"):
        if (value := getattr(chosen, name)) is not None:
            environ[f"JACKFIELD_{name.upper()}"] = value
    server = _servers.server(chosen.loop)
    app = Jackfield.from_environ(environ, plugins=SHIPPED)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    with _servers.listen(chosen.host, chosen.port, app.settings) as listener:
        try:
            anyio.run(_life, app, server, listener, **_servers.backend(chosen.loop))
        except* (ConfigurationError, EngineError) as group:
            error: BaseException = group
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
    return 0


async def _life(app: Jackfield, server: _servers.Server, listener: Any) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    stop = anyio.Event()
    async with app.lifespan(), anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await tasks.start(server, app, listener, stop)
            print(url, flush=True)
            logger.info("listening on %s", url)
            async for received in signals:
                logger.info("%s: ending", received.name)
                break
        await app.node.drain()
        stop.set()
