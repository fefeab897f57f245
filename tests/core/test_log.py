"""What stands in the log: heads, and who begins or ceases to see a channel. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackfield import Audience, Channel, Everyone, ServerEvent, Topic, Users, latest
from jackfield._audience import Both, Except
from jackfield._log import REVOKED, Head, Sight, sight_of
from jackfield.events import (
    ChannelCreated,
    ChannelDeleted,
    ChannelUpdated,
    MemberJoined,
    MemberLeft,
    MessageNew,
    PresenceUpdated,
    TypingStart,
)

texts = st.text(max_size=8)
audiences: st.SearchStrategy[Audience] = st.recursive(
    st.just(Everyone()) | st.builds(Channel, texts) | st.lists(texts, max_size=3).map(lambda ids: Users(*ids)),
    lambda inner: st.builds(Both, inner, inner) | st.builds(Except, inner, inner),
    max_leaves=4,
)
keys = st.recursive(
    texts | st.integers(-(2**53), 2**53) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=4,
)
heads = st.builds(
    Head,
    type=texts,
    audience=audiences,
    kind=st.sampled_from(["durable", "latest", "ephemeral", "control"]),
    key=st.lists(keys, max_size=3).map(tuple),
    sight=st.none() | st.builds(Sight, st.booleans(), texts, st.none() | texts, st.none() | audiences),
)


@given(heads)
def test_a_head_comes_back_from_the_log_as_it_was(head: Head) -> None:
    again = Head.load(head.dump())
    assert again == head
    assert type(again.sight) is type(head.sight)
    hash(again.key)


@given(heads, heads)
def test_two_heads_differ_in_the_log_where_they_differ(one: Head, other: Head) -> None:
    # True and 1 are equal to Python, and not in the log; both ways they are one key.
    assert (one == other) or (one.dump() != other.dump())


@pytest.mark.parametrize(
    ("head", "text"),
    [
        pytest.param(
            Head("message.new", Channel("c1"), "durable"),
            b'["message.new",["channel","c1"],"durable",[],null]',
            id="a message",
        ),
        pytest.param(
            Head("typing.start", Channel("c1") & Topic("t"), "latest", ("typing", "c1", "alice")),
            b'["typing.start",["&",["channel","c1"],["topic","t"]],"latest",["typing","c1","alice"],null]',
            id="typing",
        ),
        pytest.param(
            Head("member.left", Channel("c1"), "durable", (), Sight(False, "c1", "alice")),
            b'["member.left",["channel","c1"],"durable",[],[false,"c1","alice",null]]',
            id="a member who left",
        ),
        pytest.param(
            Head("channel.created", Everyone(), "durable", (), Sight(True, "c1", None)),
            b'["channel.created",["everyone"],"durable",[],[true,"c1",null,null]]',
            id="a public channel",
        ),
        pytest.param(
            Head("channel.deleted", Channel("c1"), "durable", (), Sight(False, "c1", None, Users("alice"))),
            b'["channel.deleted",["channel","c1"],"durable",[],[false,"c1",null,["users","alice"]]]',
            id="the end of a private channel",
        ),
        pytest.param(
            Head(REVOKED, Users("alice"), "control"),
            b'["revoked",["users","alice"],"control",[],null]',
            id="a revocation",
        ),
    ],
)
def test_the_form_in_the_log_is_this(head: Head, text: bytes) -> None:
    assert head.dump() == text
    assert Head.load(text) == head


def test_the_type_of_a_revocation_can_be_no_event_with_a_dot() -> None:
    assert "." not in REVOKED


@pytest.mark.parametrize(
    ("event", "sight"),
    [
        pytest.param(
            ChannelCreated("c1", "general", "public", "alice"), Sight(True, "c1", None), id="public: everyone gains"
        ),
        pytest.param(
            ChannelCreated("c1", "general", "private", "alice"), Sight(True, "c1", "alice"), id="private: its maker"
        ),
        pytest.param(
            ChannelCreated("c1", "", "Public", "alice"), Sight(True, "c1", "alice"), id="Public is not public"
        ),
        pytest.param(
            ChannelCreated("c1", "", "dm", "alice"), Sight(True, "c1", "alice"), id="any other type is private"
        ),
        pytest.param(ChannelDeleted("c1"), Sight(False, "c1", None), id="deleted: everyone loses"),
        pytest.param(MemberJoined("c1", "bob"), Sight(True, "c1", "bob"), id="who joins, gains"),
        pytest.param(MemberLeft("c1", "bob"), Sight(False, "c1", "bob"), id="who leaves, loses"),
        pytest.param(ChannelUpdated("c1", name="new"), None, id="a new name moves nobody"),
        pytest.param(MessageNew("m", "c1", "a", "x", "2024-01-01T12:00:00Z"), None, id="nor does a message"),
        pytest.param(TypingStart("c1", "alice"), None, id="nor typing"),
        pytest.param(PresenceUpdated("alice", "online"), None, id="nor presence"),
    ],
)
def test_an_event_moves_who_sees_a_channel(event: ServerEvent, sight: Sight | None) -> None:
    assert sight_of(event) == sight


def test_the_key_of_an_event_lives_through_the_log() -> None:
    class Cursor(ServerEvent, type="cursor.moved", delivery=latest("user_id", "page")):
        """A pointer on a page."""

        user_id: str
        page: int | None

    event = Cursor("alice", None)
    key = event.__event__.delivery.key_of(event)
    assert key == ("cursor.moved", "alice", None)
    assert Head.load(Head("cursor.moved", Everyone(), "latest", key).dump()).key == key
