"""A client over real sockets: what only those do. The shared scenarios in tests/clients play the rest."""

from __future__ import annotations

import json
import socket
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from hashlib import sha1
from threading import Event, Thread
from typing import Any

import anyio
import httpx
import pytest

from jackfield.client import Client, Closed, Disconnected, Unknown, connect
from jackfield.events import Hello, MessageNew
from servers import Workspace, _free_port, running
from tests.client.script import HELLO, frame

pytestmark = pytest.mark.servers

WITHIN = 20.0
MESSAGE = '{"id":"m1","channel_id":"c1","user_id":"bob","content":"hello","created_at":"2024-01-01T12:00:00.000Z"}'
Answer = Callable[[socket.socket, bytes], None]


def status(line: str, *headers: str) -> Answer:
    def answer(connection: socket.socket, request: bytes) -> None:
        connection.sendall("\r\n".join([f"HTTP/1.1 {line}", *headers, "content-length: 0", "", ""]).encode())

    return answer


def accept(connection: socket.socket, request: bytes) -> None:
    """RFC 6455, 4.2.2."""
    lines = request.decode().split("\r\n")
    key = next(line.split(": ")[1] for line in lines if line.lower().startswith("sec-websocket-key"))
    proof = b64encode(sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    head = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade"]
    connection.sendall("\r\n".join([*head, f"sec-websocket-accept: {proof}", "", ""]).encode())


def text(payload: str, first: int = 0x81) -> bytes:
    body = payload.encode()
    if len(body) < 126:
        return bytes([first, len(body)]) + body
    if len(body) < 1 << 16:
        return bytes([first, 126]) + len(body).to_bytes(2, "big") + body
    return bytes([first, 127]) + len(body).to_bytes(8, "big") + body


class Raw:
    """A server that does what a test says, one connection after the other. The last answer is for all that follow."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self.listener.getsockname()[1]
        self.thread = Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    request = b""
                    while not request.endswith(b"\r\n\r\n"):
                        request += connection.recv(4096)
                    self.requests.append(request)
                    answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                    with suppress(OSError):
                        answer(connection, request)

    def end(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(WITHIN)
        assert not self.thread.is_alive()


@contextmanager
def raw(*answers: Answer, port: int = 0) -> Iterator[Raw]:
    server = Raw(*answers, port=port)
    try:
        yield server
    finally:
        server.end()


@asynccontextmanager
async def connected(port: int, path: str = "/ws/w", **options: Any) -> AsyncGenerator[Client, None]:
    options = {"token": "t", "backoff_base": 0.05, "backoff_cap": 0.2, **options}
    async with httpx.AsyncClient(trust_env=False) as http:
        with anyio.fail_after(WITHIN):
            async with connect(f"ws://127.0.0.1:{port}{path}", http=http, **options) as client:
                yield client


async def until(client: Client, kind: type[Any]) -> Any:
    async for value in client:
        if isinstance(value, kind):
            return value
    raise AssertionError(f"no {kind.__name__}")


async def test_nobody_listens_and_then_somebody_does() -> None:
    port = _free_port()

    def answer(connection: socket.socket, request: bytes) -> None:
        accept(connection, request)
        connection.sendall(text(frame("hello", HELLO)))
        connection.recv(4096)

    with ExitStack() as later:
        async with connected(port) as client:
            assert (await until(client, Disconnected)).code == 1006
            server = later.enter_context(raw(answer, port=port))
            assert (await until(client, Hello)).user_id == "alice"
            assert b"GET /ws/w?resume= HTTP/1.1" in server.requests[0]
            assert b"authorization: bearer t\r\n" in server.requests[0].lower()


@pytest.mark.parametrize("answer", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
async def test_refused_for_good(answer: str) -> None:
    with raw(status(answer)) as server:
        async with connected(server.port) as client:
            with pytest.raises(Closed) as closed:
                await anext(client)
        assert closed.value.status == int(answer[:3])
        assert len(server.requests) == 1


@pytest.mark.parametrize("answer", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_come_later(answer: str) -> None:
    with raw(status(answer, "retry-after: 1"), status("403 Forbidden")) as server:
        began = time.monotonic()
        async with connected(server.port) as client:
            gone = await until(client, Disconnected)
            assert 1 <= gone.retry_in <= 1.05
            with pytest.raises(Closed):
                await until(client, Hello)
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"", b"HTTP/1.1 101 Sure\r\n\r\n\xff\xff\xff"])
async def test_what_is_no_server_of_ours_is_tried_again(nonsense: bytes) -> None:
    with raw(lambda connection, _: connection.sendall(nonsense), status("403 Forbidden")) as server:
        async with connected(server.port) as client:
            await until(client, Disconnected)
            with pytest.raises(Closed):
                await until(client, Hello)


async def test_large_frames_in_pieces() -> None:
    state = {"presence": [{"user_id": f"user-{number}", "status": "online"} for number in range(5000)]}
    hello = frame("hello", {**HELLO, "state": state})
    assert len(hello) > 3 * 65_536

    def answer(connection: socket.socket, request: bytes) -> None:
        accept(connection, request)
        connection.sendall(text(hello))
        news = frame("shop.sold", {"what": "x" * 100_000})
        connection.sendall(text(news[:70_000], 0x01) + b"\x89\x00" + text(news[70_000:], 0x80))
        connection.sendall(b"\x82\x01x" + text(frame("shop.sold", {"what": "last"})))
        connection.recv(4096)

    with raw(answer) as server:
        async with connected(server.port) as client:
            assert (await until(client, Hello)).state == state
            assert (await until(client, Unknown)).data == {"what": "x" * 100_000}
            assert (await until(client, Unknown)).data == {"what": "last"}


async def test_frames_that_break_the_protocol_break_the_line() -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        accept(connection, request)
        connection.sendall(text(frame("hello", HELLO)) + b"\xf1\x01x")
        connection.recv(4096)

    with raw(answer, status("403 Forbidden")) as server:
        async with connected(server.port) as client:
            await until(client, Hello)
            assert (await until(client, Disconnected)).code == 1002


@pytest.mark.parametrize("leaves", [True, False])
async def test_a_server_that_is_frozen_with_full_buffers_holds_nobody(leaves: bool) -> None:
    """Neither who leaves, nor who waits for a sign of life."""
    frozen = Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        accept(connection, request)
        connection.sendall(
            text(frame("hello", {**HELLO, "heartbeat_interval_ms": 1000, "limits": {"max_event_bytes": 2_000_000}}))
        )
        frozen.wait(WITHIN)

    with raw(answer, status("403 Forbidden")) as server, ExitStack() as thawed:
        thawed.callback(frozen.set)
        async with connected(server.port, patience=0.5) as client, anyio.create_task_group() as tasks:
            await until(client, Hello)

            async def ask() -> None:
                with suppress(Closed):
                    await client.request({"type": "x", "what": "x" * 1_000_000})

            for _ in range(16):
                tasks.start_soon(ask)
            began = time.monotonic()
            if leaves:
                client.close()
            else:
                assert (await until(client, Disconnected)).reason == "silent"
                frozen.set()
                with pytest.raises(Closed):
                    await until(client, Hello)
        assert time.monotonic() - began < 10


async def test_leaving_says_1000() -> None:
    said = bytearray()
    heard = Event()

    def answer(connection: socket.socket, request: bytes) -> None:
        accept(connection, request)
        connection.sendall(text(frame("hello", HELLO)))
        while piece := connection.recv(4096):
            said.extend(piece)
        heard.set()

    with raw(answer) as server:
        async with connected(server.port) as client:
            await until(client, Hello)
        assert heard.wait(WITHIN)
        first, length, *mask = said[:6]
        assert (first, length & 0x7F) == (0x88, 2)
        assert bytes(byte ^ mask[n] for n, byte in enumerate(said[6:8])) == (1000).to_bytes(2, "big")


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
async def test_a_real_server(loop: str) -> None:
    with running(f"serve-{loop}") as server, Workspace(server) as workspace:
        token = workspace.token("alice")
        async with connected(server.port, f"/ws/{workspace.id}", token=token) as client:
            hello = await until(client, Hello)
            assert hello.state["presence"] == [{"user_id": "alice", "status": "online"}]
            await client.request({"type": "presence", "status": "away"})
            data = json.loads(MESSAGE)
            workspace.publish({"type": "message.new", "to": "everyone", "data": data})
            assert (await until(client, MessageNew)).id == "m1"
            kept = client.cursor
        workspace.publish({"type": "message.new", "to": "everyone", "data": {**data, "id": "m2"}})
        async with connected(server.port, f"/ws/{workspace.id}", token=token, cursor=kept) as client:
            assert (await until(client, Hello)).recovered
            assert (await until(client, MessageNew)).id == "m2"
        async with connected(server.port, f"/ws/{workspace.id}", token="none") as client:
            with pytest.raises(Closed) as closed:
                await until(client, Hello)
            assert closed.value.code == 4501
