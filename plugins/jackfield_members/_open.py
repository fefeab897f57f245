"""No members, no secrets."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from jackfield import (
    ALL_CHANNELS,
    Audience,
    Channel,
    Everyone,
    ServerEvent,
    State,
    Transaction,
    Workspace,
    before,
    hookimpl,
)
from jackfield.events import (
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    MessageUpdated,
    ReactionAdded,
    ReactionRemoved,
    ThreadUpdated,
)

__all__ = ["OpenWorkspace"]

TOLD: State[Audience] = State("members.told", Audience, Everyone)
"""message → whom it was for, where its publisher said so; as long as the history"""


@attrs.define(eq=False)
class OpenWorkspace:
    """Everyone in a workspace sees all of it, whatever channel it names. Where the publisher of a message named others
    (`to`), what follows it goes to them, as long as the history; later he names them again."""

    name: str = "members"

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        return ALL_CHANNELS

    @hookimpl
    async def audience_of(self, transaction: Transaction, event: ServerEvent) -> Audience:
        match event:
            case MessageUpdated(id=id) | MessageDeleted(id=id):
                return await transaction.get(TOLD, id)
            case ReactionAdded(message_id=id) | ReactionRemoved(message_id=id) | ThreadUpdated(parent_message_id=id):
                return await transaction.get(TOLD, id)
            case _:
                return event.audience() or Everyone()

    @before(MemberJoined)
    async def join(self, transaction: Transaction, event: MemberJoined) -> None:
        transaction.moves_sight = False

    @before(MemberLeft)
    async def leave(self, transaction: Transaction, event: MemberLeft) -> None:
        transaction.moves_sight = False

    @before(MessageNew)
    async def remember(self, transaction: Transaction, event: MessageNew) -> None:
        audience = transaction.audience
        if audience is not None and audience != Channel(event.channel_id):
            await transaction.update(TOLD, event.id, lambda _: audience, fading=True)

    @before(MessageDeleted)
    async def forget(self, transaction: Transaction, event: MessageDeleted) -> None:
        await transaction.update(TOLD, event.id, lambda _: Everyone())
