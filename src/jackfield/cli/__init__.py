"""The command line: `jackfield serve`, `token`, `events`, `hooks`, `plugins`, `check`.

Each command is a module with `add`, which describes it, and `run`, which returns the exit code: 0 for well done, 1 for
a configuration that cannot be, 2 for a command that makes no sense.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jackfield.cli import _serve
from jackfield.errors import ConfigurationError, EngineError

__all__ = ["main"]

COMMANDS = (_serve,)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what it has to say is one line on standard error, never a traceback."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="jackfield", description="The realtime half of a chat.", allow_abbrev=False
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands, arguments)
    chosen = parser.parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except (ConfigurationError, EngineError) as error:
        print(f"jackfield: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return code
