"""Cursors: whose they are, of what place, and that nothing else can be made of one."""

from __future__ import annotations

import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2b
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jackfield._cursor import Cursors, Unusable

KEY, OTHER_KEY = "11" * 32, "22" * 32
ALPHABET = f"{string.ascii_letters}{string.digits}-_"
CURSORS = Cursors(KEY)
LONG = "x" * 128


def made(
    cursors: Cursors = CURSORS,
    *,
    workspace: str = "w",
    user: str = "alice",
    epoch: str = "e1",
    position: int = 7,
    id: str = "r7",
) -> str:
    return cursors.mark(workspace, epoch, position, id) + cursors.tag(workspace, user)


def refusal(cursor: str, workspace: str = "w", user: str = "alice", cursors: Cursors = CURSORS) -> str:
    with pytest.raises(Unusable) as refused:
        cursors.read(cursor, workspace, user)
    return refused.value.reason


ids = st.text(st.sampled_from(f"{string.ascii_letters}{string.digits}._:@-"), min_size=1, max_size=128)


@given(ids, ids, st.text(max_size=40), st.integers(0, 2**48 - 1), st.text(max_size=40))
def test_it_says_what_was_put_in_and_fits_the_wire(
    workspace: str, user: str, epoch: str, position: int, id: str
) -> None:
    cursor = made(workspace=workspace, user=user, epoch=epoch, position=position, id=id)
    assert len(cursor) <= 128
    assert set(cursor) <= set(ALPHABET)
    place = CURSORS.read(cursor, workspace, user)
    assert place.position == position
    assert place.is_of(epoch)
    assert place.names(position, id)
    assert place.mark + CURSORS.tag(workspace, user) == cursor


def test_it_is_of_constant_length_so_that_one_text_can_be_cut_before_the_tag() -> None:
    marks = {len(CURSORS.mark(w, e, p, r)) for w, e, p, r in [("w", "", 0, ""), (LONG, LONG, 2**48 - 1, LONG)]}
    assert marks == {36}
    assert {len(CURSORS.tag(w, u)) for w, u in [("w", "u"), (LONG, LONG)]} == {12}


def test_it_names_one_record_of_one_epoch() -> None:
    place = CURSORS.read(made(), "w", "alice")
    assert not place.is_of("e2")
    assert not place.names(8, "r7")
    assert not place.names(7, "r8")


def test_every_other_character_at_every_place_is_foreign_and_never_another_place() -> None:
    cursor = made()
    for index, held in enumerate(cursor):
        for other in ALPHABET.replace(held, ""):
            assert refusal(f"{cursor[:index]}{other}{cursor[index + 1 :]}") == "foreign", (index, other)


@pytest.mark.parametrize("other", [*"+/=. %~\n\0é\ud800", "+", "é"])
def test_a_character_outside_of_the_alphabet_is_unknown(other: str) -> None:
    cursor = made()
    for index in (0, 20, 35, 36, 47):
        assert refusal(f"{cursor[:index]}{other}{cursor[index + 1 :]}") == "unknown"


def test_the_other_alphabet_of_base64_is_none_of_ours() -> None:
    """A decoder that takes both would make two texts of one cursor."""
    cursor = next(text for n in range(1000) if set(text := made(position=n)) & set("-_"))
    assert refusal(cursor.replace("-", "+").replace("_", "/")) == "unknown"


@pytest.mark.parametrize("length", [1, 4, 11, 12, 35, 36, 40, 44, 47, 49, 52, 96, 124, 128])
def test_another_length_is_unknown(length: int) -> None:
    assert refusal((made() * 3)[:length]) == "unknown"


def test_the_longest_that_is_looked_at_and_one_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are unknown; the longer one is not even decoded."""
    decoded: list[int] = []

    def decode(text: bytes) -> bytes:
        decoded.append(len(text))
        return urlsafe_b64decode(text)

    monkeypatch.setattr("jackfield._cursor.urlsafe_b64decode", decode)
    assert refusal("A" * 128) == "unknown"
    assert refusal("A" * 129) == "unknown"
    assert refusal("A" * 1_000_000) == "unknown"
    assert decoded == [128]


@pytest.mark.parametrize("garbage", ["0", "null", "undefined", "-1", "123", "A" * 48, "=" * 48, "\ud800", "A" * 47])
def test_garbage_is_unknown_or_foreign(garbage: str) -> None:
    assert refusal(garbage) == ("foreign" if garbage == "A" * 48 else "unknown")


def test_of_another_user_or_another_workspace_it_is_foreign() -> None:
    assert refusal(made(), user="bob") == "foreign"
    assert refusal(made(), workspace="v") == "foreign"
    assert refusal(made(user="bob")) == "foreign"
    assert refusal(made(workspace="v")) == "foreign"


def test_workspace_and_user_cannot_be_told_as_one_word() -> None:
    assert CURSORS.tag("ab", "c") != CURSORS.tag("a", "bc")
    assert refusal(made(workspace="ab", user="c"), "a", "bc") == "foreign"


def test_a_mark_of_one_and_a_tag_of_another_is_the_tags_owner_at_that_place() -> None:
    """It gains nothing: what is replayed is filtered by who asks."""
    stolen = CURSORS.mark("w", "e1", 9, "r9") + CURSORS.tag("w", "mallory")
    assert CURSORS.read(stolen, "w", "mallory").position == 9
    assert refusal(stolen, user="alice") == "foreign"


def test_of_a_key_that_was_lost_it_is_expired() -> None:
    assert refusal(made(Cursors(OTHER_KEY))) == "expired"
    assert refusal(made(), cursors=Cursors(OTHER_KEY)) == "expired"


def test_a_place_cannot_be_made_by_hand() -> None:
    """Its check can; its seal cannot."""
    raw = bytearray(urlsafe_b64decode(made()))
    raw[7:13] = (3).to_bytes(6, "big")
    raw[16:19] = blake2b(bytes(raw[:16]), digest_size=3).digest()
    assert refusal(urlsafe_b64encode(bytes(raw)).decode()) == "foreign"


def test_neighbours_differ_in_mark_and_share_the_tag() -> None:
    marks = [CURSORS.mark("w", "e1", position, f"r{position}") for position in range(100)]
    assert len(set(marks)) == 100
    assert all(one[:9] == other[:9] for one, other in pairwise(marks))  # origin and epoch


def test_two_nodes_with_one_key_read_each_others() -> None:
    assert Cursors(KEY).read(made(), "w", "alice") == CURSORS.read(made(), "w", "alice")


@settings(max_examples=300)
@given(st.text(max_size=140))
def test_whatever_is_brought_there_is_an_answer(text: str) -> None:
    assert refusal(text) in ("unknown", "foreign")


@settings(max_examples=300)
@given(st.binary(min_size=36, max_size=36))
def test_random_bytes_of_the_right_length_are_foreign(raw: bytes) -> None:
    assert refusal(urlsafe_b64encode(raw).decode()) in ("foreign", "expired")
