"""Migrations at start: Alembic without its files, under a lock, all of them or none."""

import asyncio
import contextlib
import fcntl
import hashlib
import importlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_sql.database import Database
from muster_sql.errors import DatabaseError

LOCK_SECONDS = 60.0
LOCK_NOT_AVAILABLE = "55P03"


async def migrate(
    database: Database, versions_package: str | ModuleType, *, lock_seconds: float = LOCK_SECONDS
) -> list[str]:
    """Bring the database to the newest version in the package, and give the versions it was brought through.

    Processes that start at the same time take turns; all versions are applied in one transaction, so that a
    process killed half-way leaves the database as it was.

    Args:
        database: the one to migrate.
        versions_package: holds Alembic's version files, as a module or by its name.
        lock_seconds: how long to wait for another process that migrates.

    Raises:
        DatabaseError: another process holds the lock for too long, or the database is newer than the package.
    """
    script = _script(versions_package)
    async with _alone(database, lock_seconds), _migrating(database, lock_seconds) as connection:
        try:
            return await connection.run_sync(_upgrade, script)
        except CommandError as error:
            raise DatabaseError(
                f"cannot migrate {database}: {error}; it was written by a newer version, install that one"
            ) from error


async def drift(database: Database, metadata: MetaData) -> list[str]:
    """What the tables of the database lack of ``metadata``, or have beside it; empty when they agree."""

    def compare(connection: Connection) -> list[str]:
        context = MigrationContext.configure(connection, opts={"render_as_batch": True})
        return [str(difference) for difference in compare_metadata(context, metadata)]

    async with database.read() as connection:
        return await connection.run_sync(compare)


def _script(package: str | ModuleType) -> ScriptDirectory:
    module = importlib.import_module(package) if isinstance(package, str) else package
    directory = next(iter(module.__path__))
    config = Config()
    config.set_main_option("script_location", directory.replace("%", "%%"))
    config.set_main_option("version_locations", directory.replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    return ScriptDirectory.from_config(config)


def _upgrade(connection: Connection, script: ScriptDirectory) -> list[str]:
    applied: list[str] = []

    def steps(revision: Any, _: MigrationContext) -> Any:
        planned = script._upgrade_revs("head", revision)  # noqa: SLF001  (as alembic's own command does)
        applied.extend(step.revision.revision for step in planned)
        return planned

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()
    return applied


@contextlib.asynccontextmanager
async def _migrating(database: Database, seconds: float) -> AsyncIterator[AsyncConnection]:
    """A transaction for migrations; on SQLite without foreign keys, which rebuilding a table would break."""
    if not database.is_sqlite:
        async with database.begin() as connection:
            await _lock_postgresql(connection, database, seconds)
            yield connection
        return
    async with database.without_foreign_keys() as connection:
        yield connection
        broken = (await connection.execute(text("PRAGMA foreign_key_check"))).first()
        if broken:
            raise DatabaseError(
                f"cannot migrate {database}: rows of {broken[0]} refer to missing {broken[2]}"
            )


async def _lock_postgresql(connection: AsyncConnection, database: Database, seconds: float) -> None:
    """Hold the database's lock for migrations until the transaction ends."""
    await connection.execute(text(f"SET LOCAL lock_timeout = {int(seconds * 1000)}"))
    try:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(database)})
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
            raise
        raise DatabaseError(_busy(database, seconds)) from None


def _busy(database: Database, seconds: float) -> str:
    return f"cannot migrate {database}: another process has been at it for {seconds:g} s; see its log"


def _lock_key(database: Database) -> int:
    name = f"muster-sql:{database.url.database}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), signed=True)


@contextlib.asynccontextmanager
async def _alone(database: Database, seconds: float) -> AsyncIterator[None]:
    """Alone among the processes of this machine; on PostgreSQL the lock is the database's own."""
    if database.path is None:
        yield
        return
    with _lock_file(database.path.with_name(f"{database.path.name}.migrating")) as handle:
        await _lock(handle, database, seconds)
        yield


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)  # which also gives up the lock; the file stays, removing it would race


async def _lock(handle: int, database: Database, seconds: float) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                raise DatabaseError(_busy(database, seconds)) from None
            await asyncio.sleep(0.05)
        else:
            return
