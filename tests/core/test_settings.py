"""The numbers of an application: those of the specification, and that none can be nonsense."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from jackfield import ConfigurationError, Jackfield, Settings
from jackfield._environ import known_variables

SECRET = "a secret of at least thirty-two bytes"

# The table of the specification (the wire, section 10), name by name.
TABLE: dict[str, Any] = {
    "PRESENCE_GRACE": 20,
    "PRESENCE_AWAY_AFTER": 600,
    "PRESENCE_CLIENT_STATUS": True,
    "NODE_LEASE": 15,
    "TYPING_EXPIRES_AFTER": 6,
    "RATE_LIMIT_EVENTS": 120,
    "RATE_LIMIT_PER": 60,
    "RATE_LIMIT_BURST": 20,
    "CONNECTIONS_PER_USER": 20,
    "CONNECTS_PER_ADDRESS": 20,
    "HEARTBEAT_INTERVAL": 30,
    "HEARTBEAT_TIMEOUT": 75,
    "TOKEN_GRACE": 25,
    "TOKEN_MAX_LIFETIME": 2_592_000,
    "TOKEN_REFRESH": True,
    "MAX_EVENT_BYTES": 16_384,
    "OUTBOX_EVENTS": 256,
    "OUTBOX_BYTES": 1_048_576,
    "WRITE_TIMEOUT": 10,
    "HISTORY_EVENTS": 10_000,
    "HISTORY_BYTES": 67_108_864,
    "HISTORY_AGE": 86_400,
    "REPLAY_EVENTS": 1_000,
    "DRAIN_TIMEOUT": 8,
    "HOOK_TIMEOUT": 5,
    "TRUSTED_PROXIES": (),
    "STRICT_ERROR_CODES": False,
    "REJECT": "close",
}
# What there is beside it: named elsewhere in the specification, or ours.
BESIDE: dict[str, Any] = {
    "SECRET": attrs.NOTHING,
    "API_KEY": None,
    "HTTP_DOCS": True,
    "ALLOWED_ORIGINS": (),
    "TOKEN_ALGORITHM": "HS256",
    "TOKEN_AUDIENCE": None,
    "TOKEN_ISSUER": None,
    "OUTBOX_BUDGET": 268_435_456,
    "PRESENCE_BROADCAST_LIMIT": 1_000,
    "PING_BURST": 10,
    "PING_RATE": 1,
    "REVOKED_FOR": 2_592_000,
    "DRAIN_RATE": 500,
    "DRAIN_ON_SIGNALS": False,
}
OTHER: dict[str, tuple[str, Any]] = {
    "PRESENCE_CLIENT_STATUS": ("false", False),
    "TOKEN_REFRESH": ("no", False),
    "STRICT_ERROR_CODES": ("1", True),
    "DRAIN_ON_SIGNALS": ("true", True),
    "HTTP_DOCS": ("false", False),
    "TRUSTED_PROXIES": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    "ALLOWED_ORIGINS": ("https://a.example,http://[::1]:3000", ("https://a.example", "http://[::1]:3000")),
    "REJECT": ("http", "http"),
    "TOKEN_ALGORITHM": ("ES256", "ES256"),
    "TOKEN_AUDIENCE": ("chat", "chat"),
    "TOKEN_ISSUER": ("host", "host"),
    "API_KEY": ("the key", "the key"),
    "SECRET": (SECRET[::-1], SECRET[::-1]),
    "TOKEN_MAX_LIFETIME": ("3600.5", 3600.5),
}
"""What sets a variable to something else, and what that is; the others are numbers."""

PUBLIC_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEwFIUQvOSN5Oc431tzSTEvkeZBE4I
uKz7D1cZxcU0X3g+RmbkMO46rZwXnD2jjFoaNb73+5Pm0YeQxTXJcmvdCw==
-----END PUBLIC KEY-----
"""
"""What ES256 takes for a secret."""


def test_the_variables_are_those_of_the_table_and_their_defaults_are_its() -> None:
    found = {name.removeprefix("JACKFIELD_"): variable.default for name, variable in known_variables().items()}
    assert found == {**TABLE, **BESIDE}


@pytest.mark.parametrize("name", [*TABLE, *BESIDE])
def test_every_variable_sets_its_field(name: str) -> None:
    variable = known_variables()[f"JACKFIELD_{name}"]
    text, value = OTHER.get(name, ("7", 7))
    secret = PUBLIC_KEY if name == "TOKEN_ALGORITHM" else SECRET
    app = Jackfield.from_environ({"JACKFIELD_SECRET": secret, f"JACKFIELD_{name}": text})
    owner = app.settings if variable.plugin is None else app.plugins.objects[variable.plugin]
    found = getattr(owner, variable.field.name)
    assert found == value
    assert type(found) is type(value) or isinstance(found, float)
    assert name == "SECRET" or found != variable.default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("PRESENCE_GRACE", "0", 0.0),
        ("PRESENCE_GRACE", " 2.5 ", 2.5),
        ("RATE_LIMIT_PER", "1e2", 100.0),
        ("OUTBOX_EVENTS", "20.0", 20),
        ("TOKEN_REFRESH", "TRUE", True),
        ("TOKEN_AUDIENCE", "", None),
        ("API_KEY", "  ", None),
        ("ALLOWED_ORIGINS", "", ()),
        ("ALLOWED_ORIGINS", "https://a.example,", ("https://a.example",)),
    ],
)
def test_how_values_may_be_written(name: str, text: str, value: object) -> None:
    variable = known_variables()[f"JACKFIELD_{name}"]
    app = Jackfield.from_environ({"JACKFIELD_SECRET": SECRET, f"JACKFIELD_{name}": text})
    owner = app.settings if variable.plugin is None else app.plugins.objects[variable.plugin]
    assert getattr(owner, variable.field.name) == value


NUMBERS = [field.name for field in attrs.fields(Settings) if isinstance(field.default, int | float) and field.default]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_no_number_can_be_nonsense(name: str, value: float) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"^{name} must be more than 0$"):
        Settings(**arguments)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "1e999", "soon", "", "0x10", "1;2"])
def test_nor_in_the_environment(name: str, text: str) -> None:
    variable = f"JACKFIELD_{name.upper()}"
    with pytest.raises(ConfigurationError) as caught:
        Jackfield.from_environ({"JACKFIELD_SECRET": SECRET, variable: text})
    said = str(caught.value)
    assert said.startswith(f'{variable}="{text}"')
    assert "\n" not in said


@pytest.mark.parametrize(
    "origin",
    ["*", "https://*.chat.example", "null", "chat.example", "https://chat.example/", "ftp://a", "https://u@a", ""],
)
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=r"^allowed_origins: .* is no origin, such as"):
        Settings(allowed_origins=(origin,))


@pytest.mark.parametrize("proxy", ["proxy.example", "10.0.0.0/99", "", "1.2.3.4:80"])
def test_a_proxy_that_is_no_address_is_refused(proxy: str) -> None:
    with pytest.raises(ValueError, match=r"^trusted_proxies: .* is no address or network, such as"):
        Settings(trusted_proxies=(proxy,))


def test_hosts_bits_in_a_network_are_no_mistake() -> None:
    assert Settings(trusted_proxies=("10.1.2.3/8", "::1")).trusted_proxies == ("10.1.2.3/8", "::1")
