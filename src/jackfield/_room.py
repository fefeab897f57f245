"""A workspace in which somebody is connected to this node: its connections, and who of them an audience names."""

from __future__ import annotations

from collections import deque
from collections.abc import Set
from typing import TYPE_CHECKING

import anyio

from jackfield._audience import Audience, resolve
from jackfield._pump import Lane

if TYPE_CHECKING:
    from jackfield._line import Line
    from jackfield._log import Entry, Sight
    from jackfield._session import Session

__all__ = ["RECENT", "Room"]

RECENT = 256
"""Records that a workspace keeps at hand for connections that read their way up."""

_NOBODY: dict[Line, None] = {}


class Room:
    """A workspace in which somebody is connected to this node. An `Index` of its live connections."""

    def __init__(self, workspace_id: str) -> None:
        self.id = workspace_id
        self.sessions: set[Session] = set()
        """All of them, those that still read their way up too."""
        self.epoch = ""
        self.position = 0
        self.newest: tuple[int, str] = (0, "")
        """The newest record here that lasts, and its id."""
        self.lane = Lane()
        self.recent: deque[Entry] = deque(maxlen=RECENT)
        self.opened = anyio.Event()
        # Ordered, as memory then is: to go through 1,000 connections by the way costs a twentieth less.
        self._everyone: dict[Line, None] = {}
        self._all_channels: dict[Line, None] = {}
        self._channels: dict[str, dict[Line, None]] = {}
        self._users: dict[str, dict[Line, None]] = {}
        self._topics: dict[str, dict[Line, None]] = {}
        self._owners: dict[Line, Session] = {}
        self._by_id: dict[str, Line] = {}
        self._asked: Audience | None = None
        self._answer: tuple[Line, ...] = ()

    # --- the index

    def everyone(self) -> Set[Line]:
        return self._everyone.keys()

    def channel(self, channel_id: str) -> Set[Line]:
        found = self._channels.get(channel_id, _NOBODY)
        if self._all_channels:
            found = self._all_channels | found if found else self._all_channels
        return found.keys()

    def user(self, user_id: str) -> Set[Line]:
        return self._users.get(user_id, _NOBODY).keys()

    def topic(self, name: str) -> Set[Line]:
        return self._topics.get(name, _NOBODY).keys()

    def connection(self, connection_id: str) -> Set[Line]:
        line = self._by_id.get(connection_id)
        return frozenset(() if line is None else (line,))

    def recipients(self, audience: Audience) -> tuple[Line, ...]:
        """Who it names now. The very same object as before where nothing moved, so that the pump sees neighbours."""
        if audience != self._asked:
            self._asked, self._answer = audience, tuple(resolve(audience, self))
        return self._answer

    def lasting(self, upto: int) -> tuple[int, str] | None:
        """The newest record up to a position that lasts, and its id; None where it is not at hand."""
        if self.newest[0] <= upto:
            return self.newest
        for record, _ in reversed(self.recent):
            if record.lasting and record.position <= upto:
                return record.position, record.id
        return None

    # --- who stands in it

    def seat(self, session: Session) -> None:
        """From here on it is live."""
        line = session.line
        self._asked = None
        self._everyone[line] = None
        self._owners[line] = session
        self._by_id[session.id] = line
        _add(self._users, session.user_id, line)
        if session.sees_all:
            self._all_channels[line] = None
        for channel_id in session.channels:
            _add(self._channels, channel_id, line)
        for name in session.topics:
            _add(self._topics, name, line)

    def unseat(self, session: Session) -> None:
        """Out of every index, in one step. Harmless where it is in none."""
        line = session.line
        if line not in self._owners:
            return
        self._asked = None
        self._everyone.pop(line, None)
        del self._owners[line]
        self._by_id.pop(session.id, None)
        _discard(self._users, session.user_id, line)
        self._all_channels.pop(line, None)
        for channel_id in session.channels:
            _discard(self._channels, channel_id, line)
        for name in session.topics:
            _discard(self._topics, name, line)

    def watch(self, session: Session, name: str) -> None:
        if session.line in self._owners:
            self._asked = None
            _add(self._topics, name, session.line)

    def unwatch(self, session: Session, name: str) -> None:
        self._asked = None
        _discard(self._topics, name, session.line)

    def see(self, sight: Sight) -> None:
        """Somebody sees a channel that he did not."""
        self._asked = None
        for line in tuple(self._everyone if sight.user_id is None else self.user(sight.user_id)):
            self._owners[line].gain(sight.channel_id)
            _add(self._channels, sight.channel_id, line)

    def unsee(self, sight: Sight) -> None:
        """Somebody does not see it any more."""
        self._asked = None
        seeing = self._channels.get(sight.channel_id, _NOBODY).keys()
        for line in tuple(seeing if sight.user_id is None else seeing & self.user(sight.user_id)):
            self._owners[line].lose(sight.channel_id)
            _discard(self._channels, sight.channel_id, line)


def _add(index: dict[str, dict[Line, None]], key: str, line: Line) -> None:
    lines = index.get(key)
    if lines is None:
        index[key] = {line: None}
    else:
        lines[line] = None


def _discard(index: dict[str, dict[Line, None]], key: str, line: Line) -> None:
    lines = index.get(key)
    if lines is not None:
        lines.pop(line, None)
        if not lines:
            del index[key]
