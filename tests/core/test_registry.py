"""Which events there are; wrong ones stop the start. Pure."""

from __future__ import annotations

import pytest

from jackfield import ClientEvent, ConfigurationError, ServerEvent
from jackfield._registry import CORE, Registry
from jackfield.events import (
    Ack,
    ChannelCreated,
    Error,
    Event,
    Hello,
    Id,
    InChannel,
    MessageNew,
    Ping,
    Pong,
    TypingIndicator,
    TypingStart,
)

SPECIFIED = [
    "message.new",
    "message.updated",
    "message.deleted",
    "reaction.added",
    "reaction.removed",
    "typing.start",
    "typing.stop",
    "presence.updated",
    "channel.created",
    "channel.updated",
    "channel.deleted",
    "member.joined",
    "member.left",
    "thread.updated",
]


class Vote(ClientEvent, type="poll.vote"):
    """A vote."""

    poll_id: Id


class VoteToo(ClientEvent, type="poll.vote"):
    """A vote, once more."""


class Ballot(ClientEvent, type="poll_vote"):
    """A vote whose hooks have the same name."""


class Tally(ServerEvent, type="poll.updated"):
    """The tally of a poll changed."""


class Family(InChannel):
    """What several events have in common."""

    poll_id: Id


class Ended(Family, type="poll.ended"):
    """A poll is over."""


class Reopened(Ended):
    """It forgot its type."""


def refusal(owner: str, *events: type[Event]) -> str:
    registry = Registry()
    *before, last = events
    for event in before:
        registry.add(owner, event)
    with pytest.raises(ConfigurationError) as caught:
        registry.add(owner, last)
    return str(caught.value)


def test_the_specifications_own_events_are_always_there() -> None:
    registry = Registry()
    assert list(registry) == ["ping", "hello", "pong", "ack", "error", *SPECIFIED]
    assert len(registry) == 19
    assert {registry.owner(type) for type in registry} == {CORE} == {"jackfield"}


def test_a_client_may_say_ping_and_what_plugins_bring() -> None:
    registry = Registry()
    assert registry.client() == {"ping": Ping}
    registry.add("typing", TypingIndicator)
    assert registry.client() == {"ping": Ping, "typing": TypingIndicator}
    assert registry.owner("typing") == "typing"
    assert "typing" not in registry.server()


def test_it_maps_a_type_to_its_class() -> None:
    registry = Registry()
    registry.add("polls", Tally)
    assert registry["poll.updated"] is Tally
    assert registry.get("poll.vote") is None
    with pytest.raises(KeyError):
        registry["poll.vote"]


def test_it_contains_types_and_classes() -> None:
    registry = Registry()
    registry.add("polls", Vote)
    assert "poll.vote" in registry
    assert Vote in registry
    assert VoteToo not in registry
    assert "poll_vote" not in registry
    assert 7 not in registry
    assert None not in registry


def test_the_same_class_by_the_same_plugin_is_one_event() -> None:
    registry = Registry()
    registry.add("polls", Vote)
    registry.add("polls", Vote)
    assert registry.client() == {"ping": Ping, "poll.vote": Vote}


def test_the_same_type_by_two_plugins_is_refused() -> None:
    registry = Registry()
    registry.add("polls", Vote)
    for event in (Vote, VoteToo):
        with pytest.raises(ConfigurationError) as caught:
            registry.add("ballots", event)
        assert str(caught.value) == (
            '"poll.vote" is registered twice: by polls and by ballots. Leave one out, or rename one type.'
        )


def test_two_classes_of_one_type_are_refused_of_one_plugin_too() -> None:
    assert refusal("polls", Vote, VoteToo).startswith('"poll.vote" is registered twice: by polls and by polls.')


def test_two_types_with_hooks_of_one_name_are_refused() -> None:
    registry = Registry()
    registry.add("polls", Vote)
    with pytest.raises(ConfigurationError) as caught:
        registry.add("ballots", Ballot)
    assert str(caught.value) == (
        '"poll.vote" (polls) and "poll_vote" (ballots) are both on_poll_vote. Rename one type.'
    )


def test_the_specifications_own_events_cannot_be_taken() -> None:
    class Mine(ServerEvent, type="message.new"):
        """Mine."""

    assert refusal("mine", Mine).startswith('"message.new" is registered twice: by jackfield and by mine.')
    assert "is registered twice" in refusal("mine", MessageNew)


@pytest.mark.parametrize("event", [Family, Reopened, ClientEvent, ServerEvent], ids=lambda event: event.__name__)
def test_a_class_that_names_no_type_is_refused(event: type[Event]) -> None:
    assert refusal("polls", event) == (
        f'plugin "polls": {event.__name__} names no type. Write class {event.__name__}(…, type="poll.vote").'
    )


def test_a_family_is_no_hindrance_for_its_members() -> None:
    registry = Registry()
    registry.add("polls", Ended)
    assert registry.server()["poll.ended"] is Ended


@pytest.mark.parametrize("type", ["client_event", "client.event", "server_event", "server.event"])
def test_the_names_of_the_hooks_for_all_events_are_taken(type: str) -> None:
    class Any(ClientEvent, type=type):
        """Its hooks would be those of every event."""

    assert refusal("polls", Any) == (
        f'plugin "polls": on_{Any.__event__.name} is the hook of every event, so "{type}" cannot be a type. Rename it.'
    )


@pytest.mark.parametrize(
    ("event", "publishable", "hookable"),
    [
        (MessageNew, True, True),
        (TypingStart, True, True),
        (ChannelCreated, True, True),
        (Tally, True, True),
        (Vote, False, True),
        (TypingIndicator, False, True),
        (Ping, False, False),
        (Pong, False, False),
        (Hello, False, False),
        (Ack, False, False),
        (Error, False, False),
        (Ended, False, False),
        (Family, False, False),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_a_host_may_publish_and_what_has_hooks(event: type[Event], publishable: bool, hookable: bool) -> None:
    registry = Registry()
    for each in (Vote, Tally, TypingIndicator):
        registry.add("polls", each)
    assert registry.publishable(event) is publishable
    assert (event in registry.hookable()) is hookable


@pytest.mark.parametrize(
    ("written", "meant"),
    [("message.nwe", "message.new"), ("typing_start", "typing.start"), ("zzz", None), ("", None)],
)
def test_it_knows_what_somebody_may_have_meant(written: str, meant: str | None) -> None:
    assert Registry().nearest(written) == meant


def test_two_registries_know_nothing_of_each_other() -> None:
    one, other = Registry(), Registry()
    one.add("polls", Vote)
    assert "poll.vote" not in other
