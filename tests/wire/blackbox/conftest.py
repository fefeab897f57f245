"""One server with the default settings a loop, shared by all; and others for those who ask."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from outsider import Pest, Room, Server, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session", params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def default_server(loop: str) -> Iterator[Server]:
    with serving(loop) as server:
        yield server


@pytest.fixture(scope="session")
def pest(default_server: Server) -> Iterator[Pest]:
    pest = Pest(default_server)
    yield pest
    pest.stop()


@pytest.fixture(scope="module")
def server_with(loop: str) -> Iterator[Callable[..., Server]]:
    """Servers with settings of their own, each started once a module."""
    with ExitStack() as stack:
        running: dict[tuple[tuple[str, str], ...], Server] = {}

        def started(**settings: str) -> Server:
            key = tuple(sorted(settings.items()))
            if key not in running:
                running[key] = stack.enter_context(serving(loop, **settings))
            return running[key]

        yield started


@pytest.fixture
def room_with(server_with: Callable[..., Server]) -> Iterator[Callable[..., Room]]:
    """A new workspace on a server with these settings."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(Room(server_with(**settings)))


@pytest.fixture
def room(default_server: Server, pest: Pest) -> Iterator[Room]:
    """A new workspace on the shared server, where somebody else is a pest meanwhile."""
    with Room(default_server) as room:
        yield room
