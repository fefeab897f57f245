"""A client that keeps its promises: it beats, comes back, misses nothing, and says so when it did."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from jackfield._refusals import refusal
from jackfield._wire import PING, Wire
from jackfield.client._bell import Bell
from jackfield.client._connection import converse
from jackfield.client._ending import CUT, Ending, pause
from jackfield.client._heart import Heart
from jackfield.client._inbox import Inbox
from jackfield.client._link import Ended
from jackfield.client._renewal import expiry_of, renew_at
from jackfield.client._values import Closed, Disconnected, Unknown
from jackfield.errors import CloseCode, InvalidEvent, InvalidToken, RateLimited, Refused
from jackfield.events import ClientEvent, Hello, MessageNew, ServerEvent, TypingIndicator

if TYPE_CHECKING:
    from jackfield._clock import Clock
    from jackfield._registry import Registry
    from jackfield.client._debounce import Debounce
    from jackfield.client._ending import Backoff
    from jackfield.client._link import Dial, Link
    from jackfield.client._requests import Requests

__all__ = ["Client", "Token", "Value"]

logger = logging.getLogger("jackfield.client")

Value = ServerEvent | Refused | Disconnected | Unknown
"""What a client hears."""

Token = str | Callable[[], str | Awaitable[str | None] | None]
"""A token, or who has one. It is asked at each connect, and before a JSON web token runs out; None: no rights."""

REMEMBERED = 1_000
"""Cursors by which an event that came twice is told; as many as a server replays."""

RENEWAL = "renewal"
"""`ref` of the fresh token."""


class Client:
    """Made by `connect`. Iterate over it: `async for event in client`."""

    def __init__(
        self,
        dial: Dial,
        token: Token,
        registry: Registry,
        clock: Clock,
        *,
        backoff: Backoff,
        requests: Requests,
        debounce: Debounce,
        patience: float,
        inbox: int,
        cursor: str,
    ) -> None:
        self.cursor = cursor
        """Where the reader is: behind the last event that he was given. Kept over a restart of the program, and given
        to `connect`, it brings what came in between."""
        self.hello: Hello | None = None
        """The latest initial state; None before the first."""
        self.connected = False
        """Whether the line stands."""
        self._dial = dial
        self._token = token
        self._classes = registry
        self._wire = Wire(registry, max_bytes=0)
        self._clock = clock
        self._backoff = backoff
        self._requests = requests
        self._debounce = debounce
        self._patience = patience
        self._inbox: Inbox[tuple[Value | None, str | None]] = Inbox(inbox)
        self._newest = cursor
        self._seen: dict[str, None] = {}
        self._urgent: list[dict[str, Any]] = []
        self._bell = Bell(clock)
        self._pause = Bell(clock)
        self._heart = Heart(patience, 0.0)
        self._opened_at: float | None = None
        self._asked_again = False
        self._brought = ""
        self._next: str | None = None
        self._fresh = ""
        self._life = anyio.CancelScope()
        self._final: Closed | None = None

    # --- hearing

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Value:
        """The next that happened. Ends behind `close()`; raises Closed where coming back would not help."""
        while True:
            value, cursor = await self._inbox.take()
            if cursor is not None:
                self.cursor = cursor
            if value is not None:
                return value

    # --- saying

    async def request(self, event: ClientEvent | Mapping[str, Any]) -> None:
        """Say an event, and return when the server has handled it.

        Without a line it waits for one. What was sent on a line that broke before its answer came is sent again: at
        least once. Raises what the server refused it with (the `Refused` of that code), BufferFull where too many wait
        already, and Closed where no answer will come.
        """
        if self._final is not None:
            raise self._final
        request = self._requests.add(self._flat(event))
        self._bell.ring()
        try:
            await request.done.wait()
        finally:
            self._requests.drop(request)
        if request.failure is not None:
            raise request.failure

    def typing(self, channel_id: str, is_typing: bool = True) -> None:
        """Call it at each keystroke: it says so as seldom as will do, and by itself that it is over. Without a line it
        does nothing."""
        if not self.connected:
            return
        now = self._clock.monotonic()
        if self._debounce.pressed(channel_id, now) if is_typing else self._debounce.stopped(channel_id):
            self._urgent.append(self._flat(TypingIndicator(channel_id, is_typing)))
        self._bell.ring()

    def reconnect(self) -> None:
        """Come back now, where it pauses before it does."""
        self._pause.ring()

    def close(self) -> None:
        """Leave for good. The iteration ends behind what has come."""
        if self._final is None:
            self._end(Closed(CloseCode.NORMAL), None)
            self._life.cancel()

    # --- living

    async def live(self) -> None:
        """Connect, and come back, until it is closed or may not."""
        with self._life:
            while (ending := await self._once()).verdict != "never":
                if ending.verdict == "new token" and not await self._has_another():
                    break
                if self._next is None or ending.verdict == "new token":
                    seconds = pause(ending, self._backoff)
                    self._inbox.put((Disconnected(ending.code, ending.reason, seconds), None))
                    await self._pause.wait(self._clock.monotonic() + seconds)
            final = Closed(ending.code, ending.reason, ending.status)
            self._end(final, final)

    def _end(self, final: Closed, told: Closed | None) -> None:
        self._final = final
        self._requests.fail(final)
        self._inbox.end(told)

    async def _once(self) -> Ending:
        """One connection, or an attempt at one."""
        token, self._next = self._next, None
        try:
            self._brought = await self._ask() if token is None else token
        except Exception as error:
            logger.warning("no token could be had: %s", type(error).__name__)
            return Ending(CUT, "no token could be had")
        if not self._brought:
            return Ending(CloseCode.NO_ACCESS, "no token")
        self._heart = Heart(self._patience, self._clock.monotonic())
        try:
            return await converse(self._dial(self._brought, self._newest), self, self._heart, self._bell, self._clock)
        finally:
            self._hung_up()

    def _hung_up(self) -> None:
        if self._opened_at is not None:
            self._backoff.stood(self._clock.monotonic() - self._opened_at)
        self.connected, self._opened_at = False, None
        self._urgent.clear()
        self._debounce.forget()
        self._requests.lost()

    # --- one connection

    def due(self, now: float) -> list[str]:
        """What to send now."""
        if not self.connected:
            return []
        texts: list[str] = []
        if now >= self._heart.ping_at:
            self._heart.pinged(now)
            texts.append(PING)
        idle = [self._flat(TypingIndicator(id, False)) for id in self._debounce.idle(now)]
        urgent, self._urgent = self._urgent, []
        return texts + [orjson.dumps(event).decode() for event in (*urgent, *idle, *self._requests.due(now))]

    def due_at(self, now: float) -> float:
        """When to ask `due` again, unless the bell rings before."""
        if not self.connected:
            return math.inf
        return min(self._heart.ping_at, self._debounce.idle_at, self._requests.due_at(now))

    def heard(self, text: str) -> bool:
        """A frame; whether there is room for more."""
        frame: dict[str, Any] = orjson.loads(text)
        type, data = frame["type"], frame.get("data", {})
        if type == "error":
            self._heard_error(data)
        elif type == "ack":
            self._requests.acked(data["ref"])
            self._bell.ring()
        else:
            cursor: str | None = data.get("cursor") if type == "hello" else frame.get("cursor")
            if cursor is None or type in {"pong", "hello"} or not self._is_known(cursor):
                self._newest = cursor or self._newest
                self._inbox.put((self._value(type, data), cursor))
        return not self._inbox.full

    async def room(self) -> None:
        """Return when the reader has made some."""
        await self._inbox.room()

    async def renew(self, link: Link) -> None:
        """Bring a fresh token before this one runs out."""
        if isinstance(self._token, str):
            return
        token = self._brought
        while (expires_at := expiry_of(token)) is not None:
            now = self._clock.time()
            await self._clock.sleep(renew_at(expires_at, now, self._backoff.random) - now)
            try:
                token = await self._ask()
            except Exception as error:
                logger.warning("no fresh token could be had: %s", type(error).__name__)
                continue
            if token:
                self._fresh = token
                self._urgent.append({"type": "auth.refresh", "token": token, "ref": RENEWAL})
                self._bell.ring()

    # --- what a frame means

    def _value(self, type: str, data: Mapping[str, Any]) -> Value | None:
        if type == "pong":
            return None
        event = self._classes.get(type)
        try:
            if event is None or not issubclass(event, ServerEvent):
                return Unknown(type, data)
            value = self._wire.structure(event, data, "$.data")
        except InvalidEvent:  # another version of it
            return Unknown(type, data)
        if isinstance(value, Hello):
            self._heard_hello(value)
        if isinstance(value, MessageNew) and self.hello is not None and value.user_id == self.hello.user_id:
            self._debounce.ended(value.channel_id)
        return value

    def _heard_hello(self, hello: Hello) -> None:
        now = self._clock.monotonic()
        self.hello, self.connected, self._opened_at = hello, True, now
        self._asked_again = False
        self._heart.opened(hello.heartbeat_interval_ms / 1000, now)
        self._bell.ring()

    def _heard_error(self, data: Mapping[str, Any]) -> None:
        failure, ref = refusal(data), data.get("ref")
        self._bell.ring()
        if ref == RENEWAL and not isinstance(failure, InvalidToken | RateLimited):
            self._next = self._fresh  # it is not served here, so the token comes in by the door
            raise Ended(Ending(CUT, "new token"))
        if isinstance(failure, RateLimited):
            if self._requests.limited(ref, failure.retry_after, self._clock.monotonic()):
                return
        elif self._requests.refused(ref, failure):
            return
        logger.warning("the server says %s: %s", failure.code, failure)
        self._inbox.put((failure, None))

    def _is_known(self, cursor: str) -> bool:
        if cursor in self._seen:
            return True
        self._seen[cursor] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        return False

    def _flat(self, event: ClientEvent | Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(event, ClientEvent):
            return {"type": event.__event__.type, **self._wire.data(event)}
        return dict(event)

    # --- tokens

    async def _ask(self) -> str:
        """A token; "" where there is none."""
        if isinstance(self._token, str):
            return self._token
        token = self._token()
        return (await token if isawaitable(token) else token) or ""

    async def _has_another(self) -> bool:
        """Whether there is another token than the one that was refused; once, then a `hello` has to come."""
        if self._asked_again or isinstance(self._token, str):
            return False
        self._asked_again = True
        try:
            another = await self._ask()
        except Exception as error:
            logger.warning("no other token could be had: %s", type(error).__name__)
            return True
        if another in {"", self._brought}:
            return False
        self._next = another
        return True
