"""The socket that a host may give to its server."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest

from jackfield import ConfigurationError
from jackfield.serving import listen


def reached(listener: socket.socket) -> socket.socket:
    """What it accepts from a client that connects."""
    client = socket.socket(listener.family, socket.SOCK_STREAM)
    with client:
        client.connect(listener.getsockname())
        listener.setblocking(True)
        accepted, _ = listener.accept()
    return accepted


def test_port_0_is_a_free_one_and_a_server_need_not_wait() -> None:
    with listen(port=0) as one, listen("127.0.0.1", 0) as other:
        assert one.getsockname()[1] != other.getsockname()[1]
        assert one.getsockname()[0] == "127.0.0.1"
        assert not one.getblocking()
        with reached(one) as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_what_it_accepts_ends_by_itself_and_holds_little() -> None:
    with listen(port=0) as listener, reached(listener) as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 131_072
    with listen(port=0, write_timeout=9e9) as listener:  # longer than the kernel can count
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2**31 - 1


def test_a_port_that_is_taken() -> None:
    with listen(port=0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"^cannot listen on 127\.0\.0\.1:{port}: Address already in use\.$"
        ):
            listen("127.0.0.1", port)


def test_a_unix_socket_and_the_one_that_a_dead_server_left(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listen(f"unix:{path}") as listener, reached(listener):
        assert stat.S_ISSOCK(path.stat().st_mode)
        with pytest.raises(
            ConfigurationError, match=rf"^cannot listen on unix:{re.escape(str(path))}: Address already"
        ):
            listen(f"unix:{path}")  # of one that lives
    assert path.exists()
    with listen(f"unix:{path}") as listener, reached(listener):
        pass


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(ConfigurationError, match="Address already in use"):
        listen(f"unix:{path}")
    assert path.read_text() == "data"
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        listen(f"unix:{tmp_path}/nowhere/s")
