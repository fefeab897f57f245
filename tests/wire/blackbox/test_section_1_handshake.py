"""Section 1: who comes in, and what the others are told."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from outsider import API_KEY, PATIENCE, SECRET, Room, serving, timeless, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from outsider import Peer

pytestmark = pytest.mark.servers

DAY = 24 * 3600
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@-"


def refusal(peer: Peer) -> tuple[str, int, str]:
    """The one frame without its time, the close code and the reason."""
    frames, code, reason = peer.end()
    assert len(frames) == 1
    assert list(frames[0]) == ["type", "data", "timestamp"]
    assert frames[0]["type"] == "error"
    # whether a connection too many is an empty bucket, the page leaves open
    late = ["retry_after_ms"] if frames[0]["data"]["code"] == "RATE_LIMITED" else []
    assert list(frames[0]["data"]) in (["message", "code"], ["message", "code", *late])
    return timeless(peer.raws[0]), code, reason


def code_of(peer: Peer) -> tuple[str, int]:
    raw, code, _ = refusal(peer)
    return json.loads(raw)["data"]["code"], code


# Ids


@pytest.mark.parametrize("id", ["a", ALPHABET, "x" * 128, ".", "-", "@", ":"], ids=lambda id: id[:4])
def test_every_id_of_the_alphabet_is_a_workspace(room: Room, id: str) -> None:
    token = room.token(workspaces=[id])
    hello = room.raw(f"?token={token}", f"/ws/{id}").receive()
    assert isinstance(hello, dict)
    assert (hello["type"], hello["workspace_id"]) == ("hello", id)


def test_an_id_may_be_percent_encoded(room: Room) -> None:
    peer = room.connect(f"?token={room.token(workspaces=['a@b:c'])}", "/ws/a%40b%3Ac")
    assert peer.next()["workspace_id"] == "a@b:c"


@pytest.mark.parametrize(
    "path",
    [
        "/ws/" + "x" * 129,
        "/ws/",
        "/ws",
        "/ws/a/b",
        "/ws/a/",
        "/ws/a%20b",
        "/ws/a%2Fb",
        "/ws/a%0A",
        "/ws/%0Aa",
        "/ws/a%00",
        "/ws/a!",
        "/ws/a~b",
        "/ws/a+b",
        "/ws/a*",
        "/ws/a%25",
        "/ws/%C3%A4",
        "/ws/%D9%A3",  # a digit, though not one of ours
        "/",
        "/elsewhere",
        "/WS/a",
    ],
)
def test_any_other_path_is_404(room: Room, path: str) -> None:
    token = room.token(workspaces=["a", "a\n", "x" * 129])
    assert room.refused(f"?token={token}", path).status_code == 404


# Where the token is


@pytest.mark.parametrize("subprotocols", [None, ["jackfield.v1"], ["other", "jackfield.v1"], ["other"]])
@pytest.mark.parametrize("place", ["query", "header"])
def test_a_token_in_the_query_or_the_header(room: Room, place: str, subprotocols: Any) -> None:
    token = room.token()
    if place == "query":
        peer = room.connect(f"?token={token}", subprotocols=subprotocols)
    else:
        peer = room.connect(additional_headers={"Authorization": f"Bearer {token}"}, subprotocols=subprotocols)
    assert peer.next()["type"] == "hello"
    assert peer.subprotocol == ("jackfield.v1" if subprotocols and "jackfield.v1" in subprotocols else None)


@pytest.mark.parametrize("turned", [False, True])
def test_a_token_in_the_subprotocols_is_never_the_one_selected(room: Room, turned: bool) -> None:
    offered = ["jackfield.v1", f"bearer.{room.token()}"]
    peer = room.connect(subprotocols=offered[::-1] if turned else offered)
    assert peer.next()["type"] == "hello"
    assert peer.subprotocol == "jackfield.v1"


def test_a_token_in_subprotocols_without_ours_selects_nothing(room: Room) -> None:
    assert room.raw(subprotocols=[f"bearer.{room.token()}"]).subprotocol is None


@pytest.mark.parametrize("bad", [False, True])
def test_ours_is_selected_when_the_token_is_bad_too(room: Room, bad: bool) -> None:
    offered = ["jackfield.v1", "bearer.nonsense"] if bad else ["jackfield.v1"]
    peer = room.connect(subprotocols=offered)
    assert peer.subprotocol == "jackfield.v1"
    assert code_of(peer) == ("INVALID_TOKEN", 4501)


def test_a_token_in_two_places_is_a_bad_token(room: Room) -> None:
    token, other = room.token(), room.token()
    header = {"Authorization": f"Bearer {token}"}
    protocols = ["jackfield.v1", f"bearer.{token}"]
    peers = [
        room.connect(f"?token={token}&token={token}"),
        room.connect(f"?token={token}&token={other}"),
        room.connect(f"?token={token}&x=1&token="),
        room.connect(f"?token={token}", additional_headers=header),
        room.connect(f"?token={other}", additional_headers=header),
        room.connect(f"?token={token}", subprotocols=protocols),
        room.connect(additional_headers=header, subprotocols=protocols),
        room.connect(f"?token={token}", additional_headers=header, subprotocols=protocols),
    ]
    assert [code_of(peer) for peer in peers] == [("INVALID_TOKEN", 4501)] * len(peers)


def test_other_query_parameters_do_no_harm(room: Room) -> None:
    peer = room.connect(f"?a=1&token={room.token()}&b=2&Token=x")
    assert peer.next()["type"] == "hello"


def test_a_client_that_offers_compression_as_browsers_do(room: Room) -> None:
    alice = room.enter(compression="deflate")
    alice.alive()


# Bad tokens


def signed(claims: object, header: dict[str, Any] | None = None) -> str:
    """A signature over anything at all; PyJWT would refuse to write half of it."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    first = part(json.dumps(header or {"alg": "HS256", "typ": "JWT"}).encode())
    body = f"{first}.{part(json.dumps(claims).encode())}"
    return f"{body}.{part(hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).digest())}"


def claims_of(room: Room, **claims: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": "alice", "workspaces": [room.id], "iat": now, "exp": now + 600, **claims}


@pytest.mark.parametrize("query", ["", "?", "?token", "?token=", "?other=1"])
def test_a_token_that_is_missing_or_empty(room: Room, query: str) -> None:
    assert code_of(room.connect(query)) == ("INVALID_TOKEN", 4501)


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Bearer ", "Basic YTpi", "{token}", "Bearer {token} x", "Token {token}"]
)
def test_a_header_that_is_not_a_bearer(room: Room, value: str) -> None:
    peer = room.connect(additional_headers={"Authorization": value.format(token=room.token())})
    assert code_of(peer) == ("INVALID_TOKEN", 4501)


def test_our_own_way_to_sign_is_a_good_one(room: Room) -> None:
    assert room.connect(f"?token={signed(claims_of(room))}").next()["type"] == "hello"


@pytest.mark.parametrize(
    "token", ["abc", "a.b", "a.b.c", "...", "a.b.c.d", "%00", "%F0%9F%91%8D", "{}", "null", "eyJhbGciOiJIUzI1NiJ9.e30."]
)
def test_a_token_that_is_none(room: Room, token: str) -> None:
    assert code_of(room.connect(f"?token={token}")) == ("INVALID_TOKEN", 4501)


@pytest.mark.parametrize("claim", ["sub", "workspaces", "iat", "exp"])
def test_a_token_in_which_a_claim_is_missing(room: Room, claim: str) -> None:
    claims = claims_of(room)
    del claims[claim]
    assert code_of(room.connect(f"?token={signed(claims)}")) == ("INVALID_TOKEN", 4501)


ILL_TYPED: list[tuple[str, Any]] = [
    ("sub", 7),
    ("sub", None),
    ("sub", ""),
    ("sub", ["alice"]),
    ("sub", "x" * 129),
    ("sub", "al ice"),
    ("sub", "alice\n"),
    ("workspaces", None),
    ("workspaces", 7),
    ("workspaces", {}),
    ("workspaces", [7]),
    ("workspaces", [None]),
    ("iat", None),
    ("iat", "yesterday"),
    ("iat", "1700000000"),
    ("iat", True),
    ("iat", [1]),
    ("iat", math.nan),
    ("exp", None),
    ("exp", "tomorrow"),
    ("exp", "99999999999"),
    ("exp", True),
    ("exp", [1]),
    ("exp", {}),
    ("exp", math.nan),
    ("exp", math.inf),
    ("exp", 1e300),
    ("exp", 10**400),
    ("exp", -1e300),
]


@pytest.mark.parametrize(("claim", "value"), ILL_TYPED, ids=lambda value: str(value)[:12])
def test_a_token_in_which_a_claim_is_ill_typed(room: Room, claim: str, value: Any) -> None:
    name, code = code_of(room.connect(f"?token={signed(claims_of(room, **{claim: value}))}"))
    assert name == "INVALID_TOKEN"
    # a number before all times is a time that has passed, whatever else it is
    assert code in ({4501, 4004} if value == -1e300 else {4501})


def test_workspaces_as_a_string_do_not_contain_their_letters(room: Room) -> None:
    token = signed(claims_of(room, workspaces=room.id))
    assert code_of(room.connect(f"?token={token}")) == ("INVALID_TOKEN", 4501)


@pytest.mark.parametrize("claims", [[], None, "x", 7])
def test_a_token_whose_claims_are_no_object(room: Room, claims: object) -> None:
    assert code_of(room.connect(f"?token={signed(claims)}")) == ("INVALID_TOKEN", 4501)


def test_a_bad_signature_a_wrong_key_or_algorithm(room: Room) -> None:
    good = room.token()
    head, body, signature = good.split(".")
    other = "A" if signature[0] != "A" else "B"
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    tokens = [
        f"{head}.{body}.{other}{signature[1:]}",
        f"{head}.{body}.",
        f"{unsigned}.{body}.",
        f"{unsigned}.{body}.{signature}",
        room.token(key="x" * 64),
        room.token(key=SECRET * 2, algorithm="HS512"),
        signed(claims_of(room), {"alg": "hs256"}),
        signed(claims_of(room), {"typ": "JWT"}),
        signed(claims_of(room), {"alg": ["HS256"]}),
        signed(claims_of(room), {"alg": "HS256", "crit": ["exp"]}),
        # wrong first, expired second: nothing in it is believed
        room.token(key="x" * 64, exp=time.time() - 100),
    ]
    assert [code_of(room.connect(f"?token={token}")) for token in tokens] == [("INVALID_TOKEN", 4501)] * len(tokens)


def test_a_token_over_8_kib(room: Room) -> None:
    """A server that refuses the long line itself answers its own 4xx."""
    token = room.token(extra="x" * 9000)
    assert len(token) > 8192
    header = ("Authorization", f"Bearer {token}")
    for query, headers in [(f"?token={token}", []), ("", [header])]:
        client = room.raw(query, headers=headers)
        if client.handshake_status == 101:
            frames, code, _ = client.until_closed()
            assert [frame["data"]["code"] for frame in frames] == ["INVALID_TOKEN"]
            assert code == 4501
        else:
            assert client.handshake_status is not None
            assert 400 <= client.handshake_status < 500


def test_a_token_just_below_8_kib(room: Room) -> None:
    token = room.token(extra="x" * 5800)
    assert 7900 < len(token) <= 8192
    assert room.connect(f"?token={token}").next()["type"] == "hello"


def test_a_lifetime_over_the_maximum(room: Room, room_with: Callable[..., Room]) -> None:
    now = int(time.time())
    within = room.connect(f"?token={room.token(iat=now, exp=now + 30 * DAY)}")
    assert within.next()["type"] == "hello"
    over = room.connect(f"?token={room.token(iat=now, exp=now + 30 * DAY + 1)}")
    assert code_of(over) == ("INVALID_TOKEN", 4501)
    old = room.token(iat=now - 20 * DAY, exp=now + 20 * DAY)
    assert code_of(room.connect(f"?token={old}")) == ("INVALID_TOKEN", 4501)
    short = room_with(TOKEN_MAX_LIFETIME="300")
    assert short.connect(f"?token={short.token(iat=now, exp=now + 300)}").next()["type"] == "hello"
    assert code_of(short.connect(f"?token={short.token(iat=now, exp=now + 301)}")) == ("INVALID_TOKEN", 4501)


def test_every_bad_token_gets_the_same_bytes(room: Room) -> None:
    canary = "canary-canary-canary"
    answers = {
        refusal(room.connect(query))
        for query in ["", f"?token={canary}", f"?token={room.token(key='y' * 40)}", f"?token={signed({canary: 1})}"]
    }
    ((raw, code, reason),) = answers
    assert canary not in raw + reason
    assert code == 4501
    assert raw.startswith('{"type":"error","data":{"message":"')


# Expired


def test_a_token_that_expired(room: Room) -> None:
    token = room.token(iat=time.time() - 100, exp=time.time() - 6)
    assert code_of(room.connect(f"?token={token}")) == ("INVALID_TOKEN", 4004)


def test_within_the_leeway_there_is_hello_and_nothing_else_until_it_is_refreshed(room: Room) -> None:
    room.channel()
    now = time.time()
    peer = room.connect(f"?token={room.token('alice', iat=now - 100, exp=now - 2)}")
    assert peer.next()["type"] == "hello"
    bob = room.enter("bob")
    room.say("m1")
    room.say("m2")
    assert [bob.get("message.new")["data"]["id"] for _ in range(2)] == ["m1", "m2"]
    assert peer.drain(0.3) == []
    peer.send({"type": "auth.refresh", "token": room.token("alice")})
    came = []
    while len(came) < 3:
        frame = peer.next()
        if frame["type"] != "presence.updated":
            came.append(frame["data"].get("id", frame["type"]))
    assert [id for id in came if id != "auth.refreshed"] == ["m1", "m2"]
    room.say("m3")
    assert peer.get("message.new")["data"]["id"] == "m3"


# Not his workspace


def test_a_workspace_that_is_not_the_users(room: Room) -> None:
    """Unknown and foreign must be told apart by nobody; standalone only the token says what exists."""
    foreign = room.token(workspaces=["elsewhere"])
    none = room.token(workspaces=[])
    answers = {
        refusal(room.connect(f"?token={foreign}")),
        refusal(room.connect(f"?token={none}")),
        refusal(room.connect(f"?token={foreign}", "/ws/no-such-workspace")),
    }
    ((raw, code, reason),) = answers
    assert json.loads(raw)["data"]["code"] == "UNAUTHORIZED"
    assert code == 4502
    assert room.id not in raw + reason
    assert "elsewhere" not in raw + reason


def test_workspace_ids_are_compared_exactly(room: Room) -> None:
    for id in [room.id.upper(), room.id + "x", room.id[:-1], f"{room.id} ", "*"]:
        peer = room.connect(f"?token={room.token(workspaces=[id])}")
        assert code_of(peer) in {("UNAUTHORIZED", 4502), ("INVALID_TOKEN", 4501)}


def test_a_token_for_several_workspaces(room: Room) -> None:
    token = room.token(workspaces=["one-of-many", room.id])
    assert room.connect(f"?token={token}").next()["workspace_id"] == room.id
    assert room.connect(f"?token={token}", "/ws/one-of-many").next()["workspace_id"] == "one-of-many"


# Too many connections


def test_more_live_connections_than_allowed(room_with: Callable[..., Room]) -> None:
    room = room_with(CONNECTIONS_PER_USER="3")
    tabs = [room.enter() for _ in range(3)]
    for _ in range(2):  # a refused one does not count
        name, code, reason = refusal(room.connect(f"?token={room.token()}"))
        assert (json.loads(name)["data"]["code"], code) == ("RATE_LIMITED", 4504)
        assert room.id not in reason
    room.enter("bob")  # another user is another count …
    both = room.token(workspaces=[room.id, f"{room.id}-2"])
    other = room.connect(f"?token={both}", f"/ws/{room.id}-2")  # … and so is another workspace
    assert other.next()["type"] == "hello"
    tabs[0].alive()
    tabs.pop().close()

    def comes_in() -> bool:
        return room.connect(f"?token={room.token()}").next()["type"] == "hello"

    until(comes_in, "a place that became free")


def test_twenty_connections_are_allowed(room: Room) -> None:
    for _ in range(20):
        room.enter()
    assert code_of(room.connect(f"?token={room.token()}")) == ("RATE_LIMITED", 4504)


# Origin


def test_an_origin_that_is_absent_or_our_own(room: Room) -> None:
    room.enter()
    room.enter(origin=room.server.url)


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://elsewhere.example",
        "http://127.0.0.1",
        "http://127.0.0.1:1",
        "http://127.0.0.1:{port}.elsewhere.example",
        "http://127.0.0.1:{port}@elsewhere.example",
        "http://elsewhere.example/127.0.0.1:{port}",
        "http://localhost:{port}",
        "127.0.0.1:{port}",
        "file://127.0.0.1:{port}",
        "http://127.0.0.1:{port}, http://127.0.0.1:{port}",
        "http://127.0.0.1:{port} ",
        "http://127.0.0.1:{port}/path",
        "*",
    ],
)
def test_an_origin_that_is_not_allowed(room: Room, origin: str) -> None:
    value = origin.format(port=room.server.port)
    if value.endswith(" "):  # white space round a header's value is not part of it
        assert room.connect(f"?token={room.token()}", additional_headers=[("Origin", value)]).next()["type"] == "hello"
        return
    answer = room.refused(f"?token={room.token()}", additional_headers=[("Origin", value)])
    assert answer.status_code == 403


def test_two_origins(room: Room) -> None:
    own = ("Origin", room.server.url)
    for headers in [[own, own], [own, ("Origin", "http://elsewhere.example")], [("Origin", "null"), own]]:
        answer = room.refused(f"?token={room.token()}", additional_headers=headers)
        assert answer.status_code in {403, 400}


def test_with_a_list_of_origins_the_list_alone_decides(room_with: Callable[..., Room]) -> None:
    room = room_with(ALLOWED_ORIGINS="https://chat.example,http://other.example:8080")
    room.enter()
    for origin in ["https://chat.example", "http://other.example:8080"]:
        room.enter(origin=origin)
    for origin in [
        room.server.url,
        "http://chat.example",
        "https://chat.example:8443",
        "https://other.example:8080",
        "https://sub.chat.example",
        "https://chat.example.elsewhere.example",
        "null",
    ]:
        assert room.refused(f"?token={room.token()}", additional_headers=[("Origin", origin)]).status_code == 403


def test_the_origin_is_looked_at_before_the_token(room: Room) -> None:
    """Else a strange page could try tokens."""
    answer = room.refused("?token=nonsense", additional_headers=[("Origin", "http://elsewhere.example")])
    assert answer.status_code == 403


# Too many upgrades


def statuses(room: Room, count: int, header: Callable[[int], dict[str, str]]) -> list[int]:
    """How as many upgrades at once were answered."""
    token = room.token()
    found = []
    for number in range(count):
        client = room.raw(f"?token={token}", headers=list(header(number).items()))
        assert client.handshake_status is not None
        found.append(client.handshake_status)
        if client.handshake_status == 429:
            assert float(client.headers["retry-after"]) > 0
        client.abort()
    return found


def test_too_many_upgrades_from_one_address(loop: str) -> None:
    with serving(loop, CONNECTS_PER_ADDRESS="3") as server, Room(server) as room:
        assert 429 in statuses(room, 30, lambda _: {})
        # a header that anybody can write makes nobody else of him
        assert 429 in statuses(room, 30, lambda number: {"X-Forwarded-For": f"192.0.2.{number}"})
        assert 429 in statuses(room, 30, lambda number: {"Forwarded": f"for=192.0.2.{number}"})
        until(lambda: statuses(room, 1, lambda _: {}) == [101], "an upgrade after a while")
        for _ in range(20):  # upgrades only: the HTTP interface is another matter
            assert server.api("GET", "/health/live").status_code == 200


def test_twenty_upgrades_a_second_by_default(loop: str) -> None:
    with serving(loop, CONNECTS_PER_ADDRESS=None) as server, Room(server) as room:
        began = time.monotonic()
        found = statuses(room, 80, lambda _: {})
        took = time.monotonic() - began
        assert found[:20] == [101] * 20
        assert found.count(101) <= 20 + 20 * (took + 0.1)
        assert took > 3 or 429 in found


def test_the_forwarded_address_counts_behind_a_trusted_proxy(loop: str) -> None:
    with serving(loop, CONNECTS_PER_ADDRESS="3", TRUSTED_PROXIES="127.0.0.1") as server, Room(server) as room:
        assert set(statuses(room, 30, lambda number: {"X-Forwarded-For": f"192.0.2.{number}"})) == {101}
        assert 429 in statuses(room, 30, lambda _: {"X-Forwarded-For": "192.0.2.200"})
        # what a client wrote himself stands further left than what the proxy added
        assert 429 in statuses(room, 30, lambda number: {"X-Forwarded-For": f"192.0.2.{number}, 192.0.2.201"})


# reject=http


def test_reject_by_http(room_with: Callable[..., Room]) -> None:
    room = room_with(REJECT="http")
    room.enter()
    expired = room.token(iat=time.time() - 100, exp=time.time() - 60)
    for query in ["", "?token=nonsense", f"?token={room.token(key='y' * 40)}", f"?token={expired}"]:
        assert room.refused(query).status_code == 401
    answer = room.refused(f"?token={room.token(workspaces=['elsewhere'])}")
    assert answer.status_code == 403
    assert room.refused("", "/ws/a!").status_code == 404
    assert room.refused("", additional_headers=[("Origin", "null")]).status_code == 403
    assert b"nonsense" not in (room.refused("?token=nonsense").body or b"")
    revoked = room.token(iat=time.time() - 5)
    room.server.api("DELETE", f"/api/workspaces/{room.id}/users/alice/connections")
    assert room.refused(f"?token={revoked}").status_code == 403


def test_reject_by_http_a_connection_too_many(room_with: Callable[..., Room]) -> None:
    room = room_with(REJECT="http", CONNECTIONS_PER_USER="1")
    room.enter()
    assert room.refused(f"?token={room.token()}").status_code in {403, 429}


# What is never written down


def test_a_token_reaches_no_log_line(loop: str) -> None:
    with serving(loop) as server, Room(server) as room:
        good, expired = room.token(), room.token(iat=time.time() - 100, exp=time.time() - 50)
        foreign, wrong = room.token(workspaces=["elsewhere"]), room.token(key="y" * 40)
        for token in good, expired, foreign, wrong, "canary-canary":
            for query, options in [
                (f"?token={token}", {}),
                (f"?x=1&token={token}", {}),
                ("", {"additional_headers": {"Authorization": f"Bearer {token}"}}),
                ("", {"subprotocols": ["jackfield.v1", f"bearer.{token}"]}),
                (f"?token={token}&token={token}", {}),
            ]:
                room.connect(query, **options).next()
            for path in [f"/ws/a!?token={token}", f"/nonsense?token={token}", f"/ws/{room.id}?token={token}"]:
                server.http.get(f"{server.url}{path}")
                server.http.get(f"{server.url}{path}", headers={"Authorization": f"Bearer {token}"})
            room.refused(f"?token={token}", "/ws/a!")
            room.refused(f"?token={token}", additional_headers=[("Origin", "null")])
        refreshed = room.token()
        peer = room.enter()
        peer.send({"type": "auth.refresh", "token": refreshed})
        peer.get("auth.refreshed")
        peer.send({"type": "auth.refresh", "token": "canary-refresh"})
        peer.error("INVALID_TOKEN")
        peer.send(json.dumps({"type": f"canary-type-{good}"}))
        peer.send(f"canary-text {good}")
        peer.drain(0.1)
        server.api("POST", f"/api/workspaces/{room.id}/events?token={good}", key="canary-key", json={})
        server.end()
        printed = server.log()
        for secret in *server.tokens, SECRET, API_KEY, "canary":
            assert secret not in printed
            assert secret.rpartition(".")[2] not in printed
        assert "eyJ" not in printed


def test_a_plain_get_is_answered(room: Room) -> None:
    """No upgrade, no server error."""
    answer = httpx.get(f"{room.server.url}/ws/{room.id}", timeout=PATIENCE, trust_env=False)
    assert 400 <= answer.status_code < 500
