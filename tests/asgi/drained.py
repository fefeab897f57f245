"""Servers that are started by a program, as a host would who wants all of `jackfield.serving`."""

from __future__ import annotations

import sys
from functools import partial

from application import application, realtime
from jackfield.serving import listen, until_drained


def uvicorn(port: int) -> None:
    import uvicorn

    config = uvicorn.Config(application, ws="websockets-sansio", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listen("127.0.0.1", port, write_timeout=realtime.settings.write_timeout)])


def anycorn(port: int) -> None:
    import trio
    from anycorn import Config, serve

    config = Config()
    config.bind = [f"fd://{listen('127.0.0.1', port).detach()}"]
    config.graceful_timeout = 2
    trio.run(partial(serve, application, config, shutdown_trigger=partial(until_drained, realtime)))  # type: ignore[arg-type]


if __name__ == "__main__":
    {"uvicorn": uvicorn, "anycorn": anycorn}[sys.argv[1]](int(sys.argv[2]))
