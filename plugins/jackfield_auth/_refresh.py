"""A fresh token on a living connection: what every token plugin has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from traceback import format_exception

import attrs

from jackfield import ClientEvent, Handshake, InvalidToken, Principal, ServerEvent, Session, Unauthorized, hookimpl, on
from jackfield.errors import JackfieldError
from jackfield.events import Timestamp, timestamp

__all__ = ["AuthRefresh", "AuthRefreshed", "Tokens"]

MAX_TOKEN_BYTES = 8192


class AuthRefresh(ClientEvent, type="auth.refresh", when_expired=True):
    """Go on under a fresh token of the same user."""

    token: str = attrs.field(repr=False)


class AuthRefreshed(ServerEvent, type="auth.refreshed"):
    """The fresh token was taken."""

    expires_at: Timestamp | None = None


@attrs.define(eq=False, kw_only=True)
class Tokens:
    """Takes the token of a handshake, and those that come later where `refresh` is on.

    `grace` is how many seconds after its expiry a connection waits for a fresh one.
    """

    grace: float = attrs.field(default=25.0, validator=attrs.validators.ge(0), metadata={"unit": "seconds"})
    refresh: bool = False
    name: str = "token"

    @abstractmethod
    async def principal_of(self, token: str, workspace_id: str) -> Principal | None:
        """Whose token it is; None: nobody's. Raises InvalidToken or Unauthorized."""

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return (AuthRefresh, AuthRefreshed) if self.refresh else ()

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        if handshake.token is None:
            return None
        return await self._taken(handshake.token, handshake.workspace_id)

    @on(AuthRefresh, optional=True)
    async def renew(self, session: Session, event: AuthRefresh) -> None:
        if len(event.token.encode()) > MAX_TOKEN_BYTES:
            raise InvalidToken
        try:
            principal = await self._taken(event.token, session.workspace.id)
        except Unauthorized:  # for another workspace: whoever is here already is told of the token, not of the door
            raise InvalidToken from None
        now = session.workspace.app.clock.time()
        if principal is None or principal.user_id != session.user_id:
            raise InvalidToken
        if principal.expires_at is not None and principal.expires_at <= now:
            raise InvalidToken(expired=True)
        await session.renew(principal)
        expires_at = None if principal.expires_at is None else timestamp(principal.expires_at)
        await session.send(AuthRefreshed(expires_at))

    async def _taken(self, token: str, workspace_id: str) -> Principal | None:
        try:
            principal = await self.principal_of(token, workspace_id)
        except JackfieldError:
            raise
        except Exception as error:
            if "".join(format_exception(error)).count(token):  # a lookup that failed says for what, in the log
                raise RuntimeError(
                    f"{type(error).__name__}, and its text, which names the token, is not shown"
                ) from None
            raise
        return None if principal is None else attrs.evolve(principal, grace=self.grace)
