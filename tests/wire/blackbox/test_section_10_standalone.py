"""Section 10, the command: how it starts, how it refuses to, and the tokens that it makes."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from outsider import SECRET, STARTS_WITHIN, Room, command, environment, serving

if TYPE_CHECKING:
    from outsider import Server

pytestmark = pytest.mark.servers

DEFAULTS = {
    "PRESENCE_GRACE": "20",
    "PRESENCE_AWAY_AFTER": "600",
    "PRESENCE_CLIENT_STATUS": "true",
    "NODE_LEASE": "15",
    "TYPING_EXPIRES_AFTER": "6",
    "RATE_LIMIT_EVENTS": "120",
    "RATE_LIMIT_PER": "60",
    "RATE_LIMIT_BURST": "20",
    "CONNECTIONS_PER_USER": "20",
    "CONNECTS_PER_ADDRESS": "20",
    "HEARTBEAT_INTERVAL": "30",
    "HEARTBEAT_TIMEOUT": "75",
    "TOKEN_GRACE": "25",
    "TOKEN_MAX_LIFETIME": "2592000",
    "TOKEN_REFRESH": "true",
    "MAX_EVENT_BYTES": "16384",
    "OUTBOX_EVENTS": "256",
    "OUTBOX_BYTES": "1048576",
    "WRITE_TIMEOUT": "10",
    "HISTORY_EVENTS": "10000",
    "HISTORY_BYTES": "67108864",
    "HISTORY_AGE": "86400",
    "REPLAY_EVENTS": "1000",
    "DRAIN_TIMEOUT": "8",
    "HOOK_TIMEOUT": "5",
    "STRICT_ERROR_CODES": "false",
    "REJECT": "close",
    "ENGINE": "memory://",
    "ALLOWED_ORIGINS": "https://chat.example,https://other.example",
    "TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8",
}
SECONDS = [
    *["PRESENCE_GRACE", "PRESENCE_AWAY_AFTER", "NODE_LEASE", "TYPING_EXPIRES_AFTER", "RATE_LIMIT_PER"],
    *["HEARTBEAT_INTERVAL", "HEARTBEAT_TIMEOUT", "TOKEN_GRACE", "TOKEN_MAX_LIFETIME", "WRITE_TIMEOUT"],
    *["HISTORY_AGE", "DRAIN_TIMEOUT", "HOOK_TIMEOUT"],
]
OPEN = {"ENGINE", "ALLOWED_ORIGINS", "TRUSTED_PROXIES"}  # for which "nonsense" may be a name


def run(*arguments: str, **settings: str | None) -> subprocess.CompletedProcess[str]:
    """A command that is to end by itself."""
    return subprocess.run(
        command(*arguments),
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STARTS_WITHIN,
        check=False,
    )


def refused(**settings: str | None) -> str:
    """What a server that will not start has to say: one line, and nothing where its URL would stand."""
    ended = run("serve", "--port", "0", **settings)
    assert ended.returncode not in {0, -signal.SIGTERM}
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    assert SECRET not in ended.stderr
    return ended.stderr


# How it starts


def test_it_prints_one_line_with_its_url(loop: str) -> None:
    with serving(loop) as server:
        with Room(server) as room:
            room.enter()
        assert server.stdout.read_text() == f"{server.url}\n"
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        assert server.stdout.read_text() == f"{server.url}\n"
        assert server.stderr.read_text()  # the logs


def test_every_name_of_the_table_is_known(loop: str) -> None:
    with serving(loop, **DEFAULTS) as server, Room(server) as room:
        assert room.enter().hello["data"]["heartbeat_interval_ms"] == 30_000


def test_decimals_are_allowed(loop: str) -> None:
    settings = {name: f"{DEFAULTS[name]}.25" for name in SECONDS} | {"TOKEN_MAX_LIFETIME": "86400.25"}
    with serving(loop, **settings) as server, Room(server) as room:
        assert room.enter().hello["data"]["heartbeat_interval_ms"] == 30_250


def test_a_flag_wins_over_the_environment(loop: str) -> None:
    flags = ["--engine", "memory://", "--allowed-origins", "https://flag.example"]
    settings = {"ENGINE": "nonsense://", "ALLOWED_ORIGINS": "https://environment.example"}
    with serving(loop, *flags, **settings) as server, Room(server) as room:
        room.enter(origin="https://flag.example")
        answer = room.refused(f"?token={room.token()}", additional_headers=[("Origin", "https://environment.example")])
        assert answer.status_code == 403


def test_it_serves_every_shipped_plugin(loop: str) -> None:
    with serving(loop) as server, Room(server) as room:
        room.channel()
        alice, bob = room.enter("alice"), room.enter("bob")
        alice.get("presence.updated")
        bob.send({"type": "typing", "channel_id": "general", "is_typing": True})
        alice.get("typing.start")
        room.say("m1")
        alice.get("message.new")
        room.publish("reaction.added", message_id="m1", emoji="x", user_id="bob")
        alice.get("reaction.added")
        room.say("r1", parent_message_id="m1")
        alice.get("message.new")
        alice.get("thread.updated")
        bob.send({"type": "auth.refresh", "token": room.token("bob")})


# How it refuses to


def test_without_a_secret_it_names_the_command_that_makes_one() -> None:
    for secret in None, "":
        said = refused(SECRET=secret)
        assert "JACKFIELD_SECRET" in said
        assert "python" in said or "openssl" in said


def test_a_secret_of_less_than_32_bytes() -> None:
    short = "s" * 31
    said = refused(SECRET=short)
    assert "JACKFIELD_SECRET" in said
    assert short not in said


def test_32_bytes_are_enough(loop: str) -> None:
    with serving(loop, SECRET="ü" * 16):
        pass


BAD = {
    **{name: "nonsense" for name in DEFAULTS if name not in OPEN},
    "ENGINE": "nonsense://x",
    "ALLOWED_ORIGINS": "nonsense",
    "TRUSTED_PROXIES": "nonsense",
}
WORSE = [
    *[(name, "-1") for name in SECONDS],
    *[("TYPING_EXPIRES_AFTER", "nan"), ("TOKEN_GRACE", "nan"), ("HISTORY_AGE", "nan"), ("TOKEN_MAX_LIFETIME", "inf")],
    *[("OUTBOX_EVENTS", "0"), ("MAX_EVENT_BYTES", "-5"), ("MAX_EVENT_BYTES", "1.5"), ("CONNECTIONS_PER_USER", "0")],
    *[("RATE_LIMIT_BURST", "0"), ("RATE_LIMIT_EVENTS", "-1"), ("HEARTBEAT_INTERVAL", "inf"), ("REJECT", "HTTPS")],
    *[("TOKEN_REFRESH", "2"), ("STRICT_ERROR_CODES", "maybe"), ("HISTORY_EVENTS", "1e3x"), ("PRESENCE_GRACE", "5s")],
    *[("TRUSTED_PROXIES", "127.0.0.1,nonsense"), ("ALLOWED_ORIGINS", "https://chat.example/path")],
]
UNKNOWN = ["TYPING_EXPIRE_AFTER", "NONSENSE", "SECRETS", "secret", "API-KEY"]


@pytest.mark.timeout(180)
def test_a_bad_value_stops_it_with_a_line_that_says_which() -> None:
    """A pool: each of them is a whole start, and they have nothing to do with one another."""
    cases = [*BAD.items(), *WORSE]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda case: ended(**{case[0]: case[1]}), cases))
    wrong = [
        (name, value, line)
        for (name, value), (line, code) in zip(cases, said, strict=True)
        if code == 0 or f"JACKFIELD_{name}" not in line or "Traceback" in line or len(line.splitlines()) != 1
    ]
    assert wrong == []


def ended(**settings: str) -> tuple[str, int]:
    try:
        done = run("serve", "--port", "0", **settings)
    except subprocess.TimeoutExpired:
        return "it serves", 0
    return done.stderr, done.returncode


def test_an_unknown_name_stops_it_with_a_line_that_says_which() -> None:
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda name: refused(**{name: "1"}), UNKNOWN))
    for name, line in zip(UNKNOWN, said, strict=True):
        assert f"JACKFIELD_{name}" in line


def test_a_port_that_is_taken(default_server: Server) -> None:
    done = run("serve", "--port", str(default_server.port))
    assert done.returncode != 0
    assert done.stdout == ""
    assert str(default_server.port) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flag_that_is_none() -> None:
    for flags in ["--nonsense"], ["--loop", "nonsense"], ["--port", "nonsense"]:
        done = run("serve", *flags)
        assert done.returncode != 0
        assert done.stdout == ""
        assert "Traceback" not in done.stderr


# Tokens


def claims(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, SECRET, algorithms=["HS256"]))


def test_a_token_for_one_workspace() -> None:
    before = time.time()
    done = run("token", "--user", "alice", "--workspace", "acme")
    after = time.time()
    assert done.returncode == 0, done.stderr
    token = done.stdout.strip()
    assert done.stdout == f"{token}\n"
    found = claims(token)
    assert set(found) == {"sub", "workspaces", "iat", "exp"}
    assert found["sub"] == "alice"
    assert found["workspaces"] == ["acme"]
    assert before - 0.002 <= found["iat"] <= after + 0.002
    assert found["exp"] - found["iat"] == pytest.approx(3600, abs=0.002)


def test_a_token_for_two_workspaces_that_lives_shortly() -> None:
    done = run("token", "--user", "alice", "--workspace", "acme", "--workspace", "beta", "--ttl", "60")
    found = claims(done.stdout.strip())
    assert found["workspaces"] == ["acme", "beta"]
    assert found["exp"] - found["iat"] == pytest.approx(60, abs=0.002)


def test_the_times_of_a_token_have_milliseconds() -> None:
    """Else a token made right behind a revocation would be from before it."""
    found = [claims(run("token", "--user", "alice", "--workspace", "acme").stdout.strip()) for _ in range(3)]
    assert any(each["iat"] != math.floor(each["iat"]) for each in found)
    for each in found:
        for name in "iat", "exp":
            assert round(each[name], 3) == each[name]


def test_the_server_takes_a_token_of_the_command(room: Room) -> None:
    done = run("token", "--user", "alice", "--workspace", room.id)
    assert room.connect(f"?token={done.stdout.strip()}").next()["type"] == "hello"
    room.server.api("DELETE", f"/api/workspaces/{room.id}/users/alice/connections")
    assert room.connect(f"?token={done.stdout.strip()}").end()[1] == 4503
    again = run("token", "--user", "alice", "--workspace", room.id)
    assert room.connect(f"?token={again.stdout.strip()}").next()["type"] == "hello"


def test_without_a_secret_there_is_no_token() -> None:
    done = run("token", "--user", "alice", "--workspace", "acme", SECRET=None)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "JACKFIELD_SECRET" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--user", "alice"],
        ["--workspace", "acme"],
        ["--user", "al ice", "--workspace", "acme"],
        ["--user", "alice", "--workspace", "a b"],
        ["--user", "", "--workspace", "acme"],
        ["--user", "alice", "--workspace", "acme", "--ttl", "nonsense"],
        ["--user", "alice", "--workspace", "acme", "--ttl", "-5"],
        ["--user", "alice", "--workspace", "acme", "--ttl", "99999999"],
    ],
)
def test_a_token_that_no_server_would_take_is_not_made(arguments: list[str]) -> None:
    done = run("token", *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
