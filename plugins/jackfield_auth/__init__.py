"""Who is it? `JWTAuth` for JSON web tokens, `TokenAuth` for tokens of the host's own; both can be refreshed on a living
connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jackfield_auth._refresh import AuthRefresh, AuthRefreshed
from jackfield_auth._token import TokenAuth

if TYPE_CHECKING:
    from jackfield_auth._jwt import JWTAuth

__all__ = ["AuthRefresh", "AuthRefreshed", "JWTAuth", "TokenAuth"]


def __getattr__(name: str) -> object:
    """`JWTAuth` needs PyJWT (`jackfield[jwt]`), and a host with tokens of its own does not."""
    if name == "JWTAuth":
        from jackfield_auth._jwt import JWTAuth

        return JWTAuth
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
