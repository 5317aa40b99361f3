"""Group commit: one writer gathers what waits and commits it in one transaction, so in one fsync.

While one group is being committed the next one gathers by itself; nobody waits for a timer. What nobody
waits for either can be left ``at_leisure``: it goes along with the next commit. Each item is decided on its
own: what cannot be kept fails alone. Should the database refuse a group for what is in it, every item of it
is tried in a transaction of its own (decision 2).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from prometheus_client import Histogram
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from muster_sql import Database
from state_store.adapters.trouble import passes, unavailable
from state_store.ports import Unavailable

LARGEST_GROUP = 1000
ATTEMPTS = 5
LEISURE_SECONDS = 0.1
"""What can wait for the next commit waits no longer than this for one."""

GROUP_SIZES = Histogram(
    "muster_store_commit_items",
    "How many items one commit held.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
)

T = TypeVar("T")
R = TypeVar("R")
P = TypeVar("P")


@dataclass(slots=True)
class Item(Generic[T, R]):
    """Something to be written, and where its outcome goes."""

    kind: str
    what: T
    outcome: "asyncio.Future[R]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


Results = Sequence[Any]
"""For each item what its caller gets, in order; an exception is raised there."""


class GroupCommit(Generic[P]):
    """``do`` returns when its item is on disk.

    Args:
        database: whose writer this is.
        order: the kinds, in the order in which they are written within one transaction.
        page: what the items of one transaction share; made for each attempt.
        write: writes all items of one kind.
        close: writes what the page has gathered, at the end of the transaction.
        committed: told of each page that was committed.
    """

    def __init__(
        self,
        database: Database,
        order: Sequence[str],
        *,
        page: Callable[[AsyncConnection], P],
        write: Callable[[P, str, list[Any]], Awaitable[Results]],
        close: Callable[[P], Awaitable[None]],
        committed: Callable[[P], None],
    ) -> None:
        self._database, self._order = database, order
        self._page, self._write, self._close, self._committed = page, write, close, committed
        self._waiting: deque[Item[Any, Any]] = deque()
        self._some = asyncio.Event()
        self._later: asyncio.TimerHandle | None = None
        self._worker: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to write."""
        self._worker = asyncio.create_task(self._work(), name="group commit")

    async def stop(self) -> None:
        """Write what waits, and end; what comes later is refused."""
        self._stopping = True
        self._some.set()
        if self._worker:
            await asyncio.wait([self._worker])

    async def do(self, kind: str, what: Any) -> Any:
        """Have one item written with whatever else waits.

        A caller that gives up only stops waiting: what it gave is written.

        Raises:
            Unavailable: the database cannot be used, or the service is ending.
            Exception: whatever was decided about this item.
        """
        outcome = self._put(kind, what)
        self._some.set()
        return await asyncio.shield(outcome)

    def at_leisure(self, kind: str, what: Any) -> "asyncio.Future[Any]":
        """As ``do``, for what is as true a moment later: an fsync of its own it is not worth.

        It is written with the next commit, before whatever comes after it, or ``LEISURE_SECONDS`` later;
        whoever wants to know when may await what this returns, behind a shield.
        """
        outcome = self._put(kind, what)
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(LEISURE_SECONDS, self._some.set)
        return outcome

    def _put(self, kind: str, what: Any) -> "asyncio.Future[Any]":
        if self._stopping:
            raise Unavailable("cannot write: state-store is ending")
        item: Item[Any, Any] = Item(kind, what)
        self._waiting.append(item)
        return item.outcome

    async def _work(self) -> None:
        while True:
            await self._some.wait()
            self._nothing_is_late()
            group = [self._waiting.popleft() for _ in range(min(LARGEST_GROUP, len(self._waiting)))]
            if not self._waiting and not self._stopping:
                self._some.clear()
            if group:
                await self._take(group)
            elif self._stopping:
                return

    def _nothing_is_late(self) -> None:
        """A group takes the oldest, so also what could have waited longer."""
        if self._later:
            self._later.cancel()
            self._later = None

    async def _take(self, group: list[Item[Any, Any]]) -> None:
        GROUP_SIZES.observe(len(group))
        try:
            await self._commit(group)
        except Exception as error:  # noqa: BLE001  (every caller is told)
            if passes(error):
                _fail(group, unavailable(error))
            elif len(group) == 1:
                await self._alone(group[0], error)
            else:
                for item in group:
                    await self._take([item])

    async def _alone(self, item: Item[Any, Any], error: Exception) -> None:
        """Another process may have written the same just before: decide again on what it wrote."""
        for _ in range(ATTEMPTS if isinstance(error, IntegrityError) else 0):
            try:
                await self._commit([item])
            except Exception as again:  # noqa: BLE001  (the last one is told)
                error = again
            else:
                return
        _fail([item], unavailable(error) if passes(error) else error)

    async def _commit(self, group: list[Item[Any, Any]]) -> None:
        async def work(connection: AsyncConnection) -> tuple[P, list[tuple[Item[Any, Any], Any]]]:
            page = self._page(connection)
            results: list[tuple[Item[Any, Any], Any]] = []
            for kind in self._order:
                if items := [item for item in group if item.kind == kind]:
                    told = await self._write(page, kind, [item.what for item in items])
                    results += zip(items, told, strict=True)
            await self._close(page)
            return page, results

        page, results = await self._database.transact_at_one_go(lambda connection: at_once(work, connection))
        self._committed(page)
        for item, result in results:
            if isinstance(result, Exception):
                _fail([item], result)
            elif not item.outcome.done():
                item.outcome.set_result(result)


class Direct:
    """What pages need of an ``AsyncConnection``, on one that answers at once."""

    def __init__(self, connection: Connection) -> None:
        self.sync_connection = connection
        self.dialect = connection.dialect

    async def execute(self, statement: Any, parameters: Any = None) -> Any:
        """Run a statement; its rows are all there."""
        return self.sync_connection.execute(statement, parameters)

    async def scalar(self, statement: Any) -> Any:
        """The first value of the first row."""
        return self.sync_connection.scalar(statement)

    async def scalars(self, statement: Any) -> Any:
        """The first value of each row."""
        return self.sync_connection.scalars(statement)


def at_once(work: Callable[[AsyncConnection], Coroutine[Any, Any, R]], connection: Connection) -> R:
    """Run what awaits nothing but its connection, without a loop: on a thread, it never has to wait."""
    running = work(cast("AsyncConnection", Direct(connection)))
    try:
        running.send(None)
    except StopIteration as end:
        return cast("R", end.value)
    running.close()
    raise RuntimeError("cannot wait for anything but the database within a commit")


def _fail(items: list[Item[Any, Any]], error: Exception) -> None:
    for item in items:
        if not item.outcome.done():
            item.outcome.set_exception(error)
            item.outcome.exception()  # its caller may not be there any more to take it
