"""Clients that are cut off over and over while somebody publishes: in the end each has had everything, once, in order.

Real processes, real sockets. A client goes without a word at a moment of chance, in the middle of a replay, too, and
comes back with the last cursor that it read.
"""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.sync.client import connect

from outsider import API_KEY, Room, event, message, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.servers

CLIENTS = 10
CUTS = 20
RATE = 500
BATCH = 10
LASTS = 6.0  # seconds that somebody publishes
PATIENCE = 15.0
LOOPS = ("asyncio", "trio")


@pytest.fixture(params=LOOPS)
def room(request: pytest.FixtureRequest) -> Iterator[Room]:
    # However far behind a busy machine leaves a client, that is no reason to begin afresh.
    with serving(request.param, REPLAY_EVENTS="10000") as server, Room(server) as room:
        room.channel()
        yield room


class Publisher:
    """So many events a second, in batches, until it is told to stop; `said` are those that were acknowledged."""

    def __init__(self, room: Room) -> None:
        self.said: list[str] = []
        self._room = room
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        url = f"{self._room.server.url}/api/workspaces/{self._room.id}/events"
        with httpx.Client(timeout=10, trust_env=False, headers={"Authorization": f"Bearer {API_KEY}"}) as http:
            due = time.monotonic()
            while not self._stop.is_set():
                first = len(self.said)
                batch = [event("message.new", **message(f"m{n}")) for n in range(first, first + BATCH)]
                answer = http.post(url, json={"events": batch})
                assert answer.status_code == 202, answer.text
                self.said += [f"m{n}" for n in range(first, first + BATCH)]
                due += BATCH / RATE
                time.sleep(max(0.0, due - time.monotonic()))


class Wanderer:
    """A client that is cut off and comes back; `got` is all that it was ever sent."""

    def __init__(self, room: Room, number: int) -> None:
        self.got: list[str] = []
        self.outcomes: list[Any] = []
        self._room = room
        self._user = f"user-{number}"
        self._chance = random.Random(number)
        self._token = room.token(self._user)
        self._cursor = ""

    def wander(self, until: float) -> None:
        """Each time for a moment; some of them are over before the replay is."""
        begins = time.monotonic()
        for cut in range(CUTS):
            ends = begins + (until - begins) * (cut + self._chance.random()) / CUTS
            self._visit(ends, at_most=self._chance.choice([0, 1, 3, 50, 10_000, 10_000]))
            time.sleep(max(0.0, min(0.2, ends - time.monotonic())))

    def stay(self, count: int) -> None:
        """Until it has had so many."""
        self._visit(time.monotonic() + PATIENCE, at_most=count - len(self.got))

    def _visit(self, until: float, at_most: int) -> None:
        url = self._room.url(f"?token={self._token}&resume={self._cursor}")
        # It is entered and never left: leaving would say goodbye.
        client = connect(url, compression=None, ping_interval=None, close_timeout=0, proxy=None).__enter__()
        try:
            hello = json.loads(client.recv(PATIENCE))
            assert hello["type"] == "hello"
            self._cursor = self._cursor or hello["data"]["cursor"]
            self.outcomes.append(hello["data"].get("resume"))
            while at_most > 0 and (left := until - time.monotonic()) > 0:
                try:
                    frame = json.loads(client.recv(left))
                except TimeoutError:
                    break
                if frame["type"] == "message.new":
                    self.got.append(frame["data"]["id"])
                    self._cursor = frame["cursor"]
                    at_most -= 1
        finally:
            # A reset: what is on its way is lost, as when somebody pulls the plug.
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with suppress(OSError):
                client.socket.shutdown(socket.SHUT_RD)
            client.socket.close()


def test_who_is_cut_off_twenty_times_has_everything_once_and_in_order(room: Room) -> None:
    wanderers = [Wanderer(room, number) for number in range(CLIENTS)]
    for wanderer in wanderers:
        wanderer.stay(0)
    with ThreadPoolExecutor(CLIENTS) as threads:
        with Publisher(room) as publisher:
            until = time.monotonic() + LASTS
            list(threads.map(lambda wanderer: wanderer.wander(until), wanderers))
        list(threads.map(lambda wanderer: wanderer.stay(len(publisher.said)), wanderers))
    assert len(publisher.said) > LASTS * RATE / 4
    for wanderer in wanderers:
        came_back = wanderer.outcomes[1:]
        assert len(came_back) == CUTS + 1
        assert all(outcome["recovered"] for outcome in came_back)
        assert sum(outcome["replayed"] > 0 for outcome in came_back) > CUTS / 2
        assert wanderer.got == publisher.said
