"""The edge: a scope becomes a session, or is refused. Every handshake is answered, and every connection closed."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
from starlette.datastructures import Headers

from jackfield._clock import Deadline
from jackfield._handshake import SUBPROTOCOL, Handshake, Principal, origin_allowed, take_token, valid_id
from jackfield._session import Message, Receive, Send, Session, close
from jackfield.errors import (
    CloseCode,
    InvalidToken,
    JackfieldError,
    RateLimited,
    Refused,
    Revoked,
    Unauthorized,
)

if TYPE_CHECKING:
    from jackfield._clock import Clock
    from jackfield._node import Node

__all__ = ["Edge", "deny"]

logger = logging.getLogger("jackfield")

LEEWAY = 5.0
"""Seconds that a token may be over, for clocks that differ."""

OVERLOADED_FOR = (1000, 5000)
ADDRESSES = 10_000
Scope = Any


class Refusal(NamedTuple):
    """How a client is sent away: what it is told, its close code, the status where HTTP says it, and when to come
    back."""

    error: Refused | None
    code: CloseCode
    status: int
    retry_after_ms: int | None = None


def refusal(error: Exception) -> Refusal:
    """What becomes of a handshake in which this was raised."""
    match error:
        case InvalidToken(expired=True):
            return Refusal(error, CloseCode.EXPIRED, 401)
        case InvalidToken():
            return Refusal(error, CloseCode.INVALID_TOKEN, 401)
        case Revoked():
            return Refusal(error, CloseCode.REVOKED, 403)
        case RateLimited():
            return Refusal(error, CloseCode.TOO_MANY, 429, error.retry_after_ms)
        case Refused():
            return Refusal(error, CloseCode.NO_ACCESS, 403)
        case _:
            return Refusal(None, CloseCode.OVERLOADED, 503, random.randint(*OVERLOADED_FOR))  # jitter


class Edge:
    """Serves `/ws/{workspace_id}`; `node` gives the running node, or raises."""

    def __init__(self, node: Callable[[], Node]) -> None:
        self._node = node
        self._addresses: _Addresses | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        node = self._node()
        if (await receive())["type"] != "websocket.connect":
            return
        if (denied := self._denied(node, scope)) is not None:
            await deny(scope, send, *denied)
            return
        session: Session | None = None
        code = int(CloseCode.INTERNAL)
        try:
            try:
                principal, handshake = await self._authenticate(node, scope)
                if node.draining is not None:  # that began meanwhile
                    await deny(scope, send, 503, {"retry-after": str(node.draining.retry_after())})
                    return
                workspace = node.app.workspace(handshake.workspace_id)
                session = Session(node, workspace, principal, send, handshake.resume)
                node.entered(session)

                async def channels() -> Collection[str]:
                    seen: Collection[str] | None = await node.dispatcher.first(
                        node.channels_of, workspace, principal.user_id
                    )
                    if seen is None:
                        raise Unauthorized
                    if isinstance(seen, str):
                        raise TypeError("channels_of answered a text; it answers a collection of channel ids")
                    return seen

                # The hook has a deadline of its own; what the engine is asked beside it has this one.
                with Deadline(node.timers, 2 * node.settings.hook_timeout):
                    await session.enter(channels)
            except Exception as error:
                if not isinstance(error, JackfieldError):
                    logger.error("a handshake failed: %s", error)
                code = await self._refuse(node, scope, send, refusal(error))
                return
            try:
                await send(_accept(scope))
            except Exception:  # it has gone meanwhile
                return
            code = await session.run(receive)
        finally:
            if session is not None:
                await self._end(node, session, code)

    @staticmethod
    async def _end(node: Node, session: Session, code: int) -> None:
        opened = session.opened
        with anyio.CancelScope(shield=True):
            try:
                await session.leave()
                if opened:
                    await node.dispatcher.notify(node.session_closed, session, code)
            finally:
                node.left(session)

    # --- before anybody is asked

    def _denied(self, node: Node, scope: Scope) -> tuple[int, Mapping[str, str]] | None:
        """Status and headers for what is refused by HTTP alone."""
        settings = node.settings
        if not valid_id(scope["path_params"].get("workspace_id", "")):
            return 404, {}
        if node.draining is not None:
            return 503, {"retry-after": str(node.draining.retry_after())}
        headers = Headers(scope=scope)
        if not origin_allowed(
            headers.getlist("origin"),
            headers.get("host", ""),
            secure=scope.get("scheme") == "wss",
            allowed=settings.allowed_origins,
        ):
            return 403, {}
        if self._addresses is None:
            self._addresses = _Addresses(node.clock, settings.connects_per_address, settings.trusted_proxies)
        if (wait := self._addresses.wait(scope, headers)) > 0:
            return 429, {"retry-after": str(math.ceil(wait))}
        return None

    @staticmethod
    async def _authenticate(node: Node, scope: Scope) -> tuple[Principal, Handshake]:
        handshake = Handshake(scope)
        handshake.workspace_id = scope["path_params"]["workspace_id"]
        handshake.token = take_token(
            scope.get("query_string", b""), handshake.headers.getlist("authorization"), scope.get("subprotocols", ())
        )
        principal: object = await node.dispatcher.first(node.authenticate, handshake)
        if principal is None:
            raise InvalidToken
        if not isinstance(principal, Principal) or not valid_id(str(principal.user_id)):
            logger.error("authenticate answered what is no Principal with a valid user_id; the handshake is refused")
            raise InvalidToken
        if principal.expires_at is not None and principal.expires_at + LEEWAY < node.clock.time():
            raise InvalidToken(expired=True)
        return principal, handshake

    # --- refusing

    async def _refuse(self, node: Node, scope: Scope, send: Send, refusal: Refusal) -> int:
        if node.settings.reject == "http":
            wait = refusal.retry_after_ms
            headers = {} if wait is None else {"retry-after": str(math.ceil(wait / 1000))}
            await deny(scope, send, refusal.status, headers)
            return int(refusal.code)
        text = node.wire.error(refusal.error, None, node.clock.time())
        # Who is refused with an error reads there when to come back.
        reason = refusal.code.reason if refusal.error else f"retry_after_ms={refusal.retry_after_ms}"
        try:
            await send(_accept(scope))
            await send({"type": "websocket.send", "text": text})
            await close(send, refusal.code, reason)
        except Exception:  # it has gone meanwhile
            logger.debug("a refusal could not be sent")
        return int(refusal.code)


def _accept(scope: Scope) -> Message:
    # Never the one with the token: it would stand in the answer's headers.
    chosen = SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None
    return {"type": "websocket.accept", "subprotocol": chosen, "headers": []}


async def deny(scope: Scope, send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Refuse an upgrade by HTTP, where the server can; else by a close before the accept, which servers make 403 of."""
    try:
        if "websocket.http.response" in (scope.get("extensions") or {}):
            # No length: servers know it, and old ones of uvicorn would say it twice.
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            await send({"type": "websocket.http.response.start", "status": status, "headers": raw})
            await send({"type": "websocket.http.response.body", "body": b""})
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
    except Exception:  # it has gone meanwhile
        logger.debug("a denial could not be sent")


class _Addresses:
    """A bucket for each peer address: `rate` a second, and as many at once."""

    def __init__(self, clock: Clock, rate: float, trusted: Sequence[str]) -> None:
        self._clock = clock
        self._rate = rate
        self._trusted = [ip_network(proxy, strict=False) for proxy in trusted]
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, scope: Scope, headers: Headers) -> float:
        """Take one: 0, or the seconds until there is one."""
        address = self._peer(scope, headers)
        if address is None:
            return 0.0
        now = self._clock.monotonic()
        burst = max(1.0, self._rate)
        tokens, at = self._buckets.get(address, (burst, now))
        tokens = min(burst, tokens + (now - at) * self._rate)
        if tokens < 1:
            return (1 - tokens) / self._rate
        self._buckets[address] = (tokens - 1, now)
        if len(self._buckets) > ADDRESSES:
            full = burst / self._rate
            self._buckets = {peer: held for peer, held in self._buckets.items() if now - held[1] < full}
        return 0.0

    def _peer(self, scope: Scope, headers: Headers) -> str | None:
        """The address that is not one of our proxies, seen from here."""
        client = scope.get("client")
        if not client:
            return None
        address = str(client[0])
        if not self._is_trusted(address):
            return address
        for hop in reversed(",".join(headers.getlist("x-forwarded-for")).split(",")):
            if (hop := _without_port(hop.strip())) and not self._is_trusted(hop):
                return hop
        return address

    def _is_trusted(self, address: str) -> bool:
        try:
            return any(ip_address(address) in network for network in self._trusted)
        except ValueError:
            return False


def _without_port(hop: str) -> str:
    """Some proxies write the port, too, and who connects anew has another."""
    for text in (hop, hop.rpartition(":")[0]):
        try:
            return str(ip_address(text.strip("[]")))
        except ValueError:
            continue
    return hop
