"""The browser's client plays the scenarios of all clients: in Node, and in a page of Chromium."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stage import HERE, Driver, Entry, Process, Scenario, stage

if TYPE_CHECKING:
    from playwright.sync_api import Browser


ROOT = Path(__file__).parents[2]
CLIENT = "src/jackfield/browser/jackfield.js"
SCENARIOS: list[Scenario] = json.loads((HERE / "scenarios.json").read_text())


def node() -> Driver:
    found = shutil.which("node")
    assert found is not None, "install Node 20 or later"
    return Process(found, "--experimental-websocket", "--no-warnings", str(HERE / "drive.mjs"), str(ROOT / CLIENT))


class Page:
    """A driver that is a page."""

    def __init__(self, browser: Browser, origin: str) -> None:
        self.log: list[Entry] = []
        self._context = browser.new_context()
        self._page = self._context.new_page()
        self._page.goto(f"{origin}/LICENSE")
        self._page.evaluate(
            """async ([client, drive]) => {
                const [{ connect }, { driver }] = await Promise.all([import(client), import(drive)]);
                window.entries = [];
                window.commands = driver(connect, (entry) => window.entries.push(entry));
            }""",
            [f"/{CLIENT}", "/tests/scenarios/drive.mjs"],
        )

    def do(self, command: Mapping[str, Any]) -> None:
        self._page.evaluate("(command) => { window.commands[command.do](command); }", command)

    def look(self) -> None:
        self.log += self._page.evaluate("window.entries.splice(0)")

    def end(self) -> None:
        self._context.close()


class Files(SimpleHTTPRequestHandler):
    """The project's own, so that a page can load them."""

    def guess_type(self, path: str | PathLike[str]) -> str:
        return "text/javascript" if str(path).endswith(("js", "mjs")) else "text/plain"

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(ROOT))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_the_browsers_client(scenario: Scenario, browser: Browser, origin: str, tmp_path: Path) -> None:
    allowing = {**scenario, "settings": {**scenario.get("settings", {}), "ALLOWED_ORIGINS": origin}}
    players = {"node": node, "chromium": partial(Page, browser, origin)}
    with stage(allowing, players, tmp_path) as played:
        played.play()
