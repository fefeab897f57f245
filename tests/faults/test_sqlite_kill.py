"""`kill -9` of a server in the middle of publishing, again and again: what it acknowledged is there afterwards."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import anyio
import httpx
import pytest

from jackfield.engine import History
from jackfield.testing import FakeClock
from jackfield_sqlite import SQLiteEngine
from servers import API_KEY, running, until

PUBLISHERS = 4
WORKSPACES = ("acme", "beta")
KILLS = 4


class Publisher:
    """Publishes one message after the other, and remembers what was said of it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.workspace = WORKSPACES[int(name[1:]) % len(WORKSPACES)]
        self.acknowledged: dict[str, int] = {}
        self.unknown: list[str] = []
        self._number = 0

    def publish(self, http: httpx.Client, url: str, id: str) -> tuple[int, bool]:
        data = {"id": id, "channel_id": "c1", "user_id": "alice", "created_at": "2024-01-01T12:00:00.000Z"}
        event = {"type": "message.new", "data": {**data, "content": "hello"}, "to": "everyone", "id": id}
        answer = http.post(f"{url}/api/workspaces/{self.workspace}/events", json=event)
        assert answer.status_code == 202, (answer.status_code, answer.text)
        (receipt,) = answer.json()["events"]
        return int(receipt["position"]), receipt["published"]

    def until_killed(self, url: str) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10, trust_env=False) as http:
            while True:
                self._number += 1
                id = f"{self.name}.{self._number}"
                try:
                    self.acknowledged[id], published = self.publish(http, url, id)
                except httpx.TransportError:
                    self.unknown.append(id)
                    return
                assert published, f"{id} has never been published before"


def count(publishers: list[Publisher]) -> int:
    return sum(len(one.acknowledged) for one in publishers)


@pytest.mark.servers
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_what_was_acknowledged_is_there_after_kill_9(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    publishers = [Publisher(f"p{n}") for n in range(PUBLISHERS)]
    for _ in range(KILLS):
        with running(f"serve-{loop}", ENGINE=f"sqlite:///{path}") as server:
            threads = [threading.Thread(target=one.until_killed, args=(server.url,)) for one in publishers]
            before = count(publishers)
            for thread in threads:
                thread.start()
            goal = before + random.randrange(5, 120)
            until(
                lambda goal=goal: sum(len(one.acknowledged) for one in publishers) >= goal, 20, "they publish", 0.0005
            )
            server.process.kill()
            server.process.wait()
            for thread in threads:
                thread.join()
    with running(f"serve-{loop}", ENGINE=f"sqlite:///{path}") as server:
        for one in publishers:
            assert len(one.unknown) == KILLS
            # What was acknowledged is known, at the place that was told.
            some = random.sample(sorted(one.acknowledged), 10)
            for id in (*some, sorted(one.acknowledged, key=one.acknowledged.__getitem__)[-1]):
                assert one.publish(server.http, server.url, id) == (one.acknowledged[id], False)
            # What was not, is published once, whichever it was.
            for id in one.unknown:
                position, _ = one.publish(server.http, server.url, id)
                assert one.publish(server.http, server.url, id) == (position, False)
                one.acknowledged[id] = position
        server.stop()
    found = anyio.run(kept, path, backend=loop)
    for workspace in WORKSPACES:
        ours = [one.acknowledged for one in publishers if one.workspace == workspace]
        assert found[workspace] == {id: position for some in ours for id, position in some.items()}
        assert sorted(found[workspace].values()) == list(range(1, len(found[workspace]) + 1))


async def kept(path: Path) -> dict[str, dict[str, int]]:
    """Every record in the file and where it stands, by workspace."""
    engine = SQLiteEngine(path)
    found: dict[str, dict[str, int]] = {}
    async with engine.open(History(), FakeClock(0.0)):
        for workspace in WORKSPACES:
            records = await engine.records(workspace, 0, (await engine.read(workspace)).position, 100_000)
            found[workspace] = {record.id: record.position for record in records}
            assert len(found[workspace]) == len(records)
    return found
