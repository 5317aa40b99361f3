"""Moments in time: the same on both databases, whatever zone they came in."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, func, select
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import StatementError

from muster_sql import Database, UtcDateTime, insert_rows

METADATA = MetaData()
MOMENTS = Table("moments", METADATA, Column("id", Integer, primary_key=True), Column("at", UtcDateTime()))

TOKYO = timezone(timedelta(hours=9))
STORY = [
    datetime(1969, 7, 20, 20, 17, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 1, 8, 59, 59, 999_999, tzinfo=TOKYO),
    datetime(2026, 1, 1, 0, 0, tzinfo=UTC),
    datetime(2026, 1, 1, 9, 0, 0, 1, tzinfo=TOKYO),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]


@pytest.fixture(autouse=True)
async def story(database: Database) -> None:
    async with database.begin() as connection:
        await connection.run_sync(METADATA.create_all)
        rows = [{"id": number, "at": at} for number, at in reversed(list(enumerate(STORY)))]
        await insert_rows(connection, MOMENTS, rows)


async def test_moments_come_back_exact_aware_and_in_order(database: Database) -> None:
    async with database.read() as connection:
        found = list(await connection.scalars(select(MOMENTS.c.at).order_by(MOMENTS.c.at)))
    assert found == STORY
    assert {at.tzinfo for at in found} == {UTC}


async def test_moments_compare_and_aggregate_in_sql(database: Database) -> None:
    async with database.read() as connection:
        after = select(MOMENTS.c.id).where(MOMENTS.c.at > STORY[2].astimezone(UTC)).order_by(MOMENTS.c.id)
        assert list(await connection.scalars(after)) == [3, 4, 5]
        assert await connection.scalar(select(func.max(MOMENTS.c.at))) == STORY[-1]


async def test_no_moment_stays_none(database: Database) -> None:
    async with database.begin() as connection:
        await insert_rows(connection, MOMENTS, [{"id": 99, "at": None}])
        assert await connection.scalar(select(MOMENTS.c.at).where(MOMENTS.c.id == 99)) is None


async def test_a_naive_moment_is_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="cannot store the naive datetime 2026-01-01T00:00:00"):
        async with database.begin() as connection:
            await insert_rows(connection, MOMENTS, [{"id": 99, "at": datetime(2026, 1, 1)}])  # noqa: DTZ001


# A day within what datetime can hold, for in UTC it may be another day.
FIRST, LAST = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001  (hypothesis adds the zone)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.datetimes(FIRST, LAST, timezones=st.sampled_from([UTC, TOKYO])))
def test_every_moment_survives_its_stored_form(at: datetime) -> None:
    dialect = sqlite_dialect.dialect()
    kind = UtcDateTime()
    assert kind.process_result_value(kind.process_bind_param(at, dialect), dialect) == at
