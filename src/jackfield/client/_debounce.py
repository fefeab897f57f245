"""How often a client says that its user types. Pure."""

from __future__ import annotations

import math

import attrs

__all__ = ["Debounce"]


@attrs.define
class _Typing:
    said_at: float
    pressed_at: float


class Debounce:
    """`repeat` seconds between two that say the same; `idle` seconds without a keystroke, and it is over.

    The server takes it for over after 6 seconds without a repeat (`TYPING_EXPIRES_AFTER`).
    """

    def __init__(self, repeat: float, idle: float) -> None:
        self._repeat = repeat
        self._idle = idle
        self._channels: dict[str, _Typing] = {}

    def pressed(self, channel_id: str, now: float) -> bool:
        """A keystroke; whether to say so."""
        typing = self._channels.get(channel_id)
        if typing is None:
            self._channels[channel_id] = _Typing(now, now)
            return True
        typing.pressed_at = now
        if now < typing.said_at + self._repeat:
            return False
        typing.said_at = now
        return True

    def stopped(self, channel_id: str) -> bool:
        """It is over there; whether the server was told that it had begun."""
        return self._channels.pop(channel_id, None) is not None

    def idle(self, now: float) -> list[str]:
        """Channels in which it is over now."""
        over = [id for id, typing in self._channels.items() if now >= typing.pressed_at + self._idle]
        for id in over:
            del self._channels[id]
        return over

    @property
    def idle_at(self) -> float:
        """When to ask `idle` next."""
        return min((typing.pressed_at + self._idle for typing in self._channels.values()), default=math.inf)

    def forget(self) -> None:
        """The connection is gone, and the server has stopped it all."""
        self._channels.clear()
