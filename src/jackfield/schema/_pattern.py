"""A pattern of Python's as JSON Schema has it: a regular expression of ECMA-262, under its flag `u`. Pure."""

from __future__ import annotations

import re

__all__ = ["ecma"]

ESCAPED = r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
TOKEN = re.compile(
    ESCAPED + r"|\(\?P<\w+>|\(\?P=\w+\)|\(\?<[=!]|\(\?[:=!]|\(\?"  # what a group begins with
    r"|\{(?:\d+(?:,\d*)?|,\d+)\}"  # so many times
    r"|\[\^?\]?|.",
    re.DOTALL,
)
IN_CLASS = re.compile(ESCAPED + "|.", re.DOTALL)
SYNTAX = set(r"^$\.*+?()[]{}|/")
# Written out, since not everybody who reads a schema means ASCII by `\d`.
CLASSES = {r"\d": "0-9", r"\w": "A-Za-z0-9_", r"\s": r" \t\n\r\f\v"}
OUTSIDE = {
    r"\D": "[^0-9]",
    r"\W": "[^A-Za-z0-9_]",
    r"\S": r"[^ \t\n\r\f\v]",
    r"\A": "^",
    r"\Z": "$",
    ".": r"[^\n]",
    "$": r"(?=\n?$)",  # of Python's, before a last line feed too
    "]": r"\]",
    "{": r"\{",
    "}": r"\}",
}


def ecma(pattern: str) -> str | None:
    """What matches a whole text as `pattern` does, read by Python for ASCII. None: that cannot be said there."""
    out: list[str] = []
    pattern = re.sub(r"(?<!\\)((?:\\\\)*)\$\Z", r"\1", pattern)  # the end of the whole is the end anyway
    place, token, in_class = 0, "", False
    while found := (IN_CLASS if in_class else TOKEN).match(pattern, place):
        before, token, place = token, found[0], found.end()
        said = _within(token) if in_class else _outside(token, before)
        if said is None:
            return None
        out.append(said)
        in_class = token != "]" if in_class else token.startswith("[")
    text = "".join(out)
    return f"^(?:{text})$" if "|" in text else f"^{text.removeprefix('^')}$"


def _outside(token: str, before: str) -> str | None:
    if token in CLASSES:
        return f"[{CLASSES[token]}]"
    if token in OUTSIDE:
        return OUTSIDE[token]
    if token.startswith("["):
        return token[:-1] + r"\]" if token.endswith("]") else token
    if token.startswith("{,"):
        return "{0" + token[1:]
    if token == "+" and (before in ("+", "*", "?") or before.startswith("{")):
        return None  # possessive
    if token.startswith("(?P<"):
        return "(?<" + token[4:]
    if token.startswith("(?P="):
        return rf"\k<{token[4:-1]}>"
    if token == "(?":  # flags, a remark, a condition
        return None
    return _escape(token, r"bB123456789") if token[0] == "\\" else token


def _within(token: str) -> str | None:
    if token == r"\S":
        return None
    if token in CLASSES:
        return CLASSES[token]
    if token == "[":
        return r"\["
    return _escape(token, "bDW") if token[0] == "\\" else token


def _escape(token: str, more: str) -> str | None:
    """What is escaped there, and here only where it has to be."""
    letter = token[1]
    if letter in "xu" and len(token) > 2:
        return rf"\u00{token[2:]}" if letter == "x" else token
    if letter in "nrtfv" or letter in more or letter in SYNTAX or letter == "-":
        return token if letter != "-" or "D" in more else "-"
    return None if letter.isalnum() else letter
