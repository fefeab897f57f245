"""Testing without sockets and without sleeping, under asyncio and trio: for plugin authors, and for jackfield itself.

async with bench(Polls) as b:
    alice = await b.connect("alice", channels=["c1"])
    await alice.request(PollVote("p1", "tea"))
    assert await alice.receive(PollUpdated) == PollUpdated("p1", "c1", {"tea": 1})
    await b.clock.advance(5)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jackfield.testing._bench import Bench, BenchNode, bench
from jackfield.testing._client import Client, Closed
from jackfield.testing._clock import FakeClock, settle
from jackfield.testing._initial_state import check_initial_state
from jackfield.testing._interleave import moment
from jackfield.testing._transport import ANYCORN, DAPHNE, GRANIAN, HYPERCORN, UVICORN, Profile

if TYPE_CHECKING:
    from jackfield.testing._engine_contract import EngineContract

__all__ = [
    "ANYCORN",
    "DAPHNE",
    "GRANIAN",
    "HYPERCORN",
    "UVICORN",
    "Bench",
    "BenchNode",
    "Client",
    "Closed",
    "EngineContract",
    "FakeClock",
    "Profile",
    "bench",
    "check_initial_state",
    "moment",
    "settle",
]


def __getattr__(name: str) -> object:
    # The contract is written for pytest; the rest gets along without.
    if name == "EngineContract":
        from jackfield.testing._engine_contract import EngineContract

        return EngineContract
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
