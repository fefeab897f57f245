"""What users are promised holds over three nodes in processes of their own: who is there, who sees what, who goes."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from itertools import pairwise
from typing import Any

import anyio
import anyio.to_thread
import pytest
from websockets.asyncio import client
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import ClientConnection, connect

from fleet import PATIENCE, Fleet, Listener, Publisher, channel, everything, fleet, message
from servers import API_KEY, until

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def those() -> Iterator[Fleet]:
    with fleet(PRESENCE_GRACE="0.5", NODE_LEASE="3") as those:
        yield those


class Guest:
    """A connection to a node, read by hand."""

    def __init__(self, url: str) -> None:
        # Entered by hand: it is left by `close`.
        self._socket: ClientConnection = connect(
            url, compression=None, ping_interval=None, close_timeout=0.2, proxy=None
        ).__enter__()

    def read(self, within: float = PATIENCE) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(self._socket.recv(within))
        return frame

    def send(self, **event: object) -> None:
        self._socket.send(json.dumps(event))

    def code(self, within: float) -> int | None:
        """That with which it ends."""
        with suppress(ConnectionClosed):
            while True:
                self.read(within)
        return self._socket.close_code

    def close(self) -> None:
        self._socket.close()


def enter(those: Fleet, node: int, user: str) -> Guest:
    guest = Guest(those.url(node, user))
    assert guest.read()["type"] == "hello"
    return guest


def test_who_is_thrown_out_is_so_on_every_node_within_two_seconds(those: Fleet) -> None:
    with ExitStack() as stack:
        guests = [stack.enter_context(closing(enter(those, node, "mallory"))) for node in (0, 1, 2)]
        server = those.nodes[0].server
        began = time.monotonic()
        url = f"{server.url}/api/workspaces/{those.workspace.id}/users/mallory/connections"
        answer = server.http.delete(url, headers={"Authorization": f"Bearer {API_KEY}"})
        assert (answer.status_code, answer.json()) == (202, {"closed": 3})
        assert [guest.code(2) for guest in guests] == [4503] * 3
        assert time.monotonic() - began < 2
        old = those.workspace.token("mallory", iat=int(time.time()) - 5)
        for node in (0, 1, 2):
            door = those.nodes[node].door.port
            with closing(Guest(f"ws://127.0.0.1:{door}/ws/{those.workspace.id}?token={old}")) as again:
                assert again.code(2) == 4503


def test_one_bucket_for_six_connections_on_three_nodes(those: Fleet) -> None:
    with ExitStack() as stack:
        guests = [stack.enter_context(closing(enter(those, n % 3, "chatty"))) for n in range(6)]
        began = time.monotonic()
        for n in range(60):
            guests[n % 6].send(type="typing", channel_id="general", is_typing=n % 2 == 0, ref=n)
        answers: Counter[str] = Counter()
        for guest in guests:
            heard = 0
            while heard < 10:
                frame = guest.read()
                if frame["type"] == "ack":
                    answers["ack"] += 1
                    heard += 1
                elif frame["type"] == "error":
                    assert frame["data"]["code"] == "RATE_LIMITED", frame
                    answers["limited"] += 1
                    heard += 1
        took = time.monotonic() - began
        # Twenty at once, and two a second for as long as it took.
        assert 20 <= answers["ack"] <= 21 + 2 * took, (answers, took)
        assert answers["ack"] + answers["limited"] == 60


def test_nobody_sees_a_private_channel_at_a_place_where_he_is_not_in_it(those: Fleet) -> None:
    """Bob goes in and out, by one node after the other, while everybody publishes: the log says where he was in it."""
    chance = random.Random(5)
    those.publish({"type": "channel.created", "data": channel("secret", "private")})
    with ExitStack() as stack:
        bobs = [stack.enter_context(Listener(those, node, "bob")) for node in (0, 1, 2)]
        inside = False
        allowed: list[str] = []
        for n in range(150):
            node = chance.randrange(3)
            if chance.random() < 0.3:
                inside = not inside
                kind = "member.joined" if inside else "member.left"
                at = "2024-01-01T12:00:00.000Z"
                moment = {"joined_at": at} if inside else {"left_at": at}
                those.publish({"type": kind, "data": {"channel_id": "secret", "user_id": "bob", **moment}}, node=node)
            else:
                those.publish(message(f"s{n}", "secret"), node=node)
                allowed += [f"s{n}"] if inside else []
        those.publish(message("last"))
        for bob in bobs:
            until(lambda bob=bob: bob.got[-1:] == ["last"], PATIENCE, "all of it has come")  # type: ignore[misc]
            assert bob.got == [*allowed, "last"]


def test_presence_is_that_of_an_oracle_on_every_node_and_each_transition_is_seen_once(those: Fleet) -> None:
    chance = random.Random(7)
    with ExitStack() as stack:
        watchers = [stack.enter_context(Listener(those, node, f"watcher-{node}")) for node in (0, 1, 2)]
        open_: dict[str, list[Guest]] = {}
        for _ in range(60):
            user = f"guest-{chance.randrange(6)}"
            if open_.get(user) and chance.random() < 0.5:
                open_[user].pop(chance.randrange(len(open_[user]))).close()
            else:
                guest = enter(those, chance.randrange(3), user)
                stack.callback(guest.close)
                open_.setdefault(user, []).append(guest)
        expected = {user: "online" for user, guests in open_.items() if guests}
        expected |= {f"watcher-{node}": "online" for node in range(3)}
        for node in range(3):
            until(lambda node=node: those.presence(node) == expected, PATIENCE, f"{expected}")  # type: ignore[misc]
        last = those.publish(message("presence.is.settled"))
        assert last[0]["published"]
        for watcher in watchers:
            until(lambda w=watcher: w.got[-1:] == ["presence.is.settled"], PATIENCE, "all has come")  # type: ignore[misc]
        seen = [transitions(watcher, "guest") for watcher in watchers]
        assert seen[0] == seen[1] == seen[2]
        for user, statuses in seen[0].items():  # one after the other, and none twice
            assert all(one != other for one, other in pairwise(statuses)), (user, statuses)
            assert (statuses[-1] == "online") == (user in expected)


def transitions(listener: Listener, who: str) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for frame in listener.others:
        if frame["type"] == "presence.updated" and frame["data"]["user_id"].startswith(who):
            found.setdefault(frame["data"]["user_id"], []).append(frame["data"]["status"])
    return found


def test_whose_node_is_killed_goes_offline_once() -> None:
    with fleet(PRESENCE_GRACE="0.5", NODE_LEASE="3") as those, ExitStack() as stack:
        watchers = [stack.enter_context(Listener(those, node, f"watcher-{node}")) for node in (1, 2)]
        for n in range(5):
            stack.callback(enter(those, 0, f"victim-{n}").close)
        stack.callback(enter(those, 1, "victim-0").close)  # he has another connection, elsewhere
        until(lambda: len(those.presence(1)) == 7, PATIENCE, "everybody is there")
        those.nodes[0].kill()
        there = {"watcher-1": "online", "watcher-2": "online", "victim-0": "online"}
        for node in (1, 2):
            until(lambda node=node: those.presence(node) == there, PATIENCE, "the dead are gone")  # type: ignore[misc]
        those.publish(message("after.it"), node=1)
        for watcher in watchers:
            until(lambda w=watcher: w.got == ["after.it"], PATIENCE, "all has come")  # type: ignore[misc]
            gone = {user: statuses[-1] for user, statuses in transitions(watcher, "victim").items()}
            assert gone == {"victim-0": "online", **{f"victim-{n}": "offline" for n in range(1, 5)}}
            assert all(
                len(statuses) == 2 for user, statuses in transitions(watcher, "victim").items() if user != "victim-0"
            )


def test_a_node_that_ends_in_order_is_noticed_by_nobody() -> None:
    with fleet(PRESENCE_GRACE="10", DRAIN_TIMEOUT="4") as those, ExitStack() as stack:
        listeners = [stack.enter_context(Listener(those, n % 3, f"user-{n}")) for n in range(12)]
        with Publisher(those, (1, 2)) as publisher:
            time.sleep(1)
            for listener in listeners:
                listener.others.clear()
            those.nodes[0].door.target = those.nodes[1].server.port
            assert those.nodes[0].server.stop() < 6
            until(lambda: all(len(one.resumed) == 2 for one in listeners[::3]), PATIENCE, "its clients are back")
            time.sleep(1)
        for listener in listeners:
            everything(listener, publisher.said)
            assert not [frame for frame in listener.others if frame["type"] == "presence.updated"]


def test_a_redis_that_comes_back_empty_is_a_new_beginning_and_nothing_worse() -> None:
    with fleet(PRESENCE_GRACE="0.5", NODE_LEASE="3") as those, ExitStack() as stack:
        listeners = [stack.enter_context(Listener(those, node, f"user-{node}")) for node in range(3)]
        those.publish(message("before"))
        until(lambda: all(one.got == ["before"] for one in listeners), PATIENCE, "it has come")
        those.redis.kill()
        those.redis.lose_everything()
        those.redis.start()
        until(lambda: all(len(one.resumed) > 1 for one in listeners), 40, "they have come anew")
        for listener in listeners:
            assert listener.resumed[1] == {"recovered": False, "reason": "expired"}
        until(lambda: all(those.ready(node) == 200 for node in range(3)), PATIENCE, "the nodes are well")
        those.publish({"type": "channel.created", "data": channel("general")}, message("after"), node=2)
        there = {f"user-{node}": "online" for node in range(3)}
        for node, listener in enumerate(listeners):
            until(lambda one=listener: one.got[-1:] == ["after"], PATIENCE, "it goes on")  # type: ignore[misc]
            until(lambda node=node: those.presence(node) == there, PATIENCE, "who is there")  # type: ignore[misc]


def test_five_hundred_who_come_back_at_once_are_back_within_thirty_seconds(
    record_property: Callable[[str, object], None],
) -> None:
    """Of a node that was killed, to the other two, while these go on."""
    with fleet(PRESENCE_GRACE="10") as those, ExitStack() as stack:
        listeners = [stack.enter_context(Listener(those, node, f"there-{node}")) for node in (1, 2)]
        crowd = stack.enter_context(Crowd(those, 500))
        until(lambda: crowd.inside == 500, 60, "everybody has come")
        with Publisher(those, (1, 2)) as publisher:
            time.sleep(1)
            crowd.ports = [node.server.port for node in those.nodes[1:]]
            began = time.monotonic()
            those.nodes[0].kill()
            until(lambda: crowd.came == 1000 and crowd.inside == 500, 60, "everybody is back")
            took = time.monotonic() - began
            time.sleep(1)
        assert took < 30
        assert crowd.refused == 0
        for listener in listeners:
            everything(listener, publisher.said)
        record_property("seconds until 500 were back", round(took, 1))
        record_property("seconds that a publish took meanwhile, at most", round(publisher.slowest, 2))


class Crowd:
    """Many connections in one loop, that come back each when it is cut."""

    def __init__(self, those: Fleet, count: int) -> None:
        self.ports = [those.nodes[0].server.port]
        self.came = 0
        self.refused = 0
        """Of those who came back, those who were told to load afresh."""
        self._workspace = those.workspace
        self._count = count
        self._sockets: set[client.ClientConnection] = set()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=anyio.run, args=(self._run,))

    @property
    def inside(self) -> int:
        return len(self._sockets)

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(self._count):
                tasks.start_soon(self._stay, number)
            await anyio.to_thread.run_sync(self._ending.wait)
            for socket in tuple(self._sockets):
                tasks.start_soon(socket.close)

    async def _stay(self, number: int) -> None:
        token, cursor = self._workspace.token(f"crowd-{number}"), ""
        while not self._ending.is_set():
            port = self.ports[number % len(self.ports)]
            url = f"ws://127.0.0.1:{port}/ws/{self._workspace.id}?token={token}&resume={cursor}"
            with suppress(OSError, TimeoutError, WebSocketException):
                async with client.connect(url, compression=None, ping_interval=None, proxy=None) as socket:
                    hello = json.loads(await socket.recv())
                    if hello["type"] == "hello":
                        cursor = await self._listen(socket, hello["data"], cursor)
            await anyio.sleep(random.random())

    async def _listen(self, socket: client.ClientConnection, hello: Mapping[str, Any], cursor: str) -> str:
        self.refused += not hello.get("resume", {"recovered": True})["recovered"]
        self.came += 1
        self._sockets.add(socket)
        cursor = cursor or hello["cursor"]
        try:
            async for text in socket:
                cursor = json.loads(text).get("cursor", cursor)
        except WebSocketException:
            pass
        finally:
            self._sockets.discard(socket)
        return cursor
