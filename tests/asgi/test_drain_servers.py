"""SIGTERM on real servers: two hundred clients are told when to be back, one does not read, and the process ends."""

from __future__ import annotations

import re
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from servers import Server, Workspace, running, until
from test_stalled import SOCKETS, unsent
from wireclient import ABNORMAL, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not SOCKETS.exists(), reason="only Linux tells what a kernel still has to send"),
]

CLIENTS = 200
GRACE = 20
WITHIN = 10.0  # seconds from SIGTERM to the end, whatever a client that does not read does
BATCH = 12
AT_MOST = 200  # batches until the kernel has filled its buffers


def fill(server: Server, workspace: Workspace, stalled: Client) -> None:
    """Publish to one user alone until his socket takes no more."""
    sizes = [0]
    while len(sizes) < AT_MOST:
        number = len(sizes)
        data = {"channel_id": "c", "user_id": "u", "content": "x" * 15_000, "created_at": "2024-01-01T12:00:00.000Z"}
        batch = [
            {"type": "message.new", "data": {"id": f"m{number}-{n}", **data}, "to": {"users": ["stalled"]}}
            for n in range(BATCH)
        ]
        workspace.publish(*batch)
        sizes.append(unsent(server, stalled))
        if sizes[-1] > 0 and sizes[-5:] == [sizes[-1]] * 5:
            return
    raise AssertionError(f"the socket took all of it: {sizes}")


@contextmanager
def crowd(name: str, **settings: str) -> Iterator[tuple[Server, Workspace, list[Client], Client]]:
    """A server, two hundred who read, and one who does not."""
    patient = {"OUTBOX_EVENTS": "10000", "OUTBOX_BYTES": f"{64 << 20}"}  # who does not read is not put out before
    settings = {"PRESENCE_GRACE": f"{GRACE}", "HISTORY_EVENTS": "20", **patient, **settings}
    with running(name, **settings) as server, Workspace(server) as workspace:
        clients = [workspace.enter(f"u{n}") for n in range(CLIENTS)]
        stalled = workspace.enter("stalled", recv_buffer=4096)
        fill(server, workspace, stalled)
        assert len(workspace.presence()) == CLIENTS + 1
        yield server, workspace, clients, stalled


def all_are_told(clients: list[Client], reasons: bool = True) -> None:
    """Each at a moment of his own."""
    moments: list[int] = []
    for client in clients:
        _, code, reason = client.until_closed(WITHIN)
        assert code == 4001
        if reasons:
            found = re.fullmatch(r"retry_after_ms=(\d+)", reason)
            assert found
            moments.append(int(found[1]))
    if reasons:
        assert min(moments) >= 0
        assert max(moments) <= GRACE * 500
        assert len(set(moments)) > CLIENTS / 2


def ends(server: Server, began: float, *statuses: int) -> float:
    """In time, and how; seconds that it took."""
    server.process.wait(max(0.1, began + WITHIN - time.monotonic()))
    assert server.process.returncode in statuses
    return time.monotonic() - began


BY_SIGNAL = -signal.SIGTERM
"""uvicorn raises it again when all is done, whoever has listened to it."""


@dataclass(frozen=True)
class Expected:
    status: int = 0
    reasons: bool = True  # whether it can say why it closes
    serves: bool = False  # HTTP, until everybody has gone: where it takes its time over the one who does not read


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("uvicorn-asyncio-2", Expected(BY_SIGNAL, serves=True)),
        ("uvicorn-uvloop-2", Expected(BY_SIGNAL)),
        ("uvicorn-listen", Expected(BY_SIGNAL, serves=True)),
        ("hypercorn-alone", Expected()),
        ("anycorn-alone", Expected()),
        ("granian", Expected()),
        ("daphne", Expected(reasons=False)),
        ("serve-asyncio", Expected(serves=True)),
        ("serve-trio", Expected()),
    ],
)
def test_a_signal_drains_before_the_server_hears_of_it(
    name: str, expected: Expected, record_property: Callable[[str, object], None]
) -> None:
    with crowd(name, DRAIN_ON_SIGNALS="true") as (server, workspace, clients, stalled):
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        all_are_told(clients, expected.reasons)
        if expected.serves:
            assert server.http.get(f"{server.url}/health/ready").status_code == 503
            assert workspace.connect(workspace.token("late")).handshake_status == 503
            data = {"id": "general", "name": "general", "type": "public", "created_by": "u1"}
            (receipt,) = workspace.publish({"type": "channel.created", "data": data})
            assert receipt["published"] is True
        took = ends(server, began, expected.status)
        frames, code, _ = stalled.until_closed(WITHIN)
        ids = [frame["data"]["id"] for frame in frames if frame["type"] == "message.new"]
        assert ids == [f"m{1 + n // BATCH}-{n % BATCH}" for n in range(len(ids))]
        assert code in {4001, ABNORMAL}
        print(
            report := f"{name}: {took:.1f} s, {server.process.returncode}; who did not read: {code}, {len(ids)} events"
        )
        record_property("drained", report)


@pytest.mark.parametrize("name", ["hypercorn-asyncio", "anycorn-trio"])
def test_a_request_drains_where_no_signal_arrives(name: str, record_property: Callable[[str, object], None]) -> None:
    """The worker process of hypercorn and of anycorn is never sent one; what runs before the container stops asks."""
    with crowd(name) as (server, workspace, clients, _):
        answer = server.http.post(f"{server.url}/admin/drain")
        assert (answer.status_code, answer.json()) == (202, {"connections": CLIENTS + 1})
        assert server.http.get(f"{server.url}/health/ready").status_code == 503
        all_are_told(clients)
        until(
            lambda: server.http.post(f"{server.url}/admin/drain").json() == {"connections": 0}, WITHIN, "all are gone"
        )
        assert workspace.connect(workspace.token("late")).handshake_status == 503
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        took = ends(server, began, 0, BY_SIGNAL)
        print(report := f"{name}: {took:.1f} s after SIGTERM, {server.process.returncode}")
        record_property("drained", report)
