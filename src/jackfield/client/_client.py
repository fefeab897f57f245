"""A client that keeps its promises: it beats, comes back, misses nothing, and says so when it did."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from jackfield._refusals import refusal
from jackfield._wire import PING
from jackfield.client._bell import Bell
from jackfield.client._connection import converse
from jackfield.client._ending import CUT, Ended, Ending, pause
from jackfield.client._frames import Frame, Seen, Vocabulary, broken, frame_of
from jackfield.client._heart import Heart
from jackfield.client._inbox import Inbox
from jackfield.client._values import Closed, Disconnected, Unknown
from jackfield.errors import CloseCode, InvalidToken, RateLimited, Refused
from jackfield.events import ClientEvent, Hello, MessageNew, ServerEvent, TypingIndicator

if TYPE_CHECKING:
    from jackfield._clock import Clock
    from jackfield.client._debounce import Debounce
    from jackfield.client._ending import Backoff
    from jackfield.client._link import Dial
    from jackfield.client._requests import Requests
    from jackfield.client._tokens import Tokens

__all__ = ["Client", "Value"]

logger = logging.getLogger("jackfield.client")

Value = ServerEvent | Refused | Disconnected | Unknown
"""What a client hears."""

RENEWAL = "renewal"
"""`ref` of the fresh token."""
BY_THE_DOOR = Ending(CUT, "new token")
"""The server takes a fresh token at a handshake only."""


class Client:
    """Made by `connect`. Iterate over it: `async for event in client`."""

    def __init__(
        self,
        dial: Dial,
        tokens: Tokens,
        vocabulary: Vocabulary,
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
        self._tokens = tokens
        self._vocabulary = vocabulary
        self._clock = clock
        self._backoff = backoff
        self._requests = requests
        self._debounce = debounce
        self._patience = patience
        self._inbox: Inbox[tuple[Value | None, str | None]] = Inbox(inbox)
        self._newest = cursor
        self._seen = Seen()
        self._urgent: list[str] = []
        self._bell = Bell(clock)
        self._pause = Bell(clock)
        self._heart = Heart(patience, 0.0)
        self._opened_at: float | None = None
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
        already, Closed where no answer will come, InvalidEvent for more bytes than the `hello` of the server permits,
        and TypeError for what has no form in JSON.
        """
        if self._final is not None:
            raise self._final.again()
        most = math.inf if self.hello is None else self.hello.limits.get("max_event_bytes", math.inf)
        request = self._requests.add(self._vocabulary.flat(event), most)
        self._inbox.changed()
        self._bell.ring()
        try:
            await request.done.wait()
        finally:
            self._requests.drop(request)
            self._bell.ring()  # whoever stands behind one that was given up is next
        if request.failure is not None:
            raise request.failure

    def typing(self, channel_id: str, is_typing: bool = True) -> None:
        """Call it at each keystroke: it says so as seldom as will do, and by itself that it is over. Without a line it
        does nothing."""
        if not self.connected:
            return
        now = self._clock.monotonic()
        if self._debounce.pressed(channel_id, now) if is_typing else self._debounce.stopped(channel_id):
            self._urgent.append(self._typing(channel_id, is_typing))
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
                if ending.verdict == "new token" and not await self._tokens.another():
                    break
                if ending is BY_THE_DOOR:
                    continue
                seconds = pause(ending, self._backoff)
                self._inbox.notice((Disconnected(ending.code, ending.reason, seconds), None))
                self._pause.hush()
                await self._pause.wait(self._clock.monotonic() + seconds)
                await self._wanted()
            if self._final is None:
                final = Closed(ending.code, ending.reason, ending.status)
                self._end(final, final)

    async def _wanted(self) -> None:
        """Return when there is room for what comes, or somebody waits for an answer."""
        while self._inbox.full and not self._requests.outstanding:
            await self._inbox.change()

    def _end(self, final: Closed, told: Closed | None) -> None:
        self._final = final
        self._requests.fail(final.again)
        self._inbox.end(told)

    async def _once(self) -> Ending:
        """One connection, or an attempt at one."""
        self._heart = Heart(self._patience, self._clock.monotonic())
        token = await self._tokens.bring()
        if token is None:
            return Ending(CUT, "no token could be had")
        if not token:
            return Ending(CloseCode.NO_ACCESS, "no token")
        try:
            return await converse(self._dial(token, self._newest), self, self._heart, self._bell, self._clock)
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
        urgent, self._urgent = self._urgent, []
        idle = [self._typing(channel_id, False) for channel_id in self._debounce.idle(now)]
        requests = self._requests.due(now)
        if requests:
            self._inbox.changed()  # their answers are read even where there is no room
        return [*texts, *urgent, *idle, *requests]

    def due_at(self, now: float) -> float:
        """When to ask `due` again, unless the bell rings before."""
        if not self.connected:
            return math.inf
        return min(self._heart.ping_at, self._debounce.idle_at, self._requests.due_at(now))

    def heard(self, text: str) -> bool:
        """A frame; whether to read on."""
        frame = frame_of(text)
        match frame.type:
            case "hello":
                self._heard_hello(frame)
            case "pong":
                self._heard(None, frame.cursor)
            case "error":
                self._heard_error(frame.data)
            case "ack":
                self._requests.acked(frame.data.get("ref"))
                self._bell.ring()
            case _ if frame.cursor is None or not self._seen.before(frame.cursor):
                self._heard_event(frame)
            case _:
                pass
        return not self._crowded

    async def room(self) -> None:
        """Return when it may go on."""
        while self._crowded:
            await self._inbox.change()

    async def renew(self) -> None:
        """Bring a fresh token before this one runs out."""
        while (token := await self._tokens.renewal()) is not None:
            self._urgent.append(_text({"type": "auth.refresh", "token": token, "ref": RENEWAL}))
            self._bell.ring()

    # --- what a frame means

    @property
    def _crowded(self) -> bool:
        # The answer to a request stands behind events, and the reader may be who waits for it.
        return self.connected and self._inbox.full and not self._requests.expects

    def _heard(self, value: Value | None, cursor: str | None) -> None:
        self._newest = cursor or self._newest
        if value is not None or cursor is not None:
            self._inbox.put((value, cursor))

    def _heard_hello(self, frame: Frame) -> None:
        hello = self._vocabulary.event(frame)
        if not isinstance(hello, Hello):
            raise broken("no initial state")
        now = self._clock.monotonic()
        self.hello, self.connected, self._opened_at = hello, True, now
        self._tokens.taken()
        self._heart.opened(hello.heartbeat_interval_ms / 1000, now)
        self._heard(hello, frame.cursor)
        self._bell.ring()

    def _heard_event(self, frame: Frame) -> None:
        event = self._vocabulary.event(frame)
        if isinstance(event, MessageNew) and self.hello is not None and event.user_id == self.hello.user_id:
            self._debounce.stopped(event.channel_id)  # the server has said so, by itself
        self._heard(event, frame.cursor)

    def _heard_error(self, data: Mapping[str, Any]) -> None:
        failure, ref = refusal(data), data.get("ref")
        self._bell.ring()
        if ref == RENEWAL and not isinstance(failure, InvalidToken | RateLimited):
            self._tokens.keep()
            raise Ended(BY_THE_DOOR)
        if isinstance(failure, RateLimited):
            if self._requests.limited(ref, failure.retry_after, self._clock.monotonic()):
                return
        elif self._requests.refused(ref, failure):
            return
        logger.warning("the server says %s", " ".join(f"{failure.code}: {failure}".split()))
        self._inbox.notice((failure, None))

    def _typing(self, channel_id: str, is_typing: bool) -> str:
        return _text(self._vocabulary.flat(TypingIndicator(channel_id, is_typing)))


def _text(event: Mapping[str, Any]) -> str:
    return orjson.dumps(event).decode()
