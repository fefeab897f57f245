"""Who sees which channel: `Members` remembers channels and memberships, `OpenWorkspace` shows everything to everyone.
A host answers from his own database instead by the hook `channels_of`."""

from __future__ import annotations

from jackfield_members._members import Members
from jackfield_members._open import OpenWorkspace

__all__ = ["Members", "OpenWorkspace"]
