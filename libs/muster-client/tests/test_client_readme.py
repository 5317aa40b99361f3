"""The examples of the README, run as they stand."""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from muster_bus import Bus
from muster_client import Fleet
from muster_contracts.fleet.v1 import PresenceChanged
from muster_contracts.health.v1 import Explanation, IncidentOpened, IncidentResolved
from muster_contracts.package.v1 import PackageChanged, RestartPackage
from muster_testing.ground import Ground
from muster_testing.town import EPOCH, Registry, row
from muster_testing.town_health import Care, act, incident, package_health
from muster_testing.town_orders import Ledger, Machine, package
from muster_testing.wait import until

README = Path(__file__).parents[1] / "README.md"


def examples() -> dict[str, Any]:
    """What the README's blocks of Python define."""
    defined: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, str(README), "exec"), defined)
    return defined


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    async with Ground("new-1", "web-1", "web-2", "web-3") as made:
        yield made


@pytest.fixture
async def bus(ground: Ground) -> Bus:
    return await ground.bus("fleet-registry")


@pytest.fixture
async def registry(bus: Bus) -> Registry:
    made = Registry()
    made.agents = {
        "old-1": row("old-1", state="lost", reason="silence", labels={"site": "ams"}),
        "new-1": row(
            "new-1", state="lost", reason="silence", labels={"site": "ams"}, since=datetime.now(UTC)
        ),
        "far-1": row("far-1", state="lost", reason="silence", labels={"site": "fra"}),
    }
    await made.listen(bus)
    return made


@pytest.fixture
async def fleet(ground: Ground) -> AsyncIterator[Fleet]:
    async with Fleet.connect(ground.settings("operator"), within=20, patience=20) as connected:
        yield connected


def lost(agent_id: str) -> PresenceChanged:
    told = {"agent_id": agent_id, "kind": "host", "was": "online", "now": "lost", "reason": "silence"}
    return PresenceChanged.model_validate({"occurred_at": datetime.now(UTC), **told})


async def test_the_way_to_connect(
    ground: Ground, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ground.settings("operator")
    monkeypatch.setitem(os.environ, "MUSTER_DIR", "")
    monkeypatch.setitem(os.environ, "MUSTER_NATS_URL", settings.servers[0])
    monkeypatch.setitem(os.environ, "MUSTER_SEED_FILE", str(settings.seed_file))
    assert await examples()["count_agents"]() == 3


async def test_the_consumer(fleet: Fleet, bus: Bus) -> None:
    await bus.say(lost("web-1"))
    told = examples()["losses"](fleet)
    async with asyncio.timeout(30):
        assert await anext(told) == "web-1 is lost: silence"
        await bus.say(lost("web-2"))
        assert await anext(told) == "web-2 is lost: silence"
    await told.aclose()


async def test_the_controller(fleet: Fleet, bus: Bus, registry: Registry) -> None:
    keep_retiring = examples()["keep_retiring"]
    controller = asyncio.create_task(keep_retiring(fleet, timedelta(days=1), timedelta(minutes=5)))
    await until(lambda: registry.agents["old-1"].state == "retired", 30)
    assert {registry.agents[one].state.value for one in ("new-1", "far-1")} == {"lost"}

    registry.agents["old-2"] = row("old-2", state="lost", reason="silence", labels={"site": "ams"})
    await bus.say(lost("old-2"))
    await until(lambda: registry.agents["old-2"].state == "retired", 30)
    controller.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await controller


WEBS = ("web-1", "web-2", "web-3")


@pytest.fixture
async def ledger(ground: Ground, registry: Registry) -> Ledger:
    made = Ledger(registry.matching)
    registry.agents = {name: row(name, labels={"role": "web"}) for name in WEBS}
    await made.listen(await ground.bus("state-store"))
    return made


async def test_the_orders(fleet: Fleet, ledger: Ledger) -> None:
    ledger.fates["web-2"] = {"state": "failed", "reason": "ready", "text": "cannot start web"}
    async with asyncio.timeout(30):
        ends = await examples()["restart_everywhere"](fleet)
    assert ends == {
        "web-1": "succeeded: done",
        "web-2": "failed: cannot start web",
        "web-3": "succeeded: done",
    }


async def test_the_careful_controller_stops_at_the_first_failure(
    ground: Ground, fleet: Fleet, ledger: Ledger
) -> None:
    for name, version in zip(WEBS, ("1.9", "2.0", "1.8"), strict=True):
        machine = Machine(name)
        machine.packages = {"db": package("db"), "web": package("web", version=version)}
        await machine.listen(await ground.bus(name))
    renew = examples()["renew"]
    async with asyncio.timeout(30):
        assert await renew(fleet, "web", "2.0") is None
    assert [one.selector for one in ledger.submitted] == ["id=web-1", "id=web-3"]
    assert [one.precondition.package_version for one in ledger.submitted] == ["1.9", "1.8"]

    ledger.reset()
    ledger.fates["web-1"] = {"state": "failed", "reason": "ready"}
    async with asyncio.timeout(30):
        assert (await renew(fleet, "web", "2.0")).agent == "web-1"
    assert [one.selector for one in ledger.submitted] == ["id=web-1"]


async def test_the_journal(ground: Ground, fleet: Fleet, ledger: Ledger) -> None:
    agent = await ground.bus("web-1")
    lines = examples()["journal"](fleet)
    await fleet.order(RestartPackage(package="web"), "id=web-1", issuer="ann")
    told = {"agent_id": "web-1", "epoch": EPOCH, "package": "web", "was": "running", "now": "backoff"}
    await agent.say(
        PackageChanged.model_validate({**told, "occurred_at": datetime.now(UTC), "reason": "exit"})
    )
    async with asyncio.timeout(30):
        assert {await anext(lines), await anext(lines)} == {
            "web-1: package.restart web succeeded for ann",
            "web-1: web is backoff, was running (exit)",
        }
    await lines.aclose()


async def test_the_pager(ground: Ground, fleet: Fleet, registry: Registry) -> None:
    registry.agents = {"db-1": row("db-1")}
    bus = await ground.bus("health-recovery")
    care = Care(registry.matching)
    await care.listen(bus)
    care.know(package_health("db-1", "db", "critical", reason="check"))
    acts = [act("db-1", "db")]
    care.explanations["db@db-1"] = Explanation(package=care.packages[0], checks=[], acts=acts)
    one = incident("db-1", "db", affected_count=8)
    await bus.say(IncidentOpened(occurred_at=datetime.now(UTC), incident=one))
    await bus.say(IncidentResolved(occurred_at=datetime.now(UTC), incident=one, why="well"))
    lines = examples()["pager"](fleet)
    async with asyncio.timeout(30):
        assert [await anext(lines), await anext(lines)] == [
            "db@db-1 is critical (check) and makes 8 others ill; restart succeeded",
            "db@db-1 is over: well",
        ]
    await lines.aclose()
