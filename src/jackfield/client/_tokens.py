"""Who has a token, when he is asked, and which one is in use."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING

from jackfield.client._patience import within
from jackfield.client._renewal import expiry_of, renew_at

if TYPE_CHECKING:
    from jackfield._clock import Clock

__all__ = ["Token", "Tokens", "check"]

logger = logging.getLogger("jackfield.client")

Token = str | Callable[[], str | Awaitable[str | None] | None]
"""A token, or who has one. It is asked at each connect, and before a JSON web token runs out; None: no rights."""


def check(token: str) -> str:
    """The same. Raises ValueError, which does not show it, where no header takes it."""
    if not token.isascii() or not token.isprintable() or token != token.strip():
        raise ValueError("the token has a character that no header takes")
    return token


class Tokens:
    """Of one client. Whoever is asked has `patience` seconds; what he fails with is only named, for it may show one."""

    def __init__(self, token: Token, clock: Clock, patience: float, random: Callable[[], float]) -> None:
        self._token = token
        self._clock = clock
        self._patience = patience
        self._random = random
        self._used = ""
        self._kept: str | None = None
        self._refused = False

    async def bring(self) -> str | None:
        """For a connection; "" where there are no rights, None where nobody could say."""
        token, self._kept = self._kept, None
        if token is None and (token := await self._ask("token")) is None:
            return None
        self._used = token
        return token

    def taken(self) -> None:
        """The server has let it in."""
        self._refused = False

    async def another(self) -> bool:
        """The one that was brought is refused. Whether to come back: there is another, and this is the first time."""
        if self._refused or isinstance(self._token, str):
            return False
        self._refused = True
        token = await self._ask("other token")
        if token is None:
            return True  # it is asked again, behind the pause
        self._kept = token
        return token not in {"", self._used}

    async def renewal(self) -> str | None:
        """Return shortly before the one in use runs out, with the next; None where it does not, or nobody has one."""
        while not isinstance(self._token, str) and (expires_at := expiry_of(self._used)) is not None:
            now = self._clock.time()
            await self._clock.sleep(renew_at(expires_at, now, self._random) - now)
            token = await self._ask("fresh token")
            if token and token != self._used:
                self._used = token
                return token
        return None

    def keep(self) -> None:
        """Bring the one in use again: it came too fast for the line it was meant for."""
        self._kept = self._used

    async def _ask(self, what: str) -> str | None:
        try:
            answer = await within(self._clock, self._patience, self._answer)
            return check(answer or "")
        except Exception as error:
            logger.warning("no %s could be had: %s", what, type(error).__name__)
            return None

    async def _answer(self) -> str | None:
        if isinstance(self._token, str):
            return self._token
        token = self._token()
        return await token if isawaitable(token) else token
