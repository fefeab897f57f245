"""What is said on the wire, for machines: the JSON Schema of an event, and the AsyncAPI document of an application."""

from __future__ import annotations

from jackfield.schema._asyncapi import asyncapi
from jackfield.schema._json_schema import json_schema

__all__ = ["asyncapi", "json_schema"]
