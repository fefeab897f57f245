"""A name is a chair: every shipped plugin can be left out, extended, and replaced by one of your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import attrs
import jwt
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from jackfield import (
    Audience,
    Channel,
    ClientEvent,
    ConfigurationError,
    Everyone,
    Handshake,
    InvalidToken,
    Jackfield,
    Post,
    Principal,
    RateLimited,
    ServerEvent,
    Session,
    State,
    Transaction,
    Unauthorized,
    UnknownAudience,
    Users,
    Workspace,
    before,
    hookimpl,
    on,
)
from jackfield.events import (
    ChannelCreated,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    MessageUpdated,
    PresenceUpdated,
    ReactionAdded,
    Status,
    ThreadUpdated,
    TypingIndicator,
    TypingStart,
    TypingStop,
)
from jackfield.hookspecs import presence_of
from jackfield.testing import Closed, bench
from jackfield_auth import JWTAuth, TokenAuth
from jackfield_http import HTTP
from jackfield_members import Members, OpenWorkspace
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from jackfield_typing import Typing
from tests.plugins.chat import EVENTS, KEY, NOON, heard, http, message, private, public, wire

SECRET = "a secret of at least thirty-two bytes"


async def nobody(token: str, workspace_id: str) -> Principal | None:
    return None


SHIPPED: dict[str, Any] = {
    "token": lambda: JWTAuth(SECRET),
    "rate_limit": RateLimit,
    "members": Members,
    "presence": Presence,
    "reactions": Reactions,
    "threads": Threads,
    "typing": Typing,
    "http": lambda: HTTP(api_key=KEY),
}

# --- The chair


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_plugin_sits_in_the_chair_that_it_is_known_by(name: str) -> None:
    assert SHIPPED[name]().name == name


@pytest.mark.parametrize("name", SHIPPED)
def test_two_in_one_chair_are_a_start_up_error(name: str) -> None:
    others = [make() for other, make in SHIPPED.items() if other != name]
    with pytest.raises(ConfigurationError, match=f'two plugins are called "{name}"'):
        Jackfield(*others, SHIPPED[name](), SHIPPED[name]())


def test_both_token_plugins_want_the_same_chair_and_so_do_both_houses() -> None:
    with pytest.raises(
        ConfigurationError, match=r'"token": jackfield_auth._jwt.JWTAuth and jackfield_auth._token.TokenAuth'
    ):
        Jackfield(JWTAuth(SECRET), TokenAuth(verify=nobody), Members())
    with pytest.raises(ConfigurationError, match='"members"'):
        Jackfield(JWTAuth(SECRET), OpenWorkspace(), Members())


@pytest.mark.parametrize("name", SHIPPED)
def test_under_another_name_it_sits_beside(name: str) -> None:
    plugin = SHIPPED[name]()
    plugin.name = "another"
    if (event := {"typing": "typing", "presence": "presence.watch"}.get(name)) is not None:  # of which there is one
        with pytest.raises(ConfigurationError, match=rf'"{event}" is registered twice'):
            Jackfield(*(make() for make in SHIPPED.values()), plugin)
    else:
        Jackfield(*(make() for make in SHIPPED.values()), plugin)


# --- Left out


@pytest.mark.parametrize("name", [name for name in SHIPPED if name not in ("token", "members")])
async def test_without_it_the_others_go_on(name: str, nodes: int) -> None:
    others = [make for other, make in SHIPPED.items() if other not in (name, "token")]
    async with bench(*others, nodes=nodes) as b:
        await b.workspace().publish_all([public(), message(), message("r1", parent="m1")])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        await heard(alice, bob)
        said: list[ServerEvent] = [ReactionAdded("m1", "👍", "bob"), message("m2")]
        await b.workspace().publish_all(said)
        assert await heard(alice, bob) == [said, said]


def test_without_a_token_or_a_house_the_host_must_answer_himself() -> None:
    for name, hook in (("token", "authenticate"), ("members", "channels_of")):
        with pytest.raises(ConfigurationError, match=f"nobody answers {hook}"):
            Jackfield(*(make() for other, make in SHIPPED.items() if other != name))


async def test_without_presence_nobody_is_told_of_it_and_hello_does_not_speak_of_it() -> None:
    async with bench(Members) as b:
        alice = await b.connect("alice")
        await b.connect("bob")
        assert await heard(alice) == [[]]
        assert alice.hello.state == {}
        assert await b.app.ask(presence_of, b.workspace()) is None


async def test_without_typing_its_event_is_unknown() -> None:
    async with bench(Members) as b:
        alice = await b.connect("alice")
        await alice.send(TypingIndicator("c1", True) if "typing" in b.app.events else {"type": "typing"})
        assert (await alice.receive_frame())["data"]["code"] == "UNKNOWN_EVENT"


async def test_without_reactions_every_one_is_published() -> None:
    async with bench(Members) as b:
        await b.workspace().publish_all([public(), message()])
        for _ in range(2):
            assert (await b.workspace().publish(ReactionAdded("m1", "👍", "bob"))).published


async def test_without_threads_a_reply_stands_alone() -> None:
    async with bench(Members) as b:
        alice = await b.connect("alice")
        said = [public(), message(), message("r1", parent="m1")]
        await b.workspace().publish_all(said)
        assert await heard(alice) == [said]


async def test_without_a_rate_limit_there_is_none() -> None:
    async with bench(Members, Typing) as b:
        await b.workspace().publish(public())
        alice = await b.connect("alice")
        for _ in range(100):
            await alice.request(TypingIndicator("c1", True))


async def test_without_http_there_are_no_routes() -> None:
    async with bench(Members) as b, http(b.app) as client:
        for path in (EVENTS, "/health/live"):
            assert (await client.post(path)).status_code == 404


# --- Replaced


@attrs.define(eq=False)
class Cookies:
    """Instead of tokens: the host's session, as Starlette's middleware leaves it."""

    name: str = "token"

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        user_id = handshake.cookies.get("user")
        return None if user_id is None else Principal(user_id)


async def test_another_token(nodes: int) -> None:
    async with bench(Cookies, OpenWorkspace, nodes=nodes) as b:
        alice = await b.connect(headers=[("cookie", "user=alice")], node=nodes - 1)
        assert alice.hello.user_id == "alice"
        with pytest.raises(Closed, match="4501"):
            await b.connect()


BUDGETS = State("rate_limit", int)


@attrs.define(eq=False)
class Budget:
    """Instead of a bucket: so many events for good."""

    most: int = 3
    name: str = "rate_limit"

    @before(ClientEvent)
    async def limit(self, session: Session, event: ClientEvent) -> None:
        spent = (await session.workspace.update(BUDGETS, session.user_id, lambda spent: spent + 1)).after
        if spent > self.most:
            raise RateLimited(60)


async def test_another_rate_limit(nodes: int) -> None:
    async with bench(Budget, OpenWorkspace, Typing, nodes=nodes) as b:
        clients = [await b.connect("alice", node=n % nodes) for n in range(4)]
        for client in clients[:3]:
            await client.request(TypingIndicator("c1", True))
        with pytest.raises(RateLimited) as limited:
            await clients[3].request(TypingIndicator("c1", True))
        assert limited.value.retry_after == 60


@attrs.define(eq=False)
class Database:
    """Instead of members: a host that knows for himself who sees what."""

    rows: dict[str, set[str]] = attrs.field(factory=lambda: {"c1": {"alice", "bob"}, "c2": {"alice"}})
    messages: dict[str, str] = attrs.field(factory=lambda: {"m1": "c1", "m2": "c2"})
    name: str = "members"

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str]:
        if user_id == "mallory":
            raise Unauthorized
        return {channel for channel, users in self.rows.items() if user_id in users}

    @hookimpl
    async def audience_of(self, transaction: Transaction, event: ServerEvent) -> Audience | None:
        if isinstance(event, ReactionAdded | MessageUpdated):
            id = event.message_id if isinstance(event, ReactionAdded) else event.id
            return Channel(self.messages[id])
        return None


async def test_another_house(nodes: int) -> None:
    async with bench(Database, Typing, Reactions, nodes=nodes) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        said = [
            ReactionAdded("m1", "👍", "bob"),
            MessageUpdated("m2", "x", NOON),
            message("m3", "c1"),
            message("m4", "c2"),
        ]
        await b.workspace().publish_all(said)
        assert await heard(alice, bob) == [said, [said[0], said[2]]]
        await b.workspace().publish_all([MemberLeft("c1", "bob"), message("m5", "c1")])
        assert await heard(bob) == [[MemberLeft("c1", "bob")]]
        with pytest.raises(Closed, match="4502"):
            await b.connect("mallory")
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(MessageDeleted("m1", NOON))


@attrs.define(eq=False)
class Calendar:
    """Instead of presence: who sits in a meeting is away."""

    name: str = "presence"

    @hookimpl
    async def presence_of(self, workspace: Workspace) -> Mapping[str, Status]:
        return {"alice": "away"}

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        statuses = await self.presence_of(session.workspace)
        return [{"user_id": user_id, "status": status} for user_id, status in statuses.items()]


async def test_another_presence(nodes: int) -> None:
    async with bench(Members, Calendar, lambda: HTTP(api_key=KEY), nodes=nodes) as b, http(b.app) as client:
        bob = await b.connect("bob", node=nodes - 1)
        assert bob.hello.state == {"presence": [{"user_id": "alice", "status": "away"}]}
        answer = await client.get("/api/workspaces/w/presence")
        assert answer.json() == {"users": [{"user_id": "alice", "status": "away"}]}
        await b.connect("carol")
        assert await heard(bob) == [[]]


LAST = State("reactions", str)


@attrs.define(eq=False)
class OneEach:
    """Instead of reactions: the last one of a user counts, and takes the one before it back."""

    name: str = "reactions"

    @before(ReactionAdded)
    async def add(self, transaction: Transaction, event: ReactionAdded) -> Sequence[ServerEvent] | None:
        key = f"{event.message_id}/{event.user_id}"
        return None if await transaction.update(LAST, key, lambda _: event.emoji) else []


async def test_other_reactions(nodes: int) -> None:
    async with bench(Members, OneEach, nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice = await b.connect("alice", node=nodes - 1)
        one, two = ReactionAdded("m1", "👍", "bob"), ReactionAdded("m1", "🎉", "bob")
        await b.workspace().publish_all([one, one, two, two, one])
        assert await heard(alice) == [[one, two, one]]


COUNTS = State("threads", int)


@attrs.define(eq=False)
class Participants:
    """Instead of threads: a plain count that never goes down."""

    name: str = "threads"

    @before(MessageNew)
    async def count(self, transaction: Transaction, event: MessageNew) -> Sequence[ServerEvent] | None:
        if (parent := event.parent_message_id) is None:
            return None
        count = (await transaction.update(COUNTS, parent, lambda n: n + 1)).after
        return [event, ThreadUpdated(parent, count)]


async def test_other_threads(nodes: int) -> None:
    async with bench(Members, Participants, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice = await b.connect("alice", node=nodes - 1)
        replies = [message(f"r{n}", parent="m1") for n in range(2)]
        await b.workspace().publish_all([replies[0], MessageDeleted("r0", NOON), replies[1]])
        assert await heard(alice) == [
            [replies[0], ThreadUpdated("m1", 1), MessageDeleted("r0", NOON), replies[1], ThreadUpdated("m1", 2)]
        ]


@attrs.define(eq=False)
class Relay:
    """Instead of typing: what a client says goes to the channel as it is."""

    name: str = "typing"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent]]:
        return (TypingIndicator,)

    @on(TypingIndicator)
    async def relay(self, session: Session, event: TypingIndicator) -> None:
        said = (TypingStart if event.is_typing else TypingStop)(event.channel_id, session.user_id)
        await session.workspace.publish(said)


async def test_another_typing(nodes: int) -> None:
    async with bench(Members, Relay, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        for is_typing in (True, True, False):
            await alice.request(TypingIndicator("c1", is_typing))
        start, stop = TypingStart("c1", "alice"), TypingStop("c1", "alice")
        assert await heard(bob) == [[start, start, stop]]


@attrs.define(eq=False)
class Plain:
    """Instead of the HTTP side: one route."""

    name: str = "http"

    @hookimpl
    def register_routes(self, app: Jackfield) -> Iterable[BaseRoute]:
        async def shout(request: Request) -> Response:
            await app.workspace(request.path_params["id"]).publish(message(), to=Everyone())
            return PlainTextResponse("shouted")

        return (Route("/shout/{id}", shout, methods=["POST"]),)


async def test_another_http(nodes: int) -> None:
    async with bench(Members, Plain, nodes=nodes) as b, http(b.app) as client:
        alice = await b.connect("alice", node=nodes - 1)
        assert (await client.post("/shout/w")).text == "shouted"
        assert (await client.post(EVENTS, json=wire(public()))).status_code == 404
        assert await heard(alice) == [[message()]]


# --- Extended


@attrs.define(eq=False)
class Tenants(JWTAuth):
    """Lets nobody in whose token does not name the tenant."""

    async def principal_of(self, token: str, workspace_id: str) -> Principal | None:
        principal = await super().principal_of(token, workspace_id)
        if principal is not None and principal.claims.get("tenant") != "us":
            raise InvalidToken
        return principal


async def test_a_token_extended() -> None:
    async with bench(Tenants(SECRET), OpenWorkspace()) as b:
        now = b.clock.time()
        claims = {"sub": "alice", "workspaces": ["w"], "iat": now, "exp": now + 60}
        await b.connect(token=jwt.encode({**claims, "tenant": "us"}, SECRET))
        with pytest.raises(Closed, match="4501"):
            await b.connect(token=jwt.encode({**claims, "tenant": "them"}, SECRET))


@attrs.define(eq=False)
class Lenient(RateLimit):
    """Never limits alice."""

    async def limit(self, session: Session, event: ClientEvent) -> None:
        if session.user_id != "alice":
            await super().limit(session, event)


@attrs.define(eq=False)
class MarkedLenient(RateLimit):
    """The same, marked anew."""

    @before(ClientEvent)
    async def limit(self, session: Session, event: ClientEvent) -> None:
        if session.user_id != "alice":
            await super().limit(session, event)


async def test_a_hook_that_is_overridden_without_its_marker_is_noticed() -> None:
    """Else it would be no hook any more, in silence."""
    with pytest.raises(ConfigurationError) as error:
        Jackfield(JWTAuth(SECRET), Members(), Lenient())
    assert str(error.value) == (
        'plugin "rate_limit": limit is a hook in RateLimit and not marked in Lenient. '
        "Write @before(ClientEvent) above it, or rename it."
    )


async def test_a_rate_limit_extended() -> None:
    async with bench(MarkedLenient(burst=2), OpenWorkspace(), Typing()) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob")
        for _ in range(5):
            await alice.request(TypingIndicator("c1", True))
        for _ in range(2):
            await bob.request(TypingIndicator("c1", True))
        with pytest.raises(RateLimited):
            await bob.request(TypingIndicator("c1", True))


@attrs.define(eq=False)
class Announcements(Members):
    """A channel of type "announcement" is public, too."""

    @before(ChannelCreated)
    async def create(self, transaction: Transaction, event: ChannelCreated) -> Sequence[ServerEvent] | None:
        if event.type != "announcement":
            return await super().create(transaction, event)
        shown = attrs.evolve(event, type="public")
        return await super().create(transaction, shown) or [shown]


async def test_a_house_extended(nodes: int) -> None:
    async with bench(Announcements, nodes=nodes) as b:
        bob = await b.connect("bob", node=nodes - 1)
        news = ChannelCreated("news", "News", "announcement", "alice")
        await b.workspace().publish_all([news, private(), message("m1", "news"), message("m2", "c1")])
        assert await heard(bob) == [[ChannelCreated("news", "News", "public", "alice"), message("m1", "news")]]


@attrs.define(eq=False)
class Invisible(Presence):
    """Nobody learns of bots."""

    @hookimpl
    async def roster_changed(self, transaction: Transaction, user_id: str, after: Any, cause: str) -> Any:
        if user_id.startswith("bot"):
            return None
        return await super().roster_changed(transaction, user_id, after, cause)


async def test_presence_extended(nodes: int) -> None:
    async with bench(Members, Invisible, nodes=nodes) as b:
        alice = await b.connect("alice", node=nodes - 1)
        await b.connect("bot1")
        await b.connect("bob")
        assert await heard(alice) == [[PresenceUpdated("bob", "online")]]


@attrs.define(eq=False)
class Counted(Reactions):
    """Beside what it does, counts what is popular here."""

    popular: Counter[str] = attrs.field(factory=Counter[str])

    @on(ReactionAdded)
    async def heard(self, workspace: Workspace, event: ReactionAdded) -> None:
        self.popular[event.emoji] += 1


async def test_reactions_extended() -> None:
    counted = Counted()
    async with bench(Members(), counted) as b:
        added = ReactionAdded("m1", "👍", "bob")
        await b.workspace().publish_all([public(), message(), added, added])
        await b.connect("alice")
        assert counted.popular == {"👍": 1}


@attrs.define(eq=False)
class Quiet(Threads):
    """Tells of a thread's numbers nobody but its author."""

    @before(MessageNew)
    async def reply(self, transaction: Transaction, event: MessageNew) -> Any:
        verdict = await super().reply(transaction, event)
        return verdict and [event, *(Post(update, Users("alice")) for update in verdict[1:])]


async def test_threads_extended(nodes: int) -> None:
    async with bench(Members, Quiet, nodes=nodes) as b:
        await b.workspace().publish_all([public(), message()])
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        reply = message("r1", parent="m1")
        await b.workspace().publish(reply)
        assert await heard(alice, bob) == [[reply, ThreadUpdated("m1", 1, NOON)], [reply]]


@attrs.define(eq=False)
class Shy(Typing):
    """Nobody sees bob type."""

    @on(TypingIndicator)
    async def typed(self, session: Session, event: TypingIndicator) -> None:
        if session.user_id != "bob":
            await super().typed(session, event)


async def test_typing_extended(nodes: int) -> None:
    async with bench(Members, Shy, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        for client in (alice, bob):
            await client.request(TypingIndicator("c1", True))
        assert await heard(alice, bob) == [[], [TypingStart("c1", "alice")]]


@attrs.define(eq=False)
class More(HTTP):
    """One more route under the same roof."""

    @hookimpl
    def register_routes(self, app: Jackfield) -> Iterable[BaseRoute]:
        async def version(request: Request) -> Response:
            return PlainTextResponse("1")

        return (*super().register_routes(app), Route("/version", version))


async def test_http_extended() -> None:
    async with bench(Members, lambda: More(api_key=KEY)) as b, http(b.app) as client:
        assert (await client.get("/version")).text == "1"
        assert (await client.post(EVENTS, json=wire(public()))).status_code == 202


# --- All together


async def test_all_of_them_swapped_at_once(nodes: int) -> None:
    async with bench(Cookies, Budget, Database, Calendar, OneEach, Participants, Relay, Plain, nodes=nodes) as b:
        alice, bob = [
            await b.connect(headers=[("cookie", f"user={user}")], node=node)
            for user, node in (("alice", 0), ("bob", nodes - 1))
        ]
        await alice.request(TypingIndicator("c1", True))
        reply = message("r1", parent="m1")
        await b.workspace().publish_all([reply, ReactionAdded("m1", "👍", "bob")])
        assert await heard(bob) == [
            [TypingStart("c1", "alice"), reply, ThreadUpdated("m1", 1), ReactionAdded("m1", "👍", "bob")]
        ]
