"""Fifty of five hundred clients stop reading: the others hardly notice, and the fifty are put out."""

from __future__ import annotations

import re
import selectors
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers import Server, Workspace, running, until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

SOCKETS = Path("/proc/net/tcp")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not SOCKETS.exists(), reason="only Linux tells what a kernel still has to send"),
]

READERS, STALLED = 450, 50
PACE = 0.05  # seconds between two events
BEFORE = 60  # events while everybody reads
OUT_WITHIN = 15.0  # seconds from being blocked to being out; the write timeout is 10
GRACE = 0.2  # what running() sets for presence
GROWTH = 96 << 20  # bytes: fifty outboxes of 1 MiB, what the server holds of each socket, and the history
FLOOD = "x" * 15_000
NUMBER = re.compile(rb"#(\d+)#")


class Readers:
    """A thread that reads all of them, and notes when which number came."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.came: list[dict[int, float]] = [{} for _ in sockets]
        self.order: list[list[int]] = [[] for _ in sockets]
        self._tails = [b""] * len(sockets)
        self._sockets = sockets
        self._ending = False
        self._selector = selectors.DefaultSelector()
        for number, each in enumerate(sockets):
            each.setblocking(False)
            self._selector.register(each, selectors.EVENT_READ, number)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending:
            for key, _ in self._selector.select(0.1):
                at = time.monotonic()
                data = self._sockets[key.data].recv(1 << 20)
                if not data:
                    self._selector.unregister(key.fileobj)
                    continue
                data = self._tails[key.data] + data
                end = 0
                for match in NUMBER.finditer(data):
                    self.came[key.data][int(match[1])] = at
                    self.order[key.data].append(int(match[1]))
                    end = match.end()
                self._tails[key.data] = data[max(end, len(data) - 16) :]

    def all_have(self, number: int) -> bool:
        return all(number in came for came in self.came)

    def end(self) -> None:
        self._ending = True
        self._thread.join()
        self._selector.close()


class Story:
    """Numbered messages, and how long each took to each reader."""

    def __init__(self, workspace: Workspace, readers: Readers) -> None:
        self.workspace, self.readers = workspace, readers
        self.told: list[float] = []

    def tell(self, padding: str = "") -> None:
        number = len(self.told)
        self.told.append(time.monotonic())
        data = {"id": f"m{number}", "channel_id": "general", "user_id": "teller"}
        content = {"content": f"#{number}#{padding}", "created_at": "2024-01-01T12:00:00.000Z"}
        self.workspace.publish({"type": "message.new", "data": {**data, **content}})

    def tell_at_its_pace(self) -> None:
        began = time.monotonic()
        self.tell("y" * 1_000)
        time.sleep(max(0.0, PACE - (time.monotonic() - began)))

    def heard(self) -> None:
        until(lambda: self.readers.all_have(len(self.told) - 1), 20, "everybody has heard the last one", 0.005)

    def p99(self, first: int, last: int) -> float:
        """Of the milliseconds from publishing to being read, over every event and reader."""
        took = sorted(came[number] - self.told[number] for came in self.readers.came for number in range(first, last))
        return took[len(took) * 99 // 100] * 1000


def unsent(server: Server, ports: set[int]) -> dict[int, int]:
    """Bytes in the kernel that the server wrote and each client has not taken."""
    found = dict.fromkeys(ports, 0)
    for line in SOCKETS.read_text().splitlines()[1:]:
        _, local, remote, _, queues = line.split()[:5]
        port = int(remote[-4:], 16)
        if int(local[-4:], 16) == server.port and port in ports:
            found[port] = int(queues.partition(":")[0], 16)
    return found


@pytest.mark.parametrize("name", ["serve-asyncio", "serve-trio"])
def test_fifty_of_five_hundred(name: str, record_property: Callable[[str, object], None]) -> None:
    with running(name, HISTORY_EVENTS="100") as server, Workspace(server) as workspace:
        readers = Readers([workspace.enter(f"reader-{number}").release() for number in range(READERS)])
        try:
            stalled = {workspace.enter(f"stalled-{number}", recv_buffer=4096).port for number in range(STALLED)}
            channel = {"id": "general", "name": "general", "type": "public", "created_by": "teller"}
            workspace.publish({"type": "channel.created", "data": channel})
            story = Story(workspace, readers)
            story.tell()
            story.heard()  # and everybody's coming online before it
            for _ in range(BEFORE):
                story.tell_at_its_pace()
            story.heard()
            before = story.p99(1, BEFORE)
            memory = [server.memory()]

            # They have not read a byte since hello; what the kernel takes for them is used up now.
            sizes = [unsent(server, stalled)]
            while not (min(sizes[-1].values()) > 0 and sizes[-3:] == [sizes[-1]] * 3):
                assert len(sizes) < 100, f"the sockets took all of it: {sizes[-1]}"
                for _ in range(10):
                    story.tell(FLOOD)
                story.heard()
                sizes.append(unsent(server, stalled))
                memory.append(server.memory())
            blocked, first = time.monotonic(), len(story.told)
            left = [STALLED]
            meanwhile = first

            def out() -> bool:
                nonlocal meanwhile
                meanwhile = len(story.told) if left[-1] == STALLED else meanwhile
                for _ in range(10):
                    story.tell_at_its_pace()
                memory.append(server.memory())
                left.append(sum(user.startswith("stalled") for user in workspace.presence()))
                return not left[-1]

            until(out, OUT_WITHIN + GRACE, "the fifty are out", 0)
            took = time.monotonic() - blocked
            story.heard()
            during, after = story.p99(first, meanwhile), story.p99(meanwhile, len(story.told))
        finally:
            readers.end()
        growth = max(memory) - memory[0]
        report = (
            f"{name}: p99 {before:.1f} ms before, {during:.1f} ms while they stall, {after:.1f} ms while everybody is "
            f"told that they go; the {STALLED} out after {took:.1f} s, +{growth >> 20} MiB"
        )
        record_property("fifty", report)
        print(report)
        assert all(order == [*range(len(story.told))] for order in readers.order)
        assert growth < GROWTH
