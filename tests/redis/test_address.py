"""What a URL says of where Redis is, what things are called there, and how they are sealed."""

from __future__ import annotations

import re
import ssl
import string
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authority import Authority
from jackfield.engine import EngineRefused
from jackfield_redis import RedisEngine
from jackfield_redis._address import Address, parse
from jackfield_redis._names import SHARDS, Names
from jackfield_redis._seal import Open, Sealed, seal_with

SECRET = "Qx7z"
OLD, NEW, OTHER = bytes(range(64)), bytes(64), bytes(range(1, 65))


# --- URLs

FORMS: list[tuple[str, dict[str, Any]]] = [
    ("redis://localhost", {"hosts": (("localhost", 6379),)}),
    ("redis://:7000", {"hosts": (("localhost", 7000),)}),
    ("redis://10.0.0.1:7000/3", {"hosts": (("10.0.0.1", 7000),), "database": 3}),
    ("redis://cache/", {"hosts": (("cache", 6379),)}),
    ("redis://[::1]", {"hosts": (("::1", 6379),)}),
    ("redis://[2001:db8::2]:7000/1", {"hosts": (("2001:db8::2", 7000),), "database": 1}),
    ("redis://ann:pw@h", {"hosts": (("h", 6379),), "username": "ann", "password": "pw"}),
    ("redis://:pw@h", {"hosts": (("h", 6379),), "password": "pw"}),
    ("redis://ann@h", {"hosts": (("h", 6379),), "username": "ann"}),
    ("redis://a%40n:p%2Fw%3A%25%23%3F%40@h", {"username": "a@n", "password": "p/w:%#?@", "hosts": (("h", 6379),)}),
    ("redis://ann:p:w@h", {"username": "ann", "password": "p:w", "hosts": (("h", 6379),)}),
    ("redis://ann:p@w@h", {"username": "ann", "password": "p@w", "hosts": (("h", 6379),)}),
    (
        "redis://h?prefix=chat-1_a&wait=2.5&connections=3",
        {"hosts": (("h", 6379),), "prefix": "chat-1_a", "wait": 2.5, "connections": 3},
    ),
    ("redis+sentinel://a,b:1,[::1]:2/main", {"hosts": (("a", 26379), ("b", 1), ("::1", 2)), "service": "main"}),
    ("redis+sentinel://a/my%20main/2", {"hosts": (("a", 26379),), "service": "my main", "database": 2}),
    (
        "redis+sentinel://ann:pw@a/m?sentinel_user=s%40&sentinel_password=p%2F",
        {
            "hosts": (("a", 26379),),
            "service": "m",
            "username": "ann",
            "password": "pw",
            "sentinel_username": "s@",
            "sentinel_password": "p/",
        },
    ),
    ("redis+cluster://a,b:7001,[::1]:7002", {"hosts": (("a", 6379), ("b", 7001), ("::1", 7002)), "cluster": True}),
]


@pytest.mark.parametrize(("url", "expected"), FORMS, ids=[url for url, _ in FORMS])
def test_a_url_says_where_it_is(url: str, expected: dict[str, Any]) -> None:
    shown = re.sub(r"//.*@", "//", url.partition("?")[0])
    assert parse(url) == Address(shown, **expected)


@pytest.mark.parametrize("scheme", ["rediss", "rediss+sentinel", "rediss+cluster"])
def test_tls_is_for_every_kind_and_asks_for_the_name_of_the_host(scheme: str) -> None:
    context = parse(f"{scheme}://h{'/main' if 'sentinel' in scheme else ''}").tls
    assert context is not None
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


BEGINS = "a URL of Redis begins with redis:// or rediss://, with +sentinel or +cluster before the ://"
ENCODED = 'in a user, a password or a setting "/" is written %2F, "?" %3F, "#" %23 and "@" %40'
HOST = "a host is written localhost:6379 or [::1]:6379, with a number behind the colon"
NAMES = "ca, cert, connections, key, keys, prefix, sentinel_password, sentinel_user, wait"
ERRORS = {
    "": BEGINS,
    "localhost:6379": BEGINS,
    "http://h": BEGINS,
    "redis+other://h": BEGINS,
    "redis+://h": BEGINS,
    f"ann:{SECRET}@h": BEGINS,
    "redis://": "redis:// must name a host, such as redis://localhost",
    "redis+cluster://,": "redis+cluster:// must name a host, such as redis+cluster://localhost",
    "redis://a,b": "several hosts are redis+sentinel:// or redis+cluster://",
    "rediss://a,b": "several hosts are rediss+sentinel:// or rediss+cluster://",
    "redis://h:x": HOST,
    "redis://h:": HOST,
    "redis://::1": HOST,
    "redis://[::1": HOST,
    "redis://[::1]x": HOST,
    "redis://a b": HOST,
    f"redis://ann:{SECRET}": HOST,  # who forgets the host
    "redis://h:0": "a port is a number from 1 to 65535",
    "redis://h:65536": "a port is a number from 1 to 65535",
    f"redis://ann:{SECRET}/x@h": ENCODED,
    f"redis://ann:x?{SECRET}@h": ENCODED,
    f"redis://ann:x#{SECRET}@h": ENCODED,
    f"redis://ann:x@{SECRET}/y@h/0": ENCODED,
    "redis://h/0#top": ENCODED,
    "redis://h/x": "at the end of the path stands the number of a database, such as redis://localhost/0",
    "redis://h/-1": "at the end of the path stands the number of a database, such as redis://localhost/0",
    "redis://h/1/2": "at the end of the path stands the number of a database, such as redis://localhost/0",
    "redis+sentinel://h/m/x": (
        "at the end of the path stands the number of a database, such as redis+sentinel://localhost/mymaster/0"
    ),
    "redis+sentinel://h": "redis+sentinel:// must name the service, such as redis+sentinel://localhost/mymaster",
    "redis+cluster://h/0": "a cluster has one database, and none is named in its URL",
    "redis://h?colour=red": f'redis:// has no setting "colour"; there are {NAMES}',
    "redis://h?wait=1&wait=2": "wait= stands there twice",
    "redis://h?wait=soon": 'wait="soon" is not a number of seconds',
    "redis://h?wait": 'wait="" is not a number of seconds',
    "redis://h?wait=-1": 'wait="-1" is not a number of seconds',
    "redis://h?wait=inf": 'wait="inf" is not a number of seconds',
    "redis://h?wait=nan": 'wait="nan" is not a number of seconds',
    "redis://h?connections=0": 'connections="0" is not a number of connections',
    "redis://h?connections=2.5": 'connections="2.5" is not a number of connections',
    "redis://h?prefix=": 'prefix="" must be letters, digits, "-" and "_"',
    "redis://h?prefix=a:b": 'prefix="a:b" must be letters, digits, "-" and "_"',
    "redis://h?prefix=%C3%A9": 'prefix="é" must be letters, digits, "-" and "_"',
    "redis://h?sentinel_password=x": "sentinel_password= is for redis+sentinel://",
    "redis+cluster://h?sentinel_user=x": "sentinel_user= is for redis+sentinel://",
    "redis://h?ca=x": "ca= is for TLS, which is rediss://",
    "redis://h?cert=x&key=y": "cert= is for TLS, which is rediss://",
    "rediss://h?cert=x": "a client's certificate is two files: cert= and key=",
    "rediss://h?key=x": "a client's certificate is two files: cert= and key=",
    "rediss://h?ca=/nowhere": "ca=/nowhere cannot be used: [Errno 2] No such file or directory",
    "redis://h?keys=/nowhere": "keys=/nowhere cannot be used: [Errno 2] No such file or directory: '/nowhere'",
}


@pytest.mark.parametrize("url", ERRORS)
def test_what_is_no_url_is_refused_in_a_line_without_a_secret(url: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        RedisEngine.from_url(url)
    assert str(caught.value) == ERRORS[url]
    assert SECRET not in str(caught.value)


@given(user=st.text(max_size=20), password=st.text(max_size=20))
def test_user_and_password_may_be_anything_that_is_percent_encoded(user: str, password: str) -> None:
    address = parse(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@h:1/2")
    assert (address.username, address.password) == (user or None, password or None)
    assert address.hosts == (("h", 1),)


@given(st.text(string.ascii_letters + string.digits + "/?#@:%&=+[], ", max_size=60))
def test_whatever_it_is_it_is_an_address_or_a_value_error(rest: str) -> None:
    try:
        address = parse(f"redis://{rest}")
    except ValueError as error:
        said = str(error)
    else:
        said = str(address)
        assert all(0 < port < 65_536 for _, port in address.hosts)
    assert "\n" not in said


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(OLD.hex())
    url = f"redis+sentinel://{SECRET}1:{SECRET}2@h/m?sentinel_user={SECRET}3&sentinel_password={SECRET}4&keys={keys}"
    address = parse(url)
    assert (address.username, address.sentinel_password) == (f"{SECRET}1", f"{SECRET}4")
    for shown in (str(address), repr(address), repr(RedisEngine.from_url(url))):
        assert SECRET not in shown
        assert OLD.hex() not in shown
        assert repr(OLD) not in shown
    assert str(address) == "redis+sentinel://h/m"
    assert repr(RedisEngine.from_url(url)) == "RedisEngine(redis+sentinel://h/m)"


def test_files_for_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("node")
    locked = authority.sign("locked", passphrase=b"x")
    context = parse(f"rediss://h?ca={authority.ca}&cert={cert}&key={key}").tls
    assert context is not None
    assert [one["serialNumber"] for one in context.get_ca_certs()]
    assert len(context.get_ca_certs()) == 1, "and no other authority"
    for query in (f"ca={key}", f"cert={key}&key={key}", f"cert={cert}&key={locked[1]}", f"cert={cert}&key={cert}"):
        with pytest.raises(ValueError, match=rf"^{re.escape(query.replace('&', ' or '))} cannot be used: [^\n]+$"):
            parse(f"rediss://h?{query}")
    with pytest.raises(ValueError, match=r"cannot be used: the key wants a passphrase$"):
        parse(f"rediss://h?cert={locked[0]}&key={locked[1]}")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "there is none; openssl rand -hex 64 makes one"),
        (b"xyz", "non-hexadecimal number found in fromhex() arg at position 0"),
        (b"\xff\xfe", "it is no text"),
        (b"00" * 5, "a key to seal with has 32, 48 or 64 bytes, not 5; openssl rand -hex 64 makes one"),
    ],
)
def test_a_file_of_keys_that_has_none(tmp_path: Path, text: bytes, why: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"^{re.escape(f'keys={path} cannot be used: {why}')}$"):
        parse(f"redis://h?keys={path}")


def test_a_file_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{NEW.hex()}\n{OLD.hex()}\n")
    assert parse(f"redis://h?keys={path}").keys == (NEW, OLD)


# --- Names


def test_all_of_a_workspace_has_one_tag() -> None:
    names = Names("chat")
    assert names.shards == [f"chat:{{{n}}}" for n in range(SHARDS)]
    assert names.shard("w") == f"chat:{{{crc32(b'w') % SHARDS}}}"
    assert {names.shard(f"w{n}") for n in range(500)} == set(names.shards)
    assert names.bus("w") == f"{names.shard('w')}:w/bus"
    assert names.pulse("f").startswith("chat/pulse/")


@given(st.text())
def test_a_bus_says_whose_it_is(workspace: str) -> None:
    names = Names("jackfield")
    assert names.workspace(names.bus(workspace)) == workspace
    assert names.workspace(names.pulse("f")) == ""


# --- Seals

PLACES = st.lists(st.text(max_size=8), max_size=4).map(tuple)


@given(st.binary(max_size=200), PLACES)
def test_what_is_sealed_is_read_and_looks_like_nothing(value: bytes, place: tuple[str, ...]) -> None:
    seal = seal_with([OLD])
    written = seal.close(value, *place)
    assert seal.open(written, *place) == value
    assert seal.close(value, *place) == written, "the same makes the same, or nothing could be compared"
    assert len(value) < 8 or value not in written
    assert list(seal.ways(value, *place)) == [written]


@given(st.binary(max_size=50), PLACES, PLACES)
def test_what_is_sealed_for_one_place_is_refused_in_another(
    value: bytes, place: tuple[str, ...], other: tuple[str, ...]
) -> None:
    seal = seal_with([OLD])
    if place != other:
        with pytest.raises(EngineRefused, match=r"was not sealed by any of the keys$"):
            seal.open(seal.close(value, *place), *other)


@given(st.binary(max_size=50), PLACES, st.data())
def test_any_bit_that_is_flipped_is_noticed(value: bytes, place: tuple[str, ...], data: st.DataObject) -> None:
    seal = seal_with([OLD])
    written = bytearray(seal.close(value, *place))
    bit = data.draw(st.integers(0, 8 * len(written) - 1))
    written[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EngineRefused):
        seal.open(bytes(written), *place)


@given(st.binary(max_size=100))
def test_what_others_wrote_is_refused(written: bytes) -> None:
    with pytest.raises(EngineRefused, match=r"^what stands at w/cell/polls/a was not sealed by any of the keys$"):
        seal_with([OLD, NEW]).open(written, "w", "cell", "polls", "a")


@given(st.binary(max_size=50), PLACES)
def test_the_first_key_seals_and_all_open(value: bytes, place: tuple[str, ...]) -> None:
    before, between, after, others = seal_with([OLD]), seal_with([OLD, NEW]), seal_with([NEW, OLD]), seal_with([OTHER])
    assert between.close(value, *place) == before.close(value, *place)
    assert after.close(value, *place) == seal_with([NEW]).close(value, *place)
    assert between.open(after.close(value, *place), *place) == value
    assert after.open(before.close(value, *place), *place) == value
    assert set(between.ways(value, *place)) == {before.close(value, *place), after.close(value, *place)}
    for refused in (before, others):
        with pytest.raises(EngineRefused):
            refused.open(after.close(value, *place), *place)


def test_without_keys_nothing_is_sealed() -> None:
    seal = seal_with([])
    assert isinstance(seal, Open)
    assert (seal.close(b"x", "p"), seal.open(b"x", "p"), list(seal.ways(b"x", "p"))) == (b"x", b"x", [b"x"])
    assert isinstance(seal_with([OLD]), Sealed)


@pytest.mark.parametrize("length", [32, 48, 64])
def test_keys_of_each_length(length: int) -> None:
    seal = seal_with([bytes(length)])
    assert seal.open(seal.close(b"x", "p"), "p") == b"x"
