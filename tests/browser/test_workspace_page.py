"""The page of the example workspace: whose tab it is, keys and fingers, and whether everybody can read it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route, expect

from town import PHONE, WIDE, Town, channel, message, opened, sent, tool, write

HERE = Path(__file__).parent
CONTRAST = (HERE / "contrast.js").read_text()
FOCUS = (HERE / "focus.js").read_text()


@pytest.fixture
def town(browser: Browser) -> Generator[Town]:
    with opened(browser) as town:
        yield town


# --- whose tab it is


def test_signing_in_and_out(town: Town) -> None:
    window = town.window()
    page = town.blank(window)
    page.goto(f"http://127.0.0.1:{town.port}/")
    name, password = page.get_by_role("textbox", name="Name"), page.get_by_role("textbox", name="Password")
    expect(name).to_be_focused()
    name.fill("carol")
    password.fill("wrong")
    password.press("Enter")
    expect(page.get_by_role("alert").first).to_have_text("That name and password do not belong together.")
    password.fill("carol-demo")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#me")).to_contain_text("Carol Díaz")
    page.reload()
    expect(page.locator("#me")).to_contain_text("Carol Díaz")
    other = town.page("bob", window=window)  # another tab of the same browser is another user
    expect(other.locator("#me")).to_contain_text("Bob Okafor")
    expect(page.locator("#me")).to_contain_text("Carol Díaz")
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#sign-in")).to_contain_text("You are signed out.")
    page.reload()
    expect(name).to_be_visible()
    # A key stands in the address until it was used, and no longer.
    assert "#" not in other.url


def test_a_session_that_has_ended_asks_to_sign_in(town: Town) -> None:
    page = town.page("carol")
    page.evaluate(
        """() => fetch("/logout", {
            method: "POST", headers: { authorization: `Bearer ${sessionStorage.getItem("token")}` },
        })"""
    )
    write(page, "?")
    expect(page.locator("#sign-in")).to_contain_text("Your session has ended. Please sign in again.")


def test_a_session_that_ended_while_the_line_was_cut(town: Town) -> None:
    line = town.line()
    page = town.page("carol", port=line.port)
    page.evaluate("window.token = sessionStorage.getItem('token')")
    line.refuse()
    expect(page.locator("#connection")).to_contain_text("Reconnecting")
    town.post("/logout", page.evaluate("window.token"))
    line.accept()
    expect(page.locator("#sign-in")).to_contain_text("Your session has ended. Please sign in again.")
    expect(page.locator("#chat")).to_be_hidden()


def test_a_window_that_is_somebody_else_shows_nothing_of_who_was_there_before(town: Town) -> None:
    window = town.window()
    page = town.page("alice", window=window)
    channel(page, "launch-party").click()
    sent(page, "My lips are sealed.")
    page.locator("#draft").fill("a secret")
    held: list[Route] = []
    page.route("**/channels/design/messages", lambda route: held.append(route))
    with page.expect_request("**/channels/design/messages"):
        channel(page, "design").click()
    page.goto(town.address("bob"))
    expect(page.locator("#me")).to_contain_text("Bob Okafor")
    expect(page.get_by_role("heading", name="general")).to_be_visible()
    expect(page.locator("#draft")).to_have_value("")
    page.evaluate(
        """() => {
            const nav = document.getElementById("nav");
            new MutationObserver(() => { window.leaked ||= nav.textContent.includes("launch-party"); })
                .observe(nav, { childList: true, subtree: true, characterData: true });
        }"""
    )
    with page.expect_response("**/channels/design/messages"):
        held[0].continue_()  # an answer that comes late, to somebody who is gone
    write(page, "It is me")
    expect(sent(page, "It is me").locator(".author")).to_have_text("Bob Okafor")
    expect(channel(page, "launch-party")).to_have_count(0)
    assert not page.evaluate("window.leaked")


# --- keys, fingers and small screens


def test_the_keyboard_alone(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    draft = alice.locator("#draft")
    draft.focus()
    alice.keyboard.type("first line")
    alice.keyboard.press("Shift+Enter")
    alice.keyboard.type("second line")
    alice.keyboard.press("Enter")
    assert sent(bob, "first line").locator(".content").inner_text() == "first line\nsecond line"
    sent(alice, "first line")
    alice.keyboard.press("ArrowUp")
    editor = alice.get_by_role("textbox", name="Edit the message")
    expect(editor).to_be_focused()
    alice.keyboard.type(", and a third")
    alice.keyboard.press("Escape")
    expect(editor).to_have_count(0)
    expect(sent(alice, "first line")).to_be_focused()
    assert sent(alice, "first line").locator(".content").inner_text() == "first line\nsecond line"

    alice.keyboard.press("ArrowUp")  # from message to message, and into its tools
    above = alice.locator("#log .message").nth(-2)
    expect(above).to_be_focused()
    expect(above.get_by_role("button", name="Add a reaction")).to_be_visible()
    alice.keyboard.press("End")
    expect(sent(alice, "first line")).to_be_focused()
    alice.keyboard.press("Tab")
    expect(sent(alice, "first line").get_by_role("button", name="Add a reaction")).to_be_focused()
    alice.keyboard.press("Tab")
    alice.keyboard.press("Enter")
    expect(alice.locator("#thread-draft")).to_be_focused()
    alice.keyboard.press("Escape")
    expect(sent(alice, "first line")).to_be_focused()


def test_a_draft_is_kept_for_each_channel(town: Town) -> None:
    alice = town.page("alice")
    alice.locator("#draft").fill("for general")
    channel(alice, "lunch").click()
    expect(alice.locator("#draft")).to_be_focused()
    expect(alice.locator("#draft")).to_have_value("")
    expect(alice.locator("#log .new")).to_be_visible()
    channel(alice, "general").click()
    expect(alice.locator("#draft")).to_have_value("for general")


def test_a_phone(town: Town) -> None:
    window = town.window(viewport={"width": 360, "height": 640}, has_touch=True, is_mobile=True)
    alice, bob = town.page("alice", window=window), town.page("bob")

    def fits() -> bool:
        return alice.evaluate("document.documentElement.scrollWidth <= innerWidth && innerWidth === 360")

    opener = alice.get_by_role("button", name="Channels and people")
    assert fits()
    expect(opener).to_have_attribute("aria-expanded", "false")
    opener.tap()
    expect(channel(alice, "lunch")).to_be_visible()
    expect(alice.locator("#draft")).not_to_be_focused()
    alice.keyboard.press("Escape")
    expect(channel(alice, "lunch")).to_be_hidden()
    expect(opener).to_be_focused()
    opener.tap()
    channel(alice, "lunch").tap()
    expect(alice.get_by_role("heading", name="lunch")).to_be_visible()
    expect(channel(alice, "general")).to_be_hidden()
    assert fits()
    write(alice, "x" * 300)  # one long word breaks, and pushes nothing aside
    expect(sent(alice, "x" * 300)).to_be_visible()
    assert fits()
    assert alice.locator("#log").evaluate("log => log.scrollWidth <= log.clientWidth")
    channel(bob, "lunch").click()
    write(bob, "Tap me")
    row = sent(alice, "Tap me")
    row.locator(".content").tap()
    row.get_by_role("button", name="Reply in a thread").tap()
    expect(alice.locator("#thread")).to_be_visible()
    expect(alice.locator("#main")).to_be_hidden()
    assert fits()
    alice.get_by_role("button", name="Close the thread").tap()
    expect(alice.locator("#main")).to_be_visible()


def test_who_reads_what_is_old_stays_there(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    for number in range(20):
        write(bob, f"line {number}\nand more\nand more")
    sent(alice, "line 19")
    log = alice.locator("#log")

    def from_end() -> float:
        return log.evaluate("log => Math.round(log.scrollHeight - log.scrollTop - log.clientHeight)")

    assert from_end() <= 1
    alice.set_viewport_size({"width": 900, "height": 500})
    alice.wait_for_function(
        "() => { const l = document.getElementById('log'); return l.scrollHeight - l.scrollTop - l.clientHeight <= 1 }"
    )
    log.hover()
    alice.mouse.wheel(0, -600)
    alice.wait_for_function("() => document.getElementById('log').dataset.end === 'false'")
    before = log.evaluate("log => log.scrollTop")
    write(bob, "news")
    sent(alice, "news")
    assert log.evaluate("log => log.scrollTop") == before


def test_what_is_older_comes_in_above(town: Town) -> None:
    bob = town.page("bob")
    bob.evaluate(
        """async () => {
            const headers = { authorization: `Bearer ${sessionStorage.getItem("token")}` };
            for (let number = 0; number < 60; number += 1) {
                const body = JSON.stringify({ id: crypto.randomUUID(), content: `number ${number} of many` });
                await fetch("/channels/lunch/messages", { method: "POST", headers, body });
            }
        }"""
    )
    channel(bob, "lunch").click()
    sent(bob, "number 59 of many")
    expect(bob.locator("#log .message")).to_have_count(50)
    older = bob.get_by_role("button", name="Show older messages")
    older.click()
    expect(bob.locator("#log .message")).to_have_count(62)
    expect(older).to_have_count(0)
    expect(bob.locator("#log")).to_contain_text("This is where #lunch begins.")
    was_oldest = sent(bob, "number 10 of many")
    expect(was_oldest).to_be_focused()
    expect(was_oldest).to_be_in_viewport()


# --- for everyone


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read(town: Town, scheme: Any) -> None:
    """Text 4.5 to 1 on what is behind it, signs and borders 3 to 1: WCAG AA, measured at every text there is."""
    line, window = town.line(), town.window(color_scheme=scheme)
    town.page("bob")
    alice = town.page("alice", window=window, port=line.port)
    alice.locator("#log .replies").click()
    expect(alice.locator("#thread-log .message")).to_have_count(4)
    alice.route("**/channels/general/messages", lambda route: route.fulfill(status=422, json={"error": "no"}))
    write(alice, "refused")
    expect(message(alice, "refused")).to_contain_text("Not sent")
    alice.locator("#log .message").first.hover()
    alice.locator("#log .message").nth(1).focus()

    def measure(least: int) -> None:
        found = alice.evaluate(CONTRAST)
        assert len(found) > least
        assert [line for line in found if not line[2]] == []

    measure(60)
    alice.locator("#thread-close").click()
    channel(alice, "lunch").click()
    expect(alice.locator("#log .new")).to_be_visible()
    alice.get_by_role("button", name="New channel").click()
    measure(40)
    alice.keyboard.press("Escape")
    line.refuse()
    window.set_offline(True)
    expect(alice.locator("#connection")).to_contain_text("You are offline")
    alice.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')")
    measure(40)
    line.accept()
    window.set_offline(False)
    expect(alice.locator("#connection .good")).to_be_visible()
    alice.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')")
    measure(40)
    alice.get_by_role("button", name="Sign out").click()
    expect(alice.locator("#sign-in")).to_be_visible()
    measure(6)


CONTROLS = {
    "button",
    "textbox",
    "checkbox",
    "combobox",
    "link",
    "menuitem",
    "dialog",
    "menu",
    "log",
    "navigation",
    "main",
}


def test_every_control_has_a_name_and_every_focus_is_seen(town: Town) -> None:
    alice = town.page("alice")
    alice.locator("#log .replies").click()
    expect(alice.locator("#thread-log .message")).to_have_count(4)
    alice.locator("#log .message").first.focus()
    cdp = alice.context.new_cdp_session(alice)

    def named(least: int) -> None:
        nodes = cdp.send("Accessibility.getFullAXTree")["nodes"]
        controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
        assert len(controls) >= least
        assert [node for node in controls if not node.get("name", {}).get("value", "").strip()] == []

    named(25)
    ids = alice.evaluate("[...document.querySelectorAll('[id]')].map(element => element.id)")
    assert len(ids) == len(set(ids))
    assert alice.evaluate("document.documentElement.lang") == "en"
    seen: dict[int, str] = {}
    for _ in range(80):  # round the page, out of it and in again
        alice.keyboard.press("Tab")
        place, name, visible = alice.evaluate(FOCUS)
        assert visible, name
        if place in seen:
            break
        seen[place] = name
    assert {"draft", "thread-draft", "New channel", "Sign out", "thread-close"} <= set(seen.values())
    for opener in ("New channel", "3 members, details of the channel"):
        alice.get_by_role("button", name=opener).click()
        expect(alice.get_by_role("dialog")).to_be_visible()
        named(4)
        alice.keyboard.press("Escape")
        expect(alice.get_by_role("button", name=opener)).to_be_focused()


def test_who_does_not_see_hears_what_is_new(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    write(bob, "Can you hear me?")
    expect(alice.locator("#said[role=status]")).to_have_text("Bob: Can you hear me?")
    expect(bob.locator("#said")).to_have_text("")
    channel(bob, "lunch").click()
    write(bob, "elsewhere")
    expect(channel(alice, "lunch")).to_have_accessible_name("lunch, 3 unread")
    expect(alice.locator("#said")).to_have_text("Bob: Can you hear me?")


def test_who_wants_no_motion_gets_none(town: Town) -> None:
    window = town.window(viewport=PHONE, reduced_motion="reduce")
    alice = town.page("alice", window=window)
    moving = (
        "[...document.querySelectorAll('*')].filter(e => parseFloat(getComputedStyle(e).transitionDuration) > 0).length"
    )
    assert alice.evaluate(moving) == 0


# --- how it looks


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(town: Town, scheme: Any, size: Any, tmp_path: Path) -> None:
    """In the folder that the variable SCREENSHOTS names: to be looked at."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    line = town.line()
    window = town.window(viewport=size, color_scheme=scheme, is_mobile=size is PHONE, has_touch=size is PHONE)
    alice, bob = town.page("alice", window=window, port=line.port), town.page("bob")
    write(alice, "Ready when you are.")
    tool(sent(bob, "Ready when you are."), "Add a reaction")
    bob.get_by_role("menuitem", name="hooray").click()
    expect(alice.locator("#log .message").last.locator(".reaction")).to_be_visible()
    bob.locator("#draft").press_sequentially("Al")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")

    def shot(name: str) -> None:
        alice.wait_for_function("() => document.getAnimations().every(one => one.playState !== 'running')")
        picture = alice.screenshot(path=folder / f"{name}-{scheme}-{size['width']}.png")
        assert len(picture) > 10_000

    folder.mkdir(parents=True, exist_ok=True)
    shot("channel")
    alice.locator("#log .replies").click()
    expect(alice.locator("#thread-log .message")).to_have_count(4)
    shot("thread")
    alice.locator("#thread-close").click()
    line.refuse()
    window.set_offline(True)
    expect(alice.locator("#connection")).to_contain_text("You are offline")
    write(alice, "In a tunnel now")
    shot("offline")
    line.accept()
    window.set_offline(False)
    sent(alice, "In a tunnel now")
    if size is PHONE:
        alice.locator("#drawer-open").click()
        shot("drawer")
        channel(alice, "lunch").click()
    else:
        channel(alice, "lunch").click()
    expect(alice.locator("#log .new")).to_be_visible()
    shot("unread")
    alice.locator("#heading .members").click()
    shot("details")
    alice.keyboard.press("Escape")
    if size is PHONE:
        alice.locator("#drawer-open").click()
    alice.get_by_role("button", name="Sign out").click()
    expect(alice.locator("#sign-in")).to_be_visible()
    shot("sign-in")


def test_the_store_alone() -> None:
    """What the page decides without a page, in Node."""
    node = shutil.which("node")
    assert node is not None, "install Node 20 or later"
    subprocess.run([node, "--test", str(HERE / "workspace")], check=True, timeout=60)
