"""The bench itself: what it makes of plugins, and what becomes of what they raise."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest

from jackfield import Everyone, Jackfield, ServerEvent, hookimpl, testing
from jackfield.events import TypingStart
from jackfield.testing import Closed
from jackfield_members import Members
from jackfield_presence import Presence
from tests.plugins.chat import heard, message, public


@attrs.define(eq=False)
class Shop:
    """Opens and shuts, or fails to."""

    opens: Exception | None = None
    shuts: Exception | None = None
    log: list[str] = attrs.field(factory=list[str])
    name: str = "shop"

    @hookimpl
    @asynccontextmanager
    async def lifespan(self, app: Jackfield) -> AsyncGenerator[None, None]:
        self.log.append("open")
        if self.opens is not None:
            raise self.opens
        try:
            yield
        finally:
            self.log.append("shut")
            if self.shuts is not None:
                raise self.shuts


# --- Plugins


async def test_an_object_serves_one_application_and_is_refused_for_several() -> None:
    async with testing.bench(Members(), nodes=1) as b:
        await b.connect("alice")
    with pytest.raises(TypeError, match=r"serves one application; give its class, or a function .* for 2 nodes"):
        async with testing.bench(Members(), nodes=2):
            raise AssertionError("it never begins")


async def test_classes_and_functions_make_one_for_each_node() -> None:
    made: list[Shop] = []

    def shop() -> Shop:
        made.append(Shop())
        return made[-1]

    async with testing.bench(shop, partial(Presence, grace=1), Members, nodes=3) as b:
        assert [plugin.log for plugin in made] == [["open"]] * 3
        assert len({id(node.app.plugins.objects["presence"]) for node in b.nodes}) == 3
    assert [plugin.log for plugin in made] == [["open", "shut"]] * 3


async def test_without_a_plugin_that_knows_the_test_says_who_sees_what() -> None:
    async with testing.bench() as b:
        alice, bob = await b.connect("alice", channels=["c1"]), await b.connect("bob")
        await b.workspace().publish(message())
        assert await heard(alice, bob) == [[message()], []]
        with pytest.raises(Closed, match="4501"):
            await b.connect()


# --- What is raised


async def test_a_node_that_does_not_start_raises_what_it_raised() -> None:
    shop = Shop(opens=OSError("no electricity"))
    with pytest.raises(OSError, match="no electricity"):
        async with testing.bench(shop):
            raise AssertionError("it never begins")
    assert shop.log == ["open"]


async def test_what_a_test_raises_is_raised_and_the_nodes_end_in_order() -> None:
    shop = Shop()
    with pytest.raises(ZeroDivisionError):
        async with testing.bench(shop):
            raise ZeroDivisionError
    assert shop.log == ["open", "shut"]


async def test_what_a_plugin_raises_as_it_ends_is_raised() -> None:
    shop = Shop(shuts=OSError("the door is stuck"))
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="the door is stuck"), flatten_subgroups=True):
        async with testing.bench(shop):
            pass
    assert shop.log == ["open", "shut"]


# --- Nodes


async def test_nodes_have_one_engine_and_lives_of_their_own() -> None:
    async with testing.bench(Members, nodes=3) as b:
        clients = [await b.connect(f"user{n}", node=n) for n in range(3)]
        await b.workspace(node=1).publish(public())
        assert await heard(*clients) == [[public()]] * 3
        await b.nodes[1].crash()
        await b.nodes[2].stop()
        assert (await clients[1].closed()).code == 1006
        assert (await clients[2].closed()).code == 4001
        await b.workspace().publish(message())
        assert await heard(clients[0]) == [[message()]]


async def test_a_node_that_is_cut_off_hears_nothing_until_it_is_whole() -> None:
    async with testing.bench(Members, nodes=2) as b:
        alice, bob = await b.connect("alice"), await b.connect("bob", node=1)
        b.nodes[1].partition()
        said: list[ServerEvent] = [public(), message(), TypingStart("c1", "eve")]
        for event in said:
            await b.workspace().publish(event, to=Everyone())
        assert await heard(alice, bob) == [said, []]
        b.nodes[1].heal()
        assert await heard(alice, bob) == [[], said]
