"""B2, end to end: 4,000 of 10,000 agents turn out to be lost in one sweep, from Redis to the last fact heard.

The limit writes the same rows (agent, history, session, letter) by sqlite3 alone, in one transaction that
survives a power cut as the registry's do.
"""

import asyncio
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.ground import Ground, ground, registry_settings
from tests.bench.measure import Row, eventually
from tests.bench.witness import Witness, witness

from fleet_registry.main import Registry
from fleet_registry.settings import Presence as PresenceSettings
from muster_contracts.agent.v1 import AgentKind, Heartbeat
from muster_contracts.fleet.v1 import Presence
from muster_contracts.ids import make_epoch
from muster_runtime import SystemClock, collect_garbage_seldom
from muster_testing.wait import until

AGENTS, STALE = 10_000, 4_000
_TIMES = 3
_SHORT, _LONG = 1.0, 300.0
"""The stale state a second as their interval : late after 1.5 s, lost after 2.5 s."""
_AT_ONCE = 5_000


async def rows() -> list[Row]:
    """A few sweeps of one registry, its own sweeps switched off, each beside the limit."""
    # One site of 10,000 would be cut off rather than lost; more than this share may be missing.
    presence = PresenceSettings(
        interval_seconds=_SHORT,
        budget_per_second=1e6,
        sweep_seconds=3600,
        partition_share=0.99,
        flapping_changes=1000,
    )
    collect_garbage_seldom()  # as the registry's process does
    sweeps, told, limits = [], [], []
    async with ground() as here, witness(here) as person:
        registry = Registry(registry_settings(here, presence), SystemClock())
        async with registry.open():
            for _ in range(_TIMES):
                sweep, all_told = await _lose(registry, person)
                sweeps.append(sweep)
                told.append(all_told)
                limits.append(_raw(here))
    return _rows(sweeps, told, limits)


def _rows(sweeps: list[float], told: list[float], limits: list[float]) -> list[Row]:
    mine, limit = statistics.median(sweeps), statistics.median(limits)
    ratio = statistics.median(a / b for a, b in zip(sweeps, limits, strict=True))
    what = f"{STALE:,} of {AGENTS:,} lost: found, decided, recorded"
    return [
        Row("B2", what, mine, "ms", "<= 3 ms", mine <= 3, limit, "sqlite3, same rows", ratio),
        Row("B2", "until each loss was heard on the bus", statistics.median(told), "ms", "", None),
    ]


async def _lose(registry: Registry, person: Witness) -> tuple[float, float]:
    """Milliseconds of the sweep that loses the stale, and until the last of their losses is heard."""
    await _beat(registry)
    await eventually(lambda: _all_said(registry), seconds=60, every=0.1)
    person.changes.clear()
    await _beat(registry)
    began = time.monotonic()
    # Nobody looks between late and lost, so that one sweep finds all of them dead. Nor may it be long: a
    # registry that has not looked for two seconds takes itself for hung and counts silence anew.
    while time.monotonic() < began + 1.4 * _SHORT:
        await registry.rounds.sweep()
        await asyncio.sleep(0.2)
    await asyncio.sleep(max(0.0, began + 2.7 * _SHORT - time.monotonic()))
    return await _timed_sweep(registry, person)


async def _all_said(registry: Registry) -> bool:
    return await registry.outbox.size() == 0


async def _timed_sweep(registry: Registry, person: Witness) -> tuple[float, float]:
    began = time.perf_counter()
    await registry.rounds.sweep()
    swept = (time.perf_counter() - began) * 1000
    await until(lambda: person.count(Presence.LOST) == STALE, seconds=30, every=0.01)
    return swept, (time.perf_counter() - began) * 1000


async def _beat(registry: Registry) -> None:
    """Everybody speaks once, and so is online."""
    epoch, now = make_epoch("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0", 1), datetime.now(UTC)
    beats = [
        Heartbeat(
            occurred_at=now, agent_id=f"agent-{n:05d}", kind=AgentKind.HOST, epoch=epoch, sequence=0,
            interval_seconds=_SHORT if n < STALE else _LONG,
        )
        for n in range(AGENTS)
    ]  # fmt: skip
    # The stale last: deciding about ten thousand newcomers takes a while, during which they must not age.
    for start in range(AGENTS - _AT_ONCE, -1, -_AT_ONCE):
        await registry.rounds.hearing.heartbeats(beats[start : start + _AT_ONCE])
    await registry.rounds.hearing.heartbeats(beats[:STALE])


def _raw(here: Ground) -> float:
    """Milliseconds sqlite3 needs for the same rows."""
    with _plain(here.directory / "limit.db") as connection:
        rows = [(f"agent-{n:05d}", "lost", "late", 1_795_000_000_000_000, "silence") for n in range(STALE)]
        began = time.perf_counter()
        with connection:
            connection.executemany(
                "UPDATE agents SET state = ?2, reason = ?5, since = ?4 WHERE id = ?1", rows
            )
            connection.executemany("INSERT INTO history VALUES (NULL, ?1, ?2, ?3, ?4, ?5)", rows)
            connection.executemany("UPDATE sessions SET ended = ?4, reason = ?5 WHERE agent = ?1", rows)
            connection.executemany("INSERT INTO letters VALUES (NULL, ?1, ?2, ?3, ?4, ?5)", rows)
        return (time.perf_counter() - began) * 1000


@contextmanager
def _plain(path: Path) -> Iterator[sqlite3.Connection]:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
            CREATE TABLE agents (id TEXT PRIMARY KEY, state, reason, since);
            CREATE TABLE history (id INTEGER PRIMARY KEY, agent, now, was, at, reason);
            CREATE INDEX by_agent ON history (agent, id);
            CREATE TABLE sessions (id INTEGER PRIMARY KEY, agent TEXT UNIQUE, ended, reason);
            CREATE TABLE letters (id INTEGER PRIMARY KEY, a, b, c, d, e);
        """)
        names = [(f"agent-{n:05d}",) for n in range(AGENTS)]
        with connection:
            connection.executemany("INSERT INTO agents (id) VALUES (?)", names)
            connection.executemany("INSERT INTO sessions (agent) VALUES (?)", names)
        yield connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
