"""The HTTP side: publishing from elsewhere, presence, revocation, health."""

from __future__ import annotations

from jackfield_http._http import HTTP

__all__ = ["HTTP"]
