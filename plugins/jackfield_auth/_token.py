"""Tokens of the host's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import attrs

from jackfield import Principal
from jackfield_auth._refresh import Tokens

__all__ = ["TokenAuth"]


@attrs.define(eq=False)
class TokenAuth(Tokens):
    """Asks the host whose token it is.

    `verify(token, workspace_id)` returns a Principal, or None for a token that it does not know; it raises
    Unauthorized for a user who may not enter that workspace. What else it raises closes the handshake 1013.
    """

    verify: Callable[[str, str], Awaitable[Principal | None]] = attrs.field(kw_only=True)

    async def principal_of(self, token: str, workspace_id: str) -> Principal | None:
        return await self.verify(token, workspace_id)
