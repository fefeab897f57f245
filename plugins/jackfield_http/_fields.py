"""Schemas as tables of fields, for the page. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

__all__ = ["Fields", "heading", "prose", "slug"]

Schema = Mapping[str, Any]


def slug(text: str) -> str:
    """What stands in an address for a type or a name."""
    return re.sub(r"[^\w.-]", "-", text, flags=re.ASCII)


def prose(text: str, *, inline: bool = False) -> str:
    """A text of an author: escaped, `code` marked, in paragraphs but for `inline`."""
    marked = re.sub(r"``?([^`]+)``?", r"<code>\1</code>", escape(text))
    return marked if inline else "".join(f"<p>{part}</p>" for part in marked.split("\n\n") if part)


def heading(level: int, id: str, inside: str) -> str:
    """A heading that leads to itself, for whoever wants to send it to somebody."""
    return f'<h{level} id="{id}"><a class="self" href="#{id}">{inside}</a></h{level}>'


def _place(name: str) -> str:
    # No type of an event has a dash.
    return f"kind-{slug(name)}"


class Fields:
    """Tables of the fields of `named` schemas."""

    def __init__(self, named: Mapping[str, Schema]) -> None:
        self.named = named

    def table(self, schema: Schema, caption: str) -> str:
        """A row a field, those of an object that stands in the field behind it. "" where there is none."""
        rows = "".join(
            f'<tr><th scope="row"><code>{name}</code>{"" if required else " <i>optional</i>"}</th>'
            f'<td class="type">{self.type(inner)}</td><td>{self._about(inner)}</td></tr>'
            for name, inner, required in self._rows(schema, "")
        )
        if not rows:
            return ""
        return (
            f'<div class="wide" tabindex="0" role="region" aria-label="Fields of {escape(caption)}"><table>'
            '<thead><tr><th scope="col">field</th><th scope="col">type</th><td></td></tr></thead>'
            f"<tbody>{rows}</tbody></table></div>"
        )

    def kind(self, name: str) -> str:
        """One that others point at."""
        schema = self.named[name]
        pattern = (
            f"<p>It matches <code class='pattern'>{escape(schema['pattern'])}</code></p>" if "pattern" in schema else ""
        )
        return (
            f'<article aria-labelledby="{_place(name)}">{heading(3, _place(name), escape(name))}'
            f"{prose(schema.get('description', ''))}{pattern}{self.table(schema, name)}</article>"
        )

    def type(self, schema: Schema) -> str:
        """What a field takes, in a few words."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f'<a href="#{_place(name)}">{escape(name)}</a>'
        if "const" in schema or "enum" in schema:
            values = schema.get("enum", [schema.get("const")])
            return " or ".join(f"<code>{escape(json.dumps(one, ensure_ascii=False))}</code>" for one in values)
        if "anyOf" in schema:
            return " or ".join(dict.fromkeys(map(self.type, schema["anyOf"])))
        match schema.get("type"):
            case "array":
                return f"array of {self.type(schema['items'])}" if "items" in schema else "array"
            case "object" if (more := schema.get("additionalProperties")) not in (None, True):
                return f"object of {self.type(more)}"
            case str(word):
                return word
            case _:
                return self.type(schema["allOf"][0]) if "allOf" in schema else "any"

    def _rows(self, schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
        whole = self.named[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        for name, inner in whole.get("properties", {}).items():
            yield f"{path}{escape(name)}", inner, name in whole.get("required", ())
            if "$ref" not in inner:
                yield from self._rows(inner, f"{path}{escape(name)}.")
        alternatives: list[Schema] = [one for one in whole.get("anyOf", ()) if path and "properties" in one]
        for name in dict.fromkeys(name for one in alternatives for name in one["properties"]):
            having = [one["properties"][name] for one in alternatives if name in one["properties"]]
            required = all(name in one.get("required", ()) for one in alternatives)
            yield f"{path}{escape(name)}", having[0] if len(having) == 1 else {"anyOf": having}, required

    @staticmethod
    def _about(schema: Schema) -> str:
        parts = [prose(schema.get("description", ""), inline=True)]
        if "pattern" in schema:
            parts.append(f"<code class='pattern'>{escape(schema['pattern'])}</code>")
        if "maxLength" in schema:
            parts.append(f"At most {schema['maxLength']} characters.")
        if "default" in schema:
            parts.append(f"By default <code>{escape(json.dumps(schema['default'], ensure_ascii=False))}</code>.")
        return " ".join(filter(None, parts))
