"""A node on SQLite ends under its clients, in order or by `kill -9`: nobody loads afresh, nothing is lost, and nobody
was seen to go."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from servers import Workspace, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wireclient import Client

pytestmark = pytest.mark.servers

CLIENTS = 30
GRACE = 4.0


class Person:
    """A user who keeps a cursor, and all that he was sent."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cursor = ""
        self.heard: list[str] = []
        self.others: list[dict[str, Any]] = []
        self.client: Client

    def enter(self, workspace: Workspace) -> dict[str, Any]:
        self.client = workspace.connect(f"{workspace.token(self.name)}&resume={self.cursor}")
        hello = self.client.expect("hello")
        self.cursor = hello["data"]["cursor"]
        return hello

    def take(self, frames: list[dict[str, Any]]) -> None:
        for frame in frames:
            self.cursor = frame.get("cursor", self.cursor)
            if frame["type"] == "message.new":
                self.heard.append(frame["data"]["id"])
            elif frame["type"] != "pong":
                self.others.append(frame)

    def listen(self) -> None:
        """To everything that comes before the answer to a ping."""
        self.client.send_json({"type": "ping"})
        self.take(self.client.through("pong"))


@contextmanager
def node(loop: str, directory: Path) -> Iterator[Workspace]:
    """A server on the one file, and a workspace there."""
    engine = f"sqlite:///{directory / 'chat.db'}"
    with running(f"serve-{loop}", ENGINE=engine, PRESENCE_GRACE=f"{GRACE}") as server, Workspace(server) as workspace:
        yield workspace


def they_enter(workspace: Workspace, people: list[Person]) -> None:
    channel = {"id": "general", "name": "general", "type": "public", "created_by": "teller"}
    workspace.publish({"type": "channel.created", "data": channel})
    for person in people:
        assert "resume" not in person.enter(workspace)["data"]
    for person in people:
        person.listen()
        person.others.clear()  # who came when is not what this is about


def say(workspace: Workspace, *ids: str) -> None:
    data = {"channel_id": "general", "user_id": "teller", "content": "…", "created_at": "2024-01-01T12:00:00.000Z"}
    workspace.publish(*({"type": "message.new", "data": {"id": id, **data}} for id in ids))


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_rolling_restart(loop: str, tmp_path: Path) -> None:
    people = [Person(f"user-{number}") for number in range(CLIENTS)]
    with ExitStack() as stack:
        workspace = stack.enter_context(node(loop, tmp_path))
        they_enter(workspace, people)
        say(workspace, "m1", "m2")

        server = workspace.server
        server.process.terminate()
        say(workspace, "m3")  # it is served until it has gone
        waits: list[float] = []
        for person in people:
            frames, code, reason = person.client.until_closed(10)
            person.take(frames)
            assert code == 4001
            found = re.fullmatch(r"retry_after_ms=(\d+)", reason)
            assert found is not None, reason
            waits.append(int(found[1]) / 1000)
        assert server.process.wait(10) == 0
        assert max(waits) <= GRACE / 2

        back = stack.enter_context(node(loop, tmp_path))
        back.id = workspace.id
        say(back, "m4")
        for person in people:
            data = person.enter(back)["data"]
            assert data["resume"]["recovered"] is True
            present = {user["user_id"]: user["status"] for user in data["state"]["presence"]}
            assert present == {other.name: "online" for other in people}
        say(back, "m5")
        time.sleep(GRACE + 1)  # whoever had been seen to go would be told of by now
        for person in people:
            person.listen()
            assert person.heard == ["m1", "m2", "m3", "m4", "m5"]
            assert person.others == []


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_kill_in_the_middle(loop: str, tmp_path: Path) -> None:
    people = [Person(f"user-{number}") for number in range(CLIENTS)]
    with ExitStack() as stack:
        workspace = stack.enter_context(node(loop, tmp_path))
        they_enter(workspace, people)
        acknowledged = [f"m{number}" for number in range(200)]
        for first in range(0, 200, 10):
            say(workspace, *acknowledged[first : first + 10])
        workspace.server.process.kill()  # most of it is on its way, or in the clients' sockets
        for number, person in enumerate(people):
            frames, code, _ = person.client.until_closed(10)
            person.take(frames[: number * 7])  # and a client may die with some of it unread
            assert code == 1006
        assert {len(person.heard) for person in people} != {200}

        back = stack.enter_context(node(loop, tmp_path))
        back.id = workspace.id
        for person in people:
            data = person.enter(back)["data"]
            assert data["resume"] == {"recovered": True, "replayed": 200 - len(person.heard)}
        say(back, "m200")
        for person in people:
            person.listen()
            assert person.heard == [*acknowledged, "m200"]
            assert person.others == []  # those of the dead process are taken for there until its lease has run out
