"""What a request may ask for: its body and its fields, checked, or a clear refusal."""

from __future__ import annotations

import json
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jackfield import valid_id

__all__ = ["Body", "an_id", "body_of", "one_of", "refusal", "text"]

MOST_BYTES = 65_536

Body = dict[str, Any]


async def body_of(request: Request) -> Body:
    """The JSON object that was sent; without a body an empty one."""
    received, size = bytearray(), 0
    async for chunk in request.stream():  # to its end: who is hung up on while he sends never reads why
        size += len(chunk)
        if size <= MOST_BYTES:
            received += chunk
    if size > MOST_BYTES:
        raise HTTPException(413, f"over {MOST_BYTES} bytes")
    try:
        body = json.loads(received or b"{}")
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is no object")
    return cast("Body", body)


def text(body: Body, name: str, *, most: int, least: int = 1) -> str:
    """A text that is more than white space."""
    value = body.get(name)
    if not isinstance(value, str) or not least <= len(value.strip()) or len(value) > most:
        raise HTTPException(422, f"{name}: expected a text of {least} to {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character, which JSON can write and nobody can read
        raise HTTPException(422, f"{name}: expected valid Unicode") from None
    return value


def an_id(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not valid_id(value):
        raise HTTPException(422, f"{name}: expected an id, such as a UUID")
    return value


def one_of(body: Body, name: str, *choice: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or value not in choice:
        raise HTTPException(422, f"{name}: expected one of {', '.join(choice)}")
    return value


async def refusal(request: Request, error: Exception) -> Response:
    """As the page reads it: `{"error": …}`."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
