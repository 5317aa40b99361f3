"""B2: how long the registry takes to find who has been silent for too long, at 40 % stale and at none.

The limit is one ZRANGEBYSCORE over a sorted set of the same agents: it only reads ids, it claims nothing.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis
from tests.bench import b02_transitions
from tests.bench.measure import PAIRS, Row

from fleet_registry.adapters.redis_index import RedisIndex
from fleet_registry.ports import Entry
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import make_epoch
from muster_testing.servers import RedisServer

_LONG_AGO = 1e9
_LIMIT = 1000
"""How many the registry claims at once."""
_INTERVAL = 5.0


@dataclass(frozen=True)
class Case:
    """How many agents, how many of them stale, and the target in milliseconds."""

    agents: int
    stale: int
    target_ms: float | None


CASES = (
    Case(1_000, 400, 0.5),
    Case(10_000, 4_000, None),
    Case(100_000, 40_000, None),
    Case(1_000, 0, 0.1),
    Case(10_000, 0, 0.1),
    Case(100_000, 0, 0.1),
)


def run() -> list[Row]:
    """Every case against one Redis."""
    return asyncio.run(_everything())


async def _everything() -> list[Row]:
    return [*await _run(), *await b02_transitions.rows()]


async def _run() -> list[Row]:
    with RedisServer() as server:
        index, redis = RedisIndex(server.url), Redis.from_url(server.url)
        index.realm = "bench"
        rows = [await _case(index, redis, case) for case in CASES]
        await index.close()
        await redis.aclose()
    return rows


async def _case(index: RedisIndex, redis: "Redis", case: Case) -> Row:
    await redis.flushall()
    await index.ready()
    ours, theirs = [], []
    for _ in range(PAIRS):
        await _fill(index, redis, case)
        # A sweep that finds nothing changes nothing: it may be repeated, which a few microseconds need.
        times = 1 if case.stale else 50
        ours.append(await _milliseconds(lambda: _sweep(index), times))
        theirs.append(await _milliseconds(lambda: redis.zrangebyscore("limit", "-inf", time.time()), times))
    mine, limit = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    target = "" if case.target_ms is None else f"<= {case.target_ms:g} ms"
    met = None if case.target_ms is None else mine <= case.target_ms
    what = f"claim the stale: {case.stale:,} of {case.agents:,}"
    return Row("B2", what, mine, "ms", target, met, limit, "zrangebyscore", ratio)


async def _fill(index: RedisIndex, redis: "Redis", case: Case) -> None:
    """Everybody online; the stale ones last spoke a minute ago."""
    now = datetime.now(UTC)
    epoch = make_epoch("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", 1)
    ages = [60.0 if number < case.stale else 0.0 for number in range(case.agents)]
    entries = [
        Entry(f"agent-{n:06d}", epoch, Presence.ONLINE, _INTERVAL, 1, now - timedelta(seconds=age))
        for n, age in enumerate(ages)
    ]
    await index.put(entries, {}, now)
    deadlines = {one.agent_id: (one.last_seen or now).timestamp() + 12.5 for one in entries}
    await redis.delete("limit")
    for start in range(0, len(entries), 10_000):
        await redis.zadd("limit", dict(list(deadlines.items())[start : start + 10_000]))


async def _sweep(index: RedisIndex) -> int:
    """As the registry's round does: until a claim comes back with less than it may hold."""
    found = 0
    while True:
        sweep = await index.claim(_LIMIT, 0.0, _LONG_AGO)
        found += len(sweep.overdue)
        if sweep.looked_at < _LIMIT:
            return found


async def _milliseconds(action: Callable[[], Awaitable[object]], times: int) -> float:
    """The median of so many times."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await action()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)
