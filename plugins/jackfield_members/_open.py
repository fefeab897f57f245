"""No members, no secrets."""

from __future__ import annotations

from collections.abc import Collection

import attrs

from jackfield import ALL_CHANNELS, Audience, Everyone, ServerEvent, Transaction, Workspace, hookimpl

__all__ = ["OpenWorkspace"]


@attrs.define(eq=False)
class OpenWorkspace:
    """Everyone in a workspace sees all of it, whatever channel it names."""

    name: str = "members"

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        return ALL_CHANNELS

    @hookimpl
    async def audience_of(self, transaction: Transaction, event: ServerEvent) -> Audience:
        return event.audience() or Everyone()
