"""The applications of examples/ on the servers that their first lines name, with one client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from servers import _free_port
from wireclient import Client, connect

pytestmark = pytest.mark.servers

EXAMPLES = Path(__file__).parents[2] / "examples"
STARTS_WITHIN = 20.0
STOPS_WITHIN = 10.0
UVICORN = ("-m", "uvicorn", "--host=127.0.0.1", "--port={port}")


@contextmanager
def served(*command: str) -> Generator[int]:
    """The port of a server, until it is told to end; it has to, and without a word of complaint."""
    port = _free_port()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in command)],
            cwd=EXAMPLES,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + STARTS_WITHIN
            while not _answers(port):
                assert process.poll() is None, "it did not start"
                assert time.monotonic() < deadline, "it does not answer"
                time.sleep(0.05)
            yield port
            process.terminate()
            assert process.wait(STOPS_WITHIN) in (0, -signal.SIGTERM)
        except BaseException as error:
            printed.seek(0)
            error.add_note(f"--- it printed ---\n{printed.read()}")
            raise
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        printed.seek(0)
        assert "Traceback" not in printed.read()


def _answers(port: int) -> bool:
    try:
        httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
    except httpx.TransportError:
        return False
    return True


@contextmanager
def client(port: int, path: str, *, cookie: str | None = None) -> Generator[Client]:
    headers = [] if cookie is None else [("Cookie", cookie)]
    connected = connect(f"ws://127.0.0.1:{port}{path}", headers=headers)
    try:
        yield connected
        connected.close()
    finally:
        connected.abort()


def test_starlette_on_uvicorn() -> None:
    with served(*UVICORN, "starlette_app:app") as port, httpx.Client(trust_env=False) as http:
        url = f"http://127.0.0.1:{port}"
        http.post(f"{url}/login", json={"user_id": "alice"}).raise_for_status()
        with client(port, "/ws/acme", cookie=f"session={http.cookies['session']}") as alice:
            assert alice.expect("hello")["data"]["user_id"] == "alice"
            http.post(f"{url}/channels/general/messages", json={"content": "Grüße"}).raise_for_status()
            assert alice.expect("message.new")["data"]["content"] == "Grüße"


def test_fastapi_on_uvicorn() -> None:
    with served(*UVICORN, "fastapi_app:app") as port:
        url = f"http://127.0.0.1:{port}/workspaces/acme/channels"
        headers = {"authorization": "Bearer token-of-alice"}
        with (
            client(port, "/ws/acme?token=token-of-alice") as alice,
            httpx.Client(headers=headers, trust_env=False) as http,
        ):
            assert alice.expect("hello")["data"]["user_id"] == "alice"
            channel = http.post(url, json={"name": "general"}).raise_for_status().json()
            http.post(f"{url}/{channel}/messages", json={"content": "Grüße"}).raise_for_status()
            assert alice.expect("channel.created")["data"]["name"] == "general"
            assert alice.expect("message.new")["data"]["content"] == "Grüße"


def test_trio_on_anycorn() -> None:
    with served("trio_server.py", "{port}") as port, client(port, "/ws/ops") as guest:
        assert guest.expect("hello")["data"]["state"]["presence"] == [{"user_id": "guest", "status": "online"}]
        assert guest.expect("pulse")["data"]["tasks"] > 5
