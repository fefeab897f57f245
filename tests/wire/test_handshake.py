"""Section 1 of the wire, by bench: who is let in, and what everybody else is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import anyio
import attrs
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
from jackfield.events import ChannelDeleted, MemberLeft
from jackfield.testing import ANYCORN, DAPHNE, GRANIAN, HYPERCORN, UVICORN, Bench, Client, Closed, Profile
from jackfield.testing._link import Gate
from jackfield_auth import TokenAuth
from jackfield_members import Members
from jackfield_presence import Presence
from tests.plugins.chat import heard, message, private, public

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
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["", " , "], "10.0.0.1"),
        ("fd00::1", ["2001:db8::7"], "2001:db8::7"),
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
            headers = await denied(await b.open(token="bob", profile=profile), 503)
            assert headers == ({"retry-after": "1"} if profile.denial else {})
            slow.may_end.set()


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


async def test_connect_raises_what_a_client_would_be_told() -> None:
    async with bench(settings=Settings(reject="http")) as b:
        with pytest.raises(Closed, match="HTTP 401"):
            await b.connect(token="not-known")


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
