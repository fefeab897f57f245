"""Events as values: what a class statement makes of fields and keywords, and what it refuses. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar

import attrs
import pytest

from jackfield import Channel, ClientEvent, Everyone, ServerEvent, durable, ephemeral, events, latest
from jackfield.events import (
    Ack,
    ChannelCreated,
    Delivery,
    Error,
    Event,
    EventType,
    Hello,
    Id,
    InChannel,
    MemberLeft,
    MessageNew,
    MessageUpdated,
    Ping,
    Pong,
    PresenceUpdated,
    Shape,
    ThreadUpdated,
    Timestamp,
    TypingIndicator,
    TypingStart,
    TypingStop,
    timestamp,
)


class Vote(ClientEvent, type="poll.vote", cost=5, when_expired=True):
    """A member votes."""

    poll_id: Id
    choice: str
    remark: str | None = None


class Tally(ServerEvent, type="poll.updated", delivery=latest("poll_id")):
    """The tally changed."""

    poll_id: Id
    votes: Mapping[str, int]


class Family(InChannel):
    """What several have in common."""

    poll_id: Id


class Opened(Family, type="poll.opened", delivery=ephemeral):
    """A poll begins."""

    question: str


class Ended(Family, type="poll.ended", delivery=latest("channel_id", "poll_id", pair="poll")):
    """A poll is over."""


def make(*, base: type[Event] = ClientEvent, fields: Mapping[str, Any] | None = None, **keywords: Any) -> type[Event]:
    """A class statement, as a call."""
    import types

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__annotations__"] = dict(fields or {})
        namespace["__module__"] = __name__

    return types.new_class("Made", (base,), keywords, fill)


# --- what a class statement makes


def test_what_stands_beside_the_fields_is_kept_apart_from_them() -> None:
    assert Vote.__event__ == EventType("poll.vote", "poll_vote", durable, 5, True)
    assert Tally.__event__ == EventType("poll.updated", "poll_updated", latest("poll_id"), 1, False)
    assert [field.name for field in attrs.fields(Vote)] == ["poll_id", "choice", "remark"]


def test_an_event_is_made_by_place_or_by_name() -> None:
    assert Vote("p1", "tea") == Vote(choice="tea", poll_id="p1") == Vote("p1", "tea", None)
    assert Vote("p1", "tea", "!").remark == "!"


def test_events_are_values() -> None:
    assert Vote("p1", "tea") != Vote("p1", "mate")
    assert hash(Vote("p1", "tea")) == hash(Vote("p1", "tea"))
    assert repr(Vote("p1", "tea")) == "Vote(poll_id='p1', choice='tea', remark=None)"
    assert TypingStart("c1", "alice") != TypingStop("c1", "alice")
    assert attrs.evolve(Vote("p1", "tea"), choice="mate") == Vote("p1", "mate")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda event: setattr(event, "choice", "mate"), id="a field"),
        pytest.param(lambda event: delattr(event, "choice"), id="a field, away"),
        pytest.param(lambda event: setattr(event, "more", 1), id="something new"),
    ],
)
def test_an_event_does_not_change(change: Callable[[Vote], None]) -> None:
    event = Vote("p1", "tea")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        change(event)
    assert event == Vote("p1", "tea")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda: Vote("p1"), id="one too few"),  # type: ignore[call-arg]
        pytest.param(lambda: Vote("p1", "tea", None, 1), id="one too many"),  # type: ignore[call-arg]
        pytest.param(lambda: Vote("p1", "tea", more=1), id="one that there is not"),  # type: ignore[call-arg]
        pytest.param(lambda: Ping(1), id="one for an event without"),  # type: ignore[call-arg]
    ],
)
def test_fields_are_exactly_those_of_the_class(call: Callable[[], Event]) -> None:
    with pytest.raises(TypeError):
        call()


def test_attachments_stand_before_created_at_on_the_wire_and_are_given_by_name() -> None:
    message = MessageNew("m1", "c1", "alice", "hi", "2024-01-01T12:00:00.000Z", "m0")
    assert (message.created_at, message.parent_message_id) == ("2024-01-01T12:00:00.000Z", "m0")
    assert message.attachments == message.reactions == []
    assert [field.name for field in attrs.fields(MessageNew)] == [
        "id",
        "channel_id",
        "user_id",
        "content",
        "attachments",
        "reactions",
        "created_at",
        "parent_message_id",
    ]


def test_two_events_share_no_list() -> None:
    one, other = (MessageNew("m", "c", "u", "x", "2024-01-01T12:00:00Z") for _ in range(2))
    assert one.attachments is not other.attachments


def test_a_family_gives_its_fields_its_audience_and_no_type() -> None:
    assert not hasattr(Family, "__event__")
    assert Opened("c1", "p1", "tea or mate?").audience() == Channel("c1")
    assert [field.name for field in attrs.fields(Opened)] == ["channel_id", "poll_id", "question"]
    assert Opened.__event__.type == "poll.opened"
    assert Ended.__event__.type == "poll.ended"
    assert Ended("c1", "p1") != Opened("c1", "p1", "")


def test_a_field_may_be_called_type() -> None:
    channel = ChannelCreated("c1", "general", "public", "alice")
    assert (channel.type, type(channel).__event__.type) == ("public", "channel.created")
    assert ChannelCreated.__event__.name == "channel_created"


def test_a_class_variable_is_no_field() -> None:
    class Counted(ClientEvent, type="counted"):
        """Has one."""

        most: ClassVar[int] = 3
        n: int

    assert [field.name for field in attrs.fields(Counted)] == ["n"]
    assert Counted(1).most == 3


def test_a_field_may_have_all_that_attrs_offers() -> None:
    class Checked(ClientEvent, type="checked"):
        """Particular."""

        n: int = attrs.field(validator=attrs.validators.ge(0))
        tags: Sequence[str] = attrs.field(factory=list[str], kw_only=True)

    assert Checked(1, tags=["a"]) == Checked(n=1, tags=["a"])
    with pytest.raises(ValueError, match="must be >= 0"):
        Checked(-1)


# --- what it refuses


@pytest.mark.parametrize(
    "type",
    ["a", "ping", "message.new", "poll_vote", "a1", "a.1", "a.b.c_d", "t" * 64],
)
def test_a_type_is_lower_case_words_joined_by_dots(type: str) -> None:
    assert make(type=type).__event__.type == type
    assert make(type=type).__event__.name == type.replace(".", "_")


@pytest.mark.parametrize(
    "type",
    ["A", "Poll.vote", "1a", ".", "a.", ".a", "a..b", "a-b", "a b", "a\n", "_a", "__class__", "é", "t" * 65],
)
def test_anything_else_is_no_type(type: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{type!r} is no type of an event: lower case words joined by dots")):
        make(type=type)


@pytest.mark.parametrize("field", ["type", "data", "ref", "workspace_id", "timestamp", "audience"])
def test_a_clients_event_has_no_field_that_stands_in_the_envelope(field: str) -> None:
    with pytest.raises(TypeError, match=rf"^Made\.{field}: that word belongs to the envelope; rename the field$"):
        make(type="made", fields={field: str})


@pytest.mark.parametrize("base", [ClientEvent, ServerEvent])
@pytest.mark.parametrize("field", ["audience", "__event__"])
def test_no_event_has_a_field_by_the_name_of_what_it_is(base: type[Event], field: str) -> None:
    with pytest.raises(TypeError, match=rf"^Made\.{field}: that word belongs to the envelope; rename the field$"):
        make(base=base, type="made", fields={field: str})


@pytest.mark.parametrize("field", ["type", "data", "ref", "workspace_id", "timestamp"])
def test_a_servers_event_may_since_its_fields_stand_in_data(field: str) -> None:
    made = make(base=ServerEvent, type="made", fields={field: str})
    assert getattr(made("x"), field) == "x"


def test_a_field_that_a_family_brought_is_refused_where_it_matters() -> None:
    class Typed(ClientEvent):
        """A family with a word of the envelope."""

        type: str

    with pytest.raises(TypeError, match=r"^Made\.type: that word belongs to the envelope"):
        make(base=Typed, type="made")


@pytest.mark.parametrize("key", [("poll",), ("poll_id", "poll")])
def test_latest_of_a_field_that_there_is_not_is_refused(key: tuple[str, ...]) -> None:
    with pytest.raises(TypeError, match=r"^Made: latest\('poll'\) names no field$"):
        make(base=ServerEvent, type="made", fields={"poll_id": str}, delivery=latest(*key))


def test_a_required_field_behind_an_optional_one_is_refused() -> None:
    class Optional(ClientEvent):
        """A family."""

        a: int = 0

    with pytest.raises(ValueError, match="No mandatory attributes allowed after"):
        make(base=Optional, type="made", fields={"b": int})


# --- delivery


def test_durable_is_the_default_since_forgetting_must_be_safe() -> None:
    assert make(type="made").__event__.delivery is durable
    assert durable == Delivery("durable")
    assert ephemeral == Delivery("ephemeral")
    assert latest("a", "b", pair="p") == Delivery("latest", ("a", "b"), "p")


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (Tally("p1", {}), ("poll.updated", "p1")),
        (PresenceUpdated("alice", "away"), ("presence.updated", "alice")),
        (TypingStart("c1", "alice"), ("typing", "c1", "alice")),
        (TypingStop("c1", "alice"), ("typing", "c1", "alice")),
        (Ended("c1", "p1"), ("poll", "c1", "p1")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_key_says_what_two_events_are_the_newest_of(event: Event, key: tuple[object, ...]) -> None:
    assert type(event).__event__.delivery.key_of(event) == key


@pytest.mark.parametrize(
    ("kind", "types"),
    [
        ("latest", {"typing.start", "typing.stop", "presence.updated"}),
        ("ephemeral", {"hello", "pong", "ack", "error"}),
    ],
)
def test_of_the_specification_these_are_not_durable(kind: str, types: set[str]) -> None:
    classes = [getattr(events, name) for name in events.__all__]
    of_kind = {
        cls.__event__.type
        for cls in classes
        if isinstance(cls, type) and "__event__" in vars(cls) and cls.__event__.delivery.kind == kind
    }
    assert of_kind == types


def test_no_event_gives_tokens_back() -> None:
    with pytest.raises(TypeError, match=r"^Gift: cost must be 0 or more"):

        class Gift(ClientEvent, type="gift", cost=-1):
            """A present."""


def test_a_ping_is_free_and_everything_else_costs_one() -> None:
    assert Ping.__event__.cost == 0
    assert TypingIndicator.__event__.cost == 1
    assert not Ping.__event__.when_expired


# --- audiences


@pytest.mark.parametrize(
    ("event", "audience"),
    [
        (MessageNew("m", "c1", "u", "x", "2024-01-01T12:00:00Z"), Channel("c1")),
        (TypingStart("c1", "alice"), Channel("c1")),
        (TypingStop("c1", "alice"), Channel("c1")),
        (MemberLeft("c1", "alice"), Channel("c1")),
        (PresenceUpdated("alice", "online"), Everyone()),
        (MessageUpdated("m", "x", "2024-01-01T12:00:00Z"), None),
        (ThreadUpdated("m", 1), None),
        (ChannelCreated("c1", "", "private", "alice"), None),
        (Hello("1", "alice", 1, {}, {}), None),
        (Pong(), None),
        (Ack(1), None),
        (Error("", ""), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_some_events_say_themselves_who_gets_them(event: ServerEvent, audience: object) -> None:
    assert event.audience() == audience


# --- shapes and stamps


def test_a_shape_is_a_value_and_fits_the_whole_text() -> None:
    assert Shape("[a-z]+", "expected letters") == Shape("[a-z]+", "expected letters")
    assert repr(Shape("a", "expected a")) == "Shape(pattern='a', expected='expected a')"
    assert Shape("[a-z]", "").matches("a")
    assert not Shape("[a-z]", "").matches("ab")
    assert not Shape(r"\d", "").matches("\u0661")


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("2024-01-01T12:00:00.000Z", True),
        ("2024-01-01T12:00:00Z", True),
        ("2024-01-01T12:00:00.123456789Z", True),
        ("2024-01-01T12:00:00.5+02:00", True),
        ("2024-01-01T12:00:00-11:30", True),
        ("2016-12-31T23:59:60Z", True),
        ("2024-13-01T12:00:00Z", False),
        ("2024-01-32T12:00:00Z", False),
        ("2024-01-01T24:00:00Z", False),
        ("2024-01-01T12:60:00Z", False),
        ("2024-01-01T12:00:00+24:00", False),
        ("2024-01-01T12:00:00", False),
        ("2024-01-01 12:00:00Z", False),
        ("2024-01-01T12:00:00z", False),
        ("2024-01-01", False),
        ("2024-01-01T12:00:00.Z", False),
        ("2024-01-01T12:00:00.000Z\n", False),
        ("\u0662024-01-01T12:00:00Z", False),
        ("", False),
    ],
)
def test_a_timestamp_looks_like_this(text: str, fits: bool) -> None:
    (shape,) = Timestamp.__metadata__  # type: ignore[attr-defined]
    assert bool(shape.matches(text)) is fits


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_704_110_400.25, "2024-01-01T12:00:00.250Z"),
        (1_704_110_399.9999, "2024-01-01T11:59:59.999Z"),
        (datetime(2024, 1, 1, 12, tzinfo=UTC), "2024-01-01T12:00:00.000Z"),
        (datetime(2024, 1, 1, 12, 0, 0, 999_999, UTC), "2024-01-01T12:00:00.999Z"),
        (datetime(2024, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2023-12-31T23:00:00.000Z"),
    ],
)
def test_a_moment_is_written_in_utc_with_milliseconds_and_never_ahead(moment: datetime | float, text: str) -> None:
    assert timestamp(moment) == text


@pytest.mark.parametrize("millisecond", range(0, 1000, 7))
def test_a_moment_in_whole_milliseconds_is_written_as_it_is(millisecond: int) -> None:
    assert timestamp(1_704_110_400 + millisecond / 1000) == f"2024-01-01T12:00:00.{millisecond:03}Z"


def test_a_naive_datetime_names_no_moment() -> None:
    with pytest.raises(ValueError, match="a naive datetime names no moment; give it a tzinfo"):
        timestamp(datetime(2024, 1, 1, 12))
