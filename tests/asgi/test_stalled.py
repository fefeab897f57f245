"""One client among fifty stops reading: nobody else notices, and it is put out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers import Server, Workspace, running, until
from wireclient import ABNORMAL, Client

if TYPE_CHECKING:
    from collections.abc import Callable

SOCKETS = Path("/proc/net/tcp")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not SOCKETS.exists(), reason="only Linux tells what a kernel still has to send"),
]

READERS = 49
CONTENT = "x" * 4_000  # so that a batch of 25 is about 100 KB
OUT_WITHIN = 15.0  # seconds from being blocked to being out; the write timeout is 10
GRACE = 0.2  # what running() sets for presence
HISTORY = "100"  # events that are kept: what grows is not the log, however much a fast machine publishes
GROWTH = 16 << 20  # bytes the server may take meanwhile
AT_MOST = 200  # batches until the kernel must have filled its buffers; uvicorn needs about 40, trio's workers few


class Story:
    """Numbered messages, and the readers who must get every one of them in order."""

    def __init__(self, workspace: Workspace, readers: list[Client]) -> None:
        self.workspace, self.readers = workspace, readers
        self.told = 0

    def tell(self, count: int) -> None:
        """Publish so many more, and see them arrive at every reader."""
        ids = [f"m{number}" for number in range(self.told, self.told + count)]
        self.told += count
        self.workspace.publish(*map(message, ids))
        for reader in self.readers:
            assert [reader.expect("message.new")["data"]["id"] for _ in ids] == ids


def message(id: str) -> dict[str, object]:
    data = {
        "id": id,
        "channel_id": "general",
        "user_id": "teller",
        "content": CONTENT,
        "created_at": "2024-01-01T12:00:00.000Z",
    }
    return {"type": "message.new", "data": data}


def unsent(server: Server, client: Client) -> int:
    """Bytes in the kernel that the server wrote and the client has not taken."""
    for line in SOCKETS.read_text().splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        if (int(local[-4:], 16), int(remote[-4:], 16)) == (server.port, client.port):
            return int(queues.partition(":")[0], 16)
    return 0


def fill(story: Story, server: Server, stalled: Client) -> float:
    """Publish until two batches in a row left the stalled socket as it was; when that began."""
    sizes = [unsent(server, stalled)]
    times = [time.monotonic()]
    for _ in range(AT_MOST):
        story.tell(25)
        sizes.append(unsent(server, stalled))
        times.append(time.monotonic())
        if sizes[-1] > 0 and sizes[-3:] == [sizes[-1]] * 3:
            return times[-3]
    raise AssertionError(f"the socket took all of it: {sizes}")


@pytest.mark.parametrize("name", ["uvicorn-asyncio", "anycorn-trio"])
@pytest.mark.parametrize("batch", [pytest.param(25, id="flood"), pytest.param(1, id="trickle")])
def test_one_that_stops_reading(name: str, batch: int, record_property: Callable[[str, object], None]) -> None:
    """In a flood its outbox runs over; in a trickle it makes no progress for ten seconds."""
    with running(name, HISTORY_EVENTS=HISTORY) as server, Workspace(server) as workspace:
        stalled = workspace.enter("stalled", recv_buffer=4096)
        story = Story(workspace, [workspace.enter(f"reader-{number}") for number in range(READERS)])
        workspace.publish(
            {
                "type": "channel.created",
                "data": {"id": "general", "name": "general", "type": "public", "created_by": "teller"},
            }
        )
        memory = [server.memory()]
        blocked = fill(story, server, stalled)
        memory.append(server.memory())
        pending = unsent(server, stalled)

        def out() -> bool:
            story.tell(batch)
            memory.append(server.memory())
            return "stalled" not in workspace.presence()

        # a trickle is slow enough for the outbox not to run over before the time is out
        pause = 0.2 if batch == 1 else 0.0
        until(out, blocked + OUT_WITHIN + GRACE - time.monotonic(), "the stalled one is out", pause)
        took = time.monotonic() - blocked

        story.tell(25)
        assert workspace.presence() == {f"reader-{number}": "online" for number in range(READERS)}
        growth = max(memory) - memory[0]
        report = f"{name}: blocked with {pending:,} bytes unsent, out after {took:.1f} s, +{growth >> 20} MiB"
        record_property("stalled", report)
        print(report)
        assert growth < GROWTH

        # If it wakes up after all, it finds a story without a hole, that breaks off.
        frames, code, _ = stalled.until_closed(10)
        ids = [frame["data"]["id"] for frame in frames if frame["type"] == "message.new"]
        assert ids == [f"m{number}" for number in range(len(ids))]
        assert len(ids) < story.told
        assert code in {4002, ABNORMAL}
