"""One database of one service, on SQLite or PostgreSQL, opened by its URL."""

import asyncio
import contextlib
import importlib
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, QueuePool, StaticPool

from muster_sql.errors import DatabaseError

T = TypeVar("T")

ATTEMPTS = 5
BUSY_SECONDS = 5.0
TIDY_SECONDS = 0.1
"""Writers wait while a log is emptied, so readers in the way are not waited for much longer."""
READERS = 4
CHECKPOINT_PAGES = 4000
"""Pages of the log (16 MiB) before they go into the database: a page that changes often goes there seldom."""
POSTGRESQL_CONNECTIONS = 10
POSTGRESQL_PATIENCE_SECONDS = 10.0

# PostgreSQL: serialization failure, deadlock. Both mean: do it again.
_REPEATABLE = {"40001", "40P01"}


class Database:
    """Transactions on one database: one writer at a time on SQLite, readers beside it; a pool on PostgreSQL.

    What ``begin`` has committed survives a power cut: SQLite runs with WAL and ``synchronous=FULL``.
    """

    def __init__(self, url: URL, writer: AsyncEngine, reader: AsyncEngine) -> None:
        self.url = url
        self._writer, self._reader = writer, reader
        self._direct: Engine | None = None
        self._direct_reader: Engine | None = None
        # SQLite has one writer; whoever waits here waits in order and blocks no connection.
        self._turn = asyncio.Lock() if self.is_sqlite else None

    @classmethod
    def open(cls, url: str | SecretStr, *, connections: int | None = None) -> Self:
        """Prepare the database at ``url``; nothing connects before the first transaction.

        Args:
            url: ``sqlite+aiosqlite:///absolute/or/relative.db``, ``sqlite+aiosqlite://`` (in memory) or
                ``postgresql+asyncpg://user:password@host/name``; ``sqlite:`` and ``postgresql:`` mean these.
            connections: of the pool; 4 readers beside the writer on SQLite, 10 in all on PostgreSQL.

        Raises:
            DatabaseError: the URL is none of these, or the driver is not installed.
        """
        parsed = _parse(url.get_secret_value() if isinstance(url, SecretStr) else url)
        if parsed.get_backend_name() == "sqlite":
            return cls(parsed, *_sqlite_engines(parsed, connections or READERS))
        engine = _postgresql_engine(parsed, connections or POSTGRESQL_CONNECTIONS)
        return cls(parsed, engine, engine)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite; else it is PostgreSQL."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path | None:
        """The file of a SQLite database; ``None`` for one in memory and for PostgreSQL."""
        file = self.url.database
        return Path(file) if file and self.is_sqlite and not _in_memory(self.url) else None

    def __str__(self) -> str:
        return self.url.render_as_string(hide_password=True)

    @contextlib.asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that may write: committed at the end, rolled back if the body raises.

        On SQLite it holds the write lock from the start (``BEGIN IMMEDIATE``), so it cannot fail half-way
        because somebody else writes; on a locked database the start is tried again a few times.
        """
        async with self._my_turn(), self._started(self._writer) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view that writes nothing; on SQLite it goes on beside the writer."""
        if self._reader is self._writer:
            async with self._my_turn(), self._started(self._writer) as connection:
                yield connection
        else:
            async with self._started(self._reader) as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def without_foreign_keys(self) -> AsyncIterator[AsyncConnection]:
        """A writing transaction without foreign keys, on SQLite only; for migrations that rebuild tables."""
        async with self._my_turn(), self._writer.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver
            # The pragma does nothing inside a transaction, hence before it begins and after it has ended.
            await driver.execute("PRAGMA foreign_keys=OFF")
            try:
                async with connection.begin():
                    yield connection
            finally:
                await driver.execute("PRAGMA foreign_keys=ON")

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run ``work`` in a transaction, again if the database asks for it (conflict, deadlock, locked).

        ``work`` may run up to 5 times, so it must have no effect outside of the database.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self.begin() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not _is_repeatable(error):
                    raise
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  (spreads retries)
        raise AssertionError("unreachable")

    async def transact_at_one_go(self, work: Callable[[Connection], T]) -> T:
        """As ``transact``, for a writer of many small statements: ``work`` is synchronous.

        Through the asynchronous driver of SQLite a statement changes threads four times. Here a thread runs
        all of ``work`` on a connection that is kept for it; on PostgreSQL it is ``AsyncConnection.run_sync``.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._at_one_go(work)
            except DBAPIError as error:
                if attempt == ATTEMPTS or not _is_repeatable(error):
                    raise
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  (spreads retries)
        raise AssertionError("unreachable")

    async def _at_one_go(self, work: Callable[[Connection], T]) -> T:
        if self.path is None:
            async with self.begin() as connection:
                return await connection.run_sync(work)
        engine = self._direct = self._direct or _direct_engine(self.path)

        def run() -> T:
            with engine.begin() as connection:
                return work(connection)

        async with self._my_turn():
            # Whoever gives up waiting leaves the thread to its end, and the turn with it.
            return await _to_its_end(asyncio.ensure_future(asyncio.to_thread(run)))

    async def read_at_one_go(self, work: Callable[[Connection], T]) -> T:
        """As ``read``, for one who asks often: ``work`` is synchronous, and a thread runs all of it."""
        if self.path is None:
            async with self.read() as connection:
                return await connection.run_sync(work)
        engine = self._direct_reader = self._direct_reader or _direct_reader(self.path)

        def run() -> T:
            with engine.begin() as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(run)
        except PoolTimeoutError:
            raise DatabaseError(f"cannot use {self}: all its connections are busy") from None

    async def tidy(self) -> bool:
        """Take off the disk what SQLite's write-ahead log holds of rows that are no more.

        Until it is emptied, the log has whatever was written before a row was changed. PostgreSQL is left
        alone. Returns whether nothing is left to do; readers may be in the way: then try again later.
        """
        if self.path is None:
            return True
        try:
            async with self._my_turn(), self._writer.connect() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                assert driver
                return await _empty_log(driver)
        except (DBAPIError, PoolTimeoutError, sqlite3.Error):
            return False

    async def ping(self, seconds: float = 2.0) -> None:
        """Return if the database answers within ``seconds``.

        Raises:
            DatabaseError: it does not.
        """
        try:
            async with asyncio.timeout(seconds), self.read() as connection:
                await connection.execute(text("SELECT 1"))
        except TimeoutError:
            raise DatabaseError(f"cannot use {self}: no answer within {seconds:g} s") from None
        except DBAPIError as error:
            raise DatabaseError(f"cannot use {self}: {_reason(error)}") from None

    async def close(self) -> None:
        """Close every connection."""
        for direct in (self._direct, self._direct_reader):
            if direct is not None:
                await asyncio.to_thread(direct.dispose)
        await self._reader.dispose()
        if self._writer is not self._reader:
            await self._writer.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @contextlib.asynccontextmanager
    async def _my_turn(self) -> AsyncIterator[None]:
        if self._turn is None:
            yield
        else:
            async with self._turn:
                yield

    @contextlib.asynccontextmanager
    async def _started(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        async with contextlib.AsyncExitStack() as stack:
            connection = await self._start(engine, stack)
            yield connection

    async def _start(self, engine: AsyncEngine, stack: contextlib.AsyncExitStack) -> AsyncConnection:
        """A connection with its transaction begun; only the beginning is repeated, so nothing runs twice."""
        for attempt in range(1, ATTEMPTS + 1):
            async with contextlib.AsyncExitStack() as trial:
                try:
                    connection = await trial.enter_async_context(engine.connect())
                    await trial.enter_async_context(connection.begin())
                except DBAPIError as error:
                    if attempt == ATTEMPTS or not _is_locked(error):
                        raise DatabaseError(f"cannot use {self}: {_reason(error)}") from None
                except PoolTimeoutError:
                    raise DatabaseError(f"cannot use {self}: all its connections are busy") from None
                except OSError as error:
                    raise DatabaseError(f"cannot use {self}: {_reason(error)}") from None
                else:
                    stack.push_async_exit(trial.pop_all())
                    return connection
            await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311  (spreads retries)
        raise AssertionError("unreachable")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseError(
            "cannot open the database: its URL (not shown) is none; give sqlite+aiosqlite:///FILE or "
            "postgresql+asyncpg://USER:PASSWORD@HOST/NAME"
        ) from None
    drivers = {"sqlite": "aiosqlite", "postgresql": "asyncpg"}
    backend = parsed.get_backend_name()
    plain = "+" not in parsed.drivername
    if backend not in drivers or (not plain and parsed.drivername != f"{backend}+{drivers[backend]}"):
        raise DatabaseError(
            f"cannot open {parsed.render_as_string()}: {parsed.drivername} is not supported; give "
            "sqlite+aiosqlite or postgresql+asyncpg"
        )
    return parsed.set(drivername=f"{backend}+{drivers[backend]}")


def _in_memory(url: URL) -> bool:
    return url.database in {None, "", ":memory:"} or "mode" in url.query


def _sqlite_engines(url: URL, readers: int) -> tuple[AsyncEngine, AsyncEngine]:
    if _in_memory(url):
        only = create_async_engine(url, poolclass=StaticPool)
        _prepare_sqlite(only.sync_engine, begin="BEGIN IMMEDIATE", read_only=False)
        return only, only
    assert url.database
    file = Path(url.database)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)  # the journal files take the mode of the database
    writer = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0)
    reader = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, pool_size=readers, max_overflow=0)
    _prepare_sqlite(writer.sync_engine, begin="BEGIN IMMEDIATE", read_only=False)
    _prepare_sqlite(reader.sync_engine, begin="BEGIN", read_only=True)
    return writer, reader


def _direct_engine(file: Path) -> Engine:
    """A second writer on the same file; it waits for its turn like the first."""
    anywhere = {"check_same_thread": False}
    engine = create_engine(
        URL.create("sqlite", database=str(file)), poolclass=StaticPool, connect_args=anywhere
    )
    _prepare_sqlite(engine, begin="BEGIN IMMEDIATE", read_only=False)
    return engine


def _direct_reader(file: Path) -> Engine:
    """Connections that read beside the writer, each in whichever thread has it just now."""
    engine = create_engine(
        URL.create("sqlite", database=str(file)), poolclass=QueuePool, pool_size=READERS, max_overflow=0,
        pool_timeout=BUSY_SECONDS, connect_args={"check_same_thread": False},
    )  # fmt: skip
    _prepare_sqlite(engine, begin="BEGIN", read_only=True)
    return engine


async def _to_its_end(work: "asyncio.Future[T]") -> T:
    """What ``work`` gives; whoever is cancelled meanwhile is cancelled once it has ended."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
    return work.result()


async def _empty_log(driver: Any) -> bool:
    """Outside of a transaction, or SQLite refuses."""
    await driver.execute(f"PRAGMA busy_timeout={int(TIDY_SECONDS * 1000)}")
    try:
        [(busy, *_)] = await driver.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        await driver.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    return not busy


def _prepare_sqlite(engine: Engine, *, begin: str, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # The driver begins no transactions of its own: when they begin, and how, is said below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={int(BUSY_SECONDS * 1000)}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",  # what is deleted or replaced may have been secret
            "journal_size_limit=67108864",
            f"wal_autocheckpoint={CHECKPOINT_PAGES}",
            *(["query_only=ON"] if read_only else []),
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: Any) -> None:
        connection.exec_driver_sql(begin)


def _postgresql_engine(url: URL, connections: int) -> AsyncEngine:
    try:
        importlib.import_module("asyncpg")  # only where PostgreSQL is used
    except ImportError:
        hidden = url.render_as_string(hide_password=True)
        raise DatabaseError(f"cannot open {hidden}: install muster-sql[postgresql]") from None
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,  # a connection that died while idle is replaced, not handed out
        pool_timeout=POSTGRESQL_PATIENCE_SECONDS,
        connect_args={
            "timeout": POSTGRESQL_PATIENCE_SECONDS,
            "server_settings": {"application_name": "muster"},
        },
    )


def _is_locked(error: DBAPIError) -> bool:
    causes = (error.orig, getattr(error.orig, "__cause__", None))
    codes = {getattr(cause, "sqlite_errorcode", 0) & 0xFF for cause in causes}
    return bool(codes & {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def _is_repeatable(error: DBAPIError) -> bool:
    return _is_locked(error) or getattr(error.orig, "sqlstate", None) in _REPEATABLE


def _reason(error: Exception) -> str:
    """Why, in the driver's words: without SQL, parameters and passwords."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return str(cause).partition("\n")[0] or type(cause).__name__
