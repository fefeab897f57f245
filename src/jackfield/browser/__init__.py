"""What a page in a browser needs: the client `jackfield.js`, and the TypeScript of an application's events.

Both are texts: the plugin `HTTP` serves them as `/jackfield.js` and `/jackfield.d.ts`, and `jackfield types` prints the
second.
"""

from __future__ import annotations

from importlib.resources import files

from jackfield.browser._types import types

__all__ = ["script", "types"]


def script() -> str:
    """The client, one ES module without dependencies: `import { connect } from "./jackfield.js"`."""
    return files("jackfield.browser").joinpath("jackfield.js").read_text("utf-8")
