"""Packets that vanish without a word: a real fleet in a namespace, nft between agent and broker."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest

from muster_testing.wait import until

HOOK = "type filter hook input priority 0;"
MUSTER = str(Path(sys.executable).parent / "muster")


class Hermit:
    """A machine of its own, as far as the network goes: a namespace with nothing but a loopback."""

    def __init__(self, directory: Path) -> None:
        self.name = f"muster-{uuid.uuid4().hex[:8]}"
        self.directory = directory

    def __enter__(self) -> Self:
        run("ip", "netns", "add", self.name)
        self.run("ip", "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.muster("down")
        finally:
            run("ip", "netns", "delete", self.name)

    def run(self, *command: str) -> str:
        """Run a command in here."""
        return run("ip", "netns", "exec", self.name, *command)

    def muster(self, *command: str) -> str:
        """Run ``muster`` on the fleet in here."""
        return (
            self.run(MUSTER, *command, "--dir", str(self.directory))
            if command[0] in {"up", "down"}
            else self.run("env", f"MUSTER_DIR={self.directory}", MUSTER, *command)
        )

    def ask(self, *command: str) -> Any:
        """What a query command answers to programs."""
        return json.loads(self.muster(*command, "--json"))

    def drop(self, port: str) -> None:
        """From now on no packet to or from this TCP port arrives; nobody is told."""
        self.run("nft", f"add table inet cut; add chain inet cut packets {{ {HOOK} }}")
        for side in ("sport", "dport"):
            self.run("nft", f"add rule inet cut packets tcp {side} {port} drop")

    def heal(self) -> None:
        """Let packets through again."""
        self.run("nft", "delete table inet cut")


def run(*command: str) -> str:
    """Run a command to its end and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def hermit(tmp_path: Path) -> Iterator[Hermit]:
    with Hermit(tmp_path / "fleet") as hermit:
        hermit.muster("up", "--detach")
        yield hermit


@pytest.mark.needs("ip", "nft", "root", "netns")
async def test_an_agent_whose_packets_vanish_is_lost_at_its_deadline_and_not_before_and_comes_back(
    hermit: Hermit,
) -> None:
    [agent] = hermit.ask("agents", "list")
    await until(lambda: _connected(hermit, agent["id"]), 20, every=0.2)
    detail = hermit.ask("agents", "show", agent["id"])
    hermit.drop(detail["agent"]["address"].rpartition(":")[2])
    # Seen at one moment: soon the agent notices the cut itself, and is heard through another connection.
    seen = await until(lambda: (row := _row(hermit))["state"] == "lost" and row, 40, every=0.3)
    [lost] = [event for event in hermit.ask("agents", "history", agent["id"]) if event["event"] == "lost"]
    silent = _time(lost["at"]) - _time(seen["last_seen"])
    deadline = timedelta(seconds=detail["deadline_seconds"])
    assert lost["reason"] == "silence"
    assert deadline <= silent <= deadline + timedelta(seconds=3)
    hermit.heal()
    await until(lambda: _row(hermit)["state"] == "online", 90, every=0.5)
    assert [event["event"] for event in hermit.ask("agents", "history", agent["id"])][:3] == [
        "online",
        "lost",
        "late",
    ]


def _connected(hermit: Hermit, agent_id: str) -> bool:
    agent = hermit.ask("agents", "show", agent_id)["agent"]
    return agent["state"] == "online" and agent["address"] is not None


def _row(hermit: Hermit) -> Any:
    """The only agent, as listed."""
    [agent] = hermit.ask("agents", "list")
    return agent


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
