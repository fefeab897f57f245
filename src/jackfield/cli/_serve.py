"""`jackfield serve`: a server of its own, with every shipped plugin.

Every variable of the environment is a flag, too, and the flag wins. All but the secrets: everybody on a machine can
read the command lines of all of it.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin

import anyio

from jackfield import Jackfield
from jackfield._environ import ENGINE, Variable, known_variables
from jackfield._redact import clean
from jackfield.cli._command import Commands, add_choice, describe, points
from jackfield.cli._servers import Server, backend, server
from jackfield.errors import ConfigurationError
from jackfield.serving import listen

if TYPE_CHECKING:
    import socket

__all__ = ["add"]

logger = logging.getLogger("jackfield")

EXAMPLES = """\
  export JACKFIELD_SECRET=$(python -c "import secrets; print(secrets.token_urlsafe(32))")
  jackfield serve --port 8000
  jackfield serve --loop trio --allowed-origins https://chat.example
  jackfield serve --plugin polls --without threads --presence-grace 5
"""
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
LOOPS = ("asyncio", "trio")
LIBRARIES = ("anycorn", "asyncio", "uvicorn", "websockets")


def add(commands: Commands, arguments: Sequence[str]) -> None:
    """The settings among its flags are those of the plugins that `arguments` choose."""
    parser = describe(commands, "serve", "Serve on a port, with every shipped plugin.", run, EXAMPLES)
    parser.usage = "jackfield serve [--host HOST] [--port PORT] [--loop asyncio|trio] [--engine URL] [OPTION …]"
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; unix:/path is a unix socket [127.0.0.1]")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes a free one, and the line printed says which")
    parser.add_argument("--loop", choices=LOOPS, default="asyncio", help="asyncio is uvicorn on uvloop")
    parser.add_argument("--log-level", choices=tuple(LEVELS), default="info", help="how much goes to standard error")
    add_choice(parser)
    settings = parser.add_argument_group(
        "settings",
        "Each is a variable, too: --presence-grace is JACKFIELD_PRESENCE_GRACE; the flag wins.\n"
        "Secrets are variables only: JACKFIELD_SECRET signs the tokens, JACKFIELD_API_KEY opens the HTTP API.",
    )
    settings.add_argument("--engine", dest=ENGINE, metavar="URL", help="what keeps the state [memory://]")
    if arguments[:1] != ["serve"]:
        return
    reserved = set(parser._option_string_actions)
    for variable in _variables(arguments):
        flag = "--" + variable.name.removeprefix("JACKFIELD_").lower().replace("_", "-")
        if flag in reserved:
            continue
        if variable.secret:
            settings.add_argument(flag, dest=variable.name, action=_Secret, help=argparse.SUPPRESS)
        else:
            settings.add_argument(flag, dest=variable.name, metavar=_metavar(variable), help=f"[{_default(variable)}]")


def run(chosen: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    flags = {name: value for name, value in vars(chosen).items() if name.startswith("JACKFIELD_") and value is not None}
    _log_to_stderr(LEVELS[chosen.log_level])
    serve = server(chosen.loop)
    app = Jackfield.from_environ({**os.environ, **flags}, plugins=points(chosen.plugin, chosen.without))
    with listen(chosen.host, chosen.port, write_timeout=app.settings.write_timeout) as listener:
        anyio.run(_live, app, serve, listener, **backend(chosen.loop))
    return 0


async def _live(app: Jackfield, serve: Server, listener: socket.socket) -> None:
    """From the start to the end, in one order on every server: ours begins first and ends last, so that whoever ends
    a connection tells it why, and the HTTP API answers until there is nobody left to ask."""
    url = _url(listener)
    stop = anyio.Event()
    async with app.lifespan(), anyio.create_task_group() as tasks:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await tasks.start(serve, app, listener, stop)
            print(url, flush=True)
            logger.info("listening on %s", url)
            async for received in signals:
                logger.info("%s: ending; a second one kills", received.name)
                break
        await app.drain()
        stop.set()


def _url(listener: socket.socket) -> str:
    if isinstance(path := listener.getsockname(), str):
        return f"unix:{path}"
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


# --- Logs


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record))


def _log_to_stderr(level: int) -> None:
    """Ours, and of the libraries what is a step more urgent: theirs tell of every connection, and at their most
    talkative of every frame."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(level + 10)


# --- Flags


def _variables(arguments: Sequence[str]) -> list[Variable]:
    choice = argparse.ArgumentParser(prog="jackfield serve", add_help=False, allow_abbrev=False)
    choice.add_argument("--loop", choices=LOOPS, default="asyncio")
    add_choice(choice)
    chosen, others = choice.parse_known_args(arguments)
    try:
        server(chosen.loop)  # first: its extra brings what the plugins need
        return list(known_variables(points(chosen.plugin, chosen.without)).values())
    except ConfigurationError:
        if {"-h", "--help"} & set(others):  # who asks for help gets what there is
            return []
        raise


def _metavar(variable: Variable) -> str:
    if variable.kind is bool:
        return "true|false"
    if variable.kind is int:
        return "N"
    if variable.kind is float:
        return str(variable.field.metadata.get("unit", "N")).upper()
    if get_origin(variable.kind) is Literal:
        return "|".join(get_args(variable.kind))
    return "TEXT" if variable.kind is str else "A,B"


def _default(variable: Variable) -> str:
    default = variable.default
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float):
        return f"{default:.12g}"
    if default is None or default == "" or default == ():
        return "none"
    return str(default).replace("%", "%%")


class _Secret(argparse.Action):
    """A flag that is refused, without saying what it was given."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> NoReturn:
        parser.error(f"a command line can be read by everybody on the machine; set {self.dest} in the environment")


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65_536:
        raise argparse.ArgumentTypeError(f"{port} is no port: 0 to 65535")
    return port
