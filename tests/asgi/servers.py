"""Real servers as child processes, and a workspace on one of them."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import jwt
import psutil

from wireclient import Client, connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

HERE = Path(__file__).parent
SECRET = "a secret that only the tests of real servers know"
API_KEY = "the-key-of-the-tests-of-real-servers"
STARTS_WITHIN = 20.0  # seconds; a cold import on a busy machine
STOPS_WITHIN = 10.0

# As the recipes for production have them: no deflate, messages up to 64 KiB, a bound on the shutdown.
# anycorn keeps its worker process: without one its trio loop has no ear for SIGTERM, and dies of it.
UVICORN = (
    "uvicorn --host=127.0.0.1 --port={port} --ws=websockets-sansio --ws-max-size=65536"
    " --ws-per-message-deflate=false --timeout-graceful-shutdown=8 application:application"
)
COMMANDS = {
    "uvicorn-asyncio": f"{UVICORN} --loop=asyncio",
    "uvicorn-uvloop": f"{UVICORN} --loop=uvloop",
    "hypercorn-asyncio": "hypercorn --bind=127.0.0.1:{port} application:application",
    "anycorn-trio": "anycorn --bind=127.0.0.1:{port} --worker-class=trio application:application",
    "granian": "granian --host=127.0.0.1 --port={port} --interface=asgi application:application",
    "daphne": "daphne --bind=127.0.0.1 --port={port} application:without_lifespan",
    "serve-asyncio": "jackfield.cli serve --host=127.0.0.1 --port=0 --loop=asyncio",
    "serve-trio": "jackfield.cli serve --host=127.0.0.1 --port=0 --loop=trio",
}
# Others that are started in one test only: one process, which hears the signal itself.
ALONE = {
    "uvicorn-asyncio-2": f"{UVICORN} --loop=asyncio --timeout-graceful-shutdown=2",
    "uvicorn-uvloop-2": f"{UVICORN} --loop=uvloop --timeout-graceful-shutdown=2",
    "uvicorn-listen": "drained uvicorn {port}",
    "anycorn-alone": "drained anycorn {port}",
    "hypercorn-alone": "hypercorn --bind=127.0.0.1:{port} --workers=0 --graceful-timeout=2 application:application",
}

T = TypeVar("T")


def until(question: Callable[[], T], timeout: float, what: str, pause: float = 0.02) -> T:
    """Ask again until the answer is true; there is nothing to wait on in another process."""
    deadline = time.monotonic() + timeout
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(pause)
    return answer


class Server:
    """A running child process; `port` is where it listens."""

    def __init__(self, name: str, directory: Path, settings: Mapping[str, str]) -> None:
        self.name = name
        self.stdout, self.stderr = directory / "stdout", directory / "stderr"
        self.port = 0 if name.startswith("serve-") else _free_port()
        command = (COMMANDS | ALONE)[name].format(port=self.port).split()
        with self.stdout.open("wb") as stdout, self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=HERE,
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self._news = self.stdout.open(errors="replace"), self.stderr.open(errors="replace")
        self.workers: list[psutil.Process] = []
        self.http = httpx.Client(headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self) -> str:
        """All that it has printed so far."""
        return self.stdout.read_text(errors="replace") + self.stderr.read_text(errors="replace")

    def news(self) -> str:
        """What it has printed since this was last asked."""
        return "".join(stream.read() for stream in self._news)

    def started(self) -> bool:
        assert self.process.poll() is None, f"{self.name} ended with {self.process.returncode}"
        if not self.port:
            if (line := re.search(r"://127\.0\.0\.1:(\d+)", self.stdout.read_text())) is None:
                return False
            self.port = int(line[1])
        try:
            return self.http.get(f"{self.url}/health/live").status_code == 200
        except httpx.TransportError:
            return False

    def memory(self) -> int:
        """Resident bytes, its workers' too."""
        return sum(process.memory_info().rss for process in [psutil.Process(self.process.pid), *self.workers])

    def stop(self) -> float:
        """SIGTERM; how many seconds it took to go."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still lives {STOPS_WITHIN} s after SIGTERM") from None
        return time.monotonic() - began

    def end(self) -> None:
        """Whatever happened, neither it nor a worker of it stays."""
        self.http.close()
        for stream in self._news:
            stream.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOPS_WITHIN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for worker in self.workers:  # psutil knows a process by pid and birth: a pid used again is not hit
            with suppress(psutil.NoSuchProcess):
                worker.kill()


@contextmanager
def running(name: str, **settings: str) -> Iterator[Server]:
    """A server of this name, listening; `settings` are variables without their JACKFIELD_."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(name, Path(directory), settings)
        try:
            until(server.started, STARTS_WITHIN, f"{name} answers")
            server.workers = psutil.Process(server.process.pid).children(recursive=True)
            yield server
        except BaseException as error:
            error.add_note(f"--- {name} printed ---\n{server.log()}")
            raise
        finally:
            server.end()


class Workspace:
    """A workspace that no other test uses, and the clients in it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.id = f"ws-{uuid.uuid4().hex[:12]}"
        self._clients = ExitStack()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.close()

    def connect(self, token: str | None, path: str | None = None, **options: Any) -> Client:
        """Shake hands, whatever comes of it."""
        query = "" if token is None else f"?token={token}"
        url = f"ws://127.0.0.1:{self.server.port}/ws/{self.id if path is None else path}{query}"
        client = connect(url, **options)
        self._clients.callback(client.abort)
        return client

    def enter(self, user: str, **options: Any) -> Client:
        """Connect as this user, and read as far as `hello`."""
        client = self.connect(self.token(user), **options)
        assert client.expect("hello")["data"]["user_id"] == user
        return client

    def token(self, user: str, **claims: Any) -> str:
        now = int(time.time())
        return jwt.encode(
            {"sub": user, "workspaces": [self.id], "iat": now, "exp": now + 600, **claims},
            SECRET,
            algorithm="HS256",
        )

    def publish(self, *events: Mapping[str, Any]) -> list[dict[str, Any]]:
        """By HTTP, as one batch; the receipts."""
        answer = self.server.http.post(f"{self.server.url}/api/workspaces/{self.id}/events", json={"events": events})
        assert answer.status_code == 202, (answer.status_code, answer.text)
        receipts: list[dict[str, Any]] = answer.json()["events"]
        return receipts

    def presence(self) -> dict[str, str]:
        """Who is here, asked by HTTP."""
        answer = self.server.http.get(f"{self.server.url}/api/workspaces/{self.id}/presence")
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return {user["user_id"]: user["status"] for user in answer.json()["users"]}


def _free_port() -> int:
    """Below where kernels take the ports of outgoing connections, so nobody is given it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Of a server with these settings, and none of whoever runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JACKFIELD_")}
    chosen = {
        "SECRET": SECRET,
        "API_KEY": API_KEY,
        "PRESENCE_GRACE": "0.2",
        "CONNECTS_PER_ADDRESS": "1000",  # all these clients are one address
        **settings,
    }
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    return {
        **inherited,
        **{f"JACKFIELD_{name}": value for name, value in chosen.items()},
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }
