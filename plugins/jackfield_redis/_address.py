"""Where Redis is, as a URL says it."""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote

import attrs

from jackfield_redis._seal import seal_with

__all__ = ["Address", "parse"]

PORT, SENTINEL_PORT = 6379, 26379
SETTINGS = ("ca", "cert", "connections", "key", "keys", "prefix", "sentinel_password", "sentinel_user", "wait")


@attrs.frozen
class Address:
    """One Redis, or the Sentinels or some nodes of a cluster that know the others."""

    url: str
    """As it may be shown: without user, password and settings."""
    hosts: tuple[tuple[str, int], ...]
    cluster: bool = False
    service: str | None = None
    """What Sentinel calls it."""
    database: int = 0
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    sentinel_username: str | None = attrs.field(default=None, repr=False)
    sentinel_password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    prefix: str = "jackfield"
    wait: float = 0.0
    connections: int = 8
    keys: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        return self.url


def parse(url: str) -> Address:
    """`redis://[user:password@]host[:port][/database]`, `rediss://…` by TLS, and with `+sentinel` (then the path is
    `/service[/database]`) or `+cluster` behind the scheme several hosts with commas between them; and behind a `?` the
    settings. Raises ValueError, which shows nothing that could be a piece of a password."""
    full_scheme, separator, rest = url.partition("://")
    scheme, plus, kind = full_scheme.partition("+")
    if not separator or scheme not in ("redis", "rediss") or (plus and kind not in ("sentinel", "cluster")):
        raise ValueError("a URL of Redis begins with redis:// or rediss://, with +sentinel or +cluster before the ://")
    authority, tail = _split(rest)
    credentials, _, names = authority.rpartition("@")
    path, _, query = tail.partition("?")
    username, _, password = credentials.partition(":")
    hosts = tuple(_host(name, SENTINEL_PORT if kind == "sentinel" else PORT) for name in names.split(",") if name)
    if not hosts:
        raise ValueError(f"{full_scheme}:// must name a host, such as {full_scheme}://localhost")
    if not kind and len(hosts) > 1:
        raise ValueError(f"several hosts are {scheme}+sentinel:// or {scheme}+cluster://")
    service, database = _path(path, full_scheme, kind)
    settings = _settings(query, full_scheme)
    for name in ("sentinel_password", "sentinel_user"):
        if name in settings and kind != "sentinel":
            raise ValueError(f"{name}= is for {scheme}+sentinel://")
    return Address(
        f"{full_scheme}://{names}{path}",
        hosts,
        cluster=kind == "cluster",
        service=service,
        database=database,
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=settings.get("sentinel_user") or None,
        sentinel_password=settings.get("sentinel_password") or None,
        tls=_tls(scheme, settings),
        prefix=_prefix(settings.get("prefix", "jackfield")),
        wait=_seconds(settings.get("wait", "0")),
        connections=_connections(settings.get("connections", "8")),
        keys=_keys(settings.get("keys")),
    )


def _split(rest: str) -> tuple[str, str]:
    """What names the hosts, and what is behind it."""
    end = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    if "@" in tail or "#" in tail:  # whatever was meant, a piece of a password would be taken for something else
        raise ValueError('in a user, a password or a setting "/" is written %2F, "?" %3F, "#" %23 and "@" %40')
    return authority, tail


def _host(name: str, default: int) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:\s]*))(?::([0-9]+))?", name)
    if found is None:
        raise ValueError("a host is written localhost:6379 or [::1]:6379, with a number behind the colon")
    address, host, port = found.groups()
    if port is not None and not 0 < int(port) < 65_536:
        raise ValueError("a port is a number from 1 to 65535")
    return address or host or "localhost", default if port is None else int(port)


def _path(path: str, full_scheme: str, kind: str) -> tuple[str | None, int]:
    names = [unquote(name) for name in path.strip("/").split("/") if name]
    service = None
    if kind == "sentinel":
        if not names:
            raise ValueError(f"{full_scheme}:// must name the service, such as {full_scheme}://localhost/mymaster")
        service = names.pop(0)
    if not names:
        return service, 0
    if kind == "cluster":
        raise ValueError("a cluster has one database, and none is named in its URL")
    if len(names) > 1 or re.fullmatch(r"[0-9]{1,9}", names[0]) is None:
        example = f"{full_scheme}://localhost{'/mymaster' if kind else ''}/0"
        raise ValueError(f"at the end of the path stands the number of a database, such as {example}")
    return service, int(names[0])


def _settings(query: str, full_scheme: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in SETTINGS:
            raise ValueError(f'{full_scheme}:// has no setting "{name}"; there are {", ".join(SETTINGS)}')
        if name in found:
            raise ValueError(f"{name}= stands there twice")
        found[name] = value
    return found


def _prefix(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", text) is None:
        raise ValueError(f'prefix="{text}" must be letters, digits, "-" and "_"')
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f'wait="{text}" is not a number of seconds')
    return seconds


def _connections(text: str) -> int:
    if re.fullmatch(r"0*[1-9][0-9]{0,5}", text) is None:
        raise ValueError(f'connections="{text}" is not a number of connections')
    return int(text)


def _tls(scheme: str, settings: Mapping[str, str]) -> ssl.SSLContext | None:
    named = [name for name in ("ca", "cert", "key") if name in settings]
    if scheme == "redis":
        if named:
            raise ValueError(f"{named[0]}= is for TLS, which is rediss://")
        return None
    if ("cert" in settings) != ("key" in settings):
        raise ValueError("a client's certificate is two files: cert= and key=")
    try:
        context = ssl.create_default_context(cafile=settings.get("ca"))
        if "cert" in settings:
            context.load_cert_chain(settings["cert"], settings["key"], _no_passphrase)
    except (OSError, ValueError) as error:
        files = " or ".join(f"{name}={settings[name]}" for name in named)
        raise ValueError(f"{files} cannot be used: {error}") from None
    return context


def _no_passphrase() -> NoReturn:
    """OpenSSL would ask whoever sits before the terminal, and wait."""
    raise ValueError("the key wants a passphrase")


def _keys(path: str | None) -> tuple[bytes, ...]:
    if path is None:
        return ()
    try:
        keys = tuple(bytes.fromhex(line) for line in Path(path).read_text("ascii").split())
        if not keys:
            raise ValueError("there is none; openssl rand -hex 64 makes one")
        seal_with(keys)
    except UnicodeDecodeError:
        raise ValueError(f"keys={path} cannot be used: it is no text") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"keys={path} cannot be used: {error}") from None
    return keys
