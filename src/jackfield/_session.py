"""One connection: what hooks hold of it, the receive loop, heartbeat and expiry.

It has no task of its own but the server's. Events of one connection are handled one after the other in the receive loop
itself: that is the backpressure. Whoever wants it to end says so (`end`) and it is out of every index at once; the
loop then closes and returns.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

import anyio

from jackfield._catch_up import CatchUp
from jackfield._clock import Deadline, Timer
from jackfield._line import BEHIND, GONE, Line
from jackfield._outbox import Frame, Holder, Message, Outbox
from jackfield._roster import REVOKED
from jackfield._view import View
from jackfield._wire import PING, PONG, Incoming, Ref, Rejected
from jackfield.engine import EngineError
from jackfield.errors import REASONS, CloseCode, InvalidEvent, InvalidToken, RateLimited, Refused, UnknownEvent
from jackfield.events import Ack, Hello, Ping, ServerEvent

if TYPE_CHECKING:
    from jackfield._handshake import Principal
    from jackfield._node import Node
    from jackfield._room import Room
    from jackfield._workspace import Workspace

__all__ = ["Message", "Session", "close"]

logger = logging.getLogger("jackfield")
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLOSE_WITHIN = 2.0
STRIKES = 20
STRIKES_WITHIN = 60.0
EXCESS_FOR = 60.0
EXCESS_GAP = 10.0

_PONG = Frame(PONG, type="pong")


class _Pong(Frame):
    """For a client that keeps a cursor: where it stands is looked at when it is written, since what is in front of it
    moves that on."""

    __slots__ = ("_session",)

    def __init__(self, text: str, session: Session) -> None:
        super().__init__(text, type="pong")
        self._session = session

    def to(self, holder: Holder) -> Message:
        return {**self.message, "text": f'{self.message["text"][:-1]},"cursor":"{self._session.up.cursor()}"}}'}


class _End(Exception):
    """The receive loop ends the connection, after an answer perhaps."""

    def __init__(self, code: CloseCode, reason: str | None = None) -> None:
        self.code = code
        self.reason = reason


async def close(write: Send, code: int, reason: str) -> None:
    """Send a close frame. Some servers raise for a code that only servers should use, and would keep the socket: they
    get 1000."""
    try:
        await write({"type": "websocket.close", "code": int(code), "reason": reason})
    except Exception:  # where the socket is gone, it raises again
        await write({"type": "websocket.close", "code": int(CloseCode.NORMAL), "reason": reason})


class Session:
    """A connection of a user to a workspace, as hooks hold it. It hashes by identity, so a plugin may keep what it
    knows of one in a `WeakKeyDictionary`."""

    __slots__ = (
        "__weakref__",
        "_closed",
        "_closing",
        "_excess",
        "_expiry",
        "_heard",
        "_heartbeat",
        "_limited",
        "_node",
        "_pings",
        "_scope",
        "_strikes",
        "_tokens_at",
        "channels",
        "id",
        "idle",
        "line",
        "opened",
        "opened_at",
        "principal",
        "sees_all",
        "topics",
        "up",
        "workspace",
    )

    def __init__(
        self, node: Node, workspace: Workspace, principal: Principal, send: Send, resume: str | None = None
    ) -> None:
        settings = node.settings
        self.id = secrets.token_hex(12)
        """The connection's own id, `connection_id` in `hello`."""
        self.workspace = workspace
        """The workspace that it is connected to."""
        self.principal = principal
        """Who it belongs to."""
        self.idle = False
        """Whether nobody is there; see `set_idle`."""
        self.opened = False
        self.opened_at = node.clock.time()
        self.channels: set[str] = set()
        self.sees_all = False
        self.topics: set[str] = set()
        outbox = Outbox(settings.outbox_events, settings.outbox_bytes)
        self.line = Line(node.pump.lines, self, send, outbox, principal.expires_at)
        self.up = CatchUp(node, self, resume)
        self._node = node
        self._scope = anyio.CancelScope()
        self._closed = False
        self._closing: tuple[int, str, Refused | None] | None = None
        self._heard = node.clock.monotonic()
        self._heartbeat: Timer | None = None
        self._expiry: Timer | None = None
        self._strikes: list[tuple[float, int]] = []  # a deque takes 600 bytes while it is empty
        self._pings = float(settings.ping_burst)
        self._tokens_at = self._heard
        self._limited = self._excess = float("-inf")

    def __repr__(self) -> str:
        return f"<Session {self.id} of {self.user_id} in {self.workspace.id}>"

    # --- what hooks use

    @property
    def user_id(self) -> str:
        """Whose it is."""
        return self.principal.user_id

    def sees(self, channel_id: str) -> bool:
        """Whether its user sees a channel, as of what has been dispatched here."""
        return self.sees_all or channel_id in self.channels

    async def sees_now(self, channel_id: str) -> bool:
        """The same where the log ends: ask it before refusing, since what another node has acknowledged counts although
        its record has not come by here."""
        return await self.up.sees_now(channel_id)

    def watches(self, topic: str) -> bool:
        """Whether it watches a topic."""
        return topic in self.topics

    def watch(self, topic: str) -> None:
        """Get what is published to `Topic(topic)`, until `unwatch` or the end of the connection."""
        if topic not in self.topics:
            self.topics.add(topic)
            if self.up.room is not None:
                self.up.room.watch(self, topic)

    def unwatch(self, topic: str) -> None:
        """Get it no longer."""
        if topic in self.topics:
            self.topics.discard(topic)
            if self.up.room is not None:
                self.up.room.unwatch(self, topic)

    async def send(self, event: ServerEvent) -> None:
        """Send it to this connection alone; it waits behind what is queued, and is not in the log."""
        delivery = event.__event__.delivery
        key = delivery.key_of(event) if delivery.kind == "latest" else ()
        text = self._node.wire.encode(event, self.workspace.id, self._node.clock.time())
        self.line.offer(Frame(text, type=event.__event__.type, kind=delivery.kind, key=key))

    def close(self, code: int = CloseCode.NORMAL, reason: str | None = None) -> None:
        """End it by a close code; nothing more is delivered. `reason` is a constant, at most 123 bytes."""
        self.end(code, reason)

    async def set_idle(self, idle: bool) -> None:
        """Say whether somebody is there. `roster_changed` hears of it."""
        if idle != self.idle:
            self.idle = idle
            await self._node.roster.idle(self)

    async def renew(self, principal: Principal) -> None:
        """Go on under a fresh token. What was missed since the old one expired follows first; if that is no longer
        kept, the connection ends 4004. Raises InvalidToken for somebody else's, and for one that was revoked."""
        if principal.user_id != self.user_id:
            raise InvalidToken
        issued_at = principal.issued_at
        if issued_at is not None and issued_at <= await self.workspace.get(REVOKED, self.user_id):
            raise InvalidToken
        self.principal = principal
        self.line.expires = math.inf if principal.expires_at is None else principal.expires_at
        self._go_on()

    # --- what the core uses

    @property
    def expired(self) -> bool:
        """Whether its token has run out: it gets nothing."""
        return self.line.expires <= self._node.clock.time()

    def revoked_by(self, since: float) -> bool:
        """Whether a revocation at `since` is meant for it; one that was shut out already stays so."""
        if self._closing is not None and self._closing[0] == CloseCode.REVOKED.value:
            return True
        issued_at = self.principal.issued_at
        return (self.opened_at if issued_at is None else issued_at) <= since

    def stood_before(self, position: int) -> bool:
        """Whether it was in the roster and the room already when the record at `position` was written."""
        return self.up.stood_at < position

    def gain(self, channel_id: str) -> None:
        """From here on it sees a channel."""
        self.channels.add(channel_id)

    def lose(self, channel_id: str) -> None:
        """It sees a channel no longer."""
        self.channels.discard(channel_id)

    def broken(self) -> None:
        """Its socket is gone; the receive loop will hear of it."""
        self.line.close()
        if self.up.room is not None:
            self.up.room.unseat(self)

    def overrun(self) -> None:
        """It does not read what it gets."""
        self.end(CloseCode.SLOW)

    def lapsed(self) -> None:
        """Its token has run out: delivery stops, and a fresh one may come within the grace."""
        room = self.up.room
        if self.expired and room is not None and not self.line.gate & BEHIND:
            room.unseat(self)
            self.line.fall_behind(room.position)
        self._arm_expiry()  # for the grace; or anew, where the wall clock was set back

    def end(self, code: int, reason: str | None = None, error: Refused | None = None) -> None:
        """Out of every index now; its own task closes it. The first to say so is heard."""
        if self._closing is None:
            self._closing = (code, reason or REASONS.get(code, ""), error)
            # A task that is stuck in a send, which on some servers nothing but a close frees, cannot come to close.
            self._node.timers.call_later(CLOSE_WITHIN, lambda: self._node.start_soon(self._close))
        self.broken()
        self._scope.cancel()

    def drain(self, reason: str) -> None:
        """End it because this node ends. It gets nothing new from here on; but what has been dispatched to it still
        goes out first, where that does not take long."""
        room, line = self.up.room, self.line
        if room is None or line.gate & (BEHIND | GONE) or (not line.gate and room.lane.settled == room.lane.newest):
            self.end(CloseCode.DRAINING, reason)
            return
        room.unseat(self)
        line.fall_behind(room.position)
        self._node.start_soon(self._drain, room, reason)

    async def _drain(self, room: Room, reason: str) -> None:
        try:
            with Deadline(self._node.timers, CLOSE_WITHIN):
                await self._node.pump.settled(room.lane, self.line.upto)
                await self.line.drain()
        except TimeoutError:
            pass
        finally:
            self.end(CloseCode.DRAINING, reason)

    # --- its life

    async def enter(self, channels: Callable[[], Awaitable[Collection[str]]]) -> None:
        """Into the roster and the room, not yet live; `leave` is owed in any case.

        Raises Unauthorized, Revoked, RateLimited, TooManyResumes or EngineUnavailable.
        """
        await self.up.enter(channels)

    async def leave(self) -> None:
        """Out of everything. The part that others could see has no await in it."""
        for timer in (self._heartbeat, self._expiry):
            if timer is not None:
                timer.cancel()
        self.line.close()
        room, self.up.room = self.up.room, None
        if room is not None:
            self._node.hub.leave(room, self)
        await self._node.roster.close(self)

    async def run(self, receive: Receive) -> int:
        """From `hello` to the end; returns the close code."""
        code = 1006
        with self._scope:
            try:
                await self._open()
                code = await self._listen(receive)
            except _End as end:
                await self._flush()
                self.end(end.code, end.reason)
        if self._closing is not None:
            code = self._closing[0]
            await self._close()
        return code

    async def _open(self) -> None:
        node = self._node
        self.opened = True
        await node.dispatcher.notify(node.session_opened, self)
        try:
            view = View(node.engine, self.workspace.id, self.line.position)
            # Each hook has a deadline of its own; asking again, and what the engine is asked beside them, has this one.
            with Deadline(node.timers, (len(node.initial_state) + 1) * node.settings.hook_timeout):
                states = await view.take(lambda: node.dispatcher.collect(node.initial_state, self), self.up.advance)
        except Exception as error:
            logger.error("the initial state could not be made", exc_info=error)
            await self._answer(node.wire.error(None, None, node.clock.time()), "error")
            raise _End(CloseCode.INTERNAL) from None
        hello = Hello(
            connection_id=self.id,
            user_id=self.user_id,
            heartbeat_interval_ms=round(node.settings.heartbeat_interval * 1000),
            limits={"max_event_bytes": node.settings.max_event_bytes},
            state=dict(states),
            cursor=self.up.cursor(),
            resume=self.up.outcome(),
        )
        text = node.wire.encode(hello, self.workspace.id, node.clock.time())
        await self.line.send(Frame(text, type="hello"))
        self._heard = node.clock.monotonic()
        self._heartbeat = node.timers.call_later(node.settings.heartbeat_timeout, self._listen_for_life)
        self._arm_expiry()
        self.up.begin()

    # --- receiving

    async def _listen(self, receive: Receive) -> int:
        monotonic = self._node.clock.monotonic
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return message.get("code") or 1005
            text = message.get("text")
            if text is None:
                raise _End(CloseCode.UNSUPPORTED)
            self._heard = monotonic()
            if text == PING:
                await self._ping(None)
            else:
                await self._hear(text)

    async def _hear(self, text: str) -> None:
        wire = self._node.wire
        if wire.too_big(text):
            await self._refuse(InvalidEvent(f"$: expected at most {wire.max_bytes} bytes"), None, strike=False)
            raise _End(CloseCode.TOO_BIG)
        try:
            incoming = wire.decode(text, self.workspace.id)
        except Rejected as rejected:
            await self._refuse(rejected.refused, rejected.ref)
            return
        if isinstance(incoming.event, Ping):
            await self._ping(incoming.ref)
        else:
            await self._handle(incoming)

    async def _handle(self, incoming: Incoming) -> None:
        event, ref = incoming
        node = self._node
        if self.expired and not event.__event__.when_expired:
            await self._refuse(InvalidToken(), ref)
            return
        before, on = node.client_hooks(type(event))
        failure: Exception | None
        try:
            event = await node.dispatcher.pipe(before, self, event)
        except Exception as error:
            failure = error
        else:
            failure = await node.dispatcher.act(on, self, event)
        if isinstance(failure, Refused):
            await self._refuse(failure, ref)
        elif failure is not None:
            if isinstance(failure, EngineError):
                logger.warning("%s could not be handled: %s", event.__event__.type, failure)
            await self._answer(node.wire.error(None, ref, node.clock.time()), "error")
        elif ref is not None:
            text = node.wire.encode(Ack(ref=ref), self.workspace.id, node.clock.time())
            await self._answer(text, "ack")

    async def _ping(self, ref: Ref) -> None:
        settings, now = self._node.settings, self._heard
        tokens = min(settings.ping_burst, self._pings + (now - self._tokens_at) * settings.ping_rate)
        self._tokens_at = now
        if tokens < 1:
            self._pings = tokens
            await self._refuse(RateLimited((1 - tokens) / settings.ping_rate), ref)
            return
        self._pings = tokens - 1
        if self.line.tag is not None:
            frame: Frame = _Pong(self._node.wire.pong(ref), self)
        else:
            frame = _PONG if ref is None else Frame(self._node.wire.pong(ref), type="pong")
        await self.line.answer(frame)

    # --- answering

    async def _answer(self, text: str, type: str) -> None:
        await self.line.answer(Frame(text, type=type))

    async def _refuse(self, refused: Refused, ref: Ref, *, strike: bool = True) -> None:
        """Answer it, and count it: too many ends the connection."""
        node = self._node
        await self._answer(node.wire.error(refused, ref, node.clock.time()), "error")
        if isinstance(refused, RateLimited):
            self._count_excess(refused)
        elif strike and isinstance(refused, InvalidEvent | UnknownEvent):
            self._count_strike(1 if isinstance(refused, UnknownEvent) else 2)

    def _count_strike(self, weight: int) -> None:
        now, strikes = self._heard, self._strikes
        strikes.append((now, weight))
        while strikes[0][0] <= now - STRIKES_WITHIN:
            del strikes[0]
        if sum(weight for _, weight in strikes) >= STRIKES:
            raise _End(CloseCode.INVALID_EVENTS)

    def _count_excess(self, refused: RateLimited) -> None:
        """One stretch of excess lasts until nothing was refused for as long as an empty bucket takes to fill."""
        now = self._heard
        if now - self._limited > EXCESS_GAP:
            self._excess = now
        self._limited = now
        if now - self._excess >= EXCESS_FOR:
            raise _End(CloseCode.FLOODING, f"retry_after_ms={refused.retry_after_ms}")

    # --- ending

    async def _flush(self) -> None:
        """Before an end of our own choosing, what waits goes out."""
        try:
            with Deadline(self._node.timers, CLOSE_WITHIN):
                await self.line.drain()
        except TimeoutError:
            pass

    async def _close(self) -> None:
        """The one send that may overlap another: on some servers it frees the stuck one."""
        write, node = self.line.write, self._node
        # One that is still in its handshake is refused there.
        if self._closed or self._closing is None or not self.opened:
            return
        self._closed = True
        code, reason, error = self._closing
        try:
            with Deadline(node.timers, CLOSE_WITHIN):
                if error is not None:
                    text = node.wire.error(error, None, node.clock.time())
                    await write({"type": "websocket.send", "text": text})
                await close(write, code, reason)
        except Exception:  # whatever a server raises for a socket that is gone; or it took too long
            logger.debug("a close frame could not be sent")

    # --- deadlines

    def _listen_for_life(self) -> None:
        settings, node = self._node.settings, self._node
        silence = node.clock.monotonic() - self._heard
        if silence >= settings.heartbeat_timeout:
            self.end(CloseCode.SILENT)
        else:
            self._heartbeat = node.timers.call_later(settings.heartbeat_timeout - silence, self._listen_for_life)

    def _arm_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if self.line.expires < math.inf:
            left = self.line.expires - self._node.clock.time()
            grace = self.principal.grace if left <= 0 else 0.0
            call = self._expired_for_good if left <= 0 else self.lapsed
            self._expiry = self._node.timers.call_later(max(0.0, left + grace), call)

    def _expired_for_good(self) -> None:
        if self.line.expires + self.principal.grace <= self._node.clock.time():
            self.end(CloseCode.EXPIRED, error=InvalidToken())
        else:  # the wall clock was set back
            self._go_on()

    def _go_on(self) -> None:
        """Under a token that is good again."""
        self._arm_expiry()
        if not self.expired and self.line.gate & BEHIND:
            self.up.begin()
