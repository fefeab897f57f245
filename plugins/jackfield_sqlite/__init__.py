"""One file that keeps everything: for one node whose workspaces survive its restarts.

    Jackfield(…, engine=SQLiteEngine("jackfield.db"))

What was published is on the disk when `publish` returns. One process has the file at a time; a second one is refused.
"""

from __future__ import annotations

from jackfield_sqlite._engine import SQLiteEngine

__all__ = ["SQLiteEngine"]
