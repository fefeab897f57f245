"""`module:app`: an application in somebody's code, and the jackfield in it."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from jackfield import ConfigurationError, Jackfield

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["load"]


def load(target: str) -> tuple[Any, Jackfield]:
    """What `module:app` names, and the Jackfield that it is or mounts. Raises ConfigurationError in one line, whatever
    the import raised."""
    path, separator, name = target.partition(":")
    if not path or not separator or not name:
        raise ConfigurationError(f"{target} names nothing. Write module:app, such as chat.main:app.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does, and a console script does not
    try:
        module = importlib.import_module(path)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(f"cannot import {path}: {_where(error)}{type(error).__name__}: {error}") from None
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        raise ConfigurationError(f'{path} has no "{name}". {_offer(module)}'.rstrip())
    realtime = next(_inside(found), None)
    if realtime is None:
        raise ConfigurationError(
            f"{target} is no Jackfield and mounts none ({type(found).__name__}). {_offer(module)}".rstrip()
        )
    return found, realtime


def _inside(app: Any) -> Iterator[Jackfield]:
    """Every Jackfield that an application is, wraps as middleware, or mounts."""
    seen: set[int] = set()
    while app is not None and id(app) not in seen:
        seen.add(id(app))
        if isinstance(app, Jackfield):
            yield app
            return
        routes: Iterable[Any] = getattr(app, "routes", None) or ()
        for route in routes:
            yield from _inside(getattr(route, "app", None))
        app = getattr(app, "app", None)


def _where(error: Exception) -> str:
    """The last line of somebody's own file that it went through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if "importlib" not in frame.filename]
    return f"{os.path.relpath(own[-1].filename)}:{own[-1].lineno}: " if own else ""


def _offer(module: ModuleType) -> str:
    names = sorted(name for name, value in vars(module).items() if isinstance(value, Jackfield))
    return f"There is: {', '.join(names)}." if names else ""
