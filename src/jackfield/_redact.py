"""Keeps tokens out of logs: servers write the query string of every upgrade, and at their most talkative level headers
and frames, too."""

from __future__ import annotations

import logging
import re
from copy import copy

__all__ = ["clean", "install"]

# In a query, a header or a subprotocol, the JSON of a frame; plain, or in the repr of any of these.
_name = "".join(f"(?:{letter}|%{ord(letter):x})" for letter in "token")  # in a query it may be encoded, too
_secrets = re.compile(
    rf"""((?:^|[?&\s'"]){_name}=|\bbearer[ .]|\\?["']token\\?["']\s*:\s*\\?["'])[^&\s"',;\\)\]]+""", re.IGNORECASE
)
_LOGGERS = (
    "uvicorn.error",
    "uvicorn.access",
    "uvicorn.asgi",
    "hypercorn.error",
    "hypercorn.access",
    "anycorn.error",
    "anycorn.access",
    "_granian",
    "granian.access",
)


def clean(text: str) -> str:
    """The same without a token."""
    return _secrets.sub(r"\1…", text)


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # The arguments first, each in its place, since some formatters look for them there; and an access log's know
        # what to say of a name that they have not.
        if isinstance(record.args, tuple):
            record.args = tuple(_clean(arg) for arg in record.args)
        elif isinstance(record.args, dict):
            found = {key: cleaned for key, arg in record.args.items() if (cleaned := _clean(arg)) is not arg}
            record.args = copy(record.args)
            record.args.update(found)
        try:
            text = record.getMessage()
        except Exception:  # whoever writes it says what is wrong with it
            return True
        if (cleaned := clean(text)) != text:
            record.msg, record.args = cleaned, None
        if record.exc_info and not record.exc_text:
            text = _formatter.formatException(record.exc_info)
            if (cleaned := clean(text)) != text:
                record.exc_text = cleaned
        return True


def _clean(value: object) -> object:
    """The value itself where nothing is in it, so that a format finds the type that it wants."""
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return value if (cleaned := clean(text)) == text else cleaned


_formatter = logging.Formatter()
_filter = _Redacting()


def install() -> None:
    """Put the filter on the loggers of the known servers. Doing it again changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)
