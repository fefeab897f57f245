"""Who comes back with a cursor: section 7 of the wire, sentence by sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import attrs
import pytest

from jackfield import (
    ALL_CHANNELS,
    Channel,
    Everyone,
    MemoryEngine,
    Post,
    Principal,
    ServerEvent,
    Session,
    Settings,
    Transaction,
    Unauthorized,
    Users,
    Workspace,
    hookimpl,
    latest,
)
from jackfield._lease import SYSTEM
from jackfield._node import CURSOR_KEY
from jackfield._outbox import Frame, Outbox
from jackfield.engine import Key
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageNew,
    MessageUpdated,
    ReactionAdded,
    ReactionRemoved,
    TypingIndicator,
)
from jackfield.testing import ANYCORN, HYPERCORN, UVICORN, Bench, Client, Closed, FakeClock, Profile, bench, settle
from jackfield.testing._interleave import Order, every_order
from jackfield.testing._link import CALLS, Gate
from jackfield_auth import TokenAuth
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_reactions import Reactions
from jackfield_threads import Threads
from jackfield_typing import Typing

NOON = "2024-01-01T12:00:00.000Z"
START = FakeClock().time()
PING = {"type": "ping"}
EASY = Settings(ping_burst=100_000, heartbeat_timeout=100_000)
profiles = pytest.mark.parametrize("profile", [UVICORN, HYPERCORN, ANYCORN], ids=["uvicorn", "hypercorn", "anycorn"])


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


class Mood(ServerEvent, type="mood", delivery=latest("user_id")):
    """What passes."""

    user_id: str
    mood: str

    def audience(self) -> Everyone:
        return Everyone()


@attrs.define(eq=False)
class Words:
    name: str = "words"

    @hookimpl
    def register_events(self) -> list[type[ServerEvent]]:
        return [Said, Mood]


async def say(b: Bench, *texts: object, node: int = 0, to: Any = None) -> None:
    """Each by itself."""
    for text in texts:
        await b.workspace(node=node).publish(Said(str(text)), to=to)
    await settle()


async def say_at_once(b: Bench, count: int, start: int = 0, node: int = 0) -> None:
    for first in range(start, start + count, 100):
        texts = range(first, min(first + 100, start + count))
        await b.workspace(node=node).publish_all([Said(str(text)) for text in texts])
    await settle()


def said(client: Client) -> list[str]:
    client._take()
    return [frame["data"]["text"] for frame in client.frames if frame["type"] == "said"]


def types(client: Client) -> list[str]:
    client._take()
    return [frame["type"] for frame in client.frames if frame["type"] != "hello"]


def texts(client: Client) -> list[str]:
    """Frames, byte for byte."""
    return [message["text"] for message in client.transport.sent if message["type"] == "websocket.send"]


def numbers(*bounds: int) -> list[str]:
    return [str(number) for number in range(*bounds)]


def hello(client: Client) -> dict[str, Any]:
    client._take()
    data: dict[str, Any] = client.frames[0]["data"]
    return data


def outcome(client: Client) -> Any:
    return hello(client).get("resume")


def recovered(replayed: int) -> dict[str, Any]:
    return {"recovered": True, "replayed": replayed}


def lost(reason: str) -> dict[str, Any]:
    return {"recovered": False, "reason": reason}


def position(b: Bench, cursor: str, user: str = "alice") -> int:
    return b.app.node.hub.cursors.read(cursor, "w", user).position


async def gone(b: Bench, user: str = "alice", node: int = 0, **options: Any) -> str:
    """The cursor of somebody who was here and has gone."""
    client = await b.connect(user, resume="", node=node, **options)
    cursor = client.cursor
    client.drop()
    await settle()
    return cursor


def nothing_is_left(b: Bench, node: int = 0) -> None:
    resumes = b.nodes[node].app.node.resumes
    assert (resumes._waiting, resumes._slots.value) == (0, 32)


# --- "every durable event carries a fifth and last key `cursor`"


async def test_every_durable_event_carries_a_fifth_and_last_key() -> None:
    async with bench(Members, Reactions, Threads) as b:
        alice = await b.connect("alice", resume="")
        for event in (
            ChannelCreated("c1", "general", "private", "alice"),
            ChannelUpdated("c1", name="other"),
            MemberJoined("c1", "bob"),
            MessageNew("m1", "c1", "alice", "text", NOON),
            MessageNew("m2", "c1", "alice", "text", NOON, parent_message_id="m1"),
            MessageUpdated("m1", "other", NOON),
            ReactionAdded("m1", "+1", "bob"),
            ReactionRemoved("m1", "+1", "bob"),
            MessageDeleted("m1", NOON),
            MemberLeft("c1", "bob"),
            ChannelDeleted("c1"),
        ):
            await b.workspace().publish(event)
        await settle()
        pairs = [json.loads(text, object_pairs_hook=list) for text in texts(alice)[1:]]
        assert [key for key, _ in pairs[0]] == ["type", "data", "workspace_id", "timestamp", "cursor"]
        assert len({tuple(key for key, _ in frame) for frame in pairs}) == 1
        assert len(pairs) == 12  # thread.updated too
        places = [position(b, dict(frame)["cursor"]) for frame in pairs]
        assert places == [*range(1, 13)]
        assert all(re.search(r'Z","cursor":"[A-Za-z0-9_-]{1,128}"}$', text) for text in texts(alice)[1:])


async def test_typing_presence_acknowledgements_and_errors_carry_none() -> None:
    async with bench(Members, Presence, Typing) as b:
        await b.workspace().publish(ChannelCreated("c1", "general", "public", "alice"))
        alice, bob = await b.connect("alice", resume=""), await b.connect("bob", resume="")
        await bob.send(TypingIndicator("c1", True), ref=1)
        await bob.send(TypingIndicator("c1", False), ref=2)
        await bob.send(TypingIndicator("nowhere", True), ref=3)
        assert types(alice) == ["presence.updated", "typing.start", "typing.stop"]
        assert types(bob) == ["ack", "ack", "error"]
        assert not any("cursor" in text for text in (*texts(alice)[1:], *texts(bob)[1:]))


async def test_what_a_plugin_publishes_durably_carries_one_and_what_passes_does_not() -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", resume="")
        await say(b, "x")
        await b.workspace().publish(Mood("bob", "fine"))
        await settle()
        alice._take()
        assert [("cursor" in frame) for frame in alice.frames[1:]] == [True, False]


async def test_hello_says_the_cursor_and_what_became_of_the_one_that_was_brought() -> None:
    async with bench(Words) as b:
        first = await b.connect("alice", resume="")
        assert list(hello(first))[-2:] == ["state", "cursor"]
        again = await b.connect("alice", resume=first.cursor)
        assert list(hello(again))[-3:] == ["state", "cursor", "resume"]
        assert hello(again)["cursor"] == first.cursor
        bad = await b.connect("alice", resume="nonsense")
        assert list(hello(bad))[-3:] == ["state", "cursor", "resume"]
        assert position(b, hello(bad)["cursor"]) == 0


async def test_pong_says_it_after_its_ref() -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", resume="")
        await alice.send(PING)
        await alice.send(PING, ref="r")
        await alice.send(PING, ref=7)
        assert texts(alice)[1:] == [
            f'{{"type":"pong","cursor":"{alice.cursor}"}}',
            f'{{"type":"pong","ref":"r","cursor":"{alice.cursor}"}}',
            f'{{"type":"pong","ref":7,"cursor":"{alice.cursor}"}}',
        ]


async def test_a_client_that_did_not_ask_gets_nothing_of_it() -> None:
    """Byte for byte what the others get, without the last key."""
    async with bench(Words) as b:
        plain, keeping, other = (
            await b.connect("alice"),
            await b.connect("alice", resume=""),
            await b.connect("bob", resume=""),
        )
        await say(b, 'ä"}', "y")
        for client in (plain, keeping):
            await client.send(PING, ref=1)
        assert not any("cursor" in text or "resume" in text for text in texts(plain))
        assert plain.cursor == ""
        cut = [re.sub(r',"cursor":"[^"]*"}$', "}", text) for text in texts(keeping)[1:]]
        assert texts(plain)[1:] == cut
        for one, two in zip(texts(keeping)[1:3], texts(other)[1:3], strict=True):
            assert (one[:-14], one[-2:]) == (two[:-14], two[-2:])  # but for the tag
            assert one != two


async def test_empty_is_the_first_time_and_of_two_the_last_counts() -> None:
    async with bench(Words) as b:
        assert outcome(await b.connect("alice", resume="")) is None
        assert outcome(await b.connect("alice", query="resume")) is None
        assert outcome(await b.connect("alice", query="resume=&resume=nonsense")) == lost("unknown")
        assert outcome(await b.connect("alice", query="resume=nonsense&resume=")) is None
        assert "cursor" not in hello(await b.connect("alice", query="Resume="))


# --- "`hello.data.resume` is … and the N missed events follow, in order, before anything newer"


async def test_who_received_nothing_can_resume_all_the_same() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say(b, "a", "b")
        alice = await b.connect("alice", resume=cursor)
        assert outcome(alice) == recovered(2)
        assert said(alice) == ["a", "b"]
        assert [position(b, frame["cursor"]) for frame in alice.frames[1:]] == [1, 2]


async def test_who_missed_nothing_is_told_so() -> None:
    async with bench(Words) as b:
        await say(b, "before")
        cursor = await gone(b)
        for _ in range(2):
            alice = await b.connect("alice", resume=cursor)
            assert outcome(alice) == recovered(0)
            assert said(alice) == []


async def test_it_goes_on_from_any_cursor_that_he_was_ever_given() -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", resume="")
        await say(b, *numbers(5))
        alice._take()
        for number, frame in enumerate(alice.frames[1:]):
            again = await b.connect("alice", resume=frame["cursor"])
            assert (outcome(again), said(again)) == (recovered(4 - number), numbers(number + 1, 5))


async def test_what_is_replayed_is_what_was_sent_byte_for_byte() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        there = await b.connect("alice", resume="")
        await say(b, *numbers(70))
        await b.clock.advance(100)
        back = await b.connect("alice", resume=cursor)
        assert texts(back)[1:] == texts(there)[1:]


async def test_what_happens_during_the_replay_follows_it() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 200)
        alice = await stalled_after(b, 50, cursor)
        await say_at_once(b, 300, 200)
        await b.workspace().publish(Mood("bob", "fine"))
        alice.transport.read_on()
        await settle()
        assert outcome(alice) == recovered(200)
        assert said(alice) == numbers(500)
        await say(b, 500)
        assert said(alice) == numbers(501)
        places = [position(b, f["cursor"]) for f in alice.frames if f["type"] == "said"]
        assert places == [*range(1, 501), 502]  # the one between them passes


async def stalled_after(b: Bench, frames: int, cursor: str, user: str = "alice", **options: Any) -> Client:
    """One that comes back and after so many frames of the replay reads no more."""
    clients: list[Client] = []
    opened = anyio.Event()

    async def watch() -> None:
        client = await b.open(user, resume=cursor, profile=HYPERCORN, **options)
        clients.append(client)
        opened.set()

    reading = b.nodes[0].app.node.hub.frame
    hub = b.nodes[options.get("node", 0)].app.node.hub
    count = 0

    def frame(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == frames + 1:
            transports = b.nodes[options.get("node", 0)]._transports
            transports[-1].stall()
        return reading(*arguments)

    hub.frame = frame  # type: ignore[method-assign]
    try:
        await watch()
    finally:
        del hub.frame
    return clients[0]


# --- reasons


async def test_one_that_cannot_be_decoded_or_is_too_long_is_unknown() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say(b, "x")
        for bad in ("0", "nonsense", cursor[:-1], f"{cursor}A", f"{cursor}=", "é" * 48, "A" * 129, cursor * 3):
            alice = await b.connect("alice", resume=bad)
            assert outcome(alice) == lost("unknown"), bad
            assert said(alice) == []
            assert position(b, alice.cursor) == 1


async def test_one_of_somebody_else_of_elsewhere_or_forged_is_foreign() -> None:
    async with bench(Words) as b:
        cursors = [await gone(b, "bob"), await gone(b, "alice", workspace="v")]
        own = await gone(b)
        cursors.append(f"{'A' if own[0] != 'A' else 'B'}{own[1:]}")
        cursors.append(f"{own[:-1]}{'A' if own[-1] != 'A' else 'B'}")
        for bad in cursors:
            assert outcome(await b.connect("alice", resume=bad)) == lost("foreign")


async def test_where_it_cannot_go_on_the_cursor_in_hello_is_a_good_one() -> None:
    async with bench(Words) as b:
        await say(b, "a")
        alice = await b.connect("alice", resume="nonsense")
        await say(b, "b")
        assert said(alice) == ["b"]
        again = await b.connect("alice", resume=hello(alice)["cursor"])
        assert (outcome(again), said(again)) == (recovered(1), ["b"])


async def test_a_thousand_are_replayed_and_one_more_is_too_many() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 1000)
        alice = await b.connect("alice", resume=cursor)
        assert outcome(alice) == recovered(1000)
        assert said(alice) == numbers(1000)
        await say(b, 1000)
        late = await b.connect("alice", resume=cursor)
        assert outcome(late) == lost("too_many")
        assert said(late) == []
        assert position(b, late.cursor) == 1001


async def test_only_visible_ones_are_counted() -> None:
    async with bench(Words, settings=Settings(replay_events=3)) as b:
        cursor = await gone(b)
        for n in range(100):
            await say(b, n, to=Users("bob"))
        await say(b, "a", "b", "c")
        alice = await b.connect("alice", resume=cursor)
        assert (outcome(alice), said(alice)) == (recovered(3), ["a", "b", "c"])


@pytest.mark.parametrize(
    ("settings", "wait"),
    [
        (Settings(history_events=10), 0.0),
        (Settings(history_bytes=1800), 0.0),
        (Settings(history_age=60), 61.0),
    ],
    ids=["events", "bytes", "age"],
)
async def test_what_is_no_longer_kept_is_expired(settings: Settings, wait: float) -> None:
    async with bench(Words, settings=settings) as b:
        alice = await b.connect("alice", resume="")
        await say(b, *numbers(5))
        await b.clock.advance(wait)
        await say(b, *numbers(5, 15))
        floor = (await b.engine.read("w")).floor
        assert 0 < floor < 15
        cursors = {position(b, text): text for frame in alice.frames if (text := frame.get("cursor"))} or {
            position(b, frame["cursor"]): frame["cursor"] for frame in _frames(alice)
        }
        for place, cursor in cursors.items():
            again = await b.connect("alice", resume=cursor)
            if place < floor:
                assert outcome(again) == lost("expired"), place
            else:
                assert (outcome(again), said(again)) == (recovered(15 - place), numbers(place, 15)), place


def _frames(client: Client) -> list[dict[str, Any]]:
    client._take()
    return client.frames[1:]


async def test_what_is_let_go_while_it_is_read_is_expired() -> None:
    async with bench(Words, settings=Settings(history_events=100)) as b:
        cursor = await gone(b)
        await say_at_once(b, 90)
        b.nodes[0].link.gate = gate = Gate(["records"])
        alice = await b.open("alice", resume=cursor)
        assert gate.waiting == 1
        await say_at_once(b, 60, 90)
        gate.open()
        await settle()
        assert outcome(alice) == lost("expired")
        assert said(alice) == numbers(90, 150)


async def test_a_place_above_the_end_of_the_log_is_one_that_was_lost() -> None:
    async with bench(Words) as b:
        await say(b, "x")
        snapshot = await b.engine.read("w")
        cursors = b.app.node.hub.cursors
        ahead = cursors.mark("w", snapshot.epoch, 2, "another") + cursors.tag("w", "alice")
        assert outcome(await b.connect("alice", resume=ahead)) == lost("expired")


@pytest.mark.parametrize("place", [1, 2, 3])
async def test_where_another_record_stands_the_log_was_lost(place: int) -> None:
    """At the end, at the floor, and between."""
    async with bench(Words, settings=Settings(history_events=2)) as b:
        await say(b, "a", "b", "c")
        snapshot = await b.engine.read("w")
        cursors = b.app.node.hub.cursors
        other = cursors.mark("w", snapshot.epoch, place, "another") + cursors.tag("w", "alice")
        assert outcome(await b.connect("alice", resume=other)) == lost("expired")


async def test_one_of_an_epoch_before_is_expired() -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", resume="")
        await say(b, "a", "b")
        cursor = alice.cursor
        del b.engine._logs["w"]  # type: ignore[attr-defined]
        await b.workspace().publish(Said("c"))
        closed = await alice.closed()
        assert closed.code == 1012
        again = await b.connect("alice", resume=cursor)
        assert outcome(again) == lost("expired")
        await say(b, "d", "e", "f")
        assert outcome(await b.connect("alice", resume=cursor)) == lost("expired")
        last = await b.connect("alice", resume=hello(again)["cursor"])
        assert (outcome(last), said(last)) == (recovered(3), ["d", "e", "f"])


async def test_one_of_an_engine_that_is_gone_is_expired() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
    async with bench(Words) as b:
        assert outcome(await b.connect("alice", resume=cursor)) == lost("expired")


async def test_another_process_on_the_same_engine_goes_on() -> None:
    engine = MemoryEngine()
    async with bench(Words, engine=engine) as b:
        await say(b, "a")
        cursor = await gone(b)
        await say(b, "b")
    async with bench(Words, engine=engine) as b:
        await say(b, "c")
        alice = await b.connect("alice", resume=cursor)
        assert (outcome(alice), said(alice)) == (recovered(2), ["b", "c"])


# --- "Replayed is only what the user may see now and could already see at that point"


async def test_a_private_channel_that_was_left_meanwhile_is_not_replayed_but_the_leaving_is() -> None:
    async with bench(Members) as b:
        publish = b.workspace().publish
        await publish(ChannelCreated("c1", "secret", "private", "alice"))
        await publish(MemberJoined("c1", "bob"))
        cursor = await gone(b, "bob")
        await publish(MessageNew("m1", "c1", "alice", "text", NOON))
        await publish(MemberLeft("c1", "bob"))
        await publish(MessageNew("m2", "c1", "alice", "text", NOON))
        bob = await b.connect("bob", resume=cursor)
        assert (outcome(bob), types(bob)) == (recovered(1), ["member.left"])


async def test_what_fell_inside_of_his_memberships() -> None:
    async with bench(Members) as b:
        publish = b.workspace().publish
        await publish(ChannelCreated("c1", "secret", "private", "alice"))
        cursor = await gone(b, "bob")
        for round in range(3):
            await publish(MessageNew(f"out{round}", "c1", "alice", "text", NOON))
            await publish(MemberJoined("c1", "bob"))
            await publish(MessageNew(f"in{round}", "c1", "alice", "text", NOON))
            if round < 2:
                await publish(MemberLeft("c1", "bob"))
        bob = await b.connect("bob", resume=cursor)
        assert [f["data"]["id"] for f in bob.frames[1:] or _frames(bob) if f["type"] == "message.new"] == [
            "in0",
            "in1",
            "in2",
        ]
        assert types(bob).count("member.joined") == 3
        assert types(bob).count("member.left") == 2


async def test_the_end_of_a_channel_for_those_who_saw_it() -> None:
    async with bench(Members) as b:
        publish = b.workspace().publish
        await publish(ChannelCreated("c1", "secret", "private", "alice"))
        await publish(ChannelCreated("c2", "general", "public", "alice"))
        alice, bob = await gone(b, "alice"), await gone(b, "bob")
        await publish(MemberJoined("c2", "bob"))
        await publish(MessageNew("m", "c1", "alice", "text", NOON))
        await publish(ChannelDeleted("c1"))
        await publish(ChannelDeleted("c2"))
        assert types(await b.connect("alice", resume=alice)) == ["channel.deleted", "channel.deleted"]
        assert types(await b.connect("bob", resume=bob)) == ["member.joined", "channel.deleted"]


async def test_where_nobody_says_who_saw_a_channel_it_is_expired() -> None:
    async with bench(Words) as b:
        cursor = await gone(b, channels=["c1"])
        await b.workspace().publish(ChannelDeleted("c1"), to=Channel("c1"))
        assert outcome(await b.connect("alice", resume=cursor)) == lost("expired")


async def test_where_everybody_sees_every_channel() -> None:
    @attrs.define(eq=False)
    class Open:
        name: str = "open"

        @hookimpl
        async def channels_of(self, workspace: Workspace, user_id: str) -> Any:
            return ALL_CHANNELS

    async with bench(Open, Words) as b:
        cursor = await gone(b)
        await b.workspace().publish(MessageNew("m", "c1", "bob", "text", NOON))
        await b.workspace().publish(ChannelDeleted("c1"), to=Channel("c1"))
        alice = await b.connect("alice", resume=cursor)
        assert types(alice) == ["message.new", "channel.deleted"]


async def test_what_passes_is_not_replayed_and_the_state_is_current() -> None:
    async with bench(Members, Presence, Typing) as b:
        await b.workspace().publish(ChannelCreated("c1", "general", "public", "alice"))
        cursor = await gone(b)
        bob = await b.connect("bob")
        await bob.send(TypingIndicator("c1", True))
        alice = await b.connect("alice", resume=cursor)
        assert (outcome(alice), types(alice)) == (recovered(0), [])
        assert hello(alice)["state"]["typing"] == [{"channel_id": "c1", "user_id": "bob"}]


# --- who may come in is asked anew


async def test_who_was_revoked_meanwhile_stays_out() -> None:
    async with bench(Words) as b:
        principal = Principal("alice", issued_at=START - 10)
        alice = await b.connect(principal=principal, resume="")
        cursor = alice.cursor
        alice.drop()
        await settle()
        await b.workspace().revoke("alice")
        await say(b, "secret")
        with pytest.raises(Closed) as closed:
            await b.connect(principal=principal, resume=cursor)
        assert closed.value.code == 4503
        fresh = await b.connect(principal=Principal("alice", issued_at=START + 10), resume=cursor)
        assert said(fresh) == ["secret"]
        nothing_is_left(b)


async def test_who_may_not_enter_any_more_stays_out() -> None:
    allowed = True

    @attrs.define(eq=False)
    class Door:
        name: str = "door"

        @hookimpl
        async def channels_of(self, workspace: Workspace, user_id: str) -> Any:
            if not allowed:
                raise Unauthorized
            return ()

    async with bench(Door, Words) as b:
        cursor = await gone(b)
        await say(b, "secret")
        allowed = False
        with pytest.raises(Closed) as closed:
            await b.connect("alice", resume=cursor)
        assert closed.value.code == 4502
        nothing_is_left(b)


# --- "A cursor never runs ahead of the frames", and never falls behind them


@profiles
async def test_a_pong_behind_a_send_that_stands_still_names_what_was_sent_before_it(profile: Profile) -> None:
    async with bench(Words, settings=EASY) as b:
        alice = await b.connect("alice", resume="", profile=profile)
        await say(b, "a")
        alice.transport.stall()
        await say(b, "b")
        await alice.send(PING)
        await b.clock.advance(0.01)
        await say(b, "c")
        await alice.send(PING)
        await say(b, "d")
        alice.transport.read_on()
        await settle()
        alice._take()
        assert said(alice) == ["a", "b", "c", "d"]
        before = 0
        for frame in alice.frames[1:]:
            place = position(b, frame["cursor"])
            if frame["type"] == "pong":
                assert place == before
            before = place
        assert types(alice).count("pong") == 2


async def crowd(b: Bench, **options: Any) -> list[Client]:
    """So many before him who do not read that no worker comes to him, until some time has passed."""
    readers = [await b.connect("bob", profile=HYPERCORN, **options) for _ in range(20)]
    for reader in readers:
        reader.transport.stall()
    return readers


async def test_a_pong_does_not_name_what_somebody_before_him_still_holds_up() -> None:
    async with bench(Words, settings=EASY) as b:
        await crowd(b)
        alice = await b.connect("alice", resume="")
        await say(b, "x")
        await alice.send(PING)
        assert types(alice) == ["pong"]
        assert position(b, alice.cursor) == 0
        await b.clock.advance(0.1)  # other workers go on
        assert said(alice) == ["x"]
        await alice.send(PING)
        assert position(b, alice.cursor) == 1


async def test_a_pong_counts_what_was_not_for_him_when_it_has_been_handed_to_everybody() -> None:
    async with bench(Words, settings=EASY) as b:
        bob, alice = await b.connect("bob", profile=HYPERCORN), await b.connect("alice", resume="")
        await say(b, "x", to=Users("bob"))
        await alice.send(PING)
        assert position(b, alice.cursor) == 1
        bob.transport.stall()
        await say(b, "y", to=Users("bob"))
        await alice.send(PING)
        assert position(b, alice.cursor) == 1
        await b.clock.advance(0.02)
        await alice.send(PING)
        assert position(b, alice.cursor) == 2


async def test_a_pong_does_not_name_what_waits_in_the_outbox() -> None:
    """Of two pongs that waited, each names what was written before it."""
    async with bench(Words, settings=EASY) as b:
        alice = await b.connect("alice", resume="")
        alice.transport.stall()
        await say(b, "a")
        await b.clock.advance(0.01)
        for text in ("b", "c"):
            await alice.send(PING)
            await say(b, text)
        alice.transport.read_on()
        await settle()
        alice._take()
        assert [(f["type"], position(b, f["cursor"])) for f in alice.frames[1:]] == [
            ("said", 1),
            ("pong", 1),
            ("said", 2),
            ("pong", 2),
            ("said", 3),
        ]


async def test_a_pong_during_a_replay_names_what_was_replayed() -> None:
    async with bench(Words, settings=EASY) as b:
        cursor = await gone(b)
        await say_at_once(b, 200)
        alice = await stalled_after(b, 70, cursor)
        await alice.send(PING)
        alice.transport.read_on()
        await settle()
        assert said(alice) == numbers(200)
        place = 0
        for frame in alice.frames[1:]:
            before, place = place, position(b, frame["cursor"])
            assert place == before + (frame["type"] != "pong")
        assert types(alice).count("pong") == 1


async def test_a_pong_while_the_node_reads_up_does_not_name_what_is_to_come() -> None:
    async with bench(Words, nodes=2, settings=EASY) as b:
        for node in range(2):
            await b.connect("bob", node=node)
        cursor = await gone(b)
        await say_at_once(b, 300)
        alice = await b.connect("alice", resume=cursor)
        assert len(said(alice)) == 300
        b.nodes[0].link.gate = gate = Gate(["feed"])
        await say_at_once(b, 3, 300, node=1)
        await alice.send(PING)
        assert position(b, alice.cursor) == 300
        gate.open()
        await settle()
        await alice.send(PING)
        assert position(b, alice.cursor) == 303


async def test_under_a_token_that_has_run_out_a_pong_stands_still() -> None:
    async with bench(TokenAuth(verify=_verify(START), refresh=True), Words, settings=EASY) as b:
        alice = await b.connect(token="alice:10", channels=(), resume="")
        await say(b, "a")
        await b.clock.advance(10)
        await say(b, "b")
        await b.workspace().publish(Said("c"), to=Users("bob"))
        await alice.send(PING)
        assert position(b, alice.cursor) == 1
        await alice.send({"type": "auth.refresh", "token": "alice:100"})
        assert said(alice) == ["a", "b"]
        await alice.send(PING)
        assert position(b, alice.cursor) == 3


def _verify(start: float) -> Callable[[str, str], Any]:
    """A token says whose it is and how long it lives."""

    async def verify(token: str, workspace_id: str) -> Principal | None:
        user, _, seconds = token.partition(":")
        return Principal(user, start + float(seconds), start)

    return verify


async def test_who_keeps_the_last_cursor_that_he_saw_is_never_given_what_he_has_had() -> None:
    async with bench(Words, settings=EASY) as b:
        cursor, had = "", []
        for round in range(30):
            alice = await b.connect("alice", resume=cursor)
            await say(b, f"{round}a")
            if round % 2:
                await b.workspace().publish(Said(f"{round}b"), to=Users("bob"))
            if round % 3:
                await alice.send(PING)
            had += said(alice)
            cursor = alice.cursor
            alice.drop()
            await settle()
            await say(b, f"{round}c")
        alice = await b.connect("alice", resume=cursor)
        had += said(alice)
        assert had == [f"{round}{letter}" for round in range(30) for letter in "ac"]


async def test_a_pong_names_a_record_that_lasts() -> None:
    """One that passes cannot be compared later on."""
    async with bench(Words, settings=EASY) as b:
        alice = await b.connect("alice", resume="")
        await say(b, "a")
        for _ in range(3):
            await b.workspace().publish(Mood("bob", "fine"))
        await settle()
        await crowd(b)
        late = await b.connect("alice", resume=alice.cursor)
        await say(b, "x")
        for client in (alice, late):
            await client.send(PING)
        assert position(b, late.cursor) == 1
        assert position(b, alice.cursor) == (5 if said(alice) == ["a", "x"] else 1)


async def test_when_what_waited_has_been_written_a_pong_goes_on_counting() -> None:
    async with bench(Words, settings=EASY) as b:
        alice = await b.connect("alice", resume="")
        alice.transport.stall()
        await say(b, *numbers(5))
        await b.clock.advance(0.01)
        await say(b, *numbers(5, 10))
        alice.transport.read_on()
        await settle()
        assert said(alice) == numbers(10)
        await say(b, "not for her", to=Users("bob"))
        await alice.send(PING)
        assert position(b, alice.cursor) == 11


# --- how it is sent


@profiles
async def test_whichever_way_a_frame_goes_it_carries_its_cursor(profile: Profile) -> None:
    """By a worker, by one that finds more when it comes back, out of the outbox, by the session itself."""
    async with bench(Words, settings=EASY) as b:
        alice = await b.connect("alice", resume="", profile=profile)
        for round in range(10):
            posts = [Post(Said(f"{round}.{n}"), Users("alice") if n % 2 else Everyone()) for n in range(10)]
            await b.workspace().publish_all(posts)
            await settle()
            if round == 5:
                alice.transport.stall()
                await b.clock.advance(0.01)
            if round == 7:
                alice.transport.read_on()
        expected = [f"{round}.{n}" for round in range(10) for n in range(10)]
        assert said(alice) == expected
        assert [position(b, frame["cursor"]) for frame in alice.frames[1:]] == [*range(1, 101)]
        back = await b.connect("alice", resume=hello(alice)["cursor"])
        assert [frame["cursor"] for frame in _frames(back)] == [frame["cursor"] for frame in _frames(alice)]


async def test_what_a_plugin_says_to_the_one_who_comes_stands_behind_the_replay() -> None:
    @attrs.define(eq=False)
    class Greets:
        name: str = "greets"

        @hookimpl
        async def session_opened(self, session: Session) -> None:
            await session.send(Said("welcome"))

    async with bench(Greets, Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 3)
        assert said(await b.connect("alice", resume=cursor)) == ["0", "1", "2", "welcome"]


async def test_memberships_are_walked_back_over_a_long_way() -> None:
    async with bench(Members) as b:
        publish, many = b.workspace().publish, b.workspace().publish_all
        await publish(ChannelCreated("c1", "secret", "private", "bob"))
        await publish(MemberJoined("c1", "alice"))
        cursor = await gone(b)
        expected = []
        for round in range(4):
            await many([MessageNew(f"in{round}.{n}", "c1", "bob", "text", NOON) for n in range(70)])
            expected += [f"in{round}.{n}" for n in range(70)]
            await publish(MemberLeft("c1", "alice"))
            await many([MessageNew(f"out{round}.{n}", "c1", "bob", "text", NOON) for n in range(70)])
            await publish(MemberJoined("c1", "alice"))
        alice = await b.connect("alice", resume=cursor)
        assert outcome(alice) == recovered(4 * 72)
        assert [f["data"]["id"] for f in _frames(alice) if f["type"] == "message.new"] == expected


def test_an_outbox_counts_what_of_it_stands_in_the_log() -> None:
    outbox = Outbox(10, 1000)
    of_the_log, another = Frame("{}", type="t", mark=lambda: "m"), Frame("{}", type="t")
    for frame in (of_the_log, another, of_the_log):
        assert outbox.offer(frame)
    assert outbox.marked == 2
    assert outbox.take() is of_the_log
    outbox.take()
    assert outbox.marked == 1
    outbox.put_back([of_the_log, another])
    assert outbox.marked == 2
    outbox.clear()
    assert outbox.marked == 0


async def test_a_replay_of_a_thousand_does_not_overflow_the_outbox() -> None:
    async with bench(Words, settings=Settings(outbox_events=5, outbox_bytes=2000)) as b:
        cursor = await gone(b)
        await say_at_once(b, 1000)
        alice = await stalled_after(b, 10, cursor)
        await say_at_once(b, 100, 1000)
        await b.clock.advance(5)
        alice.transport.read_on()
        await settle()
        assert said(alice) == numbers(1100)


async def test_who_does_not_read_his_replay_is_4002_and_resumes_from_what_he_got() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 500)
        alice = await stalled_after(b, 120, cursor)
        await b.clock.advance(10.1)
        alice.transport.read_on()
        await settle()
        assert (await alice.closed()).code == 4002
        got = said(alice)
        assert 120 <= len(got) <= 121
        await say_at_once(b, 10, 500)
        again = await b.connect("alice", resume=alice.cursor)
        assert outcome(again) == recovered(510 - len(got))
        assert got + said(again) == numbers(510)
        nothing_is_left(b)


@pytest.mark.parametrize("frames", [0, 1, 63, 64, 65, 128, 199])
async def test_who_drops_in_the_middle_goes_on_from_there(frames: int) -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 200)
        alice = await stalled_after(b, frames, cursor)
        alice.drop()
        await settle()
        got = said(alice)
        assert len(got) in (frames, frames + 1)
        again = await b.connect("alice", resume=alice.cursor)
        assert got + said(again) == numbers(200)
        assert not b.app.node.hub.rooms["w"].sessions - b.app.node.sessions


async def test_a_token_that_runs_out_in_the_middle_and_a_fresh_one_goes_on() -> None:
    async with bench(TokenAuth(verify=_verify(START), refresh=True), Words, settings=EASY) as b:
        first = await b.connect(token="alice:1000", resume="")
        cursor = first.cursor
        first.drop()
        await settle()
        await say_at_once(b, 200)
        alice = await stalled_after(b, 70, cursor, user="", token="alice:5")
        await b.clock.advance(6)
        alice.transport.read_on()
        await settle()
        got = len(said(alice))
        assert 70 <= got <= 71  # the one that it was in, and no more
        await say_at_once(b, 50, 200)
        await b.clock.advance(1)
        assert len(said(alice)) == got
        await alice.send({"type": "auth.refresh", "token": "alice:1000"})
        assert said(alice) == numbers(250)
        await say(b, 250)
        assert said(alice) == numbers(251)
        (session,) = b.app.node.sessions
        assert session.line.gate == 0


async def test_a_fresh_token_that_comes_while_the_old_replay_is_being_ended_does_not_turn_it_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own task stands in an answer, so the replay that has ended cannot leave; then the fresh token comes."""
    async with bench(TokenAuth(verify=_verify(START), refresh=True), Words, settings=EASY) as b:
        first = await b.connect(token="alice:1000", resume="")
        cursor = first.cursor
        first.drop()
        await settle()
        await say_at_once(b, 200)
        paused, go_on = anyio.Event(), anyio.Event()

        async def pause() -> None:
            paused.set()
            await go_on.wait()

        monkeypatch.setattr("jackfield._catch_up.checkpoint", pause)
        alice = await b.open(token="alice:5", resume=cursor)
        assert paused.is_set()
        monkeypatch.undo()
        got = len(said(alice))
        assert 0 < got < 200
        await say_at_once(b, 50, 200)
        alice.transport.stall()
        await alice.send(PING)  # the gate is held by its answer
        await b.clock.advance(5)
        go_on.set()
        await settle()
        alice.transport.put({"type": "websocket.receive", "text": '{"type":"auth.refresh","token":"alice:1000"}'})
        alice.transport.read_on()
        with anyio.fail_after(5):
            await settle()
        assert said(alice) == numbers(250)
        await say(b, 250)
        assert said(alice) == numbers(251)


async def test_a_fresh_token_that_comes_before_the_fan_out_has_come_to_him_loses_nothing() -> None:
    """What was dispatched before his token ran out is still on its way when the fresh one is taken."""
    async with bench(TokenAuth(verify=_verify(START), refresh=True), Words, settings=EASY) as b:
        await crowd(b, token="bob:1000")
        alice = await b.connect(token="alice:0.001", resume="")
        await say(b, "x")
        assert said(alice) == []
        await b.clock.advance(0.001)
        await alice.send({"type": "auth.refresh", "token": "alice:1000"})
        await b.clock.advance(0.1)
        await say(b, "y")
        assert said(alice) == ["x", "y"]


# --- nodes


async def test_a_cursor_serves_on_every_node() -> None:
    async with bench(Words, nodes=3) as b:
        cursor, had = "", []
        for round in range(9):
            alice = await b.connect("alice", resume=cursor, node=round % 3)
            assert outcome(alice) in (None, recovered(1))
            await say(b, f"{round}a", node=(round + 1) % 3)
            had += said(alice)
            cursor = alice.cursor
            alice.drop()
            await settle()
            await say(b, f"{round}b", node=(round + 2) % 3)
        had += said(await b.connect("alice", resume=cursor))
        assert had == [f"{round}{letter}" for round in range(9) for letter in "ab"]


async def test_a_node_whose_feed_is_behind_knows_it_all_the_same() -> None:
    async with bench(Words, nodes=2) as b:
        await b.connect("bob", node=1)
        alice = await b.connect("alice", resume="", node=0)
        b.nodes[1].link.gate = gate = Gate(["feed"])
        await say_at_once(b, 5)
        cursor = alice.cursor
        assert position(b, cursor) == 5
        alice.drop()
        await settle()
        await say_at_once(b, 5, 5)
        moved = await b.connect("alice", resume=cursor, node=1)
        assert (outcome(moved), said(moved)) == (recovered(5), numbers(5, 10))
        await moved.send(PING)
        assert position(b, moved.cursor) == 10  # not that of its node
        await say_at_once(b, 5, 10)
        gate.open()
        await settle()
        assert said(moved) == numbers(5, 15)


async def test_a_node_that_does_not_reach_the_engine_says_come_back_and_never_that_it_is_lost() -> None:
    async with bench(Words, nodes=2) as b:
        await b.connect("bob", node=1)
        cursor = await gone(b)
        await say(b, "x")
        b.nodes[1].partition()
        for text in (cursor, "nonsense", ""):
            client = await b.open("alice", resume=text, node=1)
            await b.clock.advance(12)
            closed = await client.closed()
            assert closed.code == 1013
            assert re.fullmatch(r"retry_after_ms=\d+", closed.reason)
            assert all(frame["type"] != "hello" for frame in client.frames)
        b.nodes[1].heal()
        await b.clock.advance(1)
        again = await b.connect("alice", resume=cursor, node=1)
        assert (outcome(again), said(again)) == (recovered(1), ["x"])


@pytest.mark.parametrize("calls", range(1, 4))
async def test_an_engine_that_goes_while_it_is_read_says_come_back(calls: int) -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 150)
        b.nodes[0].link.gate = gate = Gate(["records"])
        alice = await b.open("alice", resume=cursor)
        for _ in range(calls - 1):
            assert gate.step()
            await settle()
        b.nodes[0].partition()
        gate.open()
        await settle()
        await b.clock.advance(1)
        closed = await alice.closed()
        assert closed.code == 1013
        assert all(frame["type"] == "error" for frame in alice.frames)
        nothing_is_left(b)
        b.nodes[0].heal()
        again = await b.connect("alice", resume=cursor)
        assert said(again) == numbers(150)


async def test_who_is_moved_by_a_drain_goes_on_elsewhere() -> None:
    async with bench(Words, nodes=2) as b:
        alice = await b.connect("alice", resume="", node=0)
        await say(b, "a")
        b.nodes[0].app.node.start_drain()
        await say(b, "b", node=1)
        await b.clock.advance(3)
        assert (await alice.closed()).code == 4001
        again = await b.connect("alice", resume=alice.cursor, node=1)
        assert said(alice) + said(again) == ["a", "b"]


async def test_what_is_published_on_another_node_meanwhile_comes_once_whatever_the_order() -> None:
    async def run(order: Order) -> None:
        async with bench(Words, nodes=2) as b:
            cursor = await gone(b)
            await say(b, "a")
            async with order.race(b, kinds={0: ("read", "records", "feed"), 1: ("commit",)}) as race:
                alice = await b.open("alice", resume=cursor)
                await race.start(b.workspace(node=1).publish, Said("b"))
            await settle()
            assert said(alice) == ["a", "b"]
            assert outcome(alice) in (recovered(1), recovered(2))
            places = [position(b, frame["cursor"]) for frame in alice.frames[1:]]
            assert places == [1, 2]

    assert await every_order(run) > 3


async def test_he_loses_a_channel_on_another_node_meanwhile_whatever_the_order() -> None:
    """Nothing of it comes behind his going; what comes before it is whole."""

    async def run(order: Order) -> None:
        async with bench(Members, nodes=2) as b:
            publish = b.workspace(node=1).publish
            await publish(ChannelCreated("c1", "secret", "private", "bob"))
            await publish(MemberJoined("c1", "alice"))
            cursor = await gone(b)
            await publish(MessageNew("m1", "c1", "bob", "text", NOON))

            async def lose() -> None:
                await publish(MemberLeft("c1", "alice"))
                await publish(MessageNew("m2", "c1", "bob", "text", NOON))

            async with order.race(b, kinds={0: ("read", "feed"), 1: ("commit",)}) as race:
                alice = await b.open("alice", resume=cursor)
                await race.start(lose)
            await settle()
            assert types(alice) in (["message.new", "member.left"], ["member.left"])

    assert await every_order(run) > 3


# --- too many at once


@pytest.mark.parametrize("reject", ["close", "http"])
async def test_too_many_at_once_come_back_later(monkeypatch: pytest.MonkeyPatch, reject: Any) -> None:
    monkeypatch.setattr("jackfield._resume.AT_ONCE", 2)
    monkeypatch.setattr("jackfield._resume.WAITING", 3)
    async with bench(Words, settings=Settings(reject=reject)) as b:
        cursor = await gone(b)
        await say_at_once(b, 10)
        gate = b.nodes[0].link.gate = Gate(["records"])
        clients = [await b.open("alice", resume=cursor) for _ in range(5)]
        assert all(not texts(client) for client in clients)
        sent_away = await b.open("alice", resume=cursor)
        closed = await sent_away.closed()
        assert all(frame["type"] != "hello" for frame in sent_away.frames)
        if reject == "http":
            assert closed.status == 503
            (start, _) = sent_away.transport.sent
            assert int(dict(start["headers"])[b"retry-after"]) >= 1
        else:
            assert closed.code == 1013
            assert re.fullmatch(r"retry_after_ms=\d+", closed.reason)
        # Who needs nothing of the log is not held up.
        await b.connect("alice", resume="")
        await b.connect("alice")
        clients[3].drop()  # it is heard of later
        gate.open()
        await settle()
        for client in (*clients[:3], clients[4]):
            assert (outcome(client), said(client)) == (recovered(10), numbers(10))
        resumes = b.app.node.resumes
        assert (resumes._waiting, resumes._slots.value) == (0, 2)
        assert said(await b.connect("alice", resume=cursor)) == numbers(10)


async def test_a_hundred_that_come_back_together_read_the_log_once() -> None:
    async with bench(Words, settings=Settings(connections_per_user=200)) as b:
        cursor = await gone(b)
        await say_at_once(b, 60)
        gate = b.nodes[0].link.gate = Gate(["records"])
        clients = [await b.open("alice", resume=cursor) for _ in range(100)]
        before = b.nodes[0].link.calls.count("records")
        gate.open()
        await settle()
        assert all(said(client) == numbers(60) for client in clients)
        assert b.nodes[0].link.calls.count("records") == before == 1


@pytest.mark.parametrize("away", [False, True], ids=["cancelled", "cut off"])
async def test_a_handshake_that_is_broken_off_anywhere_leaves_nothing_behind(away: bool) -> None:
    for steps in range(12):
        async with bench(Words) as b:
            cursor = await gone(b)
            await say_at_once(b, 150)
            node = b.nodes[0]
            gate = node.link.gate = Gate((*CALLS, "answer"))
            client = await b.open("alice", resume=cursor)
            for _ in range(steps):
                gate.step()
                await settle()
            if away:
                client.drop()
            for scope in tuple(node._servings):
                scope.cancel()
            await settle()
            gate.open()
            node.link.gate = None
            await settle()
            await b.clock.advance(10)
            nothing_is_left(b)
            assert not node.app.node.sessions
            assert not node.app.node.hub.rooms
            assert not node.app.node.hub._backlog._reading
            assert not node.app.node.hub._backlog._kept
            again = await b.connect("alice", resume=cursor)
            assert said(again) == numbers(150)


async def test_nothing_of_the_log_is_kept_for_a_room_in_which_nobody_is() -> None:
    async with bench(Words) as b:
        cursor = await gone(b)
        await say_at_once(b, 150)
        alice = await b.connect("alice", resume=cursor)
        assert b.app.node.hub._backlog._kept
        alice.drop()
        await settle()
        assert not b.app.node.hub._backlog._kept
        assert b.app.node.hub._backlog._size == 0


# --- a log that went back, and nodes that have not heard of it


async def test_a_node_that_has_not_heard_of_the_loss_gives_nothing_of_the_old_log() -> None:
    """It holds the old records at the very same positions; a cursor of the new log must not be answered with them."""
    async with bench(Words, nodes=2) as b:
        await b.connect("bob", node=1)
        await say(b, *(f"old {n}" for n in range(5)), node=1)
        b.nodes[1].link.gate = gate = Gate(["feed"])
        del b.engine._logs["w"]  # type: ignore[attr-defined]
        cursor = await gone(b)  # of the new log's beginning
        await say(b, *(f"new {n}" for n in range(5)))
        moved = await b.open("alice", resume=cursor, node=1)
        await b.clock.advance(1)
        if moved.transport.ended:
            assert (await moved.closed()).code in (1012, 1013)
        assert not [text for text in said(moved) if text.startswith("old")]
        gate.open()
        await b.workspace(node=1).publish(Said("x"))
        await settle()
        again = await b.connect("alice", resume=cursor, node=1)
        assert outcome(again) in (recovered(6), lost("expired"))


@attrs.define(eq=False)
class Waits:
    """Has an initial state that takes its time."""

    name: str = "waits"
    go_on: anyio.Event | None = None

    @hookimpl
    async def initial_state(self, session: Session) -> object:
        if self.go_on is not None:
            await self.go_on.wait()
        return None


async def test_who_is_overtaken_by_the_history_while_he_opens_is_not_told_that_his_token_expired() -> None:
    waits = Waits()
    async with bench(waits, Words, settings=Settings(history_events=20, hook_timeout=100)) as b:
        cursor = await gone(b)
        waits.go_on = anyio.Event()
        alice = await b.open("alice", resume=cursor)
        await say_at_once(b, 500)
        waits.go_on.set()
        await settle()
        assert (await alice.closed()).code == 4002
        again = await b.connect("alice", resume=alice.cursor)
        assert outcome(again) == lost("expired")


async def test_one_of_the_beginning_of_a_log_that_was_lost_is_expired() -> None:
    """No record stands there by which another log could be told."""
    async with bench(Words) as b:
        cursor = await gone(b)
        del b.engine._logs["w"]  # type: ignore[attr-defined]
        await say(b, "x")
        assert outcome(await b.connect("alice", resume=cursor)) == lost("expired")


async def test_in_a_room_that_outlives_the_loss_cursors_are_of_the_new_log() -> None:
    """Somebody does not read, so his end takes a moment, and the room is still there for who comes back at once."""
    async with bench(Words) as b:
        await say(b, "old")
        bob = await b.connect("bob", profile=HYPERCORN)
        bob.transport.stall()
        del b.engine._logs["w"]  # type: ignore[attr-defined]
        await b.workspace().publish(Said("x"))
        await settle()
        assert b.app.node.hub.rooms["w"].sessions
        alice = await b.connect("alice", resume="")
        await say(b, "a", "b")
        assert said(alice) == ["a", "b"]
        alice._take()
        for number, frame in enumerate(alice.frames[1:]):
            again = await b.connect("alice", resume=frame["cursor"])
            assert (outcome(again), said(again)) == (recovered(1 - number), ["b"][number:])


async def test_where_the_engine_came_back_empty_the_nodes_still_share_a_key() -> None:
    async with bench(Words, nodes=2, settings=Settings(heartbeat_timeout=1000)) as b:
        for node in range(2):
            await b.connect("bob", resume="", node=node)
        key = b.app.node._cursor_key
        b.engine._logs.clear()  # type: ignore[attr-defined]
        await say(b, "lost with it")
        await b.clock.advance(20)
        cell = Key("cursors", "key")
        assert CURSOR_KEY.load((await b.engine.read(SYSTEM, (cell,))).cells[cell]) == key
        alice = await b.connect("alice", resume="")
        await say(b, "a", "b", node=1)
        assert outcome(await b.connect("alice", resume=alice.cursor, node=1)) == recovered(0)
        assert {n.app.node._cursor_key for n in b.nodes} == {key}


async def test_where_another_key_was_made_meanwhile_that_one_holds() -> None:
    async with bench(Words) as b:
        alice = await b.connect("alice", resume="")
        b.engine._logs.clear()  # type: ignore[attr-defined]
        other = "00" * 32
        await b.app.node.commits.decide(b.app.workspace(SYSTEM), partial(_put_key, other))
        await b.clock.advance(20)
        assert b.app.node._cursor_key == other
        assert (await alice.closed()).code == 1012
        again = await b.connect("alice", resume=alice.cursor)
        assert outcome(again) == lost("expired")
        assert outcome(await b.connect("alice", resume=again.cursor)) == recovered(0)


async def _put_key(key: str, transaction: Transaction) -> Sequence[Post]:
    await transaction.update(CURSOR_KEY, "key", lambda _: key)
    return ()
