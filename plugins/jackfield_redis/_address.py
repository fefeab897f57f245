"""Where Redis is, as a URL says it, and a client for it."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import attrs
from coredis import Redis, RedisCluster, Sentinel
from coredis.connection import TCPLocation
from coredis.retry import NoRetryPolicy

__all__ = ["WITHIN", "Address", "parse"]

WITHIN = 2.5
"""Seconds that Redis has to answer; below the three that a commit may take."""
PORT, SENTINEL_PORT = 6379, 26379
SETTINGS = ("ca", "cert", "connections", "key", "keys", "prefix", "wait")

Client = Redis[bytes] | RedisCluster[bytes]


@attrs.frozen
class Address:
    """One Redis, or the Sentinels or some nodes of a cluster that know the others."""

    url: str
    """As it may be shown: without a password."""
    hosts: tuple[tuple[str, int], ...]
    cluster: bool = False
    service: str | None = None
    """What Sentinel calls it."""
    database: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    prefix: str = "jackfield"
    wait: float = 0.0
    connections: int = 8
    keys: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    def __str__(self) -> str:
        return self.url

    @asynccontextmanager
    async def client(self, connections: int) -> AsyncGenerator[Client, None]:
        """Connect to it. What is asked is asked once: whether a second time is harmless, others know."""
        common: dict[str, Any] = {
            "username": self.username,
            "password": self.password,
            "ssl_context": self.tls,
            "connect_timeout": WITHIN,
            "stream_timeout": WITHIN,
            "max_connections": connections,
        }
        locations = [TCPLocation(host, port) for host, port in self.hosts]
        if self.cluster:
            nodes: RedisCluster[bytes] = RedisCluster(
                startup_nodes=locations,
                decode_responses=False,
                retry_policy=NoRetryPolicy(),
                verify_version=False,
                **common,
            )
            async with nodes as cluster:
                yield cluster
        elif self.service is not None:
            asking = {"connect_timeout": WITHIN, "stream_timeout": WITHIN, "max_connections": 2}
            async with (
                Sentinel(locations, sentinel_kwargs=asking, db=self.database, **common) as sentinel,
                sentinel.primary_for(self.service) as primary,
            ):
                yield primary
        else:
            [(host, port)] = self.hosts
            async with Redis(
                host, port, self.database, retry_policy=NoRetryPolicy(), verify_version=False, **common
            ) as client:
                yield client


def parse(url: str) -> Address:
    """`redis://[user:password@]host[:port][/database]`, `rediss://…` by TLS, and with `+sentinel` (then the path is
    `/service[/database]`) or `+cluster` behind the scheme several hosts with commas between them; and behind a `?` the
    settings. Raises ValueError."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss") or kind not in ("", "sentinel", "cluster"):
        raise ValueError(f"{parts.scheme}:// is none of redis, rediss, with +sentinel or +cluster")
    credentials, _, names = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    hosts = tuple(_host(name, SENTINEL_PORT if kind == "sentinel" else PORT) for name in names.split(",") if name)
    if not hosts:
        raise ValueError(f"{parts.scheme}:// must name a host, such as {parts.scheme}://localhost:{PORT}")
    if kind == "" and len(hosts) > 1:
        raise ValueError(f"several hosts are {scheme}+sentinel:// or {scheme}+cluster://")
    service, database = _path(parts, kind)
    settings = _settings(parts)
    return Address(
        f"{parts.scheme}://{names}{parts.path}",
        hosts,
        cluster=kind == "cluster",
        service=service,
        database=database,
        username=unquote(username) or None,
        password=unquote(password) or None,
        tls=_tls(scheme, settings),
        prefix=settings.get("prefix", "jackfield"),
        wait=_number(settings, "wait", 0.0),
        connections=max(1, int(_number(settings, "connections", 8))),
        keys=_keys(settings.get("keys")),
    )


def _host(name: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{name}")
        return parts.hostname or "localhost", parts.port or port
    except ValueError:
        raise ValueError(f'"{name}" is no host and port') from None


def _path(parts: SplitResult, kind: str) -> tuple[str | None, int]:
    names = [unquote(name) for name in parts.path.strip("/").split("/") if name]
    service = None
    if kind == "sentinel":
        if not names:
            raise ValueError(f"{parts.scheme}:// must name the service, such as {parts.scheme}://host/mymaster")
        service = names.pop(0)
    if not names:
        return service, 0
    if kind == "cluster":
        raise ValueError("a cluster has one database, and none is named in its URL")
    if len(names) > 1 or not names[0].isdecimal():
        raise ValueError(f'"{"/".join(names)}" is no number of a database')
    return service, int(names[0])


def _settings(parts: SplitResult) -> Mapping[str, str]:
    found = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    for name in found:
        if name not in SETTINGS:
            raise ValueError(f'{parts.scheme}:// has no setting "{name}"; there are {", ".join(SETTINGS)}')
    if not found.get("prefix", "jackfield").replace("-", "").replace("_", "").isalnum():
        raise ValueError(f'prefix="{found["prefix"]}" must be letters, digits, "-" and "_"')
    return found


def _number(settings: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(settings.get(name, default))
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f'{name}="{settings[name]}" is not a number of {"seconds" if name == "wait" else name}')
    return number


def _tls(scheme: str, settings: Mapping[str, str]) -> ssl.SSLContext | None:
    named = [name for name in ("ca", "cert", "key") if name in settings]
    if scheme == "redis":
        if named:
            raise ValueError(f'"{named[0]}" is for TLS, which is rediss://')
        return None
    if ("cert" in settings) != ("key" in settings):
        raise ValueError("a client's certificate is two files: cert and key")
    try:
        context = ssl.create_default_context(cafile=settings.get("ca"))
        if "cert" in settings:
            context.load_cert_chain(settings["cert"], settings["key"])
    except OSError as error:
        raise ValueError(f"{' or '.join(settings[name] for name in named)} cannot be used: {error}") from None
    return context


def _keys(path: str | None) -> tuple[bytes, ...]:
    if path is None:
        return ()
    try:
        lines = Path(path).read_text("ascii").split()
        keys = tuple(bytes.fromhex(line) for line in lines)
    except (OSError, ValueError) as error:
        raise ValueError(f"keys={path} cannot be read: {error}") from None
    if not keys:
        raise ValueError(f"keys={path} holds none; a line of it is made by openssl rand -hex 64")
    return keys
