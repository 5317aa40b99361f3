"""The outbox: a letter is there exactly if the rows it tells of are."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, insert, select

from muster_bus.spool import Letter, Spool
from muster_sql import Database, Outbox, outbox_table

METADATA = MetaData()
OUTBOX = outbox_table(METADATA)
FACTS = Table("facts", METADATA, Column("id", Integer, primary_key=True))


def letter(number: int) -> Letter:
    return Letter(
        str(number), f"muster.x.v1.{number}.said", f"body {number}".encode(), {"traceparent": "00-1"}
    )


def letters(*numbers: int) -> list[Letter]:
    return [letter(number) for number in numbers]


@pytest.fixture(autouse=True)
async def tables(database: Database) -> None:
    async with database.begin() as connection:
        await connection.run_sync(METADATA.create_all)


@pytest.fixture
def outbox(database: Database) -> Outbox:
    return Outbox(database, OUTBOX, capacity=5)


async def numbers(outbox: Outbox, limit: int = 100) -> list[int]:
    return [int(one.id) for one in await outbox.take(limit)]


class HalfWay(Exception):
    """Something else went wrong before the transaction ended."""


async def record(database: Database, outbox: Outbox, number: int, *, fail: bool = False) -> None:
    async with database.begin() as connection:
        await connection.execute(insert(FACTS), [{"id": number}])
        await outbox.put_in(connection, letters(number))
        if fail:
            raise HalfWay


def test_an_outbox_is_a_spool(outbox: Outbox) -> None:
    spool: Spool = outbox
    assert spool.capacity == 5


async def test_letters_come_back_whole_and_in_order_until_they_are_done(outbox: Outbox) -> None:
    await outbox.put(*letters(3, 1, 2))
    assert await outbox.take(2) == letters(3, 1)
    assert await outbox.take(2) == letters(3, 1)
    await outbox.done(["3", "2", "unknown"])
    assert await outbox.take(2) == letters(1)
    assert await outbox.size() == 1


async def test_letters_of_some_subjects_are_passed_by(outbox: Outbox) -> None:
    await outbox.put(*letters(1, 2, 3))
    assert await outbox.take(1, without={letter(1).subject}) == letters(2)
    assert await outbox.take(9, without=[letter(n).subject for n in range(3, 50_000)]) == letters(1, 2)


async def test_letter_and_row_are_one_transaction(database: Database, outbox: Outbox) -> None:
    with pytest.raises(HalfWay):
        await record(database, outbox, 1, fail=True)
    assert await outbox.size() == 0
    await record(database, outbox, 1)
    assert await numbers(outbox) == [1]


async def test_a_repeated_letter_is_kept_once(outbox: Outbox) -> None:
    await outbox.put(*letters(1, 2))
    await outbox.put(*letters(2, 3))
    assert await numbers(outbox) == [1, 2, 3]


async def test_a_full_outbox_drops_its_oldest_letters_and_counts_them(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    await outbox.put(*letters(1, 2, 3, 4))
    assert outbox.dropped == 0
    await outbox.put(*letters(5, 6, 7))
    assert await numbers(outbox) == [3, 4, 5, 6, 7]
    assert outbox.dropped == 2
    assert "outbox full: dropped its 2 oldest letters to hold 5" in caplog.text


async def test_what_a_failed_transaction_would_have_dropped_is_neither_dropped_nor_counted(
    database: Database, outbox: Outbox
) -> None:
    await outbox.put(*letters(1, 2, 3, 4, 5))
    with pytest.raises(HalfWay):
        await record(database, outbox, 6, fail=True)
    assert await numbers(outbox) == [1, 2, 3, 4, 5]
    assert outbox.dropped == 0


async def test_gaps_in_the_positions_drop_nothing(outbox: Outbox) -> None:
    await outbox.put(letter(0))
    for number in range(1, 30):
        await outbox.put(letter(number))
        await outbox.done([str(number)])
    await outbox.put(letter(30))
    assert await numbers(outbox) == [0, 30]
    assert outbox.dropped == 0


async def test_positions_are_never_given_twice(database: Database, outbox: Outbox) -> None:
    positions: list[int] = []
    for number in range(3):
        await outbox.put(letter(number))
        async with database.read() as connection:
            positions.append((await connection.execute(select(OUTBOX.c.position))).scalar_one())
        await outbox.done([str(number)])
    assert positions == sorted(set(positions))


async def test_thousands_are_put_and_done_in_bulk(database: Database) -> None:
    outbox = Outbox(database, OUTBOX)
    await outbox.put(*letters(*range(3_000)))
    taken = await outbox.take(5_000)
    assert taken == letters(*range(3_000))
    await outbox.done(one.id for one in taken)
    assert await outbox.size() == 0


async def test_it_tells_how_long_the_oldest_letter_waits(outbox: Outbox) -> None:
    assert await outbox.oldest() is None
    await outbox.put(letter(1))
    waiting = datetime.now(UTC) - (await outbox.oldest() or datetime.min.replace(tzinfo=UTC))
    assert timedelta(0) <= waiting < timedelta(minutes=1)


async def test_nothing_is_no_work(outbox: Outbox) -> None:
    await outbox.put()
    await outbox.done([])
    assert await outbox.take(10) == []


RECORDER = """
import asyncio, sys
from muster_bus.spool import Letter
from sqlalchemy import MetaData, text
from muster_sql import Database, Outbox, outbox_table
async def main():
    async with Database.open(sys.argv[1]) as database:
        outbox = Outbox(database, outbox_table(MetaData()))
        number = 0
        while True:
            number += 1
            async with database.begin() as connection:
                await connection.execute(text("INSERT INTO facts (id) VALUES (:n)"), {"n": number})
                await outbox.put_in(connection, [Letter(str(number), "s", b"")])
            print(number, flush=True)
asyncio.run(main())
"""


def recorder(url: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", RECORDER, url], stdout=subprocess.PIPE, text=True)


async def test_after_kill_9_rows_and_letters_tell_the_same_story(url: str, database: Database) -> None:
    child = recorder(url)
    try:
        assert child.stdout
        for _ in range(20):
            said = int(await asyncio.to_thread(child.stdout.readline))
    finally:
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.communicate)
    async with database.read() as connection:
        facts = list(await connection.scalars(select(FACTS.c.id).order_by(FACTS.c.id)))
    assert facts == await numbers(Outbox(database, OUTBOX), 100_000)
    assert facts[:said] == list(range(1, said + 1))
