"""Every asynchronous test runs twice: under asyncio in debug mode, and under trio.

The fixture has the scope of the one in anyio that it replaces; a narrower one would trouble Hypothesis.
"""

from __future__ import annotations

import pytest

BACKENDS = [
    pytest.param(("asyncio", {"debug": True}), id="asyncio"),
    pytest.param(("trio", {}), id="trio"),
]


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param
