"""The proof that nothing is lost, and nothing told twice, between the initial state and the events behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from jackfield.testing._bench import bench
from jackfield.testing._interleave import Order, every_order
from jackfield.testing._link import CALLS

if TYPE_CHECKING:
    from jackfield import ServerEvent, Workspace

__all__ = ["check_initial_state"]


async def check_initial_state(
    *plugins: object,
    change: Callable[[Workspace], Awaitable[object]],
    apply: Callable[[dict[str, Any], ServerEvent], object],
    before: Callable[[Workspace], Awaitable[object]] | None = None,
    user_id: str = "alice",
    channels: Iterable[str] | None = None,
    at_most: int = 2_000,
) -> int:
    """Prove that stale state + events = fresh state, whatever comes between.

    A client connects to one node while `change` happens on another, in every order in which the two can ask the
    engine, and with every `moment()` of the plugins' own. `apply` does to `hello.data.state` what a client does at an
    event; in the end that must be the state which a client is given that connects then. `before` happens first, to
    everybody; `user_id` and `channels` are as `bench.connect` has them.

        async def test_no_vote_is_lost_or_counted_twice():
            await check_initial_state(
                Polls,
                change=lambda workspace: vote(workspace, "p1", "tea"),
                apply=lambda state, event: state["polls"].update({event.poll_id: event.tally}),
            )

    `plugins` are classes, or functions that make a plugin: each order has its own. Returns how many orders there were.
    Raises AssertionError with the first one in which it is not so, and RuntimeError where there are more than
    `at_most`.
    """
    seen = None if channels is None else [*channels]

    async def run(order: Order) -> None:
        async with bench(*plugins, nodes=2) as b:
            if before is not None:
                await before(b.workspace())
            async with order.race(b, kinds={0: (*CALLS, "feed"), 1: CALLS}) as race:
                client = await b.open(user_id, channels=seen)
                await race.start(change, b.workspace(node=1))
            _, *events = await client.pending()
            state = deepcopy(client.frames[0]["data"]["state"])
            for event in events:
                apply(state, event)
            fresh = (await b.connect(user_id, channels=seen)).frames[0]["data"]["state"]
            if state != fresh:
                raise AssertionError(
                    f"a client that connected meanwhile has {state}, one that connects afterwards {fresh}; "
                    f"the first was told {client.frames}"
                )

    return await every_order(run, at_most=at_most)
