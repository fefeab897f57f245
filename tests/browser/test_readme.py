"""The README's page works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from servers import Workspace, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

README = Path(__file__).parents[2] / "README.md"
(SCRIPT,) = re.findall(r"```js\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture
def workspace() -> object:
    with running("serve-asyncio") as server, Workspace(server) as workspace:
        yield workspace


def test_the_script_of_the_readme(browser: Browser, workspace: Workspace) -> None:
    script = SCRIPT.replace("/ws/acme", f"/ws/{workspace.id}")
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.route("**/token", lambda route: route.fulfill(body=workspace.token("alice")))
    page.route("**/messages", lambda route: route.fulfill(json=[{"id": "m0"}]))
    page.goto(f"{workspace.server.url}/health/live")  # any page of the server's own, without a policy for scripts
    page.add_script_tag(content=f"{script}\nglobalThis.read = () => messages.map(({{ id }}) => id);", type="module")
    page.wait_for_function("document.title === 'open'")
    bob = workspace.enter("bob")
    channel = {"id": "general", "name": "general", "type": "public", "created_by": "bob"}
    message = {
        "id": "m1",
        "channel_id": "general",
        "user_id": "bob",
        "content": "…",
        "created_at": "2024-01-01T12:00:00Z",
    }
    workspace.publish({"type": "channel.created", "data": channel}, {"type": "message.new", "data": message})
    page.wait_for_function('JSON.stringify(read()) === \'["m0","m1"]\'')
    page.evaluate("dispatchEvent(new Event('input'))")
    assert bob.expect("typing.start")["data"] == {"channel_id": "general", "user_id": "alice"}
    assert faults == []
    page.close()
