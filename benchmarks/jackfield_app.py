"""jackfield as the fan-out rig wants a server: `GET /ws/{workspace}?token=…` and
`POST /publish/{workspace}?count=…&groups=…`.

`app` is the core with `OpenWorkspace` and a token check, `everything` has every shipped plugin. Both are plain ASGI, as
the hand-written broadcast is that they are compared with. Limits that one loader on one address would meet at once
are raised; nothing else is changed.
"""

from __future__ import annotations

import os
import sys
import time
from urllib.parse import parse_qs

import jwt

from jackfield import Jackfield, Principal, Settings
from jackfield.events import ChannelCreated, MessageNew
from jackfield_auth import JWTAuth, TokenAuth
from jackfield_http import HTTP
from jackfield_members import Members, OpenWorkspace
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from jackfield_typing import Typing

SECRET = "a secret of the benchmark, and of nothing else"
USERS = int(os.environ.get("BENCH_USERS", "20"))
CHANNEL = "chn_01HZX3M9Q4"
CONTENT = "Deploy of api-gateway 4.17.2 finished; latency is back to normal. Thanks all!"
CREATED_AT = "2026-11-22T12:00:00.000000Z"
SETTINGS = Settings(
    ping_burst=1_000_000_000,
    ping_rate=1_000_000_000.0,
    connects_per_address=1_000_000.0,
    connections_per_user=1_000_000,
)


def user_of(token: str) -> str:
    """`t17` is connection 17 of the loader; a user has several."""
    return f"u{int(token[1:]) % USERS}"


async def verify(token: str, workspace_id: str) -> Principal | None:
    return Principal(user_of(token))


class Host:
    """What the rig publishes by, beside the realtime application."""

    def __init__(self, realtime: Jackfield, *, channels: bool = False) -> None:
        self.realtime = realtime
        self.created = None if not channels else set[str]()

    async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] != "http":
            await self.realtime(scope, receive, send)
            return
        query = parse_qs(scope["query_string"].decode())
        name = scope["path"].rsplit("/", 1)[1]
        groups = int(query.get("groups", ["0"])[0])
        for number in range(int(query.get("count", ["1"])[0])):
            await self.publish(f"w{number % groups}" if groups else name, number)
        headers = [(b"content-length", b"2"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def publish(self, name: str, number: int) -> None:
        workspace = self.realtime.workspace(name)
        if self.created is not None and name not in self.created:
            self.created.add(name)
            await workspace.publish(ChannelCreated(CHANNEL, "general", "public", "u0"))
        await workspace.publish(
            MessageNew(
                f"msg_{number:012d}",
                CHANNEL,
                "usr_01HZX3M9R7",
                CONTENT,
                CREATED_AT,
                reactions=[{"emoji": "+1", "count": 2}],
            )
        )


app = Host(Jackfield(TokenAuth(verify=verify), OpenWorkspace(), settings=SETTINGS))

everything = Host(
    Jackfield(
        JWTAuth(SECRET),
        RateLimit(),
        Members(),
        Presence(client_status=True),
        Reactions(),
        Threads(),
        Typing(),
        HTTP("key"),
        settings=SETTINGS,
    ),
    channels=True,
)


def tokens(count: int, groups: int) -> None:
    """Print a JSON web token for each connection of the loader, for its `--tokens FILE`."""
    now = time.time()
    for number in range(count):
        claims = {
            "sub": user_of(f"t{number}"),
            "workspaces": ["w0", f"w{number % groups}"],
            "iat": now,
            "exp": now + 86_400,
        }
        print(jwt.encode(claims, SECRET, algorithm="HS256"))


if __name__ == "__main__":
    tokens(*map(int, sys.argv[1:]))
