"""`jackfield serve` on both of its servers, as whoever runs it sees it."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from jackfield import ConfigurationError
from jackfield.cli import main
from jackfield.cli._servers import backend, server
from jackfield.serving import listen
from wireclient import Client, connect

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a secret that only the tests of the command line know"
LOOPS = ["asyncio", "trio"]
PATIENCE = 20.0


def token(user: str = "alice") -> str:
    now = int(time.time())
    claims = {"sub": user, "workspaces": ["acme"], "iat": now, "exp": now + 600}
    return jwt.encode(claims, SECRET, algorithm="HS256")


class Served:
    """A server that has printed where it listens."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.line = process.stdout.readline()
        self.url = self.line.strip()
        self.clients = ExitStack()

    def enter(self, path: str = "/ws/acme", **options: Any) -> Client:
        client = connect(f"{self.url.replace('http', 'ws', 1)}{path}", **options)
        self.clients.callback(client.abort)
        return client

    def alice(self) -> Client:
        """Somebody who is in."""
        client = self.enter(headers=[("Authorization", f"Bearer {token()}")])
        client.expect("hello")
        return client

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str, str]:
        """Exit code, and what else it printed on either side."""
        self.process.send_signal(signum)
        out, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, said


@contextmanager
def serving(*arguments: str, **environ: str) -> Iterator[Served]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JACKFIELD_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "jackfield.cli", "serve", "--port=0", *arguments],
        env={**inherited, "JACKFIELD_SECRET": SECRET, **{f"JACKFIELD_{name}": text for name, text in environ.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        served = Served(process)
        with served.clients:
            yield served
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()


@pytest.mark.servers
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", LOOPS)
def test_one_line_and_a_clean_end_with_open_connections(loop: str, signum: signal.Signals) -> None:
    with serving(f"--loop={loop}") as served:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", served.line)
        alice = served.alice()
        began = time.monotonic()
        code, out, said = served.end(signum)
        assert code == 0
        assert time.monotonic() - began < 3
        _, closed, reason = alice.until_closed()
        assert closed == 4001
        assert re.fullmatch(r"retry_after_ms=\d+", reason)
        assert out == ""
        assert "Traceback" not in said
        assert [line.split(" ", 2)[2] for line in said.splitlines()] == [
            f"INFO jackfield: listening on {served.url}",
            f"INFO jackfield: {signum.name}: ending; a second one kills",
        ]


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_no_token_is_logged_at_the_most_talkative(loop: str) -> None:
    canary = token("canary")
    with serving(f"--loop={loop}", "--log-level=debug") as served:
        first = served.enter(headers=[("Authorization", f"Bearer {canary}")])
        first.expect("hello")
        first.send_json({"type": "auth.refresh", "token": canary})
        first.expect("auth.refreshed")
        first.send_json({"type": "auth.refresh", "token": f"{canary}x"})
        first.expect("error")
        served.enter(subprotocols=["jackfield.v1", f"bearer.{canary}"]).expect("hello")
        for path in f"/ws/acme?token={canary}x", f"/ws/acme?x=1&token={canary}x&y", f"/ws/beta?token={canary}":
            served.enter(path).until_closed()
            assert httpx.get(f"{served.url}{path}", trust_env=False).status_code == 404
        assert served.enter(f"/ws/acme?token={canary}", origin="http://elsewhere.example").handshake_status == 403
        code, out, said = served.end()
        assert code == 0
        for part in canary, canary.rpartition(".")[2], SECRET:
            assert part not in said + out
        assert "Traceback" not in said
        assert "ERROR" not in said


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_a_flag_wins_over_the_environment(loop: str) -> None:
    arguments = ("--max-event-bytes=2000", "--without=threads", "--presence-client-status", "false")
    with serving(f"--loop={loop}", *arguments, MAX_EVENT_BYTES="1000", HEARTBEAT_INTERVAL="7") as served:
        client = served.enter(headers=[("Authorization", f"Bearer {token()}")])
        hello = client.expect("hello")["data"]
        assert hello["limits"] == {"max_event_bytes": 2000}
        assert hello["heartbeat_interval_ms"] == 7000
        client.send_json({"type": "presence", "status": "away"})
        assert client.expect("error")["data"]["code"] == "UNKNOWN_EVENT"


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_forwarding_headers_are_believed_of_nobody(loop: str) -> None:
    with serving(f"--loop={loop}", CONNECTS_PER_ADDRESS="1") as served:
        for address, status in ("192.0.2.1", 101), ("192.0.2.2", 429):
            headers = [("Authorization", f"Bearer {token()}"), ("X-Forwarded-For", address)]
            assert served.enter(headers=headers).handshake_status == status


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_and_of_proxies_that_are_trusted(loop: str) -> None:
    with serving(f"--loop={loop}", CONNECTS_PER_ADDRESS="1", TRUSTED_PROXIES="127.0.0.0/8") as served:
        for address, status in ("192.0.2.1", 101), ("192.0.2.2", 101), ("192.0.2.1", 429):
            headers = [("Authorization", f"Bearer {token()}"), ("X-Forwarded-For", address)]
            assert served.enter(headers=headers).handshake_status == status


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_does_not_read_delays_no_end(loop: str) -> None:
    """What a kernel holds for it is bounded, and so is how long it is waited for."""
    with serving(f"--loop={loop}", "--drain-timeout=2", API_KEY="key") as served:
        stalled = served.enter(headers=[("Authorization", f"Bearer {token()}")], recv_buffer=4096)
        stalled.expect("hello")
        http = httpx.Client(base_url=served.url, headers={"Authorization": "Bearer key"}, trust_env=False)
        data = {"channel_id": "c1", "user_id": "bob", "content": "x" * 8000, "created_at": "2024-01-01T12:00:00.000Z"}
        with http:
            for batch in range(10):
                events = [
                    {"type": "message.new", "data": {"id": f"m{batch}-{number}", **data}, "to": "everyone"}
                    for number in range(20)
                ]
                assert http.post("/api/workspaces/acme/events", json={"events": events}).status_code == 202
        began = time.monotonic()
        assert served.end()[0] == 0
        assert time.monotonic() - began < 6


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_on_a_unix_socket(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(f"--loop={loop}", f"--host=unix:{path}") as served:
        assert served.line == f"unix:{path}\n"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), trust_env=False) as http:
            assert http.get("http://here/health/ready").status_code == 200
        assert served.end()[0] == 0


# --- In this process


@contextmanager
def ended_by(question: Callable[[], bool]) -> Iterator[None]:
    """SIGTERM to this very process once the question is answered with yes; only while somebody listens to it."""

    def watch() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if question():
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.servers
@pytest.mark.parametrize("loop", LOOPS)
def test_from_start_to_end(loop: str, free_port: int, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port}"

    def answers() -> bool:
        try:
            ready = httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False
        refused = connect(f"ws://127.0.0.1:{free_port}/ws/acme", origin="http://elsewhere.example")
        bob = connect(f"ws://127.0.0.1:{free_port}/ws/acme?token={token('bob')}")
        refused.abort()
        bob.abort()
        return ready and (refused.handshake_status, bob.handshake_status) == (403, 101)

    with ended_by(answers):
        assert main(["serve", f"--port={free_port}", f"--loop={loop}"]) == 0
    assert capsys.readouterr().out == f"{url}\n"


def test_the_port_is_taken(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", f"--port={port}"]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert said == f"jackfield: cannot listen on 127.0.0.1:{port}: Address already in use.\n"


def test_a_host_that_is_none(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host=no host", "--port=0"]) == 1
    assert capsys.readouterr().err.startswith("jackfield: cannot listen on no host:0: ")


@pytest.mark.parametrize("loop", LOOPS)
def test_what_shows_only_at_the_start_is_one_line_too(
    loop: str, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--port=0", f"--loop={loop}", "--token-max-lifetime=9e9"]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in said.splitlines() if line.startswith("jackfield: ")]
    assert line.startswith('jackfield: plugin "token": max_lifetime is 9e+09 s, but a revocation is remembered for ')
    assert "Traceback" not in said


def test_a_fault_of_ours_is_not_hidden(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("jackfield.cli._serve.server", lambda loop: broken)
    with pytest.raises(ZeroDivisionError):
        main(["serve", "--port=0"])


@pytest.mark.parametrize("flag", ["--secret", "--api-key"])
def test_a_secret_is_no_flag(flag: str, secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", flag, "hush"]) == 2
    said = capsys.readouterr().err
    variable = "JACKFIELD_SECRET" if flag == "--secret" else "JACKFIELD_API_KEY"
    assert said.splitlines()[-1] == (
        "jackfield serve: error: a command line can be read by everybody on the machine; "
        f"set {variable} in the environment"
    )
    assert "hush" not in said


def test_the_words_of_a_bad_flag_are_those_of_the_variable(secret: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--presence-grace", "soon"]) == 1
    assert capsys.readouterr().err == (
        'jackfield: JACKFIELD_PRESENCE_GRACE="soon" is not a number of seconds (jackfield_presence.Presence.grace).\n'
    )


def test_help_names_every_setting_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for line in (
        "--presence-grace SECONDS [20]",
        "--token-refresh true|false [true]",
        "--outbox-bytes N [1048576]",
        "--reject close|http [close]",
        "--allowed-origins A,B [none]",
        "--token-audience TEXT [none]",
        "--rate-limit-events N [120]",
        "--engine URL what keeps the state [memory://]",
    ):
        assert line in said
    assert "--secret" not in said
    assert "--api-key" not in said


def test_help_is_given_also_where_a_plugin_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--plugin", "nowhere", "--help"]) == 0
    assert "--plugin NAME" in capsys.readouterr().out
    assert main(["serve", "--plugin", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith('jackfield: no plugin is called "nowhere". There are: http, ')


@pytest.mark.parametrize(
    ("loop", "module", "said"),
    [
        ("asyncio", "uvicorn", '--loop asyncio needs uvicorn: pip install "jackfield[serve]" ('),
        ("asyncio", "websockets", '--loop asyncio needs uvicorn: pip install "jackfield[serve]" ('),
        ("trio", "anycorn", '--loop trio needs anycorn: pip install "jackfield[trio]" ('),
        ("trio", "trio", '--loop trio needs anycorn: pip install "jackfield[trio]" ('),
    ],
)
def test_what_is_not_installed(
    loop: str, module: str, said: str, secret: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["serve", f"--loop={loop}"]) == 1
    assert capsys.readouterr().err.startswith(f"jackfield: {said}")


def test_without_uvloop_it_is_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert backend("asyncio") == {"backend": "asyncio"}
    assert backend("trio") == {"backend": "trio"}
    assert callable(server("asyncio"))


def test_a_listener_on_ipv6_says_so() -> None:
    from jackfield.cli._serve import _url

    try:
        listener = listen("::1", 0)
    except ConfigurationError:
        pytest.skip("no IPv6 here")
    with listener:
        assert re.fullmatch(r"http://\[::1\]:\d+", _url(listener))


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_connections_inherit_an_end_for_who_does_not_read() -> None:
    with listen("127.0.0.1", 0, write_timeout=3) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000
        client = socket.create_connection(listener.getsockname())
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with client, accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 3000


def test_logs_go_to_standard_error_without_tokens(secret: str, tmp_path: Path) -> None:
    from jackfield.cli._serve import _Formatter

    record = logging.LogRecord("x", logging.INFO, "", 0, 'token=%s "%s"', ("hush", "Bearer hush"), None)
    assert _Formatter("%(message)s").format(record) == 'token=… "Bearer …"'
