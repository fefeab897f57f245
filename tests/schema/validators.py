"""Validators that read a pattern as JSON Schema means it: as ECMA-262 does, not as Python's `re`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
from jsonschema.validators import extend

from jackfield.schema import asyncapi


def pattern(_: object, pattern: str, instance: object, schema: object) -> Iterator[jsonschema.ValidationError]:
    # `$` of Python's is also in front of a last line feed.
    if isinstance(instance, str) and not re.search(pattern.removesuffix("$") + r"\Z", instance):
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


Draft7 = extend(jsonschema.Draft7Validator, {"pattern": pattern})
Draft2020 = extend(jsonschema.Draft202012Validator, {"pattern": pattern})


class Contract:
    """The frames of an application, by its AsyncAPI document."""

    def __init__(self, app: Any) -> None:
        self.document = asyncapi(app)
        self._messages: Mapping[str, Any] = self.document["components"]["messages"]

    def _whole(self, type: str) -> Mapping[str, Any]:
        # The schemas come along, for what the payload points at.
        return {"allOf": [self._messages[type]["payload"]], "components": self.document["components"]}

    def takes(self, frame: Mapping[str, Any]) -> bool:
        """Whether it is what its `type` is described as."""
        return bool(Draft7(self._whole(frame["type"])).is_valid(frame))

    def check(self, frame: Mapping[str, Any]) -> None:
        """The same, with the reason."""
        Draft7(self._whole(frame["type"])).validate(frame)
