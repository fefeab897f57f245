"""JSON web tokens: `sub`, `workspaces`, `iat`, `exp`, signed by one key with one fixed algorithm."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeGuard, cast

import attrs
import jwt
from jwt.algorithms import get_default_algorithms

from jackfield import Clock, ConfigurationError, InvalidToken, Jackfield, Principal, Unauthorized, hookimpl, valid_id
from jackfield_auth._refresh import Tokens

__all__ = ["JWTAuth"]

LEEWAY = 5.0
"""Seconds that clocks may differ by."""

MAKE_ONE = 'Make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'


def _is_key(self: JWTAuth, field: attrs.Attribute[str], secret: str) -> None:
    """A key that cannot be one fails at start-up, and not at the first handshake."""
    if self.algorithm == "HS256" and len(secret.encode()) < 32:
        raise ValueError(f"{field.name} has {len(secret.encode())} bytes; HS256 needs at least 32. {MAKE_ONE}")
    takes = "a text that is no key of another kind" if self.algorithm == "HS256" else "the PEM of the public key"
    try:
        get_default_algorithms()[self.algorithm].prepare_key(secret)
    except Exception:  # whatever the library says of it may show it
        raise ValueError(f"{field.name} is no key for {self.algorithm}; it takes {takes}") from None


@attrs.define(eq=False)
class JWTAuth(Tokens):
    """Takes JSON web tokens.

    `secret` is the key: at least 32 bytes for HS256, the PEM of the *public* key for RS256 and ES256. The algorithm is
    fixed here and never taken from the token. A token must have `sub` (the user's id), `workspaces` (a list of ids),
    `iat` and `exp`, and must not live longer than `max_lifetime` seconds; `audience` and `issuer` are compared where
    given.
    """

    secret: str = attrs.field(
        repr=False, kw_only=False, validator=_is_key, metadata={"env": "SECRET", "remedy": MAKE_ONE}
    )
    algorithm: Literal["HS256", "RS256", "ES256"] = attrs.field(default="HS256", kw_only=True)
    max_lifetime: float = attrs.field(
        default=2_592_000.0, kw_only=True, validator=attrs.validators.gt(0), metadata={"unit": "seconds"}
    )
    audience: str | None = attrs.field(default=None, kw_only=True)
    issuer: str | None = attrs.field(default=None, kw_only=True)
    _clock: Clock | None = attrs.field(default=None, init=False, repr=False)

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Jackfield) -> AsyncGenerator[None, None]:
        if app.settings.revoked_for < self.max_lifetime:
            raise ConfigurationError(
                f'plugin "{self.name}": max_lifetime is {self.max_lifetime:g} s, but a revocation is remembered for '
                f"{app.settings.revoked_for:g} s. "
                "Raise Settings.revoked_for (JACKFIELD_REVOKED_FOR), or lower max_lifetime "
                "(JACKFIELD_TOKEN_MAX_LIFETIME)."
            )
        self._clock = app.clock
        yield

    async def principal_of(self, token: str, workspace_id: str) -> Principal | None:
        claims = self._verified(token)
        user_id, workspaces = claims.get("sub"), claims.get("workspaces")
        issued_at, expires_at = _moment(claims.get("iat")), _moment(claims.get("exp"))
        if not isinstance(user_id, str) or not valid_id(user_id):
            raise InvalidToken
        if not _are_texts(workspaces):
            raise InvalidToken
        if expires_at - issued_at > self.max_lifetime:
            raise InvalidToken
        assert self._clock is not None, "a handshake before the start is refused by the core"
        now = self._clock.time()
        if issued_at > now + LEEWAY or ("nbf" in claims and _moment(claims["nbf"]) > now + LEEWAY):
            raise InvalidToken
        if expires_at + LEEWAY < now:
            raise InvalidToken(expired=True)
        if workspace_id not in workspaces:
            raise Unauthorized
        return Principal(user_id, expires_at, issued_at, claims=claims)

    def _verified(self, token: str) -> Mapping[str, Any]:
        """The claims of a token that we signed. Time is compared by the application's clock, not by the library's."""
        try:
            whole = jwt.decode_complete(
                token,
                self.secret,
                algorithms=[self.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                options={
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                    "require": ["sub", "iat", "exp"],
                },
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, RecursionError):
            raise InvalidToken from None
        if "crit" in whole["header"]:  # it asks for something that we do not know
            raise InvalidToken
        claims: Mapping[str, Any] = whole["payload"]
        return claims


def _are_texts(claim: object) -> TypeGuard[list[str]]:
    return isinstance(claim, list) and all(isinstance(item, str) for item in cast("list[object]", claim))


def _moment(claim: object) -> float:
    """Seconds since 1970 and some more, or no claim at all."""
    if isinstance(claim, bool) or not isinstance(claim, int | float):
        raise InvalidToken
    try:
        moment = float(claim)
    except OverflowError:
        raise InvalidToken from None
    if not 0 < moment < math.inf:
        raise InvalidToken
    return moment
