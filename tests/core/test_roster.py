"""Who is connected where, over nodes that come, pause and die."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import attrs
import orjson
import pytest

from jackfield import (
    Attendance,
    Audience,
    EngineUnavailable,
    Everyone,
    MemoryEngine,
    Principal,
    RateLimited,
    ServerEvent,
    Session,
    Settings,
    Transaction,
    hookimpl,
)
from jackfield._lease import LEASES, PLACES, SYSTEM, WRITERS
from jackfield._roster import ROSTER
from jackfield.engine import Commit, Key
from jackfield.events import Hello
from jackfield.testing import Bench, BenchNode, Client, bench, settle
from jackfield.testing._link import Gate

PATIENT = Settings(heartbeat_timeout=1e9)
"""For clients that say nothing for a while."""
SOON = 6.0
"""Until a debt is paid: a third of a lease."""
DEAD = 40.0
"""Until a dead node has been reaped, by one that was in touch for a lease."""


class RosterMoved(ServerEvent, type="roster.moved"):
    """A user's connections changed; in the log, so that each stands there as often as it happened."""

    user_id: str
    before: int
    after: int
    idle: int
    cause: str

    def audience(self) -> Audience:
        return Everyone()


@attrs.define(eq=False)
class Watch:
    """Publishes what it is told of the roster."""

    name: str = "watch"

    @hookimpl
    def register_events(self) -> Sequence[type[ServerEvent]]:
        return (RosterMoved,)

    @hookimpl
    async def roster_changed(
        self, transaction: Transaction, user_id: str, before: Attendance, after: Attendance, cause: str
    ) -> Sequence[ServerEvent]:
        return [RosterMoved(user_id, before.connections, after.connections, after.idle, cause)]


async def moved(b: Bench, user_id: str = "alice") -> list[tuple[int, int, str]]:
    """What has become of a user's connections: how many there were, are, and why."""
    upto = (await b.engine.read("w")).position
    frames = [orjson.loads(record.body or "null") for record in await b.engine.records("w", 0, upto, 10_000)]
    data = [frame["data"] for frame in frames if frame and frame["type"] == "roster.moved"]
    return [(d["before"], d["after"], d["cause"]) for d in data if d["user_id"] == user_id]


async def there(b: Bench, user_id: str = "alice", workspace: str = "w") -> dict[str, tuple[int, int]]:
    """What the roster holds of a user."""
    key = Key(ROSTER.name, user_id)
    return ROSTER.load((await b.engine.read(workspace, (key,))).cells[key])


async def connections(b: Bench, user_id: str = "alice") -> int:
    return sum(here[0] for here in (await there(b, user_id)).values())


async def traces(b: Bench, incarnation: str, *workspaces: str) -> list[object]:
    """What a node has left in the engine."""
    system = await b.engine.read(SYSTEM, tables=(LEASES.name, PLACES.of(incarnation).name))
    found: list[object] = [incarnation] if incarnation in system.tables[LEASES.name] else []
    found += system.tables[PLACES.of(incarnation).name]
    for workspace in workspaces or ("w",):
        roster = (await b.engine.read(workspace, tables=(ROSTER.name,))).tables[ROSTER.name]
        found += [user for user, cell in roster.items() if incarnation in ROSTER.load(cell)]
    return found


def incarnation(node: BenchNode) -> str:
    return node.app.node.roster.lease.incarnation


def session_of(client: Client, node: BenchNode) -> Session:
    return next(s for s in node.app.node.sessions if s.id == client.hello.connection_id)


# --- coming, going, idling


async def test_every_connection_counts_and_every_end_of_one() -> None:
    async with bench(Watch, nodes=2) as b:
        one = await b.connect("alice")
        two = await b.connect("alice", node=1)
        assert set((await there(b)).values()) == {(1, 0)}
        one.close()
        await settle()
        two.drop()
        await settle()
        assert await there(b) == {}
        assert await moved(b) == [(0, 1, "opened"), (1, 2, "opened"), (2, 1, "closed"), (1, 0, "closed")]


async def test_it_counts_for_each_user_and_each_workspace() -> None:
    async with bench(Watch) as b:
        await b.connect("alice")
        await b.connect("bob")
        await b.connect("alice", workspace="other")
        assert await connections(b, "alice") == 1
        assert await connections(b, "bob") == 1
        assert len(await there(b, "alice", "other")) == 1


async def test_the_idle_ones_are_counted_too() -> None:
    async with bench(Watch) as b:
        clients = [await b.connect("alice") for _ in range(2)]
        session = session_of(clients[0], b.nodes[0])
        await session.set_idle(True)
        assert list((await there(b)).values()) == [(2, 1)]
        before = await moved(b)
        await session.set_idle(True)
        assert await moved(b) == before, "nothing has changed"
        await session.set_idle(False)
        assert list((await there(b)).values()) == [(2, 0)]
        assert [cause for _, _, cause in (await moved(b))[2:]] == ["idle", "idle"]


async def test_the_connection_is_in_the_roster_before_it_is_told_hello() -> None:
    async with bench(Watch) as b:
        alice = await b.connect("alice")
        assert await moved(b) == [(0, 1, "opened")]
        assert await alice.pending() == []


# --- the limit


async def test_twenty_connections_of_a_user_are_let_in_and_no_more() -> None:
    async with bench(Watch, nodes=2) as b:
        clients = [await b.connect("alice", node=n % 2) for n in range(20)]
        for node in (0, 1):
            refused = await b.open("alice", node=node)
            assert [frame["data"]["code"] for frame in _errors(refused)] == ["RATE_LIMITED"]
            assert (await refused.closed()).code == 4504
        assert await connections(b) == 20
        assert not any(client.transport.ended for client in clients)
        # Others, and elsewhere, are not meant.
        await b.connect("bob")
        await b.connect("alice", workspace="other")
        clients[0].close()
        await settle()
        await b.connect("alice", node=1)


def _errors(client: Client) -> list[dict[str, Any]]:
    client._take()
    return [frame for frame in client.frames if frame["type"] == "error"]


async def test_of_many_at_once_as_many_are_let_in_as_may_be() -> None:
    """All of them are on their way before the first is written in."""
    async with bench(Watch, settings=Settings(connections_per_user=3)) as b:
        b.nodes[0].link.gate = gate = Gate(("commit",))
        clients = [await b.open("alice") for _ in range(5)]
        gate.open()
        await settle()
        assert [client.transport.ended for client in clients] == [False, False, False, True, True]
        assert await connections(b) == 3


async def test_the_connections_of_a_dead_node_do_not_count() -> None:
    async with bench(Watch, nodes=2, settings=Settings(connections_per_user=1)) as b:
        await b.connect("alice")
        await b.nodes[0].crash()
        assert (await (await b.open("alice", node=1)).closed()).code == 4504
        await b.clock.advance(DEAD)
        await b.connect("alice", node=1)


async def test_a_plugin_may_refuse_a_connection_and_nothing_of_it_stays() -> None:
    @attrs.define(eq=False)
    class OneAtATime:
        name: str = "one"

        @hookimpl
        async def roster_changed(self, before: Attendance, cause: str) -> None:
            if cause == "opened" and before.connections:
                raise RateLimited

    async with bench(OneAtATime) as b:
        await b.connect("alice")
        assert (await (await b.open("alice")).closed()).code == 4504
        assert await connections(b) == 1


# --- what is owed is paid


async def test_an_end_that_the_engine_did_not_hear_of_is_told_later() -> None:
    async with bench(Watch) as b:
        alice = await b.connect("alice")
        b.nodes[0].partition()
        alice.close()
        await settle()
        assert await connections(b) == 1
        b.nodes[0].heal()
        await b.clock.advance(SOON)
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "closed")]


async def test_a_connection_that_was_written_in_and_never_let_in_is_written_out() -> None:
    """The commit happened and its answer was lost: the client is sent away, and must not stay in the roster."""
    async with bench(Watch) as b:
        b.nodes[0].link.gate = gate = Gate(("answer",))
        alice = await b.open("alice")
        while await connections(b) == 0:
            gate.step()
            await settle()
        b.nodes[0].partition()
        gate.open()
        assert (await alice.closed()).code == 1013
        assert await connections(b) == 1
        b.nodes[0].heal()
        await b.clock.advance(SOON)
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "closed")]


async def test_of_two_ends_at_once_the_one_that_failed_is_owed() -> None:
    async with bench(Watch) as b:
        one, two = [await b.connect("alice") for _ in range(2)]
        node = b.nodes[0]
        node.link.gate = gate = Gate(("commit",))
        one.close()
        await settle()
        two.close()
        await settle()
        gate.step()
        await settle()
        assert await connections(b) == 1
        node.partition()
        gate.open()
        await settle()
        node.heal()
        await b.clock.advance(SOON)
        assert await connections(b) == 0


async def test_a_plugin_that_fails_cannot_keep_a_connection_from_ending() -> None:
    @attrs.define(eq=False)
    class Broken:
        name: str = "broken"

        @hookimpl
        async def roster_changed(self, after: Attendance) -> None:
            if not after.connections:
                raise ZeroDivisionError

    async with bench(Broken, Watch) as b:
        alice = await b.connect("alice")
        alice.close()
        await settle()
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "closed")]
        assert b.app.node.dispatcher.faults["broken"] == 1
        await b.connect("alice")


async def test_a_plugin_that_fails_where_a_connection_opens_lets_nobody_in() -> None:
    @attrs.define(eq=False)
    class Broken:
        name: str = "broken"

        @hookimpl
        async def roster_changed(self, after: Attendance, cause: str) -> None:
            if cause == "opened":
                raise ZeroDivisionError

    async with bench(Broken, Watch) as b:
        assert (await (await b.open("alice")).closed()).code == 1013
        assert await connections(b) == 0


# --- leases


async def test_a_node_has_a_lease_and_renews_it() -> None:
    async with bench(Watch, nodes=2) as b:
        await b.clock.advance(100)
        leases = (await b.engine.read(SYSTEM, tables=(LEASES.name,))).tables[LEASES.name]
        assert set(leases) == {incarnation(node) for node in b.nodes}
        for node in b.nodes:
            assert node.app.nodes == set(leases)


async def test_a_dead_nodes_connections_end_when_its_lease_has_run_out() -> None:
    async with bench(Watch, nodes=3, settings=PATIENT) as b:
        await b.connect("alice")
        await b.connect("alice", workspace="other")
        await b.connect("bob", node=1)
        dead = incarnation(b.nodes[0])
        await b.nodes[0].crash()
        await b.clock.advance(8)
        assert await connections(b) == 1
        await b.clock.advance(DEAD)
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "lost")]
        assert await moved(b, "bob") == [(0, 1, "opened")]
        assert await traces(b, dead, "w", "other") == []
        assert b.nodes[1].app.nodes == {incarnation(node) for node in b.nodes[1:]}


async def test_many_connections_of_a_dead_node_all_end() -> None:
    async with bench(Watch, nodes=2, settings=Settings(connects_per_address=10_000)) as b:
        for n in range(250):
            await b.connect(f"user{n}")
        dead = incarnation(b.nodes[0])
        await b.nodes[0].crash()
        await b.clock.advance(DEAD)
        assert await traces(b, dead) == []
        assert [await moved(b, f"user{n}") for n in range(250)] == [[(0, 1, "opened"), (1, 0, "lost")]] * 250


async def test_a_node_that_was_paused_goes_on_under_a_new_name_and_its_connections_stand() -> None:
    async with bench(Watch, nodes=2, settings=PATIENT) as b:
        alice = await b.connect("alice")
        await b.connect("bob", node=1)
        old = incarnation(b.nodes[0])
        b.nodes[0].partition()
        await b.clock.advance(DEAD)
        assert await connections(b) == 0
        b.nodes[0].heal()
        await b.clock.advance(SOON)
        new = incarnation(b.nodes[0])
        assert new != old
        assert await there(b) == {new: (1, 0)}
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "lost"), (0, 1, "opened")]
        assert not alice.transport.ended
        assert await traces(b, old) == []
        alice.close()
        await settle()
        assert await there(b) == {}


async def test_a_paused_node_notices_with_the_first_thing_that_it_writes() -> None:
    async with bench(Watch, nodes=2, settings=PATIENT) as b:
        await b.connect("alice")
        b.nodes[0].partition()
        await b.clock.advance(DEAD)
        b.nodes[0].heal()
        b.nodes[0].link.gate = gate = Gate(("read",))
        carol, dave = [await b.open(name) for name in ("carol", "dave")]
        gate.open()
        await b.clock.advance(SOON)
        assert not carol.transport.ended
        assert not dave.transport.ended
        name = incarnation(b.nodes[0])
        for user in ("alice", "carol", "dave"):
            assert await there(b, user) == {name: (1, 0)}
        # One new name for all who noticed.
        assert b.nodes[1].app.nodes == {incarnation(node) for node in b.nodes}


async def test_an_outage_of_the_engine_ends_nobody() -> None:
    async with bench(Watch, nodes=2, settings=PATIENT) as b:
        clients = [await b.connect(f"user{node}", node=node) for node in (0, 1)]
        names = [incarnation(node) for node in b.nodes]
        for node in b.nodes:
            node.partition()
        await b.clock.advance(DEAD)
        for node in b.nodes:
            node.heal()
        await b.clock.advance(20)
        assert [incarnation(node) for node in b.nodes] == names
        for n, client in enumerate(clients):
            assert await moved(b, f"user{n}") == [(0, 1, "opened")]
            assert not client.transport.ended


async def test_who_was_out_of_touch_reaps_nobody_for_a_lease() -> None:
    """The other may be about to renew."""
    async with bench(Watch, nodes=2, settings=PATIENT) as b:
        await b.connect("alice")
        for node in b.nodes:
            node.partition()
        await b.clock.advance(DEAD)
        b.nodes[1].heal()
        await b.clock.advance(10)
        assert await connections(b) == 1
        b.nodes[0].heal()
        await b.clock.advance(DEAD)
        assert await moved(b) == [(0, 1, "opened")]


async def test_a_lease_that_was_renewed_meanwhile_is_left_alone() -> None:
    """Between being told that it is due and reaping, its node may have come back."""
    async with bench(Watch, nodes=2, settings=PATIENT) as b:
        await b.connect("alice")
        b.nodes[1].link.gate = Gate(("due",))
        b.nodes[0].partition()
        await b.clock.advance(19)
        b.nodes[0].heal()
        await b.clock.advance(2)
        await b.nodes[1].app.node.roster.lease.due(Key(LEASES.name, incarnation(b.nodes[0])))
        await b.clock.advance(SOON)
        assert await moved(b) == [(0, 1, "opened")]


async def test_a_node_whose_own_lease_is_due_renews_it() -> None:
    async with bench(Watch, settings=PATIENT) as b:
        alice = await b.connect("alice")
        name = incarnation(b.nodes[0])
        b.nodes[0].partition()
        await b.clock.advance(DEAD)
        b.nodes[0].heal()
        await b.clock.advance(DEAD)
        assert incarnation(b.nodes[0]) == name
        assert await moved(b) == [(0, 1, "opened")]
        assert not alice.transport.ended


async def test_a_node_that_cannot_have_a_lease_does_not_start() -> None:
    class Broken(MemoryEngine):
        async def commit(self, workspace: str, commit: Commit) -> Any:
            raise EngineUnavailable("no engine at example:1234")

    with pytest.raises(EngineUnavailable, match="example:1234"):
        async with bench(Watch, engine=Broken()):
            pass


# --- an orderly end


async def test_a_node_that_stops_leaves_nothing_behind() -> None:
    async with bench(Watch, nodes=2) as b:
        alice = await b.connect("alice")
        await b.connect("alice", workspace="other")
        gone = incarnation(b.nodes[0])
        await b.nodes[0].stop()
        assert (await alice.closed()).code == 4001
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "closed")]
        assert await traces(b, gone, "w", "other") == []
        await b.clock.advance(DEAD)
        assert b.nodes[1].app.nodes == {incarnation(b.nodes[1])}


async def test_a_node_that_stops_with_a_debt_pays_it_first() -> None:
    async with bench(Watch, nodes=2) as b:
        alice = await b.connect("alice")
        gone = incarnation(b.nodes[0])
        b.nodes[0].partition()
        alice.close()
        await settle()
        b.nodes[0].heal()
        await b.nodes[0].stop()
        assert await traces(b, gone) == []
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "closed")]


async def test_a_node_that_stops_without_its_engine_is_reaped() -> None:
    async with bench(Watch, nodes=2) as b:
        await b.connect("alice")
        gone = incarnation(b.nodes[0])
        b.nodes[0].partition()
        await b.nodes[0].stop()
        assert await connections(b) == 1
        await b.clock.advance(DEAD)
        assert await traces(b, gone) == []
        assert await moved(b) == [(0, 1, "opened"), (1, 0, "lost")]


async def test_a_connection_that_outlasts_its_node_is_in_no_roster() -> None:
    """A plugin that does not come to an end holds it up longer than the drain takes."""
    hold = anyio.Event()

    @attrs.define(eq=False)
    class Slow:
        name: str = "slow"

        @hookimpl
        async def roster_changed(self, cause: str) -> None:
            if cause == "closed":
                with anyio.CancelScope(shield=True):
                    await hold.wait()

    async with bench(Watch, Slow, nodes=2) as b:
        await b.connect("alice")
        gone = incarnation(b.nodes[0])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.nodes[0].stop)
            await b.clock.advance(20)
            hold.set()
        await b.clock.advance(DEAD)
        assert await traces(b, gone) == []
        assert b.nodes[1].app.nodes == {incarnation(b.nodes[1])}


# --- revocation


async def test_a_revocation_ends_every_connection_of_a_user_on_every_node() -> None:
    async with bench(Watch, nodes=3) as b:
        clients = [await b.connect("alice", node=node) for node in (0, 1, 1)]
        bob = await b.connect("bob", node=1)
        elsewhere = await b.connect("alice", workspace="other")
        assert await b.workspace(node=2).revoke("alice") == 3
        for client in clients:
            assert (await client.closed()).code == 4503
        assert not bob.transport.ended
        assert not elsewhere.transport.ended
        assert await there(b) == {}
        assert (await moved(b))[3:] == [(3, 0, "revoked")]


async def test_revoking_who_is_not_there_ends_nothing_and_still_counts() -> None:
    async with bench(Watch) as b:
        assert await b.workspace().revoke("alice") == 0
        assert await moved(b) == [(0, 0, "revoked")]  # plugins may remember something of him still
        old = Principal("alice", issued_at=b.clock.time() - 1)
        assert (await (await b.open("alice", principal=old)).closed()).code == 4503


@pytest.mark.parametrize(("issued", "code"), [(-10.0, 4503), (0.0, 4503), (0.001, None), (1.0, None), (None, None)])
async def test_a_token_of_before_is_refused_and_one_of_later_is_not(issued: float | None, code: int | None) -> None:
    async with bench(Watch, nodes=2) as b:
        revoked_at = b.clock.time()
        await b.workspace().revoke("alice")
        await b.clock.advance(2)
        issued_at = None if issued is None else revoked_at + issued
        alice = await b.open("alice", node=1, principal=Principal("alice", issued_at=issued_at))
        if code is None:
            assert await alice.receive(Hello)
        else:
            assert [frame["data"]["code"] for frame in _errors(alice)] == ["UNAUTHORIZED"]
            assert (await alice.closed()).code == code


async def test_a_revocation_is_forgotten_with_the_longest_token() -> None:
    async with bench(Watch, settings=Settings(revoked_for=100.0)) as b:
        await b.workspace().revoke("alice")
        old = Principal("alice", issued_at=b.clock.time() - 1)
        await b.clock.advance(99)
        assert (await (await b.open("alice", principal=old)).closed()).code == 4503
        await b.clock.advance(2)
        await b.connect("alice", principal=old)


async def test_a_second_revocation_counts_from_then_on() -> None:
    async with bench(Watch) as b:
        await b.workspace().revoke("alice")
        await b.clock.advance(10)
        fresh = Principal("alice", issued_at=b.clock.time() - 5)
        client = await b.connect("alice", principal=fresh)
        assert await b.workspace().revoke("alice") == 1
        assert (await client.closed()).code == 4503
        assert (await (await b.open("alice", principal=fresh)).closed()).code == 4503


# --- what stands in the engine


async def test_no_incarnation_that_is_gone_may_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell that says so is kept, for a while, so that a node cannot bring it back."""
    monkeypatch.setattr("jackfield._lease.ENDED_FOR", 100.0)
    async with bench(Watch, nodes=2) as b:
        await b.connect("alice")
        gone = incarnation(b.nodes[0])
        await b.nodes[0].crash()
        await b.clock.advance(DEAD)
        cell = (await b.engine.read("w", (Key(WRITERS.name, gone),))).cells[Key(WRITERS.name, gone)]
        assert cell is not None
        await b.clock.advance(101)
        assert (await b.engine.read("w", tables=(WRITERS.name,))).tables[WRITERS.name] == {}


# --- places that nobody uses any more


async def writers(b: Bench, workspace: str = "w") -> dict[str, bytes]:
    return dict((await b.engine.read(workspace, tables=(WRITERS.name,))).tables[WRITERS.name])


async def places(b: Bench, node: int = 0) -> set[str]:
    table = PLACES.of(b.nodes[node].app.node.roster.lease.incarnation).name
    return set((await b.engine.read(SYSTEM, tables=(table,))).tables[table])


async def test_a_place_that_nobody_uses_is_given_back_and_the_workspace_with_it() -> None:
    async with bench(settings=PATIENT) as b:
        first, _ = await b.connect("alice"), await b.connect("alice", workspace="other")
        await b.clock.advance(100)
        assert await places(b) == {"w", "other"}
        first.close()
        await settle()
        await b.clock.advance(50)
        assert await places(b) == {"w", "other"}
        await b.clock.advance(25)
        assert await places(b) == {"other"}
        assert await writers(b) == {}
        assert len(await writers(b, "other")) == 1
        await b.clock.advance(130)
        assert b.engine._logs.keys() == {SYSTEM, "other"}  # type: ignore[attr-defined]
        node = b.app.node.roster.lease.incarnation
        await b.connect("alice")
        assert await there(b) == {node: (1, 0)}
        assert await places(b) == {"w", "other"}


async def test_a_place_that_is_used_again_stays() -> None:
    async with bench(settings=PATIENT) as b:
        for _ in range(5):
            client = await b.connect("alice")
            client.close()
            await settle()
            await b.clock.advance(50)
        assert await places(b) == {"w"}


@pytest.mark.parametrize("passed", range(3))
async def test_who_comes_while_a_place_is_given_back_is_let_in_under_the_same_name(passed: int) -> None:
    """Whichever of its commits have been made by then."""
    async with bench(settings=PATIENT) as b:
        client = await b.connect("alice")
        client.close()
        await settle()
        node = b.app.node.roster.lease.incarnation
        await b.clock.advance(59)
        gate = b.nodes[0].link.gate = Gate(kinds=["commit"])
        while not any(WRITERS.name in held.about for held in gate.held):
            while any(held.workspace == SYSTEM for held in gate.held):
                gate.step()
                await settle()
            if not gate.held:
                await b.clock.advance(1)
        for _ in range(passed):
            gate.step()
            await settle()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.connect, "alice")
            for _ in range(30):  # as far as it comes; it settles by itself
                await anyio.lowlevel.checkpoint()
            gate.open()
        assert await there(b) == {node: (1, 0)}
        assert b.app.node.roster.lease.incarnation == node
        assert await places(b) == {"w"}
        await b.clock.advance(200)
        assert await there(b) == {node: (1, 0)}


async def test_a_place_that_could_not_be_given_back_is_given_back_later() -> None:
    async with bench(settings=PATIENT) as b:
        client = await b.connect("alice")
        client.close()
        await settle()
        await b.clock.advance(50)
        b.nodes[0].partition()
        await b.clock.advance(30)
        b.nodes[0].heal()
        await b.clock.advance(30)
        assert await places(b) == set()
        assert await writers(b) == {}
