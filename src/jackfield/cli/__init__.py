"""The command line: `jackfield serve`, `token`, `publish`, `tail`, `events`, `hooks`, `plugins`, `asyncapi`, `types`,
`check`.

Each command is a module with `add`, which describes it and names the function that runs it. Exit codes: 0 for well
done, 1 for a configuration that cannot be or a check that failed, 2 for a command that makes no sense.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from jackfield.cli import _check, _contract, _publish, _serve, _show, _tail, _token
from jackfield.errors import ConfigurationError, EngineError

__all__ = ["main"]

EXAMPLES = """\
examples:
  export JACKFIELD_SECRET=$(python -c "import secrets; print(secrets.token_urlsafe(32))")
  jackfield serve --port 8000
  jackfield token --user alice --workspace acme
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. What went wrong is one line on standard error, never a traceback."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(
        prog="jackfield",
        description="Realtime for chat workspaces.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"jackfield {version('jackfield')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    try:
        for command in (_serve, _token, _publish, _tail, _show, _contract, _check):
            command.add(commands, arguments)
        chosen = parser.parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = chosen.run
        return run(chosen)
    except (ConfigurationError, EngineError) as error:
        print(f"jackfield: {error}", file=sys.stderr)
        return 1
    except SystemExit as done:  # argparse has said why
        return done.code if isinstance(done.code, int) else 0
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever reads it has enough; the end of the process must not write there either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
