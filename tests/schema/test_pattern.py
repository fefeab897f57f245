"""A pattern of Python's said as ECMA-262 says it, or not said at all."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jackfield.schema._pattern import ecma

SAID = {
    "[a-z]": "^[a-z]$",
    "^[a-z]+$": "^[a-z]+$",
    "a|b": "^(?:a|b)$",
    "a|b$": "^(?:a|b)$",
    "a$|b": r"^(?:a(?=\n?$)|b)$",
    r"a\$": r"^a\$$",
    r"a\\$": r"^a\\$",
    r"\Aa\Z": "^a$$",
    r"\d\w\s": r"^[0-9][A-Za-z0-9_][ \t\n\r\f\v]$",
    r"\D\W\S": r"^[^0-9][^A-Za-z0-9_][^ \t\n\r\f\v]$",
    r"[\d\w\s]": r"^[0-9A-Za-z0-9_ \t\n\r\f\v]$",
    r"[^\D]": r"^[^\D]$",
    r"[\w.-]+@[\w-]+": "^[A-Za-z0-9_.-]+@[A-Za-z0-9_-]+$",
    "[]a]": r"^[\]a]$",
    "[^]a]": r"^[^\]a]$",
    "[[]": r"^[\[]$",
    "[^^]": "^[^^]$",
    r"[\]\-]": r"^[\]\-]$",
    r"\#\-\@": "^#-@$",
    r"\.\*": r"^\.\*$",
    "a.c": r"^a[^\n]c$",
    "a{,3}b{2}c{1,}": "^a{0,3}b{2}c{1,}$",
    "a{b}": r"^a\{b\}$",
    "a]": r"^a\]$",
    r"\x41\u00e4\n": r"^\u0041\u00e4\n$",
    "(?:a)(?=b)(?!c)(?<=d)(?<!e)": "^(?:a)(?=b)(?!c)(?<=d)(?<!e)$",
    r"(?P<x>a)(?P=x)\1": r"^(?<x>a)\k<x>\1$",
    r"a+?b*?\b": r"^a+?b*?\b$",
}
UNSAID = ["(?i)a", "(?#why)a", "a++", "a*+", "a?+", "a{2}+", r"[\S]", "(?(1)a)", r"\a", r"\N{DASH}"]


@pytest.mark.parametrize(("pattern", "said"), SAID.items())
def test_it_is_said(pattern: str, said: str) -> None:
    assert ecma(pattern) == said


@pytest.mark.parametrize("pattern", UNSAID)
def test_what_cannot_be_said_is_not(pattern: str) -> None:
    assert ecma(pattern) is None


# Read by Python: but for the one that it spells in another way, and the one that it warns of.
READABLE = [pattern for pattern in SAID if "(?P" not in pattern and "[[" not in pattern]
PIECES = st.text(alphabet="ab019_-.$*{}[]^@#A\u00e4\n \\ce", max_size=8) | st.sampled_from(
    ["aac", "a@b", "aaabbc", "a\n"]
)


@given(pattern=st.sampled_from(READABLE), text=PIECES)
def test_it_matches_what_it_matched(pattern: str, text: str) -> None:
    # An end there is the very end.
    said = re.sub(r"(\\.)|\$", lambda found: found[1] or r"\Z", ecma(pattern) or "")
    assert bool(re.search(said, text)) is bool(re.compile(pattern, re.ASCII).fullmatch(text))
