"""For whoever starts a server himself: a socket to listen on, and a drain before the server ends.

An ASGI application sees neither: servers open the socket, and most of them close the connections at SIGTERM before they
tell the application. What is here stands between the two, and is used by `jackfield serve` as well.
"""

from __future__ import annotations

from jackfield.serving._listen import listen
from jackfield.serving._signals import drain_on_signals, until_drained

__all__ = ["drain_on_signals", "listen", "until_drained"]
