"""What jackfield asks this application: whose token is it, and what does he see?"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import attrs

from examples.workspace.database import Database
from jackfield import Principal, ServerEvent, Unauthorized, Workspace, hookimpl
from jackfield.events import Id, Timestamp

__all__ = ["WORKSPACE", "Accounts", "ChannelRead"]

WORKSPACE = "acme"


class ChannelRead(ServerEvent, type="channel.read"):
    """Our own event: what one has read in one tab is read in all that he has open."""

    channel_id: Id
    read_at: Timestamp


@attrs.define(eq=False)
class Accounts:
    """The database answers; jackfield keeps neither users nor channels."""

    database: Database
    name: str = "accounts"

    @hookimpl
    def register_events(self) -> Iterable[type[ServerEvent]]:
        return (ChannelRead,)

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        return await self.database.channels_of(user_id)  # once a connection; then the events of api.py move it

    async def verify(self, token: str, workspace_id: str) -> Principal | None:
        """The tokens of `POST /login` open the socket, too."""
        session = await self.database.session(token)
        if session is None:
            return None  # INVALID_TOKEN: the page asks to sign in
        if workspace_id != WORKSPACE:
            raise Unauthorized
        return Principal(session.user_id, expires_at=session.expires_at, issued_at=session.issued_at)
