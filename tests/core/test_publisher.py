"""Publishing from elsewhere: the same plugins decide, and it is there for those who are connected."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

from jackfield import (
    Audience,
    ConfigurationError,
    EngineUnavailable,
    Everyone,
    Jackfield,
    MemoryEngine,
    Post,
    Publisher,
    Refused,
    ServerEvent,
    Settings,
    State,
    SyncPublisher,
    Transaction,
    Workspace,
    before,
    hookimpl,
    on,
)
from jackfield.testing import bench, settle
from jackfield_sqlite import SQLiteEngine


class Said(ServerEvent, type="said"):
    text: str

    def audience(self) -> Audience:
        return Everyone()


class Forbidden(Refused):
    """Not that word."""

    code = "FORBIDDEN"


COUNT = State("says.count", int)


@attrs.define(eq=False)
class Says:
    """Counts what is said, refuses one word, and keeps what it observed."""

    name: str = "says"
    observed: list[str] = attrs.field(factory=list[str])
    slow: anyio.Event | None = None

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Said,)

    @hookimpl
    async def authenticate(self) -> None:
        return None

    @hookimpl
    async def channels_of(self) -> Sequence[str]:
        return ()

    @before(Said)
    async def count(self, transaction: Transaction, event: Said) -> None:
        if event.text == "no":
            raise Forbidden
        await transaction.update(COUNT, "all", lambda count: count + 1)

    @on(Said)
    async def hear(self, workspace: Workspace, event: Said) -> None:
        if self.slow is not None:
            await self.slow.wait()
        self.observed.append(f"{workspace.id}: {event.text}")


@pytest.fixture
def engine() -> MemoryEngine:
    """One that is open: somebody hears."""
    engine = MemoryEngine()
    engine.opened = 1
    return engine


async def test_a_client_hears_it_at_its_place() -> None:
    @attrs.define(eq=False)
    class Words:
        name: str = "says"

        @hookimpl
        def register_events(self) -> Sequence[type[ServerEvent]]:
            return (Said,)

    async with bench(Words, nodes=2) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=1)
        await b.clock.advance(10)
        nodes, says = b.app.nodes, Says()
        async with Publisher(Jackfield(says, engine=b.engine, clock=b.clock)) as live:
            await live.workspace("w").publish_all([Said("a"), Post(Said("b"), except_users=["bob"]), Said("c")])
            await settle()
            assert await alice.pending() == [Said("a"), Said("b"), Said("c")]
            assert await bob.pending() == [Said("a"), Said("c")]
            assert await live.workspace("w").revoke("bob") == 1
            assert (await bob.closed()).code == 4503
            await b.clock.advance(10)
            assert b.app.nodes == nodes, "it is no node"
            receipt = await live.workspace("w").publish(Said("d"), id="1")
            again = await live.workspace("w").publish(Said("d"), id="1")
            assert (receipt.published, again.published, again.position) == (True, False, receipt.position)
        assert says.observed == ["w: a", "w: b", "w: c", "w: d"]
        assert await b.workspace().get(COUNT, "all") == 4


async def test_what_plugins_refuse_is_refused_and_what_is_no_event_too(engine: MemoryEngine) -> None:
    async with Publisher(Jackfield(Says(), engine=engine)) as live:
        with pytest.raises(Forbidden):
            await live.workspace("w").publish_all([Said("yes"), Said("no")])
        assert await live.workspace("w").get(COUNT, "all") == 0
        with pytest.raises(TypeError, match="text"):
            await live.workspace("w").publish(Said(7))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="is no id of a workspace"):
            live.workspace("a b")


async def test_leaving_waits_for_observers_but_not_for_ever(
    engine: MemoryEngine, caplog: pytest.LogCaptureFixture
) -> None:
    says = Says(slow=anyio.Event())
    async with anyio.create_task_group() as tasks:

        async def publish() -> None:
            async with Publisher(Jackfield(says, engine=engine)) as live:
                await live.workspace("w").publish_all([Said("a"), Said("b")])

        tasks.start_soon(publish)
        await settle()
        assert says.observed == []
        assert says.slow is not None
        says.slow.set()
    assert says.observed == ["w: a", "w: b"]
    says = Says(slow=anyio.Event())
    async with Publisher(Jackfield(says, engine=engine, settings=Settings(hook_timeout=0.01))) as live:
        await live.workspace("w").publish(Said("c"))
    assert says.observed == []
    assert caplog.records[-1].levelno >= logging.WARNING


async def test_what_cannot_work_is_said_in_a_line(engine: MemoryEngine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as raised:
        await Publisher(Jackfield(Says())).__aenter__()
    assert str(raised.value) == (
        "this application's engine is the memory of this process, so nobody would hear what it publishes: "
        "give it an engine that both processes reach, such as RedisEngine.from_url(…)."
    )
    app = Jackfield(Says(), engine=engine)
    async with app.lifespan():
        with pytest.raises(ConfigurationError, match="this application is running: publish by its workspace"):
            await Publisher(app).__aenter__()
    async with Publisher(app):
        with pytest.raises(ConfigurationError, match="a Publisher has this application: serve another object"):
            await app.lifespan().__aenter__()
        with pytest.raises(ConfigurationError, match="jackfield was not started"):
            await app({"type": "websocket", "path": "/ws/w"}, None, None)
        assert not await app.ready()
    path = tmp_path / "chat.db"
    async with Publisher(Jackfield(Says(), engine=SQLiteEngine(path))):
        with pytest.raises(EngineUnavailable, match=r"chat\.db"):
            await Publisher(Jackfield(Says(), engine=SQLiteEngine(path, wait=0))).__aenter__()


async def test_what_is_raised_inside_comes_out_as_it_is(engine: MemoryEngine) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Publisher(Jackfield(Says(), engine=engine)):
            raise ZeroDivisionError


# --- without an event loop


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_without_an_event_loop(backend: str, tmp_path: Path) -> None:
    says = Says()
    live = SyncPublisher(Jackfield(says, engine=SQLiteEngine(tmp_path / "chat.db")), backend=backend)
    with live:
        receipt = live.workspace("w").publish(Said("a"), id="1")
        assert (receipt.position, receipt.published) == (1, True)
        assert [r.published for r in live.workspace("w").publish_all([Said("b"), Post(Said("a"), id="1")])] == [
            True,
            False,
        ]
        with pytest.raises(Forbidden):
            live.workspace("w").publish(Said("no"))
        assert live.workspace("w").revoke("nobody") == 0
    assert says.observed == ["w: a", "w: b"]
    assert live.workspace("w").publish(Said("c")).position == 4  # behind the revocation
    live.close()
    live.close()


def test_from_many_threads_at_once_all_of_it_is_published_once(tmp_path: Path) -> None:
    live = SyncPublisher(Jackfield(Says(), engine=SQLiteEngine(tmp_path / "chat.db")))
    receipts: list[Any] = []

    def publish(thread: int) -> None:
        for n in range(20):
            receipts.append(live.workspace("w").publish(Said(f"{thread}.{n}"), id=f"{thread // 2}.{n}"))

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    live.close()
    assert sorted(receipt.position for receipt in receipts if receipt.published) == list(range(1, 81))
    assert len(receipts) == 160


async def test_inside_of_an_event_loop_it_says_what_to_use(tmp_path: Path) -> None:
    live = SyncPublisher(Jackfield(Says(), engine=SQLiteEngine(tmp_path / "chat.db")))
    with pytest.raises(RuntimeError, match=r'would stop this event loop: use "async with Publisher\(app\)" here'):
        live.workspace("w").publish(Said("a"))
    receipt = await anyio.to_thread.run_sync(live.workspace("w").publish, Said("a"))  # a thread of it will do
    assert receipt.position == 1
    await anyio.to_thread.run_sync(live.close)


def test_what_cannot_start_can_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "chat.db"
    live = SyncPublisher(Jackfield(Says(), engine=SQLiteEngine(path)))
    with pytest.raises(ConfigurationError, match="missing"):
        live.workspace("w").publish(Said("a"))
    path.parent.mkdir()
    assert live.workspace("w").publish(Said("a")).position == 1
    live.close()


FORKS = """
import os, sys
sys.path.insert(0, {here!r})
from test_publisher import Said, Says
from jackfield import Jackfield, SyncPublisher
from jackfield_redis import RedisEngine

live = SyncPublisher(Jackfield(Says(), engine=RedisEngine.from_url({url!r})))
print(live.workspace("w").publish(Said("parent")).position, flush=True)
child = os.fork()
if not child:
    print(live.workspace("w").publish(Said("child")).position, flush=True)
    sys.exit()
os.waitpid(child, 0)
print(live.workspace("w").publish(Said("parent again")).position)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_begins_anew_and_both_end_by_themselves() -> None:
    from redis_server import RedisServer

    with RedisServer() as server:
        script = FORKS.format(here=os.path.dirname(__file__), url=server.url)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (["1", "2", "3"], 0), done.stderr
