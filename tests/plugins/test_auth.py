"""Whose token is it? JSON web tokens, tokens of the host's own, and fresh ones on a living connection."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from functools import cache, partial, wraps
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

import jackfield_auth
from jackfield import (
    ConfigurationError,
    InvalidToken,
    Jackfield,
    Principal,
    ServerEvent,
    Settings,
    Unauthorized,
    testing,
)
from jackfield._refusals import InternalError
from jackfield.errors import InvalidEvent
from jackfield.events import Ack, Ping, Pong, timestamp
from jackfield.testing import Bench, Client, Closed, FakeClock
from jackfield_auth import AuthRefresh, AuthRefreshed, JWTAuth, TokenAuth
from jackfield_members import Members, OpenWorkspace
from tests.plugins.chat import heard, message, public

SECRET = "a secret of at least thirty-two bytes"
NOW = int(FakeClock().time())
PATIENT = Settings(heartbeat_timeout=100_000)
Auth = partial(JWTAuth, SECRET, refresh=True)

bench = partial(testing.bench, Auth, OpenWorkspace, settings=PATIENT)


def b64(data: bytes | str | object) -> str:
    if not isinstance(data, bytes | str):
        data = json.dumps(data)
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; `None` leaves a claim out."""
    said = {"sub": "alice", "workspaces": ["w", "beta"], "iat": NOW, "exp": NOW + 3600, **changed}
    return {name: value for name, value in said.items() if value is not None}


def signed(payload: object, *, secret: str = SECRET, header: object = None, hash: str = "sha256") -> str:
    """A token by hand: what no library would sign is signed all the same."""
    text = f"{b64(header or {'alg': 'HS256', 'typ': 'JWT'})}.{b64(payload)}"
    return f"{text}.{b64(hmac.digest(secret.encode(), text.encode(), hash))}"


def token(**changed: Any) -> str:
    return signed(claims(**changed))


async def refused(b: Bench, token: str, **how: Any) -> tuple[str, int | None]:
    """The code of the error that a token is answered with, and of the close."""
    with pytest.raises(Closed) as closed:
        await b.connect(token=token, **how)
    client = await b.open(token=token, **how)
    (frame,) = await frames(client)
    assert list(frame) == ["type", "data", "timestamp"]
    assert closed.value.code == (await client.closed()).code
    return frame["data"]["code"], closed.value.code


async def frames(client: Client) -> list[dict[str, Any]]:
    await client.pending()
    return client.frames


def without_answer(events: Sequence[ServerEvent]) -> list[ServerEvent]:
    """What came, but for the one `auth.refreshed`."""
    rest = [event for event in events if not isinstance(event, AuthRefreshed)]
    assert len(rest) == len(events) - 1
    return rest


# --- Good ones


async def test_a_good_token_lets_its_user_in(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect(token=token(), node=nodes - 1)
        assert alice.hello.user_id == "alice"
        await b.connect(token=token(), workspace="beta")


@pytest.mark.parametrize(
    "changed",
    [
        {"iat": NOW - 0.5, "exp": NOW + 0.25},
        {"iat": NOW + 4},
        {"iat": float(NOW)},
        {"nbf": NOW},
        {"nbf": NOW + 4},
        {"exp": NOW + 2_592_000},
        {"workspaces": ["w"]},
        {"workspaces": ["w", "not/an/id", ""]},
        {"sub": "a" * 128},
        {"iss": "somebody", "jti": "x", "name": "Alice", "workspaces": ["w"] * 500},
    ],
    ids=repr,
)
async def test_these_are_good(changed: dict[str, Any]) -> None:
    async with bench() as b:
        await b.connect(token=token(**changed))


# --- Bad ones


def unsigned(header: object, payload: object = None, signature: str = "") -> str:
    return f"{b64(header)}.{b64(payload or claims())}.{signature}"


FORGED: dict[str, Callable[[], str]] = {
    "nothing of a token": lambda: "x",
    "dots": lambda: "..",
    "two parts": lambda: token().rpartition(".")[0],
    "four parts": lambda: token() + ".x",
    "no signature": lambda: token().rpartition(".")[0] + ".",
    "alg none": lambda: unsigned({"alg": "none"}),
    "alg None": lambda: unsigned({"alg": "None", "typ": "JWT"}),
    "alg none, signed": lambda: signed(claims(), header={"alg": "none"}),
    "alg missing": lambda: signed(claims(), header={"typ": "JWT"}),
    "alg null": lambda: signed(claims(), header={"alg": None}),
    "alg a list": lambda: signed(claims(), header={"alg": ["HS256"]}),
    "alg in lower case": lambda: signed(claims(), header={"alg": "hs256"}),
    "HS512 by the same key": lambda: signed(claims(), header={"alg": "HS512"}, hash="sha512"),
    "RS256 by our key": lambda: signed(claims(), header={"alg": "RS256"}),
    "another key": lambda: signed(claims(), secret="another secret of at least thirty-two bytes"),
    "an empty key": lambda: signed(claims(), secret=""),
    "kid": lambda: signed(claims(), header={"alg": "HS256", "kid": "../../dev/null"}, secret=""),
    "jwk": lambda: signed(claims(), header={"alg": "HS256", "jwk": {"kty": "oct", "k": b64("x")}}, secret="x"),
    "crit": lambda: signed(claims(), header={"alg": "HS256", "crit": ["exp"], "exp": 1}),
    "crit, and known": lambda: signed(claims(), header={"alg": "HS256", "crit": ["b64"], "b64": True}),
    "b64 false": lambda: signed(claims(), header={"alg": "HS256", "b64": False, "crit": ["b64"]}),
    "payload of another token": lambda: ".".join(
        [token().split(".")[0], token(sub="bob").split(".")[1], token().split(".")[2]]
    ),
    "header no object": lambda: signed(claims(), header=["HS256"]),
    "header no JSON": lambda: f"{b64('{')}.{b64(claims())}.x",
    "header nested without end": lambda: f"{b64('[' * 5000)}.{b64(claims())}.x",
    "header a number without end": lambda: f"{b64('9' * 5000)}.{b64(claims())}.x",
    "payload no object": lambda: signed([claims()]),
    "payload no JSON": lambda: signed("{"),
    "payload null": lambda: signed("null"),
    "payload nested without end": lambda: signed("[" * 5000),
    "no base64": lambda: "ä.ö.ü",
    "a lone surrogate": lambda: signed(f'{{"sub":"\\ud800","workspaces":["w"],"iat":{NOW},"exp":{NOW + 60}}}'),
    "no sub": lambda: token(sub=None),
    "sub null": lambda: signed(claims() | {"sub": None}),
    "sub a number": lambda: token(sub=7),
    "sub a list": lambda: token(sub=["alice"]),
    "sub empty": lambda: token(sub=""),
    "sub no id": lambda: token(sub="alice smith"),
    "sub with a line": lambda: token(sub="alice\n"),
    "sub too long": lambda: token(sub="a" * 129),
    "no workspaces": lambda: token(workspaces=None),
    "workspaces a text": lambda: token(workspaces="w"),
    "workspaces an object": lambda: token(workspaces={"w": True}),
    "workspaces of numbers": lambda: token(workspaces=["w", 7]),
    "no iat": lambda: token(iat=None),
    "iat a text": lambda: token(iat=str(NOW)),
    "iat a boolean": lambda: token(iat=True),
    "iat NaN": lambda: token(iat=math.nan),
    "iat infinite": lambda: token(iat=-math.inf),
    "iat a list": lambda: token(iat=[NOW]),
    "iat negative": lambda: token(iat=-1, exp=1),
    "iat in the future": lambda: token(iat=NOW + 6),
    "iat long ago": lambda: token(iat=0),
    "nbf in the future": lambda: token(nbf=NOW + 6),
    "nbf a text": lambda: token(nbf=str(NOW)),
    "no exp": lambda: token(exp=None),
    "exp null": lambda: signed(claims() | {"exp": None}),
    "exp a text": lambda: token(exp=str(NOW + 60)),
    "exp a boolean": lambda: token(exp=True),
    "exp NaN": lambda: token(exp=math.nan),
    "exp infinite": lambda: token(exp=math.inf),
    "exp without end": lambda: token(exp=9e300),
    "exp an integer without end": lambda: token(exp=10**400),
    "exp too large to read": lambda: signed('{"sub":"alice","workspaces":["w"],"iat":1,"exp":%s}' % ("9" * 4500)),
    "exp negative": lambda: token(exp=-1),
    "exp 0": lambda: token(exp=0),
    "a lifetime over the maximum": lambda: token(exp=NOW + 2_592_001),
    "aud of somebody": lambda: token(aud="somebody"),
    "jti a number": lambda: token(jti=7),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_forged_token_is_an_invalid_one(forge: Callable[[], str], caplog: pytest.LogCaptureFixture) -> None:
    async with bench() as b:
        bad = forge()
        assert await refused(b, bad) == ("INVALID_TOKEN", 4501)
        assert await refused(b, bad, workspace="unknown") == ("INVALID_TOKEN", 4501)
        assert bad not in caplog.text
        assert b.app.node.dispatcher.faults == {}


@pytest.mark.parametrize("length", [8192, 8193])
async def test_over_eight_kibibytes_it_is_no_token(length: int) -> None:
    async with bench() as b:
        shortest = len(token(pad=""))
        pad = next(n for n in range(length) if len(token(pad="x" * (((length - shortest) * 3) // 4 - 5 + n))) >= length)
        long = token(pad="x" * (((length - shortest) * 3) // 4 - 5 + pad))
        if len(long) > 8192:
            assert await refused(b, long) == ("INVALID_TOKEN", 4501)
        else:
            await b.connect(token=long)


@pytest.mark.parametrize("workspace", ["gamma", "W", "w2"])
async def test_a_workspace_that_is_not_the_users_and_one_that_is_not_there_get_the_same_bytes(workspace: str) -> None:
    async with bench() as b:
        assert await refused(b, token(), workspace=workspace) == ("UNAUTHORIZED", 4502)
        one, other = await b.open(token=token(), workspace=workspace), await b.open(token=token(), workspace="nowhere")
        assert one.transport.sent == other.transport.sent


async def test_an_expired_token_is_told_from_one_that_never_was_good() -> None:
    async with bench() as b:
        late = token(exp=NOW + 60)
        await b.clock.advance(60 + 5.001)
        assert await refused(b, late) == ("INVALID_TOKEN", 4004)
        assert await refused(b, late, workspace="gamma") == ("INVALID_TOKEN", 4004)
        assert await refused(b, late[:-2] + "xx") == ("INVALID_TOKEN", 4501)
        # One that was over before it was made is over, too.
        assert await refused(b, token(iat=NOW + 60, exp=NOW + 50)) == ("INVALID_TOKEN", 4004)


async def test_within_the_leeway_it_gets_hello_and_nothing_else_until_it_is_refreshed() -> None:
    async with bench() as b:
        await b.clock.advance(5)
        late = await b.connect(token=token(iat=NOW - 60, exp=NOW))
        await b.workspace().publish(public())
        assert await heard(late) == [[]]
        await late.request(AuthRefresh(token()))
        assert without_answer((await heard(late))[0]) == [public()]
        await b.workspace().publish(message())
        assert await heard(late) == [[message()]]


async def test_within_the_leeway_and_never_refreshed_it_ends_a_grace_after_its_exp() -> None:
    async with bench() as b:
        await b.clock.advance(4)
        late = await b.connect(token=token(iat=NOW - 60, exp=NOW))
        await b.clock.advance(20.9)
        assert await heard(late) == [[]]
        await b.clock.advance(0.2)
        assert (await frames(late))[-1]["data"]["code"] == "INVALID_TOKEN"
        assert (await late.closed()).code == 4004


# --- Audience, issuer, lifetime


@pytest.mark.parametrize(
    ("plugin", "changed", "good"),
    [
        ({"audience": "chat"}, {"aud": "chat"}, True),
        ({"audience": "chat"}, {"aud": ["mail", "chat"]}, True),
        ({"audience": "chat"}, {"aud": "mail"}, False),
        ({"audience": "chat"}, {"aud": ["mail"]}, False),
        ({"audience": "chat"}, {"aud": 7}, False),
        ({"audience": "chat"}, {}, False),
        ({"issuer": "us"}, {"iss": "us"}, True),
        ({"issuer": "us"}, {"iss": "them"}, False),
        ({"issuer": "us"}, {"iss": ["us"]}, False),
        ({"issuer": "us"}, {}, False),
        ({"max_lifetime": 60}, {"exp": NOW + 60}, True),
        ({"max_lifetime": 60}, {"exp": NOW + 61}, False),
    ],
    ids=repr,
)
async def test_audience_issuer_and_lifetime_are_compared_where_given(
    plugin: dict[str, Any], changed: dict[str, Any], good: bool
) -> None:
    async with testing.bench(partial(JWTAuth, SECRET, **plugin), OpenWorkspace) as b:
        if good:
            await b.connect(token=token(**changed))
        else:
            assert await refused(b, token(**changed)) == ("INVALID_TOKEN", 4501)


# --- Keys


@cache
def key(algorithm: str) -> Any:
    return rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())


def private_pem(algorithm: str) -> str:
    return key(algorithm).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(algorithm: str) -> str:
    return key(algorithm).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_public_keys(algorithm: Any) -> None:
    async with testing.bench(partial(JWTAuth, public_pem(algorithm), algorithm=algorithm), OpenWorkspace) as b:
        good = jwt.encode(claims(), private_pem(algorithm), algorithm)
        assert (await b.connect(token=good)).hello.user_id == "alice"
        head, body, _ = good.split(".")
        confused = f"{b64({'alg': 'HS256', 'typ': 'JWT'})}.{b64(claims())}"
        signature = hmac.new(public_pem(algorithm).encode(), confused.encode(), hashlib.sha256).digest()
        other = "ES256" if algorithm == "RS256" else "RS256"
        for bad in [
            f"{confused}.{b64(signature)}",  # our public key, taken for a secret
            f"{head}.{b64(claims(sub='bob'))}.{good.split('.')[2]}",
            f"{head}.{body}.",
            f"{head}.{body}.{b64(bytes(64))}",  # r = s = 0
            jwt.encode(claims(), private_pem(other), other),
            token(),
        ]:
            assert await refused(b, bad) == ("INVALID_TOKEN", 4501)


@pytest.mark.parametrize(
    ("secret", "algorithm", "says"),
    [
        ("x" * 31, "HS256", r"secret has 31 bytes; HS256 needs at least 32\. Make one: python -c"),
        ("", "HS256", r"secret has 0 bytes; HS256 needs at least 32"),
        (SECRET, "RS256", r"secret is no key for RS256; it takes the PEM of the public key"),
        (SECRET, "ES256", r"secret is no key for ES256"),
        ("", "ES256", r"secret is no key for ES256"),
        ("RS256", "ES256", r"secret is no key for ES256"),
        ("RS256", "HS256", r"secret is no key for HS256"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused_at_once(secret: str, algorithm: Any, says: str) -> None:
    secret = public_pem(secret) if secret in ("RS256", "ES256") else secret
    with pytest.raises(ValueError, match=says) as error:
        JWTAuth(secret, algorithm=algorithm)
    assert len(secret) < 3 or secret not in str(error.value)


def test_thirty_two_bytes_are_enough_and_an_umlaut_is_two() -> None:
    assert JWTAuth("x" * 32)
    assert JWTAuth("ü" * 16)


def test_the_key_is_in_no_repr() -> None:
    assert SECRET not in repr(JWTAuth(SECRET))


async def test_a_lifetime_over_which_revocations_are_forgotten_is_refused_at_start_up() -> None:
    app = Jackfield(JWTAuth(SECRET, max_lifetime=2_592_001), Members())
    with pytest.raises(ConfigurationError) as error:
        async with app.lifespan():
            pass
    assert str(error.value) == (
        'plugin "token": max_lifetime is 2.592e+06 s, but a revocation is remembered for 2.592e+06 s. '
        "Raise Settings.revoked_for (JACKFIELD_REVOKED_FOR), or lower max_lifetime (JACKFIELD_TOKEN_MAX_LIFETIME)."
    )


# --- Fresh ones


async def test_a_fresh_token_prolongs_the_connection(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect(token=token(exp=NOW + 60), node=nodes - 1)
        await b.clock.advance(50)
        await alice.request(AuthRefresh(token(exp=NOW + 600)))
        assert await heard(alice) == [[AuthRefreshed(timestamp(NOW + 600))]]
        await b.clock.advance(500)
        await b.workspace().publish(public())
        assert await heard(alice) == [[public()]]
        await b.clock.advance(50 + 25)
        assert (await alice.closed()).code == 4004


async def test_it_looks_on_the_wire_as_it_must() -> None:
    async with bench() as b:
        alice = await b.connect(token=token())
        await alice.send({"type": "auth.refresh", "token": token(exp=NOW + 60)}, ref="r")
        assert await alice.receive(AuthRefreshed)
        assert await alice.receive(Ack) == Ack("r")
        assert {**alice.frames[1], "timestamp": ""} == {
            "type": "auth.refreshed",
            "data": {"expires_at": "2024-01-01T12:01:00.000Z"},
            "workspace_id": "w",
            "timestamp": "",
        }


def test_a_token_is_in_no_repr() -> None:
    assert "s3cret" not in repr(AuthRefresh("s3cret"))


async def test_a_fresh_token_that_a_host_cannot_read_is_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """Tracebacks say for which key a lookup failed."""
    users = {"first": Principal("alice")}

    async def verify(token: str, workspace_id: str) -> Principal | None:
        return users[token]

    caplog.set_level(0)
    async with testing.bench(TokenAuth(verify=verify, refresh=True), OpenWorkspace) as b:
        alice = await b.connect(token="first")
        await alice.send(AuthRefresh("s3cret"))
        assert (await alice.receive_frame())["data"]["code"] == "INTERNAL_ERROR"
        assert await refused(b, "s3cret") == ("INTERNAL_ERROR", 1013)
    assert "s3cret" not in caplog.text
    assert "RuntimeError: KeyError, and its text, which names the token, is not shown" in caplog.text
    assert not any("s3cret" in repr(record.exc_info) for record in caplog.records)


async def test_at_its_exp_delivery_stops_and_on_refresh_what_was_missed_follows_first(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect(token=token(exp=NOW + 60), node=nodes - 1)
        await b.workspace().publish(public())
        await b.clock.advance(60)
        await b.workspace().publish(message())
        await b.clock.advance(20)
        await b.workspace().publish(message("m2"))
        assert await heard(alice) == [[public()]]
        await alice.request(AuthRefresh(token()))
        await b.workspace().publish(message("m3"))
        assert without_answer((await heard(alice))[0]) == [message(), message("m2"), message("m3")]


async def test_expired_and_never_refreshed_it_ends_twenty_five_seconds_later() -> None:
    async with bench() as b:
        alice = await b.connect(token=token(exp=NOW + 60))
        await b.clock.advance(60 + 24.9)
        assert await heard(alice) == [[]]
        await b.clock.advance(0.2)
        (_, error) = await frames(alice)
        assert error["data"] == {"message": "Authentication token is invalid.", "code": "INVALID_TOKEN"}
        assert (await alice.closed()).code == 4004
        assert (await alice.closed()).reason == "token expired"


async def test_the_grace_can_be_set() -> None:
    async with testing.bench(partial(JWTAuth, SECRET, grace=3.0), OpenWorkspace) as b:
        alice = await b.connect(token=token(exp=NOW + 60))
        await b.clock.advance(62.9)
        assert await heard(alice) == [[]]
        await b.clock.advance(0.2)
        assert (await alice.closed()).code == 4004


async def test_what_was_missed_and_is_no_longer_kept_ends_it_at_once() -> None:
    async with bench(settings=Settings(history_events=3)) as b:
        alice = await b.connect(token=token(exp=NOW + 10))
        await b.clock.advance(10)
        for n in range(400):
            await b.workspace().publish(message(f"m{n}"))
        await testing.settle()
        await alice.send(AuthRefresh(token()))
        assert (await alice.closed()).code == 4004
        assert not [frame for frame in await frames(alice) if frame["type"] == "message.new"]


async def test_while_it_is_expired_nothing_but_a_fresh_token_is_taken() -> None:
    async with bench() as b:
        alice = await b.connect(token=token(exp=NOW + 10))
        await b.clock.advance(10)
        with pytest.raises(InvalidEvent):
            await alice.request({"type": "auth.refresh"})
        await alice.send(Ping())
        await alice.request(AuthRefresh(token()))
        assert await heard(alice) == [[Pong(), AuthRefreshed(timestamp(NOW + 3600))]]


REFUSED: dict[str, Callable[[], str]] = {
    "garbage": lambda: "garbage",
    "nothing": lambda: "",
    "too long": lambda: "x" * 8193,
    "another user's": lambda: token(sub="bob"),
    "another workspace's": lambda: token(workspaces=["gamma"]),
    "an expired one": lambda: token(iat=NOW - 60, exp=NOW - 30),
    "one that expires now": lambda: token(iat=NOW - 60, exp=NOW),
    "one within the leeway": lambda: token(iat=NOW - 60, exp=NOW - 3),
    "another key's": lambda: signed(claims(), secret="y" * 32),
    "one that lives too long": lambda: token(exp=NOW + 2_592_001),
}


@pytest.mark.parametrize("bad", REFUSED.values(), ids=REFUSED)
async def test_a_refused_one_is_invalid_token_and_the_connection_stays_until_its_exp(
    bad: Callable[[], str], nodes: int
) -> None:
    async with bench(nodes=nodes) as b:
        alice = await b.connect(token=token(exp=NOW + 60), node=nodes - 1)
        for _ in range(12):  # and counts as nothing
            with pytest.raises(InvalidToken):
                await alice.request(AuthRefresh(bad()))
        await b.workspace().publish(public())
        assert await heard(alice) == [[public()]]
        await b.clock.advance(60 + 24)
        assert await heard(alice) == [[]]
        await b.clock.advance(2)
        assert (await alice.closed()).code == 4004


async def test_a_token_of_before_a_revocation_refreshes_nothing(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        old = token(exp=NOW + 100_000)
        await b.clock.advance(1)
        await b.workspace().revoke("alice")
        await b.clock.advance(1)
        alice = await b.connect(token=token(iat=NOW + 2, exp=NOW + 60), node=nodes - 1)
        with pytest.raises(InvalidToken):
            await alice.request(AuthRefresh(old))
        await b.clock.advance(60 + 25)
        assert (await alice.closed()).code == 4004


async def test_a_shorter_token_shortens_it() -> None:
    async with bench() as b:
        alice = await b.connect(token=token())
        await alice.request(AuthRefresh(token(exp=NOW + 10)))
        await b.clock.advance(10 + 25)
        assert (await alice.closed()).code == 4004


async def test_embedded_it_is_unknown_unless_asked_for() -> None:
    async with testing.bench(partial(JWTAuth, SECRET), OpenWorkspace) as b:
        alice = await b.connect(token=token())
        await alice.send(AuthRefresh(token()))
        assert (await alice.receive_frame())["data"]["code"] == "UNKNOWN_EVENT"


# --- Tokens of the host's own


class Accounts:
    """A host's."""

    def __init__(self, expires_at: float | None = None) -> None:
        self.expires_at = expires_at
        self.asked: list[tuple[str, str]] = []

    async def verify(self, token: str, workspace_id: str) -> Principal | None:
        self.asked.append((token, workspace_id))
        match token.split("-"):
            case ["open", user_id]:
                return Principal(user_id, self.expires_at, NOW)
            case ["barred", _]:
                raise Unauthorized
            case ["broken", _]:
                raise RuntimeError("the database is on fire")
            case _:
                return None


async def test_the_host_says_whose_token_it_is() -> None:
    accounts = Accounts()
    async with testing.bench(TokenAuth(verify=accounts.verify), OpenWorkspace) as b:
        alice = await b.connect(token="open-alice")
        assert alice.hello.user_id == "alice"
        assert accounts.asked == [("open-alice", "w")]
        assert await refused(b, "nobody's") == ("INVALID_TOKEN", 4501)
        assert await refused(b, "barred-bob") == ("UNAUTHORIZED", 4502)
        assert await refused(b, "broken-bob") == ("INTERNAL_ERROR", 1013)
        assert await refused(b, "open-not an id") == ("INVALID_TOKEN", 4501)


async def test_without_a_token_the_host_is_not_asked() -> None:
    accounts = Accounts()
    async with testing.bench(TokenAuth(verify=accounts.verify), OpenWorkspace) as b:
        assert await refused(b, "", query="") == ("INVALID_TOKEN", 4501)
        assert accounts.asked == []


async def test_a_principal_without_an_end_never_ends_and_its_refresh_says_none() -> None:
    plugin = TokenAuth(verify=Accounts().verify, refresh=True)
    async with testing.bench(plugin, OpenWorkspace, settings=PATIENT) as b:
        alice = await b.connect(token="open-alice")
        await alice.request(AuthRefresh("open-alice"))
        assert await heard(alice) == [[AuthRefreshed()]]
        assert alice.frames[1]["data"] == {}
        await b.clock.advance(3_000)
        assert await heard(alice) == [[]]


async def test_the_hosts_tokens_expire_and_are_refreshed_too() -> None:
    accounts = Accounts(NOW + 60)
    async with testing.bench(TokenAuth(verify=accounts.verify, refresh=True, grace=5), OpenWorkspace) as b:
        alice = await b.connect(token="open-alice")
        await b.clock.advance(60)
        for bad in ("open-bob", "barred-alice", "nobody's", "open-alice"):
            with pytest.raises(InvalidToken):
                await alice.request(AuthRefresh(bad))
        with pytest.raises(InternalError):
            await alice.request(AuthRefresh("broken-alice"))
        accounts.expires_at = NOW + 120
        await alice.request(AuthRefresh("open-alice"))
        assert await heard(alice) == [[AuthRefreshed(timestamp(NOW + 120))]]
        await b.clock.advance(66)
        assert (await alice.closed()).code == 4004


def plain(token: str, workspace_id: str) -> Principal | None:
    return None


class Login:
    async def check(self, token: str, workspace_id: str) -> Principal | None:
        return None

    def look(self, token: str, workspace_id: str) -> Principal | None:
        return None

    def __call__(self, token: str, workspace_id: str) -> Awaitable[Principal | None]:
        return self.check(token, workspace_id)


@wraps(Login().check)
def counted(*args: Any) -> Awaitable[Principal | None]:
    return Login().check(*args)


@pytest.mark.parametrize(("verify", "name"), [(plain, "plain"), (Login().look, "Login.look"), (None, "None")])
def test_a_verify_that_cannot_be_awaited_stops_the_start(verify: Any, name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        TokenAuth(verify=verify)
    assert str(refused.value) == (
        f'plugin "token": verify={name} must be an async function, as in "async def verify(token, workspace_id)".'
    )


@pytest.mark.parametrize(
    "verify",
    [Login().check, Login(), counted, partial(Login().check), lambda *args: Login().check(*args)],
    ids=["method", "object", "decorated", "partial", "lambda"],
)
def test_whatever_returns_something_to_await_will_do(verify: Any) -> None:
    assert TokenAuth(verify=verify).verify is verify


def test_the_package_gives_what_it_says_and_nothing_else() -> None:
    for name in jackfield_auth.__all__:
        assert getattr(jackfield_auth, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = jackfield_auth.Nothing  # type: ignore[attr-defined]
