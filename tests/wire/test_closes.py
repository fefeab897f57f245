"""Section 5 of the wire, by bench: every close code that the server says, and that it always says one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import pytest

from jackfield import (
    ClientEvent,
    CloseCode,
    Everyone,
    Principal,
    Settings,
    Unauthorized,
    hookimpl,
    on,
    testing,
)
from jackfield._session import Session
from jackfield.engine import Commit, Rewound
from jackfield.events import ChannelDeleted, Ping, ServerEvent
from jackfield.testing import ANYCORN, DAPHNE, GRANIAN, HYPERCORN, UVICORN, Bench, Client, FakeClock, Profile
from jackfield.testing._link import Gate
from jackfield_auth import TokenAuth
from jackfield_members import Members, OpenWorkspace
from jackfield_presence import Presence
from jackfield_rate_limit import RateLimit
from tests.plugins.chat import heard, message, public

NOW = FakeClock().time()
PROFILES = [
    pytest.param(profile, id=name)
    for name, profile in {
        "uvicorn": UVICORN,
        "hypercorn": HYPERCORN,
        "anycorn": ANYCORN,
        "granian": GRANIAN,
        "daphne": DAPHNE,
    }.items()
]
bench = partial(testing.bench, OpenWorkspace)


class Say(ClientEvent, type="say"):
    """Something."""


class Leave(ClientEvent, type="leave"):
    """Ask the server to hang up."""

    code: int
    reason: str | None = None


@attrs.define(eq=False)
class Parlour:
    """Hears how connections end."""

    name: str = "parlour"
    ended: list[tuple[str, int]] = attrs.field(factory=list[tuple[str, int]])

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent | ServerEvent]]:
        return Say, Leave

    @on(Say)
    async def hear(self, session: Session, event: Say) -> None: ...

    @on(Leave)
    async def hang_up(self, session: Session, event: Leave) -> None:
        session.close(event.code, event.reason)

    @hookimpl
    async def session_closed(self, session: Session, code: int) -> None:
        self.ended.append((session.user_id, code))


async def close_of(client: Client) -> tuple[int | None, str]:
    closed = await client.closed()
    return closed.code, closed.reason


async def codes(client: Client) -> list[str]:
    """The codes of the errors that it was sent."""
    await client.pending()
    return [frame["data"]["code"] for frame in client.frames if frame["type"] == "error"]


# --- All of them


@pytest.mark.parametrize("code", list(CloseCode), ids=lambda code: str(int(code)))
def test_a_reason_is_constant_and_short_and_the_code_says_whether_to_come_back(code: CloseCode) -> None:
    assert len(code.reason.encode()) <= 123
    assert code.reconnect == (code not in (1000, 1003, 1009) and not 4500 <= code <= 4999)


# --- By what the client does


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_client_that_says_goodbye_is_heard(profile: Profile) -> None:
    parlour = Parlour()
    async with testing.bench(OpenWorkspace(), parlour) as b:
        client = await b.connect("alice", profile=profile)
        client.close(1000)
        await testing.settle()
        assert parlour.ended == [("alice", 1000 if profile.hears_code else profile.disconnect_code or 1005)]
        assert not b.app.node.sessions


@pytest.mark.parametrize("profile", PROFILES)
async def test_a_binary_frame_is_1003(profile: Profile) -> None:
    parlour = Parlour()
    async with testing.bench(OpenWorkspace(), parlour) as b:
        client = await b.connect("alice", profile=profile)
        await client.send(b'{"type":"ping"}')
        assert await codes(client) == []
        if profile.every_code:
            assert await close_of(client) == (1003, "binary frame" if profile.reasons else "")
        assert parlour.ended == [("alice", 1003)]


@pytest.mark.parametrize("message", [{"bytes": b"", "text": None}, {"bytes": b"{}"}, {"text": None}, {}], ids=repr)
async def test_whatever_is_no_text_is_1003_and_never_read(message: dict[str, Any]) -> None:
    async with bench() as b:
        client = await b.connect("alice")
        client.transport.put({"type": "websocket.receive", **message})
        assert await close_of(client) == (1003, "binary frame")
        assert len(client.frames) == 1


async def test_a_text_frame_may_say_that_it_has_no_bytes() -> None:
    async with bench() as b:
        client = await b.connect("alice")
        client.transport.put({"type": "websocket.receive", "text": '{"type":"ping"}', "bytes": None})
        assert await client.receive_frame() == {"type": "pong"}


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ping","x":"%s"}' % ("x" * 16_384),
        "x" * 16_385,
        "ä" * 8_193,
        " " * 16_385,
    ],
    ids=["json", "no json", "two bytes each", "blanks"],
)
async def test_more_than_sixteen_kibibytes_are_an_invalid_event_and_1009(text: str) -> None:
    async with bench() as b:
        client = await b.connect("alice")
        await client.send(text)
        assert await codes(client) == ["INVALID_EVENT"]
        assert await close_of(client) == (1009, "message too big")


async def test_ten_invalid_events_within_a_minute_are_4500() -> None:
    async with bench() as b:
        client = await b.connect("alice")
        for _ in range(9):
            await client.send("no json")
        assert not client.transport.ended
        await client.send("no json")
        assert await codes(client) == ["INVALID_EVENT"] * 10
        assert await close_of(client) == (4500, "too many invalid events")


async def test_strict_error_codes_send_ours_as_one_of_the_specifications_and_count_the_same() -> None:
    async with bench(settings=Settings(strict_error_codes=True)) as b:
        client = await b.connect("alice")
        await client.send({"type": "nobody's"}, ref=1)
        await client.send({"type": 7})
        await client.pending()
        assert [frame["data"] for frame in client.frames[1:]] == [
            {"message": "Server error.", "code": "INTERNAL_ERROR", "detail": "UNKNOWN_EVENT", "ref": 1},
            {"message": "Server error.", "code": "INTERNAL_ERROR", "detail": "INVALID_EVENT"},
        ]
        for _ in range(9):
            await client.send({"type": 7})
        assert set(await codes(client)) == {"INTERNAL_ERROR"}
        assert (await close_of(client))[0] == 4500


async def test_a_minute_of_excess_is_4006_and_says_when_to_come_back() -> None:
    async with testing.bench(OpenWorkspace, Parlour, RateLimit, settings=Settings(heartbeat_timeout=10_000)) as b:
        client = await b.connect("alice")
        patient = await b.connect("bob")
        for second in range(62):
            for _ in range(25 if second == 0 else 3):
                await client.send(Say())
            await patient.send(Say())
            assert client.transport.ended == (second >= 60)
            if client.transport.ended:
                break
            await b.clock.advance(1)
        code, reason = await close_of(client)
        assert code == 4006
        assert re.fullmatch(r"retry_after_ms=[1-9]\d*", reason)
        assert set(await codes(client)) == {"RATE_LIMITED"}
        assert await codes(patient) == []


async def test_excess_now_and_then_is_no_minute_of_it() -> None:
    async with testing.bench(OpenWorkspace, Parlour, RateLimit, settings=Settings(heartbeat_timeout=10_000)) as b:
        client = await b.connect("alice")
        for _ in range(10):
            for _ in range(21):
                await client.send(Say())
            await b.clock.advance(11)
        assert set(await codes(client)) == {"RATE_LIMITED"}
        assert not client.transport.ended


# --- By what it does not do


@pytest.mark.parametrize("says", ['{"type":"ping"}', '{"type":"typing"}', "no json", ""])
async def test_any_text_frame_is_a_heartbeat_and_seventy_five_seconds_of_silence_are_4003(says: str) -> None:
    async with bench() as b:
        client = await b.connect("alice")
        for _ in range(5):
            await b.clock.advance(74)
            await client.send(says)
        await b.clock.advance(74.9)
        assert not client.transport.ended
        await b.clock.advance(0.2)
        assert await close_of(client) == (4003, "no heartbeat")


async def test_how_long_it_may_be_silent_can_be_set() -> None:
    async with bench(settings=Settings(heartbeat_timeout=1.5)) as b:
        client = await b.connect("alice")
        await b.clock.advance(1.4)
        await client.send(Ping())
        await b.clock.advance(1.4)
        assert not client.transport.ended
        await b.clock.advance(0.2)
        assert (await close_of(client))[0] == 4003


async def test_what_it_is_sent_is_no_heartbeat_of_its_own() -> None:
    async with bench() as b:
        client = await b.connect("alice")
        for _ in range(7):
            await b.clock.advance(10)
            await b.workspace().publish(message())
        await b.clock.advance(5.1)
        assert await close_of(client) == (4003, "no heartbeat")


async def test_one_that_does_not_read_is_4002() -> None:
    async with bench() as b:
        client = await b.connect("alice", profile=ANYCORN)
        client.transport.stall()
        for n in range(300):
            await b.workspace().publish(message(f"m{n}"))
        await b.clock.advance(3)
        assert await close_of(client) == (4002, "slow consumer" if ANYCORN.reasons else "")


async def test_a_token_that_ran_out_is_4004_after_its_grace() -> None:
    async with bench() as b:
        client = await b.connect("alice", principal=Principal("alice", expires_at=NOW + 10, grace=7))
        await b.clock.advance(16.9)
        assert not client.transport.ended
        await b.clock.advance(0.2)
        assert await codes(client) == ["INVALID_TOKEN"]
        assert await close_of(client) == (4004, "token expired")


# --- By what happens here


async def test_the_end_of_the_server_is_4001_for_all_and_every_plugin_hears_of_it() -> None:
    parlour = Parlour()
    async with testing.bench(OpenWorkspace(), parlour) as b:
        clients = [await b.connect(f"user{n}", profile=profile.values[0]) for n, profile in enumerate(PROFILES)]
        await b.nodes[0].stop()
        assert sorted(parlour.ended) == [(f"user{n}", 4001) for n in range(5)]
        for client in clients:
            assert client.transport.ended
        code, reason = await close_of(clients[0])
        assert code == 4001
        assert re.fullmatch(r"retry_after_ms=\d+", reason)


async def test_a_log_that_went_back_is_1012() -> None:
    async with bench() as b:
        client, other = await b.connect("alice"), await b.connect("alice", workspace="other")
        with pytest.raises(Rewound):
            await b.engine.commit("w", Commit(seen=7, seen_id="never"))
        assert await close_of(client) == (1012, "restart")
        assert await heard(other) == [[]]


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        (1000, None, (1000, "")),
        (4321, None, (4321, "")),
        (4321, "because", (4321, "because")),
        (4502, None, (4502, "no access to this workspace")),
    ],
)
async def test_a_plugin_may_hang_up(code: int, reason: str | None, told: tuple[int, str]) -> None:
    parlour = Parlour()
    async with testing.bench(OpenWorkspace(), parlour) as b:
        client = await b.connect("alice")
        await client.send(Leave(code, reason) if reason else {"type": "leave", "code": code})
        assert await close_of(client) == told
        assert parlour.ended == [("alice", code)]
        await b.workspace().publish(message())
        assert [frame["type"] for frame in client.frames] == ["hello"]


# --- Refused at the handshake: the table of section 1 says when


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("nobody's", ("INVALID_TOKEN", 4501, "invalid token")),
        ("barred", ("UNAUTHORIZED", 4502, "no access to this workspace")),
        ("old", ("INVALID_TOKEN", 4004, "token expired")),
        ("revoked", ("UNAUTHORIZED", 4503, "access revoked")),
        ("broken", ("INTERNAL_ERROR", 1013, r"retry_after_ms=\d+")),
    ],
)
async def test_refused_at_the_handshake_the_error_comes_first(token: str, expected: tuple[str, int, str]) -> None:
    async def verify(token: str, workspace_id: str) -> Principal | None:
        match token:
            case "barred":
                raise Unauthorized
            case "old":
                return Principal("alice", expires_at=NOW - 6)
            case "revoked":
                return Principal("revoked", issued_at=NOW)
            case "broken":
                raise RuntimeError
            case _:
                return None

    async with testing.bench(TokenAuth(verify=verify), OpenWorkspace()) as b:
        await b.workspace().revoke("revoked")
        client = await b.open(token=token)
        assert [sent["type"].removeprefix("websocket.") for sent in client.transport.sent] == [
            "accept",
            "send",
            "close",
        ]
        code, reason = await close_of(client)
        assert ((await codes(client))[0], code) == expected[:2]
        assert re.fullmatch(expected[2], reason)


# --- Revoked


def principal(issued_at: float | None, user: str = "bob") -> Principal:
    return Principal(user, issued_at=issued_at)


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("issued_at", [NOW - 3600, NOW, NOW + 4, None], ids=["old", "now", "ahead", "cookie"])
async def test_revocation_ends_every_living_connection_whatever_clock_issued_its_token(
    nodes: int, issued_at: float | None
) -> None:
    parlours = [Parlour() for _ in range(nodes)]
    take = iter(parlours)
    async with testing.bench(OpenWorkspace, lambda: next(take), nodes=nodes) as b:
        bobs = [await b.connect("bob", node=n % nodes, principal=principal(issued_at)) for n in range(4)]
        alice = await b.connect("alice", node=nodes - 1)
        assert await b.workspace(node=nodes - 1).revoke("bob") == 4
        for bob in bobs:
            assert await close_of(bob) == (4503, "access revoked")
            assert [frame["type"] for frame in bob.frames] == ["hello"]
        assert sorted(end for parlour in parlours for end in parlour.ended) == [("bob", 4503)] * 4
        await b.workspace().publish(message())
        assert await heard(alice) == [[message()]]
        assert await b.workspace().revoke("bob") == 0


async def test_nothing_is_delivered_behind_a_revocation_of_what_was_published_after_it() -> None:
    async with bench(nodes=3) as b:
        bob = await b.connect("bob", node=2)
        gate = b.nodes[2].link.gate = Gate({"feed"})
        await b.workspace().publish(message("before"))
        await b.workspace().revoke("bob")
        await b.workspace().publish(message("after"))
        gate.open()
        await bob.pending()
        assert [frame["data"].get("id", "hello") for frame in bob.frames] in (["hello", "before"], ["hello"])
        assert await close_of(bob) == (4503, "access revoked")


@pytest.mark.parametrize("nodes", [1, 3])
async def test_older_tokens_are_4503_from_then_on_and_later_ones_are_taken(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        await b.clock.advance(0.0105)
        await b.workspace().revoke("bob")  # at .010 and a half: whole milliseconds, as tokens have them
        for issued_at, welcome in [
            (NOW - 3600, False),
            (NOW, False),  # a whole second is its beginning
            (NOW + 0.009, False),
            (NOW + 0.010, False),  # the same millisecond
            (NOW + 0.0104, False),  # not all who issue tokens round
            (NOW + 0.0106, True),
            (NOW + 0.011, True),
            (NOW + 1, True),
            (None, True),  # whether a cookie may come back is for `authenticate` to say
        ]:
            await b.clock.advance(0.01)
            client = await b.open("bob", node=nodes - 1, principal=principal(issued_at))
            assert client.transport.ended != welcome, issued_at
            if not welcome:
                assert (await codes(client), await close_of(client)) == (["UNAUTHORIZED"], (4503, "access revoked"))
        assert not (await b.open("carol", principal=principal(NOW - 3600, "carol"))).transport.ended
        assert not (await b.open("bob", workspace="other", principal=principal(NOW - 3600))).transport.ended


async def test_a_revocation_is_remembered_as_long_as_the_longest_token_lives() -> None:
    async with bench(settings=Settings(revoked_for=60)) as b:
        await b.workspace().revoke("bob")
        await b.clock.advance(59)
        assert (await close_of(await b.open("bob", principal=principal(NOW))))[0] == 4503
        await b.clock.advance(2)
        await b.connect("bob", principal=principal(NOW))


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("issued_at", [NOW, None], ids=["token", "cookie"])
async def test_a_handshake_that_is_overtaken_by_a_revocation_is_refused_or_ended(
    steps: int, issued_at: float | None
) -> None:
    async with bench(nodes=2) as b:
        gate = b.nodes[1].link.gate = Gate({"read", "commit", "records"})
        bob = await b.open("bob", node=1, principal=principal(issued_at))
        for _ in range(steps):
            gate.step()
            await testing.settle()
        await b.workspace().revoke("bob")
        gate.open()
        await testing.settle()
        assert (await close_of(bob))[0] == 4503
        assert await b.workspace().revoke("bob") == 0


async def test_a_revoked_users_presence_ends_with_it_and_his_channels_stay() -> None:
    async with testing.bench(Members, Presence) as b:
        alice = await b.connect("alice")
        await b.workspace().publish(public())
        await b.connect("bob", principal=principal(NOW))
        await alice.pending()
        await b.workspace().revoke("bob")
        assert [event.status for (said,) in [await heard(alice)] for event in said] == ["offline"]  # type: ignore[attr-defined]
        await b.clock.advance(1)
        again = await b.connect("bob", principal=principal(NOW + 1))
        await b.workspace().publish(ChannelDeleted("c1"))
        assert await heard(again) == [[ChannelDeleted("c1")]]


async def test_a_node_that_was_cut_off_ends_them_when_it_hears_of_it() -> None:
    async with bench(nodes=3) as b:
        bob = await b.connect("bob", node=2, principal=principal(NOW))
        b.nodes[2].partition()
        assert await b.workspace().revoke("bob") == 1
        assert await heard(bob) == [[]]
        b.nodes[2].heal()
        assert (await close_of(bob))[0] == 4503


# --- Always


@pytest.mark.parametrize("profile", PROFILES)
async def test_whatever_ends_it_the_application_closes_once_and_says_nothing_more(profile: Profile) -> None:
    async def by(how: str, b: Bench, client: Client) -> Any:
        match how:
            case "binary":
                await client.send(b"x")
            case "big":
                await client.send("x" * 20_000)
            case "revoked":
                await b.workspace().revoke(how)
            case "silence":
                await b.clock.advance(80)
            case "client":
                client.close(1001)
            case "cut":
                client.drop()

    async with testing.bench(OpenWorkspace, Presence) as b:
        for how in ("binary", "big", "revoked", "client", "cut", "silence"):
            client = await b.connect(how, profile=profile)
            await by(how, b, client)
            await client.send(Ping())
            await b.workspace().publish(message(), to=Everyone())
            await b.clock.advance(3)
            assert client.transport.ended
            closes = [sent for sent in client.transport.sent if sent["type"] == "websocket.close"]
            assert len(closes) == (how not in ("client", "cut"))
            assert not closes or client.transport.sent[-1] is closes[0]
            assert client.transport.faults == []
        assert not b.app.node.sessions
