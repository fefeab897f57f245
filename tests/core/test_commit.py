"""What an event changes, what follows from it and its place in the log: one commit, or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import attrs
import orjson
import pytest

from jackfield import (
    Audience,
    Channel,
    EngineUnavailable,
    Everyone,
    MemoryEngine,
    Post,
    Receipt,
    ServerEvent,
    State,
    Topic,
    Transaction,
    Unauthorized,
    UnknownAudience,
    Users,
    Workspace,
    before,
    hookimpl,
    latest,
    on,
)
from jackfield._log import Head
from jackfield.engine import Commit, Committed, Conflict, Key
from jackfield.events import TypingStart
from jackfield.testing import Bench, bench, settle
from jackfield.testing._link import Gate

# --- a small plugin to decide with


class Said(ServerEvent, type="said"):
    """Something was said."""

    text: str

    def audience(self) -> Audience:
        return Everyone()


class Shown(ServerEvent, type="shown", delivery=latest("text")):
    """Something is to be seen for a while."""

    text: str

    def audience(self) -> Audience:
        return Everyone()


class Secret(ServerEvent, type="secret"):
    """Nobody says who may hear it."""

    text: str


COUNT = State("words.count", int)
ONCE = State("words.once", bool)

Verdict = Sequence[ServerEvent | Post] | ServerEvent | Post | None


@attrs.define(eq=False)
class Words:
    """Counts what is said; what is said in brackets it does something about."""

    name: str = "words"
    decided: list[str] = attrs.field(factory=list)
    heard: list[ServerEvent] = attrs.field(factory=list)

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return Said, Shown, Secret

    @before(Said)
    async def count(self, transaction: Transaction, event: Said) -> Verdict:
        self.decided.append(event.text)
        await transaction.update(COUNT, "all", lambda n: n + 1)
        match event.text:
            case "swallow":
                return []
            case "veto":
                raise Unauthorized
            case "break":
                raise ZeroDivisionError
            case "once":
                return None if await transaction.update(ONCE, "once", lambda _: True) else []
            case "add":
                return [event, Said("added")]
            case "ahead":
                return [Shown("ahead"), Said("main"), Said("behind")]
            case "instead":
                return [Shown("instead"), Shown("and")]
            case "show":
                return [event, Shown("shown"), Said("lasting")]
            case "loop":
                return [event, Said("loop")]
            case "swallowed behind":
                return [event, Said("swallow")]
            case "narrow":
                return [Post(event, to=Users("bob"))]
            case "narrow behind":
                return [event, Post(Said("for bob"), to=Users("bob"))]
            case "spare":
                return [Post(event, except_users=["bob"])]
            case "spare behind":
                return [event, Post(Said("not bob"), except_users=["bob"])]
            case "whisper":
                return Post(event, to=Topic("t"))
            case "follow":
                return [event, Secret("follows")]
            case _:
                return None

    @on(ServerEvent)
    async def hear(self, event: ServerEvent) -> None:
        self.heard.append(event)


def words(b: Bench) -> Words:
    plugin = b.app.plugins.objects["words"]
    assert isinstance(plugin, Words)
    return plugin


async def log(b: Bench) -> list[str]:
    """The texts of all that is in the log; passing ones in brackets."""
    upto = (await b.engine.read("w")).position
    return [
        text if record.lasting else f"({text})"
        for record in await b.engine.records("w", 0, upto, 10_000)
        for text in [orjson.loads(record.body)["data"]["text"]]
    ]


async def audiences(b: Bench) -> dict[str, Audience]:
    """Who each of it is for, by text."""
    upto = (await b.engine.read("w")).position
    return {
        orjson.loads(record.body)["data"]["text"]: Head.load(record.head).audience
        for record in await b.engine.records("w", 0, upto, 10_000)
    }


async def count(b: Bench) -> int:
    return await b.workspace().get(COUNT, "all")


def commits(b: Bench) -> int:
    return b.nodes[0].link.calls.count("commit")


def idle(b: Bench) -> bool:
    """Whether nobody waits for a commit, or is thought to lead one."""
    return "w" not in b.app.node.commits._rows


class Run:
    """A call in a task of its own, that can be cancelled; `outcome` is what it returned or raised."""

    def __init__(self, call: Callable[[], Awaitable[Any]]) -> None:
        self.scope = anyio.CancelScope()
        self.outcome: Any = None
        self.task: asyncio.Task[object] | None = None
        self._call = call

    async def __call__(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        with self.scope:
            with suppress(RuntimeError):  # not under asyncio
                self.task = asyncio.current_task()
            task_status.started()
            try:
                self.outcome = await self._call()
            except Exception as error:
                self.outcome = error
            except asyncio.CancelledError:
                self.outcome = "cancelled"
                if self.scope.cancel_called:
                    raise


Start = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Run]]


@asynccontextmanager
async def starting() -> AsyncGenerator[Start, None]:
    """Runs calls beside each other; each stands at its first wait when `start` returns."""
    async with anyio.create_task_group() as tasks:

        async def start(call: Callable[[], Awaitable[Any]]) -> Run:
            run = Run(call)
            await tasks.start(run)
            await settle()
            return run

        yield start
        tasks.cancel_scope.cancel()


def say(b: Bench, text: str, **how: Any) -> Callable[[], Awaitable[Receipt]]:
    return lambda: b.workspace().publish(Said(text), **how)


# --- receipts


async def test_a_receipt_names_the_place_of_what_lasts() -> None:
    async with bench(Words) as b:
        one = await b.workspace().publish(Said("one"))
        shown = await b.workspace().publish(Shown("two"))
        three = await b.workspace().publish(Said("three"), id="mine")
        assert (one.position, one.published) == (1, True)
        assert (shown.position, shown.published) == (None, True)
        assert three == Receipt("mine", 3, True)
        assert len({one.id, shown.id, "mine"}) == 3
        assert await log(b) == ["one", "(two)", "three"]


async def test_a_batch_stands_in_its_order_and_has_a_receipt_each() -> None:
    async with bench(Words) as b:
        before = commits(b)
        receipts = await b.workspace().publish_all(Said(text) for text in ("one", "add", "three"))
        assert [receipt.position for receipt in receipts] == [1, 2, 4]
        assert await log(b) == ["one", "add", "added", "three"]
        assert commits(b) - before == 1


async def test_an_empty_batch_asks_nobody() -> None:
    async with bench(Words) as b:
        before = len(b.nodes[0].link.calls)
        assert await b.workspace().publish_all([]) == []
        assert len(b.nodes[0].link.calls) == before
        assert idle(b)


async def test_what_is_no_event_of_ours_cannot_be_published() -> None:
    class Foreign(ServerEvent, type="foreign"):
        pass

    async with bench(Words) as b:
        with pytest.raises(TypeError, match="Foreign cannot be published; a plugin registers it in register_events"):
            await b.workspace().publish(Foreign(), to=Everyone())


async def test_what_holds_what_it_may_not_cannot_be_published() -> None:
    async with bench(Words) as b:
        with pytest.raises(TypeError, match=r"^Said\.text: expected a string$"):
            await b.workspace().publish_all([Said("one"), Said(2)])  # type: ignore[arg-type]
        assert await log(b) == []


# --- all or nothing


@pytest.mark.parametrize(
    ("text", "error"), [("veto", Unauthorized), ("break", ZeroDivisionError)], ids=["vetoed", "broken"]
)
async def test_of_a_batch_in_which_one_is_refused_nothing_happens(text: str, error: type[Exception]) -> None:
    async with bench(Words) as b:
        with pytest.raises(error):
            await b.workspace().publish_all([Said("one"), Said(text), Said("three")])
        assert await log(b) == []
        assert await count(b) == 0
        assert words(b).heard == []
        assert idle(b)
        # Nor is its id remembered.
        with pytest.raises(error):
            await b.workspace().publish_all([Post(Said("one"), id="x"), Post(Said(text), id="y")])
        assert (await b.workspace().publish(Said("one"), id="x")).published


async def test_what_a_plugin_breaks_bears_its_name_and_what_it_refuses_does_not() -> None:
    async with bench(Words) as b:
        for text, faults in (("veto", 0), ("break", 1)):
            with pytest.raises((Unauthorized, ZeroDivisionError)):
                await b.workspace().publish(Said(text))
            assert b.app.node.dispatcher.faults["words"] == faults


async def test_in_a_batch_each_is_decided_as_if_those_before_it_had_happened() -> None:
    async with bench(Words) as b:
        receipts = await b.workspace().publish_all([Said("once"), Said("once"), Said("other")])
        assert [receipt.published for receipt in receipts] == [True, False, True]
        assert await log(b) == ["once", "other"]


async def test_what_is_swallowed_has_changed_nothing() -> None:
    async with bench(Words) as b:
        receipt = await b.workspace().publish(Said("swallow"))
        assert (receipt.position, receipt.published) == (None, False)
        assert await log(b) == []
        assert await count(b) == 0


async def test_what_is_swallowed_in_a_batch_leaves_the_others_what_they_changed() -> None:
    async with bench(Words) as b:
        await b.workspace().publish_all([Said("one"), Said("swallow"), Said("two")])
        assert await log(b) == ["one", "two"]
        assert await count(b) == 2


async def test_what_follows_and_is_swallowed_has_changed_nothing_either() -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said("swallowed behind"))
        assert await log(b) == ["swallowed behind"]
        assert await count(b) == 1


# --- what follows


async def test_what_follows_stands_behind_what_lasts_first() -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said("show"))
        assert await log(b) == ["show", "lasting", "(shown)"]


async def test_a_receipt_speaks_of_the_event_itself_whatever_stands_ahead_of_it() -> None:
    async with bench(Words) as b:
        receipt = await b.workspace().publish(Said("ahead"), id="mine", except_users=["bob"])
        assert await log(b) == ["(ahead)", "main", "behind"]
        assert receipt == Receipt("mine", 2, True)
        assert await b.workspace().publish(Said("ahead"), id="mine") == Receipt("mine", 2, False)
        assert await audiences(b) == {
            "ahead": Everyone(),
            "main": Everyone() - Users("bob"),
            "behind": Everyone(),
        }


async def test_what_stands_for_an_event_has_its_id_and_spares_whom_it_spares() -> None:
    async with bench(Words) as b:
        receipt = await b.workspace().publish(Said("instead"), id="mine", except_users=["bob"])
        assert await log(b) == ["(instead)", "(and)"]
        assert receipt == Receipt("mine", None, True)
        assert not (await b.workspace().publish(Said("instead"), id="mine")).published
        assert set((await audiences(b)).values()) == {Everyone() - Users("bob")}


async def test_what_follows_from_itself_is_a_fault_and_not_for_ever() -> None:
    async with bench(Words) as b:
        with pytest.raises(RecursionError, match="said follows from itself"):
            await b.workspace().publish(Said("loop"))
        assert await log(b) == []


# --- who sees it


async def test_the_publisher_says_who_sees_it_or_a_plugin_or_the_event() -> None:
    @attrs.define(eq=False)
    class Hides:
        name: str = "hides"

        @hookimpl
        async def audience_of(self, event: ServerEvent) -> Audience | None:
            return Channel("c1") if isinstance(event, Said) and event.text == "hidden" else None

    async with bench(Words, Hides) as b:
        await b.workspace().publish(Said("told"), to=Users("alice"))
        await b.workspace().publish(Said("hidden"))
        await b.workspace().publish(Said("hidden and told"), to=Users("alice"))
        await b.workspace().publish(Said("open"))
        assert await audiences(b) == {
            "told": Users("alice"),
            "hidden": Channel("c1"),
            "hidden and told": Users("alice"),
            "open": Everyone(),
        }


async def test_what_nobody_says_who_may_see_is_not_published() -> None:
    async with bench(Words) as b:
        with pytest.raises(UnknownAudience, match="nobody says who sees secret"):
            await b.workspace().publish(Secret("x"))
        assert await log(b) == []
        await b.workspace().publish(Secret("x"), to=Users("alice"))


async def test_what_follows_goes_where_its_cause_went() -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said("follow"), to=Users("alice"), except_users=["bob"])
        assert await audiences(b) == {"follow": Users("alice") - Users("bob"), "follows": Users("alice")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("narrow", {"narrow": Users("bob")}),
        ("narrow behind", {"narrow behind": Everyone(), "for bob": Users("bob")}),
        ("spare", {"spare": Everyone() - Users("bob")}),
        ("spare behind", {"spare behind": Everyone(), "not bob": Everyone() - Users("bob")}),
    ],
)
async def test_a_plugin_may_say_who_sees_what_it_returns(text: str, expected: dict[str, Audience]) -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said(text))
        assert await audiences(b) == expected


async def test_whom_both_the_publisher_and_a_plugin_spare_is_spared() -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said("spare"), except_users=["alice"])
        [audience] = (await audiences(b)).values()
        assert audience == Everyone() - Users("alice", "bob")


@pytest.mark.parametrize("by_plugin", [False, True])
async def test_what_lasts_cannot_be_told_to_a_topic(by_plugin: bool) -> None:
    """Who comes back could not be given it."""
    async with bench(Words) as b:
        content, to = ("whisper", None) if by_plugin else ("x", Topic("t"))
        with pytest.raises(ValueError, match="said is durable, and a topic ends with its connections"):
            await b.workspace().publish(Said(content), to=to)
        await b.workspace().publish(Shown("x"), to=Topic("t"))
        assert await log(b) == ["(x)"]


# --- ids


async def test_publishing_it_again_with_its_id_is_harmless() -> None:
    async with bench(Words, nodes=2) as b:
        first = await b.workspace().publish(Said("one"), id="x")
        for node in (0, 1):
            again = await b.workspace(node=node).publish(Said("something else"), id="x")
            assert again == Receipt("x", first.position, False)
        assert await log(b) == ["one"]
        assert await count(b) == 1


async def test_what_passes_has_an_id_too() -> None:
    async with bench(Words) as b:
        assert await b.workspace().publish(Shown("one"), id="x") == Receipt("x", None, True)
        assert await b.workspace().publish(Shown("one"), id="x") == Receipt("x", None, False)


async def test_the_id_of_what_changed_nothing_is_remembered() -> None:
    """Or its repeat would do, later, what it did not do then."""
    async with bench(Words) as b:
        await b.workspace().publish(Said("once"))
        assert await b.workspace().publish(Said("once"), id="x") == Receipt("x", None, False)
        await b.workspace().update(ONCE, "once", lambda _: False)
        assert await b.workspace().publish(Said("once"), id="x") == Receipt("x", None, False)
        assert await log(b) == ["once"]


async def test_of_a_batch_what_is_known_is_left_out() -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said("one"), id="x")
        receipts = await b.workspace().publish_all([Post(Said("one"), id="x"), Post(Said("two"), id="y")])
        assert receipts == [Receipt("x", 1, False), Receipt("y", 2, True)]
        assert await log(b) == ["one", "two"]


async def test_an_id_twice_in_one_batch_is_a_duplicate() -> None:
    async with bench(Words) as b:
        await b.workspace().publish(Said("once"))
        receipts = await b.workspace().publish_all(
            [
                Post(Said("one"), id="x"),
                Post(Said("two"), id="x"),
                Post(Shown("three"), id="y"),
                Post(Shown("four"), id="y"),
                Post(Said("once"), id="z"),
                Post(Said("five"), id="z"),
            ]
        )
        assert await log(b) == ["once", "one", "(three)"]
        assert receipts == [
            Receipt("x", 2, True),
            Receipt("x", 2, False),
            Receipt("y", None, True),
            Receipt("y", None, False),
            Receipt("z", None, False),
            Receipt("z", None, False),
        ]


async def test_an_id_twice_at_once_is_published_once() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        await start(say(b, "first"))
        runs = [await start(say(b, text, id="x")) for text in ("one", "two")]
        gate.open()
        await settle()
        assert [run.outcome for run in runs] == [Receipt("x", 2, True), Receipt("x", 2, False)]
        assert await log(b) == ["first", "one"]


async def test_an_id_whose_first_was_refused_is_the_seconds() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        await start(say(b, "first"))
        runs = [await start(say(b, text, id="x")) for text in ("veto", "two")]
        gate.open()
        await settle()
        assert isinstance(runs[0].outcome, Unauthorized)
        assert runs[1].outcome == Receipt("x", 2, True)


async def test_what_cannot_happen_again_is_told_that_it_has_happened() -> None:
    """A repeat that a plugin would now refuse was no mistake of its publisher."""

    @attrs.define(eq=False)
    class OnlyOnce:
        name: str = "only_once"

        @before(Said)
        async def refuse(self, transaction: Transaction, event: Said) -> None:
            if not await transaction.update(ONCE, event.text, lambda _: True):
                raise Unauthorized

    async with bench(Words, OnlyOnce) as b:
        assert (await b.workspace().publish(Said("one"), id="x")).published
        assert await b.workspace().publish(Said("one"), id="x") == Receipt("x", 1, False)
        with pytest.raises(Unauthorized):
            await b.workspace().publish(Said("one"), id="y")
        receipts = await b.workspace().publish_all([Post(Said("two")), Post(Said("one"), id="x")])
        assert [receipt.published for receipt in receipts] == [True, False]
        assert await log(b) == ["one", "two"]


# --- combining


async def test_what_waits_goes_in_one_commit() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        first = await start(say(b, "first"))
        waiting = [await start(say(b, f"{n}")) for n in range(50)]
        before, reads = commits(b), b.nodes[0].link.calls.count("read")
        gate.open()
        await settle()
        assert commits(b) - before == 1
        assert b.nodes[0].link.calls.count("read") - reads == 1, "of the count, once for all"
        assert first.outcome.position == 1
        assert [run.outcome.position for run in waiting] == list(range(2, 52))
        assert await count(b) == 51
        assert idle(b)


async def test_not_more_than_so_many_go_in_one() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        await start(say(b, "first"))
        waiting = [Run(say(b, f"{n}")) for n in range(300)]
        async with anyio.create_task_group() as tasks:
            for run in waiting:
                await tasks.start(run)
            await settle()
            before = commits(b)
            gate.open()
        assert commits(b) - before == 2
        assert [run.outcome.position for run in waiting] == list(range(2, 302))


async def test_a_refused_one_drops_out_alone() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        await start(say(b, "first"))
        runs = [await start(say(b, text)) for text in ("one", "veto", "two", "break", "swallow", "three")]
        gate.open()
        await settle()
        assert [run.outcome.position for run in runs if isinstance(run.outcome, Receipt)] == [2, 3, None, 4]
        assert isinstance(runs[1].outcome, Unauthorized)
        assert isinstance(runs[3].outcome, ZeroDivisionError)
        assert await log(b) == ["first", "one", "two", "three"]
        assert await count(b) == 4


async def test_workspaces_do_not_wait_for_each_other() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        held = await start(say(b, "held"))
        other = await start(lambda: b.workspace("other").publish(Said("other")))
        gate.let(gate.held[1])
        await settle()
        assert held.outcome is None
        assert other.outcome.position == 1
        gate.open()


# --- conflicts


async def test_on_a_conflict_it_is_decided_again_with_what_the_engine_holds() -> None:
    async with bench(Words, nodes=2) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        run = await start(say(b, "one"))
        await b.workspace(node=1).publish(Said("two"))
        reads = b.nodes[0].link.calls.count("read")
        gate.open()
        await settle()
        assert run.outcome.position == 2
        assert words(b).decided == ["one", "one"]
        assert b.nodes[0].link.calls.count("read") == reads, "the conflict said it"
        assert await count(b) == 2


async def test_of_a_round_that_conflicts_all_is_decided_again() -> None:
    async with bench(Words, nodes=2) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        await start(say(b, "first"))
        runs = [await start(say(b, text)) for text in ("once", "once", "veto")]
        gate.step()
        await settle()
        await b.workspace(node=1).publish(Said("once"))
        gate.open()
        await settle()
        assert [run.outcome.published for run in runs[:2]] == [False, False]
        assert isinstance(runs[2].outcome, Unauthorized)
        assert await log(b) == ["first", "once"]


async def test_a_refusal_stands_when_what_it_read_has_changed_since() -> None:
    """It commits nothing, and so compares nothing: it was right when it was read."""
    async with bench(Words) as b:
        before = commits(b)
        with pytest.raises(Unauthorized):
            await b.workspace().publish(Said("veto"))
        assert commits(b) == before


class Contested(MemoryEngine):
    """Somebody else is always faster in the workspace `w`."""

    conflicts = 1_000_000

    async def commit(self, workspace: str, commit: Commit) -> Committed | Conflict:
        if workspace == "w" and self.conflicts:
            self.conflicts -= 1
            return Conflict({}, {}, self._clock.time())
        return await super().commit(workspace, commit)


async def test_after_many_conflicts_it_waits_a_moment_and_tries_again() -> None:
    engine = Contested()
    engine.conflicts = 12
    async with bench(Words, engine=engine) as b, starting() as start:
        run = await start(say(b, "one"))
        assert engine.conflicts == 4
        assert run.outcome is None
        await b.clock.advance(0.2)
        assert run.outcome.position == 1


async def test_who_does_not_get_through_is_told_so() -> None:
    async with bench(Words, engine=Contested()) as b, starting() as start:
        runs = [await start(say(b, text)) for text in ("one", "two")]
        await b.clock.advance(7)
        for run in runs:
            assert isinstance(run.outcome, EngineUnavailable)
        assert idle(b)


# --- the engine is away


@pytest.mark.parametrize("call", ["read", "commit"])
async def test_without_the_engine_it_is_said_so_to_all_who_wait(call: str) -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate((call,))
        runs = [await start(say(b, text)) for text in ("one", "two", "three")]
        b.nodes[0].partition()
        gate.open()
        await settle()
        for run in runs:
            assert isinstance(run.outcome, EngineUnavailable)
        assert idle(b)
        b.nodes[0].heal()
        assert (await b.workspace().publish(Said("four"))).position == 1


@pytest.mark.parametrize("call", ["read", "commit", "answer"])
async def test_an_engine_that_does_not_answer_is_not_waited_for_for_ever(call: str) -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = Gate((call,))
        runs = [await start(say(b, text)) for text in ("one", "two")]
        await b.clock.advance(2.9)
        assert runs[0].outcome is None
        await b.clock.advance(0.2)
        assert isinstance(runs[0].outcome, EngineUnavailable)
        assert "3 s" in str(runs[0].outcome)
        await b.clock.advance(3)
        assert isinstance(runs[1].outcome, EngineUnavailable)
        assert idle(b)


async def test_whose_answer_was_lost_may_repeat_it() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("answer",))
        run = await start(say(b, "one", id="x"))
        b.nodes[0].partition()
        gate.open()
        await settle()
        assert isinstance(run.outcome, EngineUnavailable)
        b.nodes[0].heal()
        assert await b.workspace().publish(Said("one"), id="x") == Receipt("x", 1, False)
        assert await log(b) == ["one"]


async def test_a_hook_that_awaits_the_world_holds_nobody_up_for_ever() -> None:
    @attrs.define(eq=False)
    class Dreams:
        name: str = "dreams"

        @before(Said)
        async def dream(self, event: Said) -> None:
            if event.text == "dream":
                await anyio.sleep_forever()

    async with bench(Words, Dreams) as b, starting() as start:
        dreaming = await start(say(b, "dream"))
        waiting = await start(say(b, "one"))
        await b.clock.advance(3.1)
        assert isinstance(dreaming.outcome, EngineUnavailable)
        assert waiting.outcome.position == 1


async def test_a_node_ends_although_its_engine_does_not_answer() -> None:
    """What is on its way then has a deadline still, and a nearer one: half of what is reserved for what is written
    last."""
    async with bench(Words) as b, starting() as start:
        node = b.nodes[0]
        node.link.gate = Gate(("commit",))
        early = await start(lambda: b.workspace().publish(Said("early")))
        stopped = await start(node.stop)
        await b.clock.advance(0.5)
        node.app.start_soon(lambda: b.workspace().publish(Said("late")))
        assert not node._stopped.is_set()
        await b.clock.advance(0.7)
        assert isinstance(early.outcome, EngineUnavailable)
        await b.clock.advance(10)
        assert node._stopped.is_set()
        assert stopped.outcome is None


# --- whoever publishes is cancelled


async def test_who_waits_and_is_cancelled_publishes_nothing() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        leader = await start(say(b, "leads"))
        waiting = [await start(say(b, f"{n}")) for n in range(3)]
        waiting[1].scope.cancel()
        await settle()
        gate.open()
        await settle()
        assert leader.outcome.position == 1
        assert [waiting[n].outcome.position for n in (0, 2)] == [2, 3]
        assert await log(b) == ["leads", "0", "2"]
        assert idle(b)


@pytest.mark.parametrize("call", ["read", "commit"])
async def test_who_leads_and_is_cancelled_leaves_nobody_hanging(call: str) -> None:
    """While it decides, nothing of its own happens; what the engine has been asked to commit, it does."""
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate((call,))
        leader = await start(say(b, "leads"))
        waiting = [await start(say(b, f"{n}")) for n in range(3)]
        leader.scope.cancel()
        await settle()
        gate.open()
        await settle()
        assert await log(b) == [*(["leads"] if call == "commit" else []), "0", "1", "2"]
        assert [isinstance(run.outcome, Receipt) for run in waiting] == [True] * 3
        assert idle(b)


@pytest.mark.parametrize("call", ["read", "commit"])
async def test_who_leads_for_others_and_is_cancelled_leaves_nobody_hanging(call: str) -> None:
    """All of them are in one round; one of them leads it."""
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate((call,))
        await start(say(b, "first"))
        runs = [await start(say(b, f"{n}")) for n in range(3)]
        while not any(len(row.units) < 3 for row in b.app.node.commits._rows.values()):
            gate.step()
            await settle()
        runs[0].scope.cancel()
        await settle()
        gate.open()
        await settle()
        for run in runs[1:]:
            assert isinstance(run.outcome, Receipt)
        assert await log(b) == ["first", *(["0"] if call == "commit" else []), "1", "2"]
        assert await count(b) == len(await log(b))
        assert idle(b)


async def test_who_is_cancelled_while_another_decides_for_it_does_not_lead_later() -> None:
    """First one of those who wait goes, then the one who leads: who is left must not wait for the first."""
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("read",))
        first = await start(say(b, "first"))
        second = await start(say(b, "second"))
        third = await start(say(b, "third"))
        gate.step()
        await settle()
        assert first.outcome.position == 1
        # Second leads now, and decides for third.
        third.scope.cancel()
        await settle()
        second.scope.cancel()
        await settle()
        gate.open()
        late = await start(say(b, "late"))
        assert late.outcome.position == 2
        assert await log(b) == ["first", "late"]
        assert idle(b)


async def test_who_is_to_lead_and_is_cancelled_hands_it_on() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        await start(say(b, "leads"))
        runs = [await start(say(b, f"{n}")) for n in range(2)]
        # In one step: the round ends, and the next to lead is cancelled before it runs.
        gate.step()
        runs[0].scope.cancel()
        await settle()
        gate.open()
        await settle()
        assert isinstance(runs[1].outcome, Receipt)
        assert await log(b) in (["leads", "1"], ["leads", "0", "1"])
        assert idle(b)


async def test_all_are_cancelled_and_the_next_is_served() -> None:
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("read",))
        runs = [await start(say(b, f"{n}")) for n in range(4)]
        for run in runs:
            run.scope.cancel()
        await settle()
        gate.open()
        assert (await b.workspace().publish(Said("late"))).position == 1
        assert idle(b)


@pytest.mark.parametrize("place", range(12))
async def test_a_cancellation_at_any_await_leaves_nobody_hanging(place: int) -> None:
    """Of three who publish at once, each in its turn is cancelled at each call of the engine."""
    victim, steps = place % 3, place // 3
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("read", "commit", "answer"))
        runs = [await start(say(b, f"{n}")) for n in range(3)]
        for _ in range(steps):
            gate.step()
            await settle()
        runs[victim].scope.cancel()
        await settle()
        gate.open()
        await settle()
        for run in runs:
            assert run is runs[victim] or isinstance(run.outcome, Receipt)
        texts = await log(b)
        assert texts == [f"{n}" for n in range(3) if f"{n}" in texts]
        assert {f"{n}" for n in range(3) if n != victim} <= set(texts)
        assert await count(b) == len(texts)
        assert idle(b)


async def test_asyncio_cancels_who_leads_in_the_middle_of_a_commit_and_nothing_is_published_twice(
    anyio_backend_name: str,
) -> None:
    """`asyncio.wait_for` and `asyncio.timeout` know nothing of a shield. Then nobody knows what has become of the
    commit, and everyone in it is told so; it is not decided anew, which could say everything a second time."""
    if anyio_backend_name != "asyncio":
        return
    async with bench(Words) as b, starting() as start:
        b.nodes[0].link.gate = gate = Gate(("read", "answer"))
        await start(say(b, "first"))
        runs = [await start(say(b, f"{n}")) for n in range(2)]
        while await log(b) != ["first", "0", "1"]:
            gate.step()
            await settle()
        assert runs[0].task is not None
        runs[0].task.cancel()
        await settle()
        gate.open()
        await settle()
        assert runs[0].outcome == "cancelled"
        assert isinstance(runs[1].outcome, EngineUnavailable)
        assert await log(b) == ["first", "0", "1"]
        assert (await b.workspace().publish(Said("late"))).position == 4
        assert idle(b)


# --- who hears of it


async def test_observers_hear_of_what_was_published_once_in_order_and_where_it_was() -> None:
    async with bench(Words, nodes=2) as b:
        await b.connect("alice")
        await b.connect("bob", node=1)
        await b.workspace().publish_all([Said("one"), Said("add")])
        await b.workspace().publish(Said("swallow"))
        await settle()
        assert words(b).heard == [Said("one"), Said("add"), Said("added")]
        other = b.nodes[1].app.plugins.objects["words"]
        assert isinstance(other, Words)
        assert other.heard == []


async def test_a_repeat_is_not_heard_of_again() -> None:
    async with bench(Words) as b:
        for _ in range(2):
            await b.workspace().publish(Said("one"), id="x")
        await settle()
        assert words(b).heard == [Said("one")]


async def test_what_a_decision_leaves_behind_is_there_whatever_it_published() -> None:
    """A decision that publishes nothing may still write."""
    async with bench(Words) as b:
        change = await b.workspace().update(COUNT, "all", lambda n: n + 5)
        assert (change.before, change.after) == (0, 5)
        assert await count(b) == 5
        assert await log(b) == []


async def test_transactions_name_their_workspace() -> None:
    seen: list[Workspace] = []

    @attrs.define(eq=False)
    class Looks:
        name: str = "looks"

        @before(Said)
        async def look(self, transaction: Transaction) -> None:
            seen.append(transaction.workspace)

    async with bench(Words, Looks) as b:
        await b.workspace("here").publish(Said("x"))
        assert seen == [b.workspace("here")]


async def test_typing_is_not_told_to_the_connection_that_types_by_its_audience_alone() -> None:
    """An audience that is named travels as it is named."""
    async with bench(Words) as b:
        await b.workspace().publish(TypingStart("c1", "alice"), to=Channel("c1") - Users("alice"))
        [record] = await b.engine.records("w", 0, 1, 1)
        assert Head.load(record.head).audience == Channel("c1") - Users("alice")


async def test_what_is_known_is_asked_only_where_something_failed() -> None:
    async with bench(Words) as b:
        before = commits(b)
        await b.workspace().publish(Said("one"), id="x")
        assert commits(b) - before == 1
        with pytest.raises(Unauthorized):
            await b.workspace().publish(Said("veto"), id="y")
        assert commits(b) - before == 2
        key = Key("words.count", "all")
        assert (await b.engine.read("w", (key,))).cells[key] == b"1"
