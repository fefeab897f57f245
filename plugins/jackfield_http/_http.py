"""Routes beside `/ws`, under one key."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from contextlib import aclosing

import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from jackfield import InvalidEvent, Jackfield, Receipt, Refused, UnknownAudience, hookimpl, valid_id
from jackfield.errors import EngineError
from jackfield.hookspecs import presence_of
from jackfield_http._contract import client_routes, contract_routes

__all__ = ["HTTP"]

MAX_BODY = 2 * 1024 * 1024
MAX_READ = 8 * MAX_BODY
"""Read on to here before refusing what is too big: a server that hangs up on somebody who still sends resets the
connection, and he never reads why."""
Handler = Callable[[Jackfield, Request], Awaitable[Response]]


@attrs.define(eq=False)
class HTTP:
    """`api_key` is what `Authorization: Bearer …` must carry; without one every path that needs it is 401. With `docs`
    everybody may read which events there are: `/docs`, `/asyncapi.json` and `/jackfield.d.ts`."""

    api_key: str | None = attrs.field(default=None, repr=False, metadata={"env": "API_KEY"})
    docs: bool = True
    name: str = "http"

    @hookimpl
    def register_routes(self, app: Jackfield) -> Iterable[BaseRoute]:
        def keyed(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
            async def endpoint(request: Request) -> Response:
                if not self._has_key(request):
                    return _problem(401, "missing or wrong key", {"www-authenticate": "Bearer"})
                if not all(valid_id(id) for id in request.path_params.values()):
                    return _problem(404, "no such id")
                try:
                    return await handler(app, request)
                except (EngineError, TimeoutError):
                    return _problem(503, "the engine is away; repeat with the same id", {"retry-after": "1"})

            return endpoint

        async def live(request: Request) -> Response:
            return JSONResponse({"status": "live"})

        async def ready(request: Request) -> Response:
            is_ready = await app.ready()
            return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

        workspace = "/api/workspaces/{workspace_id}"
        return (
            Route(f"{workspace}/events", keyed(publish), methods=["POST"]),
            Route(f"{workspace}/presence", keyed(presence), methods=["GET"]),
            Route(f"{workspace}/users/{{user_id}}/connections", keyed(revoke), methods=["DELETE"]),
            Route("/admin/drain", keyed(drain), methods=["POST"]),
            Route("/health/live", live),
            Route("/health/ready", ready),
            *client_routes(),
            *(contract_routes(app) if self.docs else ()),
        )

    def _has_key(self, request: Request) -> bool:
        given = request.headers.getlist("authorization")
        if not self.api_key or len(given) != 1:
            return False
        scheme, _, key = given[0].partition(" ")
        # Starlette reads a header's bytes as Latin-1.
        return scheme.lower() == "bearer" and hmac.compare_digest(key.encode("latin-1"), self.api_key.encode())


async def publish(app: Jackfield, request: Request) -> Response:
    """One event, or up to a hundred, all of them or none."""
    body, size = bytearray(), 0
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size <= MAX_BODY:
                body += chunk
            elif size > MAX_READ:
                break
    if size > MAX_BODY:
        return _problem(413, "over 2 MiB")
    try:
        posts = app.read_posts(bytes(body))
        receipts = await app.workspace(request.path_params["workspace_id"]).publish_all(posts)
    except InvalidEvent as refused:
        return JSONResponse({"errors": [fault._asdict() for fault in refused.faults]}, 422)
    except UnknownAudience as unknown:
        return _problem(409, str(unknown))
    except Refused as refused:
        return JSONResponse({"error": refused.text(), "code": refused.code}, 403)
    return JSONResponse({"events": [_receipt(receipt) for receipt in receipts]}, 202)


def _receipt(receipt: Receipt) -> dict[str, object]:
    answer: dict[str, object] = {"id": receipt.id, "published": receipt.published}
    if receipt.position is not None:
        answer["position"] = str(receipt.position)
    return answer


async def presence(app: Jackfield, request: Request) -> Response:
    """Who is online or away."""
    statuses = await app.ask(presence_of, app.workspace(request.path_params["workspace_id"])) or {}
    return JSONResponse({"users": [{"user_id": user, "status": status} for user, status in statuses.items()]})


async def revoke(app: Jackfield, request: Request) -> Response:
    """End a user's connections everywhere."""
    closed = await app.workspace(request.path_params["workspace_id"]).revoke(request.path_params["user_id"])
    return JSONResponse({"closed": closed}, 202)


async def drain(app: Jackfield, request: Request) -> Response:
    """Send this node's clients elsewhere; the answer does not wait until they have gone."""
    return JSONResponse({"connections": app.start_drain()}, 202)


def _problem(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
