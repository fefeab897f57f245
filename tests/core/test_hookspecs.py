"""The two marks that a method can bear, and what every fixed hook promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from jackfield import ClientEvent, ServerEvent, before, hookspecs, on
from jackfield.events import InChannel, MessageNew
from jackfield.hookspecs import MARK, Marker

# The table of API.md.
VERBS = {
    "register_events": "collect",
    "register_routes": "collect",
    "lifespan": "wrap",
    "authenticate": "first",
    "channels_of": "first",
    "audience_of": "first",
    "presence_of": "first",
    "session_opened": "notify",
    "initial_state": "collect",
    "session_closed": "notify",
}


async def hook(self: object) -> None: ...


@pytest.mark.parametrize("mark", [before, on])
def test_a_mark_says_which_hook_and_leaves_the_method_as_it_is(mark: Callable[..., Any]) -> None:
    side = mark.__name__

    async def one() -> None: ...
    async def two() -> None: ...
    async def three() -> None: ...

    for method, event, name in (
        (one, MessageNew, "message_new"),
        (two, ClientEvent, "client_event"),
        (three, ServerEvent, "server_event"),
    ):
        assert mark(event, optional=True)(method) is method
        [marker] = getattr(method, MARK)
        assert marker == Marker(side, event, True)  # type: ignore[arg-type]
        assert (marker.hook, marker.names_type) == (f"{side}_{name}", True)
    assert not Marker("on", InChannel, False).names_type


@pytest.mark.parametrize("mark", [before, on])
@pytest.mark.parametrize("event", [hook, "poll.vote", MessageNew("m", "c", "u", "", ""), int, None], ids=str)
def test_what_is_no_class_of_an_event_is_refused_where_it_is_written(mark: Callable[..., Any], event: object) -> None:
    """`@on` without its parentheses would be a method that nobody calls."""
    side = mark.__name__
    with pytest.raises(TypeError, match=rf"^@{side} takes the class of an event: @{side}\(MessageNew\)$"):
        mark(event)


@pytest.mark.parametrize("decorator", [staticmethod, classmethod])
def test_a_static_or_class_method_may_be_marked_above_or_below(decorator: Callable[..., Any]) -> None:
    async def above() -> None: ...
    async def below() -> None: ...

    on(MessageNew)(decorator(above))
    decorator(on(MessageNew)(below))
    assert getattr(above, MARK) == getattr(below, MARK) == (Marker("on", MessageNew, False),)


def test_every_fixed_hook_has_its_verb() -> None:
    assert VERBS.items() <= hookspecs.verbs.items()
    assert all(getattr(hookspecs, name).__name__ == name for name in hookspecs.verbs)


@pytest.mark.parametrize("name", sorted(hookspecs.verbs))
async def test_who_calls_a_hook_itself_asks_nobody_and_is_told(name: str) -> None:
    """They are asked through `app.ask`; and what is asked of a plugin at start-up is not awaited."""
    function = getattr(hookspecs, name)
    with pytest.raises(NotImplementedError):
        await function(*inspect.signature(function).parameters)
    starting = name in {"register_events", "register_routes", "lifespan", "held_for"}
    assert inspect.iscoroutinefunction(function) is not starting


@pytest.mark.parametrize("name", sorted(hookspecs.verbs))
def test_its_docstring_shows_an_example(name: str) -> None:
    assert "\n\nExample: `" in (inspect.getdoc(getattr(hookspecs, name)) or "")
