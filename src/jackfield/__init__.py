"""jackfield: the realtime half of a chat, as an ASGI application to mount in yours.

Hosts begin at `Jackfield`; plugin authors at `hookimpl`, `before` and `on`; tests at `jackfield.testing`.
"""

from __future__ import annotations

from jackfield._app import Jackfield
from jackfield._audience import ALL_CHANNELS, Audience, Channel, Connection, Everyone, Topic, Users
from jackfield._clock import Clock
from jackfield._commit import Post, Receipt
from jackfield._congestion import Congestion
from jackfield._handshake import Handshake, Principal, valid_id
from jackfield._memory import MemoryEngine
from jackfield._publisher import Publisher
from jackfield._roster import Attendance
from jackfield._session import Session
from jackfield._settings import Settings
from jackfield._state import Change, State, Transaction
from jackfield._sync import SyncPublisher, SyncWorkspace
from jackfield._workspace import Workspace
from jackfield.errors import (
    CloseCode,
    ConfigurationError,
    EngineUnavailable,
    InvalidEvent,
    InvalidToken,
    JackfieldError,
    RateLimited,
    Refused,
    Revoked,
    Unauthorized,
    UnknownAudience,
)
from jackfield.events import ClientEvent, ServerEvent, durable, ephemeral, latest
from jackfield.hookspecs import before, hookimpl, on

__all__ = [
    "ALL_CHANNELS",
    "Attendance",
    "Audience",
    "Change",
    "Channel",
    "ClientEvent",
    "Clock",
    "CloseCode",
    "ConfigurationError",
    "Congestion",
    "Connection",
    "EngineUnavailable",
    "Everyone",
    "Handshake",
    "InvalidEvent",
    "InvalidToken",
    "Jackfield",
    "JackfieldError",
    "MemoryEngine",
    "Post",
    "Principal",
    "Publisher",
    "RateLimited",
    "Receipt",
    "Refused",
    "Revoked",
    "ServerEvent",
    "Session",
    "Settings",
    "State",
    "SyncPublisher",
    "SyncWorkspace",
    "Topic",
    "Transaction",
    "Unauthorized",
    "UnknownAudience",
    "Users",
    "Workspace",
    "before",
    "durable",
    "ephemeral",
    "hookimpl",
    "latest",
    "on",
    "valid_id",
]
