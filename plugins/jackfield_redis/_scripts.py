"""The scripts, as Redis is given and asked for them: each with the rules of a workspace before it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from coredis import RedisCluster
from coredis.exceptions import NoScriptError

if TYPE_CHECKING:
    from jackfield_redis._client import Client

__all__ = ["run"]

_FOLDER = files("jackfield_redis") / "lua"
_LEDGER = (_FOLDER / "ledger.lua").read_text("utf-8")


class _Script(NamedTuple):
    """Redis knows it by `sha`, once it has been given `text`."""

    text: str
    sha: str


def _script(name: str) -> _Script:
    text = f"{_LEDGER}\n{(_FOLDER / f'{name}.lua').read_text('utf-8')}"
    return _Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


_SCRIPTS = {
    name: _script(name) for name in ("catch_up", "commit", "due", "give_back", "greet", "heads", "read", "records")
}


async def run(client: Client, name: str, shards: Sequence[str], arguments: Sequence[Any]) -> Any:
    """A script, once; a Redis that does not know it is given its text."""
    script = _SCRIPTS[name]
    keys = list(shards)
    if isinstance(client, RedisCluster):
        # While a slot moves, what is in it is on two nodes. With two keys of which neither is ever there, neither node
        # runs a script then: with one key the other would, and find nothing.
        keys.append(f"{shards[0]}/whole")
    try:
        return await client.evalsha(script.sha, keys, arguments)
    except NoScriptError:
        return await client.eval(script.text, keys, arguments)
