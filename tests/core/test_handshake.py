"""Who knocks: the one token of a handshake, and the origin of a browser's page. Pure."""

from __future__ import annotations

import string
from urllib.parse import quote, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jackfield import Handshake, InvalidToken, Principal, valid_id
from jackfield._handshake import SUBPROTOCOL, origin_allowed, take_token

OFFER = [SUBPROTOCOL, "bearer.abc"]

# --- the token


@pytest.mark.parametrize(
    ("query", "authorization", "subprotocols", "token"),
    [
        pytest.param(b"", [], [], None, id="none anywhere"),
        pytest.param(b"token=abc", [], [], "abc", id="in the query"),
        pytest.param(b"a=1&token=abc&b=2", [], [], "abc", id="in the query, among others"),
        pytest.param(b"", ["Bearer abc"], [], "abc", id="in the header"),
        pytest.param(b"", ["bearer abc"], [], "abc", id="in the header, in small letters"),
        pytest.param(b"", ["BEARER   abc "], [], "abc", id="in the header, with white space"),
        pytest.param(b"", [], OFFER, "abc", id="in the subprotocols"),
        pytest.param(b"", [], ["bearer.abc", SUBPROTOCOL], "abc", id="in the subprotocols, first"),
        pytest.param(b"", [], ["chat", "bearer.a.b.c", SUBPROTOCOL], "a.b.c", id="with dots, as a JWT has them"),
        pytest.param(b"a=1", [], [SUBPROTOCOL, "chat"], None, id="a query and subprotocols without one"),
        pytest.param(b"", ["Basic abc"], [], None, id="another kind of authorization"),
        pytest.param(b"token=abc", ["Basic dTpw"], [SUBPROTOCOL], "abc", id="another kind of authorization beside it"),
        pytest.param(b"", ["Basic dTpw", "Bearer abc"], [], "abc", id="two headers, one of them a bearer's"),
        pytest.param(b"token=a%2Bb%3D%26c", [], [], "a+b=&c", id="percent-encoded"),
        pytest.param(b"%74oken=abc", [], [], "abc", id="its name percent-encoded"),
        pytest.param(b"token=%F0%9F%91%8D", [], [], "👍", id="percent-encoded UTF-8"),
        pytest.param("token=é".encode(), [], [], "é", id="UTF-8 as it is"),
        pytest.param(b"token=a+b", [], [], "a b", id="a plus is a space, as in forms"),
        pytest.param(b"token=a%2fb;c", [], [], "a/b;c", id="a semicolon parts nothing"),
        pytest.param(b"Token=abc&tokens=x&access_token=y", [], [], None, id="names that are nearly it"),
        pytest.param(b"token%3Dabc", [], [], None, id="no name at all"),
        pytest.param(b"", [], ["Bearer.abc", "bearer", "xbearer.abc"], None, id="offers that are nearly it"),
        pytest.param(b"", ["Bearerabc", "xBearer abc"], [], None, id="headers that are nearly it"),
        pytest.param(b"token=" + b"x" * 8192, [], [], "x" * 8192, id="8 KiB"),
        pytest.param(b"token=" + b"%78" * 8192, [], [], "x" * 8192, id="8 KiB, percent-encoded"),
        pytest.param(b"", ["Bearer " + "x" * 8192], [], "x" * 8192, id="8 KiB in the header"),
        pytest.param(b"", [], ["bearer." + "x" * 8192], "x" * 8192, id="8 KiB in the subprotocols"),
    ],
)
def test_the_one_token_is_taken(
    query: bytes, authorization: list[str], subprotocols: list[str], token: str | None
) -> None:
    assert take_token(query, authorization, subprotocols) == token


@pytest.mark.parametrize(
    ("query", "authorization", "subprotocols"),
    [
        pytest.param(b"token=", [], [], id="empty"),
        pytest.param(b"token", [], [], id="empty, without a sign"),
        pytest.param(b"", ["Bearer "], [], id="empty in the header"),
        pytest.param(b"", ["Bearer"], [], id="the header's scheme alone"),
        pytest.param(b"", [], ["bearer."], id="empty in the subprotocols"),
        pytest.param(b"token=a&token=b", [], [], id="twice in the query"),
        pytest.param(b"token=a&token=a", [], [], id="the same one twice in the query"),
        pytest.param(b"token=a&token=", [], [], id="and an empty one"),
        pytest.param(b"token=a&%74oken=b", [], [], id="twice, once encoded"),
        pytest.param(b"", ["Bearer a", "Bearer b"], [], id="twice in headers"),
        pytest.param(b"", [], ["bearer.a", "bearer.b"], id="twice in the subprotocols"),
        pytest.param(b"token=a", ["Bearer a"], [], id="in the query and the header"),
        pytest.param(b"token=a", [], ["bearer.a"], id="in the query and the subprotocols"),
        pytest.param(b"", ["Bearer a"], ["bearer.a"], id="in the header and the subprotocols"),
        pytest.param(b"token=a", ["Bearer a"], ["bearer.a"], id="in all three"),
        pytest.param(b"token=", ["Bearer a"], [], id="in the header, and an empty one in the query"),
        pytest.param(b"token=" + b"x" * 8193, [], [], id="over 8 KiB"),
        pytest.param(b"token=" + b"%C3%A9" * 4097, [], [], id="over 8 KiB in bytes, not in characters"),
        pytest.param(b"", ["Bearer " + "x" * 8193], [], id="over 8 KiB in the header"),
        pytest.param(b"", [], ["bearer." + "x" * 8193], id="over 8 KiB in the subprotocols"),
        pytest.param(b"token=%ff", [], [], id="no UTF-8, percent-encoded"),
        pytest.param(b"token=\xff", [], [], id="no UTF-8"),
        pytest.param(b"a=%ff&token=a", [], [], id="no UTF-8 beside it"),
    ],
)
def test_two_tokens_or_one_that_cannot_be_one_are_refused(
    query: bytes, authorization: list[str], subprotocols: list[str]
) -> None:
    with pytest.raises(InvalidToken) as caught:
        take_token(query, authorization, subprotocols)
    assert caught.value.detail is None
    assert caught.value.__cause__ is None
    assert not caught.value.expired


tokens = st.text(min_size=1, max_size=40)


@given(tokens)
def test_any_token_comes_through_a_query(token: str) -> None:
    assert take_token(urlencode({"a": "b", "token": token}).encode(), [], []) == token
    assert take_token(f"token={quote(token, safe='')}".encode(), [], []) == token


@given(st.text(string.ascii_letters + string.digits + "-._~+/=", min_size=1))
def test_any_bearer_token_comes_through_a_header_and_the_subprotocols(token: str) -> None:
    assert take_token(b"", [f"Bearer {token}"], []) == token
    assert take_token(b"", [], [SUBPROTOCOL, f"bearer.{token}"]) == token


@given(st.binary(max_size=60), st.lists(st.text(max_size=30), max_size=3), st.lists(st.text(max_size=30), max_size=3))
def test_whatever_knocks_has_one_token_none_or_a_bad_one(
    query: bytes, authorization: list[str], subprotocols: list[str]
) -> None:
    try:
        token = take_token(query, authorization, subprotocols)
    except InvalidToken:
        return
    assert token is None or 1 <= len(token.encode()) <= 8192


# --- the origin


def allowed(*origins: str, host: str = "chat.example", secure: bool = False, by: tuple[str, ...] = ()) -> bool:
    return origin_allowed(origins, host, secure=secure, allowed=by)


def test_who_names_no_origin_is_no_browser() -> None:
    assert allowed()
    assert allowed(by=("https://app.example",))
    assert allowed(host="")


@pytest.mark.parametrize("by", [(), ("https://chat.example",), ("null",)], ids=["same", "list", "null listed"])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize(
    "origins",
    [
        ("null",),
        ("",),
        ("NULL",),
        ("https://chat.example", "https://chat.example"),
        ("https://chat.example", "https://evil.example"),
        ("https://chat.example https://evil.example",),
        ("https://chat.example, https://chat.example",),
        ("https://chat.example,https://chat.example",),
        ("chat.example",),
        ("//chat.example",),
        ("https:chat.example",),
        ("https:/chat.example",),
        ("https://",),
        ("https://:443",),
        ("://chat.example",),
        ("*",),
        ("file://",),
        ("file://chat.example",),
        ("ftp://chat.example",),
        ("wss://chat.example",),
        ("javascript:alert(1)",),
        ("chrome-extension://chat.example",),
        ("https://chat.example/",),
        ("https://chat.example/path",),
        ("https://chat.example?x",),
        ("https://chat.example#x",),
        ("https://alice@chat.example",),
        ("https://alice:secret@chat.example",),
        ("https://@chat.example",),
        ("https://chat.example@evil.example",),
        ("https://evil.example\\@chat.example",),
        ("https://chat.example\\.evil.example",),
        ("https://chat.example%00.evil.example",),
        ("https://chat.example.",),
        ("https://.chat.example",),
        ("https://evil-chat.example",),
        ("https://evilchat.example",),
        ("https://chat.example.evil.example",),
        ("https://sub.chat.example",),
        ("https://example",),
        ("https://chat_example",),
        ("https://chat.example:8443",),
        ("https://chat.example:0",),
        ("https://chat.example:80",),
        ("https://chat.example:443443",),
        ("https://chat.example:-443",),
        ("https://chat.example:4_43",),
        ("https://chat.example:abc",),
        ("https://[chat.example]",),
        ("https://[chat.example",),
        ("https://chat%2Eexample",),
        ("https://сhat.example",),  # a Cyrillic letter
        ("https://chat\uff0eexample",),
        ("https://chat.example\u2100",),
        ("https://chat。example",),
        ("https://xn--hat-5cd.example",),
    ],
    ids=repr,
)
def test_these_may_never_come(origins: tuple[str, ...], secure: bool, by: tuple[str, ...]) -> None:
    assert not allowed(*origins, secure=secure, by=by)


@pytest.mark.parametrize(
    ("origin", "host", "secure", "may"),
    [
        pytest.param("https://chat.example", "chat.example", True, True, id="the same"),
        pytest.param("https://chat.example", "chat.example:443", True, True, id="the host names the port of https"),
        pytest.param("https://chat.example:443", "chat.example", True, True, id="the origin names the port of https"),
        pytest.param("http://chat.example", "chat.example", False, True, id="without TLS"),
        pytest.param("http://chat.example", "chat.example:80", False, True, id="the host names the port of http"),
        pytest.param("http://localhost:8000", "localhost:8000", False, True, id="on a port of its own"),
        pytest.param("HTTPS://Chat.Example", "chat.example", True, True, id="in capitals"),
        pytest.param("https://chat.example", "CHAT.EXAMPLE", True, True, id="the host in capitals"),
        pytest.param("http://[::1]:8000", "[::1]:8000", False, True, id="IPv6"),
        pytest.param("http://127.0.0.1:8000", "127.0.0.1:8000", False, True, id="IPv4"),
        pytest.param(
            "https://xn--bcher-kva.example", "xn--bcher-kva.example", True, True, id="IDN, as browsers write it"
        ),
        pytest.param("https://chat.example", "chat.example", False, True, id="a proxy ends TLS before us"),
        pytest.param("http://chat.example", "chat.example", True, False, id="an http page, and a secure server"),
        pytest.param("HTTP://chat.example", "chat.example", True, False, id="an http page in capitals"),
        pytest.param("https://chat.example", "chat.example:80", False, False, id="the host names another port"),
        pytest.param("http://localhost:3000", "localhost:8000", False, False, id="another port"),
        pytest.param("http://localhost", "localhost:8000", False, False, id="no port, and the host on one"),
        pytest.param("http://127.0.0.1:8000", "localhost:8000", False, False, id="another name of the same machine"),
        pytest.param("http://[::1]:8000", "[::2]:8000", False, False, id="another IPv6"),
        pytest.param("https://bücher.example", "xn--bcher-kva.example", True, False, id="IDN as no browser writes it"),
        pytest.param("https://\u212a.example", "k.example", True, False, id="a sign that is a letter in small"),
        pytest.param("https://chat.example", "", True, False, id="no host"),
        pytest.param("https://chat.example", "alice@chat.example", True, False, id="userinfo in the host"),
        pytest.param("https://chat.example", "chat.example/", True, False, id="a path in the host"),
        pytest.param("https://chat.example", "chat.example,evil.example", True, False, id="two hosts"),
        pytest.param("https://chat.example", "evil.example", True, False, id="another host"),
        pytest.param("https://chat.example", "[", True, False, id="a host that is none"),
    ],
)
def test_without_a_list_the_origin_must_be_that_of_the_host(origin: str, host: str, secure: bool, may: bool) -> None:
    assert allowed(origin, host=host, secure=secure) is may


LIST = ("https://app.example", "http://localhost:3000", "https://other.example:8443")


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
@pytest.mark.parametrize("host", ["chat.example", "app.example", ""])
@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("https://app.example", True),
        ("https://app.example:443", True),
        ("HTTPS://APP.EXAMPLE", True),
        ("http://localhost:3000", True),
        ("https://other.example:8443", True),
        ("http://app.example", False),
        ("http://app.example:443", False),
        ("https://app.example:8443", False),
        ("https://other.example", False),
        ("http://localhost", False),
        ("https://localhost:3000", False),
        ("https://chat.example", False),
        ("https://app.example.evil.example", False),
        ("https://xapp.example", False),
    ],
)
def test_with_a_list_the_list_alone_decides(origin: str, may: bool, host: str, secure: bool) -> None:
    assert allowed(origin, host=host, secure=secure, by=LIST) is may


@pytest.mark.parametrize("entry", ["*", "app.example", "https://*.app.example", "", "null", "https://app.example/x"])
def test_a_list_knows_origins_and_nothing_else(entry: str) -> None:
    assert not allowed("https://app.example", by=(entry,))
    assert not allowed("https://sub.app.example", by=(entry,))


hosts = st.from_regex(r"[a-z]{1,6}(\.[a-z]{1,6}){0,2}", fullmatch=True)


@given(hosts, hosts, st.sampled_from(["", ":80", ":443", ":8000"]), st.sampled_from(["http", "https"]))
def test_another_host_may_not_come(host: str, other: str, port: str, scheme: str) -> None:
    assert allowed(f"{scheme}://{host}{port}", host=f"{host}{port}")
    assume(host != other)
    assert not allowed(f"{scheme}://{other}{port}", host=f"{host}{port}")
    assert not allowed(f"{scheme}://{other}{port}", by=(f"{scheme}://{host}{port}",))


@given(st.text(), st.text(), st.booleans(), st.lists(st.text(), max_size=2))
def test_whatever_the_headers_are_there_is_an_answer(origin: str, host: str, secure: bool, by: list[str]) -> None:
    assert origin_allowed([origin], host, secure=secure, allowed=by) in (True, False)


# --- ids, principals, handshakes


@pytest.mark.parametrize(
    ("id", "valid"),
    [
        ("a", True),
        ("x" * 128, True),
        ("AZaz09._:@-", True),
        ("alice@example.org", True),
        ("..", True),
        ("", False),
        ("x" * 129, False),
        ("a b", False),
        ("a/b", False),
        ("a\n", False),
        ("\na", False),
        ("a\x00", False),
        ("é", False),
        ("\u0661", False),
        ("a%20b", False),
        ("a+b", False),
    ],
)
def test_an_id_is_1_to_128_of_its_alphabet(id: str, valid: bool) -> None:
    assert valid_id(id) is valid


def handshake() -> Handshake:
    made = Handshake(
        {
            "type": "websocket",
            "path": "/ws/w",
            "query_string": b"token=a-secret",
            "headers": [(b"authorization", b"Bearer a-secret"), (b"cookie", b"session=1")],
            "subprotocols": ["bearer.a-secret"],
        }
    )
    made.workspace_id = "w"
    made.token = "a-secret"
    return made


def test_a_handshake_is_starlettes_connection() -> None:
    assert handshake().cookies == {"session": "1"}
    assert handshake().headers["authorization"] == "Bearer a-secret"
    assert handshake().query_params["token"] == "a-secret"


def test_a_handshake_shows_no_token() -> None:
    assert repr(handshake()) == str(handshake()) == f"{handshake()}" == "<Handshake of w>"


def test_a_principal_shows_no_claims_and_has_none_unless_told() -> None:
    assert repr(Principal("alice", 2.0, 1.0, claims={"secret": 1})) == (
        "Principal(user_id='alice', expires_at=2.0, issued_at=1.0, grace=25.0)"
    )
    assert Principal("alice") == Principal("alice", None, None, 25.0, {})
    assert Principal("alice").claims == {}
