"""The numbers of an application.

Each is a field here and a variable of the environment: `_environ` has the rule.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from ipaddress import ip_network
from typing import Any, Literal

import attrs

from jackfield._handshake import origin_allowed

__all__ = ["Settings"]

SECONDS = {"unit": "seconds"}


def _positive(_: object, field: attrs.Attribute[Any], value: float) -> None:
    if not value > 0 or not math.isfinite(value):
        raise ValueError(f"{field.name} must be more than 0")


def _origins(_: object, field: attrs.Attribute[Any], value: Collection[str]) -> None:
    for origin in value:
        if not origin_allowed([origin], "", secure=False, allowed=[origin]):
            raise ValueError(
                f"{field.name}: {origin!r} is no origin, such as https://chat.example or http://[::1]:8080"
            )


def _networks(_: object, field: attrs.Attribute[Any], value: Collection[str]) -> None:
    for proxy in value:
        try:
            ip_network(proxy, strict=False)
        except ValueError:
            raise ValueError(f"{field.name}: {proxy!r} is no address or network, such as 10.0.0.0/8") from None


def seconds(default: float) -> Any:
    return attrs.field(default=default, validator=_positive, metadata=SECONDS)


def count(default: int) -> Any:
    return attrs.field(default=default, validator=_positive)


@attrs.frozen(kw_only=True)
class Settings:
    """The numbers of an application. Times are in seconds, sizes in bytes."""

    heartbeat_interval: float = seconds(30.0)
    """What clients are told to ping by."""
    heartbeat_timeout: float = seconds(75.0)
    """Silence after which a connection is closed 4003."""
    ping_burst: int = count(10)
    """Pings that a connection may send at once."""
    ping_rate: float = attrs.field(default=1.0, validator=_positive)
    """Pings a second that it may send for good."""
    connections_per_user: int = count(20)
    """Live connections of one user in a workspace; one more is closed 4504."""
    connects_per_address: float = attrs.field(default=20.0, validator=_positive)
    """Upgrades a second from one peer address, each node for itself; more are HTTP 429."""
    max_event_bytes: int = count(16_384)
    """Size of what a client sends; more is closed 1009."""
    outbox_events: int = count(256)
    """Events that wait for a slow connection; more close it 4002."""
    outbox_bytes: int = count(1_048_576)
    """The same in bytes."""
    outbox_budget: int = count(268_435_456)
    """Bytes that wait for all slow connections of a node together; with more, the fullest are closed 4002."""
    write_timeout: float = seconds(10.0)
    """How long a write may get nowhere; then the connection is closed 4002."""
    history_events: int = count(10_000)
    """Durable events that a workspace's log keeps."""
    history_bytes: int = count(67_108_864)
    """The same in bytes."""
    history_age: float = seconds(86_400.0)
    """The same by age."""
    replay_events: int = count(1_000)
    """Missed events that a resuming connection is sent at most; with more it has to load its state afresh."""
    hook_timeout: float = seconds(5.0)
    """How long one call of a hook may take."""
    node_lease: float = seconds(15.0)
    """Silence after which a node is taken for dead."""
    drain_timeout: float = seconds(8.0)
    """How long an orderly end may take."""
    drain_rate: float = attrs.field(default=500.0, validator=_positive)
    """Clients a second that the other nodes can take: a drain spreads its own over as long as that makes."""
    drain_on_signals: bool = False
    """Drain at SIGTERM and SIGINT, before the server hears of them: `jackfield.serving.drain_on_signals`."""
    revoked_for: float = seconds(2_592_000.0)
    """How long a revocation is remembered: as long as the longest token lives."""
    allowed_origins: tuple[str, ...] = attrs.field(default=(), validator=_origins)
    """Origins of browsers' pages that may connect. Without any, a page's origin must be that of `Host`."""
    trusted_proxies: tuple[str, ...] = attrs.field(default=(), validator=_networks)
    """Addresses and networks whose forwarding headers are believed."""
    strict_error_codes: bool = False
    """Only the error codes of the specification: ours become INTERNAL_ERROR, with their name in `data.detail`."""
    reject: Literal["close", "http"] = "close"
    """Refuse a handshake by accepting, an error and a close code, which browsers can read; or by HTTP 401 and 403."""
