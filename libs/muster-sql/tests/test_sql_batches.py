"""Batches: many rows at once, the same on both databases."""

from typing import Any

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, func, select

from muster_sql import Database, insert_rows, upsert

METADATA = MetaData()
HOSTS = Table(
    "hosts",
    METADATA,
    Column("site", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("state", Text),
    Column("version", Integer, nullable=False),
)


@pytest.fixture(autouse=True)
async def tables(database: Database) -> None:
    async with database.begin() as connection:
        await connection.run_sync(METADATA.create_all)


def host(name: str, state: str = "online", version: int = 1) -> dict[str, Any]:
    return {"site": "berlin", "name": name, "state": state, "version": version}


async def put(database: Database, *rows: dict[str, Any], **options: Any) -> None:
    async with database.begin() as connection:
        await upsert(connection, HOSTS, rows, ["site", "name"], **options)


async def states(database: Database) -> dict[str, tuple[str, int]]:
    async with database.read() as connection:
        found = await connection.execute(select(HOSTS.c.name, HOSTS.c.state, HOSTS.c.version))
        return {row.name: (row.state, row.version) for row in found}


async def test_a_new_row_is_inserted_and_a_known_one_updated(database: Database) -> None:
    await put(database, host("a"), host("b"))
    await put(database, host("b", "lost", 2), host("c"))
    assert await states(database) == {"a": ("online", 1), "b": ("lost", 2), "c": ("online", 1)}


async def test_only_the_named_columns_are_updated(database: Database) -> None:
    await put(database, host("a"))
    await put(database, host("a", "lost", 2), update=["state"])
    assert await states(database) == {"a": ("lost", 1)}


async def test_nothing_to_update_keeps_what_is_there(database: Database) -> None:
    await put(database, host("a"))
    await put(database, host("a", "lost", 2), host("b"), update=[])
    assert await states(database) == {"a": ("online", 1), "b": ("online", 1)}


async def test_of_two_rows_with_one_key_the_later_one_wins(database: Database) -> None:
    await put(database, host("a", "late", 1), host("a", "lost", 2))
    assert await states(database) == {"a": ("lost", 2)}


async def test_an_older_version_does_not_overwrite_a_newer_one(database: Database) -> None:
    await put(database, host("a", "lost", 5), host("b", "lost", 1))
    await put(
        database,
        host("a", "online", 4),
        host("b", "online", 2),
        where=lambda new: HOSTS.c.version < new.version,
    )
    assert await states(database) == {"a": ("lost", 5), "b": ("online", 2)}


async def test_more_rows_than_one_statement_has_parameters(database: Database) -> None:
    rows = [host(f"h{number}") for number in range(20_000)]
    async with database.begin() as connection:
        await insert_rows(connection, HOSTS, rows)
    await put(database, *[{**row, "state": "lost"} for row in rows])
    async with database.read() as connection:
        lost = select(func.count()).select_from(HOSTS).where(HOSTS.c.state == "lost")
        assert await connection.scalar(lost) == 20_000


async def test_no_rows_are_no_work(database: Database) -> None:
    await put(database)
    async with database.begin() as connection:
        await insert_rows(connection, HOSTS, [])
    assert await states(database) == {}


async def test_rows_that_name_different_columns_are_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="cannot write rows that name different columns"):
        await put(database, host("a"), {"site": "berlin", "name": "b", "version": 1})
