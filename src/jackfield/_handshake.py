"""Who knocks: the token, taken by rule from one of three places, and the origin, allowed or not. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import parse_qsl, urlsplit

import attrs
from starlette.requests import HTTPConnection

from jackfield.errors import InvalidToken
from jackfield.events import ID, JSON

__all__ = ["SUBPROTOCOL", "Handshake", "Principal", "origin_allowed", "take_token", "valid_id"]

SUBPROTOCOL = "jackfield.v1"
MAX_TOKEN_BYTES = 8192
_NO_CLAIMS: Mapping[str, JSON] = {}


@attrs.frozen
class Principal:
    """Who a connection belongs to, for as long as it is allowed to.

    `expires_at` and `issued_at` are seconds since 1970. Without `expires_at` it never ends by itself; without
    `issued_at` (cookies) a revocation ends the living connections and keeps nobody out afterwards. `grace` is how
    many seconds after `expires_at` the connection is kept, without getting anything, for a fresh token to come.
    `claims` is the host's own.
    """

    user_id: str
    expires_at: float | None = None
    issued_at: float | None = None
    grace: float = 25.0
    claims: Mapping[str, JSON] = attrs.field(default=_NO_CLAIMS, repr=False)


class Handshake(HTTPConnection):
    """A client that wants in: a Starlette `HTTPConnection` (headers, cookies, session) with what jackfield took from
    it.

    Its repr shows no token.
    """

    workspace_id: str
    token: str | None
    """From `?token=`, `Authorization: Bearer` or the subprotocol list; None where there is none."""

    @property
    def resume(self) -> str | None:
        """The cursor that it comes back with, "" the first time; None for a client that keeps none."""
        return self.query_params.get("resume")

    def __repr__(self) -> str:
        return f"<Handshake of {self.workspace_id}>"


def valid_id(text: str) -> bool:
    """Whether it can be an id of the wire."""
    return ID.matches(text) is not None


def take_token(query_string: bytes, authorization: Sequence[str], subprotocols: Sequence[str]) -> str | None:
    """The one token of a handshake, or None. Raises InvalidToken for two of them, or one that cannot be one."""
    try:
        query = parse_qsl(query_string.decode("utf-8"), keep_blank_values=True, errors="strict")
    except ValueError:
        raise InvalidToken from None
    found = [value for name, value in query if name == "token"]
    for header in authorization:
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            found.append(value.strip())
    found += [offer.removeprefix("bearer.") for offer in subprotocols if offer.startswith("bearer.")]
    if not found:
        return None
    if len(found) > 1 or not found[0] or len(found[0].encode()) > MAX_TOKEN_BYTES:
        raise InvalidToken
    return found[0]


def origin_allowed(origins: Sequence[str], host: str, *, secure: bool, allowed: Collection[str]) -> bool:
    """Whether a browser's page may connect. `origins` are the `Origin` headers; none at all is no browser, and allowed.

    With an allow-list it alone decides; without one the origin must be that of `host`. A server that sees no TLS may
    stand behind a proxy that does, so an https page may come to it; an http page never comes to a secure server.
    """
    if not origins:
        return True
    if len(origins) > 1 or origins[0] == "null":
        return False
    if allowed:
        return any(_same(origins[0], other) for other in allowed)
    scheme = origins[0].partition(":")[0].lower()
    if secure and scheme != "https":
        return False
    return _same(origins[0], f"{scheme}://{host}")


def _same(one: str, other: str) -> bool:
    left = _origin(one)
    return left is not None and left == _origin(other)


def _origin(text: str) -> tuple[str, str, int] | None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        return None
    # Browsers write other letters as xn--…; and there are some whose small letter is one of ASCII.
    if "@" in parts.netloc or "*" in parts.netloc or not text.isascii():
        return None
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname, port
