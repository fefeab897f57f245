"""A workspace, as hosts and plugins hold it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from jackfield import (
    Change,
    EngineUnavailable,
    Everyone,
    Jackfield,
    Post,
    ServerEvent,
    State,
    Transaction,
    Unauthorized,
    UnknownAudience,
    Users,
    Workspace,
    before,
    hookimpl,
)
from jackfield.engine import Key
from jackfield.events import Ack, Hello
from jackfield.testing import Bench, bench
from jackfield_auth import TokenAuth
from jackfield_members import OpenWorkspace


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Everyone:
        return Everyone()


class Secret(ServerEvent, type="secret"):
    """Nobody says who may hear it."""

    text: str


@attrs.frozen
class Poll:
    votes: tuple[str, ...] = ()


POLLS = State("polls", Poll)
NUMBER = State("polls.number", int)


@attrs.define(eq=False)
class Polls:
    name: str = "polls"
    due: list[tuple[str, str]] = attrs.field(factory=list)

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return Said, Secret

    @before(Said)
    async def decide(self, event: Said) -> list[ServerEvent] | None:
        if event.text == "veto":
            raise Unauthorized
        return [] if event.text == "swallow" else None

    @hookimpl
    async def cell_due(self, transaction: Transaction, state: str, key: str) -> None:
        self.due.append((state, key))


async def log(b: Bench, workspace: str = "w") -> list[str]:
    upto = (await b.engine.read(workspace)).position
    return [record.body.decode() for record in await b.engine.records(workspace, 0, upto, 100)]


async def position(b: Bench) -> int:
    return (await b.engine.read("w")).position


# --- What it is


def made() -> Jackfield:
    return Jackfield(TokenAuth(verify=lambda _: None), OpenWorkspace())  # type: ignore[arg-type,return-value]


def test_it_is_as_cheap_as_its_id() -> None:
    app, other = made(), made()
    one, same = app.workspace("w"), app.workspace("w")
    assert (one, hash(one)) == (same, hash(same))
    assert one is not same
    assert one != app.workspace("v")
    assert one != other.workspace("w")
    assert one != "w"
    assert {one: 1}[same] == 1
    assert (one.id, one.app, repr(one)) == ("w", app, "<Workspace w>")
    assert not hasattr(one, "__dict__")


async def test_it_can_be_kept_from_before_the_start_and_is_of_no_use_until_then() -> None:
    workspace = made().workspace("w")
    for call in (
        lambda: workspace.publish(Said("x")),
        lambda: workspace.get(NUMBER, "a"),
        lambda: workspace.all(NUMBER),
        lambda: workspace.update(NUMBER, "a", lambda n: n),
        lambda: workspace.revoke("alice"),
    ):
        with pytest.raises(Exception, match=r"^jackfield was not started|Said cannot be published"):
            await call()


# --- Publishing


async def test_what_is_published_reaches_those_who_are_there_and_no_other_workspace() -> None:
    async with bench(Polls, nodes=2) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=1)
        elsewhere = await b.connect("alice", workspace="other")
        await b.workspace(node=1).publish(Said("hi"))
        await b.workspace().publish(Said("to alice"), to=Users("alice"))
        await b.workspace().publish(Said("not alice"), except_users=["alice"])
        assert await alice.pending() == [Said("hi"), Said("to alice")]
        assert await bob.pending() == [Said("hi"), Said("not alice")]
        assert await elsewhere.pending() == []


async def test_several_are_published_together_and_a_post_says_what_there_is_to_say_beside() -> None:
    async with bench(Polls) as b:
        alice = await b.connect("alice")
        posts = [Said("one"), Post(Said("two"), to=Users("bob")), Post(Secret("three"), to=Everyone(), id="mine")]
        receipts = await b.workspace().publish_all(iter(posts))
        assert [receipt.position for receipt in receipts] == [1, 2, 3]
        assert receipts[2].id == "mine"
        assert await alice.pending() == [Said("one"), Secret("three")]
        for bad, error in ((Said("veto"), Unauthorized), (Secret("x"), UnknownAudience)):
            with pytest.raises(error):
                await b.workspace().publish_all([Said("four"), bad])
        assert await position(b) == 3


async def test_what_may_not_be_published_is_refused_before_anybody_is_asked() -> None:
    class Unregistered(ServerEvent, type="unregistered"):
        pass

    async with bench(Polls) as b:
        calls = len(b.nodes[0].link.calls)
        for event in (Unregistered(), Ack(ref="1"), Hello("c", "u", 1, {}, state={})):  # type: ignore[arg-type]
            with pytest.raises(TypeError, match=f"^{type(event).__name__} cannot be published; a plugin registers it"):
                await b.workspace().publish_all([Said("one"), event])
        assert len(b.nodes[0].link.calls) == calls
        assert await position(b) == 0


# --- Remembering


async def test_what_nobody_wrote_reads_as_its_default() -> None:
    async with bench(Polls) as b:
        assert await b.workspace().get(POLLS, "p1") == Poll()
        assert await b.workspace().all(POLLS) == {}


async def test_what_one_node_wrote_the_other_reads_and_no_other_workspace() -> None:
    async with bench(Polls, nodes=2) as b:
        for key in ("p1", "p2"):
            await b.workspace().update(POLLS, key, lambda poll: Poll((*poll.votes, "tea")))
        await b.workspace(node=1).update(POLLS, "p2", lambda poll: Poll((*poll.votes, "mate")))
        both = {"p1": Poll(("tea",)), "p2": Poll(("tea", "mate"))}
        for node in (0, 1):
            assert await b.workspace(node=node).all(POLLS) == both
            assert await b.workspace(node=node).get(POLLS, "p2") == both["p2"]
        assert await b.workspace("other").all(POLLS) == {}
        assert await b.workspace().all(NUMBER) == {}


async def test_an_update_says_what_it_did() -> None:
    async with bench(Polls) as b:
        change = await b.workspace().update(NUMBER, "a", lambda n: n + 2)
        assert (change, bool(change)) == (Change(0, 2), True)
        change = await b.workspace().update(NUMBER, "a", lambda n: n)
        assert (change, bool(change)) == (Change(2, 2), False)


async def test_an_update_without_a_difference_writes_and_publishes_nothing() -> None:
    def never(before: int, after: int) -> ServerEvent:
        raise AssertionError("nothing happened")

    async with bench(Polls) as b:
        commits = b.nodes[0].link.calls.count("commit")
        await b.workspace().update(NUMBER, "a", lambda n: n, publish=never)
        assert await position(b) == 0
        assert (await b.engine.read("w", (Key(NUMBER.name, "a"),))).cells == {Key(NUMBER.name, "a"): None}
        assert b.nodes[0].link.calls.count("commit") - commits <= 1


@pytest.mark.parametrize(
    ("published", "texts"),
    [
        (None, []),
        ([], []),
        (Said("one"), ["one"]),
        (Post(Said("one"), to=Users("alice")), ["one"]),
        (lambda: map(Said, ("one", "two")), ["one", "two"]),
        ([Post(Secret("three"), to=Everyone())], ["three"]),
    ],
    ids=["nothing", "none", "an event", "a post", "some", "a list"],
)
async def test_what_follows_a_change_is_published_with_it(published: object, texts: list[str]) -> None:
    async with bench(Polls) as b:
        alice = await b.connect("alice")
        seen: list[tuple[int, int]] = []

        def publish(before: int, after: int) -> Any:
            seen.append((before, after))
            return published() if callable(published) else published

        await b.workspace().update(NUMBER, "a", lambda n: n + 1, publish=publish)
        assert seen == [(0, 1)]
        assert [event.text for event in await alice.pending()] == texts  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("event", "error"), [(Said("veto"), Unauthorized), (Secret("x"), UnknownAudience), (Ack(ref="1"), None)]
)
async def test_where_what_follows_is_refused_nothing_has_changed(
    event: ServerEvent, error: type[Exception] | None
) -> None:
    async with bench(Polls) as b:
        with pytest.raises(error or Exception):
            await b.workspace().update(NUMBER, "a", lambda n: n + 1, publish=lambda before, after: event)
        assert await b.workspace().get(NUMBER, "a") == 0
        assert await position(b) == 0


async def test_what_is_swallowed_leaves_the_change() -> None:
    async with bench(Polls) as b:
        await b.workspace().update(NUMBER, "a", lambda n: n + 1, publish=lambda *_: Said("swallow"))
        assert await b.workspace().get(NUMBER, "a") == 1
        assert await log(b) == []


async def test_a_change_that_raises_changes_nothing() -> None:
    def change(number: int) -> int:
        raise ZeroDivisionError

    async with bench(Polls) as b:
        with pytest.raises(ZeroDivisionError):
            await b.workspace().update(NUMBER, "a", change)
        await b.workspace().update(NUMBER, "a", lambda n: n + 1)
        assert await b.workspace().get(NUMBER, "a") == 1


async def test_a_change_is_made_again_where_somebody_was_faster() -> None:
    async with bench(Polls, nodes=2) as b:
        for number in range(6):
            node, seen = number % 2, list[int]()

            def add(n: int, seen: list[int] = seen) -> int:
                seen.append(n)
                return n + 1

            change = await b.workspace(node=node).update(NUMBER, "a", add, publish=lambda _, n: Said(f"{n}"))
            # What it says is of the last time.
            assert (change, seen[-1]) == (Change(number, number + 1), number)
        assert [f'"{n}"' in text for n, text in enumerate(await log(b), 1)] == [True] * 6


async def test_a_change_may_have_a_time() -> None:
    async with bench(Polls) as b:
        await b.workspace().update(NUMBER, "a", lambda _: 1, due=30)
        polls: Any = b.app.plugins.objects["polls"]
        await b.clock.advance(29)
        assert polls.due == []
        await b.clock.advance(2)
        assert polls.due == [(NUMBER.name, "a")]
        assert await b.workspace().all(NUMBER) == {}


# --- Without the engine


async def test_without_the_engine_every_call_says_so() -> None:
    async with bench(Polls) as b:
        b.nodes[0].partition()
        workspace: Workspace = b.workspace()
        for call in (
            lambda: workspace.publish(Said("x")),
            lambda: workspace.get(NUMBER, "a"),
            lambda: workspace.all(NUMBER),
            lambda: workspace.update(NUMBER, "a", lambda n: n + 1),
            lambda: workspace.revoke("alice"),
        ):
            with pytest.raises(EngineUnavailable):
                await call()
        b.nodes[0].heal()


async def test_revoking_counts_the_connections_that_it_ended() -> None:
    async with bench(Polls, nodes=2) as b:
        clients = [await b.connect("alice", node=node) for node in (0, 1)]
        bob = await b.connect("bob")
        assert await b.workspace().revoke("alice") == 2
        assert [(await client.closed()).code for client in clients] == [4503, 4503]
        assert await b.workspace().revoke("alice") == 0
        assert not bob.transport.ended
