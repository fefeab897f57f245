"""Every asynchronous test runs twice: under asyncio in debug mode, and under trio. No test is timed.

The fixture has the scope of the one in anyio that it replaces; a narrower one would trouble Hypothesis.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# By default an example that takes longer than 200 ms is a fault; on a busy machine any does.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Debug mode keeps ten frames of whoever schedules anything, which takes most of the time of a test. One says where.
asyncio.constants.DEBUG_STACK_DEPTH = 1


def unhurried() -> asyncio.AbstractEventLoop:
    """In debug mode a loop logs what takes longer than 100 ms; on a busy machine anything does."""
    loop = asyncio.new_event_loop()
    loop.slow_callback_duration = math.inf
    return loop


BACKENDS = [
    pytest.param(("asyncio", {"debug": True, "loop_factory": unhurried}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return request.param
