"""Migrations: at start, by however many processes at once, all or nothing."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, Table, Text, text

from muster_sql import Database, DatabaseError, drift, migrate

FIRST = """
import sqlalchemy as sa
from alembic import op
revision = "0001"
down_revision = None
def upgrade():
    op.create_table("racks", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.Text))
    op.create_table(
        "hosts",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("rack", sa.Integer, sa.ForeignKey("racks.id", ondelete="CASCADE"), nullable=False),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op
revision: str = "0002"
down_revision: str | None = "0001"
def upgrade():
    with op.batch_alter_table("racks") as racks:
        racks.add_column(sa.Column("slots", sa.Integer, nullable=False, server_default="4"))
        racks.alter_column("name", nullable=False, existing_type=sa.Text())
"""
FAILING = """
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade():
    op.execute("CREATE TABLE half (id INTEGER)")
    op.execute("SELECT * FROM nowhere")
"""
HANGING = """
import pathlib, time
from alembic import op
revision, down_revision = "0003", "0002"
def upgrade():
    op.execute("CREATE TABLE half (id INTEGER)")
    print("half-way", flush=True)
    time.sleep(3600)
"""
MIGRATOR = """
import asyncio, sys
from muster_sql import Database, migrate
async def main():
    async with Database.open(sys.argv[1]) as database:
        print(",".join(await migrate(database, sys.argv[2])), flush=True)
asyncio.run(main())
"""


class Versions:
    """A package of version files that grows."""

    def __init__(self, directory: Path) -> None:
        self.name = f"versions_{uuid4().hex}"
        self.directory = directory / self.name
        self.directory.mkdir()
        (self.directory / "__init__.py").touch()

    def add(self, number: int, script: str) -> None:
        (self.directory / f"v{number:04}.py").write_text(script)

    def remove(self, number: int) -> None:
        (self.directory / f"v{number:04}.py").unlink()

    def start(self, url: str) -> "subprocess.Popen[str]":
        """Another process that migrates."""
        return subprocess.Popen(
            [sys.executable, "-c", MIGRATOR, url, self.name],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(self.directory.parent)},
        )


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    package = Versions(tmp_path)
    package.add(1, FIRST)
    sys.path.insert(0, str(tmp_path))
    yield package
    sys.path.remove(str(tmp_path))


def declared() -> MetaData:
    metadata = MetaData()
    Table(
        "racks",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("slots", Integer, nullable=False),
    )
    Table(
        "hosts",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("rack", Integer, ForeignKey("racks.id", ondelete="CASCADE"), nullable=False),
    )
    return metadata


async def test_an_empty_database_is_brought_to_the_newest_version_once(
    database: Database, versions: Versions
) -> None:
    assert await migrate(database, versions.name) == ["0001"]
    versions.add(2, SECOND)
    assert await migrate(database, versions.name) == ["0002"]
    assert await migrate(database, versions.name) == []


async def test_what_the_versions_made_is_what_the_code_declares(
    database: Database, versions: Versions
) -> None:
    await migrate(database, versions.name)
    assert any("slots" in difference for difference in await drift(database, declared()))
    versions.add(2, SECOND)
    await migrate(database, versions.name)
    assert await drift(database, declared()) == []


async def test_rebuilding_a_table_keeps_the_rows_that_refer_to_it(
    database: Database, versions: Versions
) -> None:
    await migrate(database, versions.name)
    async with database.begin() as connection:
        await connection.execute(text("INSERT INTO racks (id, name) VALUES (1, 'left')"))
        await connection.execute(text("INSERT INTO hosts (id, rack) VALUES (7, 1)"))
    versions.add(2, SECOND)
    await migrate(database, versions.name)
    async with database.begin() as connection:
        assert await connection.scalar(text("SELECT slots FROM racks")) == 4
        assert await connection.scalar(text("SELECT id FROM hosts WHERE rack = 1")) == 7
        # And the foreign keys are on again: deleting the rack takes its hosts along.
        await connection.execute(text("DELETE FROM racks"))
        assert await connection.scalar(text("SELECT count(*) FROM hosts")) == 0


async def test_a_failing_version_leaves_the_database_as_it_was(
    database: Database, versions: Versions
) -> None:
    versions.add(2, SECOND)
    await migrate(database, versions.name)
    versions.add(3, FAILING)
    with pytest.raises(Exception, match="nowhere"):
        await migrate(database, versions.name)
    versions.remove(3)
    assert await migrate(database, versions.name) == []
    assert await drift(database, declared()) == []


async def test_four_processes_that_start_at_once_migrate_once(url: str, versions: Versions) -> None:
    versions.add(2, SECOND)
    children = [versions.start(url) for _ in range(4)]
    said = [(await asyncio.to_thread(child.communicate))[0].strip() for child in children]
    assert [child.returncode for child in children] == [0] * 4
    assert sorted(said) == ["", "", "", "0001,0002"]


async def test_a_migration_killed_half_way_has_not_happened(url: str, versions: Versions) -> None:
    versions.add(2, SECOND)
    async with Database.open(url) as database:
        await migrate(database, versions.name)
        versions.add(3, HANGING)
        child = versions.start(url)
        try:
            assert child.stdout
            assert await asyncio.to_thread(child.stdout.readline) == "half-way\n"
            with pytest.raises(DatabaseError, match=r"another process has been at it for 0\.1 s"):
                await migrate(database, versions.name, lock_seconds=0.1)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            await asyncio.to_thread(child.communicate)
        versions.remove(3)
        assert await migrate(database, versions.name) == []
        assert await drift(database, declared()) == []


async def test_a_database_newer_than_the_service_is_refused(database: Database, versions: Versions) -> None:
    versions.add(2, SECOND)
    await migrate(database, versions.name)
    versions.remove(2)
    with pytest.raises(DatabaseError, match=r"cannot migrate .*0002.* newer version, install that one"):
        await migrate(database, versions.name)


async def test_rows_that_refer_to_nothing_after_a_migration_undo_it(
    sqlite: Database, versions: Versions
) -> None:
    await migrate(sqlite, versions.name)
    assert sqlite.path
    with sqlite3.connect(sqlite.path) as loose:  # SQLite enforces nothing unless asked to
        loose.execute("INSERT INTO hosts (id, rack) VALUES (1, 99)")
    loose.close()
    versions.add(2, SECOND)
    with pytest.raises(DatabaseError, match="rows of hosts refer to missing racks"):
        await migrate(sqlite, versions.name)
    async with sqlite.read() as connection:
        assert await connection.scalar(text("SELECT version_num FROM alembic_version")) == "0001"


async def test_two_versions_after_the_same_one_are_refused(sqlite: Database, versions: Versions) -> None:
    versions.add(2, SECOND)
    versions.add(3, SECOND.replace("0002", "0003"))
    with pytest.raises(DatabaseError, match=r"cannot migrate .*: Multiple head revisions"):
        await migrate(sqlite, versions.name)


async def test_nothing_to_migrate_needs_no_alembic(sqlite: Database, versions: Versions) -> None:
    await migrate(sqlite, versions.name)
    program = MIGRATOR + "\nprint('alembic' in sys.modules)"
    child = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(sqlite), versions.name],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(versions.directory.parent)},
    )
    assert child.stdout == "\nFalse\n"


async def test_a_database_in_memory_can_be_migrated(versions: Versions) -> None:
    async with Database.open("sqlite://") as database:
        assert await migrate(database, versions.name) == ["0001"]
        assert await migrate(database, versions.name) == []
