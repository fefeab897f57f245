"""The main job on real input: a server, three clients of two workspaces, and every frame as it arrives.

`python -m jackfield.cli.demo` (or `nox -s demo`) ends by itself: with 0 only if what arrived is exactly what should
have, else with 1 and the difference.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import anyio

from jackfield.cli._command import leaf
from jackfield.errors import InvalidEvent, InvalidToken, RateLimited, Refused, Revoked, Unauthorized, UnknownEvent

if TYPE_CHECKING:
    import io

try:
    from jackfield.cli._stage import Actor, Differs, Stage, closed, event, served
except ImportError as missing:
    sys.exit(f'jackfield: the demo cannot be played: {missing}. pip install "jackfield[serve]"')

__all__ = ["main"]

SETTINGS = {
    "TYPING_EXPIRES_AFTER": 2,
    "PRESENCE_GRACE": 0.5,
    # Eight events at once and then one in ten minutes, so that a flood is answered alike on any machine.
    "RATE_LIMIT_BURST": 8,
    "RATE_LIMIT_EVENTS": 1,
    "RATE_LIMIT_PER": 600,
}
NOON = "2024-01-01T12:00:00.000Z"
LATER = "2024-01-01T12:05:00.000Z"


def main(argv: Sequence[str] | None = None) -> int:
    """Play, and say whether it went as it should."""
    parser = argparse.ArgumentParser(prog="python -m jackfield.cli.demo", description=__doc__, allow_abbrev=False)
    parser.add_argument("--loop", choices=("asyncio", "trio"), default="asyncio", help="what the server runs on")
    chosen = parser.parse_args(argv)
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="replace")  # there are terminals that know no emoji
    try:
        return anyio.run(play, chosen.loop)
    except BaseExceptionGroup as group:
        if not isinstance(error := leaf(group), Differs):
            raise
        print(f"Not as it should be: {error}")  # the server did not even start
        return 1


async def play(loop: str) -> int:
    """The whole of it, and its exit code."""
    wrong: list[str] = []
    async with anyio.create_task_group() as tasks, served([f"--loop={loop}"], SETTINGS) as server:
        stage = Stage(server, tasks)
        try:
            await story(stage)
            await server.end()
            await stage.hear_the_end()
        except Differs as error:
            wrong.append(f"Not as it should be: {error}")
        wrong += stage.difference()
        tasks.cancel_scope.cancel()
        frames = sum(len(actor.arrived) for actor in stage.actors)
        print()
        for line in wrong or [f"All as it should be: {frames} frames on {len(stage.actors)} connections."]:
            print(line)
    return 1 if wrong else 0


async def story(stage: Stage) -> None:
    """Three people, two workspaces."""
    alice, bob, carol = await they_connect(stage)
    await they_talk(stage, alice, bob, carol)
    await they_type(stage, alice, bob)
    await they_react_and_reply(stage, alice, bob)
    await what_is_refused(stage, carol)
    await bob_goes_away(stage, alice, bob)
    await alice_is_put_out(stage, alice)


async def they_connect(stage: Stage) -> tuple[Actor, Actor, Actor]:
    stage.title("alice and bob enter acme, carol enters beta")
    alice = await stage.enter("alice", "acme", stage.token("alice", "acme"))
    await alice.hears(hello("acme", "alice", "alice"))
    bob = await stage.enter("bob", "acme", stage.token("bob", "acme"))
    await bob.hears(hello("acme", "bob", "alice", "bob"))
    await alice.hears(event("presence.updated", "acme", user_id="bob", status="online"))
    carol = await stage.enter("carol", "beta", stage.token("carol", "beta"))
    await carol.hears(hello("beta", "carol", "carol"))
    for actor in alice, bob, carol:
        await actor.say(type="ping")
        await actor.hears('{"type": "pong"}')
    return alice, bob, carol


async def they_talk(stage: Stage, alice: Actor, bob: Actor, carol: Actor) -> None:
    stage.title("The host makes a channel for everyone, and one that only alice sees until bob joins")
    general = {"id": "general", "name": "general", "type": "public", "created_by": "alice"}
    await published(stage, "acme", "channel.created", [alice, bob], **general)
    plans = {"id": "plans", "name": "plans", "type": "private", "created_by": "alice"}
    await published(stage, "acme", "channel.created", [alice], **plans)
    await published(stage, "acme", "message.new", [alice], **message("m0", "plans", "alice", "Only for me"))
    await published(stage, "acme", "member.joined", [alice, bob], channel_id="plans", user_id="bob")
    await published(stage, "acme", "message.new", [alice, bob], **message("m1", "plans", "alice", "Welcome, bob"))

    stage.title("What is said in beta stays in beta")
    await published(stage, "beta", "channel.created", [carol], **{**general, "created_by": "carol"})
    await published(stage, "beta", "message.new", [carol], **message("m1", "general", "carol", "Hello? Anyone?"))


async def they_type(stage: Stage, alice: Actor, bob: Actor) -> None:
    typing = {"channel_id": "general", "user_id": "alice"}

    stage.title("alice types; that she still does is told to nobody; her message ends it")
    await alice.say(type="typing", channel_id="general", is_typing=True, ref=1)
    await alice.hears(event("ack", "acme", ref=1))
    await bob.hears(event("typing.start", "acme", **typing))
    await alice.say(type="typing", channel_id="general", is_typing=True, ref=2)
    await alice.hears(event("ack", "acme", ref=2))
    await published(stage, "acme", "message.new", [alice, bob], **message("m2", "general", "alice", "Hello, world!"))
    await bob.hears(event("typing.stop", "acme", **typing))

    stage.title("bob types and falls silent: two seconds later it is over")
    await bob.say(type="typing", channel_id="general", is_typing=True)
    await alice.hears(
        event("typing.start", "acme", channel_id="general", user_id="bob"),
        event("typing.stop", "acme", channel_id="general", user_id="bob"),
    )


async def they_react_and_reply(stage: Stage, alice: Actor, bob: Actor) -> None:
    stage.title("bob reacts; the same once more is told to nobody")
    thumb = {"message_id": "m2", "emoji": "👍", "user_id": "bob"}
    await published(stage, "acme", "reaction.added", [alice, bob], **thumb)
    if await stage.publish("acme", "reaction.added", **thumb):
        raise Differs("host: the second reaction was published")
    await published(stage, "acme", "reaction.removed", [alice, bob], **thumb)

    stage.title("bob replies: the thread follows")
    reply = message("m3", "general", "bob", "Hello, alice") | {"parent_message_id": "m2"}
    await published(stage, "acme", "message.new", [alice, bob], **reply)
    for actor in alice, bob:
        await actor.hears(event("thread.updated", "acme", parent_message_id="m2", reply_count=1, last_reply_at=NOON))
    await published(stage, "acme", "message.updated", [alice, bob], id="m3", content="Hello!", updated_at=LATER)


async def what_is_refused(stage: Stage, carol: Actor) -> None:
    stage.title("Who may not enter: a bad token, another workspace, a strange page")
    mallory = await stage.enter("mallory", "acme", "no.such.token")
    await mallory.hears(error(InvalidToken), closed(4501))
    mallory = await stage.enter("mallory", "acme", stage.token("mallory", "beta"))
    await mallory.hears(error(Unauthorized), closed(4502))
    mallory = await stage.enter("mallory", "acme", stage.token("mallory", "acme"), origin="https://elsewhere.example")
    await mallory.hears("HTTP 403")

    stage.title("carol makes mistakes, and keeps her connection")
    await carol.send("Hello?")
    await carol.hears(error(InvalidEvent, detail="$: expected JSON"))
    await carol.say(type="poll.vote", poll_id="p1")
    await carol.hears(error(UnknownEvent))
    await carol.say(type="typing", channel_id="plans", is_typing=True, ref="not hers")
    await carol.hears(error(Unauthorized, ref="not hers"))

    stage.title("carol floods: eight events at once are allowed, and one of them she has had")
    for number in range(10):
        await carol.say(type="typing", channel_id="general", is_typing=True, ref=number)
    await carol.hears(*(event("ack", "beta", ref=number) for number in range(7)))
    await carol.hears(*(error(RateLimited, retry_after_ms=1, ref=number) for number in range(7, 10)))

    stage.title("Another connection of carol's sends too much")
    second = await stage.enter("carol 2", "beta", stage.token("carol", "beta"))
    await second.hears(hello("beta", "carol", "carol", typing=[{"channel_id": "general", "user_id": "carol"}]))
    await second.send(json.dumps({"type": "ping", "data": "x" * 17_000}))
    await second.hears(error(InvalidEvent, detail="$: expected at most 16384 bytes"), closed(1009))


async def bob_goes_away(stage: Stage, alice: Actor, bob: Actor) -> None:
    stage.title("bob is away, then comes back, then leaves: half a second later he is offline")
    for status in "away", "online":
        await bob.say(type="presence", status=status)
        for actor in alice, bob:
            await actor.hears(event("presence.updated", "acme", user_id="bob", status=status))
    await bob.leave()
    await bob.hears(closed(1000))
    await alice.hears(event("presence.updated", "acme", user_id="bob", status="offline"))
    _, who = await stage.call("GET", "/api/workspaces/acme/presence")
    if who != {"users": [{"user_id": "alice", "status": "online"}]}:
        raise Differs("host: the wrong people are present")


async def alice_is_put_out(stage: Stage, alice: Actor) -> None:
    stage.title("alice gets a fresh token; then the host revokes her, and neither token opens anything")
    fresh = stage.token("alice", "acme")
    await alice.say(type="auth.refresh", token=fresh)
    await alice.hears(event("auth.refreshed", "acme", expires_at="some time"))
    _, answer = await stage.call("DELETE", "/api/workspaces/acme/users/alice/connections")
    if answer != {"closed": 1}:
        raise Differs("host: not one connection was closed")
    await alice.hears(closed(4503))
    again = await stage.enter("alice", "acme", fresh)
    await again.hears(error(Revoked), closed(4503))

    stage.title("The server ends, and carol hears of it")


async def published(stage: Stage, workspace: str, type: str, audience: Sequence[Actor], /, **data: object) -> None:
    """The host publishes, and these hear it."""
    if not await stage.publish(workspace, type, **data):
        raise Differs(f"host: {type} was not published")
    for actor in audience:
        await actor.hears(event(type, workspace, **data))


def message(id: str, channel: str, user: str, content: str) -> dict[str, object]:
    """The data of a message, in the order of the specification."""
    return {
        "id": id,
        "channel_id": channel,
        "user_id": user,
        "content": content,
        "attachments": [],
        "reactions": [],
        "created_at": NOON,
    }


def hello(workspace: str, user: str, *present: str, **state: object) -> str:
    """The first frame of a connection."""
    return event(
        "hello",
        workspace,
        connection_id="some id",
        user_id=user,
        heartbeat_interval_ms=30_000,
        limits={"max_event_bytes": 16_384},
        state={"presence": [{"user_id": one, "status": "online"} for one in present], **state},
    )


def error(refused: type[Refused], **beside: object) -> str:
    """What a client's fault is answered with."""
    return event("error", message=refused.text(), code=refused.code, **beside)


if __name__ == "__main__":
    sys.exit(main())
