"""A client in Python, on asyncio and trio: for services, bots, tests and load.

async with connect("wss://chat.example/ws/acme", token=fresh_token) as client:
    async for event in client:
        match event:
            case Hello(recovered=False):
                state = await load()  # the first time, and whenever what was missed is no longer kept
            case MessageNew(channel_id=channel_id, content=content):
                ...
            case Refused(code=code):  # an `error` that answers no request
                ...

It pings, notices a line that died, and comes back as the server asks it to, with what it missed in between, once and in
order. Needs the extra `client`.
"""

from __future__ import annotations

from jackfield.client._client import Client, Value
from jackfield.client._connect import connect
from jackfield.client._tokens import Token
from jackfield.client._values import BufferFull, Closed, Disconnected, Unknown

__all__ = ["BufferFull", "Client", "Closed", "Disconnected", "Token", "Unknown", "Value", "connect"]
