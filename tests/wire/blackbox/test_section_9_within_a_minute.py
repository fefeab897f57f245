"""Section 9, the minute that nothing shortens: it began with the shared server, and this file comes last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from outsider import Pest

pytestmark = pytest.mark.servers


@pytest.mark.timeout(100)
def test_whoever_is_rate_limited_for_a_minute_is_closed(pest: Pest) -> None:
    """He began when this server did."""
    closed, took = pest.outcome()
    assert closed is not None
    _, code, reason = closed
    assert code == 4006
    assert reason.startswith("retry_after_ms=")
    assert int(reason.removeprefix("retry_after_ms=")) > 0
    assert 60 <= took < 80
