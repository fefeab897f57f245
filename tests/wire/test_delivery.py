"""Section 8 of the wire, by bench: what becomes of an event on its way, in which order, and who gets it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from jackfield import (
    Channel,
    ClientEvent,
    Connection,
    Everyone,
    MemoryEngine,
    Post,
    ServerEvent,
    Session,
    Settings,
    Topic,
    UnknownAudience,
    Users,
    durable,
    ephemeral,
    hookimpl,
    latest,
    on,
    testing,
)
from jackfield.events import (
    ChannelDeleted,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageUpdated,
    Ping,
    PresenceUpdated,
    ReactionAdded,
    ReactionRemoved,
    ThreadUpdated,
    TypingIndicator,
    TypingStart,
    TypingStop,
)
from jackfield.testing import ANYCORN, HYPERCORN, UVICORN, Bench, Client, Profile
from jackfield.testing._link import Gate
from jackfield_members import Members, OpenWorkspace
from jackfield_presence import Presence
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from jackfield_typing import Typing
from tests.plugins.chat import NOON, heard, message, private, public

BLOCKING = [
    pytest.param(UVICORN, id="uvicorn"),
    pytest.param(HYPERCORN, id="hypercorn"),
    pytest.param(ANYCORN, id="anycorn"),
]


class Always(ServerEvent, type="always", delivery=durable):
    """Never dropped."""

    n: int


class Newest(ServerEvent, type="newest", delivery=latest("key")):
    """Only the newest of a key counts."""

    key: str
    n: int


class Passing(ServerEvent, type="passing", delivery=ephemeral):
    """Worthless a moment later."""

    n: int
    pad: str = ""


class Look(ClientEvent, type="look"):
    """Watch a topic, or stop to."""

    topic: str
    stop: bool = False


@attrs.define(eq=False)
class Things:
    name: str = "things"

    @hookimpl
    def register_events(self) -> Sequence[type[ClientEvent | ServerEvent]]:
        return Always, Newest, Passing, Look

    @on(Look)
    async def look(self, session: Session, event: Look) -> None:
        (session.unwatch if event.stop else session.watch)(event.topic)


NOTHING = '{"type":"always","data":{"n":1},"workspace_id":"w","timestamp":"2024-01-01T12:00:00.000Z"}'
bench = partial(testing.bench, OpenWorkspace, Things, settings=Settings(heartbeat_timeout=100_000))


async def stalled(b: Bench, profile: Profile) -> Client:
    """Somebody who has stopped reading, in the midst of a first event; what comes waits from here on."""
    client = await b.connect("slow", profile=profile)
    client.transport.stall()
    await b.workspace().publish(Always(0), to=Users("slow"))
    await b.clock.advance(0.05)
    return client


async def say(b: Bench, *events: ServerEvent) -> None:
    for event in events:
        await b.workspace().publish(event, to=Everyone())
    await testing.settle()


async def reads_on(b: Bench, client: Client) -> list[ServerEvent]:
    """What it has been sent behind the first event, when it reads again."""
    client.transport.read_on()
    await b.clock.advance(0.05)
    first, *rest = await client.pending()
    assert first == Always(0)
    return rest


# --- Delivery classes


@pytest.mark.parametrize("profile", BLOCKING)
async def test_durable_events_wait_and_come_in_their_order(profile: Profile) -> None:
    async with bench() as b:
        client = await stalled(b, profile)
        said = [Always(n) for n in range(1, 257)]
        await say(b, *said)
        assert await reads_on(b, client) == said
        assert not client.transport.ended


@pytest.mark.parametrize("profile", BLOCKING)
@pytest.mark.parametrize("event", [Always(1), Newest("k257", 1)], ids=["durable", "latest"])
async def test_for_what_there_is_no_room_the_connection_is_closed_4002(profile: Profile, event: ServerEvent) -> None:
    async with bench() as b:
        other = await b.connect("other")
        client = await stalled(b, profile)
        await say(b, *(Newest(f"k{n}", 1) for n in range(256)))
        assert not client.transport.ended
        await say(b, event)
        client.transport.read_on()
        await b.clock.advance(3)
        closed = await client.closed()
        assert (closed.code, closed.reason) in ((4002, "slow consumer"), (1006, ""))
        assert not b.nodes[0].app.node.sessions - {s for s in b.nodes[0].app.node.sessions if s.user_id == "other"}
        assert len((await heard(other))[0]) == 257


async def slow_is_there(b: Bench) -> bool:
    await testing.settle()
    return any(session.user_id == "slow" for session in b.app.node.sessions)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(heartbeat_timeout=100_000, outbox_events=3),
        Settings(heartbeat_timeout=100_000, outbox_bytes=3 * len(NOTHING.encode("utf-8"))),
    ],
    ids=["events", "bytes"],
)
async def test_how_much_waits_can_be_set(settings: Settings) -> None:
    async with bench(settings=settings) as b:
        client = await stalled(b, UVICORN)
        await say(b, *(Always(n) for n in range(1, 4)))
        assert await reads_on(b, client) == [Always(n) for n in range(1, 4)]
    async with bench(settings=settings) as b:
        client = await stalled(b, UVICORN)
        await say(b, *(Always(n) for n in range(1, 5)))
        client.transport.read_on()
        await b.clock.advance(3)
        assert (await client.closed()).code in (4002, 1006)
        assert not await slow_is_there(b)


async def test_how_long_a_write_may_get_nowhere_can_be_set() -> None:
    async with bench(settings=Settings(heartbeat_timeout=100_000, write_timeout=0.5)) as b:
        client = await stalled(b, UVICORN)
        await b.clock.advance(0.3)
        assert await slow_is_there(b)
        await b.clock.advance(3)
        assert not await slow_is_there(b)
        client.transport.read_on()


async def test_a_mebibyte_is_the_most_that_waits() -> None:
    async with bench() as b:
        client = await stalled(b, UVICORN)
        pad = "x" * 300_000
        await b.workspace().publish_all([Post(message("m1"), Everyone())])
        big = [attrs.evolve(message(f"b{n}"), content=pad) for n in range(4)]
        await say(b, *big[:3])
        assert not client.transport.ended
        assert any(session.user_id == "slow" for session in b.app.node.sessions)
        await say(b, big[3])
        await b.clock.advance(3)
        client.transport.read_on()
        await b.clock.advance(3)
        assert not any(session.user_id == "slow" for session in b.app.node.sessions)


@pytest.mark.parametrize("profile", BLOCKING)
async def test_of_latest_events_an_older_one_of_the_same_key_gives_way_and_the_newer_stands_at_the_end(
    profile: Profile,
) -> None:
    async with bench() as b:
        client = await stalled(b, profile)
        await say(b, Newest("a", 1), Newest("b", 1), Always(1), Newest("a", 2), Always(2), Newest("a", 3))
        assert await reads_on(b, client) == [Newest("b", 1), Always(1), Always(2), Newest("a", 3)]


async def test_any_number_of_one_key_takes_one_place() -> None:
    async with bench() as b:
        client = await stalled(b, UVICORN)
        await say(b, *(Newest("a", n) for n in range(1000)))
        assert await reads_on(b, client) == [Newest("a", 999)]


@pytest.mark.parametrize("profile", BLOCKING)
async def test_an_unsent_start_and_its_stop_go_together_and_a_stop_whose_start_was_sent_is_kept(
    profile: Profile,
) -> None:
    start, stop = TypingStart("c1", "bob"), TypingStop("c1", "bob")
    async with bench() as b:
        client = await b.connect("slow", profile=profile)
        await say(b, start)
        assert await heard(client) == [[start]]
        client.transport.stall()
        await b.workspace().publish(Always(0), to=Users("slow"))
        await b.clock.advance(0.05)
        others = [TypingStart("c1", "carol"), TypingStart("c2", "bob"), TypingStop("c1", "carol")]
        await say(b, stop, *others)
        assert await reads_on(b, client) == [stop, TypingStart("c2", "bob")]


@pytest.mark.parametrize("profile", BLOCKING)
async def test_of_a_users_presence_the_newest_counts(profile: Profile) -> None:
    async with bench() as b:
        client = await stalled(b, profile)
        said = [PresenceUpdated(user, status) for status in ("online", "away", "offline") for user in ("bob", "carol")]  # type: ignore[arg-type]
        await say(b, *said)
        assert await reads_on(b, client) == said[-2:]


@pytest.mark.parametrize("profile", BLOCKING)
async def test_ephemeral_events_are_dropped_first(profile: Profile) -> None:
    async with bench() as b:
        client = await stalled(b, profile)
        await say(b, *(Passing(n) for n in range(300)))
        said = [Always(n) for n in range(1, 257)]
        await say(b, *said)
        assert await reads_on(b, client) == said
        assert not client.transport.ended


@pytest.mark.parametrize("profile", BLOCKING)
async def test_ten_seconds_without_progress_end_it(profile: Profile) -> None:
    async with bench() as b:
        other = await b.connect("other")
        client = await stalled(b, profile)
        await b.clock.advance(9)
        assert any(session.user_id == "slow" for session in b.app.node.sessions)
        await b.clock.advance(6)
        assert not any(session.user_id == "slow" for session in b.app.node.sessions)
        client.transport.read_on()
        await say(b, Always(1))
        assert Always(1) not in await client.pending()
        assert await heard(other) == [[Always(1)]]


@pytest.mark.parametrize("profile", BLOCKING)
async def test_one_that_does_not_read_holds_up_nobody(profile: Profile) -> None:
    async with bench() as b:
        await stalled(b, profile)
        others = [await b.connect(f"user{n}", profile=profile) for n in range(20)]
        said = [Always(n) for n in range(1, 11)]
        await say(b, *said)
        assert await heard(*others) == [said] * 20


@pytest.mark.parametrize("profile", BLOCKING)
async def test_a_direct_answer_stands_behind_what_waits(profile: Profile) -> None:
    async with bench() as b:
        client = await stalled(b, profile)
        await say(b, Always(1))
        await client.send(Ping())
        await say(b, Always(2))
        names = [type(event).__name__ for event in await reads_on(b, client)]
        assert names in (["Always", "Pong", "Always"], ["Always", "Always", "Pong"])


# --- Order


@pytest.mark.parametrize("nodes", [1, 3])
async def test_everybody_sees_the_durable_events_in_one_order(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        clients = [await b.connect(f"user{n}", node=n % nodes) for n in range(6)]
        async with anyio.create_task_group() as tasks:
            for n in range(60):
                tasks.start_soon(partial(b.workspace(node=n % nodes).publish, Always(n), to=Everyone()))
        first, *others = await heard(*clients)
        assert len(first) == 60
        assert others == [first] * 5


@pytest.mark.parametrize("nodes", [1, 3])
async def test_what_was_acknowledged_before_another_began_stands_before_it(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        client = await b.connect("alice", node=nodes - 1)
        for n in range(12):
            await b.workspace(node=n % nodes).publish(Always(n), to=Everyone())
        assert await heard(client) == [[Always(n) for n in range(12)]]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_batch_is_consecutive_but_for_what_follows_from_its_own_events(nodes: int) -> None:
    async with testing.bench(Members, Threads, Things, nodes=nodes) as b:
        await b.workspace().publish_all([public(), message("m1")])
        client = await b.connect("bob", node=nodes - 1)
        async with anyio.create_task_group() as tasks:
            for k in range(6):
                batch = [message(f"{k}.{n}", parent="m1") for n in range(3)]
                tasks.start_soon(b.workspace(node=k % nodes).publish_all, batch)
        (said,) = await heard(client)
        assert len(said) == 36
        replies = list(said[::2])
        assert all(isinstance(event, ThreadUpdated) for event in said[1::2])
        batches = [[reply.id for reply in replies[start : start + 3]] for start in range(0, 18, 3)]  # type: ignore[attr-defined]
        assert sorted(batches) == [[f"{k}.{n}" for n in range(3)] for k in range(6)]


ALL_ORDERS = [
    (Members, Threads, Typing, Reactions),
    (Typing, Reactions, Threads, Members),
    (Threads, Typing, Members, Reactions),
    (Reactions, Members, Typing, Threads),
]


@pytest.mark.parametrize("order", ALL_ORDERS, ids=["mtyr", "yrtm", "tymr", "rmyt"])
async def test_behind_a_message_stands_its_thread_and_then_the_stop(order: tuple[type, ...]) -> None:
    async with testing.bench(*order) as b:
        await b.workspace().publish_all([public(), message("m1", user="carol")])
        alice, bob = await b.connect("alice"), await b.connect("bob")
        await alice.request(TypingIndicator("c1", True))
        reply = message("m2", parent="m1")
        await b.workspace().publish_all([reply, message("m3")])
        start, stop = TypingStart("c1", "alice"), TypingStop("c1", "alice")
        assert await heard(bob) == [[start, reply, ThreadUpdated("m1", 1, NOON), stop, message("m3")]]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_one_users_presence_comes_in_the_order_of_his_transitions(nodes: int) -> None:
    async with testing.bench(partial(Presence, grace=0), OpenWorkspace, nodes=nodes) as b:
        watchers = [await b.connect(f"watcher{n}", node=n) for n in range(nodes)]
        for watcher in watchers:
            await watcher.pending()
        for n in range(9):
            bob = await b.connect("bob", node=n % nodes)
            bob.close()
        for said in await heard(*watchers):
            assert [event.status for event in said] == ["online", "offline"] * 9  # type: ignore[attr-defined]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_nodes_that_were_cut_off_bring_what_was_missed_in_its_order(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        client = await b.connect("alice", node=nodes - 1)
        said = [Always(n) for n in range(30)]
        for n, event in enumerate(said):
            if nodes > 1 and n == 10:
                b.nodes[nodes - 1].partition()
            await b.workspace().publish(event, to=Everyone())
        b.nodes[nodes - 1].heal()
        assert await heard(client) == [said]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_the_timestamp_is_when_it_was_published_and_all_get_the_same_bytes(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        clients = [await b.connect(f"user{n}", node=n % nodes) for n in range(3)]
        gate = b.nodes[nodes - 1].link.gate = Gate({"feed"})
        await b.clock.advance(0.0625)
        await say(b, Always(1), Newest("a", 1), Passing(1))
        await b.clock.advance(30)  # it comes by there much later
        gate.open()
        await testing.settle()
        first, *others = [[message["text"] for message in client.transport.sent[2:]] for client in clients]
        assert [json.loads(text)["timestamp"] for text in first] == ["2024-01-01T12:00:00.062Z"] * 3
        assert others == [first] * 2


async def test_every_event_of_a_batch_has_the_moment_of_the_batch_and_so_has_what_follows() -> None:
    async with testing.bench(Members, Threads) as b:
        alice = await b.connect("alice")
        await b.clock.advance(7)
        await b.workspace().publish_all([public(), message(), message("m2", parent="m1")])
        await alice.pending()
        assert [frame["timestamp"] for frame in alice.frames[1:]] == ["2024-01-01T12:00:07.000Z"] * 4


# --- Who gets it


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize(
    ("to", "hears"),
    [
        (Everyone(), ["alice1", "alice2", "bob", "carol"]),
        (Channel("c1"), ["alice1", "alice2", "bob"]),
        (Channel("nowhere"), []),
        (Users("alice"), ["alice1", "alice2"]),
        (Users("carol", "alice", "carol"), ["alice1", "alice2", "carol"]),
        (Users("nobody"), []),
        (Users(), []),
        (Everyone() - Users("alice", "bob"), ["carol"]),
        (Channel("c1") - Users("bob"), ["alice1", "alice2"]),
        (Channel("c1") & Users("bob", "carol"), ["bob"]),
        (Everyone() - Channel("c1"), ["carol"]),
        (Channel("c1") - (Users("alice") - Connection("nobody's")), ["bob"]),
    ],
    ids=str,
)
async def test_an_audience_is_a_name_that_the_server_resolves(to: Any, hears: list[str], nodes: int) -> None:
    async with testing.bench(Members, Things, nodes=nodes) as b:
        await b.workspace().publish_all([private(), MemberJoined("c1", "bob")])
        clients = {
            name: await b.connect(name.rstrip("12"), node=n % nodes)
            for n, name in enumerate(("alice1", "alice2", "bob", "carol"))
        }
        await b.workspace(node=nodes - 1).publish(Always(1), to=to)
        assert [name for name, client in clients.items() if await client.pending()] == hears


@pytest.mark.parametrize("nodes", [1, 3])
async def test_one_connection_can_be_told_alone(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        one, two, bob = await b.connect("alice"), await b.connect("alice", node=nodes - 1), await b.connect("bob")
        await b.workspace().publish(Newest("a", 1), to=Connection(two.hello.connection_id))
        await b.workspace().publish(Newest("a", 2), to=Connection("nobody's"))
        assert await heard(one, two, bob) == [[], [Newest("a", 1)], []]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_one_connection_can_be_left_out(nodes: int) -> None:
    async with bench(nodes=nodes) as b:
        one, two = await b.connect("alice"), await b.connect("alice", node=nodes - 1)
        without = Everyone() - Connection(two.hello.connection_id)
        await b.workspace().publish(Always(1), to=without)
        assert await heard(one, two) == [[Always(1)], []]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_topic_is_those_who_look_at_it_just_now_and_no_authorisation(nodes: int) -> None:
    async with testing.bench(Members, Things, nodes=nodes) as b:
        await b.workspace().publish(private())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        for client in (alice, bob):
            await client.request(Look("t"))
        await b.workspace().publish(Newest("a", 1), to=Topic("t"))
        await b.workspace().publish(Newest("a", 2), to=Channel("c1") & Topic("t"))
        assert await heard(alice, bob) == [[Newest("a", 1), Newest("a", 2)], [Newest("a", 1)]]
        await bob.request(Look("t", stop=True))
        await b.workspace().publish(Newest("a", 3), to=Topic("t"))
        assert await heard(alice, bob) == [[Newest("a", 3)], []]
        with pytest.raises(ValueError, match="durable, and a topic ends with its connections"):
            await b.workspace().publish(Always(1), to=Topic("t"))


async def test_what_names_nobody_is_refused_and_not_broadcast() -> None:
    async with testing.bench(Members, Things) as b:
        alice = await b.connect("alice")
        with pytest.raises(UnknownAudience):
            await b.workspace().publish(Always(1))
        assert await heard(alice) == [[]]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_everything_of_a_message_follows_it_to_where_its_publisher_said(nodes: int) -> None:
    async with testing.bench(Members, Reactions, Threads, nodes=nodes) as b:
        await b.workspace().publish(public())
        alice, bob = await b.connect("alice"), await b.connect("bob", node=nodes - 1)
        said: list[ServerEvent] = [
            MessageUpdated("m1", "edited", NOON),
            ReactionAdded("m1", "👍", "alice"),
            ReactionRemoved("m1", "👍", "alice"),
            ThreadUpdated("m1", 7, NOON),
            MessageDeleted("m1", NOON),
        ]
        await b.workspace().publish(message(), to=Users("alice"))
        await b.workspace(node=nodes - 1).publish_all(said)
        assert await heard(alice, bob) == [[message(), *said], []]


@pytest.mark.parametrize("nodes", [1, 3])
async def test_who_gains_or_loses_sight_does_so_at_that_place_of_the_order(nodes: int) -> None:
    """Between any two events of one batch, on every node alike."""
    async with testing.bench(Members, nodes=nodes) as b:
        await b.workspace().publish(private())
        bobs = [await b.connect("bob", node=n) for n in range(nodes)]
        said: list[ServerEvent] = []
        seen: list[ServerEvent] = []
        for n in range(5):
            inside = [MemberJoined("c1", "bob"), message(f"in{n}"), MemberLeft("c1", "bob")]
            said += [*inside, message(f"out{n}")]
            seen += inside
        await b.workspace().publish_all([*said, ChannelDeleted("c1")])
        assert await heard(*bobs) == [seen] * nodes


async def test_an_event_to_users_is_for_those_who_come_later_under_that_name_not() -> None:
    """What is delivered is delivered to whom is there; who comes later has no part in it without resuming."""
    async with bench() as b:
        await b.workspace().publish(Always(1), to=Users("alice"))
        assert await heard(await b.connect("alice")) == [[]]


async def test_nothing_of_one_workspace_is_heard_in_another() -> None:
    engine = MemoryEngine()
    async with bench(engine=engine) as b:
        here, there = await b.connect("alice"), await b.connect("alice", workspace="other")
        await b.workspace().publish(Always(1), to=Everyone())
        await b.workspace("other").publish(Always(2), to=Users("alice"))
        assert await heard(here, there) == [[Always(1)], [Always(2)]]
        assert [frame["workspace_id"] for frame in (here.frames[-1], there.frames[-1])] == ["w", "other"]
