"""Migrations at start: Alembic without its files, under a lock, all of them or none."""

import ast
import asyncio
import contextlib
import fcntl
import hashlib
import importlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType

from sqlalchemy import MetaData, inspect, text
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
    package = (
        importlib.import_module(versions_package) if isinstance(versions_package, str) else versions_package
    )
    directory = Path(next(iter(package.__path__)))
    newest = _newest(directory)
    if newest is not None and await version(database) == newest:
        return []  # the usual start, and it spares 12 MiB of Alembic

    from muster_sql import steps  # noqa: PLC0415  (only where there is something to do)

    async with _alone(database, lock_seconds), _migrating(database, lock_seconds) as connection:
        return await connection.run_sync(steps.upgrade, directory, str(database))


async def drift(database: Database, metadata: MetaData) -> list[str]:
    """What the tables of the database lack of ``metadata``, or have beside it; empty when they agree."""
    from muster_sql import steps  # noqa: PLC0415  (as above)

    async with database.read() as connection:
        return await connection.run_sync(steps.differences, metadata)


async def version(database: Database) -> str | None:
    """The version the database is at; ``None`` before the first migration."""
    async with database.read() as connection:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return None
        found = await connection.scalars(text("SELECT version_num FROM alembic_version"))
        return found.one_or_none()


def _directory(package: str | ModuleType) -> Path:
    module = importlib.import_module(package) if isinstance(package, str) else package
    return Path(next(iter(module.__path__)))


def _newest(directory: Path) -> str | None:
    """The one version no other follows, read without importing anything; ``None`` if that cannot be told."""
    files = [file for file in directory.glob("*.py") if file.name != "__init__.py"]
    named = [_constants(file) for file in files]
    if any(not {"revision", "down_revision"} <= names.keys() for names in named):
        return None  # written in another way than plain assignments: Alembic will know
    heads = {names["revision"] for names in named} - {names["down_revision"] for names in named}
    return str(heads.pop()) if len(heads) == 1 else None


def _constants(file: Path) -> dict[str, object]:
    """The names a module assigns constants to, with or without a type."""
    names: dict[str, object] = {}
    for statement in ast.parse(file.read_bytes()).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value))
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=value))
            ):
                names[name] = value
    return names


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
