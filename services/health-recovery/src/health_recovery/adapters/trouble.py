"""Trouble with the database, in the service's own word."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from health_recovery.ports import Unavailable
from muster_sql import Database, DatabaseError

OURS = (IntegrityError, ProgrammingError, DataError)
"""What was asked cannot be done, however often it is tried."""
BAD_VALUE = "22"
"""The class of PostgreSQL's error codes for values it cannot take; its driver has no kind for them."""


def passes(error: Exception) -> bool:
    """Whether it may be over when it is tried again."""
    if isinstance(error, DBAPIError):
        bad_value = str(getattr(error.orig, "sqlstate", None)).startswith(BAD_VALUE)
        return not isinstance(error, OURS) and not bad_value
    return isinstance(error, (DatabaseError, OSError, TimeoutError))


def unavailable(error: Exception) -> Unavailable:
    """The trouble as callers are told of it."""
    return Unavailable(f"cannot use the database just now: {type(error).__name__}")


@asynccontextmanager
async def reading(database: Database) -> AsyncIterator[AsyncConnection]:
    """A consistent view that writes nothing.

    Raises:
        Unavailable: the database cannot be used just now.
    """
    try:
        async with database.read() as connection:
            yield connection
    except Exception as error:
        if passes(error):
            raise unavailable(error) from error
        raise
