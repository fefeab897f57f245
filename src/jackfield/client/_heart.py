"""Whether the other end still lives: when to ping, and when to give up. Pure."""

from __future__ import annotations

import math

__all__ = ["Heart"]


LEAST = 1.0
"""Seconds between two pings, whatever the server asks for: a broken one would have it all of the time."""


class Heart:
    """Of one connection. It beats from `hello` on; until then nothing else counts as a sign of life."""

    def __init__(self, patience: float, now: float) -> None:
        self.ping_at = math.inf
        """When the next ping is due."""
        self._interval = math.inf
        self._patience = patience
        self._owed_since: float | None = now
        self._held = False

    def opened(self, interval: float, now: float) -> None:
        """`hello` has come, and asks for a ping every `interval` seconds."""
        self._interval = max(interval, LEAST)
        self.ping_at = now + self._interval
        self._owed_since = None

    def pinged(self, now: float) -> None:
        """Somebody sends one."""
        if self._owed_since is None:
            self._owed_since = self.ping_at
        self.ping_at = now + self._interval

    def lived(self) -> None:
        """Something has come."""
        if self.ping_at < math.inf:
            self._owed_since = None

    def hold(self) -> None:
        """Nobody reads for now: the silence is ours."""
        self._held = True

    def resume(self) -> None:
        """Somebody reads again."""
        self._held = False
        self.lived()

    def dead_at(self, now: float) -> float:
        """When a sign of life will be overdue. A ping that is due and cannot be sent owes one as well."""
        if self._held:
            return now + self._patience
        return (self.ping_at if self._owed_since is None else self._owed_since) + self._patience
