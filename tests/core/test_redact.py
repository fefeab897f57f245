"""No token reaches a log, whatever a server writes about an upgrade."""

from __future__ import annotations

import io
import json
import logging
from types import MappingProxyType
from typing import Any

import pytest

from jackfield._redact import clean, install

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl-_"

LOGGERS = [
    "uvicorn.error",
    "uvicorn.access",
    "uvicorn.asgi",
    "hypercorn.error",
    "hypercorn.access",
    "anycorn.error",
    "anycorn.access",
    "_granian",
    "granian.access",
]


class Atoms(dict[str, str]):
    """How hypercorn and anycorn give what an access log may name: what there is not is a dash."""

    def __missing__(self, key: str) -> str:
        return "-"


class Frame:
    """An object that is asked for its text only when it is written."""

    def __str__(self) -> str:
        return "TEXT " + json.dumps({"type": "auth.refresh", "token": TOKEN})


def written(message: object, *args: Any, logger: str = "uvicorn.error", exc_info: Any = None) -> str:
    """What a server that logs this leaves in its log."""
    install()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.getLogger(logger)
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(1)
    log.propagate = False
    try:
        log.log(5, message, *args, exc_info=exc_info)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("GET /ws/w", "GET /ws/w"),
        ("/ws/w?token=abc", "/ws/w?token=…"),
        ("/ws/w?a=1&token=abc&b=2", "/ws/w?a=1&token=…&b=2"),
        ("token=abc", "token=…"),
        ("token=a&token=b", "token=…&token=…"),
        ("/ws/w?token=abc HTTP/1.1", "/ws/w?token=… HTTP/1.1"),
        ('"GET /ws/w?token=abc" 101', '"GET /ws/w?token=…" 101'),
        ("b'token=abc&a=1'", "b'token=…&a=1'"),
        ("{'query_string': b'token=abc'}", "{'query_string': b'token=…'}"),
        ("Authorization: Bearer abc", "Authorization: Bearer …"),
        ("authorization: bearer abc.def", "authorization: bearer …"),
        ("Sec-WebSocket-Protocol: jackfield.v1, bearer.abc", "Sec-WebSocket-Protocol: jackfield.v1, bearer.…"),
        ("['bearer.abc', 'jackfield.v1']", "['bearer.…', 'jackfield.v1']"),
        ('{"type":"auth.refresh","token":"abc"}', '{"type":"auth.refresh","token":"…"}'),
        ("{'token': 'abc', 'a': 1}", "{'token': '…', 'a': 1}"),
        ("/ws/w?%74oken=abc", "/ws/w?%74oken=…"),
        ("/ws/w?a&t%6F%6ben=abc", "/ws/w?a&t%6F%6ben=…"),
        ("a token is missing", "a token is missing"),
        ("/ws/w?tokens=3&mytoken=1", "/ws/w?tokens=3&mytoken=1"),
    ],
)
def test_a_text_is_the_same_without_its_token(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned
    assert clean(cleaned) == cleaned


LINES: list[Any] = [
    pytest.param(('%s - "WebSocket %s" [accepted]', ("127.0.0.1", 5), f"/ws/w?token={TOKEN}"), id="uvicorn, accepted"),
    pytest.param(
        ('%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "GET", f"/ws/w?token={TOKEN}&a=1", "1.1", 403),
        id="uvicorn, access",
    ),
    pytest.param(("< GET %s HTTP/1.1", f"/ws/w?a=1&token={TOKEN}"), id="the request line, at debug level"),
    pytest.param(("< %s: %s", "Authorization", f"Bearer {TOKEN}"), id="a header, at debug level"),
    pytest.param(("< %s: %s", "Sec-WebSocket-Protocol", f"jackfield.v1, bearer.{TOKEN}"), id="the subprotocols"),
    pytest.param(("< %s", Frame()), id="a frame, at debug level"),
    pytest.param(
        (
            "%s - ASGI [%d] Started scope=%s",
            "127.0.0.1",
            1,
            {"query_string": f"token={TOKEN}".encode(), "subprotocols": ["jackfield.v1", f"bearer.{TOKEN}"]},
        ),
        id="a scope, at trace level",
    ),
    pytest.param(("scope=%s", {"query_string": f"token={TOKEN}".encode()}), id="a scope alone"),
    pytest.param(("headers=%s", [(b"authorization", f"Bearer {TOKEN}".encode())]), id="raw headers"),
    pytest.param((f"failed: /ws/w?token={TOKEN}",), id="a finished text"),
    pytest.param((ValueError(f"failed: /ws/w?token={TOKEN}"),), id="an exception as the message"),
    pytest.param(("failed: %s", ValueError(f"/ws/w?token={TOKEN}")), id="an exception as an argument"),
    pytest.param(
        ('%(h)s "%(R)s" %(s)s %(q)s', Atoms(h="::1", R=f"GET /ws/w?token={TOKEN} 1.1", s="101", q=f"token={TOKEN}")),
        id="hypercorn, access",
    ),
    pytest.param(("%(path)s %(status)d", {"path": f"/ws/w?token={TOKEN}", "status": 101}), id="granian, access"),
    pytest.param(("%(path)s", MappingProxyType({"path": f"/ws/w?token={TOKEN}"})), id="a mapping that is no dict"),
]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("logger", LOGGERS)
def test_no_line_of_a_server_has_the_token(line: tuple[Any, ...], logger: str) -> None:
    text = written(*line, logger=logger)
    assert "…" in text
    assert TOKEN[:8] not in text
    assert TOKEN[-8:] not in text
    assert text.count("\n") == 1


def test_the_rest_of_the_line_is_as_it_was() -> None:
    assert written('%s - "%s %s" %d', ("::1", 5), "GET", "/ws/w?token=abc&a=1", 101) == (
        "('::1', 5) - \"GET /ws/w?token=…&a=1\" 101\n"
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (("100 % done",), "100 % done\n"),
        (("%d of %.1f %s %r", 1, 2.5, None, True), "1 of 2.5 None True\n"),
        (("%s", {"a": 1}), "{'a': 1}\n"),
        (("%s", ()), "()\n"),
        (("%(a)s %(b)d", {"a": "x", "b": 1}), "x 1\n"),
    ],
)
def test_a_line_without_one_is_not_touched(line: tuple[Any, ...], text: str) -> None:
    assert written(*line) == text


def test_a_token_whose_name_stands_in_the_format_is_found() -> None:
    assert written("token=%s a=%d", "abc", 1) == "token=… a=1\n"


def test_a_line_that_is_wrong_is_left_to_who_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("%d", "seven") == ""
    assert "TypeError" in capsys.readouterr().err


def test_what_an_access_log_names_and_there_is_not_stays_a_dash() -> None:
    atoms = Atoms(R=f"GET /ws/w?token={TOKEN}")
    assert written("%(R)s %({referer}i)s", atoms, logger="anycorn.access") == "GET /ws/w?token=… -\n"
    assert atoms["R"].endswith(TOKEN)


def test_what_a_server_logs_is_not_changed_for_the_server() -> None:
    scope = {"query_string": b"token=abc"}
    written("%s %s", "x", scope)
    written("%s", scope)
    assert scope == {"query_string": b"token=abc"}


def test_a_traceback_has_no_token() -> None:
    error = ValueError(f"invalid Sec-WebSocket-Protocol header: jackfield.v1, bearer.{TOKEN}=")
    text = written("opening handshake failed", exc_info=error)
    assert text.startswith("opening handshake failed\nValueError: invalid")
    assert "bearer.…" in text
    assert TOKEN[:8] not in text


def test_a_traceback_without_one_is_as_it_was() -> None:
    assert written("failed", exc_info=ValueError("no more")).endswith("ValueError: no more\n")


def test_to_install_it_again_changes_nothing() -> None:
    install()
    filters = {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    install()
    assert filters == {name: list(logging.getLogger(name).filters) for name in LOGGERS}
    assert all(sum(type(one).__module__ == clean.__module__ for one in found) == 1 for found in filters.values())


def test_other_peoples_logs_are_their_own() -> None:
    install()
    assert logging.getLogger().filters == []
    assert logging.getLogger("uvicorn").filters == []
