"""The AsyncAPI document as a page to read: no script, nothing from elsewhere, one style. Pure."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from jackfield_http._fields import Fields, heading, prose, slug

__all__ = ["page", "policy"]

CONNECT = """\
import {{ connect }} from "./jackfield.js";

const live = connect("{address}", {{
  token: async () => (await fetch("/token")).text(),  // yours
}});
live.on("{event}", (data) => console.log(data));"""


@cache
def style() -> str:
    """The page's one style."""
    return files("jackfield_http").joinpath("docs.css").read_text("utf-8")


def policy() -> str:
    """The content security policy of the page: its own style, and nothing else whatever somebody wrote into a text."""
    own = b64encode(sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{own}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def page(document: Mapping[str, Any]) -> str:
    """The whole page of an AsyncAPI document that `jackfield.schema.asyncapi` made."""
    return _Page(document).html()


class _Page:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._info: Mapping[str, str] = document["info"]
        (self._channel,) = document["channels"].values()
        self._fields = Fields(document["components"]["schemas"])
        messages: Mapping[str, Any] = document["components"]["messages"]
        operations = document["operations"]
        self._said = {type: messages[type] for type in _types_of(operations["say"])}
        self._heard = {type: messages[type] for type in _types_of(operations["hear"])}

    def html(self) -> str:
        info = self._info
        sections = (
            ("connect", "Connect", self._connect(), ()),
            ("say", "What clients say", self._say(), self._said),
            ("hear", "What clients hear", self._hear(), self._heard),
            ("kinds", "Kinds of values", self._kinds(), ()),
            ("errors", "Error codes", self._errors(), ()),
            ("closes", "Close codes", self._closes(), ()),
        )
        contents = "".join(f'<li><a href="#s-{id}">{title}</a>{_list(types)}</li>' for id, title, _, types in sections)
        body = "".join(
            f'<section aria-labelledby="s-{id}">{heading(2, f"s-{id}", title)}{inside}</section>'
            for id, title, inside, _ in sections
        )
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>{escape(info['title'])}</title><style>{style()}</style></head><body>"
            '<a class="skip" href="#main">Skip to the content</a>'
            f'<nav aria-label="Contents"><p class="brand">{escape(info["title"])}</p><ul>{contents}</ul></nav>'
            f'<main id="main"><header><h1>{escape(info["title"])}</h1>'
            f'<p class="version">Version {escape(info["version"])}</p>'
            f'<div class="lead">{prose(info["description"])}</div>'
            '<ul class="files">'
            '<li><a href="asyncapi.json"><b>asyncapi.json</b> all of it for machines, AsyncAPI 3</a></li>'
            '<li><a href="jackfield.d.ts"><b>jackfield.d.ts</b> TypeScript of every event</a></li>'
            '<li><a href="jackfield.js"><b>jackfield.js</b> the client for browsers</a></li>'
            f"</ul></header>{body}</main></body></html>\n"
        )

    # --- sections

    def _connect(self) -> str:
        channel = self._channel
        query: Mapping[str, Any] = channel["bindings"]["ws"]["query"]["properties"]
        rows = [
            (f"<code>{{{escape(name)}}}</code>", "path", prose(said["description"], inline=True))
            for name, said in channel["parameters"].items()
        ]
        rows += [
            (f"<code>{escape(name)}</code>", "query", prose(said["description"], inline=True))
            for name, said in query.items()
        ]
        ways = "".join(
            f"<li>{prose(scheme['description'], inline=True)}</li>"
            for scheme in self._document["components"]["securitySchemes"].values()
        )
        event = next((type for type in self._heard if "." in type), "*")
        example = CONNECT.format(address=channel["address"].replace("{workspace_id}", "acme"), event=event)
        return (
            f'<p class="address"><code>{escape(channel["address"])}</code></p>'
            f"{prose(channel['description'])}"
            f"{_table(('name', 'in', ''), rows, 'What the address says')}"
            f"<h3>Who are you?</h3><ul>{ways}</ul>"
            f"<h3>From a page</h3>{_code(example)}"
        )

    def _say(self) -> str:
        return (
            "<p>The fields stand beside <code>type</code>, as in the examples, or all of them in a <code>data</code> "
            "object. A <code>ref</code> beside <code>type</code>, a text of at most 64 characters or an integer, asks "
            "for an answer: <a href='#ack'><code>ack</code></a>, or <a href='#error'><code>error</code></a> with the "
            "same <code>ref</code>. <i>Cost</i> is what an event takes of its sender’s rate limit.</p>"
        ) + "".join(self._event(type, message, _inside(message)) for type, message in self._said.items())

    def _hear(self) -> str:
        return (
            "<p>Each is <code>type</code>, <code>data</code>, <code>workspace_id</code> and <code>timestamp</code>; "
            "the fields below are those of <code>data</code>. <i>Durable</i> events are never dropped, and carry a "
            "<code>cursor</code> where the client asked by <code>?resume=</code>. <i>Latest</i> gives way to a newer "
            "one of the same key on a connection that cannot keep up; <i>ephemeral</i> is dropped first.</p>"
        ) + "".join(
            self._event(type, message, message["payload"]["properties"].get("data"))
            for type, message in self._heard.items()
        )

    def _event(self, type: str, message: Mapping[str, Any], data: Mapping[str, Any] | None) -> str:
        manner = message["x-jackfield"]
        if "cost" in manner:
            badges = [f"cost {manner['cost']}"]
        else:
            badges = [manner["delivery"] + (f" by {', '.join(manner['key'])}" if "key" in manner else "")]
        badges.append(f"by {manner['plugin']}")
        text = "".join(f"<span>{escape(badge)}</span>" for badge in badges)
        said = "\n\n".join(message[part] for part in ("summary", "description") if part in message)
        return (
            f'<article aria-labelledby="{slug(type)}">{_title(type)}<p class="badges">{text}</p>{prose(said)}'
            f"{self._beside(message['payload'])}"
            f"{self._fields.table(data, type) if data else ''}"
            f"{''.join(_code(_pretty(one['payload'])) for one in message.get('examples', ()))}"
            "</article>"
        )

    def _beside(self, payload: Mapping[str, Any]) -> str:
        """In words, where the server's envelope is another one."""
        properties = payload["properties"]
        if "anyOf" in payload or {"data", "workspace_id"} <= set(properties):
            return ""
        if "data" in properties:
            return "<p>It has no <code>workspace_id</code>.</p>"
        names = " and ".join(f"<code>{escape(name)}</code>" for name in properties if name != "type")
        return f"<p>It is bare: no <code>data</code>. {names} may stand beside <code>type</code>.</p>"

    def _kinds(self) -> str:
        mine = {_last(data) for message in self._said.values() if (data := _inside(message))}
        mine |= {
            _last(data) for message in self._heard.values() if (data := message["payload"]["properties"].get("data"))
        }
        return "<p>What the tables above point at.</p>" + "".join(
            self._fields.kind(name) for name in self._fields.named if name not in mine
        )

    def _errors(self) -> str:
        codes: Sequence[Mapping[str, str]] = self._document["x-error-codes"]
        rows = [(f"<code>{escape(one['code'])}</code>", escape(one["message"]), escape(one["plugin"])) for one in codes]
        return (
            "<p>In <code>data.code</code> of an <a href='#error'><code>error</code></a>. There may be others.</p>"
            + (_table(("code", "message", "by"), rows, "Error codes"))
        )

    def _closes(self) -> str:
        codes: Sequence[Mapping[str, Any]] = self._document["x-close-codes"]
        rows = [
            (f"<code>{one['code']}</code>", prose(one["reason"], inline=True), prose(one["client"], inline=True))
            for one in codes
        ]
        return (
            "<p>A client that does not know a code: 4000 to 4499 reconnect, with a jittered and growing pause; 4500 to "
            "4999 do not, until something changes.</p>"
        ) + _table(("code", "reason", "client"), rows, "Close codes")


# --- pieces


def _inside(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a client's event's fields: its second form has them in one piece."""
    fields: Mapping[str, Any] = message["payload"]["anyOf"][1]["properties"]["data"]
    return fields


def _types_of(operation: Mapping[str, Any]) -> list[str]:
    return [_last(message) for message in operation["messages"]]


def _last(pointer: Mapping[str, str]) -> str:
    return pointer["$ref"].rpartition("/")[2]


def _list(types: Iterable[str]) -> str:
    items = "".join(f'<li><a href="#{slug(type)}">{_breaking(type)}</a></li>' for type in types)
    return f"<ul>{items}</ul>" if items else ""


def _title(type: str) -> str:
    return heading(3, slug(type), f"<code>{_breaking(type)}</code>")


def _pretty(payload: Mapping[str, Any]) -> str:
    return json.dumps(payload, indent=2, ensure_ascii=False)


def _breaking(type: str) -> str:
    """A long one may go on in the next line behind a dot."""
    return escape(type).replace(".", ".<wbr>")


def _code(text: str) -> str:
    # Reached by the keyboard, or its end could not be read on a narrow screen.
    marked = (
        re.sub(r"(&quot;[^\n]*?&quot;)(:?)", r"<span>\1</span>\2", escape(text))
        if text.startswith("{")
        else escape(text)
    )
    return f'<pre tabindex="0"><code>{marked}</code></pre>'


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    head = "".join(f'<th scope="col">{text}</th>' if text else "<td></td>" for text in heads)
    lines = "".join(
        "<tr>" + f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
