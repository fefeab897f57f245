"""Most of what a plugin promises holds on one node and on three."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[1, 3], ids=["one-node", "three-nodes"])
def nodes(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count
