"""The post: what was just committed is not read back, and nothing that waits is overlooked."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from sqlalchemy import MetaData

from muster_bus import Letter
from muster_sql import Database, Outbox, outbox_table
from state_store.adapters import post as posts
from state_store.adapters.post import Post

METADATA = MetaData()
TABLE = outbox_table(METADATA)


def letters(*ids: int, subject: str = "s") -> list[Letter]:
    return [Letter(str(one), subject, b"x") for one in ids]


class Counting(Outbox):
    """Counts the looks into the table."""

    looks = 0

    async def take(self, limit: int, *, without: Collection[str] = ()) -> list[Letter]:
        self.looks += 1
        return await super().take(limit, without=without)


class Office:
    """A post on a database; what is delivered leaves the outbox when the test says so."""

    def __init__(self, database: Database) -> None:
        self.database, self.outbox = database, Counting(database, TABLE)
        self.post = Post(self.outbox, self._delivered)
        self.leaving: list[tuple[list[str], asyncio.Future[None]]] = []

    def _delivered(self, ids: list[str]) -> "asyncio.Future[None]":
        self.leaving.append((ids, asyncio.get_running_loop().create_future()))
        return self.leaving[-1][1]

    async def commit(self, *ids: int, subject: str = "s") -> None:
        """As the ledger does: in a transaction, and then the post is told."""
        async with self.database.begin() as connection:
            await self.outbox.put_in(connection, letters(*ids, subject=subject))
        self.post.posted(letters(*ids, subject=subject))

    async def leave(self) -> None:
        """What is delivered leaves the outbox."""
        for ids, told in self.leaving:
            async with self.database.begin() as connection:
                await self.outbox.forget_in(connection, ids)
            told.set_result(None)
        self.leaving.clear()
        await asyncio.sleep(0)

    async def waiting(self, limit: int = 100, without: Collection[str] = ()) -> list[int]:
        return [int(one.id) for one in await self.post.take(limit, without=without)]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with Database.open(f"sqlite+aiosqlite:///{tmp_path}/post.db") as database:
        async with database.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        yield Office(database)


async def test_what_was_committed_is_taken_without_a_look(office: Office) -> None:
    assert await office.waiting() == []
    await office.commit(1, 2)
    await office.commit(3)
    assert await office.waiting(2) == [1, 2]
    await office.post.done(["1", "2"])
    assert await office.waiting() == [3]
    assert office.outbox.looks == 1


async def test_what_an_earlier_run_left_comes_first(office: Office) -> None:
    async with office.database.begin() as connection:
        await office.outbox.put_in(connection, letters(1, 2))
    await office.commit(3)
    assert await office.waiting() == [1, 2, 3]


async def test_what_is_delivered_is_not_taken_again_though_the_outbox_still_has_it(office: Office) -> None:
    await office.commit(1, 2)
    assert await office.waiting() == [1, 2]
    await office.post.done(["1"])
    assert await office.waiting(1, without=["other"]) == [2]
    assert await office.post.size() == 1
    await office.leave()
    assert await office.outbox.size() == 1
    assert await office.waiting(1, without=["other"]) == [2]


async def test_what_could_not_leave_the_outbox_is_sent_again(office: Office) -> None:
    await office.commit(1)
    await office.waiting()
    await office.post.done(["1"])
    office.leaving[0][1].set_exception(OSError("the disk is full"))
    await asyncio.sleep(0)
    assert await office.waiting() == [1]


async def test_a_letter_committed_during_a_look_is_not_overlooked(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = Outbox.take

    async def slow(self: Outbox, limit: int, *, without: Collection[str] = ()) -> list[Letter]:
        found = await look(self, limit, without=without)
        await office.commit(2)
        return found

    await office.commit(1)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Outbox, "take", slow)
        assert await office.waiting() == [1]
    await office.post.done(["1"])
    assert await office.waiting() == [2]


async def test_more_than_is_remembered_is_read_from_the_outbox(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posts, "REMEMBERED", 3)
    await office.waiting()
    for first in range(0, 20, 2):
        await office.commit(first, first + 1)
    taken: list[int] = []
    while some := await office.waiting(4):
        taken += some
        await office.post.done(str(one) for one in some)
    assert taken == list(range(20))


async def test_who_is_refused_is_passed_by_and_not_forgotten(office: Office) -> None:
    await office.waiting()
    await office.commit(1, subject="refused")
    await office.commit(2)
    assert await office.waiting(without=["refused"]) == [2]
    await office.post.done(["2"])
    assert await office.waiting() == [1]


async def test_what_another_process_left_behind_is_found_after_a_while(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await office.waiting() == []
    async with office.database.begin() as connection:
        await office.outbox.put_in(connection, letters(1))
    assert await office.waiting() == []
    monkeypatch.setattr(posts, "LOOK_SECONDS", 0)
    assert await office.waiting() == [1]
