"""A generator that costs the measured process nothing: renders PUB frames first, sends them when told.

A process of its own; the benchmark speaks with it in lines on stdin and stdout: who it is in JSON first, then
for each volley its size, answered by ``ready`` when it is rendered, and ``go``, answered by ``sent`` when the
broker has it.
"""

import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Self

from muster_contracts.agent.v1 import AgentKind, Heartbeat
from muster_contracts.ids import make_epoch
from muster_testing.simulator import Roster

_STARTED_MS = 1_795_000_000_000
"""All agents began this run at one instant; the benchmark may know their epochs beforehand."""


@dataclass(frozen=True)
class Battery:
    """Who sends, and where: heartbeats of ``agents`` agents in turn, under the carrier's key."""

    port: int
    secret: str = field(repr=False)
    agents: int = 1_000
    interval: float = 15.0

    @property
    def roster(self) -> Roster:
        """The agents and the carrier; the broker must know the carrier."""
        return Roster(self.agents, bytes.fromhex(self.secret), "blast")

    @property
    def names(self) -> list[str]:
        """The agents' ids."""
        return [member.agent_id for member in self.roster]


class Blaster:
    """The generator as the benchmark sees it: ``load`` renders a volley, ``fire`` sends it."""

    def __init__(self, battery: Battery) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.blaster"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )  # fmt: skip
        self._say(json.dumps(asdict(battery)))

    def load(self, count: int) -> None:
        """Render ``count`` heartbeats and wait, so that this does not compete with what is measured."""
        self._say(str(count))
        self._expect("ready")

    def fire(self) -> None:
        """Begin to send; returns at once."""
        self._say("go")

    def done(self) -> None:
        """Wait until the broker has taken the whole volley."""
        self._expect("sent")

    def _say(self, line: str) -> None:
        assert self._child.stdin
        self._child.stdin.write(line + "\n")

    def _expect(self, word: str) -> None:
        assert self._child.stdout
        if (line := self._child.stdout.readline().strip()) != word:
            raise RuntimeError(f"cannot go on: the blaster said {line!r} instead of {word!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()


def main() -> None:
    """Serve volleys until stdin ends."""
    battery = Battery(**json.loads(sys.stdin.readline()))
    connection = _connect(battery)
    sent = 0
    while (line := sys.stdin.readline()).strip():
        frames = _render(battery, sent, int(line))
        sent += int(line)
        _tell("ready")
        if sys.stdin.readline().strip() != "go":
            return
        connection.sendall(frames)
        _read_until(connection, b"PONG\r\n")
        _tell("sent")


def _tell(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


def _render(battery: Battery, first: int, count: int) -> bytes:
    """All frames of a volley and a PING; sequences go on from volley to volley."""
    names = battery.names
    frames = [_frame(battery, names[n % len(names)], n // len(names)) for n in range(first, first + count)]
    return b"".join(frames) + b"PING\r\n"


def _frame(battery: Battery, agent_id: str, sequence: int) -> bytes:
    beat = Heartbeat(
        occurred_at=datetime.now(UTC),
        agent_id=agent_id,
        kind=AgentKind.HOST,
        epoch=make_epoch("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", _STARTED_MS),
        sequence=sequence,
        interval_seconds=battery.interval,
    )
    payload = beat.model_dump_json()
    return f"PUB {beat.subject} {len(payload)}\r\n{payload}\r\n".encode()


def _connect(battery: Battery) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", battery.port), 10)
    info = json.loads(_read_until(connection, b"\r\n").removeprefix(b"INFO "))
    carrier = battery.roster.carrier
    options = {"verbose": False, "name": carrier.agent_id, "lang": "python-blaster", "version": "1"}
    if nonce := info.get("nonce"):
        options |= {"nkey": carrier.public_key, "sig": carrier.sign(nonce)}
    connection.sendall(f"CONNECT {json.dumps(options)}\r\nPING\r\n".encode())
    _read_until(connection, b"PONG\r\n")
    return connection


def _read_until(connection: socket.socket, end: bytes) -> bytes:
    """What the broker says up to ``end``; heartbeats answer nothing, so it is little."""
    said = b""
    while not said.endswith(end):
        if not (more := connection.recv(65536)):
            raise ConnectionResetError(
                f"cannot go on: the broker closed the connection after {said[-200:]!r}"
            )
        if b"-ERR" in more:
            raise ConnectionRefusedError(f"cannot go on: the broker says {more!r}")
        said += more
    return said


if __name__ == "__main__":
    main()
