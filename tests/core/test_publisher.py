"""Publishing from elsewhere: the same plugins decide, and it is there for those who are connected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest

from jackfield import (
    Audience,
    Clock,
    ConfigurationError,
    EngineUnavailable,
    Everyone,
    Jackfield,
    MemoryEngine,
    Post,
    Publisher,
    Receipt,
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
from jackfield._clock import SystemClock
from jackfield.engine import History
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
class Words:
    """Counts what is said, and refuses one word."""

    name: str = "says"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (Said,)

    @before(Said)
    async def count(self, transaction: Transaction, event: Said) -> None:
        if event.text == "no":
            raise Forbidden
        await transaction.update(COUNT, "all", lambda count: count + 1)


@attrs.define(eq=False)
class Says(Words):
    """The same in an application that lets nobody in, where it keeps what it observed, too."""

    observed: list[str] = attrs.field(factory=list[str])
    slow: anyio.Event | None = None

    @hookimpl
    async def authenticate(self) -> None:
        return None

    @hookimpl
    async def channels_of(self) -> Sequence[str]:
        return ()

    @on(Said)
    async def hear(self, workspace: Workspace, event: Said) -> None:
        if self.slow is not None:
            await self.slow.wait()
        self.observed.append(f"{workspace.id}: {event.text}")


@pytest.fixture
async def engine() -> AsyncGenerator[MemoryEngine]:
    """One that is open: somebody hears."""
    engine = MemoryEngine()
    async with engine.open(History(), SystemClock()):
        yield engine


async def test_a_client_hears_it_at_its_place() -> None:
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
    async with Publisher(Jackfield(says, engine=engine, settings=Settings(drain_timeout=0.01))) as live:
        await live.workspace("w").publish(Said("c"))
    assert says.observed == []
    assert caplog.messages[-1] == "not every observer was told of what had been published"


async def test_leaving_by_an_exception_waits_for_them_too(engine: MemoryEngine) -> None:
    says = Says(slow=anyio.Event())
    assert says.slow is not None
    app = Jackfield(says, engine=engine)

    async def publish() -> None:
        async with Publisher(app) as live:
            await live.workspace("w").publish_all([Said("a"), Said("b")])
            app.start_soon(_set, says.slow)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await publish()
    assert says.observed == ["w: a", "w: b"]


async def _set(event: anyio.Event) -> None:
    event.set()


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
        with pytest.raises(
            ConfigurationError, match="a Publisher has this application: end it first, or serve another"
        ):
            await app.lifespan().__aenter__()
        with pytest.raises(ConfigurationError, match="a Publisher has this application already: publish by that one"):
            await Publisher(app).__aenter__()
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


class Interrupted(Exception):
    """As Celery raises it where a task has reached its limit."""


class Interrupting(SQLiteEngine):
    """Interrupts whoever waits until it is open, or is closed again; once."""

    at: str
    go: threading.Event

    @asynccontextmanager
    async def open(self, history: History, clock: Clock) -> AsyncGenerator[None]:
        await self.interrupt("opening")
        async with super().open(history, clock):
            yield
        await self.interrupt("closing")

    async def interrupt(self, at: str) -> None:
        if at == self.at:
            self.at = ""
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            await anyio.to_thread.run_sync(self.go.wait)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal")
@pytest.mark.parametrize("at", ["opening", "closing"])
def test_whoever_is_interrupted_while_it_begins_or_ends_spoils_nothing(at: str, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    def use() -> None:
        live.workspace("w").publish(Said("a"), id="1")
        live.close()

    engine = Interrupting(tmp_path / "chat.db")
    engine.at, engine.go = at, threading.Event()
    live = SyncPublisher(Jackfield(Says(), engine=engine))
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(Interrupted):
            use()
    finally:
        signal.signal(signal.SIGUSR1, before)
    threading.Timer(0.1, engine.go.set).start()  # whoever comes next waits for that
    assert live.workspace("w").publish(Said("b"), id="2").published
    live.close()


AWAY = """
import sys, threading
sys.path.insert(0, {here!r})
import anyio
from contextlib import asynccontextmanager
from test_publisher import Said, Says
from jackfield import Jackfield, SyncPublisher
from jackfield_sqlite import SQLiteEngine

asked = threading.Event()

class Away(SQLiteEngine):
    @asynccontextmanager
    async def open(self, history, clock):
        asked.set()
        await anyio.sleep_forever()
        yield

live = SyncPublisher(Jackfield(Says(), engine=Away("chat.db")))
threading.Thread(target=live.workspace("w").publish, args=(Said("a"),), daemon=True).start()
asked.wait()
"""


def test_an_engine_that_is_not_there_holds_up_no_end_of_a_process(tmp_path: Path) -> None:
    script = AWAY.format(here=os.path.dirname(__file__))
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_that_are_made_for_an_application_are_one(tmp_path: Path) -> None:
    app = Jackfield(Says(), engine=SQLiteEngine(tmp_path / "chat.db"))
    views, tasks = SyncPublisher(app), SyncPublisher(app)
    assert views.workspace("w").publish(Said("a")).position == 1
    assert tasks.workspace("w").publish(Said("b")).position == 2
    for position in 3, 4:  # whoever makes one for each call
        assert SyncPublisher(app).workspace("w").publish(Said("c")).position == position
    views.close()
    assert tasks.workspace("w").publish(Said("d")).position == 5
    tasks.close()


def test_closing_loses_nothing_of_what_others_publish_meanwhile(tmp_path: Path) -> None:
    live = SyncPublisher(Jackfield(Says(), engine=SQLiteEngine(tmp_path / "chat.db")))
    positions: list[int | None] = []

    def publish() -> None:
        for _ in range(20):
            positions.append(live.workspace("w").publish(Said("a")).position)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        live.close()
    live.close()
    assert sorted(positions, key=lambda position: position or 0) == list(range(1, 81))


async def test_where_the_application_is_served_it_is_published_there() -> None:
    """As in a Django view, in a process that also serves jackfield; so the memory of the process will do."""
    async with bench(Words) as b:
        live = SyncPublisher(b.app)
        alice = await b.connect("alice")

        def view() -> Receipt:
            with live:  # the end of it ends nothing here
                live.workspace("w").publish(Said("a"))
            return live.workspace("w").publish(Said("b"))

        receipt = await anyio.to_thread.run_sync(view)
        assert receipt.published
        await settle()
        assert await alice.pending() == [Said("a"), Said("b")]
        with pytest.raises(Forbidden):
            await anyio.to_thread.run_sync(live.workspace("w").publish, Said("no"))
        with pytest.raises(RuntimeError, match="would stop this event loop"):
            live.workspace("w").publish(Said("c"))


async def test_an_engine_that_is_open_in_another_event_loop_is_refused(engine: MemoryEngine, tmp_path: Path) -> None:
    """Two loops cannot wake each other: it would hang, or be heard late."""
    live = SyncPublisher(Jackfield(Says(), engine=engine))
    with pytest.raises(ConfigurationError, match="is the memory of this process, so nobody would hear"):
        await anyio.to_thread.run_sync(live.workspace("w").publish, Said("a"))
    shared = SQLiteEngine(tmp_path / "chat.db")
    live = SyncPublisher(Jackfield(Says(), engine=shared))
    async with Publisher(Jackfield(Says(), engine=shared)) as here:
        with pytest.raises(ConfigurationError) as raised:
            await anyio.to_thread.run_sync(live.workspace("w").publish, Said("a"))
        assert str(raised.value) == (
            "this SQLiteEngine is open in another event loop of this process: "
            "give each application an engine of its own."
        )
        async with Publisher(Jackfield(Says(), engine=shared)) as beside:  # two in one loop may
            assert (await beside.workspace("w").publish(Said("b"))).position == 1
        assert (await here.workspace("w").publish(Said("c"))).position == 2
    assert (await anyio.to_thread.run_sync(live.workspace("w").publish, Said("d"))).position == 3
    await anyio.to_thread.run_sync(live.close)


# --- forks

FORK = """
import os, sys
sys.path.insert(0, {here!r})
import anyio, anyio.to_thread
from test_publisher import Said, Says
from jackfield import Jackfield, SyncPublisher
from jackfield_sqlite import SQLiteEngine

engine = SQLiteEngine({path!r}, wait=0)
app = Jackfield(Says(), engine=engine)
live = SyncPublisher(app)

def publish(text):
    try:
        print(live.workspace("w").publish(Said(text)).position, flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)

def child(text):
    pid = os.fork()
    if not pid:
        publish(text)
        sys.exit()
    os.waitpid(pid, 0)
"""
UNUSED_AND_CLOSED = """
child("its parent has not used it")
publish("its parent has")
live.close()
child("and closed it")
publish("its parent, again")
"""
OPEN = """
publish("parent")
child("the file is its parent's")
publish("its parent goes on")
"""
SERVED = """
def served_child():
    pid = os.fork()
    if not pid:
        publish("nobody is served in the child")
        os._exit(0)
    os.waitpid(pid, 0)

async def main():
    async with app.lifespan():
        await anyio.to_thread.run_sync(publish, "here it is served")
        await anyio.to_thread.run_sync(served_child)
        await anyio.to_thread.run_sync(publish, "and still is")

anyio.run(main)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize(
    ("script", "said"),
    [
        (UNUSED_AND_CLOSED, ["1", "2", "3", "4"]),
        (OPEN, ["1", "EngineUnavailable", "2"]),
        (SERVED, ["1", "EngineUnavailable", "2"]),
    ],
    ids=["unused and closed", "open", "served"],
)
def test_a_child_has_nothing_of_what_its_parent_has_open(script: str, said: list[str], tmp_path: Path) -> None:
    begin = FORK.format(here=os.path.dirname(__file__), path=str(tmp_path / "chat.db"))
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", begin + script]  # of forks with threads
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.split(), done.returncode) == (said, 0), done.stderr


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
