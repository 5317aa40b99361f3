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
from muster_testing.ground import Ground
from muster_testing.town import Registry, row
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
    async with Ground() as made:
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
