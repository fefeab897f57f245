"""The environment: the rule, and what it says when something is wrong, word by word."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any, Literal

import attrs
import pytest

from jackfield import ConfigurationError, Jackfield, MemoryEngine, _points
from jackfield._environ import known_variables

ENGINES = "memory://, redis+cluster://, redis+sentinel://, redis://, rediss+cluster://, rediss+sentinel://, rediss://, sqlite://"
SECRET = "a secret of at least thirty-two bytes"
LINE = 'Make one: python -c "import secrets; print(secrets.token_urlsafe(32))"'

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """`install(polls=Polls)`: a stranger's distribution with these entry points."""
    real = _points.entry_points
    module = ModuleType("strangers")
    vars(module).update(Collection=Collection, Literal=Literal)  # what their annotations speak of
    monkeypatch.setitem(sys.modules, "strangers", module)
    added: list[EntryPoint] = []

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        ours = real(group=group) if name is None else real(group=group, name=name)
        return [*ours, *(point for point in added if point.group == group and name in (None, point.name))]

    def add(group: str = "jackfield", **classes: object) -> None:
        for name, value in classes.items():
            if isinstance(value, str):
                added.append(EntryPoint(name, value, group))
            else:
                attribute = getattr(value, "__name__", name)
                setattr(module, attribute, value)
                if isinstance(value, type):
                    value.__module__, value.__qualname__ = "strangers", attribute
                added.append(EntryPoint(name, f"strangers:{attribute}", group))

    monkeypatch.setattr(_points, "entry_points", entry_points)
    return add


def refused(environ: Mapping[str, str], *plugins: str) -> str:
    """What is said of an environment."""
    with pytest.raises(ConfigurationError) as caught:
        Jackfield.from_environ(environ, plugins=plugins or _points.SHIPPED)
    said = str(caught.value)
    assert "\n" not in said
    return said


def build(environ: Mapping[str, str], *plugins: str) -> dict[str, Any]:
    """The plugins that an environment makes, by name."""
    return Jackfield.from_environ({"JACKFIELD_SECRET": SECRET, **environ}, plugins=plugins).plugins.objects


# --- The errors of the specification


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"JACKFIELD_PRESENCE_GRACEE": "3"},
            "JACKFIELD_PRESENCE_GRACEE is not a setting. Did you mean JACKFIELD_PRESENCE_GRACE?",
        ),
        (
            {"JACKFIELD_PRESENCE_GRACE": "soon"},
            'JACKFIELD_PRESENCE_GRACE="soon" is not a number of seconds (jackfield_presence.Presence.grace).',
        ),
        ({"JACKFIELD_SECRET": ""}, f'JACKFIELD_SECRET is not set; plugin "token" needs it. {LINE}'),
        ({"JACKFIELD_SECRET": " \n"}, f'JACKFIELD_SECRET is not set; plugin "token" needs it. {LINE}'),
        (
            {"JACKFIELD_SECRET": "short"},
            f"JACKFIELD_SECRET: secret has 5 bytes; HS256 needs at least 32. {LINE}.",
        ),
        ({"JACKFIELD_FLAVOUR": "1"}, "JACKFIELD_FLAVOUR is not a setting. All of them: jackfield serve --help"),
        ({"JACKFIELD_ENGIN": "1"}, "JACKFIELD_ENGIN is not a setting. Did you mean JACKFIELD_ENGINE?"),
        (
            {"JACKFIELD_presence_grace": "1"},
            "JACKFIELD_presence_grace is not a setting. All of them: jackfield serve --help",
        ),
        (
            {"JACKFIELD_OUTBOX_EVENTS": "2.5"},
            'JACKFIELD_OUTBOX_EVENTS="2.5" is not a whole number (Settings.outbox_events).',
        ),
        (
            {"JACKFIELD_RATE_LIMIT_EVENTS": "-1"},
            'JACKFIELD_RATE_LIMIT_EVENTS="-1" is not a number (jackfield_rate_limit.RateLimit.events).',
        ),
        (
            {"JACKFIELD_TYPING_EXPIRES_AFTER": "0"},
            'JACKFIELD_TYPING_EXPIRES_AFTER="0": expires_after must be more than 0.',
        ),
        (
            {"JACKFIELD_TOKEN_MAX_LIFETIME": "0"},
            "JACKFIELD_TOKEN_MAX_LIFETIME=\"0\": 'max_lifetime' must be > 0: 0.0.",
        ),
        (
            {"JACKFIELD_TOKEN_GRACE": "nan"},
            'JACKFIELD_TOKEN_GRACE="nan" is not a number of seconds (jackfield_auth.JWTAuth.grace).',
        ),
        (
            {"JACKFIELD_TOKEN_REFRESH": "maybe"},
            'JACKFIELD_TOKEN_REFRESH="maybe" is not true or false (jackfield_auth.JWTAuth.refresh).',
        ),
        ({"JACKFIELD_REJECT": "tcp"}, 'JACKFIELD_REJECT="tcp" is not one of close, http (Settings.reject).'),
        (
            {"JACKFIELD_ALLOWED_ORIGINS": "https://a/"},
            "JACKFIELD_ALLOWED_ORIGINS=\"https://a/\": allowed_origins: 'https://a/' is no origin, "
            "such as https://chat.example or http://[::1]:8080.",
        ),
        (
            {"JACKFIELD_TRUSTED_PROXIES": "::1,proxy"},
            "JACKFIELD_TRUSTED_PROXIES=\"::1,proxy\": trusted_proxies: 'proxy' is no address or network, "
            "such as 10.0.0.0/8.",
        ),
        (
            {"JACKFIELD_HOOK_TIMEOUT": 'a"b\nc\x1b[31m'},
            'JACKFIELD_HOOK_TIMEOUT="a\\"b\\nc\\u001b[31m" is not a number of seconds (Settings.hook_timeout).',
        ),
        ({"JACKFIELD_ENGINE": "memory"}, f"JACKFIELD_ENGINE is no URL. There are: {ENGINES}."),
        (
            {"JACKFIELD_ENGINE": "carrier+pigeon://x"},
            f"JACKFIELD_ENGINE: no engine for carrier+pigeon://. There are: {ENGINES}.",
        ),
    ],
)
def test_the_words(environ: Mapping[str, str], said: str) -> None:
    assert refused({"JACKFIELD_SECRET": SECRET, **environ}) == said


def test_a_missing_secret_is_said_even_where_nothing_else_is_set() -> None:
    assert refused({}) == f'JACKFIELD_SECRET is not set; plugin "token" needs it. {LINE}'


def test_what_is_not_ours_is_left_alone() -> None:
    Jackfield.from_environ({"JACKFIELD_SECRET": SECRET, "JACKFIELDS": "1", "jackfield_x": "1", "HOME": "/"})


def test_a_setting_of_a_plugin_that_is_left_out() -> None:
    environ = {"JACKFIELD_SECRET": SECRET, "JACKFIELD_PRESENCE_GRACE": "1"}
    assert refused(environ, "token", "members") == (
        'JACKFIELD_PRESENCE_GRACE is not a setting: plugin "presence" is left out.'
    )
    assert refused({"JACKFIELD_SECRET": SECRET}, "members") == (
        'JACKFIELD_SECRET is not a setting: plugin "token" is left out.'
    )


def test_no_plugin_of_that_name() -> None:
    shipped = "http, members, presence, rate_limit, reactions, threads, token, typing"
    assert refused({}, "presense") == 'no plugin is called "presense". Did you mean presence?'
    assert refused({}, "weather") == f'no plugin is called "weather". There are: {shipped}.'


# --- Secrets


@pytest.mark.parametrize("name", ["SECRET", "API_KEY"])
def test_an_error_shows_no_secret(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable = known_variables()[f"JACKFIELD_{name}"]
    assert variable.secret
    assert variable.shown("hush") == f"JACKFIELD_{name}"


def test_nor_does_one_of_a_stranger(install: Install) -> None:
    @attrs.define(eq=False)
    class Vault:
        pin: int = attrs.field(default=1, repr=False)
        phrase: str = attrs.field(default="x", repr=False, validator=attrs.validators.max_len(3))
        word: str = attrs.field(default="x", repr=False)
        name: str = "vault"

        def __attrs_post_init__(self) -> None:
            if self.word != "x":
                raise ValueError(f"{self.word} is no good word")

    install(vault=Vault)
    environ = {"JACKFIELD_SECRET": SECRET}
    said = refused({**environ, "JACKFIELD_VAULT_PIN": "hush"}, "token", "members", "vault")
    assert said == "JACKFIELD_VAULT_PIN is not a whole number (strangers.Vault.pin)."
    said = refused({**environ, "JACKFIELD_VAULT_PHRASE": "hush hush"}, "token", "members", "vault")
    assert said.startswith("JACKFIELD_VAULT_PHRASE: ")
    assert "hush" not in said
    said = refused({**environ, "JACKFIELD_VAULT_WORD": "hush"}, "token", "members", "vault")
    assert said == 'plugin "vault" cannot be made of the environment: … is no good word.'


def test_an_engine_that_cannot_be_made_shows_no_password(install: Install) -> None:
    class Broken:
        @classmethod
        def from_url(cls, url: str) -> object:
            raise ValueError("the port is no number")

    class Missing:
        @classmethod
        def from_url(cls, url: str) -> object:
            raise ModuleNotFoundError("No module named 'pigeons'")

    install("jackfield.engines", broken=Broken, missing=Missing)
    environ = {"JACKFIELD_SECRET": SECRET}
    assert refused({**environ, "JACKFIELD_ENGINE": "broken://:hush@x"}) == "JACKFIELD_ENGINE: the port is no number."
    assert refused({**environ, "JACKFIELD_ENGINE": "missing://:hush@x"}) == (
        "JACKFIELD_ENGINE: missing:// cannot be loaded: No module named 'pigeons'. "
        'Install what it needs: pip install "jackfield[missing]".'
    )
    assert "hush" not in refused({**environ, "JACKFIELD_ENGINE": "redis:hush"})


def test_memory_is_the_engine_that_there_is_without_a_word() -> None:
    for environ in {}, {"JACKFIELD_ENGINE": ""}, {"JACKFIELD_ENGINE": "memory://"}:
        assert isinstance(Jackfield.from_environ({"JACKFIELD_SECRET": SECRET, **environ}).engine, MemoryEngine)


# --- Plugins of strangers


@attrs.define(eq=False)
class Polls:
    words: tuple[str, ...] = ()
    seen: frozenset[str] = frozenset()
    tags: Collection[str] = ()
    ends_after: float | None = None
    most: int | None = None
    mode: Literal["open", "closed"] = "open"
    motto: str = "go"
    clock: object = None
    either: int | str = 3
    copied: str = attrs.Factory(lambda self: self.motto * 2, takes_self=True)
    _inner: int = 3
    name: str = "polls"


def test_every_kind_of_field(install: Install) -> None:
    install(polls=Polls)
    environ = {
        "JACKFIELD_POLLS_WORDS": "a, b,,",
        "JACKFIELD_POLLS_SEEN": "a,a",
        "JACKFIELD_POLLS_TAGS": "x",
        "JACKFIELD_POLLS_ENDS_AFTER": "1.5",
        "JACKFIELD_POLLS_MOST": "3",
        "JACKFIELD_POLLS_MODE": "closed",
        "JACKFIELD_POLLS_MOTTO": "",
    }
    polls = build(environ, "token", "members", "polls")["polls"]
    assert (polls.words, polls.seen, polls.tags) == (("a", "b"), {"a"}, ("x",))
    assert (polls.ends_after, polls.most, polls.mode, polls.motto) == (1.5, 3, "closed", "go")
    empty = {"JACKFIELD_POLLS_ENDS_AFTER": "", "JACKFIELD_POLLS_MOST": ""}
    polls = build(empty, "token", "members", "polls")["polls"]
    assert (polls.ends_after, polls.most) == (None, None)


def test_a_default_that_only_the_object_knows_is_left_to_it(install: Install) -> None:
    install(polls=Polls)
    variables = known_variables(["token", "members", "polls"])
    assert variables["JACKFIELD_POLLS_COPIED"].default is None
    assert not variables["JACKFIELD_POLLS_COPIED"].required
    assert (variables["JACKFIELD_POLLS_MOTTO"].default, variables["JACKFIELD_POLLS_MODE"].default) == ("go", "open")
    assert build({}, "token", "members", "polls")["polls"].copied == "gogo"
    assert build({"JACKFIELD_POLLS_COPIED": "x"}, "token", "members", "polls")["polls"].copied == "x"


@pytest.mark.parametrize("field", ["CLOCK", "INNER", "NAME", "EITHER"])
def test_what_is_no_text_is_no_variable(install: Install, field: str) -> None:
    install(polls=Polls)
    environ = {"JACKFIELD_SECRET": SECRET, f"JACKFIELD_POLLS_{field}": "1"}
    assert refused(environ, "token", "members", "polls").startswith(f"JACKFIELD_POLLS_{field} is not a setting.")


def test_a_plugin_is_called_what_it_calls_itself(install: Install) -> None:
    @attrs.define(eq=False)
    class Calendar:
        every: float = 60.0
        name: str = "presence"

    install(calendar_presence=Calendar)
    plugins = build({"JACKFIELD_PRESENCE_EVERY": "5"}, "token", "members", "calendar_presence")
    assert plugins["presence"].every == 5
    assert refused({}, "token", "presence", "calendar_presence") == (
        'two plugins are called "presence": jackfield_presence.Presence and strangers.Calendar. '
        "Leave one out, or give one another name=."
    )


def test_plain_classes_will_do(install: Install) -> None:
    class Plain:
        name = "plain"

    class Nameless: ...

    install(plain=Plain, nameless=Nameless)
    assert "plain" in build({}, "token", "members", "plain")
    assert "Give it one" in refused({"JACKFIELD_SECRET": SECRET}, "token", "members", "nameless")


def test_two_fields_of_one_variable(install: Install) -> None:
    @attrs.define(eq=False)
    class Node:
        lease: float = 1.0
        name: str = "node"

    install(node=Node)
    assert refused({"JACKFIELD_SECRET": SECRET}, "token", "members", "node") == (
        "JACKFIELD_NODE_LEASE would set both Settings.node_lease and strangers.Node.lease. Rename one field."
    )


def test_what_cannot_be_made_of_texts(install: Install) -> None:
    @attrs.define(eq=False)
    class NeedsMore:
        database: object
        name: str = "needs_more"

    @attrs.define(eq=False)
    class Needs:
        token: str
        name: str = "needs"

    @attrs.define(eq=False)
    class Unknown:
        when: "Nowhere" = None  # type: ignore[name-defined]  # noqa: F821
        name: str = "unknown"

    install(
        needs_more=NeedsMore, needs=Needs, unknown=Unknown, function=refused, lost="strangers:Lost", gone="nowhere:X"
    )
    environ = {"JACKFIELD_SECRET": SECRET}
    assert refused(environ, "token", "members", "needs_more").startswith(
        'plugin "needs_more" cannot be made of the environment: '
    )
    assert refused(environ, "token", "members", "needs") == 'JACKFIELD_NEEDS_TOKEN is not set; plugin "needs" needs it.'
    assert refused(environ, "token", "members", "unknown") == (
        'plugin "unknown": an annotation of strangers.Unknown means nothing at run time: '
        "name 'Nowhere' is not defined. Import it outside of TYPE_CHECKING."
    )
    assert refused(environ, "function") == 'the entry point "function" must name a class; strangers:refused is none.'
    assert refused(environ, "lost").startswith('plugin "lost" cannot be loaded: ')
    assert refused(environ, "gone") == (
        "plugin \"gone\" cannot be loaded: No module named 'nowhere'. "
        'Install what it needs: pip install "jackfield[all]".'
    )


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] in ("jackfield_auth", "jwt")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "jwt", None)
    said = refused({"JACKFIELD_SECRET": SECRET})
    assert said.startswith('plugin "token" cannot be loaded: ')
    assert said.endswith('Install what it needs: pip install "jackfield[jwt]".')
