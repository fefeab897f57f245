"""What a user has missed, against what he was sent while he was there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield._audience import Channel, Connection, Everyone, Topic, Users
from jackfield._cursor import Unusable
from jackfield.events import MessageNew
from tests.core.sights import CHANNELS, NOON, USERS, World

# --- by hand


def test_who_left_and_came_back_is_given_what_fell_inside_of_his_memberships() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.join("c1", "bob")
    w.say("c1")  # 3
    w.leave("c1", "bob")  # 4
    w.say("c1")  # 5
    w.join("c1", "bob")  # 6
    w.say("c1")  # 7
    assert w.asked("bob", 2) == [3, 4, 6, 7]
    assert w.asked("bob", 0) == [2, 3, 4, 6, 7]
    assert w.asked("bob", 4) == [6, 7]
    assert w.asked("alice", 0) == [1, 2, 3, 4, 5, 6, 7]
    assert w.asked("carol", 0) == []


def test_who_left_for_good_is_given_his_own_going_and_nothing_that_he_sees_no_longer() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.join("c1", "bob")
    w.join("c1", "carol")  # 3
    w.say("c1")
    w.leave("c1", "bob")  # 5
    w.say("c1")
    assert w.asked("bob", 0) == [2, 5]
    assert w.asked("bob", 2) == [5]


def test_the_end_of_a_channel_is_told_to_those_who_saw_it_and_to_nobody_else() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.join("c1", "bob")
    w.say("c1")
    w.leave("c1", "bob")  # 4
    w.delete("c1", known=True)  # 5
    assert w.asked("alice", 2) == [5]
    assert w.asked("bob", 2) == [4]
    assert w.asked("carol", 0) == []


def test_who_is_not_there_follows_a_topic_no_more() -> None:
    w = World()
    w.create("c1", "public", "alice")
    w.say("c1", Topic("t"))
    assert w.asked("alice", 1) == []


def test_a_channel_that_comes_and_goes_inside_of_the_range() -> None:
    w = World()
    w.create("c1", "public", "alice")  # 1
    w.say("c1")
    w.delete("c1", known=True)  # 3
    w.create("c1", "private", "bob")  # 4
    w.say("c1")
    w.delete("c1", known=True)  # 6
    w.create("c1", "public", "carol")  # 7
    w.say("c1")  # 8
    # What was said in a public one before is of the same id, and he could see it then.
    assert w.asked("alice", 0) == [1, 2, 3, 7, 8]
    assert w.asked("bob", 3) == [4, 5, 6, 7, 8]
    assert w.asked("carol", 3) == [7, 8]


def test_an_event_to_users_is_for_them_then_and_now() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.say("c1", Users("bob"))  # 2
    w.say("c1", Users("bob", "carol"))  # 3
    w.say("c1", Everyone() - Users("bob"))  # 4
    w.say("c1", Channel("c1") - Users("alice"))
    assert w.asked("bob", 1) == [2, 3]
    assert w.asked("carol", 1) == [3, 4]
    assert w.asked("alice", 1) == [4]


def test_what_passes_and_what_is_the_cores_own_is_not_missed() -> None:
    w = World()
    w.whisper("c1")
    w.revoke("alice")
    w.say("c1", Everyone())
    assert w.asked("alice", 0) == [3]


def test_what_was_kept_from_a_connection_is_for_the_user() -> None:
    """The one that came back is another connection."""
    w = World()
    w.write(MessageNew("m", "c1", "alice", "x", NOON), Everyone() - Connection("0123"))
    assert w.asked("alice", 0) == [1]


def test_his_own_coming_to_a_public_channel_is_told_though_the_channel_has_ended() -> None:
    """wire 7: "besides, always, his own `member.*`"."""
    w = World()
    w.create("c1", "public", "alice")
    w.join("c1", "bob")  # 2
    w.join("c1", "carol")  # 3
    w.leave("c1", "bob")  # 4
    w.delete("c1", known=True)  # 5
    assert w.asked("bob", 1) == [2, 4, 5]
    assert w.asked("carol", 1) == [3, 5]
    assert w.asked("alice", 1) == [5]


def test_one_who_sees_all_is_given_all() -> None:
    w = World(sees_all=["carol"])
    w.create("c1", "private", "alice")
    w.join("c1", "bob")
    w.say("c1")
    w.delete("c1", known=False)
    assert w.asked("carol", 0) == [1, 2, 3, 4]


# --- the end of a channel of which nobody says who saw it


def test_who_saw_it_is_not_guessed() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.say("c1")
    w.delete("c1", known=False)
    w.say("c1", Everyone())
    assert w.reason("alice", 1) == "expired"
    assert w.reason("bob", 2) == "expired"
    assert w.asked("alice", 3) == [4]


def test_it_is_known_where_something_before_it_shows_it() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.join("c1", "bob")  # 2
    w.join("c1", "carol")
    w.leave("c1", "carol")  # 4
    w.delete("c1", known=False)  # 5
    assert w.asked("alice", 0) == [5]
    assert w.asked("bob", 1) == [2, 5]
    assert w.asked("carol", 3) == [4]
    assert w.reason("bob", 2) == "expired"


def test_that_it_was_told_by_name_does_not_show_who_saw_it() -> None:
    w = World()
    w.create("c1", "public", "alice")
    w.join("c1", "bob")  # 2
    w.delete("c1", known=False, to=Users("bob"))
    assert w.missed("bob", 1) == [2, 3]
    assert w.reason("bob", 1) == "expired"


def test_nor_where_the_channel_has_come_back_and_what_was_said_in_the_old_one_can_be_seen() -> None:
    w = World()
    w.create("c1", "private", "alice")
    w.say("c1")  # 2
    w.delete("c1", known=False, to=Users("alice"))  # 3
    w.create("c1", "public", "alice")  # 4
    assert w.missed("alice", 1) == [2, 3, 4]
    assert w.reason("alice", 1) == "expired"


def test_what_is_said_to_be_seen_now_was_not_seen_before_an_end_that_others_saw() -> None:
    """A host that answers of its own may show a channel whose new beginning is not in the log."""
    w = World()
    w.create("c1", "private", "bob")
    w.say("c1")
    w.delete("c1", known=True)
    w.users["alice"].channels.add("c1")
    assert w.asked("alice", 1) == []


# --- how much


def test_exactly_as_many_as_may_be_and_one_more() -> None:
    w = World()
    w.create("c1", "private", "alice")
    for _ in range(10):
        w.say("c1")
        w.say("c1", Users("bob"))  # not his, and not counted
        w.whisper("c1")
    assert len(w.asked("alice", 1, limit=10)) == 10
    assert w.reason("alice", 1, limit=9) == "too_many"
    assert w.reason("alice", 0, limit=10) == "too_many"
    assert w.asked("carol", 0, limit=1) == []


# --- against the oracle

user, channel = st.sampled_from(USERS), st.sampled_from(CHANNELS)
audience = st.one_of(
    st.just(Everyone()),
    st.sets(user, min_size=1).map(lambda users: Users(*sorted(users))),
    st.builds(lambda channel, user: Channel(channel) - Users(user), channel, user),
    st.builds(lambda user: Everyone() - Users(user), user),
)
happenings = st.lists(
    st.one_of(
        st.tuples(st.just("create"), channel, st.sampled_from(["public", "private"]), user),
        st.tuples(st.just("delete"), channel, st.just(True)),
        st.tuples(st.just("join"), channel, user),
        st.tuples(st.just("leave"), channel, user),
        st.tuples(st.just("say"), channel),
        st.tuples(st.just("say"), channel, audience),
        st.tuples(st.just("update"), channel),
        st.tuples(st.just("whisper"), channel),
        st.tuples(st.just("revoke"), user),
    ),
    min_size=4,
    max_size=24,
)
unsure = st.lists(
    st.one_of(
        st.tuples(st.just("create"), channel, st.sampled_from(["public", "private"]), user),
        st.tuples(st.just("delete"), channel, st.booleans()),
        st.tuples(st.just("delete"), channel, st.just(False), st.just(Users("alice"))),
        st.tuples(st.just("join"), channel, user),
        st.tuples(st.just("leave"), channel, user),
        st.tuples(st.just("say"), channel),
    ),
    min_size=3,
    max_size=16,
)


def happen(w: World, commands: Sequence[Any]) -> None:
    for name, *arguments in commands:
        getattr(w, name)(*arguments)


@settings(max_examples=300, deadline=None)
@given(happenings, st.sets(user, max_size=1), st.sampled_from([1, 2, 64]))
def test_from_every_place_everybody_is_given_what_he_was_sent_and_may_see(
    commands: Sequence[Any], sees_all: set[str], stretch: int
) -> None:
    w = World(sees_all)
    happen(w, commands)
    for name in USERS:
        for after in range(w.position):
            expected = w.missed(name, after)
            assert w.asked(name, after, stretch=stretch, limit=max(1, len(expected))) == expected
            if expected:
                assert w.reason(name, after, stretch=stretch, limit=len(expected) - 1) == "too_many"


@settings(max_examples=300, deadline=None)
@given(unsure, st.sampled_from([1, 64]))
def test_where_it_is_not_known_it_is_expired_and_never_a_hole(commands: Sequence[Any], stretch: int) -> None:
    w = World()
    happen(w, commands)
    unknown = [
        entry.record.position
        for entry in w.entries
        if entry.head.type == "channel.deleted" and entry.head.sight is not None and entry.head.sight.seen_by is None
    ]
    for name in USERS:
        for after in range(w.position):
            try:
                given_ = w.asked(name, after, stretch=stretch)
            except Unusable:
                assert any(place > after for place in unknown)
                assert w.reason(name, after, stretch=stretch) == "expired"
            else:
                assert given_ == w.missed(name, after)
