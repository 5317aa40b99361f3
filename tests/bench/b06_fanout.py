"""B6: one order to many agents, until the last result is visible: ten real ones, a thousand simulated ones.

The simulated ones obey at once and remember; ledger and streams are fsynced as ever. Beside it salt with ten
minions, where it is installed.
"""

import asyncio
import statistics
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from tests.bench.measure import Row, eventually
from tests.bench.ordering import Stand, stand
from tests.bench.salt_stand import salt

from muster_contracts.command.v1 import Terms
from muster_contracts.package.v1 import SignalPackage, StopSignal
from muster_testing.simulator import Fleet, Roster, Settings

REAL = 10
SIMULATED = 1000
_TIMES = 5
_WARM_UP = 2
_ORDER = SignalPackage(package="p0", signal=StopSignal.WINCH)


def run() -> list[Row]:
    """Salt alone on the machine; then Muster."""
    with tempfile.TemporaryDirectory() as name, salt(Path(name), REAL) as master:
        peer = statistics.median(master.pings(_TIMES)) if master else None
    return [*asyncio.run(_real(peer)), *asyncio.run(_simulated())]


async def _real(peer: float | None) -> list[Row]:
    async with stand([f"host-{number}" for number in range(REAL)], packages=1) as here:
        took = await _fan_out(here, REAL)
        ratio = peer / took if peer else None
        within = took <= 0.1 and (ratio is None or ratio >= 18)
        return [
            Row("B6", f"order until {REAL} results, real agents, median", took, "s", "<= 0.1 s, >= 18x",
                within, peer, f"salt, {REAL} minions" if peer else "", ratio)
        ]  # fmt: skip


async def _simulated() -> list[Row]:
    roster, effects = Roster.fresh(SIMULATED), Counter[str]()

    def effect(agent_id: str, terms: Terms) -> None:
        effects[f"{agent_id} {terms.command_id}"] += 1

    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(stand([], others=roster.identities))
        simulated = Fleet(roster, here.plane.server.url, Settings(effect=effect))
        fleet = await stack.enter_async_context(simulated)
        await fleet.connect()
        await eventually(lambda: here.all_online(SIMULATED), seconds=60, every=0.2)
        took = await _fan_out(here, SIMULATED)
    doubled = sum(count > 1 for count in effects.values()) + here.results.doubled
    what = f"order until {SIMULATED:,} results, simulated agents, median"
    return [
        Row("B6", what, took, "s", "<= 1.0 s", took <= 1, note=f"{SIMULATED / took:,.0f} results/s"),
        Row("B6", "effects or results doubled", doubled, "", "0", doubled == 0, note=f"of {len(effects):,}"),
    ]  # fmt: skip


async def _fan_out(here: Stand, agents: int) -> float:
    took = [await here.order(_ORDER, "", agents) for _ in range(_WARM_UP + _TIMES)]
    here.check()
    return statistics.median(took[_WARM_UP:])
