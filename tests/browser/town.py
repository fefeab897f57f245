"""The example workspace on a port of this machine, and the people who look at it in Chromium."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from examples.workspace.app import chat
from examples.workspace.database import Database
from examples.workspace.seed import PEOPLE, seed
from jackfield import Settings
from jackfield.serving import listen
from line import Line

__all__ = [
    "PHONE",
    "WIDE",
    "Town",
    "asked",
    "channel",
    "is_marked",
    "mark",
    "message",
    "opened",
    "sent",
    "tool",
    "write",
]

GRACE = 0.3
WIDE = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 780}
expect.set_options(timeout=15_000)


class Served:
    """The example on uvicorn, in a thread, seeded anew."""

    def __init__(self, settings: Settings | None) -> None:
        self._listener = listen("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self.keys: dict[str, str] = {}
        self._settings = settings
        self._ready = threading.Event()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve,), daemon=True)
        self._thread.start()
        assert self._ready.wait(20), "the example does not start"

    async def _serve(self) -> None:
        database = Database()
        try:
            await seed(database)
            self.keys = {user: await database.add_key(user) for user in PEOPLE}
            app = chat(database, presence_grace=GRACE, settings=self._settings)
            self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
            self._ready.set()
            await self._server.serve(sockets=[self._listener])
        finally:
            database.close()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive(), "the example does not end"


class Town:
    """The example, and the windows in which people look at it."""

    def __init__(self, browser: Browser, served: Served) -> None:
        self.port = served.port
        self.faults: list[str] = []
        self._browser = browser
        self._served = served
        self._contexts: list[BrowserContext] = []
        self._lines: list[Line] = []

    def window(self, **options: Any) -> BrowserContext:
        """A browser of its own. Only the front tab of a window is drawn, so that each user has one."""
        self._contexts.append(self._browser.new_context(**{"viewport": WIDE, "locale": "en-GB", **options}))
        return self._contexts[-1]

    def line(self) -> Line:
        """To the example, for a page to come by, and to break."""
        self._lines.append(Line(self.port))
        return self._lines[-1]

    def page(self, user: str, *, window: BrowserContext | None = None, port: int | None = None) -> Page:
        """Somebody's, signed in and loaded."""
        page = self.blank(window)
        page.goto(self.address(user, port))
        expect(page.get_by_role("heading", name="general")).to_be_visible()
        expect(page.locator("#log .message").first).to_be_visible()
        return page

    def address(self, user: str, port: int | None = None) -> str:
        return f"http://127.0.0.1:{port or self.port}/#{self._served.keys[user]}"

    def post(self, path: str, token: str) -> None:
        """A request past every page."""
        headers = {"authorization": f"Bearer {token}"}
        httpx.post(f"http://127.0.0.1:{self.port}{path}", headers=headers, trust_env=False).raise_for_status()

    def blank(self, window: BrowserContext | None = None) -> Page:
        page = (window or self.window()).new_page()
        page.on("pageerror", lambda error: self.faults.append(f"{error}\n{error.stack}"))
        page.on("console", self._heard)
        return page

    def _heard(self, message: Any) -> None:
        # That a line is cut, or a request refused, is written there by the browser itself: it is no fault of the page.
        if message.type == "error" and not re.search(r"net::ERR_|Failed to load resource|WebSocket", message.text):
            self.faults.append(message.text)

    def close(self) -> None:
        for window in self._contexts:
            window.close()
        for line in self._lines:
            line.close()
        self._served.stop()


@contextmanager
def opened(browser: Browser, settings: Settings | None = None) -> Generator[Town]:
    """Closed at the end; and no page may have had a fault."""
    town = Town(browser, Served(settings))
    try:
        yield town
    finally:
        town.close()
    assert not town.faults, "\n".join(town.faults)


def write(page: Page, text: str, *, box: str = "#draft") -> None:
    page.locator(box).fill(text)
    page.locator(box).press("Enter")


def message(page: Page, text: str, *, log: str = "#log") -> Locator:
    return page.locator(f"{log} .message", has=page.locator(".content", has_text=text))


def sent(page: Page, text: str, *, log: str = "#log") -> Locator:
    """A message that the server has."""
    found = message(page, text, log=log)
    expect(found).to_have_count(1)
    expect(found).not_to_have_class(re.compile("pending|failed"))
    return found


def channel(page: Page, name: str) -> Locator:
    """In the list: a channel, or a person."""
    return page.locator("#nav").get_by_role("button", name=re.compile(f"^{re.escape(name)}"))


def tool(row: Locator, name: str) -> None:
    """What shows up beside a message when one points at it."""
    row.hover()
    row.get_by_role("button", name=name, exact=True).click()


def mark(page: Page) -> None:
    """So that a page which was loaded anew is found out."""
    page.evaluate("window.mark = 1")


def is_marked(page: Page) -> bool:
    return bool(page.evaluate("window.mark === 1"))


def asked(page: Page, path: str) -> Callable[[], int]:
    """How often the page has asked for a path from now on."""
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url) if request.url.endswith(path) else None)
    return lambda: len(requests)
