"""The wiring: which lines are jackfield, and which are the application."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from examples.workspace.api import API
from examples.workspace.asking import refusal
from examples.workspace.database import Database
from examples.workspace.headers import Headers
from examples.workspace.live import WORKSPACE, Accounts
from jackfield import Jackfield, Settings
from jackfield_auth import TokenAuth
from jackfield_http import HTTP
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from jackfield_reactions import Reactions
from jackfield_typing import Typing

__all__ = ["chat"]

STATIC = Path(__file__).parent / "static"


def chat(database: Database, *, presence_grace: float = 20.0, settings: Settings | None = None) -> Starlette:
    """The whole application over one database. `presence_grace` is in seconds."""

    # --- jackfield: who may come in, who is there, who types; and the events that api.py publishes
    accounts = Accounts(database)
    realtime = Jackfield(
        TokenAuth(verify=accounts.verify),
        RateLimit(),
        accounts,
        Presence(grace=presence_grace, client_status=True),
        Typing(),
        Reactions(),
        HTTP(),  # without a key: the browser's client at /jackfield.js, and /health
        settings=settings,
    )

    # --- the application: its handlers, its page
    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    api = API(database, live=realtime.workspace(WORKSPACE))
    return Starlette(
        routes=[
            Route("/", page),
            Mount("/static", StaticFiles(directory=STATIC)),
            *api.routes(),
            Mount("/", realtime),  # last: it answers /ws/{workspace_id}, and what its plugins route
        ],
        middleware=[Middleware(Headers)],
        exception_handlers={HTTPException: refusal},
        lifespan=realtime.lifespan,
    )
