"""A small chat to try out: `python -m examples.workspace [--port 8000] [--database PATH]`."""

from __future__ import annotations

import argparse
from contextlib import suppress

import anyio
import uvicorn

from examples.workspace.app import chat
from examples.workspace.database import Database
from examples.workspace.seed import seed
from jackfield import ConfigurationError, Settings
from jackfield.serving import listen

__all__ = ["main"]


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m examples.workspace", description=__doc__)
    options.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    options.add_argument("--database", default=":memory:", help="a file to keep; without it nothing is kept")
    chosen = options.parse_args()
    with suppress(KeyboardInterrupt):
        anyio.run(serve, chosen.port, chosen.database)


async def serve(port: int, path: str) -> None:
    """Until Ctrl+C."""
    try:
        listener = listen("127.0.0.1", port)
    except ConfigurationError as error:
        raise SystemExit(f"{error} Take another: --port 0") from None
    database = Database(path)
    await seed(database)
    app = chat(database, settings=Settings(drain_on_signals=True))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print("Open both, in one browser or in two; each tab is a user of its own:\n")
    for user in ("alice", "bob"):
        # Behind the # it stays in the browser: no server's log has it.
        print(f"  {user:6} {address}/#{await database.add_key(user)}")
    print("\nCtrl+C stops it.", flush=True)
    try:
        await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])
    finally:
        database.close()


if __name__ == "__main__":
    main()
