"""No variable of the machine that the suite runs on is one of the tests."""

from __future__ import annotations

import os

import pytest

SECRET = "a secret that only the tests of the command line know"


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith("JACKFIELD_"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def secret(environ: pytest.MonkeyPatch) -> str:
    environ.setenv("JACKFIELD_SECRET", SECRET)
    return SECRET
