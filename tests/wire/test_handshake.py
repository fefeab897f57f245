"""Section 1 of the wire, by bench: who is let in, and what everybody else is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, Literal

import anyio
import attrs
import jwt
import pytest

from jackfield import (
    EngineUnavailable,
    Handshake,
    InvalidToken,
    Principal,
    RateLimited,
    Session,
    Settings,
    Unauthorized,
    Workspace,
    hookimpl,
    testing,
)
from jackfield.events import ChannelDeleted, MemberJoined, MemberLeft, TypingIndicator
from jackfield.testing import ANYCORN, DAPHNE, GRANIAN, HYPERCORN, UVICORN, Bench, Client, Closed, FakeClock, Profile
from jackfield.testing._link import Gate
from jackfield.testing._transport import Transport
from jackfield_auth import JWTAuth, TokenAuth
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_typing import Typing
from tests.plugins.chat import heard, message, private, public, tables

NOW = FakeClock().time()

PROFILES = [UVICORN, HYPERCORN, ANYCORN, GRANIAN, DAPHNE]


async def who(token: str, workspace_id: str) -> Principal | None:
    """The token names its user, and his workspace."""
    user_id, _, workspace = token.partition("@")
    if not user_id.isalpha():
        return None
    if workspace_id != (workspace or "w"):
        raise Unauthorized
    return Principal(user_id)


Auth = partial(TokenAuth, verify=who)
bench = partial(testing.bench, Auth, Members)


async def said(client: Client) -> list[dict[str, Any]]:
    """Every message of the server's, as ASGI has it."""
    await testing.settle()
    return [dict(message) for message in client.transport.sent]


async def outcome(client: Client) -> tuple[str | None, int | None]:
    """The code of the error before the close, and that of the close."""
    messages = await said(client)
    assert [message["type"] for message in messages] == ["websocket.accept", "websocket.send", "websocket.close"]
    await client.pending()
    (frame,) = client.frames
    assert frame["type"] == "error"
    assert list(frame) == ["type", "data", "timestamp"]
    code: str = frame["data"]["code"]
    return code, messages[-1]["code"]


# --- Where the token stands


@pytest.mark.parametrize(
    "how",
    [
        {"query": "token=alice"},
        {"query": "a=b&token=alice&c"},
        {"query": "token=%61lice"},
        {"headers": [("authorization", "Bearer alice")]},
        {"headers": [("authorization", "bearer alice")]},
        {"headers": [("authorization", "Basic xyz")], "query": "token=alice"},
        {"subprotocols": ["jackfield.v1", "bearer.alice"]},
        {"subprotocols": ["bearer.alice", "jackfield.v1"]},
        {"subprotocols": ["bearer.alice"]},
        {"subprotocols": ["graphql-ws", "jackfield.v1", "bearer.alice"]},
    ],
    ids=repr,
)
async def test_the_token_is_taken_from_one_of_three_places(how: dict[str, Any]) -> None:
    async with bench() as b:
        assert (await b.connect(**how)).hello.user_id == "alice"


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"query": "token="},
        {"query": "token"},
        {"query": "Token=alice"},
        {"query": "token=alice&token=alice"},
        {"query": "token=alice", "headers": [("authorization", "Bearer alice")]},
        {"query": "token=alice", "subprotocols": ["jackfield.v1", "bearer.alice"]},
        {"headers": [("authorization", "Bearer alice"), ("authorization", "Bearer alice")]},
        {"headers": [("authorization", "Bearer alice")], "subprotocols": ["bearer.alice"]},
        {"headers": [("authorization", "Bearer")]},
        {"headers": [("authorization", "Bearer ")]},
        {"headers": [("authorization", "alice")]},
        {"subprotocols": ["jackfield.v1", "bearer.alice", "bearer.alice"]},
        {"subprotocols": ["jackfield.v1", "bearer."]},
        {"subprotocols": ["jackfield.v1", "Bearer.alice"]},
        {"query": "token=%ff"},
        {"query": "token=" + "a" * 8193},
        {"headers": [("authorization", "Bearer " + "a" * 8193)]},
        {"query": "token=" + "%C3%A4" * 4097},
        {"query": "token=not-known"},
    ],
    ids=lambda how: repr(how)[:60],
)
async def test_no_token_two_of_them_and_what_cannot_be_one_are_an_invalid_token(how: dict[str, Any]) -> None:
    async with bench() as b:
        assert await outcome(await b.open(**how)) == ("INVALID_TOKEN", 4501)


async def test_eight_kibibytes_are_a_token() -> None:
    async with bench() as b:
        token = "a" * 127 + "@" + "w" * 8064
        assert await outcome(await b.open(token=token)) == ("UNAUTHORIZED", 4502)


@pytest.mark.parametrize(
    ("offered", "selected"),
    [
        ([], None),
        (["jackfield.v1"], "jackfield.v1"),
        (["graphql-ws"], None),
        (["graphql-ws", "jackfield.v1"], "jackfield.v1"),
        (["jackfield.v1", "bearer.alice"], "jackfield.v1"),
        (["bearer.alice"], None),
    ],
)
async def test_jackfield_v1_is_selected_where_it_is_offered_and_never_the_one_with_the_token(
    offered: list[str], selected: str | None
) -> None:
    async with bench() as b:
        query = "" if "bearer.alice" in offered else "token=alice"
        for how in (query, "token=no-one" if query else "token=alice"):  # let in, and refused
            client = await b.open(query=how, subprotocols=offered)
            assert (await said(client))[0] == {"type": "websocket.accept", "subprotocol": selected, "headers": []}


@pytest.mark.parametrize("where", ["query", "header", "subprotocol"])
async def test_a_token_reaches_no_log_line_no_repr_and_no_exception(
    where: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    async def verify(token: str, workspace_id: str) -> Principal | None:
        raise RuntimeError("the database is on fire")

    @attrs.define(eq=False)
    class Curious:
        name: str = "curious"

        @hookimpl
        async def authenticate(self, handshake: Handshake) -> Principal | None:
            seen.extend((repr(handshake), str(handshake)))
            return None

    how: dict[str, Any] = {
        "query": {"query": "token=s3cret-token"},
        "header": {"headers": [("authorization", "Bearer s3cret-token")]},
        "subprotocol": {"subprotocols": ["jackfield.v1", "bearer.s3cret-token"]},
    }[where]
    caplog.set_level(0)
    async with testing.bench(Curious(), TokenAuth(verify=verify), Members()) as b:
        client = await b.open(**how)
        assert "s3cret" not in repr(await said(client))
    assert seen == ["<Handshake of w>"] * 2
    assert "s3cret" not in caplog.text
    assert not any("s3cret" in repr(record.args) + repr(record.exc_info) for record in caplog.records)


async def test_a_token_by_which_a_host_looks_somebody_up_in_vain_is_not_in_the_log_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a lookup raises is the key, and it comes with a traceback."""
    users: dict[str, Principal] = {}

    async def verify(token: str, workspace_id: str) -> Principal | None:
        try:
            return users[token]
        except KeyError as error:
            raise LookupError("no such user") from error

    caplog.set_level(0)
    async with testing.bench(TokenAuth(verify=verify), Members()) as b:
        assert await outcome(await b.open(token="s3cret-token")) == ("INTERNAL_ERROR", 1013)
    assert "s3cret" not in caplog.text
    assert "LookupError" in caplog.text


@pytest.mark.parametrize(
    "how",
    [
        {"workspace": "w\r\n\x1b[31mforged line"},
        {"query": "token=alice%0d%0a%1b[31mforged line"},
        {"query": "token=\r\n\x1b[31mforged line"},
        {"token": "alice", "headers": [("origin", "http://evil\r\n\x1b[31mforged line")]},
        {"token": "alice", "headers": [("x-forwarded-for", "1.2.3.4\r\n\x1b[31mforged line")]},
        {"subprotocols": ["jackfield.v1", "bearer.alice\r\n\x1b[31mforged line"]},
        {"token": "alice", "subprotocols": ["\r\n\x1b[31mforged line"]},
    ],
    ids=repr,
)
async def test_whoever_knocks_writes_no_line_of_his_own_into_a_log(
    how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    async with bench(settings=Settings(trusted_proxies=("192.0.2.1",))) as b:
        await b.open(**how, client=("192.0.2.1", 1))
    assert "forged" not in caplog.text


# --- Who is not let in


async def test_a_workspace_that_is_not_there_and_one_that_is_not_the_users_get_the_same_bytes() -> None:
    async with bench() as b:
        one, other = await b.open(token="alice@x"), await b.open(token="alice", workspace="nowhere")
        assert await outcome(one) == await outcome(other) == ("UNAUTHORIZED", 4502)
        assert await said(one) == await said(other)


@attrs.define(eq=False)
class Doorkeeper:
    """A host that answers from its own database, or fails to."""

    answer: Any
    name: str = "doorkeeper"

    @hookimpl
    async def channels_of(self, workspace: Workspace, user_id: str) -> Collection[str] | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        result: Collection[str] | None = self.answer
        return result


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Unauthorized(), ("UNAUTHORIZED", 4502)),
        (None, ("UNAUTHORIZED", 4502)),
        (RuntimeError("x"), ("INTERNAL_ERROR", 1013)),
        (EngineUnavailable("x"), ("INTERNAL_ERROR", 1013)),
        ("c1", ("INTERNAL_ERROR", 1013)),
    ],
    ids=repr,
)
async def test_the_host_says_who_may_enter(answer: object, expected: tuple[str, int]) -> None:
    async with testing.bench(Auth(), Doorkeeper(answer)) as b:
        assert await outcome(await b.open(token="alice")) == expected


async def test_standalone_every_workspace_of_a_token_is_there() -> None:
    """Nothing has been published in it, and nobody has been there before."""
    secret = "a secret of at least thirty-two bytes"
    claims = {"sub": "alice", "workspaces": ["acme", "a" * 128], "iat": NOW, "exp": NOW + 60}
    token = jwt.encode(claims, secret)
    async with testing.bench(partial(JWTAuth, secret), Members, Presence) as b:
        for workspace in claims["workspaces"]:
            await b.connect(token=token, workspace=workspace)
        assert await outcome(await b.open(token=token, workspace="other")) == ("UNAUTHORIZED", 4502)


async def test_one_connection_too_many_is_told_when_to_come_again() -> None:
    async with bench(settings=Settings(connections_per_user=1)) as b:
        await b.connect(token="alice")
        client = await b.open(token="alice")
        assert await outcome(client) == ("RATE_LIMITED", 4504)
        assert client.frames[0]["data"].keys() == {"message", "code", "retry_after_ms"}


@pytest.mark.parametrize("nodes", [1, 3])
async def test_more_connections_of_one_user_than_allowed_are_refused_over_all_nodes(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        first = await b.connect(token="alice")
        others = [await b.connect(token="alice", node=n % nodes) for n in range(19)]
        for node in range(nodes):
            assert await outcome(await b.open(token="alice", node=node)) == ("RATE_LIMITED", 4504)
        await b.connect(token="bob", node=nodes - 1)
        await b.connect(token="alice@other", workspace="other")
        first.close()
        await testing.settle()
        await b.connect(token="alice", node=nodes - 1)
        assert await outcome(await b.open(token="alice")) == ("RATE_LIMITED", 4504)
        assert await heard(*others) == [[] for _ in others]


async def test_of_many_who_come_at_once_as_many_get_in_as_are_allowed() -> None:
    async with bench(nodes=3, settings=Settings(connections_per_user=4)) as b:
        gates = []
        for node in b.nodes:
            node.link.gate = Gate({"commit"})
            gates.append(node.link.gate)
        clients = [await b.open(token="alice", node=n % 3) for n in range(12)]
        for gate in gates:
            gate.open()
        await testing.settle()
        assert sum(not client.transport.ended for client in clients) == 4


async def test_the_connections_of_a_dead_node_do_not_count() -> None:
    async with bench(nodes=3, settings=Settings(connections_per_user=2)) as b:
        for _ in range(2):
            await b.connect(token="alice", node=1)
        await b.nodes[1].crash()
        assert await outcome(await b.open(token="alice")) == ("RATE_LIMITED", 4504)
        await b.clock.advance(17)
        await b.connect(token="alice")
        await b.connect(token="alice", node=2)
        assert await outcome(await b.open(token="alice", node=2)) == ("RATE_LIMITED", 4504)


async def test_how_long_a_dead_node_is_waited_for_can_be_set() -> None:
    async with bench(nodes=2, settings=Settings(connections_per_user=1, node_lease=4.5)) as b:
        await b.connect(token="alice", node=1)
        await b.nodes[1].crash()
        await b.clock.advance(3)
        assert await outcome(await b.open(token="alice")) == ("RATE_LIMITED", 4504)
        await b.clock.advance(3)
        await b.connect(token="alice")


# --- Origin

ORIGIN = [
    ([], (), True),
    (["http://bench"], (), True),
    (["https://bench"], (), True),
    (["http://BENCH:80"], (), True),
    (["http://bench:8080"], (), False),
    (["http://bench.evil"], (), False),
    (["http://evil"], (), False),
    (["null"], (), False),
    ([""], (), False),
    (["bench"], (), False),
    (["file://"], (), False),
    (["http://bench@evil"], (), False),
    (["http://bench", "http://bench"], (), False),
    (["https://app.example"], ("https://app.example",), True),
    (["https://app.example"], ("https://other.example", "https://app.example:443"), True),
    (["http://app.example"], ("https://app.example",), False),
    (["https://app.example.evil"], ("https://app.example",), False),
    (["http://bench"], ("https://app.example",), False),
    ([], ("https://app.example",), True),
]


@pytest.mark.parametrize(("origins", "allowed", "welcome"), ORIGIN)
@pytest.mark.parametrize("profile", [UVICORN, DAPHNE], ids=["uvicorn", "daphne"])
async def test_origin(origins: Sequence[str], allowed: tuple[str, ...], welcome: bool, profile: Profile) -> None:
    async with bench(settings=Settings(allowed_origins=allowed)) as b:
        headers = [("origin", origin) for origin in origins]
        client = await b.open(token="alice", headers=headers, profile=profile)
        if welcome:
            assert (await said(client))[0]["type"] == "websocket.accept"
        else:
            assert await denied(client, 403) == {}


async def denied(client: Client, status: int) -> dict[str, str]:
    """Refused by HTTP, or by a close before the accept where the server cannot; gives the headers."""
    messages = await said(client)
    if not client.transport.profile.denial:
        assert messages == [{"type": "websocket.close", "code": 1008, "reason": ""}]
        return {}
    start, body = messages
    assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
    assert body == {"type": "websocket.http.response.body", "body": b""}
    return {name.decode(): value.decode() for name, value in start["headers"]}


# --- Paths


@pytest.mark.parametrize("workspace", ["w", "W.0_9:@-", "a" * 128])
async def test_ids_that_are_ids(workspace: str) -> None:
    async with bench() as b:
        await b.connect(token=f"alice@{workspace}", workspace=workspace)


@pytest.mark.parametrize("workspace", ["", "a b", "a/b", "ä", "a" * 129, "a+b", "~jackfield", "a\n", "%61", "../w"])
@pytest.mark.parametrize("profile", PROFILES, ids=["uvicorn", "hypercorn", "anycorn", "granian", "daphne"])
async def test_anything_else_in_the_path_is_404(workspace: str, profile: Profile) -> None:
    async with bench() as b:
        assert await denied(await b.open(token="alice", workspace=workspace, profile=profile), 404) == {}


# --- Peer addresses


async def test_too_many_upgrades_from_one_address_are_429_with_retry_after_each_node_for_itself() -> None:
    async with bench(nodes=3, settings=Settings(connections_per_user=1000)) as b:

        async def come(address: str, node: int = 0) -> Client:
            return await b.open(token="alice", client=(address, 4711), node=node)

        for _ in range(20):
            assert not (await come("192.0.2.1")).transport.ended
        headers = await denied(await come("192.0.2.1"), 429)
        assert int(headers["retry-after"]) >= 1
        assert not (await come("192.0.2.2")).transport.ended
        assert not (await come("2001:db8::1")).transport.ended
        assert not (await come("192.0.2.1", node=1)).transport.ended
        await b.clock.advance(0.06)
        assert not (await come("192.0.2.1")).transport.ended
        await denied(await come("192.0.2.1"), 429)
        await b.clock.advance(1)
        for _ in range(20):
            assert not (await come("192.0.2.1")).transport.ended
        await denied(await come("192.0.2.1"), 429)


async def test_without_an_address_nobody_is_counted() -> None:
    async with bench(settings=Settings(connections_per_user=1000)) as b:
        for _ in range(50):
            assert not (await b.open(token="alice", client=None)).transport.ended


async def test_a_second_that_one_must_wait_is_said_in_whole_seconds() -> None:
    async with bench(settings=Settings(connects_per_address=0.1)) as b:
        await b.connect(token="alice", client=("192.0.2.1", 1))
        await b.clock.advance(6.6)
        headers = await denied(await b.open(token="alice", client=("192.0.2.1", 1)), 429)
        assert headers == {"retry-after": "4"}
        await b.clock.advance(4)
        await b.connect(token="alice", client=("192.0.2.1", 1))


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),  # nobody whom we trust says so
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.7"], "198.51.100.7"),  # the first is the client's own word
        ("10.0.0.1", ["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7:50123"], "198.51.100.7"),  # the next connection has another port
        ("10.0.0.1", ["[2001:db8::7]:50123"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.7, 10.0.0.2:443"], "198.51.100.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["", " , "], "10.0.0.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["198.51.100.7, unknown"], "unknown"),  # the word of our own proxy, whatever it is
        ("unix:/run/chat.sock", ["198.51.100.7"], "unix:/run/chat.sock"),  # no address: nobody whom we trust
    ],
)
async def test_forwarding_headers_count_only_from_trusted_proxies(
    peer: str, forwarded: list[str], counted: str
) -> None:
    settings = Settings(connects_per_address=1, trusted_proxies=("10.0.0.0/8", "fd00::1"))
    async with bench(settings=settings) as b:
        await b.connect(token="alice", client=(counted, 1))  # takes what that address has
        headers = [("x-forwarded-for", value) for value in forwarded]
        if counted.startswith("10."):
            assert (await b.open(token="alice", client=(peer, 1), headers=headers)).transport.ended == (peer == counted)
        else:
            await denied(await b.open(token="alice", client=(peer, 1), headers=headers), 429)


@pytest.mark.parametrize("rate", [20, 7, 3, 1, 0.7, 0.3, 0.1, 1 / 49, 0.01])
@pytest.mark.parametrize("after", [0, 0.01, 0.333, 1.1])
async def test_who_waits_as_long_as_he_was_told_is_let_in(rate: float, after: float) -> None:
    """A header has whole seconds; they are rounded up, and never to nothing."""
    address = ("192.0.2.1", 1)
    async with bench(settings=Settings(connects_per_address=rate, connections_per_user=1000)) as b:
        while not (client := await b.open(token="alice", client=address)).transport.ended:
            pass
        await b.clock.advance(after / rate / 10)
        client = await b.open(token="alice", client=address)
        if client.transport.ended:
            wait = int((await denied(client, 429))["retry-after"])
            assert 1 <= wait <= 1 / rate + 1
            await b.clock.advance(wait)
            await b.connect(token="alice", client=address)


async def test_addresses_that_have_been_silent_are_forgotten_and_those_that_knock_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jackfield._asgi.ADDRESSES", 8)
    async with bench(settings=Settings(connects_per_address=1, connections_per_user=1000)) as b:
        edge = b.app._router.routes[0].app  # type: ignore[attr-defined]
        for n in range(50):
            await b.connect(token="alice", client=(f"192.0.2.{n}", 1))
            await b.clock.advance(0.2)
            await denied(await b.open(token="alice", client=(f"192.0.2.{n}", 1)), 429)
        assert len(edge._addresses._buckets) <= 8


async def test_a_proxy_that_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="trusted_proxies"):
        Settings(trusted_proxies=("10.0.0.0/8", "proxy.local"))


# --- Ending


@attrs.define(eq=False)
class Slow:
    """Somebody who takes his time when the application ends."""

    name: str = "slow"
    ending: anyio.Event = attrs.field(factory=anyio.Event)
    may_end: anyio.Event = attrs.field(factory=anyio.Event)

    @hookimpl
    async def session_closed(self) -> None:
        self.ending.set()
        await self.may_end.wait()


@pytest.mark.parametrize("profile", [UVICORN, DAPHNE], ids=["uvicorn", "daphne"])
async def test_a_server_that_ends_is_503_with_retry_after(profile: Profile) -> None:
    slow = Slow()
    async with testing.bench(Auth(), Members(), slow) as b:
        await b.connect(token="alice")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.nodes[0].stop)
            await slow.ending.wait()
            client = await b.open(token="bob", profile=profile)
            slow.may_end.set()
        headers = await denied(client, 503)
        assert headers in ([{"retry-after": "1"}, {"retry-after": "2"}] if profile.denial else [{}])  # it is spread


# --- Who has gone before he is answered


@attrs.define(eq=False)
class Porter:
    """Takes his time at the door, then says what the token says."""

    may_go_on: anyio.Event = attrs.field(factory=anyio.Event)
    closed: int = 0
    name: str = "porter"

    @hookimpl
    async def authenticate(self, handshake: Handshake) -> Principal | None:
        await self.may_go_on.wait()
        return await who(handshake.token or "", handshake.workspace_id)

    @hookimpl
    async def session_closed(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("profile", PROFILES, ids=["uvicorn", "hypercorn", "anycorn", "granian", "daphne"])
@pytest.mark.parametrize("reject", ["close", "http"])
@pytest.mark.parametrize("token", ["alice", "not-known", "alice@other"])
async def test_who_has_gone_before_he_is_answered_leaves_nothing_behind(
    token: str, reject: Literal["close", "http"], profile: Profile
) -> None:
    porter = Porter()
    async with testing.bench(porter, Members(), Presence(grace=0), settings=Settings(reject=reject)) as b:
        client = await b.open(token=token, profile=profile)
        client.drop()
        porter.may_go_on.set()
        assert await said(client) == []
        assert not b.app.node.sessions
        assert await b.workspace().revoke("alice") == 0
        assert await tables(b, "presence") == {}
        if profile is UVICORN:  # it raised, and so nobody was there; where sends are silent, he was, and left
            assert porter.closed == 0


@pytest.mark.parametrize("profile", [UVICORN, DAPHNE], ids=["uvicorn", "daphne"])
async def test_who_has_gone_before_he_is_denied_troubles_nobody(profile: Profile) -> None:
    async with bench() as b:
        transport = Transport(profile)
        transport.ended = True
        extensions: dict[str, Any] = {"websocket.http.response": {}} if profile.denial else {}
        await b.app(scope("no id", extensions), transport.receive, transport.send)
        assert transport.sent == []


async def test_who_never_connects_is_not_answered() -> None:
    async with bench() as b:
        transport = Transport(UVICORN)
        transport.disconnect()
        transport._incoming.popleft()  # the connect
        await b.app(scope("w", {}), transport.receive, transport.send)
        assert (transport.sent, transport.faults) == ([], [])


def scope(workspace: str, extensions: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": f"/ws/{workspace}",
        "root_path": "",
        "query_string": b"token=alice",
        "headers": [],
        "extensions": extensions,
    }


# --- When something of ours fails


@pytest.mark.parametrize("nodes", [1, 3])
async def test_without_the_engine_a_handshake_is_1013_and_open_connections_stay(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect(token="alice", node=nodes - 1)
        b.nodes[nodes - 1].partition()
        client = await b.open(token="bob", node=nodes - 1)
        assert await outcome(client) == ("INTERNAL_ERROR", 1013)
        reason = (await client.closed()).reason
        assert reason.startswith("retry_after_ms=")
        assert 1000 <= int(reason.removeprefix("retry_after_ms=")) <= 5000
        assert await heard(alice) == [[]]
        b.nodes[nodes - 1].heal()
        await b.connect(token="bob", node=nodes - 1)


async def test_an_engine_that_hangs_is_1013_in_time() -> None:
    async with bench() as b:
        gate = b.nodes[0].link.gate = Gate({"read", "commit"})
        client = await b.open(token="bob")
        await b.clock.advance(10.1)
        assert await outcome(client) == ("INTERNAL_ERROR", 1013)
        gate.open()


@pytest.mark.parametrize(
    "raised", [RuntimeError("x"), EngineUnavailable("x"), OSError(), KeyError("token"), "hangs", 7]
)
async def test_a_hook_of_the_authentication_that_fails_or_hangs_is_1013(raised: Any) -> None:
    async def verify(token: str, workspace_id: str) -> Principal | None:
        if raised == "hangs":
            await anyio.sleep_forever()
        if raised == 7:
            return 7  # type: ignore[return-value]
        raise raised

    async with testing.bench(TokenAuth(verify=verify), Members()) as b:
        client = await b.open(token="alice")
        if raised == "hangs":
            assert await said(client) == []
            await b.clock.advance(5.1)
        assert await outcome(client) == ("INTERNAL_ERROR", 1013)


async def test_how_long_a_hook_may_take_can_be_set() -> None:
    async def verify(token: str, workspace_id: str) -> Principal | None:
        await anyio.sleep_forever()

    async with testing.bench(TokenAuth(verify=verify), Members(), settings=Settings(hook_timeout=0.5)) as b:
        client = await b.open(token="alice")
        await b.clock.advance(0.4)
        assert await said(client) == []
        await b.clock.advance(0.2)
        assert await outcome(client) == ("INTERNAL_ERROR", 1013)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (InvalidToken(), ("INVALID_TOKEN", 4501)),
        (InvalidToken(expired=True), ("INVALID_TOKEN", 4004)),
        (Unauthorized("not on sundays"), ("UNAUTHORIZED", 4502)),
        (RateLimited(3), ("RATE_LIMITED", 4504)),
    ],
    ids=repr,
)
async def test_a_hook_of_the_authentication_may_refuse(raised: Exception, expected: tuple[str, int]) -> None:
    async def verify(token: str, workspace_id: str) -> Principal | None:
        raise raised

    async with testing.bench(TokenAuth(verify=verify), Members()) as b:
        client = await b.open(token="alice")
        assert await outcome(client) == expected
        assert "sundays" not in repr(await said(client))


@attrs.define(eq=False)
class Broken:
    """A plugin whose initial state cannot be made."""

    hangs: bool = False
    closed: list[int] = attrs.field(factory=list[int])
    name: str = "broken"

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        if self.hangs:
            await anyio.sleep_forever()
        raise RuntimeError("the database is on fire")

    @hookimpl
    async def session_closed(self, code: int) -> None:
        self.closed.append(code)


@pytest.mark.parametrize("hangs", [False, True])
async def test_an_initial_state_that_cannot_be_made_is_internal_error_and_1011(hangs: bool) -> None:
    broken = Broken(hangs)
    async with testing.bench(Auth(), Members(), broken, Presence(grace=0)) as b:
        client = await b.open(token="alice")
        if hangs:
            await b.clock.advance(5.1)
        assert await outcome(client) == ("INTERNAL_ERROR", 1011)
        assert "fire" not in repr(await said(client))
        assert broken.closed == [1011]
        assert not b.app.node.sessions
        assert await b.workspace().revoke("alice") == 0  # nothing of it is in the roster


# --- By HTTP

BY_HTTP = [
    ({"token": "not-known"}, 401),
    ({}, 401),
    ({"token": "alice", "workspace": "other"}, 403),
    ({"token": "alice"}, 429),
]


@pytest.mark.parametrize("profile", PROFILES, ids=["uvicorn", "hypercorn", "anycorn", "granian", "daphne"])
async def test_reject_http_answers_by_http(profile: Profile) -> None:
    async with bench(settings=Settings(reject="http", connections_per_user=1)) as b:
        await b.connect(token="alice", profile=profile)
        for how, status in BY_HTTP:
            await denied(await b.open(profile=profile, **how), status)
        b.nodes[0].partition()
        await denied(await b.open(profile=profile, token="bob"), 503)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Principal("alice", expires_at=NOW - 6), 401),
        (Principal("alice", issued_at=NOW - 1), 403),
        (Principal("not an id"), 401),
        (Unauthorized(), 403),
        (InvalidToken(expired=True), 401),
        (RateLimited(), 429),
        (RuntimeError(), 503),
    ],
    ids=repr,
)
async def test_reject_http_says_401_of_every_bad_token_and_403_of_every_closed_door(
    answer: Principal | Exception, status: int
) -> None:
    async def verify(token: str, workspace_id: str) -> Principal | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with testing.bench(TokenAuth(verify=verify), Members(), settings=Settings(reject="http")) as b:
        await b.workspace().revoke("alice")
        for profile in (UVICORN, DAPHNE):
            await denied(await b.open(token="x", profile=profile), status)


@pytest.mark.parametrize(("answer", "least", "most"), [(RateLimited(2.1), 3, 3), (RuntimeError(), 1, 5)], ids=repr)
async def test_reject_http_says_when_to_come_back(answer: Exception, least: int, most: int) -> None:
    async def verify(token: str, workspace_id: str) -> Principal | None:
        raise answer

    async with testing.bench(TokenAuth(verify=verify), Members(), settings=Settings(reject="http")) as b:
        headers = await denied(await b.open(token="x"), 429 if isinstance(answer, RateLimited) else 503)
        assert least <= int(headers["retry-after"]) <= most


async def test_connect_raises_what_a_client_would_be_told() -> None:
    async with bench(settings=Settings(reject="http")) as b:
        with pytest.raises(Closed, match="HTTP 401"):
            await b.connect(token="not-known")


# --- The initial state


async def test_hello_says_who_where_and_what_the_limits_are() -> None:
    settings = Settings(heartbeat_interval=12.5, max_event_bytes=4096)
    async with bench(settings=settings) as b:
        one, two = await b.connect(token="alice"), await b.connect(token="alice")
        for client in (one, two):
            (hello,) = client.frames
            assert list(hello) == ["type", "data", "workspace_id", "timestamp"]
            assert (hello["type"], hello["workspace_id"]) == ("hello", "w")
            assert hello["timestamp"] == "2024-01-01T12:00:00.000Z"
            assert {**hello["data"], "connection_id": ""} == {
                "connection_id": "",
                "user_id": "alice",
                "heartbeat_interval_ms": 12_500,
                "limits": {"max_event_bytes": 4096},
                "state": {},
            }
        assert one.hello.connection_id != two.hello.connection_id


async def test_heartbeats_are_every_thirty_seconds_unless_said_otherwise() -> None:
    async with bench() as b:
        assert (await b.connect(token="alice")).hello.heartbeat_interval_ms == 30_000


@attrs.define(eq=False)
class Contributor:
    name: str
    says: Any

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        return self.says


async def test_every_plugin_that_has_something_to_say_has_a_key_of_its_own() -> None:
    plugins = [
        Contributor("one", {"a": [1]}),
        Contributor("two", None),
        Contributor("three", []),
        Contributor("four", 0),
    ]
    async with testing.bench(Auth(), Members(), *plugins, Presence()) as b:
        alice = await b.connect(token="alice")
        assert alice.frames[0]["data"]["state"] == {
            "one": {"a": [1]},
            "three": [],
            "four": 0,
            "presence": [{"user_id": "alice", "status": "online"}],
        }


@pytest.mark.parametrize("nodes", [1, 3])
async def test_what_was_acknowledged_before_stands_in_hello_on_any_node(nodes: int) -> None:
    """Its records have not come by there yet."""
    async with testing.bench(Auth, Members, Typing, Presence, nodes=nodes) as b:
        alice = await b.connect(token="alice")
        await b.connect(token="carol", node=nodes - 1)  # its room is open there, and stands behind
        gate = b.nodes[nodes - 1].link.gate = Gate({"feed"})
        await b.workspace().publish_all([private(by="alice"), MemberJoined("c1", "bob")])
        await alice.request(TypingIndicator("c1", True))
        late = await b.connect(token="dave")
        late.close()
        bob = await b.connect(token="bob", node=nodes - 1)
        assert bob.hello.state["typing"] == [{"channel_id": "c1", "user_id": "alice"}]
        here = {user["user_id"] for user in bob.hello.state["presence"]}
        assert here == {"alice", "bob", "carol", "dave"}
        gate.open()


# --- What is in effect


@pytest.mark.parametrize("nodes", [1, 3])
async def test_what_was_acknowledged_before_a_handshake_began_is_in_effect_for_it_on_any_node(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.connect(token="alice", node=nodes - 1)  # its room is open there, and stands behind
        gate = b.nodes[nodes - 1].link.gate = Gate({"feed"})
        await b.workspace().publish_all([private(by="bob"), public("c2"), message(channel="c2")])
        bob, carol = await b.connect(token="bob", node=nodes - 1), await b.connect(token="carol", node=nodes - 1)
        await b.workspace().publish(message("m2"))
        gate.open()
        assert await heard(bob, carol) == [[message("m2")], []]


async def held(b: Bench, node: int, steps: int) -> tuple[Client, Gate]:
    """Somebody whose handshake stands still after so many of its steps."""
    gate = b.nodes[node].link.gate = Gate({"read", "commit", "records"})
    client = await b.open(token="bob", node=node)
    for _ in range(steps):
        gate.step()
        await testing.settle()
    return client, gate


@pytest.mark.parametrize("steps", range(10))
@pytest.mark.parametrize("nodes", [1, 3])
async def test_nothing_comes_before_hello_and_nothing_behind_it_is_missing(nodes: int, steps: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish(public())
        await b.connect(token="carol", node=nodes - 1)
        bob, gate = await held(b, nodes - 1, steps)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.workspace().publish, message("m1"))
            await testing.settle()
            gate.open()
        await testing.settle()
        await b.workspace().publish(message("m2"))
        await bob.pending()
        first, *rest = [frame["data"].get("id", "hello") for frame in bob.frames]
        assert first == "hello"
        assert rest in (["m1", "m2"], ["m2"])  # what was there when his state was taken need not come again


@pytest.mark.parametrize("steps", range(10))
@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_channel_that_is_made_or_lost_in_the_midst_of_a_handshake_is_seen_or_not(
    nodes: int, steps: int
) -> None:
    async with bench(nodes=nodes) as b:
        await b.workspace().publish_all([private("lost", by="bob"), private("lost2", by="bob")])
        await b.connect(token="carol", node=nodes - 1)
        bob, gate = await held(b, nodes - 1, steps)
        moves = [
            private("made", by="bob"),
            MemberLeft("lost", "bob"),
            ChannelDeleted("lost2"),
            private("lost2", by="eve"),
        ]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.workspace().publish_all, moves)
            await testing.settle()
            gate.open()
        await testing.settle()
        await b.workspace().publish_all([message(channel, channel) for channel in ("made", "lost", "lost2")])
        await bob.pending()
        said = [frame["data"]["id"] for frame in bob.frames if frame["type"] == "message.new"]
        assert said == ["made"]
