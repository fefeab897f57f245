"""The pytest plugin: loaded by its entry point, it gives tests a clock that stands still."""

from __future__ import annotations

import pytest

from jackfield.testing._clock import FakeClock

__all__ = ["fake_clock"]


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock for `bench(…, clock=fake_clock)`, or for what an embedder tests himself."""
    return FakeClock()
