"""Who is it? `JWTAuth` for JSON web tokens, `TokenAuth` for tokens of the host's own; both can be refreshed on a living
connection."""

from __future__ import annotations

from jackfield_auth._jwt import JWTAuth
from jackfield_auth._refresh import AuthRefresh, AuthRefreshed
from jackfield_auth._token import TokenAuth

__all__ = ["AuthRefresh", "AuthRefreshed", "JWTAuth", "TokenAuth"]
