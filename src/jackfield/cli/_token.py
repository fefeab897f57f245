"""`jackfield token`: a JSON web token for `jackfield serve`, signed with its secret."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from typing import Any

from jackfield import ConfigurationError
from jackfield._environ import plugin_from
from jackfield.cli._application import id_
from jackfield.cli._command import Commands, describe

__all__ = ["add", "make"]

EXAMPLES = """\
  jackfield token --user alice --workspace acme
  jackfield token --user bob --workspace acme --workspace beta --ttl 60
"""


def add(commands: Commands, arguments: Sequence[str]) -> None:
    parser = describe(commands, "token", "Print a token, signed with JACKFIELD_SECRET.", run, EXAMPLES)
    parser.add_argument("--user", metavar="ID", type=id_, required=True, help="whose it is")
    parser.add_argument(
        "--workspace", metavar="ID", type=id_, action="append", required=True, help="what it opens; may be repeated"
    )
    parser.add_argument(
        "--ttl", metavar="SECONDS", type=_seconds, default=3600.0, help="how long it is valid [3600, an hour]"
    )


def run(chosen: argparse.Namespace) -> int:
    auth = plugin_from(os.environ, "token")
    if auth.algorithm != "HS256":
        raise ConfigurationError(
            f"JACKFIELD_TOKEN_ALGORITHM is {auth.algorithm}, so JACKFIELD_SECRET is a public key, which signs nothing. "
            "Tokens come from whoever has the private one."
        )
    if chosen.ttl > auth.max_lifetime:
        raise ConfigurationError(
            f"--ttl {chosen.ttl:.12g} is over JACKFIELD_TOKEN_MAX_LIFETIME ({auth.max_lifetime:.12g}): "
            "the server would refuse the token."
        )
    print(make(auth, chosen.user, chosen.workspace, chosen.ttl))
    return 0


def make(auth: Any, user: str, workspaces: Sequence[str], ttl: float) -> str:
    """A token that this JWTAuth takes."""
    import jwt  # there when `auth` is

    # Whole milliseconds, the past ones: a token must not seem to be younger than a revocation that came after it.
    issued_at = math.floor(time.time() * 1000) / 1000
    claims = {
        "sub": user,
        "workspaces": list(dict.fromkeys(workspaces)),
        "iat": issued_at,
        "exp": round(issued_at + ttl, 3),
    }
    claims |= {name: value for name, value in (("aud", auth.audience), ("iss", auth.issuer)) if value is not None}
    return jwt.encode(claims, auth.secret, algorithm=auth.algorithm)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0.001 or not math.isfinite(seconds):
        raise argparse.ArgumentTypeError(f"{text} is no time to live")
    return seconds
