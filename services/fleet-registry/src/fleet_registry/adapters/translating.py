"""Reaching the database: trouble in the registry's own word, and no transaction left half-way.

A caller that is cancelled in the middle of a statement would leave its SQLite connection, and with it
the write lock, in an unknown state for seconds. So a transaction, once begun, runs to its end in a task
of its own; a caller that gives up only stops waiting for it. What it decided is decided: every sign may be
taken twice.
"""

import asyncio
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from fleet_registry.ports import Unavailable
from muster_sql import DatabaseError

C = TypeVar("C", bound="Reaching")

TROUBLE = (DatabaseError, DBAPIError, OSError, TimeoutError)
"""What may be over when it is tried again. Of many outages (a server that shuts down, a full disk, too many
connections) the driver for PostgreSQL says no more than DBAPIError: all is trouble that is not told below."""
OURS = (IntegrityError, ProgrammingError, DataError)
"""What was asked cannot be done, however often it is tried."""
BAD_VALUE = "22"
"""The class of PostgreSQL's error codes for values it cannot take; its driver has no kind for them."""


class Reaching:
    """Base of the adapters that use the database."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Future[Any]] = set()

    def reach(self, work: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Let ``work`` go on to its end, whoever gives up waiting for it."""
        self._under_way.add(work)
        work.add_done_callback(self._ended)
        return asyncio.shield(work)

    async def settle(self) -> None:
        """Return when nothing is under way any more; for the time before the database is closed."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _ended(self, work: asyncio.Future[Any]) -> None:
        self._under_way.discard(work)
        if not work.cancelled():
            work.exception()  # its caller may not be there any more to take it


def translated(adapter: type[C]) -> type[C]:
    """Let every public coroutine of ``adapter`` run to its end, and raise ``Unavailable`` where it cannot."""
    for name, method in list(vars(adapter).items()):
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            setattr(adapter, name, _translating(method))
    return adapter


def _translating(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: Reaching, *args: Any, **kwargs: Any) -> Any:
        try:
            return await self.reach(asyncio.ensure_future(method(self, *args, **kwargs)))
        except TROUBLE as error:
            if _is_ours(error):
                raise
            raise Unavailable(f"cannot use the database just now: {type(error).__name__}") from error

    return call


def _is_ours(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    return isinstance(error, OURS) or str(getattr(error.orig, "sqlstate", None)).startswith(BAD_VALUE)
