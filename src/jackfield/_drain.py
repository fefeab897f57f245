"""A node that ends sends its clients elsewhere: how many at a time, and when each should be back. Pure.

Closed all at once they would all be back at once, on the nodes that are left or on the one that replaces this. So each
is told a moment of its own, and the closes themselves go out in batches, between which everything else in the process
gets on.
"""

from __future__ import annotations

import math
import random

import attrs

__all__ = ["PAUSE", "Drain", "plan"]

BATCH = 500
PAUSE = 0.1
"""Seconds between two batches."""

WINDOW = (2.0, 25.0)
"""Seconds over which clients are spread: no less even where there are few, and no more however many there are."""


@attrs.frozen
class Drain:
    """`batch` connections are ended at a time, and their clients spread over `window` seconds. All have to be gone
    within `limit` seconds; `reserve` more are for what is written last."""

    batch: int
    window: float
    limit: float
    reserve: float

    def retry_after_ms(self) -> int:
        """When one client should be back."""
        return int(random.uniform(0, self.window) * 1000)

    def retry_after(self) -> int:
        """The same for who was not let in: whole seconds, and at least one."""
        return max(1, math.ceil(random.uniform(0, self.window)))


def plan(connections: int, *, rate: float, held: float, timeout: float) -> Drain:
    """How so many connections are ended.

    `rate` is how many clients a second the others can take. `held` is for how many seconds it goes unnoticed that
    somebody is away: clients are told to be back in half of it, which leaves the other half for the way. `timeout` is
    how many seconds it may take in all.
    """
    fewest, most = WINDOW
    limit = timeout * 3 / 4
    batches = max(1, int(limit / 2 / PAUSE))  # the other half of the limit is for them to go
    return Drain(
        batch=max(BATCH, math.ceil(connections / batches)),
        window=min(max(fewest, min(connections / rate, most)), held / 2),
        limit=limit,
        reserve=timeout - limit,
    )
