"""A small agent as a process of its own: notes each command in an effects file, fsynced; killed by tests.

``python obedient_program.py '{"server": …, "seed": …, "state": …, "effects": …}'``
"""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from muster_agent.epoch import new_epoch
from muster_agent.obedience import Admitted, Limits, Obedience, Result, Work
from muster_bus.bus import Bus
from muster_bus.settings import BusSettings
from muster_bus.spool import FileSpool
from muster_contracts.command.v1 import Terms
from muster_runtime import Tasks, failpoints
from muster_testing.wait import until

AGENT = "web-1"


class Noting:
    """Performs a command by one line in the effects file; waits for the gate's file where there is one."""

    def __init__(self, effects: Path, gate: Path | None) -> None:
        self._effects = os.open(effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._gate = gate
        self._open = asyncio.Event()

    async def watch_the_gate(self) -> None:
        if self._gate:
            await until(self._gate.exists, 600)
        self._open.set()

    def admit(self, terms: Terms) -> Admitted:
        return Admitted(terms.body["lane"], "a note")

    async def check(self, terms: Terms) -> None:
        return

    async def perform(self, work: Work) -> Result:
        await self._open.wait()
        os.write(self._effects, f"{work.terms.command_id}\n".encode())
        if not self._gate:  # thousands of fsyncs are not what the gate is for
            os.fsync(self._effects)
        return Result()


def forget(state: Path) -> None:
    """The twin: without its journal an agent does again what it is told again."""
    for file in state.glob("journal.db*"):
        file.unlink()


async def main(config: dict[str, Any]) -> None:
    state = Path(config["state"])
    if config.get("forgetful"):
        forget(state)
    spool = FileSpool(state / "spool.db")
    settings = BusSettings(servers=[config["server"]], identity=AGENT, seed_file=Path(config["seed"]))
    bus = await Bus.connect(settings, spool=spool)
    assert bus.courier
    bus.courier.reached = failpoints.reached
    noting = Noting(Path(config["effects"]), Path(config["gate"]) if "gate" in config else None)
    obedience = Obedience(bus, AGENT, new_epoch(), state, noting, limits=Limits(open_commands=20_000))
    await obedience.listen()
    async with Tasks() as tasks:
        tasks.spawn("obedience", obedience.run)
        tasks.spawn("gate", noting.watch_the_gate)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(json.loads(sys.argv[1])))
