"""The main job over real sockets, on every server that jackfield says it runs on."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from servers import API_KEY, COMMANDS, SECRET, STOPS_WITHIN, Server, Workspace, running, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.servers


@dataclass(frozen=True)
class Expected:
    """In what servers differ, and we cannot help it."""

    bad_id: int = 404  # status of an upgrade that is refused before it is accepted …
    bad_origin: int = 403
    keeps_reason: bool = True  # of a close that the application sends
    binary: frozenset[int] = frozenset({1003})  # the code that a client sees after a binary frame …
    too_big: frozenset[int] = frozenset({1009})  # … and after a message that is too big
    at_stop: frozenset[int] = frozenset()  # what its clients are closed with at SIGTERM
    exits: frozenset[int] = frozenset({0})  # after SIGTERM; what dies of the signal did not shut down
    logs_plain_queries: bool = False  # of requests that are no upgrade, where no filter of ours can see them


DRAINED = frozenset({4001})  # the application was heard before the server closed
CUT = frozenset({1006})  # the end of the TCP connection, no close frame
UNWRITABLE = frozenset({1000, 1011})  # what becomes of a code that a server will not write
# closes the sockets itself, before the application knows; when all is done, it raises the signal again
UVICORN = Expected(at_stop=DRAINED | {1012}, exits=frozenset({0, -signal.SIGTERM}))

EXPECTED = {
    "uvicorn-asyncio": UVICORN,
    "uvicorn-uvloop": UVICORN,
    # both tell the application nothing, and cancel it after three seconds
    "hypercorn-asyncio": Expected(at_stop=DRAINED | CUT | {1011}),
    "anycorn-trio": Expected(at_stop=DRAINED | CUT | {1011}),
    "granian": Expected(at_stop=DRAINED | CUT),  # cuts the sockets
    # No denial extension: a refusal is "close before accept", its status always 403. Writes no reason into a
    # close frame, and refuses to write any code but 1000 and 3000 to 4999. Its access log is no logger.
    "daphne": Expected(
        bad_id=403,
        keeps_reason=False,
        binary=UNWRITABLE,
        too_big=UNWRITABLE,
        at_stop=DRAINED | CUT,
        logs_plain_queries=True,
    ),
    # serve ends its connections itself, before either server hears of it
    "serve-asyncio": Expected(at_stop=DRAINED | {1012}),
    "serve-trio": Expected(at_stop=DRAINED | {1012}),
}
ENVELOPE = ["type", "data", "workspace_id", "timestamp"]
GENERAL = {
    "type": "channel.created",
    "data": {"id": "general", "name": "general", "type": "public", "created_by": "alice"},
}
MESSAGE: dict[str, Any] = {
    "type": "message.new",
    "data": {
        "id": "m1",
        "channel_id": "general",
        "user_id": "alice",
        "content": "Grüße, 👍",
        "created_at": "2024-01-01T12:00:00.000Z",
    },
}


@pytest.fixture(scope="module", params=COMMANDS)
def started(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param) as server:
        yield server


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    started.news()
    yield started
    print(started.news())  # shown with a failing test, and with no other


@pytest.fixture
def workspace(server: Server) -> Iterator[Workspace]:
    with Workspace(server) as workspace:
        yield workspace


@pytest.fixture
def expected(server: Server) -> Expected:
    return EXPECTED[server.name]


def test_hello_comes_first_and_ping_is_answered(workspace: Workspace) -> None:
    alice = workspace.connect(workspace.token("alice"))
    (hello,) = alice.through("hello")
    assert list(hello) == ENVELOPE
    assert hello["workspace_id"] == workspace.id
    assert hello["data"]["user_id"] == "alice"
    assert hello["data"]["state"]["presence"] == [{"user_id": "alice", "status": "online"}]
    alice.send_json({"type": "ping"})
    assert alice.receive() == {"type": "pong"}


@pytest.mark.parametrize("how", ["query", "header", "subprotocol"])
def test_the_token_may_come_in_three_ways(workspace: Workspace, how: str) -> None:
    token = workspace.token("alice")
    match how:
        case "query":
            alice = workspace.connect(token)
        case "header":
            alice = workspace.connect(None, headers=[("Authorization", f"Bearer {token}")])
        case _:
            alice = workspace.connect(None, subprotocols=["jackfield.v1", f"bearer.{token}"])
            assert alice.subprotocol == "jackfield.v1"
    assert len(alice.through("hello")) == 1


def test_a_published_message_reaches_everyone(workspace: Workspace) -> None:
    alice, bob = workspace.enter("alice"), workspace.enter("bob")
    workspace.publish(GENERAL)
    for client in alice, bob:
        assert client.expect("channel.created")["data"] == GENERAL["data"]
    (receipt,) = workspace.publish(MESSAGE)
    assert receipt["published"] is True
    frames = [client.expect("message.new") for client in (alice, bob)]
    assert frames[0] == frames[1]
    assert list(frames[0]) == ENVELOPE
    assert frames[0]["data"] == {**MESSAGE["data"], "attachments": [], "reactions": []}
    assert frames[0]["workspace_id"] == workspace.id


def test_typing_is_shown_to_others(workspace: Workspace) -> None:
    alice, bob = workspace.enter("alice"), workspace.enter("bob")
    workspace.publish(GENERAL)
    bob.expect("channel.created")
    alice.send_json({"type": "typing", "channel_id": "general", "is_typing": True})
    assert bob.expect("typing.start")["data"] == {"channel_id": "general", "user_id": "alice"}
    alice.send_json({"type": "typing", "channel_id": "general", "is_typing": False})
    assert bob.expect("typing.stop")["data"] == {"channel_id": "general", "user_id": "alice"}
    workspace.publish(MESSAGE)
    assert not [frame for frame in alice.through("message.new") if frame["type"].startswith("typing")]


def test_a_bad_token(workspace: Workspace, expected: Expected) -> None:
    frames, code, reason = workspace.connect("no.such.token").until_closed()
    assert [(frame["type"], frame["data"]["code"]) for frame in frames] == [("error", "INVALID_TOKEN")]
    assert list(frames[0]) == ["type", "data", "timestamp"]
    assert code == 4501
    assert bool(reason) is expected.keeps_reason


def test_a_workspace_of_others(workspace: Workspace, expected: Expected) -> None:
    frames, code, reason = workspace.connect(workspace.token("alice", workspaces=["elsewhere"])).until_closed()
    assert [(frame["type"], frame["data"]["code"]) for frame in frames] == [("error", "UNAUTHORIZED")]
    assert code == 4502
    assert bool(reason) is expected.keeps_reason


def test_a_binary_frame(workspace: Workspace, expected: Expected) -> None:
    alice = workspace.enter("alice")
    alice.send_bytes(b'{"type":"ping"}')
    frames, code, _ = alice.until_closed()
    assert frames == []
    assert code in expected.binary


def test_a_message_that_is_too_big(workspace: Workspace, expected: Expected) -> None:
    alice = workspace.enter("alice")
    alice.send_json({"type": "ping", "data": {"filler": "x" * 17 * 1024}})
    frames, code, _ = alice.until_closed()
    assert [frame["data"]["code"] for frame in frames] == ["INVALID_EVENT"]
    assert code in expected.too_big


@pytest.mark.parametrize("path", ["no!id", pytest.param("x" * 129, id="long")])
def test_a_bad_workspace_id(workspace: Workspace, expected: Expected, path: str) -> None:
    assert workspace.connect(workspace.token("alice"), path=path).handshake_status == expected.bad_id


def test_a_strange_origin(workspace: Workspace, expected: Expected) -> None:
    strange = workspace.connect(workspace.token("alice"), origin="http://elsewhere.example")
    assert strange.handshake_status == expected.bad_origin
    own = workspace.connect(workspace.token("alice"), origin=workspace.server.url)
    assert own.handshake_status == 101


@pytest.mark.parametrize("how", ["code", "no code", "reset"])
def test_whoever_leaves_goes_offline(workspace: Workspace, how: str) -> None:
    """Servers report an end as 4999, 1005, 1006 or None: to us each is an end."""
    alice, bob = workspace.enter("alice"), workspace.enter("bob")
    assert alice.expect("presence.updated")["data"] == {"user_id": "bob", "status": "online"}
    match how:
        case "code":
            bob.close(4999)
        case "no code":
            bob.close(None)
        case _:
            bob.abort()
    assert alice.expect("presence.updated")["data"] == {"user_id": "bob", "status": "offline"}
    until(lambda: workspace.presence() == {"alice": "online"}, 2, "bob is gone")


@pytest.mark.parametrize("name", COMMANDS)
def test_sigterm_and_what_was_never_printed(name: str) -> None:
    """One server from start to end: it leaves in time, and in all that it printed there is no secret."""
    with running(name) as server, Workspace(server) as workspace:
        token = workspace.token("alice")
        bad = "canary-" + token  # refused ones are logged elsewhere than accepted ones
        staying = workspace.connect(token)
        staying.expect("hello")
        workspace.connect(None, headers=[("Authorization", f"Bearer {token}")]).expect("hello")
        workspace.connect(None, subprotocols=["jackfield.v1", f"bearer.{token}"]).expect("hello")
        for refused in bad, f"{bad}&token={token}":
            assert workspace.connect(refused).until_closed()[1] == 4501
        assert workspace.connect(token, path="no!id").handshake_status == EXPECTED[name].bad_id
        assert workspace.connect(token, origin="http://elsewhere.example").handshake_status != 101
        if not EXPECTED[name].logs_plain_queries:
            server.http.get(f"{server.url}/ws/{workspace.id}?token={token}")
        workspace.publish(GENERAL)
        took = server.stop()
        assert took < STOPS_WITHIN
        assert server.process.returncode in EXPECTED[name].exits
        assert staying.until_closed()[1] in EXPECTED[name].at_stop
        printed = server.log()
        assert printed
        for secret in token, token.rpartition(".")[2], bad, API_KEY, SECRET:
            assert secret not in printed
        if name.startswith("serve-"):
            assert len(server.stdout.read_text().splitlines()) == 1
