"""Which engines are open in this process, and in which event loop: one loop cannot wake another by what they share."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager

from anyio.lowlevel import current_token

from jackfield.errors import ConfigurationError

__all__ = ["opened"]

_loops: dict[tuple[int, int], tuple[object, list[object]]] = {}
"""(process, id of the engine) → the engine, so that the id stays its own, and a loop for each that has it open. What
stood there when a process was forked is not its child's."""


@contextmanager
def opened(engine: object) -> Generator[None]:
    """While it is open in this event loop. Raises ConfigurationError where another one has it."""
    key, here = (os.getpid(), id(engine)), current_token()
    _, loops = _loops.setdefault(key, (engine, []))
    loops.append(here)  # before looking: where two threads come at once, none of them gets it
    try:
        if any(loop != here for loop in loops):
            raise ConfigurationError(
                f"this {type(engine).__name__} is open in another event loop of this process: "
                "give each application an engine of its own."
            )
        yield
    finally:
        loops.remove(here)
        if not loops:
            _loops.pop(key, None)
