"""What tests need in which Redis goes away."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def collected() -> Iterator[None]:
    """What a module leaves is found at its end, and not in the middle of another."""
    yield
    gc.collect()


@pytest.fixture
def cut_off(collected: None) -> None:
    """Where it cannot connect, and of every cluster, the client library leaves buffers unclosed, and Python says so
    when it finds them."""
    warnings.filterwarnings(
        "ignore", "Exception ignored in. <function MemoryObject", pytest.PytestUnraisableExceptionWarning
    )
