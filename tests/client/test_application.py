"""A client against an application in this process: what the two make of each other, with time in the test's hand."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import jwt
import pytest

from jackfield import (
    ClientEvent,
    InvalidToken,
    JackfieldError,
    Principal,
    RateLimited,
    Refused,
    ServerEvent,
    Session,
    Settings,
    Unauthorized,
    hookimpl,
    on,
)
from jackfield.client import Client, Closed, Disconnected, Unknown, Value, connect
from jackfield.events import (
    ChannelCreated,
    Hello,
    MemberJoined,
    MessageNew,
    PresenceUpdated,
    TypingStart,
    TypingStop,
    timestamp,
)
from jackfield.testing import Bench, FakeClock, bench, settle
from jackfield_auth import AuthRefreshed, JWTAuth, TokenAuth
from jackfield_members import Members, OpenWorkspace
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from jackfield_typing import Typing

SECRET = "only for these tests, and long enough"


class Knock(ClientEvent, type="client_app.knock"):
    """Somebody knocks."""

    times: int


class Opened(ServerEvent, type="client_app.opened"):
    """A door opened."""

    times: int


class TooLoud(Refused):
    """Nobody opens to that."""

    code = "CLIENT_APP_TOO_LOUD"


class Door:
    """A plugin with events of its own."""

    name = "door"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return (Knock, Opened)

    @on(Knock)
    async def open(self, session: Session, event: Knock) -> None:
        if event.times > 3:
            raise TooLoud
        await session.send(Opened(event.times))


def auth(**options: Any) -> TokenAuth:
    """A token is the name of its user; `:N` behind it is when it ends."""

    async def verify(token: str, workspace_id: str) -> Principal | None:
        name, _, expires_at = token.partition(":")
        if name == "mallory":
            raise Unauthorized
        return None if name == "nobody" else Principal(name, expires_at=float(expires_at) if expires_at else None)

    return TokenAuth(verify=verify, **options)


class Line:
    """The application, behind a line that a test can cut."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.scopes: list[dict[str, Any]] = []
        self.hung_up: list[Any] = []
        """What the application was told at the end of each connection."""
        self._cuts: list[anyio.Event] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        cut = anyio.Event()
        self._cuts.append(cut)
        self.scopes.append(scope)

        async def hear() -> Any:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.hung_up.append(message.get("code"))
            return message

        async def watch() -> None:
            await cut.wait()
            await send({"type": "websocket.close", "code": 1001, "reason": "going away"})
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self.app(scope, hear, send)
            tasks.cancel_scope.cancel()

    async def cut(self) -> None:
        self._cuts[-1].set()
        await settle()


class Reader:
    def __init__(self, client: Client, line: Line) -> None:
        self.client = client
        self.line = line
        self.heard: list[Value] = []
        self.closed: Closed | None = None
        self.awake = anyio.Event()

    async def read(self) -> None:
        await self.awake.wait()
        try:
            async for value in self.client:
                self.heard.append(value)
        except Closed as closed:
            self.closed = closed

    async def news(self, *kinds: type[Any]) -> list[Any]:
        """What came since this was last asked; of these kinds only, where some are named."""
        await settle()
        new, self.heard = self.heard, []
        return [value for value in new if not kinds or isinstance(value, kinds)]


@asynccontextmanager
async def reading(
    b: Bench, token: Any = "alice", sleeping: bool = False, **options: Any
) -> AsyncGenerator[Reader, None]:
    line = Line(b.app)
    options.setdefault("random", lambda: 1.0)
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        try:
            async with connect("/ws/w", app=line, clock=b.clock, token=token, **options) as client:
                reader = Reader(client, line)
                if not sleeping:
                    reader.awake.set()
                tasks.start_soon(reader.read)
                await settle()
                yield reader
        except Exception as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


def message(number: int, channel_id: str = "c1", user_id: str = "bob") -> MessageNew:
    return MessageNew(f"m{number}", channel_id, user_id, "hello", timestamp(0))


def ids(values: list[Any]) -> list[str]:
    return [value.id for value in values if isinstance(value, MessageNew)]


async def test_hello_events_and_leaving() -> None:
    async with bench(auth, OpenWorkspace, Presence) as b:
        async with reading(b) as alice:
            (hello,) = await alice.news()
            assert isinstance(hello, Hello)
            assert (hello.user_id, hello.recovered) == ("alice", False)
            assert hello.state["presence"] == [{"user_id": "alice", "status": "online"}]
            scope = alice.line.scopes[0]
            assert scope["query_string"] == b"resume="
            assert (b"authorization", b"Bearer alice") in scope["headers"]
            async with reading(b, "bob"):
                assert await alice.news() == [PresenceUpdated("bob", "online")]
            await b.clock.advance(20)
            assert await alice.news() == [PresenceUpdated("bob", "offline")]
            await b.workspace().publish(message(1))
            assert await alice.news() == [message(1)]
        assert alice.line.hung_up == [1000]
        assert alice.closed is None


async def test_a_plugins_own_events_and_refusals() -> None:
    async with bench(auth, OpenWorkspace, Door) as b:
        async with reading(b, events=[Opened]) as alice:
            await alice.client.request(Knock(2))
            await alice.client.request({"type": "client_app.knock", "times": 1})
            assert await alice.news(Opened) == [Opened(2), Opened(1)]
            with pytest.raises(TooLoud):
                await alice.client.request(Knock(4))
            with pytest.raises(JackfieldError) as refused:
                await alice.client.request({"type": "client_app.knock", "times": "x"})
            assert "times" in str(refused.value)
        async with reading(b) as bob:
            await bob.client.request(Knock(3))
            assert await bob.news(Unknown) == [Unknown("client_app.opened", {"times": 3})]


async def test_cut_off_it_resumes_and_misses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with bench(auth, OpenWorkspace, Presence) as b:
        async with reading(b) as alice:
            await b.workspace().publish(message(1))
            await settle()
            await alice.line.cut()
            assert (await alice.news())[-1] == Disconnected(1001, "going away", 0.5)
            for number in 2, 3:
                await b.workspace().publish(message(number))
            await b.clock.advance(0.5)
            hello, *missed = await alice.news()
            assert isinstance(hello, Hello)
            assert hello.resume == {"recovered": True, "replayed": 2}
            assert ids(missed) == ["m2", "m3"]
            kept = alice.client.cursor
        await b.workspace().publish(message(4))
        async with reading(b, cursor=kept) as alice:
            assert ids(await alice.news()) == ["m4"]
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


async def test_what_is_no_longer_kept_is_said() -> None:
    async with bench(auth, OpenWorkspace, settings=Settings(history_events=2)) as b, reading(b) as alice:
        await alice.news()
        await alice.line.cut()
        await b.workspace().publish_all([message(number) for number in range(5)])
        await b.clock.advance(0.5)
        _, hello = await alice.news()
        assert isinstance(hello, Hello)
        assert hello.resume == {"recovered": False, "reason": "expired"}
        assert alice.client.cursor == hello.cursor
        await b.workspace().publish(message(9))
        assert ids(await alice.news()) == ["m9"]


async def test_requests_over_a_cut() -> None:
    async with bench(auth, OpenWorkspace, Door) as b, reading(b, events=[Opened]) as alice:
        await alice.line.cut()
        async with anyio.create_task_group() as tasks:
            for times in 1, 2, 3:
                tasks.start_soon(alice.client.request, Knock(times))
                await settle()
            await b.clock.advance(0.5)
        assert [value.times for value in await alice.news(Opened)] == [1, 2, 3]


async def test_members_see_their_channels() -> None:
    async with bench(auth, Members) as b, reading(b) as alice:
        await b.workspace().publish(ChannelCreated("c9", "secret", "private", "bob"))
        await b.workspace().publish(message(1, "c9"))
        assert await alice.news(MessageNew, ChannelCreated) == []
        await b.workspace().publish(MemberJoined("c9", "alice"))
        await b.workspace().publish(message(2, "c9"))
        assert ids(await alice.news()) == ["m2"]


async def test_typing() -> None:
    async with bench(auth, OpenWorkspace, Typing) as b, reading(b) as alice, reading(b, "bob") as bob:
        await bob.news()
        for _ in range(4):
            alice.client.typing("c1")
            await b.clock.advance(2)
        assert await bob.news() == [TypingStart("c1", "alice")]
        await b.clock.advance(3)
        assert await bob.news() == [TypingStop("c1", "alice")]
        alice.client.typing("c1")
        await settle()
        await b.workspace().publish(message(1, user_id="alice"))
        assert await bob.news() == [TypingStart("c1", "alice"), message(1, user_id="alice"), TypingStop("c1", "alice")]
        alice.client.typing("c1", False)
        await b.clock.advance(10)
        assert await bob.news() == []


async def beat(clock: FakeClock, seconds: float) -> None:
    for _ in range(round(seconds / 5)):
        await clock.advance(5)


@pytest.mark.parametrize("served", [True, False])
async def test_a_token_is_renewed_before_its_end_on_the_line_or_by_the_door(served: bool) -> None:
    clock = FakeClock()
    asked: list[str] = []

    async def token() -> str:
        now = clock.time()
        claims = {"sub": "alice", "workspaces": ["w"], "iat": now, "exp": now + 100, "jti": str(len(asked))}
        asked.append(jwt.encode(claims, SECRET, algorithm="HS256"))
        return asked[-1]

    known = [AuthRefreshed] if served else []
    plugin = partial(JWTAuth, SECRET, refresh=served)
    async with bench(plugin, OpenWorkspace, clock=clock) as b, reading(b, token, events=known) as alice:
        for number in range(10):
            await beat(clock, 35)
            await b.workspace().publish(message(number))
        heard = await alice.news()
        assert ids(heard) == [f"m{number}" for number in range(10)]
        assert not [value for value in heard if isinstance(value, Disconnected | Refused)]
        assert len(asked) == 6
        assert len(alice.line.scopes) == (1 if served else 6)
        renewed = [value for value in heard if isinstance(value, AuthRefreshed)]
        assert len(renewed) == (5 if served else 0)


async def test_a_token_that_ran_out_is_replaced_at_the_door() -> None:
    """No JSON web token, so nobody can know when."""
    clock = FakeClock()
    async with (
        bench(partial(auth, grace=5.0), OpenWorkspace, clock=clock) as b,
        reading(b, lambda: f"alice:{clock.time() + 50}") as alice,
    ):
        await beat(b.clock, 60)
        heard = await alice.news()
        assert [type(value) for value in heard] == [Hello, InvalidToken, Disconnected, Hello]
        assert heard[2].code == 4004
        assert heard[3].recovered


@pytest.mark.parametrize(("token", "code"), [("nobody", 4501), ("mallory", 4502)])
async def test_who_may_not_enter_hears_why(token: str, code: int) -> None:
    async with bench(auth, OpenWorkspace) as b, reading(b, token) as alice:
        heard = await alice.news()
        assert [type(value) for value in heard] == [InvalidToken if code == 4501 else Unauthorized]
        assert alice.closed is not None
        assert (alice.closed.code, alice.closed.status) == (code, None)


async def test_refused_with_a_status_where_the_server_is_asked_to() -> None:
    async with bench(auth, OpenWorkspace, settings=Settings(reject="http")) as b, reading(b, "mallory") as alice:
        assert alice.closed is not None
        assert alice.closed.status == 403


async def test_a_wrong_token_gives_way_to_a_right_one() -> None:
    tokens = iter(["nobody", "alice"])
    async with bench(auth, OpenWorkspace) as b, reading(b, lambda: next(tokens)) as alice:
        await b.clock.advance(1)
        assert alice.client.connected


async def test_a_rate_limit_delays_and_refuses_nothing() -> None:
    limit = partial(RateLimit, events=60, per=60, burst=3)
    async with bench(auth, OpenWorkspace, Door, limit) as b, reading(b, events=[Opened]) as alice:
        done = anyio.Event()

        async def knock() -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(alice.client.request, Knock(1))
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(knock)
            await b.clock.advance(4)
            assert not done.is_set()
            await b.clock.advance(2)
            assert done.is_set()
        heard = await alice.news(Opened, RateLimited)
        assert heard == [Opened(1)] * 8


async def test_a_drain_moves_it_and_a_revocation_ends_it() -> None:
    async with bench(auth, OpenWorkspace, Presence) as b:
        async with reading(b) as alice:
            await b.workspace().revoke("alice")
            await settle()
            assert alice.closed is not None
            assert (alice.closed.code, alice.closed.reason) == (4503, "access revoked")
        async with reading(b, "bob") as bob:
            await bob.news()
            b.app.start_drain()
            await settle()
            (gone,) = await bob.news(Disconnected)
            assert gone.code == 4001
            assert gone.retry_in > 0
            await b.clock.advance(gone.retry_in)
            (refused,) = await bob.news(Disconnected)  # there is no other node: it is refused with 503, and tries on
            assert refused.code == 1006
            assert refused.retry_in >= 1
            assert bob.closed is None


async def test_a_reader_who_sleeps_is_given_all_of_it() -> None:
    """The server waits for him, gives him up in the end, and sends the rest when he is back."""
    async with bench(auth, OpenWorkspace) as b, reading(b, inbox=5, sleeping=True) as alice:
        for number in range(100):
            await b.workspace().publish(message(number))
        await b.clock.advance(300)
        assert alice.client.cursor == ""
        alice.awake.set()
        for _ in range(5):
            await b.clock.advance(1)
        heard = await alice.news()
        assert ids(heard) == [f"m{number}" for number in range(100)]
        assert [value.code for value in heard if isinstance(value, Disconnected)] == [4002]


async def test_an_application_that_never_answers_is_given_up() -> None:
    async def mute(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep_forever()

    clock = FakeClock()
    async with connect("/ws/w", app=mute, clock=clock, token="t", random=lambda: 1.0) as client:
        await clock.advance(9)
        assert not client.connected
        await clock.advance(1)
        assert await anext(client) == Disconnected(1006, "silent", 0.5)


async def test_an_application_that_fails_or_returns_is_a_line_that_was_cut() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise LookupError

    clock = FakeClock()
    async with connect("/ws/w", app=failing, clock=clock, token="t", random=lambda: 1.0) as client:
        gone = await anext(client)
        assert isinstance(gone, Disconnected)
        assert gone.code == 1011


@pytest.mark.parametrize("state", ["open", "waiting"])
async def test_who_leaves_leaves_nothing_behind(state: str) -> None:
    async with bench(auth, OpenWorkspace, Presence) as b:
        async with reading(b) as alice:
            if state == "waiting":
                await alice.line.cut()
        assert alice.line.hung_up == [1000 if state == "open" else 1001]
        await b.clock.advance(20)
        async with reading(b, "bob") as bob:
            (hello,) = await bob.news(Hello)
            assert hello.state["presence"] == [{"user_id": "bob", "status": "online"}]
