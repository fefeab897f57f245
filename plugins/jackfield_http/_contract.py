"""What a client is built from: `jackfield.js` and its types, the AsyncAPI document, and the page of it. No key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING

import orjson
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from jackfield.browser import script, types
from jackfield.schema import asyncapi
from jackfield_http._docs import page, policy

if TYPE_CHECKING:
    from starlette.requests import Request

    from jackfield import Jackfield

__all__ = ["client_routes", "contract_routes"]

# The address stays when the text changes, with a deploy: whoever keeps a copy asks whether it is still so.
HEADERS = {"cache-control": "no-cache", "x-content-type-options": "nosniff"}
SCRIPT = "text/javascript; charset=utf-8"
TYPES = "text/plain; charset=utf-8"
PAGE = "text/html; charset=utf-8"
ASYNCAPI = "application/vnd.aai.asyncapi+json"
# A page of another origin may import it: everybody may have it, and it is the same for all.
OPEN = {"access-control-allow-origin": "*"}


def client_routes() -> Iterable[BaseRoute]:
    """What every page needs."""
    return (Route("/jackfield.js", _text(script, SCRIPT, OPEN)),)


def contract_routes(app: Jackfield) -> Iterable[BaseRoute]:
    """What says which events there are."""

    def document() -> str:
        return orjson.dumps(asyncapi(app), option=orjson.OPT_INDENT_2).decode()

    return (
        Route("/jackfield.d.ts", _text(partial(types, app), TYPES, OPEN)),
        Route("/asyncapi.json", _text(document, ASYNCAPI)),
        Route("/docs", _text(lambda: page(asyncapi(app)), PAGE, {"content-security-policy": policy()})),
    )


def _text(
    make: Callable[[], str], media_type: str, more: Mapping[str, str] | None = None
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint for a text that stays what it is as long as the process lives; made when it is first asked for."""

    @cache
    def made() -> tuple[bytes, Mapping[str, str]]:
        body = make().encode()
        return body, {**HEADERS, **(more or {}), "etag": f'"{sha256(body).hexdigest()[:32]}"'}

    async def endpoint(request: Request) -> Response:
        body, headers = made()
        if _has(request, headers["etag"]):
            return Response(None, 304, headers)
        return Response(body, 200, headers, media_type)

    return endpoint


def _has(request: Request, etag: str) -> bool:
    """Whether who asks holds the same. A proxy that packs the body makes `W/"…"` of it."""
    held = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in held)
