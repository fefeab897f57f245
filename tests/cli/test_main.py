"""What all commands have in common: exit codes, help, and one line for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

from jackfield import ConfigurationError
from jackfield.cli import main
from jackfield.cli._command import leaf, points

COMMANDS = ("serve", "token", "publish", "tail", "events", "hooks", "plugins", "check")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert f"\nexamples:\n  {'export' if command == 'serve' else 'jackfield ' + command}" in said
    assert max(map(len, said.splitlines())) <= 120


def test_the_help_of_all_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n    {command} " in said
    assert "examples:" in said


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["serve", "--nothing"],
        ["serve", "--port", "none"],
        ["serve", "--port", "65536"],
        ["serve", "--port", "-1"],
        ["serve", "--loop", "curio"],
        ["serve", "--log-level", "loud"],
        ["serve", "--hel", "1"],  # no abbreviations: a later flag would make them mean something else
        ["check"],
        ["token", "--user", "alice"],
        ["publish", "--type", "said"],
        ["tail"],
        ["tail", "--workspace", "acme", "--since", "-1"],
        ["tail", "--workspace", "acme", "--app", "chat:app", "--engine", "redis://127.0.0.1"],
    ],
)
def test_what_makes_no_sense_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, said = capsys.readouterr()
    assert not out
    assert "error: " in said


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jackfield {version('jackfield')}\n"


def test_an_interruption_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jackfield.cli._show.plugins_of", interrupted)
    monkeypatch.setattr("jackfield.cli._show.app_of", interrupted)
    assert main(["plugins"]) == 130


def test_the_arguments_of_the_process_are_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["jackfield", "--version"])
    assert main() == 0
    assert capsys.readouterr().out


def test_the_script_is_this() -> None:
    (script,) = entry_points(group="console_scripts", name="jackfield")
    assert script.load() is main


def test_so_is_the_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jackfield.cli", "serve"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        'jackfield: JACKFIELD_SECRET is not set; plugin "token" needs it. '
        'Make one: python -c "import secrets; print(secrets.token_urlsafe(32))"\n'
    )


def test_which_plugins() -> None:
    assert points([], []) == (
        *("token", "rate_limit", "members", "presence", "reactions", "threads", "typing", "http"),
    )
    assert points(["polls", "calls"], ["threads", "typing"]) == (
        *("token", "rate_limit", "members", "presence", "reactions", "polls", "calls", "http"),
    )
    assert points(["polls"], ["http"])[-1] == "polls"


@pytest.mark.parametrize(
    ("plugin", "without", "said"),
    [
        (["typing"], [], "--plugin typing: it is there already."),
        (["polls", "polls"], [], "--plugin polls: it is there already."),
        ([], ["thread"], '--without thread: no shipped plugin is called "thread". Did you mean threads?'),
        (
            [],
            ["x"],
            '--without x: no shipped plugin is called "x". '
            "There are: token, rate_limit, members, presence, reactions, threads, typing, http.",
        ),
    ],
)
def test_which_not(plugin: list[str], without: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        points(plugin, without)
    assert str(caught.value) == said


def test_the_first_error_of_a_group() -> None:
    first = ValueError()
    assert leaf(first) is first
    assert leaf(ExceptionGroup("", [ExceptionGroup("", [first]), KeyError()])) is first
