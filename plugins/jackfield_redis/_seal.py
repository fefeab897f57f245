"""What is written to Redis, so that whoever can write there cannot forge it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from jackfield.engine import EngineRefused

__all__ = ["Open", "Seal", "Sealed", "seal_with"]


class Seal(Protocol):
    """How values stand there. `place` says where: what was written for one place is not taken in another."""

    def close(self, value: bytes, *place: str) -> bytes:
        """As it is written."""
        ...

    def ways(self, value: bytes, *place: str) -> Sequence[bytes]:
        """All the ways in which it may stand there."""
        ...

    def open(self, written: bytes, *place: str) -> bytes:
        """What it says. Raises EngineRefused for what is none of ours."""
        ...


class Open:
    """As they are."""

    def close(self, value: bytes, *place: str) -> bytes:
        return value

    def ways(self, value: bytes, *place: str) -> Sequence[bytes]:
        return (value,)

    def open(self, written: bytes, *place: str) -> bytes:
        return written


class Sealed:
    """Encrypted and authenticated by AES-SIV (RFC 5297), by the first key; what another key has sealed is read still.

    AES-SIV makes the same of the same, so that a commit can compare what stands there without reading it.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = [AESSIV(key) for key in keys]

    def close(self, value: bytes, *place: str) -> bytes:
        return self._ciphers[0].encrypt(_filled(value), _data(place))

    def ways(self, value: bytes, *place: str) -> Sequence[bytes]:
        return [cipher.encrypt(_filled(value), _data(place)) for cipher in self._ciphers]

    def open(self, written: bytes, *place: str) -> bytes:
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(written, _data(place))[1:]
            except (InvalidTag, ValueError):
                continue
        raise EngineRefused(f"what stands at {'/'.join(place)} was not sealed by any of the keys")


def seal_with(keys: Sequence[bytes]) -> Seal:
    """By these keys, the first of which seals; without any nothing is. Raises ValueError where one cannot be used."""
    if not keys:
        return Open()
    for key in keys:
        if len(key) not in (32, 48, 64):
            raise ValueError(
                f"a key to seal with has 32, 48 or 64 bytes, not {len(key)}; openssl rand -hex 64 makes one"
            )
    return Sealed(keys)


def _filled(value: bytes) -> bytes:
    return b"\0" + value  # AES-SIV takes nothing that is empty


def _data(place: Sequence[str]) -> list[bytes]:
    return [repr(place).encode()]
