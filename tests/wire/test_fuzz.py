"""Whatever a client sends, it is an event by the rules or it is refused; and no answer repeats what it sent."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import orjson
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from jackfield import ClientEvent
from jackfield._registry import Registry
from jackfield._wire import Incoming, Rejected, Wire
from jackfield.events import JSON, Id, Ping, TypingIndicator

LIMIT = 2**53
ALPHABET = frozenset(string.ascii_letters + string.digits + "._:@-")


class Everything(ClientEvent, type="everything"):
    """A field of every kind."""

    id: Id
    text: str
    count: int
    share: float
    yes: bool
    mood: Literal["good", "bad"]
    list_of: Sequence[int]
    tally: Mapping[str, int]
    any: JSON
    maybe: str | None = None
    either: int | str = 0


def make_wire() -> Wire:
    registry = Registry()
    for event in (TypingIndicator, Everything):
        registry.add("tests", event)
    return Wire(registry, max_bytes=16384)


WIRE = make_wire()
unhurried = settings(deadline=None)


# --- the rules once more, in the plainest way


def is_id(value: object) -> bool:
    return type(value) is str and 1 <= len(value) <= 128 and ALPHABET.issuperset(value)


def is_text(value: object) -> bool:
    return type(value) is str


def is_integer(value: object) -> bool:
    return type(value) is int and -LIMIT <= value <= LIMIT


def is_number(value: object) -> bool:
    return type(value) in (int, float)


def is_bool(value: object) -> bool:
    return type(value) is bool


FIELDS: dict[str, dict[str, tuple[bool, Callable[[Any], bool]]]] = {
    "ping": {},
    "typing": {"channel_id": (True, is_id), "is_typing": (True, is_bool)},
    "everything": {
        "id": (True, is_id),
        "text": (True, is_text),
        "count": (True, is_integer),
        "share": (True, is_number),
        "yes": (True, is_bool),
        "mood": (True, lambda value: value in ("good", "bad")),
        "list_of": (True, lambda value: type(value) is list and all(map(is_integer, value))),
        "tally": (True, lambda value: type(value) is dict and all(map(is_integer, value.values()))),
        "any": (True, lambda value: True),
        "maybe": (False, is_text),
        "either": (False, lambda value: is_integer(value) or is_text(value)),
    },
}


def depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


def within(value: object) -> bool:
    if isinstance(value, dict):
        return len(value) <= 64 and all(map(within, value.values()))
    if isinstance(value, list):
        return len(value) <= 1000 and all(map(within, value))
    return True


def finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError
    return number


def constant(text: str) -> object:
    raise ValueError


def verdict(text: str) -> str | None:
    """None: it is an event. Else the code of the refusal."""
    try:
        envelope = json.loads(text, parse_constant=constant, parse_float=finite)
        json.dumps(envelope, ensure_ascii=False).encode()  # no lone surrogates
    except (ValueError, RecursionError):
        return "INVALID_EVENT"
    invalid = "INVALID_EVENT"
    if not isinstance(envelope, dict) or depth(envelope) > 32 or not within(envelope):
        return invalid
    if "ref" in envelope and not (
        is_integer(envelope["ref"]) or (is_text(envelope["ref"]) and len(envelope["ref"]) <= 64)
    ):
        return invalid
    type = envelope.get("type")
    if not is_text(type) or not 1 <= len(type) <= 64 or envelope.get("workspace_id", "w") != "w":
        return invalid
    if type not in FIELDS:
        return "UNKNOWN_EVENT"
    fields = envelope
    if "data" in envelope:
        fields = envelope["data"]
        if not isinstance(fields, dict) or any(name in envelope for name in FIELDS[type]):
            return invalid
    for name, (required, fits) in FIELDS[type].items():
        if name in fields:
            if not fits(fields[name]):
                return invalid
        elif required:
            return invalid
    return None


def outcome(text: str) -> str | None:
    try:
        incoming = WIRE.decode(text, "w")
    except Rejected as rejected:
        return rejected.refused.code
    assert isinstance(incoming, Incoming)
    assert isinstance(incoming.event, Ping | TypingIndicator | Everything)
    return None


# --- what is sent

texts = st.text(max_size=12)
integers = st.integers() | st.sampled_from([LIMIT, LIMIT + 1, -LIMIT, -LIMIT - 1, 2**63, 2**64, 0, 1])
# The borders of doubles are where two parsers of JSON may differ, and no business of ours.
floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
scalars = st.none() | st.booleans() | integers.filter(lambda n: abs(n) < 2**63) | floats | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
ids = st.text(sorted(ALPHABET), min_size=1, max_size=12)
right: dict[str, st.SearchStrategy[Any]] = {
    "channel_id": ids,
    "is_typing": st.booleans(),
    "id": ids,
    "text": texts,
    "count": st.integers(-LIMIT, LIMIT),
    "share": floats,
    "yes": st.booleans(),
    "mood": st.sampled_from(["good", "bad"]),
    "list_of": st.lists(st.integers(-5, 5), max_size=4),
    "tally": st.dictionaries(texts, st.integers(-5, 5), max_size=4),
    "any": values,
    "maybe": texts,
    "either": texts | st.integers(-5, 5),
}


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """An event that is right, or nearly so."""
    type = draw(st.sampled_from(sorted(FIELDS)))
    fields = {
        name: draw(right[name]) for name, (required, _) in FIELDS[type].items() if required or draw(st.booleans())
    }
    envelope: dict[str, Any] = {"type": type}
    if draw(st.booleans()):
        envelope["data"] = fields
    else:
        envelope |= fields
    for _ in range(draw(st.integers(0, 3))):  # and now something goes wrong
        target = draw(
            st.sampled_from([envelope, *([envelope["data"]] if isinstance(envelope.get("data"), dict) else [])])
        )
        key = draw(
            st.sampled_from([*target, "type", "data", "ref", "workspace_id", "timestamp", "user_id", "is_typing"])
            | texts
        )
        match draw(st.sampled_from(["set", "drop", "right"])):
            case "set":
                target[key] = draw(values)
            case "drop":
                target.pop(key, None)
            case _:
                target[key] = draw(right.get(key, st.sampled_from(["w", "beta", 7, "ping"])))
    return envelope


@unhurried
@given(events())
@example({"type": "ping", "data": {}, "ref": 0})
@example({"type": "typing", "channel_id": "c1", "is_typing": True, "data": {}})
def test_it_is_taken_exactly_when_the_rules_say_so(envelope: dict[str, Any]) -> None:
    text = json.dumps(envelope)
    assert outcome(text) == verdict(text)


@unhurried
@given(values)
def test_any_json_is_taken_exactly_when_the_rules_say_so(value: object) -> None:
    text = json.dumps(value)
    assert outcome(text) == verdict(text)


@unhurried
@given(st.text())
@example("[" * 100_000)
@example('{"type":' * 5_000)
@example('{"type":"\ud800"}')
def test_any_text_is_refused_or_an_event_and_nothing_else_is_raised(text: str) -> None:
    assert outcome(text) == verdict(text)


@unhurried
@given(st.data())
def test_a_frame_that_was_cut_or_bent_is_refused_or_an_event(data: st.DataObject) -> None:
    text = json.dumps(data.draw(events()))
    place = data.draw(st.integers(0, len(text)))
    kind = data.draw(st.sampled_from(["cut", "insert", "swap", "twice"]))
    if kind == "cut":
        text = text[:place]
    elif kind == "insert":
        text = text[:place] + data.draw(st.sampled_from('{}[]",:0tn\\\x00\ufeff ')) + text[place:]
    elif kind == "swap":
        text = text[:place] + data.draw(st.characters(codec="utf-8")) + text[place + 1 :]
    else:
        text += text
    assert outcome(text) == verdict(text)


@pytest.mark.parametrize("levels", [30, 31, 32, 33, 34])
@pytest.mark.parametrize("keys", [63, 64, 65])
@pytest.mark.parametrize("items", [999, 1000, 1001])
def test_the_limits_hold_together(levels: int, keys: int, items: int) -> None:
    deep: object = 0
    for _ in range(levels - 1):
        deep = [deep]
    text = json.dumps({"type": "ping", "a": deep, "b": dict.fromkeys(map(str, range(keys))), "c": [0] * items})
    assert (outcome(text) is None) == (levels <= 32 and keys <= 64 and items <= 1000)
    assert outcome(text) == verdict(text)


@unhurried
@given(events())
def test_what_was_taken_can_be_said_again(envelope: dict[str, Any]) -> None:
    text = json.dumps(envelope)
    assume(outcome(text) is None)
    event = WIRE.decode(text, "w").event
    again = orjson.dumps({"type": event.__event__.type, "data": WIRE.data(event)}).decode()
    assert WIRE.decode(again, "w").event == event


# --- what is answered


def pieces(text: str) -> set[str]:
    return {text[at : at + 8] for at in range(len(text) - 7)}


secrets = st.text(st.characters(codec="utf-8"), min_size=8, max_size=40)


def places(secret: str) -> list[object]:
    """Wherever a client can put something."""
    typing = {"type": "typing", "channel_id": "c1", "is_typing": True}
    whole = {
        "type": "everything",
        "id": "i",
        "text": "t",
        "count": 1,
        "share": 1,
        "yes": True,
        "mood": "good",
        "list_of": [],
        "tally": {},
        "any": 1,
    }
    return [
        secret,
        [secret],
        {secret: secret},
        {"type": secret},
        {"type": secret * 9},
        {"type": {secret: secret}},
        {"type": "ping", "workspace_id": secret},
        {"type": "ping", "data": secret},
        {"type": "ping", "data": [secret]},
        {"type": "ping", "ref": {secret: secret}},
        {"type": "ping", "ref": secret * 9},
        typing | {"channel_id": secret + "\n"},
        typing | {"is_typing": secret},
        typing | {"channel_id": [secret], "is_typing": {secret: secret}},
        typing | {"data": {secret: secret}},
        {"type": "typing", "data": {secret: secret}},
        whole | {"mood": secret},
        whole | {"count": secret},
        whole | {"share": secret},
        whole | {"yes": secret},
        whole | {"list_of": [secret]},
        whole | {"list_of": {secret: secret}},
        whole | {"tally": {secret: secret}},
        whole | {"tally": [secret]},
        whole | {"maybe": [secret]},
        whole | {"either": [secret]},
        {"type": "ping", "x": {secret + str(n): 0 for n in range(65)}},
        {"type": "ping", "x": [secret] * 1001},
    ]


STRICT = Wire(Registry(), max_bytes=1, strict_error_codes=True)


def answers(text: str) -> list[str]:
    """All that a client, or a log, could be shown of a refusal."""
    with pytest.raises(Rejected) as caught:
        WIRE.decode(text, "w")
    refused, ref = caught.value.refused, caught.value.ref
    plain, strict = WIRE.error(refused, ref, 0.0), STRICT.error(refused, ref, 0.0)
    return [plain, json.dumps(json.loads(plain), ensure_ascii=False), strict, repr(refused), str(refused)]


# What is answered to somebody who says nothing, and the rest of what an answer may be made of.
CONSTANT = set().union(*(pieces(one) for place in places("\U0001f510" * 9) for one in answers(json.dumps(place))))


@unhurried
@given(secrets)
@example("a @ b @ c'] [\" secret")
@example("expected\n\x1b[31m")
def test_no_answer_repeats_what_a_client_sent(secret: str) -> None:
    assume(not pieces(secret) & CONSTANT)
    for place in places(secret):
        for answer in answers(json.dumps(place)):
            assert not pieces(secret) & pieces(answer)


@unhurried
@given(st.text(min_size=8), secrets)
def test_no_answer_repeats_a_text_that_is_no_json(before: str, secret: str) -> None:
    assume(not pieces(secret) & CONSTANT)
    for answer in answers('{"type":"ping",' + before + secret):
        assert not pieces(secret) & pieces(answer)
