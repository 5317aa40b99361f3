"""The journal: every command this agent knows, fsynced, so that none begins twice and none is forgotten open.

One SQLite file (WAL, ``synchronous=FULL``) in one thread. What is asked of it while it writes is written
together next time: one fsync for many commands. What can wait goes along with it.
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from muster_bus.errors import MusterError
from muster_contracts.command.v1 import CommandState, Ended, Terms

T = TypeVar("T")
Writing = Callable[[], object]

LEISURE_SECONDS = 0.1
"""What can wait for the next writing waits no longer than this for one."""
UNSEEN = "unseen"
"""The state of a command that was cancelled before it came."""
KEPT_AFTER = timedelta(days=1)
"""So long after its ``not_after`` a command is remembered."""
UNSEEN_KEPT = timedelta(days=8)
"""A command that never came has no ``not_after``; it is remembered for so long."""
SAY_AGAIN_AFTER = timedelta(seconds=60)
"""An end that the ledger does not know so long after it was said is said again."""

_TABLES = """
CREATE TABLE IF NOT EXISTS commands (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL,
    not_after REAL NOT NULL, lane TEXT, terms TEXT, accepted_at REAL, started_at REAL,
    cancelled INTEGER NOT NULL DEFAULT 0, ended TEXT, said_at REAL);
CREATE INDEX IF NOT EXISTS still_open ON commands (seq) WHERE state IN ('accepted', 'running');
CREATE INDEX IF NOT EXISTS unsaid ON commands (seq) WHERE ended IS NOT NULL AND said_at IS NULL;
CREATE INDEX IF NOT EXISTS by_time ON commands (not_after);
"""


class JournalFailed(MusterError):
    """Cannot write down what is done: the disk is full or broken."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A command that came: to be begun in its lane, or ended at once."""

    terms: Terms
    lane: str
    at: datetime
    ended: Ended | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What the journal says to an intent: whether the command is new, how far it is, if it was cancelled."""

    new: bool
    state: CommandState
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that has not ended."""

    terms: Terms
    lane: str
    accepted_at: datetime
    started_at: datetime | None
    running: bool
    cancelled: bool


class Journal:
    """What this agent was told to do and what became of it; every coroutine is durable when it returns.

    Raises:
        JournalFailed: the file cannot be used (the constructor), or its disk took nothing of it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: list[tuple[Writing, asyncio.Future[object]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.known = 0
        """How many commands it knows."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = self._thread.submit(self._open).result()
        except (sqlite3.Error, OSError) as error:
            self._thread.shutdown()
            raise JournalFailed(
                f"cannot use the journal {path}: {error}; restore it, or remove it when no command is open: "
                "without it one that comes again is done again"
            ) from error

    async def take(self, intent: Intent) -> Taken:
        """Write a command down, unless it is known; a known one is never new again."""
        return await self._do(lambda: self._take(intent))

    async def cancel(self, command_id: UUID, now: datetime) -> None:
        """Remember that a command is not to be begun, also if it never came."""
        keep = (now + UNSEEN_KEPT).timestamp()
        await self._do(lambda: self._cancel(str(command_id), keep))

    async def begin(self, command_id: UUID, now: datetime) -> None:
        """From here on the command may have had an effect."""
        await self._do(
            lambda: self._db.execute(
                "UPDATE commands SET state = 'running', started_at = ? WHERE id = ?",
                (now.timestamp(), str(command_id)),
            )
        )

    async def end(self, ended: Ended) -> None:
        """Keep the end until it is said, under the message id it is said with; forget what was asked."""
        await self._do(lambda: self._end(ended))

    async def open(self) -> list[Entry]:
        """What has not ended, in the order it came."""
        return await self._do(self._read_open)

    async def unsaid(self, limit: int) -> list[Ended]:
        """Ends that no spool has yet, in the order their commands came."""
        return await self._do(lambda: self._unsaid(limit))

    def said(self, ids: Sequence[UUID], now: datetime) -> None:
        """A spool has these ends: written with what comes next, or soon; a death before says them again."""
        rows = [(now.timestamp(), str(one)) for one in ids]
        self._later(lambda: self._db.executemany("UPDATE commands SET said_at = ? WHERE id = ?", rows))

    async def written(self) -> None:
        """Return when all that was given before is durable, also what could wait."""
        await self._do(lambda: None)

    async def forget(self, now: datetime, most: int) -> None:
        """Forget what cannot come again, and beyond ``most`` also the oldest of what cannot begin again."""
        await self._do(lambda: self._forget(now, most))
        # Until it is emptied, the write-ahead log holds what was asked by commands that have ended.
        with contextlib.suppress(sqlite3.Error, RuntimeError):  # in use or closed: then the next time
            await asyncio.get_running_loop().run_in_executor(self._thread, self._empty_log)

    def close(self) -> None:
        """Write no more; what waits to be written fails."""
        if self._closed:
            return
        self._closed = True
        if self._timer:
            self._timer.cancel()
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()

    # One transaction for whatever waits ---------------------------------------------------------------------

    async def _do(self, work: Callable[[], T]) -> T:
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))  # type: ignore[arg-type]  # a future of something is one of object
        self._begin_to_write()
        return await done

    def _later(self, work: Writing) -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[object] = loop.create_future()
        done.add_done_callback(_look_at)
        self._waiting.append((work, done))
        if self._timer is None:
            self._timer = loop.call_later(LEISURE_SECONDS, self._begin_to_write)

    def _begin_to_write(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write(), name="journal")

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                values = await self._commit([work for work, _ in batch])
            except (sqlite3.Error, RuntimeError) as error:
                failure = JournalFailed(f"cannot write the journal {self._path}: {error}; check its disk")
                for _, done in batch:
                    if not done.done():
                        done.set_exception(failure)
            else:
                for (_, done), value in zip(batch, values, strict=True):
                    if not done.done():
                        done.set_result(value)

    async def _commit(self, works: list[Writing]) -> list[object]:
        if self._closed:
            raise RuntimeError("it is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, works)

    def _transaction(self, works: list[Writing]) -> list[object]:
        self._db.execute("BEGIN IMMEDIATE")
        known = self.known
        try:
            values = [work() for work in works]
            self._db.execute("COMMIT")
        except BaseException:
            self.known = known
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        return values

    # In the thread ------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None)
        self._path.chmod(0o600)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        # A body may hold the content of a configuration, which may be secret: gone with the command's end.
        db.execute("PRAGMA secure_delete=ON")
        db.executescript(_TABLES)
        (self.known,) = db.execute("SELECT count(*) FROM commands").fetchone()
        return db

    def _empty_log(self) -> None:
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _take(self, intent: Intent) -> Taken:
        name = str(intent.terms.command_id)
        row = self._db.execute(
            "SELECT state, said_at, cancelled FROM commands WHERE id = ?", (name,)
        ).fetchone()
        if row and row[0] != UNSEEN:
            self._say_again(name, row[1], intent.at)
            return Taken(new=False, state=CommandState(row[0]), cancelled=bool(row[2]))
        cancelled = row is not None
        if not cancelled:
            self.known += 1
        ended, at = intent.ended, intent.at.timestamp()
        state = ended.state if ended else CommandState.ACCEPTED
        self._db.execute(
            "INSERT INTO commands (id, state, not_after, lane, terms, accepted_at, cancelled, ended)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET state = excluded.state,"
            " not_after = excluded.not_after, lane = excluded.lane, terms = excluded.terms,"
            " accepted_at = excluded.accepted_at, ended = excluded.ended",
            (
                name, state, intent.terms.not_after.timestamp(), intent.lane,
                None if ended else intent.terms.model_dump_json(), at, cancelled,
                ended.model_dump_json() if ended else None,
            ),
        )  # fmt: skip
        return Taken(new=True, state=state, cancelled=cancelled)

    def _say_again(self, name: str, said_at: float | None, now: datetime) -> None:
        """Who asks again does not know the end, though it was said: perhaps a spool dropped it."""
        if said_at is not None and abs(now.timestamp() - said_at) > SAY_AGAIN_AFTER.total_seconds():
            self._db.execute("UPDATE commands SET said_at = NULL WHERE id = ?", (name,))

    def _cancel(self, name: str, keep: float) -> None:
        inserted = self._db.execute(
            "INSERT OR IGNORE INTO commands (id, state, not_after) VALUES (?, ?, ?)", (name, UNSEEN, keep)
        ).rowcount
        self.known += max(0, inserted)
        self._db.execute("UPDATE commands SET cancelled = 1 WHERE id = ?", (name,))

    def _end(self, ended: Ended) -> None:
        self._db.execute(
            "UPDATE commands SET state = ?, ended = ?, terms = NULL, said_at = NULL"
            " WHERE id = ? AND ended IS NULL",
            (ended.state, ended.model_dump_json(), str(ended.command_id)),
        )

    def _read_open(self) -> list[Entry]:
        rows = self._db.execute(
            "SELECT terms, lane, accepted_at, started_at, state, cancelled FROM commands"
            " WHERE state IN ('accepted', 'running') ORDER BY seq"
        )
        return [
            Entry(
                Terms.model_validate_json(terms), lane, _moment(accepted_at),
                None if started_at is None else _moment(started_at),
                state == CommandState.RUNNING, bool(cancelled),
            )
            for terms, lane, accepted_at, started_at, state, cancelled in rows
        ]  # fmt: skip

    def _unsaid(self, limit: int) -> list[Ended]:
        rows = self._db.execute(
            "SELECT ended FROM commands WHERE ended IS NOT NULL AND said_at IS NULL ORDER BY seq LIMIT ?",
            (limit,),
        )
        return [Ended.model_validate_json(ended) for (ended,) in rows]

    def _forget(self, now: datetime, most: int) -> None:
        over = f"(said_at IS NOT NULL OR state = '{UNSEEN}') AND not_after < ?"
        old = self._db.execute(
            f"DELETE FROM commands WHERE {over}",  # noqa: S608  (put together of constants)
            ((now - KEPT_AFTER).timestamp(),),
        ).rowcount
        self.known -= max(0, old)
        # Past its not_after a command that comes again expires: to forget it cannot make it run again.
        more = self._db.execute(
            f"DELETE FROM commands WHERE seq IN (SELECT seq FROM commands WHERE {over} ORDER BY seq LIMIT ?)",  # noqa: S608
            (now.timestamp(), max(0, self.known - most)),
        ).rowcount
        self.known -= max(0, more)


def _look_at(done: asyncio.Future[object]) -> None:
    """Nobody waits for what could wait; that it failed shows with whatever is written next."""
    if not done.cancelled():
        done.exception()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
