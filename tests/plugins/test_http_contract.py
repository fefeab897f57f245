"""What clients are built from, by HTTP: the client, its types, the AsyncAPI document and the page of it. No key."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from typing import Annotated

import attrs
import pytest

from jackfield import ClientEvent, CloseCode, Refused, ServerEvent, Session, hookimpl, on, testing
from jackfield.browser import script, types
from jackfield.events import Id, Shape
from jackfield.schema import asyncapi
from jackfield_http import HTTP
from jackfield_members import Members
from jackfield_presence import Presence
from jackfield_typing import Typing
from tests.core.test_structure import Option
from tests.plugins.chat import KEY, http

EVIL = "<script>alert(1)</script>"


class Said(ClientEvent, type="evil.said"):
    """A text with <script>alert(1)</script> & "quotes", and `<b>code</b>`."""

    v: Annotated[str, Shape("[<&>]+", "expected <script>alert(1)</script>")]
    """Of <i>one</i> field."""
    options: Option | None = None


class Happened(ServerEvent, type="evil.happened"):
    """It happened.

    And a second paragraph.
    """

    by: Id
    option: Option


class Evil(Refused):
    """It is <b>evil</b>."""

    code = "EVIL"


@attrs.define(eq=False)
class Author:
    """A plugin of somebody who writes what he likes."""

    name: str = "author"

    @hookimpl
    def register_events(self) -> Iterable[type[ClientEvent | ServerEvent]]:
        return Said, Happened

    @on(Said)
    async def hear(self, session: Session, event: Said) -> None:
        raise Evil


bench = partial(testing.bench, HTTP, Members, Presence, Typing, Author)

FILES = {
    "/jackfield.js": "text/javascript; charset=utf-8",
    "/jackfield.d.ts": "text/plain; charset=utf-8",
    "/asyncapi.json": "application/vnd.aai.asyncapi+json",
    "/docs": "text/html; charset=utf-8",
}


@pytest.mark.parametrize(("path", "media_type"), FILES.items())
async def test_everybody_may_have_it_and_asks_whether_it_is_still_so(path: str, media_type: str) -> None:
    async with bench() as b, http(b.app, key=None) as client:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == media_type
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-content-type-options"] == "nosniff"
        etag = answer.headers["etag"]
        assert re.fullmatch(r'"[0-9a-f]{32}"', etag)
        for held in (etag, f"W/{etag}", f'"old", {etag}', "*"):
            same = await client.get(path, headers={"if-none-match": held})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
        for held in ('"old"', etag[:-1], ""):
            assert (await client.get(path, headers={"if-none-match": held})).content == answer.content
        head = await client.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(answer.content))
        assert (await client.post(path)).status_code == 405


async def test_they_are_what_the_library_makes() -> None:
    async with bench() as b, http(b.app, key=None) as client:
        assert (await client.get("/jackfield.js")).text == script()
        assert (await client.get("/jackfield.d.ts")).text == types(b.app)
        assert (await client.get("/asyncapi.json")).json() == asyncapi(b.app)


async def test_a_page_of_another_origin_may_import_the_client() -> None:
    async with bench() as b, http(b.app, key=None) as client:
        for path, allowed in {
            "/jackfield.js": "*",
            "/jackfield.d.ts": "*",
            "/asyncapi.json": None,
            "/docs": None,
        }.items():
            assert (await client.get(path)).headers.get("access-control-allow-origin") == allowed


@pytest.mark.parametrize("path", FILES)
async def test_without_docs_nobody_reads_which_events_there_are(path: str) -> None:
    quiet = partial(HTTP, api_key=KEY, docs=False)
    async with testing.bench(quiet, Members) as b, http(b.app) as client:
        assert (await client.get(path)).status_code == (200 if path == "/jackfield.js" else 404)


# --- the page


class Read(HTMLParser):
    """What a browser makes of it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def all(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


@pytest.fixture
async def page() -> str:
    async with bench() as b, http(b.app, key=None) as client:
        return (await client.get("/docs")).text


async def test_the_page_says_all_of_it(page: str) -> None:
    async with bench() as b:
        document = asyncapi(b.app)
    read = Read(page)
    ids = set(read.all("id"))
    for type, message in document["components"]["messages"].items():
        assert type in ids
        assert type in read.text
        assert message["summary"].split("`")[0] in read.text
        data = message["payload"]["properties"].get("data") or message["payload"].get("anyOf", [{}, {}])[-1]
        pointer = data.get("$ref") or data.get("properties", {}).get("data", {}).get("$ref")
        if pointer:
            fields = document["components"]["schemas"][pointer.rpartition("/")[2]].get("properties", {})
            assert all(name in read.text for name in fields)
    for one in document["x-error-codes"]:
        assert one["code"] in read.text
        assert one["message"] in read.text
    assert all(str(code.value) in read.text for code in CloseCode)
    assert "latest by user_id" in read.text
    assert "cost 1" in read.text
    assert "by author" in read.text
    assert "/ws/{workspace_id}" in read.text


async def test_what_an_author_wrote_is_text_and_nothing_else(page: str) -> None:
    read = Read(page)
    assert EVIL in read.text
    assert 'A text with <script>alert(1)</script> & "quotes", and <b>code</b>.' in read.text
    assert "Of <i>one</i> field." in read.text
    assert "It is <b>evil</b>." in read.text
    assert "[<&>]+" in read.text
    assert "And a second paragraph." in read.text
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "img", "iframe", "form", "link", "object"}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on") or name == "style"]


async def test_nothing_comes_from_elsewhere(page: str) -> None:
    read = Read(page)
    assert set(read.all("src")) == set()
    assert {href for href in read.all("href") if not href.startswith("#")} == {
        "asyncapi.json",
        "jackfield.d.ts",
        "jackfield.js",
    }
    assert "url(" not in page
    assert "@import" not in page


async def test_its_style_is_the_only_thing_that_it_may_load() -> None:
    async with bench() as b, http(b.app, key=None) as client:
        answer = await client.get("/docs")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    own = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{own}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


async def test_every_link_within_it_leads_somewhere_and_every_place_is_there_once(page: str) -> None:
    read = Read(page)
    ids = read.all("id")
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in read.all("href") if href.startswith("#")} <= set(ids)
    assert set(read.all("aria-labelledby")) <= set(ids)


async def test_it_can_be_read_by_ear_and_by_keyboard(page: str) -> None:
    read = Read(page)
    tags = [tag for tag, _ in read.tags]
    assert dict(read.tags)["html"] == {"lang": "en"}
    assert tags.count("h1") == tags.count("main") == tags.count("nav") == tags.count("title") == 1
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    first = next(attributes for tag, attributes in read.tags if tag == "a")
    assert first["href"] == "#main"
    scrolling = [attributes for tag, attributes in read.tags if tag == "pre" or attributes.get("class") == "wide"]
    assert scrolling
    assert all(attributes.get("tabindex") == "0" for attributes in scrolling)
    assert all(attributes.get("scope") for tag, attributes in read.tags if tag == "th")
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
