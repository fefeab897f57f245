"""Tokens of the host's own."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import FunctionType, MethodType
from typing import Any

import attrs

from jackfield import ConfigurationError, Principal
from jackfield_auth._refresh import Tokens

__all__ = ["TokenAuth"]


def _is_async(auth: TokenAuth, _: attrs.Attribute[Any], verify: object) -> None:
    # Only of a plain function can it be said for certain: anything else that is called may return what is awaited.
    inner = inspect.unwrap(verify) if callable(verify) else verify
    plain = isinstance(inner, FunctionType | MethodType) and inner.__name__ != "<lambda>"
    if not callable(verify) or (plain and not inspect.iscoroutinefunction(inner)):
        name = getattr(verify, "__qualname__", repr(verify))
        raise ConfigurationError(
            f'plugin "{auth.name}": verify={name} must be an async function, '
            'as in "async def verify(token, workspace_id)".'
        )


@attrs.define(eq=False)
class TokenAuth(Tokens):
    """Asks the host whose token it is.

    `verify(token, workspace_id)` returns a Principal, or None for a token that it does not know; it raises
    Unauthorized for a user who may not enter that workspace. What else it raises closes the handshake 1013.
    A plain function that is not `async` raises ConfigurationError at once.
    """

    verify: Callable[[str, str], Awaitable[Principal | None]] = attrs.field(kw_only=True, validator=_is_async)

    async def principal_of(self, token: str, workspace_id: str) -> Principal | None:
        return await self.verify(token, workspace_id)
