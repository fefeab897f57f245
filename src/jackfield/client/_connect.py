"""How a client comes to be."""

from __future__ import annotations

import random as chance
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio

from jackfield._clock import Clock, SystemClock
from jackfield._registry import Registry
from jackfield.client._client import Client
from jackfield.client._debounce import Debounce
from jackfield.client._ending import Backoff
from jackfield.client._frames import Vocabulary
from jackfield.client._in_process import in_process
from jackfield.client._link import Dial, over_sockets
from jackfield.client._requests import Requests
from jackfield.client._tokens import Token, Tokens, check

if TYPE_CHECKING:
    import httpx

    from jackfield.events import Event

__all__ = ["connect"]


@asynccontextmanager
async def connect(
    url: str,
    *,
    token: Token,
    events: Iterable[type[Event]] = (),
    cursor: str = "",
    app: Any = None,
    http: httpx.AsyncClient | None = None,
    patience: float = 10.0,
    backoff_base: float = 0.5,
    backoff_cap: float = 20.0,
    stable: float = 30.0,
    buffer: int = 64,
    window: int = 16,
    inbox: int = 256,
    typing_repeat: float = 3.0,
    typing_idle: float = 5.0,
    clock: Clock | None = None,
    random: Callable[[], float] = chance.random,
    dial: Dial | None = None,
) -> AsyncGenerator[Client, None]:
    """A client of one workspace, for as long as the block lasts. It connects in the background, and comes back.

    `url` is `ws://…/ws/{workspace_id}` (or wss, http, https); with `app`, an ASGI application whose lifespan runs, only
    its path counts, and no socket is opened. `token` is a text, or a function, also `async`, that is asked at each
    connect, and for a JSON web token also before it runs out; None or "" from it means no rights, and ends it. `events`
    are the classes beside the specification's that it should know. With `cursor` it goes on where `Client.cursor` was.
    `http` carries what httpx offers: certificates, proxies, headers.

    `patience` is how many seconds the server may take for `hello`, or keep silent after a ping. Between attempts pass
    `backoff_base` seconds at random, doubled each time up to `backoff_cap`, from the start again after a link that
    stood for `stable` seconds; what a close code asks for goes before. At most `buffer` requests wait for their answer,
    `window` of them sent. Where `inbox` events wait for the reader, so does the server, but for the answers to requests
    and what stands before them: iterate, or the memory fills. `typing_repeat` and `typing_idle`: seconds between two
    that say the same, and without a keystroke until it is over.

    Raises ValueError for a URL or a token that cannot be one, and no exception for a server that is not there: that may
    pass, and `Disconnected` says so. Leave the block in the task that entered it.
    """
    if isinstance(token, str):
        check(token)
    if dial is None:
        _keeps_no_token(url)
        dial = over_sockets(_address(url), http) if app is None else in_process(url, app)
    clock = clock or SystemClock()
    registry = Registry()
    for event in events:
        registry.add("connect", event)
    client = Client(
        dial,
        Tokens(token, clock, patience, random),
        Vocabulary(registry),
        clock,
        backoff=Backoff(backoff_base, backoff_cap, stable, random),
        requests=Requests(buffer, window),
        debounce=Debounce(typing_repeat, typing_idle),
        patience=patience,
        inbox=inbox,
        cursor=cursor,
    )
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.live)
            try:
                yield client
            except Exception as error:  # raised below, not inside a group of one
                failure = error
            finally:
                client.close()
    except BaseExceptionGroup as group:  # KeyboardInterrupt and its like come out as they are, too
        if len(group.exceptions) != 1:
            raise
        raise group.exceptions[0] from None
    if failure is not None:
        raise failure


def _keeps_no_token(url: str) -> None:
    if "token" in parse_qs(urlsplit(url).query, keep_blank_values=True):
        raise ValueError("leave the token out of the URL, where logs would keep it, and give it as token=")


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"ws", "wss", "http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no address of a workspace, such as wss://chat.example/ws/acme")
    return parts._replace(scheme=parts.scheme.replace("http", "ws")).geturl()
