"""The example workspace in Chromium: two pages, two users, and everything that passes between them."""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from jackfield import Settings
from town import Town, asked, channel, is_marked, mark, message, opened, sent, tool, write


@pytest.fixture
def town(browser: Browser) -> Generator[Town]:
    with opened(browser) as town:
        yield town


# --- two people


def test_a_message_its_edit_and_its_end(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    html = '<img src=x onerror="window.hacked = 1"> <b>bold</b>'
    write(alice, html)
    for page in (alice, bob):
        expect(sent(page, html).locator(".author, .gutter .avatar").first).to_be_visible()
        assert page.evaluate("[...document.querySelectorAll('#log img, #log b')].length + (window.hacked ?? 0)") == 0

    tool(sent(alice, html), "Edit")
    editor = alice.get_by_role("textbox", name="Edit the message")
    expect(editor).to_be_focused()
    editor.fill("See https://example.org/a?b=c, and `code`.")
    editor.press("Enter")
    row = sent(bob, "See https://example.org")
    expect(row).to_contain_text("(edited)")
    expect(row.get_by_role("link")).to_have_attribute("href", "https://example.org/a?b=c")
    expect(row.locator("code")).to_have_text("code")
    expect(row.get_by_role("button", name="Edit")).to_have_count(0)  # it is hers

    tool(sent(alice, "See https://"), "Delete")
    dialog = alice.get_by_role("dialog", name="Delete this message?")
    dialog.get_by_role("button", name="Cancel").click()
    sent(alice, "See https://")
    tool(sent(alice, "See https://"), "Delete")
    dialog.get_by_role("button", name="Delete").click()
    for page in (alice, bob):
        expect(message(page, "This message was deleted.")).to_have_count(1)
        expect(message(page, "See https://")).to_have_count(0)


def test_who_types_is_seen_until_he_stops(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    bob.locator("#draft").press_sequentially("hm")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")
    expect(bob.locator("#typing")).to_have_text("")
    bob.locator("#draft").fill("")
    expect(alice.locator("#typing")).to_have_text("")
    bob.locator("#draft").press_sequentially("so")
    expect(alice.locator("#typing")).to_have_text("Bob is typing…")
    bob.locator("#draft").press("Enter")
    sent(alice, "so")
    expect(alice.locator("#typing")).to_have_text("")
    # Who comes while somebody types finds it.
    bob.locator("#draft").press_sequentially("more")
    expect(town.page("carol").locator("#typing")).to_have_text("Bob is typing…")


def test_reactions(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    write(alice, "Ship it?")
    tool(sent(bob, "Ship it?"), "Add a reaction")
    picker = bob.get_by_role("menu", name="Add a reaction")
    expect(picker.get_by_role("menuitem", name="thumbs up")).to_be_focused()
    bob.keyboard.press("ArrowRight")
    expect(picker.get_by_role("menuitem", name="heart")).to_be_focused()
    bob.keyboard.press("Escape")
    expect(picker).to_be_hidden()
    tool(sent(bob, "Ship it?"), "Add a reaction")
    picker.get_by_role("menuitem", name="hooray").click()
    expect(picker).to_be_hidden()

    hers = sent(alice, "Ship it?").get_by_role("button", name="hooray, 1: Bob Okafor")
    expect(hers).to_have_attribute("aria-pressed", "false")
    hers.click()
    his = sent(bob, "Ship it?").locator(".reaction")
    expect(his).to_have_attribute("aria-label", "hooray, 2: you and Alice Winter")
    expect(his).to_have_attribute("aria-pressed", "true")
    his.click()
    expect(sent(alice, "Ship it?").locator(".reaction")).to_have_attribute("aria-label", "hooray, 1: you")


def test_a_thread(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    write(alice, "Where do we eat?")
    tool(sent(bob, "Where do we eat?"), "Reply in a thread")
    expect(bob.locator("#thread-draft")).to_be_focused()
    write(bob, "At the noodle place", box="#thread-draft")
    sent(bob, "At the noodle place", log="#thread-log")
    expect(message(bob, "At the noodle place")).to_have_count(0)  # it stands in the thread alone

    row = sent(alice, "Where do we eat?")
    row.get_by_role("button", name="1 reply").click()
    sent(alice, "At the noodle place", log="#thread-log")
    write(alice, "Again?", box="#thread-draft")
    sent(bob, "Again?", log="#thread-log")
    for page in (alice, bob):
        expect(sent(page, "Where do we eat?").locator(".replies")).to_contain_text("2 replies")
    tool(sent(alice, "Again?", log="#thread-log"), "Delete")
    alice.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(sent(bob, "Where do we eat?").locator(".replies")).to_contain_text("1 reply")

    alice.keyboard.press("Escape")
    expect(alice.locator("#thread")).to_be_hidden()
    expect(row).to_be_focused()


def test_who_goes_is_offline_after_the_grace(town: Town) -> None:
    alice = town.page("alice")
    bobs = channel(alice, "Bob Okafor")
    expect(bobs).to_have_accessible_name("Bob Okafor, offline")
    bob = town.page("bob")
    expect(bobs).to_have_accessible_name("Bob Okafor, online")
    second = town.page("bob")
    bob.close()
    write(second, "still here")
    sent(alice, "still here")
    expect(bobs).to_have_accessible_name("Bob Okafor, online")
    second.close()
    expect(bobs).to_have_accessible_name("Bob Okafor, offline")


def test_a_private_channel_and_an_invitation(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    alice.get_by_role("button", name="New channel").click()
    dialog = alice.get_by_role("dialog", name="New channel")
    dialog.get_by_role("textbox", name="Name").fill("cake")
    dialog.get_by_role("checkbox", name=re.compile("^Private")).check()
    dialog.get_by_role("button", name="Create").click()
    expect(alice.get_by_role("heading", name="cake")).to_be_visible()
    expect(alice.locator("#draft")).to_be_focused()
    write(alice, "Chocolate, I think")
    sent(alice, "Chocolate, I think")
    write_and_wait(bob, alice, "general")
    expect(channel(bob, "cake")).to_have_count(0)

    alice.get_by_role("button", name="1 member, details of the channel").click()
    details = alice.get_by_role("dialog", name="cake")
    details.get_by_role("combobox", name="Invite").select_option("bob")
    details.get_by_role("button", name="Invite").click()
    expect(details.get_by_role("heading", name="2 members")).to_be_visible()
    details.get_by_role("button", name="Close").click()
    channel(bob, "cake, private").click()
    sent(bob, "Chocolate, I think")
    write(bob, "Chocolate!")
    sent(alice, "Chocolate!")

    bob.get_by_role("button", name="2 members, details of the channel").click()
    bob.get_by_role("button", name="Leave the channel").click()
    expect(channel(bob, "cake")).to_have_count(0)
    expect(bob.get_by_role("heading", name="general")).to_be_visible()
    expect(alice.get_by_role("button", name="1 member, details of the channel")).to_be_visible()


def write_and_wait(writer: Page, reader: Page, name: str) -> None:
    """Something that both see, so that what was said before it has come as well."""
    write(writer, "by the way")
    sent(writer, "by the way")
    expect(channel(reader, name)).to_have_accessible_name(re.compile("unread"))


def test_a_channel_that_is_renamed_is_so_for_everyone(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    channel(alice, "lunch").click()
    alice.get_by_role("button", name="3 members, details of the channel").click()
    details = alice.get_by_role("dialog", name="lunch")
    details.get_by_role("textbox", name="Name").fill("dinner")
    details.get_by_role("textbox", name="What it is about").fill("Later, that is")
    details.get_by_role("button", name="Save").click()
    expect(details).to_be_hidden()
    expect(alice.get_by_role("heading", name="dinner")).to_be_visible()
    channel(bob, "dinner").click()
    expect(bob.locator("#heading")).to_contain_text("Later, that is")


def test_a_direct_message_and_what_is_unread(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    expect(alice).to_have_title("(2) general · Acme")
    channel(bob, "Alice Winter").click()
    expect(bob.get_by_role("heading", name="Alice Winter")).to_be_visible()
    write(bob, "Only for you")
    his = channel(alice, "Bob Okafor")
    expect(his).to_have_accessible_name("Bob Okafor, online, 1 unread")
    expect(alice).to_have_title("(3) general · Acme")
    his.click()
    sent(alice, "Only for you")
    expect(alice.locator("#log .new")).to_have_text("New")
    expect(his).to_have_accessible_name("Bob Okafor, online")
    expect(alice).to_have_title("(2) Bob Okafor · Acme")
    # Read in one tab, read in the other.
    other = town.page("alice")
    expect(channel(other, "lunch")).to_have_accessible_name("lunch, 2 unread")
    channel(alice, "lunch").click()
    expect(channel(other, "lunch")).to_have_accessible_name("lunch")
    expect(other).to_have_title("general · Acme")


# --- the line


def test_offline_and_back(town: Town) -> None:
    """The browser says that there is no network: what is written waits, and what was missed comes."""
    bob = town.page("bob")
    window = town.window()
    alice = town.page("alice", window=window)
    mark(alice)
    loads = asked(alice, "/state")
    window.set_offline(True)
    expect(alice.locator("#connection")).to_contain_text("You are offline. What you write is sent when you are back.")
    write(alice, "written in a tunnel")
    write(alice, "and one more")
    expect(message(alice, "written in a tunnel")).to_contain_text("Sending…")
    write(bob, "said meanwhile")
    sent(bob, "said meanwhile")
    expect(message(alice, "said meanwhile")).to_have_count(0)

    window.set_offline(False)
    for page in (alice, bob):
        for text in ("said meanwhile", "written in a tunnel", "and one more"):
            sent(page, text)
    texts = alice.locator("#log .message .content").all_inner_texts()[-3:]
    assert texts == ["said meanwhile", "written in a tunnel", "and one more"]
    assert is_marked(alice)
    assert loads() == 0


def test_a_cut_line_goes_on_where_it_was(town: Town) -> None:
    """The line is reset and refused for a while: an edit, a reaction, a deletion and a message come in order."""
    line = town.line()
    bob, alice = town.page("bob"), town.page("alice", port=line.port)
    mark(alice)
    loads = asked(alice, "/state")
    for text in ("to be edited", "to be deleted"):
        write(bob, text)
        sent(alice, text)
    line.refuse()
    expect(alice.locator("#connection")).to_contain_text("Reconnecting")
    tool(sent(bob, "to be edited"), "Edit")
    bob.get_by_role("textbox", name="Edit the message").fill("has been changed")
    bob.keyboard.press("Enter")
    tool(sent(bob, "has been changed"), "Add a reaction")
    bob.get_by_role("menuitem", name="done").click()
    tool(sent(bob, "to be deleted"), "Delete")
    bob.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(message(bob, "This message was deleted.")).to_have_count(1)
    expect(sent(bob, "has been changed").locator(".reaction")).to_have_count(1)
    write(bob, "the newest")
    sent(bob, "the newest")
    write(alice, "from the other side")
    expect(message(alice, "from the other side")).to_contain_text("Sending…")

    line.accept()
    alice.get_by_role("button", name="Try now").click()
    sent(alice, "the newest")
    expect(message(alice, "This message was deleted.")).to_have_count(1)
    expect(sent(alice, "has been changed").locator(".reaction")).to_have_count(1)
    sent(bob, "from the other side")
    sent(alice, "from the other side")
    expect(alice.locator("#connection")).to_contain_text("You are back; 4 things happened meanwhile.")
    assert is_marked(alice)
    assert loads() == 0


def test_too_much_was_missed_and_all_is_loaded_anew(browser: Browser) -> None:
    with opened(browser, Settings(replay_events=3)) as town:
        line = town.line()
        bob, alice = town.page("bob"), town.page("alice", port=line.port)
        mark(alice)
        loads = asked(alice, "/state")
        alice.locator("#draft").fill("half a thought")
        line.refuse()
        expect(alice.locator("#connection")).to_contain_text("Reconnecting")
        for number in range(6):
            write(bob, f"number {number}")
            sent(bob, f"number {number}")
        line.accept()
        for number in range(6):
            sent(alice, f"number {number}")
        assert loads() == 1
        assert is_marked(alice)
        expect(alice.locator("#draft")).to_have_value("half a thought")


def test_what_the_server_refuses_can_be_sent_again(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")
    path = "**/channels/general/messages"
    alice.route(path, lambda route: route.fulfill(status=422, json={"error": "not today"}))
    write(alice, "first try")
    write(alice, "never mind")
    expect(message(alice, "first try")).to_contain_text("Not sent: not today.")
    alice.unroute(path)
    message(alice, "never mind").get_by_role("button", name="Discard").click()
    message(alice, "first try").get_by_role("button", name="Try again").click()
    sent(bob, "first try")
    sent(alice, "first try")
    expect(message(alice, "never mind")).to_have_count(0)


def test_an_answer_that_is_lost_makes_no_second_message(town: Town) -> None:
    alice, bob = town.page("alice"), town.page("bob")

    def lose(route: Any) -> None:
        route.fetch()
        route.abort()

    alice.route("**/channels/general/messages", lose, times=1)
    write(alice, "exactly once")
    sent(bob, "exactly once")
    sent(alice, "exactly once")
    write(alice, "and what follows")
    sent(bob, "and what follows")
    expect(message(bob, "exactly once")).to_have_count(1)
