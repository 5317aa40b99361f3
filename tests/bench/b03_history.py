"""B3: a page of 50 of one agent's history, from tables of ten thousand, 300,000 and five million rows.

Asked over the bus of a registry in a process of its own, one for each size, in turn; and through its query
alone, beside the same page by sqlite3. An agent's rows are spread over the whole table, as a fleet's are.
"""

import asyncio
import random
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.ground import ground, registry
from tests.bench.measure import PAIRS, Row, percentile

from fleet_registry.adapters.sql_queries import SqlQueries
from fleet_registry.settings import Presence
from muster_bus.bus import Bus
from muster_contracts.fleet.v1 import GetHistory
from muster_contracts.message import Role
from muster_sql import Database, migrate

SIZES = (10_000, 300_000, 5_000_000)
_AGENTS = 100
_PAGE = 50
_ASKS, _QUERIES = 200, 60
_FLAT = 1.3


@dataclass
class Table:
    """A history of one size, whoever reads it, and the milliseconds of a page in each round."""

    size: int
    bus: Bus
    queries: SqlQueries
    plain: sqlite3.Connection
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    queried: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)

    async def round(self) -> None:
        """Ask, query and read, once each."""
        asked = await _times(self._ask, _ASKS)
        self.p50.append(percentile(asked, 50))
        self.p99.append(percentile(asked, 99))
        self.queried.append(statistics.median(await _times(self._query, _QUERIES)))
        self.raw.append(statistics.median(await _times(self._read, _QUERIES)))

    async def _ask(self, agent_id: str) -> None:
        question = GetHistory(occurred_at=datetime.now(UTC), agent_id=agent_id, limit=_PAGE)
        assert len((await self.bus.ask(question, timeout=10)).events) == _PAGE

    async def _query(self, agent_id: str) -> None:
        await self.queries.history(agent_id, None, _PAGE)

    async def _read(self, agent_id: str) -> None:
        query = "SELECT * FROM history WHERE agent_id = ? ORDER BY id DESC LIMIT ?"
        assert len(self.plain.execute(query, (agent_id, _PAGE)).fetchall()) == _PAGE


def run() -> list[Row]:
    """Three sizes, five rounds."""
    return asyncio.run(_run())


async def _run() -> list[Row]:
    async with AsyncExitStack() as stack:
        tables = [await stack.enter_async_context(_table(size)) for size in SIZES]
        for _ in range(PAIRS):
            for table in tables:
                await table.round()
    return [row for table in tables for row in _rows(table)] + [_flatness(tables[0], tables[-1])]


def _rows(table: Table) -> list[Row]:
    p50, p99 = statistics.median(table.p50), statistics.median(table.p99)
    query, raw = statistics.median(table.queried), statistics.median(table.raw)
    ratio = statistics.median(a / b for a, b in zip(table.queried, table.raw, strict=True))
    what = f"page of {table.size:,} rows"
    return [
        Row("B3", f"{what}, asked over the bus, p50", p50, "ms", "<= 3 ms", p50 <= 3),
        Row("B3", f"{what}, asked over the bus, p99", p99, "ms", "<= 10 ms", p99 <= 10),
        Row("B3", f"{what}, its query alone", query, "ms", "", None, raw, "sqlite3", ratio),
    ]


def _flatness(small: Table, large: Table) -> Row:
    ratio = statistics.median(a / b for a, b in zip(large.p50, small.p50, strict=True))
    what = f"p50 of {large.size:,} rows by that of {small.size:,}"
    return Row("B3", what, ratio, "x", f"<= {_FLAT:g} x", ratio <= _FLAT)


@asynccontextmanager
async def _table(size: int) -> AsyncIterator[Table]:
    """A registry over a history of this size, and everybody who reads it."""
    async with ground() as here:
        path = here.directory / "registry.db"
        await _prepare(path)
        _fill(path, size)
        database = Database.open(f"sqlite+aiosqlite:///{path}")
        with registry(here, Presence()), closing(sqlite3.connect(path)) as plain:
            bus = await Bus.connect(here.settings(Role.OPERATOR), first_try_seconds=10)
            yield Table(size, bus, SqlQueries(database), plain)
            await bus.close()
        await database.close()


async def _times(page: Callable[[str], Awaitable[None]], count: int) -> list[float]:
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
            " flapping, in_partition, version)"
            " VALUES (?, 'host', 'left', 'shutdown', 0, '{}', '{}', '', '[]', 0, 0, 1)",
            [(_name(number),) for number in range(_AGENTS)],
        )


def _fill(path: Path, size: int) -> None:
    """``size`` rows, agents in turn."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            connection.execute(
                "INSERT INTO history (agent_id, was, now, at, reason, epoch, address)"
                " WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)"
                " SELECT printf('agent-%03d', i % ?2), 'online', 'lost', 1795000000000000 + i, 'silence',"
                " '0f1e2d3c4b5a-01a1ee565e00', '127.0.0.1:40000' FROM n",
                (size, _AGENTS),
            )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
