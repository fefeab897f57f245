"""Who an event is for. The two ways to ask (of the index, of one connection) must never differ. Pure."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jackfield import ALL_CHANNELS, Audience, Channel, Connection, Everyone, Topic, Users
from jackfield._audience import AllChannels, Both, Except, dump, includes, load, resolve, topics

NAMES = ("a", "b", "c")


class Person:
    """One connection, asked whether an event is for it."""

    def __init__(self, id: str, user_id: str, channels: frozenset[str] | AllChannels, watched: frozenset[str]) -> None:
        self.id = id
        self.user_id = user_id
        self.channels = channels
        self.watched = watched

    def sees(self, channel_id: str) -> bool:
        return channel_id in self.channels

    def watches(self, topic: str) -> bool:
        return topic in self.watched

    def __repr__(self) -> str:
        return f"Person({self.id!r}, {self.user_id!r}, {self.channels!r}, {self.watched!r})"


class Population:
    """The same people by index, each built as it is told, not by asking them."""

    def __init__(self, people: list[Person]) -> None:
        self._everyone = frozenset(people)
        self._channels: dict[str, set[Person]] = {}
        self._users: dict[str, set[Person]] = {}
        self._topics: dict[str, set[Person]] = {}
        self._all = {person for person in people if isinstance(person.channels, AllChannels)}
        for person in people:
            self._users.setdefault(person.user_id, set()).add(person)
            for channel in person.channels:
                self._channels.setdefault(channel, set()).add(person)
            for topic in person.watched:
                self._topics.setdefault(topic, set()).add(person)

    def everyone(self) -> frozenset[Person]:
        return self._everyone

    def channel(self, channel_id: str) -> set[Person]:
        return self._channels.get(channel_id, set()) | self._all

    def user(self, user_id: str) -> set[Person]:
        return self._users.get(user_id, set())

    def topic(self, name: str) -> set[Person]:
        return self._topics.get(name, set())

    def connection(self, connection_id: str) -> set[Person]:
        return {person for person in self._everyone if person.id == connection_id}


names = st.sampled_from(NAMES)
audiences: st.SearchStrategy[Audience] = st.recursive(
    st.one_of(
        st.just(Everyone()),
        st.builds(Channel, names),
        st.builds(Topic, names),
        st.lists(names, max_size=3).map(lambda ids: Users(*ids)),
        st.sampled_from("0123").map(Connection),
    ),
    lambda inner: st.builds(Both, inner, inner) | st.builds(Except, inner, inner),
    max_leaves=8,
)
populations = st.lists(
    st.tuples(names, st.frozensets(names) | st.just(ALL_CHANNELS), st.frozensets(names)), max_size=4
).map(lambda people: [Person(str(number), *person) for number, person in enumerate(people)])

ALICE = Person("0", "alice", frozenset({"c1"}), frozenset({"t"}))
BOB = Person("1", "bob", frozenset({"c1", "c2"}), frozenset())
BOBS_OTHER = Person("2", "bob", frozenset({"c1", "c2"}), frozenset({"t"}))
CAROL = Person("3", "carol", frozenset(), frozenset())
ROOT = Person("4", "root", ALL_CHANNELS, frozenset())
ALL = [ALICE, BOB, BOBS_OTHER, CAROL, ROOT]


@pytest.mark.parametrize(
    ("audience", "people"),
    [
        pytest.param(Everyone(), ALL, id="everyone"),
        pytest.param(Channel("c1"), [ALICE, BOB, BOBS_OTHER, ROOT], id="a channel"),
        pytest.param(Channel("c3"), [ROOT], id="a channel that only who sees all sees"),
        pytest.param(Users("alice"), [ALICE], id="a user"),
        pytest.param(Users("bob"), [BOB, BOBS_OTHER], id="a user on all his connections"),
        pytest.param(Users("alice", "bob"), [ALICE, BOB, BOBS_OTHER], id="users"),
        pytest.param(Users("alice", "alice", "nobody"), [ALICE], id="users, twice and absent"),
        pytest.param(Users(), [], id="no users"),
        pytest.param(Topic("t"), [ALICE, BOBS_OTHER], id="a topic"),
        pytest.param(Connection("1"), [BOB], id="a connection"),
        pytest.param(Connection("9"), [], id="a connection that is gone"),
        pytest.param(Channel("c1") & Topic("t"), [ALICE, BOBS_OTHER], id="who is in both"),
        pytest.param(Channel("c2") & Topic("t"), [BOBS_OTHER], id="who may and looks"),
        pytest.param(Everyone() - Users("bob"), [ALICE, CAROL, ROOT], id="all but a user"),
        pytest.param(Channel("c1") - Connection("1"), [ALICE, BOBS_OTHER, ROOT], id="all but a connection"),
        pytest.param(Users("bob") - Users("bob"), [], id="nobody"),
        pytest.param(
            Channel("c1") & Topic("t") - Users("alice"),
            [BOBS_OTHER],
            id="minus binds before and, as in arithmetic",
        ),
        pytest.param((Channel("c1") & Topic("t")) - Users("bob"), [ALICE], id="in brackets"),
    ],
)
def test_an_audience_names_these_connections(audience: Audience, people: list[Person]) -> None:
    assert resolve(audience, Population(ALL)) == set(people)
    assert [person for person in ALL if includes(audience, person)] == people


@given(audiences, populations)
@example(Users(), [ALICE])
@example(Channel("a") & Users(), [ROOT])
def test_the_index_and_the_connection_never_differ(audience: Audience, people: list[Person]) -> None:
    assert resolve(audience, Population(people)) == {person for person in people if includes(audience, person)}


@given(audiences, populations)
def test_asking_changes_nothing(audience: Audience, people: list[Person]) -> None:
    index = Population(people)
    before = set(index.everyone()), {name: set(index.channel(name)) for name in NAMES}
    assert resolve(audience, index) == resolve(audience, index)
    assert before == (set(index.everyone()), {name: set(index.channel(name)) for name in NAMES})


@given(audiences)
def test_an_audience_comes_back_from_the_log_as_it_was(audience: Audience) -> None:
    assert load(orjson.loads(orjson.dumps(dump(audience)))) == audience


@given(audiences, audiences)
def test_audiences_are_values(one: Audience, other: Audience) -> None:
    assert (one == other) == (repr(one) == repr(other))
    if one == other:
        assert hash(one) == hash(other)
    assert one & other == Both(one, other)
    assert one - other == Except(one, other)


@pytest.mark.parametrize(
    ("audience", "json"),
    [
        (Everyone(), ["everyone"]),
        (Channel("c1"), ["channel", "c1"]),
        (Users("a", "b"), ["users", "a", "b"]),
        (Users(), ["users"]),
        (Topic("poll:p1"), ["topic", "poll:p1"]),
        (Connection("7"), ["connection", "7"]),
        (
            Channel("c1") & Topic("t") - Users("bob"),
            ["&", ["channel", "c1"], ["-", ["topic", "t"], ["users", "bob"]]],
        ),
    ],
    ids=repr,
)
def test_the_form_in_the_log_is_this(audience: Audience, json: list[object]) -> None:
    assert dump(audience) == json
    assert load(json) == audience


@pytest.mark.parametrize(
    "json",
    [[], ["nobody"], ["everyone", "else"], ["channel"], ["channel", "a", "b"], ["&", ["everyone"]], ["-"], ["topic"]],
    ids=str,
)
def test_what_is_no_audience_in_the_log_is_refused(json: list[object]) -> None:
    with pytest.raises(ValueError, match="no audience"):
        load(json)


class Strangers(Audience):
    """An author's own class, which nothing here knows."""


def test_an_audience_of_another_kind_is_refused_everywhere() -> None:
    for ask in (
        lambda: resolve(Strangers(), Population([])),
        lambda: includes(Strangers(), ALICE),
        lambda: dump(Strangers()),
        lambda: dump(Everyone() - Strangers()),
    ):
        with pytest.raises(TypeError, match="no audience"):
            ask()


@pytest.mark.parametrize(
    ("audience", "lives"),
    [
        (Topic("t"), True),
        (Channel("c") & Topic("t"), True),
        (Topic("t") & Channel("c"), True),
        (Topic("t") - Users("bob"), True),
        ((Channel("c") & Topic("t")) - Connection("1"), True),
        (Channel("c"), False),
        (Everyone(), False),
        (Users("bob"), False),
        (Channel("c") - Connection("1"), False),
        (Channel("c") & Users("bob"), False),
    ],
    ids=repr,
)
def test_a_topic_makes_an_audience_that_dies_with_its_connections(audience: Audience, lives: bool) -> None:
    assert topics(audience) is lives


def test_all_channels_contains_any_and_lists_none() -> None:
    assert "anything" in ALL_CHANNELS
    assert list(ALL_CHANNELS) == []
    assert len(ALL_CHANNELS) == 0
    assert repr(ALL_CHANNELS) == "ALL_CHANNELS"
