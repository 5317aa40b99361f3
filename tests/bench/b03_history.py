"""B3: a page of 50 of one agent's history, from tables of ten thousand, 300,000 and five million rows.

Asked over the bus of a registry in a process of its own, and through its query alone, beside the same page
by sqlite3. The rows of an agent are spread over the whole table, as a fleet's history is.
"""

import asyncio
import random
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.ground import ground, registry
from tests.bench.measure import Row, percentile

from fleet_registry.adapters.sql_queries import SqlQueries
from fleet_registry.settings import Presence
from muster_bus.bus import Bus
from muster_contracts.fleet.v1 import GetHistory
from muster_contracts.message import Role
from muster_sql import Database, migrate

SIZES = (10_000, 300_000, 5_000_000)
_AGENTS = 100
_PAGE = 50
_ASKS = 300
_FLAT = 1.3


@dataclass(frozen=True)
class Figures:
    """Milliseconds for one page: asked over the bus, queried, and by sqlite3."""

    asked: list[float]
    queried: float
    raw: float


def run() -> list[Row]:
    """One table that grows."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    figures = []
    async with ground() as here:
        path = here.directory / "registry.db"
        await _prepare(path)
        for size in SIZES:
            _fill(path, size)
            with registry(here, Presence()):
                bus = await Bus.connect(here.settings(Role.OPERATOR), first_try_seconds=10)
                figures.append(Figures(await _asked(bus), *await _queried(path)))
                await bus.close()
    return [row for size, one in zip(SIZES, figures, strict=True) for row in _rows(size, one)] + _flat(
        figures
    )


def _rows(size: int, one: Figures) -> list[Row]:
    p50, p99 = percentile(one.asked, 50), percentile(one.asked, 99)
    return [
        Row("B3", f"page asked over the bus, {size:,} rows, p50", p50, "ms", "<= 3 ms", p50 <= 3),
        Row("B3", f"page asked over the bus, {size:,} rows, p99", p99, "ms", "<= 10 ms", p99 <= 10),
        Row("B3", f"its query, {size:,} rows", one.queried, "ms", "", None, one.raw, "sqlite3",
            one.queried / one.raw),
    ]  # fmt: skip


def _flat(figures: list[Figures]) -> list[Row]:
    smallest, largest = (statistics.median(one.asked) for one in (figures[0], figures[-1]))
    what = f"median of {SIZES[-1]:,} rows by that of {SIZES[0]:,}"
    ratio = largest / smallest
    return [Row("B3", what, ratio, "x", f"<= {_FLAT:g} x", ratio <= _FLAT)]


async def _asked(bus: Bus) -> list[float]:
    return await _times(lambda agent_id: bus.ask(
        GetHistory(occurred_at=datetime.now(UTC), agent_id=agent_id, limit=_PAGE), timeout=10))  # fmt: skip


async def _queried(path: Path) -> tuple[float, float]:
    """Medians of the registry's query and of sqlite3, in turn."""
    database = Database.open(f"sqlite+aiosqlite:///{path}")
    queries = SqlQueries(database)
    with closing(sqlite3.connect(path)) as connection:

        async def raw(agent_id: str) -> None:
            query = "SELECT * FROM history WHERE agent_id = ? ORDER BY id DESC LIMIT ?"
            assert len(connection.execute(query, (agent_id, _PAGE)).fetchall()) == _PAGE

        ours, theirs = [], []
        for _ in range(5):
            ours.append(statistics.median(await _times(lambda one: queries.history(one, None, _PAGE), 60)))
            theirs.append(statistics.median(await _times(raw, 60)))
    await database.close()
    return statistics.median(ours), statistics.median(theirs)


async def _times(page: Callable[[str], Awaitable[object]], count: int = _ASKS) -> list[float]:
    took = []
    for _ in range(count):
        agent_id = _name(random.randrange(_AGENTS))
        began = time.perf_counter()
        await page(agent_id)
        took.append((time.perf_counter() - began) * 1000)
    return took


def _name(number: int) -> str:
    return f"agent-{number:03d}"


async def _prepare(path: Path) -> None:
    """The registry's own tables, and its agents."""
    database = Database.open(f"sqlite+aiosqlite:///{path}")
    await migrate(database, "fleet_registry.migrations")
    await database.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO agents (id, kind, state, reason, since, declared, assigned, site, moves,"
            " flapping, in_partition, version) VALUES (?, 'host', 'left', 'shutdown', 0, '{}', '{}', '', '[]', 0, 0, 1)",
            [(_name(number),) for number in range(_AGENTS)],
        )


def _fill(path: Path, size: int) -> None:
    """Rows up to ``size``, agents in turn."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            (there,) = connection.execute("SELECT count(*) FROM history").fetchone()
            connection.execute(
                "INSERT INTO history (agent_id, was, now, at, reason, epoch, address)"
                " WITH RECURSIVE n(i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?2)"
                " SELECT printf('agent-%03d', i % ?3), 'online', 'lost', 1795000000000000 + i, 'silence',"
                " '0f1e2d3c4b5a-01a1ee565e00', '127.0.0.1:40000' FROM n",
                (there, size, _AGENTS),
            )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
