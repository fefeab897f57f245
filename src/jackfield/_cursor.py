"""Where in a workspace's log a client is, as the opaque text that it keeps and brings back. Pure.

It costs no encoding for each recipient: a **mark** is made once an event, of its place in the log, and a **tag** once a
connection, of who it belongs to; one text behind the other is a cursor. A mark of somebody else's behind one's own tag
gains nothing, since a replay is filtered by who asks.

    mark   origin 3 · epoch 4 · position 6 · record 3 · check 3 · seal 8     27 bytes, 36 characters
    tag    seal 9                                                             9 bytes, 12 characters

`origin` is of the key, so that a cursor from before everything was lost can be told from a forged one, and `check` of
all in front of it, so that a garbled one is not taken for that. `epoch` and `record` are pieces of what stood there:
a log that went back and was written anew has others.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from typing import Literal, NamedTuple

__all__ = ["Cursors", "Place", "Reason", "Unusable"]

Reason = Literal["unknown", "expired", "too_many", "foreign"]
"""Why nothing is replayed, as `hello` says it."""

MAX_CHARACTERS = 128
MARK, TAG = 36, 12


class Unusable(Exception):
    """Nothing can be replayed from there."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


class Place(NamedTuple):
    """What a cursor says of the newest record that its holder has been sent."""

    mark: str
    position: int
    epoch: bytes
    record: bytes

    def is_of(self, epoch: str) -> bool:
        """Whether it was made in that epoch of the log."""
        return self.epoch == _piece(epoch, 4)

    def names(self, position: int, id: str) -> bool:
        """Whether it is that record."""
        return (self.position, self.record) == (position, _piece(id, 3))


class Cursors:
    """Makes them and reads them, by a `key` that all nodes of an engine share."""

    def __init__(self, key: str) -> None:
        self._key = bytes.fromhex(key)
        self._origin = blake2b(b"origin", key=self._key, digest_size=3).digest()

    def mark(self, workspace_id: str, epoch: str, position: int, id: str) -> str:
        """The part that all connections share: a record's place in the log of a workspace."""
        place = self._origin + _piece(epoch, 4) + position.to_bytes(6, "big") + _piece(id, 3)
        place += blake2b(place, digest_size=3).digest()
        return urlsafe_b64encode(place + self._seal(workspace_id, place, 8)).decode()

    def tag(self, workspace_id: str, user_id: str) -> str:
        """A connection's own part."""
        return urlsafe_b64encode(self._seal(workspace_id, user_id.encode(), 9)).decode()

    def read(self, cursor: str, workspace_id: str, user_id: str) -> Place:
        """What it says, to whom it was given. Raises Unusable."""
        if len(cursor) > MAX_CHARACTERS:
            raise Unusable("unknown")
        try:
            raw = urlsafe_b64decode(cursor.encode("ascii"))
        except ValueError:
            raise Unusable("unknown") from None
        # What the decoder passes over has no place in one of ours.
        if len(cursor) != MARK + TAG or urlsafe_b64encode(raw).decode() != cursor:
            raise Unusable("unknown")
        place, seal = raw[:19], raw[19:27]
        if blake2b(place[:16], digest_size=3).digest() != place[16:]:
            raise Unusable("foreign")
        if place[:3] != self._origin:
            raise Unusable("expired")
        if seal != self._seal(workspace_id, place, 8) or cursor[MARK:] != self.tag(workspace_id, user_id):
            raise Unusable("foreign")
        return Place(cursor[:MARK], int.from_bytes(place[7:13], "big"), place[3:7], place[13:16])

    def _seal(self, workspace_id: str, what: bytes, size: int) -> bytes:
        return blake2b(workspace_id.encode() + b"\0" + what, key=self._key, digest_size=size).digest()


def _piece(text: str, size: int) -> bytes:
    return blake2b(text.encode(), digest_size=size).digest()
