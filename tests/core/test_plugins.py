"""What is said of plugins that are wired wrongly, word by word; who is called, in which order, and with what."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import attrs
import pytest

import jackfield_presence
from jackfield import (
    ClientEvent,
    ConfigurationError,
    Jackfield,
    ServerEvent,
    Session,
    Transaction,
    Workspace,
    before,
    hookimpl,
    on,
)
from jackfield._plugins import Plugins, _serving
from jackfield.events import Ack, Event, InChannel, MessageNew, Ping, TypingIndicator
from jackfield_presence import Presence
from jackfield_typing import Typing


class PollVote(ClientEvent, type="poll.vote"):
    """A member votes in an open poll."""

    choice: str = ""


class PollUpdated(ServerEvent, type="poll.updated"):
    """The tally of a poll changed."""


class Ballot(ClientEvent, type="poll_vote"):
    """A vote whose hooks have the same name."""


@attrs.define(eq=False)
class Door:
    """What every application must have."""

    name: str = "door"

    @hookimpl
    async def authenticate(self) -> None: ...
    @hookimpl
    async def channels_of(self) -> None: ...


class Bare:
    """What the plugins below have in common; each has what its test is about."""

    name = "polls"


class Registering(Bare):
    @hookimpl
    def register_events(self) -> Iterable[type[Event]]:
        return PollVote, PollUpdated


def refused(*plugins: object) -> str:
    """What is said of them. One line, and nobody is seated by it."""
    for _ in range(2):
        with pytest.raises(ConfigurationError) as caught:
            Jackfield(*plugins)
    said = str(caught.value)
    assert "\n" not in said
    return said


# --- The errors of the specification; those of the environment are in test_environ.py


def test_two_in_one_chair() -> None:
    @attrs.define(eq=False)
    class CalendarPresence:
        name: str = "presence"

    CalendarPresence.__module__, CalendarPresence.__qualname__ = "calendars", "CalendarPresence"
    assert refused(Door(), Presence(), CalendarPresence()) == (
        'two plugins are called "presence": jackfield_presence.Presence and calendars.CalendarPresence. '
        "Leave one out, or give one another name=."
    )
    Jackfield(Door(), Presence(), CalendarPresence("calendar"))


def test_nobody_answers_authenticate() -> None:
    said = (
        "nobody answers authenticate. Add TokenAuth(verify=…) or JWTAuth(…), "
        "or implement authenticate in a plugin of yours."
    )
    assert refused() == said

    class Members(Bare):
        @hookimpl
        async def channels_of(self) -> None: ...

    assert refused(Members()) == said


def test_nobody_answers_channels_of() -> None:
    class Auth(Bare):
        @hookimpl
        async def authenticate(self) -> None: ...

    assert refused(Auth()) == (
        "nobody answers channels_of. Add Members(), or OpenWorkspace() where everyone sees everything, "
        "or implement channels_of from your database."
    )


class Mistyped(Registering):
    async def on_poll_vot(self, session: Session, event: PollVote) -> None: ...


class Marked(Registering):
    @hookimpl
    async def on_poll_vot(self, session: Session, event: PollVote) -> None: ...


class Unmarked(Registering):
    async def on_poll_vote(self, session: Session, event: PollVote) -> None: ...


class WrongArgument(Registering):
    @on(PollVote)
    async def count(self, sesion: Session, event: PollVote) -> None: ...


class Plain(Registering):
    @on(PollVote)
    def count(self, session: Session, event: PollVote) -> None: ...


class Stacked(Registering):
    @on(PollVote)
    @on(PollUpdated)
    async def count(self, event: Event) -> None: ...


class StackedWithHookimpl(Registering):
    @hookimpl
    @on(PollVote)
    async def count(self, event: Event) -> None: ...


class DecidesAndActs(Registering):
    @before(PollVote)
    @on(PollVote)
    async def count(self, event: Event) -> None: ...


class Audit:
    name = "audit"

    @on(PollVote)
    async def count(self, event: PollVote) -> None: ...


class AuditBefore:
    name = "audit"

    @before(PollVote)
    async def count(self, event: PollVote) -> None: ...


class Ballots:
    name = "ballots"

    @hookimpl
    def register_events(self) -> Iterable[type[Event]]:
        return (Ballot,)


TWICE = 'plugin "polls": count is marked twice. One method hears one event; write a second method.'
NO_HOOK = 'plugin "polls": on_poll_vot is no hook. Did you mean on_poll_vote? (jackfield hooks lists all)'


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([Mistyped], NO_HOOK),
        ([Marked], NO_HOOK),
        (
            [Unmarked],
            'plugin "polls": on_poll_vote looks like a hook and is not marked. '
            "Write @on(PollVote) above it, or rename it.",
        ),
        (
            [WrongArgument],
            'plugin "polls": count(sesion, event): on_poll_vote has no argument "sesion"; it gives session, event.',
        ),
        ([Plain], 'plugin "polls": count must be "async def"; on_poll_vote is asynchronous.'),
        ([Stacked], TWICE),
        ([StackedWithHookimpl], TWICE),
        ([DecidesAndActs], TWICE),
        (
            [Audit],
            'plugin "audit": nobody registers poll.vote. Add its plugin, or write @on(PollVote, optional=True).',
        ),
        (
            [AuditBefore],
            'plugin "audit": nobody registers poll.vote. Add its plugin, or write @before(PollVote, optional=True).',
        ),
        (
            [Registering, Ballots],
            '"poll.vote" (polls) and "poll_vote" (ballots) are both on_poll_vote. Rename one type.',
        ),
    ],
    ids=lambda value: value[0].__name__ if isinstance(value, list) else "",
)
def test_the_words(classes: Sequence[Callable[[], object]], said: str) -> None:
    assert refused(Door(), *(cls() for cls in classes)) == said


def test_an_object_serves_one_application() -> None:
    door, polls = Door(), Registering()
    first = Jackfield(door, polls)
    assert refused(Door(), polls) == 'plugin "polls" already serves another application. Make a second object.'
    assert refused(door) == 'plugin "door" already serves another application. Make a second object.'
    del first
    Jackfield(Door(), Registering())


def test_an_object_that_was_refused_serves_nobody() -> None:
    polls = Registering()
    with pytest.raises(ConfigurationError, match="nobody answers"):
        Jackfield(polls)
    Jackfield(Door(), polls)


def test_an_object_that_is_gone_is_forgotten() -> None:
    """A new one may stand where it stood in memory."""
    gc.collect()
    before = len(_serving)
    app = Jackfield(Door(), Registering())
    assert len(_serving) == before + 2
    del app
    gc.collect()
    assert len(_serving) == before


# --- The others


class Slotted:
    __slots__ = ()
    name = "polls"


class Nameless:
    pass


class Numbered:
    name = 7


class Spaced:
    name = "my polls"


def answers(answer: object) -> Callable[[], object]:
    """A plugin that registers this."""

    class Registers(Bare):
        @hookimpl
        def register_events(self) -> Any:
            return answer

    return Registers


class AsyncRegister(Bare):
    @hookimpl
    async def register_events(self) -> Any: ...


class RegisterWants(Bare):
    @hookimpl
    def register_events(self, app: Jackfield) -> Any: ...


class RegisterUnmarked(Bare):
    """Whatever else there is: this is the cause."""

    @on(PollVote)
    async def count(self, event: PollVote) -> None: ...

    def register_events(self) -> Iterable[type[Event]]:
        return (PollVote,)


class Far(Bare):
    async def on_xyzzy_plugh_frotz(self) -> None: ...


class UnmarkedBefore(Registering):
    async def before_poll_updated(self) -> None: ...


class UnmarkedOfAll(Bare):
    async def on_server_event(self) -> None: ...


class UnmarkedClient(Bare):
    async def before_client_event(self) -> None: ...


class UnmarkedFixed(Bare):
    async def session_opened(self) -> None: ...


class UnmarkedStatic(Bare):
    @staticmethod
    async def session_opened() -> None: ...


class ColouredLifespan(Bare):
    @hookimpl
    async def lifespan(self, app: Jackfield) -> None: ...


class PlainQuestion(Bare):
    @hookimpl
    def presence_of(self) -> None: ...


class ArgumentOfNone(Bare):
    @hookimpl
    async def session_closed(self, session: Session, reason: str) -> None: ...


class ArgumentsOfAClassMethod(Bare):
    @classmethod
    @on(MessageNew)
    async def count(cls, session: Session) -> None: ...


class ByName(Bare):
    @on(MessageNew)
    async def count(self, *, event: MessageNew) -> None: ...


class Defaulted(Bare):
    @on(MessageNew)
    async def count(self, event: MessageNew | None = None) -> None: ...


class Many(Bare):
    @on(MessageNew)
    async def count(self, *args: object) -> None: ...


class First(Bare):
    @hookimpl(tryfirst=True)
    async def presence_of(self) -> None: ...


class Wrapper(Bare):
    @hookimpl(wrapper=True)
    async def session_opened(self) -> None: ...


class NamedElsewhere(Bare):
    @hookimpl(specname="presence_of")
    async def here(self) -> None: ...


class OfAFamily(Bare):
    @on(InChannel, optional=True)
    async def count(self, event: InChannel) -> None: ...


class Untyped(MessageNew):
    """Has the type of its base, and is another class."""


class OfAnUntyped(Bare):
    @on(Untyped)
    async def count(self, event: Untyped) -> None: ...


class OfPing(Bare):
    @on(Ping)
    async def count(self) -> None: ...


class OfAck(Bare):
    @before(Ack, optional=True)
    async def count(self) -> None: ...


class Overridden(Registering):
    @on(PollVote)
    async def count(self, event: PollVote) -> None: ...


class Overriding(Overridden):
    async def count(self, event: PollVote) -> None: ...


class OverridingStatic(Overridden):
    @staticmethod
    async def count(event: PollVote) -> None: ...


class OverriddenStatic(Registering):
    @staticmethod
    @on(PollVote)
    async def count(event: PollVote) -> None: ...


class OverridingIt(OverriddenStatic):
    async def count(self, event: PollVote) -> None: ...  # type: ignore[override]


class OverriddenFixed(Bare):
    @hookimpl
    async def session_opened(self) -> None: ...


class OverridingFixed(OverriddenFixed):
    async def session_opened(self) -> None: ...


EVENTS = 'plugin "polls": register_events must return event classes, as in "return PollVote, PollUpdated".'
OVERRIDES = 'plugin "polls": count is a hook in {} and not marked in {}. Write @on(PollVote) above it, or rename it.'
HOOKIMPL = 'plugin "polls": session_opened looks like a hook and is not marked. Write @hookimpl above it, or rename it.'


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Presence, "Presence is a class. Pass an object: Presence(…)."),
        (lambda: jackfield_presence, "jackfield_presence is a module. Pass an object of a class that has the hooks."),
        (
            Nameless,
            f'{__name__}.Nameless has no name. Give it one: name: str = "polls" (a-z, 0-9, _).',
        ),
        (
            Numbered,
            f'{__name__}.Numbered has no name. Give it one: name: str = "polls" (a-z, 0-9, _).',
        ),
        (
            Spaced,
            f'{__name__}.Spaced has no name. Give it one: name: str = "polls" (a-z, 0-9, _).',
        ),
        (Slotted, 'plugin "polls": Slotted has slots without "__weakref__". Add it to them.'),
        (
            AsyncRegister,
            'plugin "polls": register_events must be "def"; register_events is synchronous.',
        ),
        (
            RegisterWants,
            'plugin "polls": register_events(app): register_events has no argument "app"; it gives none.',
        ),
        (
            RegisterUnmarked,
            'plugin "polls": register_events looks like a hook and is not marked. '
            "Write @hookimpl above it, or rename it.",
        ),
        (answers(PollVote), EVENTS),
        (answers(None), EVENTS),
        (answers(["poll.vote"]), EVENTS),
        (answers([PollVote()]), EVENTS),
        (answers([int]), EVENTS),
        (
            answers([InChannel]),
            'plugin "polls": InChannel names no type. Write class InChannel(…, type="poll.vote").',
        ),
        (
            answers([MessageNew]),
            '"message.new" is registered twice: by jackfield and by polls. Leave one out, or rename one type.',
        ),
        (Far, 'plugin "polls": on_xyzzy_plugh_frotz is no hook. (jackfield hooks lists all)'),
        (
            UnmarkedBefore,
            'plugin "polls": before_poll_updated looks like a hook and is not marked. '
            "Write @before(PollUpdated) above it, or rename it.",
        ),
        (
            UnmarkedOfAll,
            'plugin "polls": on_server_event looks like a hook and is not marked. '
            "Write @on(ServerEvent) above it, or rename it.",
        ),
        (
            UnmarkedClient,
            'plugin "polls": before_client_event looks like a hook and is not marked. '
            "Write @before(ClientEvent) above it, or rename it.",
        ),
        (UnmarkedFixed, HOOKIMPL),
        (UnmarkedStatic, HOOKIMPL),
        (OverridingFixed, HOOKIMPL),
        (ColouredLifespan, 'plugin "polls": lifespan must be "def"; lifespan is synchronous.'),
        (PlainQuestion, 'plugin "polls": presence_of must be "async def"; presence_of is asynchronous.'),
        (
            ArgumentOfNone,
            'plugin "polls": session_closed(session, reason): session_closed has no argument "reason"; '
            "it gives session, code.",
        ),
        (
            ArgumentsOfAClassMethod,
            'plugin "polls": count(session): on_message_new has no argument "session"; it gives workspace, event.',
        ),
        (Many, 'plugin "polls": count(args): on_message_new has no argument "args"; it gives workspace, event.'),
        (
            ByName,
            'plugin "polls": count must take "event" by position and without a default; on_message_new gives it.',
        ),
        (
            Defaulted,
            'plugin "polls": count must take "event" by position and without a default; on_message_new gives it.',
        ),
        (First, 'plugin "polls": presence_of: @hookimpl takes no options here. The order is the list.'),
        (Wrapper, 'plugin "polls": session_opened: @hookimpl takes no options here. The order is the list.'),
        (NamedElsewhere, 'plugin "polls": here is no hook. (jackfield hooks lists all)'),
        (OfAFamily, 'plugin "polls": InChannel names no type. Write class InChannel(…, type="poll.vote").'),
        (OfAnUntyped, 'plugin "polls": Untyped names no type. Write class Untyped(…, type="poll.vote").'),
        (OfPing, 'plugin "polls": ping is jackfield\'s own and has no hooks.'),
        (OfAck, 'plugin "polls": ack is jackfield\'s own and has no hooks.'),
        (Overriding, OVERRIDES.format("Overridden", "Overriding")),
        (OverridingStatic, OVERRIDES.format("Overridden", "OverridingStatic")),
        (OverridingIt, OVERRIDES.format("OverriddenStatic", "OverridingIt")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_words_of_the_others(make: Callable[[], object], said: str) -> None:
    assert refused(Door(), make()) == said


def test_the_class_that_an_unmarked_hook_is_about_is_called_by_its_name() -> None:
    """Not by what its type would make of it."""

    class Hears(Bare):
        async def on_typing(self) -> None: ...

    assert refused(Door(), Typing(), Hears()) == (
        'plugin "polls": on_typing looks like a hook and is not marked. '
        f"Write @on({TypingIndicator.__name__}) above it, or rename it."
    )


def test_a_dataclass_with_slots_is_told_what_it_lacks() -> None:
    @dataclass(slots=True)
    class Polls:
        name: str = "polls"

    assert "__weakref__" in refused(Door(), Polls())

    @dataclass(slots=True, weakref_slot=True, eq=False)
    class Better:
        name: str = "polls"

    Jackfield(Door(), Better())


# --- What is a hook, and what is none


def names(app: Jackfield, event: type[Event]) -> tuple[list[str], list[str]]:
    """Who decides about an event, and who acts on it, in the order of being called."""
    return [call.plugin for call in app.plugins.before(event)], [call.plugin for call in app.plugins.on(event)]


def test_what_looks_like_no_hook_is_left_alone() -> None:
    class Quiet(Bare):
        on_reload: ClassVar[Callable[[], None] | None] = None

        async def _on_poll_vot(self) -> None: ...
        async def once(self) -> None: ...

        @property
        def on_fire(self) -> bool:
            raise RuntimeError("nobody may look")

    Jackfield(Door(), Quiet())


def test_nobody_hears_of_what_has_no_owner_and_that_is_allowed() -> None:
    class Hears(Bare):
        @on(PollVote, optional=True)
        async def count(self, event: PollVote) -> None: ...

        @before(PollVote, optional=True)
        async def decide(self, event: PollVote) -> None: ...

    app = Jackfield(Door(), Hears())
    assert names(app, PollVote) == ([], [])
    assert app.plugins.calls("on_poll_vote") == ()
    assert not {"on_poll_vote", "before_poll_vote"} & set(app.plugins.hooks())

    class Polls(Registering):
        name = "owner"

    assert names(Jackfield(Door(), Hears(), Polls()), PollVote) == (["polls"], ["polls"])


def test_its_arguments_are_checked_where_it_has_an_owner() -> None:
    class Hears(Bare):
        @on(PollVote, optional=True)
        async def count(self, vote: PollVote) -> None: ...

    class Polls(Registering):
        name = "owner"

    Jackfield(Door(), Hears())
    assert refused(Door(), Hears(), Polls()) == (
        'plugin "polls": count(vote): on_poll_vote has no argument "vote"; it gives session, event.'
    )


def test_a_subclass_may_hear_in_its_own_way_where_it_says_so() -> None:
    class Again(Overridden):
        @on(PollUpdated)
        async def count(self, event: PollUpdated) -> None: ...

    class Inherits(Overridden):
        pass

    class Deaf(Overridden):
        count = None  # type: ignore[assignment]

    assert [names(Jackfield(Door(), cls()), PollVote)[1] for cls in (Again, Inherits, Deaf)] == [[], ["polls"], []]
    assert names(Jackfield(Door(), Again()), PollUpdated)[1] == ["polls"]


def test_every_event_has_two_hooks_but_for_those_of_the_connection() -> None:
    hooks = Jackfield(Door(), Registering()).plugins.hooks()
    assert {"on_poll_vote", "before_poll_updated", "on_message_new", "on_client_event", "before_server_event"} <= set(
        hooks
    )
    assert {"authenticate", "cell_due", "lifespan"} <= set(hooks)
    assert not [hook for hook in hooks if hook.endswith(("_ping", "_pong", "_ack", "_error", "_hello"))]
    assert hooks == sorted(hooks)


# --- Order, and who gets what


def listener(name_: str, *events: type[Event]) -> object:
    """A plugin that decides and acts about these; the general ones stand among them."""
    namespace: dict[str, object] = {"name": name_}
    for event in events:
        for mark in (before, on):

            async def hook(self: object, event: Event) -> None: ...

            namespace[f"hook{len(namespace)}"] = mark(event)(hook)
    return type(name_.capitalize(), (), namespace)()


@pytest.mark.parametrize(
    ("event", "general", "other"), [(PollVote, ClientEvent, ServerEvent), (PollUpdated, ServerEvent, ClientEvent)]
)
def test_the_order_is_the_list_whoever_hears_of_one_or_of_all(
    event: type[Event], general: type[Event], other: type[Event]
) -> None:
    hearers = [
        listener("c", general),
        listener("a", event),
        listener("deaf", other, MessageNew if general is ClientEvent else PollVote),
        listener("d", general),
        listener("b", event),
    ]
    polls = Registering()
    assert names(Jackfield(Door(), *hearers, polls), event) == (["c", "a", "d", "b"], ["c", "a", "d", "b"])


def test_methods_of_one_plugin_run_in_the_order_in_which_they_are_written() -> None:
    class Base:
        @on(MessageNew)
        async def zeroth(self, workspace: object, event: object) -> None: ...

    class Derived(Base):
        name = "derived"

        @on(MessageNew)
        async def second(self, workspace: object, event: object) -> None: ...

        @on(ServerEvent)
        async def first(self, workspace: object, event: object) -> None: ...

        @on(MessageNew)
        async def third(self, workspace: object, event: object) -> None: ...

        @on(MessageNew)
        async def zeroth(self, workspace: object, event: object) -> None: ...

    calls = Jackfield(Derived(), Door()).plugins.on(MessageNew)
    assert [call.function.__name__ for call in calls] == ["zeroth", "second", "first", "third"]


def test_the_order_of_the_fixed_hooks_is_the_list_too() -> None:
    def opens(name_: str) -> object:
        class Opens:
            name = name_

            @hookimpl
            async def session_opened(self) -> None: ...

        return Opens()

    order = ["b", "c", "a"]
    app = Jackfield(*map(opens, order), Door())
    assert [call.plugin for call in app.plugins.calls("session_opened")] == order
    assert app.plugins.names == [*order, "door"]


async def test_a_hook_gets_the_arguments_that_it_wants_by_their_names() -> None:
    got: list[object] = []

    class Hears(Registering):
        @before(MessageNew)
        async def none(self) -> None:
            got.append(())

        @on(PollVote)
        async def one(self, event: PollVote) -> None:
            got.append(event)

        @before(PollUpdated)
        async def turned(self, event: PollUpdated, transaction: Transaction) -> None:
            got.append((event, transaction))

        @on(PollUpdated)
        async def both(self, workspace: Workspace, event: PollUpdated, extra: int = 5) -> None:
            got.append((workspace, event, extra))

        @staticmethod
        @on(MessageNew)
        async def static(event: MessageNew) -> None:
            got.append(("static", event))

        @before(PollVote)
        @classmethod
        async def class_method(cls, event: PollVote) -> None:
            got.append((cls.__name__, event))

        @on(ServerEvent)
        @staticmethod
        async def below(event: ServerEvent) -> None:
            got.append(("below", event))

    plugins = Plugins([Door(), Hears()])
    for calls in (
        plugins.before(MessageNew),
        plugins.on(PollVote),
        plugins.before(PollUpdated),
        plugins.on(PollUpdated),
        plugins.on(MessageNew),
        plugins.before(PollVote),
    ):
        for call in calls:
            await call.function("first", "second")
    assert got == [
        (),
        "second",
        ("second", "first"),
        ("first", "second", 5),
        ("below", "second"),
        ("static", "second"),
        ("below", "second"),
        ("Hears", "second"),
    ]


def test_a_call_knows_whose_it_is_and_what_for() -> None:
    call, general = Jackfield(Door(), Registering(), listener("a", PollVote, ClientEvent)).plugins.on(PollVote)
    assert {(call.plugin, call.hook), (general.plugin, general.hook)} == {
        ("a", "on_poll_vote"),
        ("a", "on_client_event"),
    }


# --- Two applications in one process


def test_two_applications_know_nothing_of_each_other() -> None:
    one = Jackfield(Door(), Overridden())
    two = Jackfield(Door(), Ballots(), listener("hears", Ballot))
    assert "poll.vote" in one.events
    assert "poll.vote" not in two.events
    assert (names(one, PollVote)[1], names(two, Ballot)[1]) == (["polls"], ["hears"])
    # Under one name, and only their own.
    assert "on_poll_vote" in one.plugins.hooks()
    assert [call.plugin for call in one.plugins.calls("on_poll_vote")] == ["polls"]
    assert [call.plugin for call in two.plugins.calls("on_poll_vote")] == ["hears"]
    assert one.plugins.registry.owner("poll.vote") == "polls"
