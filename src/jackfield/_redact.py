"""Keeps tokens out of the servers' logs: some write the query string of every upgrade."""

from __future__ import annotations

import logging
import re

__all__ = ["install"]

_token = re.compile(r"((?:^|[?&\s])token=)[^&\s\"']+")
_LOGGERS = (
    "uvicorn.error",
    "uvicorn.access",
    "uvicorn.asgi",
    "hypercorn.error",
    "hypercorn.access",
    "_granian",
    "granian.access",
)


class _Redacting(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _clean(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(_clean(arg) for arg in record.args)
        elif record.args:
            record.args = {key: _clean(arg) for key, arg in record.args.items()}
        return True


def _clean(value: object) -> object:
    return _token.sub(r"\1…", value) if isinstance(value, str) and "token=" in value else value


_filter = _Redacting()


def install() -> None:
    """Put the filter on the loggers of the known servers. Doing it again changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_filter)
