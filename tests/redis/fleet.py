"""Three nodes in processes of their own, each with a line of its own to one Redis and a door for its clients."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from line import Line
from redis_server import RedisServer
from servers import API_KEY, Server, Workspace, running, until

__all__ = ["LOOPS", "PATIENCE", "Fleet", "Listener", "Node", "Publisher", "channel", "everything", "fleet", "message"]

LOOPS = ("asyncio", "trio", "asyncio")
"""Nodes of both kinds understand each other."""
PATIENCE = 20.0
RATE = 200
BATCH = 10


class Node:
    """A node, its line to Redis, and the door to it, which a balancer may move."""

    def __init__(self, server: Server, line: Line) -> None:
        self.server = server
        self.line = line
        self.door = Line(server.port)

    def kill(self) -> None:
        self.server.process.kill()
        self.server.process.wait()


class Fleet:
    """Nodes and their Redis, and a workspace with a channel that everyone sees."""

    def __init__(self, redis: RedisServer, nodes: Sequence[Node]) -> None:
        self.redis = redis
        self.nodes = nodes
        self.workspace = Workspace(nodes[0].server)
        self.publish({"type": "channel.created", "data": channel("general")})

    def publish(self, *events: dict[str, Any], node: int = 0) -> list[dict[str, Any]]:
        answer = self.post(events, node)
        assert answer.status_code == 202, (answer.status_code, answer.text)
        receipts: list[dict[str, Any]] = answer.json()["events"]
        return receipts

    def post(self, events: Sequence[dict[str, Any]], node: int) -> httpx.Response:
        server = self.nodes[node].server
        return server.http.post(f"{server.url}/api/workspaces/{self.workspace.id}/events", json={"events": events})

    def url(self, node: int, user: str) -> str:
        """Of the workspace, by the door of a node."""
        return f"ws://127.0.0.1:{self.nodes[node].door.port}/ws/{self.workspace.id}?token={self.workspace.token(user)}"

    def presence(self, node: int) -> dict[str, str]:
        server = self.nodes[node].server
        answer = server.http.get(f"{server.url}/api/workspaces/{self.workspace.id}/presence")
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return {user["user_id"]: user["status"] for user in answer.json()["users"]}

    def ready(self, node: int) -> int:
        server = self.nodes[node].server
        return server.http.get(f"{server.url}/health/ready").status_code


@contextmanager
def fleet(*options: str, **settings: str) -> Iterator[Fleet]:
    """Over a Redis that keeps what it is told."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(*options, persistent=True))
        nodes: list[Node] = []
        for loop in LOOPS:
            line = Line(redis.port)
            stack.callback(line.close)
            url = f"redis://127.0.0.1:{line.port}"
            server = stack.enter_context(running(f"serve-{loop}", ENGINE=url, REPLAY_EVENTS="10000", **settings))
            nodes.append(Node(server, line))
            stack.callback(nodes[-1].door.close)
        yield Fleet(redis, nodes)


def channel(id: str, type: str = "public") -> dict[str, Any]:
    return {"id": id, "name": id, "type": type, "created_by": "teller"}


def message(id: str, channel: str = "general") -> dict[str, Any]:
    data = {"id": id, "channel_id": channel, "user_id": "teller", "content": "…"}
    return {"type": "message.new", "id": id, "data": {**data, "created_at": "2024-01-01T12:00:00.000Z"}}


class Publisher:
    """So many events a second, by one node after the other, each batch until it is confirmed; `said` is what was."""

    def __init__(self, fleet: Fleet, nodes: Sequence[int] = (0, 1, 2)) -> None:
        self.said: list[str] = []
        self.failed = 0
        self.slowest = 0.0
        """Seconds until an answer, also one that says no."""
        self.nodes = list(nodes)
        self._fleet = fleet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        batch = 0
        with httpx.Client(timeout=10, trust_env=False, headers={"Authorization": f"Bearer {API_KEY}"}) as http:
            due = time.monotonic()
            while not self._stop.is_set():
                ids = [f"m{n}" for n in range(batch * BATCH, (batch + 1) * BATCH)]
                self._publish(http, batch, ids)
                self.said += ids
                batch += 1
                due = max(due + BATCH / RATE, time.monotonic() - 1)
                time.sleep(max(0.0, due - time.monotonic()))

    def _publish(self, http: httpx.Client, batch: int, ids: Sequence[str]) -> None:
        tries = 0
        while True:
            node = self.nodes[(batch + tries) % len(self.nodes)]
            url = f"{self._fleet.nodes[node].server.url}/api/workspaces/{self._fleet.workspace.id}/events"
            began = time.monotonic()
            with suppress(httpx.TransportError):  # a node that is gone
                answer = http.post(url, json={"events": [message(id) for id in ids]})
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status_code == 202:
                    return
                assert answer.status_code == 503, (answer.status_code, answer.text)
            self.failed += 1
            tries += 1
            time.sleep(0.05)


class Listener:
    """A client that comes back, whatever happens, and keeps what it was ever sent."""

    def __init__(self, fleet: Fleet, node: int, user: str) -> None:
        self.got: list[str] = []
        self.others: list[dict[str, Any]] = []
        self.resumed: list[Any] = []
        self.codes: list[int | None] = []
        self.node = node
        self._fleet = fleet
        self._user = user
        self._cursor = ""
        self._end = threading.Event()
        self._inside = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Listener:
        self._thread.start()
        assert self._inside.wait(PATIENCE), "it does not come in"
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set():
            with suppress(OSError, TimeoutError, WebSocketException):
                self._visit()
            time.sleep(0.1)

    def _visit(self) -> None:
        url = f"{self._fleet.url(self.node, self._user)}&resume={self._cursor}"
        client = connect(url, compression=None, ping_interval=None, close_timeout=0.2, proxy=None, open_timeout=5)
        with client:
            hello = json.loads(client.recv(PATIENCE))
            if hello["type"] != "hello":
                return
            self._cursor = self._cursor or hello["data"]["cursor"]
            self.resumed.append(hello["data"].get("resume"))
            self._inside.set()
            while not self._end.is_set():
                try:
                    self._take(json.loads(client.recv(0.2)))
                except TimeoutError:
                    continue
                except WebSocketException:
                    self.codes.append(client.close_code)
                    return

    def _take(self, frame: dict[str, Any]) -> None:
        self._cursor = frame.get("cursor", self._cursor)
        if frame["type"] == "message.new":
            self.got.append(frame["data"]["id"])
        else:
            self.others.append(frame)


def everything(listener: Listener, said: Sequence[str]) -> None:
    """It has all of it: once, in order, and was never told to load afresh."""
    until(lambda: len(listener.got) >= len(said), PATIENCE, f"{len(said)} messages, of which there are some")
    assert listener.got == list(said)
    assert listener.resumed[0] is None
    assert all(resume["recovered"] for resume in listener.resumed[1:]), listener.resumed
