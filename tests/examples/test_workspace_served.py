"""`python -m examples.workspace`, as somebody starts it to try it out."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from wireclient import connect

pytestmark = pytest.mark.servers

ROOT = Path(__file__).parents[2]
ADDRESS = re.compile(r"^ +(\w+) +(http://127\.0\.0\.1:\d+)/#(\S+)$")


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "examples.workspace", *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_it_prints_two_addresses_and_ends_at_once(tmp_path: Path) -> None:
    for _ in range(2):  # the second time with the file of the first
        process = start("--port=0", f"--database={tmp_path / 'chat.db'}")
        try:
            assert process.stdout is not None
            printed: list[str] = []
            while "Ctrl+C stops it." not in printed:
                line = process.stdout.readline()
                assert line, f"it ended: {printed}"
                printed.append(line.rstrip())
            found = [match.groups() for line in printed if (match := ADDRESS.match(line))]
            assert [user for user, _, _ in found] == ["alice", "bob"]
            for user, address, key in found:
                with httpx.Client(base_url=address, trust_env=False) as http:
                    assert "<title>Acme</title>" in http.get("/").raise_for_status().text
                    signed_in = http.post("/login", json={"key": key}).raise_for_status().json()
                    assert signed_in["user_id"] == user
                    http.headers["authorization"] = f"Bearer {signed_in['token']}"
                    assert http.get("/state").json()["me"] == user
                client = connect(f"{address.replace('http', 'ws')}/ws/acme?token={signed_in['token']}")
                assert client.expect("hello")["data"]["user_id"] == user
                if user == "alice":
                    client.close()
            process.send_signal(signal.SIGINT)  # while bob is still there
            rest, _ = process.communicate(timeout=15)
            assert (process.returncode, rest) == (0, "")
            client.abort()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    process = start("--port=0")
    try:
        assert process.stdout is not None
        while not (match := ADDRESS.match(process.stdout.readline().rstrip())):
            pass
        port = match[2].rpartition(":")[2]
        second = start(f"--port={port}")
        printed, _ = second.communicate(timeout=15)
        assert second.returncode == 1
        assert printed.splitlines() == [
            f"cannot listen on 127.0.0.1:{port}: Address already in use. Take another: --port 0"
        ]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=15)
