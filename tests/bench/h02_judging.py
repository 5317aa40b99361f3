"""H2: facts of checks judged and kept per second, for 200,000 packages on 10,000 agents.

The limit is SQLite alone: the same number of rows of the same size, upserted in the same batches with the
same number of lines of history, one fsync each. Beside it: how long a new leader loads all of it, and what
one package takes of memory.
"""

import asyncio
import gc
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.bench.measure import Row

from health_recovery.adapters.fence import Fence
from health_recovery.adapters.rows import event_row, package_row
from health_recovery.adapters.sql_health import SqlHealth
from health_recovery.adapters.tables import HISTORY, OUTBOX, PACKAGES
from health_recovery.adapters.writer import Writer
from health_recovery.domain.assessing import Event, assess
from health_recovery.domain.flapping import FlappingPolicy
from health_recovery.domain.hearing import Fact, Touched, hear
from health_recovery.domain.picture import Picture
from health_recovery.intake import Intake
from muster_contracts.health.v1 import CheckChanged, Health
from muster_contracts.ids import make_epoch
from muster_contracts.package.v1 import (
    CheckKind,
    DescribedCheck,
    Driver,
    PackageChanged,
    PackageDescribed,
    PackageState,
    Purpose,
    Reliance,
)
from muster_runtime import SystemClock, collect_garbage_seldom
from muster_sql import Database, Outbox, insert_rows, migrate, upsert

_AGENTS, _PACKAGES = 10_000, 20
_FACTS = 20_000
_AT_ONCE = 2000
_EPOCH = make_epoch("a" * 12, 1)
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
TAKE_OVER_SECONDS = 10.0


def run() -> list[Row]:
    """Fill a fleet, change some of it, take it over."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    collect_garbage_seldom()
    with tempfile.TemporaryDirectory(prefix="muster-h02-") as directory:
        async with _opened(Path(directory) / "health.db") as database:
            store = SqlHealth(database, Writer(database, Fence(1)), Outbox(database, OUTBOX))
            before = _resident()
            await _fill(store)  # its picture is gone when the next one is loaded, into the same memory
            began = time.perf_counter()
            picture = await store.load()
            took = time.perf_counter() - began
            gc.collect()
            each = (_resident() - before) / picture.size
            ours = await _judge(picture, store)
            limit = await _limit(picture, database)
    return [
        Row("H2", "facts judged and kept", ours, "/s", ">= 0.1 x", ours / limit >= 0.1, limit,
            "SQLite, the rows alone", ours / limit),
        Row("H2", "a leader loads 200,000 packages", took, "s", f"<= {TAKE_OVER_SECONDS:g}",
            took <= TAKE_OVER_SECONDS),
        Row("H2", "memory of one package", each / 1024, "KiB", "<= 4", each <= 4096),
    ]  # fmt: skip


def _opened(file: Path) -> "_Migrated":
    return _Migrated(Database.open(f"sqlite+aiosqlite:///{file}"))


class _Migrated:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Database:
        await migrate(self._database, "health_recovery.migrations")
        return self._database

    async def __aexit__(self, *_: object) -> None:
        await self._database.close()


async def _fill(store: SqlHealth) -> None:
    """A fleet that is well: every tenth package relies on a database elsewhere."""
    picture, policy = Picture(), FlappingPolicy()
    for agent in range(0, _AGENTS, 100):
        before, touched = picture.begin(), Touched()
        for host in range(agent, agent + 100):
            for package in range(_PACKAGES):
                for fact in _first(f"h{host}", package):
                    hear(picture, fact, touched, _BEGIN)
        await store.write(assess(picture, before, touched, policy, _BEGIN))
        picture.keep()


def _first(agent: str, package: int) -> Sequence[Fact]:
    name = f"p{package}"
    needs = [f"p{package - 1}"] if package % 5 else []
    relies = [Reliance(package="p0", where="id=h1")] if package % 10 == 9 else []
    checks = [DescribedCheck(name="c", kind=CheckKind.TCP, purpose=Purpose.LIVENESS, every_seconds=5)]
    return (
        PackageDescribed(
            occurred_at=_BEGIN, agent_id=agent, epoch=_EPOCH, package=name, driver=Driver.PROCESS,
            restart_policy="always", depends_on=needs, relies_on=relies, checks=checks,
        ),
        PackageChanged(
            occurred_at=_BEGIN, agent_id=agent, epoch=_EPOCH, package=name, now=PackageState.RUNNING,
            reason="start",
        ),
        _check(agent, name, Health.OK, 0),
    )  # fmt: skip


def _check(agent: str, package: str, now: Health, second: int) -> CheckChanged:
    return CheckChanged(
        occurred_at=_BEGIN + timedelta(seconds=second), agent_id=agent, epoch=_EPOCH, package=package,
        check="c", kind=CheckKind.TCP, purpose=Purpose.LIVENESS, now=now, reason="refused",
    )  # fmt: skip


async def _judge(picture: Picture, store: SqlHealth) -> float:
    """Facts per second of packages all over the fleet that fall ill."""
    chance = random.Random(7)
    places = chance.sample(range(_AGENTS * _PACKAGES), _FACTS)
    facts = [_check(f"h{one // _PACKAGES}", f"p{one % _PACKAGES}", Health.CRITICAL, 1) for one in places]
    intake = Intake(picture, store, SystemClock(), FlappingPolicy())
    judging = asyncio.create_task(intake.run())
    began = time.perf_counter()
    for start in range(0, _FACTS, _AT_ONCE):
        await asyncio.gather(*(intake.take(fact) for fact in facts[start : start + _AT_ONCE]))
    took = time.perf_counter() - began
    judging.cancel()
    await asyncio.wait([judging])
    return _FACTS / took


async def _limit(picture: Picture, database: Database) -> float:
    """The same rows once more, and as many lines of history, with nothing judged."""
    packages = [one for one in picture.packages() if one.health is Health.CRITICAL][:_FACTS]
    rows = [package_row(one) for one in packages]
    first = picture.next_event + 1
    lines = [
        event_row(Event(first + n, one.key.agent, one.key.package, _BEGIN, None, Health.OK, "check"), {})
        for n, one in enumerate(packages)
    ]
    began = time.perf_counter()
    for start in range(0, len(rows), _AT_ONCE):
        async with database.begin() as connection:
            await upsert(connection, PACKAGES, rows[start : start + _AT_ONCE], ["agent", "package"])
            await insert_rows(connection, HISTORY, lines[start : start + _AT_ONCE])
    return len(rows) / (time.perf_counter() - began)


def _resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
