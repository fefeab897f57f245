"""What the database keeps instead of a secret: who reads its file can sign in with nothing of it."""

from __future__ import annotations

import hashlib

__all__ = ["of_password", "of_random"]


def of_random(secret: str) -> bytes:
    """Of a key or a token, which is long and random, so that a fast hash is enough."""
    return hashlib.sha256(secret.encode()).digest()


def of_password(password: str, salt: bytes) -> bytes:
    """Slow on purpose, since people choose passwords: in a thread."""
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
