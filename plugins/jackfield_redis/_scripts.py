"""The scripts, as Redis is given them: each with the rules of a workspace before it."""

from __future__ import annotations

from importlib.resources import files

__all__ = ["SCRIPTS"]

_FOLDER = files("jackfield_redis") / "lua"
_LEDGER = (_FOLDER / "ledger.lua").read_text("utf-8")

SCRIPTS = {
    name: f"{_LEDGER}\n{(_FOLDER / f'{name}.lua').read_text('utf-8')}"
    for name in ("catch_up", "commit", "due", "give_back", "heads", "read", "records")
}
