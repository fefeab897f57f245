"""What a stranger has: the address of a server, its two secrets, and the page that says how it speaks.

Nothing here knows the code under test. Frames are kept as they came, byte for byte.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import jwt
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

import wireclient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wireclient import Client

SECRET = "forty bytes of a secret that nobody shares"
API_KEY = "the-key-of-a-stranger"
PATIENCE = 5.0  # seconds any wait may take unless its caller says otherwise
STARTS_WITHIN = 20.0  # a cold import on a busy machine
MARKER = "nobody-but-a-marker"  # the user of the messages that only say "all before this has come"
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
ENVELOPE = ["type", "data", "workspace_id", "timestamp"]
SOON = "2024-01-01T12:00:00.000Z"

Frame = dict[str, Any]
T = TypeVar("T")


def until(question: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """Ask again until the answer is true; there is nothing to wait on in another process."""
    deadline = time.monotonic() + timeout
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.01)
    return answer


def timeless(raw: str) -> str:
    """A frame without the one thing in which two equal ones differ."""
    return TIMESTAMP.sub("<timestamp>", raw)


def environment(settings: Mapping[str, str | None]) -> dict[str, str]:
    """Ours without any JACKFIELD_*, and these; None leaves one out that is there by default."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JACKFIELD_")}
    chosen = {"SECRET": SECRET, "API_KEY": API_KEY, "CONNECTS_PER_ADDRESS": "100000", **settings}
    given = {f"JACKFIELD_{name}": value for name, value in chosen.items() if value is not None}
    return {**inherited, **given, "PYTHONUNBUFFERED": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "jackfield.cli", *arguments]


class Server:
    """A running `jackfield serve`."""

    def __init__(self, loop: str, directory: Path, settings: Mapping[str, str | None], flags: Sequence[str]) -> None:
        self.loop = loop
        self.stdout, self.stderr = directory / "stdout", directory / "stderr"
        with self.stdout.open("wb") as stdout, self.stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                command("serve", "--host", "127.0.0.1", "--port", "0", "--loop", loop, *flags),
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        # Servers close an idle connection after five seconds, which is httpx's own bound: a request met the closing.
        self.http = httpx.Client(timeout=10, trust_env=False, limits=httpx.Limits(keepalive_expiry=1))
        self.url = ""
        self.tokens: list[str] = []  # every one that a test has shown to this server

    def listening(self) -> bool:
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log()}"
        if (line := re.match(r"(http://127\.0\.0\.1:\d+)\S*\n", self.stdout.read_text())) is None:
            return False
        self.url = line[1]
        return True

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def log(self) -> str:
        return self.stdout.read_text(errors="replace") + self.stderr.read_text(errors="replace")

    def api(self, method: str, path: str, key: str | None = API_KEY, **options: Any) -> httpx.Response:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        headers |= options.pop("headers", {})
        return self.http.request(method, f"{self.url}{path}", headers=headers, **options)

    def end(self) -> None:
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def serving(loop: str, *flags: str, **settings: str | None) -> Iterator[Server]:
    """A server that listens; `settings` are variables without their JACKFIELD_."""
    with tempfile.TemporaryDirectory() as directory:
        server = Server(loop, Path(directory), settings, flags)
        try:
            until(server.listening, "the line with its URL", STARTS_WITHIN)
            yield server
        finally:
            server.end()


class Peer:
    """One connection and all that it was sent."""

    def __init__(self, url: str, **options: Any) -> None:
        quiet = {"compression": None, "ping_interval": None, "close_timeout": 2, "proxy": None}
        endless = {"max_size": None, "max_queue": None}  # it reads whether or not somebody waits
        self._door = connect(url, **{**quiet, **endless, **options})
        self._socket = self._door.__enter__()  # which is how it wants to be entered
        self.subprotocol = self._socket.subprotocol
        self.raws: list[str] = []
        self.hello: Frame = {}

    def send(self, event: object) -> None:
        """An object as JSON; text and bytes as they are; an iterator of text as fragments."""
        plain = isinstance(event, str | bytes) or hasattr(event, "__next__")
        with suppress(ConnectionClosed):  # how it ended, `end` says
            self._socket.send(event if plain else json.dumps(event))

    def next(self, timeout: float = PATIENCE) -> Frame:
        """The next frame, whatever it is; markers that somebody else waited for are passed over."""
        deadline = time.monotonic() + timeout
        while True:
            raw = self._socket.recv(max(0.0, deadline - time.monotonic()))
            assert isinstance(raw, str), "a server sends text"
            self.raws.append(raw)
            frame: Frame = json.loads(raw)
            if not is_marker(frame):
                return frame

    def get(self, type: str, timeout: float = PATIENCE) -> Frame:
        """The next frame, which has this type; who comes and goes is of interest only to those who ask."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                frame = self.next(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise AssertionError(f"no {type} within {timeout} s; before it: {self.raws[-5:]}") from None
            except ConnectionClosed as end:
                raise AssertionError(f"closed {end.rcvd} instead of {type}; before it: {self.raws[-5:]}") from None
            if frame["type"] == type:
                return frame
            assert frame["type"] == "presence.updated", f"{frame} instead of {type}"

    def error(self, code: str, timeout: float = PATIENCE) -> Frame:
        """The data of the next frame, an `error` of this code."""
        frame = self.get("error", timeout)
        assert list(frame) == ["type", "data", "timestamp"]
        assert TIMESTAMP.fullmatch(frame["timestamp"])
        data: Frame = frame["data"]
        assert data["code"] == code, frame
        return data

    def ask(self, event: Mapping[str, Any]) -> Frame:
        """Send it with a ref; the ack or the error, whatever else came before it."""
        ref = uuid.uuid4().hex
        self.send({**event, "ref": ref})
        while True:
            frame = self.next()
            if frame["type"] in {"ack", "error"}:
                assert frame["data"]["ref"] == ref, frame
                return frame

    def alive(self) -> None:
        """The connection stays: the very next answer is that of a ping."""
        self.send({"type": "ping"})
        self.get("pong")
        assert self.raws[-1] == '{"type":"pong"}'

    def drain(self, seconds: float) -> list[Frame]:
        """All that comes within this time, for what must not come."""
        deadline = time.monotonic() + seconds
        frames = []
        with suppress(TimeoutError, ConnectionClosed):
            while True:
                frames.append(self.next(max(0.0, deadline - time.monotonic())))
        return frames

    def end(self, timeout: float = PATIENCE) -> tuple[list[Frame], int, str]:
        """What still comes until the server closes, the code and the reason."""
        frames: list[Frame] = []
        deadline = time.monotonic() + timeout
        while True:
            try:
                frames.append(self.next(max(0.0, deadline - time.monotonic())))
            except TimeoutError:
                raise AssertionError(f"still open after {timeout} s; there came {frames}") from None
            except ConnectionClosed:
                break
        code, reason = self._socket.close_code, self._socket.close_reason or ""
        assert code is not None
        assert len(reason.encode()) <= 123
        return frames, code, reason

    @property
    def closed(self) -> bool:
        return self._socket.close_code is not None

    def nudge(self) -> None:
        """A ping of the protocol, which is no event."""
        with suppress(ConnectionClosed):
            self._socket.ping()

    def close(self) -> None:
        self._door.__exit__(None, None, None)

    def cut(self) -> None:
        """Go without a word."""
        self._socket.socket.shutdown(socket.SHUT_RDWR)


class Pest:
    """Somebody who sends four events a second where two are allowed, for as long as he is let, in a thread: a minute
    that others use."""

    def __init__(self, server: Server) -> None:
        self._room = Room(server)
        self._stop = threading.Event()
        self._closed: tuple[list[Frame], int, str] | None = None
        self._began = self._ended = time.monotonic()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def outcome(self, timeout: float = 90.0) -> tuple[tuple[list[Frame], int, str] | None, float]:
        """How he ended, and after how many seconds."""
        self._thread.join(timeout)
        return self._closed, self._ended - self._began

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._room.__exit__()

    def _run(self) -> None:
        self._room.channel()
        peer = self._room.enter("pest")
        self._began = time.monotonic()
        for _ in range(25):
            peer.send({"type": "typing", "channel_id": "general", "is_typing": True})
        while not peer.closed and not self._stop.wait(0.25):
            peer.send({"type": "typing", "channel_id": "general", "is_typing": True})
        self._ended = time.monotonic()
        if peer.closed:
            self._closed = peer.end()


def is_marker(frame: Frame) -> bool:
    return frame["type"] == "message.new" and frame["data"].get("user_id") == MARKER


class Room:
    """A workspace that no other test uses, and the peers in it."""

    _numbers = itertools.count()

    def __init__(self, server: Server) -> None:
        self.server = server
        self.id = f"room-{uuid.uuid4().hex[:12]}"
        self._peers = ExitStack()

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self._peers.close()

    def token(self, user: str = "alice", *, key: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
        """A claim that is None is left out."""
        now = time.time()
        whole = {"sub": user, "workspaces": [self.id], "iat": now, "exp": now + 600, **claims}
        token = jwt.encode({name: value for name, value in whole.items() if value is not None}, key, algorithm)
        self.server.tokens.append(token)
        return token

    def url(self, query: str = "", path: str | None = None) -> str:
        return f"ws{self.server.url[4:]}{f'/ws/{self.id}' if path is None else path}{query}"

    def connect(self, query: str = "", path: str | None = None, **options: Any) -> Peer:
        """An accepted connection of which nothing was read yet."""
        peer = Peer(self.url(query, path), **options)
        self._peers.callback(peer.close)
        return peer

    def raw(self, query: str = "", path: str | None = None, **options: Any) -> Client:
        """A connection that reads only when somebody asks, and whose refusal is no exception."""
        client = wireclient.connect(f"http{self.url(query, path)[2:]}", **options)
        self._peers.callback(client.abort)
        return client

    def refused(self, query: str = "", path: str | None = None, **options: Any) -> httpx.Response | Any:
        """The HTTP answer of an upgrade that was not to be."""
        try:
            peer = self.connect(query, path, **options)
        except InvalidStatus as refusal:
            return refusal.response
        raise AssertionError(f"accepted: {peer.end()}")

    def enter(self, user: str = "alice", **options: Any) -> Peer:
        peer = self.connect(f"?token={self.token(user)}", **options)
        peer.hello = peer.next()
        assert peer.hello["type"] == "hello", peer.hello
        assert peer.hello["data"]["user_id"] == user
        return peer

    def try_post(self, body: object, **options: Any) -> httpx.Response:
        return self.server.api("POST", f"/api/workspaces/{self.id}/events", json=body, **options)

    def post(self, body: object) -> list[Frame]:
        """Publish; the receipts."""
        answer = self.try_post(body)
        assert answer.status_code == 202, (answer.status_code, answer.text)
        assert list(answer.json()) == ["events"]
        receipts: list[Frame] = answer.json()["events"]
        return receipts

    def publish(self, type: str, to: object = None, /, **data: Any) -> Frame:
        """One event, and its receipt."""
        (receipt,) = self.post(event(type, to, **data))
        return receipt

    def channel(self, id: str = "general", type: str = "public", created_by: str = "alice", *members: str) -> None:
        self.publish("channel.created", id=id, name=id, type=type, created_by=created_by)
        for member in members:
            self.publish("member.joined", channel_id=id, user_id=member)

    def say(self, id: str, channel: str = "general", user: str = "alice", to: object = None, /, **more: Any) -> Frame:
        """Publish a message."""
        return self.publish("message.new", to, **message(id, channel, user, **more))

    def all_of(self, peer: Peer, timeout: float = PATIENCE) -> list[Frame]:
        """All that this peer was sent, presence aside: durable events have one order, so the marker is the last."""
        marker = f"marker-{next(self._numbers)}"
        to = {"users": [peer.hello["data"]["user_id"]]}
        self.post({"type": "message.new", "data": message(marker, "markers", MARKER), "to": to})
        deadline = time.monotonic() + timeout
        frames = []
        while True:
            raw = peer._socket.recv(max(0.0, deadline - time.monotonic()))
            frame = json.loads(raw)
            if is_marker(frame) and frame["data"]["id"] == marker:
                return frames
            if not is_marker(frame) and frame["type"] != "presence.updated":
                frames.append(frame)
                peer.raws.append(str(raw))

    def presence(self) -> dict[str, str]:
        answer = self.server.api("GET", f"/api/workspaces/{self.id}/presence")
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["users"]
        return {user["user_id"]: user["status"] for user in answer.json()["users"]}


def event(type: str, to: object = None, /, **data: Any) -> Frame:
    """As the HTTP interface takes it."""
    whole = {"type": type, "data": data}
    return whole if to is None else {**whole, "to": to}


def message(id: str, channel: str = "general", user: str = "alice", /, **more: Any) -> Frame:
    """The data of a `message.new`."""
    return {"id": id, "channel_id": channel, "user_id": user, "content": f"this is {id}", "created_at": SOON, **more}


def types(frames: Sequence[Frame]) -> list[str]:
    return [frame["type"] for frame in frames]


def brief(frames: Sequence[Frame]) -> list[tuple[str, str]]:
    """Type and id, for frames that are told apart by them."""
    return [(frame["type"], frame["data"].get("id", frame["data"].get("message_id", ""))) for frame in frames]
