"""The promises of every client, as one list of scenarios against a real server: cuts, delays, drains, expiring tokens,
floods, restarts. Here the Python client plays them on both back ends; `tests/browser` has the browser's play the same.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from stage import HERE, Scenario, python, stage

SCENARIOS: list[Scenario] = json.loads((HERE / "scenarios.json").read_text())


@pytest.mark.servers
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_the_python_client(scenario: Scenario, tmp_path: Path) -> None:
    players = {backend: partial(python, backend) for backend in ("asyncio", "trio")}
    with stage(scenario, players, tmp_path) as played:
        played.play()
