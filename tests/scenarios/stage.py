"""One scenario on a real server, played by several clients at once: each its own user, workspace, line and witness."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx

from line import Line
from servers import API_KEY, Server, Workspace, running, until

HERE = Path(__file__).parent
WITHIN = 20.0
"""Seconds in which what is expected has to come."""

Entry = Mapping[str, Any]
Scenario = Mapping[str, Any]


class Driver(Protocol):
    """A client that does what it is told, and writes down what it hears."""

    log: list[Entry]

    def do(self, command: Mapping[str, Any]) -> None: ...
    def look(self) -> None:
        """Bring `log` up to date."""

    def end(self) -> None: ...


class Process:
    """A driver that is a program of its own: commands on its standard input, entries on its standard output."""

    def __init__(self, *command: str) -> None:
        self.log: list[Entry] = []
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE
        )
        self._entries: queue.Queue[Entry] = queue.Queue()
        self._errors: list[str] = []
        assert self._process.stderr is not None
        self._listeners = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._errors.extend, args=(self._process.stderr,), daemon=True),
        ]
        for listener in self._listeners:
            listener.start()

    def do(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def look(self) -> None:
        while not self._entries.empty():
            self.log.append(self._entries.get())
        assert self._process.poll() is None, f"the driver ended with {self._process.returncode}: {self._errors}"

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(WITHIN)
        for listener in self._listeners:
            listener.join(WITHIN)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._entries.put(json.loads(line))


def python(backend: str) -> Driver:
    return Process(sys.executable, "-X", "dev", str(HERE / "drive.py"), backend)


class Player:
    """A driver on the stage."""

    def __init__(self, name: str, driver: Driver, stage: Stage) -> None:
        self.name = name
        self.driver = driver
        self.stage = stage
        self.line = Line(stage.server.port)
        self.workspace = Workspace(stage.server)
        self.read = 0
        """How much of the log was expected so far."""
        self.told: list[str] = []
        self.witness: Any = None

    def step(self, verb: str, what: Any) -> None:
        getattr(self, verb)(what)

    # --- what the client does

    def connect(self, options: Mapping[str, Any]) -> None:
        options = {"patience": 5, "backoff_base": 0.1, "backoff_cap": 0.5, **options}
        tokens = [self.token(one) for one in options.pop("tokens", [{}])]
        self.driver.do(
            {
                "do": "connect",
                "url": f"ws://127.0.0.1:{self.line.port}/ws/{self.workspace.id}",
                "tokens": tokens,
                "options": {**options, **({"cursor": self._cursor()} if "cursor" in options else {})},
            }
        )

    def token(self, claims: Mapping[str, Any] | str) -> str:
        if isinstance(claims, str):
            return claims
        given = {"exp": time.time() + claims["ttl"]} if "ttl" in claims else {}
        if "workspaces" in claims:
            given["workspaces"] = claims["workspaces"]
        return self.workspace.token(self.name, iat=time.time() - 1, **given)

    def _cursor(self) -> str:
        found: str = next(entry["cursor"] for entry in reversed(self.driver.log) if entry["log"] == "cursor")
        return found

    def request(self, command: Mapping[str, Any]) -> None:
        data = {**command.get("data", {}), **({"pad": "…" * (size // 3)} if (size := command.get("padded")) else {})}
        for number in range(command.get("times", 1)):
            name = command["name"].replace("#", str(number))
            self.driver.do({"do": "request", "name": name, "type": command["type"], "data": data})

    def typing(self, command: Mapping[str, Any]) -> None:
        for _ in range(command.get("times", 1)):
            self.driver.do({"do": "typing", "channel_id": command["channel_id"], "is_typing": command["is_typing"]})

    def do(self, command: str) -> None:
        self.driver.do({"do": command})

    # --- what happens to it

    def link(self, how: str) -> None:
        match how:
            case "slow":
                self.line.delay = 0.2
            case "cut" | "refuse" | "accept" | "freeze" | "thaw":
                getattr(self.line, how)()
            case _:
                raise AssertionError(how)

    def publish(self, what: Mapping[str, Any]) -> None:
        """Messages of somebody else, `from` one number `to` another; or any event."""
        if "type" in what:
            self.workspace.publish(self._filled(what))
            return
        ids = [f"m{number}" for number in range(what["from"], what["to"] + 1)]
        author = self.name if what.get("by") == "self" else "teller"
        self.told += ids
        for first in range(0, len(ids), 100):
            self.workspace.publish(*(message(id, author) for id in ids[first : first + 100]))

    def _filled(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        filled: Mapping[str, Any] = json.loads(json.dumps(event).replace("$user", self.name))
        return filled

    def revoke(self, _: object) -> None:
        path = f"/api/workspaces/{self.workspace.id}/users/{self.name}/connections"
        assert self.stage.server.http.delete(f"{self.stage.server.url}{path}").status_code == 202

    def watch(self, _: object) -> None:
        """Somebody else looks on, who has nothing to do with the client under test."""
        self.witness = self.workspace.enter("witness")

    # --- what is expected of it

    def expect(self, entries: Sequence[Entry]) -> None:
        """These, in this order; others may come in between."""
        for wanted in entries:
            self._until(lambda wanted=wanted: self._find(wanted), f"{wanted}")

    def _find(self, wanted: Entry) -> bool:
        for place, entry in enumerate(self.driver.log[self.read :], self.read):
            if matches(entry, wanted):
                self.read = place + 1
                return True
        return False

    def answered(self, what: Mapping[str, Any]) -> None:
        """Every one of these requests, in whatever order, as it says."""
        names = [what["name"].replace("#", str(number)) for number in range(what.get("times", 1))]
        wanted = {name: {"log": what["log"], "name": name} for name in names}
        answers = lambda: {e["name"]: e for e in self.driver.log if e["log"] in {"acked", "refused"}}  # noqa: E731
        self._until(lambda: wanted.keys() <= answers().keys(), f"answers to {what}")
        for name in names:
            assert matches(answers()[name], wanted[name]), (self.name, answers()[name])

    def heard(self, what: str) -> None:
        """Every message that was published, once and in order."""
        assert what == "everything"
        self._until(lambda: len(self._messages()) >= len(self.told), f"{len(self.told)} messages")
        assert self._messages() == self.told, self.name

    def _messages(self) -> list[str]:
        return [e["data"]["id"] for e in self.driver.log if e["log"] == "event" and e["type"] == "message.new"]

    def never(self, unwanted: Sequence[Entry]) -> None:
        """None of these, from the beginning to now."""
        self.driver.look()
        for entry in self.driver.log:
            for one in unwanted:
                assert not matches(entry, one), f"{self.name}: {entry}"

    def count(self, what: Mapping[str, Any]) -> None:
        self.driver.look()
        found = [entry for entry in self.driver.log if matches(entry, what["of"])]
        assert len(found) == what["is"], f"{self.name}: {found}"

    def witnessed(self, types: Sequence[str]) -> None:
        """What the witness saw of typing: exactly that."""
        seen: list[str] = []
        while len(seen) < len(types):
            frame = self.witness.receive(WITHIN)
            if frame["type"].startswith("typing."):
                seen.append(frame["type"])
        self.witness.send_json({"type": "ping"})
        seen += [frame["type"] for frame in self.witness.through("pong") if frame["type"].startswith("typing.")]
        assert seen == types, self.name

    def _until(self, question: Callable[[], bool], what: str) -> None:
        def asked() -> bool:
            self.driver.look()
            return question()

        try:
            until(asked, WITHIN, f"{self.name}: {what}", pause=0.01)
        except AssertionError as error:
            error.add_note(f"--- what {self.name} wrote down ---\n" + "\n".join(map(str, self.driver.log)))
            raise

    def end(self) -> None:
        self.line.close()
        self.workspace.__exit__()
        self.driver.end()


class Stage:
    """A server that can be taken away, and the players before it."""

    def __init__(self, scenario: Scenario, directory: Path, stack: ExitStack) -> None:
        self.scenario = scenario
        self.settings = {"ENGINE": scenario.get("engine", "memory://").replace("$", str(directory))}
        self.settings |= {"CONNECTIONS_PER_USER": "5", **scenario.get("settings", {})}
        self.stack = stack
        self.players: list[Player] = []
        self.server: Server
        self.start()

    def start(self) -> None:
        self.server = self.stack.enter_context(running(self.scenario.get("server", "serve-asyncio"), **self.settings))
        for player in self.players:
            player.line.target = self.server.port
            player.workspace.server = self.server

    def server_does(self, what: str) -> None:
        match what:
            case "start":
                self.start()
            case "stop":
                self.server.stop()
            case "kill":
                self.server.process.kill()
                self.server.process.wait()
            case "drain":
                answer = httpx.post(
                    f"{self.server.url}/admin/drain", headers={"authorization": f"Bearer {API_KEY}"}, trust_env=False
                )
                assert answer.status_code == 202
            case _:
                raise AssertionError(what)

    def play(self) -> None:
        for number, step in enumerate(self.scenario["steps"]):
            ((verb, what),) = step.items()
            try:
                if verb == "server":
                    self.server_does(what)
                elif verb == "pass":
                    time.sleep(what)  # nothing to wait on: it is the server's clock that has to go on
                else:
                    for player in self.players:
                        player.step(verb, what)
            except BaseException as error:
                error.add_note(f"in step {number} of “{self.scenario['name']}”: {step}")
                raise


@contextmanager
def stage(scenario: Scenario, drivers: Mapping[str, Callable[[], Driver]], directory: Path) -> Iterator[Stage]:
    """A server, and these clients before it."""
    with ExitStack() as stack:
        made = Stage(scenario, directory, stack)
        for name, driver in drivers.items():
            player = Player(name, driver(), made)
            stack.callback(player.end)
            made.players.append(player)
            player.workspace.publish(
                {
                    "type": "channel.created",
                    "data": {"id": "general", "name": "general", "type": "public", "created_by": "teller"},
                }
            )
        yield made


def message(id: str, author: str) -> dict[str, Any]:
    data = {"channel_id": "general", "user_id": author, "content": "…", "created_at": "2024-01-01T12:00:00.000Z"}
    return {"type": "message.new", "data": {"id": id, **data}, "id": id}


def matches(entry: object, wanted: object) -> bool:
    """Whether it has all that is wanted, whatever else it has."""
    if isinstance(entry, Mapping) and isinstance(wanted, Mapping):
        return all(key in entry and matches(entry[key], value) for key, value in wanted.items())
    return entry == wanted
